//! Any text as a configuration: it is read and checked without a panic, and what `config show` prints of it is read again.
#![no_main]
#![allow(dead_code, reason = "the binary's own file is read here, and used in part")]

#[path = "../../crates/esamsat/src/config.rs"]
mod config;
mod config_text;

/// What the configuration takes from the rest of the binary.
mod output {
    #[derive(Debug, thiserror::Error)]
    pub enum Fault {
        #[error("{0}")]
        Unavailable(String),
    }
}

mod demo {
    pub const UPSTREAM: &str = "simulator";
}

libfuzzer_sys::fuzz_target!(|text: &str| {
    config_text::holds(text);
});
