//! The one binary, all but its `main`: commands, configuration, wiring; alone in naming a backend and a bank.
//!
//! stdout is data, stderr the rest. Exit codes: 0 done; 1 failed, or something is off; 2 wrong usage;
//! 3 what was named does not exist; 4 a rule forbids it; 5 cannot be reached or opened now.

mod ask;
mod bank_host;
mod bench;
mod commands;
mod config;
mod copy;
mod demo;
#[doc(hidden)]
pub mod fuzzing;
mod gateway;
mod output;
mod replacement;
mod serve;

use clap::{Parser, Subcommand};
use config::Place;
use std::{process::ExitCode, time::Duration};

/// The e-Samsat gateway: check and pay yearly vehicle tax from a prepaid deposit.
#[derive(Parser)]
#[command(version, propagate_version = true, max_term_width = 100)]
struct Arguments {
    #[command(flatten)]
    place: Place,

    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run a ready sandbox on the embedded database.
    Demo(demo::Arguments),
    /// Run the gateway.
    Serve(serve::Arguments),
    /// Look at the configuration.
    #[command(subcommand)]
    Config(commands::config::Command),
    /// Create the database, or bring its schema up to date.
    Migrate,
    /// Move an embedded database over to PostgreSQL. What was killed goes on when it is run again.
    Copy(copy::Arguments),
    /// Partners: who may call.
    #[command(subcommand)]
    Partner(commands::partner::Command),
    /// Deposits: money that partners paid in.
    #[command(subcommand)]
    Deposit(commands::deposit::Command),
    /// Products: what can be sold.
    #[command(subcommand)]
    Product(commands::product::Command),
    /// Invoices: inquiries and payments.
    #[command(subcommand)]
    Invoice(commands::invoice::Command),
    /// The ledger.
    #[command(subcommand)]
    Ledger(commands::ledger::Command),
    /// Payments whose outcome is open, and deciding them by hand.
    #[command(subcommand)]
    Pending(commands::pending::Command),
    /// What needs an operator's eye.
    #[command(subcommand)]
    Incident(commands::incident::Command),
    /// Re-prove the ledger from its postings, and the invoices against it.
    Verify,
    /// The lines to the banks of a running gateway, and messages in a dialect.
    #[command(subcommand)]
    Bank(commands::bank::Command),
    /// Run a bank at the other end of an ISO 8583 line, to try a gateway against.
    BankHost(bank_host::Arguments),
    /// The simulated Samsat and bank.
    #[command(subcommand)]
    Sandbox(commands::sandbox::Command),
    /// Drive a running gateway and measure it.
    Bench(bench::Arguments),
    /// Pay a whole province through a running gateway.
    Country(bench::country::Arguments),
    /// The bench's reference: the same web stack with nothing behind it.
    #[command(hide = true)]
    BenchReference,
}

/// Does what the command line says; the process's exit code.
pub fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let mut runtime = match arguments.command {
        // One thread is enough for what asks the database a question or two.
        Command::Demo(_)
        | Command::Serve(_)
        | Command::BankHost(_)
        | Command::Copy(_)
        | Command::Bench(_)
        | Command::BenchReference => tokio::runtime::Builder::new_multi_thread(),
        _ => tokio::runtime::Builder::new_current_thread(),
    };
    // Reads, writes, look-ups and password checks are bounded where they begin; this only keeps bursts from
    // making more threads than ever have work.
    let done = runtime.enable_all().max_blocking_threads(24).build().map_err(anyhow::Error::from).and_then(
        |runtime| {
            let done = runtime.block_on(run(arguments));
            // Dropping the store puts its log into the database; the rest ends with the process.
            runtime.shutdown_timeout(Duration::from_secs(2));
            done
        },
    );
    match done {
        Ok(code) => code,
        Err(error) => output::failed(&error),
    }
}

async fn run(arguments: Arguments) -> anyhow::Result<ExitCode> {
    let place = arguments.place;
    match arguments.command {
        Command::Demo(demo) => demo::run(&place, demo).await?,
        Command::Serve(serve) => serve::run(&place, serve).await?,
        Command::Config(command) => commands::config::run(&place, &command).await?,
        Command::Migrate => commands::migrate(&place).await?,
        Command::Copy(copy) => copy::run(&place, copy).await?,
        Command::Partner(command) => commands::partner::run(&place, command).await?,
        Command::Deposit(command) => commands::deposit::run(&place, command).await?,
        Command::Product(command) => commands::product::run(&place, command).await?,
        Command::Invoice(command) => commands::invoice::run(&place, command).await?,
        Command::Ledger(command) => commands::ledger::run(&place, command).await?,
        Command::Pending(command) => commands::pending::run(&place, command).await?,
        Command::Incident(command) => commands::incident::run(&place, command).await?,
        Command::Verify => return commands::verify::run(&place).await,
        Command::Bank(command) => commands::bank::run(&place, command).await?,
        Command::BankHost(host) => bank_host::run(&place, host).await?,
        Command::Sandbox(command) => commands::sandbox::run(&place, command).await?,
        Command::Bench(bench) => bench::run(bench, place.json).await?,
        Command::Country(country) => return bench::country::run(&place, country).await,
        Command::BenchReference => bench::reference::run().await?,
    }
    Ok(ExitCode::SUCCESS)
}
