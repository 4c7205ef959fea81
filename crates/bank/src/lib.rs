//! What an upstream must do, as one trait, and the upstreams there are.
//!
//! A connector translates; it decides nothing about money. Its default outcome is *unknown*: only an
//! explicit success or an explicit refusal by the bank changes that, and only the certainty that not one
//! byte left makes a request "never sent".

mod breaker;
mod core_banking;
pub mod frame;
pub mod host;
pub mod iso8583_line;
pub mod profile;
mod refusals;
pub mod relay;
mod report;
mod sending;
pub mod simulator;
mod tls;

pub use sending::SendBefore;

use domain::{
    Bill, BusinessDate, ChassisNumber, Fence, InvoiceNumber, Nik, PaymentCode, ProductCode, Refusal, Rupiah,
    Terminal, Timestamp, UpstreamTerms, invoice::BankReceipt, record::IncidentKind,
};
use futures::future::BoxFuture;
use serde::{Deserialize, Serialize};
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::{
    sync::{OwnedSemaphorePermit, mpsc},
    time::Instant,
};

/// What the engine must know of an upstream before it can be trusted with money.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Profile {
    /// How long after it was sent a payment can still arrive at the bank and be carried out. A status
    /// answer "not found" to a question asked earlier proves nothing.
    pub horizon: Duration,
    /// How long an answer is waited for before the outcome is unknown.
    pub answer_timeout: Duration,
    /// Whether the bank's status answer "not found" is definitive. Without it, only operators refund.
    pub definitive_status: bool,
    /// What a status question does at the bank.
    pub question: Question,
}

/// What a question about a payment whose outcome is open does at the bank.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Question {
    /// It only asks.
    Asks,
    /// It carries the payment out, unless that was done before: another message that could pay.
    Executes,
    /// It undoes the payment, whether it was carried out or not: where the bank allows that.
    Reverses,
}

/// What the gateway does for an upstream.
pub trait Desk: Send + Sync {
    /// Reserves trace numbers of a terminal, for ever: they are durable before anybody uses them. `None`: it
    /// cannot be done now.
    fn reserve_trace_numbers(&self, terminal: Terminal, count: u32) -> BoxFuture<'_, Option<TraceBlock>>;

    /// Whether this gateway may use a terminal at this moment; looked at immediately before writing.
    fn holds(&self, terminal: Terminal) -> Holds;

    /// Tells operators of something.
    fn raise(&self, invoice: Option<InvoiceNumber>, kind: IncidentKind, detail: String);
}

/// Trace numbers, counted on for ever; what stands in a message is made of them by the line's rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TraceBlock {
    /// The first.
    pub first: i64,
    /// How many.
    pub count: u32,
    /// The identities of the upstream's payments that are open: their numbers are not to be used again.
    pub open: Vec<String>,
}

/// Whether a terminal, or a piece of work, is this gateway's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Holds {
    /// Another gateway's, or nobody's yet.
    No,
    /// This gateway's, which is the only one.
    Alone,
    /// This gateway's, among several, under a lease.
    Under(Fence),
}

/// It is another gateway's, or nobody's yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("it is not held by this gateway")]
pub struct NotHeld;

impl Holds {
    /// The lease that it is under, if it is under one.
    pub fn fence(self) -> Result<Option<Fence>, NotHeld> {
        match self {
            Self::No => Err(NotHeld),
            Self::Alone => Ok(None),
            Self::Under(fence) => Ok(Some(fence)),
        }
    }
}

/// The terminals of an upstream, each for one gateway at a time.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Terminals {
    /// All of them, in the order in which they are taken.
    pub all: Vec<Terminal>,
    /// How many of them one of several gateways takes.
    pub held_max: usize,
}

/// How a line, or whatever takes its place, stands: for people and monitoring.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LineState {
    /// Its name: a terminal id, an address.
    pub name: String,
    /// Whether payments go through.
    pub is_up: bool,
    /// What it is doing, in a few words.
    pub state: String,
    /// Since when.
    pub since: Option<Timestamp>,
    /// Requests under way.
    pub in_flight: usize,
    /// The bank's business day on it: `2026-11-25`.
    pub business_date: Option<String>,
    /// What was counted since the start, by name.
    pub counts: BTreeMap<String, u64>,
    /// What last went wrong; no content of a message.
    pub last_error: Option<String>,
}

/// The line is down, or full: nothing was sent, nothing was reserved.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoPlace {
    /// As many requests are under way as the line takes.
    #[error("the bank line is full")]
    Full,
    /// There is no line.
    #[error("the bank line is down")]
    Down,
    /// The bank takes requests and has stopped answering them.
    #[error("the bank has stopped answering")]
    Stalled,
    /// The gateway's own money at its provider is short.
    #[error("the balance at the upstream is short")]
    FloatShort,
    /// The payment cannot be put into the upstream's words.
    #[error("the payment does not fit the upstream")]
    Unfit,
}

/// Which payment is going to be sent.
#[derive(Clone, Copy, Debug)]
pub struct Placing<'a> {
    /// The gateway's number.
    pub invoice: InvoiceNumber,
    /// What the upstream called its record of the inquiry.
    pub upstream_reference: Option<&'a str>,
}

/// A place on the line, taken before money is reserved, with the identity that the payment will have at
/// the bank in every repeat. Dropping it gives it back.
#[derive(Debug)]
pub struct Place {
    /// What identifies the request at the bank; at most 64 characters.
    pub identity: String,
    /// Held while the request is under way.
    pub permit: OwnedSemaphorePermit,
    /// The lease on the line, if it is under one: it must still be held when the money is reserved.
    pub fence: Option<Fence>,
}

/// Which vehicle's bill.
#[derive(Clone, Debug)]
pub struct InquiryRequest {
    /// The gateway's number for the answer.
    pub invoice: InvoiceNumber,
    /// The product that the partner chose.
    pub product: ProductCode,
    /// KTP number.
    pub nik: Nik,
    /// Chassis number.
    pub chassis: ChassisNumber,
}

/// What came of an inquiry.
#[derive(Clone, Debug)]
#[expect(clippy::large_enum_variant, reason = "nearly every inquiry brings a bill")]
pub enum InquiryOutcome {
    /// A bill that can be paid.
    Presented {
        /// The bill.
        bill: Bill,
        /// When its payment code dies, where the province says so.
        payable_until: Option<Timestamp>,
        /// What the upstream itself charges and gives back.
        terms: UpstreamTerms,
    },
    /// The Samsat or the bank refused.
    Refused(Refusal),
    /// Nothing was sent.
    NeverSent,
    /// No usable answer.
    Unknown(Unknown),
}

/// Which payment. The same for the request, its repeats and its status questions.
#[derive(Clone, Debug)]
pub struct PaymentRequest {
    /// The gateway's number.
    pub invoice: InvoiceNumber,
    /// From [`Place::identity`].
    pub identity: String,
    /// The product.
    pub product: ProductCode,
    /// KTP number.
    pub nik: Nik,
    /// Chassis number.
    pub chassis: ChassisNumber,
    /// The bill.
    pub payment_code: PaymentCode,
    /// What the Samsat is to get: taxes and penalties, without anybody's fee.
    pub amount: Rupiah,
    /// What the upstream charges and gives back, as it said at the inquiry.
    pub terms: UpstreamTerms,
    /// Looked at immediately before writing: past it, neither the first request nor a question that
    /// [`Question::Executes`] or [`Question::Reverses`] is sent.
    pub send_before: SendBefore,
}

/// What came of a payment request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PaymentOutcome {
    /// The bank took it.
    Paid(Paid),
    /// The bank refused in so many words, and will not carry this request out later either.
    Refused(Refusal),
    /// Not one byte left.
    NeverSent,
    /// Anything else. It may or may not have been carried out.
    Unknown(Unknown),
}

/// The bank's word that it took a payment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Paid {
    /// The identity that the answer carries; the engine compares it.
    pub identity: String,
    /// The amount that the answer carries; the engine compares it.
    pub amount: Rupiah,
    /// The bank's numbers.
    pub receipt: BankReceipt,
}

/// What came of a status question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StatusOutcome {
    /// The bank took it.
    Paid(Paid),
    /// The bank knows no such payment, or will not have carried it out, as far as it knows.
    NotPaid,
    /// The bank, or the provider, refused this very payment and will not carry it out later either.
    Refused(Refusal),
    /// The bank says that another payment paid this bill.
    PaidByAnother,
    /// The bill is paid, and the bank cannot tell by whom.
    PayerUnknown,
    /// The bank is still at it.
    UnderWay,
    /// No usable answer.
    Unknown(Unknown),
}

/// Why there is no usable answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unknown {
    /// None came in time.
    #[error("no answer in time")]
    TimedOut,
    /// The connection broke after the first byte.
    #[error("the connection broke")]
    ConnectionCut,
    /// What came could not be read: which field, which offset. Never its content.
    #[error("the answer could not be read: {0}")]
    Garbled(String),
    /// The upstream is still at it, or does not say.
    #[error("the upstream is still at it, or does not say")]
    UnderWay,
    /// A response code that says nothing about this request, as far as the profile knows.
    #[error("unknown response code {0}")]
    UnknownCode(String),
}

/// An answer that came after its request had been given up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LateAnswer {
    /// The invoice that the answer is for, as far as its identity tells.
    pub invoice: InvoiceNumber,
    /// What it says.
    pub outcome: PaymentOutcome,
    /// Whether the same request had another answer before, which says something else.
    pub contradicts: bool,
}

/// Late answers that wait to be applied. Of more, the questions about their payments find as much.
pub const LATE_ANSWERS_MAX: usize = 10_000;

/// An upstream.
pub trait Bank: Send + Sync + 'static {
    /// What the engine must know of it.
    fn profile(&self) -> &Profile;

    /// The bank's business day at this moment.
    fn business_date(&self, now: Timestamp) -> BusinessDate {
        now.date_in_jakarta()
    }

    /// Begins to work for a gateway: connects, signs on. Called once, before anything is asked.
    fn open(&self, _desk: Arc<dyn Desk>) {}

    /// Ends in good order: signs off, disconnects.
    fn close(&self) -> BoxFuture<'_, ()> {
        Box::pin(std::future::ready(()))
    }

    /// The terminals that several gateways share out; none for an upstream without.
    fn terminals(&self) -> Terminals {
        Terminals::default()
    }

    /// How its lines stand.
    fn lines(&self) -> Vec<LineState> {
        Vec::new()
    }

    /// Takes a place on the line, at once or not at all.
    fn place(&self, payment: Placing<'_>) -> Result<Place, NoPlace>;

    /// Asks for a bill. Answers within the profile's `answer_timeout`.
    fn inquire(&self, request: InquiryRequest) -> BoxFuture<'_, InquiryOutcome>;

    /// Sends a payment for the first time, and at most once. Answers within the profile's
    /// `answer_timeout`. Dropping the future takes nothing back.
    fn pay(&self, place: Place, request: PaymentRequest) -> BoxFuture<'_, PaymentOutcome>;

    /// From when on "not paid" in answer to a question about a payment can be believed, as far as it may be an answer to
    /// an earlier question; `None` if no question would leave now. Asked before it is written down that one does.
    fn not_paid_counts_from(&self, _identity: &str) -> Option<Instant> {
        Some(Instant::now())
    }

    /// Asks what became of a payment, by its identity. Whether that may carry it out, or undo it, says
    /// [`Profile::question`]. Answers within the profile's `answer_timeout`.
    fn status(&self, request: PaymentRequest) -> BoxFuture<'_, StatusOutcome>;

    /// The stream of late answers, at most [`LATE_ANSWERS_MAX`] of them. There is one; whoever takes it first has it.
    fn late_answers(&self) -> Option<mpsc::Receiver<LateAnswer>>;
}

/// Nothing in this crate is left half changed by a panic.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
