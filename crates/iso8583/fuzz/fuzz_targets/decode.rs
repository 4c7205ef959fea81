//! Any bytes: decoding never panics, and whatever decodes encodes to the same bytes.
#![no_main]

mod bytes;
mod specs;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    bytes::holds(data);
});
