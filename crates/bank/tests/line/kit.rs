//! A bank host and a line to it, with a gateway's desk that says yes.

use bank::{
    Bank, Desk, Holds, InquiryOutcome, InquiryRequest, Paid, PaymentOutcome, PaymentRequest, Place, Placing,
    SendBefore, StatusOutcome, TraceBlock,
    host::{Host, HostFaults},
    iso8583_line::{Iso8583Bank, LineSettings, OneLine},
    profile::LineProfile,
};
use domain::{
    Bill, ChassisNumber, Clock, InvoiceNumber, Nik, ProductCode, Terminal, Timestamp, UpstreamTerms,
    record::IncidentKind,
};
use futures::future::BoxFuture;
use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicI64, Ordering::Relaxed},
    },
    time::Duration,
};
use tempfile::TempDir;
use tokio::{
    net::TcpListener,
    time::{Instant, sleep, timeout},
};
use tokio_util::sync::CancellationToken;

/// How long something may take that should take moments, on a machine that is busy with other things.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// The system's clock.
pub struct Now;

impl Clock for Now {
    #[expect(clippy::disallowed_methods, reason = "the line speaks to a real socket, in real time")]
    fn now(&self) -> Timestamp {
        Timestamp::from_millis(jiff::Timestamp::now().as_millisecond())
    }
}

/// A desk that holds every terminal, while it does.
#[derive(Default)]
pub struct TestDesk {
    next: AtomicI64,
    pub holds_none: AtomicBool,
    pub raised: Mutex<Vec<(IncidentKind, String)>>,
}

impl Desk for TestDesk {
    fn reserve_trace_numbers(&self, _terminal: Terminal, count: u32) -> BoxFuture<'_, Option<TraceBlock>> {
        let first = self.next.fetch_add(i64::from(count), Relaxed) + 1;
        Box::pin(async move { Some(TraceBlock { first, count, open: Vec::new() }) })
    }

    fn holds(&self, _terminal: Terminal) -> Holds {
        if self.holds_none.load(Relaxed) { Holds::No } else { Holds::Alone }
    }

    fn raise(&self, _invoice: Option<InvoiceNumber>, kind: IncidentKind, detail: String) {
        self.raised.lock().expect("nothing panics while it holds them").push((kind, detail));
    }
}

/// A shipped profile with times for tests.
pub fn profile(name: &str) -> LineProfile {
    hasty(LineProfile::builtin(name).expect("it is shipped"))
}

/// A profile with times for tests.
pub fn hasty(profile: LineProfile) -> LineProfile {
    let [answer_timeout, horizon, echo_after] = [700, 1_500, 400].map(Duration::from_millis);
    profile.with_times(answer_timeout, horizon, echo_after)
}

pub struct Fixture {
    pub host: Arc<Host>,
    pub bank: Arc<Iso8583Bank>,
    pub desk: Arc<TestDesk>,
    next_invoice: AtomicI64,
    stop: CancellationToken,
    _directory: TempDir,
}

pub fn settings(address: SocketAddr) -> LineSettings {
    let line = OneLine { terminal: "ESAM0001".to_owned(), addresses: vec![address.to_string()], tls: None };
    LineSettings { profile: String::new(), in_flight_max: 64, lines_held: 1, line: vec![line] }
}

impl Fixture {
    pub async fn new(profile_name: &str) -> Self {
        Self::with(profile(profile_name)).await
    }

    pub async fn with(profile: LineProfile) -> Self {
        let directory = TempDir::new().expect("the test's own pieces are sound");
        let clock: Arc<dyn Clock> = Arc::new(Now);
        let ledger = directory.path().join("bank.sqlite");
        let host =
            Host::open(profile.clone(), &ledger, 1_000_000, (HostFaults::default(), 7), Arc::clone(&clock))
                .expect("the test's own pieces are sound");
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("the test's own pieces are sound");
        let address = listener.local_addr().expect("the test's own pieces are sound");
        let stop = CancellationToken::new();
        let (serving, stopping) = (Arc::clone(&host), stop.clone());
        tokio::spawn(async move { serving.serve(listener, stopping).await });
        let bank = Iso8583Bank::new("bjb", profile, settings(address), clock)
            .expect("the test's own pieces are sound");
        let desk = Arc::new(TestDesk::default());
        bank.open(Arc::clone(&desk) as Arc<dyn Desk>);
        let next_invoice = AtomicI64::new(100_000_000_000);
        let fixture = Self { host, bank, desk, next_invoice, stop, _directory: directory };
        fixture.until("the line is up", |fixture| fixture.bank.lines()[0].is_up).await;
        fixture
    }

    /// Waits until something is so.
    pub async fn until(&self, what: &str, is_so: impl Fn(&Self) -> bool) {
        let waiting = async {
            while !is_so(self) {
                sleep(Duration::from_millis(5)).await;
            }
        };
        timeout(PATIENCE, waiting)
            .await
            .unwrap_or_else(|_| panic!("in time: {what}; {:?}", self.bank.lines()));
    }

    pub fn count(&self, name: &str) -> u64 {
        self.bank.lines()[0].counts[name]
    }

    pub fn faults(&self, faults: HostFaults) {
        self.host.set_faults(faults).expect("the test's own pieces are sound");
    }

    pub fn asked(&self, nik: &str, chassis: &str) -> InquiryRequest {
        InquiryRequest {
            invoice: InvoiceNumber::new(self.next_invoice.fetch_add(1, Relaxed)),
            product: ProductCode::parse("SAMSAT_JABAR").expect("the test's own pieces are sound"),
            nik: Nik::parse(nik).expect("the test's own pieces are sound"),
            chassis: ChassisNumber::parse(chassis).expect("the test's own pieces are sound"),
        }
    }

    pub fn documented(&self) -> InquiryRequest {
        self.asked("320111111111111", "MH328D204AK4010000")
    }

    pub fn test_number(&self, scenario: u16, serial: &str) -> InquiryRequest {
        self.asked("3299000000000001", &format!("UJI{scenario:03}{serial}"))
    }

    /// A vehicle of the population that has a bill, from this number on.
    pub async fn resident(&self, from: u32) -> Bill {
        for number in from.. {
            let (nik, chassis, product) = bank::simulator::population::numbers(number);
            if product.as_str() != "SAMSAT_JABAR" {
                continue;
            }
            let asked = self.asked(nik.as_str(), chassis.as_str());
            if let InquiryOutcome::Presented { bill, .. } = self.bank.inquire(asked).await {
                return bill;
            }
        }
        unreachable!("some vehicle has a bill")
    }

    pub async fn bill(&self, asked: InquiryRequest) -> Bill {
        match self.bank.inquire(asked).await {
            InquiryOutcome::Presented { bill, .. } => bill,
            other => panic!("no bill: {other:?}"),
        }
    }

    pub fn begin(&self, bill: &Bill) -> (Place, PaymentRequest) {
        let invoice = InvoiceNumber::new(self.next_invoice.fetch_add(1, Relaxed));
        let place = self
            .bank
            .place(Placing { invoice, upstream_reference: None })
            .expect("the test's own pieces are sound");
        let request = PaymentRequest {
            invoice,
            identity: place.identity.clone(),
            product: ProductCode::parse("SAMSAT_JABAR").expect("the test's own pieces are sound"),
            nik: bill.nik.clone(),
            chassis: bill.chassis.clone(),
            payment_code: bill.payment_code.clone(),
            amount: bill.taxes.total(),
            terms: UpstreamTerms::default(),
            send_before: SendBefore {
                wall: Now.now().plus(Duration::from_secs(10)),
                monotonic: Instant::now() + Duration::from_secs(10),
            },
        };
        (place, request)
    }

    pub async fn pay(&self, bill: &Bill) -> (PaymentRequest, PaymentOutcome) {
        let (place, request) = self.begin(bill);
        let outcome = self.bank.pay(place, request.clone()).await;
        (request, outcome)
    }

    /// What the bank says of a payment that it has taken, on whichever connection stands.
    pub async fn status_until_known(&self, request: &PaymentRequest) -> Paid {
        let asking = async {
            loop {
                self.until("the line is up", |f| f.bank.lines()[0].is_up).await;
                match self.bank.status(request.clone()).await {
                    StatusOutcome::Paid(paid) => return paid,
                    StatusOutcome::Unknown(_) => {}
                    other => panic!("it was taken: {other:?}"),
                }
            }
        };
        timeout(PATIENCE, asking).await.expect("the truth is found")
    }

    /// Whether the bank has taken it.
    pub async fn has_taken(&self, request: &PaymentRequest) -> bool {
        let payments = self.host.payments().await.expect("the test's own pieces are sound");
        payments.iter().any(|payment| payment.identity == request.identity && payment.generation > 0)
    }
}

impl Drop for Fixture {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}
