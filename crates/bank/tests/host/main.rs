//! The bank host, from the other end of a real TCP connection on loopback.

mod bounds;
#[path = "../line/dialects.rs"]
mod dialects;
mod faults;
mod kit;
mod payments;
mod sessions;
