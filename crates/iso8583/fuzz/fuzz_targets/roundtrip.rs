//! Any message that a spec can write: it is read back as it was, and damage to its bytes is an error or another
//! whole message. With another value somewhere, it is read back as well, or cannot be written.
#![no_main]

mod damage;
mod specs;

libfuzzer_sys::fuzz_target!(|data: &[u8]| damage::holds(data));
