//! What PostgreSQL's errors mean to a store.
//!
//! | PostgreSQL says | before COMMIT was sent |
//! | --- | --- |
//! | class 53: disk full | Full |
//! | classes 08, 25, 53, 55, 57; a broken or silent connection | Unavailable; the connection is given up |
//! | 40: serialization failure, deadlock | tried again, bounded; then Unavailable |
//! | 23: a key is taken | tried again once on fresh rows; then Data |
//! | 22: a value that does not fit; a row that cannot be read | Data |
//! | I/O error, corrupted data or index | Fatal |
//! | 42: no such table, no right to it | Unavailable: somebody is changing the schema or the rights |
//!
//! Once COMMIT is on its way, an answer of the server that names an earlier statement or a conflict means that
//! nothing was written; whatever else goes wrong is ambiguous, and settled by the batch's id.

use store::Error;
use tokio_postgres::error::{DbError, Severity, SqlState};

/// Why a piece of work failed before its commit was sent.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The server, or the way to it.
    Postgres(tokio_postgres::Error),
    /// A stored row makes no sense, or a row cannot be written.
    Row(String),
    /// Somebody else changed what was decided on: to be tried again on fresh rows.
    Conflict(String),
    /// No connection, or no answer in time.
    Away(String),
}

/// What is to be done about a failure.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Remedy {
    /// Decide again on fresh rows.
    Retry,
    /// Report it; the connection is in order.
    Report,
    /// Report it and give the connection up.
    Reconnect,
}

impl Failure {
    /// A row that cannot be read.
    pub(crate) fn unreadable(table: &str, key: impl std::fmt::Display, what: &Unreadable) -> Self {
        Self::Row(format!("table {table}, row {key}: {}", what.0))
    }

    pub(crate) fn remedy(&self) -> Remedy {
        match self {
            Self::Conflict(_) => Remedy::Retry,
            Self::Row(_) => Remedy::Report,
            Self::Away(_) => Remedy::Reconnect,
            Self::Postgres(error) => match error.as_db_error() {
                Some(told) if is_conflict(told) || told.code() == &SqlState::UNIQUE_VIOLATION => {
                    Remedy::Retry
                }
                Some(told) if !is_fatal(told) => match class(told.code()) {
                    "22" | "23" | "42" | "53" | "55" => Remedy::Report,
                    // Cancelled by its time-out: the connection itself is in order.
                    "57" if told.code() == &SqlState::QUERY_CANCELED => Remedy::Report,
                    _ => Remedy::Reconnect,
                },
                _ => Remedy::Reconnect,
            },
        }
    }
}

/// Serialization failures and deadlocks: nothing was written, and the next try may well succeed.
pub(crate) fn is_conflict(told: &DbError) -> bool {
    class(told.code()) == "40"
}

/// Whether the server's answer to COMMIT says for certain that nothing was written.
pub(crate) fn commit_was_refused(told: &DbError) -> bool {
    !is_fatal(told) && matches!(class(told.code()), "23" | "40")
}

fn is_fatal(told: &DbError) -> bool {
    matches!(told.parsed_severity(), Some(Severity::Fatal | Severity::Panic))
}

fn class(code: &SqlState) -> &str {
    code.code().get(..2).unwrap_or_default()
}

impl From<tokio_postgres::Error> for Failure {
    fn from(error: tokio_postgres::Error) -> Self {
        Self::Postgres(error)
    }
}

impl From<Failure> for Error {
    fn from(failure: Failure) -> Self {
        let error = match failure {
            Failure::Row(what) => return Self::Data(what),
            Failure::Away(what) | Failure::Conflict(what) => return Self::Unavailable(what),
            Failure::Postgres(error) => error,
        };
        let Some(told) = error.as_db_error() else {
            return Self::Unavailable(explain(&error));
        };
        // The server's detail may quote a row, and rows hold personal data: the message and the names only.
        let reason = explain(&error);
        match class(told.code()) {
            "22" | "23" => Self::Data(reason),
            _ if told.code() == &SqlState::DISK_FULL => Self::Full(reason),
            _ if [&SqlState::IO_ERROR, &SqlState::DATA_CORRUPTED, &SqlState::INDEX_CORRUPTED]
                .contains(&told.code()) =>
            {
                Self::Fatal(reason)
            }
            _ => Self::Unavailable(reason),
        }
    }
}

/// One line, without the values of any row.
pub(crate) fn explain(error: &tokio_postgres::Error) -> String {
    let Some(told) = error.as_db_error() else {
        let cause = std::error::Error::source(&error).map(|cause| format!(": {cause}"));
        return format!("{error}{}", cause.unwrap_or_default());
    };
    let of = told.constraint().or(told.table()).map(|name| format!(" ({name})")).unwrap_or_default();
    // A value's own error message may quote the value.
    let message = if class(told.code()) == "22" { "a value does not fit" } else { told.message() };
    format!("PostgreSQL {}: {message}{of}", told.code().code())
}

/// What is wrong with the columns of one row.
#[derive(Debug)]
pub(crate) struct Unreadable(String);

impl From<&str> for Unreadable {
    fn from(what: &str) -> Self {
        Self(what.to_owned())
    }
}

impl From<tokio_postgres::Error> for Unreadable {
    fn from(error: tokio_postgres::Error) -> Self {
        Self(error.to_string())
    }
}

impl From<serde_json::Error> for Unreadable {
    fn from(error: serde_json::Error) -> Self {
        // The kind and place only: a parser's own words may quote the row, and rows hold personal data.
        Self(format!("bad JSON ({:?} at column {})", error.classify(), error.column()))
    }
}
