//! One line: a connection that is kept up, its session, and the requests on it.
//!
//! ```text
//! wait for the lease → connect → sign on → up ──silent──► echo test
//!        ▲                                 │ broken, no echo, lease lost, told to stop: signed off if told to
//!        └──────── back-off ◄──────────────┘ what was written is unknown, what was not is never sent
//! ```
//!
//! One task writes and looks at the clocks and the lease immediately before it does; one reads; one talks about the
//! session, and is cut short by whatever ends it. Nothing waits with a lock in its hands.
//!
//! What is written leaves the gateway soon or never: a write that blocks, and bytes that the bank does not
//! acknowledge, end the connection long before the horizon does.

use super::{
    Shared,
    connect::{Reading, Writing, connect},
    late,
    mux::{Ended, Matched, Mux, Request, Ticket},
    settings::OneLine,
    traces::{BLOCK, Traces},
};
use crate::{
    Holds, LineState, Unknown,
    breaker::Breaker,
    core_banking::hash,
    frame::{Frame, FrameError},
    profile::{Meaning, Operation, Part, Value, Values},
};
use bytes::BytesMut;
use domain::{InvoiceNumber, Terminal, Timestamp, record::IncidentKind};
use futures::StreamExt;
use iso8583::Message;
use std::{
    collections::BTreeMap,
    convert::Infallible,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};
use tokio::{
    io::AsyncWriteExt,
    sync::{Semaphore, mpsc},
    time::{Instant, sleep, timeout, timeout_at},
};
use tokio_util::{codec::FramedRead, sync::CancellationToken};

/// Requests that one write takes along.
const BATCH_MAX: usize = 256;

/// The pause before a connection is tried again, at first and at most.
const PAUSE: Duration = Duration::from_millis(200);
const PAUSE_MAX: Duration = Duration::from_secs(10);

/// How often a line that has signed on looks whether its first trace numbers are there.
const NUMBERS_PAUSE: Duration = Duration::from_millis(5);

/// A connection that lasted so long was a good one; after others the pause grows.
const GOOD: Duration = Duration::from_secs(1);

/// How often a line looks whether it has its lease, and whether anything was heard.
const LOOK: Duration = Duration::from_millis(100);

/// How long a write may block, and what was written may stay unacknowledged, at most.
const UNSENT_MAX: Duration = Duration::from_secs(5);

/// Incidents of one kind that belong to no invoice come at least so far apart; all are counted.
const INCIDENT_PAUSE: Duration = Duration::from_secs(10);

/// Before which moments a request that moves money may be written, by both clocks.
pub(super) type SendBefore = Option<(Timestamp, Instant)>;

pub(super) struct Line {
    pub(super) terminal: Terminal,
    addresses: Vec<String>,
    settings: OneLine,
    shared: Arc<Shared>,
    pub(super) places: Arc<Semaphore>,
    pub(super) inquiries: Semaphore,
    pub(super) traces: Traces,
    pub(super) breaker: Breaker,
    mux: Mux,
    link: Mutex<Option<mpsc::UnboundedSender<Outgoing>>>,
    is_up: AtomicBool,
    must_sign_on: AtomicBool,
    heard_at: Mutex<Instant>,
    raised_at: Mutex<BTreeMap<&'static str, Instant>>,
    standing: Mutex<Standing>,
    counts: [(AtomicU64, metrics::Counter); COUNTS.len()],
}

struct Standing {
    state: &'static str,
    since: Timestamp,
    last_error: Option<String>,
}

/// What goes out: a request that is matched, or an answer to the bank.
enum Outgoing {
    Request { ticket: Ticket, bytes: Vec<u8>, send_before: SendBefore },
    Answer(Vec<u8>),
}

#[derive(Clone, Copy)]
pub(super) enum Count {
    Sent,
    Answered,
    TimedOut,
    Late,
    Duplicate,
    Unmatched,
    Garbled,
    Connected,
}

const COUNTS: [&str; 8] =
    ["sent", "answered", "timed_out", "late", "duplicate", "unmatched", "garbled", "connected"];

/// What is asked, until when.
pub(super) struct Asking {
    pub(super) operation: Operation,
    pub(super) message: Arc<Message>,
    /// The payment's identity and invoice, if it is about one.
    pub(super) payment: Option<(String, InvoiceNumber)>,
    pub(super) send_before: SendBefore,
    /// When an answer is of no use any more to whoever asks.
    pub(super) deadline: Instant,
}

/// How an exchange ended.
pub(super) enum Exchanged {
    Answered(Message),
    NeverSent,
    /// The dialect cannot say it; nothing was sent.
    Unfit(String),
    /// Without a usable answer, after it may have left.
    Unknown(Unknown),
}

/// A request that is waited for. Whoever stops waiting, in whatever way, gives it up.
struct Waiting<'a> {
    line: &'a Line,
    operation: Operation,
    ticket: Ticket,
    deadline: Instant,
    is_over: bool,
}

impl Line {
    pub(super) fn new(
        shared: &Arc<Shared>,
        terminal: Terminal,
        settings: OneLine,
        in_flight_max: usize,
    ) -> Self {
        let profile = &shared.profile;
        // A message may still be in a buffer when its horizon begins.
        let remembered_for = profile.horizon + profile.answer_timeout;
        Self {
            terminal,
            addresses: settings.addresses.clone(),
            settings,
            places: Arc::new(Semaphore::new(in_flight_max)),
            inquiries: Semaphore::new(in_flight_max),
            traces: Traces::new(terminal, remembered_for),
            breaker: Breaker::new(profile.answer_timeout),
            mux: Mux::new(remembered_for),
            link: Mutex::default(),
            is_up: AtomicBool::new(false),
            must_sign_on: AtomicBool::new(false),
            heard_at: Mutex::new(Instant::now()),
            raised_at: Mutex::default(),
            standing: Mutex::new(Standing {
                state: "not begun",
                since: shared.clock.now(),
                last_error: None,
            }),
            counts: COUNTS.map(|kind| {
                let (upstream, line) = (shared.name.clone(), terminal.to_string());
                (AtomicU64::new(0), metrics::counter!("esamsat_line_messages_total", "upstream" => upstream, "line" => line, "kind" => kind))
            }),
            shared: Arc::clone(shared),
        }
    }

    /// Whether requests about bills go through.
    pub(super) fn is_up(&self) -> bool {
        self.is_up.load(Relaxed)
    }

    /// Whether the terminal is this gateway's.
    pub(super) fn holds(&self) -> Holds {
        self.shared.desk.get().map_or(Holds::No, |desk| desk.holds(self.terminal))
    }

    pub(super) fn count(&self, count: Count) {
        let (count, metric) = &self.counts[count as usize];
        count.fetch_add(1, Relaxed);
        metric.increment(1);
    }

    fn stand(&self, state: &'static str, error: Option<String>) {
        let mut standing = locked(&self.standing);
        if standing.state != state {
            *standing =
                Standing { state, since: self.shared.clock.now(), last_error: standing.last_error.take() };
        }
        if let Some(error) = error {
            tracing::warn!(upstream = self.shared.name, line = %self.terminal, error, "{state}");
            standing.last_error = Some(error);
        }
    }

    /// Tells monitoring how it stands.
    pub(super) fn publish(&self) {
        let names = || (self.shared.name.clone(), self.terminal.to_string());
        let (upstream, line) = names();
        metrics::gauge!("esamsat_line_up", "upstream" => upstream, "line" => line)
            .set(f64::from(u8::from(self.is_up() && !self.breaker.is_open())));
        let (upstream, line) = names();
        metrics::gauge!("esamsat_line_in_flight", "upstream" => upstream, "line" => line)
            .set(f64::from(u32::try_from(self.mux.in_flight()).unwrap_or(u32::MAX)));
    }

    /// Raises an incident that belongs to no invoice, unless it was told a moment ago.
    fn raise(&self, kind: IncidentKind, what: &str) {
        let now = Instant::now();
        {
            let mut raised_at = locked(&self.raised_at);
            let before = raised_at.get(kind.name());
            if before.is_some_and(|at| now.duration_since(*at) < INCIDENT_PAUSE) {
                return;
            }
            raised_at.insert(kind.name(), now);
        }
        self.shared.raise(None, kind, format!("line {}: {what}", self.terminal));
    }

    /// How it stands, for people.
    pub(super) fn state(&self) -> LineState {
        let standing = locked(&self.standing);
        let is_stalled = self.breaker.is_open();
        let in_flight = self.mux.in_flight();
        let counts: BTreeMap<String, u64> = COUNTS
            .iter()
            .zip(&self.counts)
            .map(|(name, (count, _))| ((*name).to_owned(), count.load(Relaxed)))
            .collect();
        LineState {
            name: self.terminal.to_string(),
            is_up: self.is_up() && !is_stalled,
            state: if is_stalled && self.is_up() {
                "stalled: the bank does not answer"
            } else {
                standing.state
            }
            .to_owned(),
            since: Some(standing.since),
            in_flight,
            business_date: Some(self.shared.business_date(self.shared.clock.now()).to_string()),
            counts,
            last_error: standing.last_error.clone(),
        }
    }

    /// Keeps the line up until it is told to stop.
    pub(super) async fn run(self: Arc<Self>, stop: CancellationToken) {
        let mut failures = 0_u32;
        while !stop.is_cancelled() {
            if self.holds() == Holds::No {
                self.stand("another gateway's", None);
                if stop.run_until_cancelled(sleep(LOOK)).await.is_none() {
                    break;
                }
                continue;
            }
            self.fetch_traces();
            let address = &self.addresses[failures as usize % self.addresses.len()];
            self.stand("connecting", None);
            let connecting = connect(address, self.settings.tls.as_ref(), self.unsent_max());
            match stop.run_until_cancelled(connecting).await {
                None => break,
                Some(Ok((reading, writing))) => {
                    self.count(Count::Connected);
                    let began = Instant::now();
                    let ended = self.session(reading, writing, &stop).await;
                    self.mux.cut();
                    failures = if began.elapsed() >= GOOD { 0 } else { failures.saturating_add(1) };
                    self.stand("disconnected", ended.err());
                }
                Some(Err(error)) => {
                    failures = failures.saturating_add(1);
                    self.stand("cannot connect", Some(format!("failed to connect to {address}: {error}")));
                }
            }
            if stop.run_until_cancelled(sleep(self.pause(failures))).await.is_none() {
                break;
            }
        }
        self.stand("closed", None);
    }

    /// Doubles with every failure, and differs from line to line.
    fn pause(&self, failures: u32) -> Duration {
        let doubled = PAUSE.saturating_mul(1 << failures.min(10)).min(PAUSE_MAX);
        let jitter = hash(
            u64::from(failures) ^ self.shared.clock.now().as_millis().unsigned_abs(),
            self.terminal.as_str(),
        );
        doubled.mul_f64(0.5 + crate::core_banking::fraction(jitter) / 2.0)
    }

    /// For how long bytes may be on their way out: a small part of the horizon.
    fn unsent_max(&self) -> Duration {
        UNSENT_MAX.min(self.shared.profile.horizon / 4)
    }

    /// One connection, from sign-on to its end. The error says why it ended, if it was not told to.
    async fn session(
        self: &Arc<Self>,
        reading: Reading,
        writing: Writing,
        stop: &CancellationToken,
    ) -> Result<(), String> {
        let ended = CancellationToken::new();
        let (sender, outgoing) = mpsc::unbounded_channel();
        *locked(&self.link) = Some(sender);
        *locked(&self.heard_at) = Instant::now();
        self.must_sign_on.store(false, Relaxed);
        let writer = tokio::spawn(Arc::clone(self).write(writing, outgoing, ended.clone()));
        let reader = tokio::spawn(Arc::clone(self).read(reading, ended.clone()));
        let conversed = ended.run_until_cancelled(self.converse(stop)).await.unwrap_or(Ok(()));
        self.is_up.store(false, Relaxed);
        locked(&self.link).take();
        ended.cancel();
        let panicked = |_| Err("the connection's task panicked".to_owned());
        let (read, written) = (reader.await.unwrap_or_else(panicked), writer.await.unwrap_or_else(panicked));
        conversed.and(read).and(written)
    }

    /// From sign-on until something else than the connection's end ends it.
    async fn converse(self: &Arc<Self>, stop: &CancellationToken) -> Result<(), String> {
        tokio::select! {
            talked = self.talk() => talked.map(|never| match never {}),
            () = self.until_lease_is_lost() => Err("the lease on the line is lost".to_owned()),
            () = stop.cancelled() => {
                self.is_up.store(false, Relaxed);
                self.sign_off().await;
                Ok(())
            }
        }
    }

    /// Looks after what a line needs besides its session.
    async fn until_lease_is_lost(self: &Arc<Self>) {
        let mut looks = tokio::time::interval(LOOK);
        loop {
            tokio::select! {
                _ = looks.tick() => {}
                () = self.traces.until_low() => {}
            }
            if self.holds() == Holds::No {
                return;
            }
            self.fetch_traces();
        }
    }

    /// Signs on, and tests the line whenever it is silent.
    async fn talk(self: &Arc<Self>) -> Result<Infallible, String> {
        self.stand("signing on", None);
        self.sign_on().await?;
        // Without trace numbers nothing can be asked; for want of them the session goes on all the same.
        let numbers = async {
            while !self.traces.is_stocked() {
                self.fetch_traces();
                sleep(NUMBERS_PAUSE).await;
            }
        };
        drop(timeout(self.shared.profile.answer_timeout, numbers).await);
        self.is_up.store(true, Relaxed);
        self.stand("up", None);
        let mut looks = tokio::time::interval(LOOK);
        loop {
            looks.tick().await;
            if self.must_sign_on.swap(false, Relaxed) {
                self.sign_on().await?;
            }
            let silent_for = locked(&self.heard_at).elapsed();
            let profile = &self.shared.profile;
            // Where nothing is answered, it is soon found whether anybody is there at all.
            let is_suspicious = self.breaker.is_open() && silent_for >= profile.answer_timeout;
            if silent_for >= profile.echo_after || is_suspicious {
                self.ask_session(Operation::Echo)
                    .await
                    .map_err(|why| format!("the echo test failed: {why}"))?;
            }
        }
    }

    async fn sign_on(self: &Arc<Self>) -> Result<(), String> {
        let answer =
            self.ask_session(Operation::SignOn).await.map_err(|why| format!("the sign-on failed: {why}"))?;
        if let Some(date) = answer.settlement_date(self.shared.clock.now()) {
            self.shared.cut_over(date);
        }
        Ok(())
    }

    async fn sign_off(self: &Arc<Self>) {
        if self.shared.profile.has(Operation::SignOff) {
            // Whoever does not answer is left all the same.
            drop(timeout(Duration::from_secs(1), self.ask_session(Operation::SignOff)).await);
        }
    }

    /// A message about the session, and its answer if that says "done".
    async fn ask_session(self: &Arc<Self>, operation: Operation) -> Result<Values, String> {
        let mut values = Values::new();
        values.set_moment(self.shared.clock.now());
        // A session needs no number that lasts: the moment tells its messages apart.
        let moment = self.shared.clock.now().as_millis().unsigned_abs() / 10;
        values.set(Value::Trace, format!("{:06}", moment % 1_000_000));
        values.set(Value::Terminal, self.terminal.as_str());
        values.set_settlement_date(self.shared.business_date(self.shared.clock.now()));
        let profile = &self.shared.profile;
        let request = profile.compose(operation, &values, false).map_err(|error| error.to_string())?;
        let request = Arc::new(request);
        let deadline = Instant::now() + profile.answer_timeout;
        let asking =
            Asking { operation, message: Arc::clone(&request), payment: None, send_before: None, deadline };
        match self.exchange(asking).await {
            Exchanged::Answered(answer) => {
                let answer =
                    profile.read_answer(operation, &request, &answer).map_err(|error| error.to_string())?;
                match profile.meaning(operation, &answer.code) {
                    Meaning::Done => Ok(answer.values),
                    _ => Err(format!("the bank answers with code {}", answer.code)),
                }
            }
            Exchanged::Unfit(what) => Err(what),
            Exchanged::NeverSent => Err("it was not sent".to_owned()),
            Exchanged::Unknown(unknown) => Err(unknown.to_string()),
        }
    }

    /// The bank wants a session begun first.
    pub(super) fn sign_on_again(&self) {
        self.must_sign_on.store(true, Relaxed);
    }

    fn fetch_traces(self: &Arc<Self>) {
        if !self.traces.needs_block() {
            return;
        }
        let Some(desk) = self.shared.desk.get().cloned() else { return self.traces.add(None) };
        let line = Arc::clone(self);
        tokio::spawn(async move {
            let block = desk.reserve_trace_numbers(line.terminal, BLOCK).await;
            line.traces.add(block);
        });
    }

    /// Sends a request and waits for its answer.
    pub(super) async fn exchange(&self, asking: Asking) -> Exchanged {
        let Asking { operation, message, payment, send_before, deadline } = asking;
        let profile = &self.shared.profile;
        let mut bytes = Vec::with_capacity(256);
        if let Err(error) = profile.spec.encode(&message, &mut bytes) {
            return Exchanged::Unfit(error.to_string());
        }
        let Some(key) = profile.match_key(&message) else {
            return Exchanged::Unfit("it has not what answers are matched by".to_owned());
        };
        let Some((ticket, ended)) = self.mux.register(key, Request { operation, message, payment }) else {
            tracing::warn!(operation = operation.name(), "such a request is in flight already");
            return Exchanged::NeverSent;
        };
        let mut waiting = Waiting { line: self, operation, ticket: ticket.clone(), deadline, is_over: false };
        let sender = locked(&self.link).clone();
        let outgoing = Outgoing::Request { ticket, bytes, send_before };
        if sender.is_none_or(|sender| sender.send(outgoing).is_err()) {
            return waiting.give_up();
        }
        let Ok(ended) = timeout_at(deadline, ended).await else { return waiting.give_up() };
        waiting.is_over = true;
        if matches!(ended, Ok(Ended::Answered(_) | Ended::Garbled(_))) && !operation.is_network() {
            self.breaker.answered();
        }
        match ended {
            Ok(Ended::Answered(answer)) => Exchanged::Answered(answer),
            Ok(Ended::Garbled(what)) => Exchanged::Unknown(Unknown::Garbled(what)),
            Ok(Ended::NeverSent) => Exchanged::NeverSent,
            Ok(Ended::Cut) | Err(_) => Exchanged::Unknown(Unknown::ConnectionCut),
        }
    }

    /// Writes what is due, many at a time. The error says why it cannot.
    async fn write(
        self: Arc<Self>,
        mut writing: Writing,
        mut outgoing: mpsc::UnboundedReceiver<Outgoing>,
        ended: CancellationToken,
    ) -> Result<(), String> {
        let frame = self.shared.profile.frame;
        let mut batch = Vec::with_capacity(BATCH_MAX);
        let mut bytes = BytesMut::with_capacity(64 * 1024);
        let outcome = loop {
            let received = ended.run_until_cancelled(outgoing.recv_many(&mut batch, BATCH_MAX)).await;
            if received.is_none_or(|count| count == 0) {
                break Ok(());
            }
            for outgoing in batch.drain(..) {
                self.put(&frame, outgoing, &mut bytes);
            }
            let writes = async {
                writing.write_all(&bytes).await?;
                writing.flush().await
            };
            match ended.run_until_cancelled(timeout(self.unsent_max(), writes)).await {
                Some(Ok(Ok(()))) => bytes.clear(),
                Some(Ok(Err(error))) => break Err(format!("failed to write: {error}")),
                // What waited here must not go out much later.
                Some(Err(_)) => break Err("the bank takes no more bytes".to_owned()),
                None => break Ok(()),
            }
        };
        ended.cancel();
        drop(timeout(Duration::from_millis(200), writing.shutdown()).await);
        outcome
    }

    /// The last moment before a message leaves: the clocks and the lease are looked at here.
    fn put(&self, frame: &Frame, outgoing: Outgoing, bytes: &mut BytesMut) {
        let is_held = self.holds() != Holds::No;
        let (ticket, message, send_before) = match outgoing {
            Outgoing::Answer(message) => {
                if is_held {
                    // One that is too long for the frame is not said.
                    drop(frame.put(&message, bytes));
                }
                return;
            }
            Outgoing::Request { ticket, bytes, send_before } => (ticket, bytes, send_before),
        };
        let is_in_time = send_before.is_none_or(|(by_wall, by_monotonic)| {
            self.shared.clock.now() < by_wall && Instant::now() < by_monotonic
        });
        if !is_in_time || !is_held || message.len() > frame.bytes_max {
            return self.mux.never_sent(&ticket);
        }
        if self.mux.sending(&ticket) && frame.put(&message, bytes).is_ok() {
            self.count(Count::Sent);
        }
    }

    /// Reads until the connection ends; the error says why.
    async fn read(self: Arc<Self>, reading: Reading, ended: CancellationToken) -> Result<(), String> {
        let mut frames = FramedRead::new(reading, self.shared.profile.frame);
        let outcome = loop {
            match ended.run_until_cancelled(frames.next()).await {
                None => break Ok(()),
                Some(None) => break Err("the bank closed the connection".to_owned()),
                Some(Some(Err(FrameError::Io(error)))) => break Err(format!("failed to read: {error}")),
                Some(Some(Err(error))) => {
                    self.count(Count::Garbled);
                    self.raise(IncidentKind::Garbled, &error.to_string());
                    break Err(error.to_string());
                }
                Some(Some(Ok(bytes))) => {
                    *locked(&self.heard_at) = Instant::now();
                    self.receive(&bytes);
                }
            }
        };
        ended.cancel();
        outcome
    }

    fn receive(&self, bytes: &[u8]) {
        let profile = &self.shared.profile;
        let message = match profile.spec.decode(bytes) {
            Ok(message) => message,
            Err(error) => return self.receive_garbled(bytes, &error.to_string()),
        };
        match profile.operation_of(&message) {
            Some((operation, Part::Request { .. })) if operation.is_network() => {
                self.obey(operation, &message);
            }
            operation if is_answer(&message) => self.match_answer(operation.map(|(known, _)| known), message),
            _ => {
                self.count(Count::Unmatched);
                self.raise(IncidentKind::Unmatched, &format!("a {} came that is no answer", message.mti()));
            }
        }
    }

    /// Tells whoever waits for it, if it can be seen whose answer it is.
    fn receive_garbled(&self, bytes: &[u8], what: &str) {
        let profile = &self.shared.profile;
        self.count(Count::Garbled);
        let beginning = profile.spec.decode_beginning(bytes).filter(is_answer);
        let key = beginning.and_then(|beginning| profile.match_key(&beginning));
        if !key.is_some_and(|key| self.mux.garbled(&key, what.to_owned())) {
            self.raise(IncidentKind::Garbled, what);
        }
    }

    /// Of an answer of no known kind, its request may still be known.
    fn match_answer(&self, operation: Option<Operation>, message: Message) {
        let matched = match self.shared.profile.match_key(&message) {
            Some(key) => self.mux.answer(&key, message),
            None => Matched::Unmatched(message),
        };
        match matched {
            Matched::Prompt => self.count(Count::Answered),
            Matched::Late(request, message) => {
                self.count(Count::Late);
                if !request.operation.is_network() {
                    self.breaker.answered();
                }
                self.shared.late(late::of(&self.shared.profile, request, &message));
            }
            Matched::Duplicate(other) => {
                self.count(Count::Duplicate);
                let other =
                    other.and_then(|(request, message)| late::of(&self.shared.profile, request, &message));
                self.shared.late(other);
            }
            Matched::Unmatched(message) => {
                self.count(Count::Unmatched);
                // Perhaps of an earlier life: then its identity tells.
                let of_payment = operation.filter(|it| *it == Operation::Payment || it.is_question());
                let known = of_payment.and_then(|it| late::of_unknown(&self.shared.profile, it, &message));
                if known.is_none() && !operation.is_some_and(Operation::is_network) {
                    self.raise(IncidentKind::Unmatched, "an answer to nothing that is known");
                }
                self.shared.late(known);
            }
        }
    }

    /// What the bank asks for itself.
    fn obey(&self, operation: Operation, message: &Message) {
        let profile = &self.shared.profile;
        let now = self.shared.clock.now();
        match operation {
            Operation::CutOver => {
                let date = profile
                    .read_request(operation, message)
                    .ok()
                    .and_then(|values| values.settlement_date(now));
                if let Some(date) = date {
                    tracing::info!(upstream = self.shared.name, %date, "the bank begins a new business day");
                    self.shared.cut_over(date);
                }
            }
            Operation::SignOff => self.must_sign_on.store(true, Relaxed),
            _ => {}
        }
        let code = profile.code_for(operation, &Meaning::Done).unwrap_or("00");
        let mut values = Values::new();
        values.set_settlement_date(self.shared.business_date(now));
        let mut bytes = Vec::new();
        let answer = profile.answer(operation, message, code, &values);
        if answer.is_ok_and(|answer| profile.spec.encode(&answer, &mut bytes).is_ok()) {
            let sender = locked(&self.link).clone();
            drop(sender.map(|sender| sender.send(Outgoing::Answer(bytes))));
        }
    }
}

/// Whether it is of a type that answers.
fn is_answer(message: &Message) -> bool {
    !message.mti().is_request()
}

impl Waiting<'_> {
    /// What has to be believed of a request that nobody waits for any more.
    fn give_up(&mut self) -> Exchanged {
        self.is_over = true;
        if !self.line.mux.give_up(&self.ticket) {
            return Exchanged::NeverSent;
        }
        if Instant::now() < self.deadline {
            return Exchanged::Unknown(Unknown::ConnectionCut);
        }
        self.line.count(Count::TimedOut);
        if !self.operation.is_network() {
            self.line.breaker.timed_out();
        }
        Exchanged::Unknown(Unknown::TimedOut)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        if !self.is_over {
            self.give_up();
        }
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
