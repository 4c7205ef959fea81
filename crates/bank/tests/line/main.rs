//! The line and the bank host, over a real TCP connection on loopback.

#[path = "../dialects/mod.rs"]
mod dialects;
mod host;
mod kit;
mod peer;
mod scripted;
mod tls;
