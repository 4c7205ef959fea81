//! What was seen: latencies, counts, failures by kind.
//!
//! Latencies are those of successful answers and of what was never sent; everything that failed is counted by
//! kind and has no latency, so that quick refusals do not flatter it.

use super::answer::Failed;
use hdrhistogram::Histogram;
use std::{collections::BTreeMap, time::Duration};

/// Longer than any answer takes; microseconds.
const LATENCY_MAX_US: u64 = 24 * 3_600 * 1_000_000;

/// Kinds of failures told apart: a gateway whose reasons carry numbers must not fill the memory.
const KINDS_MAX: usize = 50;

/// What has a latency.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// An inquiry.
    Inquiry,
    /// A payment.
    Pay,
    /// An inquiry and its payment.
    Pair,
}

/// What was seen of one step.
pub(super) struct Seen {
    /// In microseconds, of those due in the measured time.
    pub(super) latency: Histogram<u64>,
    /// Successful answers within the measured time, whenever they were due: the throughput.
    pub(super) completed: u64,
}

impl Default for Seen {
    fn default() -> Self {
        Self { latency: histogram(), completed: 0 }
    }
}

/// An empty one, for microseconds.
pub(super) fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, LATENCY_MAX_US, 3).expect("the bounds are in order")
}

/// Everything that was seen in one measurement.
pub(super) struct Tally {
    steps: [Seen; 3],
    /// Open loop: how much later than due requests were sent, in microseconds.
    pub(super) start_lag: Histogram<u64>,
    /// Successes, of those due in the measured time.
    pub(super) succeeded: u64,
    /// Payments answered PENDING, of those due in the measured time. No success, and no failure.
    pub(super) pending: u64,
    /// Open loop: due in the measured time and never sent.
    pub(super) unsent: u64,
    /// Failures, of those due in the measured time.
    pub(super) failures: BTreeMap<Failed, u64>,
    /// How long was measured.
    pub(super) measured: Duration,
    /// How long the load generator's thread was at work, the warm-up included.
    pub(super) generator_busy: Duration,
    /// How long it lasted, the warm-up and the last answers included.
    pub(super) lasted: Duration,
}

impl Default for Tally {
    fn default() -> Self {
        Self {
            steps: Default::default(),
            start_lag: histogram(),
            succeeded: 0,
            pending: 0,
            unsent: 0,
            failures: BTreeMap::new(),
            measured: Duration::ZERO,
            generator_busy: Duration::ZERO,
            lasted: Duration::ZERO,
        }
    }
}

impl Tally {
    /// What was seen of a step.
    pub(super) fn step(&self, step: Step) -> &Seen {
        &self.steps[step as usize]
    }

    pub(super) fn step_mut(&mut self, step: Step) -> &mut Seen {
        &mut self.steps[step as usize]
    }

    /// Records how long a step took.
    pub(super) fn took(&mut self, step: Step, latency: Duration) {
        self.step_mut(step).latency.saturating_record(microseconds(latency));
    }

    /// Records how much later than due a request was sent.
    pub(super) fn started_late(&mut self, by: Duration) {
        self.start_lag.saturating_record(microseconds(by));
    }

    /// Records what was due and never sent, by how long it had waited.
    pub(super) fn never_sent(&mut self, step: Step, waited: Duration) {
        self.unsent += 1;
        self.took(step, waited);
    }

    /// Counts a failure.
    pub(super) fn failed(&mut self, failed: &Failed) {
        self.add_failures(failed, 1);
    }

    fn add_failures(&mut self, failed: &Failed, count: u64) {
        let is_one_too_many = self.failures.len() >= KINDS_MAX && !self.failures.contains_key(failed);
        let kind = if is_one_too_many { &Failed::Other } else { failed };
        *self.failures.entry(kind.clone()).or_default() += count;
    }

    /// How many failed.
    pub(super) fn failed_count(&self) -> u64 {
        self.failures.values().sum()
    }

    /// The most frequent failure.
    pub(super) fn main_failure(&self) -> Option<&Failed> {
        self.failures.iter().max_by_key(|(_, count)| **count).map(|(failed, _)| failed)
    }

    /// Successful answers a second.
    pub(super) fn per_second(&self, step: Step) -> f64 {
        let seconds = self.measured.as_secs_f64();
        if seconds > 0.0 { float(self.step(step).completed) / seconds } else { 0.0 }
    }

    /// Successful requests a second, of whichever step.
    pub(super) fn requests_per_second(&self) -> f64 {
        self.per_second(Step::Inquiry) + self.per_second(Step::Pay)
    }

    /// Adds what was seen elsewhere.
    pub(super) fn absorb(&mut self, other: &Self) {
        for (own, its) in self.steps.iter_mut().zip(&other.steps) {
            own.latency.add(&its.latency).expect("all histograms have the same bounds");
            own.completed += its.completed;
        }
        self.start_lag.add(&other.start_lag).expect("all histograms have the same bounds");
        self.succeeded += other.succeeded;
        self.pending += other.pending;
        self.unsent += other.unsent;
        for (failed, count) in &other.failures {
            self.add_failures(failed, *count);
        }
        self.measured += other.measured;
        self.generator_busy += other.generator_busy;
        self.lasted += other.lasted;
    }
}

fn microseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

/// A count, for arithmetic with fractions.
#[expect(clippy::cast_precision_loss, reason = "no run counts further than a float does")]
pub(super) fn float(count: u64) -> f64 {
    count as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stall_shows_in_the_quantiles() {
        // Rate 100 a second for 10 s, answered in 1 ms each, but nothing is sent from second 5 on.
        let mut tally = Tally::default();
        for _ in 0..500 {
            tally.took(Step::Pair, Duration::from_millis(1));
        }
        for index in 500..1_000 {
            tally.never_sent(Step::Pair, Duration::from_millis(10_000 - 10 * index));
        }
        let latency = &tally.step(Step::Pair).latency;
        let quantile_ms = |quantile| latency.value_at_quantile(quantile).div_ceil(1_000);
        assert_eq!((latency.len(), tally.unsent), (1_000, 500));
        assert!((1..=2).contains(&quantile_ms(0.5)), "{}", quantile_ms(0.5));
        assert!((3_990..=4_010).contains(&quantile_ms(0.9)), "{}", quantile_ms(0.9));
        assert!((4_995..=5_005).contains(&quantile_ms(1.0)), "{}", quantile_ms(1.0));
    }

    #[test]
    fn tallies_add_up() {
        let one = || {
            let mut tally =
                Tally { measured: Duration::from_secs(2), succeeded: 3, pending: 1, ..Tally::default() };
            tally.step_mut(Step::Inquiry).completed = 10;
            tally.step_mut(Step::Pay).completed = 6;
            tally.took(Step::Pay, Duration::from_secs(100_000_000));
            tally.failed(&Failed::Connection("reset"));
            tally
        };
        let mut all = one();
        all.absorb(&one());
        assert_eq!((all.succeeded, all.pending, all.failed_count()), (6, 2, 2));
        assert!((all.requests_per_second() - 8.0).abs() < 1e-9);
        assert_eq!(all.step(Step::Pay).latency.len(), 2);
        assert!(Tally::default().requests_per_second().abs() < 1e-9, "nothing measured, nothing divided");
    }

    #[test]
    fn kinds_of_failures_are_bounded() {
        let mut tally = Tally::default();
        for number in 0..1_000 {
            tally.failed(&Failed::Refused(number.to_string()));
        }
        assert_eq!((tally.failures.len(), tally.failed_count()), (KINDS_MAX + 1, 1_000));
        assert_eq!(tally.main_failure(), Some(&Failed::Other));
    }
}
