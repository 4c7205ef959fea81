//! Admission: how much work is taken on, and that one partner's storm leaves room for the others.
//!
//! A partner may have as much under way as there is room left (a dynamic threshold): alone it gets half
//! of everything, and the more others come, the less. What is not admitted is refused before anything
//! is done.

use domain::PartnerId;
use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

/// Counts what is under way, by partner.
#[derive(Clone)]
pub(crate) struct Admission {
    under_way: Arc<Mutex<UnderWay>>,
    max: usize,
}

#[derive(Default)]
struct UnderWay {
    total: usize,
    by_partner: HashMap<PartnerId, usize>,
}

/// One piece of admitted work; dropping it makes room.
pub(crate) struct Admitted {
    admission: Admission,
    partner: PartnerId,
}

impl Admission {
    pub(crate) fn new(max: usize) -> Self {
        Self { under_way: Arc::default(), max }
    }

    /// Admits a piece of the partner's work, or not.
    pub(crate) fn admit(&self, partner: PartnerId) -> Option<Admitted> {
        let mut under_way = self.under_way.lock().unwrap_or_else(PoisonError::into_inner);
        let free = self.max - under_way.total;
        let own = under_way.by_partner.entry(partner).or_default();
        if *own >= free {
            return None;
        }
        *own += 1;
        under_way.total += 1;
        drop(under_way);
        Some(Admitted { admission: self.clone(), partner })
    }
}

impl Drop for Admitted {
    fn drop(&mut self) {
        let mut under_way = self.admission.under_way.lock().unwrap_or_else(PoisonError::into_inner);
        under_way.total -= 1;
        if let Some(own) = under_way.by_partner.get_mut(&self.partner) {
            *own -= 1;
            if *own == 0 {
                under_way.by_partner.remove(&self.partner);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_storm_leaves_room_for_others() {
        let admission = Admission::new(100);
        let storm: Vec<_> = (0..1_000).filter_map(|_| admission.admit(PartnerId(1))).collect();
        assert_eq!(storm.len(), 50, "alone, a partner gets half");
        let others: Vec<_> = (2..12).filter_map(|id| admission.admit(PartnerId(id))).collect();
        assert_eq!(others.len(), 10, "everybody else is still admitted");
        assert!(admission.admit(PartnerId(1)).is_none());
        drop(storm);
        assert!(admission.admit(PartnerId(1)).is_some());
    }
}
