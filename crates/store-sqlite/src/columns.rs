//! How the domain's values stand in columns, and how they are read back.
//!
//! Reading is as lenient as the types of the domain allow, so that an audit sees what somebody edited by
//! hand. A row that no value of the domain can hold is a failure that names its table and key.

use crate::failure::{Failure, Unreadable};
use domain::{
    Attempt, BankReceipt, BusinessDate, ChassisNumber, Environment, Invoice, InvoiceNumber, Lease, PartnerId,
    PaymentCode, Posting, ProductCode, Rupiah, State, Timestamp, UpstreamId, UpstreamTerms,
    ledger::{Account, Step},
    record::{Entry, EntryKind, Event, EventKind, Incident, IncidentKind},
};
use rusqlite::Row;
use serde_json::from_str;
use std::time::Duration;

/// The columns of `invoice`, in the order in which [`invoice`] reads them.
macro_rules! invoice_columns {
    () => {
        "invoice.number, invoice.state, invoice.sequence, invoice.environment, invoice.partner, \
         invoice.upstream, invoice.business_date, invoice.inquired_at, invoice.payable_until, invoice.total, \
         invoice.fee, invoice.cashback, invoice.product, invoice.chassis, invoice.payment_code, \
         invoice.begun_at, invoice.send_before, invoice.resolve_after, invoice.identity, invoice.settled_at, \
         invoice.reference_number, invoice.trace_number, invoice.detail, invoice.is_reversing, \
         invoice.upstream_fee, invoice.upstream_cashback, invoice.rest"
    };
}
pub(crate) use invoice_columns;

/// How many those are.
pub(crate) const INVOICE_COLUMNS: usize = 27;

/// The number of an environment.
pub(crate) const fn environment_code(environment: Environment) -> i64 {
    match environment {
        Environment::Live => 0,
        Environment::Sandbox => 1,
    }
}

/// The number of the state with this word.
pub(crate) fn state_code(word: &str) -> Option<i64> {
    let position = ["FAILURE", "INQUIRY", "PENDING", "CONFIRM", "REFUND"].iter().position(|w| *w == word)?;
    i64::try_from(position).ok()
}

/// What the columns of `invoice` that a payment changes hold.
pub(crate) struct StateColumns<'a> {
    /// Its number.
    pub(crate) state: i64,
    /// The payment.
    pub(crate) attempt: Option<&'a Attempt>,
    /// When it was settled.
    pub(crate) settled_at: Option<i64>,
    /// The bank's proof.
    pub(crate) receipt: Option<&'a BankReceipt>,
    /// A refusal or a proof.
    pub(crate) detail: Option<String>,
}

impl<'a> StateColumns<'a> {
    /// Takes a state apart.
    pub(crate) fn of(state: &'a State) -> Self {
        let number = state_code(state.word()).expect("every state has a number");
        let mut columns =
            Self { state: number, attempt: state.attempt(), settled_at: None, receipt: None, detail: None };
        match state {
            State::Failure { refusal } => columns.detail = Some(json(refusal)),
            State::Inquiry | State::Pending { .. } => {}
            State::Confirm { receipt, settled_at, .. } => {
                columns.receipt = Some(receipt);
                columns.settled_at = Some(settled_at.as_millis());
            }
            State::Refund { proof, settled_at, .. } => {
                columns.detail = Some(json(proof));
                columns.settled_at = Some(settled_at.as_millis());
            }
        }
        columns
    }
}

/// A value of the domain as JSON.
pub(crate) fn json(value: &(impl serde::Serialize + ?Sized)) -> String {
    serde_json::to_string(value).expect("the domain's values have text keys and no failing parts")
}

/// Reads a row that begins with the columns of [`invoice_columns`].
pub(crate) fn invoice(row: &Row<'_>) -> Result<Invoice, Failure> {
    let number: i64 = row.get(0)?;
    read_invoice(row, InvoiceNumber::new(number))
        .map_err(|what| Failure::unreadable("invoice", number, &what))
}

fn read_invoice(row: &Row<'_>, number: InvoiceNumber) -> Result<Invoice, Unreadable> {
    Ok(Invoice {
        number,
        state: state(row)?,
        sequence: row.get(2)?,
        environment: environment(row, 3)?,
        partner: PartnerId(row.get(4)?),
        upstream: UpstreamId(row.get(5)?),
        business_date: BusinessDate::from_number(row.get(6)?).ok_or("business_date is no date")?,
        inquired_at: moment(row, 7)?,
        payable_until: row.get::<_, Option<i64>>(8)?.map(Timestamp::from_millis),
        total: Rupiah::new(row.get(9)?),
        fee: Rupiah::new(row.get(10)?),
        cashback: Rupiah::new(row.get(11)?),
        upstream_terms: UpstreamTerms { fee: Rupiah::new(row.get(24)?), cashback: Rupiah::new(row.get(25)?) },
        product: text(row, 12, "product is no product code", ProductCode::parse)?,
        chassis: text(row, 13, "chassis is no chassis number", ChassisNumber::parse)?,
        payment_code: match row.get_ref(14)?.as_str_or_null().map_err(|_| "payment_code is no text")? {
            Some(code) => Some(PaymentCode::parse(code).ok_or("payment_code is no payment code")?),
            None => None,
        },
    })
}

fn state(row: &Row<'_>) -> Result<State, Unreadable> {
    let attempt = || -> Result<Attempt, Unreadable> {
        Ok(Attempt {
            begun_at: moment(row, 15)?,
            send_before: moment(row, 16)?,
            resolve_after: moment(row, 17)?,
            identity: row.get(18)?,
            is_reversing: row.get(23)?,
            rest: Duration::from_millis(row.get::<_, i64>(26)?.unsigned_abs()),
        })
    };
    Ok(match row.get::<_, i64>(1)? {
        0 => State::Failure { refusal: from_str(&row.get::<_, String>(22)?)? },
        1 => State::Inquiry,
        2 => State::Pending { attempt: attempt()? },
        3 => State::Confirm {
            attempt: attempt()?,
            receipt: BankReceipt { reference_number: row.get(20)?, trace_number: row.get(21)? },
            settled_at: moment(row, 19)?,
        },
        4 => State::Refund {
            attempt: attempt()?,
            proof: from_str(&row.get::<_, String>(22)?)?,
            settled_at: moment(row, 19)?,
        },
        _ => return Err("state is none".into()),
    })
}

/// Reads a value kept as JSON; `table` and `key` name the row.
pub(crate) fn body<T: serde::de::DeserializeOwned>(
    row: &Row<'_>,
    index: usize,
    table: &str,
    key: impl std::fmt::Display,
) -> Result<T, Failure> {
    let read = || -> Result<T, Unreadable> {
        let text = row.get_ref(index)?.as_str().map_err(|_| "body is no text")?;
        Ok(from_str(text)?)
    };
    read().map_err(|what| Failure::unreadable(table, key, &what))
}

/// Reads `account, amount`.
pub(crate) fn balance(row: &Row<'_>) -> Result<(Account, Rupiah), Failure> {
    let code: i64 = row.get(0)?;
    let account = Account::from_code(code)
        .ok_or_else(|| Failure::unreadable("balance", code, &"account is none".into()))?;
    Ok((account, Rupiah::new(row.get(1)?)))
}

/// Reads `subject, step, account, amount, at`.
pub(crate) fn posting(row: &Row<'_>) -> Result<Posting, Failure> {
    let (subject, step, account): (i64, i64, i64) = (row.get(0)?, row.get(1)?, row.get(2)?);
    let read = || -> Result<Posting, Unreadable> {
        Ok(Posting {
            subject,
            step: u8::try_from(step).ok().and_then(Step::from_number).ok_or("step is none")?,
            account: Account::from_code(account).ok_or("account is none")?,
            amount: Rupiah::new(row.get(3)?),
            at: moment(row, 4)?,
        })
    };
    read().map_err(|what| Failure::unreadable("posting", format_args!("{subject}/{step}/{account}"), &what))
}

/// Reads `number, kind, environment, partner, amount, operator, reference, at`.
pub(crate) fn entry(row: &Row<'_>) -> Result<Entry, Failure> {
    let number: i64 = row.get(0)?;
    let read = || -> Result<Entry, Unreadable> {
        Ok(Entry {
            number,
            kind: text(row, 1, "kind is none", EntryKind::from_name)?,
            environment: environment(row, 2)?,
            partner: PartnerId(row.get(3)?),
            amount: Rupiah::new(row.get(4)?),
            operator: row.get(5)?,
            reference: row.get(6)?,
            at: moment(row, 7)?,
        })
    };
    read().map_err(|what| Failure::unreadable("entry", number, &what))
}

/// Reads `id, subject, sequence, kind, environment, partner, at`.
pub(crate) fn event(row: &Row<'_>) -> Result<(i64, Event), Failure> {
    let position: i64 = row.get(0)?;
    let read = || -> Result<Event, Unreadable> {
        Ok(Event {
            subject: row.get(1)?,
            sequence: row.get(2)?,
            kind: text(row, 3, "kind is none", EventKind::from_name)?,
            environment: environment(row, 4)?,
            partner: PartnerId(row.get(5)?),
            at: moment(row, 6)?,
        })
    };
    let event = read().map_err(|what| Failure::unreadable("outbox", position, &what))?;
    Ok((position, event))
}

/// Reads `invoice, kind, detail, first_at, last_at, count, corrected_by`.
pub(crate) fn incident(row: &Row<'_>) -> Result<Incident, Failure> {
    let invoice: i64 = row.get(0)?;
    let read = || -> Result<Incident, Unreadable> {
        Ok(Incident {
            invoice: (invoice != 0).then(|| InvoiceNumber::new(invoice)),
            kind: text(row, 1, "kind is none", IncidentKind::from_name)?,
            detail: row.get(2)?,
            first_at: moment(row, 3)?,
            last_at: moment(row, 4)?,
            count: row.get(5)?,
            corrected_by: row.get(6)?,
        })
    };
    read().map_err(|what| Failure::unreadable("incident", invoice, &what))
}

/// Reads `name, holder, token, renewals`.
pub(crate) fn lease(row: &Row<'_>) -> Result<(String, Lease), Failure> {
    Ok((row.get(0)?, Lease { holder: row.get(1)?, token: row.get(2)?, renewals: row.get(3)? }))
}

fn moment(row: &Row<'_>, index: usize) -> Result<Timestamp, Unreadable> {
    Ok(Timestamp::from_millis(row.get(index)?))
}

fn environment(row: &Row<'_>, index: usize) -> Result<Environment, Unreadable> {
    match row.get::<_, i64>(index)? {
        0 => Ok(Environment::Live),
        1 => Ok(Environment::Sandbox),
        _ => Err("environment is none".into()),
    }
}

fn text<T>(
    row: &Row<'_>,
    index: usize,
    otherwise: &str,
    parse: impl FnOnce(&str) -> Option<T>,
) -> Result<T, Unreadable> {
    let text = row.get_ref(index)?.as_str().map_err(|_| otherwise)?;
    parse(text).ok_or_else(|| otherwise.into())
}
