//! What an operator says of a bank's lines.

use domain::Terminal;
use serde::{Deserialize, Serialize};
use std::{collections::BTreeSet, path::PathBuf};

/// An upstream behind ISO 8583 lines.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct LineSettings {
    /// The dialect: a file beside the configuration, or a shipped profile's name.
    pub profile: String,
    /// Payments under way on one line at the same time; as many inquiries beside them.
    #[serde(default = "in_flight_max")]
    pub in_flight_max: usize,
    /// Of several gateways on one database, how many lines each takes. One that is alone takes all.
    #[serde(default = "lines_held")]
    pub lines_held: usize,
    /// The lines.
    #[serde(default)]
    pub line: Vec<OneLine>,
}

/// One line.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct OneLine {
    /// Its terminal id: 1 to 16 capital letters and digits.
    pub terminal: String,
    /// Where the bank listens, `host:port`; tried in turn.
    pub addresses: Vec<String>,
    /// Encrypted, if it says how.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<Tls>,
}

/// How a line is encrypted.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Tls {
    /// The name in the bank's certificate.
    pub server_name: String,
    /// Whose signatures on the bank's certificate are believed (PEM).
    pub ca_file: PathBuf,
    /// The gateway's own certificate (PEM), where the bank wants one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certificate_file: Option<PathBuf>,
    /// Its key (PEM).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key_file: Option<PathBuf>,
}

const fn in_flight_max() -> usize {
    256
}

const fn lines_held() -> usize {
    1
}

impl LineSettings {
    /// The terminals, in order.
    fn terminals(&self) -> Result<Vec<Terminal>, String> {
        let terminals: Vec<Terminal> = self
            .line
            .iter()
            .map(|line| {
                Terminal::parse(&line.terminal).ok_or_else(|| {
                    format!("terminal {:?} must have 1 to 16 capital letters and digits", line.terminal)
                })
            })
            .collect::<Result<_, _>>()?;
        let distinct: BTreeSet<_> = terminals.iter().collect();
        if distinct.len() != terminals.len() {
            return Err("two lines have the same terminal; the bank could not tell them apart".to_owned());
        }
        Ok(terminals)
    }

    /// The lines' terminals, in order; the error says what makes no sense.
    pub fn check(&self) -> Result<Vec<Terminal>, String> {
        if self.line.is_empty() {
            return Err("there is no line; add [[upstream.….line]] with a terminal and addresses".to_owned());
        }
        let terminals = self.terminals()?;
        for line in &self.line {
            let is_address = |address: &&String| {
                let parts = address.rsplit_once(':');
                parts.is_some_and(|(host, port)| {
                    !host.is_empty() && port.parse::<u16>().is_ok_and(|port| port > 0)
                })
            };
            if line.addresses.is_empty() {
                return Err(format!("line {} has no addresses; add where the bank listens", line.terminal));
            }
            if let Some(address) = line.addresses.iter().find(|address| !is_address(address)) {
                return Err(format!(
                    "line {}: {address:?} is no address such as \"10.0.0.5:7000\"",
                    line.terminal
                ));
            }
            if let Some(tls) = &line.tls {
                super::connect::tls_config(tls).map_err(|what| format!("line {}: {what}", line.terminal))?;
            }
        }
        if !(1..=100_000).contains(&self.in_flight_max) {
            return Err("in_flight_max must be from 1 to 100000".to_owned());
        }
        if self.lines_held == 0 || self.lines_held > self.line.len() {
            return Err(format!("lines_held must be from 1 to the number of lines, {}", self.line.len()));
        }
        Ok(terminals)
    }
}
