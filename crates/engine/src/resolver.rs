//! The resolver: asks again about every open payment, with back-off, as long as it takes.
//!
//! Recovery after a crash is this same work: at the start, and every few seconds, it reads the open
//! payments from the store. Age alone settles nothing. "Not found" counts only when the question was asked
//! after the horizon, by the wall clock and by the monotonic one; for a payment of an earlier run of this
//! process, the horizon begins anew.
//!
//! Where several gateways share a store, each asks about the payments that it began until its "not found" counts,
//! so that a refund takes no longer than with one gateway. What is open for longer than answers may come to
//! the gateway that began it, which may be gone, is asked about by whoever holds the upstream's lease as well,
//! and settled by that one only while it holds it.
//!
//! Every upstream has a resolver of its own, so that one that stalls delays nobody else's payments.

use crate::{
    Engine, StartError,
    admission::{Admission, Admitted},
    leases, limits,
    settle::Known,
};
use bank::{Bank, Holds, PaymentRequest, Question, SendBefore, StatusOutcome};
use domain::{
    Accepted, Attempt, Command, Fence, Invoice, InvoiceNumber, NotPaidProof, PartnerId, Rejection, State,
    Timestamp, UpstreamId,
    command::{Outcome, PaymentFacts, PutOffResolution},
    record::IncidentKind,
};
use futures::FutureExt;
use std::{
    collections::{BTreeMap, BTreeSet, HashMap, VecDeque},
    ops::Bound,
    panic::AssertUnwindSafe,
    sync::Arc,
    time::Duration,
};
use store::{Store, StoredInvoice};
use tokio::{
    sync::mpsc,
    task::JoinSet,
    time::{Instant, sleep_until},
};

/// A payment handed over by the task that could not settle it.
pub(crate) struct Open {
    number: InvoiceNumber,
    partner: PartnerId,
    not_before: Instant,
    known: Option<Known>,
}

/// Where open payments are handed over, by upstream.
pub(crate) struct Handle {
    senders: HashMap<UpstreamId, mpsc::UnboundedSender<Open>>,
}

/// What one upstream's resolver works on.
pub(crate) type Work = (UpstreamId, mpsc::UnboundedReceiver<Open>);

impl Handle {
    /// Hands over a payment; before `not_before` no "not found" about it counts.
    pub(crate) fn add(&self, facts: &PaymentFacts, not_before: Instant, known: Option<Known>) {
        let sender =
            self.senders.get(&facts.upstream).expect("every upstream that is paid at has a resolver");
        // Without a receiver the process is ending; the next start finds the payment in the store.
        let _ending = sender.send(Open { number: facts.invoice, partner: facts.partner, not_before, known });
    }
}

pub(crate) fn channels(upstreams: impl Iterator<Item = UpstreamId>) -> (Handle, Vec<Work>) {
    let (mut senders, mut work) = (HashMap::new(), Vec::new());
    for upstream in upstreams {
        let (sender, receiver) = mpsc::unbounded_channel();
        senders.insert(upstream, sender);
        work.push((upstream, receiver));
    }
    (Handle { senders }, work)
}

/// What is known of an open payment between two questions.
#[derive(Clone, Debug)]
struct Case {
    partner: PartnerId,
    not_before: Instant,
    /// Until when it was put off when this process last looked.
    resolve_after: Option<Timestamp>,
    due_at: Instant,
    /// When the next question is worth asking, where that is later than asking again would be.
    asks_from: Option<Instant>,
    asked: u32,
    known: Option<Known>,
    reported_long: bool,
    /// Under which lease it is looked after; none if this gateway began it, or is alone.
    fence: Option<Fence>,
}

impl Case {
    /// Whether another gateway has put it off since this one last looked.
    fn is_put_off_by_another(&self, attempt: &Attempt) -> bool {
        self.resolve_after.is_some_and(|known| known != attempt.resolve_after)
    }
}

/// All open payments that this process knows of, and when each is due.
#[derive(Default)]
struct Cases {
    by_number: HashMap<InvoiceNumber, Case>,
    /// By partner, so that none has to wait for all that another one has open.
    due: BTreeMap<PartnerId, BTreeSet<(Instant, InvoiceNumber)>>,
    /// Whose turn was last.
    last_turn: PartnerId,
}

impl Cases {
    fn put(&mut self, number: InvoiceNumber, case: Case) {
        self.remove(number);
        self.due.entry(case.partner).or_default().insert((case.due_at, number));
        self.by_number.insert(number, case);
    }

    /// Puts back what was taken; an outcome that was handed over meanwhile is not forgotten.
    fn put_back(&mut self, number: InvoiceNumber, mut case: Case) {
        let Some(known) = self.by_number.get_mut(&number) else {
            // Let go meanwhile, with the lease.
            return;
        };
        case.known = case.known.or(known.known.take());
        self.put(number, case);
    }

    /// Forgets what is looked after under a lease, unless it is this one.
    fn retain_under(&mut self, fence: Option<&Fence>) {
        let is_lost = |case: &Case| case.fence.is_some() && case.fence.as_ref() != fence;
        let lost: Vec<_> =
            self.by_number.iter().filter(|(_, case)| is_lost(case)).map(|(number, _)| *number).collect();
        for number in lost {
            self.remove(number);
        }
    }

    fn remove(&mut self, number: InvoiceNumber) {
        if let Some(case) = self.by_number.remove(&number) {
            self.take_out(case.partner, (case.due_at, number));
        }
    }

    fn take_out(&mut self, partner: PartnerId, due: (Instant, InvoiceNumber)) {
        if let Some(own) = self.due.get_mut(&partner) {
            own.remove(&due);
            if own.is_empty() {
                self.due.remove(&partner);
            }
        }
    }

    /// When the next payment becomes due that is not due yet; what is due waits for a place.
    fn next_due(&self, now: Instant) -> Option<Instant> {
        let later = (now + Duration::from_nanos(1), InvoiceNumber::new(i64::MIN));
        self.due.values().filter_map(|own| own.range(later..).next()).map(|(at, _)| *at).min()
    }

    /// Takes out of the schedule what is due and finds a place, a payment a partner, around and around. It
    /// stays in the table, so that a scan does not add it twice; an outcome that is known of it goes along.
    fn take_due(
        &mut self,
        now: Instant,
        places: &Admission<PartnerId>,
    ) -> Vec<(InvoiceNumber, Case, Admitted<PartnerId>)> {
        let mut taken = Vec::new();
        let after = (Bound::Excluded(self.last_turn), Bound::Unbounded);
        let mut turns: VecDeque<PartnerId> = self.due.range(after).map(|(partner, _)| *partner).collect();
        turns.extend(self.due.range(..=self.last_turn).map(|(partner, _)| *partner));
        while let Some(partner) = turns.pop_front() {
            let first = self.due.get(&partner).and_then(BTreeSet::first).copied();
            let Some(due) = first.filter(|(at, _)| *at <= now) else { continue };
            let Some(place) = places.admit(partner) else { continue };
            self.take_out(partner, due);
            self.last_turn = partner;
            let case = self.by_number.get_mut(&due.1).expect("what is due is in the table");
            taken.push((due.1, Case { known: case.known.take(), ..case.clone() }, place));
            turns.push_back(partner);
        }
        taken
    }
}

/// What came of one question.
enum Asked {
    /// It is final, or not ours any more.
    Done,
    /// It is still open.
    Open(Case),
}

/// Shows every open payment, in order of number.
pub(crate) async fn each_open(store: &dyn Store, mut show: impl FnMut(Invoice)) -> Result<(), store::Error> {
    let mut after = InvoiceNumber::new(0);
    loop {
        let page = store.pending(after, limits::pending_page).await?;
        let is_full = page.len() >= limits::pending_page as usize;
        for invoice in page {
            after = invoice.number;
            show(invoice);
        }
        if !is_full {
            return Ok(());
        }
    }
}

/// Refuses to start where nobody could ask about an open payment.
pub(crate) async fn check_upstreams(
    store: &dyn Store,
    is_known: impl Fn(UpstreamId) -> bool,
) -> Result<(), StartError> {
    let mut stranded = None;
    each_open(store, |invoice| {
        if !is_known(invoice.upstream) {
            stranded.get_or_insert((invoice.number, invoice.upstream));
        }
    })
    .await?;
    let Some((invoice, upstream)) = stranded else { return Ok(()) };
    let upstreams = store.upstreams().await?;
    let name = upstreams.into_iter().find(|(_, id)| *id == upstream);
    let name = name.map_or_else(|| upstream.0.to_string(), |(name, _)| name);
    Err(StartError::UpstreamMissing { invoice, name })
}

impl Engine {
    /// Runs until the gateway stops.
    pub(crate) async fn resolve(self: Arc<Self>, (upstream, mut handed_over): Work) {
        let bank = Arc::clone(&self.banks[&upstream]);
        let mut cases = Cases::default();
        let mut questions: JoinSet<(InvoiceNumber, Asked)> = JoinSet::new();
        let places = Admission::new(limits::status_questions_parallel_max);
        let mut next_scan = Instant::now();
        loop {
            if next_scan <= Instant::now() {
                self.scan(upstream, bank.as_ref(), &mut cases).await;
                next_scan = Instant::now() + limits::pending_scan_interval;
            }
            for (number, case, place) in cases.take_due(Instant::now(), &places) {
                let engine = Arc::clone(&self);
                questions.spawn(async move {
                    let _place = place;
                    let asked =
                        AssertUnwindSafe(engine.resolve_one(number, case.clone())).catch_unwind().await;
                    // One question that panics must not cost the others their schedule.
                    (number, asked.unwrap_or_else(|_| Asked::Open(engine.later(case))))
                });
            }
            let next_due = cases.next_due(Instant::now());
            tokio::select! {
                biased;
                () = self.stopping.cancelled() => break,
                Some(open) = handed_over.recv() => {
                    let due_at = self.first_question(open.known.is_some());
                    let Open { number, partner, not_before, known } = open;
                    let case = Case {
                        partner,
                        not_before,
                        resolve_after: None,
                        due_at,
                        asks_from: None,
                        asked: 0,
                        known,
                        reported_long: false,
                        fence: None,
                    };
                    cases.put(number, case);
                }
                Some(asked) = questions.join_next() => match asked {
                    Ok((number, Asked::Done)) => cases.remove(number),
                    Ok((number, Asked::Open(case))) => cases.put_back(number, case),
                    Err(error) => tracing::error!(%error, "a status question was lost"),
                },
                () = sleep_until(next_due.unwrap_or(next_scan).min(next_scan)) => {}
            }
        }
        // Questions under way may still bring an outcome worth booking; they are short.
        questions.abort_all();
    }

    fn first_question(&self, outcome_is_known: bool) -> Instant {
        let pause =
            if outcome_is_known { Duration::from_millis(100) } else { self.settings.status_question_pause };
        Instant::now() + pause
    }

    /// Finds the upstream's open payments that nobody in this process looks after: of an earlier run, or
    /// another gateway's. Where several gateways share the store, only the lease's holder looks, and leaves
    /// young payments to whoever began them.
    async fn scan(&self, upstream: UpstreamId, bank: &dyn Bank, cases: &mut Cases) {
        let (fence, left_alone_for) = match self.leases.holding(&leases::resolver(upstream)) {
            Holds::Alone => (None, Duration::ZERO),
            Holds::Under(fence) => (Some(fence), self.own_for(bank)),
            Holds::No => return cases.retain_under(None),
        };
        cases.retain_under(fence.as_ref());
        let read = each_open(self.store.as_ref(), |invoice| {
            if invoice.upstream != upstream
                || cases.by_number.contains_key(&invoice.number)
                || self.is_running(invoice.number)
            {
                return;
            }
            let Some(attempt) = invoice.state.attempt() else { return };
            let (begun_at, clock) = (attempt.begun_at, self.clock.now());
            let is_of_the_future = begun_at > clock;
            if !is_of_the_future && clock.since(begun_at) < left_alone_for {
                return;
            }
            // Whoever began it may have had longer times than are configured here.
            let own_horizon = self.settings.send_within + bank.profile().horizon;
            let now = Instant::now();
            let case = Case {
                partner: invoice.partner,
                not_before: now + own_horizon.max(attempt.resolve_after.since(begun_at)),
                resolve_after: Some(attempt.resolve_after),
                // By a clock that is wrong, here or there, its age is not known: it may be young.
                due_at: if is_of_the_future { now + left_alone_for } else { now },
                asks_from: None,
                asked: 0,
                known: None,
                reported_long: false,
                fence: fence.clone(),
            };
            cases.put(invoice.number, case);
        });
        if let Err(error) = read.await {
            return tracing::warn!(%error, "failed to look for open payments");
        }
        if let Ok(open) = self.store.pending_count().await {
            metrics::gauge!("esamsat_payments_pending")
                .set(f64::from(u32::try_from(open).unwrap_or(u32::MAX)));
        }
    }

    /// For how long a payment is its own gateway's alone to ask about: until no answer can come to it any more.
    fn own_for(&self, bank: &dyn Bank) -> Duration {
        self.settings.send_within + bank.profile().answer_timeout + limits::orphan_age_margin
    }

    async fn resolve_one(&self, number: InvoiceNumber, mut case: Case) -> Asked {
        let stored = match self.store.invoice(number).await {
            Ok(Some(stored)) => stored,
            Ok(None) => return Asked::Done,
            Err(error) => {
                tracing::warn!(invoice = %number, %error, "failed to read an open payment");
                return Asked::Open(self.later(case));
            }
        };
        let State::Pending { attempt } = &stored.invoice.state else { return Asked::Done };
        let (Some(facts), Some(bank)) =
            (PaymentFacts::of(&stored.invoice), self.banks.get(&stored.invoice.upstream))
        else {
            return Asked::Done;
        };
        let age = self.clock.now().since(attempt.begun_at);
        if age > self.settings.pending_long_after && !case.reported_long {
            case.reported_long = true;
            let detail = format!("open since {}", attempt.begun_at.tanggal());
            self.raise_incident(Some(number), IncidentKind::PendingLong, detail);
        }
        let asked_instant = Instant::now();
        let question = bank.profile().question;
        let is_others = case.fence.is_none()
            && age > self.own_for(bank.as_ref())
            && asked_instant >= case.not_before
            && self.leases.holding(&leases::resolver(facts.upstream)) == Holds::No;
        let known = match &case.known {
            Some(known) => Some(known.clone()),
            None => self.ask(bank.as_ref(), &stored, &facts, &mut case).await,
        };
        let Some(known) = known else {
            let is_over = case.asks_from.is_none() && is_others;
            return if is_over { Asked::Done } else { Asked::Open(self.next(case, question)) };
        };
        match self.settle(&facts, &known, case.fence.clone()).await {
            Ok(_) | Err(crate::Failure::Rejected(Rejection::LeaseLost)) => Asked::Done,
            Err(crate::Failure::Rejected(rejection)) => {
                tracing::error!(invoice = %number, %rejection, "an outcome cannot be booked");
                case.known = None;
                Asked::Open(self.later(case))
            }
            Err(_) => {
                case.known = Some(known);
                Asked::Open(self.later(case))
            }
        }
    }

    /// Asks the bank once; `None` while the outcome is unknown.
    async fn ask(
        &self,
        bank: &dyn Bank,
        stored: &StoredInvoice,
        facts: &PaymentFacts,
        case: &mut Case,
    ) -> Option<Known> {
        let invoice = &stored.invoice;
        let attempt = invoice.state.attempt()?;
        // Both clocks are read before the question leaves.
        let (asked_at, asked_instant) = (self.clock.now(), Instant::now());
        let horizon = bank.profile().horizon;
        let put_off_for = self.settings.send_within + horizon;
        // Before its first request can have left for the last time, a refusal is of nothing.
        let has_left = asked_at >= attempt.send_before && asked_instant + horizon >= case.not_before;
        if case.is_put_off_by_another(attempt) {
            // It asked by its own clock: by ours, what it sent may be as young as this.
            case.not_before = case.not_before.max(asked_instant + put_off_for);
        }
        case.resolve_after = Some(attempt.resolve_after);
        let is_quiet = asked_instant >= case.not_before && asked_at >= attempt.resolve_after;
        let question = bank.profile().question;
        // Only what can no longer arrive may be overtaken by a reversal.
        if question == Question::Reverses && !is_quiet {
            return None;
        }
        let counts_from = bank.not_paid_counts_from(&attempt.identity)?;
        // An answer that could not be believed would only put off when one can.
        if is_quiet && question != Question::Reverses && counts_from > Instant::now() {
            case.asks_from = Some(counts_from);
            return None;
        }
        let send_within = self.settings.send_within;
        let send_before = asked_at.plus(send_within);
        let (counts, put_off_until) = if question == Question::Asks {
            (is_quiet, None)
        } else {
            let millisecond = Duration::from_millis(1);
            let until = send_before.plus(horizon).max(attempt.resolve_after.plus(millisecond));
            let command = Command::PutOffResolution(Box::new(PutOffResolution {
                facts: facts.clone(),
                resolve_after: until,
                rest: put_off_for,
                reverses: question == Question::Reverses,
                fence: case.fence.clone(),
                at: asked_at,
            }));
            match self.journal.submit(command).await {
                Ok(Accepted::PutOff { counts }) => {
                    case.not_before = asked_instant + put_off_for;
                    case.resolve_after = Some(until);
                    (counts && is_quiet, Some(until))
                }
                Err(crate::Failure::Rejected(Rejection::AlreadyProposed)) => {
                    tracing::info!(invoice = %invoice.number, "not asked: operators have proposed how it ends");
                    return None;
                }
                // Settled meanwhile, or looked after by another gateway, or not written: nothing is sent.
                Ok(_) | Err(_) => return None,
            }
        };
        let request = PaymentRequest {
            invoice: invoice.number,
            identity: attempt.identity.clone(),
            product: invoice.product.clone(),
            nik: stored.presentment.nik().clone(),
            chassis: invoice.chassis.clone(),
            payment_code: invoice.payment_code.clone()?,
            amount: invoice.amount_due(),
            terms: invoice.upstream_terms,
            send_before: SendBefore { wall: send_before, monotonic: asked_instant + send_within },
        };
        metrics::counter!("esamsat_status_questions_total").increment(1);
        let answer = tokio::time::timeout(bank.profile().answer_timeout, bank.status(request)).await;
        let outcome = match answer.unwrap_or(StatusOutcome::Unknown(bank::Unknown::TimedOut)) {
            StatusOutcome::Paid(paid) => self.judge_paid(invoice, paid),
            StatusOutcome::NotPaid => (counts && bank.profile().definitive_status)
                .then_some(Outcome::NotPaid(NotPaidProof::NotFound { asked_at })),
            StatusOutcome::Refused(refusal) => {
                has_left.then_some(Outcome::NotPaid(NotPaidProof::Refused { refusal }))
            }
            StatusOutcome::PaidByAnother => (counts && bank.profile().definitive_status)
                .then_some(Outcome::NotPaid(NotPaidProof::PaidByAnother)),
            StatusOutcome::PayerUnknown => {
                let detail = "the bill is paid; the bank cannot tell by whom".to_owned();
                self.raise_incident(Some(invoice.number), IncidentKind::PayerUnknown, detail);
                None
            }
            StatusOutcome::UnderWay => None,
            StatusOutcome::Unknown(unknown) => {
                self.note_unknown(invoice.number, &unknown);
                None
            }
        };
        outcome.map(|outcome| Known { outcome, put_off_until })
    }

    /// When to ask again. A question that may itself pay puts off when its answer counts: after a few quick
    /// ones, each waits until nothing of the one before can arrive.
    fn next(&self, case: Case, question: Question) -> Case {
        let not_before = case.not_before + Duration::from_millis(50);
        let mut case = self.later(case);
        let is_patient = match question {
            Question::Asks => false,
            Question::Executes => case.asked >= limits::quick_executing_questions,
            Question::Reverses => true,
        };
        if is_patient {
            case.due_at = case.due_at.max(not_before);
        }
        case
    }

    /// Doubles the pause, with jitter, but asks as soon as "not found" begins to count.
    fn later(&self, mut case: Case) -> Case {
        if let Some(asks_from) = case.asks_from.take() {
            case.due_at = asks_from;
            return case;
        }
        let doubled = self.settings.status_question_pause.saturating_mul(1 << case.asked.min(16));
        // What is known is only to be written, which costs the bank nothing.
        let longest = if case.known.is_some() {
            limits::known_outcome_pause_max
        } else {
            limits::status_question_pause_max
        };
        let pause = doubled.min(longest).mul_f64(0.75 + self.ids.fraction() / 2.0);
        let now = Instant::now();
        let by_back_off = now + pause;
        let horizon = case.not_before + Duration::from_millis(50);
        case.due_at = if horizon > now { by_back_off.min(horizon) } else { by_back_off };
        case.asked += 1;
        case
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn case(partner: u32, due_at: Instant, known: Option<Known>) -> Case {
        let partner = PartnerId(partner);
        Case {
            partner,
            not_before: due_at,
            resolve_after: None,
            due_at,
            asks_from: None,
            asked: 0,
            known,
            reported_long: false,
            fence: None,
        }
    }

    #[test]
    fn cases_are_taken_when_due_and_stay_known() {
        let now = Instant::now();
        let places = Admission::new(100);
        let mut cases = Cases::default();
        cases.put(InvoiceNumber::new(1), case(1, now, None));
        cases.put(InvoiceNumber::new(2), case(1, now + Duration::from_secs(1), None));
        cases.put(InvoiceNumber::new(3), case(1, now, None));
        let due: Vec<_> = cases.take_due(now, &places).into_iter().map(|(number, ..)| number.get()).collect();
        assert_eq!(due, [1, 3]);
        assert!(cases.by_number.contains_key(&InvoiceNumber::new(1)));
        assert!(cases.take_due(now, &places).is_empty());
        assert_eq!(cases.next_due(now), Some(now + Duration::from_secs(1)));
        cases.remove(InvoiceNumber::new(2));
        assert!(cases.due.is_empty());
    }

    #[test]
    fn a_partner_with_much_open_does_not_keep_others_waiting() {
        let now = Instant::now();
        let places = Admission::new(32);
        let mut cases = Cases::default();
        for number in 0..700 {
            cases.put(InvoiceNumber::new(number), case(1, now, None));
        }
        let storm = cases.take_due(now, &places);
        assert_eq!(storm.len(), 16, "half of the places");
        cases.put(InvoiceNumber::new(1_000), case(2, now, None));
        let next = cases.take_due(now, &places);
        assert_eq!(next.iter().map(|(number, ..)| number.get()).collect::<Vec<_>>(), [1_000]);
        assert_eq!(cases.next_due(now), None, "the rest waits for a place");
    }

    #[test]
    fn an_outcome_handed_over_during_a_question_is_kept() {
        let now = Instant::now();
        let number = InvoiceNumber::new(1);
        let mut cases = Cases::default();
        cases.put(number, case(1, now, None));
        let (_, asking, _place) = cases.take_due(now, &Admission::new(2)).remove(0);
        let outcome = Outcome::NotPaid(NotPaidProof::NeverSent);
        cases.put(number, case(1, now, Some(Known { outcome, put_off_until: None })));
        cases.put_back(number, asking);
        assert!(cases.by_number[&number].known.is_some());
        assert_eq!(cases.due.len(), 1);
    }

    #[test]
    fn an_outcome_that_could_not_be_booked_does_not_come_back() {
        let now = Instant::now();
        let number = InvoiceNumber::new(1);
        let mut cases = Cases::default();
        let outcome = Outcome::NotPaid(NotPaidProof::NeverSent);
        cases.put(number, case(1, now, Some(Known { outcome, put_off_until: None })));
        let (_, booking, _place) = cases.take_due(now, &Admission::new(2)).remove(0);
        assert!(booking.known.is_some());
        cases.put_back(number, Case { known: None, ..booking });
        assert!(cases.by_number[&number].known.is_none(), "it would be booked in vain again and again");
    }
}
