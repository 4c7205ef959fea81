//! Leases: which gateway does the work that only one should do at a time.
//!
//! A lease never expires by a clock, since gateways' clocks differ. Its holder counts `renewals` up; who has
//! watched it stand still for long enough, by a monotonic clock of its own, takes it over, which counts the
//! `token` up. Both are compare-and-set: of two who want it at once, one gets it. What the holder writes names
//! the token ([`Fence`]), so that one who was paused and lost the lease meanwhile writes nothing.

/// A lease as it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lease {
    /// Who holds it; empty if nobody does.
    pub holder: String,
    /// Counted up whenever it changes hands.
    pub token: i64,
    /// Counted up by its holder, to show that it lives.
    pub renewals: i64,
}

impl Lease {
    /// Whether somebody holds it, alive or not.
    pub fn is_held(&self) -> bool {
        !self.holder.is_empty()
    }
}

/// Under which lease something is written: it counts only while the lease has this token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fence {
    /// The lease.
    pub name: String,
    /// Its token, when the work began.
    pub token: i64,
}
