//! Any text as a configuration: it is read and checked without a panic, and what `config show` prints of it is read again.
#![no_main]

libfuzzer_sys::fuzz_target!(|text: &str| {
    esamsat::fuzzing::holds(text);
});
