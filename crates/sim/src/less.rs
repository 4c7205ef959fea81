//! Finding out what a failure needs: the same seed again, with less of everything, for as long as it fails in the same
//! way.

use crate::{Outcome, Run, world::Terms};
use std::{collections::BTreeMap, fmt, str::FromStr, time::Duration};

/// How much of something a run has.
type Measure = fn(&Terms) -> u64;

/// What there can be less of, in the order in which it is tried.
const KNOBS: [(&str, Measure); 8] = [
    ("nature", |terms| u64::from(terms.nature_ms_max < NEVER_MS)),
    ("crash_permyriad", |terms| terms.crash_permyriad),
    ("commit_faults_permille", |terms| terms.commit_faults_permille),
    ("trouble_permille", |terms| terms.trouble_permille),
    ("gateways", |terms| terms.gateways),
    ("partners", |terms| terms.partners),
    ("storm_s", |terms| terms.stormy_for.as_secs()),
    ("vehicles", |terms| terms.vehicles),
];

/// Longer than any run.
const NEVER_MS: u64 = 1_000_000_000;

/// What a run has less of than its seed draws: `gateways=1,storm_s=12`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Less(BTreeMap<&'static str, u64>);

impl Less {
    pub(crate) fn apply(&self, terms: &mut Terms) {
        for (knob, value) in &self.0 {
            match *knob {
                "nature" => terms.nature_ms_max = NEVER_MS,
                "crash_permyriad" => terms.crash_permyriad = *value,
                "commit_faults_permille" => terms.commit_faults_permille = *value,
                "trouble_permille" => terms.trouble_permille = *value,
                "gateways" => {
                    terms.gateways = *value;
                    terms.settings.lease_after = terms.settings.lease_after.filter(|_| *value > 1);
                }
                "partners" => terms.partners = *value,
                "storm_s" => terms.stormy_for = Duration::from_secs(*value),
                _ => terms.vehicles = *value,
            }
        }
    }

    /// This, and less of one thing.
    fn and(&self, knob: &'static str, value: u64) -> Self {
        let mut less = self.clone();
        less.0.insert(knob, value);
        less
    }
}

impl fmt::Display for Less {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let knobs: Vec<_> = self.0.iter().map(|(knob, value)| format!("{knob}={value}")).collect();
        f.write_str(&knobs.join(","))
    }
}

impl FromStr for Less {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut less = Self::default();
        for part in text.split(',') {
            let (name, value) = part.split_once('=').ok_or_else(|| format!("{part} is not NAME=NUMBER"))?;
            let names = || KNOBS.map(|(name, _)| name).join(", ");
            let known = KNOBS.iter().find(|(knob, _)| *knob == name);
            let (knob, _) = known.ok_or_else(|| format!("{name} is none of {}", names()))?;
            let value = value.parse().map_err(|_| format!("{value} is no whole number"))?;
            if value == 0 && matches!(*knob, "gateways" | "partners" | "vehicles") {
                return Err(format!("without {knob} there is nothing to run"));
            }
            less.0.insert(knob, value);
        }
        Ok(less)
    }
}

/// Runs a seed that fails with less and less; what it still fails with, and how.
pub fn shrink(run: &Run, failed: &Outcome) -> (Less, Outcome) {
    let (mut less, mut outcome) = (run.less.clone(), failed.clone());
    loop {
        let before = less.clone();
        for (knob, value_of) in KNOBS {
            let least = u64::from(matches!(knob, "gateways" | "partners" | "vehicles"));
            loop {
                let has = value_of(&run.with(less.clone()).terms());
                // As little as can be at once, or half, or of few one.
                let mut tries = vec![least, has / 2];
                tries.extend((has <= 8).then_some(has.saturating_sub(1)));
                tries.retain(|value| (least..has).contains(value));
                tries.dedup();
                let found = tries.into_iter().find_map(|value| {
                    let less = less.and(knob, value);
                    let outcome = run.with(less.clone()).go();
                    is_alike(failed, &outcome).then_some((less, outcome))
                });
                let Some(found) = found else { break };
                (less, outcome) = found;
            }
        }
        if less == before {
            return (less, outcome);
        }
    }
}

/// Whether two runs fail in the same way: in the same words, but for numbers.
fn is_alike(one: &Outcome, other: &Outcome) -> bool {
    let words = |outcome: &Outcome| {
        let first = outcome.wrongs.first()?;
        Some(first.what.chars().filter(|c| c.is_alphabetic()).collect::<String>())
    };
    words(one) == words(other)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Bug;

    #[test]
    fn a_failure_is_found_with_less() {
        let mut run = Run { bug: Some(Bug::WrongAmount), ..Run::of(0) };
        let failed = loop {
            let outcome = run.go();
            if !outcome.wrongs.is_empty() {
                break outcome;
            }
            run.seed += 1;
        };
        let (less, shrunk) = shrink(&run, &failed);
        let terms = run.with(less.clone()).terms();
        assert_eq!((terms.gateways, terms.partners), (1, 1), "{less}");
        assert!(shrunk.timeline.len() < failed.timeline.len(), "{less}");
        assert_eq!(less.to_string().parse(), Ok(less.clone()));
        let again = run.with(less).go();
        assert_eq!((again.trace_hash, again.wrongs), (shrunk.trace_hash, shrunk.wrongs));
    }

    #[test]
    fn what_is_not_understood_is_said() {
        for (text, said) in [
            ("gateways", "NAME=NUMBER"),
            ("cats=1", "none of nature"),
            ("gateways=0", "nothing to run"),
            ("nature=x", "whole number"),
        ] {
            let refused = text.parse::<Less>().expect_err("it is refused");
            assert!(refused.contains(said), "{text}: {refused}");
        }
    }
}
