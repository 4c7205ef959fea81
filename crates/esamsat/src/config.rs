//! Configuration: a TOML file, environment variables, flags; later ones win. Unknown keys are refused.

use crate::output::Fault;
use anyhow::{Context, bail};
use bank::{
    iso8583_line::LineSettings, profile::LineProfile, relay::RelaySettings, simulator::SimulatorSettings,
};
use clap::Args;
use domain::Secret;
use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use std::{
    collections::BTreeMap,
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
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

    /// PostgreSQL instead of the embedded database.
    #[arg(
        long,
        global = true,
        env = "ESAMSAT_DATABASE",
        value_name = "URL",
        hide_env_values = true,
        help = "PostgreSQL instead of the embedded database: postgres://user@host:5432/database"
    )]
    pub database: Option<DatabaseUrl>,

    /// Print JSON instead of tables
    #[arg(long, global = true)]
    pub json: bool,
}

/// The environment variables there are; others that begin alike are refused as misspelled.
const VARIABLES: [&str; 7] = [
    "ESAMSAT_CONFIG",
    "ESAMSAT_DATA",
    "ESAMSAT_DATABASE",
    DATABASE_PASSWORD,
    "ESAMSAT_LISTEN",
    "ESAMSAT_LOG",
    "ESAMSAT_OPERATOR",
];

/// Where the database's password may stand, away from command lines and files.
const DATABASE_PASSWORD: &str = "ESAMSAT_DATABASE_PASSWORD";

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

/// What the script in `deploy/ha` reads begins like this.
const CLUSTER: &str = "ESAMSAT_HA_";

/// What an operator can configure.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Where to listen.
    pub listen: SocketAddr,
    /// Folder of the embedded database and of simulated banks' ledgers.
    pub data: PathBuf,
    /// PostgreSQL instead of the embedded database.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub database: Option<DatabaseUrl>,
    /// A file that holds the database's password, and nothing else.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub database_password_file: Option<PathBuf>,
    /// Batches written at the same time; on PostgreSQL only.
    pub writers: usize,
    /// What to log: `info`, or directives such as `info,engine=debug`.
    pub log: String,
    /// How to log.
    pub log_format: LogFormat,
    /// Proxies whose `X-Forwarded-For` is believed.
    pub trusted_proxies: Vec<IpNet>,
    /// Who may read `/metrics` and `/health/lines`.
    pub metrics_networks: Vec<IpNet>,
    /// Inquiry and pay answer within this time. Milliseconds, at most 54 000.
    pub answer_within_ms: u64,
    /// A payment not sent within this time of its reservation never is. Milliseconds.
    pub send_within_ms: u64,
    /// Requests under way get this time to finish at shutdown. Milliseconds.
    pub shutdown_within_ms: u64,
    /// A payment open for longer raises an incident. Seconds.
    pub pending_long_after_s: u64,
    /// Of several gateways on one database, what one looked after is another one's after so long without a sign
    /// of life. Milliseconds, at least 1 000; the same for all of them.
    pub lease_after_ms: u64,
    /// Who is asked for bills and payments, by name.
    pub upstream: BTreeMap<String, Upstream>,
}

/// The address of a PostgreSQL database. A password in it is shown nowhere.
#[derive(Clone, Deserialize)]
#[serde(transparent)]
pub struct DatabaseUrl(String);

impl std::str::FromStr for DatabaseUrl {
    type Err = std::convert::Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(Self(text.to_owned()))
    }
}

impl std::fmt::Display for DatabaseUrl {
    /// Without the password and the parameters.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Some((scheme, rest)) = self.0.split_once("://") else {
            return f.write_str("(no database address)");
        };
        let rest = rest.split('?').next().unwrap_or_default();
        match rest.rsplit_once('@') {
            Some((login, place)) => {
                let user = login.split(':').next().unwrap_or_default();
                write!(f, "{scheme}://{user}@{place}")
            }
            None => write!(f, "{scheme}://{rest}"),
        }
    }
}

impl std::fmt::Debug for DatabaseUrl {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        std::fmt::Display::fmt(self, f)
    }
}

impl Serialize for DatabaseUrl {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// Which store is configured, for people.
#[derive(Clone, Debug)]
pub enum StoreAt {
    /// The embedded database's file.
    File(PathBuf),
    /// A PostgreSQL database.
    Postgres(DatabaseUrl),
}

impl std::fmt::Display for StoreAt {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::File(path) => write!(f, "{}", path.display()),
            Self::Postgres(url) => write!(f, "{url}"),
        }
    }
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
    /// A bank behind ISO 8583 lines.
    Iso8583(LineSettings),
    /// Another provider that speaks the partner contract.
    Relay(RelaySettings),
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 8080)),
            data: PathBuf::from("esamsat-demo"),
            database: None,
            database_password_file: None,
            writers: 2,
            log: "info".to_owned(),
            log_format: LogFormat::Text,
            trusted_proxies: Vec::new(),
            metrics_networks: ["127.0.0.0/8", "::1/128"].map(|n| n.parse().expect("a network")).to_vec(),
            answer_within_ms: 45_000,
            send_within_ms: 5_000,
            shutdown_within_ms: 30_000,
            pending_long_after_s: 3_600,
            lease_after_ms: 10_000,
            upstream: BTreeMap::new(),
        }
    }
}

impl Config {
    /// Reads the file, if one is named; then the environment and the flags.
    pub fn load(place: &Place) -> anyhow::Result<Self> {
        let unknown = std::env::vars_os().map(|(name, _)| name.to_string_lossy().into_owned()).find(|name| {
            name.starts_with("ESAMSAT_")
                && !name.starts_with(CLUSTER)
                && ![&VARIABLES[..], &EXAMPLES].concat().contains(&name.as_str())
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
        if place.database.is_some() {
            config.database.clone_from(&place.database);
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
        let mut config = Self::from_toml(&text)
            .map_err(|what| anyhow::anyhow!("failed to read the configuration {}, {what}", path.display()))?;
        config.resolve_files(path.parent().unwrap_or(Path::new("")));
        Ok(config)
    }

    /// Reads a text; the error begins with its line.
    pub fn from_toml(text: &str) -> Result<Self, String> {
        toml::from_str(text).map_err(|error: toml::de::Error| {
            let before = error.span().map_or(0, |span| span.start);
            let line = 1 + text.bytes().take(before).filter(|byte| *byte == b'\n').count();
            format!("line {line}: {}", error.message().replace('\n', " "))
        })
    }

    /// Files that upstreams name are looked for beside the configuration's own.
    fn resolve_files(&mut self, folder: &Path) {
        let resolve = |file: &mut PathBuf| *file = folder.join(&*file);
        for upstream in self.upstream.values_mut() {
            match upstream {
                Upstream::Simulator(_) => {}
                Upstream::Iso8583(settings) => {
                    if LineProfile::builtin(&settings.profile).is_none() {
                        settings.profile = folder.join(&settings.profile).to_string_lossy().into_owned();
                    }
                    for tls in settings.line.iter_mut().filter_map(|line| line.tls.as_mut()) {
                        let own = tls.certificate_file.iter_mut().chain(&mut tls.key_file);
                        own.chain([&mut tls.ca_file]).for_each(resolve);
                    }
                }
                Upstream::Relay(settings) => {
                    settings.password_file.iter_mut().chain(&mut settings.ca_file).for_each(resolve);
                }
            }
        }
    }

    /// Says what makes no sense.
    pub fn check(&self) -> anyhow::Result<()> {
        // Behind it come a last look into the database and the way to the partner, all within 60 s.
        if !(1_000..=54_000).contains(&self.answer_within_ms) {
            bail!("answer_within_ms is {}; it must be from 1000 to 54000", self.answer_within_ms);
        }
        if self.send_within_ms == 0 || self.send_within_ms > self.answer_within_ms {
            bail!("send_within_ms is {}; it must be from 1 to answer_within_ms", self.send_within_ms);
        }
        if !(1..=8).contains(&self.writers) {
            bail!("writers is {}; it must be from 1 to 8", self.writers);
        }
        if self.lease_after_ms < 1_000 {
            bail!("lease_after_ms is {}; it must be at least 1000", self.lease_after_ms);
        }
        if self.database.is_some() {
            self.postgres_address()?;
        } else if self.database_password_file.is_some() {
            bail!("database_password_file is set, and database is not; set both, or neither");
        }
        for (name, upstream) in &self.upstream {
            self.check_upstream(upstream).with_context(|| format!("upstream {name}"))?;
        }
        self.check_terminals()?;
        if let Err(error) = self.log.parse::<tracing_subscriber::filter::Targets>() {
            bail!("log is {:?}: {error}; write for example \"info\" or \"info,engine=debug\"", self.log);
        }
        Ok(())
    }

    /// Which store is configured.
    pub fn store_at(&self) -> StoreAt {
        match &self.database {
            Some(url) => StoreAt::Postgres(url.clone()),
            None => StoreAt::File(self.data.join("esamsat.sqlite")),
        }
    }

    /// The configured PostgreSQL database, with its password from wherever that stands.
    pub fn postgres_address(&self) -> anyhow::Result<store_postgres::Address> {
        self.address_of(self.database.as_ref().context("the configuration names no database")?)
    }

    /// A PostgreSQL database, with the password from wherever that stands.
    pub fn address_of(&self, url: &DatabaseUrl) -> anyhow::Result<store_postgres::Address> {
        let password = match (std::env::var(DATABASE_PASSWORD), &self.database_password_file) {
            (Ok(password), _) => Some(password),
            (Err(_), Some(path)) => {
                let read = std::fs::read_to_string(path).map_err(|error| {
                    Fault::Unavailable(format!(
                        "failed to read the database's password from {}: {error}",
                        path.display()
                    ))
                })?;
                Some(read.trim_end_matches(['\r', '\n']).to_owned())
            }
            (Err(_), None) => None,
        };
        Ok(store_postgres::Address::parse(&url.0, password.as_deref())?)
    }

    fn check_upstream(&self, upstream: &Upstream) -> anyhow::Result<()> {
        match upstream {
            Upstream::Simulator(settings) => Ok(settings.check()?),
            Upstream::Iso8583(settings) => {
                settings.check().map_err(anyhow::Error::msg)?;
                let profile = line_profile(&settings.profile)?;
                if settings.line.len() > 1 && !profile.matches_terminal() {
                    bail!(
                        "profile {}: [identity] match lacks the terminal's field, and there are {} lines; add it, or \
                         keep one line: a question may go on another line than its payment did",
                        profile.name,
                        settings.line.len()
                    );
                }
                // A line stays up from sign-on on; what is asked on it must fit between its echo tests.
                if profile.echo_after < Duration::from_secs(1) {
                    bail!("profile {}: echo_after_ms must be at least 1000", profile.name);
                }
                let checked = self.check_answer_timeout(profile.answer_timeout);
                checked.with_context(|| format!("profile {}", profile.name))
            }
            Upstream::Relay(settings) => {
                settings.check().map_err(anyhow::Error::msg)?;
                relay_password(settings)?;
                self.check_answer_timeout(Duration::from_millis(settings.answer_timeout_ms))
            }
        }
    }

    /// Each upstream counts the trace numbers of its terminals by itself.
    fn check_terminals(&self) -> anyhow::Result<()> {
        let mut known = BTreeMap::new();
        for (name, upstream) in &self.upstream {
            let Upstream::Iso8583(settings) = upstream else { continue };
            for (line, address) in settings
                .line
                .iter()
                .flat_map(|line| line.addresses.iter().map(move |address| (line, address)))
            {
                if let Some(other) =
                    known.insert((&line.terminal, address), name).filter(|other| *other != name)
                {
                    bail!(
                        "upstreams {other} and {name} have the terminal {} at {address}; the bank could not tell \
                         their messages apart: take it away from one of them",
                        line.terminal
                    );
                }
            }
        }
        Ok(())
    }

    fn check_answer_timeout(&self, answer_timeout: Duration) -> anyhow::Result<()> {
        if answer_timeout >= Duration::from_millis(self.answer_within_ms) {
            bail!(
                "answer_timeout_ms is {}, and answer_within_ms of the configuration {}; \
                 make the first one less, so that whoever inquires is not given up before the upstream is",
                answer_timeout.as_millis(),
                self.answer_within_ms
            );
        }
        Ok(())
    }

    /// All simulated banks, by name.
    pub fn simulators(&self) -> impl Iterator<Item = (&String, &SimulatorSettings)> {
        self.upstream.iter().filter_map(|(name, upstream)| match upstream {
            Upstream::Simulator(settings) => Some((name, settings)),
            Upstream::Iso8583(_) | Upstream::Relay(_) => None,
        })
    }

    /// The ledger file of a simulated bank.
    pub fn bank_ledger(&self, upstream: &str) -> PathBuf {
        self.data.join(format!("bank-{upstream}.sqlite"))
    }

    /// The name and settings of the simulated bank that the sandbox commands speak of.
    pub fn simulator(&self) -> (String, SimulatorSettings) {
        match self.simulators().next() {
            Some((name, settings)) => (name.clone(), settings.clone()),
            None => (crate::demo::UPSTREAM.to_owned(), SimulatorSettings::default()),
        }
    }
}

/// The password at a provider, from wherever it stands.
pub fn relay_password(settings: &RelaySettings) -> anyhow::Result<Secret> {
    let password = match &settings.password_file {
        None => settings.password.clone().context("there is no password")?,
        Some(path) => {
            let read = std::fs::read_to_string(path).map_err(|error| {
                Fault::Unavailable(format!("failed to read the password from {}: {error}", path.display()))
            })?;
            Secret::new(read.trim_end_matches(['\r', '\n']))
        }
    };
    if password.expose().is_empty() {
        bail!("the password is empty");
    }
    Ok(password)
}

/// A line's dialect: one that is shipped, or a file.
pub fn line_profile(name: &str) -> anyhow::Result<LineProfile> {
    if let Some(profile) = LineProfile::builtin(name) {
        return Ok(profile);
    }
    let text = std::fs::read_to_string(name).map_err(|error| {
        let shipped: Vec<_> = LineProfile::builtin_names().collect();
        Fault::Unavailable(format!(
            "failed to read the profile {name}: {error}; name a file, or one that is shipped: {}",
            shipped.join(", ")
        ))
    })?;
    LineProfile::from_toml(&text)
        .map_err(|error| anyhow::anyhow!("the profile {name}, line {}: {}", error.line, error.message))
}
