//! `esamsat bank-host`: a bank at the other end of an ISO 8583 line, with books of its own, that fails on demand.
//!
//! The line is served on one port, and a control API on another one, on loopback only: who reaches it can make the
//! bank lie.

mod control;
mod faults;

use crate::{
    commands::{self, time},
    config::{Config, LogFormat, Place, line_profile},
    gateway,
    output::{self, Fault, Table, line, rupiah},
    serve,
};
use anyhow::{Context, ensure};
use bank::{
    host::{Host, HostFaults},
    simulator::population,
};
use clap::{Args, Subcommand};
use engine::SystemClock;
use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

/// The flags of `bank-host`.
#[derive(Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,

    /// Where lines connect to
    #[arg(long, default_value = "127.0.0.1:9100", value_name = "ADDRESS")]
    listen: SocketAddr,
    /// Where the control API listens; on loopback
    #[arg(long, default_value = "127.0.0.1:9101", value_name = "ADDRESS")]
    control: SocketAddr,
    /// The dialect: a profile's file, or a shipped one's name
    #[arg(long, default_value = "demo", value_name = "PROFILE")]
    profile: String,
    /// What goes wrong from the start (TOML); more can be set at run time
    #[arg(long, value_name = "FILE")]
    faults: Option<PathBuf>,
    /// What random faults follow from
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

/// What else there is.
#[derive(Subcommand)]
enum Command {
    /// What the bank has been paid.
    Ledger,
    /// What goes wrong at a bank host that runs.
    Faults(faults::Arguments),
}

/// The file of a host's ledger.
fn ledger_path(config: &Config) -> PathBuf {
    config.data.join("bank-host.sqlite")
}

/// Runs until SIGINT or SIGTERM, or does what else was asked for.
pub async fn run(place: &Place, arguments: Arguments) -> anyhow::Result<()> {
    let mut config = Config::load(place)?;
    if place.data.is_none() && place.config.is_none() {
        config.data = "esamsat-bank-host".into();
    }
    match arguments.command {
        Some(Command::Ledger) => return ledger(&config, place.json).await,
        Some(Command::Faults(faults)) => return faults::run(faults, place.json).await,
        None => {}
    }
    ensure!(
        arguments.control.ip().is_loopback(),
        Fault::Usage(format!(
            "--control {} is not on loopback; whoever reaches it can make the bank lie",
            arguments.control
        ))
    );
    if std::env::var_os("ESAMSAT_LOG").is_none() && place.config.is_none() {
        "warn,bank=info".clone_into(&mut config.log);
    }
    gateway::start_logging(&config, LogFormat::Text);
    let faults = arguments.faults.as_deref().map(read_faults).transpose()?.unwrap_or_default();
    let listener = listen(arguments.listen, "--listen").await?;
    let control = listen(arguments.control, "--control").await?;
    let profile = line_profile(&arguments.profile)?;
    fs::create_dir_all(&config.data).with_context(|| {
        format!("failed to create the folder {}; name another one with --data", config.data.display())
    })?;
    let path = ledger_path(&config);
    let host =
        Host::open(profile, &path, population::VEHICLES_MAX, (faults, arguments.seed), Arc::new(SystemClock))
            .map_err(|error| Fault::Unavailable(format!("failed to open {}: {error}", path.display())))?;
    let mut signals = serve::Signals::listen()?;
    let (listen, control_address) = (listener.local_addr()?, control.local_addr()?);
    greet(listen, control_address, &arguments.profile, &config);

    let stop = CancellationToken::new();
    let (serving, stopping) = (Arc::clone(&host), stop.clone());
    let lines = tokio::spawn(async move { serving.serve(listener, stopping).await });
    let controlled = tokio::spawn(control::serve(host, control, stop.clone()));
    signals.first().await;
    stop.cancel();
    lines.await.context("the host panicked")?;
    controlled.await.context("the control API panicked")?;
    Ok(())
}

async fn listen(address: SocketAddr, flag: &str) -> anyhow::Result<TcpListener> {
    let listening = TcpListener::bind(address).await;
    Ok(listening.map_err(|error| {
        Fault::Unavailable(format!("failed to listen on {address}: {error}; choose another {flag}"))
    })?)
}

fn read_faults(path: &Path) -> anyhow::Result<HostFaults> {
    let text = fs::read_to_string(path)
        .map_err(|error| Fault::Unavailable(format!("failed to read {}: {error}", path.display())))?;
    let faults: HostFaults =
        toml::from_str(&text).with_context(|| format!("failed to read the faults in {}", path.display()))?;
    faults.check().map_err(|what| anyhow::anyhow!("{}: {what}", path.display()))?;
    Ok(faults)
}

fn greet(listen: SocketAddr, control: SocketAddr, profile: &str, config: &Config) {
    let program = commands::program();
    let data = config.data.display();
    line(format!(
        "\
esamsat bank-host: a bank with play money, profile {profile}, at {listen}. Data: {data} (kept between runs).

In another terminal, a gateway that asks it:

{program} demo --bank {listen}

What goes wrong, how it stands, and what it was paid:

curl -s http://{control}/state
curl -s -X PUT http://{control}/faults -d '{{\"silent\": 0.5}}'
{program} bank-host faults clear --control {control}
curl -s -X POST http://{control}/cut-over
{program} bank-host ledger --data {data}

Stop with Ctrl-C; kill it if you like: what it took, it has taken."
    ));
}

async fn ledger(config: &Config, as_json: bool) -> anyhow::Result<()> {
    let path = ledger_path(config);
    ensure!(
        path.exists(),
        Fault::NotFound(format!(
            "there is no bank's ledger at {}; name its folder with --data",
            path.display()
        ))
    );
    let payments = bank::host::read_ledger(&path, Arc::new(SystemClock))
        .await
        .map_err(|error| Fault::Unavailable(format!("failed to read {}: {error}", path.display())))?;
    if as_json {
        let rows: Vec<_> = payments.iter().map(control::payment_json).collect();
        output::json(&rows);
        return Ok(());
    }
    let mut table =
        Table::new(&["Paid (WIB)", "Identity", "Payment code", ">Amount Rp", "Reference", "Reversed"]);
    for payment in payments {
        table.row([
            time(payment.paid_at),
            payment.identity,
            payment.payment_code.to_string(),
            rupiah(payment.amount),
            payment.receipt.reference_number,
            if payment.generation < 0 { "yes" } else { "" }.to_owned(),
        ]);
    }
    table.print("The bank has been paid nothing yet.");
    Ok(())
}
