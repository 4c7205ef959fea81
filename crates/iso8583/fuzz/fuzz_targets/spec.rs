//! Any text: reading a spec never panics, and whatever is one writes what it samples.
#![no_main]

use iso8583::{Mti, Spec};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let Ok(spec) = Spec::from_toml(text) else { return };
    let mut turn = 0_usize;
    let message = spec.sample(Mti::parse("0200").expect("a message type"), |ways| {
        turn = turn.wrapping_mul(31).wrapping_add(7);
        turn % ways
    });
    let mut bytes = Vec::new();
    spec.encode(&message, &mut bytes).expect("a sample can be written");
    assert_eq!(spec.decode(&bytes).expect("what was written can be read"), message);
});
