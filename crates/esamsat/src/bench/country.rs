//! `esamsat country`: pays a whole province of the simulator's population through a running gateway, each vehicle
//! once, as fast as it goes.
//!
//! ```text
//! state    how far it got: a file, from which a killed run goes on
//! drive    the workers
//! report   how long it took, how throughput went, what it left on disk
//! ```
//!
//! What it keeps true: a vehicle counts as done only if the gateway said that it is paid; what was begun and not
//! done is in the file, and is tried again by the next run. That nothing is paid twice is the gateway's to keep;
//! `verify` and the number of its invoices tell in the end.

mod drive;
mod report;
mod state;

use super::{
    VEHICLES_PAYABLE,
    partners::Partners,
    prepare,
    progress::Progress,
    target::{Driven, Target},
};
use crate::{
    commands::verify,
    config::{Config, Place},
    output::{self, Fault, line},
};
use anyhow::{Context, bail};
use clap::Args;
use drive::Country;
use report::Report;
use state::State;
use std::{path::PathBuf, process::ExitCode, rc::Rc};
use tokio::task::LocalSet;

const VEHICLES: u32 = 20_000_000;

/// The flags of `country`.
#[derive(Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    driven: Driven,

    #[command(flatten)]
    partners: Partners,

    /// How many vehicles to pay [default: 20000000, or what the state file says]
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=i64::from(VEHICLES_PAYABLE)))]
    vehicles: Option<u32>,

    /// The first vehicle, counted among the payable ones of the simulator's population
    /// [default: 0, or what the state file says]
    #[arg(long, value_name = "INDEX", value_parser = clap::value_parser!(u32).range(..i64::from(VEHICLES_PAYABLE)))]
    from: Option<u32>,

    /// Where it is written down how far the run got; the same file again goes on from there
    #[arg(long, value_name = "FILE", default_value = "esamsat-country.json")]
    state: PathBuf,

    /// Only print what the state file says
    #[arg(long)]
    report: bool,
}

/// Pays what is left to pay, prints, verifies.
pub(crate) async fn run(place: &Place, arguments: Arguments) -> anyhow::Result<ExitCode> {
    if arguments.report {
        let state = State::read(&arguments.state)?.ok_or_else(|| {
            Fault::NotFound(format!(
                "there is no state file {}; name it with --state",
                arguments.state.display()
            ))
        })?;
        Report::new(&state).print(place.json);
        return Ok(ExitCode::SUCCESS);
    }
    let mut state = begin(&arguments)?;
    if !state.is_complete() {
        let config = Config::load(place)?;
        let driven = tokio::task::spawn_blocking(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            LocalSet::new().block_on(&runtime, drive(&config, &arguments, state))
        });
        state = driven.await.context("the load generator panicked")??;
    }
    finish(place, &state).await
}

/// What the file says, as far as the flags agree.
fn begin(arguments: &Arguments) -> anyhow::Result<State> {
    let path = arguments.state.display();
    let mut state = match State::read(&arguments.state)? {
        Some(state) => state,
        None => State::new(arguments.from.unwrap_or(0), arguments.vehicles.unwrap_or(VEHICLES)),
    };
    if let Some(from) = arguments.from.filter(|from| *from != state.from) {
        bail!(Fault::Usage(format!(
            "{path} is of a run --from {}, not {from}; name another --state for another run",
            state.from
        )));
    }
    state.vehicles = arguments.vehicles.unwrap_or(state.vehicles);
    if state.next > state.vehicles {
        bail!(Fault::Usage(format!(
            "{path} has {} vehicles behind it already; raise --vehicles",
            state.next
        )));
    }
    if state.vehicles > VEHICLES_PAYABLE - state.from {
        let left = VEHICLES_PAYABLE - state.from;
        bail!(Fault::Usage(format!("there are {left} vehicles from {} on; lower --vehicles", state.from)));
    }
    Ok(state)
}

async fn drive(config: &Config, arguments: &Arguments, state: State) -> anyhow::Result<State> {
    let credentials = arguments.partners.credentials();
    let target = Rc::new(Target::resolve(arguments.driven.url.clone(), credentials).await?);
    let progress = Progress::default();
    prepare::log_in(&target, &progress).await?;
    let country = Country::new(state, arguments.state.clone(), target.partners.len());
    country.drive(config, &target, arguments.driven.connections, &progress).await
}

/// Says what came of it, and proves it.
async fn finish(place: &Place, state: &State) -> anyhow::Result<ExitCode> {
    let mut report = Report::new(state);
    if !place.json {
        report.print(false);
        line("");
    }
    let config = Config::load(place)?;
    let verified = verify::check(&config).await.context("failed to verify the gateway's database")?;
    let confirmed = verified.checked.invoices.get("CONFIRM").copied().unwrap_or(0);
    let is_fine = verified.is_clean() && confirmed >= state.done();
    if place.json {
        report.verify = Some(verified);
        output::json(&report);
    } else {
        verify::print(&config, &verified);
    }
    if confirmed < state.done() {
        bail!(
            "{} vehicles are paid, and this database has {confirmed} CONFIRM invoices; name the gateway's own with \
             --data or --config",
            state.done()
        );
    }
    if !state.is_complete() {
        bail!(Fault::Refused(format!(
            "{} vehicles could not be paid; the same command again tries them again",
            state.open.len()
        )));
    }
    Ok(if is_fine { ExitCode::SUCCESS } else { ExitCode::from(1) })
}
