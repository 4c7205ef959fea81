//! A partner at a gateway, over one connection: asks for a bill, pays it, and reads what the answer says.
//!
//! It sends once and repeats nothing; what a failure means is its user's to decide.

use super::{
    answer::{self, Failed, Paid},
    client::Connection,
    prepare,
    target::{Target, vehicle},
};
use std::rc::Rc;

/// An invoice, and the partner who inquired it.
#[derive(Clone, Copy)]
pub(super) struct Invoice {
    /// By its place among the target's partners.
    pub(super) partner: usize,
    /// The number.
    pub(super) number: u64,
}

/// One connection, and its buffer.
pub(super) struct Caller {
    target: Rc<Target>,
    connection: Connection,
    request: Vec<u8>,
}

impl Caller {
    /// Not connected yet.
    pub(super) fn new(target: &Rc<Target>) -> Self {
        Self {
            connection: Connection::new(target.address),
            target: Rc::clone(target),
            request: Vec::with_capacity(1_024),
        }
    }

    /// Connects.
    pub(super) async fn connect(target: &Rc<Target>) -> anyhow::Result<Self> {
        let mut caller = Self::new(target);
        let opened = caller.connection.open().await.map(drop);
        opened.map_err(|failed| prepare::unreachable(target, &failed))?;
        Ok(caller)
    }

    /// Inquires a vehicle, by its index among the payable ones.
    pub(super) async fn inquire(&mut self, partner: usize, index: u32) -> Result<Invoice, Failed> {
        let vehicle = vehicle(index);
        self.target.write_inquiry(&mut self.request, partner, &vehicle);
        let response = self.connection.exchange(&self.request).await?;
        let number = answer::inquiry(&response, vehicle.1.as_str())?;
        Ok(Invoice { partner, number })
    }

    /// Pays an invoice.
    pub(super) async fn pay(&mut self, invoice: Invoice) -> Result<Paid, Failed> {
        self.target.write_pay(&mut self.request, invoice.partner, invoice.number);
        let response = self.connection.exchange(&self.request).await?;
        answer::payment(&response, invoice.number)
    }

    /// Asks for a partner's balance.
    pub(super) async fn balance(&mut self, partner: usize) -> Result<String, Failed> {
        self.target.write_balance(&mut self.request, partner);
        let response = self.connection.exchange(&self.request).await?;
        answer::balance(&response)
    }
}
