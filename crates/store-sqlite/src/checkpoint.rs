//! Moving the log into the database beside the writer, so that no batch waits for it.
//!
//! `SQLite`'s own checkpoint would run inside the commit that makes the log too long, and stall that batch for
//! some hundred milliseconds. Here a connection of its own copies the log while batches go on (step one);
//! what they added meanwhile is little, and is copied between two batches (step two), so that the next
//! batch finds the log wholly copied and begins it anew.
//!
//! A reader that holds an old snapshot (an audit) keeps the log from being begun anew; then it grows, and
//! is tried again whenever it has grown by as much once more.

use crate::{Inner, failure::Failure, lock, open};
use rusqlite::Connection;
use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicU32, Ordering::Relaxed},
};
use store::Error;

/// When the log is to be moved, and whether somebody is at it.
pub(crate) struct Checkpoints {
    /// A log of this many pages is moved.
    pages_max: u32,
    pages: Arc<AtomicU32>,
    due_pages: AtomicU32,
    is_running: AtomicBool,
}

impl Checkpoints {
    /// Watches the log grow.
    pub(crate) fn watch(writer: &mut Connection, pages_max: u32) -> Result<Self, rusqlite::Error> {
        let pages = Arc::new(AtomicU32::new(0));
        let checkpoints = Self {
            pages_max,
            pages: Arc::clone(&pages),
            due_pages: AtomicU32::new(pages_max),
            is_running: AtomicBool::new(false),
        };
        writer.wal_hook(Some(move |_: &mut _, count| {
            pages.store(u32::try_from(count).unwrap_or(0), Relaxed);
            Ok(())
        }))?;
        Ok(checkpoints)
    }
}

/// Holds the turn, and gives it back even if it never runs.
struct Turn(Arc<Inner>);

impl Drop for Turn {
    fn drop(&mut self) {
        self.0.checkpoints.is_running.store(false, Relaxed);
    }
}

/// Starts moving the log if it has grown too long. Called on a blocking thread, after a commit.
pub(crate) fn start_if_due(inner: &Arc<Inner>) {
    let checkpoints = &inner.checkpoints;
    if checkpoints.pages.load(Relaxed) < checkpoints.due_pages.load(Relaxed)
        || checkpoints.is_running.swap(true, Relaxed)
    {
        return;
    }
    let turn = Turn(Arc::clone(inner));
    tokio::task::spawn_blocking(move || {
        if let Err(error) = run(&turn.0) {
            tracing::warn!(%error, "failed to move the log into the database");
        }
    });
}

fn run(inner: &Inner) -> Result<(), Error> {
    let beside = open::reader(&inner.path).map_err(Failure::Sqlite)?;
    // A first failure must stop the batches too: a repeated fsync may lie.
    let distrusted = |error: rusqlite::Error| {
        let error = Error::from(Failure::Sqlite(error));
        if let Error::Fatal(reason) = &error {
            inner.distrust(&lock(&inner.writer), reason);
        }
        error
    };
    move_log(&beside).map_err(distrusted)?;
    let moved = {
        let writer = lock(&inner.writer);
        inner.trusted()?;
        move_log(&writer)
    };
    let (pages, moved_pages) = moved.map_err(distrusted)?;
    let pages_max = inner.checkpoints.pages_max;
    let due_pages = if moved_pages == pages { pages_max } else { pages.saturating_add(pages_max) };
    inner.checkpoints.due_pages.store(due_pages, Relaxed);
    Ok(())
}

/// Copies as much of the log as no reader stands in the way of; says how long it is, and how much of it
/// is copied.
pub(crate) fn move_log(connection: &Connection) -> Result<(u32, u32), rusqlite::Error> {
    connection.query_row("PRAGMA wal_checkpoint(PASSIVE)", (), |row| {
        let pages = |index| row.get::<_, i64>(index).map(|count| u32::try_from(count).unwrap_or(0));
        Ok((pages(1)?, pages(2)?))
    })
}
