//! The relay: an upstream over HTTP, any provider that speaks the partner contract.
//!
//! Inquiry keeps the provider's invoice number; a payment is that number, and is sent at most once. Whatever comes
//! of it that is not one of the contract's own words is unknown, and asked for by `status_invoice`, never paid again.
//! A "no" is a refusal only if the operator's table says so. The provider's balance is watched, and our partners
//! never hear of it.

mod mapping;
mod settings;
mod wire;

pub use settings::RelaySettings;

use crate::{
    Bank, Desk, InquiryOutcome, InquiryRequest, LateAnswer, LineState, NoPlace, PaymentOutcome,
    PaymentRequest, Place, Placing, Profile, Question, StatusOutcome, Terminals, Unknown, breaker::Breaker,
};
use domain::{BusinessDate, Clock, ProductCode, Rupiah, Secret, Timestamp, money, record::IncidentKind};
use futures::future::BoxFuture;
use std::{
    collections::{BTreeMap, HashMap},
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};
use tokio::{
    sync::{Semaphore, mpsc},
    time::{Instant, interval, timeout},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use wire::{Called, Wire};

/// How long a provider's product list is believed.
const LIST_KEPT: Duration = Duration::from_secs(300);

/// A provider.
pub struct Relay {
    core: Arc<Core>,
    profile: Profile,
    places: Arc<Semaphore>,
    inquiries: Semaphore,
    stop: CancellationToken,
    tasks: TaskTracker,
}

struct Core {
    name: String,
    settings: RelaySettings,
    wire: Wire,
    clock: Arc<dyn Clock>,
    desk: OnceLock<Arc<dyn Desk>>,
    breaker: Breaker,
    balance: Mutex<Option<Rupiah>>,
    cashbacks: Mutex<Option<(Instant, HashMap<String, Rupiah>)>>,
    last_error: Mutex<Option<(Timestamp, String)>>,
    counts: [AtomicU64; COUNTS.len()],
}

const COUNTS: [&str; 5] = ["sent", "answered", "timed_out", "cut", "garbled"];

#[derive(Clone, Copy)]
enum Count {
    Sent,
    Answered,
    TimedOut,
    Cut,
    Garbled,
}

impl std::fmt::Debug for Relay {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Relay").field("name", &self.core.name).finish_non_exhaustive()
    }
}

impl Relay {
    /// A provider that is not spoken to yet.
    pub fn new(
        name: &str,
        settings: RelaySettings,
        password: Secret,
        clock: Arc<dyn Clock>,
    ) -> Result<Arc<Self>, String> {
        settings.check()?;
        let profile = Profile {
            horizon: Duration::from_millis(settings.horizon_ms),
            answer_timeout: Duration::from_millis(settings.answer_timeout_ms),
            definitive_status: true,
            question: Question::Asks,
        };
        let wire = Wire::new(&settings, password)?;
        let (places, inquiries) =
            (Arc::new(Semaphore::new(settings.in_flight_max)), Semaphore::new(settings.in_flight_max));
        let core = Core {
            name: name.to_owned(),
            breaker: Breaker::new(profile.answer_timeout),
            settings,
            wire,
            clock,
            desk: OnceLock::new(),
            balance: Mutex::default(),
            cashbacks: Mutex::default(),
            last_error: Mutex::default(),
            counts: Default::default(),
        };
        Ok(Arc::new(Self {
            core: Arc::new(core),
            profile,
            places,
            inquiries,
            stop: CancellationToken::new(),
            tasks: TaskTracker::new(),
        }))
    }

    async fn ask_for_bill(&self, request: InquiryRequest) -> InquiryOutcome {
        let core = &self.core;
        if core.is_float_short() || !core.breaker.lets_through() {
            return InquiryOutcome::NeverSent;
        }
        let waiting = timeout(self.profile.answer_timeout, self.inquiries.acquire());
        let Ok(Ok(_place)) = waiting.await else { return InquiryOutcome::NeverSent };
        let theirs = core.their_product(&request.product);
        let cashback = core.cashback(&theirs).await;
        let parameters = [
            ("product", theirs.as_str()),
            ("customer_number", request.nik.as_str()),
            ("structure_number", request.chassis.as_str()),
        ];
        match core.call("inquiry_esamsat", &parameters).await {
            Called::Answered(answer) => mapping::inquiry(&answer, &request, cashback),
            Called::NeverSent(_) => InquiryOutcome::NeverSent,
            Called::Unknown(unknown) => InquiryOutcome::Unknown(unknown),
        }
    }

    async fn send_payment(&self, request: PaymentRequest) -> PaymentOutcome {
        let core = &self.core;
        // The last moment before it leaves.
        if !request.may_be_sent(core.clock.now()) {
            return PaymentOutcome::NeverSent;
        }
        match core.call("pay_esamsat", &[("invoice", request.identity.as_str())]).await {
            Called::Answered(answer) => {
                let (outcome, incident) = mapping::payment(&answer, &request, &core.settings.refusals);
                if let Some(what) = incident {
                    core.raise(Some(request.invoice), IncidentKind::UnknownCode, what);
                }
                outcome
            }
            Called::NeverSent(_) => PaymentOutcome::NeverSent,
            Called::Unknown(unknown) => PaymentOutcome::Unknown(unknown),
        }
    }

    async fn ask(&self, request: PaymentRequest) -> StatusOutcome {
        match self.core.call("status_invoice", &[("invoice", request.identity.as_str())]).await {
            Called::Answered(answer) => mapping::status(&answer, &request),
            Called::NeverSent(_) => StatusOutcome::Unknown(Unknown::ConnectionCut),
            Called::Unknown(unknown) => StatusOutcome::Unknown(unknown),
        }
    }
}

impl Core {
    async fn call(&self, what: &str, parameters: &[(&str, &str)]) -> Called {
        let url = format!("{}/{what}", self.settings.url.trim_end_matches('/'));
        self.count(Count::Sent);
        let called = self.wire.call(&url, parameters).await;
        match &called {
            Called::Answered(_) => {
                self.count(Count::Answered);
                self.breaker.answered();
            }
            Called::NeverSent(why) => self.note(format!("{what}: {why}")),
            Called::Unknown(Unknown::TimedOut) => {
                self.count(Count::TimedOut);
                self.breaker.timed_out();
                self.note(format!("{what}: no answer in time"));
            }
            Called::Unknown(Unknown::Garbled(why)) => {
                self.count(Count::Garbled);
                self.note(format!("{what}: {why}"));
            }
            Called::Unknown(unknown) => {
                self.count(Count::Cut);
                self.note(format!("{what}: {unknown}"));
            }
        }
        called
    }

    fn count(&self, count: Count) {
        self.counts[count as usize].fetch_add(1, Relaxed);
        let kind = COUNTS[count as usize];
        let (upstream, line) = (self.name.clone(), "http".to_owned());
        metrics::counter!("esamsat_line_messages_total", "upstream" => upstream, "line" => line, "kind" => kind)
            .increment(1);
    }

    fn note(&self, error: String) {
        tracing::warn!(upstream = self.name, error, "a call to the provider failed");
        *locked(&self.last_error) = Some((self.clock.now(), error));
    }

    fn raise(&self, invoice: Option<domain::InvoiceNumber>, kind: IncidentKind, detail: String) {
        if let Some(desk) = self.desk.get() {
            desk.raise(invoice, kind, detail);
        }
    }

    fn their_product(&self, ours: &ProductCode) -> String {
        self.settings.products.get(ours).cloned().unwrap_or_else(|| ours.to_string())
    }

    /// What the provider gives back for a product, as its list says; nothing if the list cannot be had.
    async fn cashback(&self, product: &str) -> Rupiah {
        let known = |cashbacks: &Option<(Instant, HashMap<String, Rupiah>)>| {
            let (at, by_product) = cashbacks.as_ref()?;
            (at.elapsed() < LIST_KEPT).then(|| by_product.get(product).copied().unwrap_or_default())
        };
        if let Some(cashback) = known(&locked(&self.cashbacks)) {
            return cashback;
        }
        let url = format!("{}/list_esamsat", self.settings.url.trim_end_matches('/'));
        if let Some(products) = self.wire.list(&url).await {
            let pair = |product: wire::Answer| {
                let cashback = product.get("cashback")?.parse().ok().filter(|cashback| *cashback >= 0)?;
                Some((product.get("product_code")?.clone(), Rupiah::new(cashback)))
            };
            let by_product = products.into_iter().filter_map(pair).collect();
            *locked(&self.cashbacks) = Some((Instant::now(), by_product));
        }
        known(&locked(&self.cashbacks)).unwrap_or_default()
    }

    fn is_float_short(&self) -> bool {
        let balance = *locked(&self.balance);
        balance.is_some_and(|balance| balance < self.settings.balance_stop_below)
    }

    /// Asks for the balance again and again. One that is not known stops nothing.
    async fn watch_balance(self: Arc<Self>, stop: CancellationToken) {
        let url = self.settings.balance_address();
        let mut ticks = interval(Duration::from_secs(self.settings.balance_every_s));
        let mut is_warned = false;
        while stop.run_until_cancelled(ticks.tick()).await.is_some() {
            let Some(called) = stop.run_until_cancelled(self.wire.call(&url, &[])).await else { break };
            let balance = match &called {
                Called::Answered(answer) => mapping::balance(answer),
                _ => None,
            };
            *locked(&self.balance) = balance;
            let Some(balance) = balance else {
                self.note("ceksaldo: the balance is not known".to_owned());
                continue;
            };
            let upstream = self.name.clone();
            #[expect(clippy::cast_precision_loss, reason = "balances are far below 2^53")]
            metrics::gauge!("esamsat_upstream_balance_rupiah", "upstream" => upstream)
                .set(balance.get() as f64);
            let is_low = balance < self.settings.balance_warn_below;
            if is_low && !is_warned {
                let shown = money::grouped(balance, '.');
                let what = format!("the balance at {} is Rp {shown}; top it up", self.name);
                self.raise(None, IncidentKind::UpstreamBalanceLow, what);
            }
            is_warned = is_low;
        }
    }
}

impl Bank for Relay {
    fn profile(&self) -> &Profile {
        &self.profile
    }

    fn business_date(&self, now: Timestamp) -> BusinessDate {
        now.date_in_jakarta()
    }

    fn open(&self, desk: Arc<dyn Desk>) {
        if self.core.desk.set(desk).is_ok() {
            self.tasks.spawn(Arc::clone(&self.core).watch_balance(self.stop.clone()));
            self.tasks.close();
        }
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        self.stop.cancel();
        Box::pin(self.tasks.wait())
    }

    fn terminals(&self) -> Terminals {
        Terminals::default()
    }

    fn lines(&self) -> Vec<LineState> {
        let core = &self.core;
        let balance = *locked(&core.balance);
        let error = locked(&core.last_error).clone();
        let is_stalled = core.breaker.is_open();
        let money = balance.map(|balance| format!("balance Rp {}", money::grouped(balance, '.')));
        let state = match (is_stalled, core.is_float_short(), money) {
            (true, ..) => "stalled: the provider does not answer".to_owned(),
            (_, true, money) => format!("stopped: {} is too little", money.unwrap_or_default()),
            (_, _, Some(money)) => money,
            (_, _, None) => "the balance is not known".to_owned(),
        };
        let counts: BTreeMap<String, u64> = COUNTS
            .iter()
            .zip(&core.counts)
            .map(|(name, count)| ((*name).to_owned(), count.load(Relaxed)))
            .collect();
        vec![LineState {
            name: core.settings.url.split('/').nth(2).unwrap_or_default().to_owned(),
            is_up: !is_stalled && !core.is_float_short(),
            state,
            since: error.as_ref().map(|(at, _)| *at),
            in_flight: core.settings.in_flight_max - self.places.available_permits(),
            business_date: None,
            counts,
            last_error: error.map(|(_, what)| what),
        }]
    }

    fn place(&self, payment: Placing<'_>) -> Result<Place, NoPlace> {
        let identity = payment.upstream_reference.ok_or(NoPlace::Unfit)?.to_owned();
        if self.core.is_float_short() {
            return Err(NoPlace::FloatShort);
        }
        let permit = Arc::clone(&self.places).try_acquire_owned().map_err(|_| NoPlace::Full)?;
        if !self.core.breaker.lets_through() {
            return Err(NoPlace::Stalled);
        }
        Ok(Place { identity, permit, fence: None })
    }

    fn inquire(&self, request: InquiryRequest) -> BoxFuture<'_, InquiryOutcome> {
        Box::pin(self.ask_for_bill(request))
    }

    fn pay(&self, place: Place, request: PaymentRequest) -> BoxFuture<'_, PaymentOutcome> {
        Box::pin(async move {
            let outcome = self.send_payment(request).await;
            drop(place);
            outcome
        })
    }

    fn status(&self, request: PaymentRequest) -> BoxFuture<'_, StatusOutcome> {
        Box::pin(self.ask(request))
    }

    fn late_answers(&self) -> Option<mpsc::UnboundedReceiver<LateAnswer>> {
        None
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
