//! The statements of every payment, prepared once a session: a batch is a handful of them, whatever its size.

use crate::{
    columns::{invoice_columns, invoice_tables},
    failure::Failure,
};
use futures::future::try_join_all;
use tokio_postgres::{Client, Statement};

macro_rules! statements {
    ($($(#[$doc:meta])* $name:ident = $sql:expr;)*) => {
        /// See each field.
        pub(crate) struct Statements {
            $($(#[$doc])* pub(crate) $name: Statement,)*
        }

        impl Statements {
            /// Their texts, by name.
            #[cfg(test)]
            pub(crate) const TEXTS: &[(&str, &str)] = &[$((stringify!($name), $sql),)*];

            /// Prepares all of them, in one round trip.
            pub(crate) async fn prepare(client: &Client) -> Result<Self, Failure> {
                let texts: &[&str] = &[$($sql,)*];
                let prepared = try_join_all(texts.iter().map(|sql| client.prepare(sql))).await?;
                let mut prepared = prepared.into_iter();
                Ok(Self { $($name: prepared.next().expect("as many as there are texts"),)* })
            }
        }
    };
}

statements! {
    begin = "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE";
    commit = "COMMIT";
    rollback = "ROLLBACK";
    /// Names the batch. A second one of this name waits for the first one's end, and fails.
    insert_batch = "INSERT INTO batch (id, committed) VALUES ($1, true)";
    /// Finds the batch, or sees to it that it never commits. It writes either way, so that its own commit
    /// waits for the standby, and with it everything before.
    fence_batch = "INSERT INTO batch (id, committed) VALUES ($1, false)
        ON CONFLICT (id) DO UPDATE SET committed = batch.committed RETURNING committed";

    /// Makes rows of accounts that were never used, to be locked.
    create_balances = "INSERT INTO balance (account) SELECT * FROM unnest($1::bigint[])
        ON CONFLICT DO NOTHING";
    /// The lock round, in order of account.
    lock_balances = "SELECT account, amount, reserved FROM balance WHERE account = ANY ($1::bigint[])
        ORDER BY account FOR NO KEY UPDATE";
    lock_counters = "SELECT name, value FROM counter WHERE name = ANY ($1::text[])
        ORDER BY name FOR NO KEY UPDATE";
    lock_leases = "SELECT name, holder, token, renewals FROM lease WHERE name = ANY ($1::text[])
        ORDER BY name FOR NO KEY UPDATE";
    /// A lease that is relied on cannot change hands before the commit.
    lock_fences = "SELECT name, holder, token, renewals FROM lease WHERE name = ANY ($1::text[])
        ORDER BY name FOR SHARE";

    /// One that is raised again and again is counted by many at once.
    lock_incidents = "SELECT invoice, kind, detail, first_at, last_at, count, corrected_by FROM incident
        WHERE invoice = ANY ($1::bigint[]) ORDER BY invoice, kind FOR NO KEY UPDATE";

    load_partners = "SELECT id, body FROM partner WHERE id = ANY ($1::bigint[])";
    /// As of one moment: a bill that is claimed while its vehicle is not counts as paid.
    load_claims = "SELECT key, owner FROM claim WHERE key = ANY ($1::text[])
        UNION ALL SELECT key, owner FROM vehicle_claim WHERE key = ANY ($2::text[])";
    load_invoices = concat!("SELECT ", invoice_columns!(), " FROM ", invoice_tables!(),
        " WHERE invoice.number = ANY ($1::bigint[])");
    /// For readers: invoices with their bills.
    find_invoices = concat!("SELECT ", invoice_columns!(), ", body FROM ", invoice_tables!(),
        " WHERE invoice.number = ANY ($1::bigint[])");
    /// For the resolver: what is open, in order of number. Of an ordinary join, the server might read all
    /// invoices and look for the claim of each.
    find_pending = concat!("SELECT open.* FROM vehicle_claim CROSS JOIN LATERAL (
            SELECT ", invoice_columns!(), " FROM ", invoice_tables!(), "
            WHERE invoice.number = owner AND begun_at IS NOT NULL AND settled_at IS NULL OFFSET 0
        ) AS open WHERE owner > $1 ORDER BY owner LIMIT $2");
    count_pending = "SELECT count(*) FROM vehicle_claim CROSS JOIN LATERAL (
            SELECT FROM payment WHERE payment.number = owner
                AND NOT EXISTS (SELECT FROM settlement WHERE settlement.number = owner) OFFSET 0
        ) AS open";
    find_catalogue_version = "SELECT value FROM counter WHERE name = 'catalogue'";
    find_partner = "SELECT id, body FROM partner WHERE username = $1";
    find_balance = "SELECT account, amount, reserved FROM balance WHERE account = $1";

    insert_invoices = "INSERT INTO invoice (number, inquired_at, payable_until, total, fee, cashback, partner,
            upstream, business_date, environment, product, chassis, payment_code, refusal, body, upstream_fee,
            upstream_cashback)
        SELECT * FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::bigint[], $5::bigint[],
            $6::bigint[], $7::bigint[], $8::bigint[], $9::integer[], $10::smallint[], $11::text[], $12::text[],
            $13::text[], $14::text[], $15::text[], $16::bigint[], $17::bigint[])";
    insert_payments = "INSERT INTO payment (number, begun_at, send_before, resolve_after, identity)
        SELECT * FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::bigint[], $5::text[])";
    update_payments = "UPDATE payment SET resolve_after = changed.resolve_after, is_reversing = changed.is_reversing,
            rest = changed.rest
        FROM unnest($1::bigint[], $2::bigint[], $3::boolean[], $4::bigint[])
            AS changed (number, resolve_after, is_reversing, rest)
        WHERE payment.number = changed.number";
    insert_settlements = "INSERT INTO settlement (number, settled_at, reference_number, trace_number, proof)
        SELECT * FROM unnest($1::bigint[], $2::bigint[], $3::text[], $4::text[], $5::text[])";
    /// Of the flat lists of lines, each step has those from `first` to `last`.
    insert_postings = "INSERT INTO posting (subject, at, step, accounts, amounts)
        SELECT subject, at, step, ($6::bigint[])[first:last], ($7::bigint[])[first:last]
        FROM unnest($1::bigint[], $2::bigint[], $3::smallint[], $4::integer[], $5::integer[])
            AS step (subject, at, step, first, last)";
    insert_claims = "INSERT INTO claim (key, owner) SELECT * FROM unnest($1::text[], $2::bigint[])";
    update_claims = "UPDATE claim SET owner = changed.owner
        FROM unnest($1::text[], $2::bigint[]) AS changed (key, owner) WHERE claim.key = changed.key";
    delete_claims = "DELETE FROM claim WHERE key = ANY ($1::text[])";
    insert_vehicle_claims = "INSERT INTO vehicle_claim (key, owner)
        SELECT * FROM unnest($1::text[], $2::bigint[])";
    update_vehicle_claims = "UPDATE vehicle_claim SET owner = changed.owner
        FROM unnest($1::text[], $2::bigint[]) AS changed (key, owner) WHERE vehicle_claim.key = changed.key";
    delete_vehicle_claims = "DELETE FROM vehicle_claim WHERE key = ANY ($1::text[])";
    /// For the one statement that may write many rows.
    take_time = "SET LOCAL statement_timeout = 0";
    /// After a slash comes `0` in order of bytes.
    release_settled = "DELETE FROM claim WHERE key > $1 AND key < rtrim($1, '/') || '0' AND NOT EXISTS
            (SELECT FROM payment WHERE number = claim.owner AND NOT EXISTS
                (SELECT FROM settlement WHERE settlement.number = payment.number))";
    update_balances = "UPDATE balance
        SET amount = coalesce(changed.amount, balance.amount),
            reserved = coalesce(changed.reserved, balance.reserved)
        FROM unnest($1::bigint[], $2::bigint[], $3::bigint[]) AS changed (account, amount, reserved)
        WHERE balance.account = changed.account";
    update_counters = "UPDATE counter SET value = changed.value
        FROM unnest($1::text[], $2::bigint[]) AS changed (name, value) WHERE counter.name = changed.name";
    /// The last lock of every transaction, held for its commit alone.
    insert_events = "WITH given AS (
            UPDATE counter SET value = value + cardinality($1::bigint[]) WHERE name = 'outbox'
            RETURNING value - cardinality($1::bigint[]) AS before
        )
        INSERT INTO outbox (id, subject, at, partner, sequence, environment, kind)
        SELECT given.before + added.place, added.subject, added.at, added.partner, added.sequence,
            added.environment, added.kind
        FROM given, unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::integer[], $5::smallint[], $6::text[])
            WITH ORDINALITY AS added (subject, at, partner, sequence, environment, kind, place)";
}
