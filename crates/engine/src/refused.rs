//! A refusal on its way to a partner: the public reason, what it is about, and how it leaves.

use crate::journal::Failure;
use domain::{
    ChassisNumber, InvoiceNumber, Nik, ProductCode, Reason, Refusal, Rejection, invoice::Presentment,
};
use std::time::Duration;

/// How a refusal leaves the gateway.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turned {
    /// As the application's own answer.
    Answer,
    /// Too many requests: try again after a while.
    TooMany {
        /// How long.
        retry_after: Duration,
    },
    /// Nothing can be taken on now: try again after a while.
    Unavailable {
        /// How long.
        retry_after: Duration,
    },
}

/// What a refusal is about, as far as is known.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct About {
    /// The product.
    pub product: Option<ProductCode>,
    /// The invoice.
    pub invoice: Option<InvoiceNumber>,
    /// KTP number.
    pub nik: Option<Nik>,
    /// Chassis number.
    pub chassis: Option<ChassisNumber>,
}

impl About {
    /// Everything that an invoice tells.
    pub fn invoice(invoice: &domain::Invoice, presentment: &Presentment) -> Self {
        Self {
            product: Some(invoice.product.clone()),
            invoice: Some(invoice.number),
            nik: Some(presentment.nik().clone()),
            chassis: Some(presentment.chassis().clone()),
        }
    }
}

/// A refusal on its way to a partner.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("refused: {}", refusal.reason.code())]
pub struct Refused {
    /// The reason.
    pub refusal: Refusal,
    /// How it leaves.
    pub turned: Turned,
    /// What it is about.
    pub about: Box<About>,
}

impl Refused {
    /// As the application's own answer.
    pub fn answer(refusal: impl Into<Refusal>) -> Self {
        Self { refusal: refusal.into(), turned: Turned::Answer, about: Box::default() }
    }

    /// The queue is full, or the bank line is.
    pub fn busy() -> Self {
        let retry_after = Duration::from_secs(1);
        Self { turned: Turned::Unavailable { retry_after }, ..Self::answer(Reason::Busy) }
    }

    /// The store takes nothing new.
    pub fn unavailable() -> Self {
        let retry_after = Duration::from_secs(5);
        Self { turned: Turned::Unavailable { retry_after }, ..Self::answer(Reason::Unavailable) }
    }

    /// With what it is about.
    #[must_use]
    pub fn about(self, about: About) -> Self {
        Self { about: Box::new(about), ..self }
    }
}

impl From<store::Error> for Refused {
    fn from(error: store::Error) -> Self {
        tracing::error!(%error, "a read failed");
        Self::unavailable()
    }
}

impl From<Failure> for Refused {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Rejected(rejection) => Self::answer(reason_of(&rejection)),
            Failure::Busy => Self::busy(),
            Failure::Unavailable(_) | Failure::Stopped(_) => Self::unavailable(),
        }
    }
}

/// The one table from rejections to what partners read.
pub(crate) fn reason_of(rejection: &Rejection) -> Refusal {
    match rejection {
        Rejection::InvoiceUnknown => Reason::InvoiceUnknown.into(),
        Rejection::InquiryFailed | Rejection::NotBegun => Reason::InquiryFailed.into(),
        Rejection::InvoicePending | Rejection::BillBeingPaid => Reason::BillBeingPaid.into(),
        Rejection::InvoicePaid | Rejection::BillPaid => Refusal::already_paid(),
        Rejection::InvoiceRefunded => Reason::InvoiceRefunded.into(),
        Rejection::InvoiceExpired => Reason::InvoiceExpired.into(),
        Rejection::PartnerUnknown => Reason::BadCredentials.into(),
        Rejection::PartnerSuspended => Reason::PartnerSuspended.into(),
        Rejection::BalanceShort => Reason::BalanceShort.into(),
        // Another gateway has the line by now; nothing was sent.
        Rejection::LeaseLost => Reason::BankUnreachable.into(),
        // None of these can come of what a partner asks for.
        Rejection::AmountDiffers
        | Rejection::AskedTooEarly
        | Rejection::NothingProposed
        | Rejection::AlreadyProposed
        | Rejection::SameOperator
        | Rejection::ProposalDiffers
        | Rejection::ProposalOutdated
        | Rejection::NothingToCorrect
        | Rejection::AlreadyCorrected
        | Rejection::ReferenceUsed
        | Rejection::UsernameTaken
        | Rejection::OutOfLimits(_)
        | Rejection::BeingReversed
        | Rejection::NumbersExhausted
        | Rejection::Impossible => Reason::Internal.into(),
    }
}
