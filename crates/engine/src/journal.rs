//! The journal: the one way to change durable state.
//!
//! One task takes what has queued up as one batch and hands it to the store, which decides and commits it
//! in one transaction; then everybody is answered. So one fsync serves many, and with nobody waiting a
//! batch is one command with no added delay.
//!
//! There may be several such lanes, each with a share of the house accounts. One partner's money always moves
//! in one lane, so that lanes seldom wait for each other's rows; nothing but speed depends on it.
//!
//! - Settlements have a lane of their own, served first and never refused.
//! - Partners take turns, in order within each.
//! - The queue is bounded: a full one refuses at once, before anything is done.
//! - A batch whose rows the store refuses is split until the culprit stands alone.
//! - A lost commit answer is settled by the batch id before anybody is answered.
//! - While the store is away everything but settlements is refused at once, and the store is asked now and
//!   then whether it is back.
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
use tokio::{
    sync::{Notify, oneshot, watch},
    time::timeout,
};

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

    /// Everything but settlements.
    fn take_waiting(&mut self) -> Vec<Job> {
        std::iter::from_fn(|| self.pop_turn()).collect()
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

/// How the store was left.
enum Standing {
    /// It answers.
    Well,
    /// It does not; why.
    Away(String),
}

/// What a lane is doing.
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
    /// Why nothing can be written just now.
    away: Mutex<Option<String>>,
}

/// The handle; the tasks behind it end with [`Journal::stop`] or a store that cannot be trusted.
pub(crate) struct Journal {
    lanes: Vec<Lane>,
}

impl Journal {
    /// Starts a lane for every slot; they share what may be queued.
    pub(crate) fn start(store: &Arc<dyn Store>, ids: &Arc<Ids>, slots: &[Slot], queue_max: usize) -> Self {
        let queue_max = queue_max.div_ceil(slots.len());
        let asking = Arc::default();
        let lanes = slots
            .iter()
            .map(|slot| {
                Lane::start(Arc::clone(store), Arc::clone(ids), *slot, queue_max, Arc::clone(&asking))
            })
            .collect();
        Self { lanes }
    }

    /// Where a command is written: what moves a partner's money always in one lane, everything else where
    /// the least is waiting.
    fn lane(&self, command: &Command) -> &Lane {
        let place = match command.partner_charged() {
            Some(partner) => usize::try_from(partner.0).unwrap_or(0) % self.lanes.len(),
            None if self.lanes.len() == 1 => 0,
            None => {
                let depth = |lane: &Lane| {
                    let queue = lane.shared.queue.lock().unwrap_or_else(PoisonError::into_inner);
                    queue.settlements.len() + queue.waiting_count
                };
                (0..self.lanes.len()).min_by_key(|place| depth(&self.lanes[*place])).unwrap_or(0)
            }
        };
        &self.lanes[place]
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
        let queued = self.lane(&command).queue(command);
        async move {
            let stopped = || Failure::Stopped("it ended before the command was decided".to_owned());
            queued?.await.unwrap_or_else(|_| Err(stopped()))
        }
    }

    /// Why nothing can be written: for good, or just now.
    pub(crate) fn stopped(&self) -> Option<String> {
        self.lanes.iter().find_map(|lane| lane.stopped().or_else(|| lane.shared.away()))
    }

    /// Resolves when a lane has stopped, with the reason.
    pub(crate) async fn failed(&self) -> String {
        futures::future::select_all(self.lanes.iter().map(|lane| Box::pin(lane.failed()))).await.0
    }

    /// Writes what is queued, takes no more, and ends.
    pub(crate) async fn stop(&self) {
        futures::future::join_all(self.lanes.iter().map(Lane::stop)).await;
    }
}

impl Shared {
    fn away(&self) -> Option<String> {
        self.away.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Refuses whoever comes from here on.
    fn set_away(&self, why: &str) {
        *self.away.lock().unwrap_or_else(PoisonError::into_inner) = Some(why.to_owned());
    }

    /// Refuses whoever waits as well, settlements excepted.
    fn went_away(&self, why: &str) {
        self.set_away(why);
        let refused = self.queue.lock().unwrap_or_else(PoisonError::into_inner).take_waiting();
        for job in refused {
            let _gone = job.answer.send(Err(Failure::Unavailable(why.to_owned())));
        }
    }

    fn came_back(&self) {
        *self.away.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

/// One writer and its queue.
struct Lane {
    shared: Arc<Shared>,
}

impl Lane {
    fn start(
        store: Arc<dyn Store>,
        ids: Arc<Ids>,
        slot: Slot,
        queue_max: usize,
        asking: Arc<tokio::sync::Mutex<()>>,
    ) -> Self {
        let shared = Arc::new(Shared {
            queue: Mutex::default(),
            queue_max,
            wake: Notify::new(),
            phase: watch::Sender::new(Phase::Running),
            away: Mutex::default(),
        });
        let writer = Writer { shared: Arc::clone(&shared), store, ids, slot, asking };
        tokio::spawn(writer.run());
        Self { shared }
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
            if !command.is_settlement() {
                if let Some(why) = self.shared.away() {
                    return Err(Failure::Unavailable(why));
                }
                if queue.waiting_count >= self.shared.queue_max {
                    return Err(Failure::Busy);
                }
            }
            queue.push(Job { command, answer });
        }
        self.shared.wake.notify_one();
        Ok(decided)
    }

    /// Why the lane has stopped, if it has.
    fn stopped(&self) -> Option<String> {
        match &*self.shared.phase.borrow() {
            Phase::Failed(why) => Some(why.clone()),
            Phase::Ended => Some("it was shut down".to_owned()),
            Phase::Running | Phase::Stopping => None,
        }
    }

    /// Resolves when the lane has stopped, with the reason.
    async fn failed(&self) -> String {
        let mut phase = self.shared.phase.subscribe();
        match phase.wait_for(|phase| matches!(phase, Phase::Ended | Phase::Failed(_))).await.as_deref() {
            Ok(Phase::Failed(why)) => why.clone(),
            _ => "it was shut down".to_owned(),
        }
    }

    async fn stop(&self) {
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
    /// Of all lanes one at a time asks whether the store is back.
    asking: Arc<tokio::sync::Mutex<()>>,
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
            let settled = match written.unwrap_or_else(|_| Err("the store panicked".to_owned())) {
                Ok(Standing::Well) if self.shared.away().is_none() => continue,
                Ok(Standing::Well) => self.until_back().await,
                Ok(Standing::Away(why)) => {
                    // What one batch could not have, others may: the store is asked before those who wait suffer.
                    self.shared.set_away(&why);
                    if !matches!(timeout(limits::store_answer_max, self.ask()).await, Ok(Ok(()))) {
                        self.shared.went_away(&why);
                    }
                    self.until_back().await
                }
                Err(why) => Err(why),
            };
            if let Err(why) = settled {
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

    /// Asks the store whether it can be written, one lane at a time. One that panics cannot be trusted.
    async fn ask(&self) -> Result<(), store::Error> {
        let _turn = self.asking.lock().await;
        let asked = AssertUnwindSafe(self.store.check()).catch_unwind().await;
        asked.unwrap_or_else(|_| Err(store::Error::Fatal("the store panicked".to_owned())))
    }

    /// Asks now and then whether the store is back. It returns as well when the lane is to stop: what is queued
    /// then has its one try. The error is fatal.
    async fn until_back(&self) -> Result<(), String> {
        let mut pause = limits::store_away_pause;
        loop {
            match self.ask().await {
                Err(store::Error::Fatal(why)) => return Err(why),
                Err(error) if *self.shared.phase.borrow() != Phase::Stopping => {
                    self.shared.went_away(&error.to_string());
                }
                // Whatever is missing now, it is there to say so.
                Ok(()) | Err(_) => {
                    self.shared.came_back();
                    return Ok(());
                }
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(limits::store_away_pause_max);
        }
    }

    /// Writes a batch and answers everybody. The error is fatal.
    fn write(
        &self,
        mut commands: Vec<Command>,
        mut answers: Vec<oneshot::Sender<Result<Accepted, Failure>>>,
    ) -> BoxFuture<'_, Result<Standing, String>> {
        Box::pin(async move {
            let mut standing = Standing::Well;
            let id = self.ids.batch();
            let batch = Batch { id, slot: self.slot, commands: commands.clone() };
            let failure = match self.store.apply(batch).await {
                Ok(decisions) => {
                    answer_all(answers, decisions);
                    return Ok(standing);
                }
                Err(store::Error::Ambiguous { reason, decisions }) => {
                    tracing::warn!(%reason, batch = ?id, "a commit's answer was lost; asking for the batch");
                    if self.was_committed(id).await? {
                        answer_all(answers, decisions);
                        return Ok(standing);
                    }
                    Failure::Unavailable(reason)
                }
                Err(store::Error::Data(reason)) if commands.len() > 1 => {
                    tracing::warn!(%reason, commands = commands.len(), "a batch was refused; splitting it");
                    let half = commands.len() / 2;
                    let (later_commands, later_answers) = (commands.split_off(half), answers.split_off(half));
                    if let away @ Standing::Away(_) = self.write(commands, answers).await? {
                        standing = away;
                    }
                    return match self.write(later_commands, later_answers).await? {
                        Standing::Well => Ok(standing),
                        away @ Standing::Away(_) => Ok(away),
                    };
                }
                Err(store::Error::Data(reason)) => {
                    tracing::error!(%reason, "the store refused a command's rows");
                    Failure::Rejected(Rejection::Impossible)
                }
                Err(error @ (store::Error::Full(_) | store::Error::Unavailable(_))) => {
                    tracing::warn!(%error, "a batch was not written");
                    if let store::Error::Unavailable(_) = &error {
                        standing = Standing::Away(error.to_string());
                    }
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
            Ok(standing)
        })
    }

    /// Asks until the store knows. Nobody is answered before.
    async fn was_committed(&self, id: store::BatchId) -> Result<bool, String> {
        let mut pause = limits::ambiguous_ask_interval;
        loop {
            match self.store.batch_committed(id).await {
                Ok(committed) => return Ok(committed),
                Err(store::Error::Fatal(why)) => return Err(why),
                Err(error) => {
                    self.shared.went_away(&error.to_string());
                    tracing::warn!(%error, batch = ?id, "failed to ask for a batch; asking again");
                }
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

    fn journal(queue_max: usize) -> Journal {
        let store: Arc<dyn Store> = Arc::new(Model::default());
        Journal::start(&store, &Arc::new(Ids::seeded(1)), &[Slot(0)], queue_max)
    }

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
        let journal = journal(0);
        assert_eq!(journal.submit(own_work()).await, Err(Failure::Busy));
        assert_eq!(journal.submit(settlement()).await, Ok(Accepted::Done));
    }

    #[tokio::test]
    async fn a_rejection_harms_nobody_else_and_a_stopped_journal_takes_nothing() {
        let journal = journal(100);
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
