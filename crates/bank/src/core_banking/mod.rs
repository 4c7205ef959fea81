//! A bank and its Samsat, without a line to them: which vehicles there are, what is owed, what was paid, and what
//! is going to go wrong. The simulator speaks for it in this process, the bank host over TCP; neither has a rule
//! of its own.
//!
//! What was taken stands in its ledger file and nowhere else. Deliberately absent: delays, answers, and everything
//! else that belongs to a conversation.

mod dice;
mod faults;
mod ledger;
pub mod population;
mod rules;
pub mod scenarios;
mod tax;
pub mod vehicles;

pub(crate) use dice::{Dice, fraction, hash};
pub use faults::FaultRates;
pub(crate) use faults::befalls;
pub use ledger::{LedgerError, LedgerPayment};
pub(crate) use ledger::{Order, Standing, Taken, Verdict};
pub(crate) use vehicles::Presented;

use domain::{
    ChassisNumber, Clock, InvoiceNumber, Nik, PaymentCode, ProductCode, Reason, Refusal, Rupiah, Timestamp,
};
use ledger::Ledger;
use scenarios::{Inquiry, ORDINARY, Payment};
use std::{borrow::Cow, path::Path, sync::Arc, time::Duration};
use tokio::time::Instant;

/// The bank's code for an amount that is not the bill's.
const WRONG_AMOUNT_CODE: &str = "0013";
/// The bank's code for a payment code that is not the vehicle's.
const UNKNOWN_BILL_CODE: &str = "0092";
/// The code that random refusals and test numbers give: provider down.
pub(crate) const PROVIDER_DOWN_CODE: &str = "0089";
/// A response code that is in no profile.
pub(crate) const UNKNOWN_CODE: &str = "7F";

/// A bank.
pub(crate) struct BankCore {
    ledger: Ledger,
    clock: Arc<dyn Clock>,
    population: u32,
    faults: FaultRates,
    seed: u64,
    horizon: Duration,
}

/// A bill, as the bank knows it now.
#[expect(clippy::large_enum_variant, reason = "nearly every inquiry brings a bill")]
pub(crate) enum Shown {
    /// It can be paid.
    Bill(Presented),
    /// There is none, or it is paid.
    Refused(Refusal),
    /// The ledger failed.
    Broken,
}

/// Which payment the bank is to take.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub(crate) identity: String,
    pub(crate) invoice: InvoiceNumber,
    pub(crate) product: ProductCode,
    pub(crate) nik: Nik,
    pub(crate) chassis: ChassisNumber,
    pub(crate) payment_code: PaymentCode,
    pub(crate) amount: Rupiah,
}

/// When a request left its sender, by both clocks.
#[derive(Clone, Copy)]
pub(crate) struct Sent {
    pub(crate) at: Timestamp,
    pub(crate) instant: Instant,
}

impl Sent {
    /// How long ago that was, by whichever clock says longer.
    pub(crate) fn since(&self, earlier: Self) -> Duration {
        self.instant.duration_since(earlier.instant).max(self.at.since(earlier.at))
    }
}

/// What the bank made of a payment.
pub(crate) enum Executed {
    /// It was taken, now or before.
    Taken(Taken),
    /// It was refused.
    Refused(Refusal),
    /// It died on the way; nobody is told.
    Dead,
    /// The ledger failed: it may or may not have been taken.
    Broken,
}

impl std::fmt::Debug for BankCore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("BankCore").field("ledger", &self.ledger).finish_non_exhaustive()
    }
}

impl BankCore {
    /// Opens the bank's ledger.
    pub(crate) fn open(
        ledger_path: &Path,
        clock: Arc<dyn Clock>,
        population: u32,
        (faults, seed): (FaultRates, u64),
        horizon: Duration,
    ) -> Result<Self, LedgerError> {
        let ledger = Ledger::open(ledger_path, Arc::clone(&clock))?;
        Ok(Self { ledger, clock, population, faults, seed, horizon })
    }

    /// Whether an I/O error has ended the bank's service.
    pub(crate) fn is_broken(&self) -> bool {
        self.ledger.is_broken()
    }

    pub(crate) async fn reset(&self) -> Result<i64, LedgerError> {
        self.ledger.reset().await
    }

    pub(crate) async fn payments(&self) -> Result<Vec<LedgerPayment>, LedgerError> {
        self.ledger.payments().await
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// What becomes of a question about a bill: by its test number, by the dice, or without incident.
    pub(crate) fn inquiry_course(&self, nik: &Nik, chassis: &ChassisNumber) -> Inquiry {
        match scenarios::of(chassis) {
            // A stranger's KTP number opens no scenario: the rules refuse it.
            Some(scenario) if nik.as_str() == scenarios::NIK => scenario.inquiry,
            Some(_) => Inquiry::Ordinary,
            None if vehicles::is_documented(chassis) => Inquiry::Ordinary,
            None => {
                let throw = hash(self.seed ^ self.now().as_millis().unsigned_abs(), chassis.as_str());
                befalls(&self.faults.inquiries(), fraction(throw)).unwrap_or(Inquiry::Ordinary)
            }
        }
    }

    /// What becomes of a payment: by its test number, by the dice, or without incident.
    pub(crate) fn payment_course(&self, chassis: &ChassisNumber, identity: &str) -> Payment {
        if let Some(scenario) = scenarios::of(chassis) {
            return scenario.payment;
        }
        if vehicles::is_documented(chassis) {
            return ORDINARY;
        }
        let throw = fraction(hash(self.seed, identity));
        befalls(&self.faults.payments(), throw).unwrap_or(ORDINARY)
    }

    /// The bill of a vehicle.
    pub(crate) fn show(&self, product: &ProductCode, nik: &Nik, chassis: &ChassisNumber) -> Shown {
        let presented = match vehicles::present(product, nik, chassis, self.now(), self.population) {
            Ok(presented) => presented,
            Err(refusal) => return Shown::Refused(refusal),
        };
        match self.ledger.is_paid(&presented.bill.payment_code) {
            Ok(false) => Shown::Bill(presented),
            Ok(true) => Shown::Refused(Refusal::already_paid()),
            Err(error) => {
                tracing::error!(%error, "the simulated bank cannot look a bill up");
                Shown::Broken
            }
        }
    }

    /// Takes a payment that has arrived, if the rules allow; never twice, and never beyond its horizon. What was
    /// taken before was taken, whatever the rules have come to say since.
    pub(crate) async fn execute(&self, request: &Request, sent: Sent) -> Executed {
        if let Err(refusal) = self.check(request) {
            return match self.standing(&request.identity, &request.payment_code).await {
                Some(Standing::Taken(taken)) => Executed::Taken(taken),
                Some(Standing::PaidByAnother | Standing::NotFound) => Executed::Refused(refusal),
                None => Executed::Broken,
            };
        }
        let order = Order {
            identity: request.identity.clone(),
            payment_code: request.payment_code.clone(),
            invoice: request.invoice,
            amount: request.amount,
            sent_at: sent.at,
            dies_at: sent.at.plus(self.horizon),
            dies: sent.instant + self.horizon,
        };
        match self.ledger.take(order).await {
            Some(Verdict::Taken(taken)) => Executed::Taken(taken),
            Some(Verdict::AlreadyPaid) => Executed::Refused(Refusal::already_paid()),
            Some(Verdict::Dead) => Executed::Dead,
            None => Executed::Broken,
        }
    }

    /// Whether the request is for the bill that its vehicle has now.
    fn check(&self, request: &Request) -> Result<(), Refusal> {
        let Request { product, nik, chassis, .. } = request;
        let bill = vehicles::present(product, nik, chassis, self.now(), self.population)?.bill;
        if bill.payment_code != request.payment_code {
            return Err(refusal(Reason::BankRefused, Some(UNKNOWN_BILL_CODE)));
        }
        if bill.taxes.total() != request.amount {
            return Err(refusal(Reason::BankRefused, Some(WRONG_AMOUNT_CODE)));
        }
        Ok(())
    }

    /// What became of an identity. `None`: the ledger cannot tell.
    pub(crate) async fn standing(&self, identity: &str, payment_code: &PaymentCode) -> Option<Standing> {
        self.ledger.find(identity.to_owned(), payment_code.clone()).await
    }

    /// Undoes a payment, and refuses it for ever if it has not come yet. `None`: the ledger cannot tell.
    pub(crate) async fn reverse(&self, identity: &str) -> Option<()> {
        self.ledger.reverse(identity.to_owned()).await
    }

    /// Refuses an identity for ever, so that no repeat of it is carried out later; unless it was taken before, then
    /// what was taken. `None`: the ledger cannot tell.
    pub(crate) async fn refuse(&self, identity: &str) -> Option<Option<Taken>> {
        self.ledger.refuse(identity.to_owned()).await
    }
}

/// A refusal in the bank's words.
pub(crate) fn refusal(reason: Reason, code: Option<&'static str>) -> Refusal {
    Refusal { reason, bank_code: code.map(Cow::Borrowed) }
}
