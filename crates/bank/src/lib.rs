//! What an upstream must do, as one trait, and the upstreams there are.
//!
//! A connector translates; it decides nothing about money. Its default outcome is *unknown*: only an
//! explicit success or an explicit refusal by the bank changes that, and only the certainty that not one
//! byte left makes a request "never sent".

pub mod simulator;

use domain::{
    Bill, BusinessDate, ChassisNumber, InvoiceNumber, Nik, PaymentCode, ProductCode, Refusal, Rupiah,
    Timestamp, invoice::BankReceipt,
};
use futures::future::BoxFuture;
use std::time::Duration;
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
}

/// A place on the line, taken before money is reserved, with the identity that the payment will have at
/// the bank in every repeat. Dropping it gives it back.
#[derive(Debug)]
pub struct Place {
    /// What identifies the request at the bank; at most 64 characters.
    pub identity: String,
    /// Held while the request is under way.
    pub permit: OwnedSemaphorePermit,
}

/// Which vehicle's bill.
#[derive(Clone, Debug)]
pub struct InquiryRequest {
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
    /// What the bank is to take: taxes and penalties, without the gateway's fee.
    pub amount: Rupiah,
    /// Looked at immediately before writing: past it, the request is never sent for the first time.
    pub send_before: Timestamp,
    /// The same by the clock that nobody can set; looked at together with the other.
    pub send_before_monotonic: Instant,
}

impl PaymentRequest {
    /// Whether the request may be sent for the first time: asked immediately before writing.
    pub fn may_be_sent(&self, now: Timestamp) -> bool {
        now < self.send_before && Instant::now() < self.send_before_monotonic
    }
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
    /// The bank knows no such payment, or knows that it refused it.
    NotPaid,
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
    /// A response code that the profile does not know.
    #[error("unknown response code {0}")]
    UnknownCode(String),
}

/// An answer that came after its request had been given up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LateAnswer {
    /// The invoice that the answer is for, as far as its identity tells.
    pub invoice: Option<InvoiceNumber>,
    /// What it says.
    pub outcome: PaymentOutcome,
}

/// An upstream.
pub trait Bank: Send + Sync + 'static {
    /// What the engine must know of it.
    fn profile(&self) -> &Profile;

    /// The bank's business day at this moment.
    fn business_date(&self, now: Timestamp) -> BusinessDate;

    /// Takes a place on the line, at once or not at all.
    fn place(&self, invoice: InvoiceNumber) -> Result<Place, NoPlace>;

    /// Asks for a bill. Answers within the profile's `answer_timeout`.
    fn inquire(&self, request: InquiryRequest) -> BoxFuture<'_, InquiryOutcome>;

    /// Sends a payment for the first time, and at most once. Answers within the profile's
    /// `answer_timeout`. Dropping the future takes nothing back.
    fn pay(&self, place: Place, request: PaymentRequest) -> BoxFuture<'_, PaymentOutcome>;

    /// Asks what became of a payment, by its identity; never carries it out.
    fn status(&self, request: PaymentRequest) -> BoxFuture<'_, StatusOutcome>;

    /// The stream of late answers. There is one; whoever takes it first has it.
    fn late_answers(&self) -> Option<mpsc::UnboundedReceiver<LateAnswer>>;
}
