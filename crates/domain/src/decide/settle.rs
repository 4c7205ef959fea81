//! Booking the outcome of a payment: at most once, never against a final state.

use super::{Decided, begin::event, book, resolve::note_incident, under_lease};
use crate::{
    command::{Accepted, Outcome, PaymentFacts, PutOffResolution, RaiseIncident, Rejection, SettlePayment},
    invoice::{Attempt, Invoice, NotPaidProof, State},
    ledger::{Account, AccountKind, Slot, Step},
    record::{EventKind, IncidentKind},
    rows::{Changes, Rows},
    time::Timestamp,
};

pub(super) fn settle_payment(rows: &Rows, settle: &SettlePayment, slot: Slot) -> Decided {
    let invoice = rows.invoice(settle.facts.invoice).ok_or(Rejection::InvoiceUnknown)?;
    if PaymentFacts::of(invoice).as_ref() != Some(&settle.facts) {
        return Err(Rejection::InvoiceUnknown);
    }
    under_lease(rows, settle.fence.as_ref())?;
    match (&invoice.state, &settle.outcome) {
        (State::Failure { .. } | State::Inquiry, _) => Err(Rejection::NotBegun),
        (State::Confirm { .. }, Outcome::Paid { .. }) | (State::Refund { .. }, Outcome::NotPaid(_)) => {
            Ok((Accepted::AlreadySettled(Box::new(invoice.clone())), Changes::default()))
        }
        // Carried out by a question, whatever became of the first request.
        (State::Confirm { attempt, .. }, Outcome::NotPaid(_)) if is_superseded(settle, attempt) => {
            Ok((Accepted::AlreadySettled(Box::new(invoice.clone())), Changes::default()))
        }
        (State::Confirm { .. }, Outcome::NotPaid(proof)) => {
            let detail = format!("the bank says not paid ({proof:?}); the invoice is confirmed");
            Ok(contradiction(rows, invoice, IncidentKind::NotPaidAfterConfirm, detail, settle.at))
        }
        (State::Refund { .. }, Outcome::Paid { receipt, .. }) => {
            let detail = format!(
                "the bank says paid, reference {}; the invoice is refunded",
                receipt.reference_number
            );
            Ok(contradiction(rows, invoice, IncidentKind::PaidAfterRefund, detail, settle.at))
        }
        (State::Pending { attempt }, outcome) => {
            let is_latest = settle.put_off_until == Some(attempt.resolve_after);
            if attempt.is_reversing && !is_latest {
                return Err(Rejection::BeingReversed);
            }
            if is_superseded(settle, attempt) {
                return Err(Rejection::AskedTooEarly);
            }
            // The question that put the resolution off found what it found with nothing else on its way.
            let counts_from = match outcome {
                Outcome::NotPaid(NotPaidProof::NotFound { asked_at }) if is_latest => *asked_at,
                Outcome::NotPaid(NotPaidProof::PaidByAnother) if is_latest => settle.at,
                _ => attempt.resolve_after,
            };
            let end = End { facts: &settle.facts, outcome, counts_from, at: settle.at };
            conclude(rows, invoice, attempt, &end, slot)
        }
    }
}

/// Whether it says of one message that it was refused, came second, or never left, while a later one may have paid.
fn is_superseded(settle: &SettlePayment, attempt: &Attempt) -> bool {
    use NotPaidProof::{NeverSent, PaidByAnother, Refused};
    let is_of_one_message =
        matches!(settle.outcome, Outcome::NotPaid(NeverSent | Refused { .. } | PaidByAnother));
    is_of_one_message && settle.put_off_until.is_some_and(|until| until != attempt.resolve_after)
}

/// Before a message leaves that may carry the payment out once more, or reverse it, it is written down until
/// when that may arrive. Whoever is paused in between finds, at the next step, that others went on.
pub(super) fn put_off(rows: &Rows, put_off: &PutOffResolution) -> Decided {
    let facts = &put_off.facts;
    let invoice = rows.invoice(facts.invoice).ok_or(Rejection::InvoiceUnknown)?;
    if PaymentFacts::of(invoice).as_ref() != Some(facts) {
        return Err(Rejection::InvoiceUnknown);
    }
    under_lease(rows, put_off.fence.as_ref())?;
    let attempt = match &invoice.state {
        State::Pending { attempt } => attempt,
        State::Confirm { .. } => return Err(Rejection::InvoicePaid),
        State::Refund { .. } => return Err(Rejection::InvoiceRefunded),
        State::Inquiry | State::Failure { .. } => return Err(Rejection::NotBegun),
    };
    if rows
        .proposal(invoice.number)
        .is_some_and(|proposal| proposal.holds_questions_back(put_off.reverses, put_off.at))
    {
        return Err(Rejection::AlreadyProposed);
    }
    if put_off.resolve_after <= attempt.resolve_after {
        return Err(Rejection::AskedTooEarly);
    }
    let counts = put_off.at >= attempt.resolve_after;
    // A reversal may only overtake what can no longer arrive.
    if put_off.reverses && !counts {
        return Err(Rejection::AskedTooEarly);
    }
    let mut put_off_invoice = invoice.clone();
    put_off_invoice.state = State::Pending {
        attempt: Attempt {
            resolve_after: put_off.resolve_after,
            is_reversing: attempt.is_reversing || put_off.reverses,
            rest: attempt.rest.max(put_off.rest),
            ..attempt.clone()
        },
    };
    let mut changes = Changes::default();
    changes.invoices.insert(invoice.number, put_off_invoice);
    Ok((Accepted::PutOff { counts }, changes))
}

/// How an open payment is to end.
pub(super) struct End<'a> {
    pub(super) facts: &'a PaymentFacts,
    pub(super) outcome: &'a Outcome,
    /// From when on a question about it that finds it not paid counts.
    pub(super) counts_from: Timestamp,
    pub(super) at: Timestamp,
}

/// Ends an open payment: the one place where CONFIRM and REFUND are made.
pub(super) fn conclude(
    rows: &Rows,
    invoice: &Invoice,
    attempt: &Attempt,
    &End { facts, outcome, counts_from, at }: &End<'_>,
    slot: Slot,
) -> Decided {
    let environment = facts.environment;
    let deposit = Account::deposit(environment, facts.partner);
    let reserved = Account::reserved(environment, facts.partner);
    let attempt = attempt.clone();
    let mut settled = invoice.clone();
    settled.sequence += 1;
    let mut changes = Changes::default();
    changes.claims.insert(facts.vehicle_claim(), None);
    let group = (invoice.number.get(), Step::Settle, at);
    let kind = match outcome {
        Outcome::Paid { receipt, amount } => {
            if *amount != invoice.amount_due() {
                return Err(Rejection::AmountDiffers);
            }
            // The partner's deposit appears once, so that a step posts each account at most once.
            let house = |kind| Account::house(kind, environment, slot);
            let terms = invoice.upstream_terms;
            let mut lines = vec![
                (reserved, invoice.total),
                (Account::bank_payable(environment, facts.upstream, slot), -invoice.payable()),
                (house(AccountKind::FeeIncome), -invoice.fee),
                (house(AccountKind::CashbackExpense), invoice.cashback),
                (deposit, -invoice.cashback),
            ];
            if facts.has_upstream_terms {
                lines.push((house(AccountKind::UpstreamFeeExpense), terms.fee));
                lines.push((house(AccountKind::UpstreamCashbackIncome), -terms.cashback));
            }
            book(rows, &mut changes, group, &lines);
            settled.state = State::Confirm { attempt, receipt: receipt.clone(), settled_at: at };
            EventKind::PaymentConfirmed
        }
        Outcome::NotPaid(proof) => {
            // What the bank said of this very request, or that it never left, holds at any time. Whatever else
            // says "not paid" does not while a late original may still arrive.
            let established_at = match proof {
                NotPaidProof::NotFound { asked_at } => Some(*asked_at),
                // What another payment paid, as the bank sees it, may be this one on its way.
                NotPaidProof::Operators { .. } | NotPaidProof::PaidByAnother => Some(at),
                NotPaidProof::NeverSent | NotPaidProof::Refused { .. } => None,
            };
            if established_at.is_some_and(|moment| moment < counts_from) {
                return Err(Rejection::AskedTooEarly);
            }
            changes.claims.insert(facts.bill_claim(), None);
            book(rows, &mut changes, group, &[(reserved, invoice.total), (deposit, -invoice.total)]);
            settled.state = State::Refund { attempt, proof: proof.clone(), settled_at: at };
            EventKind::PaymentRefunded
        }
    };
    changes.events.push(event(facts, settled.sequence, kind, at));
    changes.invoices.insert(settled.number, settled.clone());
    Ok((Accepted::Invoice(Box::new(settled)), changes))
}

fn contradiction(
    rows: &Rows,
    invoice: &Invoice,
    kind: IncidentKind,
    detail: String,
    at: Timestamp,
) -> (Accepted, Changes) {
    let mut changes = Changes::default();
    let raise = RaiseIncident { invoice: Some(invoice.number), kind, detail, at };
    note_incident(rows, &mut changes, raise);
    (Accepted::Contradiction(Box::new(invoice.clone())), changes)
}
