//! The bank of a line run: the real host, started anew now and then, over one ledger file; and that file, as the
//! auditor reads it.

use crate::{auditor::BankBooks, bank::BankStanding, bugs::Bug, clock::WallClock, record::Record};
use bank::{
    host::{Host, HostFaults},
    profile::LineProfile,
};
use domain::{BusinessDate, Clock, PaymentCode, invoice::BankReceipt};
use engine::{bank, domain};
use rusqlite::{Connection, OpenFlags, OptionalExtension, Row, params};
use std::{
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

/// Vehicles that the bank knows.
const POPULATION: u32 = 1_000_000;

/// Whoever pays at a counter is known by this to the bank.
const COUNTER: &str = "counter/";

/// One life of the host.
#[derive(Clone)]
pub(crate) struct Running {
    pub(crate) host: Arc<Host>,
    pub(crate) stop: CancellationToken,
}

/// The bank, through all the host's lives.
pub(crate) struct House {
    seed: u64,
    profile: LineProfile,
    record: Arc<Record>,
    clock: Arc<dyn Clock>,
    ledger: PathBuf,
    bug: Option<Bug>,
    inside: Mutex<Inside>,
    _folder: TempDir,
}

#[derive(Default)]
struct Inside {
    running: Option<Running>,
    lives: u64,
    faults: HostFaults,
    /// The business day that was announced.
    day: Option<BusinessDate>,
}

impl House {
    pub(crate) fn open(seed: u64, profile: LineProfile, record: &Arc<Record>, bug: Option<Bug>) -> Arc<Self> {
        // The ledger is written durably, which costs nothing in memory.
        let memory = Path::new("/dev/shm");
        let folder = if memory.is_dir() { TempDir::new_in(memory) } else { TempDir::new() };
        let folder = folder.expect("a temporary folder");
        let house = Arc::new(Self {
            seed,
            profile,
            record: Arc::clone(record),
            clock: WallClock::new(Arc::clone(record)),
            ledger: folder.path().join("bank.sqlite"),
            bug,
            inside: Mutex::default(),
            _folder: folder,
        });
        house.start();
        house
    }

    fn inside(&self) -> MutexGuard<'_, Inside> {
        self.inside.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The host, if it runs.
    pub(crate) fn running(&self) -> Option<Running> {
        self.inside().running.clone()
    }

    pub(crate) fn start(&self) {
        let mut inside = self.inside();
        inside.lives += 1;
        let chance = (inside.faults.clone(), self.seed.wrapping_add(inside.lives << 32));
        let host =
            Host::open(self.profile.clone(), &self.ledger, POPULATION, chance, Arc::clone(&self.clock));
        let host = host.expect("the bank's ledger opens");
        if let Some(day) = inside.day {
            host.cut_over(day);
        }
        inside.running = Some(Running { host, stop: CancellationToken::new() });
    }

    /// The host dies: its connections end. What it had begun to carry out, it may still carry out.
    pub(crate) fn stop(&self) {
        if let Some(Running { host, stop }) = self.inside().running.take() {
            stop.cancel();
            host.close_connections();
        }
    }

    /// From here on this goes wrong, also in the host's next lives.
    pub(crate) fn set_faults(&self, faults: HostFaults) {
        let faults = match self.bug {
            Some(bug) => HostFaults {
                corrupted: if bug == Bug::CorruptedAnswers { 0.5 } else { 0.0 },
                near_horizon: if bug == Bug::LateBank { 0.5 } else { 0.0 },
                delay_ms: faults.delay_ms,
                stalled: faults.stalled,
                refuses_connections: faults.refuses_connections,
                ..HostFaults::default()
            },
            None => faults,
        };
        let mut inside = self.inside();
        if let Some(running) = &inside.running {
            running.host.set_faults(faults.clone()).expect("they make sense");
        }
        inside.faults = faults;
    }

    pub(crate) fn faults(&self) -> HostFaults {
        self.inside().faults.clone()
    }

    /// Ends every connection.
    pub(crate) fn close_connections(&self) {
        if let Some(running) = &self.inside().running {
            running.host.close_connections();
        }
    }

    /// A new business day begins.
    pub(crate) fn cut_over(&self) {
        let mut inside = self.inside();
        let day = self.clock.now().date_in_jakarta().next();
        inside.day = Some(day);
        if let Some(running) = &inside.running {
            running.host.cut_over(day);
        }
    }

    /// Somebody pays a bill at a counter.
    pub(crate) fn pay_at_counter(&self, code: &PaymentCode) {
        let connection = Connection::open(&self.ledger).expect("the ledger opens");
        connection.busy_timeout(std::time::Duration::from_secs(10)).expect("it can wait");
        let paid = connection.execute(
            "INSERT INTO payment (identity, generation, payment_code, invoice, amount, reference, trace, paid_at)
             VALUES (?1, 1, ?2, 0, 1, '', '', ?3) ON CONFLICT DO NOTHING",
            params![format!("{COUNTER}{code}"), code.as_str(), self.clock.now().as_millis()],
        );
        if paid.expect("the ledger can be written") == 1 {
            self.record.fault("bank: paid at a counter", None, code.as_str());
        }
    }

    /// The books, apart from the host that writes them.
    pub(crate) fn books(&self) -> Arc<LedgerBooks> {
        Arc::new(LedgerBooks(Mutex::new(reader(&self.ledger))))
    }
}

fn reader(path: &Path) -> Connection {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    Connection::open_with_flags(path, flags).expect("the ledger can be read")
}

/// A row of the bank's ledger.
pub(crate) struct LedgerRow {
    pub(crate) identity: String,
    pub(crate) payment_code: String,
    pub(crate) standing: BankStanding,
}

/// The bank's ledger file, as it is committed.
pub(crate) struct LedgerBooks(Mutex<Connection>);

const COLUMNS: &str = "SELECT identity, generation, payment_code, invoice, amount, reference FROM payment";

fn row(row: &Row<'_>) -> rusqlite::Result<LedgerRow> {
    let identity: String = row.get(0)?;
    let generation: i64 = row.get(1)?;
    let receipt = BankReceipt {
        reference_number: row.get(5)?,
        // A line shows the number that its own message had.
        trace_number: LineProfile::trace_of_identity(&identity).unwrap_or_default().to_owned(),
    };
    let standing = BankStanding {
        invoice: row.get(3)?,
        amount: row.get(4)?,
        receipt,
        is_taken: generation > 0,
        ..BankStanding::default()
    };
    Ok(LedgerRow { identity, payment_code: row.get(2)?, standing })
}

impl LedgerBooks {
    fn connection(&self) -> MutexGuard<'_, Connection> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Every payment that a gateway asked for.
    pub(crate) fn rows(&self) -> Vec<LedgerRow> {
        let connection = self.connection();
        let mut statement = connection.prepare_cached(COLUMNS).expect("the ledger's own columns");
        let rows = statement.query_map([], row).expect("the ledger can be read");
        let rows = rows.map(|row| row.expect("the ledger's own rows"));
        rows.filter(|row| !row.identity.starts_with(COUNTER)).collect()
    }
}

impl BankBooks for LedgerBooks {
    fn standing(&self, identity: &str) -> BankStanding {
        let connection = self.connection();
        let mut statement = connection
            .prepare_cached(&format!("{COLUMNS} WHERE identity = ?1"))
            .expect("the ledger's columns");
        let found = statement.query_one([identity], row).optional().expect("the ledger can be read");
        found.map(|row| row.standing).unwrap_or_default()
    }

    fn payments(&self) -> Vec<(String, BankStanding)> {
        self.rows().into_iter().map(|row| (row.identity, row.standing)).collect()
    }
}
