//! `kill -9`: whatever the moment, nothing is lost, nothing is made, and nothing that was answered is taken back.
//!
//! Clients pay under a bank that fails half of the payments in every way, and write down each answer. The
//! gateway is killed at moments that the dice choose, in its start as well, and started again on the same
//! data. In the end three books must agree to the rupiah: the gateway's, the bank's and the clients'.

use crate::kit::{
    Gateway, Site,
    books::{Books, times_said},
    clients::{CONFIGURATION, Hall, OPENING, PARTNERS, PASSWORD, username},
    dice::Dice,
    text, whole,
};
use std::{collections::BTreeSet, time::Duration};

const KILLS: usize = 60;

#[test]
fn killed_at_any_moment_the_books_agree_to_the_rupiah() {
    kill_at_any_moment(&Site::with_partners(PARTNERS, PASSWORD, OPENING));
}

#[test]
fn killed_at_any_moment_on_postgresql_the_books_agree_to_the_rupiah() {
    kill_at_any_moment(&Site::shared().furnished(PARTNERS, PASSWORD, OPENING));
}

fn kill_at_any_moment(site: &Site) {
    let seed =
        std::env::var("KILL_SEED").map_or(20_261_123, |seed| seed.parse().expect("KILL_SEED is a number"));
    eprintln!("seed {seed} (KILL_SEED sets another)");
    let mut dice = Dice::new(seed);
    let hall = Hall::with_doors(site, 1);
    let gateway = hall.work_while(seed, || {
        for kill in 0..KILLS {
            let gateway = Gateway::begin(&mut site.serving(CONFIGURATION));
            if kill % 8 == 7 {
                // In its start, when it may be recovering what the last kill left.
                gateway.ends_within(Duration::from_millis(dice.below(250)));
            } else {
                hall.open(0, gateway.address(), dice.percent(80));
                let count = usize::try_from(dice.below(70)).expect("a small number");
                hall.run_for_answers(count, Duration::from_secs(3));
                gateway.ends_within(Duration::from_micros(dice.below(20_000)));
            }
            let printed = gateway.kill();
            assert!(!printed.contains("panicked") && errors(&printed).is_empty(), "{printed}");
            hall.shut(0);
        }
        // The last run is longer than the horizon, so that payments arrive at the bank after the first
        // status questions about them; whoever believes "not found" too early refunds what is then taken. It is
        // longer than the killed ones hold their leases, too.
        let gateway = site.serve(CONFIGURATION);
        hall.open(0, gateway.address(), true);
        hall.run_for(Duration::from_secs(4));
        gateway
    });

    site.settled();
    site.verify();
    let lost = hall.lost_answers();
    let notes = hall.take_notes();
    let books = Books::read_all(site, &notes);
    let partner = username(0);
    let partner = gateway.partner((&partner, PASSWORD));
    for invoice in books.invoices.values().filter(|invoice| whole(invoice, "partner") == 1).take(40) {
        let (number, state) = (text(invoice, "number"), text(invoice, "state"));
        assert_eq!(partner.status(&number), state, "{number}");
    }
    gateway.stop();
    site.verify();

    // A test that reached none of what it is about would be as green.
    let said = |word: &str| times_said(&notes, word);
    let reached = [
        books.count("CONFIRM"),
        books.count("REFUND"),
        said("CONFIRM"),
        said("PENDING"),
        said("REFUND"),
        lost,
    ];
    eprintln!(
        "{KILLS} kills, {} answers; invoices CONFIRM, REFUND; answers CONFIRM, PENDING, REFUND; lost: {reached:?}",
        notes.len()
    );
    assert!(reached.iter().all(|count| *count >= 20), "the test reached too little: {reached:?}");
}

/// What was logged as an error, but for how a test run's server is set up.
fn errors(printed: &str) -> Vec<&str> {
    let is_error = |line: &&str| line.contains("ERROR") && !line.contains("the database runs with");
    printed.lines().filter(is_error).collect()
}

#[test]
fn an_operator_killed_while_booking_repeats_and_it_is_booked_once() {
    const DEPOSITS: usize = 40;
    let mut dice = Dice::new(20_261_124);
    let site = Site::with_partners(1, PASSWORD, 1_000);
    let gateway = site.serve(CONFIGURATION);
    let began = tokio::time::Instant::now();
    site.json(&["deposit", "add", "mitra0001", "7", "--reference", "TRF", "--operator", "kasir"]);
    let usual_us = u64::try_from(began.elapsed().as_micros()).expect("a short time");
    let mut interrupted = 0;
    for deposit in 1..=DEPOSITS {
        let reference = format!("TRF-{deposit:03}");
        let add = ["deposit", "add", "mitra0001", "50000", "--reference", &reference, "--operator", "kasir"];
        for _ in 0..3 {
            let operator = Gateway::begin(&mut site.command(&add));
            let ended = operator.ends_within(Duration::from_micros(dice.below(usual_us)));
            interrupted += usize::from(!ended);
            operator.kill();
        }
        let last = site.json(&add);
        assert_eq!(whole(&last, "amount_rupiah"), 50_000);
        assert_eq!(
            whole(&last, "deposit_rupiah"),
            1_007 + 50_000 * i64::try_from(deposit).expect("few"),
            "{reference}: {last}"
        );
    }
    assert!(interrupted >= DEPOSITS / 4, "only {interrupted} commands were killed before their end");
    let entries = site.json(&["ledger", "entries"]);
    let entries = entries.as_array().expect("a list of entries");
    let references: BTreeSet<_> = entries.iter().map(|entry| text(entry, "reference")).collect();
    assert_eq!((references.len(), entries.len()), (DEPOSITS + 2, DEPOSITS + 2));
    gateway.stop();
    site.verify();
}
