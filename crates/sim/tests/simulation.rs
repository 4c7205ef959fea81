//! The simulation itself is tested: it is deterministic, it finds what it must, it reaches what it must.

use sim::{Backend, Bug, Outcome, POWER_PROBES, Run, probes};
use std::collections::BTreeMap;

fn run(seed: u64, bug: Option<Bug>, trace: bool) -> Outcome {
    Run { bug, trace, ..Run::of(seed) }.go()
}

fn run_on(backend: Backend, seed: u64, bug: Option<Bug>, trace: bool) -> Outcome {
    Run { backend, bug, trace, ..Run::of(seed) }.go()
}

#[test]
fn the_same_seed_gives_the_same_trace() {
    for seed in 1..40 {
        let (first, second) = (run(seed, None, true), run(seed, None, true));
        let mut lines = first.timeline.iter().zip(&second.timeline);
        let differs = lines.find(|(one, other)| one != other);
        assert_eq!(first.trace_hash, second.trace_hash, "seed {seed}, first {differs:?}");
    }
    assert_ne!(run(1, None, false).trace_hash, run(2, None, false).trace_hash);
}

#[test]
fn what_must_always_hold_holds_and_the_usual_branches_are_reached() {
    let mut reached: BTreeMap<String, u64> = BTreeMap::new();
    for seed in 0..120 {
        let outcome = run(seed, None, false);
        assert!(outcome.wrongs.is_empty(), "{}", outcome.report());
        for (name, count) in outcome.probes {
            *reached.entry(name).or_default() += count;
        }
    }
    let missed = probes::missed(&reached, probes::USUAL);
    assert!(missed.is_empty(), "never reached: {}", missed.join("; "));
}

fn on_a_database(seed: u64) -> Outcome {
    run_on(Backend::Sqlite, seed, None, true)
}

#[test]
fn the_same_seed_gives_the_same_trace_on_a_database_that_loses_power() {
    for seed in [1, 8] {
        let (first, second) = (on_a_database(seed), on_a_database(seed));
        let mut lines = first.timeline.iter().zip(&second.timeline);
        let differs = lines.find(|(one, other)| one != other);
        assert_eq!(first.trace_hash, second.trace_hash, "seed {seed}, first {differs:?}");
    }
}

#[test]
fn what_must_always_hold_holds_on_a_database_that_loses_power() {
    let mut reached: BTreeMap<String, u64> = BTreeMap::new();
    for seed in 0..20 {
        let outcome = on_a_database(seed);
        assert!(outcome.wrongs.is_empty(), "{}", outcome.report());
        for (name, count) in outcome.probes {
            *reached.entry(name).or_default() += count;
        }
    }
    let missed = probes::missed(&reached, POWER_PROBES);
    assert!(missed.is_empty(), "never reached: {}", missed.join("; "));
}

#[test]
fn finds_a_disk_of_a_database_that_lies() {
    let found =
        (0..20).find(|seed| !run_on(Backend::Sqlite, *seed, Some(Bug::FsyncLies), false).wrongs.is_empty());
    assert!(found.is_some());
}

/// Seeds that once found something, in the product or in the simulation.
#[test]
fn what_was_found_once_stays_mended() {
    for seed in [133, 462, 1467, 1993, 6903, 10_951, 23_562, 31_877] {
        let outcome = run(seed, None, false);
        assert!(outcome.wrongs.is_empty(), "{}", outcome.report());
    }
}

/// Finds a deliberate bug within so many seeds, and finds that it is this.
fn finds(bug: Bug, seeds: u64, what: &str) {
    let found = (0..seeds).map(|seed| run(seed, Some(bug), false)).find(|outcome| !outcome.wrongs.is_empty());
    let found = found.unwrap_or_else(|| panic!("{bug:?} is not found within {seeds} seeds"));
    assert!(found.wrongs.iter().any(|wrong| wrong.what.contains(what)), "{:?}", found.wrongs);
}

/// A reservation that was written after all is found by the resolver, and a settlement is booked once.
#[test]
fn a_commit_assumed_failed_harms_nobody() {
    let mut written = 0;
    for seed in 0..60 {
        let outcome = run(seed, Some(Bug::CommitAssumedFailed), false);
        assert!(outcome.wrongs.is_empty(), "{}", outcome.report());
        written += outcome.probes.get("ambiguous commit: written").copied().unwrap_or_default();
    }
    assert!(written > 0, "no commit was assumed failed that was written");
}

macro_rules! bugs {
    ($($name:ident $bug:ident $seeds:literal $what:literal;)*) => {
        $(#[test] fn $name() { finds(Bug::$bug, $seeds, $what); })*
    };
}

bugs! {
    finds_a_time_out_reported_as_a_refusal TimeoutIsRefusal 60 "REFUND";
    finds_a_not_found_reported_as_a_refusal NotFoundIsRefusal 60 "a message that pays it is on its way";
    finds_a_request_sent_twice SendsTwice 60 "2 fresh requests";
    finds_a_request_sent_late SendsLate 60 "left after send_before";
    finds_another_amount_asked_for WrongAmount 20 "the bank took";
    finds_an_answer_applied_to_another_payment AnswerForAnother 120 "the bank has not taken it";
    finds_a_status_replica_that_lags StatusLags 60 "NotFound";
    finds_a_commit_assumed_written CommitAssumedWritten 60 "not recorded so";
    finds_a_disk_that_lies FsyncLies 60 "not recorded so";
    finds_a_debit_that_is_missing DebitMissing 20 "sum to";
    finds_reads_from_a_replica_that_lags StaleReplica 60 "told CONFIRM before, and PENDING now";
    finds_a_refund_on_age RefundOnAge 60 "the bank has taken it";
    finds_a_debit_after_the_request DebitAfterSend 60 "before its reservation was durable";
    finds_idempotency_by_a_cache IdempotencyByCache 200 "2 fresh requests";
}
