//! The embedded database under a run, on a machine that loses power.
//!
//! What gateways write and read is `SQLite`'s; the model takes every batch that was written, and the auditor reads the
//! model. The two must decide alike; and after every power cut, and at the end, the database must tell what the model
//! tells: what was answered, and of the batch under way all or nothing.
//!
//! `SQLite` answers at once, as the model does: the run stands still meanwhile. So nothing depends on which thread was
//! faster, and the same seed gives the same trace.

use crate::{random::Random, record::Record};
use domain::Decision;
use engine::{domain, store};
use lossy_vfs::{Disk, Fate, Operation};
use rusqlite::Connection;
use std::{
    future::ready,
    pin::pin,
    sync::{
        Arc, Mutex, OnceLock, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    task::{Context, Poll, Wake, Waker},
    thread::{self, Thread},
};
use store::{
    Batch, BatchId, Error, Store,
    conformance::fixture::dump,
    front::{Answer, Front},
    model::Model,
};
use store_sqlite::{Open, OpenOptions, SqliteStore};
use tempfile::TempDir;

/// How often the power goes in a run, at most.
const POWER_CUTS_MAX: usize = 100;

/// The database, through all lives of the machine.
pub(crate) struct Database {
    record: Arc<Record>,
    model: Model,
    /// One for each time between two power cuts.
    stores: Vec<OnceLock<AtOnce>>,
    present: AtomicUsize,
    disk: Disk,
    directory: TempDir,
    losses: Mutex<Random>,
    /// So many syncs more, and the power goes; 0: it does not.
    syncs_left: Arc<AtomicU64>,
    /// Every process dies.
    kill_all: OnceLock<Box<dyn Fn() + Send + Sync>>,
}

/// `SQLite`, with every answer at once.
pub(crate) struct AtOnce(SqliteStore);

impl Front for AtOnce {
    fn behind(&self) -> &dyn Store {
        &self.0
    }

    fn reach(&self) -> Answer<'_, ()> {
        Box::pin(ready(Ok(())))
    }

    fn passing<'a, T: Send + 'a>(&'a self, answer: Answer<'a, T>) -> Answer<'a, T> {
        Box::pin(ready(at_once(answer)))
    }

    fn write(&self, batch: Batch) -> Answer<'_, Vec<Decision>> {
        self.passing(self.0.apply(batch))
    }

    fn was_committed(&self, id: BatchId) -> Answer<'_, bool> {
        self.passing(self.0.batch_committed(id))
    }
}

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// Waits for what other threads do, while the whole run stands still.
fn at_once<T>(future: impl Future<Output = T>) -> T {
    // The run's own scheduler has no say here.
    let mut future = pin!(tokio::task::unconstrained(future));
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    loop {
        match future.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(done) => return done,
            Poll::Pending => thread::park(),
        }
    }
}

impl Database {
    /// A new database, on a disk that does this with syncs.
    pub(crate) fn new(synced: Fate, losses: Random, model: Model, record: Arc<Record>) -> Arc<Self> {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let disk = Disk::mount(directory.path());
        let syncs_left = Arc::new(AtomicU64::new(0));
        let left = Arc::clone(&syncs_left);
        disk.decide(move |operation| {
            let counted = |left: u64| left.checked_sub(1);
            if operation != Operation::Sync {
                return Fate::Done;
            }
            let is_last = left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, counted) == Ok(1);
            if is_last { Fate::PowerCut } else { synced }
        });
        let database = Self {
            record,
            model,
            stores: (0..=POWER_CUTS_MAX).map(|_| OnceLock::new()).collect(),
            present: AtomicUsize::new(0),
            disk,
            directory,
            losses: Mutex::new(losses),
            syncs_left,
            kill_all: OnceLock::new(),
        };
        database.open(0).expect("a new database");
        Arc::new(database)
    }

    /// Says how every process dies.
    pub(crate) fn on_power_cut(&self, kill_all: impl Fn() + Send + Sync + 'static) {
        _ = self.kill_all.set(Box::new(kill_all));
    }

    /// Opens it for the time after so many power cuts.
    fn open(&self, power_cuts: usize) -> Result<(), Error> {
        let mut options = OpenOptions::from(Open::CreateOrMigrate);
        // It would be moved on another thread, whenever that comes to it. Every start moves it, too.
        options.log_pages_max = u32::MAX;
        let path = self.directory.path().join("esamsat.db");
        let store = SqliteStore::open(&path, options).map_err(|error| Error::Fatal(error.to_string()))?;
        let check = Connection::open(&path)
            .and_then(|beside| beside.query_row("PRAGMA integrity_check", (), |row| row.get::<_, String>(0)));
        match check {
            Ok(found) if found == "ok" => {}
            damaged => return Err(Error::Fatal(format!("{damaged:?}"))),
        }
        _ = self.stores[power_cuts].set(AtOnce(store));
        self.present.store(power_cuts, Ordering::Relaxed);
        Ok(())
    }

    /// The store as it is open now.
    pub(crate) fn store(&self) -> &AtOnce {
        self.stores[self.present.load(Ordering::Relaxed)].get().expect("it is opened with the power")
    }

    /// The power will go before one of the syncs to come.
    pub(crate) fn cut_power_at_sync(&self, syncs: u64) {
        self.syncs_left.store(syncs, Ordering::Relaxed);
    }

    /// The power will not go any more.
    pub(crate) fn keep_power(&self) {
        self.syncs_left.store(0, Ordering::Relaxed);
    }

    /// The power goes and comes back, now. An error: the database does not.
    pub(crate) fn lose_power(&self) -> Result<(), Error> {
        self.keep_power();
        let power_cuts = self.present.load(Ordering::Relaxed) + 1;
        assert!(power_cuts <= POWER_CUTS_MAX, "a run is short");
        self.record.fault("power: lost", None, "the machine");
        if let Some(kill_all) = self.kill_all.get() {
            kill_all();
        }
        let seed = self.losses.lock().unwrap_or_else(PoisonError::into_inner).next();
        if self.disk.lose_power(seed).lost > 0 {
            self.record.probe("power: something was not synced");
        }
        self.open(power_cuts).inspect_err(|error| {
            self.record.wrong(None, format!("the database does not open after a power cut: {error}"));
        })
    }

    /// Writes a batch; `write_model` does the same to the model. If the power goes meanwhile, the error is ambiguous,
    /// and whoever gets it is dead.
    pub(crate) fn apply(
        &self,
        batch: &Batch,
        write_model: impl FnOnce() -> Result<Vec<Decision>, Error>,
    ) -> Result<Vec<Decision>, Error> {
        match at_once(self.store().apply(batch.clone())) {
            Ok(decisions) => {
                let by_model = write_model()?;
                if by_model != decisions {
                    let what = format!("SQLite decided {decisions:?}, the model {by_model:?}");
                    self.record.wrong(None, what);
                }
                Ok(decisions)
            }
            Err(error) if self.disk.is_off() => {
                self.lose_power()?;
                let reason = error.to_string();
                let is_written = at_once(self.store().batch_committed(batch.id))?;
                let decisions = if is_written { write_model()? } else { Vec::new() };
                self.record.probe(if is_written {
                    "power: lost in a commit, written"
                } else {
                    "power: lost in a commit, not written"
                });
                self.compare();
                Err(Error::Ambiguous { reason, decisions })
            }
            Err(error) => {
                if write_model().is_ok() {
                    self.record.wrong(None, format!("SQLite refused a batch that the model takes: {error}"));
                }
                Err(error)
            }
        }
    }

    /// Whether a batch was written.
    pub(crate) fn batch_committed(&self, id: BatchId) -> Result<bool, Error> {
        match at_once(self.store().batch_committed(id)) {
            Err(error) if self.disk.is_off() => {
                self.lose_power()?;
                self.compare();
                Err(Error::Unavailable(error.to_string()))
            }
            answer => answer,
        }
    }

    /// The database tells what the model tells.
    pub(crate) fn compare(&self) {
        let (told, expected) = (at_once(dump(self.store())), at_once(dump(&self.model)));
        if told != expected {
            let differs = told.iter().zip(&expected).find(|(told, expected)| told != expected);
            let what = match differs {
                Some((told, expected)) => format!("SQLite has {told}, the model {expected}"),
                None => format!("SQLite has {} rows, the model {}", told.len(), expected.len()),
            };
            self.record.wrong(None, what);
        }
    }
}
