//! Which questions about payments were sent, and until when an answer may be one to an earlier of them.
//!
//! All questions about one payment look alike, and so do their answers. What was not found when it was asked earlier
//! may have been carried out since; so "not paid" is believed only when no earlier answer can come any more.

use crate::locked;
use domain::Timestamp;
use std::{collections::HashMap, sync::Mutex, time::Duration};
use tokio::time::Instant;

/// With more of them, those are forgotten to which no answer can come any more.
const KNOWN_MAX: usize = 100_000;

/// The shortest pause between two such clearances.
const CLEARED_EVERY: Duration = Duration::from_secs(1);

/// What an identity's moment counts in. No question is asked about a payment so soon.
const PRECISION: Duration = Duration::from_secs(1);

pub(super) struct Questions {
    /// By the payment's identity: from when on no answer to those sent so far can come any more.
    known: Mutex<(HashMap<String, Instant>, Instant)>,
    /// For how long after it was sent an answer may come.
    answered_within: Duration,
    /// For how long after an answer it may come again.
    repeated_within: Duration,
    /// When this life began: what was asked before, nobody knows.
    born: (Timestamp, Instant),
}

/// A question that is about to be sent.
pub(super) struct Asking<'a> {
    questions: &'a Questions,
    identity: &'a str,
    before: Option<Instant>,
    /// Whether no answer to an earlier one can come.
    pub(super) is_clear: bool,
}

impl Questions {
    pub(super) fn new(answered_within: Duration, repeated_within: Duration, now: Timestamp) -> Self {
        let born = (now, Instant::now());
        Self { known: Mutex::new((HashMap::new(), born.1)), answered_within, repeated_within, born }
    }

    /// Whether one about this payment was sent.
    pub(super) fn was_asked(&self, identity: &str) -> bool {
        locked(&self.known).0.contains_key(identity)
    }

    /// From when on an answer cannot be one to an earlier question about a payment that was made at this moment.
    pub(super) fn clear_from(&self, identity: &str, made_at: Option<Timestamp>) -> Instant {
        let known = locked(&self.known).0.get(identity).copied();
        let (born_at, born) = self.born;
        known.unwrap_or_else(|| {
            let is_older = made_at.is_none_or(|made_at| made_at.plus(PRECISION) <= born_at);
            if is_older { born + self.answered_within } else { born }
        })
    }

    /// Before one is sent: whatever becomes of whoever asks, its answer may come.
    pub(super) fn ask<'a>(&'a self, identity: &'a str, made_at: Option<Timestamp>) -> Asking<'a> {
        let is_clear = self.clear_from(identity, made_at) <= Instant::now();
        let now = Instant::now();
        let mut guard = locked(&self.known);
        let (known, cleared_at) = &mut *guard;
        if known.len() >= KNOWN_MAX && now.duration_since(*cleared_at) >= CLEARED_EVERY {
            // To send an original once more, and not its repeat, harms nobody.
            known.retain(|_, clear_from| *clear_from > now);
            *cleared_at = now;
        }
        let before = known.insert(identity.to_owned(), now + self.answered_within);
        Asking { questions: self, identity, before, is_clear }
    }
}

impl Asking<'_> {
    /// It was not sent.
    pub(super) fn was_not_sent(self) {
        let known = &mut locked(&self.questions.known).0;
        match self.before {
            Some(before) => known.insert(self.identity.to_owned(), before),
            None => known.remove(self.identity),
        };
    }

    /// An answer came. If it may be one to an earlier question, this one's own may still come.
    pub(super) fn was_answered(self) {
        if self.is_clear {
            let clear_from = Instant::now() + self.questions.repeated_within;
            locked(&self.questions.known).0.insert(self.identity.to_owned(), clear_from);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ANSWERED: Duration = Duration::from_secs(150);
    const REPEATED: Duration = Duration::from_secs(30);
    const NOON: Timestamp = Timestamp::from_millis(10_500);
    const BEFORE: Option<Timestamp> = Some(Timestamp::from_millis(9_000));
    const LATER: Option<Timestamp> = Some(Timestamp::from_millis(10_000));

    async fn pass(seconds: u64) {
        tokio::time::advance(Duration::from_secs(seconds)).await;
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_is_told_from_those_to_earlier_questions() {
        let questions = Questions::new(ANSWERED, REPEATED, NOON);
        let ask = || questions.ask("a", LATER);
        let first = ask();
        assert!(first.is_clear && questions.was_asked("a"), "the first of a payment of this life");
        first.was_answered();
        pass(29).await;
        assert!(!ask().is_clear, "the first one's answer may come again");
        // That one was never answered.
        pass(149).await;
        let doubtful = ask();
        assert!(!doubtful.is_clear);
        doubtful.was_answered();
        pass(149).await;
        assert!(!ask().is_clear, "what came may have been an earlier one's, and its own comes now");
        pass(150).await;
        let clear = ask();
        assert!(clear.is_clear);
        clear.was_answered();
        pass(30).await;
        let unsent = ask();
        assert!(unsent.is_clear);
        unsent.was_not_sent();
        assert!(ask().is_clear, "what was not sent is not answered");
    }

    #[tokio::test(start_paused = true)]
    async fn what_an_earlier_life_asked_may_be_answered_for_as_long() {
        let questions = Questions::new(ANSWERED, REPEATED, NOON);
        for made_at in [BEFORE, None] {
            assert!(questions.clear_from("old", made_at) > Instant::now());
        }
        assert!(questions.clear_from("new", LATER) <= Instant::now());
        questions.ask("old", BEFORE).was_not_sent();
        assert!(!questions.was_asked("old"));
        pass(150).await;
        assert!(questions.ask("old", BEFORE).is_clear);
    }

    #[tokio::test(start_paused = true)]
    async fn only_what_cannot_be_answered_any_more_is_forgotten() {
        let questions = Questions::new(ANSWERED, REPEATED, NOON);
        for number in 0..KNOWN_MAX {
            let identity = number.to_string();
            let asking = questions.ask(&identity, LATER);
            if number == 0 {
                continue;
            }
            asking.was_answered();
        }
        pass(31).await;
        let _last = questions.ask("last", LATER);
        assert_eq!(locked(&questions.known).0.len(), 2);
        assert!(questions.was_asked("0"), "it may still be answered");
    }
}
