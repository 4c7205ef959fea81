//! Any text: reading a spec never panics, and whatever is one writes what it samples.
#![no_main]

mod spec_text;

libfuzzer_sys::fuzz_target!(|text: &str| {
    spec_text::holds(text);
});
