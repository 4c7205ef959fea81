//! Any bytes as a provider's answer: reading never panics, and money moves on the contract's own words only.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| bank::relay::fuzzing::holds(data));
