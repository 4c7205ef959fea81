//! A wall clock that follows tokio's clock, goes on from one life of a gateway to the next, and can be set
//! wrong.

use domain::{BusinessDate, Clock, Timestamp};
use engine::domain;
use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};
use tokio::time::Instant;

pub(crate) struct TestClock {
    state: Mutex<State>,
}

struct State {
    /// The moment at which the present life began, and the tokio time of it.
    began: (Timestamp, Option<Instant>),
    wrong_by_ms: i64,
}

impl TestClock {
    pub(crate) fn at(moment: Timestamp) -> Self {
        Self { state: Mutex::new(State { began: (moment, None), wrong_by_ms: 0 }) }
    }

    /// Sets the clock to another moment for good.
    pub(crate) fn set(&self, moment: Timestamp) {
        self.with(|state| state.began = (moment, Some(Instant::now())));
    }

    /// From here on the clock is wrong by so much.
    pub(crate) fn jump(&self, milliseconds: i64) {
        self.with(|state| state.wrong_by_ms = milliseconds);
    }

    /// A runtime begins; its time starts where the last one ended.
    pub(crate) fn begin_life(&self) {
        self.with(|state| state.began.1 = Some(Instant::now()));
    }

    /// A runtime ends, and the next one begins so much later.
    pub(crate) fn end_life(&self, pause: Duration) {
        self.with(|state| {
            let elapsed = state.began.1.map_or(Duration::ZERO, |instant| instant.elapsed());
            state.began = (state.began.0.plus(elapsed).plus(pause), None);
        });
    }

    fn with<T>(&self, act: impl FnOnce(&mut State) -> T) -> T {
        act(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Clock for TestClock {
    fn now(&self) -> Timestamp {
        self.with(|state| {
            let elapsed = state.began.1.map_or(Duration::ZERO, |instant| instant.elapsed());
            Timestamp::from_millis(state.began.0.plus(elapsed).as_millis() + state.wrong_by_ms)
        })
    }
}

/// `20_261_123`, and so long after midnight in Jakarta.
pub(crate) fn on_day(day: i32, after_midnight: Duration) -> Timestamp {
    BusinessDate::from_number(day).expect("a date").begins_at().plus(after_midnight)
}
