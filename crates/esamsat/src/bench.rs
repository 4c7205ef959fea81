//! `esamsat bench`: drives a running gateway as partners would, and measures it.
//!
//! ```text
//! target      where the gateway is and who calls it: requests, ready as bytes
//! partners    who calls: the flags
//! client      one keep-alive connection; reads answers
//! answer      what an answer says, or how a request failed
//! caller      a partner's connection: inquires, pays
//! schedule    when requests are due, and which of them count
//! load        the workers: inquire, pay, or both, as long as the schedule says
//! tally       what was seen: latencies, counts, failures
//! prepare     log in every partner, and one payment to see that payments work
//! pgbench     `PostgreSQL`'s own benchmark, as child processes
//! reference   the same web stack with nothing behind it, as a child process
//! report      tables and JSON
//! country     `esamsat country`: a whole province, with the same pieces
//! ```
//!
//! What it keeps true: latency counts from the moment a request was due, not from when there was a
//! connection free for it; what was due and never sent counts too; an answer is a success only if it says so
//! and is about what was asked; nothing of the warm-up counts. It runs on one thread, so that on a small
//! machine it leaves the cores to what it measures.
//!
//! Deliberately absent: TLS (a proxy ends it in front of the gateway), HTTP/2, and any other machine's load.

mod answer;
mod caller;
mod client;
pub(crate) mod country;
mod load;
mod partners;
mod pgbench;
mod prepare;
mod progress;
pub(crate) mod reference;
mod report;
mod schedule;
mod tally;
mod target;

use crate::output::Fault;
use anyhow::{Context, bail};
use bank::simulator::population::VEHICLES_MAX;
use clap::{Args, ValueEnum};
use domain::Clock;
use load::{Bench, Work};
use partners::Partners;
use pgbench::Pgbench;
use progress::Progress;
use report::Report;
use serde::Serialize;
use std::{rc::Rc, time::Duration};
use tally::Tally;
use target::{Driven, Target};
use tokio::task::LocalSet;

/// Every fourth vehicle of the simulator's population belongs to the province whose product is ON.
const VEHICLES_PAYABLE: u32 = VEHICLES_MAX / 4;

/// So many vehicles further every second: more than a gateway on one machine pays in that time, so that a
/// second run meets fresh ones.
const VEHICLES_PER_SECOND: i64 = 5_000;

/// The warm-up of a slice that is not the first.
const SETTLE: Duration = Duration::from_millis(500);

/// The flags of `bench`.
#[derive(Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    driven: Driven,

    /// How long to measure
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    seconds: u64,

    /// How long to drive before measuring, in seconds
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u64).range(0..=3_600))]
    warmup: u64,

    /// Open loop: so many pairs, inquiries or payments a second are due, however slow the answers are
    /// [default: closed loop, the next request follows the last answer]
    #[arg(long, value_parser = rate)]
    rate: Option<f64>,

    /// What to send
    #[arg(long, value_enum, default_value_t = Mode::Pairs)]
    mode: Mode,

    /// One hot partner, the sandbox's documented one; the default. With --reference pgbench, one hot row is
    /// measured as well
    #[arg(long, conflicts_with_all = ["partners", "username"])]
    hot: bool,

    #[command(flatten)]
    partners: Partners,

    /// The first vehicle, counted among the payable ones of the simulator's population
    /// [default: by the time of day, so that a second run meets fresh ones]
    #[arg(long, value_name = "INDEX", value_parser = clap::value_parser!(u32).range(..i64::from(VEHICLES_PAYABLE)))]
    from: Option<u32>,

    /// Also measure something else on this machine, in turns with the gateway
    #[arg(long, value_enum, value_name = "WITH", num_args = 0..=1, default_missing_value = "http")]
    reference: Option<Reference>,

    #[command(flatten)]
    pgbench: pgbench::Flags,

    /// With --reference: into how many slices each of the two measurements is cut
    #[arg(long, default_value_t = 3, requires = "reference", value_parser = clap::value_parser!(u32).range(3..=99))]
    slices: u32,
}

/// What is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Mode {
    /// An inquiry and its payment, of a fresh vehicle each
    Pairs,
    /// Inquiries alone
    Inquiry,
    /// Payments alone, of invoices that were inquired before
    Pay,
}

impl Mode {
    /// What is counted.
    fn units(self) -> &'static str {
        match self {
            Self::Pairs => "pairs",
            Self::Inquiry => "inquiries",
            Self::Pay => "payments",
        }
    }
}

/// What the gateway is measured against.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Reference {
    /// The same web stack with nothing behind it
    Http,
    /// pgbench, on the database server that the gateway writes to
    Pgbench,
}

/// What takes turns with the gateway, and what was seen of it.
enum Beside {
    Nothing,
    Http { child: Box<reference::Child>, slices: Vec<Tally> },
    Pgbench(Box<Pgbench>),
}

impl Beside {
    async fn start(arguments: &Arguments, progress: &Progress) -> anyhow::Result<Self> {
        Ok(match arguments.reference {
            None => Self::Nothing,
            Some(Reference::Http) => {
                let child = Box::new(reference::Child::start().await?);
                Self::Http { child, slices: Vec::new() }
            }
            Some(Reference::Pgbench) => {
                let bare_commit = arguments.driven.connections == 1 && arguments.mode == Mode::Pay;
                let wanted = pgbench::Wanted { hot_row: arguments.hot, bare_commit };
                Self::Pgbench(Box::new(Pgbench::start(&arguments.pgbench, wanted, progress).await?))
            }
        })
    }

    async fn measure(
        &mut self,
        bench: &Bench,
        of_slices: &str,
        warm_up: Duration,
        measured: Duration,
    ) -> anyhow::Result<()> {
        match self {
            Self::Nothing => {}
            Self::Http { child, slices } => {
                let name = format!("reference, {of_slices}");
                slices.push(bench.run(&child.target, Work::Reference, &name, warm_up, measured).await?);
            }
            Self::Pgbench(session) => session.slice(of_slices, measured, &bench.progress).await?,
        }
        Ok(())
    }
}

fn rate(text: &str) -> Result<f64, String> {
    let rate = text.parse().map_err(|_| "not a number".to_owned())?;
    if (0.1..=1_000_000.0).contains(&rate) {
        Ok(rate)
    } else {
        Err("it must be from 0.1 to 1000000".to_owned())
    }
}

impl Arguments {
    fn first_vehicle(&self) -> u32 {
        self.from.unwrap_or_else(|| {
            let seconds = engine::SystemClock.now().as_millis() / 1_000;
            let index = seconds.saturating_mul(VEHICLES_PER_SECOND).rem_euclid(i64::from(VEHICLES_PAYABLE));
            u32::try_from(index).expect("a remainder is below its modulus, which is a u32")
        })
    }
}

/// Drives, measures, prints. Fails if nothing succeeded.
pub(crate) async fn run(arguments: Arguments, json: bool) -> anyhow::Result<()> {
    let measured = tokio::task::spawn_blocking(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        LocalSet::new().block_on(&runtime, measure(&arguments))
    });
    let report = measured.await.context("the load generator panicked")??;
    report.print(json);
    if let Some(failed) = report.why_nothing_succeeded() {
        bail!(Fault::Refused(format!("not one request succeeded: {failed}")));
    }
    Ok(())
}

async fn measure(arguments: &Arguments) -> anyhow::Result<Report> {
    if arguments.pgbench.is_given() && arguments.reference != Some(Reference::Pgbench) {
        bail!(Fault::Usage("--pgbench-url, -scale and -clients need --reference pgbench".to_owned()));
    }
    let target =
        Rc::new(Target::resolve(arguments.driven.url.clone(), arguments.partners.credentials()).await?);
    let progress = Rc::new(Progress::default());
    prepare::log_in(&target, &progress).await?;
    let bench = Bench::new(
        usize::from(arguments.driven.connections),
        arguments.rate,
        arguments.first_vehicle(),
        progress,
    );
    prepare::probe(&target, arguments.mode, &bench.vehicles).await?;

    let mut beside = Beside::start(arguments, &bench.progress).await?;
    let slices = if arguments.reference.is_some() { arguments.slices } else { 1 };
    let warm_up = Duration::from_secs(arguments.warmup);
    let measured = Duration::from_secs(arguments.seconds) / slices;
    let mut gateway_slices: Vec<Tally> = Vec::new();
    for slice in 0..slices {
        let warm_up = if slice == 0 { warm_up } else { warm_up.min(SETTLE) };
        let of_slices = format!("slice {} of {slices}", slice + 1);
        beside.measure(&bench, &of_slices, warm_up, measured).await?;
        let name = if slices == 1 { "gateway".to_owned() } else { format!("gateway, {of_slices}") };
        let tally = match arguments.mode {
            Mode::Pairs => bench.run(&target, Work::Pairs, &name, warm_up, measured).await?,
            Mode::Inquiry => bench.run(&target, Work::Inquiry, &name, warm_up, measured).await?,
            Mode::Pay => bench.run_payments(&target, &name, warm_up, measured).await?,
        };
        gateway_slices.push(tally);
    }
    let report = Report::new(arguments, &gateway_slices, &beside);
    if let Beside::Http { child, .. } = beside {
        child.end().await;
    }
    Ok(report)
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Cli {
        #[command(flatten)]
        arguments: Arguments,
    }

    fn parse(line: &str) -> Result<Arguments, clap::Error> {
        Cli::try_parse_from(["bench"].into_iter().chain(line.split_whitespace())).map(|cli| cli.arguments)
    }

    #[test]
    fn usual_lines_are_accepted() {
        for line in [
            "",
            "--url http://127.0.0.1:8080 --connections 256 --seconds 10",
            "--hot --rate 250.5 --mode pay",
            "--partners 100 --password rahasia --partner-prefix uji",
            "--username mitra --password rahasia --mode inquiry --warmup 0",
            "--from 0 --reference --slices 5",
            "--reference http --mode pay",
            "--reference pgbench --hot",
            "--reference pgbench --pgbench-url postgres://siti@localhost/x --pgbench-scale 1 --pgbench-clients 1,8",
        ] {
            assert!(parse(line).is_ok(), "{line}: {}", parse(line).err().unwrap());
        }
    }

    #[test]
    fn a_reference_without_a_name_is_the_web_stack() {
        for (line, reference) in [
            ("", None),
            ("--reference", Some(Reference::Http)),
            ("--reference --hot", Some(Reference::Http)),
            ("--reference pgbench", Some(Reference::Pgbench)),
        ] {
            assert_eq!(parse(line).ok().unwrap().reference, reference, "{line}");
        }
    }

    #[test]
    fn what_contradicts_itself_or_is_out_of_bounds_is_refused() {
        for line in [
            "--connections 0",
            "--connections 10001",
            "--seconds 0",
            "--rate 0",
            "--rate -5",
            "--rate NaN",
            "--rate inf",
            "--mode both",
            "--url https://example.com",
            "--partners 10",
            "--partners 0 --password rahasia",
            "--partners 10 --password rahasia --hot",
            "--partners 10 --password rahasia --username mitra",
            "--partner-prefix uji",
            "--username mitra",
            "--hot --username mitra --password rahasia",
            "--slices 3",
            "--reference --slices 2",
            "--reference nginx",
            "--pgbench-url postgres://localhost/x",
            "--reference pgbench --pgbench-clients 0",
            "--reference pgbench --pgbench-clients 1,,8",
            "--reference pgbench --pgbench-scale 0",
            "--from 42500000",
        ] {
            assert!(parse(line).is_err(), "{line}");
        }
    }
}
