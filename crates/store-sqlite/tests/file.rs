//! What a file can suffer: to be absent, foreign, newer, damaged, full, edited by hand, shared.

use domain::{Accepted, Command, Environment, PartnerId, ledger::Account};
use rusqlite::Connection;
use std::{fs, path::Path};
use store::{
    Error, Store,
    conformance::fixture::{self, assert_sound, begin, number, paid},
};
use store_sqlite::{Open, OpenError, OpenOptions, SqliteStore, migrate};
use tempfile::TempDir;

const LIVE: Environment = Environment::Live;

fn directory() -> TempDir {
    tempfile::tempdir().expect("a temporary directory")
}

/// The message with the directory's name taken out.
fn refusal(path: &Path, open: Open) -> String {
    let error = SqliteStore::open(path, open).expect_err("the file is refused").to_string();
    assert!(!error.contains('\n'), "{error}");
    error.replace(&path.display().to_string(), "FILE")
}

#[test]
fn what_cannot_be_opened_is_said_in_one_line() {
    let directory = directory();
    let path = directory.path().join("esamsat.db");
    assert_eq!(
        refusal(&path, Open::Existing),
        "there is no database at FILE; create it with `esamsat migrate`"
    );
    assert!(!path.exists());

    let elsewhere = directory.path().join("nowhere").join("esamsat.db");
    assert_eq!(
        refusal(&elsewhere, Open::CreateOrMigrate),
        "failed to open FILE: No such file or directory (os error 2); check that its directory exists, is \
         writable and has space left"
    );

    let foreign = "FILE is not an esamsat database; it was left alone; name another file";
    let text = directory.path().join("notes.txt");
    fs::write(&text, "not a database, but long enough to be looked at ".repeat(40)).unwrap();
    let before = fs::read(&text).unwrap();
    for open in [Open::Existing, Open::CreateOrMigrate] {
        assert_eq!(refusal(&text, open), foreign);
    }
    assert_eq!(fs::read(&text).unwrap(), before);

    let other = directory.path().join("other.db");
    Connection::open(&other).unwrap().execute_batch("CREATE TABLE guest (name)").unwrap();
    let before = fs::read(&other).unwrap();
    for open in [Open::Existing, Open::CreateOrMigrate] {
        assert_eq!(refusal(&other, open), foreign);
    }
    assert_eq!(fs::read(&other).unwrap(), before);

    fs::write(&path, "").unwrap();
    assert_eq!(
        refusal(&path, Open::Existing),
        "FILE is of an older esamsat (schema 0, this one needs 5); run `esamsat migrate`"
    );
    migrate(&path).unwrap();
    migrate(&path).unwrap();
    assert!(SqliteStore::open(&path, Open::Existing).is_ok());
    Connection::open(&path).unwrap().pragma_update(None, "user_version", 7).unwrap();
    for open in [Open::Existing, Open::CreateOrMigrate] {
        assert_eq!(
            refusal(&path, open),
            "FILE was written by a newer esamsat (schema 7, this one knows 5); run that version"
        );
    }
    assert!(refusal(directory.path(), Open::Existing).starts_with("failed to open FILE: it is not a file"));
}

#[test]
fn a_damaged_file_is_said_to_be_damaged() {
    let directory = directory();
    let path = directory.path().join("esamsat.db");
    migrate(&path).unwrap();
    let mut bytes = fs::read(&path).unwrap();
    // The page of the schema, behind the header that tells what the file is.
    bytes[100..200].fill(0xFF);
    fs::write(&path, bytes).unwrap();
    let error = SqliteStore::open(&path, Open::Existing).unwrap_err();
    assert!(matches!(error, OpenError::Damaged { .. }), "{error}");
}

#[cfg(unix)]
#[test]
fn only_the_owner_may_read_a_new_file() {
    use std::os::unix::fs::PermissionsExt;
    let directory = directory();
    let path = directory.path().join("esamsat.db");
    let store = SqliteStore::open(&path, Open::CreateOrMigrate).unwrap();
    for file in fs::read_dir(directory.path()).unwrap() {
        let file = file.unwrap();
        assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600, "{:?}", file.path());
    }
    drop(store);
}

#[test]
fn many_may_create_and_migrate_at_once() {
    let directory = directory();
    let path = directory.path().join("esamsat.db");
    let opened: Vec<_> = std::thread::scope(|scope| {
        let tries: Vec<_> = (0..8).map(|_| scope.spawn(|| migrate(&path))).collect();
        tries.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert!(opened.iter().all(Result::is_ok), "{opened:?}");
    assert!(SqliteStore::open(&path, Open::Existing).is_ok());
}

#[tokio::test]
async fn a_full_disk_refuses_new_rows_and_works_again_with_space() {
    let directory = directory();
    let path = directory.path().join("esamsat.db");
    let mut options = OpenOptions::from(Open::CreateOrMigrate);
    options.pages_max = Some(120);
    let store = SqliteStore::open(&path, options).unwrap();
    let partner = fixture::partner(&store, LIVE, "mitra", 1_000_000).await;
    store.check().await.unwrap();
    let mut written = 0;
    let full = loop {
        let index = i64::from(written);
        let inquiry = fixture::record(LIVE, partner, index, written);
        match store.apply(fixture::batch(vec![Command::RecordInquiry(Box::new(inquiry))])).await {
            Ok(_) => written += 1,
            Err(error) => break error,
        }
    };
    assert!(matches!(full, Error::Full(_)), "{full}");
    assert!(matches!(store.check().await, Err(Error::Full(_))));
    assert_eq!(store.invoice(number(i64::from(written))).await.unwrap(), None);
    assert!(store.invoice(number(i64::from(written) - 1)).await.unwrap().is_some());
    assert_sound(&store).await;
    drop(store);

    let store = SqliteStore::open(&path, Open::Existing).unwrap();
    store.check().await.unwrap();
    let facts = fixture::invoice(&store, LIVE, partner, i64::from(written), written).await;
    assert!(fixture::apply(&store, vec![begin(&facts), paid(&facts)]).await.iter().all(Result::is_ok));
    assert_sound(&store).await;
}

#[tokio::test]
async fn little_space_on_the_disk_is_told_before_anything_fails() {
    let directory = directory();
    let mut options = OpenOptions::from(Open::CreateOrMigrate);
    options.free_bytes_min = u64::MAX;
    let store = SqliteStore::open(&directory.path().join("esamsat.db"), options).unwrap();
    assert!(matches!(store.check().await, Err(Error::Full(_))));
}

#[tokio::test]
async fn a_posting_that_stands_already_is_refused_with_its_batch() {
    let directory = directory();
    let path = directory.path().join("esamsat.db");
    let store = SqliteStore::open(&path, Open::CreateOrMigrate).unwrap();
    let partner = fixture::partner(&store, LIVE, "mitra", 1_000_000).await;
    let facts = fixture::invoice(&store, LIVE, partner, 0, 1).await;
    let account = Account::deposit(LIVE, partner).code();
    let by_hand = Connection::open(&path).unwrap();
    by_hand.execute("INSERT INTO posting VALUES (?1, 1, ?2, 5, 0)", [facts.invoice.get(), account]).unwrap();
    let other = Command::ReserveInvoiceNumbers { count: 10 };
    let refused = store.apply(fixture::batch(vec![other.clone(), begin(&facts)])).await;
    assert!(matches!(refused, Err(Error::Data(_))), "{refused:?}");
    // Nothing of it was written, and the connection is in order.
    assert_eq!(fixture::apply_one(&store, other).await, Ok(Accepted::Numbers { first: number(0) }));
    assert_eq!(store.pending_count().await.unwrap(), 0);
}

#[tokio::test]
async fn an_audit_sees_what_was_edited_by_hand_and_names_what_it_cannot_read() {
    let directory = directory();
    let path = directory.path().join("esamsat.db");
    let store = SqliteStore::open(&path, Open::CreateOrMigrate).unwrap();
    let partner = fixture::partner(&store, LIVE, "mitra", 1_000_000).await;
    let facts = fixture::invoice(&store, LIVE, partner, 0, 1).await;
    fixture::apply(&store, vec![begin(&facts), paid(&facts)]).await;
    let by_hand = Connection::open(&path).unwrap();
    by_hand
        .execute(
            "UPDATE balance SET amount = amount + 1 WHERE account = ?1",
            [Account::deposit(LIVE, partner).code()],
        )
        .unwrap();
    let edited = store.balance(Account::deposit(LIVE, partner)).await.unwrap();
    assert_eq!(edited.get(), -818_499);
    assert!(fixture::audit(&store).await.iter().any(|row| format!("{row:?}").contains("-818499")));

    for (edit, told) in [
        ("UPDATE invoice SET state = 9", "table invoice, row 100000000000: state is none"),
        ("UPDATE invoice SET state = 4", "table invoice, row 100000000000: Invalid column type"),
        ("UPDATE outbox SET kind = 'x' WHERE id = 1", "table outbox, row 1: kind is none"),
        ("UPDATE posting SET account = 5 WHERE step = 3 AND amount < 0", "table posting, row 1/3/5: account"),
    ] {
        by_hand.execute_batch(&format!("SAVEPOINT edit; {edit}; RELEASE edit")).unwrap();
        let refused = store.audit(Box::new(|_| true)).await.unwrap_err();
        assert!(matches!(&refused, Error::Data(what) if what.starts_with(told)), "{refused}");
        by_hand
            .execute_batch(
                "UPDATE invoice SET state = 3; UPDATE outbox SET kind = 'deposit_credited' WHERE id = 1",
            )
            .unwrap();
    }
}

#[tokio::test]
async fn an_open_payment_that_cannot_be_read_hides_no_other() {
    let directory = directory();
    let path = directory.path().join("esamsat.db");
    let store = SqliteStore::open(&path, Open::CreateOrMigrate).unwrap();
    let partner = fixture::partner(&store, LIVE, "mitra", 1_000_000).await;
    for (index, vehicle) in (0..5).zip(0..) {
        let facts = fixture::invoice(&store, LIVE, partner, index, vehicle).await;
        fixture::apply(&store, vec![begin(&facts)]).await;
    }
    let by_hand = Connection::open(&path).unwrap();
    for (edit, index) in [("begun_at = NULL", 0), ("chassis = ''", 2), ("environment = 9", 3)] {
        by_hand
            .execute(&format!("UPDATE invoice SET {edit} WHERE number = ?1"), [number(index).get()])
            .unwrap();
    }
    let pending = async |after: i64, limit: u32| {
        let found = store.pending(number(after), limit).await.unwrap();
        found.iter().map(|invoice| invoice.number.get() - number(0).get()).collect::<Vec<_>>()
    };
    assert_eq!(pending(-1, 10).await, [1, 4]);
    // No page is empty before the end, be it of unreadable rows only.
    assert_eq!(pending(-1, 1).await, [1]);
    assert_eq!(pending(1, 1).await, [4]);
    assert_eq!(pending(4, 1).await, [0_i64; 0]);
    assert_eq!(store.pending_count().await.unwrap(), 5);
    // Alone it is told.
    assert!(matches!(store.invoice(number(2)).await, Err(Error::Data(_))));
}

#[tokio::test]
async fn opening_moves_what_the_log_holds_into_the_database() {
    let directory = directory();
    let path = directory.path().join("esamsat.db");
    // Stays open, as the log of a process that was killed stays behind.
    let store = SqliteStore::open(&path, Open::CreateOrMigrate).unwrap();
    let database_bytes = || fs::metadata(&path).unwrap().len();
    let write = async |round: i64| {
        let records = (0..200).map(|index| {
            let index = round * 200 + index;
            let vehicle = u32::try_from(index).unwrap();
            Command::RecordInquiry(Box::new(fixture::record(LIVE, PartnerId(1), index, vehicle)))
        });
        fixture::apply(&store, records.collect()).await;
    };
    let empty = database_bytes();
    write(0).await;
    assert_eq!(database_bytes(), empty);
    assert!(SqliteStore::open(&path, Open::Existing).is_ok());
    let moved = database_bytes();
    assert!(moved > empty + (100 << 10), "{moved}, {empty} before");

    // An old reader keeps some of it back; a writer at work does not matter. Neither is an obstacle.
    let reader = Connection::open(&path).unwrap();
    reader.execute_batch("BEGIN; SELECT count(*) FROM invoice").unwrap();
    write(1).await;
    let writer = Connection::open(&path).unwrap();
    writer.execute_batch("BEGIN IMMEDIATE; INSERT INTO counter VALUES ('entry', 1)").unwrap();
    let beside = SqliteStore::open(&path, Open::Existing).unwrap();
    assert!(beside.invoice(number(399)).await.unwrap().is_some());
    assert_eq!(database_bytes(), moved);
}

#[tokio::test]
async fn another_process_that_holds_the_lock_is_waited_for() {
    let directory = directory();
    let path = directory.path().join("esamsat.db");
    let store = SqliteStore::open(&path, Open::CreateOrMigrate).unwrap();
    let other = Connection::open(&path).unwrap();
    other.execute_batch("BEGIN IMMEDIATE; INSERT INTO counter VALUES ('invoice', 100000000041)").unwrap();
    let waiting = tokio::spawn({
        let store = store.clone();
        async move { fixture::apply_one(&store, Command::ReserveInvoiceNumbers { count: 1 }).await }
    });
    // Readers do not wait.
    assert_eq!(store.pending_count().await.unwrap(), 0);
    other.execute_batch("COMMIT").unwrap();
    assert_eq!(waiting.await.unwrap(), Ok(Accepted::Numbers { first: number(42) }));
}

#[tokio::test]
async fn a_long_log_is_moved_into_the_database_and_begun_anew() {
    let directory = directory();
    let path = directory.path().join("esamsat.db");
    let mut options = OpenOptions::from(Open::CreateOrMigrate);
    options.log_pages_max = 64;
    let store = SqliteStore::open(&path, options).unwrap();
    for round in 0..50 {
        let records = (0..200).map(|index| {
            let index = round * 200 + index;
            let vehicle = u32::try_from(index).unwrap();
            Command::RecordInquiry(Box::new(fixture::record(LIVE, PartnerId(1), index, vehicle)))
        });
        fixture::apply(&store, records.collect()).await;
    }
    // Far less than was written; not to the page, since it is moved while batches go on.
    let database_bytes = fs::metadata(&path).unwrap().len();
    let log_bytes = fs::metadata(directory.path().join("esamsat.db-wal")).unwrap().len();
    assert!(database_bytes > 1 << 20, "{database_bytes}");
    assert!(log_bytes < database_bytes / 2, "{log_bytes} of {database_bytes}");
    assert!(store.invoice(number(0)).await.unwrap().is_some());
    drop(store);
    let store = SqliteStore::open(&path, Open::Existing).unwrap();
    assert!(store.invoice(number(9_999)).await.unwrap().is_some());
}
