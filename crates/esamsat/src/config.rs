//! Configuration: a TOML file, environment variables, flags; later ones win. Unknown keys are refused.

use crate::output::Fault;
use anyhow::{Context, bail};
use bank::simulator::SimulatorSettings;
use clap::Args;
use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use std::{
    collections::BTreeMap,
    net::SocketAddr,
    path::{Path, PathBuf},
};

/// Where things are; taken by every command.
#[derive(Args, Clone, Debug)]
pub struct Place {
    /// Configuration file (TOML)
    #[arg(long, global = true, env = "ESAMSAT_CONFIG", value_name = "FILE")]
    pub config: Option<PathBuf>,

    /// Folder of the embedded database [default: ./esamsat-demo, or what the configuration says]
    #[arg(long, global = true, env = "ESAMSAT_DATA", value_name = "DIR")]
    pub data: Option<PathBuf>,

    /// Print JSON instead of tables
    #[arg(long, global = true)]
    pub json: bool,
}

/// The environment variables there are; others that begin alike are refused as misspelled.
const VARIABLES: [&str; 5] =
    ["ESAMSAT_CONFIG", "ESAMSAT_DATA", "ESAMSAT_LISTEN", "ESAMSAT_LOG", "ESAMSAT_OPERATOR"];

/// What the example clients read; they may be set beside.
const EXAMPLES: [&str; 7] = [
    "ESAMSAT_URL",
    "ESAMSAT_USERNAME",
    "ESAMSAT_PASSWORD",
    "ESAMSAT_PRODUCT",
    "ESAMSAT_CUSTOMER_NUMBER",
    "ESAMSAT_STRUCTURE_NUMBER",
    "ESAMSAT_WAIT_SECONDS",
];

/// What an operator can configure.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Where to listen.
    pub listen: SocketAddr,
    /// Folder of the embedded database and of simulated banks' ledgers.
    pub data: PathBuf,
    /// What to log: `info`, or directives such as `info,engine=debug`.
    pub log: String,
    /// How to log.
    pub log_format: LogFormat,
    /// Proxies whose `X-Forwarded-For` is believed.
    pub trusted_proxies: Vec<IpNet>,
    /// Who may read `/metrics`.
    pub metrics_networks: Vec<IpNet>,
    /// Inquiry and pay answer within this time. Milliseconds, at most 54 000.
    pub answer_within_ms: u64,
    /// A payment not sent within this time of its reservation never is. Milliseconds.
    pub send_within_ms: u64,
    /// Requests under way get this time to finish at shutdown. Milliseconds.
    pub shutdown_within_ms: u64,
    /// A payment open for longer raises an incident. Seconds.
    pub pending_long_after_s: u64,
    /// Who is asked for bills and payments, by name.
    pub upstream: BTreeMap<String, Upstream>,
}

/// How to log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// One upstream.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Upstream {
    /// The simulated Samsat and bank, in process, with a ledger file of its own.
    Simulator(SimulatorSettings),
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 8080)),
            data: PathBuf::from("esamsat-demo"),
            log: "info".to_owned(),
            log_format: LogFormat::Text,
            trusted_proxies: Vec::new(),
            metrics_networks: ["127.0.0.0/8", "::1/128"].map(|n| n.parse().expect("a network")).to_vec(),
            answer_within_ms: 45_000,
            send_within_ms: 5_000,
            shutdown_within_ms: 30_000,
            pending_long_after_s: 3_600,
            upstream: BTreeMap::new(),
        }
    }
}

impl Config {
    /// Reads the file, if one is named; then the environment and the flags.
    pub fn load(place: &Place) -> anyhow::Result<Self> {
        let unknown = std::env::vars_os().map(|(name, _)| name.to_string_lossy().into_owned()).find(|name| {
            name.starts_with("ESAMSAT_") && ![&VARIABLES[..], &EXAMPLES].concat().contains(&name.as_str())
        });
        if let Some(name) = unknown {
            bail!("the environment variable {name} is unknown; there are {}", VARIABLES.join(", "));
        }
        let mut config = match &place.config {
            Some(path) => Self::read(path)?,
            None => Self::default(),
        };
        if let Some(data) = &place.data {
            config.data.clone_from(data);
        }
        if let Ok(listen) = std::env::var("ESAMSAT_LISTEN") {
            config.listen = listen.parse().with_context(|| {
                format!("failed to read ESAMSAT_LISTEN: {listen:?} is not an address such as 127.0.0.1:8080")
            })?;
        }
        if let Ok(log) = std::env::var("ESAMSAT_LOG") {
            config.log = log;
        }
        config.check()?;
        Ok(config)
    }

    fn read(path: &Path) -> anyhow::Result<Self> {
        let text = std::fs::read_to_string(path).map_err(|error| {
            Fault::Unavailable(format!(
                "failed to read the configuration {}: {error}; name a readable file with --config",
                path.display()
            ))
        })?;
        toml::from_str(&text).map_err(|error| {
            let line = error.span().map_or(0, |span| 1 + text[..span.start].matches('\n').count());
            anyhow::anyhow!(
                "failed to read the configuration {}, line {line}: {}",
                path.display(),
                error.message().replace('\n', " ")
            )
        })
    }

    fn check(&self) -> anyhow::Result<()> {
        // Behind it come a last look into the database and the way to the partner, all within 60 s.
        if !(1_000..=54_000).contains(&self.answer_within_ms) {
            bail!("answer_within_ms is {}; it must be from 1000 to 54000", self.answer_within_ms);
        }
        if self.send_within_ms == 0 || self.send_within_ms > self.answer_within_ms {
            bail!("send_within_ms is {}; it must be from 1 to answer_within_ms", self.send_within_ms);
        }
        for (name, Upstream::Simulator(settings)) in &self.upstream {
            settings.check().with_context(|| format!("upstream {name}"))?;
        }
        if let Err(error) = self.log.parse::<tracing_subscriber::filter::Targets>() {
            bail!("log is {:?}: {error}; write for example \"info\" or \"info,engine=debug\"", self.log);
        }
        Ok(())
    }

    /// The embedded database's file.
    pub fn database(&self) -> PathBuf {
        self.data.join("esamsat.sqlite")
    }

    /// The ledger file of a simulated bank.
    pub fn bank_ledger(&self, upstream: &str) -> PathBuf {
        self.data.join(format!("bank-{upstream}.sqlite"))
    }

    /// The name and settings of the simulated bank that the sandbox commands speak of.
    pub fn simulator(&self) -> (String, SimulatorSettings) {
        let configured = self.upstream.iter().next();
        match configured {
            Some((name, Upstream::Simulator(settings))) => (name.clone(), settings.clone()),
            None => (crate::demo::UPSTREAM.to_owned(), SimulatorSettings::default()),
        }
    }
}
