//! The bank's own truth: which payments it took, in its own `SQLite` file.
//!
//! It survives the gateway, and any death of the process that hosts it. Several processes may open one file
//! (a command beside the server): whether a bill is paid is decided under the write lock, inside the
//! transaction that writes the payment, and nothing is remembered outside the file.
//!
//! | kept true | by |
//! | --- | --- |
//! | an identity is carried out at most once, for ever | its unique index, across resets |
//! | a bill is paid at most once between two resets | the unique index on (generation, payment code) |
//! | nothing is carried out after its horizon | the clocks, read under the write lock |
//! | a "not found" after the horizon is final | the status question, asked under the same lock |
//! | what was reversed or refused for ever is not carried out | its row in `reversal`, read under the same lock |
//!
//! Orders that queue up while a transaction is being written make up the next one, so that one fsync serves
//! them all. Deliberately absent: a retry of anything that failed. What was not committed is simply unknown.

use domain::{
    BusinessDate, InvoiceNumber, PaymentCode, Rupiah, Timestamp, invoice::BankReceipt, time::Clock,
};
use rusqlite::{
    CachedStatement, Connection, ErrorCode, OpenFlags, OptionalExtension, Row, Transaction,
    TransactionBehavior, config::DbConfig, params,
};
use std::{
    fs,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};
use tokio::{sync::oneshot, time::Instant};

use super::dice;

/// Orders in one transaction at most, so that a status question never waits long for the lock.
const BATCH_ORDERS_MAX: usize = 2_048;

/// Connections that look bills up.
const READERS: usize = 4;

/// How long another process's transaction is waited for.
const LOCK_WAIT: Duration = Duration::from_secs(10);

const SCHEMA_VERSION: i64 = 2;

const SCHEMA: &str = "
    CREATE TABLE generation (
        number INTEGER PRIMARY KEY,
        began_at INTEGER NOT NULL
    ) STRICT;
    INSERT INTO generation (number, began_at) VALUES (1, 0);
    CREATE TABLE payment (
        id INTEGER PRIMARY KEY,
        identity TEXT NOT NULL UNIQUE,
        generation INTEGER NOT NULL,
        payment_code TEXT NOT NULL,
        invoice INTEGER NOT NULL,
        amount INTEGER NOT NULL,
        reference TEXT NOT NULL,
        trace TEXT NOT NULL,
        paid_at INTEGER NOT NULL,
        UNIQUE (generation, payment_code)
    ) STRICT;
";

/// A payment that was reversed leaves its bill free: its generation becomes its own number, below zero. One that
/// is reversed before it comes is refused for ever.
const SCHEMA_OF_REVERSALS: &str = "
    CREATE TABLE reversal (
        identity TEXT PRIMARY KEY,
        at INTEGER NOT NULL
    ) STRICT, WITHOUT ROWID;
    PRAGMA user_version = 2;
";

/// Why the bank's ledger did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum LedgerError {
    /// The database.
    #[error("the bank's ledger failed: {0}")]
    Database(#[from] rusqlite::Error),
    /// The file was written by a newer version.
    #[error("the bank's ledger has schema {0}, this version knows {SCHEMA_VERSION}")]
    Newer(i64),
    /// The runtime is shutting down.
    #[error("the bank's ledger was interrupted")]
    Interrupted,
}

/// A payment that the bank took.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LedgerPayment {
    /// Its row; ascending in the order of taking.
    pub id: i64,
    /// The identity of the request.
    pub identity: String,
    /// How many resets there had been, plus one; below zero once it was reversed.
    pub generation: i64,
    /// The bill.
    pub payment_code: PaymentCode,
    /// The gateway's number.
    pub invoice: InvoiceNumber,
    /// What was taken.
    pub amount: Rupiah,
    /// The bank's numbers.
    pub receipt: BankReceipt,
    /// When.
    pub paid_at: Timestamp,
}

impl LedgerPayment {
    /// The bank's business day of the payment.
    pub fn business_date(&self) -> BusinessDate {
        self.paid_at.date_in_jakarta()
    }
}

/// A payment to be taken. Its bill and its amount are right.
#[derive(Clone, Debug)]
pub(crate) struct Order {
    /// The identity of the request.
    pub(crate) identity: String,
    /// The bill.
    pub(crate) payment_code: PaymentCode,
    /// The gateway's number.
    pub(crate) invoice: InvoiceNumber,
    /// What to take.
    pub(crate) amount: Rupiah,
    /// When the request was sent.
    pub(crate) sent_at: Timestamp,
    /// When it may no longer be carried out, by the wall clock …
    pub(crate) dies_at: Timestamp,
    /// … and by the monotonic one, so that no jump of the other stretches it.
    pub(crate) dies: Instant,
}

/// What the bank took, by one identity.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Taken {
    /// What was taken.
    pub(crate) amount: Rupiah,
    /// The bank's numbers.
    pub(crate) receipt: BankReceipt,
}

/// What came of an order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Taken, now or the first time that this identity came.
    Taken(Taken),
    /// The bill is paid by another.
    AlreadyPaid,
    /// Past its horizon, or sent before a reset: not carried out, and nobody is told.
    Dead,
}

/// What became of an identity.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    /// Taken.
    Taken(Taken),
    /// Not taken, and its bill is paid by another.
    PaidByAnother,
    /// Not taken.
    NotFound,
}

/// The ledger.
#[derive(Debug)]
pub(super) struct Ledger {
    path: PathBuf,
    desk: Arc<Desk>,
    readers: [Mutex<Connection>; READERS],
    next_reader: AtomicUsize,
}

/// What the writing task needs.
struct Desk {
    writer: Mutex<Connection>,
    queue: Mutex<Queue>,
    /// After an I/O error nothing that the file says can be relied on.
    broken: AtomicBool,
    clock: Arc<dyn Clock>,
}

impl std::fmt::Debug for Desk {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Desk").field("broken", &self.broken).finish_non_exhaustive()
    }
}

#[derive(Default)]
struct Queue {
    jobs: Vec<Job>,
    writing: bool,
}

enum Job {
    Take(Order, oneshot::Sender<Verdict>),
    Find { identity: String, payment_code: PaymentCode, answer: oneshot::Sender<Standing> },
    Reverse(String, oneshot::Sender<()>),
    Refuse(String, oneshot::Sender<Option<Taken>>),
}

/// An answer that waits for its commit.
enum Answer {
    Verdict(oneshot::Sender<Verdict>, Verdict),
    Standing(oneshot::Sender<Standing>, Standing),
    Reversed(oneshot::Sender<()>),
    Refused(oneshot::Sender<Option<Taken>>, Option<Taken>),
}

impl Ledger {
    /// Opens the file, or creates it.
    pub(super) fn open(path: &Path, clock: Arc<dyn Clock>) -> Result<Self, LedgerError> {
        // For its owner's eyes only. Whatever else is wrong with the path, SQLite says.
        let _exists = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
        let mut writer = Connection::open(path)?;
        writer.busy_timeout(LOCK_WAIT)?;
        writer.pragma_update(None, "journal_mode", "WAL")?;
        writer.pragma_update(None, "synchronous", "FULL")?;
        stable_plans(&writer)?;
        let transaction = writer.transaction_with_behavior(TransactionBehavior::Immediate)?;
        match transaction.pragma_query_value(None, "user_version", |row| row.get(0))? {
            0 => transaction.execute_batch(&[SCHEMA, SCHEMA_OF_REVERSALS].concat())?,
            1 => transaction.execute_batch(SCHEMA_OF_REVERSALS)?,
            SCHEMA_VERSION => {}
            newer => return Err(LedgerError::Newer(newer)),
        }
        transaction.commit()?;

        let desk = Desk {
            writer: Mutex::new(writer),
            queue: Mutex::new(Queue::default()),
            broken: AtomicBool::new(false),
            clock,
        };
        let reader = || reader(path).map(Mutex::new);
        Ok(Self {
            path: path.to_owned(),
            desk: Arc::new(desk),
            readers: [reader()?, reader()?, reader()?, reader()?],
            next_reader: AtomicUsize::new(0),
        })
    }

    /// Whether an I/O error has ended the ledger's service.
    pub(super) fn is_broken(&self) -> bool {
        self.desk.broken.load(Ordering::Relaxed)
    }

    /// Whether a bill is paid. Looks in the file at once, on the caller's thread: readers never wait for
    /// the writer, and a look-up in memory is shorter than the way to another thread.
    pub(super) fn is_paid(&self, payment_code: &PaymentCode) -> Result<bool, LedgerError> {
        let index = self.next_reader.fetch_add(1, Ordering::Relaxed) % READERS;
        let reader = locked(&self.readers[index]);
        let mut statement = reader.prepare_cached(
            "SELECT EXISTS (SELECT 1 FROM payment
             WHERE generation = (SELECT max(number) FROM generation) AND payment_code = ?1)",
        )?;
        Ok(statement.query_one([payment_code.as_str()], |row| row.get(0))?)
    }

    /// Takes a payment. `None`: it may or may not have been taken.
    pub(super) async fn take(&self, order: Order) -> Option<Verdict> {
        let (answer, answered) = oneshot::channel();
        self.desk.enqueue(Job::Take(order, answer));
        answered.await.ok()
    }

    /// What became of an identity. `None`: the ledger cannot tell.
    pub(super) async fn find(&self, identity: String, payment_code: PaymentCode) -> Option<Standing> {
        let (answer, answered) = oneshot::channel();
        self.desk.enqueue(Job::Find { identity, payment_code, answer });
        answered.await.ok()
    }

    /// Undoes what an identity paid or may yet pay. `None`: the ledger cannot tell.
    pub(super) async fn reverse(&self, identity: String) -> Option<()> {
        let (answer, answered) = oneshot::channel();
        self.desk.enqueue(Job::Reverse(identity, answer));
        answered.await.ok()
    }

    /// Refuses an identity for ever, unless it was taken before: then what was taken. `None`: the ledger cannot tell.
    pub(super) async fn refuse(&self, identity: String) -> Option<Option<Taken>> {
        let (answer, answered) = oneshot::channel();
        self.desk.enqueue(Job::Refuse(identity, answer));
        answered.await.ok()
    }

    /// Makes every bill payable again; what was taken stays taken. Returns the new generation. Payments under
    /// way die, since they belong to the time before.
    pub(super) async fn reset(&self) -> Result<i64, LedgerError> {
        let desk = Arc::clone(&self.desk);
        let reset = move || -> Result<i64, LedgerError> {
            let mut writer = locked(&desk.writer);
            let transaction = writer.transaction_with_behavior(TransactionBehavior::Immediate)?;
            let generation = transaction.query_one(
                "INSERT INTO generation (number, began_at)
                 SELECT max(number) + 1, ?1 FROM generation RETURNING number",
                [desk.clock.now().as_millis()],
                |row| row.get(0),
            )?;
            transaction.commit()?;
            Ok(generation)
        };
        tokio::task::spawn_blocking(reset).await.map_err(|_| LedgerError::Interrupted)?
    }

    /// Every payment that was ever taken, in order.
    pub(super) async fn payments(&self) -> Result<Vec<LedgerPayment>, LedgerError> {
        let path = self.path.clone();
        let list = move || -> Result<Vec<LedgerPayment>, LedgerError> {
            // A connection of its own: a long list must not keep payments or look-ups waiting.
            let reader = reader(&path)?;
            let mut statement = reader.prepare(
                "SELECT id, identity, generation, payment_code, invoice, amount, reference, trace, paid_at
                 FROM payment ORDER BY id",
            )?;
            let payments = statement.query_map([], ledger_payment)?.collect::<Result<_, _>>()?;
            Ok(payments)
        };
        tokio::task::spawn_blocking(list).await.map_err(|_| LedgerError::Interrupted)?
    }
}

impl Desk {
    /// Queues a job, and sees to it that somebody writes.
    fn enqueue(self: &Arc<Self>, job: Job) {
        let mut queue = locked(&self.queue);
        queue.jobs.push(job);
        if !queue.writing {
            queue.writing = true;
            let desk = Arc::clone(self);
            tokio::task::spawn_blocking(move || desk.write());
        }
    }

    /// Writes batches until nothing is queued.
    fn write(&self) {
        loop {
            let jobs = {
                let mut queue = locked(&self.queue);
                if queue.jobs.is_empty() {
                    queue.writing = false;
                    return;
                }
                let count = queue.jobs.len().min(BATCH_ORDERS_MAX);
                queue.jobs.drain(..count).collect::<Vec<_>>()
            };
            // Whoever waits for a job that fell through learns it from the dropped sender.
            if self.is_usable() {
                match self.decide(jobs) {
                    Ok(answers) => answers.into_iter().for_each(Answer::send),
                    Err(error) => self.give_up(&error),
                }
            }
        }
    }

    fn is_usable(&self) -> bool {
        !self.broken.load(Ordering::Relaxed)
    }

    fn give_up(&self, error: &rusqlite::Error) {
        tracing::error!(%error, "the simulated bank's ledger failed; a batch of payments is unknown");
        let fatal = [ErrorCode::SystemIoFailure, ErrorCode::DatabaseCorrupt, ErrorCode::NotADatabase];
        if error.sqlite_error_code().is_some_and(|code| fatal.contains(&code)) {
            self.broken.store(true, Ordering::Relaxed);
        }
    }

    /// One transaction: decides every job on what is written, commits, and hands back the answers.
    fn decide(&self, jobs: Vec<Job>) -> Result<Vec<Answer>, rusqlite::Error> {
        let mut writer = locked(&self.writer);
        let transaction = writer.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let answers = {
            let mut book = Book::open(&transaction)?;
            jobs.into_iter()
                .map(|job| match job {
                    Job::Take(order, answer) => Ok(Answer::Verdict(answer, book.take(&order, &*self.clock)?)),
                    Job::Find { identity, payment_code, answer } => {
                        Ok(Answer::Standing(answer, book.find(&identity, &payment_code)?))
                    }
                    Job::Reverse(identity, answer) => {
                        Book::reverse(&transaction, &identity, &*self.clock)?;
                        Ok(Answer::Reversed(answer))
                    }
                    Job::Refuse(identity, answer) => {
                        let taken = book.taken(&identity)?;
                        if taken.is_none() {
                            Book::reverse(&transaction, &identity, &*self.clock)?;
                        }
                        Ok(Answer::Refused(answer, taken))
                    }
                })
                .collect::<Result<Vec<_>, rusqlite::Error>>()?
        };
        transaction.commit()?;
        Ok(answers)
    }
}

impl Answer {
    /// Whoever no longer waits is not missed.
    fn send(self) {
        match self {
            Self::Verdict(answer, verdict) => drop(answer.send(verdict)),
            Self::Standing(answer, standing) => drop(answer.send(standing)),
            Self::Reversed(answer) => drop(answer.send(())),
            Self::Refused(answer, taken) => drop(answer.send(taken)),
        }
    }
}

/// The ledger inside one transaction.
struct Book<'t> {
    generation: i64,
    generation_began_at: Timestamp,
    next_id: i64,
    insert: CachedStatement<'t>,
    by_identity: CachedStatement<'t>,
    by_bill: CachedStatement<'t>,
    is_reversed: CachedStatement<'t>,
}

impl<'t> Book<'t> {
    fn open(transaction: &'t Transaction<'_>) -> Result<Self, rusqlite::Error> {
        let (generation, began_at) = transaction
            .prepare_cached("SELECT number, began_at FROM generation ORDER BY number DESC LIMIT 1")?
            .query_one([], |row| Ok((row.get(0)?, row.get(1)?)))?;
        let next_id = transaction
            .prepare_cached("SELECT coalesce(max(id), 0) + 1 FROM payment")?
            .query_one([], |row| row.get(0))?;
        Ok(Self {
            generation,
            generation_began_at: Timestamp::from_millis(began_at),
            next_id,
            insert: transaction.prepare_cached(
                "INSERT INTO payment
                 (id, identity, generation, payment_code, invoice, amount, reference, trace, paid_at)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9) ON CONFLICT DO NOTHING",
            )?,
            by_identity: transaction.prepare_cached(
                "SELECT amount, reference, trace FROM payment WHERE identity = ?1 AND generation > 0",
            )?,
            by_bill: transaction.prepare_cached(
                "SELECT EXISTS (SELECT 1 FROM payment WHERE generation = ?1 AND payment_code = ?2)",
            )?,
            is_reversed: transaction
                .prepare_cached("SELECT EXISTS (SELECT 1 FROM reversal WHERE identity = ?1)")?,
        })
    }

    /// Writes first and asks only where a row was in the way: nearly every payment is new.
    fn take(&mut self, order: &Order, clock: &dyn Clock) -> Result<Verdict, rusqlite::Error> {
        let now = clock.now();
        let dead = now > order.dies_at
            || Instant::now() > order.dies
            || order.sent_at < self.generation_began_at
            || self.is_reversed.query_one([&order.identity], |row| row.get(0))?;
        if dead {
            return Ok(self.taken(&order.identity)?.map_or(Verdict::Dead, Verdict::Taken));
        }
        let receipt = receipt(&order.identity, self.next_id);
        let inserted = self.insert.execute(params![
            self.next_id,
            order.identity,
            self.generation,
            order.payment_code.as_str(),
            order.invoice.get(),
            order.amount.get(),
            receipt.reference_number,
            receipt.trace_number,
            now.as_millis(),
        ])?;
        if inserted == 1 {
            self.next_id += 1;
            return Ok(Verdict::Taken(Taken { amount: order.amount, receipt }));
        }
        Ok(self.taken(&order.identity)?.map_or(Verdict::AlreadyPaid, Verdict::Taken))
    }

    fn reverse(
        transaction: &Transaction<'_>,
        identity: &str,
        clock: &dyn Clock,
    ) -> Result<(), rusqlite::Error> {
        let sql = "INSERT INTO reversal (identity, at) VALUES (?1, ?2) ON CONFLICT DO NOTHING";
        transaction.execute(sql, params![identity, clock.now().as_millis()])?;
        let sql = "UPDATE payment SET generation = -id WHERE identity = ?1";
        transaction.execute(sql, [identity])?;
        Ok(())
    }

    fn find(&mut self, identity: &str, payment_code: &PaymentCode) -> Result<Standing, rusqlite::Error> {
        if let Some(taken) = self.taken(identity)? {
            return Ok(Standing::Taken(taken));
        }
        let paid =
            self.by_bill.query_one(params![self.generation, payment_code.as_str()], |row| row.get(0))?;
        Ok(if paid { Standing::PaidByAnother } else { Standing::NotFound })
    }

    fn taken(&mut self, identity: &str) -> Result<Option<Taken>, rusqlite::Error> {
        let taken = |row: &Row<'_>| {
            Ok(Taken {
                amount: Rupiah::new(row.get(0)?),
                receipt: BankReceipt { reference_number: row.get(1)?, trace_number: row.get(2)? },
            })
        };
        self.by_identity.query_one([identity], taken).optional()
    }
}

/// The bank's numbers for a payment: no two rows share a reference, and no two among a million
/// neighbours a trace number.
fn receipt(identity: &str, id: i64) -> BankReceipt {
    let row = id.unsigned_abs();
    let reference = (dice::hash(1, identity), dice::spread(row));
    BankReceipt {
        reference_number: format!("{:016X}{:016X}", reference.0, reference.1),
        // Prime to a million, so that neighbours look unlike and yet never alike.
        trace_number: format!("{:06}", row % 1_000_000 * 7_919 % 1_000_000),
    }
}

fn reader(path: &Path) -> Result<Connection, LedgerError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let reader = Connection::open_with_flags(path, flags)?;
    reader.busy_timeout(LOCK_WAIT)?;
    stable_plans(&reader)?;
    Ok(reader)
}

/// Without this, `SQLite` prepares statements anew each time that a value is bound, to see whether it favours
/// another plan.
fn stable_plans(connection: &Connection) -> Result<(), rusqlite::Error> {
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
    connection.set_prepared_statement_cache_capacity(32);
    Ok(())
}

fn ledger_payment(row: &Row<'_>) -> Result<LedgerPayment, rusqlite::Error> {
    let payment_code: String = row.get(3)?;
    Ok(LedgerPayment {
        id: row.get(0)?,
        identity: row.get(1)?,
        generation: row.get(2)?,
        payment_code: PaymentCode::parse(&payment_code).ok_or(rusqlite::Error::InvalidQuery)?,
        invoice: InvoiceNumber::new(row.get(4)?),
        amount: Rupiah::new(row.get(5)?),
        receipt: BankReceipt { reference_number: row.get(6)?, trace_number: row.get(7)? },
        paid_at: Timestamp::from_millis(row.get(8)?),
    })
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().expect("nothing panics while it holds the ledger")
}
