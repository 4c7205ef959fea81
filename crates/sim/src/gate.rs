//! What a gateway's process does when it dies or is stopped: nothing that it waits for comes any more, or all of it
//! later. Every durable step and every message passes here, so that a life can end between any two of them.

use crate::{random::Random, record::Record};
use std::sync::{
    Arc, Mutex, PoisonError,
    atomic::{AtomicBool, AtomicU32, Ordering},
};
use tokio::sync::Notify;

/// How one life of a gateway stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Standing {
    Running,
    Paused,
    Dead,
}

/// One life of a gateway.
pub(crate) struct Gate {
    name: String,
    record: Arc<Record>,
    standing: Mutex<Standing>,
    changed: Notify,
    random: Mutex<Random>,
    /// How often a step is the last one, in ten thousand.
    crash_permyriad: u64,
    is_calm: Arc<AtomicBool>,
    /// How often it was stopped, or died.
    disturbances: AtomicU32,
}

impl Gate {
    pub(crate) fn new(
        name: String,
        record: Arc<Record>,
        random: Random,
        crash_permyriad: u64,
        is_calm: Arc<AtomicBool>,
    ) -> Arc<Self> {
        Arc::new(Self {
            name,
            record,
            standing: Mutex::new(Standing::Running),
            changed: Notify::new(),
            random: Mutex::new(random),
            crash_permyriad,
            is_calm,
            disturbances: AtomicU32::new(0),
        })
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    fn standing(&self) -> Standing {
        *self.standing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set(&self, standing: Standing) {
        let mut now = self.standing.lock().unwrap_or_else(PoisonError::into_inner);
        if *now == Standing::Dead || *now == standing {
            return;
        }
        *now = standing;
        drop(now);
        if standing != Standing::Running {
            self.disturbances.fetch_add(1, Ordering::Relaxed);
        }
        self.record.note(None, format!("{} is {standing:?}", self.name));
        self.changed.notify_waiters();
    }

    pub(crate) fn kill(&self) {
        self.set(Standing::Dead);
    }

    pub(crate) fn pause(&self) {
        self.set(Standing::Paused);
    }

    pub(crate) fn resume(&self) {
        self.set(Standing::Running);
    }

    pub(crate) fn is_dead(&self) -> bool {
        self.standing() == Standing::Dead
    }

    pub(crate) fn is_running(&self) -> bool {
        self.standing() == Standing::Running
    }

    pub(crate) fn disturbances(&self) -> u32 {
        self.disturbances.load(Ordering::Relaxed)
    }

    /// A step that can be the last one.
    pub(crate) async fn step(&self, what: &'static str, invoice: Option<i64>) {
        self.may_end(what, invoice);
        self.open().await;
    }

    /// The process may end here.
    pub(crate) fn may_end(&self, what: &'static str, invoice: Option<i64>) {
        if !self.is_calm.load(Ordering::Relaxed) && self.standing() == Standing::Running {
            let dies = {
                let mut random = self.random.lock().unwrap_or_else(PoisonError::into_inner);
                random.below(10_000) < self.crash_permyriad
            };
            if dies {
                self.record.fault(what, invoice, &self.name);
                self.kill();
            }
        }
    }

    /// Resolves at once while the process runs, later when it is stopped, and never when it is dead.
    pub(crate) async fn open(&self) {
        loop {
            let changed = self.changed.notified();
            match self.standing() {
                Standing::Running => return,
                Standing::Paused => changed.await,
                Standing::Dead => std::future::pending().await,
            }
        }
    }

    /// What the process answers; none if it dies before it has.
    pub(crate) async fn answered<T>(&self, asked: impl Future<Output = T>) -> Option<T> {
        let answered = async {
            let answer = asked.await;
            self.open().await;
            answer
        };
        tokio::select! {
            biased;
            () = self.died() => None,
            answer = answered => Some(answer),
        }
    }

    /// Resolves when the process is dead.
    pub(crate) async fn died(&self) {
        loop {
            let changed = self.changed.notified();
            if self.is_dead() {
                return;
            }
            changed.await;
        }
    }
}
