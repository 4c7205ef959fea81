//! What fuzzing found worth keeping, replayed: bytes against every spec, messages, and texts as specs. It must stay as it was said
//! to be: no panic, and whatever decodes encodes to the same bytes.

#[path = "../fuzz/fuzz_targets/damage.rs"]
mod damage;
#[path = "../fuzz/fuzz_targets/specs.rs"]
mod specs;

use iso8583::{Mti, Spec};
use std::{fs, path::Path};

fn seeds(target: &str) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/seeds").join(target);
    let entries = fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    entries.map(|entry| fs::read(entry.expect("it was listed").path()).expect("a seed is a file")).collect()
}

#[test]
fn bytes_that_were_found_decode_to_themselves_or_not_at_all() {
    let (mut decoded, mut refused) = (0, 0);
    for seed in seeds("decode") {
        // The first byte chose a spec.
        let bytes = seed.get(1..).unwrap_or_default();
        for which in 0..=Spec::builtin_names().count() {
            let spec = specs::pick(u8::try_from(which).expect("there are few"));
            match spec.decode(bytes) {
                Ok(message) => {
                    let mut again = Vec::new();
                    spec.encode(&message, &mut again).expect("what was read can be written");
                    assert_eq!(again, bytes);
                    assert!(!spec.describe(&message).to_string().is_empty());
                    decoded += 1;
                }
                Err(error) => {
                    assert!(error.offset <= bytes.len(), "{error}");
                    refused += 1;
                }
            }
        }
    }
    assert!(decoded > 20 && refused > 200, "the seeds are of use: {decoded} decoded, {refused} refused");
}

#[test]
fn messages_that_were_found_are_read_back_and_damage_is_no_other_message() {
    let seeds = seeds("roundtrip");
    assert!(seeds.len() > 50, "{} seeds", seeds.len());
    for seed in seeds {
        damage::holds(&seed);
    }
}

#[test]
fn texts_that_were_found_are_specs_that_work_or_none() {
    let mut built = 0;
    for seed in seeds("spec") {
        let Ok(spec) = Spec::from_toml(&String::from_utf8_lossy(&seed)) else { continue };
        let mut state = 0x8583_1987_u64;
        let message = spec.sample(Mti::parse("0200").expect("a message type"), |ways| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            usize::try_from(state >> 32).expect("half of it") % ways
        });
        let mut bytes = Vec::new();
        spec.encode(&message, &mut bytes).expect("a sample can be written");
        assert_eq!(spec.decode(&bytes).as_ref(), Ok(&message));
        built += 1;
    }
    assert!(built > 5, "the seeds are of use: {built} specs");
}
