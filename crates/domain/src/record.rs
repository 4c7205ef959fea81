//! What is only ever added: events for receivers, incidents for operators, headers of manual entries,
//! and the proposals that a second operator confirms.

use crate::{
    invoice::{BankReceipt, InvoiceNumber},
    limits,
    money::Rupiah,
    partner::PartnerId,
    time::Timestamp,
    value::Environment,
};
use serde::{Deserialize, Serialize};

/// What happened, for whoever wants to be told. One row of the outbox, written by the transaction that
/// changed the state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// The invoice, or the manual entry.
    pub subject: i64,
    /// 1, 2, 3 … within the subject.
    pub sequence: u32,
    /// What happened.
    pub kind: EventKind,
    /// Live or sandbox.
    pub environment: Environment,
    /// Whom it concerns.
    pub partner: PartnerId,
    /// When.
    pub at: Timestamp,
}

/// The kinds of events.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EventKind {
    /// Money is reserved.
    PaymentPending,
    /// Paid.
    PaymentConfirmed,
    /// Not paid, money returned.
    PaymentRefunded,
    /// A top-up was booked.
    DepositCredited,
}

impl EventKind {
    /// `payment_confirmed`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::PaymentPending => "payment_pending",
            Self::PaymentConfirmed => "payment_confirmed",
            Self::PaymentRefunded => "payment_refunded",
            Self::DepositCredited => "deposit_credited",
        }
    }

    /// The reverse of [`Self::name`].
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::PaymentPending, Self::PaymentConfirmed, Self::PaymentRefunded, Self::DepositCredited]
            .into_iter()
            .find(|kind| kind.name() == name)
    }
}

/// Something an operator should look at. One row per invoice and kind, counting repetitions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Incident {
    /// The invoice; `None` if the message named none that is known.
    pub invoice: Option<InvoiceNumber>,
    /// What is wrong.
    pub kind: IncidentKind,
    /// The latest details; never personal data.
    pub detail: String,
    /// When it was first seen.
    pub first_at: Timestamp,
    /// When it was last seen.
    pub last_at: Timestamp,
    /// How often.
    pub count: u32,
    /// The correction that was booked for it, if any.
    pub corrected_by: Option<i64>,
}

/// The kinds of incidents.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum IncidentKind {
    /// The bank says paid, and the invoice is refunded.
    PaidAfterRefund,
    /// The bank says not paid, and the invoice is confirmed.
    NotPaidAfterConfirm,
    /// The bank confirmed another amount.
    AmountDiffers,
    /// The bank answered with another identity.
    IdentityDiffers,
    /// A response code that the profile does not know.
    UnknownCode,
    /// A message that could not be read.
    Garbled,
    /// Already paid at the bank, and it cannot be told by whom.
    PayerUnknown,
    /// An answer to nothing that is known.
    Unmatched,
    /// A payment is open for unusually long.
    PendingLong,
    /// The gateway's own money at a provider runs out.
    UpstreamBalanceLow,
}

impl IncidentKind {
    /// All kinds.
    pub const ALL: [Self; 10] = [
        Self::PaidAfterRefund,
        Self::NotPaidAfterConfirm,
        Self::AmountDiffers,
        Self::IdentityDiffers,
        Self::UnknownCode,
        Self::Garbled,
        Self::PayerUnknown,
        Self::Unmatched,
        Self::PendingLong,
        Self::UpstreamBalanceLow,
    ];

    /// `paid_after_refund`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::PaidAfterRefund => "paid_after_refund",
            Self::NotPaidAfterConfirm => "not_paid_after_confirm",
            Self::AmountDiffers => "amount_differs",
            Self::IdentityDiffers => "identity_differs",
            Self::UnknownCode => "unknown_code",
            Self::Garbled => "garbled",
            Self::PayerUnknown => "payer_unknown",
            Self::Unmatched => "unmatched",
            Self::PendingLong => "pending_long",
            Self::UpstreamBalanceLow => "upstream_balance_low",
        }
    }

    /// The reverse of [`Self::name`].
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }
}

/// A ledger entry that belongs to no payment, and who is answerable for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its number: the `subject` of its postings.
    pub number: i64,
    /// What it is.
    pub kind: EntryKind,
    /// Live or sandbox.
    pub environment: Environment,
    /// The partner concerned.
    pub partner: PartnerId,
    /// The amount, in whole Rupiah.
    pub amount: Rupiah,
    /// Who booked it.
    pub operator: String,
    /// What it relies on; unique per environment for top-ups.
    pub reference: String,
    /// When it was booked.
    pub at: Timestamp,
}

/// The kinds of manual entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EntryKind {
    /// Money came in for a partner's deposit.
    TopUp,
    /// A contradiction was written off against dispute loss.
    Correction,
}

impl EntryKind {
    /// `top_up`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::TopUp => "top_up",
            Self::Correction => "correction",
        }
    }

    /// The reverse of [`Self::name`].
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::TopUp, Self::Correction].into_iter().find(|kind| kind.name() == name)
    }
}

/// What one operator wants to do with an open payment; a second one approves it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Proposal {
    /// The invoice.
    pub invoice: InvoiceNumber,
    /// What is proposed.
    pub resolution: Resolution,
    /// Who proposes.
    pub operator: String,
    /// What it relies on: the bank's letter, a statement line.
    pub reference: String,
    /// Why.
    pub reason: String,
    /// When.
    pub at: Timestamp,
    /// What [`Attempt::resolve_after`](crate::Attempt::resolve_after) was then: it tells whether the bank was asked since.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resolve_after: Option<Timestamp>,
    /// Who approved it, and when; none while it stands, or if the bank's own word came first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub approved: Option<Approval>,
}

impl Proposal {
    /// Whether nothing may leave for the bank that could make it untrue, so that the second operator can approve: a
    /// reversal never, what could pay if it says "not paid".
    pub fn holds_questions_back(&self, reverses: bool, now: Timestamp) -> bool {
        let is_at_stake = reverses || self.resolution == Resolution::NotPaid;
        is_at_stake
            && self.at <= now.plus(limits::clocks_apart_max)
            && now < self.at.plus(limits::proposal_holds_back)
    }
}

/// A second operator's approval: it ended the payment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Approval {
    /// Who.
    pub operator: String,
    /// When.
    pub at: Timestamp,
}

/// How an open payment is to end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "outcome")]
pub enum Resolution {
    /// The bank took it.
    Paid {
        /// The bank's proof.
        receipt: BankReceipt,
    },
    /// The bank did not take it.
    NotPaid,
}
