//! The questions: each runs on a reader's own connection and never waits for the writer.
//!
//! The postings of one account are found through the invoices and entries of its partner, or by walking the
//! ledger backwards: an index of its own would cost every posting a write in the middle of a large tree.

use crate::{
    batch::optional,
    columns::{self, INVOICE_COLUMNS, invoice_columns, state_code},
    failure::Failure,
};
use domain::{
    Environment, Invoice, InvoiceNumber, Lease, Partner, Posting, Product, Rupiah, UpstreamId, Username,
    ledger::{Account, AccountKind},
    record::{Entry, Event, Incident, Proposal},
    rows::Claim,
};
use rusqlite::{Connection, Params, Row, ToSql, params};
use store::{AuditRow, AuditVisitor, InvoiceFilter, StoredInvoice};

const INVOICE: &str = concat!(
    "SELECT ",
    invoice_columns!(),
    ", presentment.body FROM invoice JOIN presentment ON presentment.number = invoice.number WHERE "
);

fn all<T>(
    connection: &Connection,
    sql: &str,
    params: impl Params,
    decode: impl Fn(&Row<'_>) -> Result<T, Failure>,
) -> Result<Vec<T>, Failure> {
    let mut statement = connection.prepare_cached(sql)?;
    let mut rows = statement.query(params)?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        found.push(decode(row)?);
    }
    Ok(found)
}

fn one<T>(
    connection: &Connection,
    sql: &str,
    params: impl Params,
    decode: impl FnOnce(&Row<'_>) -> Result<T, Failure>,
) -> Result<Option<T>, Failure> {
    optional(&mut connection.prepare_cached(sql)?, params, decode)
}

/// Reads `id, body`.
fn partner_row(row: &Row<'_>) -> Result<Partner, Failure> {
    columns::body(row, 1, "partner", row.get::<_, i64>(0)?)
}

/// Reads an invoice's columns and the body of its presentment.
pub(crate) fn stored_invoice(row: &Row<'_>) -> Result<StoredInvoice, Failure> {
    let invoice = columns::invoice(row)?;
    let presentment = columns::body(row, INVOICE_COLUMNS, "presentment", invoice.number)?;
    Ok(StoredInvoice { invoice, presentment })
}

pub(crate) fn partner(connection: &Connection, username: &Username) -> Result<Option<Partner>, Failure> {
    let sql = "SELECT id, body FROM partner WHERE username = ?1";
    one(connection, sql, [username.as_str()], partner_row)
}

pub(crate) fn partners(connection: &Connection) -> Result<Vec<Partner>, Failure> {
    all(connection, "SELECT id, body FROM partner ORDER BY id", (), partner_row)
}

pub(crate) fn catalogue_version(connection: &Connection) -> Result<i64, Failure> {
    let version =
        one(connection, "SELECT value FROM counter WHERE name = 'catalogue'", (), |row| Ok(row.get(0)?))?;
    Ok(version.unwrap_or(0))
}

pub(crate) fn products(connection: &Connection) -> Result<Vec<Product>, Failure> {
    let sql = "SELECT code, body FROM product ORDER BY environment, code";
    let mut products = all(connection, sql, (), |row| {
        columns::body::<Product>(row, 1, "product", row.get::<_, String>(0)?)
    })?;
    // Stable, so that products of one position stay in order of code.
    products.sort_by_key(|product| (product.environment, product.position));
    Ok(products)
}

pub(crate) fn invoice(
    connection: &Connection,
    number: InvoiceNumber,
) -> Result<Option<StoredInvoice>, Failure> {
    one(connection, &format!("{INVOICE} invoice.number = ?1"), [number.get()], stored_invoice)
}

pub(crate) fn invoices(
    connection: &Connection,
    filter: &InvoiceFilter,
) -> Result<Vec<StoredInvoice>, Failure> {
    let mut sql = INVOICE.to_owned();
    let mut values: Vec<Box<dyn ToSql>> = Vec::new();
    let mut condition = |text: &str, value: i64| {
        sql.push_str(text);
        sql.push_str(" AND ");
        values.push(Box::new(value));
    };
    condition("invoice.number < ?", filter.before.map_or(i64::MAX, InvoiceNumber::get));
    if let Some(partner) = filter.partner {
        condition("invoice.partner = ?", i64::from(partner.0));
    }
    if let Some(date) = filter.business_date {
        condition("invoice.business_date = ?", i64::from(date.as_number()));
    }
    match filter.state.as_deref().map(state_code) {
        None => sql.push_str("TRUE"),
        // A number in the text, since the index of the open ones serves only a statement that names them.
        Some(Some(state)) => {
            sql.push_str("invoice.state = ");
            sql.push_str(&state.to_string());
        }
        Some(None) => return Ok(Vec::new()),
    }
    sql.push_str(" ORDER BY invoice.number DESC LIMIT ?");
    values.push(Box::new(filter.limit));
    all(connection, &sql, rusqlite::params_from_iter(values), stored_invoice)
}

pub(crate) fn pending(
    connection: &Connection,
    after: InvoiceNumber,
    limit: u32,
) -> Result<Vec<Invoice>, Failure> {
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    let mut statement = connection.prepare_cached(concat!(
        "SELECT ",
        invoice_columns!(),
        " FROM invoice WHERE state = 2 AND number > ?1 ORDER BY number"
    ))?;
    let mut rows = statement.query([after.get()])?;
    let mut found = Vec::new();
    // Counted here and not by the statement: a page of unreadable rows would look like the end.
    while found.len() < limit
        && let Some(row) = rows.next()?
    {
        match columns::invoice(row) {
            Ok(invoice) => found.push(invoice),
            Err(Failure::Row(what)) => tracing::error!("an open payment cannot be read: {what}"),
            Err(failure) => return Err(failure),
        }
    }
    Ok(found)
}

pub(crate) fn pending_count(connection: &Connection) -> Result<u64, Failure> {
    let sql = "SELECT count(*) FROM invoice WHERE state = 2";
    let count = one(connection, sql, (), |row| Ok(row.get::<_, u32>(0)?))?;
    Ok(count.unwrap_or(0).into())
}

pub(crate) fn balances(connection: &Connection) -> Result<Vec<(Account, Rupiah)>, Failure> {
    all(connection, "SELECT account, amount FROM balance ORDER BY account", (), columns::balance)
}

pub(crate) fn postings(connection: &Connection, subject: i64) -> Result<Vec<Posting>, Failure> {
    let sql =
        "SELECT subject, step, account, amount, at FROM posting WHERE subject = ?1 ORDER BY step, account";
    all(connection, sql, [subject], columns::posting)
}

pub(crate) fn account_postings(
    connection: &Connection,
    account: Account,
    before: i64,
    limit: u32,
) -> Result<Vec<Posting>, Failure> {
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    let mut found = Vec::new();
    match account.kind {
        AccountKind::Deposit | AccountKind::Reserved => {
            // Entries are numbered below all invoices, so that the one list continues the other.
            let of_partner = params![account.owner, before, account.code()];
            extend(
                connection,
                "SELECT subject, step, account, amount, posting.at
                 FROM invoice CROSS JOIN posting ON subject = invoice.number AND account = ?3
                 WHERE partner = ?1 AND invoice.number < ?2 ORDER BY invoice.number DESC, step DESC",
                of_partner,
                limit,
                &mut found,
            )?;
            extend(
                connection,
                "SELECT subject, step, account, posting.amount, posting.at
                 FROM entry CROSS JOIN posting ON subject = entry.number AND account = ?3
                 WHERE partner = ?1 AND entry.number < ?2 ORDER BY entry.number DESC, step DESC",
                of_partner,
                limit,
                &mut found,
            )?;
        }
        _ => extend(
            connection,
            "SELECT subject, step, account, amount, at FROM posting WHERE account = ?1 AND subject < ?2
             ORDER BY subject DESC, step DESC",
            params![account.code(), before],
            limit,
            &mut found,
        )?,
    }
    Ok(found)
}

/// Adds postings up to the limit, and the rest of the last one's subject: a page ends between two subjects.
fn extend(
    connection: &Connection,
    sql: &str,
    params: impl Params,
    limit: usize,
    found: &mut Vec<Posting>,
) -> Result<(), Failure> {
    let mut statement = connection.prepare_cached(sql)?;
    let mut rows = statement.query(params)?;
    while let Some(row) = rows.next()? {
        let posting = columns::posting(row)?;
        if found.len() >= limit && found.last().is_none_or(|last| last.subject != posting.subject) {
            break;
        }
        found.push(posting);
    }
    Ok(())
}

pub(crate) fn entries(connection: &Connection, before: i64, limit: u32) -> Result<Vec<Entry>, Failure> {
    let sql = "SELECT number, kind, environment, partner, amount, operator, reference, at FROM entry
               WHERE number < ?1 ORDER BY number DESC LIMIT ?2";
    all(connection, sql, params![before, limit], columns::entry)
}

pub(crate) fn entry_by_reference(
    connection: &Connection,
    environment: Environment,
    reference: &str,
) -> Result<Option<Entry>, Failure> {
    let sql = "SELECT number, kind, environment, partner, amount, operator, reference, at
               FROM claim JOIN entry ON entry.number = claim.owner WHERE claim.key = ?1";
    one(connection, sql, [Claim::deposit_reference(environment, reference).key()], columns::entry)
}

pub(crate) fn incidents(connection: &Connection, limit: u32) -> Result<Vec<Incident>, Failure> {
    let sql = "SELECT invoice, kind, detail, first_at, last_at, count, corrected_by FROM incident
               ORDER BY last_at DESC, invoice, kind LIMIT ?1";
    all(connection, sql, [limit], columns::incident)
}

pub(crate) fn proposals(connection: &Connection) -> Result<Vec<Proposal>, Failure> {
    let sql = "SELECT proposal.invoice, body FROM proposal JOIN invoice ON number = proposal.invoice
               WHERE state = 2 ORDER BY proposal.invoice";
    all(connection, sql, (), |row| columns::body(row, 1, "proposal", row.get::<_, i64>(0)?))
}

pub(crate) fn proposal(connection: &Connection, number: InvoiceNumber) -> Result<Option<Proposal>, Failure> {
    let sql = "SELECT body FROM proposal WHERE invoice = ?1";
    one(connection, sql, [number.get()], |row| columns::body(row, 0, "proposal", number))
}

pub(crate) fn upstreams(connection: &Connection) -> Result<Vec<(String, UpstreamId)>, Failure> {
    // After `b/` comes `b0` in order of bytes.
    let sql = "SELECT substr(key, 3), owner FROM claim WHERE key > 'b/' AND key < 'b0' ORDER BY key";
    all(connection, sql, (), |row| Ok((row.get(0)?, UpstreamId(row.get(1)?))))
}

pub(crate) fn leases(connection: &Connection) -> Result<Vec<(String, Lease)>, Failure> {
    let sql = "SELECT name, holder, token, renewals FROM lease ORDER BY name";
    all(connection, sql, (), columns::lease)
}

pub(crate) fn size_bytes(connection: &Connection) -> Result<u64, Failure> {
    let sql = "SELECT page_count * page_size FROM pragma_page_count(), pragma_page_size()";
    let bytes: i64 = connection.query_row(sql, (), |row| row.get(0))?;
    Ok(u64::try_from(bytes).unwrap_or(0))
}

pub(crate) fn events(connection: &Connection, after: i64, limit: u32) -> Result<Vec<(i64, Event)>, Failure> {
    let sql = "SELECT id, subject, sequence, kind, environment, partner, at FROM outbox
               WHERE id > ?1 ORDER BY id LIMIT ?2";
    all(connection, sql, params![after, limit], columns::event)
}

/// Hands over everything as of one moment: the caller holds a read transaction.
pub(crate) fn audit(connection: &Connection, mut visit: AuditVisitor) -> Result<(), Failure> {
    type Decode = fn(&Row<'_>) -> Result<AuditRow, Failure>;
    let tables: [(&str, Decode); 6] = [
        ("SELECT account, amount FROM balance ORDER BY account", |row| {
            columns::balance(row).map(|(account, amount)| AuditRow::Balance(account, amount))
        }),
        ("SELECT key, owner FROM claim ORDER BY key", |row| {
            Ok(AuditRow::Claim { key: row.get(0)?, owner: row.get(1)? })
        }),
        (
            "SELECT number, kind, environment, partner, amount, operator, reference, at FROM entry ORDER BY number",
            |row| columns::entry(row).map(AuditRow::Entry),
        ),
        ("SELECT subject, step, account, amount, at FROM posting ORDER BY subject, step, account", |row| {
            columns::posting(row).map(AuditRow::Posting)
        }),
        (concat!("SELECT ", invoice_columns!(), " FROM invoice ORDER BY number"), |row| {
            columns::invoice(row).map(|invoice| AuditRow::Invoice(Box::new(invoice)))
        }),
        ("SELECT id, subject, sequence, kind, environment, partner, at FROM outbox ORDER BY id", |row| {
            columns::event(row).map(|(_, event)| AuditRow::Event(event))
        }),
    ];
    for (sql, decode) in tables {
        let mut statement = connection.prepare_cached(sql)?;
        let mut rows = statement.query(())?;
        while let Some(row) = rows.next()? {
            if !visit(decode(row)?) {
                return Ok(());
            }
        }
    }
    Ok(())
}
