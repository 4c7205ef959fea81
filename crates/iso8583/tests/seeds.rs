//! What fuzzing found worth keeping, replayed: bytes against every spec, messages, and texts as specs. It must stay as it was said
//! to be: no panic, and whatever decodes encodes to the same bytes.

#[path = "../fuzz/fuzz_targets/bytes.rs"]
mod bytes;
#[path = "../fuzz/fuzz_targets/damage.rs"]
mod damage;
#[path = "../../../fuzz/fuzz_targets/seeds.rs"]
mod seeds;
#[path = "../fuzz/fuzz_targets/spec_text.rs"]
mod spec_text;
#[path = "../fuzz/fuzz_targets/specs.rs"]
mod specs;

use iso8583::Spec;

#[test]
fn bytes_that_were_found_decode_to_themselves_or_not_at_all() {
    let (mut decoded, mut refused) = (0, 0);
    for mut seed in seeds::read("fuzz/seeds/decode") {
        // The first byte chose a spec; each has its turn.
        seed.resize(seed.len().max(1), 0);
        for which in 0..=Spec::builtin_names().count() {
            seed[0] = u8::try_from(which).expect("there are few");
            *if bytes::holds(&seed) { &mut decoded } else { &mut refused } += 1;
        }
    }
    assert!(decoded > 20 && refused > 200, "the seeds are of use: {decoded} decoded, {refused} refused");
}

#[test]
fn messages_that_were_found_are_read_back_and_damage_is_no_other_message() {
    let seeds = seeds::read("fuzz/seeds/roundtrip");
    assert!(seeds.len() > 50, "{} seeds", seeds.len());
    for seed in seeds {
        damage::holds(&seed);
    }
}

#[test]
fn texts_that_were_found_are_specs_that_work_or_none() {
    let seeds = seeds::read("fuzz/seeds/spec");
    let built = seeds.iter().filter(|seed| spec_text::holds(&String::from_utf8_lossy(seed))).count();
    assert!(built > 5, "the seeds are of use: {built} specs of {}", seeds.len());
}
