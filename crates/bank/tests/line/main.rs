//! The line and the bank host, over a real TCP connection on loopback.

mod dialects;
mod host;
mod kit;
mod peer;
mod scripted;
mod tls;
