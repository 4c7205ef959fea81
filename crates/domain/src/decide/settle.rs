//! Booking the outcome of a payment: at most once, never against a final state.

use super::{Decided, begin::event, book, resolve::note_incident};
use crate::{
    command::{Accepted, Outcome, PaymentFacts, RaiseIncident, Rejection, SettlePayment},
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
    if let Some(fence) = &settle.fence
        && rows.lease(&fence.name).is_none_or(|lease| lease.token != fence.token)
    {
        return Err(Rejection::LeaseLost);
    }
    match (&invoice.state, &settle.outcome) {
        (State::Failure { .. } | State::Inquiry, _) => Err(Rejection::NotBegun),
        (State::Confirm { .. }, Outcome::Paid { .. }) | (State::Refund { .. }, Outcome::NotPaid(_)) => {
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
            conclude(rows, invoice, attempt, &settle.facts, outcome, settle.at, slot)
        }
    }
}

/// Ends an open payment: the one place where CONFIRM and REFUND are made.
pub(super) fn conclude(
    rows: &Rows,
    invoice: &Invoice,
    attempt: &Attempt,
    facts: &PaymentFacts,
    outcome: &Outcome,
    at: Timestamp,
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
            book(
                rows,
                &mut changes,
                group,
                &[
                    (reserved, invoice.total),
                    (Account::bank_payable(environment, facts.upstream, slot), -invoice.amount_due()),
                    (Account::house(AccountKind::FeeIncome, environment, slot), -invoice.fee),
                    (Account::house(AccountKind::CashbackExpense, environment, slot), invoice.cashback),
                    (deposit, -invoice.cashback),
                ],
            );
            settled.state = State::Confirm { attempt, receipt: receipt.clone(), settled_at: at };
            EventKind::PaymentConfirmed
        }
        Outcome::NotPaid(proof) => {
            // What the bank said of this very request, or that it never left, holds at any time. Whatever else
            // says "not paid" does not while a late original may still arrive.
            let established_at = match proof {
                NotPaidProof::NotFound { asked_at } => Some(*asked_at),
                NotPaidProof::Operators { .. } => Some(at),
                NotPaidProof::NeverSent | NotPaidProof::Refused { .. } | NotPaidProof::PaidByAnother => None,
            };
            if established_at.is_some_and(|moment| moment < attempt.resolve_after) {
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
