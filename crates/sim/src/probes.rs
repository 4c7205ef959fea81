//! The branches that a run over many seeds must reach, or it has proved nothing.

use std::collections::BTreeMap;

/// Each of these must be reached.
pub const REQUIRED: &[&str] = &[
    "state: CONFIRM",
];

/// Those that were not.
pub fn missed(reached: &BTreeMap<String, u64>) -> Vec<&'static str> {
    REQUIRED.iter().copied().filter(|name| !reached.contains_key(*name)).collect()
}
