//! What was measured, as tables for people and as JSON for scripts.
//!
//! Throughput is the median of the slices; latencies and counts are those of all slices together.

use super::{
    Arguments, Beside, Mode,
    answer::Failed,
    pgbench,
    tally::{Step, Tally},
};
use crate::output::{self, Table};
use hdrhistogram::Histogram;
use serde::Serialize;
use std::{cmp::Reverse, collections::BTreeMap};

/// Everything.
#[derive(Serialize)]
pub(super) struct Report {
    url: String,
    mode: Mode,
    connections: u16,
    /// Of the open loop; none in the closed one.
    rate_per_second: Option<f64>,
    partners: usize,
    warm_up_s: u64,
    /// Of the machine that this ran on.
    cpus: usize,
    gateway: Side,
    reference: Option<Side>,
    /// The gateway's requests a second by the reference's; in an open loop it would say nothing.
    ratio: Option<f64>,
    /// `PostgreSQL`'s own benchmark, and the gateway against it.
    pgbench: Option<pgbench::Report>,
    /// What can be done about the gateway's main failure.
    advice: Option<&'static str>,
}

/// One of the two that were measured.
#[derive(Serialize)]
struct Side {
    measured_s: f64,
    /// Successful requests; a pair is two.
    requests_per_second: f64,
    pairs_per_second: Option<f64>,
    slices_requests_per_second: Vec<f64>,
    /// Pairs, inquiries or payments.
    succeeded: u64,
    pending: u64,
    failed: u64,
    /// Open loop: due and never sent.
    unsent: u64,
    latencies: Vec<Latency>,
    /// Open loop: how much later than due requests were sent.
    start_lag: Option<Latency>,
    failures: Vec<Failures>,
    /// The part of the time in which the load generator's one thread was at work: near 1, it was the bottleneck.
    generator_busy: f64,
}

/// Of one step.
#[derive(Serialize)]
struct Latency {
    step: &'static str,
    count: u64,
    p50_ms: f64,
    p90_ms: f64,
    p99_ms: f64,
    p99_9_ms: f64,
    max_ms: f64,
}

/// Of one kind.
#[derive(Serialize)]
pub(super) struct Failures {
    pub(super) kind: String,
    pub(super) count: u64,
}

impl Failures {
    /// Of all kinds, the most frequent first.
    pub(super) fn most_first(counts: &BTreeMap<impl ToString, u64>) -> Vec<Self> {
        let each = counts.iter().map(|(kind, count)| Self { kind: kind.to_string(), count: *count });
        let mut all: Vec<_> = each.collect();
        all.sort_by_key(|kind| Reverse(kind.count));
        all
    }
}

impl Report {
    pub(super) fn new(arguments: &Arguments, gateway: &[Tally], beside: &Beside) -> Self {
        let steps: &[(Step, &str)] = match arguments.mode {
            Mode::Pairs => &[(Step::Inquiry, "inquiry"), (Step::Pay, "pay"), (Step::Pair, "pair")],
            Mode::Inquiry => &[(Step::Inquiry, "inquiry")],
            Mode::Pay => &[(Step::Pay, "pay")],
        };
        let is_open = arguments.rate.is_some();
        let most_failed = |tally: &&Tally| tally.failed_count();
        let advice = gateway.iter().max_by_key(most_failed).and_then(Tally::main_failure).map(Failed::advice);
        let gateway = Side::new(gateway, steps, is_open);
        let (reference, pgbench) = match beside {
            Beside::Nothing => (None, None),
            Beside::Http { slices, .. } => {
                (Some(Side::new(slices, &[(Step::Pay, "reference")], is_open)), None)
            }
            Beside::Pgbench(session) => {
                let is_alone = arguments.mode == Mode::Pay && arguments.driven.connections == 1;
                let gateway = pgbench::Gateway {
                    unit: arguments.mode.units(),
                    per_second: gateway.pairs_per_second.unwrap_or(gateway.requests_per_second),
                    is_open,
                    pay_p50_ms: gateway.latencies.first().filter(|_| is_alone).map(|pay| pay.p50_ms),
                };
                (None, Some(pgbench::Report::new(session, &gateway)))
            }
        };
        let ratio =
            reference.as_ref().filter(|side| !is_open && side.requests_per_second > 0.0).map(|side| {
                (gateway.requests_per_second / side.requests_per_second * 10_000.0).round() / 10_000.0
            });
        Self {
            url: arguments.driven.url.to_string(),
            mode: arguments.mode,
            connections: arguments.driven.connections,
            rate_per_second: arguments.rate,
            partners: arguments.partners.count.map_or(1, usize::from),
            warm_up_s: arguments.warmup,
            cpus: std::thread::available_parallelism().map_or(1, usize::from),
            gateway,
            reference,
            ratio,
            pgbench,
            advice,
        }
    }

    /// The main failure, if the gateway did nothing else.
    pub(super) fn why_nothing_succeeded(&self) -> Option<&str> {
        let main = self.gateway.failures.first().map(|failures| failures.kind.as_str());
        let otherwise = if self.gateway.pending > 0 {
            "all payments are PENDING"
        } else {
            "nothing was answered in time"
        };
        (self.gateway.succeeded == 0).then_some(main.unwrap_or(otherwise))
    }

    pub(super) fn print(&self, json: bool) {
        if json {
            return output::json(self);
        }
        let sides = || [("gateway", Some(&self.gateway)), ("reference", self.reference.as_ref())].into_iter();
        let mut throughput = Table::new(&[
            "",
            ">requests/s",
            ">pairs/s",
            ">succeeded",
            ">pending",
            ">failed",
            ">unsent",
            ">generator",
        ]);
        let mut latency = Table::new(&["ms", ">count", ">p50", ">p90", ">p99", ">p99.9", ">max"]);
        let mut failures = Table::new(&["failed", ">count"]);
        for (name, side) in sides().filter_map(|(name, side)| Some((name, side?))) {
            throughput.row([
                name.to_owned(),
                format!("{:.1}", side.requests_per_second),
                side.pairs_per_second.map(|pairs| format!("{pairs:.1}")).unwrap_or_default(),
                side.succeeded.to_string(),
                side.pending.to_string(),
                side.failed.to_string(),
                side.unsent.to_string(),
                format!("{:.0} %", side.generator_busy * 100.0),
            ]);
            for step in side.latencies.iter().chain(&side.start_lag) {
                let quantiles = [step.p50_ms, step.p90_ms, step.p99_ms, step.p99_9_ms, step.max_ms];
                let cells = [step.step.to_owned(), step.count.to_string()].into_iter();
                latency.row(cells.chain(quantiles.map(|ms| format!("{ms:.2}"))));
            }
            for kind in &side.failures {
                failures.row([format!("{name}: {}", kind.kind), kind.count.to_string()]);
            }
        }
        throughput.print("");
        latency.print("");
        failures.print("Nothing failed.");
        if let Some(advice) = self.advice {
            output::line(format!("About what failed most at the gateway: {advice}."));
        }
        if let Some(ratio) = self.ratio {
            output::line(format!("gateway / reference: {ratio:.3} of the requests a second"));
        }
        if let Some(pgbench) = &self.pgbench {
            output::line("");
            pgbench.print();
        }
    }
}

impl Side {
    fn new(slices: &[Tally], steps: &[(Step, &'static str)], is_open: bool) -> Self {
        let mut all = Tally::default();
        for slice in slices {
            all.absorb(slice);
        }
        let has_pairs = steps.iter().any(|(step, _)| *step == Step::Pair);
        Self {
            measured_s: rounded(all.measured.as_secs_f64()),
            requests_per_second: median(slices.iter().map(Tally::requests_per_second)),
            pairs_per_second: has_pairs
                .then(|| median(slices.iter().map(|slice| slice.per_second(Step::Pair)))),
            slices_requests_per_second: slices
                .iter()
                .map(|slice| rounded(slice.requests_per_second()))
                .collect(),
            succeeded: all.succeeded,
            pending: all.pending,
            failed: all.failed_count(),
            unsent: all.unsent,
            latencies: steps
                .iter()
                .map(|(step, name)| Latency::new(name, &all.step(*step).latency))
                .collect(),
            start_lag: is_open.then(|| Latency::new("sent late by", &all.start_lag)),
            failures: Failures::most_first(&all.failures),
            generator_busy: rounded(all.generator_busy.as_secs_f64() / all.lasted.as_secs_f64().max(1e-9)),
        }
    }
}

impl Latency {
    fn new(step: &'static str, histogram: &Histogram<u64>) -> Self {
        // Without a value there is no quantile; the count of 0 says so.
        let at = |quantile| milliseconds(histogram.value_at_quantile(quantile));
        Self {
            step,
            count: histogram.len(),
            p50_ms: at(0.5),
            p90_ms: at(0.9),
            p99_ms: at(0.99),
            p99_9_ms: at(0.999),
            max_ms: milliseconds(histogram.max()),
        }
    }
}

pub(super) fn milliseconds(microseconds: u64) -> f64 {
    super::tally::float(microseconds) / 1_000.0
}

/// To thousandths: more would be noise.
pub(super) fn rounded(value: f64) -> f64 {
    (value * 1_000.0).round() / 1_000.0
}

/// The middle value, or the mean of the two in the middle.
pub(super) fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    match (values.len(), values.len() / 2) {
        (0, _) => 0.0,
        (count, middle) if count % 2 == 1 => rounded(values[middle]),
        (_, middle) => rounded(f64::midpoint(values[middle - 1], values[middle])),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians() {
        for (values, expected) in
            [(&[][..], 0.0), (&[2.0][..], 2.0), (&[9.0, 1.0, 2.0][..], 2.0), (&[4.0, 1.0, 9.0, 2.0][..], 3.0)]
        {
            assert!((median(values.iter().copied()) - expected).abs() < 1e-9, "{values:?}");
        }
    }
}
