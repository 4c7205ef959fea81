//! A gateway for tests: the document's partner, products and vehicle, a clock that stands still, and a bank
//! that does what it is told.

use engine::{
    Engine, Ids, Settings, Upstream,
    bank::{
        Bank, InquiryOutcome, InquiryRequest, LateAnswer, NoPlace, Paid, PaymentOutcome, PaymentRequest,
        Place, Placing, Profile, Question, StatusOutcome,
    },
    domain::{
        Accepted, AgentCode, Bill, Clock, Command, Environment, InvoiceNumber, PartnerId, PaymentCode,
        Product, ProductCode, Reason, Refusal, Rupiah, Secret, State, Taxes, Timestamp, UpstreamTerms,
        Username,
        command::{AddPartner, PartnerChange, TopUp},
        invoice::BankReceipt,
    },
    hash_password,
    store::{Store, model::Model},
};
use futures::future::BoxFuture;
use http_body_util::{BodyExt, Full};
use hyper::{HeaderMap, Method, Request, StatusCode, body::Bytes, header::CONTENT_TYPE};
use std::{
    future::pending,
    net::IpAddr,
    sync::{Arc, Mutex},
    time::Duration,
};
use tokio::{
    sync::{Notify, Semaphore, mpsc},
    time::Instant,
};
use web::{Arrival, Face, Router};

/// The document's moment.
pub const NOW: Timestamp = Timestamp::from_millis(1_562_480_055_000);
pub const CREDENTIALS: &str = "username=dummy&password=dummy123";
pub const JORDAN: &str =
    "product=SAMSAT_JABAR&customer_number=320111111111111&structure_number=MH328D204AK4010000";
/// The first number of an empty store.
pub const FIRST_INVOICE: &str = "100000000000";

/// A clock that stands still.
struct Still;

impl Clock for Still {
    fn now(&self) -> Timestamp {
        NOW
    }
}

/// What the bank does with a payment.
#[derive(Clone, Default)]
pub enum Paying {
    #[default]
    Takes,
    Refuses(Refusal),
    IsSilent,
    /// Takes it once it is let.
    Waits(Arc<Notify>),
}

/// A bank that does what it is told.
pub struct StubBank {
    profile: Profile,
    places: Arc<Semaphore>,
    pub paying: Mutex<Paying>,
    /// Inquiries are answered once this is notified; never, if nobody does.
    pub inquiry_waits_for: Mutex<Option<Arc<Notify>>>,
    pub taxes: Mutex<Taxes>,
    pub asked: Notify,
}

impl StubBank {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            profile: Profile {
                horizon: Duration::from_mins(1),
                answer_timeout: Duration::from_secs(40),
                definitive_status: true,
                question: Question::Asks,
            },
            places: Arc::new(Semaphore::new(1_000)),
            paying: Mutex::default(),
            inquiry_waits_for: Mutex::default(),
            taxes: Mutex::new(Taxes {
                pkb: Rupiah::new(143_500),
                swdkllj: Rupiah::new(35_000),
                ..Taxes::default()
            }),
            asked: Notify::new(),
        })
    }

    fn presented(&self, request: InquiryRequest) -> InquiryOutcome {
        if request.nik.as_str() != "320111111111111" || request.chassis.as_str() != "MH328D204AK4010000" {
            return InquiryOutcome::Refused(Reason::VehicleNotFound.into());
        }
        let bill = Bill {
            payment_code: PaymentCode::parse("322020060719000").unwrap(),
            nik: request.nik,
            chassis: request.chassis,
            owner_name: Secret::new("JORDAN"),
            owner_address: Secret::new("KP CITAMIANG DUA RT1 RW4 PAMIJAHAN KAB BOGOR"),
            license_plate: "F 0001 Z".to_owned(),
            vehicle_brand: "YAMAHA".to_owned(),
            vehicle_model: "28D (AL115S/MIO)".to_owned(),
            vehicle_color: "MERAH MARUN".to_owned(),
            year_built: 2010,
            taxes: *self.taxes.lock().unwrap(),
            upstream_reference: None,
        };
        InquiryOutcome::Presented { bill, payable_until: None, terms: UpstreamTerms::default() }
    }
}

impl Bank for StubBank {
    fn profile(&self) -> &Profile {
        &self.profile
    }

    fn place(&self, payment: Placing<'_>) -> Result<Place, NoPlace> {
        let permit = Arc::clone(&self.places).try_acquire_owned().map_err(|_| NoPlace::Full)?;
        Ok(Place { identity: payment.invoice.to_string(), permit, fence: None })
    }

    fn inquire(&self, request: InquiryRequest) -> BoxFuture<'_, InquiryOutcome> {
        Box::pin(async move {
            let waits_for = self.inquiry_waits_for.lock().unwrap().clone();
            if let Some(let_it) = waits_for {
                self.asked.notify_one();
                let_it.notified().await;
            }
            self.presented(request)
        })
    }

    fn pay(&self, _place: Place, request: PaymentRequest) -> BoxFuture<'_, PaymentOutcome> {
        let paying = self.paying.lock().unwrap().clone();
        let paid = PaymentOutcome::Paid(Paid {
            identity: request.identity,
            amount: request.amount,
            receipt: BankReceipt {
                reference_number: "5A834FE7A6394BA0A387EA9E8EFB1E48".to_owned(),
                trace_number: "245209".to_owned(),
            },
        });
        self.asked.notify_one();
        Box::pin(async move {
            match paying {
                Paying::Takes => paid,
                Paying::Refuses(refusal) => PaymentOutcome::Refused(refusal),
                Paying::IsSilent => pending().await,
                Paying::Waits(let_it) => {
                    let_it.notified().await;
                    paid
                }
            }
        })
    }

    fn status(&self, _request: PaymentRequest) -> BoxFuture<'_, StatusOutcome> {
        Box::pin(async { StatusOutcome::UnderWay })
    }

    fn late_answers(&self) -> Option<mpsc::Receiver<LateAnswer>> {
        None
    }
}

/// A gateway with its faces.
pub struct Gateway {
    pub engine: Arc<Engine>,
    pub bank: Arc<StubBank>,
    pub router: Router,
}

/// An answer, read whole.
#[derive(Debug, PartialEq, Eq)]
pub struct Answered {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: String,
}

impl Gateway {
    pub async fn start() -> Self {
        Self::start_with(|_| {}).await
    }

    /// With the document's products and the partner `dummy`, who has a deposit of one million Rupiah.
    pub async fn start_with(configure: impl FnOnce(&mut Face)) -> Self {
        let bank = StubBank::new();
        let ids = Arc::new(Ids::seeded(1));
        let upstream = Upstream { name: "stub".to_owned(), bank: Arc::clone(&bank) as Arc<dyn Bank> };
        let store: Arc<dyn Store> = Arc::new(Model::new());
        let engine = Engine::start(Settings::default(), store, vec![upstream], Arc::new(Still), ids).await;
        let engine = engine.unwrap();
        let upstream = engine.store().upstreams().await.unwrap()[0].1;
        for (position, (code, on)) in [
            ("SAMSAT_JABAR", true),
            ("SAMSAT_JATENG", false),
            ("SAMSAT_JAKARTA", false),
            ("SAMSAT_JATIM", false),
        ]
        .into_iter()
        .enumerate()
        {
            let product = Product {
                environment: Environment::Sandbox,
                code: ProductCode::parse(code).unwrap(),
                name: code.to_owned(),
                fee: Rupiah::new(5_000),
                cashback: Rupiah::new(2_000),
                on,
                upstream,
                position: u32::try_from(position).unwrap(),
            };
            engine.submit(Command::SaveProduct(Box::new(product))).await.unwrap();
        }
        let mut face = Face::new(Arc::clone(&engine), Arc::new(|| "up 1\n".to_owned()));
        configure(&mut face);
        let gateway = Self { engine, bank, router: Router::new(face) };
        let dummy = gateway.add_partner("dummy", "JKT-00000", &[]).await;
        let top_up = TopUp {
            environment: Environment::Sandbox,
            partner: dummy,
            amount: Rupiah::new(1_000_000),
            reference: "T1".to_owned(),
            operator: "tester".to_owned(),
            at: NOW,
        };
        gateway.engine.submit(Command::TopUp(Box::new(top_up))).await.unwrap();
        gateway
    }

    /// A partner with the password `NAME123`.
    pub async fn add_partner(&self, name: &str, agent_code: &str, networks: &[&str]) -> PartnerId {
        let password = Secret::new(format!("{name}123"));
        let add = AddPartner {
            environment: Environment::Sandbox,
            username: Username::parse(name).unwrap(),
            name: name.to_owned(),
            agent_code: AgentCode::parse(agent_code).unwrap(),
            credit_limit: Rupiah::ZERO,
            password_hash: hash_password(&password, &Ids::seeded(2)),
            allowed_networks: networks.iter().map(|network| (*network).to_owned()).collect(),
        };
        match self.engine.submit(Command::AddPartner(Box::new(add))).await.unwrap() {
            Accepted::Partner(id) => id,
            other => panic!("{other:?}"),
        }
    }

    pub async fn change_partner(&self, id: PartnerId, change: PartnerChange) {
        self.engine.submit(Command::ChangePartner { id, change }).await.unwrap();
    }

    pub fn pays(&self, paying: Paying) {
        *self.bank.paying.lock().unwrap() = paying;
    }

    /// Sends any request, from any address.
    pub async fn send_from(&self, peer: &str, request: Request<Full<Bytes>>) -> Answered {
        let at = Instant::now();
        let peer: IpAddr = peer.parse().unwrap();
        let arrival = Arrival { peer, at, body_by: at + Duration::from_secs(10) };
        let (head, body) = self.router.answer(request, arrival).await.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        Answered {
            status: head.status,
            headers: head.headers,
            body: String::from_utf8(body.to_vec()).unwrap(),
        }
    }

    pub async fn send(&self, request: Request<Full<Bytes>>) -> Answered {
        self.send_from("127.0.0.1", request).await
    }

    /// Posts a form to an endpoint and expects the application's own answer.
    pub async fn post(&self, path: &str, form: &str) -> String {
        let answered = self.send(post(path, "application/x-www-form-urlencoded", form.to_owned())).await;
        assert_eq!(answered.status, StatusCode::OK, "{}", answered.body);
        assert_eq!(answered.headers[CONTENT_TYPE], "application/json");
        answered.body
    }

    pub async fn inquire(&self) -> String {
        self.post("/json/esamsat/inquiry_esamsat", &format!("{CREDENTIALS}&{JORDAN}")).await
    }

    pub async fn pay(&self, invoice: &str) -> String {
        self.post("/json/esamsat/pay_esamsat", &format!("{CREDENTIALS}&invoice={invoice}")).await
    }

    pub async fn status(&self, invoice: &str) -> String {
        self.post("/json/esamsat/status_invoice", &format!("{CREDENTIALS}&invoice={invoice}")).await
    }

    /// The state of the first invoice, in the store.
    pub async fn first_state(&self) -> State {
        let number = InvoiceNumber::parse(FIRST_INVOICE).unwrap();
        self.engine.store().invoice(number).await.unwrap().unwrap().invoice.state
    }
}

pub fn post(path: &str, content_type: &str, body: impl Into<Bytes>) -> Request<Full<Bytes>> {
    let request = Request::builder().method(Method::POST).uri(path).header(CONTENT_TYPE, content_type);
    request.body(Full::new(body.into())).unwrap()
}

pub fn bare(method: &str, path: &str) -> Request<Full<Bytes>> {
    Request::builder().method(method).uri(path).body(Full::default()).unwrap()
}
