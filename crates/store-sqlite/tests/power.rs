//! Power cuts and failing disks, at every operation that `SQLite` asks of the disk: what was told is there.
//!
//! A script of batches is written to a store on a disk that loses what was not synced. After the power is back the
//! store tells what the model tells of as many batches as were answered, or of one more.

use domain::{Command, Environment};
use futures::{FutureExt, future::BoxFuture};
use lossy_vfs::{Disk, Fate, Operation};
use rusqlite::Connection;
use std::{
    fs,
    path::PathBuf,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};
use store::{
    Error, Store,
    conformance::{
        Database,
        fixture::{self, assert_sound, begin, paid},
    },
    model::Model,
};
use store_sqlite::{Open, OpenError, OpenOptions, SqliteStore};
use tempfile::TempDir;
use tokio::runtime::Runtime;

const LIVE: Environment = Environment::Live;

/// A disk in a directory of its own.
struct Machine {
    disk: Disk,
    /// A log of this many pages is moved into the database beside the batches.
    log_pages_max: u32,
    path: PathBuf,
    _directory: TempDir,
}

impl Machine {
    /// With no database.
    fn empty() -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let path = directory.path().join("esamsat.db");
        let disk = Disk::mount(directory.path());
        Self { disk, log_pages_max: 40, path, _directory: directory }
    }

    /// With a new database, on which there is no work yet.
    fn new() -> Self {
        static CREATED: OnceLock<Vec<u8>> = OnceLock::new();
        let machine = Self::empty();
        let created = CREATED.get_or_init(|| {
            let directory = tempfile::tempdir().expect("a temporary directory");
            let path = directory.path().join("esamsat.db");
            store_sqlite::migrate(&path).expect("a new database");
            fs::read(&path).expect("a closed database is one file")
        });
        fs::write(&machine.path, created).expect("a copy");
        machine
    }

    fn open(&self) -> Result<SqliteStore, OpenError> {
        let mut options = OpenOptions::from(Open::CreateOrMigrate);
        options.log_pages_max = self.log_pages_max;
        SqliteStore::open(&self.path, options)
    }

    /// Counts operations, and lets this happen to the one of this number.
    fn strike(&self, number: usize, fate: Fate) -> Arc<AtomicUsize> {
        let count = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&count);
        self.disk.decide(
            move |_| {
                if counted.fetch_add(1, Ordering::Relaxed) == number { fate } else { Fate::Done }
            },
        );
        count
    }
}

fn runtime() -> Runtime {
    tokio::runtime::Builder::new_current_thread().build().expect("a runtime")
}

/// Batches, and what a store tells after each number of them.
struct Script {
    batches: Vec<Vec<Command>>,
    dumps: Vec<Vec<String>>,
}

fn script() -> &'static Script {
    static SCRIPT: OnceLock<Script> = OnceLock::new();
    SCRIPT.get_or_init(|| {
        let model = Model::new();
        let dump = || fixture::dump(&model).now_or_never().expect("the model answers at once");
        let mut script = Script { batches: Vec::new(), dumps: vec![dump()] };
        let mut add = |commands: Vec<Command>| {
            let decided = fixture::apply(&model, commands.clone()).now_or_never();
            assert!(decided.expect("the model answers at once").iter().all(Result::is_ok));
            script.batches.push(commands);
            script.dumps.push(dump());
        };
        add(vec![fixture::add_partner(LIVE, "mitra")]);
        add(vec![fixture::top_up(LIVE, domain::PartnerId(1), 10_000_000, "first")]);
        for (index, vehicle) in (0..4).zip(0..) {
            let record = fixture::record(LIVE, domain::PartnerId(1), index, vehicle);
            let facts = domain::command::PaymentFacts::of(&record.invoice).expect("an invoice with a bill");
            add(vec![Command::RecordInquiry(Box::new(record))]);
            add(vec![begin(&facts)]);
            add(vec![paid(&facts)]);
        }
        script
    })
}

/// One life of a gateway: goes on with the script where it stands, until the end or an error. How many batches of it
/// were answered.
fn live(machine: &Machine, from: usize) -> (usize, Option<Error>) {
    let Ok(store) = machine.open() else { return (from, None) };
    let runtime = runtime();
    let mut answered = from;
    for commands in &script().batches[from..] {
        match runtime.block_on(store.apply(fixture::batch(commands.clone()))) {
            Ok(_) => answered += 1,
            Err(error) => return (answered, Some(error)),
        }
    }
    // With the runtime ends whoever moves the log.
    drop(runtime);
    drop(store);
    (answered, None)
}

/// What was answered is there, and at most the next batch. How many there are.
fn check(machine: &Machine, answered: usize, when: &str) -> usize {
    let store = machine.open().unwrap_or_else(|error| panic!("{error}, {when}"));
    let found = standing(&store, answered, when);
    drop(store);
    let raw = Connection::open(&machine.path).expect("the database opens");
    let integrity: String =
        raw.query_row("PRAGMA integrity_check", (), |row| row.get(0)).expect("it can be checked");
    assert_eq!(integrity, "ok", "{when}");
    found
}

/// How many batches a store has.
fn standing(store: &SqliteStore, answered: usize, when: &str) -> usize {
    let dump = runtime().block_on(async {
        assert_sound(store).await;
        fixture::dump(store).await
    });
    let dumps = &script().dumps;
    let found = (answered..dumps.len().min(answered + 2)).find(|count| dumps[*count] == dump);
    found.unwrap_or_else(|| {
        let known = dumps.iter().position(|known| *known == dump);
        panic!("{known:?} batches are there of {answered} that were answered, {when}")
    })
}

/// How many operations a whole life has.
fn operations() -> usize {
    let machine = Machine::new();
    let count = machine.strike(usize::MAX, Fate::Done);
    assert_eq!(live(&machine, 0).0, script().batches.len());
    let operations = count.load(Ordering::Relaxed);
    assert!(operations > 100, "{operations}");
    operations
}

#[test]
fn a_database_is_created_and_migrated_whatever_ends_it_halfway() {
    let create = |machine: &Machine| machine.open().map(drop);
    let machine = Machine::empty();
    let count = machine.strike(usize::MAX, Fate::Done);
    create(&machine).expect("a new database");
    let operations = count.load(Ordering::Relaxed);
    let mut seed = 0;
    for (ends_at, fate) in (0..operations).flat_map(|at| [(at, Fate::PowerCut), (at, Fate::Fails)]) {
        let when = format!("{fate:?} at {ends_at}");
        let machine = Machine::empty();
        let count = machine.strike(ends_at, fate);
        let opened = machine.open();
        assert!(opened.is_err() || count.load(Ordering::Relaxed) <= ends_at, "unheard of: {when}");
        drop(opened);
        for again_at in [ends_at * 7 % 30, usize::MAX] {
            seed += 1;
            if machine.disk.is_off() {
                _ = machine.disk.lose_power(seed);
            } else {
                machine.disk.kill();
            }
            machine.strike(again_at, fate);
            let created = create(&machine);
            assert!(created.is_ok() || again_at < usize::MAX, "{created:?}, {when}");
        }
        machine.disk.lose_power(seed);
        check(&machine, 0, &when);
    }
    println!("{operations} operations");
    assert!(operations > 60, "{operations}");
}

#[test]
fn power_lost_at_any_operation_and_again_in_the_recovery_loses_nothing_that_was_answered() {
    let (mut losses, mut written) = (0, 0);
    let operations = operations();
    for cut_at in 0..=operations {
        let seed = u64::try_from(cut_at).expect("a small number");
        let machine = Machine::new();
        machine.strike(cut_at, Fate::PowerCut);
        let (answered, _) = live(&machine, 0);
        losses += machine.disk.lose_power(seed).lost;
        // The recovery, which goes on with the work.
        machine.strike(usize::MAX, Fate::Done);
        let there = check(&machine, answered, &format!("power cut at {cut_at}"));
        written += there - answered;
        machine.disk.kill();
        let again_at = cut_at * 7 % 40;
        machine.strike(again_at, Fate::PowerCut);
        let (answered, _) = live(&machine, there);
        losses += machine.disk.lose_power(!seed).lost;
        machine.disk.heal();
        check(&machine, answered, &format!("power cut at {cut_at} and at {again_at}"));
    }
    println!("{operations} operations; {losses} changes lost; {written} batches there without an answer");
    assert!(losses > operations && written > 0);
}

/// Lets every operation of a life fail in turn, and then the power. Says how many of the failures ended the store, and
/// how often a sync was tried again after one had failed.
fn fail_at_every_operation(log_pages_max: u32) -> (usize, usize) {
    let (mut ended, mut tried_again) = (0, 0);
    for fails_at in 0..=operations() {
        let machine = Machine { log_pages_max, ..Machine::new() };
        let (count, failed, again) =
            (AtomicUsize::new(0), AtomicBool::new(false), Arc::new(AtomicUsize::new(0)));
        machine.disk.decide({
            let again = Arc::clone(&again);
            move |operation| {
                let is_sync = operation == Operation::Sync;
                if count.fetch_add(1, Ordering::Relaxed) == fails_at {
                    failed.store(is_sync, Ordering::Relaxed);
                    return Fate::Fails;
                }
                again.fetch_add(usize::from(is_sync && failed.load(Ordering::Relaxed)), Ordering::Relaxed);
                Fate::Done
            }
        });
        let when = format!("I/O error at {fails_at}");
        let (answered, error) = live(&machine, 0);
        if let Some(error) = &error {
            assert!(matches!(error, Error::Fatal(_)), "{error}, {when}");
            ended += 1;
        }
        if answered > 0 || error.is_some() {
            tried_again += again.load(Ordering::Relaxed);
        }
        machine.disk.heal();
        machine.disk.kill();
        // The next process works on with pages that the operating system takes for written, until the power goes.
        let store = machine.open().unwrap_or_else(|error| panic!("{error}, {when}"));
        let there = standing(&store, answered, &when);
        let runtime = runtime();
        for commands in &script().batches[there..] {
            runtime.block_on(fixture::apply(&store, commands.clone()));
        }
        machine.disk.lose_power(u64::try_from(fails_at).expect("a small number"));
        drop(runtime);
        drop(store);
        check(&machine, script().batches.len(), &format!("{when}, then a power cut"));
    }
    (ended, tried_again)
}

#[test]
fn an_io_error_at_any_operation_ends_the_store_and_no_sync_is_tried_again() {
    let (ended, tried_again) = fail_at_every_operation(u32::MAX);
    assert!(ended > 50, "{ended}");
    assert_eq!(tried_again, 0);
}

/// A batch may be under way when whoever moves the log meets the error, so that this one does not count syncs.
#[test]
fn an_io_error_while_the_log_is_moved_loses_nothing_that_was_answered() {
    let (ended, _) = fail_at_every_operation(40);
    assert!(ended > 50, "{ended}");
}

#[test]
fn a_disk_that_lies_about_syncs_is_found_out() {
    let lost = (0..20).filter(|seed| {
        let machine = Machine::new();
        machine.disk.decide(|operation| if operation == Operation::Sync { Fate::Lies } else { Fate::Done });
        let (answered, _) = live(&machine, 0);
        machine.disk.lose_power(*seed);
        machine.disk.heal();
        let found = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| check(&machine, answered, "")));
        found.is_err()
    });
    assert!(lost.count() > 5);
}

impl Database for Machine {
    fn open(&self) -> BoxFuture<'_, Arc<dyn Store>> {
        Box::pin(async { Arc::new(Self::open(self).expect("the file opens")) as Arc<dyn Store> })
    }
}

/// The disk itself is a good one as long as the power is on.
mod conformance {
    async fn fresh() -> super::Machine {
        super::Machine::empty()
    }

    store::conformance!(fresh);
}
