//! Invoice numbers, from blocks that are committed before their first number is used and never returned.

use crate::{
    journal::{Failure, Journal},
    limits,
};
use domain::{Accepted, Command, InvoiceNumber, Rejection};
use tokio::sync::Mutex;

/// What is left of the present block.
#[derive(Default)]
pub(crate) struct Numbers {
    left: Mutex<std::ops::Range<i64>>,
}

impl Numbers {
    /// The next number; reserves a block when none is left.
    pub(crate) async fn next(&self, journal: &Journal) -> Result<InvoiceNumber, Failure> {
        let mut left = self.left.lock().await;
        if let Some(number) = left.next() {
            return Ok(InvoiceNumber::new(number));
        }
        let count = limits::invoice_block;
        let Accepted::Numbers { first } = journal.submit(Command::ReserveInvoiceNumbers { count }).await?
        else {
            return Err(Failure::Rejected(Rejection::Impossible));
        };
        *left = first.get() + 1..first.get() + i64::from(count);
        Ok(first)
    }
}
