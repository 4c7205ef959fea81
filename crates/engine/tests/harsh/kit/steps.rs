//! Steps: every durable step and every external effect of one life of a gateway, numbered, so that a test
//! can end the life at each of them in turn.
//!
//! Whoever passes the last step never comes back, and nobody passes another one: a dead process does
//! nothing. The test then drops the runtime.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::Notify;

#[derive(Default)]
pub(crate) struct Steps {
    state: Mutex<State>,
    died: Notify,
}

#[derive(Default)]
struct State {
    passed: Vec<&'static str>,
    die_at: Option<usize>,
    dead: bool,
}

impl Steps {
    /// A life without an end.
    pub(crate) fn endless() -> Arc<Self> {
        Arc::default()
    }

    /// A life that ends at its `step`th step, counted from 1.
    pub(crate) fn until(step: usize) -> Arc<Self> {
        let state = State { die_at: Some(step), ..State::default() };
        Arc::new(Self { state: Mutex::new(state), died: Notify::new() })
    }

    /// Takes a step; whether the life is over.
    pub(crate) fn take(&self, what: &'static str) -> bool {
        let mut state = self.lock();
        if !state.dead {
            state.passed.push(what);
            state.dead = Some(state.passed.len()) == state.die_at;
            if state.dead {
                self.died.notify_one();
            }
        }
        state.dead
    }

    pub(crate) async fn pass(&self, what: &'static str) {
        if self.take(what) {
            std::future::pending::<()>().await;
        }
    }

    /// What was answered; a failure only if the life is not over, in which everything fails.
    pub(crate) async fn alive<T, E>(&self, answer: Result<T, E>) -> Result<T, E> {
        let is_dead = self.lock().dead;
        if answer.is_err() && is_dead {
            std::future::pending::<()>().await;
        }
        answer
    }

    /// Resolves when the life ends.
    pub(crate) async fn died(&self) {
        self.died.notified().await;
    }

    /// What was passed, in order.
    pub(crate) fn passed(&self) -> Vec<&'static str> {
        self.lock().passed.clone()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
