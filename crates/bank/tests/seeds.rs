//! What fuzzing found worth keeping of providers' answers and of profiles, replayed.

#[path = "../../../fuzz/fuzz_targets/profile_text.rs"]
mod profile_text;

use std::{fs, path::Path};

fn seeds(target: &str) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/seeds").join(target);
    let entries = fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    entries.map(|entry| fs::read(entry.expect("it was listed").path()).expect("a seed is a file")).collect()
}

#[test]
fn answers_that_were_found_move_money_on_the_contracts_words_only() {
    let seeds = seeds("answers");
    assert!(seeds.len() > 10, "{} seeds", seeds.len());
    for seed in seeds {
        bank::relay::fuzzing::holds(&seed);
    }
}

#[test]
fn texts_that_were_found_are_profiles_or_told_with_their_line() {
    let seeds = seeds("profile");
    let profiles = seeds.iter().filter(|seed| profile_text::holds(&String::from_utf8_lossy(seed))).count();
    assert!(profiles > 2, "the seeds are of use: {profiles} profiles of {}", seeds.len());
}
