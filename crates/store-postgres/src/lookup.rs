//! Looking invoices up, for many callers at once.
//!
//! A payment may begin with such a look-up. Whoever is on the way to the server takes along what has queued
//! up meanwhile: under load one statement serves many, and with nobody waiting a look-up goes at once.

use crate::{
    Inner,
    columns::{self, INVOICE_COLUMNS},
    failure::Failure,
};
use domain::InvoiceNumber;
use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};
use store::{Error, StoredInvoice};
use tokio::sync::oneshot;

/// Look-ups in one statement.
const TAKEN_MAX: usize = 256;

/// With more than this waiting, another connection helps.
const WAITING_MAX: usize = 64;

/// Connections that look up at the same time.
pub(crate) const LOOKERS_MAX: usize = 2;

type Found = Result<Option<StoredInvoice>, Error>;

/// Who waits for which invoice, and how many are on the way.
#[derive(Default)]
pub(crate) struct Lookups {
    queue: Mutex<Queue>,
}

#[derive(Default)]
struct Queue {
    waiting: Vec<(InvoiceNumber, oneshot::Sender<Found>)>,
    lookers: usize,
}

impl Lookups {
    /// What waits, oldest first; `None` counts the looker out, so that whoever queues next starts one.
    fn take(&self) -> Option<Vec<(InvoiceNumber, oneshot::Sender<Found>)>> {
        let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        if queue.waiting.is_empty() {
            queue.lookers -= 1;
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
        let mut queue = inner.lookups.queue.lock().unwrap_or_else(PoisonError::into_inner);
        queue.waiting.push((number, answer));
        let is_called =
            queue.lookers == 0 || (queue.waiting.len() > WAITING_MAX && queue.lookers < LOOKERS_MAX);
        queue.lookers += usize::from(is_called);
        is_called
    };
    if is_called {
        tokio::spawn(work(Arc::clone(inner)));
    }
    answered.await.unwrap_or_else(|_| Err(Error::Unavailable("a look-up was interrupted".to_owned())))
}

/// One that panics is counted out as well, or nobody would be called any more.
struct Counted<'a> {
    lookups: &'a Lookups,
    is_out: bool,
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        if !self.is_out {
            self.lookups.queue.lock().unwrap_or_else(PoisonError::into_inner).lookers -= 1;
        }
    }
}

async fn work(inner: Arc<Inner>) {
    let mut counted = Counted { lookups: &inner.lookups, is_out: false };
    while let Some(taken) = inner.lookups.take() {
        let (numbers, answers): (Vec<_>, Vec<_>) = taken.into_iter().unzip();
        match find(&inner, &numbers).await {
            Ok(mut found) => {
                for (number, answer) in numbers.iter().zip(answers) {
                    // Two may ask for one invoice; one that cannot be read is its own callers' trouble alone.
                    let stored = match found.get_mut(number) {
                        Some(Ok(stored)) => Ok(Some(stored.clone())),
                        Some(Err(what)) => Err(Error::Data(what.clone())),
                        None => Ok(None),
                    };
                    let _gone = answer.send(stored);
                }
            }
            Err(failure) => {
                let error = Error::from(failure).to_string();
                for answer in answers {
                    let _gone = answer.send(Err(Error::Unavailable(error.clone())));
                }
            }
        }
    }
    counted.is_out = true;
}

async fn find(
    inner: &Inner,
    numbers: &[InvoiceNumber],
) -> Result<HashMap<InvoiceNumber, Result<StoredInvoice, String>>, Failure> {
    let numbers: Vec<i64> = numbers.iter().map(|number| number.get()).collect();
    let rows = inner
        .look(|client, statements| {
            Box::pin(async move { Ok(client.query(&statements.find_invoices, &[&numbers]).await?) })
        })
        .await?;
    let mut found = HashMap::with_capacity(rows.len());
    for row in rows {
        let number = InvoiceNumber::new(row.try_get(0)?);
        let stored = match stored_invoice(&row) {
            Ok(stored) => Ok(stored),
            Err(Failure::Row(what)) => Err(what),
            Err(failure) => return Err(failure),
        };
        found.insert(number, stored);
    }
    Ok(found)
}

/// Reads the columns of an invoice, and its bill behind them.
pub(crate) fn stored_invoice(row: &tokio_postgres::Row) -> Result<StoredInvoice, Failure> {
    let invoice = columns::invoice(row)?;
    let presentment = columns::body(row, INVOICE_COLUMNS, "invoice", invoice.number)?;
    Ok(StoredInvoice { invoice, presentment })
}
