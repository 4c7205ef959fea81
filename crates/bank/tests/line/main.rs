//! The line and the bank host, over a real TCP connection on loopback.

mod host;
mod kit;
mod peer;
mod scripted;
mod tls;
