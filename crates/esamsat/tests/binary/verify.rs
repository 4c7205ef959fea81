//! `esamsat verify` finds what was changed in the file behind the gateway's back, says where, and exits with 1.

use crate::kit::{DUMMY, EXAMPLE, Site, TESTER};
use rusqlite::Connection;
use std::fs;

/// A demo that has done a little of everything, stopped.
fn busy_site() -> (Site, String) {
    let site = Site::new();
    let gateway = site.demo();
    let partner = gateway.partner(DUMMY);
    let paid = partner.invoice(EXAMPLE);
    assert_eq!(partner.pay(&paid)["status"], "CONFIRM");
    partner.pay(&partner.invoice((TESTER, "UJI3010001")));
    partner.invoice((TESTER, "UJI1000001"));
    partner.inquire((TESTER, "UJI1100001"));
    let undecidable = partner.invoice((TESTER, "UJI4130001"));
    assert_eq!(partner.pay(&undecidable)["status"], "PENDING");
    gateway.stop();
    site.verify();
    (site, paid)
}

#[test]
fn a_change_by_hand_is_found_and_its_place_is_named() {
    let (site, paid) = busy_site();
    let report = site.json(&["verify"]);
    assert_eq!(report["problem_count"], 0, "{report}");
    let original = fs::read(site.database()).expect("read");
    let invoice = format!("invoice {paid}");
    let cases: [(String, &str); 9] = [
        (
            format!(
                "UPDATE posting SET amount = amount + 1 WHERE subject = {paid} AND step = 1 AND amount > 0"
            ),
            &invoice,
        ),
        // Balanced, and still not what the payment calls for.
        (format!("UPDATE posting SET amount = amount * 2 WHERE subject = {paid} AND step = 2"), &invoice),
        (format!("DELETE FROM posting WHERE subject = {paid} AND step = 2"), &invoice),
        (format!("DELETE FROM posting WHERE subject = {paid}"), &invoice),
        (format!("DELETE FROM invoice WHERE number = {paid}"), &invoice),
        (format!("DELETE FROM outbox WHERE subject = {paid}"), "outbox"),
        ("UPDATE balance SET amount = amount - 1 WHERE amount > 0".to_owned(), "account "),
        ("DELETE FROM entry".to_owned(), "entry"),
        ("DELETE FROM claim".to_owned(), "claim"),
    ];
    for (change, place) in cases {
        fs::write(site.database(), &original).expect("put back");
        let file = Connection::open(site.database()).expect("opened");
        assert!(
            file.execute(&change, ()).unwrap_or_else(|error| panic!("{change}: {error}")) > 0,
            "{change}"
        );
        drop(file);
        let ran = site.run(&["verify"]);
        assert_eq!(ran.code, 1, "{change}: {}", ran.stdout);
        let problems = ran.stdout.split_once(" problems:\n").map_or("", |(_, problems)| problems);
        assert!(problems.contains(place), "{change}: {place:?} is not named: {}", ran.stdout);
        assert!(!ran.stdout.contains("Everything holds"), "{change}: {}", ran.stdout);
        let ran = site.run(&["verify", "--json"]);
        let report: serde_json::Value = serde_json::from_str(&ran.stdout).expect("--json prints JSON");
        assert!(ran.code == 1 && report["problem_count"].as_u64() > Some(0), "{change}: {report}");
    }
    fs::write(site.database(), &original).expect("put back");
    site.verify();
}
