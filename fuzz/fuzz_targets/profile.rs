//! Any text as a bank's profile: it is one that works, or the line of what is wrong is told.
#![no_main]

mod profile_text;

libfuzzer_sys::fuzz_target!(|text: &str| {
    profile_text::holds(text);
});
