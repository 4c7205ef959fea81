//! What a durable store must do, as one small trait.
//!
//! A store knows rows, not rules: [`Store::apply`] locks and loads what a batch of commands names, lets
//! [`decide_batch`] decide them in memory, writes what changed, and commits, all in one transaction. The
//! rules are `domain`'s, the same for every backend and for the [`model`].
//!
//! [`mod@conformance`] is the suite that every backend runs; [`mod@copy`] is what one backend hands over to
//! another.

pub mod conformance;
pub mod copy;
pub mod front;
pub mod lookup;
pub mod model;

use domain::{
    BusinessDate, Command, Decision, Environment, Invoice, InvoiceNumber, Lease, Partner, PartnerId, Posting,
    Product, Rejection, Rupiah, Slot, Timestamp, UpstreamId, Username,
    invoice::Presentment,
    ledger::Account,
    record::{Entry, Event, Incident, Proposal},
    rows::{Changes, Keys, Rows},
};
use futures::future::BoxFuture;
use std::{
    fmt,
    panic::{AssertUnwindSafe, catch_unwind},
};

/// Names one batch for ever, so that a lost commit answer can be settled. Time-ordered: a UUID of version 7,
/// whose uppermost 48 bits are milliseconds since 1970.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BatchId(pub u128);

impl BatchId {
    /// The least id of this moment: those of earlier batches are below it.
    pub fn first_of(moment: Timestamp) -> Self {
        Self(u128::try_from(moment.as_millis()).unwrap_or(0) << 80)
    }
}

impl fmt::Debug for BatchId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

/// Commands to be decided and written together.
#[derive(Clone, Debug)]
pub struct Batch {
    /// Its name.
    pub id: BatchId,
    /// The writer's share of the house accounts.
    pub slot: Slot,
    /// Decided one after another, in this order.
    pub commands: Vec<Command>,
}

/// Why a store did not do what it was asked. Nothing was written unless the variant says otherwise.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No space for new rows. Nothing was written; it may work again later.
    #[error("the store has no space left: {0}")]
    Full(String),
    /// The store is away, or kept us waiting too long. Nothing was written; it may work again later.
    #[error("the store is not available: {0}")]
    Unavailable(String),
    /// The rows of some command in the batch cannot be written. Nothing was; the batch can be split.
    #[error("the store refused the rows of a command: {0}")]
    Data(String),
    /// The answer to the commit was lost. The batch is written whole or not at all:
    /// [`Store::batch_committed`] tells. What was decided is kept here.
    #[error("the answer to a commit was lost: {reason}")]
    Ambiguous {
        /// What happened.
        reason: String,
        /// The decisions, valid if the batch turns out to be committed.
        decisions: Vec<Decision>,
    },
    /// The store can no longer be trusted (I/O error, corruption). The process must stop.
    #[error("the store can no longer be trusted: {0}")]
    Fatal(String),
}

/// An invoice with both its halves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredInvoice {
    /// The narrow half, which a payment changes.
    pub invoice: Invoice,
    /// The wide half, which nothing changes.
    pub presentment: Presentment,
}

/// Which invoices to list, newest number first.
#[derive(Clone, Debug, Default)]
pub struct InvoiceFilter {
    /// Only this partner's.
    pub partner: Option<PartnerId>,
    /// Only in the state with this word (`PENDING`).
    pub state: Option<String>,
    /// Only those inquired on this business day.
    pub business_date: Option<BusinessDate>,
    /// Only numbers below this one: the page's cursor.
    pub before: Option<InvoiceNumber>,
    /// How many at most.
    pub limit: u32,
}

/// One row of an audit, in the order of [`Store::audit`].
#[derive(Clone, Debug)]
pub enum AuditRow {
    /// A balance.
    Balance(Account, Rupiah),
    /// A claim and its owner, by the claim's key.
    Claim {
        /// See [`domain::rows::Claim::key`].
        key: String,
        /// The owner.
        owner: i64,
    },
    /// A manual entry's header.
    Entry(Entry),
    /// A posting.
    Posting(Posting),
    /// An invoice.
    Invoice(Box<Invoice>),
    /// An event of the outbox.
    Event(Event),
}

/// What [`Store::audit`] hands every row to; `false` ends the audit early.
pub type AuditVisitor = Box<dyn FnMut(AuditRow) -> bool + Send>;

/// A durable store. Every method is one atomic step.
pub trait Store: Send + Sync + 'static {
    /// Decides and writes a batch in one transaction, durable when this returns. The decisions are in
    /// the order of the commands. A batch id is applied at most once: the second time is an
    /// [`Error::Data`].
    fn apply(&self, batch: Batch) -> BoxFuture<'_, Result<Vec<Decision>, Error>>;

    /// Whether a batch was committed. The answer is final: after `false` the batch can never commit.
    fn batch_committed(&self, id: BatchId) -> BoxFuture<'_, Result<bool, Error>>;

    /// A partner, by log-in name.
    fn partner(&self, username: &Username) -> BoxFuture<'_, Result<Option<Partner>, Error>>;

    /// All partners, by number.
    fn partners(&self) -> BoxFuture<'_, Result<Vec<Partner>, Error>>;

    /// All products of both environments, by environment and position.
    fn products(&self) -> BoxFuture<'_, Result<Vec<Product>, Error>>;

    /// How often a partner or a product was changed so far. What was read after this answer is at least as new.
    fn catalogue_version(&self) -> BoxFuture<'_, Result<i64, Error>>;

    /// An invoice.
    fn invoice(&self, number: InvoiceNumber) -> BoxFuture<'_, Result<Option<StoredInvoice>, Error>>;

    /// Invoices, newest number first.
    fn invoices(&self, filter: InvoiceFilter) -> BoxFuture<'_, Result<Vec<StoredInvoice>, Error>>;

    /// Invoices in state PENDING with numbers above `after`, in order of number; fewer than `limit` only
    /// if there are no more. A row that cannot be read is passed over, and an error is logged that names
    /// its table and key: one such row must not hide all other open payments from who settles them.
    fn pending(&self, after: InvoiceNumber, limit: u32) -> BoxFuture<'_, Result<Vec<Invoice>, Error>>;

    /// How many invoices are PENDING.
    fn pending_count(&self) -> BoxFuture<'_, Result<u64, Error>>;

    /// One balance; zero if the account was never used.
    fn balance(&self, account: Account) -> BoxFuture<'_, Result<Rupiah, Error>>;

    /// All balances, in order of account code.
    fn balances(&self) -> BoxFuture<'_, Result<Vec<(Account, Rupiah)>, Error>>;

    /// The postings of one subject, by step and account code.
    fn postings(&self, subject: i64) -> BoxFuture<'_, Result<Vec<Posting>, Error>>;

    /// The postings of one account with subjects below `before`, newest subject and step first. A page ends
    /// between two subjects, so that the last subject is the next cursor; it may exceed `limit` for that.
    fn account_postings(
        &self,
        account: Account,
        before: i64,
        limit: u32,
    ) -> BoxFuture<'_, Result<Vec<Posting>, Error>>;

    /// Manual entries with numbers below `before`, newest first.
    fn entries(&self, before: i64, limit: u32) -> BoxFuture<'_, Result<Vec<Entry>, Error>>;

    /// The manual entry that owns a deposit's reference; case and the space around it do not count.
    fn entry_by_reference(
        &self,
        environment: Environment,
        reference: &str,
    ) -> BoxFuture<'_, Result<Option<Entry>, Error>>;

    /// Incidents, the last seen first; those seen at once by invoice and kind's name.
    fn incidents(&self, limit: u32) -> BoxFuture<'_, Result<Vec<Incident>, Error>>;

    /// Standing proposals, by invoice: those whose payment is open. The others are kept and not listed.
    fn proposals(&self) -> BoxFuture<'_, Result<Vec<Proposal>, Error>>;

    /// What was last proposed about an invoice, whether or not its payment is still open.
    fn proposal(&self, number: InvoiceNumber) -> BoxFuture<'_, Result<Option<Proposal>, Error>>;

    /// Upstreams by name, with their numbers.
    fn upstreams(&self) -> BoxFuture<'_, Result<Vec<(String, UpstreamId)>, Error>>;

    /// Leases by name, with the name of each.
    fn leases(&self) -> BoxFuture<'_, Result<Vec<(String, Lease)>, Error>>;

    /// Events with positions above `after`, oldest first, each with its position in the outbox. None ever
    /// turns up later at a position that was passed.
    fn events(&self, after: i64, limit: u32) -> BoxFuture<'_, Result<Vec<(i64, Event)>, Error>>;

    /// Hands over, as of one moment: all balances, claims and entries; then postings by subject and step;
    /// then invoices by number; then events by position.
    fn audit(&self, visit: AuditVisitor) -> BoxFuture<'_, Result<(), Error>>;

    /// Bytes that the rows and their indexes take on disk.
    fn size_bytes(&self) -> BoxFuture<'_, Result<u64, Error>>;

    /// Whether new work can be written now; the error says why not.
    fn check(&self) -> BoxFuture<'_, Result<(), Error>>;

    /// Forgets the ids of batches committed before `moment`; never one that could still be asked about.
    fn prune_batches(&self, moment: Timestamp) -> BoxFuture<'_, Result<(), Error>>;
}

/// The rows that a batch reads.
pub fn keys(batch: &Batch) -> Keys {
    let mut keys = Keys::default();
    for command in &batch.commands {
        command.add_keys(batch.slot, &mut keys);
    }
    keys
}

/// Decides a batch on its loaded rows: each command on what those before it left. A decision that panics
/// is rejected as [`Rejection::Impossible`], alone.
pub fn decide_batch(mut rows: Rows, batch: &Batch) -> (Vec<Decision>, Changes) {
    let mut written = Changes::default();
    let mut decisions = Vec::with_capacity(batch.commands.len());
    for command in &batch.commands {
        let decided = catch_unwind(AssertUnwindSafe(|| domain::decide(&rows, command, batch.slot)));
        decisions.push(match decided {
            Ok(Ok((accepted, changes))) => {
                rows.absorb(&changes);
                written.absorb(changes);
                Ok(accepted)
            }
            Ok(Err(rejection)) => Err(rejection),
            Err(_) => {
                tracing::error!("a decision panicked; its command alone is rejected");
                Err(Rejection::Impossible)
            }
        });
    }
    (decisions, written)
}
