//! A gateway and a bank host, two processes with a real ISO 8583 line between them, and every fault on it.
//!
//! Whatever was lost, late, doubled, damaged or cut, and whoever was killed: once the faults stop, nothing is
//! PENDING, and what the bank was paid is what the gateway confirmed, one to one.

use crate::kit::{
    Bank, Gateway, PATIENCE, Ran, Site,
    books::{Books, times_said},
    clients::{Hall, Note, OPENING, PARTNERS, PASSWORD, Said, UNREACHABLE},
    dice::Dice,
    http, within,
};
use std::time::Duration;

/// Faults of a line and a bank, a quarter of all messages in all. Left out are damage that nobody can notice, and a cut-over,
/// slowness, a stall and refused connections, which have tests of their own.
/// What breaks the connection is rare: it strikes everything that is under way on it.
const FAULTS: &str = r#"{"lost":0.03,"silent":0.03,"late":0.03,"near_horizon":0.02,"twice":0.03,"swapped":0.02,
    "crossed":0.02,"garbled":0.003,"wrong_amount":0.02,"wrong_trace":0.01,"echoed":0.01,"cut":0.0008,
    "cut_before":0.0004,"cut_reading":0.0004,"unknown_code":0.02,"refused":0.02,"delay_ms":[0,15]}"#;

fn seed() -> u64 {
    let seed =
        std::env::var("LINE_SEED").map_or(20_261_125, |seed| seed.parse().expect("LINE_SEED is a number"));
    eprintln!("seed {seed} (LINE_SEED sets another)");
    seed
}

/// Waits until the gateway's line is signed on.
fn signed_on(gateway: &Gateway) {
    within(PATIENCE, "the line is up", || {
        http::get(gateway.address(), "/health/lines")
            .is_ok_and(|answer| answer.body.contains("\"is_up\":true"))
    });
}

/// Faults end, payments settle, and all three books agree; they, and what the clients wrote down.
fn agreed(site: &Site, hall: &Hall, bank: &Bank) -> (Books, Vec<Note>) {
    bank.faults("{}");
    site.settled();
    site.verify();
    let mut notes = hall.take_notes();
    // "No line" is said before anything is reserved, and of that moment alone: asked again, it may be paid.
    notes.retain(|note| !matches!(&note.said, Said::Refused { reason } if reason == UNREACHABLE));
    let books = Books::read_all_with(site, &notes, &bank.payments());
    (books, notes)
}

/// Clients write every answer down; gateway and bank are killed in turn.
#[test]
fn three_books_agree_whoever_is_killed() {
    let seed = seed();
    let mut dice = Dice::new(seed);
    let site = Site::with_partners(PARTNERS, PASSWORD, OPENING);
    let mut bank = Bank::open("contoh-37-80", seed);
    let configuration = bank.configuration();
    site.sell(&configuration, "bank");
    let hall = Hall::with_doors(&site, 1);
    bank.faults(FAULTS);
    let gateway = hall.work_while(seed, || {
        for kill in 0..12 {
            let gateway = site.serve(&configuration);
            signed_on(&gateway);
            hall.open(0, gateway.address(), true);
            hall.run_for_answers(60, Duration::from_secs(4));
            if kill % 3 == 2 {
                bank.kill_and_start(seed + kill);
                bank.faults(FAULTS);
                hall.run_for_answers(30, Duration::from_secs(3));
            }
            gateway.ends_within(Duration::from_micros(dice.below(20_000)));
            let printed = gateway.kill();
            assert!(!printed.contains("panicked"), "{printed}");
            hall.shut(0);
        }
        let gateway = site.serve(&configuration);
        signed_on(&gateway);
        hall.open(0, gateway.address(), true);
        hall.run_for(Duration::from_secs(4));
        gateway
    });
    let (books, notes) = agreed(&site, &hall, &bank);
    gateway.stop();
    let reached = [
        books.count("CONFIRM"),
        books.count("REFUND"),
        times_said(&notes, "CONFIRM"),
        times_said(&notes, "PENDING"),
        times_said(&notes, "REFUND"),
    ];
    assert!(reached.iter().all(|count| *count > 0), "{reached:?}");
}

/// As many payments as `LINE_PAYMENTS` says, in each dialect, under every fault.
fn payments_under_faults(profile: &str) {
    let count = std::env::var("LINE_PAYMENTS").unwrap_or_else(|_| "250".to_owned());
    let seed = seed();
    let site = Site::new();
    site.done(&["migrate"]);
    site.done(&[
        "sandbox",
        "partners",
        "--count",
        "20",
        "--password",
        PASSWORD,
        "--deposit",
        "90000000000000",
    ]);
    let bank = Bank::open(profile, seed);
    let configuration = bank.configuration();
    site.sell(&configuration, "bank");
    let gateway = site.serve(&configuration);
    signed_on(&gateway);
    bank.faults(FAULTS);
    let state = site.path("country.json").display().to_string();
    let flags =
        ["country", "--vehicles", &count, "--connections", "128", "--partners", "20", "--password", PASSWORD];
    let pay_all = |gateway: &Gateway| {
        let mut command = site.command(&flags);
        command.args(["--url", &format!("http://{}", gateway.address()), "--state", &state]);
        let ran = Ran::of(&mut command);
        eprintln!("{}", ran.stdout);
        ran
    };
    let ran = pay_all(&gateway);
    let went_over_all = format!("{count} vehicles from 0 on");
    assert!(ran.stdout.contains(&went_over_all), "in so much noise some may stay unpaid: {}", ran.stderr);
    bank.faults("{}");
    // A payment that was asked about in vain for long is asked about rarely; a new start asks at once.
    gateway.stop();
    let gateway = site.serve(&configuration);
    signed_on(&gateway);
    site.settled();
    let ran = pay_all(&gateway);
    assert_eq!(ran.code, 0, "without faults all are paid: {}{}", ran.stdout, ran.stderr);
    site.settled();
    site.verify();
    let books = Books::read(&site);
    books.agree_with_the_bank(&bank.payments());
    let confirmed = books.count("CONFIRM");
    eprintln!("{profile}: {confirmed} confirmed and paid, {} refunded, none pending", books.count("REFUND"));
    assert!(confirmed >= count.parse().expect("LINE_PAYMENTS is a number"), "{confirmed} of {count}");
    assert!(books.count("REFUND") > 0, "some were refunded");
    let identities: std::collections::BTreeSet<String> = books
        .invoices
        .values()
        .filter_map(|invoice| invoice["identity"].as_str().map(str::to_owned))
        .collect();
    let begun = books.invoices.values().filter(|invoice| invoice["identity"].is_string()).count();
    assert_eq!(identities.len(), begun, "no identity is used twice");
    gateway.stop();
}

#[test]
fn payments_with_an_advice_that_asks_end_one_to_one() {
    payments_under_faults("contoh-37-80");
}

#[test]
fn payments_with_an_advice_that_executes_end_one_to_one() {
    payments_under_faults("contoh-38-18");
}

#[test]
fn payments_with_a_status_inquiry_end_one_to_one() {
    payments_under_faults("contoh-38-50");
}

/// The line that a gateway has up, if it is one.
fn line_of(gateway: &Gateway) -> Option<String> {
    let lines = http::get(gateway.address(), "/health/lines").ok()?.json();
    let lines =
        lines["bank"].as_array()?.iter().filter(|line| line["is_up"] == true).cloned().collect::<Vec<_>>();
    match &lines[..] {
        [line] => line["name"].as_str().map(str::to_owned),
        _ => None,
    }
}

/// Two gateways on one PostgreSQL database have a line each at one bank. They are killed in turn, and whoever starts
/// instead takes the line that is free, once its lease has run out.
#[test]
fn gateways_on_one_database_have_a_line_each_and_keep_one_set_of_books() {
    let seed = seed();
    let site = Site::shared().furnished(PARTNERS, PASSWORD, OPENING);
    let bank = Bank::open("contoh-37-80", seed);
    let configuration = format!(
        "lease_after_ms = 2000\n{}",
        bank.with_lines(&[("ESAM0001", bank.address), ("ESAM0002", bank.address)])
    );
    site.sell(&configuration, "bank");
    let hall = Hall::with_doors(&site, 2);
    bank.faults(FAULTS);
    let gateways = hall.work_while(seed, || {
        let start = |door: usize| {
            let gateway = site.serve(&configuration);
            within(PATIENCE, "it has one line", || line_of(&gateway).is_some());
            hall.open(door, gateway.address(), true);
            gateway
        };
        let (mut killed, mut kept) = (start(0), start(1));
        for kill in 0..4 {
            let door = kill % 2;
            hall.run_for_answers(100, Duration::from_secs(5));
            // Under faults, a line may be down just then.
            let mut lines = (None, None);
            within(PATIENCE, "both have a line", || {
                lines = (line_of(&killed), line_of(&kept));
                lines.0.is_some() && lines.1.is_some()
            });
            assert_ne!(lines.0, lines.1, "each has its own");
            let printed = killed.kill();
            assert!(!printed.contains("panicked"), "{printed}");
            hall.shut(door);
            let next = start(door);
            (killed, kept) = (kept, next);
        }
        hall.run_for_answers(100, Duration::from_secs(5));
        [killed, kept]
    });
    let (books, _) = agreed(&site, &hall, &bank);
    assert!(books.count("CONFIRM") > 50);
    for gateway in gateways {
        gateway.stop();
    }
}
