//! Handing everything over to another backend, while nobody else can have the file open.
//!
//! One connection holds the whole file from the beginning to the end (`locking_mode = EXCLUSIVE`), in one
//! transaction: what the first page tells and what the last one tells are of one moment, and the mark that
//! everything was moved is committed by the same transaction, before anybody could write again. A killed
//! export leaves nothing behind.

use crate::{
    columns::{self, invoice_columns},
    failure::Failure,
    open::{self, Moved, OpenError},
    roll_back,
};
use domain::rows::Counter;
use rusqlite::{Connection, Row, params, types::ValueRef};
use std::{
    collections::BTreeMap,
    hash::{DefaultHasher, Hash, Hasher},
    path::Path,
};
use store::{
    Error,
    copy::{Cursor, Fingerprint, Page, Part, Rows, Tally},
};

/// A database that is being handed over; dropping it lets go of the file and changes nothing.
#[derive(Debug)]
pub struct Export {
    connection: Connection,
    moved: Option<Moved>,
}

/// Takes back the mark that a database was moved; tells where to, if it was.
pub fn take_back(path: &Path) -> Result<Option<Moved>, OpenError> {
    let export = Export::open(path)?;
    let explained = |error: rusqlite::Error| open::explain(path, &error);
    export.connection.execute_batch("DELETE FROM moved; COMMIT").map_err(explained)?;
    Ok(export.moved.clone())
}

impl Export {
    /// Takes the whole file, unless anybody has it open. It blocks for some seconds while somebody does.
    ///
    /// What was moved before can be opened, so that a move can be finished; see [`Self::moved`].
    pub fn open(path: &Path) -> Result<Self, OpenError> {
        let (connection, moved) = open::exclusive(path)?;
        Ok(Self { connection, moved })
    }

    /// Where it was moved to before.
    pub const fn moved(&self) -> Option<&Moved> {
        self.moved.as_ref()
    }

    /// What it holds.
    pub fn fingerprint(&self) -> Result<Fingerprint, Error> {
        Ok(fingerprint(&self.connection)?)
    }

    /// The rows of a part behind a cursor: about as many as `limit`, which never parts what belongs to one
    /// subject.
    pub fn page(&self, part: Part, after: &Cursor, limit: usize) -> Result<Page, Error> {
        Ok(page(&self.connection, part, after, limit)?)
    }

    /// Marks the database as moved, for good, and lets go of it.
    pub fn mark_moved(self, moved: &Moved) -> Result<(), Error> {
        let mark = || {
            self.connection.execute(
                "INSERT INTO moved (only_one, target, fingerprint, at) VALUES (1, ?1, ?2, ?3)
                 ON CONFLICT (only_one) DO UPDATE SET target = excluded.target,
                     fingerprint = excluded.fingerprint, at = excluded.at",
                params![moved.target, moved.fingerprint, moved.at.as_millis()],
            )?;
            crate::execute(&self.connection, "COMMIT").map_err(Failure::Commit)
        };
        let marked = mark();
        if marked.is_err() {
            roll_back(&self.connection)?;
        }
        Ok(marked?)
    }
}

type Decode = fn(&Row<'_>, &mut Rows) -> Result<(), Failure>;

/// The rows of a part behind `?1`, their key first and in order of it.
fn source(part: Part) -> (&'static str, Decode) {
    match part {
        Part::Partner => ("SELECT id, body FROM partner WHERE id > ?1 ORDER BY id", |row, rows| {
            rows.partners.push(columns::body(row, 1, "partner", row.get::<_, i64>(0)?)?);
            Ok(())
        }),
        Part::Product => {
            ("SELECT code, body FROM product WHERE code > ?1 ORDER BY code, environment", |row, rows| {
                rows.products.push(columns::body(row, 1, "product", row.get::<_, String>(0)?)?);
                Ok(())
            })
        }
        Part::Counter => {
            ("SELECT name, value FROM counter WHERE name > ?1 AND value <> 0 ORDER BY name", |row, rows| {
                let name: String = row.get(0)?;
                let counter = Counter::from_name(&name)
                    .ok_or_else(|| Failure::Row(format!("table counter, row {name}: it is none")))?;
                rows.counters.push((counter, row.get(1)?));
                Ok(())
            })
        }
        Part::Entry => (
            "SELECT number, kind, environment, partner, amount, operator, reference, at FROM entry
             WHERE number > ?1 ORDER BY number",
            |row, rows| {
                rows.entries.push(columns::entry(row)?);
                Ok(())
            },
        ),
        Part::Balance => {
            ("SELECT account, amount FROM balance WHERE account > ?1 ORDER BY account", |row, rows| {
                rows.balances.push(columns::balance(row)?);
                Ok(())
            })
        }
        Part::Incident => (
            "SELECT invoice, kind, detail, first_at, last_at, count, corrected_by FROM incident
             WHERE invoice > ?1 ORDER BY invoice, kind",
            |row, rows| {
                rows.incidents.push(columns::incident(row)?);
                Ok(())
            },
        ),
        Part::Proposal => {
            ("SELECT invoice, body FROM proposal WHERE invoice > ?1 ORDER BY invoice", |row, rows| {
                rows.proposals.push(columns::body(row, 1, "proposal", row.get::<_, i64>(0)?)?);
                Ok(())
            })
        }
        Part::Claim => ("SELECT key, owner FROM claim WHERE key > ?1 ORDER BY key", |row, rows| {
            rows.claims.push((row.get(0)?, row.get(1)?));
            Ok(())
        }),
        Part::Invoice => (
            concat!(
                "SELECT ",
                invoice_columns!(),
                ", presentment.body FROM invoice JOIN presentment ON presentment.number = invoice.number
                 WHERE invoice.number > ?1 ORDER BY invoice.number"
            ),
            |row, rows| {
                rows.invoices.push(crate::query::stored_invoice(row)?);
                Ok(())
            },
        ),
        Part::Posting => (
            "SELECT subject, step, account, amount, at FROM posting WHERE subject > ?1
             ORDER BY subject, step, account",
            |row, rows| {
                rows.postings.push(columns::posting(row)?);
                Ok(())
            },
        ),
        Part::Event => (
            "SELECT id, subject, sequence, kind, environment, partner, at FROM outbox
             WHERE id > ?1 ORDER BY id",
            |row, rows| {
                rows.events.push(columns::event(row)?);
                Ok(())
            },
        ),
    }
}

/// A part's key: whose is one belongs together.
#[derive(PartialEq, Eq)]
enum Key {
    Number(i64),
    Text(String),
}

impl Key {
    fn of(row: &Row<'_>) -> Result<Self, Failure> {
        match row.get_ref(0)? {
            ValueRef::Integer(number) => Ok(Self::Number(number)),
            _ => Ok(Self::Text(row.get(0)?)),
        }
    }
}

impl From<Key> for Cursor {
    fn from(key: Key) -> Self {
        match key {
            Key::Number(number) => Self(number.to_string()),
            Key::Text(text) => Self(text),
        }
    }
}

fn page(connection: &Connection, part: Part, after: &Cursor, limit: usize) -> Result<Page, Failure> {
    let (sql, decode) = source(part);
    let mut statement = connection.prepare_cached(sql)?;
    let has_text = matches!(part, Part::Product | Part::Counter | Part::Claim);
    let mut found = if has_text {
        statement.query([&after.0])?
    } else if after.0.is_empty() {
        statement.query([i64::MIN])?
    } else {
        let number: Result<i64, _> = after.0.parse();
        statement.query([number.map_err(|_| Failure::Row(format!("{after:?} is no place in {part:?}")))?])?
    };
    let (mut rows, mut count, mut last, mut is_last) = (Rows::default(), 0, None, true);
    while let Some(row) = found.next()? {
        let key = Key::of(row)?;
        if count >= limit && last.as_ref() != Some(&key) {
            is_last = false;
            break;
        }
        decode(row, &mut rows)?;
        count += 1;
        last = Some(key);
    }
    let reached = last.map_or_else(|| after.clone(), Cursor::from);
    Ok(Page { part, tally: Tally::of(&rows), rows, reached, is_last })
}

/// Parts of which all rows count, since they are few, and change in place.
const SMALL: [Part; 5] = [Part::Partner, Part::Product, Part::Counter, Part::Balance, Part::Proposal];

fn fingerprint(connection: &Connection) -> Result<Fingerprint, Failure> {
    let mut hasher = DefaultHasher::new();
    let mut rows = BTreeMap::new();
    for part in Part::ALL {
        let (sql, has_greatest) = match part {
            Part::Partner => ("SELECT count(*) FROM partner", false),
            Part::Product => ("SELECT count(*) FROM product", false),
            Part::Counter => ("SELECT count(*) FROM counter WHERE value <> 0", false),
            Part::Entry => ("SELECT count(*), max(number) FROM entry", true),
            Part::Balance => ("SELECT count(*) FROM balance", false),
            Part::Incident => ("SELECT count(*), sum(count) + max(last_at) FROM incident", true),
            Part::Proposal => ("SELECT count(*) FROM proposal", false),
            Part::Claim => ("SELECT count(*) FROM claim", false),
            Part::Invoice => ("SELECT count(*), max(number) FROM invoice", true),
            Part::Posting => ("SELECT count(*), max(subject) FROM posting", true),
            Part::Event => ("SELECT count(*), max(id) FROM outbox", true),
        };
        let (count, greatest): (i64, Option<i64>) = connection
            .query_row(sql, (), |row| Ok((row.get(0)?, if has_greatest { row.get(1)? } else { None })))?;
        (part, count, greatest).hash(&mut hasher);
        rows.insert(part, u64::try_from(count).unwrap_or(0));
    }
    for part in SMALL {
        page(connection, part, &Cursor::default(), usize::MAX)?.tally.digest.hash(&mut hasher);
    }
    Ok(Fingerprint { rows, digest: hasher.finish() })
}
