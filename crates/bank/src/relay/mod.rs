//! The relay: an upstream over HTTP, any provider that speaks the partner contract.
//!
//! ```text
//! settings.rs    what an operator configures       wire.rs    one call of the contract
//! mapping.rs     what an answer means              answer.rs  an answer's values
//! reasons.rs     a provider's reasons, in ours     account.rs balance and cashbacks there
//! connection.rs  connections, and the pool         gate.rs    the clocks, when the first byte is written
//! standing.rs    what it is fit for                ../breaker.rs  a provider that stopped answering
//! fuzzing.rs     any bytes as an answer
//! ```
//!
//! An inquiry brings the provider's invoice number; a payment is that number, and is sent at most once. Whatever comes
//! of it that is not one of the contract's own words is unknown, and asked for by `status_invoice`. A "no" to a payment
//! is a refusal only where the operator's table says so; "already paid" not even then, before the provider said what became
//! of this very invoice. Late answers are not waited for: the question finds out as much.

mod account;
mod answer;
mod connection;
#[doc(hidden)]
pub mod fuzzing;
mod gate;
mod mapping;
mod reasons;
mod settings;
mod standing;
#[cfg(test)]
mod tests;
mod wire;

pub use settings::RelaySettings;

use crate::{
    Bank, Desk, InquiryOutcome, InquiryRequest, LateAnswer, LineState, NoPlace, PaymentOutcome,
    PaymentRequest, Place, Placing, Profile, Question, SendBefore, StatusOutcome, Unknown,
    breaker::Breaker,
    report::{Count, PUBLISH, Report},
    sending::horizon_from_send_before,
};
use account::{Account, PRODUCTS_KEPT};
use connection::NotSent;
use domain::{Clock, InvoiceNumber, Reason, Secret, money::grouped, record::IncidentKind};
use futures::future::BoxFuture;
use mapping::Judged;
use reasons::Refusals;
use standing::{COUNTS, Standing, counted};
use std::{
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};
use tokio::{
    sync::{Notify, OwnedSemaphorePermit, Semaphore, mpsc},
    time::{Instant, sleep, timeout_at},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use wire::{Call, Called, Wire};

/// How long an inquiry waits for one of those that are under way to end.
const INQUIRY_WAIT_MAX: Duration = Duration::from_secs(5);

/// The balance is not asked for more often than this, whatever happens.
const BALANCE_PAUSE_MIN: Duration = Duration::from_secs(1);

/// How long the first inquiry waits for the product list, which says what the provider gives back.
const PRODUCTS_WAIT_MAX: Duration = Duration::from_secs(3);

/// The pause before the product list is asked for again when it did not come.
const PRODUCTS_PAUSE: Duration = Duration::from_secs(10);

/// A provider.
pub struct Relay {
    core: Arc<Core>,
    profile: Profile,
    inquiries: Arc<Semaphore>,
    watching: TaskTracker,
}

struct Core {
    settings: RelaySettings,
    refusals: Refusals,
    wire: Wire,
    clock: Arc<dyn Clock>,
    desk: OnceLock<Arc<dyn Desk>>,
    breaker: Breaker,
    account: Account,
    report: Report,
    /// Whether the last call came to it.
    is_reached: AtomicBool,
    places: Arc<Semaphore>,
    /// The balance is to be asked for at once.
    doubt: Notify,
    /// The product list came, or did not.
    listed: CancellationToken,
    stop: CancellationToken,
}

impl std::fmt::Debug for Relay {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Relay").field("host", &self.core.wire.host()).finish_non_exhaustive()
    }
}

impl Relay {
    /// A provider that is not spoken to yet. The error says what is wrong with its settings.
    pub fn new(
        name: &str,
        settings: RelaySettings,
        password: Secret,
        clock: Arc<dyn Clock>,
    ) -> Result<Arc<Self>, String> {
        settings.check()?;
        let profile = Profile {
            horizon: horizon_from_send_before(settings.horizon()),
            answer_timeout: Duration::from_millis(settings.answer_timeout_ms),
            definitive_status: true,
            question: Question::Asks,
        };
        let wire = Wire::new(&settings, password, &clock)?;
        let places = || Arc::new(Semaphore::new(settings.in_flight_max));
        let inquiries = places();
        let core = Core {
            refusals: Refusals::parse(&settings.refusals)?,
            breaker: Breaker::new(profile.answer_timeout),
            account: Account::new(&settings),
            report: Report::new(name, wire.host(), Arc::clone(&clock), &COUNTS),
            is_reached: AtomicBool::new(true),
            places: places(),
            settings,
            wire,
            clock,
            desk: OnceLock::new(),
            doubt: Notify::new(),
            listed: CancellationToken::new(),
            stop: CancellationToken::new(),
        };
        Ok(Arc::new(Self { core: Arc::new(core), profile, inquiries, watching: TaskTracker::new() }))
    }
}

impl Core {
    async fn inquire(&self, request: InquiryRequest, places: Arc<Semaphore>) -> InquiryOutcome {
        if self.account.is_short() || !self.breaker.lets_through() {
            return InquiryOutcome::NeverSent;
        }
        let deadline = self.wire.deadline();
        let Ok(Ok(_place)) = timeout_at(soon(INQUIRY_WAIT_MAX, deadline), places.acquire()).await else {
            return InquiryOutcome::NeverSent;
        };
        let product = self.settings.their_product(&request.product);
        // In vain at most once: afterwards it came, or could not be had.
        drop(timeout_at(soon(PRODUCTS_WAIT_MAX, deadline), self.listed.cancelled()).await);
        let parameters = [
            ("product", product),
            ("customer_number", request.nik.as_str()),
            ("structure_number", request.chassis.as_str()),
        ];
        match self.call(Call::Inquiry, &parameters, None, deadline).await {
            Called::Answered(answer) => {
                self.judged(None, mapping::inquiry(&answer, &request, self.account.cashback(product)))
            }
            Called::NeverSent(_) => InquiryOutcome::NeverSent,
            Called::Unknown(unknown) => InquiryOutcome::Unknown(unknown),
        }
    }

    async fn pay(&self, request: PaymentRequest, permit: OwnedSemaphorePermit) -> PaymentOutcome {
        if !request.send_before.allows(self.clock.now()) {
            return PaymentOutcome::NeverSent;
        }
        let deadline = self.wire.deadline();
        let parameters = [("invoice", request.identity.as_str())];
        self.account.spend(request.amount, request.terms);
        let outcome = match self.call(Call::Pay, &parameters, Some(request.send_before), deadline).await {
            Called::Answered(answer) => {
                let judged = mapping::payment(&answer, &request, &self.refusals);
                self.judged(Some(request.invoice), judged)
            }
            Called::NeverSent(_) => PaymentOutcome::NeverSent,
            Called::Unknown(unknown) => PaymentOutcome::Unknown(unknown),
        };
        drop(permit);
        let outcome = match outcome {
            // Somewhere on the way the request may have been doubled, and this be the second one's answer: only the
            // provider's own word on this very invoice makes it a refusal.
            PaymentOutcome::Refused(refusal) if is_of_a_payment(refusal.reason) => {
                match self.ask(&request, deadline).await {
                    StatusOutcome::Paid(paid) => PaymentOutcome::Paid(paid),
                    StatusOutcome::Refused(_) => PaymentOutcome::Refused(refusal),
                    _ => PaymentOutcome::Unknown(Unknown::UnderWay),
                }
            }
            outcome => outcome,
        };
        if matches!(outcome, PaymentOutcome::Refused(_) | PaymentOutcome::NeverSent) {
            self.account.give_back(request.amount, request.terms);
        }
        outcome
    }

    async fn ask(&self, request: &PaymentRequest, deadline: Instant) -> StatusOutcome {
        let parameters = [("invoice", request.identity.as_str())];
        match self.call(Call::Status, &parameters, None, deadline).await {
            Called::Answered(answer) => self.judged(Some(request.invoice), mapping::status(&answer, request)),
            Called::NeverSent(_) => StatusOutcome::Unknown(Unknown::ConnectionCut),
            Called::Unknown(unknown) => StatusOutcome::Unknown(unknown),
        }
    }

    async fn call(
        &self,
        call: Call,
        parameters: &[(&str, &str)],
        send_before: Option<SendBefore>,
        deadline: Instant,
    ) -> Called {
        let called = self.wire.call(call, parameters, send_before, deadline).await;
        self.called(call, &called);
        match &called {
            Called::NeverSent(NotSent::NoConnection { is_silent: true, .. })
            | Called::Unknown(Unknown::TimedOut) => self.breaker.timed_out(),
            Called::NeverSent(_) | Called::Unknown(Unknown::ConnectionCut) => {}
            Called::Answered(_) | Called::Unknown(_) => self.breaker.answered(),
        }
        self.stands(!matches!(called, Called::NeverSent(NotSent::NoConnection { .. })));
        called
    }

    fn standing(&self) -> Standing {
        match () {
            () if self.breaker.is_open() => Standing::Stalled,
            () if !self.is_reached.load(Relaxed) => Standing::Unreachable,
            () if self.account.is_short() => Standing::Short,
            () => Standing::Up,
        }
    }

    /// Takes down how it stands, after a call that came to the provider or did not.
    fn stands(&self, is_reached: bool) {
        self.is_reached.store(is_reached, Relaxed);
        let standing = self.standing();
        if self.report.stands(standing.words()) {
            let (upstream, words) = (self.report.upstream(), standing.words());
            if standing == Standing::Up {
                tracing::info!(upstream, "the provider is {words}");
            } else {
                tracing::warn!(upstream, "the provider: {words}");
            }
        }
    }

    /// Counts a call, and keeps what went wrong.
    fn called<T>(&self, call: Call, called: &Called<T>) {
        let is_sent = !matches!(called, Called::NeverSent(_));
        if is_sent {
            self.report.count(Count::Sent);
        }
        self.report.count(counted(called));
        match called {
            Called::Answered(_) => {}
            Called::NeverSent(why) => self.failed(call, &why.to_string()),
            Called::Unknown(unknown) => self.failed(call, &unknown.to_string()),
        }
    }

    fn failed(&self, call: Call, why: &str) {
        self.report.failed(&format!("{}: {why}", call.name()));
    }

    fn is_up(&self) -> bool {
        self.standing() == Standing::Up
    }

    fn in_flight(&self) -> usize {
        self.settings.in_flight_max - self.places.available_permits()
    }

    /// Tells monitoring again and again how it stands.
    async fn publish(&self) {
        let mut ticks = tokio::time::interval(PUBLISH);
        loop {
            ticks.tick().await;
            self.report.publish(self.is_up(), self.in_flight());
        }
    }

    fn judged<T>(&self, invoice: Option<InvoiceNumber>, judged: Judged<T>) -> T {
        if let Some((kind, detail)) = judged.alarm {
            if kind == IncidentKind::UpstreamBalanceLow {
                self.doubt.notify_one();
                // Of the gateway, and not of one invoice.
                self.raise(None, kind, detail);
            } else {
                self.raise(invoice, kind, detail);
            }
        }
        judged.outcome
    }

    fn raise(&self, invoice: Option<InvoiceNumber>, kind: IncidentKind, detail: String) {
        if let Some(desk) = self.desk.get() {
            desk.raise(invoice, kind, detail);
        }
    }

    /// Asks for the balance again and again.
    async fn watch_balance(&self) {
        let every = Duration::from_secs(self.settings.balance_every_s);
        loop {
            self.ask_balance().await;
            sleep(BALANCE_PAUSE_MIN).await;
            drop(tokio::time::timeout(every.saturating_sub(BALANCE_PAUSE_MIN), self.doubt.notified()).await);
        }
    }

    async fn ask_balance(&self) {
        let spent = self.account.spent();
        let called = self.wire.call(Call::Balance, &[], None, self.wire.deadline()).await;
        self.called(Call::Balance, &called);
        let Called::Answered(answer) = called else { return };
        let balance = match mapping::balance(&answer) {
            Ok(balance) => balance,
            Err(unreadable) => return self.failed(Call::Balance, &unreadable.to_string()),
        };
        #[expect(clippy::cast_precision_loss, reason = "a balance has at most 15 digits")]
        let rupiah = balance.get() as f64;
        metrics::gauge!("esamsat_upstream_balance_rupiah", "upstream" => self.report.upstream().to_owned())
            .set(rupiah);
        if let Some(what) = self.account.told(balance, spent) {
            let detail = format!("{}: {what}", self.report.upstream());
            self.raise(None, IncidentKind::UpstreamBalanceLow, detail);
        }
        self.stands(true);
    }

    /// Keeps what the provider gives back up to date.
    async fn watch_products(&self) {
        loop {
            let called = self.wire.list().await;
            self.called(Call::List, &called);
            let pause = if let Called::Answered(products) = called {
                self.account.listed(&products);
                PRODUCTS_KEPT
            } else {
                PRODUCTS_PAUSE
            };
            self.listed.cancel();
            sleep(pause).await;
        }
    }
}

/// Whether a refusal says that there is a payment of the bill, which may be this one.
const fn is_of_a_payment(reason: Reason) -> bool {
    matches!(reason, Reason::BillAlreadyPaid | Reason::BillBeingPaid)
}

impl Bank for Relay {
    fn profile(&self) -> &Profile {
        &self.profile
    }

    fn open(&self, desk: Arc<dyn Desk>) {
        if self.core.desk.set(desk).is_err() {
            return;
        }
        let core = Arc::clone(&self.core);
        self.watching.spawn(async move {
            let watching =
                async { tokio::join!(core.watch_balance(), core.watch_products(), core.publish()) };
            core.stop.run_until_cancelled(Box::pin(watching)).await
        });
        self.watching.close();
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        Box::pin(async {
            self.core.stop.cancel();
            self.watching.close();
            self.watching.wait().await;
            self.core.wire.close();
        })
    }

    fn lines(&self) -> Vec<LineState> {
        let core = &self.core;
        let line = core.report.line(core.is_up(), core.in_flight());
        let balance = core.account.balance().map(|balance| format!("balance Rp {}", grouped(balance, '.')));
        let balance = balance.unwrap_or_else(|| "balance not known".to_owned());
        vec![LineState { state: format!("{}; {balance}", line.state), ..line }]
    }

    fn place(&self, payment: Placing<'_>) -> Result<Place, NoPlace> {
        let identity = payment.upstream_reference.ok_or(NoPlace::Unfit)?.to_owned();
        if self.core.account.is_short() {
            return Err(NoPlace::FloatShort);
        }
        // Whether it is over is for an inquiry to find out: nobody's money waits for the answer to one.
        if self.core.breaker.is_open() {
            return Err(NoPlace::Stalled);
        }
        let permit = Arc::clone(&self.core.places).try_acquire_owned().map_err(|_| NoPlace::Full)?;
        Ok(Place { identity, permit, fence: None })
    }

    fn inquire(&self, request: InquiryRequest) -> BoxFuture<'_, InquiryOutcome> {
        let (core, places) = (Arc::clone(&self.core), Arc::clone(&self.inquiries));
        in_a_task(async move { core.inquire(request, places).await }, InquiryOutcome::Unknown)
    }

    fn pay(&self, place: Place, request: PaymentRequest) -> BoxFuture<'_, PaymentOutcome> {
        let core = Arc::clone(&self.core);
        in_a_task(async move { core.pay(request, place.permit).await }, PaymentOutcome::Unknown)
    }

    fn status(&self, request: PaymentRequest) -> BoxFuture<'_, StatusOutcome> {
        let core = Arc::clone(&self.core);
        let asking = async move { core.ask(&request, core.wire.deadline()).await };
        in_a_task(asking, StatusOutcome::Unknown)
    }

    fn late_answers(&self) -> Option<mpsc::Receiver<LateAnswer>> {
        None
    }
}

/// A moment from now, and not after the deadline.
fn soon(wait: Duration, deadline: Instant) -> Instant {
    deadline.min(Instant::now() + wait)
}

/// A dropped future takes nothing back, and what the provider does not answer is counted whoever waits.
fn in_a_task<T: Send + 'static>(
    work: impl Future<Output = T> + Send + 'static,
    lost: fn(Unknown) -> T,
) -> BoxFuture<'static, T> {
    let task = tokio::spawn(work);
    Box::pin(async move { task.await.unwrap_or_else(|_| lost(Unknown::ConnectionCut)) })
}
