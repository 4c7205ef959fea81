//! The faces over HTTP: the partner contract of 2019, health and metrics.
//!
//! ```text
//! server       sockets: accepting, limits of time and number, stopping gracefully
//! router       the route table, and what every request gets: a bounded body, a log line, metrics
//! parameters   what a partner sent, in whichever of the encodings in use
//! partner/     the endpoints of the contract, one file each
//! answer       what goes back, byte for byte
//! ```
//!
//! Passwords, query strings and personal data reach no log, no metric and no error message from here.
//! Deliberately absent: rules about money, SQL, ISO 8583 (all behind `engine`), and TLS, which a proxy in
//! front terminates.

mod address;
mod answer;
#[doc(hidden)]
pub mod fuzzing;
pub mod limits;
mod operations;
mod parameters;
mod partner;
mod reference;
mod router;
mod server;
mod socket;

pub use ipnet::IpNet;
pub use reference::reference_router;
pub use router::{Arrival, Body, Face, Router};
pub use server::{Settings, listen, serve};
