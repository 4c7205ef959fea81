//! `SQLite` on a disk that loses what was not synced: what it promises is kept, and what it does not promise is lost.

use lossy_vfs::{Disk, Fate, Operation};
use rusqlite::{Connection, TransactionBehavior};
use std::{
    collections::BTreeSet,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};
use tempfile::TempDir;

/// Rows that each transaction writes, so that a part of one can be told from all of it.
const ROWS: i64 = 3;
const TRANSACTIONS: i64 = 6;

struct Machine {
    disk: Disk,
    directory: TempDir,
}

impl Machine {
    fn new() -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory");
        Self { disk: Disk::mount(directory.path()), directory }
    }

    fn open(&self, settings: &str) -> rusqlite::Result<Connection> {
        let connection = Connection::open(self.directory.path().join("test.db"))?;
        connection.busy_timeout(Duration::from_secs(10))?;
        connection.execute_batch(settings)?;
        Ok(connection)
    }

    /// The power is cut before the operation of this number, counted from 0. Counts operations.
    fn cut_at(&self, cut_at: usize) -> Arc<AtomicUsize> {
        let count = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&count);
        self.disk.decide(move |_| {
            if counted.fetch_add(1, Ordering::Relaxed) >= cut_at { Fate::PowerCut } else { Fate::Done }
        });
        count
    }
}

/// Writes transactions, moving the log into the database now and then; how many of them `SQLite` said were committed.
fn write(machine: &Machine, settings: &str) -> i64 {
    let mut committed = 0;
    let mut work = || -> rusqlite::Result<()> {
        let connection = machine.open(settings)?;
        connection.execute_batch("CREATE TABLE IF NOT EXISTS entry (work, filling)")?;
        for work in 0..TRANSACTIONS {
            connection.execute_batch("BEGIN IMMEDIATE")?;
            for row in 0..ROWS {
                let sql = "INSERT INTO entry VALUES (?1, zeroblob(?2))";
                connection.execute(sql, (work, 700 + 1_000 * row))?;
            }
            connection.execute_batch("COMMIT")?;
            committed = work + 1;
            if work % 2 == 1 {
                connection.query_row("PRAGMA wal_checkpoint(PASSIVE)", (), |_| Ok(()))?;
            }
        }
        Ok(())
    };
    let done = work();
    assert!(done.is_ok() || machine.disk.is_off(), "{done:?}");
    committed
}

fn length(counts: &[i64]) -> i64 {
    counts.len().try_into().expect("a small number")
}

/// What is wrong after the power came back, if anything.
fn damage(path: &Machine, settings: &str, committed: i64) -> Option<&'static str> {
    let read = || -> rusqlite::Result<(String, Vec<i64>)> {
        let connection = path.open(settings)?;
        let check = connection.query_row("PRAGMA integrity_check", (), |row| row.get(0))?;
        connection.execute_batch("CREATE TABLE IF NOT EXISTS entry (work, filling)")?;
        let mut select = connection.prepare("SELECT count(*) FROM entry GROUP BY work ORDER BY work")?;
        let counts = select.query_map((), |row| row.get(0))?.collect::<rusqlite::Result<_>>()?;
        Ok((check, counts))
    };
    match read() {
        Err(_) => Some("damaged"),
        Ok((check, _)) if check != "ok" => Some("damaged"),
        Ok((_, counts)) if counts.iter().any(|count| *count != ROWS) => Some("half a transaction"),
        Ok((_, counts)) if length(&counts) < committed => Some("lost"),
        Ok((_, counts)) if length(&counts) > committed + 1 => Some("more than was written"),
        Ok(_) => None,
    }
}

/// Cuts the power at every operation, with several losses each. What was seen to be wrong, and how many operations.
fn cut_everywhere(settings: &str, seeds: u64) -> (BTreeSet<&'static str>, usize) {
    let machine = Machine::new();
    let count = machine.cut_at(usize::MAX);
    assert_eq!(write(&machine, settings), TRANSACTIONS);
    let operations = count.load(Ordering::Relaxed);
    let mut seen = BTreeSet::new();
    let mut losses = 0;
    for cut_at in 0..=operations {
        for seed in 0..seeds {
            let machine = Machine::new();
            machine.cut_at(cut_at);
            let committed = write(&machine, settings);
            machine.disk.heal();
            losses += machine
                .disk
                .lose_power(seed * 1_000_003 + u64::try_from(cut_at).expect("a small number"))
                .lost;
            seen.extend(damage(&machine, settings, committed));
        }
    }
    println!("{settings}: {operations} operations, {losses} changes lost: {seen:?}");
    assert!(losses > operations, "something is lost at every other cut or so");
    (seen, operations)
}

const LOG: &str = "PRAGMA journal_mode = WAL;";

#[test]
fn a_synced_log_loses_nothing_that_was_committed() {
    let (seen, operations) = cut_everywhere(&format!("{LOG} PRAGMA synchronous = FULL"), 3);
    assert!(seen.is_empty(), "{seen:?}");
    assert!(operations > 60, "{operations}");
}

#[test]
fn a_synced_journal_loses_nothing_that_was_committed() {
    let settings = "PRAGMA journal_mode = DELETE; PRAGMA synchronous = EXTRA";
    assert!(cut_everywhere(settings, 3).0.is_empty());
}

/// `SQLite` says so of both.
#[test]
fn a_log_that_is_not_synced_at_commits_loses_some_and_damages_nothing() {
    let (seen, _) = cut_everywhere(&format!("{LOG} PRAGMA synchronous = NORMAL"), 3);
    assert_eq!(seen, BTreeSet::from(["lost"]));
}

#[test]
fn without_syncs_commits_are_lost_and_databases_damaged() {
    let (seen, _) = cut_everywhere(&format!("{LOG} PRAGMA synchronous = OFF"), 3);
    assert!(seen.is_superset(&BTreeSet::from(["lost", "damaged"])), "{seen:?}");
}

const FULL: &str = "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL";

#[test]
fn syncs_that_lie_lose_commits() {
    let lost = (0..20).filter(|seed| {
        let machine = Machine::new();
        machine.disk.decide(|operation| if operation == Operation::Sync { Fate::Lies } else { Fate::Done });
        let committed = write(&machine, FULL);
        machine.disk.heal();
        machine.disk.lose_power(*seed);
        damage(&machine, FULL, committed).is_some()
    });
    assert!(lost.count() > 5);
}

#[test]
fn a_sync_that_fails_is_told_and_what_it_left_is_not_durable() {
    let machine = Machine::new();
    let connection = machine.open(FULL).unwrap();
    connection.execute_batch("CREATE TABLE entry (work); INSERT INTO entry VALUES (1)").unwrap();
    machine.disk.decide(|operation| if operation == Operation::Sync { Fate::Fails } else { Fate::Done });
    let failed = connection.execute_batch("INSERT INTO entry VALUES (2)").unwrap_err();
    assert_eq!(failed.sqlite_error().unwrap().extended_code, rusqlite::ffi::SQLITE_IOERR_FSYNC);
    machine.disk.heal();
    // Another process finds the whole of it in the log.
    machine.disk.kill();
    drop(connection);
    let count = |machine: &Machine| {
        let connection = machine.open("").unwrap();
        // So that closing moves nothing.
        machine.disk.decide(|_| Fate::Fails);
        let count = connection.query_row("SELECT count(*) FROM entry", (), |row| row.get::<_, i64>(0));
        drop(connection);
        machine.disk.heal();
        count.unwrap()
    };
    assert_eq!(count(&machine), 2);
    machine.disk.lose_power(1);
    assert_eq!(count(&machine), 1);
}

#[test]
fn killed_processes_lose_nothing_that_they_wrote() {
    let machine = Machine::new();
    let dead = machine.open(&format!("{LOG} PRAGMA synchronous = OFF")).unwrap();
    dead.execute_batch("CREATE TABLE entry (work); INSERT INTO entry VALUES (1)").unwrap();
    dead.execute_batch("BEGIN IMMEDIATE; INSERT INTO entry VALUES (2)").unwrap();
    machine.disk.kill();
    // Its locks went with it, and it does nothing more.
    let alive = machine.open("").unwrap();
    alive.execute("INSERT INTO entry VALUES (3)", ()).unwrap();
    assert!(dead.execute_batch("COMMIT").is_err());
    drop(dead);
    let found: i64 = alive.query_row("SELECT sum(work) FROM entry", (), |row| row.get(0)).unwrap();
    assert_eq!(found, 4);
}

fn count_up(machine: &Machine, settings: &str) {
    let threads = 4;
    let each = 50;
    let first = machine.open(settings).expect("SQLite works");
    first.execute_batch("CREATE TABLE count (value); INSERT INTO count VALUES (0)").expect("SQLite works");
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                let mut connection = machine.open("").expect("SQLite works");
                for _ in 0..each {
                    let work = connection
                        .transaction_with_behavior(TransactionBehavior::Immediate)
                        .expect("SQLite works");
                    let value: i64 = work
                        .query_row("SELECT value FROM count", (), |row| row.get(0))
                        .expect("SQLite works");
                    work.execute("UPDATE count SET value = ?1", [value + 1]).expect("SQLite works");
                    work.commit().expect("SQLite works");
                    let seen: i64 = connection
                        .query_row("SELECT value FROM count", (), |row| row.get(0))
                        .expect("SQLite works");
                    assert!(seen > value);
                }
            });
        }
    });
    let value: i64 = first.query_row("SELECT value FROM count", (), |row| row.get(0)).expect("SQLite works");
    assert_eq!(value, threads * each);
}

#[test]
fn connections_keep_out_of_each_others_way() {
    count_up(&Machine::new(), "PRAGMA journal_mode = WAL");
    count_up(&Machine::new(), "PRAGMA journal_mode = DELETE");
}

#[test]
fn files_elsewhere_are_the_operating_systems() {
    let _machine = Machine::new();
    let directory = tempfile::tempdir().expect("a temporary directory");
    let path = directory.path().join("real.db");
    let connection = Connection::open(&path).unwrap();
    connection.execute_batch("PRAGMA journal_mode = WAL; CREATE TABLE entry (work)").unwrap();
    assert!(directory.path().join("real.db-wal").exists());
    drop(connection);
    assert!(std::fs::read(Path::new(&path)).unwrap().starts_with(b"SQLite format 3"));
}
