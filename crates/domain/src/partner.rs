//! Partners (mitra): who may call, from where, and on what credit.

use crate::{
    money::Rupiah,
    value::{AgentCode, Environment, Secret, Username},
};
use serde::{Deserialize, Serialize};

/// A partner, by number.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct PartnerId(pub u32);

/// Whether a partner may do business.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PartnerStatus {
    /// May inquire and pay.
    Active,
    /// Refused everywhere; what is under way is still settled.
    Suspended,
}

/// A reseller with a deposit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Partner {
    /// Number, never reused.
    pub id: PartnerId,
    /// Live or sandbox; decides every account and claim that the partner's payments touch.
    pub environment: Environment,
    /// Log-in name, unique over both environments.
    pub username: Username,
    /// The business's name, for operators.
    pub name: String,
    /// `kodeagen` on the wire.
    pub agent_code: AgentCode,
    /// Active or suspended.
    pub status: PartnerStatus,
    /// How far below zero the deposit may go; usually nothing.
    pub credit_limit: Rupiah,
    /// Argon2id hash in PHC text form.
    pub password_hash: Secret,
    /// Networks (CIDR) that may call; empty means any.
    pub allowed_networks: Vec<String>,
}
