//! The embedded backend: one `SQLite` file in WAL mode, `synchronous=FULL`.
//!
//! One connection writes, under a lock of this process; several processes may write one file, since every
//! batch loads what it decides on after `BEGIN IMMEDIATE`. A few connections (`READERS_MAX`) read, each on
//! its own snapshot. All of it runs on tokio's blocking threads, so that a paused clock stands still
//! meanwhile.
//!
//! After an I/O error on the way of the money the store is done: nothing is tried again, not even the
//! checkpoint at closing, since an fsync that failed once may succeed the second time without having
//! written anything.
//!
//! Deliberately absent: rules (they are `domain`'s), and a commit whose outcome is unknown to the caller
//! (see `failure.rs`).

mod batch;
mod checkpoint;
mod columns;
mod export;
mod failure;
mod lookup;
mod open;
mod query;

pub use export::{Export, take_back};
pub use open::{Moved, Open, OpenError, OpenOptions};

use checkpoint::Checkpoints;
use domain::{
    Decision, Environment, Invoice, InvoiceNumber, Lease, Partner, Posting, Product, Rupiah, Timestamp,
    UpstreamId, Username,
    ledger::Account,
    record::{Entry, Event, Incident, Proposal},
};
use failure::Failure;
use futures::future::BoxFuture;
use rusqlite::{Connection, config::DbConfig};
use std::{
    fmt,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
};
use store::{AuditVisitor, Batch, BatchId, Error, InvoiceFilter, Store, StoredInvoice, lookup::Lookups};
use tokio::sync::Semaphore;

/// Connections that read at the same time.
const READERS_MAX: usize = 4;

/// A database file. Clones share its connections.
#[derive(Clone)]
pub struct SqliteStore {
    inner: Arc<Inner>,
}

struct Inner {
    path: PathBuf,
    free_bytes_min: u64,
    /// What made the store untrustworthy, once something did.
    broken: OnceLock<String>,
    checkpoints: Checkpoints,
    /// Idle readers; dropped before the writer, whose closing empties the log.
    readers: Mutex<Vec<Connection>>,
    places: Semaphore,
    lookups: Lookups,
    writer: Mutex<Connection>,
}

/// Creates or migrates a database. Several processes may do so at once.
pub fn migrate(path: &Path) -> Result<(), OpenError> {
    SqliteStore::open(path, Open::CreateOrMigrate).map(drop)
}

impl SqliteStore {
    /// Opens a database. It blocks, for at most a few seconds if another process migrates.
    pub fn open(path: &Path, options: impl Into<OpenOptions>) -> Result<Self, OpenError> {
        let options = options.into();
        let mut writer = open::writer(path, &options)?;
        let checkpoints = Checkpoints::watch(&mut writer, options.log_pages_max)
            .map_err(|error| OpenError::Io { path: path.to_owned(), reason: error.to_string() })?;
        let inner = Inner {
            path: path.to_owned(),
            free_bytes_min: options.free_bytes_min,
            broken: OnceLock::new(),
            checkpoints,
            readers: Mutex::new(Vec::new()),
            places: Semaphore::new(READERS_MAX),
            lookups: Lookups::new(READERS_MAX),
            writer: Mutex::new(writer),
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// Runs a piece of work in a transaction of the one writer.
    fn write<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Connection) -> Result<T, Failure> + Send + 'static,
    ) -> BoxFuture<'_, Result<T, Error>> {
        Box::pin(async move {
            let inner = Arc::clone(&self.inner);
            blocking(move || {
                let done = inner.write(work)?;
                checkpoint::start_if_due(&inner);
                Ok(done)
            })
            .await
        })
    }

    /// Runs a query in a read transaction of its own.
    fn read<T: Send + 'static>(
        &self,
        query: impl FnOnce(&Connection) -> Result<T, Failure> + Send + 'static,
    ) -> BoxFuture<'_, Result<T, Error>> {
        Box::pin(async move {
            let _place = self.inner.places.acquire().await.expect("the semaphore is never closed");
            let inner = Arc::clone(&self.inner);
            blocking(move || inner.read(query)).await
        })
    }
}

impl fmt::Debug for SqliteStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SqliteStore").field("path", &self.inner.path).finish_non_exhaustive()
    }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Error> + Send + 'static,
) -> Result<T, Error> {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(failed) => match failed.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            Err(_) => Err(Error::Unavailable("the runtime is shutting down".to_owned())),
        },
    }
}

/// A panic while the lock was held may have left a transaction open; whoever comes next rolls it back.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn execute(connection: &Connection, sql: &str) -> Result<(), rusqlite::Error> {
    connection.prepare_cached(sql)?.execute(())?;
    Ok(())
}

impl Inner {
    fn write<T>(&self, work: impl FnOnce(&Connection) -> Result<T, Failure>) -> Result<T, Error> {
        let writer = lock(&self.writer);
        self.trusted()?;
        let done = roll_back(&writer).and_then(|()| {
            execute(&writer, "BEGIN IMMEDIATE")?;
            let done = work(&writer)?;
            execute(&writer, "COMMIT").map_err(Failure::Commit)?;
            Ok(done)
        });
        let done = done.map_err(|failure| match roll_back(&writer) {
            Ok(()) => Error::from(failure),
            Err(_) => Error::Fatal(format!("failed to roll back after: {}", Error::from(failure))),
        });
        if let Err(Error::Fatal(reason)) = &done {
            self.distrust(&writer, reason);
        }
        done
    }

    fn read<T>(&self, query: impl FnOnce(&Connection) -> Result<T, Failure>) -> Result<T, Error> {
        let idle = lock(&self.readers).pop();
        let reader = match idle {
            Some(reader) => reader,
            None => open::reader(&self.path).map_err(Failure::Sqlite)?,
        };
        execute(&reader, "BEGIN").map_err(Failure::Sqlite)?;
        // A connection on which anything failed is closed, so that an idle one is in order.
        let found = query(&reader)?;
        execute(&reader, "COMMIT").map_err(Failure::Sqlite)?;
        lock(&self.readers).push(reader);
        Ok(found)
    }

    fn trusted(&self) -> Result<(), Error> {
        self.broken.get().map_or(Ok(()), |reason| Err(Error::Fatal(reason.clone())))
    }

    /// From here on nothing is written, nor moved from the log into the database.
    fn distrust(&self, writer: &Connection, reason: &str) {
        let _ = self.broken.set(reason.to_owned());
        if let Err(error) = writer.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true) {
            tracing::error!(%error, "failed to switch the checkpoint at closing off");
        }
    }

    /// Whether there is space: on the disk, and in the database for some more pages. The pages are rolled
    /// back, so that asking costs no fsync.
    fn check(&self) -> Result<(), Error> {
        // The directory of a bare file name is the current one.
        let directory = self.path.parent().filter(|parent| !parent.as_os_str().is_empty());
        let disk = rustix::fs::statvfs(directory.unwrap_or(Path::new(".")))
            .map_err(|error| Error::Unavailable(format!("failed to ask for the free space: {error}")))?;
        let free_bytes = disk.f_bavail.saturating_mul(disk.f_frsize);
        if free_bytes < self.free_bytes_min {
            return Err(Error::Full(format!(
                "{free_bytes} bytes are free on the disk, {} are needed",
                self.free_bytes_min
            )));
        }
        let writer = lock(&self.writer);
        self.trusted()?;
        roll_back(&writer)?;
        let probe = || {
            execute(&writer, "BEGIN IMMEDIATE")?;
            execute(&writer, "INSERT INTO probe (filling) VALUES (zeroblob(65536))")
        };
        let probed = probe().map_err(Failure::Sqlite);
        roll_back(&writer)?;
        Ok(probed?)
    }
}

fn roll_back(connection: &Connection) -> Result<(), Failure> {
    if !connection.is_autocommit() {
        execute(connection, "ROLLBACK")?;
    }
    Ok(())
}

impl Store for SqliteStore {
    fn apply(&self, batch: Batch) -> BoxFuture<'_, Result<Vec<Decision>, Error>> {
        self.write(move |connection| batch::apply(connection, &batch))
    }

    fn batch_committed(&self, id: BatchId) -> BoxFuture<'_, Result<bool, Error>> {
        self.write(move |connection| batch::committed(connection, id))
    }

    fn partner(&self, username: &Username) -> BoxFuture<'_, Result<Option<Partner>, Error>> {
        let username = username.clone();
        self.read(move |connection| query::partner(connection, &username))
    }

    fn partners(&self) -> BoxFuture<'_, Result<Vec<Partner>, Error>> {
        self.read(query::partners)
    }

    fn products(&self) -> BoxFuture<'_, Result<Vec<Product>, Error>> {
        self.read(query::products)
    }

    fn catalogue_version(&self) -> BoxFuture<'_, Result<i64, Error>> {
        self.read(query::catalogue_version)
    }

    fn invoice(&self, number: InvoiceNumber) -> BoxFuture<'_, Result<Option<StoredInvoice>, Error>> {
        Box::pin(lookup::invoice(&self.inner, number))
    }

    fn invoices(&self, filter: InvoiceFilter) -> BoxFuture<'_, Result<Vec<StoredInvoice>, Error>> {
        self.read(move |connection| query::invoices(connection, &filter))
    }

    fn pending(&self, after: InvoiceNumber, limit: u32) -> BoxFuture<'_, Result<Vec<Invoice>, Error>> {
        self.read(move |connection| query::pending(connection, after, limit))
    }

    fn pending_count(&self) -> BoxFuture<'_, Result<u64, Error>> {
        self.read(query::pending_count)
    }

    fn balance(&self, account: Account) -> BoxFuture<'_, Result<Rupiah, Error>> {
        self.read(move |connection| batch::balance(connection, account))
    }

    fn balances(&self) -> BoxFuture<'_, Result<Vec<(Account, Rupiah)>, Error>> {
        self.read(query::balances)
    }

    fn postings(&self, subject: i64) -> BoxFuture<'_, Result<Vec<Posting>, Error>> {
        self.read(move |connection| query::postings(connection, subject))
    }

    fn account_postings(
        &self,
        account: Account,
        before: i64,
        limit: u32,
    ) -> BoxFuture<'_, Result<Vec<Posting>, Error>> {
        self.read(move |connection| query::account_postings(connection, account, before, limit))
    }

    fn entries(&self, before: i64, limit: u32) -> BoxFuture<'_, Result<Vec<Entry>, Error>> {
        self.read(move |connection| query::entries(connection, before, limit))
    }

    fn entry_by_reference(
        &self,
        environment: Environment,
        reference: &str,
    ) -> BoxFuture<'_, Result<Option<Entry>, Error>> {
        let reference = reference.to_owned();
        self.read(move |connection| query::entry_by_reference(connection, environment, &reference))
    }

    fn incidents(&self, limit: u32) -> BoxFuture<'_, Result<Vec<Incident>, Error>> {
        self.read(move |connection| query::incidents(connection, limit))
    }

    fn proposals(&self) -> BoxFuture<'_, Result<Vec<Proposal>, Error>> {
        self.read(query::proposals)
    }

    fn proposal(&self, number: InvoiceNumber) -> BoxFuture<'_, Result<Option<Proposal>, Error>> {
        self.read(move |connection| query::proposal(connection, number))
    }

    fn upstreams(&self) -> BoxFuture<'_, Result<Vec<(String, UpstreamId)>, Error>> {
        self.read(query::upstreams)
    }

    fn leases(&self) -> BoxFuture<'_, Result<Vec<(String, Lease)>, Error>> {
        self.read(query::leases)
    }

    fn size_bytes(&self) -> BoxFuture<'_, Result<u64, Error>> {
        self.read(query::size_bytes)
    }

    fn events(&self, after: i64, limit: u32) -> BoxFuture<'_, Result<Vec<(i64, Event)>, Error>> {
        self.read(move |connection| query::events(connection, after, limit))
    }

    fn audit(&self, visit: AuditVisitor) -> BoxFuture<'_, Result<(), Error>> {
        self.read(move |connection| query::audit(connection, visit))
    }

    fn check(&self) -> BoxFuture<'_, Result<(), Error>> {
        Box::pin(async move {
            let inner = Arc::clone(&self.inner);
            blocking(move || inner.check()).await
        })
    }

    fn prune_batches(&self, moment: Timestamp) -> BoxFuture<'_, Result<(), Error>> {
        self.write(move |connection| batch::prune(connection, BatchId::first_of(moment)))
    }
}
