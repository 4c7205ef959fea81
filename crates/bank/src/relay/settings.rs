//! What an operator says of a provider.

use domain::{ProductCode, Reason, Rupiah, Secret};
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, path::PathBuf};

/// An upstream that speaks the partner contract: another provider, with which the operator has an account.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct RelaySettings {
    /// Where `inquiry_esamsat` and the others are: `https://penyedia.example/json/esamsat`.
    pub url: String,
    /// Where the balance is asked for; else `ceksaldo` beside the last part of `url`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub balance_url: Option<String>,
    /// The account's user name.
    pub username: String,
    /// The account's password; better in `password_file`.
    #[serde(default, skip_serializing)]
    pub password: Option<Secret>,
    /// A file that holds the password, and nothing else.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password_file: Option<PathBuf>,
    /// Our product codes and theirs, where they differ.
    #[serde(default)]
    pub products: BTreeMap<ProductCode, String>,
    /// How long an answer is waited for. Milliseconds, within the contract's 60 s.
    #[serde(default = "answer_timeout_ms")]
    pub answer_timeout_ms: u64,
    /// How long after it was sent a payment can still be carried out there. Milliseconds.
    #[serde(default = "horizon_ms")]
    pub horizon_ms: u64,
    /// Payments under way at the same time; as many inquiries beside them.
    #[serde(default = "in_flight_max")]
    pub in_flight_max: usize,
    /// Operators are told when the balance there is below this. Rupiah.
    #[serde(default)]
    pub balance_warn_below: Rupiah,
    /// Nothing is sold any more when the balance there is below this. Rupiah.
    #[serde(default)]
    pub balance_stop_below: Rupiah,
    /// How often the balance is asked for. Seconds.
    #[serde(default = "balance_every_s")]
    pub balance_every_s: u64,
    /// Whose signatures on the provider's certificate are believed (PEM); else the system's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_file: Option<PathBuf>,
    /// Which of the provider's refusals of a payment are certain: its reason, without a code, or `kode:0054`; and
    /// our reason for it.
    #[serde(default)]
    pub refusals: BTreeMap<String, Reason>,
}

const fn answer_timeout_ms() -> u64 {
    50_000
}

const fn horizon_ms() -> u64 {
    120_000
}

const fn in_flight_max() -> usize {
    64
}

const fn balance_every_s() -> u64 {
    60
}

impl RelaySettings {
    /// Says what makes no sense.
    pub fn check(&self) -> Result<(), String> {
        let is_url = |url: &str| {
            let rest = url.strip_prefix("https://").or_else(|| url.strip_prefix("http://"));
            rest.is_some_and(|rest| !rest.is_empty() && !rest.starts_with('/'))
        };
        if let Some(url) = std::iter::once(&self.url).chain(&self.balance_url).find(|url| !is_url(url)) {
            return Err(format!("{url:?} is no address such as https://penyedia.example/json/esamsat"));
        }
        if self.password.is_some() == self.password_file.is_some() {
            return Err("give the password in password_file, or as password; one of them".to_owned());
        }
        if !(1..=59_000).contains(&self.answer_timeout_ms) {
            return Err(
                "answer_timeout_ms must be from 1 to 59000: the contract answers within 60 s".to_owned()
            );
        }
        if self.horizon_ms < self.answer_timeout_ms {
            return Err(
                "horizon_ms must not be below answer_timeout_ms: an answered payment was carried out before"
                    .to_owned(),
            );
        }
        if !(1..=100_000).contains(&self.in_flight_max) {
            return Err("in_flight_max must be from 1 to 100000".to_owned());
        }
        if self.balance_every_s == 0 {
            return Err("balance_every_s must be at least 1".to_owned());
        }
        if self.balance_stop_below > self.balance_warn_below {
            return Err(
                "balance_stop_below is above balance_warn_below: it would stop before it warns".to_owned()
            );
        }
        Ok(())
    }

    /// Where the balance is asked for.
    pub(super) fn balance_address(&self) -> String {
        self.balance_url.clone().unwrap_or_else(|| {
            let base = self.url.trim_end_matches('/');
            let parent = base.rsplit_once('/').map_or(base, |(parent, _)| parent);
            format!("{parent}/ceksaldo")
        })
    }
}
