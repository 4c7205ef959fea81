//! The bank host, from the other end of a real TCP connection on loopback.

mod bounds;
mod faults;
mod kit;
mod payments;
mod sessions;
