//! `esamsat bank`: how the lines of a running gateway stand, and messages of a dialect for people.

use crate::{
    ask::ask,
    commands::time,
    config::{Config, Place, line_profile},
    output::{self, Fault, Table, line},
};
use anyhow::{Context, bail};
use bank::LineState;
use clap::{Args, Subcommand};
use hyper::{Method, body::Bytes};
use std::{
    collections::BTreeMap,
    io::{IsTerminal, Read},
    net::SocketAddr,
};

/// The commands.
#[derive(Subcommand)]
pub enum Command {
    /// How the lines to the banks stand, at a running gateway.
    Status(Status),
    /// Print a message readably, personal data masked: raw bytes or hexadecimal text on stdin.
    Describe(Describe),
    /// Print a shipped profile, to begin one's own with.
    Profile {
        /// Which
        name: Option<String>,
    },
}

/// Which gateway.
#[derive(Args)]
pub struct Status {
    /// Where the gateway listens [default: what the configuration says]
    #[arg(long, value_name = "ADDRESS")]
    gateway: Option<SocketAddr>,
}

/// Which dialect.
#[derive(Args)]
pub struct Describe {
    /// The dialect: a profile's file, or a shipped one's name
    #[arg(long, value_name = "PROFILE")]
    profile: String,
}

/// Bytes of a message on stdin.
const BYTES_MAX: usize = 1024 * 1024;

/// Runs one.
pub async fn run(place: &Place, command: Command) -> anyhow::Result<()> {
    let config = Config::load(place)?;
    match command {
        Command::Status(status) => print_lines(&config, status, place.json).await,
        Command::Describe(describe) => print_message(&describe),
        Command::Profile { name } => print_profile(name.as_deref()),
    }
}

async fn print_lines(config: &Config, status: Status, json: bool) -> anyhow::Result<()> {
    let address = status.gateway.unwrap_or(config.listen);
    let body = ask_for_lines(address).await.map_err(|error| {
        Fault::Unavailable(format!(
            "failed to ask the gateway at {address}: {error:#}; is it running, and is this machine in metrics_networks?"
        ))
    })?;
    let lines: BTreeMap<String, Vec<LineState>> =
        serde_json::from_slice(&body).context("the gateway's answer cannot be read")?;
    if json {
        output::json(&lines);
        return Ok(());
    }
    let mut table = Table::new(&[
        "Upstream",
        "Line",
        "Up",
        "State",
        "Since (WIB)",
        "Business day",
        ">In flight",
        ">Sent",
        ">Answered",
        ">Timed out",
        ">Late",
        ">Garbled",
        "Last error",
    ]);
    for (upstream, lines) in lines {
        for line in lines {
            let count = |name: &str| line.counts.get(name).map(ToString::to_string).unwrap_or_default();
            table.row([
                upstream.clone(),
                line.name.clone(),
                if line.is_up { "yes" } else { "NO" }.to_owned(),
                line.state.clone(),
                line.since.map(time).unwrap_or_default(),
                line.business_date.clone().unwrap_or_default(),
                line.in_flight.to_string(),
                count("sent"),
                count("answered"),
                count("timed_out"),
                count("late"),
                count("garbled"),
                line.last_error.clone().unwrap_or_default(),
            ]);
        }
    }
    table.print("The gateway has no upstream.");
    Ok(())
}

async fn ask_for_lines(address: SocketAddr) -> anyhow::Result<Bytes> {
    let (status, body) = ask(address, Method::GET, "/health/lines", Bytes::new()).await?;
    if !status.is_success() {
        bail!("it answers {status}");
    }
    Ok(body)
}

fn print_message(describe: &Describe) -> anyhow::Result<()> {
    let profile = line_profile(&describe.profile)?;
    if std::io::stdin().is_terminal() {
        bail!(Fault::Usage(
            "give the message on stdin: esamsat bank describe --profile … < message".to_owned()
        ));
    }
    let mut bytes = Vec::new();
    let limit = u64::try_from(BYTES_MAX).expect("a million");
    std::io::stdin().take(limit).read_to_end(&mut bytes).context("failed to read stdin")?;
    // Of readings that all fail, the one that came furthest was meant.
    let furthest = readings(bytes)
        .iter()
        .map(|bytes| profile.spec.decode(bytes))
        .max_by_key(|read| read.as_ref().map_or_else(|error| error.offset, |_| usize::MAX));
    match furthest.expect("the bytes as they are were tried at least") {
        Ok(message) => line(profile.spec.describe(&message).to_string()),
        Err(error) => bail!("the message does not fit the profile {}: {error}", profile.name),
    }
    Ok(())
}

/// The bytes as they are, without a line's end, and as hexadecimal text.
fn readings(bytes: Vec<u8>) -> Vec<Vec<u8>> {
    let trimmed = bytes.trim_ascii_end().to_vec();
    let digits: Vec<u8> = bytes.iter().copied().filter(|byte| !byte.is_ascii_whitespace()).collect();
    let half = |digit: u8| char::from(digit).to_digit(16);
    let from_hex: Option<Vec<u8>> = digits
        .chunks(2)
        .map(|pair| match pair {
            [high, low] => u8::try_from(half(*high)? * 16 + half(*low)?).ok(),
            _ => None,
        })
        .collect();
    [bytes, trimmed].into_iter().chain(from_hex).collect()
}

fn print_profile(name: Option<&str>) -> anyhow::Result<()> {
    let names = || bank::profile::LineProfile::builtin_names().collect::<Vec<_>>().join(", ");
    match name {
        None => line(format!("The shipped profiles: {}", names())),
        Some(name) => match bank::profile::LineProfile::builtin_text(name) {
            Some(text) => line(text.trim_end()),
            None => {
                bail!(Fault::NotFound(format!("there is no shipped profile {name}; there are {}", names())))
            }
        },
    }
    Ok(())
}
