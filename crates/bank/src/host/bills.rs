//! Which vehicle a bill is for, where a dialect's payments do not say so: the bank remembers what it presented.
//!
//! The newest are kept, in memory only. A payment of a bill that was forgotten is refused, as a payment without an
//! inquiry; what was paid of it stands in the ledger all the same.

use super::locked;
use domain::{ChassisNumber, Nik, PaymentCode, ProductCode};
use std::{
    collections::{HashMap, VecDeque},
    sync::Mutex,
};

/// Bills remembered.
const REMEMBERED_MAX: usize = 200_000;

/// A vehicle by its numbers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Vehicle {
    pub(super) product: ProductCode,
    pub(super) nik: Nik,
    pub(super) chassis: ChassisNumber,
}

#[derive(Default)]
pub(super) struct Bills(Mutex<Table>);

#[derive(Default)]
struct Table {
    vehicles: HashMap<PaymentCode, Vehicle>,
    order: VecDeque<PaymentCode>,
}

impl Bills {
    pub(super) fn remember(&self, payment_code: PaymentCode, vehicle: Vehicle) {
        let mut table = locked(&self.0);
        if table.vehicles.insert(payment_code.clone(), vehicle).is_none() {
            table.order.push_back(payment_code);
        }
        if table.order.len() > REMEMBERED_MAX
            && let Some(oldest) = table.order.pop_front()
        {
            table.vehicles.remove(&oldest);
        }
    }

    pub(super) fn vehicle(&self, payment_code: &PaymentCode) -> Option<Vehicle> {
        locked(&self.0).vehicles.get(payment_code).cloned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_are_kept() {
        let bills = Bills::default();
        let code = |number: usize| PaymentCode::parse(&format!("{number:016}")).unwrap();
        let vehicle = Vehicle {
            product: ProductCode::parse("SAMSAT_JABAR").unwrap(),
            nik: Nik::parse("3201111111111111").unwrap(),
            chassis: ChassisNumber::parse("MH328D204AK401000").unwrap(),
        };
        for number in 0..REMEMBERED_MAX + 3 {
            bills.remember(code(number), vehicle.clone());
            bills.remember(code(number), vehicle.clone());
        }
        assert_eq!(bills.vehicle(&code(2)), None);
        assert_eq!(bills.vehicle(&code(3)), Some(vehicle));
        assert_eq!(locked(&bills.0).vehicles.len(), REMEMBERED_MAX);
    }
}
