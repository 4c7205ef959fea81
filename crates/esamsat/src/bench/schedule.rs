//! When requests are due, and which of them count.
//!
//! | loop | due | latency counts from |
//! | --- | --- | --- |
//! | closed | when its worker is free | the sending |
//! | open, rate R | request i at begin + i/R, whoever is free | when it was due |
//!
//! In the open loop the due times do not wait for answers: while all connections are busy they queue up, and
//! each keeps its own. What is still queued when the time is over was never sent, and counts with the time that
//! it had waited by then; to leave it out would hide exactly the worst (coordinated omission).

use std::{cell::Cell, time::Duration};
use tokio::time::{Instant, sleep_until};

/// What to do.
#[derive(Clone, Copy)]
pub(super) struct Plan {
    /// Driven first, not counted.
    pub(super) warm_up: Duration,
    /// Driven and counted.
    pub(super) measured: Duration,
    /// Of the open loop, a second.
    pub(super) rate: Option<f64>,
    /// At most so many are started.
    pub(super) starts_max: u64,
}

/// A plan under way, shared by the workers.
pub(super) struct Schedule {
    plan: Plan,
    begin: Instant,
    measure_from: Instant,
    end: Cell<Instant>,
    started: Cell<u64>,
}

impl Schedule {
    pub(super) fn new(plan: Plan, begin: Instant) -> Self {
        let measure_from = begin + plan.warm_up;
        Self {
            plan,
            begin,
            measure_from,
            end: Cell::new(measure_from + plan.measured),
            started: Cell::new(0),
        }
    }

    /// Waits until the next request is due, and says when that was; none when the time is over.
    pub(super) async fn next(&self) -> Option<Instant> {
        let due = self.take(Instant::now())?;
        if self.plan.rate.is_some() {
            sleep_until(due).await;
        }
        Some(due)
    }

    fn take(&self, now: Instant) -> Option<Instant> {
        let index = self.started.get();
        let due = self.due(index).unwrap_or(now);
        let is_over = now >= self.end.get() || due >= self.end.get() || index >= self.plan.starts_max;
        if is_over {
            return None;
        }
        self.started.set(index + 1);
        Some(due)
    }

    #[expect(
        clippy::cast_precision_loss,
        reason = "so many requests that a float cannot count them never start"
    )]
    fn due(&self, index: u64) -> Option<Instant> {
        self.plan.rate.map(|rate| self.begin + Duration::from_secs_f64(index as f64 / rate))
    }

    /// Ends it before its time.
    pub(super) fn stop(&self, now: Instant) {
        self.end.set(self.end.get().min(now));
    }

    /// Whether a request that was due then counts.
    pub(super) fn counts(&self, due: Instant) -> bool {
        due >= self.measure_from
    }

    /// Whether an answer at this moment counts for the throughput.
    pub(super) fn is_measured(&self, moment: Instant) -> bool {
        moment >= self.measure_from && moment < self.end.get()
    }

    /// What was due in the measured time and never sent: how long each had waited at the end.
    pub(super) fn unsent(&self) -> impl Iterator<Item = Duration> {
        let end = self.end.get();
        (self.started.get()..)
            .map_while(move |index| self.due(index).filter(|due| *due < end))
            .filter(|due| self.counts(*due))
            .map(move |due| end - due)
    }

    /// How many were started, the warm-up's included.
    pub(super) fn started(&self) -> u64 {
        self.started.get()
    }

    /// How long was measured.
    pub(super) fn measured(&self) -> Duration {
        self.end.get().saturating_duration_since(self.measure_from)
    }

    /// How long it lasted, the warm-up included.
    pub(super) fn lasted(&self) -> Duration {
        self.end.get().saturating_duration_since(self.begin)
    }

    /// How long it has been going on.
    pub(super) fn elapsed(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.begin)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn seconds(count: u64) -> Duration {
        Duration::from_secs(count)
    }

    fn schedule(rate: Option<f64>, starts_max: u64) -> (Schedule, Instant) {
        let begin = Instant::now();
        let plan = Plan { warm_up: seconds(2), measured: seconds(10), rate, starts_max };
        (Schedule::new(plan, begin), begin)
    }

    #[test]
    fn a_closed_loop_is_due_when_its_worker_is_free() {
        let (schedule, begin) = schedule(None, u64::MAX);
        assert_eq!(schedule.take(begin + seconds(1)), Some(begin + seconds(1)));
        assert_eq!(schedule.take(begin + seconds(11)), Some(begin + seconds(11)));
        assert_eq!(schedule.take(begin + seconds(12)), None);
        assert_eq!(schedule.unsent().count(), 0);
    }

    #[test]
    fn an_open_loop_keeps_its_due_times_however_late_it_is() {
        let (schedule, begin) = schedule(Some(10.0), u64::MAX);
        assert_eq!(schedule.take(begin), Some(begin));
        // A stall of four seconds: what was due meanwhile comes next, each with its own time.
        let late = begin + seconds(4);
        for tenths in 1..=40 {
            assert_eq!(schedule.take(late), Some(begin + Duration::from_millis(100) * tenths));
        }
        assert_eq!(
            schedule.take(late),
            Some(late + Duration::from_millis(100)),
            "caught up, due in the future"
        );
    }

    #[test]
    fn what_was_never_sent_counts_with_its_waiting_time() {
        let (schedule, begin) = schedule(Some(10.0), u64::MAX);
        for _ in 0..60 {
            schedule.take(begin + seconds(6)).unwrap();
        }
        assert_eq!(schedule.take(begin + seconds(12)), None, "the time is over");
        let unsent: Vec<_> = schedule.unsent().collect();
        assert_eq!(unsent.len(), 60);
        assert_eq!((unsent[0], unsent[59]), (seconds(6), Duration::from_millis(100)));
    }

    #[test]
    fn nothing_of_the_warm_up_counts() {
        let (schedule, begin) = schedule(Some(10.0), u64::MAX);
        assert!(!schedule.counts(begin + Duration::from_millis(1_999)));
        assert!(schedule.counts(begin + seconds(2)));
        assert!(!schedule.is_measured(begin + seconds(1)) && schedule.is_measured(begin + seconds(2)));
        assert!(!schedule.is_measured(begin + seconds(12)), "answered after the end");
        assert_eq!(schedule.unsent().count(), 100, "none of the 20 that were due in the warm-up");
    }

    #[test]
    fn an_early_end_shortens_what_is_measured() {
        let (schedule, begin) = schedule(None, 3);
        for _ in 0..3 {
            schedule.take(begin).unwrap();
        }
        assert_eq!(schedule.take(begin), None, "no more are wanted");
        schedule.stop(begin + seconds(5));
        schedule.stop(begin + seconds(7));
        assert_eq!((schedule.measured(), schedule.lasted()), (seconds(3), seconds(5)));
    }
}
