//! A bank behind ISO 8583 lines: an upstream that speaks a profile over TCP.
//!
//! ```text
//! settings.rs  what an operator configures      line.rs    requests on a connection, and what comes back
//! connect.rs   TCP, TLS                         session.rs kept up, signed on, tested when it is silent
//! mux.rs       which answer to which request     questions.rs  which may be one to an earlier question
//! traces.rs    trace numbers                    ../breaker.rs  a bank that stopped answering
//! judge.rs     what an answer means             late.rs    answers that nobody waits for
//! ```
//!
//! What it keeps true: a payment's first request is written at most once, only on its own line, only before its
//! `send_before`, only while the terminal is this gateway's. "Never sent" is said only of what was not handed to the
//! connection. Every question about a payment has the payment's own identity, whichever line it goes on.

mod connect;
mod judge;
mod late;
mod line;
mod mux;
mod questions;
mod session;
mod settings;
mod traces;

pub use connect::{Connected, Dial, Reading, Writing};
pub use settings::{LineSettings, OneLine, Tls};

use crate::{
    Bank, Desk, Holds, InquiryOutcome, InquiryRequest, LATE_ANSWERS_MAX, LateAnswer, LineState, NoPlace,
    PaymentOutcome, PaymentRequest, Place, Placing, Profile, Question, StatusOutcome, Terminals, Unknown,
    locked,
    profile::{LineProfile, Operation, ReferenceRule, Unanswered, Value, Values},
    report::PUBLISH,
    sending::horizon_from_send_before,
};
use connect::Tcp;
use domain::{BusinessDate, Clock, InvoiceNumber, Reason, Terminal, Timestamp, record::IncidentKind};
use futures::future::BoxFuture;
use line::{Asking, Line, NoAnswer};
use questions::Questions;
use std::sync::{
    Arc, Mutex, OnceLock,
    atomic::{AtomicUsize, Ordering::Relaxed},
};
use tokio::{
    sync::mpsc::{self, error::TrySendError},
    time::{Instant, timeout_at},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// What all lines of a bank share.
struct Shared {
    name: String,
    profile: LineProfile,
    clock: Arc<dyn Clock>,
    dial: Arc<dyn Dial>,
    desk: OnceLock<Arc<dyn Desk>>,
    late: mpsc::Sender<LateAnswer>,
    /// The business day that the bank announced.
    announced: Mutex<Option<BusinessDate>>,
}

/// A bank behind ISO 8583 lines.
pub struct Iso8583Bank {
    shared: Arc<Shared>,
    profile: Profile,
    lines: Vec<Arc<Line>>,
    lines_held: usize,
    turn: AtomicUsize,
    questions: Questions,
    late_answers: Mutex<Option<mpsc::Receiver<LateAnswer>>>,
    stop: CancellationToken,
    tasks: TaskTracker,
}

impl std::fmt::Debug for Iso8583Bank {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Iso8583Bank").field("name", &self.shared.name).finish_non_exhaustive()
    }
}

impl Iso8583Bank {
    /// A bank that is not spoken to yet. The error says what is wrong with its settings.
    pub fn new(
        name: &str,
        profile: LineProfile,
        settings: LineSettings,
        clock: Arc<dyn Clock>,
    ) -> Result<Arc<Self>, String> {
        Self::with_dial(name, profile, settings, clock, Arc::new(Tcp))
    }

    /// The same, reached in another way than by TCP.
    pub fn with_dial(
        name: &str,
        profile: LineProfile,
        settings: LineSettings,
        clock: Arc<dyn Clock>,
        dial: Arc<dyn Dial>,
    ) -> Result<Arc<Self>, String> {
        let terminals = settings.check()?;
        let (late, late_answers) = mpsc::channel(LATE_ANSWERS_MAX);
        let engine_profile = Profile {
            horizon: horizon_from_send_before(profile.horizon),
            answer_timeout: profile.answer_timeout,
            definitive_status: profile.definitive,
            question: match profile.unanswered {
                Unanswered::Reversal => Question::Reverses,
                Unanswered::Advice if profile.advice_executes => Question::Executes,
                Unanswered::Advice | Unanswered::Status => Question::Asks,
            },
        };
        // An answer may come as late as its message, and as long as one is waited for after that.
        let answered_within = profile.horizon + 2 * profile.answer_timeout;
        let questions = Questions::new(answered_within, profile.answer_timeout, clock.now());
        let shared = Arc::new(Shared {
            name: name.to_owned(),
            profile,
            clock,
            dial,
            desk: OnceLock::new(),
            late,
            announced: Mutex::default(),
        });
        let lines = terminals
            .into_iter()
            .zip(settings.line)
            .map(|(terminal, one)| Arc::new(Line::new(&shared, terminal, one, settings.in_flight_max)))
            .collect();
        Ok(Arc::new(Self {
            shared,
            profile: engine_profile,
            lines,
            lines_held: settings.lines_held,
            turn: AtomicUsize::new(0),
            questions,
            late_answers: Mutex::new(Some(late_answers)),
            stop: CancellationToken::new(),
            tasks: TaskTracker::new(),
        }))
    }

    /// The lines, beginning with another one each time.
    fn in_turn(&self) -> impl Iterator<Item = &Arc<Line>> {
        let first = self.turn.fetch_add(1, Relaxed) % self.lines.len();
        self.lines[first..].iter().chain(&self.lines[..first])
    }

    /// The line of an identity, if it is up.
    fn own_line(&self, identity: &str) -> Option<&Arc<Line>> {
        let terminal = LineProfile::terminal_of_identity(identity);
        self.lines.iter().find(|line| Some(line.terminal) == terminal).filter(|line| is_usable(line))
    }

    /// The line of an identity if it is up, else any other: the identity stays.
    fn line_to_ask_on(&self, identity: &str) -> Option<&Arc<Line>> {
        self.own_line(identity).or_else(|| self.in_turn().find(|line| is_usable(line)))
    }

    /// Until when an answer is of use: a little less than whoever asks waits for it.
    fn deadline(&self) -> Instant {
        let timeout = self.profile.answer_timeout;
        Instant::now() + timeout - timeout / 100
    }

    /// Everything that a payment's messages say.
    fn payment_values(&self, request: &PaymentRequest) -> Option<Values> {
        let mut values = LineProfile::values_of_identity(&request.identity)?;
        values.set_local_of_transmission(self.shared.clock.now()).ok()?;
        values.set(Value::Product, request.product.as_str());
        values.set(Value::Nik, request.nik.as_str());
        values.set(Value::Chassis, request.chassis.as_str());
        values.set(Value::PaymentCode, request.payment_code.as_str());
        values.set(Value::Amount, request.amount.get().to_string());
        Some(values)
    }

    async fn ask_for_bill(&self, request: InquiryRequest) -> InquiryOutcome {
        if !self.shared.profile.has_product(&request.product) {
            tracing::error!(upstream = self.shared.name, product = %request.product, "the profile does not name the product");
            return InquiryOutcome::NeverSent;
        }
        let deadline = self.deadline();
        let Some(line) = self.in_turn().find(|line| is_usable(line) && line.breaker.lets_through()) else {
            return InquiryOutcome::NeverSent;
        };
        let waiting = timeout_at(deadline, line.inquiries.acquire());
        let Ok(Ok(_place)) = waiting.await else { return InquiryOutcome::NeverSent };
        let Some(trace) = line.traces.next() else { return InquiryOutcome::NeverSent };
        let mut values = self.fresh_values(line.terminal, trace, request.invoice);
        values.set(Value::Product, request.product.as_str());
        values.set(Value::Nik, request.nik.as_str());
        values.set(Value::Chassis, request.chassis.as_str());
        let asking = Asking {
            operation: Operation::Inquiry,
            values: &values,
            is_repeat: false,
            payment: None,
            send_before: None,
            deadline,
        };
        match line.exchange(asking).await {
            Ok(answer) => judge::inquiry(&self.shared.profile, &request, &answer),
            // What the bank has no room for, it cannot have a bill for.
            Err(NoAnswer::Unfit(what)) => {
                tracing::info!(
                    upstream = self.shared.name,
                    what,
                    "an inquiry does not fit the bank's messages"
                );
                InquiryOutcome::Refused(Reason::VehicleNotFound.into())
            }
            Err(NoAnswer::NeverSent) => InquiryOutcome::NeverSent,
            Err(NoAnswer::Unknown(unknown)) => InquiryOutcome::Unknown(unknown),
        }
    }

    /// What a new message is known by.
    fn fresh_values(&self, terminal: Terminal, trace: String, invoice: InvoiceNumber) -> Values {
        let now = self.shared.clock.now();
        let mut values = Values::new();
        values.set_moment(now);
        let reference = match self.shared.profile.reference {
            ReferenceRule::Invoice => format!("{:012}", invoice.get()),
            ReferenceRule::Julian => {
                let local = now.in_jakarta();
                format!("{}{:03}{:02}{trace}", local.year() % 10, local.day_of_year(), local.hour())
            }
        };
        values.set(Value::Trace, trace);
        values.set(Value::Reference, reference);
        values.set(Value::Terminal, terminal.as_str());
        values.set_settlement_date(self.shared.business_date(now));
        values
    }

    async fn send_payment(&self, request: PaymentRequest) -> PaymentOutcome {
        let deadline = self.deadline();
        let Some(values) = self.payment_values(&request) else { return PaymentOutcome::NeverSent };
        let Some(line) = self.own_line(&request.identity) else { return PaymentOutcome::NeverSent };
        let asking = Asking {
            operation: Operation::Payment,
            values: &values,
            is_repeat: false,
            payment: Some((&request.identity, request.invoice)),
            send_before: Some(request.send_before),
            deadline,
        };
        match line.exchange(asking).await {
            Ok(answer) => {
                judge::payment(&self.shared.profile, &answer, &request.identity, Some(request.amount))
            }
            Err(NoAnswer::Unfit(what)) => {
                tracing::error!(invoice = %request.invoice, what, "a payment does not fit the bank's messages");
                PaymentOutcome::NeverSent
            }
            Err(NoAnswer::NeverSent) => PaymentOutcome::NeverSent,
            Err(NoAnswer::Unknown(unknown)) => PaymentOutcome::Unknown(unknown),
        }
    }

    async fn ask(&self, request: PaymentRequest) -> StatusOutcome {
        let deadline = self.deadline();
        let profile = &self.shared.profile;
        let operation = profile.unanswered.operation();
        let no_answer = StatusOutcome::Unknown(Unknown::ConnectionCut);
        let Some(line) = self.line_to_ask_on(&request.identity) else { return no_answer };
        let Some(mut values) = self.payment_values(&request) else {
            return StatusOutcome::Unknown(Unknown::Garbled(
                "the identity is none of this line's".to_owned(),
            ));
        };
        let is_repeat = operation != Operation::Status && self.questions.was_asked(&request.identity);
        let asking = self.questions.ask(&request.identity, made_at(&request.identity, &self.shared));
        // A status inquiry has a number of its own, and what is undone stays undone.
        let is_clear = asking.is_clear || operation != Operation::Advice;
        if operation == Operation::Status {
            // A question of its own, about the payment.
            for (own, of_original) in [
                (Value::Trace, Value::OriginalTrace),
                (Value::Transmission, Value::OriginalTransmission),
                (Value::Reference, Value::OriginalReference),
            ] {
                let text = values.get(own).unwrap_or_default().to_owned();
                values.set(of_original, text);
            }
            let Some(trace) = line.traces.next() else { return no_answer };
            values.set(Value::Trace, trace);
            let settlement = values.get(Value::SettlementDate).unwrap_or_default().to_owned();
            values.set_moment(self.shared.clock.now());
            values.set(Value::SettlementDate, settlement);
        }
        let moves_money = self.profile.question != Question::Asks;
        let asked = Asking {
            operation,
            values: &values,
            is_repeat,
            payment: Some((&request.identity, request.invoice)),
            send_before: moves_money.then_some(request.send_before),
            deadline,
        };
        let answered = line.exchange(asked).await;
        match &answered {
            Ok(_) => asking.was_answered(),
            Err(NoAnswer::Unknown(_)) => {}
            Err(NoAnswer::NeverSent | NoAnswer::Unfit(_)) => asking.was_not_sent(),
        }
        match answered {
            Ok(answer) => match judge::question(profile, operation, &answer, &request.identity) {
                StatusOutcome::NotPaid | StatusOutcome::PaidByAnother if !is_clear => {
                    StatusOutcome::Unknown(Unknown::UnderWay)
                }
                outcome => outcome,
            },
            Err(NoAnswer::Unfit(what)) => StatusOutcome::Unknown(Unknown::Garbled(what)),
            Err(NoAnswer::NeverSent) => no_answer,
            Err(NoAnswer::Unknown(unknown)) => StatusOutcome::Unknown(unknown),
        }
    }
}

/// When a payment was made, as its identity has it.
fn made_at(identity: &str, shared: &Shared) -> Option<Timestamp> {
    LineProfile::values_of_identity(identity)?.transmitted_at(shared.clock.now())
}

/// Whether a line is up, and this gateway's.
fn is_usable(line: &Arc<Line>) -> bool {
    line.is_up() && line.holds() != Holds::No
}

impl Shared {
    /// The day that the bank announced, until it is over, for it may be that after a holiday; else what the profile
    /// says; else Jakarta's.
    fn business_date(&self, now: Timestamp) -> BusinessDate {
        let today = now.date_in_jakarta();
        let announced = *locked(&self.announced);
        if let Some(date) = announced.filter(|date| *date >= today) {
            return date;
        }
        let local = now.in_jakarta();
        let minute =
            u16::try_from(i16::from(local.hour()) * 60 + i16::from(local.minute())).unwrap_or_default();
        let is_over = self.profile.cut_over_minute.is_some_and(|cut_over| minute >= cut_over);
        if is_over { today.next() } else { today }
    }

    fn cut_over(&self, date: BusinessDate) {
        *locked(&self.announced) = Some(date);
    }

    fn raise(&self, invoice: Option<InvoiceNumber>, kind: IncidentKind, detail: String) {
        if let Some(desk) = self.desk.get() {
            desk.raise(invoice, kind, detail);
        }
    }

    fn late(&self, answer: Option<LateAnswer>) {
        let Some(answer) = answer else { return };
        let Err(TrySendError::Full(lost)) = self.late.try_send(answer) else { return };
        // Of an open payment, the next question finds as much; of one that is over, nobody asks any more.
        if matches!(lost.outcome, PaymentOutcome::Paid(_)) {
            let what =
                "a late answer says paid, and there were too many to look at it; ask the bank".to_owned();
            self.raise(Some(lost.invoice), IncidentKind::Unmatched, what);
        }
    }
}

impl Bank for Iso8583Bank {
    fn profile(&self) -> &Profile {
        &self.profile
    }

    fn business_date(&self, now: Timestamp) -> BusinessDate {
        self.shared.business_date(now)
    }

    fn open(&self, desk: Arc<dyn Desk>) {
        if self.shared.desk.set(desk).is_err() {
            return;
        }
        for line in &self.lines {
            self.tasks.spawn(Arc::clone(line).run(self.stop.clone()));
        }
        let (lines, stop) = (self.lines.clone(), self.stop.clone());
        self.tasks.spawn(async move {
            let mut ticks = tokio::time::interval(PUBLISH);
            while stop.run_until_cancelled(ticks.tick()).await.is_some() {
                for line in &lines {
                    line.publish();
                }
            }
        });
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        self.stop.cancel();
        self.tasks.close();
        Box::pin(self.tasks.wait())
    }

    fn terminals(&self) -> Terminals {
        Terminals { all: self.lines.iter().map(|line| line.terminal).collect(), held_max: self.lines_held }
    }

    fn lines(&self) -> Vec<LineState> {
        self.lines.iter().map(|line| line.state()).collect()
    }

    fn place(&self, payment: Placing<'_>) -> Result<Place, NoPlace> {
        let mut no_place = NoPlace::Down;
        for line in self.in_turn() {
            let Ok(fence) = line.holds().fence() else { continue };
            if !line.is_up() || !line.traces.is_stocked() {
                continue;
            }
            let Ok(permit) = Arc::clone(&line.places).try_acquire_owned() else {
                no_place = NoPlace::Full;
                continue;
            };
            if !line.breaker.lets_through() {
                no_place = NoPlace::Stalled;
                continue;
            }
            let Some(trace) = line.traces.next() else {
                no_place = NoPlace::Full;
                continue;
            };
            let values = self.fresh_values(line.terminal, trace, payment.invoice);
            let identity = LineProfile::identity(&values).ok_or(NoPlace::Unfit)?;
            return Ok(Place { identity, permit, fence });
        }
        Err(no_place)
    }

    fn inquire(&self, request: InquiryRequest) -> BoxFuture<'_, InquiryOutcome> {
        Box::pin(self.ask_for_bill(request))
    }

    fn pay(&self, place: Place, request: PaymentRequest) -> BoxFuture<'_, PaymentOutcome> {
        Box::pin(async move {
            let outcome = self.send_payment(request).await;
            drop(place);
            outcome
        })
    }

    fn not_paid_counts_from(&self, identity: &str) -> Option<Instant> {
        self.line_to_ask_on(identity)?;
        let is_told_apart = self.shared.profile.unanswered != Unanswered::Advice;
        let clear_from = || self.questions.clear_from(identity, made_at(identity, &self.shared));
        Some(if is_told_apart { Instant::now() } else { clear_from() })
    }

    fn status(&self, request: PaymentRequest) -> BoxFuture<'_, StatusOutcome> {
        Box::pin(self.ask(request))
    }

    fn late_answers(&self) -> Option<mpsc::Receiver<LateAnswer>> {
        locked(&self.late_answers).take()
    }
}
