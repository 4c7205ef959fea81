//! The bank host, from the other end of a real TCP connection on loopback.

mod bounds;
#[path = "../dialects/mod.rs"]
mod dialects;
mod faults;
mod kit;
mod payments;
mod sessions;
