//! What a provider is fit for, and what is counted of the calls to it.

use super::wire::Called;
use crate::{Unknown, report::Count};

pub(super) const COUNTS: [Count; 6] =
    [Count::Sent, Count::Answered, Count::NeverSent, Count::TimedOut, Count::Cut, Count::Garbled];

/// As what a call is counted by its end.
pub(super) fn counted<T>(called: &Called<T>) -> Count {
    match called {
        Called::Answered(_) => Count::Answered,
        Called::NeverSent(_) => Count::NeverSent,
        Called::Unknown(Unknown::TimedOut) => Count::TimedOut,
        Called::Unknown(Unknown::ConnectionCut) => Count::Cut,
        Called::Unknown(_) => Count::Garbled,
    }
}

/// What a provider is fit for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    /// It answers, or nothing was asked yet.
    Up,
    /// No connection comes up.
    Unreachable,
    /// It takes requests and does not answer them.
    Stalled,
    /// The balance there is below the limit.
    Short,
}

impl Standing {
    pub(super) const fn words(self) -> &'static str {
        match self {
            Self::Up => "up",
            Self::Unreachable => "no connection",
            Self::Stalled => "stalled: it does not answer",
            Self::Short => "stopped: the balance is short",
        }
    }
}
