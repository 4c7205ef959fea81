//! The engine under harsh conditions: storms, crashes at every step, banks that are silent, wrong or late,
//! stores that fail, clocks that jump. Whatever happens, the ledger proves, and CONFIRM is what the bank took.
//!
//! Real engine, scripted bank, paused time; nothing here sleeps or samples.

#[cfg(test)]
mod concurrency;
#[cfg(test)]
mod crashes;
#[cfg(test)]
mod kit;
#[cfg(test)]
mod resolving;
#[cfg(test)]
mod store_faults;
