//! A store that is watched: every batch is written down, faults strike where a test plans them, and every
//! commit is a step that a life can end at.

use super::steps::Steps;
use domain::{Command, Decision};
use engine::{domain, store};
use futures::future::BoxFuture;
use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use store::{
    Batch, BatchId, Error, Store,
    front::{Answer, Front},
};
use tokio::{sync::watch, time::sleep};

/// What befalls a batch.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Fault {
    Full,
    Unavailable,
    Data,
    Fatal,
    /// The batch is written; the answer to the commit is lost.
    LostAfterCommit,
    /// The batch is not written; the answer to the commit is lost.
    LostBeforeCommit,
    /// The batch is written; the answer takes this long.
    SlowAfterCommit(Duration),
    Panic,
}

/// Which commands a fault strikes.
pub(crate) type Which = fn(&Command) -> bool;

pub(crate) fn any(_: &Command) -> bool {
    true
}

pub(crate) fn begin(command: &Command) -> bool {
    matches!(command, Command::BeginPayment(_))
}

pub(crate) fn settle(command: &Command) -> bool {
    matches!(command, Command::SettlePayment(_))
}

struct Planned {
    which: Which,
    fault: Fault,
    times_left: u32,
}

pub(crate) struct Watched {
    inner: Arc<dyn Store>,
    steps: Arc<Steps>,
    planned: Mutex<Vec<Planned>>,
    batches: Mutex<Vec<Vec<Command>>>,
    questions: Mutex<Vec<BatchId>>,
    open: watch::Sender<bool>,
    readable: watch::Sender<bool>,
    checks: Mutex<Checks>,
}

/// What is known of the questions whether the store is well.
#[derive(Clone, Copy, Default)]
pub(crate) struct Checks {
    pub(crate) count: usize,
    pub(crate) under_way: usize,
    pub(crate) under_way_max: usize,
    fail: bool,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Watched {
    pub(crate) fn new(inner: Arc<dyn Store>, steps: Arc<Steps>) -> Arc<Self> {
        Arc::new(Self {
            inner,
            steps,
            planned: Mutex::default(),
            batches: Mutex::default(),
            questions: Mutex::default(),
            open: watch::Sender::new(true),
            readable: watch::Sender::new(true),
            checks: Mutex::default(),
        })
    }

    /// The next `times` batches with such a command meet the fault.
    pub(crate) fn plan(&self, which: Which, fault: Fault, times: u32) {
        lock(&self.planned).push(Planned { which, fault, times_left: times });
    }

    /// Nothing goes wrong any more.
    pub(crate) fn heal(&self) {
        lock(&self.planned).clear();
    }

    /// Whether batches go through; those that do not, wait.
    pub(crate) fn set_open(&self, open: bool) {
        self.open.send_replace(open);
    }

    /// Whether reads go through; those that do not, wait.
    pub(crate) fn set_readable(&self, readable: bool) {
        self.readable.send_replace(readable);
    }

    /// The store is away: every batch is refused, and so is the question whether it is back.
    pub(crate) fn go_away(&self) {
        self.plan(any, Fault::Unavailable, u32::MAX);
        lock(&self.checks).fail = true;
    }

    /// The store is back.
    pub(crate) fn come_back(&self) {
        self.heal();
        lock(&self.checks).fail = false;
    }

    /// The questions so far whether the store is well.
    pub(crate) fn checks(&self) -> Checks {
        *lock(&self.checks)
    }

    /// The process stops at this instruction, or goes on: nothing that it waits for comes, or all of it.
    pub(crate) fn set_paused(&self, paused: bool) {
        self.set_open(!paused);
        self.set_readable(!paused);
    }

    /// Every batch that was handed in so far.
    pub(crate) fn batches(&self) -> Vec<Vec<Command>> {
        lock(&self.batches).clone()
    }

    /// How many commands of this kind were handed in so far.
    pub(crate) fn count(&self, which: Which) -> usize {
        lock(&self.batches).iter().flatten().filter(|command| which(command)).count()
    }

    /// How often the outcome of a batch was asked for.
    pub(crate) fn questions_count(&self) -> usize {
        lock(&self.questions).len()
    }

    fn fault_for(&self, batch: &Batch) -> Option<Fault> {
        let mut planned = lock(&self.planned);
        let struck = planned.iter_mut().find(|planned| {
            planned.times_left > 0 && batch.commands.iter().any(|command| (planned.which)(command))
        })?;
        struck.times_left -= 1;
        Some(struck.fault)
    }

    async fn wait_for(gate: &watch::Sender<bool>) {
        let mut open = gate.subscribe();
        open.wait_for(|open| *open).await.expect("the gate outlives those who wait");
    }
}

impl Front for Watched {
    fn behind(&self) -> &dyn Store {
        self.inner.as_ref()
    }

    /// Of a life that is over nothing is heard any more, not even failures.
    fn passing<'a, T: Send + 'a>(&'a self, answer: Answer<'a, T>) -> Answer<'a, T> {
        Box::pin(async { self.steps.alive(answer.await).await })
    }

    fn reach(&self) -> BoxFuture<'_, Result<(), Error>> {
        Box::pin(async {
            Self::wait_for(&self.readable).await;
            Ok(())
        })
    }

    fn write(&self, batch: Batch) -> BoxFuture<'_, Result<Vec<Decision>, Error>> {
        Box::pin(async move {
            lock(&self.batches).push(batch.commands.clone());
            Self::wait_for(&self.open).await;
            self.steps.pass("before a commit").await;
            let reason = || "planned fault".to_owned();
            let fault = self.fault_for(&batch);
            match fault {
                Some(Fault::Full) => return Err(Error::Full(reason())),
                Some(Fault::Unavailable) => return Err(Error::Unavailable(reason())),
                Some(Fault::Data) => return Err(Error::Data(reason())),
                Some(Fault::Fatal) => return Err(Error::Fatal(reason())),
                Some(Fault::LostBeforeCommit) => {
                    return Err(Error::Ambiguous { reason: reason(), decisions: Vec::new() });
                }
                Some(Fault::Panic) => panic!("planned fault"),
                Some(Fault::LostAfterCommit | Fault::SlowAfterCommit(_)) | None => {}
            }
            let decisions = self.passing(self.inner.apply(batch)).await?;
            match fault {
                Some(Fault::LostAfterCommit) => return Err(Error::Ambiguous { reason: reason(), decisions }),
                Some(Fault::SlowAfterCommit(time)) => sleep(time).await,
                _ => {}
            }
            self.steps.pass("after a commit").await;
            Ok(decisions)
        })
    }

    fn was_committed(&self, id: BatchId) -> BoxFuture<'_, Result<bool, Error>> {
        lock(&self.questions).push(id);
        self.passing(self.inner.batch_committed(id))
    }

    fn is_well(&self) -> BoxFuture<'_, Result<(), Error>> {
        Box::pin(async move {
            let fails = {
                let mut checks = lock(&self.checks);
                checks.count += 1;
                checks.under_way += 1;
                checks.under_way_max = checks.under_way_max.max(checks.under_way);
                checks.fail
            };
            // As long as a server that is away lets one wait.
            sleep(Duration::from_millis(if fails { 300 } else { 0 })).await;
            lock(&self.checks).under_way -= 1;
            if fails {
                return Err(Error::Unavailable("planned fault".to_owned()));
            }
            self.passing(self.inner.check()).await
        })
    }
}
