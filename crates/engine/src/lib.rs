//! The use cases: what partners and operators can do, one file each, over a store and its banks.
//!
//! ```text
//! authenticate   who calls, from where
//! inquire        ask for a bill, record it as an invoice
//! pay            reserve, ask the bank, settle; or leave it to the resolver
//! status         what became of an invoice
//! resolver       ask again about every open payment, as long as it takes
//! operate        top-ups, partners, products, decisions by hand
//! verify         re-prove the ledger from its postings
//! leases         what only one of several gateways does
//! journal        the one way to change durable state: batches of commands
//! ```
//!
//! The engine names no backend and no bank, and knows no SQL, HTTP or ISO 8583. What moves money is
//! decided in `domain`; here is only who asks, when, and in which order.

mod admission;
mod authenticate;
mod catalogue;
mod clock;
mod desk;
mod ids;
mod inquire;
mod invoices;
mod journal;
mod leases;
pub mod limits;
mod numbers;
pub mod operate;
mod pay;
mod refused;
mod resolver;
mod settings;
mod settle;
mod status;
pub mod verify;

pub use authenticate::{hash_password, parse_networks};
pub use bank;
pub use clock::SystemClock;
pub use domain;
pub use ids::Ids;
pub use inquire::Inquiry;
pub use journal::Failure;
pub use refused::{About, Refused, Turned};
pub use settings::Settings;
pub use store;

use bank::Bank;
use domain::{
    Clock, Partner, PartnerId, Product, Rupiah, Timestamp, UpstreamId, command::Command,
    invoice::Presentment, ledger::Account,
};
use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};
use store::Store;
use tokio::time::{Instant, timeout};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// An invoice as its partner may see it.
#[derive(Clone, Debug)]
pub struct View {
    /// The invoice.
    pub invoice: domain::Invoice,
    /// What was presented.
    pub presentment: Arc<Presentment>,
}

/// An upstream, as the binary wires it.
#[derive(Clone)]
pub struct Upstream {
    /// Its configured name; its number in the database hangs on it.
    pub name: String,
    /// The connector.
    pub bank: Arc<dyn Bank>,
}

/// Why the engine did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The store failed.
    #[error("failed to prepare the store")]
    Store(#[from] Failure),
    /// A read failed.
    #[error("failed to read the store")]
    Read(#[from] store::Error),
    /// Nobody could ask about payments that are still open.
    #[error(
        "{invoice:?} is pending at the upstream {name}, which the configuration does not name; \
         configure it until its payments are settled"
    )]
    UpstreamMissing {
        /// The first such payment.
        invoice: domain::InvoiceNumber,
        /// The upstream's name.
        name: String,
    },
}

/// What the store last said of new work, and when it was asked.
type Readiness = (Instant, Result<(), String>);

/// The gateway, without a face.
pub struct Engine {
    settings: Settings,
    store: Arc<dyn Store>,
    clock: Arc<dyn Clock>,
    ids: Arc<Ids>,
    journal: journal::Journal,
    leases: leases::Leases,
    banks: BTreeMap<UpstreamId, Arc<dyn Bank>>,
    upstream_names: Vec<(String, UpstreamId)>,
    catalogue: catalogue::Catalogue,
    passwords: authenticate::Passwords,
    numbers: numbers::Numbers,
    invoices: invoices::Recent,
    /// What is under way at each upstream.
    admissions: HashMap<UpstreamId, admission::Admission<PartnerId>>,
    /// Who waits for the outcome of a payment.
    waiting: admission::Admission<PartnerId>,
    readiness: Arc<tokio::sync::Mutex<Option<Readiness>>>,
    payments: pay::Running,
    settlements: settle::Settlements,
    resolver: resolver::Handle,
    tasks: TaskTracker,
    lease_keeper: TaskTracker,
    stopping: CancellationToken,
    lines_are_closed: CancellationToken,
}

impl Engine {
    /// Starts the journal, the resolver and the listeners for late answers.
    pub async fn start(
        settings: Settings,
        store: Arc<dyn Store>,
        upstreams: Vec<Upstream>,
        clock: Arc<dyn Clock>,
        ids: Arc<Ids>,
    ) -> Result<Arc<Self>, StartError> {
        let leases = leases::Leases::new(&ids, settings.lease_after);
        let slots = leases.take_slots(store.as_ref(), &ids, settings.lanes).await?;
        let journal = journal::Journal::start(&store, &ids, &slots, settings.queue_max);
        let (mut banks, mut upstream_names) = (BTreeMap::new(), Vec::new());
        for upstream in upstreams {
            let id = operate::register_upstream(&journal, &upstream.name).await?;
            banks.insert(id, upstream.bank);
            upstream_names.push((upstream.name, id));
        }
        resolver::check_upstreams(store.as_ref(), |id| banks.contains_key(&id)).await?;
        let (resolver, work) = resolver::channels(banks.keys().copied());
        let engine = Arc::new(Self {
            catalogue: catalogue::Catalogue::new(Arc::clone(&store)),
            passwords: authenticate::Passwords::new(&ids),
            numbers: numbers::Numbers::default(),
            invoices: invoices::Recent::default(),
            admissions: banks.keys().map(|id| (*id, admission::Admission::new(settings.work_max))).collect(),
            waiting: admission::Admission::new(limits::waiting_pays_max),
            readiness: Arc::default(),
            payments: pay::Running::default(),
            settlements: settle::Settlements::default(),
            tasks: TaskTracker::new(),
            lease_keeper: TaskTracker::new(),
            stopping: CancellationToken::new(),
            lines_are_closed: CancellationToken::new(),
            settings,
            store,
            clock,
            ids,
            journal,
            leases,
            banks,
            upstream_names,
            resolver,
        });
        for (upstream, bank) in &engine.banks {
            bank.open(desk::desk(&engine, *upstream));
            if let Some(answers) = bank.late_answers() {
                tokio::spawn(Arc::clone(&engine).settle_late_answers(answers));
            }
        }
        for work in work {
            tokio::spawn(Arc::clone(&engine).resolve(work));
        }
        tokio::spawn(Arc::clone(&engine).forget_batches());
        engine.lease_keeper.spawn(Arc::clone(&engine).keep_leases());
        engine.lease_keeper.close();
        Ok(engine)
    }

    /// The present moment.
    pub fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// What the operator set.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// The store, for reading.
    pub fn store(&self) -> &Arc<dyn Store> {
        &self.store
    }

    /// Submits one command to the journal.
    pub async fn submit(&self, command: Command) -> Result<domain::Accepted, Failure> {
        self.journal.submit(command).await
    }

    /// The products of the partner's environment, in order.
    pub async fn products(&self, partner: &Partner) -> Result<Vec<Product>, Refused> {
        let products = self.catalogue.products().await?;
        Ok(products.iter().filter(|p| p.environment == partner.environment).cloned().collect())
    }

    /// What the gateway owes the partner: its prepaid balance, without any credit.
    pub async fn deposit(&self, partner: &Partner) -> Result<Rupiah, Refused> {
        let account = Account::deposit(partner.environment, partner.id);
        Ok(-self.store.balance(account).await?)
    }

    /// How the lines of each upstream stand, by its configured name.
    pub fn lines(&self) -> BTreeMap<String, Vec<bank::LineState>> {
        let named = |(name, id)| Some((name, self.banks.get(id)?.lines()));
        self.upstream_names.iter().map(|(name, id)| (name.clone(), id)).filter_map(named).collect()
    }

    /// Whether new payments can be taken now; the error says why not.
    pub async fn ready(&self) -> Result<(), String> {
        if self.stopping.is_cancelled() {
            return Err("the gateway is shutting down".to_owned());
        }
        if let Some(why) = self.journal.stopped() {
            return Err(why);
        }
        // One question at a time, in a task of its own, and its answer for all who ask within a second: it
        // waits for the store's writer, and whoever asks too often must not.
        let mut known = Arc::clone(&self.readiness).lock_owned().await;
        if let Some((asked_at, ready)) = &*known
            && asked_at.elapsed() < limits::readiness_age_max
        {
            return ready.clone();
        }
        let store = Arc::clone(&self.store);
        let asked = tokio::spawn(async move {
            let ready = store.check().await.map_err(|error| error.to_string());
            *known = Some((Instant::now(), ready.clone()));
            ready
        });
        asked.await.unwrap_or_else(|_| Err("the question whether the store is ready panicked".to_owned()))
    }

    /// Resolves when a caller has waited long enough: at its deadline, or soon after the gateway began to
    /// stop. What it waited for goes on.
    async fn waited_enough(&self, deadline: Instant) {
        let stopping = async {
            self.stopping.cancelled().await;
            tokio::time::sleep(limits::stopping_wait_max).await;
        };
        tokio::select! {
            biased;
            () = tokio::time::sleep_until(deadline) => {}
            () = stopping => {}
        }
    }

    /// Resolves when the store can no longer be trusted, with the reason: the process must exit.
    pub async fn failed(&self) -> String {
        self.journal.failed().await
    }

    /// Batch ids serve to settle a lost commit answer, which is asked for at once; old ones are of no use.
    async fn forget_batches(self: Arc<Self>) {
        let mut ticks = tokio::time::interval(limits::prune_interval);
        while self.stopping.run_until_cancelled(ticks.tick()).await.is_some() {
            if self.leases.holding(leases::HOUSEKEEPING) == bank::Holds::No {
                continue;
            }
            let kept_from = self.clock.now().minus(limits::batch_ids_kept);
            if let Err(error) = self.store.prune_batches(kept_from).await {
                tracing::warn!(%error, "failed to forget old batch ids");
            }
        }
    }

    /// Takes no new work, gives its leases up, waits for payments under way at most until the deadline, writes
    /// what is queued, and stops. What is still open stays PENDING and is resolved after the next start.
    pub async fn shut_down(&self, deadline: Instant) {
        self.stopping.cancel();
        self.tasks.close();
        if tokio::time::timeout_at(deadline, self.tasks.wait()).await.is_err() {
            tracing::warn!(open = self.tasks.len(), "payments left pending at the shutdown deadline");
        }
        let signing_off = futures::future::join_all(self.banks.values().map(|bank| bank.close()));
        if timeout(limits::sign_off_max, signing_off).await.is_err() {
            tracing::warn!("an upstream did not sign off in time");
        }
        self.lines_are_closed.cancel();
        if timeout(limits::last_write_max, self.lease_keeper.wait()).await.is_err() {
            tracing::warn!("the leases were not given up in time; others take them over by themselves");
        }
        // A store that is away must not keep the process: what is queued is found again at the next start.
        if timeout(limits::last_write_max, self.journal.stop()).await.is_err() {
            tracing::warn!(
                "the store did not answer in time; what is under way is resolved at the next start"
            );
        }
    }
}
