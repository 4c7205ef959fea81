//! Deciding: rows and a command in, changes or a rejection out. The rules of money, once.
//!
//! A decision only reads its rows. What it wants changed it returns, so that a rejection, or a panic,
//! leaves nothing behind.

mod admin;
mod begin;
mod resolve;
mod settle;
mod top_up;

use crate::{
    command::{Accepted, Command, Rejection},
    lease::Fence,
    ledger::{Account, Posting, Slot, Step},
    limits,
    money::Rupiah,
    rows::{Changes, Counter, Rows},
    time::Timestamp,
};

/// A decision before its batch is committed.
pub type Decided = Result<(Accepted, Changes), Rejection>;

/// Decides one command on the rows that its keys named.
pub fn decide(rows: &Rows, command: &Command, slot: Slot) -> Decided {
    match command {
        Command::ReserveInvoiceNumbers { count } => admin::reserve_invoice_numbers(rows, *count),
        Command::ReserveTraceNumbers(reserve) => admin::reserve_trace_numbers(rows, reserve),
        Command::RecordInquiry(record) => Ok(begin::record_inquiry(record)),
        Command::BeginPayment(payment) => begin::begin_payment(rows, payment),
        Command::PutOffResolution(put_off) => settle::put_off(rows, put_off),
        Command::SettlePayment(payment) => settle::settle_payment(rows, payment, slot),
        Command::ProposeResolution(propose) => resolve::propose(rows, propose),
        Command::ApproveResolution(approve) => resolve::approve(rows, approve, slot),
        Command::CorrectIncident(correct) => resolve::correct_incident(rows, correct, slot),
        Command::RaiseIncident(raise) => Ok(resolve::raise_incident(rows, raise)),
        Command::TopUp(top_up) => top_up::top_up(rows, top_up, slot),
        Command::AddPartner(add) => admin::add_partner(rows, add),
        Command::ChangePartner { id, change } => admin::change_partner(rows, *id, change),
        Command::SaveProduct(product) => admin::save_product(rows, product),
        Command::RegisterUpstream { name } => admin::register_upstream(rows, name),
        Command::ResetSandbox { upstream } => Ok(admin::reset_sandbox(rows, *upstream)),
        Command::ChangeLease(change) => admin::change_lease(rows, change),
    }
}

/// Books one balanced group of postings and the balances that follow from it.
///
/// # Panics
/// If the amounts do not sum to zero: a bug that must never be written down.
fn book(
    rows: &Rows,
    changes: &mut Changes,
    (subject, step, at): (i64, Step, Timestamp),
    lines: &[(Account, Rupiah)],
) {
    let sum: Rupiah = lines.iter().map(|(_, amount)| *amount).sum();
    assert_eq!(sum, Rupiah::ZERO, "the postings of {subject} {step:?} must sum to zero");
    for (account, amount) in lines.iter().filter(|(_, amount)| *amount != Rupiah::ZERO) {
        let before = changes.balances.get(account).copied().unwrap_or_else(|| rows.balance(*account));
        changes.balances.insert(*account, before + *amount);
        changes.postings.push(Posting { subject, step, account: *account, amount: *amount, at });
    }
}

/// Requires that a lease that a command relies on is still held.
fn under_lease(rows: &Rows, fence: Option<&Fence>) -> Result<(), Rejection> {
    match fence {
        Some(fence) if rows.lease(&fence.name).is_none_or(|lease| lease.token != fence.token) => {
            Err(Rejection::LeaseLost)
        }
        _ => Ok(()),
    }
}

/// The next number of a counter that counts one by one.
fn next(rows: &Rows, changes: &mut Changes, counter: Counter) -> i64 {
    let number = rows.counter(counter) + 1;
    changes.counters.insert(counter, number);
    number
}

/// Requires that a text that an operator wrote is of use: something, not too much, on one line.
fn operator_text(what: &'static str, text: &str) -> Result<(), Rejection> {
    let is_of_use = !text.trim().is_empty()
        && text.chars().count() <= limits::operator_text_chars_max
        && !text.chars().any(char::is_control);
    if is_of_use { Ok(()) } else { Err(Rejection::OutOfLimits(what)) }
}

/// Requires that an amount is neither below the least nor beyond what sums are safe with.
fn amount_in_limits(what: &'static str, amount: Rupiah, least: i64) -> Result<(), Rejection> {
    let is_within = (least..=limits::amount_rupiah_max).contains(&amount.get());
    if is_within { Ok(()) } else { Err(Rejection::OutOfLimits(what)) }
}
