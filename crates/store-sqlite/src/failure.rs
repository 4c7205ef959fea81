//! What `SQLite`'s errors mean to a store.
//!
//! | `SQLite` says | before COMMIT | at COMMIT |
//! | --- | --- | --- |
//! | FULL | Full | Full: the frame that commits was not written |
//! | BUSY, LOCKED | Unavailable | Unavailable: the transaction still stands, and is rolled back |
//! | CONSTRAINT, TOOBIG, MISMATCH, RANGE; a row that cannot be read | Data | Fatal |
//! | NOMEM, CANTOPEN, INTERRUPT, PROTOCOL | Unavailable | Fatal: unknown |
//! | IOERR, CORRUPT, NOTADB, READONLY, anything else | Fatal | Fatal: never retried |
//!
//! There is no ambiguous commit: what is not known for certain is fatal, and the next start finds in the
//! file whether the transaction is there.

use rusqlite::ErrorCode;
use store::Error;

/// Why a piece of work on a connection failed.
#[derive(Debug)]
pub(crate) enum Failure {
    /// `SQLite` failed before the commit.
    Sqlite(rusqlite::Error),
    /// `SQLite` failed at the commit.
    Commit(rusqlite::Error),
    /// A stored row makes no sense, or a row cannot be written.
    Row(String),
}

/// What is wrong with the columns of one row.
#[derive(Debug)]
pub(crate) struct Unreadable(String);

impl Failure {
    /// A row that cannot be read.
    pub(crate) fn unreadable(table: &str, key: impl std::fmt::Display, what: &Unreadable) -> Self {
        Self::Row(format!("table {table}, row {key}: {}", what.0))
    }
}

impl From<rusqlite::Error> for Failure {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sqlite(error)
    }
}

impl From<&str> for Unreadable {
    fn from(what: &str) -> Self {
        Self(what.to_owned())
    }
}

impl From<rusqlite::Error> for Unreadable {
    fn from(error: rusqlite::Error) -> Self {
        Self(error.to_string())
    }
}

impl From<serde_json::Error> for Unreadable {
    fn from(error: serde_json::Error) -> Self {
        // The kind and place only: a parser's own words may quote the row, and rows hold personal data.
        Self(format!("bad JSON ({:?} at column {})", error.classify(), error.column()))
    }
}

impl From<Failure> for Error {
    fn from(failure: Failure) -> Self {
        let (error, is_commit) = match failure {
            Failure::Row(what) => return Self::Data(what),
            Failure::Sqlite(error) => (error, false),
            Failure::Commit(error) => (error, true),
        };
        let reason = error.to_string();
        match error.sqlite_error_code() {
            Some(ErrorCode::DiskFull) => Self::Full(reason),
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => Self::Unavailable(reason),
            _ if is_commit => Self::Fatal(format!("failed to commit: {reason}")),
            // Not from SQLite but about a value: a column of another type than the schema has.
            None
            | Some(
                ErrorCode::ConstraintViolation
                | ErrorCode::TooBig
                | ErrorCode::TypeMismatch
                | ErrorCode::ParameterOutOfRange,
            ) => Self::Data(reason),
            Some(
                ErrorCode::OutOfMemory
                | ErrorCode::CannotOpen
                | ErrorCode::OperationInterrupted
                | ErrorCode::FileLockingProtocolFailed,
            ) => Self::Unavailable(reason),
            Some(_) => Self::Fatal(reason),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rusqlite::ffi;

    fn sqlite(code: i32) -> rusqlite::Error {
        rusqlite::Error::SqliteFailure(ffi::Error::new(code), None)
    }

    #[test]
    fn every_code_has_its_meaning() {
        for (code, before, at_commit) in [
            (ffi::SQLITE_FULL, "Full", "Full"),
            (ffi::SQLITE_BUSY, "Unavailable", "Unavailable"),
            (ffi::SQLITE_BUSY_SNAPSHOT, "Unavailable", "Unavailable"),
            (ffi::SQLITE_CONSTRAINT_PRIMARYKEY, "Data", "Fatal"),
            (ffi::SQLITE_TOOBIG, "Data", "Fatal"),
            (ffi::SQLITE_NOMEM, "Unavailable", "Fatal"),
            (ffi::SQLITE_IOERR_WRITE, "Fatal", "Fatal"),
            (ffi::SQLITE_IOERR_FSYNC, "Fatal", "Fatal"),
            (ffi::SQLITE_IOERR_SHMSIZE, "Fatal", "Fatal"),
            (ffi::SQLITE_CORRUPT, "Fatal", "Fatal"),
            (ffi::SQLITE_NOTADB, "Fatal", "Fatal"),
            (ffi::SQLITE_READONLY_DBMOVED, "Fatal", "Fatal"),
        ] {
            let name = |failure: Failure| format!("{:?}", Error::from(failure));
            assert!(name(Failure::Sqlite(sqlite(code))).starts_with(before), "{code} before");
            assert!(name(Failure::Commit(sqlite(code))).starts_with(at_commit), "{code} at commit");
        }
    }
}
