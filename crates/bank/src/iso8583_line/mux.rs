//! Which answer belongs to which request, on one line.
//!
//! A request is known from before it is written until nothing of it can arrive any more. Whatever comes for it in
//! that time is told apart: its answer, a late one, one that came before, and what belongs to nothing.
//!
//! A question about a payment may be asked again with the same key. What comes then may be an answer to the one before,
//! which is told with it: for what was not found then may have been done since.
//!
//! What is under way is never forgotten; what ended is, after its time, or when there is too much of it. Answers that
//! came crowd out no request that still waits for a late one.

use crate::{
    locked,
    profile::{MatchKey, Operation},
};
use domain::InvoiceNumber;
use iso8583::Message;
use std::{
    collections::{HashMap, VecDeque},
    mem,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};
use tokio::{sync::oneshot, time::Instant};

/// Requests remembered after they were given up, and as many after they were answered; beyond it the oldest are
/// forgotten early.
const REMEMBERED_MAX: usize = 100_000;

/// How the exchange of a request ended.
#[derive(Debug)]
pub(super) enum Ended {
    /// With an answer.
    Answered(Box<Heard>),
    /// With an answer that cannot be read: what is wrong, and where.
    Garbled(String),
    /// Not one byte of it left.
    NeverSent,
    /// The connection broke after it may have left.
    Cut,
}

/// An answer that was waited for.
#[derive(Debug)]
pub(super) struct Heard {
    pub(super) message: Message,
    /// Whether no answer to an earlier request with the same key can come any more.
    pub(super) is_its_own: bool,
}

/// A request that answers are matched to.
#[derive(Clone, Debug)]
pub(super) struct Request {
    pub(super) operation: Operation,
    pub(super) message: Arc<Message>,
    /// The payment's identity and invoice, if it is about one.
    pub(super) payment: Option<(String, InvoiceNumber)>,
}

/// One registration of a key: the same key may come again.
#[derive(Clone, Debug)]
pub(super) struct Ticket {
    key: MatchKey,
    turn: u64,
}

#[derive(Debug)]
enum State {
    Queued(oneshot::Sender<Ended>),
    Sent(oneshot::Sender<Ended>),
    /// Nobody waits any more.
    GivenUp,
    /// With which code, if it could be read.
    Answered(Option<String>),
}

#[derive(Debug)]
struct Entry {
    turn: u64,
    request: Request,
    state: State,
    /// Until when an answer may be one to an earlier request with the same key.
    earlier_until: Option<Instant>,
    /// When nobody waited for it any more.
    ended_at: Option<Instant>,
    /// Whether another answer than the first was told.
    is_contradicted: bool,
}

#[derive(Debug)]
pub(super) struct Mux {
    table: Mutex<Table>,
    remembered_for: Duration,
    repeated_for: Duration,
}

#[derive(Debug, Default)]
struct Table {
    entries: HashMap<MatchKey, Entry>,
    turns: u64,
    in_flight: usize,
    given_up: VecDeque<(Instant, Ticket)>,
    answered: VecDeque<(Instant, Ticket)>,
}

/// What an answer turned out to be.
pub(super) enum Matched {
    /// Whoever waited has it.
    Prompt,
    /// Its request was given up.
    Late(Request, Message),
    /// An answer had come before; what it answers, if it is the first that says something else.
    Duplicate(Option<(Request, Message)>),
    /// It belongs to nothing.
    Unmatched(Message),
}

impl Mux {
    /// An answer may come so long after its request was given up, and again so long after it came.
    pub(super) fn new(remembered_for: Duration, repeated_for: Duration) -> Self {
        Self { table: Mutex::default(), remembered_for, repeated_for }
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        locked(&self.table)
    }

    /// Makes a request known; refused if its key is in flight.
    pub(super) fn register(
        &self,
        key: MatchKey,
        request: Request,
    ) -> Option<(Ticket, oneshot::Receiver<Ended>)> {
        let mut table = self.table();
        table.forget(Instant::now());
        let before = table.entries.get(&key);
        if before.is_some_and(Entry::is_in_flight) {
            return None;
        }
        let earlier_until =
            before.and_then(|entry| entry.answered_until(self.remembered_for, self.repeated_for));
        let (ended, receiver) = oneshot::channel();
        table.turns += 1;
        table.in_flight += 1;
        let turn = table.turns;
        table.entries.insert(
            key.clone(),
            Entry {
                turn,
                request,
                state: State::Queued(ended),
                earlier_until,
                ended_at: None,
                is_contradicted: false,
            },
        );
        Some((Ticket { key, turn }, receiver))
    }

    /// Marks a request as written from here on, if somebody still waits for it.
    pub(super) fn sending(&self, ticket: &Ticket) -> bool {
        let mut table = self.table();
        let Some(entry) = table.entry(ticket) else { return false };
        match mem::replace(&mut entry.state, State::GivenUp) {
            State::Queued(ended) => {
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
    pub(super) fn never_sent(&self, ticket: &Ticket) {
        let mut table = self.table();
        if let Some(ended) = table.take_queued(ticket) {
            drop(ended.send(Ended::NeverSent));
        }
    }

    /// Nobody waits any more. Whether it had been written by then; if not, it never will be.
    pub(super) fn give_up(&self, ticket: &Ticket) -> bool {
        let mut table = self.table();
        if table.take_queued(ticket).is_some() {
            return false;
        }
        if let Some(entry) = table.entry(ticket)
            && matches!(entry.state, State::Sent(_))
        {
            let now = Instant::now();
            (entry.state, entry.ended_at) = (State::GivenUp, Some(now));
            table.in_flight -= 1;
            table.given_up.push_back((now + self.remembered_for, ticket.clone()));
        }
        true
    }

    /// The connection is gone.
    pub(super) fn cut(&self) {
        let mut table = self.table();
        let in_flight = table.entries.iter().filter(|(_, entry)| entry.is_in_flight());
        let tickets: Vec<_> =
            in_flight.map(|(key, entry)| Ticket { key: key.clone(), turn: entry.turn }).collect();
        let now = Instant::now();
        let until = now + self.remembered_for;
        for ticket in tickets {
            if let Some(ended) = table.take_queued(&ticket) {
                drop(ended.send(Ended::NeverSent));
            } else if let Some(entry) = table.entry(&ticket)
                && let State::Sent(ended) = mem::replace(&mut entry.state, State::GivenUp)
            {
                entry.ended_at = Some(now);
                drop(ended.send(Ended::Cut));
                table.in_flight -= 1;
                table.given_up.push_back((until, ticket));
            }
        }
    }

    /// Finds what an answer belongs to.
    pub(super) fn answer(&self, key: &MatchKey, message: Message) -> Matched {
        let mut table = self.table();
        let Some(entry) = table.entries.get_mut(key) else { return Matched::Unmatched(message) };
        let code = message.get(39).map(str::to_owned);
        let now = Instant::now();
        match mem::replace(&mut entry.state, State::GivenUp) {
            State::Sent(ended) => {
                (entry.state, entry.ended_at) = (State::Answered(code), Some(now));
                let is_its_own = entry.earlier_until.is_none_or(|until| until <= now);
                let request = entry.request.clone();
                table.note_answered(key, now + self.remembered_for);
                match ended.send(Ended::Answered(Box::new(Heard { message, is_its_own }))) {
                    Ok(()) => Matched::Prompt,
                    Err(Ended::Answered(heard)) => Matched::Late(request, heard.message),
                    Err(_) => unreachable!("what comes back is what was sent"),
                }
            }
            State::GivenUp => {
                (entry.state, entry.ended_at) = (State::Answered(code), Some(now));
                Matched::Late(entry.request.clone(), message)
            }
            State::Answered(before) => {
                let is_news = before != code && !entry.is_contradicted;
                entry.state = State::Answered(before);
                entry.is_contradicted |= is_news;
                Matched::Duplicate(is_news.then(|| (entry.request.clone(), message)))
            }
            // An answer before the question is none.
            State::Queued(ended) => {
                entry.state = State::Queued(ended);
                Matched::Unmatched(message)
            }
        }
    }

    /// Tells whoever waits that the answer cannot be read; whether anybody does. A readable one may still follow.
    pub(super) fn garbled(&self, key: &MatchKey, what: String) -> bool {
        let mut table = self.table();
        let Some(entry) = table.entries.get_mut(key) else { return false };
        match mem::replace(&mut entry.state, State::Answered(None)) {
            State::Sent(ended) => {
                let now = Instant::now();
                entry.ended_at = Some(now);
                table.note_answered(key, now + self.remembered_for);
                ended.send(Ended::Garbled(what)).is_ok()
            }
            other => {
                entry.state = other;
                false
            }
        }
    }

    /// Requests that somebody waits for.
    pub(super) fn in_flight(&self) -> usize {
        self.table().in_flight
    }
}

impl Entry {
    fn is_in_flight(&self) -> bool {
        matches!(self.state, State::Queued(_) | State::Sent(_))
    }

    /// Until when an answer may still come: to this request, or to one before it.
    fn answered_until(&self, remembered_for: Duration, repeated_for: Duration) -> Option<Instant> {
        let is_answered = matches!(self.state, State::Answered(_));
        let own = self.ended_at.map(|at| at + if is_answered { repeated_for } else { remembered_for });
        own.max(self.earlier_until)
    }
}

impl Table {
    /// What a ticket stands for, unless its key was given out again.
    fn entry(&mut self, ticket: &Ticket) -> Option<&mut Entry> {
        self.entries.get_mut(&ticket.key).filter(|entry| entry.turn == ticket.turn)
    }

    /// Forgets a request that was not written, but not the ones before it; who waits for it.
    fn take_queued(&mut self, ticket: &Ticket) -> Option<oneshot::Sender<Ended>> {
        let entry = self.entry(ticket)?;
        let ended = match mem::replace(&mut entry.state, State::GivenUp) {
            State::Queued(ended) => ended,
            other => {
                entry.state = other;
                return None;
            }
        };
        match entry.earlier_until {
            Some(until) => self.given_up.push_back((until, ticket.clone())),
            None => drop(self.entries.remove(&ticket.key)),
        }
        self.in_flight -= 1;
        Some(ended)
    }

    fn note_answered(&mut self, key: &MatchKey, until: Instant) {
        self.in_flight -= 1;
        if let Some(entry) = self.entries.get(key) {
            let ticket = Ticket { key: key.clone(), turn: entry.turn };
            self.answered.push_back((until, ticket));
        }
    }

    fn forget(&mut self, now: Instant) {
        for remembered in [&mut self.given_up, &mut self.answered] {
            while let Some((expires_at, ticket)) = remembered.front() {
                if *expires_at > now && remembered.len() <= REMEMBERED_MAX {
                    break;
                }
                let is_its_own = |entry: &Entry| entry.turn == ticket.turn && !entry.is_in_flight();
                if self.entries.get(&ticket.key).is_some_and(is_its_own) {
                    self.entries.remove(&ticket.key);
                }
                remembered.pop_front();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::profile::{LineProfile, Value, Values};

    const HORIZON: Duration = Duration::from_secs(150);
    const REPEATED: Duration = Duration::from_secs(30);

    struct Fixture {
        mux: Mux,
        profile: LineProfile,
    }

    fn fixture() -> Fixture {
        Fixture { mux: Mux::new(HORIZON, REPEATED), profile: LineProfile::builtin("contoh-37-80").unwrap() }
    }

    impl Fixture {
        fn echo(&self, trace: &str) -> Message {
            let values = Values::new()
                .with(Value::Transmission, "1125052229")
                .with(Value::Trace, trace)
                .with(Value::Terminal, "ESAM0001");
            self.profile.compose(Operation::Echo, &values, false).unwrap()
        }

        fn register(&self, trace: &str) -> Option<(Ticket, oneshot::Receiver<Ended>)> {
            let message = self.echo(trace);
            let key = self.profile.match_key(&message).unwrap();
            let request = Request { operation: Operation::Echo, message: Arc::new(message), payment: None };
            self.mux.register(key, request)
        }

        fn sent(&self, trace: &str) -> (Ticket, oneshot::Receiver<Ended>) {
            let (ticket, ended) = self.register(trace).unwrap();
            assert!(self.mux.sending(&ticket));
            (ticket, ended)
        }

        fn answer(&self, trace: &str, code: &str) -> Matched {
            let answer = self.profile.answer(Operation::Echo, &self.echo(trace), code, &Values::new());
            let answer = answer.unwrap();
            self.mux.answer(&self.profile.match_key(&answer).unwrap(), answer)
        }
    }

    #[tokio::test(start_paused = true)]
    async fn each_answer_finds_its_request_in_whatever_order() {
        let f = fixture();
        let (_, one) = f.sent("000001");
        let (_, two) = f.sent("000002");
        assert_eq!(f.mux.in_flight(), 2);
        assert!(matches!(f.answer("000002", "00"), Matched::Prompt));
        assert!(matches!(f.answer("000001", "96"), Matched::Prompt));
        assert!(matches!(one.await, Ok(Ended::Answered(heard)) if heard.message.get(39) == Some("96")));
        assert!(matches!(two.await, Ok(Ended::Answered(heard)) if heard.message.get(39) == Some("00")));
        assert!(matches!(f.answer("000003", "00"), Matched::Unmatched(_)));
        assert_eq!(f.mux.in_flight(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_key_in_flight_is_not_given_out_twice() {
        let f = fixture();
        let (ticket, _ended) = f.register("000001").unwrap();
        assert!(f.register("000001").is_none(), "queued");
        assert!(f.mux.sending(&ticket) && !f.mux.sending(&ticket), "written once");
        assert!(f.register("000001").is_none(), "sent");
        assert!(f.mux.give_up(&ticket));
        let (again, _ended) = f.register("000001").unwrap();
        assert!(!f.mux.sending(&ticket), "the first one's turn is over");
        assert!(f.mux.sending(&again));
        assert_eq!(f.mux.in_flight(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn late_and_second_answers_are_told_apart_for_as_long_as_they_may_come() {
        let f = fixture();
        let (ticket, _ended) = f.sent("000001");
        assert!(f.mux.give_up(&ticket), "it was written");
        tokio::time::advance(HORIZON.checked_sub(Duration::from_secs(1)).unwrap()).await;
        drop(f.register("000009"));
        assert!(matches!(f.answer("000001", "00"), Matched::Late(..)));
        assert!(matches!(f.answer("000001", "00"), Matched::Duplicate(None)));
        assert!(matches!(f.answer("000001", "96"), Matched::Duplicate(Some(_))), "it says something else");
        assert!(matches!(f.answer("000001", "96"), Matched::Duplicate(None)), "which is told once");
        tokio::time::advance(Duration::from_secs(2)).await;
        drop(f.register("000008"));
        assert!(matches!(f.answer("000001", "00"), Matched::Unmatched(_)), "forgotten");
    }

    #[tokio::test(start_paused = true)]
    async fn a_repeat_is_remembered_for_its_own_time() {
        let f = fixture();
        let (first, _ended) = f.sent("000001");
        f.mux.give_up(&first);
        tokio::time::advance(HORIZON / 2).await;
        let (second, _ended) = f.sent("000001");
        f.mux.give_up(&second);
        tokio::time::advance(HORIZON * 3 / 4).await;
        drop(f.register("000009"));
        assert!(matches!(f.answer("000001", "00"), Matched::Late(..)));
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_is_told_with_whether_it_may_be_one_to_an_earlier_question() {
        let f = fixture();
        let heard = async |pause: Duration| {
            tokio::time::advance(pause).await;
            let (_, ended) = f.sent("000001");
            assert!(matches!(f.answer("000001", "48"), Matched::Prompt));
            let Ok(Ended::Answered(heard)) = ended.await else { panic!("it is answered") };
            heard.is_its_own
        };
        assert!(heard(Duration::ZERO).await);
        assert!(!heard(REPEATED / 2).await, "the first one's answer may come again");
        assert!(heard(REPEATED).await);
        let (ticket, _ended) = f.sent("000001");
        f.mux.give_up(&ticket);
        let (ticket, _ended) = f.register("000001").unwrap();
        assert!(!f.mux.give_up(&ticket), "never sent, and the one before is not forgotten");
        assert!(!heard(HORIZON / 2).await);
        assert!(!heard(HORIZON / 4).await, "what was answered may be the one before");
        assert!(heard(HORIZON / 2).await);
    }

    #[tokio::test(start_paused = true)]
    async fn a_broken_connection_tells_what_may_have_left_from_what_did_not() {
        let f = fixture();
        let (_, sent) = f.sent("000001");
        let (queued_ticket, queued) = f.register("000002").unwrap();
        f.mux.cut();
        assert!(matches!(sent.await, Ok(Ended::Cut)));
        assert!(matches!(queued.await, Ok(Ended::NeverSent)));
        assert!(!f.mux.sending(&queued_ticket), "and never will be");
        assert!(matches!(f.answer("000001", "00"), Matched::Late(..)), "on the next connection");
        assert!(matches!(f.answer("000002", "00"), Matched::Unmatched(_)));
        assert_eq!(f.mux.in_flight(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_given_up_before_it_was_written_is_never_written() {
        let f = fixture();
        let (ticket, _ended) = f.register("000001").unwrap();
        assert!(!f.mux.give_up(&ticket));
        assert!(!f.mux.sending(&ticket));
        let (ticket, ended) = f.register("000001").unwrap();
        assert!(matches!(f.answer("000001", "00"), Matched::Unmatched(_)), "no answer precedes its question");
        f.mux.never_sent(&ticket);
        assert!(matches!(ended.await, Ok(Ended::NeverSent)));
        assert_eq!(f.mux.in_flight(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_readable_answer_may_follow_one_that_is_not() {
        let f = fixture();
        let (ticket, ended) = f.sent("000001");
        let key = f.profile.match_key(&f.echo("000001")).unwrap();
        assert!(f.mux.garbled(&key, "field 48 at offset 9".to_owned()));
        assert!(!f.mux.garbled(&key, "again".to_owned()), "nobody waits any more");
        assert!(matches!(ended.await, Ok(Ended::Garbled(what)) if what == "field 48 at offset 9"));
        assert!(f.mux.give_up(&ticket), "too late to take back");
        assert!(matches!(f.answer("000001", "00"), Matched::Duplicate(Some(_))));
    }

    #[tokio::test(start_paused = true)]
    async fn memory_is_bounded_and_what_waits_for_a_late_answer_stays() {
        let f = fixture();
        let (ticket, _ended) = f.sent("000000");
        f.mux.give_up(&ticket);
        for number in 1..=REMEMBERED_MAX + 10 {
            let trace = format!("{number:06}");
            let _waiting = f.sent(&trace);
            assert!(matches!(f.answer(&trace, "00"), Matched::Prompt));
        }
        assert!(f.mux.table().entries.len() <= REMEMBERED_MAX + 2);
        assert!(matches!(f.answer("000000", "00"), Matched::Late(..)));
    }
}
