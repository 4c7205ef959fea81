//! SIGTERM: nothing new, what is under way finishes, and the process ends with 0 within its deadline. What a
//! silent bank leaves open stays PENDING and is resolved after the next start.

use crate::kit::{PATIENCE, Site, TESTER, within};
use std::{net::TcpStream, thread, time::Duration};

const LOGIN: (&str, &str) = ("mitra0001", "sandi-uji");

fn configuration(answer_timeout_ms: u32, shutdown_within_ms: u32) -> String {
    format!(
        "answer_within_ms = 20000\nsend_within_ms = 1000\nshutdown_within_ms = {shutdown_within_ms}\n\n\
         [upstream.simulator]\nkind = \"simulator\"\nhorizon_ms = {answer_timeout_ms}\n\
         answer_timeout_ms = {answer_timeout_ms}\n"
    )
}

fn site() -> Site {
    Site::with_partners(1, LOGIN.1, 10_000_000)
}

fn is_open(site: &Site) -> bool {
    site.json(&["pending", "list"]).as_array().is_some_and(|open| open.len() == 1)
}

#[test]
fn requests_under_way_finish_and_new_ones_are_not_taken() {
    let site = site();
    // The bank answers after four fifths of this.
    let gateway = site.serve(&configuration(2_500, 20_000));
    let address = gateway.address();
    let partner = gateway.partner(LOGIN);
    let invoice = partner.invoice((TESTER, "UJI3040001"));
    let paying = thread::scope(|scope| {
        let paying = scope.spawn(|| partner.pay(&invoice));
        within(PATIENCE, "the payment is under way", || is_open(&site));
        gateway.terminate();
        gateway.wait_for("the shutdown", |printed| printed.contains("shutting down").then_some(()));
        within(PATIENCE, "nothing new is taken", || TcpStream::connect(address).is_err());
        paying.join().expect("an answer")
    });
    assert_eq!(paying["status"], "CONFIRM", "{paying}");
    let (status, printed) = gateway.wait(PATIENCE);
    assert!(status.success(), "{status}: {printed}");
    assert!(
        printed.contains("stopped") && !printed.contains("WARN") && !printed.contains("panicked"),
        "{printed}"
    );
    assert_eq!((site.state(&invoice), site.taken()), ("CONFIRM".to_owned(), vec![invoice]));
    site.verify();
}

#[test]
fn a_silent_banks_payment_is_left_pending_and_resolved_after_the_next_start() {
    let site = site();
    // A bank that would keep everybody waiting for longer than there is.
    let gateway = site.serve(&configuration(4_000, 300));
    let partner = gateway.partner(LOGIN);
    let cases = [("UJI4010001", "CONFIRM"), ("UJI4020001", "REFUND")];
    let invoices = cases.map(|(chassis, _)| partner.invoice((TESTER, chassis)));
    thread::scope(|scope| {
        let paying = invoices
            .each_ref()
            .map(|invoice| scope.spawn(move || partner.try_call("pay_esamsat", &[("invoice", invoice)])));
        within(PATIENCE, "both payments are under way", || {
            site.json(&["pending", "list"]).as_array().is_some_and(|open| open.len() == 2)
        });
        gateway.terminate();
        let (status, printed) = gateway.wait(Duration::from_secs(3));
        assert!(status.success(), "{status}: {printed}");
        for answer in paying {
            // Cut, or told the truth; never told that it failed.
            if let Ok(answer) = answer.join().expect("no panic") {
                assert!(answer.status != 200 || answer.json()["status"] == "PENDING", "{answer:?}");
            }
        }
    });
    assert_eq!(invoices.each_ref().map(|invoice| site.state(invoice)), ["PENDING", "PENDING"]);
    site.verify();
    let gateway = site.serve(&configuration(400, 20_000));
    site.settled();
    let partner = gateway.partner(LOGIN);
    assert_eq!(invoices.each_ref().map(|invoice| partner.status(invoice)), cases.map(|(_, ends_as)| ends_as));
    gateway.stop();
    site.verify();
}

#[test]
fn an_idle_gateway_stops_at_once_on_either_signal() {
    let site = site();
    site.serve(&configuration(1_000, 20_000)).stop();
    // A connection that says nothing keeps nobody.
    let gateway = site.serve(&configuration(1_000, 20_000));
    let idle = TcpStream::connect(gateway.address()).expect("connected");
    gateway.signal("INT");
    let (status, printed) = gateway.wait(Duration::from_secs(15));
    assert!(status.success(), "{status}: {printed}");
    drop(idle);
    site.verify();
}
