//! What fuzzing found worth keeping of texts as configurations, replayed.

#[path = "../../../fuzz/fuzz_targets/seeds.rs"]
mod seeds;

#[test]
fn texts_that_were_found_are_configurations_or_told_with_their_line() {
    let seeds = seeds::read("../../fuzz/seeds/config");
    let is_configuration = |seed: &&Vec<u8>| esamsat::fuzzing::holds(&String::from_utf8_lossy(seed));
    let configurations = seeds.iter().filter(is_configuration).count();
    assert!(configurations > 1, "the seeds are of use: {configurations} configurations of {}", seeds.len());
}
