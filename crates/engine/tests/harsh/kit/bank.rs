//! A bank that follows a script, and keeps its own truth: what it took, when, and how often each payment
//! was asked for the first time. The truth outlives every gateway.
//!
//! It also watches the gateway: a payment must be durable before its first byte, and asked for once.

use super::{clock::TestClock, steps::Steps};
use bank::{
    Bank, InquiryOutcome, InquiryRequest, LateAnswer, NoPlace, Paid, PaymentOutcome, PaymentRequest, Place,
    Placing, Profile, StatusOutcome, Unknown,
};
use domain::{
    Bill, Clock, InvoiceNumber, PaymentCode, Reason, Refusal, Rupiah, Secret, State, Taxes, Timestamp,
    UpstreamTerms, invoice::BankReceipt,
};
use engine::{bank, domain, store};
use futures::future::BoxFuture;
use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use store::Store;
use tokio::{
    sync::{Notify, Semaphore, mpsc},
    time::{Instant, sleep},
};

/// What the bank takes for every bill: the document's example.
pub(crate) const BILL_RUPIAH: i64 = 178_500;

/// What comes of a payment request.
#[derive(Clone, Debug)]
pub(crate) enum Pay {
    Paid,
    Refused(Reason),
    NeverSent,
    /// No answer; the bank takes it after this time, or never.
    Silent {
        takes_after: Option<Duration>,
    },
    /// No answer in time; then this many copies of a late one.
    Late {
        outcome: Box<Pay>,
        answers_after: Duration,
        copies: u32,
    },
    /// The bank took it or not; the gateway learns only this.
    Lost {
        unknown: Unknown,
        taken: bool,
    },
    /// Taken; the answer names another amount.
    WrongAmount,
    /// Taken; the answer names another payment.
    WrongIdentity,
    /// Taken; the answer's reference is empty.
    WrongReceipt,
    /// Taken; the connector never returns, against its contract.
    Hangs,
    /// Taken; the connector panics.
    Panics,
}

/// What comes of a status question.
#[derive(Clone, Debug)]
pub(crate) enum Status {
    Truth,
    Says(StatusOutcome),
    /// Taken, and the answer names another amount.
    WrongAmount,
    /// The connector never returns, against its contract.
    Hangs,
    /// The connector panics.
    Panics,
    /// The answer was given at the question, and comes when this is notified.
    Held(Arc<Notify>, StatusOutcome),
}

/// What comes of an inquiry.
#[derive(Clone, Debug)]
pub(crate) enum Ask {
    Presented { payable_until: Option<Timestamp> },
    Refused(Reason),
    Silent,
}

/// One payment as the bank knows it.
#[derive(Clone, Debug)]
pub(crate) struct AtBank {
    pub(crate) fresh_requests: u32,
    pub(crate) taken_at: Option<Timestamp>,
    pub(crate) amount: Rupiah,
    payment_code: PaymentCode,
    identity: String,
    receipt: BankReceipt,
}

struct Books {
    payments: BTreeMap<InvoiceNumber, AtBank>,
    pay: Pay,
    next_pays: VecDeque<Pay>,
    status: Status,
    next_statuses: VecDeque<Status>,
    ask: Ask,
    questions: Vec<(InvoiceNumber, Timestamp)>,
    wrongs: Vec<String>,
    places_given: u32,
    down: bool,
    not_paid_counts_from: Option<Instant>,
    poisoned: Option<InvoiceNumber>,
    latency: Duration,
    steps: Arc<Steps>,
    witness: Option<Arc<dyn Store>>,
    late: Option<mpsc::Sender<LateAnswer>>,
}

pub(crate) struct ScriptedBank {
    clock: Arc<TestClock>,
    profile: Profile,
    line: Arc<Semaphore>,
    books: Mutex<Books>,
    asked: Notify,
}

impl ScriptedBank {
    pub(crate) fn new(clock: Arc<TestClock>, profile: Profile, line_max: usize) -> Arc<Self> {
        let books = Books {
            payments: BTreeMap::new(),
            pay: Pay::Paid,
            next_pays: VecDeque::new(),
            status: Status::Truth,
            next_statuses: VecDeque::new(),
            ask: Ask::Presented { payable_until: None },
            questions: Vec::new(),
            wrongs: Vec::new(),
            places_given: 0,
            down: false,
            not_paid_counts_from: None,
            poisoned: None,
            latency: Duration::from_millis(100),
            steps: Steps::endless(),
            witness: None,
            late: None,
        };
        let (line, books) = (Arc::new(Semaphore::new(line_max)), Mutex::new(books));
        Arc::new(Self { clock, profile, line, books, asked: Notify::new() })
    }

    fn books(&self) -> MutexGuard<'_, Books> {
        self.books.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A life begins: its steps, and the store in which a payment must be durable before it is sent.
    pub(crate) fn begin_life(&self, steps: Arc<Steps>, witness: Arc<dyn Store>) {
        let mut books = self.books();
        books.steps = steps;
        books.witness = Some(witness);
    }

    /// The gateway's connections are gone.
    pub(crate) fn end_life(&self) {
        let mut books = self.books();
        books.witness = None;
        books.late = None;
    }

    /// What every payment request meets that nothing else is planned for.
    pub(crate) fn on_pay(&self, pay: Pay) {
        self.books().pay = pay;
    }

    /// What the next payment request meets.
    pub(crate) fn next_pay(&self, pay: Pay) {
        self.books().next_pays.push_back(pay);
    }

    /// What every status question meets that nothing else is planned for.
    pub(crate) fn on_status(&self, status: Status) {
        self.books().status = status;
    }

    /// What the next status question meets.
    pub(crate) fn next_status(&self, status: Status) {
        self.books().next_statuses.push_back(status);
    }

    pub(crate) fn on_inquiry(&self, ask: Ask) {
        self.books().ask = ask;
    }

    pub(crate) fn set_not_paid_counts_from(&self, moment: Instant) {
        self.books().not_paid_counts_from = Some(moment);
    }

    pub(crate) fn set_down(&self, down: bool) {
        self.books().down = down;
    }

    /// From now on, every status question about this payment, and no other, panics.
    pub(crate) fn poison(&self, number: InvoiceNumber) {
        self.books().poisoned = Some(number);
    }

    pub(crate) fn set_latency(&self, latency: Duration) {
        self.books().latency = latency;
    }

    /// A message out of the blue.
    pub(crate) fn send_late(&self, answer: LateAnswer) {
        let late = self.books().late.clone().expect("a gateway listens to late answers");
        late.try_send(answer).expect("the gateway is alive");
    }

    /// The bank's word that it took a payment.
    pub(crate) fn paid(&self, number: InvoiceNumber) -> Paid {
        let books = self.books();
        let payment = &books.payments[&number];
        Paid { identity: payment.identity.clone(), amount: payment.amount, receipt: payment.receipt.clone() }
    }

    /// The bank takes a payment now that it has had for a while.
    pub(crate) fn take(&self, number: InvoiceNumber) {
        let now = self.clock.now();
        self.books().payments.get_mut(&number).expect("the bank has it").taken_at = Some(now);
    }

    /// What the bank knows of a payment.
    pub(crate) fn payment(&self, number: InvoiceNumber) -> Option<AtBank> {
        self.books().payments.get(&number).cloned()
    }

    /// Whether the bank has taken a payment by now.
    pub(crate) fn has_taken(&self, number: InvoiceNumber) -> bool {
        let now = self.clock.now();
        self.payment(number).and_then(|payment| payment.taken_at).is_some_and(|at| at <= now)
    }

    /// How many first requests arrived, for all payments together.
    pub(crate) fn fresh_requests(&self) -> u32 {
        self.books().payments.values().map(|payment| payment.fresh_requests).sum()
    }

    /// When status questions were asked about a payment.
    pub(crate) fn questions(&self, number: InvoiceNumber) -> Vec<Timestamp> {
        self.books().questions.iter().filter(|(of, _)| *of == number).map(|(_, at)| *at).collect()
    }

    /// Waits for the first status question about a payment after this moment, and returns when it came.
    pub(crate) async fn question_after(&self, number: InvoiceNumber, moment: Timestamp) -> Timestamp {
        loop {
            let asked = self.asked.notified();
            if let Some(at) = self.questions(number).into_iter().find(|at| *at > moment) {
                return at;
            }
            asked.await;
        }
    }

    /// What the gateway did that no gateway may do.
    pub(crate) fn wrongs(&self) -> Vec<String> {
        let books = self.books();
        let mut wrongs = books.wrongs.clone();
        for (number, payment) in &books.payments {
            if payment.fresh_requests > 1 {
                wrongs.push(format!("{number} was sent {} times", payment.fresh_requests));
            }
        }
        let mut bills: Vec<_> =
            books.payments.values().filter(|p| p.taken_at.is_some()).map(|p| &p.payment_code).collect();
        bills.sort();
        if bills.windows(2).any(|pair| pair[0] == pair[1]) {
            wrongs.push("a bill was paid twice".to_owned());
        }
        wrongs
    }

    fn steps(&self) -> Arc<Steps> {
        Arc::clone(&self.books().steps)
    }

    fn latency(&self) -> Duration {
        self.books().latency
    }

    /// The request has arrived, and is taken at this moment, or never.
    fn arrived(&self, request: &PaymentRequest, taken_at: Option<Timestamp>) {
        let mut books = self.books();
        let count = books.payments.len() + 1;
        let payment = books.payments.entry(request.invoice).or_insert_with(|| AtBank {
            fresh_requests: 0,
            taken_at: None,
            amount: request.amount,
            payment_code: request.payment_code.clone(),
            identity: request.identity.clone(),
            receipt: BankReceipt {
                reference_number: format!("{count:032X}"),
                trace_number: format!("{count:06}"),
            },
        });
        payment.fresh_requests += 1;
        payment.taken_at = payment.taken_at.or(taken_at);
    }

    async fn must_be_durable(&self, number: InvoiceNumber) {
        let witness = self.books().witness.clone().expect("a life has begun");
        let stored = witness.invoice(number).await.expect("the witness can be read");
        let pending = stored.is_some_and(|stored| matches!(stored.invoice.state, State::Pending { .. }));
        if !pending {
            self.books().wrongs.push(format!("{number} was sent before it was durable"));
        }
    }

    async fn serve(&self, request: &PaymentRequest, pay: Pay) -> PaymentOutcome {
        let now = self.clock.now();
        let taken_at = match &pay {
            Pay::Paid
            | Pay::WrongAmount
            | Pay::WrongIdentity
            | Pay::WrongReceipt
            | Pay::Hangs
            | Pay::Panics
            | Pay::Lost { taken: true, .. } => Some(now),
            Pay::Silent { takes_after } => takes_after.map(|after| now.plus(after)),
            Pay::Refused(_) | Pay::NeverSent | Pay::Lost { taken: false, .. } => None,
            Pay::Late { outcome, .. } => matches!(**outcome, Pay::Paid).then_some(now),
        };
        self.arrived(request, taken_at);
        self.steps().pass("the bank has it").await;
        let latency = self.latency();
        let paid = self.paid(request.invoice);
        let outcome = match pay {
            Pay::Paid => PaymentOutcome::Paid(paid),
            Pay::WrongAmount => PaymentOutcome::Paid(Paid { amount: paid.amount + Rupiah::new(1), ..paid }),
            Pay::WrongIdentity => PaymentOutcome::Paid(Paid { identity: "another".to_owned(), ..paid }),
            Pay::WrongReceipt => {
                let receipt = BankReceipt { reference_number: String::new(), ..paid.receipt };
                PaymentOutcome::Paid(Paid { receipt, ..paid })
            }
            Pay::Refused(reason) => PaymentOutcome::Refused(Refusal::with_code(reason, "0005")),
            Pay::NeverSent => PaymentOutcome::NeverSent,
            Pay::Lost { unknown, .. } => PaymentOutcome::Unknown(unknown),
            Pay::Silent { .. } => {
                sleep(self.profile.answer_timeout).await;
                PaymentOutcome::Unknown(Unknown::TimedOut)
            }
            Pay::Late { outcome, answers_after, copies } => {
                let outcome = match *outcome {
                    Pay::Refused(reason) => PaymentOutcome::Refused(Refusal::new(reason)),
                    _ => PaymentOutcome::Paid(paid),
                };
                let late = self.books().late.clone();
                let answer = LateAnswer { invoice: request.invoice, outcome, contradicts: false };
                tokio::spawn(async move {
                    sleep(answers_after).await;
                    for _ in 0..copies {
                        // A gateway that has died meanwhile hears nothing.
                        let _ = late.as_ref().map(|late| late.try_send(answer.clone()));
                    }
                });
                sleep(self.profile.answer_timeout).await;
                PaymentOutcome::Unknown(Unknown::TimedOut)
            }
            Pay::Hangs => std::future::pending().await,
            Pay::Panics => panic!("planned fault"),
        };
        sleep(latency).await;
        outcome
    }

    fn truth(&self, number: InvoiceNumber) -> StatusOutcome {
        if self.has_taken(number) { StatusOutcome::Paid(self.paid(number)) } else { StatusOutcome::NotPaid }
    }
}

impl Bank for ScriptedBank {
    fn profile(&self) -> &Profile {
        &self.profile
    }

    fn place(&self, payment: Placing<'_>) -> Result<Place, NoPlace> {
        let mut books = self.books();
        if books.down {
            return Err(NoPlace::Down);
        }
        let permit = Arc::clone(&self.line).try_acquire_owned().map_err(|_| NoPlace::Full)?;
        books.places_given += 1;
        let identity = format!("{}-{}", payment.invoice, books.places_given);
        Ok(Place { identity, permit, fence: None })
    }

    fn inquire(&self, request: InquiryRequest) -> BoxFuture<'_, InquiryOutcome> {
        Box::pin(async move {
            self.steps().pass("before an inquiry").await;
            sleep(self.latency()).await;
            let ask = self.books().ask.clone();
            let outcome = match ask {
                Ask::Presented { payable_until } => {
                    let digits: String =
                        request.chassis.as_str().chars().filter(char::is_ascii_digit).collect();
                    let bill = Bill {
                        payment_code: PaymentCode::parse(&format!("32{digits}")).expect("digits"),
                        nik: request.nik,
                        chassis: request.chassis,
                        owner_name: Secret::new("JORDAN"),
                        owner_address: Secret::new("BOGOR"),
                        license_plate: "F 0001 Z".to_owned(),
                        vehicle_brand: "YAMAHA".to_owned(),
                        vehicle_model: "28D (AL115S/MIO)".to_owned(),
                        vehicle_color: "MERAH MARUN".to_owned(),
                        year_built: 2010,
                        taxes: Taxes {
                            pkb: Rupiah::new(BILL_RUPIAH - 35_000),
                            swdkllj: Rupiah::new(35_000),
                            ..Taxes::default()
                        },
                        upstream_reference: None,
                    };
                    InquiryOutcome::Presented { bill, payable_until, terms: UpstreamTerms::default() }
                }
                Ask::Refused(reason) => InquiryOutcome::Refused(Refusal::new(reason)),
                Ask::Silent => std::future::pending().await,
            };
            self.steps().pass("after an inquiry").await;
            outcome
        })
    }

    fn pay(&self, place: Place, request: PaymentRequest) -> BoxFuture<'_, PaymentOutcome> {
        Box::pin(async move {
            let _place = place;
            self.steps().pass("before sending").await;
            if !request.send_before.allows(self.clock.now()) {
                return PaymentOutcome::NeverSent;
            }
            self.must_be_durable(request.invoice).await;
            let pay = {
                let mut books = self.books();
                books.next_pays.pop_front().unwrap_or_else(|| books.pay.clone())
            };
            if matches!(pay, Pay::NeverSent) {
                return PaymentOutcome::NeverSent;
            }
            let outcome = self.serve(&request, pay).await;
            self.steps().pass("the bank has answered").await;
            outcome
        })
    }

    fn not_paid_counts_from(&self, _identity: &str) -> Option<Instant> {
        let books = self.books();
        (!books.down).then(|| books.not_paid_counts_from.unwrap_or_else(Instant::now))
    }

    fn status(&self, request: PaymentRequest) -> BoxFuture<'_, StatusOutcome> {
        Box::pin(async move {
            self.steps().pass("before a status question").await;
            let status = {
                let mut books = self.books();
                books.questions.push((request.invoice, self.clock.now()));
                self.asked.notify_waiters();
                if books.poisoned == Some(request.invoice) {
                    Status::Panics
                } else {
                    books.next_statuses.pop_front().unwrap_or_else(|| books.status.clone())
                }
            };
            let outcome = match status {
                Status::Truth => self.truth(request.invoice),
                Status::Says(outcome) => outcome,
                Status::WrongAmount => {
                    let paid = self.paid(request.invoice);
                    StatusOutcome::Paid(Paid { amount: paid.amount + Rupiah::new(1), ..paid })
                }
                Status::Hangs => std::future::pending().await,
                Status::Panics => panic!("planned fault"),
                Status::Held(released, outcome) => {
                    released.notified().await;
                    outcome
                }
            };
            sleep(self.latency()).await;
            self.steps().pass("after a status question").await;
            outcome
        })
    }

    fn late_answers(&self) -> Option<mpsc::Receiver<LateAnswer>> {
        let (sender, receiver) = mpsc::channel(bank::LATE_ANSWERS_MAX);
        self.books().late = Some(sender);
        Some(receiver)
    }
}
