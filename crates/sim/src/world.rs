//! The world of one run: one store, one bank, several gateways that live and die, partners, operators and nature.

use crate::{
    Backend, Run,
    auditor::{Answered, Auditor, BankBooks},
    bank::{Books, Connector, terminals},
    bugs::Bug,
    clock::WallClock,
    database::Database,
    gate::Gate,
    random::Random,
    record::Record,
    store::{Disk, Lens, Stale, Weather},
};
use bank::{Bank, Profile, Question};
use domain::{
    AgentCode, BusinessDate, ChassisNumber, Clock, Environment, InvoiceNumber, Nik, Partner, Product,
    ProductCode, Rupiah, Secret, Timestamp, Username, command::AddPartner,
};
use engine::{
    Engine, Ids, Inquiry, Refused, Settings, Upstream, View, bank, domain, operate::Operations, store,
};
use lossy_vfs::Fate;
use std::{
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering},
    },
    time::Duration,
};
use store::model::Model;
use tokio::{
    sync::Semaphore,
    time::{Instant, sleep},
};

pub(crate) const ENVIRONMENT: Environment = Environment::Live;
pub(crate) const PRODUCT: &str = "SAMSAT_JABAR";
const UPSTREAM: &str = "bank";

/// What is drawn for a run before it begins.
#[derive(Clone, Debug)]
pub(crate) struct Terms {
    pub(crate) gateways: u64,
    pub(crate) partners: u64,
    pub(crate) vehicles: u64,
    /// How long faults strike.
    pub(crate) stormy_for: Duration,
    pub(crate) profile: Profile,
    pub(crate) settings: Settings,
    line_max: usize,
    pub(crate) trouble_permille: u64,
    pub(crate) crash_permyriad: u64,
    pub(crate) commit_faults_permille: u64,
    /// How often nature does something.
    pub(crate) nature_ms_max: u64,
    pub(crate) epoch: Timestamp,
}

impl Terms {
    pub(crate) fn draw(seed: u64) -> Self {
        let mut random = Random::of(seed, "terms");
        let gateways = random.weighted(&[(3, 1), (4, 2), (3, 3)]);
        let answer_timeout = Duration::from_secs(random.between(2, 10));
        let question =
            random.weighted(&[(6, Question::Asks), (4, Question::Executes), (2, Question::Reverses)]);
        let profile = Profile {
            horizon: Duration::from_secs(random.between(5, 40)),
            answer_timeout,
            definitive_status: random.permille(850),
            question,
        };
        let settings = Settings {
            answer_within: Duration::from_secs(random.between(5, 45)),
            send_within: Duration::from_secs(random.between(1, 5)),
            pending_long_after: Duration::from_mins(2),
            lanes: usize::try_from(random.between(1, 2)).expect("a small number"),
            lease_after: (gateways > 1).then_some(Duration::from_secs(8)),
            ..Settings::default()
        };
        let stormy_for = Duration::from_secs(random.between(40, 160));
        // Most days; the end of one; the end of a year.
        let day = *random.one_of(&[20_261_125, 20_261_130, 20_261_231]);
        let date = BusinessDate::from_number(day).expect("a date");
        let epoch = if random.permille(300) {
            date.next().begins_at().minus(stormy_for.mul_f64(0.5))
        } else {
            date.begins_at().plus(Duration::from_secs(random.between(3_600, 70_000)))
        };
        let harshness = random.between(0, 3);
        Self {
            gateways,
            partners: random.between(2, 5),
            vehicles: random.between(8, 60),
            stormy_for,
            profile,
            settings,
            line_max: usize::try_from(random.between(3, 40)).expect("a small number"),
            trouble_permille: 100 + harshness * 150,
            crash_permyriad: harshness * 15,
            commit_faults_permille: harshness * 12,
            nature_ms_max: 30_000 / (harshness + 1),
            epoch,
        }
    }
}

/// A bank in the place of the made-up one.
pub(crate) trait OtherBank: Send + Sync {
    /// How one life of a gateway reaches it.
    fn connector(&self, gateway: &Gateway, life: &str, gate: &Arc<Gate>) -> Arc<dyn Bank>;

    /// What a vehicle is asked for by.
    fn vehicle(&self, number: u64) -> (Nik, ChassisNumber);
}

/// One gateway, through all its lives.
pub(crate) struct Gateway {
    pub(crate) name: String,
    pub(crate) clock: Arc<WallClock>,
    life: Mutex<Option<Life>>,
    lives: AtomicU32,
}

/// One life of a gateway.
#[derive(Clone)]
pub(crate) struct Life {
    pub(crate) engine: Arc<Engine>,
    pub(crate) gate: Arc<Gate>,
}

impl Gateway {
    fn locked(&self) -> MutexGuard<'_, Option<Life>> {
        self.life.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Its present life, if it lives.
    pub(crate) fn life(&self) -> Option<Life> {
        self.locked().clone()
    }
}

/// The world of one run.
pub(crate) struct World {
    pub(crate) seed: u64,
    pub(crate) terms: Terms,
    pub(crate) record: Arc<Record>,
    pub(crate) books: Arc<Books>,
    pub(crate) auditor: Arc<Auditor>,
    pub(crate) weather: Arc<Weather>,
    pub(crate) lens: Lens,
    pub(crate) gateways: Vec<Gateway>,
    pub(crate) partners: OnceLock<Vec<Arc<Partner>>>,
    /// Every invoice that somebody was told of, and whose it is.
    pub(crate) known: Mutex<Vec<(usize, i64)>>,
    /// Partners and operators go home.
    pub(crate) is_over: AtomicBool,
    /// Where the run is on a database.
    pub(crate) database: Option<Arc<Database>>,
    pub(crate) model: Model,
    stale: Stale,
    bug: Option<Bug>,
    other_bank: Option<Arc<dyn OtherBank>>,
}

impl World {
    pub(crate) fn new(run: &Run) -> Arc<Self> {
        let (seed, terms) = (run.seed, run.terms());
        let record = Arc::new(Record::begin(terms.epoch));
        let books = Books::new(seed, Arc::clone(&record));
        Self::with(run, (terms, record), &books, (Arc::clone(&books) as Arc<dyn BankBooks>, None))
    }

    /// A world whose bank may be another one, with books that the auditor reads.
    pub(crate) fn with(
        run: &Run,
        (terms, record): (Terms, Arc<Record>),
        books: &Arc<Books>,
        (audited, other_bank): (Arc<dyn BankBooks>, Option<Arc<dyn OtherBank>>),
    ) -> Arc<Self> {
        let &Run { seed, bug, .. } = run;
        let model = Model::new();
        let lens = Lens::new(model.clone(), bug);
        let database = (run.backend == Backend::Sqlite).then(|| {
            let synced = if bug == Some(Bug::FsyncLies) { Fate::Lies } else { Fate::Done };
            Database::new(synced, Random::of(seed, "losses"), model.clone(), Arc::clone(&record))
        });
        let auditor =
            Arc::new(Auditor::new(lens.clone(), Arc::clone(&record), audited, terms.settings.send_within));
        let weather = Arc::new(Weather::default());
        weather.commit_ms_max.store(8, Ordering::Relaxed);
        weather.commit_faults_permille.store(terms.commit_faults_permille, Ordering::Relaxed);
        let gateways = (1..=terms.gateways)
            .map(|number| Gateway {
                name: format!("G{number}"),
                clock: WallClock::new(Arc::clone(&record)),
                life: Mutex::default(),
                lives: AtomicU32::new(0),
            })
            .collect();
        record.note(None, format!("{terms:?}"));
        Arc::new(Self {
            seed,
            terms,
            record,
            books: Arc::clone(books),
            auditor,
            weather,
            lens,
            gateways,
            partners: OnceLock::new(),
            known: Mutex::default(),
            is_over: AtomicBool::new(false),
            database,
            model,
            stale: Stale::default(),
            bug,
            other_bank,
        })
    }

    pub(crate) fn random(&self, name: &str) -> Random {
        Random::of(self.seed, name)
    }

    pub(crate) fn is_over(&self) -> bool {
        self.is_over.load(Ordering::Relaxed)
    }

    fn disk(&self, name: &str, gate: &Arc<Gate>) -> Arc<Disk> {
        Arc::new(Disk {
            model: self.model.clone(),
            database: self.database.clone(),
            gate: Arc::clone(gate),
            auditor: Arc::clone(&self.auditor),
            record: Arc::clone(&self.record),
            weather: Arc::clone(&self.weather),
            random: Mutex::new(self.random(&format!("disk/{name}"))),
            bug: self.bug,
            stale: Arc::clone(&self.stale),
        })
    }

    fn gate(&self, name: &str, crash_permyriad: u64) -> Arc<Gate> {
        let random = self.random(&format!("gate/{name}"));
        let is_calm = Arc::clone(&self.weather.is_calm);
        Gate::new(name.to_owned(), Arc::clone(&self.record), random, crash_permyriad, is_calm)
    }

    fn ids(&self, name: &str) -> Arc<Ids> {
        Arc::new(Ids::seeded(self.random(&format!("ids/{name}")).next()))
    }

    /// An operator's side of the store, as the command line has it.
    pub(crate) fn operations(&self, name: &str) -> Operations {
        let disk = self.disk(name, &self.gate(name, 0));
        let clock: Arc<dyn Clock> = WallClock::new(Arc::clone(&self.record));
        Operations::new(disk, clock, &self.ids(name))
    }

    pub(crate) fn product(upstream: domain::UpstreamId) -> Product {
        Product {
            environment: ENVIRONMENT,
            code: ProductCode::parse(PRODUCT).expect("a product code"),
            name: "e-Samsat Jawa Barat".to_owned(),
            fee: Rupiah::new(5_000),
            cashback: Rupiah::new(2_000),
            on: true,
            upstream,
            position: 1,
        }
    }

    /// The product and the partners, before any fault.
    pub(crate) async fn furnish(&self) -> domain::UpstreamId {
        self.weather.is_calm.store(true, Ordering::Relaxed);
        let operations = self.operations("furnish");
        let upstream = operations.register_upstream(UPSTREAM).await.expect("an upstream");
        operations.save_product(Self::product(upstream)).await.expect("a product");
        let mut random = self.random("partners");
        let mut partners = Vec::new();
        for index in 0..self.terms.partners {
            let username = Username::parse(&format!("mitra{index}")).expect("a user name");
            let add = AddPartner {
                environment: ENVIRONMENT,
                username: username.clone(),
                name: format!("Mitra {index}"),
                agent_code: AgentCode::parse("JKT-00000").expect("an agent code"),
                credit_limit: Rupiah::new(if random.permille(200) { 100_000 } else { 0 }),
                password_hash: Secret::new("no hash"),
                allowed_networks: Vec::new(),
            };
            operations.add_partner(add).await.expect("a partner");
            let partner = operations.partner(&username).await.expect("the partner");
            let amount = Rupiah::new(i64::try_from(random.between(1, 20)).expect("a small number") * 200_000);
            operations.top_up(&partner, amount, &format!("first {index}"), "ani").await.expect("a top-up");
            partners.push(Arc::new(partner));
        }
        operations.close().await;
        _ = self.partners.set(partners);
        self.weather.is_calm.store(false, Ordering::Relaxed);
        upstream
    }

    pub(crate) fn partner(&self, index: usize) -> &Arc<Partner> {
        &self.partners.get().expect("the world is furnished")[index]
    }

    /// One life of a gateway begins; none if it does not come up.
    async fn start(&self, gateway: &Gateway) -> Option<Life> {
        let number = gateway.lives.fetch_add(1, Ordering::Relaxed) + 1;
        let name = format!("{}.{number}", gateway.name);
        let gate = self.gate(&name, self.terms.crash_permyriad);
        let bank = match &self.other_bank {
            Some(other) => other.connector(gateway, &name, &gate),
            None => Arc::new(self.connector(gateway, number, &gate)),
        };
        let upstream = Upstream { name: UPSTREAM.to_owned(), bank };
        let start = Engine::start(
            self.terms.settings.clone(),
            self.disk(&name, &gate),
            vec![upstream],
            Arc::clone(&gateway.clock) as Arc<dyn Clock>,
            self.ids(&name),
        );
        let engine = tokio::select! {
            biased;
            () = gate.died() => None,
            started = start => started.ok(),
        };
        if engine.is_none() {
            gate.kill();
        }
        Some(Life { engine: engine?, gate })
    }

    fn connector(&self, gateway: &Gateway, life: u32, gate: &Arc<Gate>) -> Connector {
        Connector {
            books: Arc::clone(&self.books),
            gate: Arc::clone(gate),
            gateway: gateway.name.clone(),
            life,
            auditor: Arc::clone(&self.auditor),
            record: Arc::clone(&self.record),
            clock: Arc::clone(&gateway.clock),
            weather: Arc::clone(&self.weather),
            profile: self.terms.profile.clone(),
            terminals: terminals(if self.terms.gateways > 1 { self.terms.gateways } else { 0 }),
            line: Arc::new(Semaphore::new(self.terms.line_max)),
            desk: OnceLock::new(),
            places: AtomicU64::new(0),
            trouble_permille: self.terms.trouble_permille,
            bug: self.bug,
        }
    }

    /// Brings a gateway up again whenever it is dead.
    pub(crate) async fn supervise(self: Arc<Self>, index: usize) {
        let gateway = &self.gateways[index];
        let mut random = self.random(&format!("supervisor/{index}"));
        loop {
            if let Some(life) = self.start(gateway).await {
                *gateway.locked() = Some(life.clone());
                tokio::select! {
                    biased;
                    () = life.gate.died() => {}
                    _ = life.engine.failed() => life.gate.kill(),
                }
                *gateway.locked() = None;
            }
            let pause = if self.weather.is_calm() { 500 } else { random.between(50, 12_000) };
            sleep(Duration::from_millis(pause)).await;
        }
    }

    /// Asks for a vehicle's bill. None: the gateway was not there, or died.
    pub(crate) async fn inquire(
        &self,
        gateway: usize,
        partner: usize,
        vehicle: u64,
    ) -> Option<Result<View, Refused>> {
        let life = self.gateways[gateway].life()?;
        let partner = self.partner(partner);
        let (nik, chassis) = match &self.other_bank {
            Some(other) => other.vehicle(vehicle),
            None => (
                Nik::parse("320111111111111").expect("a NIK"),
                ChassisNumber::parse(&chassis(vehicle % 1_000_000)).expect("a chassis number"),
            ),
        };
        let product = ProductCode::parse(if vehicle == u64::MAX { "NOWHERE" } else { PRODUCT });
        let inquiry = Inquiry { product: product.expect("a code"), nik, chassis };
        let answer = life.gate.answered(life.engine.inquire(partner, inquiry, Instant::now())).await?;
        match &answer {
            Ok(view) => self.auditor.offered(partner, view),
            Err(refused) => {
                self.record.probe(&format!("inquire: {}", refused.refusal.reason.code()));
                if refused.refusal.reason == domain::Reason::Internal {
                    self.record.wrong(None, "an inquiry met an unclassified error");
                }
            }
        }
        Some(answer)
    }

    /// Pays an invoice, or asks for its status. None: the gateway was not there, or died.
    pub(crate) async fn ask(
        &self,
        gateway: usize,
        partner: usize,
        invoice: i64,
        channel: &'static str,
    ) -> Option<Result<View, Refused>> {
        let life = self.gateways[gateway].life()?;
        let partner = self.partner(partner);
        let asked_at = self.record.elapsed();
        let disturbances = life.gate.disturbances();
        let was_running = life.gate.is_running();
        let number = InvoiceNumber::new(invoice);
        let asked = async {
            match channel {
                "pay" => life.engine.pay(partner, number, Instant::now()).await,
                _ => life.engine.status(partner, number).await,
            }
        };
        let answer = life.gate.answered(asked).await?;
        let was_disturbed = !was_running || life.gate.disturbances() != disturbances;
        self.auditor.told(&Answered { partner, invoice, channel, asked_at, was_disturbed, answer: &answer });
        self.record.probe(&match &answer {
            Ok(view) => format!("{channel}: {}", view.invoice.state.word()),
            Err(refused) => format!("{channel}: {}", refused.refusal.reason.code()),
        });
        Some(answer)
    }

    /// Faults end: the store is well, the clocks are right, whoever was stopped goes on.
    pub(crate) fn calm_down(&self) {
        self.weather.is_calm.store(true, Ordering::Relaxed);
        self.weather.is_away.store(false, Ordering::Relaxed);
        self.weather.commit_ms_max.store(5, Ordering::Relaxed);
        for gateway in &self.gateways {
            gateway.clock.set_wrong_by(0);
            if let Some(life) = gateway.life() {
                life.gate.resume();
            }
        }
        self.record.note(None, "faults have ended");
    }
}

/// `MH000007`.
pub(crate) fn chassis(vehicle: u64) -> String {
    format!("MH{vehicle:06}")
}
