//! One batch inside its transaction: load what its keys name, let the core decide, write what changed.
//!
//! It runs under the write lock, so that what was loaded is still so when it is written. Statements are
//! prepared once per connection; a payment costs two dozen of them, each on one row by its key.

use crate::{
    columns::{self, StateColumns, environment_code, invoice_columns, json},
    failure::Failure,
};
use domain::{
    Decision, Invoice, Rupiah,
    ledger::Account,
    rows::{Changes, Claim, Keys, Rows},
};
use rusqlite::{CachedStatement, Connection, Params, Row, params};
use store::{Batch, BatchId};

/// Decides and writes a batch; the caller begins and commits.
pub(crate) fn apply(connection: &Connection, batch: &Batch) -> Result<Vec<Decision>, Failure> {
    if !insert_id(connection, batch.id, true)? {
        return Err(Failure::Row(format!("batch {:?} was applied or given up before", batch.id)));
    }
    let rows = load(connection, &store::keys(batch))?;
    let (decisions, changes) = store::decide_batch(rows, batch);
    write(connection, &changes)?;
    Ok(decisions)
}

/// Whether a batch was committed; if not, it never will be.
pub(crate) fn committed(connection: &Connection, id: BatchId) -> Result<bool, Failure> {
    if insert_id(connection, id, false)? {
        return Ok(false);
    }
    let mut select = connection.prepare_cached("SELECT committed FROM batch WHERE id = ?1")?;
    Ok(select.query_row([id.0.to_be_bytes()], |row| row.get(0))?)
}

/// Forgets the ids below `first_kept`.
pub(crate) fn prune(connection: &Connection, first_kept: BatchId) -> Result<(), Failure> {
    connection.execute("DELETE FROM batch WHERE id < ?1", [first_kept.0.to_be_bytes()])?;
    Ok(())
}

/// Whether the id was new.
fn insert_id(connection: &Connection, id: BatchId, committed: bool) -> Result<bool, Failure> {
    let mut insert = connection
        .prepare_cached("INSERT INTO batch (id, committed) VALUES (?1, ?2) ON CONFLICT DO NOTHING")?;
    Ok(insert.execute(params![id.0.to_be_bytes(), committed])? == 1)
}

/// The first row, decoded.
pub(crate) fn optional<T>(
    statement: &mut CachedStatement<'_>,
    params: impl Params,
    decode: impl FnOnce(&Row<'_>) -> Result<T, Failure>,
) -> Result<Option<T>, Failure> {
    statement.query(params)?.next()?.map(decode).transpose()
}

fn load(connection: &Connection, keys: &Keys) -> Result<Rows, Failure> {
    let mut rows = Rows::default();
    if !keys.partners.is_empty() {
        let mut select = connection.prepare_cached("SELECT body FROM partner WHERE id = ?1")?;
        for id in &keys.partners {
            let partner = optional(&mut select, [id.0], |row| columns::body(row, 0, "partner", id.0))?;
            rows.partners.insert(*id, partner);
        }
    }
    if !keys.products.is_empty() {
        let mut select =
            connection.prepare_cached("SELECT body FROM product WHERE environment = ?1 AND code = ?2")?;
        for key in &keys.products {
            let code = key.1.as_str();
            let product = optional(&mut select, params![environment_code(key.0), code], |row| {
                columns::body(row, 0, "product", code)
            })?;
            rows.products.insert(key.clone(), product);
        }
    }
    if !keys.claims.is_empty() {
        let mut select = connection.prepare_cached("SELECT owner FROM claim WHERE key = ?1")?;
        for claim in &keys.claims {
            let owner = optional(&mut select, [claim.key()], |row| Ok(row.get(0)?))?;
            rows.claims.insert(claim.clone(), owner);
        }
    }
    if !keys.invoices.is_empty() {
        let mut select = connection.prepare_cached(concat!(
            "SELECT ",
            invoice_columns!(),
            " FROM invoice WHERE number = ?1"
        ))?;
        for number in &keys.invoices {
            let invoice = optional(&mut select, [number.get()], columns::invoice)?;
            rows.invoices.insert(*number, invoice);
        }
    }
    if !keys.proposals.is_empty() {
        let mut select = connection.prepare_cached("SELECT body FROM proposal WHERE invoice = ?1")?;
        for number in &keys.proposals {
            let proposal =
                optional(&mut select, [number.get()], |row| columns::body(row, 0, "proposal", number))?;
            rows.proposals.insert(*number, proposal);
        }
    }
    if !keys.incidents.is_empty() {
        let mut select = connection.prepare_cached(
            "SELECT invoice, kind, detail, first_at, last_at, count, corrected_by FROM incident
             WHERE invoice = ?1 AND kind = ?2",
        )?;
        for key in &keys.incidents {
            let incident = optional(&mut select, params![key.0, key.1.name()], columns::incident)?;
            rows.incidents.insert(*key, incident);
        }
    }
    for account in &keys.balances {
        rows.balances.insert(*account, balance(connection, *account)?);
    }
    if !keys.counters.is_empty() {
        let mut select = connection.prepare_cached("SELECT value FROM counter WHERE name = ?1")?;
        for counter in &keys.counters {
            let value = optional(&mut select, [counter.name().as_ref()], |row| Ok(row.get(0)?))?;
            rows.counters.insert(*counter, value.unwrap_or(0));
        }
    }
    if !keys.leases.is_empty() || !keys.fences.is_empty() {
        let mut select =
            connection.prepare_cached("SELECT name, holder, token, renewals FROM lease WHERE name = ?1")?;
        for name in keys.leases.union(&keys.fences) {
            let lease = optional(&mut select, [name], columns::lease)?;
            rows.leases.insert(name.clone(), lease.map(|(_, lease)| lease));
        }
    }
    Ok(rows)
}

/// One balance; zero if the account was never used.
pub(crate) fn balance(connection: &Connection, account: Account) -> Result<Rupiah, Failure> {
    let mut select = connection.prepare_cached("SELECT amount FROM balance WHERE account = ?1")?;
    let amount = optional(&mut select, [account.code()], |row| Ok(Rupiah::new(row.get(0)?)))?;
    Ok(amount.unwrap_or_default())
}

fn write(connection: &Connection, changes: &Changes) -> Result<(), Failure> {
    write_invoices(connection, changes)?;
    write_claims(connection, changes)?;
    write_ledger(connection, changes)?;
    if !changes.events.is_empty() {
        let mut insert = connection.prepare_cached(
            "INSERT INTO outbox (subject, sequence, kind, environment, partner, at)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
        )?;
        for event in &changes.events {
            insert.execute(params![
                event.subject,
                event.sequence,
                event.kind.name(),
                environment_code(event.environment),
                event.partner.0,
                event.at.as_millis(),
            ])?;
        }
    }
    write_rare(connection, changes)
}

fn write_invoices(connection: &Connection, changes: &Changes) -> Result<(), Failure> {
    if !changes.presentments.is_empty() {
        let mut insert =
            connection.prepare_cached("INSERT INTO presentment (number, body) VALUES (?1, ?2)")?;
        for (number, presentment) in &changes.presentments {
            insert.execute(params![number.get(), json(presentment)])?;
        }
        let mut insert = connection.prepare_cached(
            "INSERT INTO invoice (number, state, sequence, begun_at, send_before, resolve_after, identity,
                 settled_at, reference_number, trace_number, detail, is_reversing, rest, environment,
                 partner, upstream, business_date, inquired_at, payable_until, total, fee, cashback, product, chassis,
                 payment_code, upstream_fee, upstream_cashback)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?19, ?20,
                 ?21, ?22, ?23, ?24, ?25, ?26, ?27)",
        )?;
        for invoice in changes.invoices.values().filter(|i| changes.presentments.contains_key(&i.number)) {
            bind_state(&mut insert, invoice)?;
            insert.raw_bind_parameter(14, environment_code(invoice.environment))?;
            insert.raw_bind_parameter(15, invoice.partner.0)?;
            insert.raw_bind_parameter(16, invoice.upstream.0)?;
            insert.raw_bind_parameter(17, invoice.business_date.as_number())?;
            insert.raw_bind_parameter(18, invoice.inquired_at.as_millis())?;
            insert.raw_bind_parameter(19, invoice.payable_until.map(domain::Timestamp::as_millis))?;
            insert.raw_bind_parameter(20, invoice.total.get())?;
            insert.raw_bind_parameter(21, invoice.fee.get())?;
            insert.raw_bind_parameter(22, invoice.cashback.get())?;
            insert.raw_bind_parameter(23, invoice.product.as_str())?;
            insert.raw_bind_parameter(24, invoice.chassis.as_str())?;
            insert.raw_bind_parameter(25, invoice.payment_code.as_ref().map(domain::PaymentCode::as_str))?;
            insert.raw_bind_parameter(26, invoice.upstream_terms.fee.get())?;
            insert.raw_bind_parameter(27, invoice.upstream_terms.cashback.get())?;
            insert.raw_execute()?;
        }
    }
    if changes.invoices.len() > changes.presentments.len() {
        let mut update = connection.prepare_cached(
            "UPDATE invoice SET state = ?2, sequence = ?3, begun_at = ?4, send_before = ?5, resolve_after = ?6,
                 identity = ?7, settled_at = ?8, reference_number = ?9, trace_number = ?10, detail = ?11,
                 is_reversing = ?12, rest = ?13
             WHERE number = ?1",
        )?;
        for invoice in changes.invoices.values().filter(|i| !changes.presentments.contains_key(&i.number)) {
            bind_state(&mut update, invoice)?;
            if update.raw_execute()? != 1 {
                return Err(Failure::Row(format!("{:?} does not exist", invoice.number)));
            }
        }
    }
    Ok(())
}

/// Binds the number and the columns that a payment changes, 1 to 13.
fn bind_state(statement: &mut CachedStatement<'_>, invoice: &Invoice) -> Result<(), Failure> {
    let columns = StateColumns::of(&invoice.state);
    let attempt = columns.attempt;
    statement.raw_bind_parameter(1, invoice.number.get())?;
    statement.raw_bind_parameter(2, columns.state)?;
    statement.raw_bind_parameter(3, invoice.sequence)?;
    statement.raw_bind_parameter(4, attempt.map(|a| a.begun_at.as_millis()))?;
    statement.raw_bind_parameter(5, attempt.map(|a| a.send_before.as_millis()))?;
    statement.raw_bind_parameter(6, attempt.map(|a| a.resolve_after.as_millis()))?;
    statement.raw_bind_parameter(7, attempt.map(|a| a.identity.as_str()))?;
    statement.raw_bind_parameter(8, columns.settled_at)?;
    statement.raw_bind_parameter(9, columns.receipt.map(|r| r.reference_number.as_str()))?;
    statement.raw_bind_parameter(10, columns.receipt.map(|r| r.trace_number.as_str()))?;
    statement.raw_bind_parameter(11, columns.detail)?;
    statement.raw_bind_parameter(12, attempt.is_some_and(|a| a.is_reversing))?;
    statement.raw_bind_parameter(13, attempt.map_or(0, |a| domain::time::millis(a.rest)))?;
    Ok(())
}

fn write_claims(connection: &Connection, changes: &Changes) -> Result<(), Failure> {
    if !changes.claims.is_empty() {
        let mut set = connection.prepare_cached(
            "INSERT INTO claim (key, owner) VALUES (?1, ?2)
             ON CONFLICT (key) DO UPDATE SET owner = excluded.owner",
        )?;
        let mut release = connection.prepare_cached("DELETE FROM claim WHERE key = ?1")?;
        for (claim, owner) in &changes.claims {
            match owner {
                Some(owner) => set.execute(params![claim.key(), owner])?,
                None => release.execute([claim.key()])?,
            };
        }
    }
    for upstream in &changes.release_settled_sandbox_claims {
        let bills = Claim::sandbox_bills(*upstream);
        // After a slash comes `0` in order of bytes.
        connection.execute(
            "DELETE FROM claim WHERE key > ?1 AND key < rtrim(?1, '/') || '0' AND NOT EXISTS
                 (SELECT 1 FROM invoice WHERE number = claim.owner AND state = 2)",
            [bills],
        )?;
    }
    Ok(())
}

fn write_ledger(connection: &Connection, changes: &Changes) -> Result<(), Failure> {
    if !changes.postings.is_empty() {
        let mut insert = connection.prepare_cached(
            "INSERT INTO posting (subject, step, account, amount, at) VALUES (?1, ?2, ?3, ?4, ?5)",
        )?;
        for posting in &changes.postings {
            insert.execute(params![
                posting.subject,
                posting.step as u8,
                posting.account.code(),
                posting.amount.get(),
                posting.at.as_millis(),
            ])?;
        }
    }
    if !changes.balances.is_empty() {
        let mut set = connection.prepare_cached(
            "INSERT INTO balance (account, amount) VALUES (?1, ?2)
             ON CONFLICT (account) DO UPDATE SET amount = excluded.amount",
        )?;
        for (account, amount) in &changes.balances {
            set.execute([account.code(), amount.get()])?;
        }
    }
    if !changes.counters.is_empty() {
        let mut set = connection.prepare_cached(
            "INSERT INTO counter (name, value) VALUES (?1, ?2)
             ON CONFLICT (name) DO UPDATE SET value = excluded.value",
        )?;
        for (counter, value) in &changes.counters {
            set.execute(params![counter.name().as_ref(), value])?;
        }
    }
    Ok(())
}

/// What operators write, a few rows a day.
fn write_rare(connection: &Connection, changes: &Changes) -> Result<(), Failure> {
    for entry in &changes.entries {
        connection.execute(
            "INSERT INTO entry (number, kind, environment, partner, amount, operator, reference, at)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
            params![
                entry.number,
                entry.kind.name(),
                environment_code(entry.environment),
                entry.partner.0,
                entry.amount.get(),
                entry.operator,
                entry.reference,
                entry.at.as_millis(),
            ],
        )?;
    }
    for (key, incident) in &changes.incidents {
        connection.execute(
            "INSERT INTO incident (invoice, kind, detail, first_at, last_at, count, corrected_by)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)
             ON CONFLICT (invoice, kind) DO UPDATE SET detail = excluded.detail, first_at = excluded.first_at,
                 last_at = excluded.last_at, count = excluded.count, corrected_by = excluded.corrected_by",
            params![
                key.0,
                key.1.name(),
                incident.detail,
                incident.first_at.as_millis(),
                incident.last_at.as_millis(),
                incident.count,
                incident.corrected_by,
            ],
        )?;
    }
    for (name, lease) in &changes.leases {
        connection.execute(
            "INSERT INTO lease (name, holder, token, renewals) VALUES (?1, ?2, ?3, ?4)
             ON CONFLICT (name) DO UPDATE SET holder = excluded.holder, token = excluded.token,
                 renewals = excluded.renewals",
            params![name, lease.holder, lease.token, lease.renewals],
        )?;
    }
    for (number, proposal) in &changes.proposals {
        match proposal {
            Some(proposal) => connection.execute(
                "INSERT INTO proposal (invoice, body) VALUES (?1, ?2)
                 ON CONFLICT (invoice) DO UPDATE SET body = excluded.body",
                params![number.get(), json(proposal)],
            )?,
            None => connection.execute("DELETE FROM proposal WHERE invoice = ?1", [number.get()])?,
        };
    }
    for (id, partner) in &changes.partners {
        connection.execute(
            "INSERT INTO partner (id, username, body) VALUES (?1, ?2, ?3)
             ON CONFLICT (id) DO UPDATE SET username = excluded.username, body = excluded.body",
            params![id.0, partner.username.as_str(), json(partner)],
        )?;
    }
    for ((environment, code), product) in &changes.products {
        connection.execute(
            "INSERT INTO product (environment, code, body) VALUES (?1, ?2, ?3)
             ON CONFLICT (environment, code) DO UPDATE SET body = excluded.body",
            params![environment_code(*environment), code.as_str(), json(product)],
        )?;
    }
    Ok(())
}
