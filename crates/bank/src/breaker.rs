//! The circuit breaker of a line or a provider: a bank that takes requests and has stopped answering them is not sent more.
//!
//! It opens after a row of time-outs in which nothing at all was heard for as long as an answer may take; then one
//! request at a time tries whether it is over. Any answer to a request closes it.

use crate::locked;
use std::{sync::Mutex, time::Duration};
use tokio::time::Instant;

/// Time-outs in a row.
const ROW: u32 = 8;

#[derive(Debug)]
pub(crate) struct Breaker {
    answer_timeout: Duration,
    seen: Mutex<Seen>,
}

#[derive(Debug)]
struct Seen {
    in_a_row: u32,
    heard_at: Instant,
    tried_at: Option<Instant>,
}

impl Breaker {
    pub(crate) fn new(answer_timeout: Duration) -> Self {
        let seen = Seen { in_a_row: 0, heard_at: Instant::now(), tried_at: None };
        Self { answer_timeout, seen: Mutex::new(seen) }
    }

    fn seen(&self) -> std::sync::MutexGuard<'_, Seen> {
        locked(&self.seen)
    }

    pub(crate) fn answered(&self) {
        *self.seen() = Seen { in_a_row: 0, heard_at: Instant::now(), tried_at: None };
    }

    pub(crate) fn timed_out(&self) {
        let mut seen = self.seen();
        seen.in_a_row = seen.in_a_row.saturating_add(1);
    }

    pub(crate) fn is_open(&self) -> bool {
        self.seen().is_open(self.answer_timeout)
    }

    /// Whether a request may go; of an open one, one at a time, as long as an answer may take.
    pub(crate) fn lets_through(&self) -> bool {
        let mut seen = self.seen();
        if !seen.is_open(self.answer_timeout) {
            return true;
        }
        let is_due = seen.tried_at.is_none_or(|at| at.elapsed() >= self.answer_timeout);
        if is_due {
            seen.tried_at = Some(Instant::now());
        }
        is_due
    }
}

impl Seen {
    fn is_open(&self, answer_timeout: Duration) -> bool {
        self.in_a_row >= ROW && self.heard_at.elapsed() >= answer_timeout
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn it_opens_after_a_row_and_tries_one_at_a_time() {
        let timeout = Duration::from_secs(10);
        let breaker = Breaker::new(timeout);
        for _ in 0..ROW {
            assert!(breaker.lets_through());
            breaker.timed_out();
        }
        assert!(!breaker.is_open(), "something was heard a moment ago");
        tokio::time::advance(timeout).await;
        assert!(breaker.is_open());
        assert!(breaker.lets_through() && !breaker.lets_through(), "one tries");
        breaker.timed_out();
        tokio::time::advance(timeout).await;
        assert!(breaker.lets_through() && !breaker.lets_through());
        breaker.answered();
        assert!(!breaker.is_open() && breaker.lets_through() && breaker.lets_through());
    }
}
