//! The kit: a world with one bank, one committed store, one clock, and gateways that live and die in it.
//!
//! What is committed and what the bank took outlive every gateway, as they do in life. Time is tokio's
//! paused time, so that nothing here waits for a clock.

pub(crate) mod bank;
pub(crate) mod clock;
pub(crate) mod server;
pub(crate) mod steps;
pub(crate) mod watched;

use self::{
    bank::{BILL_RUPIAH, ScriptedBank},
    clock::{TestClock, on_day},
    server::{Schema, Server},
    steps::Steps,
    watched::Watched,
};
use ::engine::bank::{Profile, Question};
use domain::{
    Account, AgentCode, ChassisNumber, Environment, Invoice, InvoiceNumber, Nik, Partner, PartnerId, Product,
    ProductCode, Reason, Rupiah, Secret, State, UpstreamId, Username, command::AddPartner,
    record::IncidentKind,
};
use engine::{
    Engine, Ids, Inquiry, Refused, Settings, Upstream, View, domain, operate::Operations, store,
    verify::verify,
};
use lossy_vfs::{Disk, Fate, Operation};
use std::{
    path::PathBuf,
    sync::{
        Arc, Mutex, OnceLock, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};
use store::{InvoiceFilter, Store, model::Model};
use store_sqlite::{Open, OpenError, SqliteStore};
use tempfile::TempDir;
use tokio::time::{Instant, sleep, timeout};

pub(crate) const FEE_RUPIAH: i64 = 5_000;
pub(crate) const CASHBACK_RUPIAH: i64 = 2_000;
/// What every payment debits.
pub(crate) const TOTAL_RUPIAH: i64 = BILL_RUPIAH + FEE_RUPIAH;
pub(crate) const ENVIRONMENT: Environment = Environment::Live;

/// A new database, made once.
static MIGRATED: OnceLock<Vec<u8>> = OnceLock::new();

/// What is committed.
#[derive(Clone)]
enum Committed {
    Memory(Model),
    File {
        path: PathBuf,
        _directory: Arc<TempDir>,
        open: Arc<Mutex<Option<Arc<SqliteStore>>>>,
        /// Where the power goes with every life, and with it what was not synced; and what becomes of syncs.
        disk: Option<Arc<(Disk, Fate)>>,
    },
    Server {
        schema: Arc<Schema>,
        open: Arc<Mutex<Option<Arc<Server>>>>,
    },
}

/// Which store; a server's for one test at a time.
#[derive(Debug)]
pub(crate) enum Backend {
    Memory,
    /// A process that dies takes nothing back from the operating system.
    File,
    /// The power goes whenever a process dies.
    Lossy,
    /// So it does, and the disk has only said that it has synced.
    Lying,
    Server(Arc<Schema>),
}

/// The terms on which gateways and the bank work.
#[derive(Clone)]
pub(crate) struct Terms {
    pub(crate) settings: Settings,
    pub(crate) profile: Profile,
    pub(crate) line_max: usize,
}

impl Default for Terms {
    fn default() -> Self {
        Self {
            settings: Settings::default(),
            profile: Profile {
                horizon: Duration::from_mins(1),
                answer_timeout: Duration::from_secs(30),
                definitive_status: true,
                question: Question::Asks,
            },
            line_max: 1_000,
        }
    }
}

pub(crate) struct World {
    pub(crate) clock: Arc<TestClock>,
    pub(crate) bank: Arc<ScriptedBank>,
    terms: Terms,
    committed: Committed,
    seeds: AtomicU64,
    losses: AtomicU64,
}

/// The product as it is at first.
pub(crate) fn product(upstream: UpstreamId) -> Product {
    Product {
        environment: ENVIRONMENT,
        code: product_code(),
        name: "e-Samsat Jawa Barat".to_owned(),
        fee: Rupiah::new(FEE_RUPIAH),
        cashback: Rupiah::new(CASHBACK_RUPIAH),
        on: true,
        upstream,
        position: 1,
    }
}

/// A partner of this name, without a deposit.
pub(crate) fn add_partner(username: &Username) -> AddPartner {
    AddPartner {
        environment: ENVIRONMENT,
        username: username.clone(),
        name: username.to_string(),
        agent_code: AgentCode::parse("JKT-00000").expect("an agent code"),
        credit_limit: Rupiah::ZERO,
        password_hash: Secret::new("no hash"),
        allowed_networks: Vec::new(),
    }
}

/// A gateway that is alive.
pub(crate) struct Gateway {
    pub(crate) engine: Arc<Engine>,
    pub(crate) store: Arc<Watched>,
}

impl World {
    /// An empty world in memory.
    pub(crate) fn in_memory(terms: Terms) -> Self {
        Self::on(Committed::Memory(Model::new()), terms)
    }

    /// An empty world on a file.
    pub(crate) fn on_file(terms: Terms) -> Self {
        Self::on_disk(terms, None)
    }

    fn on_disk(terms: Terms, synced: Option<Fate>) -> Self {
        // Where nothing is taken back from the operating system, memory will do for a disk.
        let directory = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir());
        let directory = directory.expect("a temporary directory");
        let path = directory.path().join("esamsat.db");
        let migrated = MIGRATED.get_or_init(|| {
            store_sqlite::migrate(&path).expect("a new database");
            std::fs::read(&path).expect("a closed database is one file")
        });
        std::fs::write(&path, migrated).expect("a copy");
        let disk = synced.map(|synced| Arc::new((Disk::mount(directory.path()), synced)));
        Self::on(Committed::File { path, _directory: Arc::new(directory), open: Arc::default(), disk }, terms)
    }

    /// An empty world on any store.
    pub(crate) fn empty(backend: &Backend, terms: Terms) -> Self {
        match backend {
            Backend::Memory => Self::in_memory(terms),
            Backend::File => Self::on_file(terms),
            Backend::Lossy => Self::on_disk(terms, Some(Fate::Done)),
            Backend::Lying => Self::on_disk(terms, Some(Fate::Lies)),
            Backend::Server(schema) => {
                schema.empty();
                let schema = Arc::clone(schema);
                Self::on(Committed::Server { schema, open: Arc::default() }, terms)
            }
        }
    }

    fn on(committed: Committed, terms: Terms) -> Self {
        let clock = Arc::new(TestClock::at(on_day(20_261_123, Duration::from_hours(10))));
        let bank = ScriptedBank::new(Arc::clone(&clock), terms.profile.clone(), terms.line_max);
        Self { clock, bank, terms, committed, seeds: AtomicU64::new(1), losses: AtomicU64::new(1) }
    }

    /// A world in memory with one product, and one partner with this deposit; and its first gateway.
    pub(crate) async fn with_gateway(deposit: i64) -> (Self, Gateway, Arc<Partner>) {
        Self::with_terms(Terms::default(), deposit).await
    }

    pub(crate) async fn with_terms(terms: Terms, deposit: i64) -> (Self, Gateway, Arc<Partner>) {
        let world = Self::in_memory(terms);
        world.clock.begin_life();
        let partner = world.furnish(deposit).await;
        let gateway = world.start().await;
        (world, gateway, partner)
    }

    /// The file of a world on a file.
    pub(crate) fn path(&self) -> &std::path::Path {
        match &self.committed {
            Committed::File { path, .. } => path,
            Committed::Memory(_) | Committed::Server { .. } => panic!("this world has no file"),
        }
    }

    /// What is committed, as a store without a gateway.
    pub(crate) fn store(&self) -> Arc<dyn Store> {
        match &self.committed {
            Committed::Memory(model) => Arc::new(model.clone()),
            Committed::File { .. } => self.open_file().expect("the database opens"),
            Committed::Server { schema, open } => {
                let mut open = open.lock().unwrap_or_else(PoisonError::into_inner);
                let server = open.get_or_insert_with(|| Server::new(Arc::clone(schema)));
                Arc::clone(server) as Arc<dyn Store>
            }
        }
    }

    fn open_file(&self) -> Result<Arc<dyn Store>, OpenError> {
        let Committed::File { path, open, .. } = &self.committed else { return Ok(self.store()) };
        let mut open = open.lock().unwrap_or_else(PoisonError::into_inner);
        let store = match &*open {
            Some(store) => Arc::clone(store),
            None => Arc::clone(open.insert(Arc::new(SqliteStore::open(path, Open::Existing)?))),
        };
        Ok(store)
    }

    fn disk(&self) -> Option<&(Disk, Fate)> {
        match &self.committed {
            Committed::File { disk, .. } => disk.as_deref(),
            Committed::Memory(_) | Committed::Server { .. } => None,
        }
    }

    /// The power goes with the next lives by other seeds.
    pub(crate) fn choose_losses(&self, seed: u64) {
        self.losses.store(seed, Ordering::Relaxed);
    }

    /// The process ends: its connections go with it, and the clock goes on.
    pub(crate) fn end_life(&self) {
        self.bank.end_life();
        self.clock.end_life(Duration::from_secs(1));
        if let Some((disk, _)) = self.disk() {
            // Nothing that ends with the process is written any more.
            disk.lose_power(self.losses.fetch_add(1, Ordering::Relaxed));
            disk.heal();
        }
        if let Committed::File { open, .. } = &self.committed {
            *open.lock().unwrap_or_else(PoisonError::into_inner) = None;
        }
        if let Committed::Server { open, .. } = &self.committed {
            *open.lock().unwrap_or_else(PoisonError::into_inner) = None;
        }
    }

    pub(crate) fn ids(&self) -> Arc<Ids> {
        // Every life its own: batch ids never repeat.
        Arc::new(Ids::seeded(self.seeds.fetch_add(1, Ordering::Relaxed)))
    }

    /// The operators' side.
    pub(crate) fn operations(&self) -> Operations {
        Operations::new(self.store(), Arc::clone(&self.clock) as Arc<dyn domain::Clock>, &self.ids())
    }

    /// One product and one partner.
    pub(crate) async fn furnish(&self, deposit: i64) -> Arc<Partner> {
        self.save_product(|_| {}).await;
        self.add_partner("mitra", deposit).await
    }

    /// Writes the product, changed from what it is at first.
    pub(crate) async fn save_product(&self, change: impl FnOnce(&mut Product)) {
        let operations = self.operations();
        let upstream = operations.register_upstream("bank").await.expect("an upstream");
        let mut product = product(upstream);
        change(&mut product);
        operations.save_product(product).await.expect("a product");
        operations.close().await;
    }

    pub(crate) async fn add_partner(&self, name: &str, deposit: i64) -> Arc<Partner> {
        self.add_partner_with(name, deposit, Secret::new("no hash"), &[]).await
    }

    pub(crate) async fn add_partner_with(
        &self,
        name: &str,
        deposit: i64,
        password_hash: Secret,
        networks: &[&str],
    ) -> Arc<Partner> {
        let operations = self.operations();
        let username = Username::parse(name).expect("a user name");
        let add = AddPartner {
            password_hash,
            allowed_networks: networks.iter().map(|network| (*network).to_owned()).collect(),
            ..add_partner(&username)
        };
        operations.add_partner(add).await.expect("a partner");
        let partner = operations.partner(&username).await.expect("the partner");
        if deposit > 0 {
            let reference = format!("first deposit of {name}");
            operations.top_up(&partner, Rupiah::new(deposit), &reference, "ani").await.expect("a deposit");
        }
        operations.close().await;
        Arc::new(partner)
    }

    /// A gateway comes to life.
    pub(crate) async fn start(&self) -> Gateway {
        self.start_with(Steps::endless()).await
    }

    /// A gateway comes to life, for so many steps.
    pub(crate) async fn start_with(&self, steps: Arc<Steps>) -> Gateway {
        if let Some((disk, synced)) = self.disk() {
            let (steps, synced) = (Arc::clone(&steps), *synced);
            disk.decide(move |operation| match operation {
                Operation::Sync if steps.take("before a sync") => Fate::PowerCut,
                Operation::Sync => synced,
                _ => Fate::Done,
            });
        }
        let store = steps.alive(self.open_file()).await.expect("the database opens");
        self.bank.begin_life(Arc::clone(&steps), Arc::clone(&store));
        let store = Watched::new(store, steps);
        let upstream = Upstream {
            name: "bank".to_owned(),
            bank: Arc::clone(&self.bank) as Arc<dyn ::engine::bank::Bank>,
        };
        let engine = Engine::start(
            self.terms.settings.clone(),
            Arc::clone(&store) as Arc<dyn Store>,
            vec![upstream],
            Arc::clone(&self.clock) as Arc<dyn domain::Clock>,
            self.ids(),
        );
        Gateway { engine: engine.await.expect("the gateway starts"), store }
    }

    /// The invoice as it is committed.
    pub(crate) async fn invoice(&self, number: InvoiceNumber) -> Invoice {
        self.store().invoice(number).await.expect("a read").expect("the invoice").invoice
    }

    /// The invoice's word: `PENDING`.
    pub(crate) async fn word(&self, number: InvoiceNumber) -> &'static str {
        self.invoice(number).await.state.word()
    }

    /// What the gateway owes a partner.
    pub(crate) async fn deposit(&self, partner: PartnerId) -> i64 {
        -self.store().balance(Account::deposit(ENVIRONMENT, partner)).await.expect("a read").get()
    }

    /// What a partner has reserved.
    pub(crate) async fn reserved(&self, partner: PartnerId) -> i64 {
        -self.store().balance(Account::reserved(ENVIRONMENT, partner)).await.expect("a read").get()
    }

    pub(crate) async fn invoices(&self) -> Vec<Invoice> {
        let filter = InvoiceFilter { limit: 100_000, ..InvoiceFilter::default() };
        let stored = self.store().invoices(filter).await.expect("a read");
        stored.into_iter().map(|stored| stored.invoice).collect()
    }

    /// How often an incident of this kind was seen.
    pub(crate) async fn incidents(&self, kind: IncidentKind) -> u32 {
        let incidents = self.store().incidents(1_000).await.expect("a read");
        incidents.iter().filter(|incident| incident.kind == kind).map(|incident| incident.count).sum()
    }

    /// What must hold at every moment: the ledger proves, and the gateway did nothing to the bank that no
    /// gateway may do.
    pub(crate) async fn must_prove(&self) {
        let report = verify(self.store().as_ref()).await.expect("an audit");
        assert!(report.is_clean(), "{:#?}", report.problems);
        assert_eq!(self.bank.wrongs(), Vec::<String>::new());
    }

    /// What must hold once everything is over: nothing is open, CONFIRM is what the bank took and nothing
    /// else, and the partners' deposits are what that leaves of `paid_in`.
    pub(crate) async fn must_be_over(&self, paid_in: i64) {
        self.must_prove().await;
        let mut left = paid_in;
        for invoice in self.invoices().await {
            let taken = self.bank.has_taken(invoice.number);
            let state = invoice.state.word();
            match &invoice.state {
                State::Confirm { .. } => {
                    assert!(taken, "{:?} is CONFIRM, and the bank did not take it", invoice.number);
                    left -= TOTAL_RUPIAH - CASHBACK_RUPIAH;
                }
                State::Refund { .. } | State::Inquiry | State::Failure { .. } => {
                    assert!(!taken, "{:?} is {state}, and the bank took it", invoice.number);
                }
                State::Pending { .. } => panic!("{:?} is still open", invoice.number),
            }
        }
        let mut deposits = 0;
        for partner in self.store().partners().await.expect("a read") {
            deposits += self.deposit(partner.id).await;
            assert_eq!(self.reserved(partner.id).await, 0);
        }
        assert_eq!(deposits, left, "what the partners have left");
    }

    /// Waits until an incident of this kind is written, at most this long.
    pub(crate) async fn until_incident(&self, kind: IncidentKind, at_most: Duration) {
        let written = async {
            while self.incidents(kind).await == 0 {
                sleep(Duration::from_millis(200)).await;
            }
        };
        assert!(timeout(at_most, written).await.is_ok(), "no {} within {at_most:?}", kind.name());
    }

    /// Waits until an invoice is in this state, at most this long.
    pub(crate) async fn until(&self, number: InvoiceNumber, word: &str, at_most: Duration) {
        let deadline = Instant::now() + at_most;
        while self.word(number).await != word {
            let now = self.word(number).await;
            assert!(Instant::now() < deadline, "{number:?} is {now} after {at_most:?}, not {word}");
            sleep(Duration::from_millis(200)).await;
        }
    }
}

impl Gateway {
    /// Asks for the bill of the `vehicle`th vehicle.
    pub(crate) async fn inquire(&self, partner: &Partner, vehicle: u32) -> Result<View, Refused> {
        self.engine.inquire(partner, inquiry(vehicle), Instant::now()).await
    }

    /// The number of a fresh invoice.
    pub(crate) async fn invoice(&self, partner: &Partner, vehicle: u32) -> InvoiceNumber {
        self.inquire(partner, vehicle).await.expect("a bill").invoice.number
    }

    pub(crate) async fn pay(&self, partner: &Arc<Partner>, number: InvoiceNumber) -> Result<View, Refused> {
        self.engine.pay(partner, number, Instant::now()).await
    }

    /// Pays, in a task of its own.
    pub(crate) fn spawn_pay(
        &self,
        partner: &Arc<Partner>,
        number: InvoiceNumber,
    ) -> tokio::task::JoinHandle<Result<View, Refused>> {
        let (engine, partner) = (Arc::clone(&self.engine), Arc::clone(partner));
        tokio::spawn(async move { engine.pay(&partner, number, Instant::now()).await })
    }
}

/// What a partner reads: the state's word, or the refusal's reason.
pub(crate) fn answer(answered: &Result<View, Refused>) -> Result<&'static str, Reason> {
    match answered {
        Ok(view) => Ok(view.invoice.state.word()),
        Err(refused) => Err(refused.refusal.reason),
    }
}

pub(crate) fn product_code() -> ProductCode {
    ProductCode::parse("SAMSAT_JABAR").expect("a product code")
}

pub(crate) fn inquiry(vehicle: u32) -> Inquiry {
    Inquiry {
        product: product_code(),
        nik: Nik::parse("320111111111111").expect("a NIK"),
        chassis: ChassisNumber::parse(&format!("MH{vehicle:06}")).expect("a chassis number"),
    }
}
