//! The relay against a provider that answers as it is told to: what every answer means, what is sent and what is not.

mod answers;
mod conversation;
mod provider;
mod tls;

use super::{Relay, RelaySettings};
use crate::{
    Bank, Desk, Holds, InquiryOutcome, InquiryRequest, NoPlace, PaymentOutcome, PaymentRequest, Place,
    Placing, SendBefore, StatusOutcome, TraceBlock,
};
use domain::{
    Bill, BusinessDate, ChassisNumber, Clock, InvoiceNumber, Nik, PaymentCode, ProductCode, Rupiah, Secret,
    Terminal, Timestamp, UpstreamTerms, record::IncidentKind,
};
use futures::future::BoxFuture;
use provider::Provider;
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use tokio::time::Instant;

/// How long anything may take that should take moments.
const PATIENCE: Duration = Duration::from_secs(20);

/// How long the relay waits for an answer that does not come.
const ANSWER_TIMEOUT: Duration = Duration::from_millis(500);

const NIK: &str = "320111111111111";
const CHASSIS: &str = "MH328D204AK4010000";

/// The document's own.
const LIST: &str = r#"[{"product":"SAMSAT_JABAR","product_code":"SAMSAT_JABAR","debet":"tagihan+5000","cashback":"2000","status":"ON"}]"#;

/// The document's example as an inquiry answers it; what a test wants otherwise it replaces.
const BILL: &str = r#"{"result":"ok","tanggal":"2026-11-23 13:14:15","product":"SAMSAT_JABAR","invoice":"111111111111","paymentcode":"322020060719000","customer_number":"320111111111111","customer_name":"JORDAN","customer_address":"KP CITAMIANG DUA RT1 RW4 PAMIJAHAN KAB BOGOR","structure_number":"MH328D204AK4010000","license_plate":"F 0001 Z","vehicle_brand":"YAMAHA","vehicle_model":"28D (AL115S/MIO)","vehicle_color":"MERAH MARUN","year_built":"2010","tax_pkb":"143500","tax_swd":"35000","tax_bnn":"0","penalty_pkb":"0","penalty_swd":"0","penalty_bnn":"0","fee":"5000","total":"183500","kodeagen":"JKT-00000","status":"INQUIRY"}"#;

/// The same as a payment answers it.
fn answered(status: &str) -> String {
    let numbers = match status {
        "CONFIRM" => r#""reference_number":"5A834FE7A6394BA0A387EA9E8EFB1E48","trace_number":"245209","#,
        _ => r#""reference_number":"","trace_number":"","#,
    };
    let status = format!(r#""status":"{status}""#);
    BILL.replace(r#""status":"INQUIRY""#, &status)
        .replace(r#""paymentcode""#, &format!(r#"{numbers}"paymentcode""#))
}

fn refused(reason: &str) -> String {
    format!(
        r#"{{"result":"no","tanggal":"2026-11-23 13:14:15","product":"SAMSAT_JABAR","invoice":"111111111111","customer_number":"{NIK}","structure_number":"{CHASSIS}","kodeagen":"JKT-00000","reason":"{reason}"}}"#
    )
}

/// Follows tokio's clock, from 2026-11-23 10:00 in Jakarta on.
#[derive(Debug)]
struct TestClock(Instant);

impl Clock for TestClock {
    fn now(&self) -> Timestamp {
        let day = BusinessDate::from_number(20_261_123).expect("a day");
        day.begins_at().plus(Duration::from_hours(10)).plus(self.0.elapsed())
    }
}

/// Takes down what operators are told.
#[derive(Default)]
struct TestDesk(Mutex<Vec<(Option<InvoiceNumber>, IncidentKind, String)>>);

impl TestDesk {
    fn raised(&self) -> Vec<(Option<InvoiceNumber>, IncidentKind, String)> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Desk for TestDesk {
    fn reserve_trace_numbers(&self, _: Terminal, _: u32) -> BoxFuture<'_, Option<TraceBlock>> {
        unreachable!("a relay has no trace numbers")
    }

    fn holds(&self, _: Terminal) -> Holds {
        unreachable!("a relay has no terminals")
    }

    fn raise(&self, invoice: Option<InvoiceNumber>, kind: IncidentKind, detail: String) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push((invoice, kind, detail));
    }
}

/// For a provider that does not answer.
fn impatient(settings: &mut RelaySettings) {
    settings.answer_timeout_ms = u64::try_from(ANSWER_TIMEOUT.as_millis()).expect("short");
    settings.connect_timeout_ms = settings.answer_timeout_ms;
}

/// For one that does.
fn patient(_: &mut RelaySettings) {}

struct Fixture {
    provider: Provider,
    relay: Arc<Relay>,
    desk: Arc<TestDesk>,
    clock: Arc<dyn Clock>,
}

impl Fixture {
    /// A provider, and a relay that has asked for its balance and its products.
    async fn new(change: impl FnOnce(&mut RelaySettings)) -> Self {
        let fixture = Self::with(Provider::start().await, "http", change);
        fixture.open().await;
        fixture
    }

    fn with(provider: Provider, scheme: &str, change: impl FnOnce(&mut RelaySettings)) -> Self {
        let mut settings = RelaySettings {
            url: format!("{scheme}://{}/json/esamsat", provider.address),
            answer_timeout_ms: 15_000,
            connect_timeout_ms: 15_000,
            horizon_ms: 15_000,
            in_flight_max: 16,
            balance_every_s: 3_600,
            refusals: BTreeMap::from([
                ("kode:0054".to_owned(), domain::Reason::BillAlreadyPaid),
                ("Saldo Anda tidak cukup".to_owned(), domain::Reason::BankUnreachable),
            ]),
            ..RelaySettings::example()
        };
        change(&mut settings);
        let clock: Arc<dyn Clock> = Arc::new(TestClock(Instant::now()));
        let password = Secret::new("rahasia & rahasia");
        let relay =
            Relay::new("penyedia", settings, password, Arc::clone(&clock)).expect("the settings are right");
        Self { provider, relay, desk: Arc::default(), clock }
    }

    async fn open(&self) {
        self.relay.open(Arc::clone(&self.desk) as Arc<dyn Desk>);
        self.until(|| self.relay.core.account.balance().is_some() && self.relay.core.listed.is_cancelled())
            .await;
    }

    /// Waits until it is so.
    async fn until(&self, is_so: impl Fn() -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !is_so() {
            assert!(Instant::now() < deadline, "not in time");
            tokio::task::yield_now().await;
        }
    }

    async fn inquire(&self) -> InquiryOutcome {
        self.relay.inquire(asked()).await
    }

    fn place(&self) -> Result<Place, NoPlace> {
        self.relay.place(Placing { invoice: INVOICE, upstream_reference: Some("111111111111") })
    }

    async fn pay(&self) -> PaymentOutcome {
        self.relay.pay(self.place().expect("there is a place"), self.request()).await
    }

    async fn status(&self) -> StatusOutcome {
        self.relay.status(self.request()).await
    }

    fn request(&self) -> PaymentRequest {
        request(self.clock.now())
    }
}

const INVOICE: InvoiceNumber = InvoiceNumber::new(100_000_000_007);

fn asked() -> InquiryRequest {
    InquiryRequest {
        invoice: INVOICE,
        product: ProductCode::parse("SAMSAT_JABAR").expect("a product"),
        nik: Nik::parse(NIK).expect("a KTP number"),
        chassis: ChassisNumber::parse(CHASSIS).expect("a chassis number"),
    }
}

fn request(now: Timestamp) -> PaymentRequest {
    let InquiryRequest { invoice, product, nik, chassis } = asked();
    PaymentRequest {
        invoice,
        identity: "111111111111".to_owned(),
        product,
        nik,
        chassis,
        payment_code: PaymentCode::parse("322020060719000").expect("a payment code"),
        amount: Rupiah::new(178_500),
        terms: UpstreamTerms { fee: Rupiah::new(5_000), cashback: Rupiah::new(2_000) },
        send_before: SendBefore { wall: now.plus(PATIENCE), monotonic: Instant::now() + PATIENCE },
    }
}

fn bill(outcome: InquiryOutcome) -> (Bill, UpstreamTerms) {
    match outcome {
        InquiryOutcome::Presented { bill, terms, payable_until: None } => (bill, terms),
        other => panic!("no bill: {other:?}"),
    }
}
