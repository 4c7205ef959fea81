//! A bank host, and gateways with lines to it that live one after the other on one store.

use bank::{
    Bank,
    host::{Host, HostFaults},
    iso8583_line::{Iso8583Bank, LineSettings, OneLine},
    profile::LineProfile,
};
use domain::{
    Account, AgentCode, ChassisNumber, Clock, Environment, Invoice, InvoiceNumber, Nik, Partner, Product,
    ProductCode, Reason, Rupiah, Secret, State, Timestamp, Username, command::AddPartner,
    record::IncidentKind,
};
use engine::{
    Engine, Ids, Inquiry, Refused, Settings, SystemClock, Upstream, View, bank, domain, operate::Operations,
    store, verify::verify,
};
use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicI64, AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};
use store::{Store, model::Model};
use tempfile::TempDir;
use tokio::{
    net::TcpListener,
    time::{Instant, sleep, timeout},
};
use tokio_util::sync::CancellationToken;

/// How long anything may take that should take moments, on a machine that is busy with other things.
pub const PATIENCE: Duration = Duration::from_mins(1);

/// The KTP number of all test vehicles.
const TESTER: &str = "3299000000000001";
const DEPOSIT: i64 = 1_000_000_000_000;
const ENVIRONMENT: Environment = Environment::Sandbox;

/// A shipped profile with times for tests.
pub fn profile(name: &str) -> LineProfile {
    let [answer_timeout, horizon, echo_after] = [800, 2_500, 1_000].map(Duration::from_millis);
    LineProfile::builtin(name).expect("it is shipped").with_times(answer_timeout, horizon, echo_after)
}

/// A bank of its own at the other end of a line.
pub struct BankHost {
    pub host: Arc<Host>,
    /// Of the gateways that ask it.
    pub clock: SetClock,
    pub profile: LineProfile,
    address: SocketAddr,
    stop: CancellationToken,
    _folder: TempDir,
}

impl BankHost {
    pub async fn open(profile_name: &str) -> Self {
        let folder = TempDir::new().expect("a temporary directory");
        let profile = profile(profile_name);
        let path = folder.path().join("bank.sqlite");
        let faults = (HostFaults::default(), 7);
        let clock = SetClock::default();
        let host = Host::open(profile.clone(), &path, 1_000_000, faults, Arc::new(SystemClock));
        let host = host.expect("the bank opens");
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("it is bound");
        let stop = CancellationToken::new();
        let (serving, stopping) = (Arc::clone(&host), stop.clone());
        tokio::spawn(async move { serving.serve(listener, stopping).await });
        Self { host, clock, profile, address, stop, _folder: folder }
    }

    pub fn faults(&self, faults: HostFaults) {
        self.host.set_faults(faults).expect("they make sense");
    }

    /// Whether the bank has taken a payment, and keeps it.
    pub async fn has_taken(&self, identity: &str) -> bool {
        let payments = self.host.payments().await.expect("the bank's books");
        payments.iter().any(|payment| payment.identity == identity && payment.generation > 0)
    }

    fn lines(&self, terminals: &[&str]) -> Arc<dyn Bank> {
        let line = terminals.iter().map(|terminal| OneLine {
            terminal: (*terminal).to_owned(),
            addresses: vec![self.address.to_string()],
            tls: None,
        });
        let settings =
            LineSettings { profile: String::new(), in_flight_max: 64, lines_held: 1, line: line.collect() };
        let bank = Iso8583Bank::new("bank", self.profile.clone(), settings, Arc::new(self.clock.clone()));
        bank.expect("good settings")
    }
}

impl Drop for BankHost {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// A store with a partner and a product for every bank, and the gateway that lives on it.
pub struct World {
    model: Model,
    terminals: &'static [&'static str],
    pub partner: Arc<Partner>,
    pub engine: Arc<Engine>,
}

/// The system's clock, and how far a test has put it forward. Milliseconds.
#[derive(Clone, Debug, Default)]
pub struct SetClock(Arc<AtomicI64>);

impl SetClock {
    pub fn put_forward(&self, hours: i64) {
        self.0.fetch_add(hours * 3_600_000, Relaxed);
    }
}

impl Clock for SetClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_millis(SystemClock.now().as_millis() + self.0.load(Relaxed))
    }
}

static SEEDS: AtomicU64 = AtomicU64::new(1);

fn ids() -> Arc<Ids> {
    // Every life its own: batch ids never repeat.
    Arc::new(Ids::seeded(SEEDS.fetch_add(1, Relaxed)))
}

/// The product that a bank in this place sells.
pub fn product(place: usize) -> ProductCode {
    let code = ["SAMSAT_JABAR", "SAMSAT_JATENG"][place];
    ProductCode::parse(code).expect("a product code")
}

impl World {
    pub async fn with(hosts: &[&BankHost]) -> Self {
        Self::at(&["ESAM0001"], hosts).await
    }

    /// With these terminals at every bank.
    pub async fn at(terminals: &'static [&'static str], hosts: &[&BankHost]) -> Self {
        let model = Model::new();
        let operations = Operations::new(Arc::new(model.clone()), Arc::new(SystemClock), &ids());
        for place in 0..hosts.len() {
            let upstream = operations.register_upstream(&format!("bank{place}")).await.expect("an upstream");
            let code = product(place);
            let product = Product {
                environment: ENVIRONMENT,
                name: code.to_string(),
                code,
                fee: Rupiah::new(5_000),
                cashback: Rupiah::new(2_000),
                on: true,
                upstream,
                position: 1,
            };
            operations.save_product(product).await.expect("a product");
        }
        let username = Username::parse("mitra").expect("a user name");
        let add = AddPartner {
            environment: ENVIRONMENT,
            username: username.clone(),
            name: "mitra".to_owned(),
            agent_code: AgentCode::parse("JKT-00000").expect("an agent code"),
            credit_limit: Rupiah::ZERO,
            password_hash: Secret::new("no hash"),
            allowed_networks: Vec::new(),
        };
        operations.add_partner(add).await.expect("a partner");
        let partner = operations.partner(&username).await.expect("the partner");
        operations.top_up(&partner, Rupiah::new(DEPOSIT), "first", "ani").await.expect("a deposit");
        operations.close().await;
        let engine = start(&model, terminals, hosts, None).await;
        let world = Self { model, terminals, partner: Arc::new(partner), engine };
        world.until_up().await;
        world
    }

    /// The gateway ends, whatever is under way, and another one begins.
    pub async fn restart(&mut self, hosts: &[&BankHost]) {
        self.engine.shut_down(Instant::now()).await;
        self.engine = start(&self.model, self.terminals, hosts, None).await;
        self.until_up().await;
    }

    /// One of several gateways on this store.
    pub async fn another(&self, hosts: &[&BankHost]) -> Arc<Engine> {
        start(&self.model, self.terminals, hosts, Some(Duration::from_secs(2))).await
    }

    pub async fn until_up(&self) {
        until("the lines are up", async || {
            self.engine.lines().values().all(|lines| lines.iter().all(|line| line.is_up))
        })
        .await;
    }

    pub async fn inquire(&self, place: usize, nik: &str, chassis: &str) -> Result<View, Refused> {
        let inquiry = Inquiry {
            product: product(place),
            nik: Nik::parse(nik).expect("a number"),
            chassis: ChassisNumber::parse(chassis).expect("a number"),
        };
        self.engine.inquire(&self.partner, inquiry, Instant::now()).await
    }

    /// An invoice of a test number.
    pub async fn test_number(&self, scenario: u16, serial: u32) -> InvoiceNumber {
        let chassis = format!("UJI{scenario:03}{serial:04}");
        let view = self.inquire(0, TESTER, &chassis).await;
        view.unwrap_or_else(|refused| panic!("{scenario}: {refused:?}")).invoice.number
    }

    /// An invoice of a vehicle of the population, from this one on, and the next vehicle.
    pub async fn resident(&self, place: usize, from: u32) -> (InvoiceNumber, u32) {
        for number in from.. {
            let (nik, chassis, of) = bank::simulator::population::numbers(number);
            if of == product(place)
                && let Ok(view) = self.inquire(place, nik.as_str(), chassis.as_str()).await
            {
                return (view.invoice.number, number + 1);
            }
        }
        unreachable!("some vehicle has a bill")
    }

    pub async fn pay(&self, number: InvoiceNumber) -> Result<&'static str, Reason> {
        let answered = self.engine.pay(&self.partner, number, Instant::now()).await;
        answered.map(|view| view.invoice.state.word()).map_err(|refused| refused.refusal.reason)
    }

    pub async fn invoice(&self, number: InvoiceNumber) -> Invoice {
        self.model.invoice(number).await.expect("a read").expect("the invoice").invoice
    }

    /// What a payment is known by at the bank.
    pub async fn identity(&self, number: InvoiceNumber) -> String {
        let invoice = self.invoice(number).await;
        invoice.state.attempt().expect("it has begun").identity.clone()
    }

    pub async fn word(&self, number: InvoiceNumber) -> &'static str {
        self.invoice(number).await.state.word()
    }

    /// Waits until a payment is final, and returns its state.
    pub async fn finally(&self, number: InvoiceNumber) -> &'static str {
        until("it is settled", async || self.invoice(number).await.state.is_final()).await;
        self.word(number).await
    }

    pub async fn reserved(&self) -> i64 {
        let account = Account::reserved(ENVIRONMENT, self.partner.id);
        -self.model.balance(account).await.expect("a read").get()
    }

    /// The incidents of a kind, by invoice.
    pub async fn incidents(&self, kind: IncidentKind) -> Vec<Option<InvoiceNumber>> {
        let incidents = self.model.incidents(1_000).await.expect("a read");
        incidents
            .into_iter()
            .filter(|incident| incident.kind == kind)
            .map(|incident| incident.invoice)
            .collect()
    }

    /// The ledger proves, and what is final is what the bank did.
    pub async fn must_agree_with(&self, host: &BankHost, numbers: &[InvoiceNumber]) {
        let report = verify(&self.model).await.expect("an audit");
        assert!(report.is_clean(), "{:#?}", report.problems);
        for number in numbers {
            let invoice = self.invoice(*number).await;
            let taken = match invoice.state.attempt() {
                Some(attempt) => host.has_taken(&attempt.identity).await,
                None => false,
            };
            match invoice.state {
                State::Confirm { .. } => assert!(taken, "{number} is CONFIRM, and the bank has not taken it"),
                State::Pending { .. } => {}
                _ => assert!(!taken, "{number} is {}, and the bank has taken it", invoice.state.word()),
            }
        }
    }
}

async fn start(
    model: &Model,
    terminals: &[&str],
    hosts: &[&BankHost],
    lease_after: Option<Duration>,
) -> Arc<Engine> {
    let settings = Settings {
        answer_within: Duration::from_secs(3),
        send_within: Duration::from_secs(1),
        status_question_pause: Duration::from_millis(100),
        lease_after,
        ..Settings::default()
    };
    let upstreams = hosts
        .iter()
        .enumerate()
        .map(|(place, host)| Upstream { name: format!("bank{place}"), bank: host.lines(terminals) });
    let clock: Arc<dyn Clock> = Arc::new(hosts[0].clock.clone());
    let engine = Engine::start(settings, Arc::new(model.clone()), upstreams.collect(), clock, ids()).await;
    engine.expect("the gateway starts")
}

/// Waits until something is so.
pub async fn until(what: &str, is_so: impl AsyncFn() -> bool) {
    let waiting = async {
        while !is_so().await {
            sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(PATIENCE, waiting).await.unwrap_or_else(|_| panic!("in time: {what}"));
}
