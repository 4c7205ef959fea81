//! What fuzzing found worth keeping of providers' answers and of profiles, replayed.

#[path = "../../../fuzz/fuzz_targets/profile_text.rs"]
mod profile_text;
#[path = "../../../fuzz/fuzz_targets/seeds.rs"]
mod seeds;

#[test]
fn answers_that_were_found_move_money_on_the_contracts_words_only() {
    let seeds = seeds::read("../../fuzz/seeds/answers");
    assert!(seeds.len() > 10, "{} seeds", seeds.len());
    for seed in seeds {
        bank::relay::fuzzing::holds(&seed);
    }
}

#[test]
fn texts_that_were_found_are_profiles_or_told_with_their_line() {
    let seeds = seeds::read("../../fuzz/seeds/profile");
    let profiles = seeds.iter().filter(|seed| profile_text::holds(&String::from_utf8_lossy(seed))).count();
    assert!(profiles > 2, "the seeds are of use: {profiles} profiles of {}", seeds.len());
}
