//! Until when a request may leave, and how long it may take to.
//!
//! A horizon counts from the moment at which the last byte has reached the bank. The engine counts it from
//! `send_before`, so connectors tell it a longer one.

use domain::Timestamp;
use std::time::Duration;
use tokio::time::Instant;

/// How long a write may block, and what was written may stay unacknowledged, at most.
const UNSENT_MAX: Duration = Duration::from_secs(5);

/// How long a write may block, and as long again what was written may stay unacknowledged: a small part of the horizon.
pub(crate) fn unsent_max(horizon: Duration) -> Duration {
    UNSENT_MAX.min(horizon / 4)
}

/// A bank's horizon as the engine counts it, from the last moment at which a request may begin to leave.
pub(crate) fn horizon_from_send_before(horizon: Duration) -> Duration {
    horizon + 2 * unsent_max(horizon)
}

/// Until when a request that moves money may be written: both clocks must be before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SendBefore {
    /// By the clock that people set.
    pub wall: Timestamp,
    /// By the clock that nobody can set.
    pub monotonic: Instant,
}

impl SendBefore {
    /// Whether it may be written now, which is `now` on the wall; asked immediately before writing.
    pub fn allows(&self, now: Timestamp) -> bool {
        now < self.wall && Instant::now() < self.monotonic
    }

    /// From now on for so long.
    pub(crate) fn within(time: Duration, now: Timestamp) -> Self {
        Self { wall: now.plus(time), monotonic: Instant::now() + time }
    }
}
