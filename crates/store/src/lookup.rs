//! Looking invoices up, for many callers at once.
//!
//! A payment may begin with such a look-up, and the way to the database and back costs several times what the
//! look-up does. So a looker that is at it takes along what has queued up meanwhile: under load one trip serves
//! many, and with nobody waiting a look-up goes at once. How a backend looks is its own affair.

use crate::{Error, StoredInvoice};
use domain::InvoiceNumber;
use futures::channel::oneshot;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Look-ups that one looker takes along at a time.
const TAKEN_MAX: usize = 256;

/// With more than this waiting, another looker helps.
const WAITING_MAX: usize = 64;

/// What comes of a look-up.
pub type Found = Result<Option<StoredInvoice>, Error>;

/// Who waits for which invoice, and how many lookers are at it.
#[derive(Debug)]
pub struct Lookups {
    queue: Mutex<Queue>,
    lookers_max: usize,
}

#[derive(Debug, Default)]
struct Queue {
    waiting: Vec<(InvoiceNumber, oneshot::Sender<Found>)>,
    lookers: usize,
}

impl Lookups {
    /// Nobody waits; at most so many will look at the same time.
    pub fn new(lookers_max: usize) -> Self {
        Self { queue: Mutex::default(), lookers_max }
    }

    /// Waits for an invoice; `call` starts a looker where one is needed, which then works a [`Looker`] off.
    pub async fn ask(&self, number: InvoiceNumber, call: impl FnOnce()) -> Found {
        let (answer, answered) = oneshot::channel();
        let is_needed = {
            let mut queue = self.queue();
            queue.waiting.push((number, answer));
            let is_needed =
                queue.lookers == 0 || (queue.waiting.len() > WAITING_MAX && queue.lookers < self.lookers_max);
            queue.lookers += usize::from(is_needed);
            is_needed
        };
        if is_needed {
            call();
        }
        answered.await.unwrap_or_else(|_| Err(Error::Unavailable("a look-up was interrupted".to_owned())))
    }

    /// The looker that was called.
    pub fn looker(&self) -> Looker<'_> {
        Looker { lookups: self, is_counted_out: false }
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One who looks. Counted out however it ends, or nobody would be called any more.
#[derive(Debug)]
pub struct Looker<'a> {
    lookups: &'a Lookups,
    is_counted_out: bool,
}

impl Looker<'_> {
    /// What waits, oldest first; `None` ends this looker, so that whoever queues next calls one.
    pub fn take(&mut self) -> Option<Taken> {
        let mut queue = self.lookups.queue();
        if queue.waiting.is_empty() {
            queue.lookers -= 1;
            self.is_counted_out = true;
            return None;
        }
        let count = queue.waiting.len().min(TAKEN_MAX);
        let (numbers, answers) = queue.waiting.drain(..count).unzip();
        Some(Taken { numbers, answers })
    }
}

impl Drop for Looker<'_> {
    fn drop(&mut self) {
        if !self.is_counted_out {
            self.lookups.queue().lookers -= 1;
        }
    }
}

/// Look-ups that are under way together.
#[derive(Debug)]
pub struct Taken {
    /// Which invoices; one may stand here more than once.
    pub numbers: Vec<InvoiceNumber>,
    answers: Vec<oneshot::Sender<Found>>,
}

impl Taken {
    /// Tells each caller what came of it, in the order of `numbers`.
    pub fn answer(self, found: impl IntoIterator<Item = Found>) {
        for (answer, found) in self.answers.into_iter().zip(found) {
            let _gone = answer.send(found);
        }
    }

    /// Tells all callers that the database did not answer.
    pub fn fail(self, why: &str) {
        for answer in self.answers {
            let _gone = answer.send(Err(Error::Unavailable(why.to_owned())));
        }
    }
}
