//! What an operator says of a provider.
//!
//! Everything is checked before anything is sent. Where the password stands is the host's to read; it is never
//! printed.

use super::{connection::client_config, reasons::Refusals};
use domain::{ProductCode, Reason, Rupiah, Secret, limits};
use hyper::Uri;
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, net::IpAddr, path::PathBuf, time::Duration};

/// The longest product code there that is believed.
const PRODUCT_CHARS_MAX: usize = 64;

/// The contract's own time-out.
const ANSWER_MS_MAX: u64 = 60_000;

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
    /// How long a connection may take to come up, encryption included. Milliseconds.
    #[serde(default = "connect_timeout_ms")]
    pub connect_timeout_ms: u64,
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

const fn connect_timeout_ms() -> u64 {
    4_000
}

const fn answer_timeout_ms() -> u64 {
    40_000
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
    pub(super) const fn horizon(&self) -> Duration {
        Duration::from_millis(self.horizon_ms)
    }

    /// Says what makes no sense, or which file is of no use.
    pub fn check(&self) -> Result<(), String> {
        self.address()?;
        self.balance_address()?;
        let is_text = |text: &str, chars_max| (1..=chars_max).contains(&text.chars().count());
        if !is_text(&self.username, limits::username_chars_max) {
            return Err("username must have 1 to 64 characters".to_owned());
        }
        if self.password.is_some() == self.password_file.is_some() {
            return Err("give the password in password_file, or as password; one of them".to_owned());
        }
        let odd = self.products.iter().find(|(_, theirs)| !is_text(theirs, PRODUCT_CHARS_MAX));
        if let Some((ours, _)) = odd {
            return Err(format!("products: {ours} is not called that there; a code has 1 to 64 characters"));
        }
        let rules = [
            (
                (1..ANSWER_MS_MAX).contains(&self.answer_timeout_ms),
                "answer_timeout_ms must be from 1 to 59999: the contract answers within 60 s",
            ),
            (
                (1..ANSWER_MS_MAX).contains(&self.connect_timeout_ms),
                "connect_timeout_ms must be from 1 to 59999",
            ),
            (
                self.horizon_ms >= self.answer_timeout_ms,
                "horizon_ms must not be below answer_timeout_ms: an answered payment was carried out before",
            ),
            ((1..=100_000).contains(&self.in_flight_max), "in_flight_max must be from 1 to 100000"),
            (
                (1..=3_600).contains(&self.balance_every_s),
                "balance_every_s must be from 1 to 3600: a balance is believed for ten minutes",
            ),
            (!self.balance_stop_below.is_negative(), "balance_stop_below must not be below 0"),
            (
                self.balance_stop_below <= self.balance_warn_below,
                "balance_stop_below must not be above balance_warn_below: it would stop before it warns",
            ),
        ];
        if let Some((_, rule)) = rules.into_iter().find(|(holds, _)| !holds) {
            return Err(rule.to_owned());
        }
        Refusals::parse(&self.refusals)?;
        client_config(self.ca_file.as_deref()).map(|_| ())
    }

    /// Where the calls are.
    pub(super) fn address(&self) -> Result<Uri, String> {
        address("url", &self.url)
    }

    /// Where the balance is asked for.
    pub(super) fn balance_address(&self) -> Result<Uri, String> {
        if let Some(url) = &self.balance_url {
            return address("balance_url", url);
        }
        let base = self.url.trim_end_matches('/');
        address("url", &format!("{}/ceksaldo", base.rsplit_once('/').map_or(base, |(parent, _)| parent)))
    }

    /// The product's code there.
    pub(super) fn their_product<'a>(&'a self, ours: &'a ProductCode) -> &'a str {
        self.products.get(ours).map_or(ours.as_str(), String::as_str)
    }
}

fn address(key: &str, text: &str) -> Result<Uri, String> {
    let example = "an address such as https://penyedia.example/json/esamsat";
    let unfit = |why: &str| format!("{key} {why}; give {example}");
    let uri: Uri = text.parse().map_err(|_| unfit("is no address"))?;
    let authority = uri.authority().filter(|authority| !authority.host().is_empty());
    let authority = authority.ok_or_else(|| unfit("names no host"))?;
    if authority.as_str().contains('@') {
        return Err(unfit("has a password in it, which belongs into password_file"));
    }
    if uri.query().is_some() {
        return Err(unfit("has parameters behind it"));
    }
    match uri.scheme_str() {
        Some("https") => Ok(uri),
        Some("http") if is_near(authority.host()) => Ok(uri),
        Some("http") => Err(unfit("would send the password for everybody to read")),
        _ => Err(unfit("begins with neither https:// nor http://")),
    }
}

/// Whether a host is this machine, or in a network that is nobody else's.
fn is_near(host: &str) -> bool {
    match host.trim_matches(['[', ']']).parse() {
        Ok(IpAddr::V4(address)) => address.is_loopback() || address.is_private(),
        Ok(IpAddr::V6(address)) => address.is_loopback() || address.is_unique_local(),
        Err(_) => host == "localhost",
    }
}

#[cfg(test)]
impl RelaySettings {
    /// Settings with nothing but what must be given.
    pub(super) fn example() -> Self {
        toml::from_str(
            "url = \"http://127.0.0.1:9/json/esamsat\"\nusername = \"mitra\"\npassword = \"rahasia\"",
        )
        .expect("the settings can be read")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_makes_no_sense_is_told() {
        type Change = fn(&mut RelaySettings);
        assert_eq!(RelaySettings::example().check(), Ok(()));
        let cases: [(Change, &str); 19] = [
            (|s| s.url = "penyedia.example".to_owned(), "begins with neither https://"),
            (|s| s.url = "/json/esamsat".to_owned(), "names no host"),
            (|s| s.url = "ftp://penyedia.example/json".to_owned(), "begins with neither https://"),
            (|s| s.url = "http://penyedia.example/json/esamsat".to_owned(), "everybody to read"),
            (|s| s.url = "https://mitra:rahasia@penyedia.example/".to_owned(), "password in it"),
            (|s| s.url = "https://penyedia.example/json?x=1".to_owned(), "parameters"),
            (|s| s.balance_url = Some("saldo".to_owned()), "balance_url"),
            (|s| s.username = String::new(), "username"),
            (|s| s.password = None, "password_file"),
            (|s| s.password_file = Some("x".into()), "one of them"),
            (|s| s.answer_timeout_ms = 60_000, "answer_timeout_ms"),
            (|s| s.connect_timeout_ms = 0, "connect_timeout_ms"),
            (|s| s.horizon_ms = 39_999, "horizon_ms"),
            (|s| s.in_flight_max = 0, "in_flight_max"),
            (|s| s.balance_every_s = 0, "balance_every_s"),
            (|s| s.balance_stop_below = Rupiah::new(1), "stop before it warns"),
            (|s| s.balance_stop_below = Rupiah::new(-1), "below 0"),
            (|s| s.refusals = BTreeMap::from([("Saldo habis".to_owned(), Reason::BalanceShort)]), "refusals"),
            (|s| s.ca_file = Some("nowhere.pem".into()), "failed to read ca_file from nowhere.pem"),
        ];
        for (change, expected) in cases {
            let mut settings = RelaySettings::example();
            change(&mut settings);
            let error = settings.check().unwrap_err();
            assert!(error.contains(expected) && !error.contains("rahasia"), "{expected}: {error}");
        }
        let mut settings = RelaySettings::example();
        settings.products.insert(ProductCode::parse("SAMSAT_JABAR").unwrap(), String::new());
        assert!(settings.check().unwrap_err().contains("SAMSAT_JABAR"));
    }

    #[test]
    fn the_balance_is_beside() {
        for (url, balance_url, expected) in [
            ("https://penyedia.example/json/esamsat", None, "https://penyedia.example/json/ceksaldo"),
            (
                "https://penyedia.example:8443/json/esamsat/",
                None,
                "https://penyedia.example:8443/json/ceksaldo",
            ),
            ("http://10.0.0.7/esamsat", None, "http://10.0.0.7/ceksaldo"),
            ("https://a.example/json/esamsat", Some("https://b.example/saldo"), "https://b.example/saldo"),
        ] {
            let (url, balance_url) = (url.to_owned(), balance_url.map(str::to_owned));
            let settings = RelaySettings { url, balance_url, ..RelaySettings::example() };
            assert_eq!(settings.balance_address().map(|uri| uri.to_string()), Ok(expected.to_owned()));
        }
    }

    #[test]
    fn the_password_is_never_printed() {
        let settings = RelaySettings::example();
        assert!(!format!("{settings:?}").contains("rahasia"));
        assert!(!toml::to_string(&settings).unwrap().contains("rahasia"));
    }
}
