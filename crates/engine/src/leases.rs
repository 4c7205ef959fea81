//! Leases: which of several gateways asks about orphaned payments, tidies up, and writes to which slots.
//!
//! A gateway believes that it holds a lease for as long as nobody can have taken it over: until the time after
//! which others do, counted from just before its last renewal, by the monotonic clock, which goes on while a
//! process is stopped. Whoever decides something under a lease names its token, so that even one who
//! believes too long writes nothing ([`domain::lease`]).
//!
//! A gateway that is alone with its store holds everything, and writes no lease.

use crate::{Engine, Ids, StartError, limits};
use bank::{Holds, LineState, Terminals};
use domain::{
    Accepted, Command, Decision, Fence, Lease, Rejection, Slot, Terminal, UpstreamId, command::ChangeLease,
};
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use store::{Batch, Store};
use tokio::time::{Instant, timeout};

/// Whoever holds this tidies up.
pub(crate) const HOUSEKEEPING: &str = "housekeeping";

/// What the name of a writer's slot begins with.
const WRITER: &str = "writer/";

/// Whoever holds this asks about an upstream's orphaned payments.
pub(crate) fn resolver(upstream: UpstreamId) -> String {
    format!("resolver/{}", upstream.0)
}

/// What the name of a line's lease begins with.
const LINE: &str = "line/";

/// Whoever holds this uses a terminal at an upstream.
pub(crate) fn line(upstream: UpstreamId, terminal: Terminal) -> String {
    format!("{LINE}{}/{terminal}", upstream.0)
}

/// This gateway's view of all leases.
pub(crate) struct Leases {
    holder: String,
    /// A lease that stood still for so long is taken over; none for a gateway that is alone.
    after: Option<Duration>,
    known: Mutex<BTreeMap<String, Known>>,
}

/// A lease, and since when it has stood so; if it is this gateway's own, from just before its renewal.
#[derive(Clone)]
struct Known {
    lease: Lease,
    since: Instant,
}

impl Leases {
    pub(crate) fn new(ids: &Ids, after: Option<Duration>) -> Self {
        let holder = format!("{:016x}", u64::from_be_bytes(ids.bytes()));
        Self { holder, after, known: Mutex::default() }
    }

    /// Whether there are no other gateways.
    pub(crate) fn is_alone(&self) -> bool {
        self.after.is_none()
    }

    /// Whether a lease's work is this gateway's, now.
    pub(crate) fn holding(&self, name: &str) -> Holds {
        let Some(after) = self.after else { return Holds::Alone };
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        match known.get(name) {
            Some(Known { lease, since }) if lease.holder == self.holder && since.elapsed() < after => {
                Holds::Under(Fence { name: name.to_owned(), token: lease.token })
            }
            _ => Holds::No,
        }
    }

    fn note(&self, name: &str, lease: &Lease, since: Instant) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.get(name).is_none_or(|known| known.lease != *lease) {
            known.insert(name.to_owned(), Known { lease: lease.clone(), since });
        }
    }

    /// Notes a lease as it was read. One's own, of which others may have counted for long, is not believed in any longer
    /// for that: only a renewal tells when it began.
    fn note_read(&self, name: &str, lease: &Lease) {
        let now = Instant::now();
        let since = match self.known(name) {
            _ if lease.holder != self.holder => now,
            Some(known) if known.lease.holder == self.holder => known.since,
            _ => now.checked_sub(self.after.unwrap_or_default()).unwrap_or(now),
        };
        self.note(name, lease, since);
    }

    fn known(&self, name: &str) -> Option<Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).get(name).cloned()
    }

    /// The names of the leases that this gateway holds, as far as it knows.
    fn own(&self) -> Vec<String> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known
            .iter()
            .filter(|(_, known)| known.lease.holder == self.holder)
            .map(|(name, _)| name.clone())
            .collect()
    }

    /// The change that a lease needs now: to be taken, to be renewed, or, if it is nobody's concern any more,
    /// to be given up, for its holder as well if that is gone.
    fn due(&self, name: &str, is_wanted: bool) -> Option<ChangeLease> {
        let after = self.after?;
        let change = |seen: Option<Lease>, holder: &str| {
            Some(ChangeLease { name: name.to_owned(), seen, holder: holder.to_owned() })
        };
        let Some(Known { lease, since }) = self.known(name) else {
            return if is_wanted { change(None, &self.holder) } else { None };
        };
        let is_free = !lease.is_held();
        let stands_still = since.elapsed() >= after;
        if lease.holder == self.holder {
            return change(Some(lease), if is_wanted { &self.holder } else { "" });
        }
        match (is_wanted, is_free || stands_still) {
            (true, true) => change(Some(lease), &self.holder),
            (false, _) if stands_still && !is_free => change(Some(lease), ""),
            _ => None,
        }
    }

    /// The leases on an upstream's lines that this gateway wants: those that it has, and as many more as it may
    /// have and are to be had.
    fn lines(&self, upstream: UpstreamId, terminals: &Terminals) -> Vec<String> {
        let names = terminals.all.iter().map(|terminal| line(upstream, *terminal));
        let (mut wanted, others): (Vec<_>, Vec<_>) =
            names.partition(|name| self.known(name).is_some_and(|known| known.lease.holder == self.holder));
        let room = terminals.held_max.saturating_sub(wanted.len());
        wanted.extend(others.into_iter().filter(|name| self.due(name, true).is_some()).take(room));
        wanted
    }

    /// Takes a slot for each lane, before there is a journal to do it with.
    pub(crate) async fn take_slots(
        &self,
        store: &dyn Store,
        ids: &Ids,
        lanes: usize,
    ) -> Result<Vec<Slot>, StartError> {
        let numbers = || 0..limits::slots_max;
        if self.after.is_none() {
            return Ok(numbers().take(lanes.max(1)).map(Slot).collect());
        }
        for (name, lease) in store.leases().await? {
            self.note_read(&name, &lease);
        }
        let mut slots = Vec::new();
        for number in numbers() {
            if slots.len() == lanes.max(1) {
                break;
            }
            let name = format!("{WRITER}{number}");
            let seen = self.known(&name).map(|known| known.lease);
            if seen.as_ref().is_some_and(Lease::is_held) {
                continue;
            }
            let command = ChangeLease { name: name.clone(), seen, holder: self.holder.clone() };
            let commands = vec![Command::ChangeLease(Box::new(command))];
            let since = Instant::now();
            let batch = Batch { id: ids.batch(), slot: Slot(0), commands };
            if let [Ok(Accepted::Lease(lease))] = &store.apply(batch).await?[..] as &[Decision] {
                self.note(&name, lease, since);
                slots.push(Slot(number));
            }
        }
        // Nothing but speed depends on a slot of one's own.
        slots.extend(numbers().map(Slot).take(lanes.max(1) - slots.len()));
        Ok(slots)
    }
}

/// Since when an upstream's lines have all been down.
#[derive(Default)]
struct Lineless(BTreeMap<UpstreamId, Instant>);

impl Lineless {
    /// Whether this gateway can ask about the upstream's payments, or soon can again; if not, another one had better.
    fn can_ask(&mut self, upstream: UpstreamId, lines: &[LineState]) -> bool {
        if lines.is_empty() || lines.iter().any(|line| line.is_up) {
            self.0.remove(&upstream);
            return true;
        }
        self.0.entry(upstream).or_insert_with(Instant::now).elapsed() < limits::lineless_max
    }
}

impl Engine {
    /// Takes, renews and watches leases until the gateway stops; then gives its own up.
    pub(crate) async fn keep_leases(self: Arc<Self>) {
        let Some(after) = self.leases.after else { return };
        let mut always = vec![HOUSEKEEPING.to_owned()];
        always.extend(self.leases.own());
        let mut lineless = Lineless::default();
        let mut ticks = tokio::time::interval(after / 4);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let is_line = |name: &str| name.starts_with(LINE);
        let mut is_stopping = false;
        loop {
            tokio::select! {
                biased;
                () = self.stopping.cancelled(), if !is_stopping => {
                    is_stopping = true;
                    self.give_leases_up(|name| !is_line(name)).await;
                    continue;
                }
                () = self.lines_are_closed.cancelled() => break,
                _ = ticks.tick() => {}
            }
            if is_stopping {
                // Answers still come in on the lines.
                let lines = self.leases.own().into_iter().filter(|name| is_line(name)).collect::<Vec<_>>();
                let due = lines.iter().filter_map(|name| self.leases.due(name, true));
                futures::future::join_all(due.map(|change| self.change_lease(change))).await;
                continue;
            }
            let looked = self.stopping.run_until_cancelled(self.store.leases()).await;
            match looked {
                Some(Ok(leases)) => {
                    for (name, lease) in leases {
                        self.leases.note_read(&name, &lease);
                    }
                }
                Some(Err(error)) => {
                    tracing::warn!(%error, "failed to look at the leases");
                    continue;
                }
                None => continue,
            }
            let mut wanted = always.clone();
            for (upstream, bank) in &self.banks {
                if lineless.can_ask(*upstream, &bank.lines()) {
                    wanted.push(resolver(*upstream));
                }
                wanted.extend(self.leases.lines(*upstream, &bank.terminals()));
            }
            let mut names = wanted.clone();
            let known = self.leases.known.lock().unwrap_or_else(PoisonError::into_inner).clone();
            names.extend(known.into_keys().filter(|name| !wanted.contains(name)));
            let due = names.iter().filter_map(|name| self.leases.due(name, wanted.contains(name)));
            futures::future::join_all(due.map(|change| self.change_lease(change))).await;
        }
        self.give_leases_up(|_| true).await;
    }

    /// Gives up what this gateway holds, so that the others need not wait. Payments under way need no lease but
    /// that on their line.
    async fn give_leases_up(&self, which: impl Fn(&str) -> bool) {
        let due = self.leases.own().into_iter().filter(|name| which(name)).filter_map(|name| {
            let seen = self.leases.known(&name).map(|known| known.lease);
            Some(ChangeLease { name, seen: Some(seen?), holder: String::new() })
        });
        futures::future::join_all(due.map(|change| self.change_lease(change))).await;
    }

    async fn change_lease(&self, change: ChangeLease) {
        let since = Instant::now();
        let name = change.name.clone();
        let was_own = change.seen.as_ref().is_some_and(|lease| lease.holder == self.leases.holder);
        let submitted = self.journal.submit(Command::ChangeLease(Box::new(change)));
        // One lane that hangs must not cost the leases that are written in others.
        let limit = self.leases.after.unwrap_or_default();
        let Ok(changed) = timeout(limit, submitted).await else {
            return tracing::warn!(lease = name, "a change of a lease was not written in time");
        };
        match changed {
            Ok(Accepted::Lease(lease)) => {
                if lease.holder == self.leases.holder && !was_own {
                    tracing::info!(lease = name, token = lease.token, "took the lease");
                }
                self.leases.note(&name, &lease, since);
            }
            Ok(other) => unreachable!("a change of a lease is never answered with {other:?}"),
            // Somebody was faster; the next look shows who.
            Err(crate::Failure::Rejected(Rejection::LeaseLost)) => {
                if was_own {
                    tracing::warn!(lease = name, "lost the lease");
                }
            }
            Err(failure) => tracing::warn!(lease = name, %failure, "failed to change a lease"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const AFTER: Duration = Duration::from_secs(8);

    fn gateway(seed: u64) -> Leases {
        Leases::new(&Ids::seeded(seed), Some(AFTER))
    }

    fn lease(holder: &str, token: i64, renewals: i64) -> Lease {
        Lease { holder: holder.to_owned(), token, renewals }
    }

    #[tokio::test(start_paused = true)]
    async fn a_lease_is_believed_in_until_others_may_take_it() {
        let leases = gateway(1);
        assert_eq!(leases.holding("work"), Holds::No);
        let own = leases.holder.clone();
        leases.note("work", &lease(&own, 3, 0), Instant::now());
        assert_eq!(leases.holding("work"), Holds::Under(Fence { name: "work".to_owned(), token: 3 }));
        tokio::time::advance(AFTER).await;
        assert_eq!(leases.holding("work"), Holds::No, "others take it over by now");
        leases.note("work", &lease(&own, 3, 1), Instant::now());
        assert!(matches!(leases.holding("work"), Holds::Under(_)));
        leases.note("work", &lease("other", 4, 0), Instant::now());
        assert_eq!(leases.holding("work"), Holds::No);
    }

    /// The answer to a renewal is lost, and the next look finds it written: others may have counted on from then.
    #[tokio::test(start_paused = true)]
    async fn a_lease_that_is_read_is_believed_in_no_longer_for_that() {
        let leases = gateway(1);
        let own = leases.holder.clone();
        leases.note_read("work", &lease(&own, 3, 0));
        assert_eq!(leases.holding("work"), Holds::No, "taken, nobody knows when");
        leases.note("work", &lease(&own, 3, 1), Instant::now());
        tokio::time::advance(AFTER / 2).await;
        leases.note_read("work", &lease(&own, 3, 2));
        assert!(matches!(leases.holding("work"), Holds::Under(_)));
        assert_eq!(leases.due("work", true).and_then(|due| due.seen), Some(lease(&own, 3, 2)));
        tokio::time::advance(AFTER / 2).await;
        assert_eq!(leases.holding("work"), Holds::No);
        leases.note_read("work", &lease("other", 4, 0));
        assert_eq!(leases.holding("work"), Holds::No);
    }

    #[tokio::test(start_paused = true)]
    async fn a_lease_that_stands_still_is_taken_over_and_one_that_moves_is_not() {
        let leases = gateway(1);
        let own = leases.holder.clone();
        let holder = |due: Option<ChangeLease>| due.map(|change| change.holder);
        assert_eq!(holder(leases.due("work", true)), Some(own.clone()), "nobody had it ever");
        assert_eq!(holder(leases.due("work", false)), None);
        for renewals in 0..5 {
            leases.note("work", &lease("other", 1, renewals), Instant::now());
            tokio::time::advance(AFTER / 2).await;
            assert_eq!(holder(leases.due("work", true)), None);
            assert_eq!(holder(leases.due("work", false)), None);
        }
        tokio::time::advance(AFTER).await;
        assert_eq!(holder(leases.due("work", true)), Some(own));
        assert_eq!(holder(leases.due("work", false)), Some(String::new()), "what is not wanted is freed");
        leases.note("work", &lease("", 2, 0), Instant::now());
        assert_eq!(holder(leases.due("work", false)), None);
        assert!(leases.due("work", true).is_some(), "what is free is taken at once");
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_ones_own_and_not_wanted_is_given_up() {
        let leases = gateway(1);
        leases.note("work", &lease(&leases.holder.clone(), 3, 0), Instant::now());
        let holder = |is_wanted| leases.due("work", is_wanted).map(|change| change.holder);
        assert_eq!((holder(true), holder(false)), (Some(leases.holder.clone()), Some(String::new())));
    }

    #[tokio::test(start_paused = true)]
    async fn a_gateway_without_a_line_leaves_the_questions_to_others() {
        let upstream = UpstreamId(1);
        let mut lineless = Lineless::default();
        let line = |is_up| LineState { is_up, ..LineState::default() };
        assert!(lineless.can_ask(upstream, &[]), "one that needs no line");
        for _ in 0..2 {
            assert!(lineless.can_ask(upstream, &[line(false), line(false)]), "it may come up");
            tokio::time::advance(limits::lineless_max / 2).await;
            assert!(lineless.can_ask(upstream, &[line(false), line(false)]));
            tokio::time::advance(limits::lineless_max / 2).await;
            assert!(!lineless.can_ask(upstream, &[line(false), line(false)]));
            assert!(lineless.can_ask(upstream, &[line(false), line(true)]));
        }
    }

    #[tokio::test]
    async fn whoever_is_alone_holds_everything() {
        let leases = Leases::new(&Ids::seeded(1), None);
        assert_eq!(leases.holding("work"), Holds::Alone);
        assert!(leases.due("work", true).is_none());
    }
}
