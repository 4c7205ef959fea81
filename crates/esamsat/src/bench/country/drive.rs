//! The workers: each takes a vehicle, and does not let go of it before it is paid or given up.
//!
//! | what happened | what follows |
//! | --- | --- |
//! | paid, or paid already | done |
//! | PENDING | the same invoice again, a little later |
//! | no connection, no answer | the same vehicle again; how often is not counted, so that a gateway may start anew |
//! | refused for the moment | the same vehicle again, a few times; then it stays open for the next run |
//! | refused for a reason that stays, such as a short balance | the run ends |
//! | for a while, not one vehicle was paid | the run ends |
//!
//! However it ends, the file says how far it got. All of it runs on one thread: cells, and no locks.

use super::{
    report::{duration, rate},
    state::State,
};
use crate::{
    bench::{
        answer::{Failed, Paid},
        caller::Caller,
        prepare,
        progress::Progress,
        tally::float,
        target::Target,
    },
    config::Config,
    gateway,
};
use anyhow::Context;
use domain::Reason;
use std::{
    cell::{Cell, RefCell},
    collections::VecDeque,
    path::PathBuf,
    rc::Rc,
    time::Duration,
};
use tokio::{
    task::JoinSet,
    time::{Instant, interval, sleep},
};

const SAVE_EVERY: Duration = Duration::from_secs(1);

/// A refusal for the moment is repeated so often: after 0.1 s, 0.2 s and so on, but never more than 5 s.
const ATTEMPTS_MAX: u32 = 8;
const PAUSE_MIN: Duration = Duration::from_millis(100);
const PAUSE_MAX: Duration = Duration::from_secs(5);

/// A PENDING payment is asked about so often, so far apart: longer than a bank's horizon.
const PENDING_MAX: u32 = 120;
const PENDING_PAUSE: Duration = Duration::from_secs(1);

/// Longer than a gateway needs to start, and longer than an answer may take.
const QUIET_MAX: Duration = Duration::from_secs(90);

/// Vehicles given up before the run is: something is wrong that the next ones would find as well.
const GIVEN_UP_MAX: u32 = 1_000;

/// How a vehicle was done.
enum Done {
    Paid,
    AlreadyPaid,
}

/// A run under way.
pub(super) struct Country {
    state: RefCell<State>,
    path: PathBuf,
    /// What earlier runs left open comes first.
    left_open: RefCell<VecDeque<u32>>,
    partners: usize,
    /// Whose turn it is.
    partner: Cell<usize>,
    given_up: Cell<u32>,
    failed: Cell<u64>,
    /// When something was done.
    done_at: Cell<Instant>,
    last_failure: RefCell<Option<Failed>>,
    /// Why it ends before its time.
    stopped: RefCell<Option<anyhow::Error>>,
}

impl Country {
    pub(super) fn new(mut state: State, path: PathBuf, partners: usize) -> Self {
        state.runs += 1;
        Self {
            left_open: RefCell::new(state.open.iter().copied().collect()),
            state: RefCell::new(state),
            path,
            partners,
            partner: Cell::new(0),
            given_up: Cell::new(0),
            failed: Cell::new(0),
            done_at: Cell::new(Instant::now()),
            last_failure: RefCell::default(),
            stopped: RefCell::default(),
        }
    }

    /// Pays until nothing is left, or nothing can be.
    pub(super) async fn drive(
        self,
        config: &Config,
        target: &Rc<Target>,
        connections: u16,
        progress: &Progress,
    ) -> anyhow::Result<State> {
        let mut callers = Vec::with_capacity(connections.into());
        for _ in 0..connections {
            callers.push(Caller::connect(target).await?);
        }
        let sizes = Sizes::learn(config, progress).await;
        if self.state.borrow().done() == 0 {
            self.state.borrow_mut().stored_bytes_before = sizes.now().await;
        }
        let country = Rc::new(self);
        let clock = Clock::new(&country.state.borrow());
        country.done_at.set(Instant::now());
        let mut workers = JoinSet::new();
        for caller in callers {
            workers.spawn_local(Worker { country: Rc::clone(&country), caller }.run());
        }
        progress.begin("paying");
        let (mut saves, mut shows) = (interval(SAVE_EVERY), interval(progress.interval()));
        loop {
            tokio::select! {
                biased;
                joined = workers.join_next() => match joined {
                    Some(ended) => ended.context("a worker panicked")?,
                    None => break,
                },
                _ = saves.tick() => {
                    country.watch();
                    let is_time = country.state.borrow().wants_sample();
                    country.save(&clock, is_time.then_some(&sizes)).await?;
                }
                _ = shows.tick() => {
                    progress.show_text(clock.begin.elapsed(), || country.how_far(&clock));
                }
            }
        }
        progress.end();
        country.save(&clock, Some(&sizes)).await?;
        if let Some(error) = country.stopped.take() {
            let done = country.state.borrow().done();
            return Err(error.context(format!(
                "failed to pay all vehicles ({done} are paid; the same command again goes on from there)"
            )));
        }
        Ok(country.state.borrow().clone())
    }

    /// Ends the run if nothing gets on.
    fn watch(&self) {
        if self.done_at.get().elapsed() > QUIET_MAX {
            let failed = self.last_failure.take().unwrap_or(Failed::Connection("no answer"));
            let what = format!("not one vehicle was paid for {} s", QUIET_MAX.as_secs());
            self.stop(prepare::refused(&what, &failed));
        }
    }

    fn stop(&self, why: anyhow::Error) {
        // The first reason is the one that the others follow from.
        self.stopped.borrow_mut().get_or_insert(why);
    }

    fn is_stopped(&self) -> bool {
        self.stopped.borrow().is_some()
    }

    fn next_partner(&self) -> usize {
        let partner = self.partner.get() % self.partners;
        self.partner.set(partner + 1);
        partner
    }

    fn take(&self) -> Option<u32> {
        if self.is_stopped() {
            return None;
        }
        let left_open = self.left_open.borrow_mut().pop_front();
        left_open.or_else(|| self.state.borrow_mut().begin_next())
    }

    fn done(&self, index: u32, done: &Done) {
        let mut state = self.state.borrow_mut();
        state.open.remove(&index);
        match done {
            Done::Paid => state.paid += 1,
            Done::AlreadyPaid => state.already_paid += 1,
        }
        self.done_at.set(Instant::now());
    }

    fn failed(&self, failed: Failed) {
        self.failed.set(self.failed.get() + 1);
        self.state.borrow_mut().failed(failed.to_string());
        if failed.stays() {
            self.stop(prepare::refused("the gateway refuses", &failed));
        }
        self.last_failure.replace(Some(failed));
    }

    fn give_up(&self) {
        self.given_up.set(self.given_up.get() + 1);
        if self.given_up.get() == GIVEN_UP_MAX {
            let failed = self.last_failure.borrow().clone().unwrap_or(Failed::Other);
            self.stop(prepare::refused(&format!("{GIVEN_UP_MAX} vehicles could not be paid"), &failed));
        }
    }

    /// Writes down how far it is, and takes a sample if there is something to measure it with.
    async fn save(&self, clock: &Clock, sizes: Option<&Sizes<'_>>) -> anyhow::Result<()> {
        let stored_bytes = match sizes {
            Some(sizes) => sizes.now().await,
            None => None,
        };
        let state = {
            let mut state = self.state.borrow_mut();
            state.elapsed_s = clock.elapsed_s();
            if sizes.is_some() {
                state.sample(stored_bytes);
            }
            state.clone()
        };
        let path = self.path.clone();
        // The workers go on meanwhile.
        tokio::task::spawn_blocking(move || state.write(&path)).await.context("writing the state panicked")?
    }

    fn how_far(&self, clock: &Clock) -> String {
        let state = self.state.borrow();
        let (done, seconds) = (state.done(), clock.begin.elapsed().as_secs_f64());
        let per_second = rate(done - clock.done_before, seconds);
        let left = u64::from(state.vehicles) - done;
        let time_left = match Duration::try_from_secs_f64(float(left) / per_second) {
            Ok(time) => format!(", {} left", duration(time.as_secs_f64())),
            Err(_) => String::new(),
        };
        let failed = self.failed.get();
        format!("{done} of {} vehicles, {per_second:.0}/s{time_left}, {failed} failed", state.vehicles)
    }
}

/// How long all runs together have lasted.
struct Clock {
    begin: Instant,
    elapsed_before_s: f64,
    done_before: u64,
}

impl Clock {
    fn new(state: &State) -> Self {
        Self { begin: Instant::now(), elapsed_before_s: state.elapsed_s, done_before: state.done() }
    }

    fn elapsed_s(&self) -> f64 {
        self.elapsed_before_s + self.begin.elapsed().as_secs_f64()
    }
}

/// What the database takes on disk, if that can be known here.
struct Sizes<'a>(Option<&'a Config>);

impl<'a> Sizes<'a> {
    async fn learn(config: &'a Config, progress: &Progress) -> Self {
        match gateway::stored_bytes(config).await {
            Ok(_) => Self(Some(config)),
            Err(error) => {
                progress.say(&format!("esamsat: sizes will be missing: {error:#}"));
                Self(None)
            }
        }
    }

    async fn now(&self) -> Option<u64> {
        gateway::stored_bytes(self.0?).await.ok()
    }
}

/// One connection at work.
struct Worker {
    country: Rc<Country>,
    caller: Caller,
}

impl Worker {
    async fn run(mut self) {
        while let Some(index) = self.country.take() {
            let partner = self.country.next_partner();
            match self.settle(partner, index).await {
                Some(done) => self.country.done(index, &done),
                None => self.country.give_up(),
            }
        }
    }

    /// None: given up, or the run ends.
    async fn settle(&mut self, partner: usize, index: u32) -> Option<Done> {
        let mut attempts = 0;
        loop {
            match self.inquire_and_pay(partner, index).await {
                Ok(done) => return Some(done),
                Err(failed) if failed.is(Reason::BillAlreadyPaid) => return Some(Done::AlreadyPaid),
                Err(failed) => {
                    attempts += u32::from(!matches!(failed, Failed::Connection(_)));
                    self.country.failed(failed);
                }
            }
            if attempts == ATTEMPTS_MAX || self.country.is_stopped() {
                return None;
            }
            sleep(PAUSE_MAX.min(PAUSE_MIN * 2_u32.pow(attempts))).await;
        }
    }

    async fn inquire_and_pay(&mut self, partner: usize, index: u32) -> Result<Done, Failed> {
        let invoice = self.caller.inquire(partner, index).await?;
        let mut paid = self.caller.pay(invoice).await?;
        for _ in 0..PENDING_MAX {
            if paid == Paid::Confirmed {
                return Ok(Done::Paid);
            }
            self.country.state.borrow_mut().pending_answers += 1;
            if self.country.is_stopped() {
                break;
            }
            sleep(PENDING_PAUSE).await;
            paid = match self.caller.pay(invoice).await {
                // By this very invoice.
                Err(failed) if failed.is(Reason::BillAlreadyPaid) => Paid::Confirmed,
                answered => answered?,
            };
        }
        if paid == Paid::Confirmed { Ok(Done::Paid) } else { Err(Failed::Unexpected("PENDING for too long")) }
    }
}
