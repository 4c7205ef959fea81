//! Crediting a deposit: once per reference, for ever.

use super::{Decided, amount_in_limits, book, next, operator_text};
use crate::{
    command::{Accepted, Rejection, TopUp},
    ledger::{Account, AccountKind, Slot, Step},
    limits,
    money::Rupiah,
    record::{Entry, EntryKind, Event, EventKind},
    rows::{Changes, Counter, Rows},
};

pub(super) fn top_up(rows: &Rows, top_up: &TopUp, slot: Slot) -> Decided {
    let partner = rows.partner(top_up.partner).ok_or(Rejection::PartnerUnknown)?;
    if partner.environment != top_up.environment {
        return Err(Rejection::PartnerUnknown);
    }
    amount_in_limits("the amount", top_up.amount, 1)?;
    operator_text("the reference", &top_up.reference)?;
    operator_text("the operator's name", &top_up.operator)?;
    if rows.claim(&top_up.claim()).is_some() {
        return Err(Rejection::ReferenceUsed);
    }
    let deposit = Account::deposit(top_up.environment, top_up.partner);
    // No deposit may grow beyond what sums are safe with.
    if rows.balance(deposit) - top_up.amount < Rupiah::new(-limits::amount_rupiah_max) {
        return Err(Rejection::OutOfLimits("the deposit with this amount"));
    }

    let mut changes = Changes::default();
    let number = next(rows, &mut changes, Counter::Entry);
    changes.claims.insert(top_up.claim(), Some(number));
    book(
        rows,
        &mut changes,
        (number, Step::Manual, top_up.at),
        &[
            (Account::house(AccountKind::BankCash, top_up.environment, slot), top_up.amount),
            (deposit, -top_up.amount),
        ],
    );
    changes.events.push(Event {
        subject: number,
        sequence: 1,
        kind: EventKind::DepositCredited,
        environment: top_up.environment,
        partner: top_up.partner,
        at: top_up.at,
    });
    changes.entries.push(Entry {
        number,
        kind: EntryKind::TopUp,
        environment: top_up.environment,
        partner: top_up.partner,
        amount: top_up.amount,
        operator: top_up.operator.clone(),
        reference: top_up.reference.trim().to_owned(),
        at: top_up.at,
    });
    Ok((Accepted::Entry(number), changes))
}
