//! The partner contract through the router and through real sockets, over the real engine, the in-memory
//! store and a bank that does what each test says.

#![expect(clippy::unwrap_used, reason = "these are tests, helpers included")]

mod deadline;
mod fields;
mod golden;
mod guard;
mod sockets;
mod support;
mod transport;
