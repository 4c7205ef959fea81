//! How the domain's values stand in columns, and how they are read back.
//!
//! An invoice's state is which of its rows there are: a `payment` makes it PENDING, a `settlement` final.
//! Reading is as lenient as the types of the domain allow, so that an audit sees what somebody edited by
//! hand. A row that no value of the domain can hold is a failure that names its table and key.

use crate::failure::{Failure, Unreadable};
use domain::{
    Attempt, BankReceipt, BusinessDate, ChassisNumber, Environment, Invoice, InvoiceNumber, Lease, PartnerId,
    PaymentCode, Posting, ProductCode, Rupiah, State, Timestamp, UpstreamId, UpstreamTerms,
    ledger::{Account, AccountKind, Step},
    record::{Entry, EntryKind, Event, EventKind, Incident, IncidentKind},
};
use serde_json::from_str;
use std::time::Duration;
use tokio_postgres::{Row, types::FromSql};

/// The columns that [`invoice`] reads, in order, of the tables that [`invoice_tables`] joins.
macro_rules! invoice_columns {
    () => {
        "invoice.number, inquired_at, payable_until, total, fee, cashback, invoice.partner, upstream, \
         business_date, environment, product, chassis, payment_code, refusal, begun_at, send_before, \
         resolve_after, identity, settled_at, reference_number, trace_number, proof, is_reversing, \
         upstream_fee, upstream_cashback, rest"
    };
}
pub(crate) use invoice_columns;

/// How many those are.
pub(crate) const INVOICE_COLUMNS: usize = 26;

/// An invoice's rows side by side.
macro_rules! invoice_tables {
    () => {
        "invoice LEFT JOIN payment ON payment.number = invoice.number \
         LEFT JOIN settlement ON settlement.number = payment.number"
    };
}
pub(crate) use invoice_tables;

/// The number of an environment.
pub(crate) const fn environment_code(environment: Environment) -> i16 {
    match environment {
        Environment::Live => 0,
        Environment::Sandbox => 1,
    }
}

/// A value of the domain as JSON.
pub(crate) fn json(value: &(impl serde::Serialize + ?Sized)) -> String {
    serde_json::to_string(value).expect("the domain's values have text keys and no failing parts")
}

/// Reads a row that begins with the columns of [`invoice_columns`].
pub(crate) fn invoice(row: &Row) -> Result<Invoice, Failure> {
    let number: i64 = row.try_get(0)?;
    read_invoice(row, InvoiceNumber::new(number))
        .map_err(|what| Failure::unreadable("invoice", number, &what))
}

fn read_invoice(row: &Row, number: InvoiceNumber) -> Result<Invoice, Unreadable> {
    let state = state(row)?;
    Ok(Invoice {
        number,
        sequence: match &state {
            State::Failure { .. } | State::Inquiry => 0,
            State::Pending { .. } => 1,
            State::Confirm { .. } | State::Refund { .. } => 2,
        },
        state,
        inquired_at: moment(row, 1)?,
        payable_until: get::<Option<i64>>(row, 2)?.map(Timestamp::from_millis),
        total: rupiah(row, 3)?,
        fee: rupiah(row, 4)?,
        cashback: rupiah(row, 5)?,
        upstream_terms: UpstreamTerms { fee: rupiah(row, 23)?, cashback: rupiah(row, 24)? },
        partner: PartnerId(number_of(row, 6, "partner is no number of one")?),
        upstream: UpstreamId(number_of(row, 7, "upstream is no number of one")?),
        business_date: BusinessDate::from_number(get(row, 8)?).ok_or("business_date is no date")?,
        environment: environment(row, 9)?,
        product: text(row, 10, "product is no product code", ProductCode::parse)?,
        chassis: text(row, 11, "chassis is no chassis number", ChassisNumber::parse)?,
        payment_code: match get::<Option<&str>>(row, 12)? {
            Some(code) => Some(PaymentCode::parse(code).ok_or("payment_code is no payment code")?),
            None => None,
        },
    })
}

fn state(row: &Row) -> Result<State, Unreadable> {
    let Some(begun_at) = get::<Option<i64>>(row, 14)? else {
        return Ok(match get::<Option<&str>>(row, 13)? {
            Some(refusal) => State::Failure { refusal: from_str(refusal)? },
            None => State::Inquiry,
        });
    };
    let attempt = Attempt {
        begun_at: Timestamp::from_millis(begun_at),
        send_before: moment(row, 15)?,
        resolve_after: moment(row, 16)?,
        identity: get(row, 17)?,
        is_reversing: get(row, 22)?,
        rest: Duration::from_millis(get::<i64>(row, 25)?.unsigned_abs()),
    };
    let Some(settled_at) = get::<Option<i64>>(row, 18)?.map(Timestamp::from_millis) else {
        return Ok(State::Pending { attempt });
    };
    Ok(match get::<Option<&str>>(row, 21)? {
        Some(proof) => State::Refund { attempt, proof: from_str(proof)?, settled_at },
        None => State::Confirm {
            attempt,
            receipt: BankReceipt { reference_number: get(row, 19)?, trace_number: get(row, 20)? },
            settled_at,
        },
    })
}

/// Reads a value kept as JSON; `table` and `key` name the row.
pub(crate) fn body<T: serde::de::DeserializeOwned>(
    row: &Row,
    index: usize,
    table: &str,
    key: impl std::fmt::Display,
) -> Result<T, Failure> {
    let read = || -> Result<T, Unreadable> { Ok(from_str(get(row, index)?)?) };
    read().map_err(|what| Failure::unreadable(table, key, &what))
}

/// The key of the row that holds an account's balance.
pub(crate) fn balance_row(account: Account) -> i64 {
    match account.kind {
        AccountKind::Reserved => Account { kind: AccountKind::Deposit, ..account }.code(),
        _ => account.code(),
    }
}

/// Reads `account, amount, reserved`: the balances that the row holds, none for an account never used.
pub(crate) fn balances(row: &Row) -> Result<Vec<(Account, Option<Rupiah>)>, Failure> {
    let code: i64 = row.try_get(0)?;
    let account = Account::from_code(code)
        .ok_or_else(|| Failure::unreadable("balance", code, &"account is none".into()))?;
    let amount = |index| Ok::<_, Failure>(row.try_get::<_, Option<i64>>(index)?.map(Rupiah::new));
    let mut balances = vec![(account, amount(1)?)];
    if account.kind == AccountKind::Deposit {
        balances.push((Account { kind: AccountKind::Reserved, ..account }, amount(2)?));
    }
    Ok(balances)
}

/// Reads `subject, step, at, accounts, amounts`: the lines of one step, in order of account.
pub(crate) fn postings(row: &Row) -> Result<Vec<Posting>, Failure> {
    let (subject, step): (i64, i16) = (row.try_get(0)?, row.try_get(1)?);
    let read = || -> Result<Vec<Posting>, Unreadable> {
        let at = moment(row, 2)?;
        let (accounts, amounts): (Vec<i64>, Vec<i64>) = (get(row, 3)?, get(row, 4)?);
        let step = u8::try_from(step).ok().and_then(Step::from_number).ok_or("step is none")?;
        let mut lines = Vec::with_capacity(accounts.len());
        for (account, amount) in accounts.into_iter().zip(amounts) {
            let account = Account::from_code(account).ok_or("account is none")?;
            lines.push(Posting { subject, step, account, amount: Rupiah::new(amount), at });
        }
        lines.sort_by_key(|line| line.account);
        Ok(lines)
    };
    read().map_err(|what| Failure::unreadable("posting", format_args!("{subject}/{step}"), &what))
}

/// Reads `number, kind, environment, partner, amount, operator, reference, at`.
pub(crate) fn entry(row: &Row) -> Result<Entry, Failure> {
    let number: i64 = row.try_get(0)?;
    let read = || -> Result<Entry, Unreadable> {
        Ok(Entry {
            number,
            kind: text(row, 1, "kind is none", EntryKind::from_name)?,
            environment: environment(row, 2)?,
            partner: PartnerId(number_of(row, 3, "partner is no number of one")?),
            amount: rupiah(row, 4)?,
            operator: get(row, 5)?,
            reference: get(row, 6)?,
            at: moment(row, 7)?,
        })
    };
    read().map_err(|what| Failure::unreadable("entry", number, &what))
}

/// Reads `id, subject, sequence, kind, environment, partner, at`.
pub(crate) fn event(row: &Row) -> Result<(i64, Event), Failure> {
    let position: i64 = row.try_get(0)?;
    let read = || -> Result<Event, Unreadable> {
        Ok(Event {
            subject: get(row, 1)?,
            sequence: u32::try_from(get::<i32>(row, 2)?).map_err(|_| "sequence is none")?,
            kind: text(row, 3, "kind is none", EventKind::from_name)?,
            environment: environment(row, 4)?,
            partner: PartnerId(number_of(row, 5, "partner is no number of one")?),
            at: moment(row, 6)?,
        })
    };
    let event = read().map_err(|what| Failure::unreadable("outbox", position, &what))?;
    Ok((position, event))
}

/// Reads `invoice, kind, detail, first_at, last_at, count, corrected_by`.
pub(crate) fn incident(row: &Row) -> Result<Incident, Failure> {
    let invoice: i64 = row.try_get(0)?;
    let read = || -> Result<Incident, Unreadable> {
        Ok(Incident {
            invoice: (invoice != 0).then(|| InvoiceNumber::new(invoice)),
            kind: text(row, 1, "kind is none", IncidentKind::from_name)?,
            detail: get(row, 2)?,
            first_at: moment(row, 3)?,
            last_at: moment(row, 4)?,
            count: number_of(row, 5, "count is none")?,
            corrected_by: get(row, 6)?,
        })
    };
    read().map_err(|what| Failure::unreadable("incident", invoice, &what))
}

/// Reads `name, holder, token, renewals`.
pub(crate) fn lease(row: &Row) -> Result<(String, Lease), Failure> {
    let lease = Lease { holder: row.try_get(1)?, token: row.try_get(2)?, renewals: row.try_get(3)? };
    Ok((row.try_get(0)?, lease))
}

fn get<'a, T: FromSql<'a>>(row: &'a Row, index: usize) -> Result<T, Unreadable> {
    Ok(row.try_get(index)?)
}

fn moment(row: &Row, index: usize) -> Result<Timestamp, Unreadable> {
    Ok(Timestamp::from_millis(get(row, index)?))
}

fn rupiah(row: &Row, index: usize) -> Result<Rupiah, Unreadable> {
    Ok(Rupiah::new(get(row, index)?))
}

fn number_of(row: &Row, index: usize, otherwise: &str) -> Result<u32, Unreadable> {
    u32::try_from(get::<i64>(row, index)?).map_err(|_| otherwise.into())
}

fn environment(row: &Row, index: usize) -> Result<Environment, Unreadable> {
    match get::<i16>(row, index)? {
        0 => Ok(Environment::Live),
        1 => Ok(Environment::Sandbox),
        _ => Err("environment is none".into()),
    }
}

fn text<T>(
    row: &Row,
    index: usize,
    otherwise: &str,
    parse: impl FnOnce(&str) -> Option<T>,
) -> Result<T, Unreadable> {
    parse(get(row, index)?).ok_or_else(|| otherwise.into())
}
