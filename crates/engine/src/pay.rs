//! Pay: reserve, ask the bank, settle; or leave it to the resolver.
//!
//! From the reservation on, a payment runs in a task of its own: a partner that hangs up cancels nothing.
//! Whoever pays the same invoice meanwhile joins the task and gets the same outcome, so that a storm of
//! retries is one reservation and one request to the bank.
//!
//! ```text
//! place on the line → BeginPayment durable → clock before send_before? → bank → SettlePayment
//!                                                                  └─ unknown → resolver
//! ```

use crate::{About, Engine, Failure, Refused, Turned, View, limits, settle::Known};
use bank::{NoPlace, PaymentOutcome, PaymentRequest, Placing, SendBefore, Unknown};
use domain::{
    Accepted, Attempt, Command, Invoice, InvoiceNumber, NotPaidProof, Partner, PartnerId, Reason, Refusal,
    Rejection, State,
    command::{BeginPayment, Outcome, PaymentFacts},
};
use std::time::Duration;
use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};
use tokio::{
    sync::watch,
    time::{Instant, timeout, timeout_at},
};

/// How a payment's task ended.
#[derive(Clone, Debug)]
enum Ended {
    /// The invoice is final.
    Settled(Box<Invoice>),
    /// Nothing was reserved.
    Refused(Refused),
    /// Money is reserved and the outcome is open, here or at another gateway.
    Open,
}

/// How far a payment's task is.
#[derive(Clone, Debug, Default)]
struct Progress {
    /// When it began to reserve, once the reservation is durable.
    begun: Option<Instant>,
    ended: Option<Ended>,
}

/// The payments whose tasks run in this process.
#[derive(Default)]
pub(crate) struct Running {
    tasks: Mutex<HashMap<InvoiceNumber, watch::Receiver<Progress>>>,
}

/// Takes the task out of the table when it ends, however it ends.
struct Registered {
    engine: Arc<Engine>,
    number: InvoiceNumber,
}

impl Drop for Registered {
    fn drop(&mut self) {
        self.engine.payments.tasks.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.number);
    }
}

/// Whether it is for want of room, of a bank or of a product, which another gateway may have.
fn is_local(refused: &Refused) -> bool {
    refused.turned != Turned::Answer
        || matches!(refused.refusal.reason, Reason::BankUnreachable | Reason::ProductOff)
}

impl Engine {
    /// Pays an invoice. CONFIRM or PENDING is a success; everything else is refused. Answers within
    /// `answer_within` of `arrived_at`.
    pub async fn pay(
        self: &Arc<Self>,
        partner: &Arc<Partner>,
        number: InvoiceNumber,
        arrived_at: Instant,
    ) -> Result<View, Refused> {
        let deadline = arrived_at + self.settings.answer_within;
        let recent = self.invoices.take(number).filter(|view| view.invoice.partner == partner.id);
        let is_remembered = recent.is_some();
        let view = match recent {
            Some(view) => view,
            None => timeout_at(deadline, self.view(partner, number))
                .await
                .unwrap_or_else(|_| Err(Refused::unavailable()))?,
        };
        let about = About::invoice(&view.invoice, &view.presentment);
        let refuse = |reason: Refusal| Err(Refused::answer(reason).about(about.clone()));
        match &view.invoice.state {
            State::Failure { .. } => return refuse(Reason::InquiryFailed.into()),
            State::Confirm { .. } => return refuse(Refusal::already_paid()),
            State::Refund { .. } => return refuse(Reason::InvoiceRefunded.into()),
            State::Inquiry | State::Pending { .. } => {}
        }
        let (ended, begun) = self.join(partner, &view, deadline).await;
        let settled = match ended {
            Ended::Settled(invoice) => Some(*invoice),
            Ended::Refused(refused) if !is_local(&refused) => return Err(refused.about(about)),
            Ended::Refused(refused) => {
                self.unless_begun(refused, number).await.map_err(|refused| refused.about(about.clone()))?;
                self.settled_before(partner.id, number, deadline).await
            }
            Ended::Open => self.settled_before(partner.id, number, deadline).await,
        };
        let invoice = if let Some(invoice) = settled {
            invoice
        } else {
            // Then nobody was told a final word of it before this request came.
            let is_known = !is_remembered || begun.is_some_and(|begun| begun >= arrived_at);
            self.still_open(view.invoice, is_known).await.map_err(|refused| refused.about(about.clone()))?
        };
        if let State::Refund { proof, .. } = &invoice.state {
            return refuse(proof.refusal());
        }
        Ok(View { invoice, presentment: view.presentment })
    }

    /// A refusal of this gateway's own is the answer only if the payment was not begun meanwhile by somebody else's
    /// request; where the store does not say, it may have been.
    async fn unless_begun(&self, refused: Refused, number: InvoiceNumber) -> Result<(), Refused> {
        match timeout(limits::last_look_max, self.store.invoice(number)).await {
            Ok(Ok(Some(stored))) if stored.invoice.state.attempt().is_some() => Ok(()),
            Ok(Ok(_)) => Err(refused),
            Ok(Err(_)) | Err(_) => Err(Refused::unavailable()),
        }
    }

    /// The answer when time is up: what the store says, or PENDING where the payment has not even begun. It may
    /// begin yet, and what may happen yet is never called a failure. Where the store does not say, another gateway
    /// may have told a final word, which PENDING would take back, unless it is known that none was told.
    async fn still_open(&self, known: Invoice, is_known: bool) -> Result<Invoice, Refused> {
        let mut invoice = match timeout(limits::last_look_max, self.store.invoice(known.number)).await {
            Ok(Ok(Some(stored))) => stored.invoice,
            _ if is_known => known,
            _ => return Err(Refused::unavailable()),
        };
        if matches!(invoice.state, State::Inquiry) {
            let now = self.clock.now();
            let identity = String::new();
            let attempt = Attempt {
                begun_at: now,
                send_before: now,
                resolve_after: now,
                identity,
                is_reversing: false,
                rest: Duration::ZERO,
            };
            invoice.state = State::Pending { attempt };
        }
        Ok(invoice)
    }

    /// Starts the payment's task, or joins the one that runs, and waits for its end; and since when it is begun, if
    /// this process knows.
    async fn join(
        self: &Arc<Self>,
        partner: &Arc<Partner>,
        view: &View,
        deadline: Instant,
    ) -> (Ended, Option<Instant>) {
        if matches!(view.invoice.state, State::Pending { .. }) && !self.is_running(view.invoice.number) {
            return (Ended::Open, None);
        }
        let mut progress = match self.start_or_find(partner, view) {
            Ok(progress) => progress,
            Err(refused) => return (Ended::Refused(refused), None),
        };
        // Who may not wait is answered PENDING at once.
        if let Some(_waiting) = self.waiting.admit(partner.id) {
            tokio::select! {
                biased;
                // A task that panicked leaves the payment to the resolver.
                _panicked = progress.wait_for(|progress| progress.ended.is_some()) => {}
                () = self.waited_enough(deadline) => {}
            }
        }
        let Progress { begun, ended } = progress.borrow().clone();
        (ended.unwrap_or(Ended::Open), begun)
    }

    pub(crate) fn is_running(&self, number: InvoiceNumber) -> bool {
        self.payments.tasks.lock().unwrap_or_else(PoisonError::into_inner).contains_key(&number)
    }

    fn start_or_find(
        self: &Arc<Self>,
        partner: &Arc<Partner>,
        view: &View,
    ) -> Result<watch::Receiver<Progress>, Refused> {
        let number = view.invoice.number;
        let mut tasks = self.payments.tasks.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(running) = tasks.get(&number) {
            return Ok(running.clone());
        }
        if self.stopping.is_cancelled() {
            return Err(Refused::busy());
        }
        let upstream = view.invoice.upstream;
        let admission = self.admissions.get(&upstream).ok_or(Refused::answer(Reason::BankUnreachable))?;
        let admitted = admission.admit(partner.id).ok_or(Refused::busy())?;
        let (progress, receiver) = watch::channel(Progress::default());
        tasks.insert(number, receiver.clone());
        drop(tasks);
        let registered = Registered { engine: Arc::clone(self), number };
        let (engine, partner, view) = (Arc::clone(self), Arc::clone(partner), view.clone());
        self.tasks.spawn(async move {
            let ended = engine.run_payment(&partner, &view, &progress).await;
            // Out of the table first: whoever comes now finds the store's state.
            drop(registered);
            drop(admitted);
            progress.send_modify(|progress| progress.ended = Some(ended));
        });
        Ok(receiver)
    }

    async fn run_payment(&self, partner: &Partner, view: &View, progress: &watch::Sender<Progress>) -> Ended {
        match self.begin_and_send(partner, view, progress).await {
            Ok(ended) => ended,
            Err(refused) => {
                let code = refused.refusal.reason.code();
                metrics::counter!("esamsat_payments_refused_total", "reason" => code).increment(1);
                let number = view.invoice.number;
                tracing::info!(invoice = %number, partner = partner.id.0, reason = code, "payment refused");
                Ended::Refused(refused)
            }
        }
    }

    async fn begin_and_send(
        &self,
        partner: &Partner,
        view: &View,
        progress: &watch::Sender<Progress>,
    ) -> Result<Ended, Refused> {
        let inquired = &view.invoice;
        let facts = PaymentFacts::of(inquired).ok_or(Refused::answer(Reason::InquiryFailed))?;
        let bill = view.presentment.bill().ok_or(Refused::answer(Reason::InquiryFailed))?;
        let product = self.product(partner.environment, &inquired.product).await?;
        if !product.on {
            return Err(Refused::answer(Reason::ProductOff));
        }
        let bank = self.banks.get(&inquired.upstream).ok_or(Refused::answer(Reason::BankUnreachable))?;
        let placing =
            Placing { invoice: facts.invoice, upstream_reference: bill.upstream_reference.as_deref() };
        let place = bank.place(placing).map_err(|no_place| {
            tracing::debug!(invoice = %facts.invoice, %no_place, "no place on the line");
            match no_place {
                NoPlace::Full => Refused::busy(),
                // Nothing of this is about the partner: its own balance least of all.
                NoPlace::Down | NoPlace::Stalled | NoPlace::FloatShort => {
                    Refused::answer(Reason::BankUnreachable)
                }
                NoPlace::Unfit => Refused::answer(Reason::Internal),
            }
        })?;

        let (now, begun) = (self.clock.now(), Instant::now());
        let send_before = now.plus(self.settings.send_within);
        let command = Command::BeginPayment(Box::new(BeginPayment {
            facts: facts.clone(),
            at: now,
            business_date: bank.business_date(now),
            send_before,
            resolve_after: send_before.plus(bank.profile().horizon),
            identity: place.identity.clone(),
            fence: place.fence.clone(),
        }));
        let invoice = match self.journal.submit(command).await {
            Ok(Accepted::Invoice(invoice)) => invoice,
            // Another gateway has it under way; or whether it was written is not known, and the next start
            // resolves it.
            Err(Failure::Rejected(Rejection::InvoicePending) | Failure::Stopped(_)) => {
                return Ok(Ended::Open);
            }
            Ok(_) => return Err(Refused::answer(Reason::Internal)),
            Err(failure) => return Err(failure.into()),
        };
        progress.send_modify(|progress| progress.begun = Some(begun));

        let request = PaymentRequest {
            invoice: facts.invoice,
            identity: place.identity.clone(),
            product: facts.product.clone(),
            nik: bill.nik.clone(),
            chassis: facts.chassis.clone(),
            payment_code: facts.payment_code.clone(),
            amount: invoice.amount_due(),
            terms: invoice.upstream_terms,
            send_before: SendBefore { wall: send_before, monotonic: begun + self.settings.send_within },
        };
        // The connector looks at both clocks immediately before it writes. It answers in time by itself; one that
        // does not must not keep others from asking it.
        let answered = timeout(bank.profile().answer_timeout, bank.pay(place, request)).await;
        let outcome = answered.unwrap_or(PaymentOutcome::Unknown(Unknown::TimedOut));
        metrics::histogram!("esamsat_payment_bank_seconds").record(begun.elapsed().as_secs_f64());

        let not_before = begun + self.settings.send_within + bank.profile().horizon;
        let known = match self.judge(&invoice, outcome) {
            Some(outcome) => {
                let known = Known::of_first(outcome, send_before, bank.profile());
                match self.settle(&facts, &known, None).await {
                    Ok(invoice) => return Ok(Ended::Settled(invoice)),
                    Err(_) => Some(known),
                }
            }
            None => None,
        };
        tracing::info!(invoice = %facts.invoice, partner = partner.id.0, "payment pending");
        self.resolver.add(&facts, not_before, known);
        Ok(Ended::Open)
    }

    /// The invoice once it is final, if that comes before the deadline: by this process, or another one.
    async fn settled_before(
        &self,
        partner: PartnerId,
        number: InvoiceNumber,
        deadline: Instant,
    ) -> Option<Invoice> {
        let _waiting = self.waiting.admit(partner)?;
        tokio::select! {
            biased;
            invoice = self.settled(number) => Some(invoice),
            () = self.waited_enough(deadline) => None,
        }
    }

    /// The invoice once it is final.
    async fn settled(&self, number: InvoiceNumber) -> Invoice {
        // Subscribed first, so that nothing can fall between the look and the wait.
        let mut settled = self.settlements.subscribe(number);
        let mut pause = limits::settlement_poll_pause;
        loop {
            if let Ok(Some(stored)) = self.store.invoice(number).await
                && stored.invoice.state.is_final()
            {
                return stored.invoice;
            }
            if let Ok(invoice) = timeout(pause, settled.wait()).await {
                return invoice;
            }
            pause = (pause * 2).min(limits::settlement_poll_pause_max);
        }
    }

    /// What an outcome at the bank comes to; `None` while it is unknown. What cannot be right is an
    /// incident, and unknown.
    pub(crate) fn judge(&self, invoice: &Invoice, outcome: PaymentOutcome) -> Option<Outcome> {
        match outcome {
            PaymentOutcome::Paid(paid) => self.judge_paid(invoice, paid),
            PaymentOutcome::Refused(refusal) => Some(Outcome::NotPaid(NotPaidProof::Refused { refusal })),
            PaymentOutcome::NeverSent => Some(Outcome::NotPaid(NotPaidProof::NeverSent)),
            PaymentOutcome::Unknown(unknown) => {
                self.note_unknown(invoice.number, &unknown);
                None
            }
        }
    }
}
