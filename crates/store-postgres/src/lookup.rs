//! Looking invoices up: one statement serves all who wait.

use crate::{
    Inner,
    columns::{self, INVOICE_COLUMNS},
    failure::Failure,
};
use domain::InvoiceNumber;
use std::{collections::HashMap, sync::Arc};
use store::{Error, StoredInvoice, lookup::Found};

/// Connections that look up at the same time.
pub(crate) const LOOKERS_MAX: usize = 2;

/// Looks an invoice up.
pub(crate) async fn invoice(inner: &Arc<Inner>, number: InvoiceNumber) -> Found {
    let call = || {
        tokio::spawn(look(Arc::clone(inner)));
    };
    inner.lookups.ask(number, call).await
}

async fn look(inner: Arc<Inner>) {
    let mut looker = inner.lookups.looker();
    while let Some(taken) = looker.take() {
        match find(&inner, &taken.numbers).await {
            Ok(found) => {
                // Two may ask for one invoice; one that cannot be read is its own callers' trouble alone.
                let told = |number| match found.get(number) {
                    Some(Ok(stored)) => Ok(Some(stored.clone())),
                    Some(Err(what)) => Err(Error::Data(what.clone())),
                    None => Ok(None),
                };
                let told: Vec<Found> = taken.numbers.iter().map(told).collect();
                taken.answer(told);
            }
            Err(failure) => taken.fail(&Error::from(failure).to_string()),
        }
    }
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
