//! What operators decide, and what they are told: proposals, approvals, incidents, corrections.

use super::{
    Decided, book, next, operator_text,
    settle::{End, conclude},
};
use crate::{
    command::{
        Accepted, ApproveResolution, CorrectIncident, Outcome, PaymentFacts, ProposeResolution,
        RaiseIncident, Rejection,
    },
    invoice::{NotPaidProof, State},
    ledger::{Account, AccountKind, Slot, Step},
    limits,
    record::{Approval, Entry, EntryKind, IncidentKind, Proposal, Resolution},
    rows::{Changes, Counter, Rows},
};

pub(super) fn propose(rows: &Rows, propose: &ProposeResolution) -> Decided {
    let invoice = rows.invoice(propose.invoice).ok_or(Rejection::InvoiceUnknown)?;
    let attempt = match &invoice.state {
        State::Pending { attempt } => attempt,
        State::Confirm { .. } => return Err(Rejection::InvoicePaid),
        State::Refund { .. } => return Err(Rejection::InvoiceRefunded),
        State::Inquiry | State::Failure { .. } => return Err(Rejection::NotBegun),
    };
    operator_text("the operator's name", &propose.operator)?;
    operator_text("the reference", &propose.reference)?;
    operator_text("the reason", &propose.reason)?;
    if let Resolution::Paid { receipt } = &propose.resolution {
        let reference = &receipt.reference_number;
        let trace = &receipt.trace_number;
        operator_text("the reference number", reference)?;
        if reference.len() > limits::reference_number_chars_max {
            return Err(Rejection::OutOfLimits("the reference number (40 characters at most)"));
        }
        if trace.len() != 6 || !trace.bytes().all(|b| b.is_ascii_digit()) {
            return Err(Rejection::OutOfLimits("the trace number (six digits)"));
        }
    }
    // Whoever proposed may change the proposal; another operator's stands until it is approved.
    if rows
        .proposal(propose.invoice)
        .is_some_and(|standing| !is_same_operator(&standing.operator, &propose.operator))
    {
        return Err(Rejection::AlreadyProposed);
    }
    let proposal = Proposal {
        invoice: propose.invoice,
        resolution: propose.resolution.clone(),
        operator: propose.operator.trim().to_owned(),
        reference: propose.reference.trim().to_owned(),
        reason: propose.reason.trim().to_owned(),
        at: propose.at,
        resolve_after: Some(attempt.resolve_after),
        approved: None,
    };
    let mut changes = Changes::default();
    changes.proposals.insert(propose.invoice, Some(proposal));
    Ok((Accepted::Done, changes))
}

pub(super) fn approve(rows: &Rows, approve: &ApproveResolution, slot: Slot) -> Decided {
    let facts = &approve.facts;
    let invoice = rows.invoice(facts.invoice).ok_or(Rejection::InvoiceUnknown)?;
    if PaymentFacts::of(invoice).as_ref() != Some(facts) {
        return Err(Rejection::InvoiceUnknown);
    }
    let attempt = match &invoice.state {
        State::Pending { attempt } => attempt,
        State::Confirm { .. } => return Err(Rejection::InvoicePaid),
        State::Refund { .. } => return Err(Rejection::InvoiceRefunded),
        State::Inquiry | State::Failure { .. } => return Err(Rejection::NotBegun),
    };
    let proposal = rows.proposal(facts.invoice).ok_or(Rejection::NothingProposed)?;
    operator_text("the operator's name", &approve.operator)?;
    if is_same_operator(&proposal.operator, &approve.operator) {
        return Err(Rejection::SameOperator);
    }
    // The proposer may have thought again since the approver looked.
    if proposal.resolution != approve.resolution {
        return Err(Rejection::ProposalDiffers);
    }
    let is_at_stake = attempt.is_reversing || proposal.resolution == Resolution::NotPaid;
    // What is still on its way may undo what was paid, or pay.
    if is_at_stake && !attempt.rest.is_zero() {
        if proposal.resolve_after != Some(attempt.resolve_after) {
            return Err(Rejection::ProposalOutdated);
        }
        // Whatever the clocks say, what left before the proposal has arrived by then.
        if approve.at < attempt.resolve_after.max(proposal.at.plus(attempt.rest)) {
            return Err(Rejection::AskedTooEarly);
        }
    }
    let outcome = match &proposal.resolution {
        Resolution::Paid { receipt } => {
            Outcome::Paid { receipt: receipt.clone(), amount: invoice.amount_due() }
        }
        Resolution::NotPaid => Outcome::NotPaid(NotPaidProof::Operators {
            reference: format!("{} ({}, {})", proposal.reference, proposal.operator, approve.operator.trim()),
        }),
    };
    let end = End { facts, outcome: &outcome, counts_from: attempt.resolve_after, at: approve.at };
    let (accepted, mut changes) = conclude(rows, invoice, attempt, &end, slot)?;
    let approval = Approval { operator: approve.operator.trim().to_owned(), at: approve.at };
    changes.proposals.insert(facts.invoice, Some(Proposal { approved: Some(approval), ..proposal.clone() }));
    Ok((accepted, changes))
}

/// Names differ only if their letters and digits do: case, spaces and dots make no second person.
fn is_same_operator(one: &str, other: &str) -> bool {
    let letters =
        |name: &str| name.to_lowercase().chars().filter(|c| c.is_alphanumeric()).collect::<String>();
    letters(one) == letters(other)
}

pub(super) fn raise_incident(rows: &Rows, raise: &RaiseIncident) -> (Accepted, Changes) {
    let mut changes = Changes::default();
    note_incident(rows, &mut changes, raise.clone());
    (Accepted::Done, changes)
}

/// Writes an incident, counting on where it is known already.
pub(super) fn note_incident(rows: &Rows, changes: &mut Changes, raise: RaiseIncident) {
    let key = raise.key();
    changes.incidents.insert(key, raise.into_incident(rows.incident(key)));
}

/// A contradiction leaves the invoice's state as it is; the money it cost or brought is booked against
/// dispute loss.
pub(super) fn correct_incident(rows: &Rows, correct: &CorrectIncident, slot: Slot) -> Decided {
    let facts = &correct.facts;
    let invoice = rows.invoice(facts.invoice).ok_or(Rejection::InvoiceUnknown)?;
    if PaymentFacts::of(invoice).as_ref() != Some(facts) {
        return Err(Rejection::InvoiceUnknown);
    }
    let key = (facts.invoice.get(), correct.kind);
    let incident = rows.incident(key).ok_or(Rejection::NothingToCorrect)?;
    if incident.corrected_by.is_some() {
        return Err(Rejection::AlreadyCorrected);
    }
    operator_text("the operator's name", &correct.operator)?;
    operator_text("the reference", &correct.reference)?;
    let loss = match correct.kind {
        // The bank took money that the partner got back: it is owed to the bank, and lost.
        IncidentKind::PaidAfterRefund => invoice.payable(),
        // The bank did not take what was booked as owed to it.
        IncidentKind::NotPaidAfterConfirm => -invoice.payable(),
        _ => return Err(Rejection::NothingToCorrect),
    };
    let mut changes = Changes::default();
    let number = next(rows, &mut changes, Counter::Entry);
    book(
        rows,
        &mut changes,
        (number, Step::Manual, correct.at),
        &[
            (Account::house(AccountKind::DisputeLoss, facts.environment, slot), loss),
            (Account::bank_payable(facts.environment, facts.upstream, slot), -loss),
        ],
    );
    let mut incident = incident.clone();
    incident.corrected_by = Some(number);
    changes.incidents.insert(key, incident);
    changes.entries.push(Entry {
        number,
        kind: EntryKind::Correction,
        environment: facts.environment,
        partner: facts.partner,
        amount: loss,
        operator: correct.operator.clone(),
        reference: format!("invoice {}: {}", facts.invoice, correct.reference),
        at: correct.at,
    });
    Ok((Accepted::Entry(number), changes))
}
