//! Taking over what another backend hands over, page by page, each in one transaction together with how far
//! the copy is: a copy that was killed goes on where it stopped, and doubles nothing.
//!
//! Until it is finished nobody else opens the database. A transaction that a killed copy left behind holds
//! its part's row of progress, and is waited for. A commit whose answer was lost needs no settling either:
//! whoever goes on reads how far it came.

use crate::{
    PostgresStore,
    columns::{self, environment_code},
    connect::{Address, OpenError, Plans, Session},
    failure::Failure,
    load::Before,
    lookup::stored_invoice,
    pipeline::{Pipeline, parameters},
    query, schema,
    statements::Statements,
    write,
};
use domain::{
    InvoiceNumber,
    record::{Entry, Event},
    rows::{Changes, Counter},
};
use futures::{StreamExt, pin_mut};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};
use store::{
    Error,
    copy::{Cursor, Fingerprint, Page, Part, Rows, Tally},
};
use tokio_postgres::{Client, Row, Statement};

/// How many rows are read between two tallies.
const READ_MAX: usize = 2_000;

/// What a session that copies may take; others have less patience.
const PATIENCE: &str = "SET statement_timeout = 0; SET lock_timeout = 60000; \
     SET idle_in_transaction_session_timeout = 60000";

/// Where nothing may stand before a copy begins.
const TABLES: [&str; 13] = [
    "partner",
    "product",
    "invoice",
    "payment",
    "settlement",
    "posting",
    "claim",
    "vehicle_claim",
    "outbox",
    "entry",
    "incident",
    "proposal",
    "lease",
];

/// Why a copy was not begun. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// The database cannot be opened.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// It holds something already.
    #[error(
        "the database is not empty: there are rows in its table {table}; a copy begins in an empty database, or \
         in an empty schema of one"
    )]
    NotEmpty {
        /// The first table with rows.
        table: String,
    },
    /// It holds the beginning of a copy of something else.
    #[error(
        "the database holds a copy of {source_path} as it was before; what is to be copied now is another \
         database, or was changed since. Empty the target (or name another one) and copy from the beginning"
    )]
    OtherSource {
        /// What was to be copied, in words.
        source_path: String,
    },
}

impl From<Failure> for ImportError {
    fn from(failure: Failure) -> Self {
        Self::Open(failure.into())
    }
}

impl From<tokio_postgres::Error> for ImportError {
    fn from(error: tokio_postgres::Error) -> Self {
        Failure::from(error).into()
    }
}

/// How far a part is.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Reached {
    /// Where the next page begins.
    pub cursor: Cursor,
    /// What was written so far.
    pub tally: Tally,
    /// Whether that is all.
    pub is_done: bool,
}

/// A database that takes over another one's rows.
pub struct Import {
    store: PostgresStore,
    session: Session,
    statements: Arc<Statements>,
    own: OwnStatements,
    reached: BTreeMap<Part, Reached>,
    /// Whether some part had been begun before.
    is_resumed: bool,
    is_finished: bool,
}

/// What only a copy writes.
struct OwnStatements {
    reach: Statement,
    insert_events: Statement,
    insert_entries: Statement,
}

impl OwnStatements {
    async fn prepare(client: &Client) -> Result<Self, tokio_postgres::Error> {
        Ok(Self {
            reach: client
                .prepare(
                    "UPDATE copy_progress SET reached = $3, row_count = $4, digest = $5, is_done = $6
                     WHERE part = $1 AND reached = $2 AND NOT is_done",
                )
                .await?,
            insert_events: client
                .prepare(
                    "INSERT INTO outbox (id, subject, at, partner, sequence, environment, kind)
                     SELECT * FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::bigint[],
                         $5::integer[], $6::smallint[], $7::text[])",
                )
                .await?,
            insert_entries: client
                .prepare(
                    "INSERT INTO entry (number, kind, environment, partner, amount, operator, reference, at)
                     SELECT * FROM unnest($1::bigint[], $2::text[], $3::smallint[], $4::bigint[],
                         $5::bigint[], $6::text[], $7::text[], $8::bigint[])",
                )
                .await?,
        })
    }
}

/// Refuses a database that a copy was begun into and not finished.
pub(crate) async fn refuse_unfinished(client: &Client) -> Result<(), OpenError> {
    let sql = "SELECT source FROM copied_from WHERE finished_at IS NULL";
    let found = client.query_opt(sql, &[]).await.map_err(Failure::from)?;
    match found {
        Some(row) => Err(OpenError::Unfinished { source_path: row.try_get(0).map_err(Failure::from)? }),
        None => Ok(()),
    }
}

impl PostgresStore {
    /// Begins a copy, or takes one up again: creates what tables there need be, and refuses a database that
    /// holds anything else. `source` is for people.
    pub async fn import(
        address: Address,
        source: &str,
        fingerprint: &Fingerprint,
    ) -> Result<Import, ImportError> {
        schema::migrate(&address).await?;
        let mut session = address.connect(Plans::ByStatistics).await?;
        let statements = session.statements().await?;
        session.client.batch_execute(PATIENCE).await?;
        let own = OwnStatements::prepare(&session.client).await?;
        let (reached, is_finished) = begin(&session.client, source, &fingerprint.text()).await?;
        let is_resumed = reached.values().any(|part| part.is_done || part.tally.rows > 0);
        let store = Self::open_unfinished(address).await?;
        Ok(Import { store, session, statements, own, reached, is_resumed, is_finished })
    }
}

/// Finds the copy, or writes down that it begins. The row's lock makes several who begin at once wait.
async fn begin(
    client: &Client,
    source: &str,
    fingerprint: &str,
) -> Result<(BTreeMap<Part, Reached>, bool), ImportError> {
    client.batch_execute("BEGIN; LOCK TABLE copied_from IN EXCLUSIVE MODE").await?;
    let found =
        client.query_opt("SELECT source, fingerprint, finished_at IS NOT NULL FROM copied_from", &[]).await?;
    let is_finished = if let Some(row) = found {
        if row.try_get::<_, &str>(1)? != fingerprint {
            return Err(ImportError::OtherSource { source_path: row.try_get(0)? });
        }
        row.try_get(2)?
    } else {
        refuse_rows(client).await?;
        let sql = "INSERT INTO copied_from (only_one, source, fingerprint) VALUES (1, $1, $2)";
        client.execute(sql, &[&source, &fingerprint]).await?;
        let parts = Part::ALL.map(Part::name);
        let sql = "INSERT INTO copy_progress (part, reached, row_count, digest, is_done)
                   SELECT part, '', 0, 0, false FROM unnest($1::text[]) AS part";
        client.execute(sql, &[&&parts[..]]).await?;
        false
    };
    let sql = "SELECT part, reached, row_count, digest, is_done FROM copy_progress FOR UPDATE";
    let mut reached = BTreeMap::new();
    for row in client.query(sql, &[]).await? {
        let name: &str = row.try_get(0)?;
        let part = Part::from_name(name)
            .ok_or_else(|| Failure::Row(format!("table copy_progress, row {name}: it is no part")))?;
        let rows = u64::try_from(row.try_get::<_, i64>(2)?).unwrap_or(0);
        let tally = Tally { rows, digest: row.try_get::<_, i64>(3)?.cast_unsigned() };
        let cursor = Cursor(row.try_get(1)?);
        reached.insert(part, Reached { cursor, tally, is_done: row.try_get(4)? });
    }
    client.batch_execute("COMMIT").await?;
    Ok((reached, is_finished))
}

async fn refuse_rows(client: &Client) -> Result<(), ImportError> {
    let tables = TABLES.map(|table| format!("SELECT '{table}' WHERE EXISTS (SELECT FROM {table})"));
    let others =
        "SELECT 'balance' WHERE EXISTS (SELECT FROM balance WHERE amount IS NOT NULL OR reserved IS NOT NULL)
                  UNION ALL SELECT 'counter' WHERE EXISTS (SELECT FROM counter WHERE value <> 0) LIMIT 1";
    let sql = format!("{} UNION ALL {others}", tables.join(" UNION ALL "));
    match client.query_opt(&sql, &[]).await? {
        Some(row) => Err(ImportError::NotEmpty { table: row.try_get(0)? }),
        None => Ok(()),
    }
}

impl Import {
    /// How far a part is.
    pub fn reached(&self, part: Part) -> Reached {
        self.reached.get(&part).cloned().unwrap_or_default()
    }

    /// Whether something had been copied before.
    pub const fn is_resumed(&self) -> bool {
        self.is_resumed
    }

    /// Whether the copy was finished before, so that the database may have been used since.
    pub const fn is_finished(&self) -> bool {
        self.is_finished
    }

    /// The database as a store: for a proof of what was copied.
    pub const fn store(&self) -> &PostgresStore {
        &self.store
    }

    /// Writes a page that begins where its part has been reached. After an error the import is of no use any
    /// more: begin again, and it goes on from what was written.
    pub async fn write(&mut self, page: Page) -> Result<(), Error> {
        let before = self.reached(page.part);
        let after =
            Reached { cursor: page.reached, tally: before.tally.and(page.tally), is_done: page.is_last };
        self.write_rows(page.part, page.rows, &before, &after).await?;
        self.reached.insert(page.part, after);
        Ok(())
    }

    async fn write_rows(
        &self,
        part: Part,
        rows: Rows,
        before: &Reached,
        after: &Reached,
    ) -> Result<(), Failure> {
        let client = &self.session.client;
        client.batch_execute("BEGIN").await?;
        // Waited for before anything else is sent: whoever is killed meanwhile leaves nothing behind that
        // does not hold this row.
        let count = i64::try_from(after.tally.rows).unwrap_or(i64::MAX);
        let digest = after.tally.digest.cast_signed();
        let done = client
            .execute(
                &self.own.reach,
                &[&part.name(), &before.cursor.0, &after.cursor.0, &count, &digest, &after.is_done],
            )
            .await?;
        if done != 1 {
            return Err(Failure::Conflict("another copy into this database is at work".to_owned()));
        }
        let (claims, entries, events) = (rows.claims, rows.entries, rows.events);
        let mut changes = Changes { postings: rows.postings, ..Changes::default() };
        for stored in rows.invoices {
            changes.presentments.insert(stored.invoice.number, stored.presentment);
            changes.invoices.insert(stored.invoice.number, stored.invoice);
        }
        changes.partners.extend(rows.partners.into_iter().map(|partner| (partner.id, partner)));
        for product in rows.products {
            changes.products.insert((product.environment, product.code.clone()), product);
        }
        for incident in rows.incidents {
            let key = (incident.invoice.map_or(0, InvoiceNumber::get), incident.kind);
            changes.incidents.insert(key, incident);
        }
        changes.proposals.extend(rows.proposals.into_iter().map(|row| (row.invoice, Some(row))));
        changes.counters.extend(rows.counters);
        changes.balances.extend(rows.balances);

        let nothing = Before::default();
        write::rare(client, &changes, &nothing).await?;
        let plan = write::Plan::of(&changes, &nothing)?;
        let mut pipeline = Pipeline::new(client);
        if !changes.balances.is_empty() {
            let accounts: BTreeSet<i64> =
                changes.balances.keys().copied().map(columns::balance_row).collect();
            let accounts: Vec<i64> = accounts.into_iter().collect();
            pipeline.push(&self.statements.create_balances, parameters![accounts]);
        }
        plan.push(&mut pipeline, &self.statements);
        let (vehicles, others): (Vec<_>, Vec<_>) =
            claims.into_iter().partition(|(key, _)| key.starts_with("c/"));
        for (statement, claims) in
            [(&self.statements.insert_claims, others), (&self.statements.insert_vehicle_claims, vehicles)]
        {
            if !claims.is_empty() {
                let (keys, owners): (Vec<String>, Vec<i64>) = claims.into_iter().unzip();
                pipeline.push(statement, parameters![keys, owners]);
            }
        }
        self.push_entries(&mut pipeline, &entries);
        self.push_events(&mut pipeline, &events);
        pipeline.push(&self.statements.commit, parameters![]);
        for answer in pipeline.run().await {
            answer?;
        }
        if self.session.is_unheard() {
            return Err(Failure::Away("the wait for the standby's word was cancelled".to_owned()));
        }
        Ok(())
    }

    fn push_entries<'p>(&'p self, pipeline: &mut Pipeline<'p>, entries: &'p [Entry]) {
        if entries.is_empty() {
            return;
        }
        pipeline.push(
            &self.own.insert_entries,
            parameters![
                column(entries, |entry| entry.number),
                column(entries, |entry| entry.kind.name()),
                column(entries, |entry| environment_code(entry.environment)),
                column(entries, |entry| i64::from(entry.partner.0)),
                column(entries, |entry| entry.amount.get()),
                entries.iter().map(|entry| entry.operator.as_str()).collect::<Vec<_>>(),
                entries.iter().map(|entry| entry.reference.as_str()).collect::<Vec<_>>(),
                column(entries, |entry| entry.at.as_millis()),
            ],
        );
    }

    /// Events keep their positions, and new ones continue behind them.
    fn push_events<'p>(&'p self, pipeline: &mut Pipeline<'p>, events: &'p [(i64, Event)]) {
        let Some((last, _)) = events.last() else { return };
        pipeline.push(
            &self.own.insert_events,
            parameters![
                column(events, |(position, _)| *position),
                column(events, |(_, event)| event.subject),
                column(events, |(_, event)| event.at.as_millis()),
                column(events, |(_, event)| i64::from(event.partner.0)),
                column(events, |(_, event)| i32::try_from(event.sequence).unwrap_or(i32::MAX)),
                column(events, |(_, event)| environment_code(event.environment)),
                column(events, |(_, event)| event.kind.name()),
            ],
        );
        pipeline.push(&self.statements.update_counters, parameters![vec!["outbox"], vec![*last]]);
    }

    /// Reads a part back from the tables and sums it up. `read` hears of the rows, some thousand at a time.
    pub async fn tally(&self, part: Part, mut read: impl FnMut(u64)) -> Result<Tally, Error> {
        Ok(tally(&self.session.client, part, &mut read).await?)
    }

    /// Has the server look at what is there now, so that it plans lists and audits for it.
    pub async fn analyze(&self) -> Result<(), Error> {
        let sql = format!(
            "SELECT brin_summarize_new_values('invoice_by_business_date'); ANALYZE balance, counter, {}",
            TABLES.join(", ")
        );
        Ok(self.session.client.batch_execute(&sql).await.map_err(Failure::from)?)
    }

    /// Opens the database for everybody, durably.
    pub async fn finish(self) -> Result<(), Error> {
        let sql = "UPDATE copied_from SET finished_at = now() WHERE finished_at IS NULL";
        self.session.client.execute(sql, &[]).await.map_err(Failure::from)?;
        Ok(())
    }
}

fn column<T, V>(rows: &[T], value: impl Fn(&T) -> V) -> Vec<V> {
    rows.iter().map(value).collect()
}

type Decode = fn(&Row, &mut Rows) -> Result<(), Failure>;

/// All rows of a part, in whatever order.
fn source(part: Part) -> (String, Decode) {
    let (sql, decode): (&str, Decode) = match part {
        Part::Partner => ("SELECT id, body FROM partner", |row, rows| {
            rows.partners.push(query::partner_row(row)?);
            Ok(())
        }),
        Part::Product => ("SELECT code, body FROM product", |row, rows| {
            rows.products.push(columns::body(row, 1, "product", row.try_get::<_, &str>(0)?)?);
            Ok(())
        }),
        Part::Counter => {
            ("SELECT name, value FROM counter WHERE value <> 0 AND name <> 'outbox'", |row, rows| {
                let name: &str = row.try_get(0)?;
                let counter = Counter::from_name(name)
                    .ok_or_else(|| Failure::Row(format!("table counter, row {name}: it is none")))?;
                rows.counters.push((counter, row.try_get(1)?));
                Ok(())
            })
        }
        Part::Entry => {
            return (format!("SELECT {} FROM entry", query::ENTRY), |row, rows| {
                rows.entries.push(columns::entry(row)?);
                Ok(())
            });
        }
        Part::Balance => ("SELECT account, amount, reserved FROM balance", |row, rows| {
            let used = |(account, amount): (_, Option<_>)| Some((account, amount?));
            rows.balances.extend(columns::balances(row)?.into_iter().filter_map(used));
            Ok(())
        }),
        Part::Incident => (
            "SELECT invoice, kind, detail, first_at, last_at, count, corrected_by FROM incident",
            |row, rows| {
                rows.incidents.push(columns::incident(row)?);
                Ok(())
            },
        ),
        Part::Proposal => ("SELECT invoice, body FROM proposal", |row, rows| {
            rows.proposals.push(columns::body(row, 1, "proposal", row.try_get::<_, i64>(0)?)?);
            Ok(())
        }),
        Part::Claim => {
            ("SELECT key, owner FROM claim UNION ALL SELECT key, owner FROM vehicle_claim", |row, rows| {
                rows.claims.push((row.try_get(0)?, row.try_get(1)?));
                Ok(())
            })
        }
        Part::Invoice => (
            concat!("SELECT ", columns::invoice_columns!(), ", body FROM ", columns::invoice_tables!()),
            |row, rows| {
                rows.invoices.push(stored_invoice(row)?);
                Ok(())
            },
        ),
        Part::Posting => ("SELECT subject, step, at, accounts, amounts FROM posting", |row, rows| {
            rows.postings.extend(columns::postings(row)?);
            Ok(())
        }),
        Part::Event => {
            ("SELECT id, subject, sequence, kind, environment, partner, at FROM outbox", |row, rows| {
                rows.events.push(columns::event(row)?);
                Ok(())
            })
        }
    };
    (sql.to_owned(), decode)
}

async fn tally(client: &Client, part: Part, read: &mut impl FnMut(u64)) -> Result<Tally, Failure> {
    let (sql, decode) = source(part);
    let found = client.query_raw(&sql, std::iter::empty::<i64>()).await?;
    pin_mut!(found);
    let (mut rows, mut total) = (Rows::default(), Tally::default());
    loop {
        let row = found.next().await.transpose()?;
        if let Some(row) = &row {
            decode(row, &mut rows)?;
        }
        if row.is_none() || rows.len() >= READ_MAX {
            total = total.and(Tally::of(&std::mem::take(&mut rows)));
            read(total.rows);
        }
        if row.is_none() {
            return Ok(total);
        }
    }
}
