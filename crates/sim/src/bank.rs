//! The simulated bank: its own books, which outlive every gateway, and the connector through which one life of a
//! gateway reaches it.
//!
//! What the bank does with a message is drawn by the message's own name, so that one payment's fate hangs on no
//! other's. The books know what no gateway knows: what was taken, and what is still on its way.

use crate::{
    auditor::{Auditor, BankBooks},
    bugs::Bug,
    clock::WallClock,
    gate::Gate,
    random::Random,
    record::Record,
    store::Weather,
};
use bank::{
    Bank, Desk, Holds, InquiryOutcome, InquiryRequest, LateAnswer, NoPlace, Paid, PaymentOutcome,
    PaymentRequest, Place, Placing, Profile, Question, StatusOutcome, Terminals, Unknown,
};
use domain::{
    Bill, Clock, Nik, PaymentCode, Reason, Refusal, Rupiah, Secret, Taxes, Terminal, UpstreamTerms,
    invoice::BankReceipt,
};
use engine::{bank, domain};
use futures::future::BoxFuture;
use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};
use tokio::{
    sync::{Semaphore, mpsc},
    time::{Instant, sleep},
};

/// One payment, as the bank knows it.
#[derive(Clone, Debug)]
struct Payment {
    invoice: i64,
    code: String,
    amount: i64,
    receipt: BankReceipt,
    executed_at: Option<Duration>,
    is_reversed: bool,
    /// Refused for good, whatever comes.
    is_dead: bool,
    /// The bank has said that it refused, and takes it; or the other way around.
    has_lied: bool,
    /// Messages under way that pay, or undo.
    paying: u32,
    undoing: u32,
}

/// What the books say of a payment.
#[derive(Clone, Debug)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "what a bank knows of a payment are answers to yes-or-no questions"
)]
pub(crate) struct BankStanding {
    pub(crate) invoice: i64,
    pub(crate) amount: i64,
    pub(crate) receipt: BankReceipt,
    pub(crate) is_taken: bool,
    pub(crate) may_take: bool,
    pub(crate) may_undo: bool,
    pub(crate) has_lied: bool,
}

#[derive(Default)]
struct Inside {
    payments: BTreeMap<String, Payment>,
    /// Who paid a bill: an identity, or somebody at a counter.
    paid_bills: BTreeMap<String, String>,
    /// Where late answers go, by gateway, and to which life.
    late: BTreeMap<String, (u32, mpsc::Sender<LateAnswer>)>,
    /// How often something of this name happened.
    counts: BTreeMap<String, u64>,
    bills: BTreeMap<String, String>,
}

/// The bank's books.
pub(crate) struct Books {
    seed: u64,
    record: Arc<Record>,
    inside: Mutex<Inside>,
}

/// What a message came to when it arrived.
enum Arrived {
    Taken,
    PaidByAnother,
    Refused,
}

impl Books {
    pub(crate) fn new(seed: u64, record: Arc<Record>) -> Arc<Self> {
        Arc::new(Self { seed, record, inside: Mutex::default() })
    }

    fn inside(&self) -> MutexGuard<'_, Inside> {
        self.inside.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The stream of the next message of this name.
    fn draws(&self, name: &str) -> Random {
        let count = {
            let mut inside = self.inside();
            let count = inside.counts.entry(name.to_owned()).or_default();
            *count += 1;
            *count
        };
        Random::of(self.seed, &format!("bank/{name}/{count}"))
    }

    /// Somebody pays a bill at a counter, if it is known and open.
    pub(crate) fn pay_at_counter(&self, vehicle: &str) {
        let mut inside = self.inside();
        if let Some(code) = inside.bills.get(vehicle).cloned()
            && !inside.paid_bills.contains_key(&code)
        {
            inside.paid_bills.insert(code, "counter".to_owned());
            drop(inside);
            self.record.fault("bank: paid at a counter", None, vehicle);
        }
    }

    fn note(&self, identity: &str, what: &str) {
        let invoice = self.inside().payments.get(identity).map(|payment| payment.invoice);
        self.record.note(invoice, format!("bank: {what}"));
    }

    /// The bank hears of a payment.
    fn hears_of(&self, request: &PaymentRequest, amount: i64) {
        let mut inside = self.inside();
        let count = inside.payments.len() + 1;
        inside.payments.entry(request.identity.clone()).or_insert_with(|| Payment {
            invoice: request.invoice.get(),
            code: request.payment_code.as_str().to_owned(),
            amount,
            receipt: BankReceipt {
                reference_number: format!("{:032X}", request.invoice.get()),
                trace_number: format!("{:06}", count % 1_000_000),
            },
            executed_at: None,
            is_reversed: false,
            is_dead: false,
            has_lied: false,
            paying: 0,
            undoing: 0,
        });
    }

    fn with<T>(&self, identity: &str, change: impl FnOnce(&mut Payment) -> T) -> T {
        change(self.inside().payments.get_mut(identity).expect("the bank has heard of it"))
    }

    /// A message that pays is carried out.
    fn execute(&self, identity: &str) -> Arrived {
        let now = self.record.elapsed();
        let mut inside = self.inside();
        let Inside { payments, paid_bills, .. } = &mut *inside;
        let payment = payments.get_mut(identity).expect("the bank has heard of it");
        if payment.is_dead || payment.is_reversed {
            return Arrived::Refused;
        }
        if payment.executed_at.is_some() {
            return Arrived::Taken;
        }
        if paid_bills.contains_key(&payment.code) {
            return Arrived::PaidByAnother;
        }
        payment.executed_at = Some(now);
        paid_bills.insert(payment.code.clone(), identity.to_owned());
        drop(inside);
        self.note(identity, "took it");
        Arrived::Taken
    }

    /// A reversal is carried out.
    fn reverse(&self, identity: &str) {
        let mut inside = self.inside();
        let Inside { payments, paid_bills, .. } = &mut *inside;
        let payment = payments.get_mut(identity).expect("the bank has heard of it");
        payment.is_dead = true;
        if payment.executed_at.is_some() && !payment.is_reversed {
            payment.is_reversed = true;
            paid_bills.remove(&payment.code);
            drop(inside);
            self.record.probe("bank: a payment reversed");
            self.note(identity, "undid it");
        }
    }

    /// The message arrives after a while: it pays.
    fn execute_later(self: &Arc<Self>, identity: &str, after: Duration) {
        self.with(identity, |payment| payment.paying += 1);
        let (books, identity) = (Arc::clone(self), identity.to_owned());
        tokio::spawn(async move {
            sleep(after).await;
            books.with(&identity, |payment| payment.paying -= 1);
            let _told_nobody = books.execute(&identity);
        });
    }

    /// The message arrives after a while: it undoes.
    fn reverse_later(self: &Arc<Self>, identity: &str, after: Duration) {
        self.with(identity, |payment| payment.undoing += 1);
        let (books, identity) = (Arc::clone(self), identity.to_owned());
        tokio::spawn(async move {
            sleep(after).await;
            books.with(&identity, |payment| payment.undoing -= 1);
            books.reverse(&identity);
        });
    }

    fn paid(&self, identity: &str) -> Paid {
        self.with(identity, |payment| Paid {
            identity: identity.to_owned(),
            amount: Rupiah::new(payment.amount),
            receipt: payment.receipt.clone(),
        })
    }

    /// The bank's answer to a status question, as far as it knows now, or knew so long ago.
    fn truth(&self, identity: &str, lag: Duration) -> StatusOutcome {
        let as_of = self.record.elapsed().saturating_sub(lag);
        let inside = self.inside();
        let Some(payment) = inside.payments.get(identity) else { return StatusOutcome::NotPaid };
        let was_taken = payment.executed_at.is_some_and(|at| at <= as_of) && !payment.is_reversed;
        if was_taken {
            drop(inside);
            return StatusOutcome::Paid(self.paid(identity));
        }
        match inside.paid_bills.get(&payment.code) {
            Some(payer) if payer != identity => StatusOutcome::PaidByAnother,
            _ => StatusOutcome::NotPaid,
        }
    }

    /// An answer comes late, to whichever life of the gateway is there then.
    fn answer_late(self: &Arc<Self>, gateway: &str, after: Duration, copies: u64, answer: LateAnswer) {
        let (books, gateway) = (Arc::clone(self), gateway.to_owned());
        let sent_to = self.inside().late.get(&gateway).map(|(life, _)| *life);
        tokio::spawn(async move {
            sleep(after).await;
            for _ in 0..copies {
                let Some((life, sender)) = books.inside().late.get(&gateway).cloned() else { return };
                books.record.probe(if Some(life) == sent_to {
                    "late answer"
                } else {
                    "late answer after a restart"
                });
                books.record.note(Some(answer.invoice.get()), format!("late answer: {:?}", answer.outcome));
                // A gateway that has died meanwhile hears nothing.
                let _heard = sender.try_send(answer.clone());
            }
        });
    }
}

impl BankBooks for Books {
    fn standing(&self, identity: &str) -> BankStanding {
        self.inside().payments.get(identity).map_or_else(BankStanding::default, Payment::standing)
    }

    fn payments(&self) -> Vec<(String, BankStanding)> {
        let inside = self.inside();
        inside.payments.iter().map(|(identity, payment)| (identity.clone(), payment.standing())).collect()
    }
}

impl Default for BankStanding {
    fn default() -> Self {
        Self {
            invoice: 0,
            amount: 0,
            receipt: BankReceipt { reference_number: String::new(), trace_number: String::new() },
            is_taken: false,
            may_take: false,
            may_undo: false,
            has_lied: false,
        }
    }
}

impl Payment {
    fn standing(&self) -> BankStanding {
        let is_taken = self.executed_at.is_some() && !self.is_reversed;
        BankStanding {
            invoice: self.invoice,
            amount: self.amount,
            receipt: self.receipt.clone(),
            is_taken,
            may_take: !is_taken && !self.is_dead && self.paying > 0,
            may_undo: self.undoing > 0 && !self.is_reversed,
            has_lied: self.has_lied,
        }
    }
}

/// How one life of a gateway reaches the bank.
pub(crate) struct Connector {
    pub(crate) books: Arc<Books>,
    pub(crate) gate: Arc<Gate>,
    /// The gateway's name, and which life of it this is.
    pub(crate) gateway: String,
    pub(crate) life: u32,
    pub(crate) auditor: Arc<Auditor>,
    pub(crate) record: Arc<Record>,
    pub(crate) clock: Arc<WallClock>,
    pub(crate) weather: Arc<Weather>,
    pub(crate) profile: Profile,
    pub(crate) terminals: Terminals,
    pub(crate) line: Arc<Semaphore>,
    pub(crate) desk: OnceLock<Arc<dyn Desk>>,
    pub(crate) places: AtomicU64,
    /// How often something else happens than a prompt, true answer, in a thousand.
    pub(crate) trouble_permille: u64,
    pub(crate) bug: Option<Bug>,
}

/// What befalls a payment request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Fate {
    Prompt,
    Refused,
    NeverSent,
    Silent,
    SilentAndTaken,
    Late,
    LateRefusal,
    Duplicated,
    ContradictedPaid,
    ContradictedRefusal,
    Lie,
    WrongAmount,
    WrongIdentity,
    WrongReceipt,
    UnknownCode,
    Garbled,
    Cut,
    UnderWay,
    Hangs,
    ForAnother,
}

/// What befalls a question about a payment.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Reply {
    Prompt,
    Slow,
    Silent,
    UnderWay,
    PayerUnknown,
    Garbled,
    UnknownCode,
    WrongAmount,
    WrongIdentity,
    Cut,
    Hangs,
    Declined,
    RefusedForGood,
    WrongNotFound,
}

const REASONS: [Reason; 3] = [Reason::CutOff, Reason::BankRefused, Reason::VehicleBlocked];

impl Connector {
    fn millis(&self, random: &mut Random, most: Duration) -> Duration {
        let most = u64::try_from(most.as_millis()).unwrap_or(u64::MAX);
        if self.weather.is_calm() {
            Duration::from_millis(20)
        } else {
            Duration::from_millis(random.between(1, most))
        }
    }

    /// Between now and the horizon; now and then just before it.
    fn within_horizon(&self, random: &mut Random) -> Duration {
        let horizon = u64::try_from(self.profile.horizon.as_millis()).unwrap_or(u64::MAX);
        match random.below(4) {
            0 => Duration::from_millis(horizon - random.between(1, 20)),
            _ => Duration::from_millis(random.below(horizon)),
        }
    }

    fn fate(&self, random: &mut Random) -> Fate {
        if self.weather.is_calm() || !random.permille(self.trouble_permille) {
            return Fate::Prompt;
        }
        random.weighted(&[
            (8, Fate::Refused),
            (4, Fate::NeverSent),
            (8, Fate::Silent),
            (12, Fate::SilentAndTaken),
            (8, Fate::Late),
            (4, Fate::LateRefusal),
            (5, Fate::Duplicated),
            (3, Fate::ContradictedPaid),
            (3, Fate::ContradictedRefusal),
            (2, Fate::Lie),
            (4, Fate::WrongAmount),
            (4, Fate::WrongIdentity),
            (3, Fate::WrongReceipt),
            (4, Fate::UnknownCode),
            (4, Fate::Garbled),
            (5, Fate::Cut),
            (3, Fate::UnderWay),
            (4, Fate::Hangs),
            (3, Fate::ForAnother),
        ])
    }

    fn reply(&self, random: &mut Random) -> Reply {
        if self.weather.is_calm() || !random.permille(self.trouble_permille) {
            return Reply::Prompt;
        }
        random.weighted(&[
            (8, Reply::Slow),
            (6, Reply::Silent),
            (5, Reply::UnderWay),
            (3, Reply::PayerUnknown),
            (3, Reply::Garbled),
            (3, Reply::UnknownCode),
            (3, Reply::WrongAmount),
            (3, Reply::WrongIdentity),
            (4, Reply::Cut),
            (3, Reply::Hangs),
            (4, Reply::Declined),
            (2, Reply::RefusedForGood),
            (3, Reply::WrongNotFound),
        ])
    }

    /// The lease under which this gateway may use a line; none if it is alone.
    fn held(&self) -> Holds {
        if self.terminals.all.is_empty() {
            return Holds::Alone;
        }
        let Some(desk) = self.desk.get() else { return Holds::No };
        let mut holds = self.terminals.all.iter().map(|terminal| desk.holds(*terminal));
        holds.find(|holds| *holds != Holds::No).unwrap_or(Holds::No)
    }

    fn fault(&self, name: &'static str, request: &PaymentRequest) {
        self.record.fault(name, Some(request.invoice.get()), &self.gateway);
    }

    /// Leaves without an answer.
    async fn silence(&self) {
        sleep(self.profile.answer_timeout.saturating_sub(Duration::from_millis(2))).await;
        self.gate.open().await;
    }

    fn unanswered(&self) -> PaymentOutcome {
        if self.bug == Some(Bug::TimeoutIsRefusal) {
            return PaymentOutcome::Refused(Refusal::with_code(Reason::BankRefused, "0068"));
        }
        PaymentOutcome::Unknown(Unknown::TimedOut)
    }

    async fn send(&self, place: Place, request: PaymentRequest) -> PaymentOutcome {
        let number = request.invoice.get();
        let mut random = self.books.draws(&format!("pay/{number}"));
        // Of the time in which it may be sent, most is spent waiting for the line now and then.
        if !self.weather.is_calm() && random.permille(30) {
            sleep(self.millis(&mut random, Duration::from_secs(6))).await;
        }
        self.gate.step("crash before sending", Some(number)).await;
        let is_in_time = request.send_before.allows(self.clock.now());
        if !is_in_time && self.bug != Some(Bug::SendsLate) {
            self.record.probe("too late to be sent");
            return PaymentOutcome::NeverSent;
        }
        if self.held().fence().as_ref() != Ok(&place.fence) {
            self.record.probe("lease on the line lost before sending");
            return PaymentOutcome::NeverSent;
        }
        let fate = self.fate(&mut random);
        if fate == Fate::NeverSent {
            self.fault("bank: cannot be reached", &request);
            return PaymentOutcome::NeverSent;
        }
        let mut outcome = self.leave(&request, is_in_time, fate, &mut random).await;
        if self.bug == Some(Bug::SendsTwice) && matches!(outcome, PaymentOutcome::Unknown(Unknown::TimedOut))
        {
            outcome = self.leave(&request, is_in_time, Fate::Prompt, &mut random).await;
        }
        self.gate.step("crash before an answer is read", Some(number)).await;
        outcome
    }

    async fn leave(
        &self,
        request: &PaymentRequest,
        is_in_time: bool,
        fate: Fate,
        random: &mut Random,
    ) -> PaymentOutcome {
        self.auditor.sent(request.invoice.get(), &request.identity, is_in_time);
        let amount = match self.bug {
            Some(Bug::WrongAmount) => request.amount.get() + 5_000,
            _ => request.amount.get(),
        };
        self.books.hears_of(request, amount);
        self.books.note(&request.identity, &format!("has it ({fate:?})"));
        self.carry_out(request, fate, random).await
    }

    /// The bank's answer, and what it did. Nothing of this hangs on the gateway's life but the answer.
    async fn carry_out(&self, request: &PaymentRequest, fate: Fate, random: &mut Random) -> PaymentOutcome {
        let identity = request.identity.as_str();
        let books = &self.books;
        let late = |outcome, contradicts| LateAnswer { invoice: request.invoice, outcome, contradicts };
        let refusal = Refusal::with_code(*random.one_of(&REASONS), "0005");
        let after = self.within_horizon(random);
        let is_taken_now = random.permille(500);
        let latency = self.millis(random, Duration::from_millis(900));
        // It pays now, later, or not at all.
        let maybe_taken = |random: &mut Random| match random.below(3) {
            0 => {}
            1 => _ = books.execute(identity),
            _ => books.execute_later(identity, after),
        };
        let answered = |arrived: Arrived| match arrived {
            Arrived::Taken => PaymentOutcome::Paid(books.paid(identity)),
            Arrived::PaidByAnother => {
                books.with(identity, |payment| payment.is_dead = true);
                self.record.probe("bank: already paid, at the first request");
                PaymentOutcome::Refused(Refusal::already_paid())
            }
            Arrived::Refused => PaymentOutcome::Refused(Refusal::with_code(Reason::BankRefused, "0005")),
        };
        match fate {
            Fate::NeverSent => unreachable!("nothing left"),
            Fate::Prompt => {
                let outcome = answered(books.execute(identity));
                self.step_and_sleep(request, latency).await;
                outcome
            }
            Fate::Refused => {
                self.fault("bank: refuses", request);
                books.with(identity, |payment| payment.is_dead = true);
                self.step_and_sleep(request, latency).await;
                PaymentOutcome::Refused(refusal)
            }
            Fate::Silent => {
                self.fault("bank: silent, not taken", request);
                self.silence().await;
                self.unanswered()
            }
            Fate::SilentAndTaken => {
                if is_taken_now {
                    self.fault("bank: silent, taken at once", request);
                    let _told_nobody = books.execute(identity);
                } else {
                    self.fault("bank: silent, taken later", request);
                    books.execute_later(identity, after);
                }
                self.silence().await;
                self.unanswered()
            }
            Fate::Late | Fate::LateRefusal | Fate::Duplicated => {
                let outcome = if fate == Fate::LateRefusal {
                    self.fault("bank: late refusal", request);
                    books.with(identity, |payment| payment.is_dead = true);
                    PaymentOutcome::Refused(refusal)
                } else {
                    answered(books.execute(identity))
                };
                let copies = random.between(1, 3);
                let wait = self.profile.answer_timeout
                    + Duration::from_millis(random.below(if is_taken_now { 2_000 } else { 60_000 }));
                if let (Some(Bug::AnswerForAnother), Some(other)) = (self.bug, self.another_open(request)) {
                    let paid = PaymentOutcome::Paid(books.paid(&other.1));
                    let answer = LateAnswer { invoice: other.0, outcome: paid, contradicts: false };
                    books.answer_late(&self.gateway, Duration::from_millis(1), 1, answer);
                }
                books.answer_late(&self.gateway, wait, copies, late(outcome.clone(), false));
                if fate == Fate::Duplicated {
                    self.fault("bank: answers several times", request);
                    self.step_and_sleep(request, latency).await;
                    return outcome;
                }
                if fate == Fate::Late {
                    self.fault("bank: late answer", request);
                }
                self.silence().await;
                self.unanswered()
            }
            Fate::ContradictedPaid => {
                self.fault("bank: takes it, then says that it refused", request);
                let outcome = answered(books.execute(identity));
                let contradicts = matches!(outcome, PaymentOutcome::Paid(_));
                books.answer_late(
                    &self.gateway,
                    latency + after,
                    1,
                    late(PaymentOutcome::Refused(refusal), contradicts),
                );
                self.step_and_sleep(request, latency).await;
                outcome
            }
            Fate::ContradictedRefusal => {
                self.fault("bank: refuses, then says that it took it", request);
                books.with(identity, |payment| (payment.is_dead, payment.has_lied) = (true, true));
                let paid = PaymentOutcome::Paid(books.paid(identity));
                books.answer_late(&self.gateway, latency + after, 1, late(paid, true));
                self.step_and_sleep(request, latency).await;
                PaymentOutcome::Refused(refusal)
            }
            Fate::Lie => {
                self.fault("bank: says that it refused, and takes it", request);
                books.with(identity, |payment| payment.has_lied = true);
                if let Arrived::Taken = books.execute(identity) {
                    let paid = PaymentOutcome::Paid(books.paid(identity));
                    books.answer_late(&self.gateway, latency + after, 1, late(paid, true));
                }
                self.step_and_sleep(request, latency).await;
                PaymentOutcome::Refused(refusal)
            }
            Fate::WrongAmount | Fate::WrongIdentity | Fate::WrongReceipt => {
                let outcome = answered(books.execute(identity));
                self.step_and_sleep(request, latency).await;
                let PaymentOutcome::Paid(paid) = outcome else { return outcome };
                PaymentOutcome::Paid(match fate {
                    Fate::WrongAmount => {
                        self.fault("bank: answers with another amount", request);
                        Paid { amount: paid.amount + Rupiah::new(1), ..paid }
                    }
                    Fate::WrongIdentity => {
                        self.fault("bank: answers with another identity", request);
                        Paid { identity: "another".to_owned(), ..paid }
                    }
                    _ => {
                        self.fault("bank: answers without a reference", request);
                        let receipt = BankReceipt { reference_number: String::new(), ..paid.receipt };
                        Paid { receipt, ..paid }
                    }
                })
            }
            Fate::UnknownCode | Fate::Garbled | Fate::Cut | Fate::UnderWay => {
                let (name, unknown) = match fate {
                    Fate::UnknownCode => ("unknown: code", Unknown::UnknownCode("0099".to_owned())),
                    Fate::Garbled => ("unknown: garbled", Unknown::Garbled("field 4, offset 31".to_owned())),
                    Fate::Cut => ("unknown: connection cut", Unknown::ConnectionCut),
                    _ => ("unknown: under way", Unknown::UnderWay),
                };
                self.fault(name, request);
                maybe_taken(random);
                self.step_and_sleep(request, latency).await;
                PaymentOutcome::Unknown(unknown)
            }
            Fate::Hangs => {
                self.fault("connector hangs", request);
                maybe_taken(random);
                std::future::pending().await
            }
            Fate::ForAnother => {
                self.fault("bank: an answer comes for another payment", request);
                let outcome = answered(books.execute(identity));
                let other = self.another_open(request).map_or(request.invoice, |other| other.0);
                let answer = LateAnswer { invoice: other, outcome: outcome.clone(), contradicts: false };
                if matches!(outcome, PaymentOutcome::Paid(_)) {
                    books.answer_late(&self.gateway, latency, 1, answer);
                }
                self.silence().await;
                self.unanswered()
            }
        }
    }

    /// Another payment that the bank has heard of and not taken.
    fn another_open(&self, request: &PaymentRequest) -> Option<(domain::InvoiceNumber, String)> {
        let payments = self.books.payments();
        let open = payments.into_iter().rev().find(|(identity, standing)| {
            !standing.is_taken && *identity != request.identity && standing.invoice != request.invoice.get()
        })?;
        Some((domain::InvoiceNumber::new(open.1.invoice), open.0))
    }

    async fn step_and_sleep(&self, request: &PaymentRequest, latency: Duration) {
        self.gate.step("crash when the bank has it", Some(request.invoice.get())).await;
        sleep(latency.min(self.profile.answer_timeout.saturating_sub(Duration::from_millis(5)))).await;
        self.gate.open().await;
    }

    async fn ask(&self, request: PaymentRequest) -> StatusOutcome {
        let number = request.invoice.get();
        let identity = request.identity.as_str();
        let books = &self.books;
        let mut random = books.draws(&format!("status/{number}"));
        self.gate.step("crash before a question", Some(number)).await;
        let question = self.profile.question;
        if question != Question::Asks && !request.send_before.allows(self.clock.now()) {
            self.record.probe("too late to be asked");
            return StatusOutcome::Unknown(Unknown::TimedOut);
        }
        let mut reply = self.reply(&mut random);
        books.hears_of(&request, request.amount.get());
        let after = self.within_horizon(&mut random);
        let is_lost = matches!(
            reply,
            Reply::Silent | Reply::UnderWay | Reply::Garbled | Reply::UnknownCode | Reply::Cut | Reply::Hangs
        );
        match question {
            Question::Asks => {}
            _ if reply == Reply::Declined => {}
            // The question itself may be under way for long, or be lost.
            Question::Executes if is_lost => match random.below(3) {
                0 => {}
                1 => _ = books.execute(identity),
                _ => books.execute_later(identity, after),
            },
            Question::Reverses if is_lost => match random.below(3) {
                0 => {}
                1 => books.reverse(identity),
                _ => books.reverse_later(identity, after),
            },
            Question::Executes => {
                if reply == Reply::RefusedForGood && !books.standing(identity).is_taken {
                    books.with(identity, |payment| payment.is_dead = true);
                }
                _ = books.execute(identity);
                self.record.probe("question: executes");
            }
            Question::Reverses => {
                books.reverse(identity);
                self.record.probe("question: reverses");
            }
        }
        if reply == Reply::WrongNotFound && self.profile.definitive_status {
            reply = Reply::Prompt;
        }
        let lag = match self.bug {
            Some(Bug::StatusLags) => self.profile.horizon * 3,
            _ => Duration::ZERO,
        };
        let truth = books.truth(identity, lag);
        let mut latency = self.millis(&mut random, Duration::from_millis(500));
        if reply == Reply::Slow {
            latency =
                self.profile.answer_timeout.saturating_sub(Duration::from_millis(random.between(5, 400)));
        }
        self.gate.step("crash during a question", Some(number)).await;
        let fault = |name| self.record.fault(name, Some(number), &self.gateway);
        let outcome = match reply {
            Reply::Silent => {
                fault("status: silent");
                self.silence().await;
                return StatusOutcome::Unknown(Unknown::TimedOut);
            }
            Reply::Hangs => {
                fault("status: hangs");
                std::future::pending().await
            }
            Reply::UnderWay => StatusOutcome::UnderWay,
            Reply::PayerUnknown if !matches!(truth, StatusOutcome::NotPaid) => {
                fault("status: payer unknown");
                StatusOutcome::PayerUnknown
            }
            Reply::Garbled => StatusOutcome::Unknown(Unknown::Garbled("offset 3".to_owned())),
            Reply::UnknownCode => StatusOutcome::Unknown(Unknown::UnknownCode("0098".to_owned())),
            Reply::Cut => StatusOutcome::Unknown(Unknown::ConnectionCut),
            Reply::RefusedForGood
                if question != Question::Reverses
                    && !books.standing(identity).is_taken
                    && matches!(truth, StatusOutcome::NotPaid) =>
            {
                fault("status: refused for good");
                books.with(identity, |payment| payment.is_dead = true);
                StatusOutcome::Refused(Refusal::with_code(Reason::BankRefused, "0005"))
            }
            Reply::WrongNotFound => {
                fault("status: not found, which is not definitive");
                StatusOutcome::NotPaid
            }
            _ => match (truth, reply) {
                (StatusOutcome::Paid(paid), Reply::WrongAmount) => {
                    fault("status: another amount");
                    StatusOutcome::Paid(Paid { amount: paid.amount + Rupiah::new(1), ..paid })
                }
                (StatusOutcome::Paid(paid), Reply::WrongIdentity) => {
                    fault("status: another identity");
                    StatusOutcome::Paid(Paid { identity: "another".to_owned(), ..paid })
                }
                (truth, _) => truth,
            },
        };
        self.record.probe(match &outcome {
            StatusOutcome::Paid(_) => "status: paid",
            StatusOutcome::NotPaid => "status: not found",
            StatusOutcome::PaidByAnother => "status: paid by another",
            StatusOutcome::Refused(_) => "status: refused",
            StatusOutcome::PayerUnknown | StatusOutcome::UnderWay | StatusOutcome::Unknown(_) => {
                "status: unknown"
            }
        });
        books.note(identity, &format!("is asked ({reply:?}), and answers {}", name(&outcome)));
        sleep(latency).await;
        self.gate.open().await;
        if self.bug == Some(Bug::NotFoundIsRefusal) && outcome == StatusOutcome::NotPaid {
            return StatusOutcome::Refused(Refusal::with_code(Reason::BankRefused, "0025"));
        }
        outcome
    }
}

fn name(outcome: &StatusOutcome) -> &'static str {
    match outcome {
        StatusOutcome::Paid(_) => "paid",
        StatusOutcome::NotPaid => "not paid",
        StatusOutcome::Refused(_) => "refused",
        StatusOutcome::PaidByAnother => "paid by another",
        StatusOutcome::PayerUnknown => "payer unknown",
        StatusOutcome::UnderWay => "under way",
        StatusOutcome::Unknown(_) => "nothing usable",
    }
}

impl Bank for Connector {
    fn profile(&self) -> &Profile {
        &self.profile
    }

    fn open(&self, desk: Arc<dyn Desk>) {
        let _only_once = self.desk.set(desk);
    }

    fn terminals(&self) -> Terminals {
        self.terminals.clone()
    }

    fn place(&self, payment: Placing<'_>) -> Result<Place, NoPlace> {
        let fence = self.held().fence().map_err(|_| {
            self.record.probe("no line is held");
            NoPlace::Down
        })?;
        let permit = Arc::clone(&self.line).try_acquire_owned().map_err(|_| {
            self.record.probe("the line is full");
            NoPlace::Full
        })?;
        let count = self.places.fetch_add(1, Ordering::Relaxed);
        let identity = format!("{}-{}{}-{count}", payment.invoice, self.gateway, self.life);
        Ok(Place { identity, permit, fence })
    }

    fn inquire(&self, request: InquiryRequest) -> BoxFuture<'_, InquiryOutcome> {
        Box::pin(async move {
            let vehicle = request.chassis.as_str().to_owned();
            let mut random = self.books.draws(&format!("inquire/{vehicle}"));
            self.gate.step("crash before an inquiry", None).await;
            let latency = self.millis(&mut random, Duration::from_millis(400));
            let is_troubled = !self.weather.is_calm() && random.permille(self.trouble_permille / 3);
            let trouble = if is_troubled { random.between(1, 5) } else { 0 };
            match trouble {
                1 => return InquiryOutcome::NeverSent,
                2 => {
                    self.silence().await;
                    return InquiryOutcome::Unknown(Unknown::TimedOut);
                }
                _ => sleep(latency).await,
            }
            self.gate.open().await;
            let mut fixed = Random::of(self.books.seed, &format!("vehicle/{vehicle}"));
            let code = format!("32{:010}", fixed.below(10_000_000_000));
            let taxes = Taxes {
                pkb: Rupiah::new(i64::try_from(fixed.between(50, 400)).expect("a small number") * 1_000),
                swdkllj: Rupiah::new(35_000),
                ..Taxes::default()
            };
            {
                let mut inside = self.books.inside();
                inside.bills.insert(vehicle.clone(), code.clone());
                if inside.paid_bills.contains_key(&code) {
                    return InquiryOutcome::Refused(Refusal::already_paid());
                }
            }
            if trouble == 3 {
                return InquiryOutcome::Refused(Refusal::new(Reason::VehicleNotFound));
            }
            let nik = if trouble == 4 { Nik::parse("320999999999999").expect("digits") } else { request.nik };
            let payable_until =
                (trouble == 5).then(|| self.record.now().plus(Duration::from_secs(random.between(5, 40))));
            let bill = Bill {
                payment_code: PaymentCode::parse(&code).expect("digits"),
                nik,
                chassis: request.chassis,
                owner_name: Secret::new("JORDAN"),
                owner_address: Secret::new("BOGOR"),
                license_plate: "F 0001 Z".to_owned(),
                vehicle_brand: "YAMAHA".to_owned(),
                vehicle_model: "28D (AL115S/MIO)".to_owned(),
                vehicle_color: "MERAH MARUN".to_owned(),
                year_built: 2010,
                taxes,
                upstream_reference: None,
            };
            InquiryOutcome::Presented { bill, payable_until, terms: UpstreamTerms::default() }
        })
    }

    fn pay(&self, place: Place, request: PaymentRequest) -> BoxFuture<'_, PaymentOutcome> {
        Box::pin(self.send(place, request))
    }

    fn not_paid_counts_from(&self, _identity: &str) -> Option<Instant> {
        (self.held() != Holds::No).then(Instant::now)
    }

    fn status(&self, request: PaymentRequest) -> BoxFuture<'_, StatusOutcome> {
        Box::pin(self.ask(request))
    }

    fn late_answers(&self) -> Option<mpsc::Receiver<LateAnswer>> {
        let (sender, receiver) = mpsc::channel(bank::LATE_ANSWERS_MAX);
        self.books.inside().late.insert(self.gateway.clone(), (self.life, sender));
        Some(receiver)
    }
}

/// The terminals of a bank with so many lines.
pub(crate) fn terminals(count: u64) -> Terminals {
    let all =
        (1..=count).map(|number| Terminal::parse(&format!("SIM{number}")).expect("a terminal")).collect();
    Terminals { all, held_max: 1 }
}
