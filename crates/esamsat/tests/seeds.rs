//! What fuzzing found worth keeping of texts as configurations, replayed.

use std::{fs, path::Path};

#[test]
fn texts_that_were_found_are_configurations_or_told_with_their_line() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/seeds/config");
    let seeds = fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut configurations = 0;
    for seed in seeds {
        let text = fs::read(seed.expect("it was listed").path()).expect("a seed is a file");
        configurations += u32::from(esamsat::fuzzing::holds(&String::from_utf8_lossy(&text)));
    }
    assert!(configurations > 1, "the seeds are of use: {configurations} configurations");
}
