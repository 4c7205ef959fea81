//! How things stand with a provider, for people and monitoring: counts, the last error, and since when.

use super::wire::{Call, Called};
use crate::Unknown;
use domain::{Clock, Timestamp};
use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

const COUNTS: [&str; 6] = ["sent", "answered", "never_sent", "timed_out", "cut", "garbled"];

#[derive(Clone, Copy)]
enum Count {
    Sent,
    Answered,
    NeverSent,
    TimedOut,
    Cut,
    Garbled,
}

/// What a provider is fit for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    /// Nothing was heard yet.
    Unknown,
    /// It answers.
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
            Self::Unknown => "nothing heard yet",
            Self::Up => "up",
            Self::Unreachable => "no connection",
            Self::Stalled => "stalled: it does not answer",
            Self::Short => "stopped: the balance is short",
        }
    }

    pub(super) const fn is_up(self) -> bool {
        matches!(self, Self::Unknown | Self::Up)
    }
}

pub(super) struct Report {
    upstream: String,
    host: String,
    clock: Arc<dyn Clock>,
    counts: [AtomicU64; COUNTS.len()],
    last_error: Mutex<Option<String>>,
    standing: Mutex<(Standing, Option<Timestamp>)>,
}

impl Report {
    pub(super) fn new(upstream: &str, host: &str, clock: Arc<dyn Clock>) -> Self {
        Self {
            upstream: upstream.to_owned(),
            host: host.to_owned(),
            clock,
            counts: Default::default(),
            last_error: Mutex::default(),
            standing: Mutex::new((Standing::Unknown, None)),
        }
    }

    /// The upstream's configured name.
    pub(super) fn upstream(&self) -> &str {
        &self.upstream
    }

    /// Counts a call, and keeps what went wrong.
    pub(super) fn called<T>(&self, call: Call, called: &Called<T>) {
        let count = match called {
            Called::Answered(_) => Count::Answered,
            Called::NeverSent(_) => Count::NeverSent,
            Called::Unknown(Unknown::TimedOut) => Count::TimedOut,
            Called::Unknown(Unknown::ConnectionCut) => Count::Cut,
            Called::Unknown(_) => Count::Garbled,
        };
        if !matches!(called, Called::NeverSent(_)) {
            self.count(Count::Sent);
        }
        self.count(count);
        match called {
            Called::Answered(_) => {}
            Called::NeverSent(why) => self.failed(call, &why.to_string()),
            Called::Unknown(unknown) => self.failed(call, &unknown.to_string()),
        }
    }

    /// Keeps what went wrong with a call.
    pub(super) fn failed(&self, call: Call, why: &str) {
        let (upstream, call) = (&self.upstream, call.name());
        tracing::warn!(upstream, call, why, "a call to the provider failed");
        *locked(&self.last_error) = Some(format!("{} {call}: {why}", self.clock.now().tanggal()));
    }

    pub(super) fn stands(&self, standing: Standing) {
        let mut known = locked(&self.standing);
        if known.0 == standing {
            return;
        }
        *known = (standing, Some(self.clock.now()));
        drop(known);
        let words = standing.words();
        if standing.is_up() {
            tracing::info!(upstream = self.upstream, "the provider is {words}");
        } else {
            tracing::warn!(upstream = self.upstream, "the provider: {words}");
        }
        let (upstream, line) = (self.upstream.clone(), self.host.clone());
        metrics::gauge!("esamsat_line_up", "upstream" => upstream, "line" => line)
            .set(f64::from(u8::from(standing.is_up())));
    }

    pub(super) fn standing(&self) -> (Standing, Option<Timestamp>) {
        *locked(&self.standing)
    }

    pub(super) fn counts(&self) -> BTreeMap<String, u64> {
        COUNTS
            .iter()
            .zip(&self.counts)
            .map(|(name, count)| ((*name).to_owned(), count.load(Relaxed)))
            .collect()
    }

    pub(super) fn last_error(&self) -> Option<String> {
        locked(&self.last_error).clone()
    }

    fn count(&self, count: Count) {
        self.counts[count as usize].fetch_add(1, Relaxed);
        let kind = COUNTS[count as usize];
        let (upstream, line) = (self.upstream.clone(), self.host.clone());
        metrics::counter!("esamsat_line_messages_total", "upstream" => upstream, "line" => line, "kind" => kind)
            .increment(1);
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
