//! One line: the requests on its connection, and what comes back.
//!
//! One task writes and looks at the clocks and the lease immediately before it does; one reads; a third one has the
//! session ([`Line::run`]), and is cut short by whatever ends it. Nothing waits with a lock in its hands.
//!
//! What is written leaves the gateway soon or never: a write that blocks, and bytes that the bank does not
//! acknowledge, end the connection long before the horizon does.

use super::{
    Shared,
    connect::{Reading, Writing},
    late,
    mux::{Ended, Matched, Mux, Other, Request, Ticket},
    settings::OneLine,
    traces::Traces,
};
use crate::{
    Holds, LateAnswer, LineState, SendBefore, Unknown,
    breaker::Breaker,
    frame::{Frame, FrameError},
    locked,
    profile::{Answer, Operation, Part, Values},
    report::{Count, Report},
    sending::unsent_max,
};
use bytes::BytesMut;
use domain::{InvoiceNumber, Terminal, record::IncidentKind};
use futures::StreamExt;
use iso8583::Message;
use std::{
    collections::BTreeMap,
    future::poll_fn,
    io,
    pin::Pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    task::{Poll, ready},
    time::Duration,
};
use tokio::{
    io::{AsyncWrite, AsyncWriteExt},
    sync::{Semaphore, mpsc},
    time::{Instant, timeout, timeout_at},
};
use tokio_util::{codec::FramedRead, sync::CancellationToken};

/// Requests that one write takes along.
const BATCH_MAX: usize = 256;

/// Incidents of one kind that belong to no invoice come at least so far apart; all are counted.
const INCIDENT_PAUSE: Duration = Duration::from_secs(10);

pub(super) struct Line {
    pub(super) terminal: Terminal,
    pub(super) settings: OneLine,
    pub(super) shared: Arc<Shared>,
    pub(super) places: Arc<Semaphore>,
    pub(super) inquiries: Semaphore,
    pub(super) traces: Traces,
    pub(super) breaker: Breaker,
    pub(super) mux: Mux,
    pub(super) link: Mutex<Option<mpsc::UnboundedSender<Outgoing>>>,
    pub(super) is_up: AtomicBool,
    pub(super) must_sign_on: AtomicBool,
    pub(super) heard_at: Mutex<Instant>,
    pub(super) report: Report,
    raised_at: Mutex<BTreeMap<&'static str, Instant>>,
}

const COUNTS: [Count; 8] = [
    Count::Sent,
    Count::Answered,
    Count::TimedOut,
    Count::Late,
    Count::Duplicate,
    Count::Unmatched,
    Count::Garbled,
    Count::Connected,
];

/// What goes out: a request that is matched, or an answer to the bank.
pub(super) enum Outgoing {
    Request { ticket: Ticket, bytes: Vec<u8>, send_before: Option<SendBefore> },
    Answer(Vec<u8>),
}

/// What is asked, until when.
pub(super) struct Asking<'a> {
    pub(super) operation: Operation,
    pub(super) values: &'a Values,
    pub(super) is_repeat: bool,
    /// The payment's identity and invoice, if it is about one.
    pub(super) payment: Option<(&'a str, InvoiceNumber)>,
    pub(super) send_before: Option<SendBefore>,
    /// When an answer is of no use any more to whoever asks.
    pub(super) deadline: Instant,
}

/// Why there is no usable answer.
pub(super) enum NoAnswer {
    NeverSent,
    /// The dialect cannot say it; nothing was sent.
    Unfit(String),
    /// It may have left.
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
            report: Report::new(&shared.name, terminal.as_str(), Arc::clone(&shared.clock), &COUNTS),
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

    /// Tells monitoring how it stands.
    pub(super) fn publish(&self) {
        self.report.publish(self.is_up() && !self.breaker.is_open(), self.mux.in_flight());
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
        let is_stalled = self.breaker.is_open();
        let mut state = self.report.line(self.is_up() && !is_stalled, self.mux.in_flight());
        if is_stalled && self.is_up() {
            "stalled: the bank does not answer".clone_into(&mut state.state);
        }
        state.business_date = Some(self.shared.business_date(self.shared.clock.now()).to_string());
        state
    }

    /// Sends a request and waits for its answer.
    pub(super) async fn exchange(&self, asking: Asking<'_>) -> Result<Answer, NoAnswer> {
        let Asking { operation, values, is_repeat, payment, send_before, deadline } = asking;
        let profile = &self.shared.profile;
        let unfit = |what: &dyn std::fmt::Display| NoAnswer::Unfit(what.to_string());
        let request = profile.compose(operation, values, is_repeat).map_err(|error| unfit(&error))?;
        let mut bytes = Vec::with_capacity(256);
        profile.spec.encode(&request, &mut bytes).map_err(|error| unfit(&error))?;
        let key = profile.match_key(&request);
        let key = key.ok_or_else(|| unfit(&"it has not what answers are matched by"))?;
        let request = Arc::new(request);
        let payment = payment.map(|(identity, invoice)| (identity.to_owned(), invoice));
        let registered = Request { operation, message: Arc::clone(&request), payment };
        let Some((ticket, ended)) = self.mux.register(key, registered) else {
            tracing::warn!(operation = operation.name(), "such a request is in flight already");
            return Err(NoAnswer::NeverSent);
        };
        let mut waiting = Waiting { line: self, operation, ticket: ticket.clone(), deadline, is_over: false };
        let sender = locked(&self.link).clone();
        let outgoing = Outgoing::Request { ticket, bytes, send_before };
        if sender.is_none_or(|sender| sender.send(outgoing).is_err()) {
            return Err(waiting.give_up());
        }
        let Ok(ended) = timeout_at(deadline, ended).await else { return Err(waiting.give_up()) };
        waiting.is_over = true;
        if matches!(ended, Ok(Ended::Answered(_) | Ended::Garbled(_))) && !operation.is_network() {
            self.breaker.answered();
        }
        let garbled = |what: String| NoAnswer::Unknown(Unknown::Garbled(what));
        let answer = match ended {
            Ok(Ended::Answered(answer)) => answer,
            Ok(Ended::Garbled(what)) => return Err(garbled(what)),
            Ok(Ended::NeverSent) => return Err(NoAnswer::NeverSent),
            Ok(Ended::Cut) | Err(_) => return Err(NoAnswer::Unknown(Unknown::ConnectionCut)),
        };
        let answer = profile.read_answer(operation, &request, &answer);
        let answer = answer.map_err(|mismatch| garbled(mismatch.to_string()))?;
        if !operation.is_network() && profile.wants_sign_on(operation, &answer.code) {
            self.must_sign_on.store(true, Relaxed);
        }
        Ok(answer)
    }

    /// Writes what is due, many at a time. The error says why it cannot.
    pub(super) async fn write(
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
            // From before their own clocks are looked at: what waits here must not go out much later, not even if the
            // process is stopped meanwhile.
            let by = SendBefore::within(unsent_max(self.shared.profile.horizon), self.shared.clock.now());
            for outgoing in batch.drain(..) {
                self.put(&frame, outgoing, &mut bytes);
            }
            let writes = write_while(&mut writing, &bytes, || by.allows(self.shared.clock.now()));
            match ended.run_until_cancelled(timeout_at(by.monotonic, writes)).await {
                Some(Ok(Ok(()))) => bytes.clear(),
                Some(Ok(Err(error))) => break Err(format!("failed to write: {error}")),
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
        let is_in_time = send_before.is_none_or(|it| it.allows(self.shared.clock.now()));
        if !is_in_time || !is_held || message.len() > frame.bytes_max {
            return self.mux.never_sent(&ticket);
        }
        if self.mux.sending(&ticket) && frame.put(&message, bytes).is_ok() {
            self.report.count(Count::Sent);
        }
    }

    /// Reads until the connection ends; the error says why.
    pub(super) async fn read(
        self: Arc<Self>,
        reading: Reading,
        ended: CancellationToken,
    ) -> Result<(), String> {
        let mut frames = FramedRead::new(reading, self.shared.profile.frame);
        let outcome = loop {
            match ended.run_until_cancelled(frames.next()).await {
                None => break Ok(()),
                Some(None) => break Err("the bank closed the connection".to_owned()),
                Some(Some(Err(FrameError::Io(error)))) => break Err(format!("failed to read: {error}")),
                Some(Some(Err(error))) => {
                    self.report.count(Count::Garbled);
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
                self.report.count(Count::Unmatched);
                self.raise(IncidentKind::Unmatched, &format!("a {} came that is no answer", message.mti()));
            }
        }
    }

    /// Tells whoever waits for it, if it can be seen whose answer it is.
    fn receive_garbled(&self, bytes: &[u8], what: &str) {
        let profile = &self.shared.profile;
        self.report.count(Count::Garbled);
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
            Matched::Prompt => self.report.count(Count::Answered),
            Matched::Late(request, message) => {
                self.report.count(Count::Late);
                if !request.operation.is_network() {
                    self.breaker.answered();
                }
                self.shared.late(late::of(&self.shared.profile, request, &message));
            }
            Matched::Duplicate(other) => {
                self.report.count(Count::Duplicate);
                let told = other.and_then(|Other { request, message, first }| {
                    let profile = &self.shared.profile;
                    // A first answer that said nothing is contradicted by none.
                    let contradicts =
                        first.is_none_or(|code| profile.meaning(request.operation, &code).is_known());
                    Some(LateAnswer { contradicts, ..late::of(profile, request, &message)? })
                });
                self.shared.late(told);
            }
            Matched::Unmatched(message) => {
                self.report.count(Count::Unmatched);
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
}

/// Writes everything while it may, which is looked at before each part.
async fn write_while(
    writing: &mut (impl AsyncWrite + Unpin),
    mut bytes: &[u8],
    may_go_on: impl Fn() -> bool,
) -> io::Result<()> {
    poll_fn(|context| {
        loop {
            if !may_go_on() {
                let error = io::Error::new(io::ErrorKind::TimedOut, "the bank took too long to take it");
                return Poll::Ready(Err(error));
            }
            if bytes.is_empty() {
                return Pin::new(&mut *writing).poll_flush(context);
            }
            match ready!(Pin::new(&mut *writing).poll_write(context, bytes))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                written => bytes = &bytes[written..],
            }
        }
    })
    .await
}

/// Whether it is of a type that answers.
fn is_answer(message: &Message) -> bool {
    !message.mti().is_request()
}

impl Waiting<'_> {
    /// What has to be believed of a request that nobody waits for any more.
    fn give_up(&mut self) -> NoAnswer {
        self.is_over = true;
        if !self.line.mux.give_up(&self.ticket) {
            return NoAnswer::NeverSent;
        }
        if Instant::now() < self.deadline {
            return NoAnswer::Unknown(Unknown::ConnectionCut);
        }
        self.line.report.count(Count::TimedOut);
        if !self.operation.is_network() {
            self.line.breaker.timed_out();
        }
        NoAnswer::Unknown(Unknown::TimedOut)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        if !self.is_over {
            self.give_up();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicUsize;
    use tokio::io::{AsyncReadExt, duplex};

    #[tokio::test]
    async fn what_was_begun_is_not_gone_on_with_when_it_is_too_late() {
        let (mut writing, mut reading) = duplex(4);
        let left = AtomicUsize::new(2);
        let may_go_on = || left.fetch_update(Relaxed, Relaxed, |left| left.checked_sub(1)).is_ok();
        let writes = async { write_while(&mut writing, b"0200....", may_go_on).await };
        let mut read = [0; 4];
        let (written, heard) = tokio::join!(writes, reading.read_exact(&mut read));
        assert_eq!(written.unwrap_err().kind(), io::ErrorKind::TimedOut);
        assert_eq!((heard.unwrap(), &read), (4, b"0200"));
        drop(writing);
        assert_eq!(reading.read(&mut read).await.unwrap(), 0, "nothing more");
        let (mut writing, mut reading) = duplex(64);
        write_while(&mut writing, b"0200....", || true).await.unwrap();
        assert_eq!(reading.read(&mut [0; 64]).await.unwrap(), 8);
    }
}
