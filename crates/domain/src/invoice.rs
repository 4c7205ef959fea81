//! The invoice and its states.
//!
//! ```text
//!  inquire ──refused──► FAILURE
//!     ▼
//!  INQUIRY ──begin──► PENDING ──bank says paid──────────► CONFIRM   final
//!                       │ ▲ └──proof that it is not paid─► REFUND    final
//!                       └─┘ unknown: asked again, as long as it takes
//! ```
//!
//! Expiry is no state: whether an INQUIRY may still be paid is judged once, when the payment begins.

use crate::{
    bill::Bill,
    limits,
    money::Rupiah,
    partner::PartnerId,
    reason::Refusal,
    time::{BusinessDate, Timestamp},
    value::{ChassisNumber, Environment, Nik, PaymentCode, ProductCode, UpstreamId},
};
use serde::{Deserialize, Serialize};
use std::{fmt, time::Duration};

/// The gateway's transaction number: twelve digits, unique for ever.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct InvoiceNumber(i64);

impl InvoiceNumber {
    /// A number that the gateway itself gave out.
    pub const fn new(number: i64) -> Self {
        Self(number)
    }

    /// As a plain number.
    pub const fn get(self) -> i64 {
        self.0
    }

    /// Reads what a partner sent: 1 to 18 digits, surrounding spaces dropped. It need not exist.
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.trim_matches(' ');
        let digits = (1..=18).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit());
        if digits { text.parse().ok().map(Self) } else { None }
    }

    /// Whether it is in the range that invoices are numbered from.
    pub const fn in_range(self) -> bool {
        self.0 >= limits::invoice_number_first && self.0 <= limits::invoice_number_last
    }
}

impl fmt::Display for InvoiceNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl fmt::Debug for InvoiceNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "invoice {}", self.0)
    }
}

/// One inquiry and, perhaps, its payment. The wide data of the bill is apart, in [`Presentment`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Invoice {
    /// Its number.
    pub number: InvoiceNumber,
    /// Live or sandbox: the partner's.
    pub environment: Environment,
    /// Whose it is.
    pub partner: PartnerId,
    /// What was inquired.
    pub product: ProductCode,
    /// Who was asked.
    pub upstream: UpstreamId,
    /// When.
    pub inquired_at: Timestamp,
    /// The bank's business day of the inquiry; the invoice can be paid on that day only.
    pub business_date: BusinessDate,
    /// When the bill's payment code dies, where the province says so.
    pub payable_until: Option<Timestamp>,
    /// The bank's code for the bill; none if the inquiry failed.
    pub payment_code: Option<PaymentCode>,
    /// The vehicle.
    pub chassis: ChassisNumber,
    /// Taxes, penalties and fee: what the partner is debited.
    pub total: Rupiah,
    /// The gateway's part of the total, fixed at inquiry.
    pub fee: Rupiah,
    /// What the partner gets back at CONFIRM, fixed at inquiry.
    pub cashback: Rupiah,
    /// What the upstream charges and gives back for the payment, fixed at inquiry.
    pub upstream_terms: UpstreamTerms,
    /// Where it stands.
    pub state: State,
    /// How many events it has had; numbers them for receivers.
    pub sequence: u32,
}

impl Invoice {
    /// What the Samsat is paid: the total without the gateway's fee. An upstream's own fee comes on top.
    pub fn amount_due(&self) -> Rupiah {
        self.total - self.fee
    }

    /// What the upstream is owed once it has paid: the Samsat's part, with the upstream's own fee and without
    /// its cashback.
    pub fn payable(&self) -> Rupiah {
        self.amount_due() + self.upstream_terms.fee - self.upstream_terms.cashback
    }
}

/// What an upstream that is itself a provider takes and gives for one payment, in whole Rupiah; nothing at a
/// bank.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct UpstreamTerms {
    /// Charged on top of the bill.
    pub fee: Rupiah,
    /// Given back at CONFIRM.
    pub cashback: Rupiah,
}

impl UpstreamTerms {
    /// Whether there is anything to book.
    pub fn are_none(&self) -> bool {
        *self == Self::default()
    }
}

/// Where an invoice stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    /// The Samsat was asked and refused, or did not answer; never payable.
    Failure {
        /// Why.
        refusal: Refusal,
    },
    /// A bill was presented.
    Inquiry,
    /// Money is reserved; the outcome at the bank is open.
    Pending {
        /// The payment under way.
        attempt: Attempt,
    },
    /// Paid. Final.
    Confirm {
        /// The payment.
        attempt: Attempt,
        /// The bank's proof.
        receipt: BankReceipt,
        /// When the gateway knew.
        settled_at: Timestamp,
    },
    /// Not paid, money returned. Final.
    Refund {
        /// The payment.
        attempt: Attempt,
        /// Why this is certain.
        proof: NotPaidProof,
        /// When the gateway knew.
        settled_at: Timestamp,
    },
}

impl State {
    /// The partner contract's word: `INQUIRY`, `PENDING`, `CONFIRM`, `REFUND`, `FAILURE`.
    pub const fn word(&self) -> &'static str {
        match self {
            Self::Failure { .. } => "FAILURE",
            Self::Inquiry => "INQUIRY",
            Self::Pending { .. } => "PENDING",
            Self::Confirm { .. } => "CONFIRM",
            Self::Refund { .. } => "REFUND",
        }
    }

    /// The payment, if one has begun.
    pub const fn attempt(&self) -> Option<&Attempt> {
        match self {
            Self::Failure { .. } | Self::Inquiry => None,
            Self::Pending { attempt } | Self::Confirm { attempt, .. } | Self::Refund { attempt, .. } => {
                Some(attempt)
            }
        }
    }

    /// Whether nothing can change any more.
    pub const fn is_final(&self) -> bool {
        matches!(self, Self::Confirm { .. } | Self::Refund { .. } | Self::Failure { .. })
    }
}

/// A payment under way or done. There is at most one per invoice.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attempt {
    /// When the money was reserved.
    pub begun_at: Timestamp,
    /// Past this moment the request is never sent for the first time.
    pub send_before: Timestamp,
    /// Before this moment no answer "not found" proves anything: a late original may still arrive.
    pub resolve_after: Timestamp,
    /// What identifies the request at the bank; the same for every repeat.
    pub identity: String,
    /// Whether the bank was asked to reverse it: from then on, only its answer to that says how it ends.
    pub is_reversing: bool,
    /// How long what put it off last may take to arrive; zero while no question was asked that may pay or undo it.
    pub rest: Duration,
}

/// The bank's proof of a payment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BankReceipt {
    /// `reference_number`: 32 upper-case hexadecimal digits at the documented bank, at most 40 characters.
    pub reference_number: String,
    /// `trace_number`: six digits.
    pub trace_number: String,
}

/// Why it is certain that the bank did not take the payment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind")]
pub enum NotPaidProof {
    /// Not one byte left the gateway.
    NeverSent,
    /// The bank refused in so many words.
    Refused {
        /// What it said.
        refusal: Refusal,
    },
    /// The bank, asked after the horizon, knows no such payment.
    NotFound {
        /// When the question was asked.
        asked_at: Timestamp,
    },
    /// The bank says that somebody else paid this bill.
    PaidByAnother,
    /// Two operators decided.
    Operators {
        /// What they rely on.
        reference: String,
    },
}

impl NotPaidProof {
    /// What the partner is told.
    pub fn refusal(&self) -> Refusal {
        use crate::reason::Reason;
        match self {
            Self::NeverSent => Reason::BankUnreachable.into(),
            Self::Refused { refusal } => refusal.clone(),
            Self::NotFound { .. } | Self::Operators { .. } => Reason::PaymentNotExecuted.into(),
            Self::PaidByAnother => Refusal::already_paid(),
        }
    }
}

/// What the inquiry brought: the wide, immutable half of an invoice.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[expect(clippy::large_enum_variant, reason = "nearly every inquiry brings a bill")]
pub enum Presentment {
    /// A bill.
    Bill(Bill),
    /// Nothing but what was asked for.
    Refused {
        /// KTP number as asked.
        nik: Nik,
        /// Chassis number as asked.
        chassis: ChassisNumber,
    },
}

impl Presentment {
    /// KTP number as asked.
    pub const fn nik(&self) -> &Nik {
        match self {
            Self::Bill(bill) => &bill.nik,
            Self::Refused { nik, .. } => nik,
        }
    }

    /// Chassis number as asked.
    pub const fn chassis(&self) -> &ChassisNumber {
        match self {
            Self::Bill(bill) => &bill.chassis,
            Self::Refused { chassis, .. } => chassis,
        }
    }

    /// The bill, if there is one.
    pub const fn bill(&self) -> Option<&Bill> {
        match self {
            Self::Bill(bill) => Some(bill),
            Self::Refused { .. } => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers() {
        for (text, parsed) in [
            ("111111111111", Some(111_111_111_111)),
            ("1", Some(1)),
            (" 123 ", Some(123)),
            ("", None),
            ("-1", None),
            ("+1", None),
            ("1.0", None),
            ("1234567890123456789", None),
            ("１１１", None),
        ] {
            assert_eq!(InvoiceNumber::parse(text).map(InvoiceNumber::get), parsed, "{text}");
        }
    }
}
