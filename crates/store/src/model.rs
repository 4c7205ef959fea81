//! The in-memory store: the reference that every backend is compared with, and the store of simulations.
//!
//! A [`Model`] is a handle. What was committed lives as long as one handle does, so that dropping an engine
//! and giving a clone to the next one is a crash and a restart. Everything is decided and written under one
//! lock, so that every method is one atomic step, and a batch is written whole or not at all.
//!
//! [`Model::fail_next`] makes coming calls of `apply` fail as a real store can. Deliberately absent:
//! durability, and any speed beyond what maps give.

use crate::{AuditRow, AuditVisitor, Batch, BatchId, Error, InvoiceFilter, Store, StoredInvoice};
use domain::{
    Decision, Environment, Invoice, InvoiceNumber, Lease, Partner, PartnerId, Posting, Product, ProductCode,
    Rupiah, State, Timestamp, UpstreamId, Username,
    invoice::Presentment,
    ledger::{Account, Step},
    record::{Entry, Event, Incident, Proposal},
    rows::{Changes, Claim, Counter, IncidentKey, Keys, Rows},
};
use futures::future::BoxFuture;
use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet, VecDeque},
    fmt,
    ops::Bound,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// The in-memory store. Clones share what is committed.
#[derive(Clone, Default)]
pub struct Model {
    shared: Arc<Mutex<Shared>>,
}

/// How a coming call of `apply` fails.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fault {
    /// As [`Error::Full`]; nothing is written.
    Full,
    /// As [`Error::Unavailable`]; nothing is written.
    Unavailable,
    /// As [`Error::Data`]; nothing is written.
    Data,
    /// As [`Error::Fatal`]; nothing is written.
    Fatal,
    /// As [`Error::Ambiguous`]; the batch is written.
    AnswerLostAfterCommit,
    /// As [`Error::Ambiguous`]; nothing is written.
    AnswerLostBeforeCommit,
}

#[derive(Default)]
struct Shared {
    committed: Committed,
    faults: VecDeque<Fault>,
}

#[derive(Default)]
struct Committed {
    /// Whether the batch was committed. One that was asked about before is fenced: `false` for ever.
    batches: BTreeMap<BatchId, bool>,
    partners: BTreeMap<PartnerId, Partner>,
    products: BTreeMap<(Environment, ProductCode), Product>,
    claims: BTreeMap<String, i64>,
    invoices: BTreeMap<InvoiceNumber, Invoice>,
    presentments: BTreeMap<InvoiceNumber, Presentment>,
    proposals: BTreeMap<InvoiceNumber, Proposal>,
    incidents: BTreeMap<IncidentKey, Incident>,
    balances: BTreeMap<Account, Rupiah>,
    counters: BTreeMap<Counter, i64>,
    leases: BTreeMap<String, Lease>,
    postings: BTreeMap<(i64, Step, Account), Posting>,
    /// The position of an event is its index, counted from 1.
    events: Vec<Event>,
    entries: BTreeMap<i64, Entry>,
}

impl Model {
    /// An empty store.
    pub fn new() -> Self {
        Self::default()
    }

    /// Makes the next call of `apply` that has no fault yet fail in this way.
    pub fn fail_next(&self, fault: Fault) {
        self.lock().faults.push_back(fault);
    }

    /// Forgets the faults that have not struck yet.
    pub fn heal(&self) {
        self.lock().faults.clear();
    }

    fn lock(&self) -> MutexGuard<'_, Shared> {
        // Everything is checked before the first row is written, so that a panic leaves whole rows behind.
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn read<'a, T: Send>(
        &'a self,
        query: impl FnOnce(&Committed) -> T + Send + 'a,
    ) -> BoxFuture<'a, Result<T, Error>> {
        Box::pin(async move { Ok(query(&self.lock().committed)) })
    }
}

impl fmt::Debug for Model {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Model")
    }
}

impl Fault {
    /// The error of a fault that struck before the commit.
    fn refusal(self) -> Option<Error> {
        let reason = || "injected fault".to_owned();
        match self {
            Self::Full => Some(Error::Full(reason())),
            Self::Unavailable => Some(Error::Unavailable(reason())),
            Self::Data => Some(Error::Data(reason())),
            Self::Fatal => Some(Error::Fatal(reason())),
            Self::AnswerLostAfterCommit | Self::AnswerLostBeforeCommit => None,
        }
    }
}

impl Shared {
    fn apply(&mut self, batch: &Batch) -> Result<Vec<Decision>, Error> {
        let fault = self.faults.pop_front();
        if let Some(error) = fault.and_then(Fault::refusal) {
            return Err(error);
        }
        if self.committed.batches.contains_key(&batch.id) {
            return Err(Error::Data(format!("batch {:?} was applied or given up before", batch.id)));
        }
        let rows = self.committed.load(&crate::keys(batch));
        let (decisions, changes) = crate::decide_batch(rows, batch);
        let reason = || "injected fault".to_owned();
        if fault == Some(Fault::AnswerLostBeforeCommit) {
            return Err(Error::Ambiguous { reason: reason(), decisions });
        }
        self.committed.check(&changes)?;
        self.committed.write(changes);
        self.committed.batches.insert(batch.id, true);
        if fault == Some(Fault::AnswerLostAfterCommit) {
            return Err(Error::Ambiguous { reason: reason(), decisions });
        }
        Ok(decisions)
    }
}

impl Committed {
    fn load(&self, keys: &Keys) -> Rows {
        Rows {
            partners: keys.partners.iter().map(|id| (*id, self.partners.get(id).cloned())).collect(),
            products: keys
                .products
                .iter()
                .map(|key| (key.clone(), self.products.get(key).cloned()))
                .collect(),
            claims: keys
                .claims
                .iter()
                .map(|claim| (claim.clone(), self.claims.get(&claim.key()).copied()))
                .collect(),
            invoices: keys.invoices.iter().map(|key| (*key, self.invoices.get(key).cloned())).collect(),
            proposals: keys.proposals.iter().map(|key| (*key, self.proposals.get(key).cloned())).collect(),
            incidents: keys.incidents.iter().map(|key| (*key, self.incidents.get(key).cloned())).collect(),
            balances: keys.balances.iter().map(|account| (*account, self.balance(*account))).collect(),
            counters: keys
                .counters
                .iter()
                .map(|counter| (*counter, self.counters.get(counter).copied().unwrap_or(0)))
                .collect(),
            leases: keys
                .leases
                .union(&keys.fences)
                .map(|name| (name.clone(), self.leases.get(name).cloned()))
                .collect(),
        }
    }

    /// What a database's keys hold: no row is inserted twice.
    fn check(&self, changes: &Changes) -> Result<(), Error> {
        for number in changes.invoices.keys() {
            match (self.invoices.contains_key(number), changes.presentments.contains_key(number)) {
                (true, false) | (false, true) => {}
                (true, true) => return Err(Error::Data(format!("{number:?} exists already"))),
                (false, false) => return Err(Error::Data(format!("{number:?} does not exist"))),
            }
        }
        let mut added = BTreeSet::new();
        for Posting { subject, step, account, .. } in &changes.postings {
            let key = (*subject, *step, *account);
            if self.postings.contains_key(&key) || !added.insert(key) {
                return Err(Error::Data(format!("{subject} {step:?} has posted to {account} before")));
            }
        }
        for entry in &changes.entries {
            if self.entries.contains_key(&entry.number) {
                return Err(Error::Data(format!("entry {} exists already", entry.number)));
            }
        }
        Ok(())
    }

    fn write(&mut self, changes: Changes) {
        self.partners.extend(changes.partners);
        self.products.extend(changes.products);
        self.presentments.extend(changes.presentments);
        self.invoices.extend(changes.invoices);
        self.incidents.extend(changes.incidents);
        self.balances.extend(changes.balances);
        self.counters.extend(changes.counters);
        self.leases.extend(changes.leases);
        self.events.extend(changes.events);
        self.entries.extend(changes.entries.into_iter().map(|entry| (entry.number, entry)));
        for posting in changes.postings {
            self.postings.insert((posting.subject, posting.step, posting.account), posting);
        }
        for (number, proposal) in changes.proposals {
            match proposal {
                Some(proposal) => self.proposals.insert(number, proposal),
                None => self.proposals.remove(&number),
            };
        }
        for (claim, owner) in changes.claims {
            match owner {
                Some(owner) => self.claims.insert(claim.key(), owner),
                None => self.claims.remove(&claim.key()),
            };
        }
        for upstream in changes.release_settled_sandbox_claims {
            let bills = Claim::sandbox_bills(upstream);
            let invoices = &self.invoices;
            self.claims.retain(|key, owner| {
                !key.starts_with(&bills) || is_pending(invoices.get(&InvoiceNumber::new(*owner)))
            });
        }
    }

    fn balance(&self, account: Account) -> Rupiah {
        self.balances.get(&account).copied().unwrap_or_default()
    }

    fn stored(&self, number: InvoiceNumber) -> Option<StoredInvoice> {
        Some(StoredInvoice {
            invoice: self.invoices.get(&number)?.clone(),
            presentment: self.presentments.get(&number)?.clone(),
        })
    }

    fn audit(&self, visit: &mut dyn FnMut(AuditRow) -> bool) {
        let balances = self.balances.iter().map(|(account, amount)| AuditRow::Balance(*account, *amount));
        let claims =
            self.claims.iter().map(|(key, owner)| AuditRow::Claim { key: key.clone(), owner: *owner });
        let entries = self.entries.values().cloned().map(AuditRow::Entry);
        let postings = self.postings.values().copied().map(AuditRow::Posting);
        let invoices = self.invoices.values().cloned().map(|invoice| AuditRow::Invoice(Box::new(invoice)));
        let events = self.events.iter().cloned().map(AuditRow::Event);
        let mut rows = balances.chain(claims).chain(entries).chain(postings).chain(invoices).chain(events);
        // `all` stops at the first `false`, as the visitor may ask.
        let _ = rows.all(visit);
    }
}

fn is_pending(invoice: Option<&Invoice>) -> bool {
    invoice.is_some_and(|invoice| matches!(invoice.state, State::Pending { .. }))
}

fn count(limit: u32) -> usize {
    usize::try_from(limit).unwrap_or(usize::MAX)
}

impl Store for Model {
    fn apply(&self, batch: Batch) -> BoxFuture<'_, Result<Vec<Decision>, Error>> {
        Box::pin(async move { self.lock().apply(&batch) })
    }

    fn batch_committed(&self, id: BatchId) -> BoxFuture<'_, Result<bool, Error>> {
        Box::pin(async move { Ok(*self.lock().committed.batches.entry(id).or_insert(false)) })
    }

    fn partner(&self, username: &Username) -> BoxFuture<'_, Result<Option<Partner>, Error>> {
        let username = username.clone();
        self.read(move |rows| rows.partners.values().find(|partner| partner.username == username).cloned())
    }

    fn partners(&self) -> BoxFuture<'_, Result<Vec<Partner>, Error>> {
        self.read(|rows| rows.partners.values().cloned().collect())
    }

    fn products(&self) -> BoxFuture<'_, Result<Vec<Product>, Error>> {
        self.read(|rows| {
            let mut products: Vec<_> = rows.products.values().cloned().collect();
            // Stable, so that products of one position stay in order of code.
            products.sort_by_key(|product| (product.environment, product.position));
            products
        })
    }

    fn catalogue_version(&self) -> BoxFuture<'_, Result<i64, Error>> {
        self.read(|rows| rows.counters.get(&Counter::Catalogue).copied().unwrap_or(0))
    }

    fn invoice(&self, number: InvoiceNumber) -> BoxFuture<'_, Result<Option<StoredInvoice>, Error>> {
        self.read(move |rows| rows.stored(number))
    }

    fn invoices(&self, filter: InvoiceFilter) -> BoxFuture<'_, Result<Vec<StoredInvoice>, Error>> {
        self.read(move |rows| {
            let matches = |invoice: &&Invoice| {
                filter.partner.is_none_or(|partner| invoice.partner == partner)
                    && filter.state.as_deref().is_none_or(|word| invoice.state.word() == word)
                    && filter.business_date.is_none_or(|date| invoice.business_date == date)
            };
            let end = filter.before.map_or(Bound::Unbounded, Bound::Excluded);
            rows.invoices
                .range((Bound::Unbounded, end))
                .rev()
                .map(|(_, invoice)| invoice)
                .filter(matches)
                .take(count(filter.limit))
                .filter_map(|invoice| rows.stored(invoice.number))
                .collect()
        })
    }

    fn pending(&self, after: InvoiceNumber, limit: u32) -> BoxFuture<'_, Result<Vec<Invoice>, Error>> {
        self.read(move |rows| {
            rows.invoices
                .range((Bound::Excluded(after), Bound::Unbounded))
                .map(|(_, invoice)| invoice)
                .filter(|invoice| is_pending(Some(invoice)))
                .take(count(limit))
                .cloned()
                .collect()
        })
    }

    fn pending_count(&self) -> BoxFuture<'_, Result<u64, Error>> {
        self.read(|rows| rows.invoices.values().map(|invoice| u64::from(is_pending(Some(invoice)))).sum())
    }

    fn balance(&self, account: Account) -> BoxFuture<'_, Result<Rupiah, Error>> {
        self.read(move |rows| rows.balance(account))
    }

    fn balances(&self) -> BoxFuture<'_, Result<Vec<(Account, Rupiah)>, Error>> {
        self.read(|rows| rows.balances.iter().map(|(account, amount)| (*account, *amount)).collect())
    }

    fn postings(&self, subject: i64) -> BoxFuture<'_, Result<Vec<Posting>, Error>> {
        self.read(move |rows| {
            rows.postings.values().filter(|posting| posting.subject == subject).copied().collect()
        })
    }

    fn account_postings(
        &self,
        account: Account,
        before: i64,
        limit: u32,
    ) -> BoxFuture<'_, Result<Vec<Posting>, Error>> {
        self.read(move |rows| {
            let mut found: Vec<Posting> = Vec::new();
            let newest_first = rows.postings.values().rev();
            for posting in
                newest_first.filter(|posting| posting.account == account && posting.subject < before)
            {
                // A page ends between two subjects, since the cursor names a subject.
                if found.len() >= count(limit)
                    && found.last().is_none_or(|last| last.subject != posting.subject)
                {
                    break;
                }
                found.push(*posting);
            }
            found
        })
    }

    fn entries(&self, before: i64, limit: u32) -> BoxFuture<'_, Result<Vec<Entry>, Error>> {
        self.read(move |rows| {
            rows.entries.range(..before).rev().take(count(limit)).map(|(_, entry)| entry.clone()).collect()
        })
    }

    fn entry_by_reference(
        &self,
        environment: Environment,
        reference: &str,
    ) -> BoxFuture<'_, Result<Option<Entry>, Error>> {
        let claim = Claim::deposit_reference(environment, reference);
        self.read(move |rows| {
            rows.claims.get(&claim.key()).and_then(|number| rows.entries.get(number)).cloned()
        })
    }

    fn incidents(&self, limit: u32) -> BoxFuture<'_, Result<Vec<Incident>, Error>> {
        self.read(move |rows| {
            let mut incidents: Vec<_> = rows.incidents.iter().collect();
            incidents.sort_by_key(|((invoice, kind), incident)| {
                (Reverse(incident.last_at), *invoice, kind.name())
            });
            incidents.into_iter().take(count(limit)).map(|(_, incident)| incident.clone()).collect()
        })
    }

    fn proposals(&self) -> BoxFuture<'_, Result<Vec<Proposal>, Error>> {
        self.read(|rows| {
            let stands = |proposal: &&Proposal| is_pending(rows.invoices.get(&proposal.invoice));
            rows.proposals.values().filter(stands).cloned().collect()
        })
    }

    fn proposal(&self, number: InvoiceNumber) -> BoxFuture<'_, Result<Option<Proposal>, Error>> {
        self.read(move |rows| rows.proposals.get(&number).cloned())
    }

    fn upstreams(&self) -> BoxFuture<'_, Result<Vec<(String, UpstreamId)>, Error>> {
        self.read(|rows| {
            rows.claims
                .iter()
                .filter_map(|(key, owner)| {
                    let name = key.strip_prefix("b/")?;
                    Some((name.to_owned(), UpstreamId(u32::try_from(*owner).ok()?)))
                })
                .collect()
        })
    }

    fn leases(&self) -> BoxFuture<'_, Result<Vec<(String, Lease)>, Error>> {
        self.read(|rows| rows.leases.iter().map(|(name, lease)| (name.clone(), lease.clone())).collect())
    }

    fn events(&self, after: i64, limit: u32) -> BoxFuture<'_, Result<Vec<(i64, Event)>, Error>> {
        self.read(move |rows| {
            (1..)
                .zip(&rows.events)
                .filter(|(position, _)| *position > after)
                .take(count(limit))
                .map(|(position, event)| (position, event.clone()))
                .collect()
        })
    }

    fn audit(&self, mut visit: AuditVisitor) -> BoxFuture<'_, Result<(), Error>> {
        self.read(move |rows| rows.audit(&mut visit))
    }

    fn size_bytes(&self) -> BoxFuture<'_, Result<u64, Error>> {
        self.read(|_| 0)
    }

    fn check(&self) -> BoxFuture<'_, Result<(), Error>> {
        Box::pin(async move {
            match self.lock().faults.front().and_then(|fault| fault.refusal()) {
                Some(error) => Err(error),
                None => Ok(()),
            }
        })
    }

    fn prune_batches(&self, moment: Timestamp) -> BoxFuture<'_, Result<(), Error>> {
        Box::pin(async move {
            let first_kept = BatchId::first_of(moment);
            self.lock().committed.batches.retain(|id, _| *id >= first_kept);
            Ok(())
        })
    }
}
