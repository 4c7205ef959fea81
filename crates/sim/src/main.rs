//! `sim --seeds A..B` runs seeds until one fails; `sim --seed N --trace` shows one; `--store sqlite` before it puts the
//! embedded database under the run.
//!
//! stdout has the outcome, stderr the progress. Exit code 1: a seed failed, or a probe was never reached.

use anyhow::{Context, Result, anyhow, bail, ensure};
use sim::{Backend, Less, Outcome, Run, line_probes, probes};
use std::{
    collections::BTreeMap,
    io::Write,
    ops::Range,
    process::ExitCode,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

const USAGE: &str = "\
usage: cargo xtask sim --seeds A..B     run these seeds (B is not among them), on all cores
       cargo xtask sim --seed N         run one seed
       cargo xtask sim --seed N --trace and print all that happened in it
       cargo xtask sim --seed N --less gateways=1,storm_s=20 [--trace]  with less than it draws
       cargo xtask sim --store sqlite … on the embedded database, on a machine that loses power
       cargo xtask sim --line …         with real ISO 8583 lines and a real bank host";

/// What the command line asks for.
enum Wish {
    Seeds(Range<u64>),
    One(Run),
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (backend, arguments) = match &arguments[..] {
        [option, store, rest @ ..] if option == "--store" && store == "sqlite" => (Backend::Sqlite, rest),
        [option, rest @ ..] if option == "--line" => (Backend::Lines, rest),
        all => (Backend::Model, all),
    };
    let wish = match wish(arguments) {
        Ok(wish) => wish,
        Err(error) => {
            eprintln!("error: {error:#}\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    let outcome = match wish {
        Wish::Seeds(seeds) => many(backend, seeds),
        Wish::One(run) => one(&Run { backend, ..run }),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn wish(arguments: &[String]) -> Result<Wish> {
    let number = |text: &str| text.parse::<u64>().with_context(|| format!("{text} is not a seed"));
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["--seeds", range] => {
            let (first, end) = range.split_once("..").context("seeds are given as A..B")?;
            let seeds = number(first)?..number(end)?;
            ensure!(!seeds.is_empty(), "there is no seed in {range}");
            Ok(Wish::Seeds(seeds))
        }
        ["--seed", seed, ref rest @ ..] => {
            let run = Run::of(number(seed)?);
            let (rest, trace) = match rest {
                [rest @ .., "--trace"] => (rest, true),
                rest => (rest, false),
            };
            let less = match rest {
                [] => Less::default(),
                ["--less", less] => less.parse().map_err(|said: String| anyhow!(said))?,
                _ => bail!("what follows the seed is not understood"),
            };
            Ok(Wish::One(Run { less, trace, ..run }))
        }
        _ => bail!("say which seeds"),
    }
}

fn one(run: &Run) -> Result<()> {
    let outcome = run.go();
    let mut out = std::io::stdout().lock();
    if run.trace {
        for line in &outcome.timeline {
            writeln!(out, "{line}")?;
        }
    }
    writeln!(
        out,
        "{run}: trace {:016x}, {} payments, {} faults, {:.0} s simulated",
        outcome.trace_hash,
        outcome.payments,
        outcome.faults,
        outcome.simulated.as_secs_f64()
    )?;
    if outcome.wrongs.is_empty() {
        return Ok(());
    }
    let shown =
        Outcome { timeline: if run.trace { Vec::new() } else { outcome.timeline.clone() }, ..outcome };
    write!(out, "{}", shown.report())?;
    bail!("{run} fails")
}

/// What many seeds came to together.
#[derive(Default)]
struct Total {
    seeds: u64,
    payments: u64,
    faults: u64,
    simulated: Duration,
    probes: BTreeMap<String, u64>,
    failed: Option<Outcome>,
}

impl Total {
    fn add(&mut self, outcome: Outcome) {
        self.seeds += 1;
        self.payments += outcome.payments;
        self.faults += outcome.faults;
        self.simulated += outcome.simulated;
        for (name, count) in &outcome.probes {
            *self.probes.entry(name.clone()).or_default() += count;
        }
        let is_first = self.failed.as_ref().is_none_or(|failed| outcome.run.seed < failed.run.seed);
        if !outcome.wrongs.is_empty() && is_first {
            self.failed = Some(outcome);
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "how long a developer waited; nothing is decided on it")]
fn now() -> Instant {
    Instant::now()
}

fn many(backend: Backend, seeds: Range<u64>) -> Result<()> {
    let next = AtomicU64::new(seeds.start);
    let total = Mutex::new(Total::default());
    let began = now();
    let workers = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    std::thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= seeds.end {
                        return;
                    }
                    let outcome = Run { backend, ..Run::of(seed) }.go();
                    let mut total = total.lock().unwrap_or_else(PoisonError::into_inner);
                    total.add(outcome);
                    if total.seeds.is_multiple_of(500) {
                        eprintln!(
                            "{} seeds, {:.1} a second, {} payments",
                            total.seeds,
                            rate(total.seeds, began),
                            total.payments
                        );
                    }
                    if total.failed.is_some() {
                        return;
                    }
                }
            });
        }
    });
    let total = total.into_inner().unwrap_or_else(PoisonError::into_inner);
    let mut out = std::io::stdout().lock();
    for (name, count) in &total.probes {
        writeln!(out, "{count:>10}  {name}")?;
    }
    writeln!(
        out,
        "{} seeds in {:.1} s ({:.1} a second), {:.0} h simulated, {} payments, {} faults ({:.2} a payment)",
        total.seeds,
        (now() - began).as_secs_f64(),
        rate(total.seeds, began),
        total.simulated.as_secs_f64() / 3_600.0,
        total.payments,
        total.faults,
        as_float(total.faults) / as_float(total.payments.max(1)),
    )?;
    if let Some(failed) = total.failed {
        eprintln!("{} fails; looking for what it needs", failed.run);
        let (_, shrunk) = sim::shrink(&failed.run, &failed);
        write!(out, "{}", shrunk.report())?;
        bail!("{} fails", failed.run);
    }
    let (usual, rare) = match backend {
        Backend::Model => (probes::USUAL, probes::RARE),
        // A power cut ends much of what would have become rare.
        Backend::Sqlite => (probes::USUAL, sim::POWER_PROBES),
        Backend::Lines => (line_probes::USUAL, line_probes::RARE),
    };
    let mut required = Vec::new();
    // Fewer seeds need not reach everything.
    if total.seeds >= 100 {
        required.extend_from_slice(usual);
    }
    if total.seeds >= if backend == Backend::Sqlite { 100 } else { 2_000 } {
        required.extend_from_slice(rare);
    }
    let missed = probes::missed(&total.probes, &required);
    ensure!(missed.is_empty(), "never reached: {}", missed.join("; "));
    Ok(())
}

fn rate(seeds: u64, began: Instant) -> f64 {
    as_float(seeds) / (now() - began).as_secs_f64().max(0.001)
}

/// Counts of a run are far below where this loses anything.
fn as_float(count: u64) -> f64 {
    f64::from(u32::try_from(count).unwrap_or(u32::MAX))
}
