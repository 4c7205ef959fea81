//! Recording an inquiry, and reserving the money of a payment.

use super::{Decided, book, under_lease};
use crate::{
    command::{Accepted, BeginPayment, PaymentFacts, RecordInquiry, Rejection},
    invoice::{Attempt, InvoiceNumber, State},
    ledger::{Account, Step},
    partner::PartnerStatus,
    record::{Event, EventKind},
    rows::{Changes, Rows},
};
use std::time::Duration;

/// The number is fresh, from a block that was committed before, so there is nothing to decide.
pub(super) fn record_inquiry(record: &RecordInquiry) -> (Accepted, Changes) {
    let invoice = &record.invoice;
    assert!(
        matches!(invoice.state, State::Inquiry | State::Failure { .. }),
        "an invoice begins as INQUIRY or FAILURE"
    );
    let mut changes = Changes::default();
    changes.presentments.insert(invoice.number, record.presentment.clone());
    changes.invoices.insert(invoice.number, invoice.clone());
    (Accepted::Done, changes)
}

/// One flat ladder: whose, which state, on which line, still valid, who, which bill, enough money; then the
/// writes.
pub(super) fn begin_payment(rows: &Rows, begin: &BeginPayment) -> Decided {
    let facts = &begin.facts;
    let invoice = rows.invoice(facts.invoice).ok_or(Rejection::InvoiceUnknown)?;
    match &invoice.state {
        _ if invoice.partner != facts.partner => return Err(Rejection::InvoiceUnknown),
        State::Failure { .. } => return Err(Rejection::InquiryFailed),
        State::Pending { .. } => return Err(Rejection::InvoicePending),
        State::Confirm { .. } => return Err(Rejection::InvoicePaid),
        State::Refund { .. } => return Err(Rejection::InvoiceRefunded),
        State::Inquiry => {}
    }
    if PaymentFacts::of(invoice).as_ref() != Some(facts) {
        return Err(Rejection::InvoiceUnknown);
    }
    under_lease(rows, begin.fence.as_ref())?;
    if begin.business_date != invoice.business_date
        || invoice.payable_until.is_some_and(|until| begin.at >= until)
    {
        return Err(Rejection::InvoiceExpired);
    }

    let partner = rows.partner(facts.partner).ok_or(Rejection::PartnerUnknown)?;
    if partner.status != PartnerStatus::Active {
        return Err(Rejection::PartnerSuspended);
    }

    // A vehicle is claimed only while its payment is open, so its claim tells open from done.
    if rows.claim(&facts.vehicle_claim()).is_some() {
        return Err(Rejection::BillBeingPaid);
    }
    if rows.claim(&facts.bill_claim()).is_some() {
        return Err(Rejection::BillPaid);
    }

    let deposit = Account::deposit(facts.environment, facts.partner);
    let spendable = partner.credit_limit - rows.balance(deposit);
    if spendable < invoice.total {
        return Err(Rejection::BalanceShort);
    }

    let mut invoice = invoice.clone();
    invoice.state = State::Pending {
        attempt: Attempt {
            begun_at: begin.at,
            send_before: begin.send_before,
            resolve_after: begin.resolve_after,
            identity: begin.identity.clone(),
            is_reversing: false,
            rest: Duration::ZERO,
        },
    };
    invoice.sequence += 1;

    let mut changes = Changes::default();
    changes.claims.insert(facts.bill_claim(), Some(invoice.number.get()));
    changes.claims.insert(facts.vehicle_claim(), Some(invoice.number.get()));
    book(
        rows,
        &mut changes,
        (invoice.number.get(), Step::Begin, begin.at),
        &[(deposit, invoice.total), (Account::reserved(facts.environment, facts.partner), -invoice.total)],
    );
    changes.events.push(event(facts, invoice.sequence, EventKind::PaymentPending, begin.at));
    changes.invoices.insert(invoice.number, invoice.clone());
    Ok((Accepted::Invoice(Box::new(invoice)), changes))
}

/// The outbox row of a change of an invoice's state.
pub(super) fn event(
    facts: &PaymentFacts,
    sequence: u32,
    kind: EventKind,
    at: crate::time::Timestamp,
) -> Event {
    Event {
        subject: InvoiceNumber::get(facts.invoice),
        sequence,
        kind,
        environment: facts.environment,
        partner: facts.partner,
        at,
    }
}
