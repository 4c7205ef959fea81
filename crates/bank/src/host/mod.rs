//! The bank at the other end of an ISO 8583 line: a server with books of its own, for tests, demos and trainings.
//!
//! It speaks any profile from the bank's side, has the simulator's vehicles and test numbers, and fails on demand
//! ([`HostFaults`]), at run time as well. What it took stands in its ledger file, whatever becomes of its answers.
//!
//! ```text
//! connection ─ reads frames ─► session messages: answered at once
//!                           └► business: a task each ─ course ─ desk: core banking ─ telling ─► one writer, batching
//! ```
//!
//! Nothing is carried out later than the horizon after it was made, however long it was on its way; and what was
//! refused where an advice could carry it out stays refused. What befalls the messages of a connection follows from
//! the seed and their order.
//!
//! Deliberately absent: access control (it listens where it is told, loopback by default) and any rule of what is
//! owed or paid, which is core banking's.

mod bills;
mod connection;
mod course;
mod damage;
mod desk;
mod faults;
mod session;
mod telling;

pub use faults::HostFaults;

use crate::{
    core_banking::{BankCore, Dice, FaultRates, LedgerError, LedgerPayment, Sent},
    locked,
    profile::{LineProfile, Operation, Value},
};
use bills::Bills;
use connection::Connection;
use domain::{BusinessDate, Clock, Timestamp};
use serde::Serialize;
use std::{
    path::Path,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpListener,
    sync::{Notify, watch},
    time::{Instant, sleep},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// How long after a failure to accept a connection another one is tried.
const ACCEPT_AGAIN_AFTER: Duration = Duration::from_millis(50);

/// A bank host.
pub struct Host {
    profile: LineProfile,
    bank: BankCore,
    faults: watch::Sender<HostFaults>,
    dice: Mutex<Dice>,
    /// The business day, if it was changed.
    business_date: Mutex<Option<BusinessDate>>,
    connections: Mutex<Vec<Arc<Connection>>>,
    /// An answer that waits for the next one.
    held: Mutex<Option<telling::Held>>,
    /// Where payments do not say which vehicle they are for.
    bills: Option<Bills>,
    /// How long the texts of a bill may be.
    rooms: Vec<(Value, usize)>,
    counts: Counts,
    /// Something is otherwise than it was.
    changed: Notify,
    next_trace: AtomicU64,
    tasks: TaskTracker,
}

/// The texts of a bill, which a dialect may have less room for than the bank's own records.
const TEXTS: [Value; 6] =
    [Value::OwnerName, Value::OwnerAddress, Value::LicensePlate, Value::Brand, Value::Model, Value::Color];

#[derive(Default)]
struct Counts {
    received: AtomicU64,
    answered: AtomicU64,
    unreadable: AtomicU64,
    faults: AtomicU64,
    under_way: AtomicU64,
}

/// How a host stands.
#[derive(Clone, Debug, Serialize)]
pub struct HostState {
    /// The profile's name.
    pub profile: String,
    /// Connections that have signed on.
    pub signed_on: usize,
    /// Connections in all.
    pub connections: usize,
    /// The business day.
    pub business_date: String,
    /// Messages that came in.
    pub received: u64,
    /// Answers that went out.
    pub answered: u64,
    /// Messages that could not be read.
    pub unreadable: u64,
    /// Faults that befell messages.
    pub faults: u64,
    /// Messages that came in and are not done with: neither answered nor passed over.
    pub under_way: u64,
    /// Whether an answer waits for the next one, to change places with it.
    pub is_one_held: bool,
}

impl std::fmt::Debug for Host {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Host").field("profile", &self.profile.name).finish_non_exhaustive()
    }
}

impl Host {
    /// Opens the bank's ledger.
    pub fn open(
        profile: LineProfile,
        ledger_path: &Path,
        population: u32,
        (faults, seed): (HostFaults, u64),
        clock: Arc<dyn Clock>,
    ) -> Result<Arc<Self>, LedgerError> {
        // Random faults are the host's own affair; the core keeps the test numbers'.
        let none = (FaultRates::default(), seed);
        let bank = BankCore::open(ledger_path, clock, population, none, profile.horizon)?;
        let says_which = [Value::Product, Value::Nik, Value::Chassis]
            .into_iter()
            .all(|value| profile.carries(Operation::Payment, value));
        let rooms = TEXTS.into_iter().filter_map(|value| Some((value, profile.room(value)?))).collect();
        Ok(Arc::new(Self {
            profile,
            bank,
            faults: watch::Sender::new(faults),
            dice: Mutex::new(Dice::from(seed)),
            business_date: Mutex::default(),
            connections: Mutex::default(),
            held: Mutex::default(),
            bills: (!says_which).then(Bills::default),
            rooms,
            counts: Counts::default(),
            changed: Notify::new(),
            next_trace: AtomicU64::new(1),
            tasks: TaskTracker::new(),
        }))
    }

    /// Serves until it is told to stop; then closes every connection.
    pub async fn serve(self: &Arc<Self>, listener: TcpListener, stop: CancellationToken) {
        loop {
            let accepted = stop.run_until_cancelled(listener.accept()).await;
            let Some(accepted) = accepted else { break };
            match accepted {
                Ok((stream, peer)) => {
                    if self.faults.borrow().refuses_connections {
                        drop(stream);
                        continue;
                    }
                    tracing::info!(%peer, "a line connected");
                    // Without it, an answer may wait for the next one; it changes nothing else.
                    let _is_prompt = stream.set_nodelay(true);
                    let (reading, writing) = stream.into_split();
                    self.serve_on(reading, writing, &stop);
                }
                Err(error) => {
                    tracing::warn!(%error, "failed to accept a line");
                    sleep(ACCEPT_AGAIN_AFTER).await;
                }
            }
        }
        self.close_connections();
        self.tasks.close();
    }

    /// Serves one connection, however it came.
    pub fn serve_on(
        self: &Arc<Self>,
        reading: impl AsyncRead + Send + Unpin + 'static,
        writing: impl AsyncWrite + Send + Unpin + 'static,
        stop: &CancellationToken,
    ) {
        let dice = locked(&self.dice).row();
        let connection =
            connection::serve(self, (Box::new(reading), Box::new(writing)), dice, stop.child_token());
        let mut connections = locked(&self.connections);
        connections.retain(|connection| !connection.is_closed());
        connections.push(connection);
        drop(connections);
        self.changed.notify_waiters();
    }

    /// What goes wrong now.
    pub fn faults(&self) -> HostFaults {
        self.faults.borrow().clone()
    }

    /// What goes wrong from now on.
    pub fn set_faults(&self, faults: HostFaults) -> Result<(), &'static str> {
        faults.check()?;
        self.faults.send_replace(faults);
        Ok(())
    }

    /// Closes every connection, whatever is under way.
    pub fn close_connections(&self) {
        for connection in locked(&self.connections).drain(..) {
            connection.close();
        }
    }

    /// Begins a new business day, and tells every line that has signed on.
    pub fn cut_over(&self, date: BusinessDate) {
        *locked(&self.business_date) = Some(date);
        for connection in self.signed_on() {
            self.announce(&connection, date);
        }
    }

    /// The business day now.
    pub fn business_date(&self) -> BusinessDate {
        let changed = *locked(&self.business_date);
        let today = self.bank.now().date_in_jakarta();
        changed.map_or(today, |date| date.max(today))
    }

    /// Makes every bill payable again.
    pub async fn reset(&self) -> Result<i64, LedgerError> {
        self.bank.reset().await
    }

    /// Every payment that was ever taken, in order.
    pub async fn payments(&self) -> Result<Vec<LedgerPayment>, LedgerError> {
        self.bank.payments().await
    }

    /// How it stands.
    pub fn state(&self) -> HostState {
        let connections = locked(&self.connections).iter().filter(|known| !known.is_closed()).count();
        HostState {
            profile: self.profile.name.clone(),
            signed_on: self.signed_on().len(),
            connections,
            business_date: self.business_date().to_string(),
            received: self.counts.received.load(Relaxed),
            answered: self.counts.answered.load(Relaxed),
            unreadable: self.counts.unreadable.load(Relaxed),
            faults: self.counts.faults.load(Relaxed),
            under_way: self.counts.under_way.load(Relaxed),
            is_one_held: locked(&self.held).is_some(),
        }
    }

    /// Waits until it stands so.
    pub async fn until(&self, is_so: impl Fn(&HostState) -> bool) {
        loop {
            let changed = self.changed.notified();
            if is_so(&self.state()) {
                return;
            }
            changed.await;
        }
    }

    fn signed_on(&self) -> Vec<Arc<Connection>> {
        let connections = locked(&self.connections);
        connections.iter().filter(|connection| connection.is_signed_on()).cloned().collect()
    }

    fn now(&self) -> Timestamp {
        self.bank.now()
    }

    fn sent_now(&self) -> Sent {
        Sent { at: self.now(), instant: Instant::now() }
    }

    fn count(&self, of: impl Fn(&Counts) -> &AtomicU64) {
        of(&self.counts).fetch_add(1, Relaxed);
        self.changed.notify_waiters();
    }
}

/// What a host has been paid, from its ledger's file, whether or not it runs.
pub async fn read_ledger(path: &Path, clock: Arc<dyn Clock>) -> Result<Vec<LedgerPayment>, LedgerError> {
    let none = (FaultRates::default(), 0);
    BankCore::open(path, clock, 0, none, Duration::ZERO)?.payments().await
}
