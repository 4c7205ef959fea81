//! How far a country run got, as a JSON file that is replaced whole.
//!
//! | vehicle | where it is |
//! | --- | --- |
//! | not begun | at `next` or behind it |
//! | begun, and not known to be paid | in `open` |
//! | paid | neither: counted in `paid`, or in `already_paid` |
//!
//! A killed run has paid more than its last file says. Those vehicles are begun again and turn out paid already,
//! which is why they are counted apart: nothing else can be known about who paid them.

use crate::{output::Fault, replacement::Replacement};
use anyhow::Context;
use serde::{Deserialize, Serialize};
use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    io::{self, Write},
    path::Path,
};

/// So many samples at most, the last of each run not counted.
const SAMPLES_MAX: u32 = 200;

/// Kinds of failures told apart.
const KINDS_MAX: usize = 50;

/// What is written down. Vehicles are counted among the payable ones.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct State {
    /// The first vehicle's index.
    pub(super) from: u32,
    /// How many there are to pay.
    pub(super) vehicles: u32,
    /// How many were begun.
    pub(super) next: u32,
    /// The indexes of those that were begun and are not known to be paid.
    pub(super) open: BTreeSet<u32>,
    /// Paid, and seen to be.
    pub(super) paid: u64,
    /// Found to be paid already.
    pub(super) already_paid: u64,
    /// Answers that said PENDING; each was asked about again.
    pub(super) pending_answers: u64,
    /// How often the run was begun.
    pub(super) runs: u32,
    /// How long it was driven, all runs together.
    pub(super) elapsed_s: f64,
    /// What failed, and was tried again.
    pub(super) failures: BTreeMap<String, u64>,
    /// What the database took on disk before anything was paid.
    pub(super) stored_bytes_before: Option<u64>,
    /// How it went.
    pub(super) samples: Vec<Sample>,
}

/// Where the run stood at some moment.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Sample {
    /// Vehicles.
    pub(super) done: u64,
    /// Of these, paid and seen to be.
    pub(super) paid: u64,
    pub(super) elapsed_s: f64,
    /// Since the sample before.
    pub(super) pairs_per_second: f64,
    /// What the database took on disk.
    pub(super) stored_bytes: Option<u64>,
}

impl State {
    /// Nothing is done yet.
    pub(super) fn new(from: u32, vehicles: u32) -> Self {
        Self {
            from,
            vehicles,
            next: 0,
            open: BTreeSet::new(),
            paid: 0,
            already_paid: 0,
            pending_answers: 0,
            runs: 0,
            elapsed_s: 0.0,
            failures: BTreeMap::new(),
            stored_bytes_before: None,
            samples: Vec::new(),
        }
    }

    /// How many vehicles are known to be paid.
    pub(super) fn done(&self) -> u64 {
        self.paid + self.already_paid
    }

    /// Whether that is all of them.
    pub(super) fn is_complete(&self) -> bool {
        self.next == self.vehicles && self.open.is_empty()
    }

    /// Begins the next vehicle, if there is one.
    pub(super) fn begin_next(&mut self) -> Option<u32> {
        let index = (self.next < self.vehicles).then(|| self.from + self.next)?;
        self.next += 1;
        self.open.insert(index);
        Some(index)
    }

    pub(super) fn failed(&mut self, kind: String) {
        let is_one_too_many = self.failures.len() >= KINDS_MAX && !self.failures.contains_key(&kind);
        let kind = if is_one_too_many { "others".to_owned() } else { kind };
        *self.failures.entry(kind).or_default() += 1;
    }

    /// Whether it is time for the next sample.
    pub(super) fn wants_sample(&self) -> bool {
        let last = self.samples.last().map_or(0, |sample| sample.done);
        self.done() >= last + u64::from(self.vehicles.div_ceil(SAMPLES_MAX))
    }

    /// Takes a sample, unless nothing was done since the last one.
    pub(super) fn sample(&mut self, stored_bytes: Option<u64>) {
        let (done, paid, elapsed_s) = (self.done(), self.paid, self.elapsed_s);
        let (paid_before, elapsed_before) = match self.samples.last() {
            Some(last) if last.done == done => return,
            Some(last) => (last.paid, last.elapsed_s),
            None => (0, 0.0),
        };
        let pairs_per_second = super::report::rate(paid - paid_before, elapsed_s - elapsed_before);
        self.samples.push(Sample { done, paid, elapsed_s, pairs_per_second, stored_bytes });
    }

    /// Reads it; none if there is no such file.
    pub(super) fn read(path: &Path) -> anyhow::Result<Option<Self>> {
        let unusable = |what: &str| {
            Fault::Usage(format!(
                "failed to read the state file {}: {what}; name another --state",
                path.display()
            ))
        };
        let bytes = match fs::read(path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(unusable(&error.to_string()).into()),
        };
        let state: Self = serde_json::from_slice(&bytes).map_err(|error| unusable(&error.to_string()))?;
        if !state.adds_up() {
            return Err(unusable("its numbers contradict each other").into());
        }
        Ok(Some(state))
    }

    fn adds_up(&self) -> bool {
        let begun = self.from.checked_add(self.next).map(|end| self.from..end);
        let is_begun = |index: &u32| begun.as_ref().is_some_and(|begun| begun.contains(index));
        let is_rising = |pair: &[Sample]| pair[0].done < pair[1].done && pair[0].paid <= pair[1].paid;
        self.next <= self.vehicles
            && self.open.iter().all(is_begun)
            && self.done() + self.open.len() as u64 == u64::from(self.next)
            && self.samples.windows(2).all(is_rising)
            && self.samples.last().is_none_or(|last| last.done <= self.done() && last.paid <= self.paid)
    }

    /// Replaces the file in one step.
    pub(super) fn write(&self, path: &Path) -> anyhow::Result<()> {
        let write = || -> io::Result<()> {
            let mut replacement = Replacement::of(path)?;
            serde_json::to_writer_pretty(&mut replacement, self)?;
            replacement.write_all(b"\n")?;
            replacement.take_place()
        };
        write().with_context(|| {
            format!("failed to write the state file {}; name another one with --state", path.display())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tempfile::TempDir;

    /// Ten vehicles begun: seven paid, one found paid, two open.
    fn half_way() -> State {
        let mut state = State::new(100, 20);
        let begun: Vec<_> = (0..10).map_while(|_| state.begin_next()).collect();
        assert_eq!(begun, (100..110).collect::<Vec<_>>());
        state.open.retain(|index| [103, 109].contains(index));
        (state.paid, state.already_paid, state.elapsed_s) = (7, 1, 2.0);
        state
    }

    #[test]
    fn what_was_written_is_read_again() {
        let folder = TempDir::new().unwrap();
        let path = folder.path().join("state.json");
        assert_eq!(State::read(&path).unwrap(), None);
        let mut state = half_way();
        state.failed("HTTP 503".to_owned());
        state.sample(Some(4_096));
        state.write(&path).unwrap();
        assert_eq!(State::read(&path).unwrap(), Some(state));
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "nothing is left beside it");
    }

    #[test]
    fn a_file_whose_numbers_contradict_each_other_is_refused() {
        let folder = TempDir::new().unwrap();
        let path = folder.path().join("state.json");
        let wrong: [fn(&mut State); 7] = [
            |state| state.paid += 1,
            |state| state.next += 1,
            |state| state.vehicles = 9,
            |state| state.from += 5,
            |state| state.from = u32::MAX,
            |state| {
                state.open.remove(&103);
            },
            |state| {
                state.sample(None);
                (state.paid, state.already_paid) = (1, 7);
            },
        ];
        for (number, wrong) in wrong.into_iter().enumerate() {
            let mut state = half_way();
            wrong(&mut state);
            state.write(&path).unwrap();
            assert!(State::read(&path).is_err(), "{number}");
        }
        fs::write(&path, "{").unwrap();
        assert!(State::read(&path).unwrap_err().to_string().contains("name another --state"));
    }

    #[test]
    fn samples_are_of_stretches_in_which_something_was_done() {
        let mut state = half_way();
        assert!(state.wants_sample());
        state.sample(None);
        state.sample(Some(1));
        assert!(!state.wants_sample());
        state.open.clear();
        (state.paid, state.elapsed_s) = (9, 6.0);
        state.sample(Some(1));
        let seen: Vec<_> =
            state.samples.iter().map(|sample| (sample.done, sample.pairs_per_second)).collect();
        assert_eq!(seen, [(8, 3.5), (10, 0.5)]);
    }

    #[test]
    fn it_is_complete_when_nothing_is_open_and_nothing_is_left() {
        let mut state = State::new(0, 2);
        while state.begin_next().is_some() {}
        assert!(!state.is_complete());
        state.open.clear();
        assert!(state.is_complete());
    }
}
