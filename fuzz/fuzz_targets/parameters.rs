//! Any request of a partner: form, multipart, JSON and query are read without a panic, and mean one thing.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    web::fuzzing::holds(data);
});
