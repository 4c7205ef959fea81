//! The simulated Samsat and bank: an upstream in this process whose memory outlives it.
//!
//! It behaves like a bank at the other end of a line, faults included: the documented example, test numbers
//! that reach every outcome ([`scenarios`]), and a [`population`] of any size under configurable random faults.
//! What it took stands in its own ledger file and nowhere else, so that killing the gateway at any instruction
//! leaves the bank's truth intact.
//!
//! ```text
//!  pay ── clock before send_before? ──no──► NeverSent
//!   │ sent: a task of its own, which no dropped future stops
//!   ├─ arrival ─► bill, amount, rules ─► ledger (one transaction for all who queue) ─► answer
//!   └─ waits at most answer_timeout; what comes later goes to the stream of late answers
//! ```
//!
//! Nothing is carried out later than the horizon after it was sent, and what is refused or lost is not carried
//! out at all. Deliberately absent: a wire (the ISO 8583 line has one), reversals, and any cache of the truth.

#[cfg(test)]
mod tests;

pub use crate::core_banking::{
    FaultRates, LedgerError, LedgerPayment, population,
    scenarios::{self, TestNumber, test_numbers},
    vehicles,
};

use crate::core_banking::{
    BankCore, Executed, Request, Sent, Shown, Standing, Taken, UNKNOWN_CODE, hash, refusal,
    scenarios::{Answer, Arrival, AtBank, Inquiry, Payment, Status},
};
use crate::{
    Bank, InquiryOutcome, InquiryRequest, LATE_ANSWERS_MAX, LateAnswer, LineState, NoPlace, Paid,
    PaymentOutcome, PaymentRequest, Place, Placing, Profile, Question, StatusOutcome, Unknown,
};
use domain::{Clock, InvoiceNumber, Rupiah, UpstreamTerms};
use futures::future::BoxFuture;
use serde::{Deserialize, Serialize};
use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::{Arc, Mutex},
    time::Duration,
};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot},
    time::{Instant, sleep, sleep_until, timeout_at},
};

/// What a garbled answer is reported as.
const GARBLED: &str = "field 39 at offset 21: not a digit";

/// How the simulator behaves. All but the path may stand in a configuration file.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct SimulatorSettings {
    /// The bank's ledger: an `SQLite` file, created if need be. The host's to choose.
    #[serde(skip)]
    pub ledger_path: PathBuf,
    /// How long an answer takes, in milliseconds: from, to.
    pub delay_ms: (u64, u64),
    /// How many payments may be under way.
    pub capacity: usize,
    /// See [`Profile::horizon`].
    pub horizon_ms: u64,
    /// See [`Profile::answer_timeout`].
    pub answer_timeout_ms: u64,
    /// See [`Profile::definitive_status`].
    pub definitive_status: bool,
    /// How many vehicles the [`population`] has.
    pub population: u32,
    /// How often the line and the bank fail the population; test numbers and the documented vehicle are spared.
    pub faults: FaultRates,
    /// What the random faults and delays follow from, together with each request's identity.
    pub seed: u64,
}

impl Default for SimulatorSettings {
    fn default() -> Self {
        Self {
            ledger_path: PathBuf::from("simulator.db"),
            delay_ms: (0, 0),
            capacity: 4_096,
            horizon_ms: 60_000,
            answer_timeout_ms: 30_000,
            definitive_status: true,
            population: population::VEHICLES_MAX,
            faults: FaultRates::default(),
            seed: 0,
        }
    }
}

/// Why the simulator does not open.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// A setting that makes no sense.
    #[error("simulator settings: {0}")]
    Settings(&'static str),
    /// The ledger.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
}

/// The simulated Samsat and bank.
#[derive(Debug)]
pub struct Simulator {
    core: Arc<Core>,
    places: Arc<Semaphore>,
    late_answers: Mutex<Option<mpsc::Receiver<LateAnswer>>>,
}

impl Simulator {
    /// Opens the bank's ledger. The clock is the gateway's own.
    pub fn open(settings: SimulatorSettings, clock: Arc<dyn Clock>) -> Result<Arc<Self>, OpenError> {
        settings.check()?;
        let profile = Profile {
            horizon: Duration::from_millis(settings.horizon_ms),
            answer_timeout: Duration::from_millis(settings.answer_timeout_ms),
            definitive_status: settings.definitive_status,
            question: Question::Asks,
        };
        let (late, late_answers) = mpsc::channel(LATE_ANSWERS_MAX);
        let random = (settings.faults.clone(), settings.seed);
        let bank =
            BankCore::open(&settings.ledger_path, clock, settings.population, random, profile.horizon)?;
        let places = Arc::new(Semaphore::new(settings.capacity));
        Ok(Arc::new(Self {
            core: Arc::new(Core { settings, profile, bank, late }),
            places,
            late_answers: Mutex::new(Some(late_answers)),
        }))
    }

    /// Makes every bill payable again; payments taken before stay known by their identities. Returns the
    /// number of the new generation.
    pub async fn reset(&self) -> Result<i64, LedgerError> {
        self.core.bank.reset().await
    }

    /// Every payment that the bank ever took, across resets, in the order of taking.
    pub async fn payments(&self) -> Result<Vec<LedgerPayment>, LedgerError> {
        self.core.bank.payments().await
    }
}

impl SimulatorSettings {
    /// Says which setting makes no sense.
    pub fn check(&self) -> Result<(), OpenError> {
        check(self)
    }
}

fn check(settings: &SimulatorSettings) -> Result<(), OpenError> {
    let whole = |rates: &mut dyn Iterator<Item = f64>| {
        let rates: Vec<f64> = rates.collect();
        // The tolerance is for tenths that add up to a hair more than one.
        rates.iter().all(|rate| (0.0..=1.0).contains(rate)) && rates.iter().sum::<f64>() <= 1.0 + 1e-9
    };
    let faults = &settings.faults;
    let rules = [
        (settings.delay_ms.0 <= settings.delay_ms.1, "delay_ms must be [from, to] with from <= to"),
        (
            (1..=Semaphore::MAX_PERMITS).contains(&settings.capacity),
            "capacity must be at least 1 and not astronomical",
        ),
        (settings.answer_timeout_ms > 0, "answer_timeout_ms must be more than 0"),
        (
            settings.horizon_ms >= settings.answer_timeout_ms,
            "horizon_ms must not be below answer_timeout_ms: an answered payment was carried out before",
        ),
        (settings.population <= population::VEHICLES_MAX, "population must be at most 170000000"),
        (
            whole(&mut faults.payments().iter().map(|(rate, _)| *rate)),
            "the faults of payments must be fractions whose sum is at most 1",
        ),
        (
            whole(&mut faults.inquiries().iter().map(|(rate, _)| *rate)),
            "the faults of inquiries must be fractions whose sum is at most 1",
        ),
    ];
    rules.into_iter().find(|(holds, _)| !holds).map_or(Ok(()), |(_, rule)| Err(OpenError::Settings(rule)))
}

impl Bank for Simulator {
    fn profile(&self) -> &Profile {
        &self.core.profile
    }

    fn lines(&self) -> Vec<LineState> {
        let is_up = !self.core.bank.is_broken();
        let state = if is_up { "in this process" } else { "its ledger is broken" };
        vec![LineState {
            name: "simulator".to_owned(),
            is_up,
            state: state.to_owned(),
            since: None,
            in_flight: self.core.settings.capacity - self.places.available_permits(),
            business_date: Some(self.business_date(self.core.bank.now()).to_string()),
            counts: BTreeMap::new(),
            last_error: None,
        }]
    }

    fn place(&self, payment: Placing<'_>) -> Result<Place, NoPlace> {
        if self.core.bank.is_broken() {
            return Err(NoPlace::Down);
        }
        let permit = Arc::clone(&self.places).try_acquire_owned().map_err(|_| NoPlace::Full)?;
        // A gateway whose store was thrown away numbers its invoices anew, while the bank remembers: the
        // moment keeps the identities apart.
        let identity = format!("{}-{}", payment.invoice, self.core.bank.now().as_millis());
        Ok(Place { identity, permit, fence: None })
    }

    fn inquire(&self, request: InquiryRequest) -> BoxFuture<'_, InquiryOutcome> {
        Box::pin(self.core.inquire(request))
    }

    fn pay(&self, place: Place, request: PaymentRequest) -> BoxFuture<'_, PaymentOutcome> {
        Box::pin(Arc::clone(&self.core).pay(place.permit, request))
    }

    fn status(&self, request: PaymentRequest) -> BoxFuture<'_, StatusOutcome> {
        Box::pin(self.core.status(request))
    }

    fn late_answers(&self) -> Option<mpsc::Receiver<LateAnswer>> {
        self.late_answers.lock().expect("nothing panics while it holds the stream").take()
    }
}

/// What a payment's task keeps when nobody waits for it any more.
struct Core {
    settings: SimulatorSettings,
    profile: Profile,
    bank: BankCore,
    late: mpsc::Sender<LateAnswer>,
}

impl std::fmt::Debug for Core {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Core").field("settings", &self.settings).finish_non_exhaustive()
    }
}

impl Core {
    async fn inquire(&self, request: InquiryRequest) -> InquiryOutcome {
        let course = self.bank.inquiry_course(&request.nik, &request.chassis);
        let throw = || {
            hash(self.settings.seed ^ self.bank.now().as_millis().unsigned_abs(), request.chassis.as_str())
        };
        let answer_timeout = self.profile.answer_timeout;
        let delay = match course {
            Inquiry::NeverSent => return InquiryOutcome::NeverSent,
            Inquiry::Silent => answer_timeout,
            Inquiry::Slow => answer_timeout * 4 / 5,
            _ => self.delay(throw),
        };
        if !delay.is_zero() {
            sleep(delay.min(answer_timeout)).await;
        }
        if delay >= answer_timeout {
            return InquiryOutcome::Unknown(Unknown::TimedOut);
        }
        match course {
            Inquiry::Refused(reason, code) => InquiryOutcome::Refused(refusal(reason, code)),
            Inquiry::Cut => InquiryOutcome::Unknown(Unknown::ConnectionCut),
            Inquiry::Garbled => InquiryOutcome::Unknown(Unknown::Garbled(GARBLED.to_owned())),
            Inquiry::UnknownCode => InquiryOutcome::Unknown(Unknown::UnknownCode(UNKNOWN_CODE.to_owned())),
            Inquiry::Ordinary | Inquiry::Slow | Inquiry::Silent | Inquiry::NeverSent => {
                self.present(&request)
            }
        }
    }

    fn present(&self, request: &InquiryRequest) -> InquiryOutcome {
        match self.bank.show(&request.product, &request.nik, &request.chassis) {
            Shown::Bill(presented) => InquiryOutcome::Presented {
                bill: presented.bill,
                payable_until: presented.payable_until,
                terms: UpstreamTerms::default(),
            },
            Shown::Refused(refusal) => InquiryOutcome::Refused(refusal),
            Shown::Broken => InquiryOutcome::Unknown(Unknown::ConnectionCut),
        }
    }

    fn course(&self, request: &PaymentRequest) -> Payment {
        self.bank.payment_course(&request.chassis, &request.identity)
    }

    async fn pay(self: Arc<Self>, permit: OwnedSemaphorePermit, request: PaymentRequest) -> PaymentOutcome {
        let course = self.course(&request);
        let sent_at = self.bank.now();
        if !request.send_before.allows(sent_at) || course.arrival == Arrival::NeverSent {
            return PaymentOutcome::NeverSent;
        }
        let sent = Instant::now();
        let given_up = sent + self.profile.answer_timeout;
        let (answer, mut answered) = oneshot::channel();
        tokio::spawn(async move {
            let line = Line { permit: Some(permit), given_up };
            self.converse(line, answer, request, course, Sent { at: sent_at, instant: sent }).await;
        });
        match timeout_at(given_up, &mut answered).await {
            Ok(Ok(outcome)) => outcome,
            Ok(Err(_)) => PaymentOutcome::Unknown(Unknown::ConnectionCut),
            Err(_) => {
                // An answer of the last instant must not fall between the two channels.
                answered.close();
                answered.try_recv().unwrap_or(PaymentOutcome::Unknown(Unknown::TimedOut))
            }
        }
    }

    /// The bank's side of one payment, from the moment that it was sent.
    async fn converse(
        &self,
        mut line: Line,
        mut answer: oneshot::Sender<PaymentOutcome>,
        request: PaymentRequest,
        course: Payment,
        sent: Sent,
    ) {
        let delay = match course.arrival {
            Arrival::NearHorizon => self.profile.horizon * 9 / 10,
            _ => self.delay(|| hash(self.settings.seed ^ 1, &request.identity)),
        };
        line.wait_until(sent.instant + delay).await;

        let truth = match course.at_bank {
            AtBank::Executes => match self.execute(&request, sent).await {
                Executed::Taken(taken) => Some(PaymentOutcome::Paid(paid(&request.identity, taken))),
                Executed::Refused(refusal) => Some(PaymentOutcome::Refused(refusal)),
                Executed::Dead => None,
                // The bank hangs up.
                Executed::Broken => return,
            },
            AtBank::Refuses(reason, code) => Some(PaymentOutcome::Refused(refusal(reason, code))),
            AtBank::Loses => None,
        };

        let unreadable = match course.answer {
            Answer::Cut => return,
            Answer::Garbled => Some(Unknown::Garbled(GARBLED.to_owned())),
            Answer::UnknownCode => Some(Unknown::UnknownCode(UNKNOWN_CODE.to_owned())),
            _ => None,
        };
        if let Some(unreadable) = unreadable {
            // Nobody waits any more, perhaps; then it is nothing to anybody.
            drop(answer.send(PaymentOutcome::Unknown(unreadable)));
            return;
        }
        let (Some(truth), false) = (truth, course.answer == Answer::Never) else {
            line.wait_until(line.given_up).await;
            // To hang up now would look like a broken connection to whoever is about to time out.
            answer.closed().await;
            return;
        };
        let answer_timeout = self.profile.answer_timeout;
        match course.answer {
            Answer::Slow => line.wait_until(sent.instant + answer_timeout * 4 / 5).await,
            Answer::Late => line.wait_until(sent.instant + answer_timeout * 5 / 4).await,
            _ => {}
        }
        let told = distorted(truth, course.answer);
        if course.answer == Answer::Twice {
            self.tell(answer, request.invoice, told.clone());
            line.wait_until(Instant::now() + Duration::from_secs(1)).await;
            self.tell_late(request.invoice, told);
        } else {
            self.tell(answer, request.invoice, told);
        }
    }

    /// What the bank makes of a payment that has reached it.
    async fn execute(&self, request: &PaymentRequest, sent: Sent) -> Executed {
        let request = Request {
            identity: request.identity.clone(),
            invoice: request.invoice,
            product: request.product.clone(),
            nik: request.nik.clone(),
            chassis: request.chassis.clone(),
            payment_code: request.payment_code.clone(),
            amount: request.amount,
        };
        self.bank.execute(&request, sent).await
    }

    async fn status(&self, request: PaymentRequest) -> StatusOutcome {
        let answer_timeout = self.profile.answer_timeout;
        let course = self.course(&request).status;
        let delay = match course {
            Status::Silent => answer_timeout,
            _ => self.delay(|| hash(self.settings.seed ^ 2, &request.identity)),
        };
        let give_up = Instant::now() + answer_timeout;
        if !delay.is_zero() {
            sleep(delay.min(answer_timeout)).await;
        }
        if delay >= answer_timeout {
            return StatusOutcome::Unknown(Unknown::TimedOut);
        }
        // Whatever the scenario, what this identity paid comes first: the ledger is the truth.
        let found = self.bank.standing(&request.identity, &request.payment_code);
        let standing = match timeout_at(give_up, found).await {
            Ok(Some(standing)) => standing,
            Ok(None) => return StatusOutcome::Unknown(Unknown::ConnectionCut),
            Err(_) => return StatusOutcome::Unknown(Unknown::TimedOut),
        };
        match (standing, course) {
            (Standing::Taken(taken), _) => StatusOutcome::Paid(paid(&request.identity, taken)),
            (_, Status::PaidByAnother) | (Standing::PaidByAnother, _) => StatusOutcome::PaidByAnother,
            (_, Status::PayerUnknown) => StatusOutcome::PayerUnknown,
            // However late it was sent, by then it is done or dead; so this ends even if a crash took it.
            (Standing::NotFound, Status::UnderWayThenTruth)
                if self.bank.now() <= request.send_before.wall.plus(self.profile.horizon) =>
            {
                StatusOutcome::UnderWay
            }
            (Standing::NotFound, _) => StatusOutcome::NotPaid,
        }
    }

    fn delay(&self, throw: impl FnOnce() -> u64) -> Duration {
        let (from, to) = self.settings.delay_ms;
        if to == 0 {
            return Duration::ZERO;
        }
        Duration::from_millis(from + throw() % (to - from).saturating_add(1))
    }

    /// Tells whoever waits; else the stream of late answers.
    fn tell(&self, answer: oneshot::Sender<PaymentOutcome>, invoice: InvoiceNumber, outcome: PaymentOutcome) {
        if let Err(outcome) = answer.send(outcome) {
            self.tell_late(invoice, outcome);
        }
    }

    fn tell_late(&self, invoice: InvoiceNumber, outcome: PaymentOutcome) {
        // The stream's reader may be gone: then the status question will find the truth.
        drop(self.late.try_send(LateAnswer { invoice, outcome, contradicts: false }));
    }
}

/// The sender's place on the line: given back when the answer is there, or given up.
struct Line {
    permit: Option<OwnedSemaphorePermit>,
    given_up: Instant,
}

impl Line {
    async fn wait_until(&mut self, moment: Instant) {
        if moment >= self.given_up && self.permit.is_some() {
            sleep_until(self.given_up).await;
            self.permit = None;
        }
        if moment > Instant::now() {
            sleep_until(moment).await;
        }
    }
}

fn paid(identity: &str, taken: Taken) -> Paid {
    Paid { identity: identity.to_owned(), amount: taken.amount, receipt: taken.receipt }
}

/// The truth, as a faulty line tells it.
fn distorted(truth: PaymentOutcome, answer: Answer) -> PaymentOutcome {
    match (truth, answer) {
        (PaymentOutcome::Paid(paid), Answer::WrongAmount) => {
            PaymentOutcome::Paid(Paid { amount: paid.amount + Rupiah::new(1), ..paid })
        }
        (PaymentOutcome::Paid(paid), Answer::WrongIdentity) => {
            PaymentOutcome::Paid(Paid { identity: format!("{}-0", paid.identity), ..paid })
        }
        (truth, _) => truth,
    }
}
