//! A seeded simulation of the whole gateway: the real engine, journal, resolver, leases and rules, on virtual time,
//! with everything around it made up: partners, operators, a bank, a store that fails, processes that die.
//!
//! One seed decides everything; the same seed gives the same trace. An auditor that shares no rule with the engine
//! looks at every commit, every message and every answer. First faults strike; then they stop, and within bounded
//! time every payment must be final, as the bank has it.
//!
//! In another kind of runs (`line`) the bank is no simulated one, but the real host behind real ISO 8583 lines.
//!
//! Deliberately absent: real sockets and PostgreSQL. See `docs/internals/proof.md`.

mod auditor;
mod bank;
mod bugs;
mod clock;
mod database;
mod gate;
mod less;
mod line;
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
pub use less::{Less, shrink};
pub use line::probes as line_probes;
pub use power::POWER_PROBES;
pub use record::Wrong;

use crate::world::{Terms, World};
use std::{
    collections::BTreeMap,
    fmt::{self, Write},
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
    /// The model, and real ISO 8583 lines to a real bank host.
    Lines,
}

/// One run to be made.
#[derive(Clone, Debug)]
pub struct Run {
    /// What is under it.
    pub backend: Backend,
    /// What decides everything in it.
    pub seed: u64,
    /// What it has less of than the seed draws.
    pub less: Less,
    /// A deliberate bug.
    pub bug: Option<Bug>,
    /// Whether all that happens is to be told.
    pub trace: bool,
}

/// What came of a run.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// Which it was.
    pub run: Run,
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
        let mut report = format!("{}:\n", self.run);
        for wrong in &self.wrongs {
            let invoice = wrong.invoice.map(|number| format!("invoice {number}: ")).unwrap_or_default();
            _ = writeln!(report, "  {invoice}{}", wrong.what);
        }
        report.push_str("what led there:\n");
        for line in &self.timeline {
            _ = writeln!(report, "  {line}");
        }
        _ = writeln!(report, "again: cargo xtask sim {} --trace", self.run.arguments());
        report
    }
}

impl Run {
    /// The seed's run on the model.
    pub fn of(seed: u64) -> Self {
        Self { backend: Backend::Model, seed, less: Less::default(), bug: None, trace: false }
    }

    /// The same with less.
    #[must_use]
    pub fn with(&self, less: Less) -> Self {
        Self { less, ..self.clone() }
    }

    /// How the command line asks for it.
    pub fn arguments(&self) -> String {
        let kind = match self.backend {
            Backend::Model => "",
            Backend::Sqlite => "--store sqlite ",
            Backend::Lines => "--line ",
        };
        let less =
            if self.less == Less::default() { String::new() } else { format!(" --less {}", self.less) };
        format!("{kind}--seed {}{less}", self.seed)
    }

    pub(crate) fn terms(&self) -> Terms {
        let mut terms = match self.backend {
            Backend::Lines => line::Terms::draw(self.seed).world,
            Backend::Model | Backend::Sqlite => Terms::draw(self.seed),
        };
        self.less.apply(&mut terms);
        terms
    }

    /// Runs it.
    pub fn go(&self) -> Outcome {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .expect("a runtime without I/O can be built");
        runtime.block_on(async {
            if self.backend == Backend::Lines {
                let (world, bank, books) = line::furnish(self);
                self.outcome(&world, line::live(&world, &bank, &books)).await
            } else {
                let world = World::new(self);
                self.outcome(&world, live(&world)).await
            }
        })
    }

    async fn outcome(&self, world: &World, life: impl Future<Output = ()>) -> Outcome {
        tokio::select! {
            biased;
            () = world.record.went_wrong() => {}
            () = life => {}
        }
        let wrongs = world.record.wrongs();
        let concerned = wrongs.iter().find_map(|wrong| wrong.invoice);
        let timeline = if self.trace {
            world.record.timeline(None)
        } else if wrongs.is_empty() {
            Vec::new()
        } else {
            world.record.timeline(concerned)
        };
        Outcome {
            run: self.clone(),
            wrongs,
            trace_hash: world.record.hash(),
            payments: world.auditor.payments(),
            faults: world.record.faults(),
            simulated: world.record.elapsed(),
            probes: world.record.probes(),
            timeline,
        }
    }
}

impl fmt::Display for Run {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "seed {}", self.seed)?;
        if self.less != Less::default() {
            write!(f, ", with {}", self.less)?;
        }
        Ok(())
    }
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
