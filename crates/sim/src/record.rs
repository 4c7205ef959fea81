//! What happened in a run: its trace, the branches that were reached, and what was wrong.
//!
//! The hash of a trace takes every entry with its moment, in no order: of what happens at one moment, the order in
//! which callers are woken is nobody's to say.

use domain::Timestamp;
use engine::domain;
use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::{sync::Notify, time::Instant};

/// Something that must always hold, and did not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wrong {
    /// The invoice concerned, if there is one.
    pub invoice: Option<i64>,
    /// What does not hold.
    pub what: String,
}

/// One line of a trace.
#[derive(Clone, Debug)]
struct Entry {
    at: Duration,
    invoice: Option<i64>,
    what: String,
}

/// The record of one run.
pub(crate) struct Record {
    began: Instant,
    epoch: Timestamp,
    state: Mutex<State>,
    wrong: Notify,
}

#[derive(Default)]
struct State {
    entries: Vec<Entry>,
    hash: u64,
    probes: BTreeMap<String, u64>,
    faults: u64,
    wrongs: Vec<Wrong>,
}

impl Record {
    /// A run begins now, which is `epoch` by every true clock.
    pub(crate) fn begin(epoch: Timestamp) -> Self {
        Self { began: Instant::now(), epoch, state: Mutex::default(), wrong: Notify::new() }
    }

    /// How long the run has gone on, in its own time.
    pub(crate) fn elapsed(&self) -> Duration {
        self.began.elapsed()
    }

    /// The true time.
    pub(crate) fn now(&self) -> Timestamp {
        self.epoch.plus(self.elapsed())
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a line.
    pub(crate) fn note(&self, invoice: Option<i64>, what: impl Into<String>) {
        let (at, what) = (self.elapsed(), what.into());
        let mut state = self.state();
        state.hash = state.hash.wrapping_add(hash(at, invoice, &what));
        state.entries.push(Entry { at, invoice, what });
    }

    /// Counts a branch that was reached.
    pub(crate) fn probe(&self, name: &str) {
        let mut state = self.state();
        match state.probes.get_mut(name) {
            Some(count) => *count += 1,
            None => _ = state.probes.insert(name.to_owned(), 1),
        }
    }

    /// Counts a fault, and the branch that it is.
    pub(crate) fn fault(&self, name: &str, invoice: Option<i64>, who: &str) {
        self.probe(name);
        self.state().faults += 1;
        self.note(invoice, format!("FAULT {who}: {name}"));
    }

    /// Something does not hold.
    pub(crate) fn wrong(&self, invoice: Option<i64>, what: impl Into<String>) {
        let what = what.into();
        self.note(invoice, format!("WRONG {what}"));
        self.state().wrongs.push(Wrong { invoice, what });
        self.wrong.notify_one();
    }

    /// Resolves when something does not hold.
    pub(crate) async fn went_wrong(&self) {
        self.wrong.notified().await;
    }

    pub(crate) fn wrongs(&self) -> Vec<Wrong> {
        self.state().wrongs.clone()
    }

    pub(crate) fn hash(&self) -> u64 {
        self.state().hash
    }

    pub(crate) fn faults(&self) -> u64 {
        self.state().faults
    }

    pub(crate) fn probes(&self) -> BTreeMap<String, u64> {
        self.state().probes.clone()
    }

    /// The lines about one invoice and about none; or all of them.
    pub(crate) fn timeline(&self, invoice: Option<i64>) -> Vec<String> {
        let state = self.state();
        let concerns =
            |entry: &&Entry| invoice.is_none() || entry.invoice.is_none() || entry.invoice == invoice;
        state.entries.iter().filter(concerns).map(line).collect()
    }
}

/// `   12.345 s  #7  sent`, with the invoice's last digits.
fn line(entry: &Entry) -> String {
    let invoice =
        entry.invoice.map_or_else(|| "      ".to_owned(), |number| format!("#{:<5}", number % 100_000));
    format!("{:>9.3} s  {invoice}  {}", entry.at.as_secs_f64(), entry.what)
}

fn hash(at: Duration, invoice: Option<i64>, what: &str) -> u64 {
    let head = at.as_nanos().to_le_bytes().into_iter().chain(invoice.unwrap_or(0).to_le_bytes());
    head.chain(what.bytes()).fold(0xCBF2_9CE4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01B3)
    })
}
