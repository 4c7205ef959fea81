//! What fuzzing found worth keeping of requests, replayed.

#[path = "../../../fuzz/fuzz_targets/seeds.rs"]
mod seeds;

#[test]
fn requests_that_were_found_mean_one_thing() {
    let seeds = seeds::read("../../fuzz/seeds/parameters");
    let read = seeds.iter().filter(|seed| web::fuzzing::holds(seed)).count();
    assert!(read > 5, "the seeds are of use: {read} read of {}", seeds.len());
}
