//! Line runs are tested like the others: they find what they must, they reach what they must.

use sim::{Backend, Bug, Outcome, Run, line_probes, probes::missed};
use std::collections::BTreeMap;

fn run(seed: u64, bug: Option<Bug>) -> Outcome {
    Run { backend: Backend::Lines, bug, ..Run::of(seed) }.go()
}

#[test]
fn both_ledgers_agree_whatever_befalls_the_line_and_the_usual_branches_are_reached() {
    let mut reached: BTreeMap<String, u64> = BTreeMap::new();
    for seed in 0..40 {
        let outcome = run(seed, None);
        assert!(outcome.wrongs.is_empty(), "{}", outcome.report());
        for (name, count) in outcome.probes {
            *reached.entry(name).or_default() += count;
        }
    }
    let missed = missed(&reached, line_probes::USUAL);
    assert!(missed.is_empty(), "never reached: {}", missed.join("; "));
}

/// A seed that once found something: an outcome that could not be booked yet was never let go.
#[test]
fn what_was_found_once_stays_mended() {
    let outcome = run(18_340, None);
    assert!(outcome.wrongs.is_empty(), "{}", outcome.report());
}

/// Finds a deliberate bug within so many seeds, and finds that it is this.
fn finds(bug: Bug, seeds: u64, what: &str) {
    let found = (0..seeds).map(|seed| run(seed, Some(bug))).find(|outcome| !outcome.wrongs.is_empty());
    let found = found.unwrap_or_else(|| panic!("{bug:?} is not found within {seeds} seeds"));
    assert!(found.wrongs.iter().any(|wrong| wrong.what.contains(what)), "{:?}", found.wrongs);
}

#[test]
fn finds_a_bank_that_carries_out_beyond_its_horizon() {
    finds(Bug::LateBank, 60, "the bank took");
}

#[test]
fn finds_damage_that_reads_as_another_answer() {
    finds(Bug::CorruptedAnswers, 300, "the bank");
}
