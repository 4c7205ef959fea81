//! The questions: each on a reader's own connection, never waiting for a writer.
//!
//! The postings of one account are found through the invoices and entries of its partner, or by walking the
//! ledger backwards: an index of its own would cost every posting a write in the middle of a large tree.

use crate::{
    columns::{self, invoice_columns, invoice_tables},
    failure::Failure,
    lookup::stored_invoice,
    statements::Statements,
};
use domain::{
    Environment, Invoice, InvoiceNumber, Lease, Partner, Posting, Product, UpstreamId,
    ledger::{Account, AccountKind},
    record::{Entry, Event, Incident, Proposal},
    rows::Claim,
};
use futures::{StreamExt, pin_mut};
use std::fmt::Write as _;
use store::{AuditRow, AuditVisitor, InvoiceFilter, StoredInvoice};
use tokio_postgres::{Client, Row, types::ToSql};
use uuid::Uuid;

/// Rows fetched in one go where it is not known how many will be of use.
const PAGE: usize = 500;

async fn all<T>(
    client: &Client,
    sql: &str,
    parameters: &[&(dyn ToSql + Sync)],
    decode: impl Fn(&Row) -> Result<T, Failure>,
) -> Result<Vec<T>, Failure> {
    client.query(sql, parameters).await?.iter().map(decode).collect()
}

async fn one<T>(
    client: &Client,
    sql: &str,
    parameters: &[&(dyn ToSql + Sync)],
    decode: impl FnOnce(&Row) -> Result<T, Failure>,
) -> Result<Option<T>, Failure> {
    client.query_opt(sql, parameters).await?.as_ref().map(decode).transpose()
}

/// Reads `id, body`.
pub(crate) fn partner_row(row: &Row) -> Result<Partner, Failure> {
    columns::body(row, 1, "partner", row.try_get::<_, i64>(0)?)
}

pub(crate) async fn partners(client: &Client) -> Result<Vec<Partner>, Failure> {
    all(client, "SELECT id, body FROM partner ORDER BY id", &[], partner_row).await
}

pub(crate) async fn products(client: &Client) -> Result<Vec<Product>, Failure> {
    let sql = "SELECT code, body FROM product ORDER BY environment, code";
    let mut products = all(client, sql, &[], |row| {
        columns::body::<Product>(row, 1, "product", row.try_get::<_, String>(0)?)
    })
    .await?;
    // Stable, so that products of one position stay in order of code.
    products.sort_by_key(|product| (product.environment, product.position));
    Ok(products)
}

pub(crate) async fn invoices(client: &Client, filter: &InvoiceFilter) -> Result<Vec<StoredInvoice>, Failure> {
    let before = filter.before.map_or(i64::MAX, InvoiceNumber::get);
    let partner = filter.partner.map(|partner| i64::from(partner.0));
    let date = filter.business_date.map(domain::BusinessDate::as_number);
    let limit = i64::from(filter.limit);
    let mut sql = concat!("SELECT ", invoice_columns!(), ", body FROM ", invoice_tables!()).to_owned();
    let state = match filter.state.as_deref() {
        None => "TRUE",
        Some("FAILURE") => "refusal IS NOT NULL",
        Some("INQUIRY") => "refusal IS NULL AND begun_at IS NULL",
        Some("PENDING") => {
            "begun_at IS NOT NULL AND settled_at IS NULL AND invoice.number IN (SELECT owner FROM vehicle_claim)"
        }
        Some("CONFIRM") => "settled_at IS NOT NULL AND proof IS NULL",
        Some("REFUND") => "proof IS NOT NULL",
        Some(_) => return Ok(Vec::new()),
    };
    sql.push_str(" WHERE invoice.number < $1 AND ");
    sql.push_str(state);
    let mut parameters: Vec<&(dyn ToSql + Sync)> = vec![&before];
    for (condition, value) in [
        ("invoice.partner", partner.as_ref().map(|value| value as &(dyn ToSql + Sync))),
        ("business_date", date.as_ref().map(|value| value as &(dyn ToSql + Sync))),
    ] {
        if let Some(value) = value {
            parameters.push(value);
            write!(sql, " AND {condition} = ${}", parameters.len()).expect("written to memory");
        }
    }
    parameters.push(&limit);
    write!(sql, " ORDER BY invoice.number DESC LIMIT ${}", parameters.len()).expect("written to memory");
    all(client, &sql, &parameters, stored_invoice).await
}

pub(crate) async fn pending(
    client: &Client,
    statements: &Statements,
    after: InvoiceNumber,
    limit: u32,
) -> Result<Vec<Invoice>, Failure> {
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    let page = i64::try_from(limit.clamp(1, PAGE)).unwrap_or(i64::MAX);
    let mut after = after.get();
    let mut found = Vec::new();
    // Counted here and not by the statement: a page of unreadable rows would look like the end.
    loop {
        let rows = client.query(&statements.find_pending, &[&after, &page]).await?;
        for row in &rows {
            after = row.try_get(0)?;
            match columns::invoice(row) {
                Ok(invoice) if found.len() < limit => found.push(invoice),
                Ok(_) => return Ok(found),
                Err(Failure::Row(what)) => tracing::error!("an open payment cannot be read: {what}"),
                Err(failure) => return Err(failure),
            }
        }
        if found.len() >= limit || i64::try_from(rows.len()).unwrap_or(0) < page {
            return Ok(found);
        }
    }
}

pub(crate) async fn pending_count(client: &Client, statements: &Statements) -> Result<u64, Failure> {
    let count: i64 = client.query_one(&statements.count_pending, &[]).await?.try_get(0)?;
    Ok(u64::try_from(count).unwrap_or(0))
}

pub(crate) async fn balances(client: &Client) -> Result<Vec<(Account, domain::Rupiah)>, Failure> {
    let rows = client.query("SELECT account, amount, reserved FROM balance", &[]).await?;
    let mut found = Vec::with_capacity(2 * rows.len());
    for row in &rows {
        for (account, amount) in columns::balances(row)? {
            found.extend(amount.map(|amount| (account, amount)));
        }
    }
    found.sort_by_key(|(account, _)| account.code());
    Ok(found)
}

pub(crate) async fn postings(client: &Client, subject: i64) -> Result<Vec<Posting>, Failure> {
    let sql = "SELECT subject, step, at, accounts, amounts FROM posting WHERE subject = $1 ORDER BY step";
    Ok(all(client, sql, &[&subject], columns::postings).await?.concat())
}

pub(crate) async fn account_postings(
    client: &Client,
    account: Account,
    before: i64,
    limit: u32,
) -> Result<Vec<Posting>, Failure> {
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    let mut found = Vec::new();
    match account.kind {
        AccountKind::Deposit | AccountKind::Reserved => {
            let partner = Some(i64::from(account.owner));
            // Entries are numbered below all invoices, so that the one list continues the other.
            for (table, number) in [("invoice", "invoice.number"), ("entry", "entry.number")] {
                let sql = format!(
                    "SELECT subject, step, posting.at, accounts, amounts
                     FROM {table} JOIN posting ON subject = {number}
                     WHERE {table}.partner = $2 AND {number} < $1 AND $3 = ANY (accounts)
                     ORDER BY {number} DESC, step DESC LIMIT $4"
                );
                extend(client, &sql, partner, account, (before, limit), &mut found).await?;
            }
        }
        _ => {
            let sql = "SELECT subject, step, at, accounts, amounts FROM posting
                       WHERE subject < $1 AND $2::bigint IS NULL AND $3 = ANY (accounts)
                       ORDER BY subject DESC, step DESC LIMIT $4";
            extend(client, sql, None, account, (before, limit), &mut found).await?;
        }
    }
    Ok(found)
}

/// Adds postings up to the limit, and the rest of the last one's subject: a page ends between two subjects.
async fn extend(
    client: &Client,
    sql: &str,
    partner: Option<i64>,
    account: Account,
    (before, limit): (i64, usize),
    found: &mut Vec<Posting>,
) -> Result<(), Failure> {
    // A subject has three steps at most, and each of them one line of an account.
    let rows = i64::try_from(limit).unwrap_or(i64::MAX).saturating_add(3);
    for row in client.query(sql, &[&before, &partner, &account.code(), &rows]).await? {
        for posting in columns::postings(&row)?.into_iter().filter(|line| line.account == account) {
            if found.len() >= limit && found.last().is_none_or(|last| last.subject != posting.subject) {
                return Ok(());
            }
            found.push(posting);
        }
    }
    Ok(())
}

pub(crate) const ENTRY: &str = "number, kind, environment, partner, amount, operator, reference, at";

pub(crate) async fn entries(client: &Client, before: i64, limit: u32) -> Result<Vec<Entry>, Failure> {
    let sql = format!("SELECT {ENTRY} FROM entry WHERE number < $1 ORDER BY number DESC LIMIT $2");
    all(client, &sql, &[&before, &i64::from(limit)], columns::entry).await
}

pub(crate) async fn entry_by_reference(
    client: &Client,
    environment: Environment,
    reference: &str,
) -> Result<Option<Entry>, Failure> {
    let sql = format!("SELECT {ENTRY} FROM claim JOIN entry ON number = owner WHERE claim.key = $1");
    one(client, &sql, &[&Claim::deposit_reference(environment, reference).key()], columns::entry).await
}

pub(crate) async fn incidents(client: &Client, limit: u32) -> Result<Vec<Incident>, Failure> {
    let sql = "SELECT invoice, kind, detail, first_at, last_at, count, corrected_by FROM incident
               ORDER BY last_at DESC, invoice, kind LIMIT $1";
    all(client, sql, &[&i64::from(limit)], columns::incident).await
}

pub(crate) async fn proposals(client: &Client) -> Result<Vec<Proposal>, Failure> {
    let sql = "SELECT invoice, body FROM proposal JOIN payment ON payment.number = invoice
               WHERE NOT EXISTS (SELECT FROM settlement WHERE settlement.number = invoice) ORDER BY invoice";
    all(client, sql, &[], |row| columns::body(row, 1, "proposal", row.try_get::<_, i64>(0)?)).await
}

pub(crate) async fn proposal(client: &Client, number: InvoiceNumber) -> Result<Option<Proposal>, Failure> {
    let sql = "SELECT body FROM proposal WHERE invoice = $1";
    one(client, sql, &[&number.get()], |row| columns::body(row, 0, "proposal", number)).await
}

pub(crate) async fn upstreams(client: &Client) -> Result<Vec<(String, UpstreamId)>, Failure> {
    // After `b/` comes `b0` in order of bytes.
    let sql = "SELECT substr(key, 3), owner FROM claim WHERE key > 'b/' AND key < 'b0' ORDER BY key";
    let upstreams: Vec<(String, i64)> =
        all(client, sql, &[], |row| Ok((row.try_get(0)?, row.try_get(1)?))).await?;
    Ok(upstreams.into_iter().filter_map(|(name, id)| Some((name, UpstreamId(id.try_into().ok()?)))).collect())
}

pub(crate) async fn leases(client: &Client) -> Result<Vec<(String, Lease)>, Failure> {
    let sql = "SELECT name, holder, token, renewals FROM lease ORDER BY name";
    all(client, sql, &[], columns::lease).await
}

/// Of this schema's tables, with what belongs to them.
pub(crate) async fn size_bytes(client: &Client) -> Result<u64, Failure> {
    let sql = "SELECT coalesce(sum(pg_total_relation_size(oid)), 0)::bigint FROM pg_class
               WHERE relkind = 'r' AND relnamespace = current_schema()::regnamespace";
    let bytes = one(client, sql, &[], |row| Ok(row.try_get::<_, i64>(0)?)).await?;
    Ok(bytes.and_then(|bytes| u64::try_from(bytes).ok()).unwrap_or(0))
}

pub(crate) async fn events(client: &Client, after: i64, limit: u32) -> Result<Vec<(i64, Event)>, Failure> {
    let sql = "SELECT id, subject, sequence, kind, environment, partner, at FROM outbox
               WHERE id > $1 ORDER BY id LIMIT $2";
    all(client, sql, &[&after, &i64::from(limit)], columns::event).await
}

/// Whether something could be written now: it is, and taken back, so that asking costs no fsync.
pub(crate) async fn probe(client: &Client) -> Result<(), Failure> {
    client.batch_execute("BEGIN READ WRITE").await?;
    let sql = "INSERT INTO batch (id, committed) VALUES ($1, false)";
    let probed = client.execute(sql, &[&Uuid::max()]).await;
    client.batch_execute("ROLLBACK").await?;
    probed?;
    Ok(())
}

/// Forgets some of the batches whose ids are below this one, and says how many.
pub(crate) async fn prune_batches(client: &Client, first_kept: Uuid) -> Result<u64, Failure> {
    // In slices, so that none takes longer than a statement may.
    let sql = "DELETE FROM batch WHERE id IN (SELECT id FROM batch WHERE id < $1 ORDER BY id LIMIT 10000)";
    Ok(client.execute(sql, &[&first_kept]).await?)
}

/// Hands over everything as of one moment. Rows are read as they are wanted, so that memory stays bounded.
pub(crate) async fn audit(client: &Client, mut visit: AuditVisitor) -> Result<(), Failure> {
    // It may take as long as it takes.
    client
        .batch_execute(
            "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; SET LOCAL statement_timeout = 0; \
                        SET LOCAL idle_in_transaction_session_timeout = 0; SET LOCAL enable_hashjoin = off; \
                        SET LOCAL enable_sort = off; SET LOCAL max_parallel_workers_per_gather = 0",
        )
        .await?;
    let audited = audit_tables(client, &mut visit).await;
    client.batch_execute("COMMIT").await?;
    audited
}

async fn audit_tables(client: &Client, visit: &mut AuditVisitor) -> Result<(), Failure> {
    type Decode = fn(&Row, &mut Vec<AuditRow>) -> Result<(), Failure>;
    let claim: Decode = |row, rows| {
        rows.push(AuditRow::Claim { key: row.try_get(0)?, owner: row.try_get(1)? });
        Ok(())
    };
    let entry = format!("SELECT {ENTRY} FROM entry ORDER BY number");
    // Vehicles' claims begin with `c/`, and stand between those of banks and those of deposits.
    let tables: [(&str, Decode); 7] = [
        ("SELECT key, owner FROM claim WHERE key < 'c/' ORDER BY key", claim),
        ("SELECT key, owner FROM vehicle_claim ORDER BY key", claim),
        ("SELECT key, owner FROM claim WHERE key > 'c/' ORDER BY key", claim),
        (&entry, |row, rows| {
            rows.push(AuditRow::Entry(columns::entry(row)?));
            Ok(())
        }),
        ("SELECT subject, step, at, accounts, amounts FROM posting ORDER BY subject, step", |row, rows| {
            rows.extend(columns::postings(row)?.into_iter().map(AuditRow::Posting));
            Ok(())
        }),
        (
            concat!("SELECT ", invoice_columns!(), " FROM ", invoice_tables!(), " ORDER BY invoice.number"),
            |row, rows| {
                rows.push(AuditRow::Invoice(Box::new(columns::invoice(row)?)));
                Ok(())
            },
        ),
        (
            "SELECT id, subject, sequence, kind, environment, partner, at FROM outbox ORDER BY id",
            |row, rows| {
                rows.push(AuditRow::Event(columns::event(row)?.1));
                Ok(())
            },
        ),
    ];
    for (account, amount) in balances(client).await? {
        if !visit(AuditRow::Balance(account, amount)) {
            return Ok(());
        }
    }
    let mut read = Vec::new();
    for (sql, decode) in tables {
        let rows = client.query_raw(sql, std::iter::empty::<i64>()).await?;
        pin_mut!(rows);
        while let Some(row) = rows.next().await {
            decode(&row?, &mut read)?;
            if !read.drain(..).all(&mut *visit) {
                return Ok(());
            }
        }
    }
    Ok(())
}
