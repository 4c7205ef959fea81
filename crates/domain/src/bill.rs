//! The bill of one vehicle for one period, as the Samsat presented it.

use crate::{
    money::Rupiah,
    value::{ChassisNumber, Nik, PaymentCode, Secret},
};
use serde::{Deserialize, Serialize};

/// What one vehicle owes. Immutable once recorded; a payment never touches it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bill {
    /// The bank's code for this bill.
    pub payment_code: PaymentCode,
    /// KTP number of the owner, as asked.
    pub nik: Nik,
    /// Chassis number, as asked.
    pub chassis: ChassisNumber,
    /// The owner's name: personal data.
    pub owner_name: Secret,
    /// The owner's address: personal data.
    pub owner_address: Secret,
    /// `F 0001 Z`.
    pub license_plate: String,
    /// `YAMAHA`.
    pub vehicle_brand: String,
    /// `28D (AL115S/MIO)`.
    pub vehicle_model: String,
    /// `MERAH MARUN`.
    pub vehicle_color: String,
    /// `2010`.
    pub year_built: u16,
    /// What is owed, in parts.
    pub taxes: Taxes,
    /// What the upstream calls its own record of the inquiry, where it pays by that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub upstream_reference: Option<String>,
}

/// The parts of a bill, in whole Rupiah. `opsen` is counted apart here and inside PKB on the 2019 wire.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Taxes {
    /// Yearly vehicle tax (PKB pokok).
    pub pkb: Rupiah,
    /// Regional surcharge on PKB, since 5 January 2025.
    pub opsen_pkb: Rupiah,
    /// Road accident fund contribution (SWDKLLJ pokok), card fee included.
    pub swdkllj: Rupiah,
    /// Title transfer duty (BBN pokok).
    pub bbn: Rupiah,
    /// Late fine on PKB.
    pub pkb_penalty: Rupiah,
    /// Late fine on the surcharge.
    pub opsen_pkb_penalty: Rupiah,
    /// Late fine on SWDKLLJ.
    pub swdkllj_penalty: Rupiah,
    /// Late fine on BBN.
    pub bbn_penalty: Rupiah,
}

impl Taxes {
    /// What the Samsat gets: all parts together, without the gateway's fee.
    pub fn total(&self) -> Rupiah {
        [
            self.pkb,
            self.opsen_pkb,
            self.swdkllj,
            self.bbn,
            self.pkb_penalty,
            self.opsen_pkb_penalty,
            self.swdkllj_penalty,
            self.bbn_penalty,
        ]
        .into_iter()
        .sum()
    }
}
