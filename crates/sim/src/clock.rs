//! Wall clocks: each gateway has its own, which follows the run's time and can be set wrong.

use crate::record::Record;
use domain::{Clock, Timestamp};
use engine::domain;
use std::sync::{
    Arc,
    atomic::{AtomicI64, Ordering},
};

/// One machine's wall clock.
pub(crate) struct WallClock {
    record: Arc<Record>,
    wrong_by_ms: AtomicI64,
}

impl WallClock {
    /// A clock that is right.
    pub(crate) fn new(record: Arc<Record>) -> Arc<Self> {
        Arc::new(Self { record, wrong_by_ms: AtomicI64::new(0) })
    }

    /// From here on it is wrong by so much.
    pub(crate) fn set_wrong_by(&self, milliseconds: i64) {
        self.wrong_by_ms.store(milliseconds, Ordering::Relaxed);
    }
}

impl Clock for WallClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_millis(self.record.now().as_millis() + self.wrong_by_ms.load(Ordering::Relaxed))
    }
}
