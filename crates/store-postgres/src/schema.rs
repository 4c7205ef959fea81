//! The schema and its versions: migrating online, and telling whether this program can work on what it finds.
//!
//! Every migration says which older schema's programs can still work beside it. It first expands what there
//! is; the next version, when no such program runs any more, may contract. So gateways are upgraded one by
//! one: migrate, then restart each.
//!
//! Migrations run one by one, each in a transaction that holds the version's table. Of several who migrate
//! one does the work, the others wait; one that is killed leaves nothing half done.

use crate::connect::{Address, OpenError, Plans, Session};
use crate::failure::{Failure, explain};
use tokio_postgres::{Client, error::SqlState};

/// One step of the schema.
pub(crate) struct Migration {
    /// Counted from one.
    pub(crate) version: i32,
    /// The oldest version whose programs work on this schema as well.
    pub(crate) works_from: i32,
    pub(crate) sql: &'static str,
}

/// In order. Append only.
pub(crate) const MIGRATIONS: &[Migration] = &[
    Migration { version: 1, works_from: 1, sql: include_str!("../migrations/0001_initial.sql") },
    Migration { version: 2, works_from: 1, sql: include_str!("../migrations/0002_upstreams.sql") },
    Migration { version: 3, works_from: 1, sql: include_str!("../migrations/0003_rest.sql") },
];

/// The version that this program was written for.
pub(crate) const KNOWN: i32 = MIGRATIONS[MIGRATIONS.len() - 1].version;

/// The latest version there is, and since when programs work on it.
async fn found(client: &Client) -> Result<Option<(i32, i32)>, Failure> {
    let sql = "SELECT version, works_from FROM schema_version ORDER BY version DESC LIMIT 1";
    match client.query_opt(sql, &[]).await {
        Ok(row) => Ok(row.map(|row| Ok::<_, Failure>((row.try_get(0)?, row.try_get(1)?))).transpose()?),
        Err(error) if error.code() == Some(&SqlState::UNDEFINED_TABLE) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Refuses a schema that this program cannot work on.
pub(crate) async fn check(session: &Session) -> Result<(), OpenError> {
    let Some((version, works_from)) = found(&session.client).await? else {
        return Err(OpenError::NotFound);
    };
    if version < KNOWN {
        return Err(OpenError::Pending { found: version, known: KNOWN });
    }
    if works_from > KNOWN {
        return Err(OpenError::Newer { found: version, known: KNOWN });
    }
    Ok(())
}

/// Brings the schema up to date. A newer one is left as it is.
pub(crate) async fn migrate(address: &Address) -> Result<(), OpenError> {
    let session = address.connect(Plans::ByStatistics).await?;
    let client = &session.client;
    // Whoever waits for another one's migration waits as long as that takes.
    let prepared = async {
        client.batch_execute("SET lock_timeout = 0; SET statement_timeout = 0").await?;
        create_table(client).await?;
        for migration in MIGRATIONS {
            run(client, migration).await?;
        }
        Ok::<(), tokio_postgres::Error>(())
    };
    prepared.await.map_err(|error| OpenError::Away(explain(&error)))?;
    check(&session).await
}

async fn create_table(client: &Client) -> Result<(), tokio_postgres::Error> {
    let sql = "CREATE TABLE IF NOT EXISTS schema_version (
                   version    integer PRIMARY KEY,
                   works_from integer NOT NULL,
                   ran_at     timestamptz NOT NULL DEFAULT now()
               )";
    match client.batch_execute(sql).await {
        // Two at once meet in the server's own catalogue; the other one has made it.
        Err(error)
            if [&SqlState::UNIQUE_VIOLATION, &SqlState::DUPLICATE_TABLE]
                .contains(&error.code().unwrap_or(&SqlState::SUCCESSFUL_COMPLETION)) =>
        {
            Ok(())
        }
        done => done,
    }
}

async fn run(client: &Client, migration: &Migration) -> Result<(), tokio_postgres::Error> {
    client.batch_execute("BEGIN; LOCK TABLE schema_version IN EXCLUSIVE MODE").await?;
    let ran = async {
        let sql = "SELECT FROM schema_version WHERE version >= $1";
        if client.query_opt(&format!("{sql} LIMIT 1"), &[&migration.version]).await?.is_some() {
            return Ok(());
        }
        client.batch_execute(migration.sql).await?;
        let sql = "INSERT INTO schema_version (version, works_from) VALUES ($1, $2)";
        client.execute(sql, &[&migration.version, &migration.works_from]).await?;
        tracing::info!(version = migration.version, "migrated the database");
        Ok(())
    };
    match ran.await {
        Ok(()) => client.batch_execute("COMMIT").await,
        Err(error) => {
            // The connection is closed on the way out, which rolls back as well.
            let _rolled_back = client.batch_execute("ROLLBACK").await;
            Err(error)
        }
    }
}
