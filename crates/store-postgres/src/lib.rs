//! The backend for many gateways: PostgreSQL 15 or newer, with ordinary rights in one schema.
//!
//! ```text
//! batch       one batch, one transaction, two round trips
//! load        … its locks and reads
//! write       … its writes
//! statements  what every payment prepares once a session
//! pipeline    statements sent without waiting for each other
//! lookup      invoices for many callers at once
//! query       lists and audits
//! connect     sessions, TLS, time-outs, pools
//! schema      migrations and versions
//! columns     values in columns, and back
//! failure     what the server's errors mean
//! import      what another backend hands over
//! ```
//!
//! Money is decided on the primary only, and on rows locked there, so that any number of gateways may share
//! one database. Where money is concerned rows are only added, under keys that hold what may happen once.
//! Deliberately absent: rules (they are `domain`'s), triggers, LISTEN, advisory locks, and replicas.

mod batch;
mod columns;
mod connect;
mod failure;
mod import;
#[cfg(test)]
#[expect(dead_code, reason = "the tests beside the crate need more of it")]
#[path = "../tests/server/kit.rs"]
mod kit;
mod load;
mod lookup;
mod pipeline;
#[cfg(test)]
mod plans;
mod query;
mod schema;
mod statements;
mod write;

#[cfg(test)]
extern crate self as store_postgres;

pub use connect::{Address, OpenError};
pub use import::{Import, ImportError, Reached};

use connect::{Plans, Pool};
use domain::{
    Decision, Environment, Invoice, InvoiceNumber, Lease, Partner, Posting, Product, Rupiah, Timestamp,
    UpstreamId, Username,
    ledger::Account,
    record::{Entry, Event, Incident, Proposal},
    rows::Keys,
};
use failure::{Failure, Remedy};
use futures::future::BoxFuture;
use statements::Statements;
use std::{
    collections::{BTreeSet, HashSet},
    fmt,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU32, Ordering::Relaxed},
    },
    time::Duration,
};
use store::{AuditVisitor, Batch, BatchId, Error, InvoiceFilter, Store, StoredInvoice, lookup::Lookups};
use tokio_postgres::Client;
use uuid::Uuid;

/// Sessions that write at the same time: one a journal's lane, and some for whoever asks for a batch.
const WRITERS_MAX: usize = 10;

/// Sessions that read lists at the same time.
const READERS_MAX: usize = 4;

/// How many batches look claims up after one was found taken.
const CONTESTED_BATCHES: u32 = 256;

/// How long a free session is waited for.
const SESSION_WITHIN: Duration = Duration::from_secs(3);

/// How long a read may take, an audit excepted.
const READ_WITHIN: Duration = Duration::from_secs(8);

/// A database. Clones share its sessions.
#[derive(Clone)]
pub struct PostgresStore {
    inner: Arc<Inner>,
}

struct Inner {
    address: Arc<Address>,
    writers: Pool,
    lookers: Pool,
    readers: Pool,
    lookups: Lookups,
    /// Accounts whose rows are known to be there.
    accounts: Mutex<HashSet<i64>>,
    /// For so many batches more, whether a bill is free is looked up before it is decided on.
    contested: AtomicU32,
}

/// Creates the tables, or brings them up to date. Several may do so at once, beside running gateways.
pub async fn migrate(address: &Address) -> Result<(), OpenError> {
    schema::migrate(address).await
}

impl PostgresStore {
    /// Opens a database whose schema this version knows, and which no copy has been begun into that is not
    /// finished.
    pub async fn open(address: Address) -> Result<Self, OpenError> {
        let store = Self::open_unfinished(address).await?;
        let reader = store.inner.readers.lend().await?;
        import::refuse_unfinished(&reader.session.client).await?;
        reader.give_back();
        Ok(store)
    }

    async fn open_unfinished(address: Address) -> Result<Self, OpenError> {
        let address = Arc::new(address);
        let pool = |plans, sessions| Pool::new(Arc::clone(&address), plans, sessions, SESSION_WITHIN);
        let inner = Inner {
            writers: pool(Plans::Stable, WRITERS_MAX),
            lookers: pool(Plans::Stable, lookup::LOOKERS_MAX),
            readers: pool(Plans::ByStatistics, READERS_MAX),
            address,
            lookups: Lookups::new(lookup::LOOKERS_MAX),
            accounts: Mutex::default(),
            contested: AtomicU32::new(0),
        };
        let reader = inner.readers.lend().await?;
        schema::check(&reader.session).await?;
        warn_of_loose_settings(&reader.session.client).await?;
        reader.give_back();
        Ok(Self { inner: Arc::new(inner) })
    }

    /// Runs a question on a reader's session.
    fn read<'a, T: Send + 'a>(
        &'a self,
        question: impl for<'c> FnOnce(&'c Client) -> BoxFuture<'c, Result<T, Failure>> + Send + 'a,
    ) -> BoxFuture<'a, Result<T, Error>> {
        Box::pin(async move { Ok(self.inner.ask(&self.inner.readers, Some(READ_WITHIN), question).await?) })
    }
}

impl fmt::Debug for PostgresStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PostgresStore").field("address", &self.inner.address).finish_non_exhaustive()
    }
}

impl Inner {
    /// Asks on a session of a pool, which is given back if it is in order afterwards.
    async fn ask<T>(
        &self,
        pool: &Pool,
        limit: Option<Duration>,
        question: impl for<'c> FnOnce(&'c Client) -> BoxFuture<'c, Result<T, Failure>>,
    ) -> Result<T, Failure> {
        let lent = pool.lend().await?;
        let asked = question(&lent.session.client);
        let found = match limit {
            Some(limit) => connect::within(limit, asked).await,
            None => asked.await,
        };
        if !matches!(&found, Err(failure) if failure.remedy() == Remedy::Reconnect) {
            lent.give_back();
        }
        found
    }

    /// Asks one of the prepared questions of payments.
    async fn look<T>(
        &self,
        question: impl for<'c> FnOnce(&'c Client, &'c Statements) -> BoxFuture<'c, Result<T, Failure>>,
    ) -> Result<T, Failure> {
        let mut lent = self.lookers.lend().await?;
        let asked = async {
            let statements = lent.session.statements().await?;
            question(&lent.session.client, &statements).await
        };
        let found = connect::within(READ_WITHIN, asked).await;
        if !matches!(&found, Err(failure) if failure.remedy() == Remedy::Reconnect) {
            lent.give_back();
        }
        found
    }

    /// Accounts of a batch that may have no row to be locked yet, in order.
    fn unknown_accounts(&self, keys: &Keys) -> Vec<i64> {
        let known = self.accounts.lock().unwrap_or_else(PoisonError::into_inner);
        let rows: BTreeSet<i64> = keys.balances.iter().copied().map(columns::balance_row).collect();
        rows.into_iter().filter(|row| !known.contains(row)).collect()
    }

    /// Whether claims on bills and vehicles are to be looked up. Nearly all are free, and their keys tell who was
    /// wrong to think so; where somebody was, others may be soon.
    fn is_contested(&self) -> bool {
        self.contested.fetch_update(Relaxed, Relaxed, |batches| batches.checked_sub(1)).is_ok()
    }

    fn contest(&self) {
        self.contested.store(CONTESTED_BATCHES, Relaxed);
    }

    /// Rows that were there may be gone with a restored backup.
    fn forget_accounts(&self) {
        self.accounts.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    fn know_accounts(&self, created: Vec<i64>) {
        if !created.is_empty() {
            self.accounts.lock().unwrap_or_else(PoisonError::into_inner).extend(created);
        }
    }
}

/// What a server that may forget what it promised says of itself, once at the start.
async fn warn_of_loose_settings(client: &Client) -> Result<(), Failure> {
    for (setting, danger) in [
        ("fsync", "a crash of the machine loses payments that were answered"),
        ("full_page_writes", "a crash of the machine may tear pages apart"),
    ] {
        let row = client.query_one("SELECT current_setting($1)", &[&setting]).await?;
        if row.try_get::<_, &str>(0)? == "off" {
            tracing::error!("the database runs with {setting} = off: {danger}");
        }
    }
    Ok(())
}

impl Store for PostgresStore {
    fn apply(&self, batch: Batch) -> BoxFuture<'_, Result<Vec<Decision>, Error>> {
        Box::pin(async move { batch::apply(&self.inner, &batch).await })
    }

    fn batch_committed(&self, id: BatchId) -> BoxFuture<'_, Result<bool, Error>> {
        Box::pin(batch::committed(&self.inner, id))
    }

    fn partner(&self, username: &Username) -> BoxFuture<'_, Result<Option<Partner>, Error>> {
        let username = username.clone();
        Box::pin(async move {
            let row = self
                .inner
                .look(move |client, statements| {
                    Box::pin(async move {
                        Ok(client.query_opt(&statements.find_partner, &[&username.as_str()]).await?)
                    })
                })
                .await?;
            Ok(row.as_ref().map(query::partner_row).transpose()?)
        })
    }

    fn partners(&self) -> BoxFuture<'_, Result<Vec<Partner>, Error>> {
        self.read(|client| Box::pin(query::partners(client)))
    }

    fn products(&self) -> BoxFuture<'_, Result<Vec<Product>, Error>> {
        self.read(|client| Box::pin(query::products(client)))
    }

    fn catalogue_version(&self) -> BoxFuture<'_, Result<i64, Error>> {
        Box::pin(async move {
            let asked = self.inner.look(|client, statements| {
                Box::pin(async move {
                    Ok(client.query_one(&statements.find_catalogue_version, &[]).await?.try_get(0)?)
                })
            });
            Ok(asked.await?)
        })
    }

    fn invoice(&self, number: InvoiceNumber) -> BoxFuture<'_, Result<Option<StoredInvoice>, Error>> {
        Box::pin(lookup::invoice(&self.inner, number))
    }

    fn invoices(&self, filter: InvoiceFilter) -> BoxFuture<'_, Result<Vec<StoredInvoice>, Error>> {
        self.read(move |client| Box::pin(async move { query::invoices(client, &filter).await }))
    }

    fn pending(&self, after: InvoiceNumber, limit: u32) -> BoxFuture<'_, Result<Vec<Invoice>, Error>> {
        Box::pin(async move {
            let asked = self
                .inner
                .look(move |client, statements| Box::pin(query::pending(client, statements, after, limit)));
            Ok(asked.await?)
        })
    }

    fn pending_count(&self) -> BoxFuture<'_, Result<u64, Error>> {
        Box::pin(async move {
            let asked =
                self.inner.look(|client, statements| Box::pin(query::pending_count(client, statements)));
            Ok(asked.await?)
        })
    }

    fn balance(&self, account: Account) -> BoxFuture<'_, Result<Rupiah, Error>> {
        Box::pin(async move {
            let row = self
                .inner
                .look(move |client, statements| {
                    Box::pin(async move {
                        let row = columns::balance_row(account);
                        Ok(client.query_opt(&statements.find_balance, &[&row]).await?)
                    })
                })
                .await?;
            let found = row.as_ref().map(columns::balances).transpose()?;
            let balance = found.into_iter().flatten().find(|(found, _)| *found == account);
            Ok(balance.and_then(|(_, amount)| amount).unwrap_or_default())
        })
    }

    fn balances(&self) -> BoxFuture<'_, Result<Vec<(Account, Rupiah)>, Error>> {
        self.read(|client| Box::pin(query::balances(client)))
    }

    fn postings(&self, subject: i64) -> BoxFuture<'_, Result<Vec<Posting>, Error>> {
        self.read(move |client| Box::pin(query::postings(client, subject)))
    }

    fn account_postings(
        &self,
        account: Account,
        before: i64,
        limit: u32,
    ) -> BoxFuture<'_, Result<Vec<Posting>, Error>> {
        self.read(move |client| Box::pin(query::account_postings(client, account, before, limit)))
    }

    fn entries(&self, before: i64, limit: u32) -> BoxFuture<'_, Result<Vec<Entry>, Error>> {
        self.read(move |client| Box::pin(query::entries(client, before, limit)))
    }

    fn entry_by_reference(
        &self,
        environment: Environment,
        reference: &str,
    ) -> BoxFuture<'_, Result<Option<Entry>, Error>> {
        let reference = reference.to_owned();
        self.read(move |client| {
            Box::pin(async move { query::entry_by_reference(client, environment, &reference).await })
        })
    }

    fn incidents(&self, limit: u32) -> BoxFuture<'_, Result<Vec<Incident>, Error>> {
        self.read(move |client| Box::pin(query::incidents(client, limit)))
    }

    fn proposals(&self) -> BoxFuture<'_, Result<Vec<Proposal>, Error>> {
        self.read(|client| Box::pin(query::proposals(client)))
    }

    fn proposal(&self, number: InvoiceNumber) -> BoxFuture<'_, Result<Option<Proposal>, Error>> {
        self.read(move |client| Box::pin(query::proposal(client, number)))
    }

    fn upstreams(&self) -> BoxFuture<'_, Result<Vec<(String, UpstreamId)>, Error>> {
        self.read(|client| Box::pin(query::upstreams(client)))
    }

    fn leases(&self) -> BoxFuture<'_, Result<Vec<(String, Lease)>, Error>> {
        self.read(|client| Box::pin(query::leases(client)))
    }

    fn size_bytes(&self) -> BoxFuture<'_, Result<u64, Error>> {
        self.read(|client| Box::pin(query::size_bytes(client)))
    }

    fn events(&self, after: i64, limit: u32) -> BoxFuture<'_, Result<Vec<(i64, Event)>, Error>> {
        self.read(move |client| Box::pin(query::events(client, after, limit)))
    }

    fn audit(&self, visit: AuditVisitor) -> BoxFuture<'_, Result<(), Error>> {
        Box::pin(async move {
            let asked =
                self.inner.ask(&self.inner.readers, None, |client| Box::pin(query::audit(client, visit)));
            Ok(asked.await?)
        })
    }

    fn check(&self) -> BoxFuture<'_, Result<(), Error>> {
        self.read(|client| Box::pin(query::probe(client)))
    }

    fn prune_batches(&self, moment: Timestamp) -> BoxFuture<'_, Result<(), Error>> {
        let first_kept = Uuid::from_u128(BatchId::first_of(moment).0);
        Box::pin(async move {
            loop {
                let pruned = self.read(move |client| Box::pin(query::prune_batches(client, first_kept)));
                if pruned.await? == 0 {
                    return Ok(());
                }
            }
        })
    }
}
