//! How a line, or a provider, stands: counts, the state since when, and what last went wrong; for people and monitoring.

use crate::{LineState, locked};
use domain::{Clock, Timestamp};
use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

/// How often monitoring is told.
pub(crate) const PUBLISH: Duration = Duration::from_secs(1);

/// What is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Count {
    Sent,
    Answered,
    NeverSent,
    TimedOut,
    Cut,
    Late,
    Duplicate,
    Unmatched,
    Garbled,
    Connected,
}

impl Count {
    const fn name(self) -> &'static str {
        match self {
            Self::Sent => "sent",
            Self::Answered => "answered",
            Self::NeverSent => "never_sent",
            Self::TimedOut => "timed_out",
            Self::Cut => "cut",
            Self::Late => "late",
            Self::Duplicate => "duplicate",
            Self::Unmatched => "unmatched",
            Self::Garbled => "garbled",
            Self::Connected => "connected",
        }
    }
}

pub(crate) struct Report {
    upstream: String,
    line: String,
    clock: Arc<dyn Clock>,
    counts: Vec<(Count, AtomicU64, metrics::Counter)>,
    is_up: metrics::Gauge,
    in_flight: metrics::Gauge,
    standing: Mutex<Standing>,
}

struct Standing {
    state: &'static str,
    since: Option<Timestamp>,
    last_error: Option<String>,
}

impl Report {
    /// Of a line of an upstream, which counts these.
    pub(crate) fn new(upstream: &str, line: &str, clock: Arc<dyn Clock>, counts: &[Count]) -> Self {
        let names = [("upstream", upstream.to_owned()), ("line", line.to_owned())];
        let counter = |count: Count| {
            let names = names.iter().cloned().chain([("kind", count.name().to_owned())]).collect::<Vec<_>>();
            metrics::counter!("esamsat_line_messages_total", &names)
        };
        Self {
            upstream: upstream.to_owned(),
            line: line.to_owned(),
            clock,
            counts: counts.iter().map(|count| (*count, AtomicU64::new(0), counter(*count))).collect(),
            is_up: metrics::gauge!("esamsat_line_up", &names),
            in_flight: metrics::gauge!("esamsat_line_in_flight", &names),
            standing: Mutex::new(Standing { state: "nothing heard yet", since: None, last_error: None }),
        }
    }

    /// The upstream's configured name.
    pub(crate) fn upstream(&self) -> &str {
        &self.upstream
    }

    pub(crate) fn count(&self, counted: Count) {
        if let Some((_, count, metric)) = self.counts.iter().find(|(count, ..)| *count == counted) {
            count.fetch_add(1, Relaxed);
            metric.increment(1);
        }
    }

    /// How it stands from now on; whether that is news.
    pub(crate) fn stands(&self, state: &'static str) -> bool {
        let mut standing = locked(&self.standing);
        let is_news = standing.state != state;
        if is_news {
            (standing.state, standing.since) = (state, Some(self.clock.now()));
        }
        is_news
    }

    /// Keeps what went wrong, and tells the log.
    pub(crate) fn failed(&self, error: &str) {
        tracing::warn!(upstream = self.upstream, line = self.line, "{error}");
        locked(&self.standing).last_error = Some(format!("{}: {error}", self.clock.now().tanggal()));
    }

    /// Tells monitoring.
    pub(crate) fn publish(&self, is_up: bool, in_flight: usize) {
        self.is_up.set(f64::from(u8::from(is_up)));
        self.in_flight.set(f64::from(u32::try_from(in_flight).unwrap_or(u32::MAX)));
    }

    /// Tells people.
    pub(crate) fn line(&self, is_up: bool, in_flight: usize) -> LineState {
        let standing = locked(&self.standing);
        let counts =
            self.counts.iter().map(|(count, number, _)| (count.name().to_owned(), number.load(Relaxed)));
        LineState {
            name: self.line.clone(),
            is_up,
            state: standing.state.to_owned(),
            since: standing.since,
            in_flight,
            business_date: None,
            counts: counts.collect(),
            last_error: standing.last_error.clone(),
        }
    }
}
