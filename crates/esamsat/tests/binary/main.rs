//! The binary as its operators and partners meet it: started, killed, asked over HTTP, and driven by its
//! commands, each test in a folder and on a port of its own.
//!
//! What a rule is belongs to the crates below and is tested there; here it is whether the whole thing keeps
//! it. Deliberately one program: the crate's tests link once.

mod bank_host;
mod bench;
mod chain;
mod commands;
mod copy;
mod country;
mod environment;
mod examples;
mod export;
mod failover;
mod full_disk;
mod kill;
mod kit;
mod line;
mod logs;
mod many;
mod ordeal;
mod readme;
mod relay;
mod shutdown;
mod verify;
