//! Trace numbers: six digits that go round, and none again while its message may still arrive or its payment is
//! open.
//!
//! They come in blocks that are durable before they are used, counted on for ever; so two lives of a gateway never
//! give out one number, and a number comes again only a million messages later. Then, what was used within the
//! horizon is not given out, and what an open payment has is skipped.

use crate::{TraceBlock, locked, profile::LineProfile};
use domain::Terminal;
use std::{
    collections::{BTreeSet, VecDeque},
    ops::Range,
    sync::{Mutex, MutexGuard},
    time::Duration,
};
use tokio::{sync::Notify, time::Instant};

/// Numbers in a round: 000001 to 999999.
const ROUND: i64 = 999_999;

/// Numbers reserved at a time.
pub(super) const BLOCK: u32 = 5_000;

/// With fewer left, the next block is fetched.
const LOW: i64 = 2_500;

/// How long nothing is fetched after it failed.
const PAUSE: Duration = Duration::from_millis(100);

/// How often it is noted when numbers were used.
const STRETCH: i64 = 500;

/// One terminal's numbers.
#[derive(Debug)]
pub(super) struct Traces {
    terminal: Terminal,
    /// For how long a number is not used again.
    kept_for: Duration,
    stock: Mutex<Stock>,
    is_low: Notify,
}

#[derive(Debug, Default)]
struct Stock {
    blocks: VecDeque<Range<i64>>,
    /// Of open payments.
    open: BTreeSet<i64>,
    /// From which number on they were used at which time.
    used: VecDeque<(i64, Instant)>,
    /// The first number of this life, and when it was used.
    begun: Option<(i64, Instant)>,
    is_fetching: bool,
    failed_at: Option<Instant>,
    is_stocked: bool,
}

impl Traces {
    pub(super) fn new(terminal: Terminal, kept_for: Duration) -> Self {
        Self { terminal, kept_for, stock: Mutex::default(), is_low: Notify::new() }
    }

    fn stock(&self) -> MutexGuard<'_, Stock> {
        locked(&self.stock)
    }

    /// The next number as six digits; none if there is none that may be used now.
    pub(super) fn next(&self) -> Option<String> {
        let mut stock = self.stock();
        if stock.is_low() {
            self.is_low.notify_one();
        }
        loop {
            let number = stock.blocks.front()?.start;
            if stock.is_recent(number, self.kept_for) {
                return None;
            }
            let block = stock.blocks.front_mut()?;
            block.start += 1;
            if block.is_empty() {
                stock.blocks.pop_front();
            }
            stock.begun.get_or_insert_with(|| (number, Instant::now()));
            if stock.used.back().is_none_or(|(first, _)| number - first >= STRETCH) {
                stock.used.push_back((number, Instant::now()));
            }
            let trace = (number - 1) % ROUND + 1;
            if !stock.open.contains(&trace) {
                return Some(format!("{trace:06}"));
            }
        }
    }

    /// Whether a block should be fetched; whoever is told so must call [`Self::add`].
    pub(super) fn needs_block(&self) -> bool {
        let mut stock = self.stock();
        let needs = stock.is_low();
        stock.is_fetching |= needs;
        needs
    }

    /// Waits until it may be that a block should be fetched.
    pub(super) async fn until_low(&self) {
        self.is_low.notified().await;
    }

    /// Adds a block that was fetched, or none that could not be.
    pub(super) fn add(&self, block: Option<TraceBlock>) {
        let mut stock = self.stock();
        stock.is_fetching = false;
        stock.failed_at = block.is_none().then(Instant::now);
        if let Some(block) = block {
            stock.is_stocked = true;
            stock.blocks.push_back(block.first..block.first + i64::from(block.count));
            let of_terminal =
                |identity: &&String| LineProfile::terminal_of_identity(identity) == Some(self.terminal);
            let trace = |identity: &String| LineProfile::trace_of_identity(identity)?.parse().ok();
            stock.open = block.open.iter().filter(of_terminal).filter_map(trace).collect();
        }
    }

    /// Whether there ever were any.
    pub(super) fn is_stocked(&self) -> bool {
        self.stock().is_stocked
    }
}

impl Stock {
    fn is_low(&self) -> bool {
        let left: i64 = self.blocks.iter().map(|block| block.end - block.start).sum();
        left < LOW && !self.is_fetching && self.failed_at.is_none_or(|at| at.elapsed() >= PAUSE)
    }

    /// Whether a number was used a round ago, and not long enough ago.
    fn is_recent(&mut self, number: i64, kept_for: Duration) -> bool {
        let before = number - ROUND;
        // What an earlier life used, and when, is not known; two may share a round.
        if let Some((first, at)) = self.begun
            && before < first
        {
            return number - first >= ROUND / 2 && at.elapsed() < kept_for;
        }
        // What is needed is the stretch that the number of a round ago is in.
        while self.used.get(1).is_some_and(|(first, _)| *first <= before) {
            self.used.pop_front();
        }
        // It was used before the next stretch began.
        let in_known = self.used.front().is_some_and(|(first, _)| *first <= before);
        let by = self.used.get(1).or(self.used.front()).map(|(_, at)| *at);
        in_known && by.is_some_and(|at| at.elapsed() < kept_for)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn traces() -> Traces {
        Traces::new(Terminal::parse("ESAM0001").unwrap(), Duration::from_mins(2))
    }

    fn block(first: i64, count: u32, open: &[&str]) -> TraceBlock {
        TraceBlock { first, count, open: open.iter().map(ToString::to_string).collect() }
    }

    #[tokio::test(start_paused = true)]
    async fn numbers_go_round_and_skip_what_is_open() {
        let traces = traces();
        assert_eq!(traces.next(), None);
        assert!(!traces.is_stocked() && traces.needs_block() && !traces.needs_block(), "one fetch at a time");
        let open =
            ["1125052229-999999-100000000123-ESAM0001-1125", "1125052229-000001-100000000123-ESAM0002-1125"];
        traces.add(Some(block(999_998, 4, &open)));
        assert_eq!(
            [(); 4].map(|()| traces.next()),
            [Some("999998".into()), Some("000001".into()), Some("000002".into()), None]
        );
        traces.add(None);
        assert!(!traces.needs_block(), "what failed is not tried again at once");
        tokio::time::advance(PAUSE).await;
        assert!(traces.needs_block());
    }

    #[tokio::test(start_paused = true)]
    async fn a_number_rests_for_the_horizon() {
        let traces = traces();
        traces.add(Some(block(1, 999_999, &[])));
        for _ in 0..ROUND / 2 {
            assert!(traces.next().is_some());
        }
        assert_eq!(traces.next(), None, "an earlier life may have used as many a moment ago");
        tokio::time::advance(Duration::from_mins(2)).await;
        for _ in ROUND / 2..ROUND {
            assert!(traces.next().is_some());
        }
        traces.add(Some(block(1_000_000, 10, &[])));
        assert_eq!(traces.next().as_deref(), Some("000001"), "of before the pause");
        traces.add(Some(block(1_000_010, 999_999, &[])));
        while traces.next().is_some() {}
        let stopped_at = traces.stock().blocks.front().map(|block| block.start);
        assert!(stopped_at.is_some_and(|number| number >= ROUND + ROUND / 2 - STRETCH), "{stopped_at:?}");
        tokio::time::advance(Duration::from_secs(119)).await;
        assert_eq!(traces.next(), None, "as many in no time");
        tokio::time::advance(Duration::from_secs(1)).await;
        assert!(traces.next().is_some());
    }
}
