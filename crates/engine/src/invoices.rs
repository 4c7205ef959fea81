//! Recently inquired invoices, kept so that the pay that usually follows needs no read.
//!
//! Only what never changes is taken from here; the state is decided under the store's lock.

use crate::{View, limits};
use domain::InvoiceNumber;
use std::{
    collections::HashMap,
    mem,
    sync::{Mutex, PoisonError},
};

/// Two generations: when the young one is full it becomes the old one, and the old one goes.
#[derive(Default)]
pub(crate) struct Recent {
    generations: Mutex<Generations>,
}

#[derive(Default)]
struct Generations {
    young: HashMap<InvoiceNumber, View>,
    old: HashMap<InvoiceNumber, View>,
}

impl Recent {
    /// Keeps an invoice for a while.
    pub(crate) fn remember(&self, view: &View) {
        let mut generations = self.generations.lock().unwrap_or_else(PoisonError::into_inner);
        if generations.young.len() >= limits::recent_invoices_max {
            generations.old = mem::take(&mut generations.young);
        }
        generations.young.insert(view.invoice.number, view.clone());
    }

    /// The invoice as it was inquired, once.
    pub(crate) fn take(&self, number: InvoiceNumber) -> Option<View> {
        let mut generations = self.generations.lock().unwrap_or_else(PoisonError::into_inner);
        generations.young.remove(&number).or_else(|| generations.old.remove(&number))
    }
}
