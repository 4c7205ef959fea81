//! Opening a database: telling what the file is before anything is written to it, and migrating it.
//!
//! `PRAGMA application_id` says that a file is esamsat's, `PRAGMA user_version` how many migrations it has
//! seen. All pending migrations run in one transaction under the write lock, so that of several processes
//! one does the work, the others wait, and a killed one leaves nothing half done.
//!
//! An existing file is never opened but through `SQLite`: closing a file of one's own would drop the locks
//! that `SQLite`'s connections of the same process hold on it (POSIX).

use crate::checkpoint::move_log;
use domain::Timestamp;
use rusqlite::{Connection, ErrorCode, OpenFlags, config::DbConfig};
use std::{
    fs, io,
    path::{Path, PathBuf},
    time::Duration,
};

/// `eSAT`.
const APPLICATION_ID: i64 = 0x6553_4154;

/// In order; the position counts from one. Append only.
const MIGRATIONS: &[&str] = &[
    include_str!("../migrations/0001_initial.sql"),
    include_str!("../migrations/0002_lease.sql"),
    include_str!("../migrations/0003_moved.sql"),
    include_str!("../migrations/0004_upstreams.sql"),
    include_str!("../migrations/0005_rest.sql"),
];

/// Since this schema a database can say that it was moved.
const MOVED_SINCE: u32 = 3;

/// How long a lock of another process is waited for.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// How often switching to WAL is tried when others are at it too; each try waits for the lock.
const WAL_TRIES_MAX: u32 = 20;

/// What may be done to the file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Open {
    /// Create it where there is none; run pending migrations.
    CreateOrMigrate,
    /// Neither: refuse what is not there, or has migrations pending.
    Existing,
}

/// How to open a database. `Open` alone will do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct OpenOptions {
    /// What may be done to the file.
    pub open: Open,
    /// No more pages than this (of 4096 bytes): a disk that fills up, for tests.
    pub pages_max: Option<u32>,
    /// With less free space on the disk than this, `check` says that the store is full.
    pub free_bytes_min: u64,
    /// A log of this many pages is moved into the database.
    pub log_pages_max: u32,
}

impl From<Open> for OpenOptions {
    fn from(open: Open) -> Self {
        Self { open, pages_max: None, free_bytes_min: 64 << 20, log_pages_max: 4096 }
    }
}

/// Where everything that a database holds was moved to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Moved {
    /// For people: an address without its password.
    pub target: String,
    /// The fingerprint of what was moved.
    pub fingerprint: String,
    /// When.
    pub at: Timestamp,
}

/// Why a database was not opened. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// No such file.
    #[error("there is no database at {}; create it with `esamsat migrate`", path.display())]
    NotFound {
        /// The file.
        path: PathBuf,
    },
    /// Another program's database, or no database at all.
    #[error("{} is not an esamsat database; it was left alone; name another file", path.display())]
    Foreign {
        /// The file.
        path: PathBuf,
    },
    /// Written by a newer version.
    #[error(
        "{} was written by a newer esamsat (schema {found}, this one knows {known}); run that version",
        path.display()
    )]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its schema.
        found: u32,
        /// The latest schema that this version knows.
        known: u32,
    },
    /// Written by an older version.
    #[error(
        "{} is of an older esamsat (schema {found}, this one needs {known}); run `esamsat migrate`",
        path.display()
    )]
    Pending {
        /// The file.
        path: PathBuf,
        /// Its schema.
        found: u32,
        /// The schema that this version needs.
        known: u32,
    },
    /// `SQLite` cannot make sense of it.
    #[error("{} is damaged ({reason}); restore it from a backup", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What `SQLite` says.
        reason: String,
    },
    /// Somebody kept it locked for too long.
    #[error("{} is locked by another process; wait for it or stop it, then try again", path.display())]
    Locked {
        /// The file.
        path: PathBuf,
    },
    /// What it holds was moved, and is changed there by now.
    #[error(
        "{} was moved to {target}; use that with --database, or see \"Moving from the embedded database\" in \
         docs/operating.md for how to go back",
        path.display()
    )]
    Moved {
        /// The file.
        path: PathBuf,
        /// Where to, without a password.
        target: String,
    },
    /// The operating system refused.
    #[error(
        "failed to open {}: {reason}; check that its directory exists, is writable and has space left",
        path.display()
    )]
    Io {
        /// The file.
        path: PathBuf,
        /// What it says.
        reason: String,
    },
}

/// Opens a writing connection to a database that is esamsat's and of this version's schema.
pub(crate) fn writer(path: &Path, options: &OpenOptions) -> Result<Connection, OpenError> {
    match fs::metadata(path) {
        Ok(found) if found.is_file() => {}
        Ok(_) => return Err(io_error(path, "it is not a file")),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            if options.open == Open::Existing {
                return Err(OpenError::NotFound { path: path.to_owned() });
            }
            create(path)?;
        }
        Err(error) => return Err(io_error(path, error)),
    }
    let mut connection = connect(path).map_err(|error| explain(path, &error))?;
    match schema(&connection).map_err(|error| explain(path, &error))? {
        Schema::Foreign => return Err(OpenError::Foreign { path: path.to_owned() }),
        Schema::Version(found) => {
            check_version(path, found, options.open)?;
            if found >= MOVED_SINCE
                && let Some(Moved { target, .. }) =
                    moved(&connection).map_err(|error| explain(path, &error))?
            {
                return Err(OpenError::Moved { path: path.to_owned(), target });
            }
        }
    }
    prepare(path, &mut connection, options)?;
    Ok(connection)
}

/// Opens a database of this version's schema for oneself alone, inside a transaction that ends with the
/// connection, whether or not it was moved. Whoever has the file open is waited for, but not for long.
pub(crate) fn exclusive(path: &Path) -> Result<(Connection, Option<Moved>), OpenError> {
    match fs::metadata(path) {
        Ok(found) if found.is_file() => {}
        Ok(_) => return Err(io_error(path, "it is not a file")),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(OpenError::NotFound { path: path.to_owned() });
        }
        Err(error) => return Err(io_error(path, error)),
    }
    let explained = |error: rusqlite::Error| explain(path, &error);
    let mut connection = connect(path).map_err(explained)?;
    match schema(&connection).map_err(explained)? {
        Schema::Foreign => return Err(OpenError::Foreign { path: path.to_owned() }),
        Schema::Version(found) => check_version(path, found, Open::Existing)?,
    }
    prepare(path, &mut connection, &OpenOptions::from(Open::Existing))?;
    // In WAL mode every open connection holds a lock on the file, so that this one finds out about them.
    connection.pragma_update(None, "locking_mode", "EXCLUSIVE").map_err(explained)?;
    connection.execute_batch("BEGIN IMMEDIATE").map_err(explained)?;
    // Read under the lock: the schema may have been another one before.
    match schema(&connection).map_err(explained)? {
        Schema::Foreign => return Err(OpenError::Foreign { path: path.to_owned() }),
        Schema::Version(found) => check_version(path, found, Open::Existing)?,
    }
    let moved = moved(&connection).map_err(explained)?;
    Ok((connection, moved))
}

fn moved(connection: &Connection) -> Result<Option<Moved>, rusqlite::Error> {
    let sql = "SELECT target, fingerprint, at FROM moved";
    let read = connection.query_row(sql, (), |row| {
        let at = Timestamp::from_millis(row.get(2)?);
        Ok(Moved { target: row.get(0)?, fingerprint: row.get(1)?, at })
    });
    rusqlite::OptionalExtension::optional(read)
}

/// Opens one more connection to a database that is open already. It never writes rows.
pub(crate) fn reader(path: &Path) -> Result<Connection, rusqlite::Error> {
    let connection = connect(path)?;
    configure(&connection, 4 << 10)?;
    connection.pragma_update(None, "query_only", true)?;
    // Moving the log into the database at the end is the writer's business, which knows of I/O errors.
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
    Ok(connection)
}

fn known() -> u32 {
    u32::try_from(MIGRATIONS.len()).expect("migrations are few")
}

fn check_version(path: &Path, found: u32, open: Open) -> Result<(), OpenError> {
    let (path, known) = (path.to_owned(), known());
    if found > known {
        return Err(OpenError::Newer { path, found, known });
    }
    if found < known && open == Open::Existing {
        return Err(OpenError::Pending { path, found, known });
    }
    Ok(())
}

/// An empty file that only its owner may read, since it will hold personal data. `SQLite` gives its log the
/// same mode.
fn create(path: &Path) -> Result<(), OpenError> {
    let mut options = fs::OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    match options.open(path) {
        Ok(_) => Ok(()),
        // Another process was faster: its file is as good.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(io_error(path, error)),
    }
}

fn connect(path: &Path) -> Result<Connection, rusqlite::Error> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(BUSY_TIMEOUT)?;
    Ok(connection)
}

enum Schema {
    /// Empty, or after this many migrations.
    Version(u32),
    Foreign,
}

fn schema(connection: &Connection) -> Result<Schema, rusqlite::Error> {
    // All three as of one moment: another process may be migrating just now.
    connection.execute_batch("SAVEPOINT look")?;
    let number = |pragma: &str| connection.query_row(pragma, (), |row| row.get::<_, i64>(0));
    let looked = number("PRAGMA application_id").and_then(|application| {
        Ok((application, number("PRAGMA user_version")?, number("SELECT count(*) FROM sqlite_schema")?))
    });
    connection.execute_batch("RELEASE look")?;
    let (application, version, tables) = looked?;
    Ok(match (application, u32::try_from(version)) {
        (APPLICATION_ID, Ok(version)) => Schema::Version(version),
        (0, Ok(0)) if tables == 0 => Schema::Version(0),
        _ => Schema::Foreign,
    })
}

fn prepare(path: &Path, connection: &mut Connection, options: &OpenOptions) -> Result<(), OpenError> {
    let explained = |error: rusqlite::Error| explain(path, &error);
    if connection.is_readonly("main").map_err(explained)? {
        return Err(io_error(path, "permission denied, it can only be read"));
    }
    // A copy of a database may have come without it.
    if use_log(connection).map_err(explained)? != "wal" {
        return Err(io_error(path, "its file system does not allow a write-ahead log (WAL)"));
    }
    if options.open == Open::CreateOrMigrate {
        migrate(path, connection)?;
    }
    configure(connection, 32 << 10).map_err(explained)?;
    if let Some(pages_max) = options.pages_max {
        connection.pragma_update(None, "max_page_count", pages_max).map_err(explained)?;
    }
    // Whoever wrote the log may have ended because its fsync failed. The kernel then takes the pages for
    // clean, though they may stand in its memory only: everybody reads them, no later fsync writes them, and
    // a power cut takes away what was answered for meanwhile. Copied into the database they are dirty again,
    // and its fsync writes them or fails here. Others at work on the file, or a full disk, are no reason not
    // to open it.
    let made_durable = move_log(connection).and_then(|(pages, moved_pages)| {
        if pages > 0 && moved_pages == pages { begin_log_anew(connection) } else { Ok(()) }
    });
    match made_durable {
        Err(error) if !is_busy(&error) && !is_full(&error) => Err(explained(error)),
        _ => Ok(()),
    }
}

/// Until the next commit a log that was copied still counts. If some of its last pages are in memory only, a power cut
/// would leave the earlier ones, which hide what was copied after them: what is told from here on would be gone again.
/// A commit that changes nothing ends that. Whoever is at work on the file makes such commits anyway.
fn begin_log_anew(connection: &Connection) -> Result<(), rusqlite::Error> {
    connection.busy_timeout(Duration::ZERO)?;
    let begun = connection.pragma_update(None, "application_id", APPLICATION_ID);
    connection.busy_timeout(BUSY_TIMEOUT)?;
    begun
}

/// Switches to WAL, which stays with the file. `SQLite` does not wait for others who switch at the same
/// moment; the empty transaction does.
fn use_log(connection: &Connection) -> Result<String, rusqlite::Error> {
    // To its end: it answers first and commits then, and whoever stops at the answer hears of no failure.
    let switch = || -> Result<String, rusqlite::Error> {
        let mut statement = connection.prepare("PRAGMA journal_mode = WAL")?;
        let modes: Result<Vec<String>, _> = statement.query_map((), |row| row.get(0))?.collect();
        Ok(modes?.concat())
    };
    let mut tries = 0;
    loop {
        match switch() {
            Err(error) if is_busy(&error) && tries < WAL_TRIES_MAX => {
                tries += 1;
                connection.execute_batch("BEGIN IMMEDIATE; ROLLBACK")?;
            }
            done => return done,
        }
    }
}

fn migrate(path: &Path, connection: &mut Connection) -> Result<(), OpenError> {
    let explained = |error: rusqlite::Error| explain(path, &error);
    let transaction =
        connection.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate).map_err(explained)?;
    // Read again: while the lock was waited for, another process may have done it.
    let found = match schema(&transaction).map_err(explained)? {
        Schema::Foreign => return Err(OpenError::Foreign { path: path.to_owned() }),
        Schema::Version(found) => found,
    };
    check_version(path, found, Open::CreateOrMigrate)?;
    for (version, migration) in (1_u32..).zip(MIGRATIONS).filter(|(version, _)| *version > found) {
        transaction.execute_batch(migration).map_err(explained)?;
        transaction.pragma_update(None, "user_version", version).map_err(explained)?;
        tracing::info!(version, "migrated the database");
    }
    if found == 0 {
        transaction.pragma_update(None, "application_id", APPLICATION_ID).map_err(explained)?;
    }
    transaction.commit().map_err(explained)
}

fn configure(connection: &Connection, cache_kibibytes: i64) -> Result<(), rusqlite::Error> {
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.pragma_update(None, "cache_size", -cache_kibibytes)?;
    connection.pragma_update(None, "temp_store", "MEMORY")?;
    connection.pragma_update(None, "trusted_schema", false)?;
    // The log is moved into the database beside the writer, see `checkpoint`.
    connection.pragma_update(None, "wal_autocheckpoint", 0)?;
    connection.pragma_update(None, "journal_size_limit", 64 << 20)?;
    connection.set_prepared_statement_cache_capacity(64);
    // Plans do not depend on bound values; without this, SQLite prepares many statements anew each time that
    // a value is bound, to see whether statistics (which there are none of) would favour another plan.
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
    Ok(())
}

fn is_busy(error: &rusqlite::Error) -> bool {
    matches!(error.sqlite_error_code(), Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked))
}

fn is_full(error: &rusqlite::Error) -> bool {
    error.sqlite_error_code() == Some(ErrorCode::DiskFull)
}

fn io_error(path: &Path, reason: impl std::fmt::Display) -> OpenError {
    OpenError::Io { path: path.to_owned(), reason: reason.to_string() }
}

pub(crate) fn explain(path: &Path, error: &rusqlite::Error) -> OpenError {
    let path = path.to_owned();
    let reason = error.to_string();
    match error.sqlite_error_code() {
        Some(ErrorCode::NotADatabase) => OpenError::Foreign { path },
        Some(ErrorCode::DatabaseCorrupt) => OpenError::Damaged { path, reason },
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => OpenError::Locked { path },
        _ => OpenError::Io { path, reason },
    }
}
