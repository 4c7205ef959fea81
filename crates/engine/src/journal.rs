//! The journal: the one way to change durable state.
//!
//! One task takes what has queued up as one batch and hands it to the store, which decides and commits it
//! in one transaction; then everybody is answered. So one fsync serves many, and with nobody waiting a
//! batch is one command with no added delay.
//!
//! - Settlements have a lane of their own, served first and never refused.
//! - Partners take turns, in order within each.
//! - The queue is bounded: a full one refuses at once, before anything is done.
//! - A batch whose rows the store refuses is split until the culprit stands alone.
//! - A lost commit answer is settled by the batch id before anybody is answered.
//! - When the store can no longer be trusted, the journal stops for good and the process must exit.

use crate::{Ids, limits};
use domain::{Accepted, Command, Decision, PartnerId, Rejection, Slot};
use futures::{FutureExt, future::BoxFuture};
use std::{
    collections::{HashMap, VecDeque},
    panic::AssertUnwindSafe,
    sync::{Arc, Mutex, PoisonError},
};
use store::{Batch, Store};
use tokio::sync::{Notify, oneshot, watch};

/// Why a command was not carried out.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// It would have broken a rule. Nothing was written.
    #[error(transparent)]
    Rejected(#[from] Rejection),
    /// The queue is full. Nothing was written.
    #[error("the queue is full; try again")]
    Busy,
    /// The store cannot write now. Nothing was written.
    #[error("{0}")]
    Unavailable(String),
    /// The journal has stopped. What was under way may or may not be written.
    #[error("the journal has stopped: {0}")]
    Stopped(String),
}

/// A command on its way, and who waits for its decision.
struct Job {
    command: Command,
    answer: oneshot::Sender<Result<Accepted, Failure>>,
}

#[derive(Default)]
struct Queue {
    settlements: VecDeque<Job>,
    /// Partners with something waiting, the next one first; 0 stands for the gateway's own work.
    turns: VecDeque<PartnerId>,
    waiting: HashMap<PartnerId, VecDeque<Job>>,
    waiting_count: usize,
}

impl Queue {
    fn push(&mut self, job: Job) {
        if job.command.is_settlement() {
            self.settlements.push_back(job);
            return;
        }
        let partner = job.command.partner().unwrap_or(PartnerId(0));
        let own = self.waiting.entry(partner).or_default();
        if own.is_empty() {
            self.turns.push_back(partner);
        }
        own.push_back(job);
        self.waiting_count += 1;
    }

    /// Settlements first, then one command a partner, around and around.
    fn take_batch(&mut self, max: usize) -> Vec<Job> {
        let mut batch: Vec<Job> = Vec::with_capacity(max.min(self.settlements.len() + self.waiting_count));
        while batch.len() < max {
            let Some(job) = self.settlements.pop_front().or_else(|| self.pop_turn()) else { break };
            batch.push(job);
        }
        batch
    }

    fn pop_turn(&mut self) -> Option<Job> {
        let partner = self.turns.pop_front()?;
        let own = self.waiting.get_mut(&partner).expect("a partner with a turn has something waiting");
        let job = own.pop_front().expect("a partner with a turn has something waiting");
        self.waiting_count -= 1;
        if own.is_empty() {
            self.waiting.remove(&partner);
        } else {
            self.turns.push_back(partner);
        }
        Some(job)
    }
}

/// What the journal is doing.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Phase {
    Running,
    /// Writes what is queued and takes no more.
    Stopping,
    /// Wrote all it was given, and ended.
    Ended,
    /// Ended since the store can no longer be trusted: what was under way may or may not be written.
    Failed(String),
}

struct Shared {
    queue: Mutex<Queue>,
    queue_max: usize,
    wake: Notify,
    phase: watch::Sender<Phase>,
}

/// The handle; the task behind it ends with [`Journal::stop`] or a store that cannot be trusted.
pub(crate) struct Journal {
    shared: Arc<Shared>,
}

impl Journal {
    pub(crate) fn start(store: Arc<dyn Store>, ids: Arc<Ids>, slot: Slot, queue_max: usize) -> Self {
        let shared = Arc::new(Shared {
            queue: Mutex::default(),
            queue_max,
            wake: Notify::new(),
            phase: watch::Sender::new(Phase::Running),
        });
        let writer = Writer { shared: Arc::clone(&shared), store, ids, slot };
        tokio::spawn(writer.run());
        Self { shared }
    }

    /// Queues a command and waits for its decision. Dropping the future takes nothing back.
    pub(crate) async fn submit(&self, command: Command) -> Result<Accepted, Failure> {
        self.submit_detached(command).await
    }

    /// Queues a command at once; the future waits for its decision and borrows nothing.
    pub(crate) fn submit_detached(
        &self,
        command: Command,
    ) -> impl Future<Output = Result<Accepted, Failure>> + Send + 'static {
        let queued = self.queue(command);
        async move {
            let stopped = || Failure::Stopped("it ended before the command was decided".to_owned());
            queued?.await.unwrap_or_else(|_| Err(stopped()))
        }
    }

    fn queue(&self, command: Command) -> Result<oneshot::Receiver<Result<Accepted, Failure>>, Failure> {
        let (answer, decided) = oneshot::channel();
        {
            let mut queue = self.shared.queue.lock().unwrap_or_else(PoisonError::into_inner);
            // Looked at under the queue's lock: the writer empties the queue under it once it has stopped.
            match &*self.shared.phase.borrow() {
                Phase::Running => {}
                Phase::Stopping if command.is_settlement() => {}
                Phase::Failed(why) => return Err(Failure::Stopped(why.clone())),
                Phase::Ended if command.is_settlement() => {
                    return Err(Failure::Stopped("it was shut down".to_owned()));
                }
                Phase::Stopping | Phase::Ended => return Err(Failure::Busy),
            }
            if queue.waiting_count >= self.shared.queue_max && !command.is_settlement() {
                return Err(Failure::Busy);
            }
            queue.push(Job { command, answer });
        }
        self.shared.wake.notify_one();
        Ok(decided)
    }

    /// Why the journal has stopped, if it has.
    pub(crate) fn stopped(&self) -> Option<String> {
        match &*self.shared.phase.borrow() {
            Phase::Failed(why) => Some(why.clone()),
            Phase::Ended => Some("it was shut down".to_owned()),
            Phase::Running | Phase::Stopping => None,
        }
    }

    /// Resolves when the journal has stopped, with the reason.
    pub(crate) async fn failed(&self) -> String {
        let mut phase = self.shared.phase.subscribe();
        match phase.wait_for(|phase| matches!(phase, Phase::Ended | Phase::Failed(_))).await.as_deref() {
            Ok(Phase::Failed(why)) => why.clone(),
            _ => "it was shut down".to_owned(),
        }
    }

    /// Writes what is queued, takes no more, and ends.
    pub(crate) async fn stop(&self) {
        self.shared.phase.send_if_modified(|phase| {
            let running = *phase == Phase::Running;
            if running {
                *phase = Phase::Stopping;
            }
            running
        });
        self.shared.wake.notify_one();
        self.failed().await;
    }
}

/// The task that writes.
struct Writer {
    shared: Arc<Shared>,
    store: Arc<dyn Store>,
    ids: Arc<Ids>,
    slot: Slot,
}

impl Writer {
    async fn run(self) {
        let last = loop {
            let jobs = {
                let mut queue = self.shared.queue.lock().unwrap_or_else(PoisonError::into_inner);
                metrics::gauge!("esamsat_journal_waiting").set(queue_depth(&queue));
                queue.take_batch(limits::batch_commands_max)
            };
            if jobs.is_empty() {
                if *self.shared.phase.borrow() == Phase::Stopping {
                    break Phase::Ended;
                }
                self.shared.wake.notified().await;
                continue;
            }
            metrics::histogram!("esamsat_journal_batch_commands").record(queue_size(jobs.len()));
            let (commands, answers): (Vec<_>, Vec<_>) =
                jobs.into_iter().map(|job| (job.command, job.answer)).unzip();
            // After a panic nobody knows what is written; those who wait must not wait for ever.
            let written = AssertUnwindSafe(self.write(commands, answers)).catch_unwind().await;
            if let Err(why) = written.unwrap_or_else(|_| Err("the store panicked".to_owned())) {
                tracing::error!(%why, "the store can no longer be trusted; the journal stops");
                break Phase::Failed(why);
            }
        };
        // Nothing is pushed after this, since `submit` looks at the phase under the queue's lock.
        let mut queue = self.shared.queue.lock().unwrap_or_else(PoisonError::into_inner);
        let failure = match &last {
            Phase::Failed(why) => Failure::Stopped(why.clone()),
            _ => Failure::Busy,
        };
        self.shared.phase.send_replace(last);
        for job in queue.take_batch(usize::MAX) {
            let _gone = job.answer.send(Err(failure.clone()));
        }
    }

    /// Writes a batch and answers everybody. The error is fatal.
    fn write(
        &self,
        mut commands: Vec<Command>,
        mut answers: Vec<oneshot::Sender<Result<Accepted, Failure>>>,
    ) -> BoxFuture<'_, Result<(), String>> {
        Box::pin(async move {
            let id = self.ids.batch();
            let batch = Batch { id, slot: self.slot, commands: commands.clone() };
            let failure = match self.store.apply(batch).await {
                Ok(decisions) => {
                    answer_all(answers, decisions);
                    return Ok(());
                }
                Err(store::Error::Ambiguous { reason, decisions }) => {
                    tracing::warn!(%reason, batch = ?id, "a commit's answer was lost; asking for the batch");
                    if self.was_committed(id).await? {
                        answer_all(answers, decisions);
                        return Ok(());
                    }
                    Failure::Unavailable(reason)
                }
                Err(store::Error::Data(reason)) if commands.len() > 1 => {
                    tracing::warn!(%reason, commands = commands.len(), "a batch was refused; splitting it");
                    let half = commands.len() / 2;
                    let (later_commands, later_answers) = (commands.split_off(half), answers.split_off(half));
                    self.write(commands, answers).await?;
                    return self.write(later_commands, later_answers).await;
                }
                Err(store::Error::Data(reason)) => {
                    tracing::error!(%reason, "the store refused a command's rows");
                    Failure::Rejected(Rejection::Impossible)
                }
                Err(error @ (store::Error::Full(_) | store::Error::Unavailable(_))) => {
                    tracing::warn!(%error, "a batch was not written");
                    Failure::Unavailable(error.to_string())
                }
                Err(store::Error::Fatal(why)) => {
                    for answer in answers {
                        let _gone = answer.send(Err(Failure::Stopped(why.clone())));
                    }
                    return Err(why);
                }
            };
            for answer in answers {
                let _gone = answer.send(Err(failure.clone()));
            }
            Ok(())
        })
    }

    /// Asks until the store knows. Nobody is answered before.
    async fn was_committed(&self, id: store::BatchId) -> Result<bool, String> {
        let mut pause = limits::ambiguous_ask_interval;
        loop {
            match self.store.batch_committed(id).await {
                Ok(committed) => return Ok(committed),
                Err(store::Error::Fatal(why)) => return Err(why),
                Err(error) => tracing::warn!(%error, batch = ?id, "failed to ask for a batch; asking again"),
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(limits::ambiguous_ask_interval * 20);
        }
    }
}

fn answer_all(answers: Vec<oneshot::Sender<Result<Accepted, Failure>>>, decisions: Vec<Decision>) {
    assert_eq!(answers.len(), decisions.len(), "a store decides every command of a batch");
    for (answer, decision) in answers.into_iter().zip(decisions) {
        // Whoever hung up is not waited for; the decision stands.
        let _gone = answer.send(decision.map_err(Failure::Rejected));
    }
}

fn queue_depth(queue: &Queue) -> f64 {
    queue_size(queue.settlements.len() + queue.waiting_count)
}

/// Metrics are floating point; queue sizes are far below where that loses anything.
fn queue_size(size: usize) -> f64 {
    f64::from(u32::try_from(size).unwrap_or(u32::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;
    use domain::{
        InvoiceNumber, Timestamp,
        command::{RaiseIncident, TopUp},
        record::IncidentKind,
    };
    use store::model::Model;

    fn job(command: Command) -> Job {
        Job { command, answer: oneshot::channel().0 }
    }

    fn settlement() -> Command {
        Command::RaiseIncident(Box::new(RaiseIncident {
            invoice: Some(InvoiceNumber::new(1)),
            kind: IncidentKind::Garbled,
            detail: "test".to_owned(),
            at: Timestamp::default(),
        }))
    }

    fn own_work() -> Command {
        Command::ReserveInvoiceNumbers { count: 1 }
    }

    #[test]
    fn settlements_come_before_everything() {
        let mut queue = Queue::default();
        queue.push(job(own_work()));
        queue.push(job(settlement()));
        let batch = queue.take_batch(10);
        assert!(batch[0].command.is_settlement());
        assert_eq!(batch.len(), 2);
    }

    #[tokio::test]
    async fn a_full_queue_refuses_and_settlements_are_never_shed() {
        let journal = Journal::start(Arc::new(Model::default()), Arc::new(Ids::seeded(1)), Slot(0), 0);
        assert_eq!(journal.submit(own_work()).await, Err(Failure::Busy));
        assert_eq!(journal.submit(settlement()).await, Ok(Accepted::Done));
    }

    #[tokio::test]
    async fn a_rejection_harms_nobody_else_and_a_stopped_journal_takes_nothing() {
        let journal = Journal::start(Arc::new(Model::default()), Arc::new(Ids::seeded(1)), Slot(0), 100);
        let nobody = Command::TopUp(Box::new(TopUp {
            environment: domain::Environment::Sandbox,
            partner: PartnerId(9),
            amount: domain::Rupiah::new(1),
            reference: "t".to_owned(),
            operator: "o".to_owned(),
            at: Timestamp::default(),
        }));
        let (rejected, reserved) = tokio::join!(journal.submit(nobody), journal.submit(own_work()));
        assert_eq!(rejected, Err(Failure::Rejected(Rejection::PartnerUnknown)));
        assert!(matches!(reserved, Ok(Accepted::Numbers { .. })));
        journal.stop().await;
        assert_eq!(journal.submit(own_work()).await, Err(Failure::Busy));
        assert!(matches!(journal.submit(settlement()).await, Err(Failure::Stopped(_))));
    }
}
