//! Admission: how much work is taken on, and that one partner's storm leaves room for the others.
//!
//! A partner may have as much under way as there is room left (a dynamic threshold): alone it gets half
//! of everything, and the more others come, the less. What is not admitted is refused before anything
//! is done.

use std::{
    collections::HashMap,
    hash::Hash,
    sync::{Arc, Mutex, PoisonError},
};

/// Counts what is under way, by whom it is for: a partner, or a network of callers.
pub(crate) struct Admission<K: Eq + Hash> {
    under_way: Arc<Mutex<UnderWay<K>>>,
    max: usize,
}

struct UnderWay<K> {
    total: usize,
    by_owner: HashMap<K, usize>,
}

/// One piece of admitted work; dropping it makes room.
pub(crate) struct Admitted<K: Eq + Hash> {
    under_way: Arc<Mutex<UnderWay<K>>>,
    owner: K,
}

impl<K: Copy + Eq + Hash> Admission<K> {
    pub(crate) fn new(max: usize) -> Self {
        Self { under_way: Arc::new(Mutex::new(UnderWay { total: 0, by_owner: HashMap::new() })), max }
    }

    /// Admits a piece of the owner's work, or not.
    pub(crate) fn admit(&self, owner: K) -> Option<Admitted<K>> {
        let mut under_way = self.under_way.lock().unwrap_or_else(PoisonError::into_inner);
        let free = self.max - under_way.total;
        let own = under_way.by_owner.entry(owner).or_default();
        if *own >= free {
            // An owner that has nothing under way is not kept.
            if *own == 0 {
                under_way.by_owner.remove(&owner);
            }
            return None;
        }
        *own += 1;
        under_way.total += 1;
        drop(under_way);
        Some(Admitted { under_way: Arc::clone(&self.under_way), owner })
    }
}

impl<K: Eq + Hash> Drop for Admitted<K> {
    fn drop(&mut self) {
        let mut under_way = self.under_way.lock().unwrap_or_else(PoisonError::into_inner);
        under_way.total -= 1;
        if let Some(own) = under_way.by_owner.get_mut(&self.owner) {
            *own -= 1;
            if *own == 0 {
                under_way.by_owner.remove(&self.owner);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use domain::PartnerId;

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
