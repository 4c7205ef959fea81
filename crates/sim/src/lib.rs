//! A seeded simulation of the whole gateway: the real engine, journal, resolver, leases and rules, on virtual time,
//! with everything around it made up: partners, operators, a bank, a store that fails, processes that die.
//!
//! One seed decides everything; the same seed gives the same trace. An auditor that shares no rule with the engine
//! looks at every commit, every message and every answer. First faults strike; then they stop, and within bounded
//! time every payment must be final, as the bank has it.
//!
//! Deliberately absent: sockets, PostgreSQL, and shrinking. See `docs/internals/proof.md`.

mod auditor;
mod bank;
mod bugs;
mod clock;
mod database;
mod gate;
mod nature;
mod operator;
mod partner;
mod power;
pub mod probes;
mod random;
mod record;
mod store;
mod world;

pub use bugs::Bug;
pub use power::POWER_PROBES;
pub use record::Wrong;

use crate::world::World;
use std::{
    collections::BTreeMap,
    fmt::Write,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};
use tokio::time::sleep;

/// How long after the faults every payment must be final. A clock that was an hour ahead keeps a payment open for as
/// long.
const FINAL_WITHIN: Duration = Duration::from_hours(3);

/// What is under a run.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Backend {
    /// The in-memory model.
    Model,
    /// The embedded database, on a machine that loses power.
    Sqlite,
}

/// What came of one seed.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// What it ran on.
    pub backend: Backend,
    /// The seed.
    pub seed: u64,
    /// What did not hold; nothing, if all is well.
    pub wrongs: Vec<Wrong>,
    /// Tells two traces apart.
    pub trace_hash: u64,
    /// Payments that were begun.
    pub payments: u64,
    /// Faults that struck.
    pub faults: u64,
    /// How long the run was, in its own time.
    pub simulated: Duration,
    /// How often each branch was reached.
    pub probes: BTreeMap<String, u64>,
    /// The lines about the first invoice that went wrong; or, where `trace` was asked for, all lines.
    pub timeline: Vec<String>,
}

impl Outcome {
    /// What went wrong and what led there, for people; nothing if all is well.
    pub fn report(&self) -> String {
        if self.wrongs.is_empty() {
            return String::new();
        }
        let mut report = format!("seed {}:\n", self.seed);
        for wrong in &self.wrongs {
            let invoice = wrong.invoice.map(|number| format!("invoice {number}: ")).unwrap_or_default();
            _ = writeln!(report, "  {invoice}{}", wrong.what);
        }
        report.push_str("what led there:\n");
        for line in &self.timeline {
            _ = writeln!(report, "  {line}");
        }
        let store = if self.backend == Backend::Sqlite { "--store sqlite " } else { "" };
        _ = writeln!(report, "again: cargo xtask sim {store}--seed {} --trace", self.seed);
        report
    }
}

/// Runs one seed on the model, with a deliberate bug or with none.
pub fn run(seed: u64, bug: Option<Bug>, trace: bool) -> Outcome {
    run_on(Backend::Model, seed, bug, trace)
}

/// Runs one seed.
pub fn run_on(backend: Backend, seed: u64, bug: Option<Bug>, trace: bool) -> Outcome {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .expect("a runtime without I/O can be built");
    runtime.block_on(async {
        let world = World::new(backend, seed, bug);
        tokio::select! {
            biased;
            () = world.record.went_wrong() => {}
            () = live(&world) => {}
        }
        let wrongs = world.record.wrongs();
        let concerned = wrongs.iter().find_map(|wrong| wrong.invoice);
        let timeline = if trace {
            world.record.timeline(None)
        } else if wrongs.is_empty() {
            Vec::new()
        } else {
            world.record.timeline(concerned)
        };
        Outcome {
            backend,
            seed,
            wrongs,
            trace_hash: world.record.hash(),
            payments: world.auditor.payments(),
            faults: world.record.faults(),
            simulated: world.record.elapsed(),
            probes: world.record.probes(),
            timeline,
        }
    })
}

async fn live(world: &Arc<World>) {
    let upstream = world.furnish().await;
    for index in 0..world.gateways.len() {
        tokio::spawn(Arc::clone(world).supervise(index));
    }
    let mut people = tokio::task::JoinSet::new();
    for index in 0..world.terms.partners {
        people.spawn(partner::partner(Arc::clone(world), usize::try_from(index).expect("few partners")));
    }
    people.spawn(operator::operators(Arc::clone(world), upstream));
    tokio::spawn(operator::deciders(Arc::clone(world)));
    let nature = tokio::spawn(nature::nature(Arc::clone(world)));
    let power = tokio::spawn(power::power(Arc::clone(world)));

    sleep(world.terms.stormy_for).await;
    nature.abort();
    power.abort();
    if let Some(database) = &world.database {
        database.keep_power();
    }
    world.calm_down();
    world.is_over.store(true, Ordering::Relaxed);
    // The last of them are at most a minute with a request, and a minute with waiting for the next.
    while people.join_next().await.is_some() {}

    let calm_since = world.record.elapsed();
    while !world.auditor.open().is_empty() && world.record.elapsed().saturating_sub(calm_since) < FINAL_WITHIN
    {
        sleep(Duration::from_secs(1)).await;
    }
    if world.auditor.open().is_empty() {
        world.record.probe("faults ended, all final");
    }
    // Whatever still comes late, comes now; and what was lost is written off.
    sleep(world.terms.profile.horizon * 2 + world.terms.profile.answer_timeout * 2 + Duration::from_mins(2))
        .await;
    world.auditor.over();
    if let Some(database) = &world.database {
        database.compare();
    }
}
