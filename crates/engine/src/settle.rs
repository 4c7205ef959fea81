//! Settling: booking what is known of a payment, telling whoever waits, and raising incidents about what
//! cannot be right. Late answers come in here as well.

use crate::{Engine, Failure, limits};
use bank::{LateAnswer, Paid, PaymentOutcome, Profile, Question, Unknown};
use domain::{
    Accepted, Command, Fence, Invoice, InvoiceNumber, Rejection, State, Timestamp,
    command::{Outcome, PaymentFacts, RaiseIncident, SettlePayment},
    record::IncidentKind,
};
use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};
use tokio::{
    sync::{mpsc, watch},
    time::{sleep, timeout},
};

/// An outcome that is known, and may not be written yet.
#[derive(Clone, Debug)]
pub(crate) struct Known {
    pub(crate) outcome: Outcome,
    /// See [`SettlePayment::put_off_until`].
    pub(crate) put_off_until: Option<Timestamp>,
}

impl Known {
    /// What became of the first request, whatever has been asked since.
    pub(crate) fn of_first(outcome: Outcome, send_before: Timestamp, profile: &Profile) -> Self {
        let put_off_until = (profile.question != Question::Asks).then(|| send_before.plus(profile.horizon));
        Self { outcome, put_off_until }
    }
}

/// Who waits for which invoice to become final.
#[derive(Clone, Default)]
pub(crate) struct Settlements {
    waiting: Arc<Mutex<HashMap<InvoiceNumber, watch::Sender<Option<Invoice>>>>>,
}

/// One who waits.
pub(crate) struct Subscription {
    settlements: Settlements,
    number: InvoiceNumber,
    receiver: watch::Receiver<Option<Invoice>>,
}

impl Settlements {
    pub(crate) fn subscribe(&self, number: InvoiceNumber) -> Subscription {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let receiver = waiting.entry(number).or_insert_with(|| watch::Sender::new(None)).subscribe();
        drop(waiting);
        Subscription { settlements: self.clone(), number, receiver }
    }

    fn publish(&self, invoice: &Invoice) {
        let waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(sender) = waiting.get(&invoice.number) {
            sender.send_replace(Some(invoice.clone()));
        }
    }
}

impl Subscription {
    /// The final invoice.
    pub(crate) async fn wait(&mut self) -> Invoice {
        let settled = self.receiver.wait_for(Option::is_some).await.ok().and_then(|seen| seen.clone());
        match settled {
            Some(invoice) => invoice,
            None => std::future::pending().await,
        }
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        let mut waiting = self.settlements.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        // This receiver still counts.
        if waiting.get(&self.number).is_some_and(|sender| sender.receiver_count() <= 1) {
            waiting.remove(&self.number);
        }
    }
}

impl Engine {
    /// Books an outcome; one that was found out under a lease, only while that is held. The error means that it
    /// is not booked and must be tried again.
    pub(crate) async fn settle(
        &self,
        facts: &PaymentFacts,
        known: &Known,
        fence: Option<Fence>,
    ) -> Result<Box<Invoice>, Failure> {
        let command = Command::SettlePayment(Box::new(SettlePayment {
            facts: facts.clone(),
            outcome: known.outcome.clone(),
            fence,
            put_off_until: known.put_off_until,
            at: self.clock.now(),
        }));
        match self.journal.submit(command).await {
            Ok(Accepted::Invoice(invoice)) => {
                let word = invoice.state.word();
                metrics::counter!("esamsat_payments_settled_total", "state" => word).increment(1);
                tracing::info!(invoice = %invoice.number, partner = invoice.partner.0, state = word, "payment settled");
                self.settlements.publish(&invoice);
                Ok(invoice)
            }
            Ok(Accepted::AlreadySettled(invoice)) => Ok(invoice),
            Ok(Accepted::Contradiction(invoice)) => {
                metrics::counter!("esamsat_contradictions_total").increment(1);
                tracing::error!(invoice = %invoice.number, "the bank contradicts a final state; see the incidents");
                Ok(invoice)
            }
            Ok(other) => unreachable!("a settlement is never answered with {other:?}"),
            Err(failure) => {
                tracing::warn!(invoice = %facts.invoice, %failure, "an outcome was not booked");
                Err(failure)
            }
        }
    }

    /// A bank's word that it took a payment, compared with what it was asked for.
    pub(crate) fn judge_paid(&self, invoice: &Invoice, paid: Paid) -> Option<Outcome> {
        let identity = invoice.state.attempt().map(|attempt| attempt.identity.as_str());
        if identity != Some(paid.identity.as_str()) {
            let said: String = paid.identity.escape_debug().take(64).collect();
            let detail = format!("the answer is for {said}");
            self.raise_incident(Some(invoice.number), IncidentKind::IdentityDiffers, detail);
            return None;
        }
        if paid.amount != invoice.amount_due() {
            let detail = format!("asked for {}, the answer says {}", invoice.amount_due(), paid.amount);
            self.raise_incident(Some(invoice.number), IncidentKind::AmountDiffers, detail);
            return None;
        }
        let usable = !paid.receipt.reference_number.is_empty()
            && paid.receipt.reference_number.len() <= domain::limits::reference_number_chars_max
            && paid.receipt.reference_number.bytes().all(|b| b.is_ascii_graphic())
            && (1..=12).contains(&paid.receipt.trace_number.len())
            && paid.receipt.trace_number.bytes().all(|b| b.is_ascii_digit());
        if !usable {
            let detail = "the answer's reference or trace number is malformed".to_owned();
            self.raise_incident(Some(invoice.number), IncidentKind::Garbled, detail);
            return None;
        }
        Some(Outcome::Paid { receipt: paid.receipt, amount: paid.amount })
    }

    /// Raises an incident where an unknown outcome deserves one.
    pub(crate) fn note_unknown(&self, number: InvoiceNumber, unknown: &Unknown) {
        metrics::counter!("esamsat_bank_unknown_total").increment(1);
        if let Some((kind, detail)) = incident_of(unknown) {
            self.raise_incident(Some(number), kind, detail);
        }
    }

    /// Writes an incident in the background; one that cannot be written is in the log at least.
    pub(crate) fn raise_incident(&self, invoice: Option<InvoiceNumber>, kind: IncidentKind, detail: String) {
        let number = invoice.map_or(0, InvoiceNumber::get);
        tracing::warn!(invoice = number, kind = kind.name(), %detail, "incident");
        metrics::counter!("esamsat_incidents_total", "kind" => kind.name()).increment(1);
        let command =
            Command::RaiseIncident(Box::new(RaiseIncident { invoice, kind, detail, at: self.clock.now() }));
        let submitted = self.journal.submit_detached(command);
        self.tasks.spawn(async move {
            if let Err(failure) = submitted.await {
                tracing::error!(invoice = number, kind = kind.name(), %failure, "an incident was not written");
            }
        });
    }

    /// Applies answers that came after their requests had been given up.
    pub(crate) async fn settle_late_answers(self: Arc<Self>, mut answers: mpsc::Receiver<LateAnswer>) {
        while let Some(Some(answer)) = self.stopping.run_until_cancelled(answers.recv()).await {
            metrics::counter!("esamsat_late_answers_total").increment(1);
            self.settle_late_answer(answer).await;
        }
    }

    /// The invoice that a late answer is for. Of an open one the resolver asks again anyway; that one which is over was
    /// paid nobody would hear of otherwise, so a store that does not answer is asked until it does.
    async fn answered_late(&self, answer: &LateAnswer) -> Option<Invoice> {
        let number = answer.invoice;
        loop {
            match timeout(limits::read_max, self.store.invoice(number)).await {
                Ok(Ok(Some(stored))) => return Some(stored.invoice),
                Ok(Ok(None)) => {
                    let detail = format!("an answer to invoice {number}, which does not exist");
                    self.raise_incident(None, IncidentKind::Unmatched, detail);
                    return None;
                }
                Ok(Err(error)) => {
                    tracing::warn!(invoice = %number, %error, "a late answer was not applied");
                }
                Err(_) => {
                    tracing::warn!(invoice = %number, "a late answer was not applied: the store is slow");
                }
            }
            if !matches!(answer.outcome, PaymentOutcome::Paid(_)) {
                return None;
            }
            self.stopping.run_until_cancelled(sleep(limits::late_answer_pause)).await?;
        }
    }

    async fn settle_late_answer(&self, answer: LateAnswer) {
        let number = answer.invoice;
        let Some(invoice) = self.answered_late(&answer).await else { return };
        let outcome = match answer.outcome {
            outcome @ (PaymentOutcome::Paid(_) | PaymentOutcome::Refused(_)) => outcome,
            PaymentOutcome::Unknown(unknown) => return self.note_unknown(number, &unknown),
            // A late "never sent" proves nothing any more.
            PaymentOutcome::NeverSent => return,
        };
        if answer.contradicts
            && matches!((&outcome, &invoice.state), (PaymentOutcome::Refused(_), State::Pending { .. }))
        {
            let detail =
                "a refusal came after another answer to the same request; neither is believed".to_owned();
            return self.raise_incident(Some(number), IncidentKind::Garbled, detail);
        }
        if matches!(invoice.state, State::Inquiry | State::Failure { .. }) {
            let detail = "an answer to a payment that never began".to_owned();
            return self.raise_incident(Some(number), IncidentKind::Unmatched, detail);
        }
        let (Some(facts), Some(outcome)) = (PaymentFacts::of(&invoice), self.judge(&invoice, outcome)) else {
            return;
        };
        let first = invoice.state.attempt().zip(self.banks.get(&invoice.upstream));
        let Some((attempt, bank)) = first else { return };
        let known = Known::of_first(outcome, attempt.send_before, bank.profile());
        let settled = self.settle(&facts, &known, None).await;
        if matches!(settled, Err(Failure::Rejected(Rejection::BeingReversed)))
            && matches!(known.outcome, Outcome::Paid { .. })
        {
            let detail =
                "the bank says paid, after it was asked to reverse it; the reversal's answer decides"
                    .to_owned();
            self.raise_incident(Some(number), IncidentKind::Unmatched, detail);
        }
        // What else could not be booked now, the resolver learns again by asking.
    }
}

/// Which incident an unknown outcome deserves: silence and cut lines are everyday, the rest is not.
pub(crate) fn incident_of(unknown: &Unknown) -> Option<(IncidentKind, String)> {
    match unknown {
        Unknown::TimedOut | Unknown::ConnectionCut | Unknown::UnderWay => None,
        Unknown::Garbled(what) => Some((IncidentKind::Garbled, what.clone())),
        Unknown::UnknownCode(code) => Some((IncidentKind::UnknownCode, format!("response code {code}"))),
    }
}
