//! What a state says about the run: for people, and as JSON for scripts.

use super::state::{Sample, State};
use crate::{
    bench::{
        report::{Failures, rounded},
        tally::float,
    },
    output::{self, Table, line},
};
use engine::verify;
use serde::Serialize;

/// So many rows tell how throughput went.
const STRETCHES_MAX: u64 = 10;

/// Everything.
#[derive(Serialize)]
pub(super) struct Report {
    from: u32,
    vehicles: u32,
    is_complete: bool,
    done: u64,
    /// Paid, and seen to be.
    paid: u64,
    /// Found to be paid already: by what a killed run did after its last note, or before all of it.
    already_paid: u64,
    /// Begun, and not known to be paid.
    open: usize,
    pending_answers: u64,
    runs: u32,
    elapsed_s: f64,
    /// What was paid and seen to be, by the time of all runs.
    pairs_per_second: f64,
    stretches: Vec<Stretch>,
    failures: Vec<Failures>,
    stored_bytes_before: Option<u64>,
    /// At the last sample.
    stored_bytes: Option<u64>,
    bytes_per_payment: Option<f64>,
    /// Of the database, once the run is over.
    pub(super) verify: Option<verify::Report>,
}

/// A part of the run.
#[derive(Debug, PartialEq, Serialize)]
struct Stretch {
    done_from: u64,
    done_to: u64,
    lasted_s: f64,
    pairs_per_second: f64,
    /// At its end.
    stored_bytes: Option<u64>,
}

impl Report {
    pub(super) fn new(state: &State) -> Self {
        let stored_bytes = state.samples.last().and_then(|sample| sample.stored_bytes);
        let grown =
            stored_bytes.zip(state.stored_bytes_before).map(|(now, before)| now.saturating_sub(before));
        let sampled = state.samples.last().map_or(0, |sample| sample.done);
        Self {
            from: state.from,
            vehicles: state.vehicles,
            is_complete: state.is_complete(),
            done: state.done(),
            paid: state.paid,
            already_paid: state.already_paid,
            open: state.open.len(),
            pending_answers: state.pending_answers,
            runs: state.runs,
            elapsed_s: rounded(state.elapsed_s),
            pairs_per_second: rate(state.paid, state.elapsed_s),
            stretches: stretches(&state.samples),
            failures: Failures::most_first(&state.failures),
            stored_bytes_before: state.stored_bytes_before,
            stored_bytes,
            bytes_per_payment: grown
                .filter(|_| sampled > 0)
                .map(|bytes| rounded(float(bytes) / float(sampled))),
            verify: None,
        }
    }

    pub(super) fn print(&self, json: bool) {
        if json {
            return output::json(self);
        }
        let done = if self.is_complete { "all of them" } else { "not yet all of them" };
        line(format!(
            "{} vehicles from {} on; {} are paid, {done}: {} now, {} found paid already",
            self.vehicles, self.from, self.done, self.paid, self.already_paid
        ));
        line(format!(
            "{} in {} runs, {:.1} pairs/s",
            duration(self.elapsed_s),
            self.runs,
            self.pairs_per_second
        ));
        if self.open > 0 || self.pending_answers > 0 {
            line(format!(
                "{} begun and not known to be paid; {} answers said PENDING",
                self.open, self.pending_answers
            ));
        }
        let mut table = Table::new(&[">vehicles", ">to", ">time", ">pairs/s", ">MiB"]);
        for stretch in &self.stretches {
            table.row([
                stretch.done_from.to_string(),
                stretch.done_to.to_string(),
                duration(stretch.lasted_s),
                format!("{:.1}", stretch.pairs_per_second),
                stretch.stored_bytes.map(mebibytes).unwrap_or_default(),
            ]);
        }
        table.print("Nothing was paid yet.");
        let mut failures = Table::new(&["failed, and tried again", ">count"]);
        for kind in &self.failures {
            failures.row([kind.kind.clone(), kind.count.to_string()]);
        }
        failures.print("Nothing failed.");
        match (self.stored_bytes, self.bytes_per_payment) {
            (Some(bytes), Some(each)) => {
                line(format!("{} MiB on disk, {each:.0} bytes a payment", mebibytes(bytes)));
            }
            _ => line("What it takes on disk is not known."),
        }
    }
}

/// At most ten, of about as many vehicles each.
fn stretches(samples: &[Sample]) -> Vec<Stretch> {
    let all = samples.last().map_or(0, |sample| sample.done);
    let mut stretches = Vec::new();
    let (mut done, mut paid, mut elapsed_s) = (0, 0, 0.0);
    for sample in samples {
        let wanted = all * (stretches.len() as u64 + 1) / STRETCHES_MAX;
        if sample.done < wanted {
            continue;
        }
        let lasted_s = sample.elapsed_s - elapsed_s;
        stretches.push(Stretch {
            done_from: done,
            done_to: sample.done,
            lasted_s: rounded(lasted_s),
            pairs_per_second: rate(sample.paid - paid, lasted_s),
            stored_bytes: sample.stored_bytes,
        });
        (done, paid, elapsed_s) = (sample.done, sample.paid, sample.elapsed_s);
    }
    stretches
}

/// Of nothing in no time: nothing.
pub(super) fn rate(count: u64, seconds: f64) -> f64 {
    if seconds > 0.0 { rounded(float(count) / seconds) } else { 0.0 }
}

/// `2 h 05 min`, `5 min 07 s`, `7.1 s`.
pub(super) fn duration(seconds: f64) -> String {
    let whole = std::time::Duration::try_from_secs_f64(seconds.round()).unwrap_or_default().as_secs();
    match whole {
        0..60 => format!("{seconds:.1} s"),
        60..3_600 => format!("{} min {:02} s", whole / 60, whole % 60),
        3_600.. => format!("{} h {:02} min", whole / 3_600, whole % 3_600 / 60),
    }
}

fn mebibytes(bytes: u64) -> String {
    format!("{:.1}", float(bytes) / f64::from(1 << 20))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        for (seconds, text) in [
            (0.04, "0.0 s"),
            (59.4, "59.4 s"),
            (59.6, "1 min 00 s"),
            (3_599.0, "59 min 59 s"),
            (7_500.0, "2 h 05 min"),
        ] {
            assert_eq!(duration(seconds), text);
        }
    }

    #[test]
    fn stretches_tell_how_throughput_went() {
        // 100 samples of ten vehicles, of which nine are seen to be paid; each takes a second, in the second half two.
        let sample = |number: u32| Sample {
            done: u64::from(number) * 10,
            paid: u64::from(number) * 9,
            elapsed_s: f64::from(number + number.saturating_sub(50)),
            pairs_per_second: 0.0,
            stored_bytes: Some(u64::from(number)),
        };
        let samples: Vec<_> = (1..=100).map(sample).collect();
        let stretches = stretches(&samples);
        assert_eq!(stretches.len(), 10);
        let stretch = |done_from, lasted_s, pairs_per_second, bytes| Stretch {
            done_from,
            done_to: done_from + 100,
            lasted_s,
            pairs_per_second,
            stored_bytes: Some(bytes),
        };
        assert_eq!(stretches[0], stretch(0, 10.0, 9.0, 10));
        assert_eq!(stretches[9], stretch(900, 20.0, 4.5, 100));
        assert_eq!(super::stretches(&samples[..3]).len(), 3);
        assert!(super::stretches(&[]).is_empty());
    }
}
