//! Which answer belongs to which request, on one line.
//!
//! A request is known from before it is written until nothing of it can arrive any more. Whatever comes for it in
//! that time is told apart: its answer, a late one, one that came before, and what belongs to nothing.

use crate::profile::{MatchKey, Operation};
use domain::InvoiceNumber;
use iso8583::Message;
use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::{sync::oneshot, time::Instant};

/// Requests remembered after they ended; beyond it the oldest are forgotten early.
const REMEMBERED_MAX: usize = 200_000;

/// How the exchange of a request ended.
#[derive(Debug)]
pub(super) enum Ended {
    /// With an answer.
    Answered(Message),
    /// Not one byte of it left.
    NeverSent,
    /// The connection broke after it may have left.
    Cut,
}

/// A request that answers are matched to.
#[derive(Debug)]
pub(super) struct Request {
    pub(super) operation: Operation,
    pub(super) message: Arc<Message>,
    /// The payment's identity and invoice, if it is about one.
    pub(super) payment: Option<(String, InvoiceNumber)>,
}

#[derive(Debug)]
enum State {
    Queued(oneshot::Sender<Ended>),
    Sent(oneshot::Sender<Ended>),
    /// Nobody waits any more.
    GivenUp,
    /// With which code.
    Answered(Option<String>),
}

#[derive(Debug)]
struct Entry {
    request: Request,
    state: State,
}

#[derive(Debug)]
pub(super) struct Mux {
    table: Mutex<Table>,
    remembered_for: Duration,
}

#[derive(Debug, Default)]
struct Table {
    entries: HashMap<MatchKey, Entry>,
    expiring: VecDeque<(Instant, MatchKey)>,
}

/// What an answer turned out to be.
pub(super) enum Matched {
    /// Whoever waited has it.
    Prompt,
    /// Its request was given up.
    Late(Answered, Message),
    /// An answer had come before; whether this one says something else.
    Duplicate(Option<(Answered, Message)>),
    /// It belongs to nothing.
    Unmatched(Message),
}

/// An answer that nobody waits for, and what it answers.
pub(super) struct Answered {
    pub(super) operation: Operation,
    pub(super) request: Arc<Message>,
    pub(super) payment: Option<(String, InvoiceNumber)>,
}

impl Request {
    fn answered(&self) -> Answered {
        Answered {
            operation: self.operation,
            request: Arc::clone(&self.message),
            payment: self.payment.clone(),
        }
    }
}

impl Mux {
    pub(super) fn new(remembered_for: Duration) -> Self {
        Self { table: Mutex::default(), remembered_for }
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes a request known; refused if its key is in flight.
    pub(super) fn register(&self, key: MatchKey, request: Request) -> Option<oneshot::Receiver<Ended>> {
        let mut table = self.table();
        table.forget(Instant::now());
        if table
            .entries
            .get(&key)
            .is_some_and(|entry| matches!(entry.state, State::Queued(_) | State::Sent(_)))
        {
            return None;
        }
        let (ended, receiver) = oneshot::channel();
        let expires_at = Instant::now() + self.remembered_for;
        table.expiring.push_back((expires_at, key.clone()));
        table.entries.insert(key, Entry { request, state: State::Queued(ended) });
        Some(receiver)
    }

    /// Marks a request as written from here on, if somebody still waits for it.
    pub(super) fn sending(&self, key: &MatchKey) -> bool {
        let mut table = self.table();
        let Some(entry) = table.entries.get_mut(key) else { return false };
        match std::mem::replace(&mut entry.state, State::GivenUp) {
            State::Queued(ended) if !ended.is_closed() => {
                entry.state = State::Sent(ended);
                true
            }
            other => {
                entry.state = other;
                false
            }
        }
    }

    /// Ends a request that was not written and never will be.
    pub(super) fn never_sent(&self, key: &MatchKey) {
        if let Some(Entry { state: State::Queued(ended), .. }) = self.table().entries.remove(key) {
            drop(ended.send(Ended::NeverSent));
        }
    }

    /// Nobody waits any more. Whether it had been written by then.
    pub(super) fn give_up(&self, key: &MatchKey) -> bool {
        let mut table = self.table();
        let Some(entry) = table.entries.get_mut(key) else { return true };
        match entry.state {
            State::Queued(_) => {
                table.entries.remove(key);
                false
            }
            State::Sent(_) => {
                entry.state = State::GivenUp;
                true
            }
            State::GivenUp | State::Answered(_) => true,
        }
    }

    /// The connection is gone.
    pub(super) fn cut(&self) {
        let mut table = self.table();
        let mut unsent = Vec::new();
        for (key, entry) in &mut table.entries {
            match std::mem::replace(&mut entry.state, State::GivenUp) {
                State::Queued(ended) => {
                    drop(ended.send(Ended::NeverSent));
                    unsent.push(key.clone());
                }
                State::Sent(ended) => drop(ended.send(Ended::Cut)),
                other => entry.state = other,
            }
        }
        for key in unsent {
            table.entries.remove(&key);
        }
    }

    /// Finds what an answer belongs to.
    pub(super) fn answer(&self, key: &MatchKey, message: Message) -> Matched {
        let mut table = self.table();
        let Some(entry) = table.entries.get_mut(key) else { return Matched::Unmatched(message) };
        let code = message.get(39).map(str::to_owned);
        match std::mem::replace(&mut entry.state, State::Answered(code.clone())) {
            State::Sent(ended) => match ended.send(Ended::Answered(message)) {
                Ok(()) => Matched::Prompt,
                Err(Ended::Answered(message)) => Matched::Late(entry.request.answered(), message),
                Err(_) => unreachable!("what could not be sent comes back"),
            },
            State::GivenUp => Matched::Late(entry.request.answered(), message),
            State::Answered(before) => {
                let is_other = before != code;
                entry.state = State::Answered(before);
                Matched::Duplicate(is_other.then(|| (entry.request.answered(), message)))
            }
            // An answer before the question is none.
            State::Queued(ended) => {
                entry.state = State::Queued(ended);
                Matched::Unmatched(message)
            }
        }
    }

    /// Requests that somebody waits for.
    pub(super) fn in_flight(&self) -> usize {
        let table = self.table();
        table
            .entries
            .values()
            .filter(|entry| matches!(entry.state, State::Queued(_) | State::Sent(_)))
            .count()
    }
}

impl Table {
    fn forget(&mut self, now: Instant) {
        while let Some((expires_at, key)) = self.expiring.front() {
            if *expires_at > now && self.expiring.len() < REMEMBERED_MAX {
                break;
            }
            let is_over = |entry: &Entry| match &entry.state {
                State::Queued(ended) | State::Sent(ended) => ended.is_closed(),
                State::GivenUp | State::Answered(_) => true,
            };
            if self.entries.get(key).is_some_and(is_over) {
                self.entries.remove(key);
            }
            self.expiring.pop_front();
        }
    }
}
