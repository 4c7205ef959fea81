//! What fuzzing found worth keeping of requests, replayed.

#[path = "../../../fuzz/fuzz_targets/request.rs"]
mod request;

use std::{fs, path::Path};

#[test]
fn requests_that_were_found_mean_one_thing() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/seeds/parameters");
    let seeds = fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let (mut read, mut refused) = (0, 0);
    for seed in seeds {
        let seed = fs::read(seed.expect("it was listed").path()).expect("a seed is a file");
        *if request::holds(&seed) { &mut read } else { &mut refused } += 1;
    }
    assert!(read > 5, "the seeds are of use: {read} read, {refused} refused");
}
