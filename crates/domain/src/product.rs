//! What partners can sell: one product per province's Samsat.

use crate::{
    money::Rupiah,
    value::{Environment, ProductCode, UpstreamId},
};
use serde::{Deserialize, Serialize};

/// A product of one environment, and the upstream that serves it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Product {
    /// Live or sandbox.
    pub environment: Environment,
    /// `SAMSAT_JABAR`.
    pub code: ProductCode,
    /// The name shown to partners.
    pub name: String,
    /// The gateway's fee on top of the bill.
    pub fee: Rupiah,
    /// What the partner gets back at CONFIRM.
    pub cashback: Rupiah,
    /// Whether new inquiries and payments are taken.
    pub on: bool,
    /// Who is asked.
    pub upstream: UpstreamId,
    /// Where it stands in the list.
    pub position: u32,
}
