//! A store in front of another one, as tests of what is above need it: slow, away, watched. What it does not do
//! otherwise goes through, once the one behind is reached.

use crate::{AuditVisitor, Batch, BatchId, Error, InvoiceFilter, Store, StoredInvoice};
use domain::{
    Account, Decision, Environment, Invoice, InvoiceNumber, Lease, Partner, Posting, Product, Rupiah,
    Timestamp, UpstreamId, Username,
    record::{Entry, Event, Incident, Proposal},
};
use futures::future::BoxFuture;

/// What comes of asking a store.
pub type Answer<'a, T> = BoxFuture<'a, Result<T, Error>>;

/// A store in front of another one.
pub trait Front: Send + Sync + Sized + 'static {
    /// The store behind.
    fn behind(&self) -> &dyn Store;

    /// Waits until that is reached, before every read; the error says why it cannot be.
    fn reach(&self) -> Answer<'_, ()>;

    /// What every answer to a read passes through.
    fn passing<'a, T: Send + 'a>(&'a self, answer: Answer<'a, T>) -> Answer<'a, T> {
        answer
    }

    /// [`Store::apply`]
    fn write(&self, batch: Batch) -> Answer<'_, Vec<Decision>>;

    /// [`Store::batch_committed`]
    fn was_committed(&self, id: BatchId) -> Answer<'_, bool>;

    /// [`Store::invoice`]
    fn read_invoice(&self, number: InvoiceNumber) -> Answer<'_, Option<StoredInvoice>> {
        read(self, move |store| store.invoice(number))
    }

    /// [`Store::check`]
    fn is_well(&self) -> Answer<'_, ()> {
        read(self, |store| store.check())
    }

    /// [`Store::prune_batches`]
    fn forget_batches(&self, moment: Timestamp) -> Answer<'_, ()> {
        self.passing(self.behind().prune_batches(moment))
    }
}

fn read<'a, T: Send + 'a>(
    front: &'a impl Front,
    read: impl FnOnce(&'a dyn Store) -> Answer<'a, T> + Send + 'a,
) -> Answer<'a, T> {
    front.passing(Box::pin(async move {
        front.reach().await?;
        read(front.behind()).await
    }))
}

impl<F: Front> Store for F {
    fn apply(&self, batch: Batch) -> Answer<'_, Vec<Decision>> {
        self.write(batch)
    }

    fn batch_committed(&self, id: BatchId) -> Answer<'_, bool> {
        self.was_committed(id)
    }

    fn partner(&self, username: &Username) -> Answer<'_, Option<Partner>> {
        let username = username.clone();
        self.passing(Box::pin(async move {
            self.reach().await?;
            self.behind().partner(&username).await
        }))
    }

    fn partners(&self) -> Answer<'_, Vec<Partner>> {
        read(self, |store| store.partners())
    }

    fn products(&self) -> Answer<'_, Vec<Product>> {
        read(self, |store| store.products())
    }

    fn catalogue_version(&self) -> Answer<'_, i64> {
        read(self, |store| store.catalogue_version())
    }

    fn invoice(&self, number: InvoiceNumber) -> Answer<'_, Option<StoredInvoice>> {
        self.read_invoice(number)
    }

    fn invoices(&self, filter: InvoiceFilter) -> Answer<'_, Vec<StoredInvoice>> {
        read(self, |store| store.invoices(filter))
    }

    fn pending(&self, after: InvoiceNumber, limit: u32) -> Answer<'_, Vec<Invoice>> {
        read(self, move |store| store.pending(after, limit))
    }

    fn pending_count(&self) -> Answer<'_, u64> {
        read(self, |store| store.pending_count())
    }

    fn balance(&self, account: Account) -> Answer<'_, Rupiah> {
        read(self, move |store| store.balance(account))
    }

    fn balances(&self) -> Answer<'_, Vec<(Account, Rupiah)>> {
        read(self, |store| store.balances())
    }

    fn postings(&self, subject: i64) -> Answer<'_, Vec<Posting>> {
        read(self, move |store| store.postings(subject))
    }

    fn account_postings(&self, account: Account, before: i64, limit: u32) -> Answer<'_, Vec<Posting>> {
        read(self, move |store| store.account_postings(account, before, limit))
    }

    fn entries(&self, before: i64, limit: u32) -> Answer<'_, Vec<Entry>> {
        read(self, move |store| store.entries(before, limit))
    }

    fn entry_by_reference(&self, environment: Environment, reference: &str) -> Answer<'_, Option<Entry>> {
        let reference = reference.to_owned();
        self.passing(Box::pin(async move {
            self.reach().await?;
            self.behind().entry_by_reference(environment, &reference).await
        }))
    }

    fn incidents(&self, limit: u32) -> Answer<'_, Vec<Incident>> {
        read(self, move |store| store.incidents(limit))
    }

    fn proposals(&self) -> Answer<'_, Vec<Proposal>> {
        read(self, |store| store.proposals())
    }

    fn proposal(&self, number: InvoiceNumber) -> Answer<'_, Option<Proposal>> {
        read(self, move |store| store.proposal(number))
    }

    fn upstreams(&self) -> Answer<'_, Vec<(String, UpstreamId)>> {
        read(self, |store| store.upstreams())
    }

    fn leases(&self) -> Answer<'_, Vec<(String, Lease)>> {
        read(self, |store| store.leases())
    }

    fn events(&self, after: i64, limit: u32) -> Answer<'_, Vec<(i64, Event)>> {
        read(self, move |store| store.events(after, limit))
    }

    fn audit(&self, visit: AuditVisitor) -> Answer<'_, ()> {
        read(self, |store| store.audit(visit))
    }

    fn size_bytes(&self) -> Answer<'_, u64> {
        read(self, |store| store.size_bytes())
    }

    fn check(&self) -> Answer<'_, ()> {
        self.is_well()
    }

    fn prune_batches(&self, moment: Timestamp) -> Answer<'_, ()> {
        self.forget_batches(moment)
    }
}
