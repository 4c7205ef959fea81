//! What people and scripts read: tables and JSON on stdout, one line of error on stderr.

use domain::Rejection;
use engine::{Failure, operate};
use serde::Serialize;
use std::{
    io::{self, Write},
    process::ExitCode,
};

/// A failure with an exit code of its own.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    /// What was named does not exist.
    #[error("{0}")]
    NotFound(String),
    /// A rule forbids it.
    #[error("{0}")]
    Refused(String),
    /// It cannot be reached or opened now.
    #[error("{0}")]
    Unavailable(String),
    /// What was given cannot be used.
    #[error("{0}")]
    Usage(String),
}

/// Writes a line to stdout. A reader that went away ends the process quietly, as `head` expects.
pub fn line(text: impl AsRef<str>) {
    if writeln!(io::stdout().lock(), "{}", text.as_ref()).is_err() {
        std::process::exit(0);
    }
}

/// Writes a value to stdout as indented JSON.
pub fn json(value: &impl Serialize) {
    line(serde_json::to_string_pretty(value).expect("output values are plain data"));
}

/// Says that something is done: a sentence for people, the facts for scripts.
pub fn done(as_json: bool, sentence: impl AsRef<str>, facts: &serde_json::Value) {
    if as_json { json(facts) } else { line(sentence) }
}

/// A table for people.
pub struct Table(comfy_table::Table);

impl Table {
    /// With these headings; those that begin with `>` are aligned to the right, without it.
    pub fn new(headings: &[&str]) -> Self {
        let mut table = comfy_table::Table::new();
        let rule = comfy_table::LineStyle::none().fill('─').junction('─');
        table.load_style(comfy_table::TableStyle::new().header_separator(rule));
        table.set_header(headings.iter().map(|heading| heading.trim_start_matches('>')));
        for (index, heading) in headings.iter().enumerate() {
            if let (true, Some(column)) = (heading.starts_with('>'), table.column_mut(index)) {
                column.set_cell_alignment(comfy_table::CellAlignment::Right);
            }
        }
        Self(table)
    }

    /// Adds a row.
    pub fn row<T: Into<String>>(&mut self, cells: impl IntoIterator<Item = T>) {
        self.0.add_row(cells.into_iter().map(Into::into));
    }

    /// Prints it, or a sentence if it is empty.
    pub fn print(&self, when_empty: &str) {
        if self.0.row_count() == 0 {
            line(when_empty);
        } else {
            line(self.0.trim_fmt());
        }
    }
}

/// `1.234.567`, as Indonesian readers group digits.
pub fn rupiah(amount: domain::Rupiah) -> String {
    domain::money::grouped(amount, '.')
}

/// One clear line on stderr.
pub fn note(text: impl std::fmt::Display) {
    let _closed = writeln!(io::stderr().lock(), "esamsat: {text}");
}

/// One clear line on stderr, and the exit code that goes with it.
pub fn failed(error: &anyhow::Error) -> ExitCode {
    note(format_args!("{error:#}"));
    ExitCode::from(exit_code(error))
}

fn exit_code(error: &anyhow::Error) -> u8 {
    for cause in error.chain() {
        if let Some(fault) = cause.downcast_ref::<Fault>() {
            return match fault {
                Fault::Usage(_) => 2,
                Fault::NotFound(_) => 3,
                Fault::Refused(_) => 4,
                Fault::Unavailable(_) => 5,
            };
        }
        if let Some(error) = cause.downcast_ref::<operate::Error>() {
            return match error {
                operate::Error::NotFound(_)
                | operate::Error::Failure(Failure::Rejected(Rejection::InvoiceUnknown)) => 3,
                operate::Error::Failure(Failure::Rejected(Rejection::OutOfLimits(_))) => 2,
                operate::Error::ReferenceTaken { .. } | operate::Error::Failure(Failure::Rejected(_)) => 4,
                operate::Error::Failure(_) | operate::Error::Store(_) => 5,
            };
        }
        if let Some(error) = cause.downcast_ref::<store_postgres::OpenError>() {
            return if matches!(error, store_postgres::OpenError::Address(_)) { 2 } else { 5 };
        }
        if cause.is::<store_sqlite::OpenError>() || cause.is::<store::Error>() {
            return 5;
        }
    }
    1
}
