//! What was worth keeping, for the tests that replay it.

use std::{fs, path::Path};

/// All that is in a folder below the crate that is tested.
pub fn read(folder: &str) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
    let entries = fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    entries.map(|entry| fs::read(entry.expect("it was listed").path()).expect("a seed is a file")).collect()
}
