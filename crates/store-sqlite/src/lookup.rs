//! Looking invoices up, for many callers at once.
//!
//! A payment may begin with such a look-up, and the way to a blocking thread and back costs several times what
//! the look-up does. So a thread that is at it takes along what has queued up meanwhile: under load one hop
//! serves many, and with nobody waiting a look-up goes at once.

use crate::{Inner, READERS_MAX, lock, query};
use domain::InvoiceNumber;
use std::sync::{Arc, Mutex};
use store::{Error, StoredInvoice};
use tokio::sync::oneshot;

/// Look-ups that one thread takes along at a time.
const TAKEN_MAX: usize = 256;

/// With more than this waiting, another thread helps.
const WAITING_MAX: usize = 64;

type Found = Result<Option<StoredInvoice>, Error>;

/// Who waits for which invoice, and how many threads are at it.
#[derive(Default)]
pub(crate) struct Lookups {
    queue: Mutex<Queue>,
}

#[derive(Default)]
struct Queue {
    waiting: Vec<(InvoiceNumber, oneshot::Sender<Found>)>,
    threads: usize,
}

impl Lookups {
    /// What waits, oldest first; `None` counts the thread out, so that whoever queues next calls one.
    fn take(&self) -> Option<Vec<(InvoiceNumber, oneshot::Sender<Found>)>> {
        let mut queue = lock(&self.queue);
        if queue.waiting.is_empty() {
            queue.threads -= 1;
            return None;
        }
        let count = queue.waiting.len().min(TAKEN_MAX);
        Some(queue.waiting.drain(..count).collect())
    }
}

/// Looks an invoice up.
pub(crate) async fn invoice(inner: &Arc<Inner>, number: InvoiceNumber) -> Found {
    let (answer, answered) = oneshot::channel();
    let is_called = {
        let mut queue = lock(&inner.lookups.queue);
        queue.waiting.push((number, answer));
        let is_called =
            queue.threads == 0 || (queue.waiting.len() > WAITING_MAX && queue.threads < READERS_MAX);
        queue.threads += usize::from(is_called);
        is_called
    };
    if is_called {
        let inner = Arc::clone(inner);
        tokio::task::spawn_blocking(move || work(&inner));
    }
    answered.await.unwrap_or_else(|_| Err(Error::Unavailable("a look-up was interrupted".to_owned())))
}

/// A thread that panics is counted out as well, or nobody would be called any more.
struct Counted<'a> {
    lookups: &'a Lookups,
    is_out: bool,
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        if !self.is_out {
            lock(&self.lookups.queue).threads -= 1;
        }
    }
}

fn work(inner: &Inner) {
    let mut counted = Counted { lookups: &inner.lookups, is_out: false };
    while let Some(taken) = inner.lookups.take() {
        let (numbers, answers): (Vec<_>, Vec<_>) = taken.into_iter().unzip();
        // One snapshot serves all: it is younger than every one of their calls.
        let found = inner.read(|connection| {
            // An invoice that cannot be read is its own caller's trouble alone.
            Ok(numbers.iter().map(|number| query::invoice(connection, *number)).collect::<Vec<_>>())
        });
        match found {
            Ok(found) => {
                for (answer, found) in answers.into_iter().zip(found) {
                    let _gone = answer.send(found.map_err(Error::from));
                }
            }
            Err(error) => {
                for answer in answers {
                    let _gone = answer.send(Err(Error::Unavailable(error.to_string())));
                }
            }
        }
    }
    counted.is_out = true;
}
