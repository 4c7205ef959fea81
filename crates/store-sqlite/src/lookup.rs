//! Looking invoices up: the way to a blocking thread and back serves all who wait.

use crate::{Inner, query};
use domain::InvoiceNumber;
use std::sync::Arc;
use store::{Error, lookup::Found};

/// Looks an invoice up.
pub(crate) async fn invoice(inner: &Arc<Inner>, number: InvoiceNumber) -> Found {
    let call = || {
        let inner = Arc::clone(inner);
        tokio::task::spawn_blocking(move || look(&inner));
    };
    inner.lookups.ask(number, call).await
}

fn look(inner: &Inner) {
    let mut looker = inner.lookups.looker();
    while let Some(taken) = looker.take() {
        // One snapshot serves all: it is younger than every one of their calls.
        let found = inner.read(|connection| {
            // An invoice that cannot be read is its own caller's trouble alone.
            Ok(taken.numbers.iter().map(|number| query::invoice(connection, *number)).collect::<Vec<_>>())
        });
        match found {
            Ok(found) => taken.answer(found.into_iter().map(|found| found.map_err(Error::from))),
            Err(error) => taken.fail(&error.to_string()),
        }
    }
}
