//! The store as one life of a gateway reaches it: the in-memory model, behind a network and a disk that fail.
//!
//! What is committed survives everything, and the auditor is shown every commit before anybody else hears of it.

use crate::{auditor::Auditor, bugs::Bug, database::Database, gate::Gate, random::Random, record::Record};
use domain::{
    Accepted, Account, Command, Decision, Invoice, InvoiceNumber, NotPaidProof, Partner, Posting, Rejection,
    Timestamp,
    command::{Outcome, PaymentFacts, SettlePayment},
    ledger::{AccountKind, Step},
    record::{Event, Incident},
};
use engine::{domain, store};
use futures::{FutureExt, future::BoxFuture};
use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};
use store::{
    AuditRow, Batch, BatchId, Error, Store, StoredInvoice,
    front::Front,
    model::{Fault, Model},
};
use tokio::time::sleep;

/// What befalls all gateways' store at once.
#[derive(Default)]
pub(crate) struct Weather {
    /// No fault strikes any more.
    pub(crate) is_calm: Arc<AtomicBool>,
    /// The store is away.
    pub(crate) is_away: AtomicBool,
    /// How long a commit takes at most, in milliseconds.
    pub(crate) commit_ms_max: AtomicU64,
    /// How often a commit fails in one way or another, in a thousand.
    pub(crate) commit_faults_permille: AtomicU64,
}

impl Weather {
    pub(crate) fn is_calm(&self) -> bool {
        self.is_calm.load(Ordering::Relaxed)
    }
}

/// What is committed, as the auditor reads it.
#[derive(Clone)]
pub(crate) struct Lens {
    model: Model,
    bug: Option<Bug>,
}

/// The model answers at once.
fn at_once<T>(answer: BoxFuture<'_, Result<T, Error>>) -> T {
    answer.now_or_never().expect("the model answers at once").expect("the model can be read")
}

impl Lens {
    pub(crate) fn new(model: Model, bug: Option<Bug>) -> Self {
        Self { model, bug }
    }

    pub(crate) fn invoice(&self, number: i64) -> Option<Invoice> {
        at_once(self.model.invoice(InvoiceNumber::new(number))).map(|stored| stored.invoice)
    }

    /// All invoices, in order.
    pub(crate) fn invoices(&self) -> Vec<Invoice> {
        let rows = self.rows().into_iter();
        let invoices = rows.filter_map(|row| match row {
            AuditRow::Invoice(invoice) => Some(*invoice),
            _ => None,
        });
        invoices.collect()
    }

    pub(crate) fn partners(&self) -> Vec<Partner> {
        at_once(self.model.partners())
    }

    pub(crate) fn events(&self, after: i64) -> Vec<(i64, Event)> {
        at_once(self.model.events(after, u32::MAX))
    }

    pub(crate) fn postings(&self, subject: i64) -> Vec<Posting> {
        let mut postings = at_once(self.model.postings(subject));
        postings.retain(|posting| !self.is_lost(posting));
        postings
    }

    /// A row that a faulty store would have lost.
    fn is_lost(&self, posting: &Posting) -> bool {
        self.bug == Some(Bug::DebitMissing)
            && posting.subject % 5 == 0
            && posting.step == Step::Begin
            && posting.account.kind == AccountKind::Deposit
    }

    pub(crate) fn balances(&self) -> BTreeMap<Account, i64> {
        let balances = at_once(self.model.balances());
        balances.into_iter().map(|(account, amount)| (account, amount.get())).collect()
    }

    pub(crate) fn rows(&self) -> Vec<AuditRow> {
        let rows = Arc::new(Mutex::new(Vec::new()));
        let kept = Arc::clone(&rows);
        let visit = Box::new(move |row| {
            kept.lock().unwrap_or_else(PoisonError::into_inner).push(row);
            true
        });
        at_once(self.model.audit(visit));
        let mut rows = rows.lock().unwrap_or_else(PoisonError::into_inner);
        rows.retain(|row| !matches!(row, AuditRow::Posting(posting) if self.is_lost(posting)));
        std::mem::take(&mut *rows)
    }

    pub(crate) fn pending(&self) -> Vec<Invoice> {
        at_once(self.model.pending(InvoiceNumber::new(0), u32::MAX))
    }

    pub(crate) fn incidents(&self) -> Vec<Incident> {
        at_once(self.model.incidents(u32::MAX))
    }
}

/// What a faulty replica still shows: invoices as they were, and until when.
pub(crate) type Stale = Arc<Mutex<BTreeMap<i64, (Duration, StoredInvoice)>>>;

/// The store as one life of a gateway reaches it.
pub(crate) struct Disk {
    pub(crate) model: Model,
    /// What is under the model, where that is a database.
    pub(crate) database: Option<Arc<Database>>,
    pub(crate) gate: Arc<Gate>,
    pub(crate) auditor: Arc<Auditor>,
    pub(crate) record: Arc<Record>,
    pub(crate) weather: Arc<Weather>,
    pub(crate) random: Mutex<Random>,
    pub(crate) bug: Option<Bug>,
    pub(crate) stale: Stale,
}

/// What befalls one commit.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Mishap {
    Full,
    Unavailable,
    Data,
    Fatal,
    LostAfter,
    LostBefore,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What a batch is for, as far as crashes in the middle of it are counted.
fn steps(batch: &Batch) -> (&'static str, &'static str, Option<i64>) {
    let found = batch.commands.iter().find_map(|command| match command {
        Command::BeginPayment(begin) => {
            Some(("crash before a reservation", "crash after a reservation", begin.facts.invoice))
        }
        Command::SettlePayment(settle) => {
            Some(("crash before a settlement", "crash after a settlement", settle.facts.invoice))
        }
        Command::PutOffResolution(put_off) => {
            Some(("crash before putting off", "crash after putting off", put_off.facts.invoice))
        }
        _ => None,
    });
    match found {
        Some((before, after, invoice)) => (before, after, Some(invoice.get())),
        None => ("crash before another commit", "crash after another commit", None),
    }
}

impl Disk {
    fn mishap(&self, batch: &Batch) -> Option<Mishap> {
        if self.weather.is_calm() {
            return None;
        }
        let mut random = locked(&self.random);
        if !random.permille(self.weather.commit_faults_permille.load(Ordering::Relaxed)) {
            return None;
        }
        let mishap = random.weighted(&[
            (4, Mishap::Unavailable),
            (3, Mishap::Full),
            (3, Mishap::Data),
            (1, Mishap::Fatal),
            (6, Mishap::LostAfter),
            (6, Mishap::LostBefore),
        ]);
        // Only of several commands can one be the culprit that stands alone at last.
        (mishap != Mishap::Data || batch.commands.len() > 1).then_some(mishap)
    }

    fn keep_stale(&self, batch: &Batch) {
        if self.bug != Some(Bug::StaleReplica) {
            return;
        }
        for command in &batch.commands {
            if let Command::SettlePayment(settle) = command {
                let number = settle.facts.invoice;
                if let Some(stored) = at_once(self.model.invoice(number)) {
                    let until = self.record.elapsed() + Duration::from_secs(3);
                    locked(&self.stale).insert(number.get(), (until, stored));
                }
            }
        }
    }

    fn commit(&self, mut batch: Batch) -> Result<Vec<Decision>, Error> {
        self.keep_stale(&batch);
        let wanted = batch.commands.len();
        if self.bug == Some(Bug::RefundOnAge) {
            let pending = at_once(self.model.pending(InvoiceNumber::new(0), u32::MAX));
            batch.commands.extend(pending.iter().filter_map(|invoice| self.refund_on_age(invoice)));
        }
        let write = || {
            let written = self.model.apply(batch.clone()).now_or_never();
            let decided = written.expect("the model answers at once");
            if let Ok(decisions) = &decided {
                self.auditor.committed(&batch, decisions);
            }
            decided
        };
        let mut decided = match &self.database {
            Some(database) => database.apply(&batch, write),
            None => write(),
        };
        if let Ok(decisions) = &mut decided {
            decisions.truncate(wanted);
            if self.bug == Some(Bug::IdempotencyByCache) {
                self.begin_again(&batch, decisions);
            }
        }
        decided
    }

    fn refund_on_age(&self, invoice: &Invoice) -> Option<Command> {
        let now = self.record.now();
        let is_old = now.since(invoice.state.attempt()?.begun_at) > Duration::from_secs(20);
        let settle = SettlePayment {
            facts: PaymentFacts::of(invoice)?,
            outcome: Outcome::NotPaid(NotPaidProof::NeverSent),
            fence: None,
            put_off_until: None,
            at: now,
        };
        is_old.then(|| Command::SettlePayment(Box::new(settle)))
    }

    /// A second beginning is answered like the first.
    fn begin_again(&self, batch: &Batch, decisions: &mut [Decision]) {
        for (command, decision) in batch.commands.iter().zip(decisions) {
            if let (Command::BeginPayment(begin), Err(Rejection::InvoicePending)) = (command, &decision)
                && let Some(stored) = at_once(self.model.invoice(begin.facts.invoice))
            {
                *decision = Ok(Accepted::Invoice(Box::new(stored.invoice)));
            }
        }
    }

    /// What the batch comes to, though it is not written.
    async fn promise(&self, batch: Batch) -> Result<Vec<Decision>, Error> {
        self.model.fail_next(Fault::AnswerLostBeforeCommit);
        match self.model.apply(batch).await {
            Err(Error::Ambiguous { decisions, .. }) => Ok(decisions),
            other => other,
        }
    }

    fn is_struck(&self, bug: Bug, permille: u64) -> bool {
        self.bug == Some(bug) && !self.weather.is_calm() && locked(&self.random).permille(permille)
    }
}

impl Front for Disk {
    fn behind(&self) -> &dyn Store {
        match &self.database {
            Some(database) => database.store(),
            None => &self.model,
        }
    }

    /// Takes as long as the network and the disk do.
    fn reach(&self) -> BoxFuture<'_, Result<(), Error>> {
        Box::pin(async {
            self.gate.open().await;
            if self.weather.is_away.load(Ordering::Relaxed) {
                sleep(Duration::from_millis(300)).await;
                self.gate.open().await;
                return Err(Error::Unavailable("the store is away".to_owned()));
            }
            Ok(())
        })
    }

    fn write(&self, batch: Batch) -> BoxFuture<'_, Result<Vec<Decision>, Error>> {
        Box::pin(async move {
            let (before, after, invoice) = steps(&batch);
            self.auditor.handed_in(&batch);
            self.gate.step(before, invoice).await;
            self.reach().await.inspect_err(|_| self.record.probe("store: away"))?;
            let longest = self.weather.commit_ms_max.load(Ordering::Relaxed);
            let pause = locked(&self.random).below(longest.max(1));
            let mishap = self.mishap(&batch);
            sleep(Duration::from_millis(pause)).await;
            self.gate.open().await;
            let reason = || "simulated".to_owned();
            let fault = |name| self.record.fault(name, invoice, self.gate.name());
            // A database has a disk of its own to lie.
            if self.database.is_none() && self.is_struck(Bug::FsyncLies, 20) {
                return self.promise(batch).await;
            }
            let is_begin = batch.commands.iter().any(|it| matches!(it, Command::BeginPayment(_)));
            if is_begin && self.is_struck(Bug::DebitAfterSend, 200) {
                let promised = self.promise(batch.clone()).await;
                let (model, auditor) = (self.model.clone(), Arc::clone(&self.auditor));
                tokio::spawn(async move {
                    sleep(Duration::from_millis(500)).await;
                    if let Ok(decisions) = model.apply(batch.clone()).await {
                        auditor.committed(&batch, &decisions);
                    }
                });
                return promised;
            }
            let decisions = match mishap {
                Some(Mishap::Full) => {
                    fault("store: full");
                    return Err(Error::Full(reason()));
                }
                Some(Mishap::Unavailable) => {
                    fault("store: a batch refused");
                    return Err(Error::Unavailable(reason()));
                }
                Some(Mishap::Data) => {
                    fault("store: a batch split");
                    return Err(Error::Data(reason()));
                }
                Some(Mishap::Fatal) => {
                    fault("store: not to be trusted");
                    return Err(Error::Fatal(reason()));
                }
                Some(Mishap::LostBefore) => {
                    fault("ambiguous commit: not written");
                    self.model.fail_next(Fault::AnswerLostBeforeCommit);
                    return self.model.apply(batch).await;
                }
                Some(Mishap::LostAfter) => {
                    fault("ambiguous commit: written");
                    let decisions = self.commit(batch)?;
                    return Err(Error::Ambiguous { reason: reason(), decisions });
                }
                None => {
                    let committed = self.commit(batch);
                    // Whoever was killed by it hears nothing.
                    self.gate.open().await;
                    committed?
                }
            };
            self.gate.step(after, invoice).await;
            Ok(decisions)
        })
    }

    fn was_committed(&self, id: BatchId) -> BoxFuture<'_, Result<bool, Error>> {
        Box::pin(async move {
            self.reach().await?;
            if let Some(database) = &self.database {
                let committed = database.batch_committed(id);
                self.gate.open().await;
                committed?;
            }
            let committed = self.model.batch_committed(id).await?;
            Ok(match self.bug {
                Some(Bug::CommitAssumedFailed) => false,
                Some(Bug::CommitAssumedWritten) => true,
                _ => committed,
            })
        })
    }

    fn read_invoice(&self, number: InvoiceNumber) -> BoxFuture<'_, Result<Option<StoredInvoice>, Error>> {
        Box::pin(async move {
            self.reach().await?;
            if let Some((until, stored)) = locked(&self.stale).get(&number.get())
                && self.record.elapsed() < *until
                && number.get() % 2 == 0
            {
                return Ok(Some(stored.clone()));
            }
            self.behind().invoice(number).await
        })
    }

    /// A run is shorter than ids are kept, and seeded ids tell no time.
    fn forget_batches(&self, _moment: Timestamp) -> BoxFuture<'_, Result<(), Error>> {
        Box::pin(std::future::ready(Ok(())))
    }
}
