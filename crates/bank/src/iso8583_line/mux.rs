//! Which answer belongs to which request, on one line.
//!
//! A request is known from before it is written until nothing of it can arrive any more. Whatever comes for it in
//! that time is told apart: its answer, a late one, one that came before, and what belongs to nothing.
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

/// Answers to one request with different codes that are told.
const TOLD_MAX: usize = 8;

/// How the exchange of a request ended.
#[derive(Debug)]
pub(super) enum Ended {
    /// With an answer.
    Answered(Message),
    /// With an answer that cannot be read: what is wrong, and where.
    Garbled(String),
    /// Not one byte of it left.
    NeverSent,
    /// The connection broke after it may have left.
    Cut,
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
    /// With which codes, as far as they could be read: the first answer's, and those of others that were told.
    Answered(Vec<Option<String>>),
}

#[derive(Debug)]
struct Entry {
    turn: u64,
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
    turns: u64,
    in_flight: usize,
    given_up: VecDeque<(Instant, Ticket)>,
    answered: VecDeque<(Instant, Ticket)>,
}

/// Another answer to a request that was answered.
pub(super) struct Other {
    pub(super) request: Request,
    pub(super) message: Message,
    /// The first answer's code, if that could be read.
    pub(super) first: Option<String>,
}

/// What an answer turned out to be.
pub(super) enum Matched {
    /// Whoever waited has it.
    Prompt,
    /// Its request was given up.
    Late(Request, Message),
    /// An answer had come before; this one, if none with its code was told.
    Duplicate(Option<Other>),
    /// It belongs to nothing.
    Unmatched(Message),
}

impl Mux {
    /// An answer may come so long after its request was given up.
    pub(super) fn new(remembered_for: Duration) -> Self {
        Self { table: Mutex::default(), remembered_for }
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
        if table.entries.get(&key).is_some_and(Entry::is_in_flight) {
            return None;
        }
        let (ended, receiver) = oneshot::channel();
        table.turns += 1;
        table.in_flight += 1;
        let turn = table.turns;
        table.entries.insert(key.clone(), Entry { turn, request, state: State::Queued(ended) });
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
        if let Some(State::Queued(ended)) = table.take_queued(ticket) {
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
            entry.state = State::GivenUp;
            table.in_flight -= 1;
            table.given_up.push_back((Instant::now() + self.remembered_for, ticket.clone()));
        }
        true
    }

    /// The connection is gone.
    pub(super) fn cut(&self) {
        let mut table = self.table();
        let in_flight = table.entries.iter().filter(|(_, entry)| entry.is_in_flight());
        let mut tickets: Vec<_> =
            in_flight.map(|(key, entry)| Ticket { key: key.clone(), turn: entry.turn }).collect();
        tickets.sort_unstable_by_key(|ticket| ticket.turn);
        let until = Instant::now() + self.remembered_for;
        for ticket in tickets {
            if let Some(State::Queued(ended)) = table.take_queued(&ticket) {
                drop(ended.send(Ended::NeverSent));
            } else if let Some(entry) = table.entry(&ticket)
                && let State::Sent(ended) = mem::replace(&mut entry.state, State::GivenUp)
            {
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
        match mem::replace(&mut entry.state, State::GivenUp) {
            State::Sent(ended) => {
                entry.state = State::Answered(vec![code]);
                let request = entry.request.clone();
                table.note_answered(key, Instant::now() + self.remembered_for);
                match ended.send(Ended::Answered(message)) {
                    Ok(()) => Matched::Prompt,
                    Err(Ended::Answered(message)) => Matched::Late(request, message),
                    Err(_) => unreachable!("what comes back is what was sent"),
                }
            }
            State::GivenUp => {
                entry.state = State::Answered(vec![code]);
                Matched::Late(entry.request.clone(), message)
            }
            State::Answered(mut codes) => {
                let is_news = !codes.contains(&code) && codes.len() < TOLD_MAX;
                let first = codes[0].clone();
                if is_news {
                    codes.push(code);
                }
                entry.state = State::Answered(codes);
                let news = is_news.then(|| Other { request: entry.request.clone(), message, first });
                Matched::Duplicate(news)
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
        match mem::replace(&mut entry.state, State::Answered(vec![None])) {
            State::Sent(ended) => {
                table.note_answered(key, Instant::now() + self.remembered_for);
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
}

impl Table {
    /// What a ticket stands for, unless its key was given out again.
    fn entry(&mut self, ticket: &Ticket) -> Option<&mut Entry> {
        self.entries.get_mut(&ticket.key).filter(|entry| entry.turn == ticket.turn)
    }

    /// Forgets a request that was not written.
    fn take_queued(&mut self, ticket: &Ticket) -> Option<State> {
        let is_queued = matches!(self.entry(ticket)?.state, State::Queued(_));
        let entry = is_queued.then(|| self.entries.remove(&ticket.key))??;
        self.in_flight -= 1;
        Some(entry.state)
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

    struct Fixture {
        mux: Mux,
        profile: LineProfile,
    }

    fn fixture() -> Fixture {
        Fixture { mux: Mux::new(HORIZON), profile: LineProfile::builtin("contoh-37-80").unwrap() }
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
        assert!(matches!(one.await, Ok(Ended::Answered(answer)) if answer.get(39) == Some("96")));
        assert!(matches!(two.await, Ok(Ended::Answered(answer)) if answer.get(39) == Some("00")));
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
        assert!(
            matches!(f.answer("000001", "54"), Matched::Duplicate(Some(other)) if other.first.as_deref() == Some("00"))
        );
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
