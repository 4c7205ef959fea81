//! The engine under harsh conditions: storms, crashes at every step, banks that are silent, wrong or late,
//! stores that fail, clocks that jump. Whatever happens, the ledger proves, and CONFIRM is what the bank took.
//!
//! Real engine, scripted bank, paused time; nothing here sleeps or samples.

#[cfg(test)]
mod authentication;
#[cfg(test)]
mod concurrency;
#[cfg(test)]
mod crashes;
#[cfg(test)]
mod deadlines;
#[cfg(test)]
mod fairness;
#[cfg(test)]
mod kit;
#[cfg(test)]
mod leases;
#[cfg(test)]
mod midnight;
#[cfg(test)]
mod operating;
#[cfg(test)]
mod resolving;
#[cfg(test)]
mod shutdown;
#[cfg(test)]
mod store_faults;
#[cfg(test)]
mod verifying;
