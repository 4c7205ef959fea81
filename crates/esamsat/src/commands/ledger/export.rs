//! `esamsat ledger export`: the whole journal for another program, which adds it up by rules of its own.
//!
//! It is what one audit reads, as of one moment, written as it is read: memory grows with the accounts and the manual
//! entries, never with the postings. Account and description are made of ASCII only, and of nothing that has a meaning
//! in the format, so that no name can end its line, begin a directive, or depend on the reader's locale. Deliberately
//! absent: a selection by date (the reader has one), and any judgement: what does not balance is written as it is.

use crate::{
    config::Place,
    output::{self, Fault},
};
use anyhow::{Context, anyhow, bail};
use clap::{Args, ValueEnum};
use domain::{
    Account, PartnerId, Posting, UpstreamId,
    ledger::{AccountKind, Step},
};
use engine::operate::Operations;
use std::{
    collections::{BTreeMap, HashMap},
    fs::{self, File},
    io::{self, BufWriter, Write},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};
use store::{AuditRow, Store};

/// What is written, and where to.
#[derive(Args)]
pub struct Export {
    /// What reads it
    #[arg(long, value_enum)]
    format: Format,
    /// A file instead of stdout; it is there when it is complete, in place of an older one
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
}

#[derive(Clone, Copy, ValueEnum)]
enum Format {
    /// Plain-text accounting, for hledger
    Hledger,
}

/// Writes the journal.
pub async fn run(place: &Place, operations: &Operations, export: Export) -> anyhow::Result<()> {
    let Format::Hledger = export.format;
    let store = operations.store().as_ref();
    let Some(path) = export.output else {
        return match write(store, Box::new(BufWriter::new(io::stdout()))).await {
            // A reader that went away ends the process quietly, as `head` expects.
            Err(Missed::Output(error)) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
            Err(Missed::Output(error)) => Err(unwritable(Path::new("stdout"), &error)),
            Err(Missed::Other(error)) => Err(error),
            Ok(_) => Ok(()),
        };
    };
    if path.exists() && !path.is_file() {
        bail!(Fault::Usage(format!(
            "failed to write {}: it is no ordinary file; name another one, or leave out --output for stdout",
            path.display()
        )));
    }
    // Beside it first: whoever reads it never sees half a journal.
    let mut partial = path.clone().into_os_string();
    partial.push(".partial");
    let partial = PathBuf::from(partial);
    let file = File::create(&partial).map_err(|error| unwritable(&partial, &error))?;
    let kept = file.try_clone().map_err(|error| unwritable(&partial, &error))?;
    let written = match write(store, Box::new(BufWriter::new(file))).await {
        Ok(count) => kept.sync_all().map(|()| count).map_err(|error| unwritable(&partial, &error)),
        Err(Missed::Output(error)) => Err(unwritable(&partial, &error)),
        Err(Missed::Other(error)) => Err(error),
    };
    let moved = written.and_then(|count| {
        fs::rename(&partial, &path).map_err(|error| unwritable(&path, &error))?;
        Ok(count)
    });
    let count = moved.inspect_err(|_| {
        let _perhaps_gone = fs::remove_file(&partial);
    })?;
    let facts = serde_json::json!({
        "file": path, "transactions": count.transactions, "postings": count.postings,
    });
    let sentence = format!(
        "{} transactions with {} postings are in {}.",
        count.transactions,
        count.postings,
        path.display()
    );
    output::done(place.json, sentence, &facts);
    Ok(())
}

fn unwritable(path: &Path, error: &io::Error) -> anyhow::Error {
    Fault::Unavailable(format!("failed to write {}: {error}", path.display())).into()
}

/// Why there is no journal.
enum Missed {
    /// It could not be written down.
    Output(io::Error),
    /// It could not be read, or makes no sense.
    Other(anyhow::Error),
}

impl From<anyhow::Error> for Missed {
    fn from(error: anyhow::Error) -> Self {
        Self::Other(error)
    }
}

impl From<store::Error> for Missed {
    fn from(error: store::Error) -> Self {
        Self::Other(error.into())
    }
}

/// What was written.
#[derive(Clone, Copy, Default)]
struct Count {
    transactions: u64,
    postings: u64,
}

/// Writes what is booked, as of one moment.
async fn write(store: &dyn Store, output: Box<dyn Write + Send>) -> Result<Count, Missed> {
    let mut journal = Journal::new(output);
    loop {
        journal.names = Names::read(store).await?;
        let shared = Arc::new(Mutex::new(journal));
        let visitor = Arc::clone(&shared);
        let visit = move |row| visitor.lock().unwrap_or_else(PoisonError::into_inner).visit(row);
        store.audit(Box::new(visit)).await?;
        let visited = Arc::into_inner(shared).context("failed to end the audit of the ledger")?;
        journal = visited.into_inner().unwrap_or_else(PoisonError::into_inner);
        match journal.stopped.take() {
            None => return journal.finish().map_err(Missed::Output),
            Some(Stopped::Output(error)) => return Err(Missed::Output(error)),
            Some(Stopped::BalanceMissing(account)) => {
                return Err(Missed::Other(anyhow!(
                    "failed to export the postings of the account {account}: it has no balance; run `esamsat verify`"
                )));
            }
            Some(Stopped::NameUnknown(account)) => {
                // Balances come first, so that nothing is written yet. Who was registered between the names and the
                // audit has a name by now.
                if Names::read(store).await?.account(account).is_none() {
                    return Err(Missed::Other(anyhow!(
                        "failed to name the account {account}: its owner is not registered; run `esamsat verify`"
                    )));
                }
                journal.accounts.clear();
            }
        }
    }
}

/// Who owns accounts.
#[derive(Default)]
struct Names {
    partners: HashMap<PartnerId, String>,
    upstreams: HashMap<UpstreamId, String>,
}

impl Names {
    async fn read(store: &dyn Store) -> Result<Self, store::Error> {
        let partners = store.partners().await?.into_iter();
        let upstreams = store.upstreams().await?.into_iter();
        Ok(Self {
            partners: partners.map(|partner| (partner.id, segment(partner.username.as_str()))).collect(),
            upstreams: upstreams.map(|(name, id)| (id, segment(&name))).collect(),
        })
    }

    /// `live:deposit:loket1`, `live:bank_payable:bank`, `live:fee_income`. The writers' shares of a house account are
    /// one account here: which gateway wrote is nothing that books are kept about.
    fn account(&self, account: Account) -> Option<String> {
        let house = format!("{}:{}", account.environment.name(), account.kind.name());
        let owner = match account.kind {
            AccountKind::Deposit | AccountKind::Reserved => self.partners.get(&PartnerId(account.owner))?,
            AccountKind::BankPayable => self.upstreams.get(&UpstreamId(account.owner))?,
            _ => return Some(house),
        };
        Some(format!("{house}:{owner}"))
    }
}

/// A name as one part of an account: letters, digits and `-_.@` of ASCII as they are, every other byte as `%20`.
/// Different names stay different.
fn segment(name: &str) -> String {
    escaped(name, |byte| byte.is_ascii_alphanumeric() || b"-_.@".contains(&byte))
}

/// A text in a description: what can be printed in ASCII as it is, but for what ends or parts a description.
fn description(text: &str) -> String {
    escaped(text, |byte| (byte.is_ascii_graphic() || byte == b' ') && !b";|%".contains(&byte))
}

fn escaped(text: &str, is_plain: impl Fn(u8) -> bool) -> String {
    use std::fmt::Write;
    let mut written = String::with_capacity(text.len());
    for byte in text.bytes() {
        if is_plain(byte) {
            written.push(char::from(byte));
        } else {
            write!(written, "%{byte:02X}").expect("a text takes any text");
        }
    }
    written
}

/// hledger's type of an account, for its balance sheet and income statement.
const fn type_code(kind: AccountKind) -> char {
    match kind {
        AccountKind::Deposit | AccountKind::Reserved | AccountKind::BankPayable => 'L',
        AccountKind::FeeIncome | AccountKind::UpstreamCashbackIncome => 'R',
        AccountKind::CashbackExpense | AccountKind::UpstreamFeeExpense | AccountKind::DisputeLoss => 'X',
        AccountKind::BankCash => 'C',
    }
}

/// Why the audit ended early.
enum Stopped {
    Output(io::Error),
    NameUnknown(Account),
    /// Of an account with postings.
    BalanceMissing(Account),
}

/// Writes rows of an audit as they come.
struct Journal {
    output: Box<dyn Write + Send>,
    names: Names,
    /// The names of the accounts that have a balance, and thus of all that have postings.
    accounts: BTreeMap<i64, (Account, String)>,
    /// What the manual entries are about; each is dropped when it is written.
    entries: HashMap<i64, String>,
    has_begun: bool,
    open: Option<(i64, Step)>,
    count: Count,
    stopped: Option<Stopped>,
}

impl Journal {
    fn new(output: Box<dyn Write + Send>) -> Self {
        Self {
            output,
            names: Names::default(),
            accounts: BTreeMap::new(),
            entries: HashMap::new(),
            has_begun: false,
            open: None,
            count: Count::default(),
            stopped: None,
        }
    }

    fn visit(&mut self, row: AuditRow) -> bool {
        let done = match row {
            AuditRow::Balance(account, _) => self.declare(account),
            AuditRow::Claim { .. } => Ok(()),
            AuditRow::Entry(entry) => {
                let what = format!("{} {}", entry.kind.name(), description(&entry.reference));
                self.entries.insert(entry.number, what);
                Ok(())
            }
            AuditRow::Posting(posting) => self.posting(&posting),
            AuditRow::Invoice(_) | AuditRow::Event(_) => return false,
        };
        self.stopped = done.err();
        self.stopped.is_none()
    }

    fn declare(&mut self, account: Account) -> Result<(), Stopped> {
        let name = self.names.account(account).ok_or(Stopped::NameUnknown(account))?;
        self.accounts.insert(account.code(), (account, name));
        Ok(())
    }

    /// What a strict reader wants to be told before the first transaction.
    fn begin(&mut self) -> io::Result<()> {
        if std::mem::replace(&mut self.has_begun, true) {
            return Ok(());
        }
        writeln!(self.output, "; The journal of esamsat, in whole Rupiah.")?;
        // The point, so that it is known which sign is the decimal one; there are no decimals.
        writeln!(self.output, "commodity 1000. IDR")?;
        let declared: BTreeMap<&str, AccountKind> =
            self.accounts.values().map(|(account, name)| (name.as_str(), account.kind)).collect();
        for (name, kind) in declared {
            writeln!(self.output, "account {name}  ; type: {}", type_code(kind))?;
        }
        Ok(())
    }

    fn posting(&mut self, posting: &Posting) -> Result<(), Stopped> {
        if !self.accounts.contains_key(&posting.account.code()) {
            return Err(Stopped::BalanceMissing(posting.account));
        }
        self.write_posting(posting).map_err(Stopped::Output)
    }

    fn write_posting(&mut self, posting: &Posting) -> io::Result<()> {
        self.begin()?;
        let of = (posting.subject, posting.step);
        if self.open != Some(of) {
            self.open = Some(of);
            self.count.transactions += 1;
            let what = match posting.step {
                Step::Begin => "begin".to_owned(),
                Step::Settle => "settle".to_owned(),
                Step::Manual => self.entries.remove(&posting.subject).unwrap_or_else(|| "manual".to_owned()),
            };
            let day = posting.at.date_in_jakarta();
            writeln!(self.output, "\n{day} ({}) {what}", posting.subject)?;
        }
        self.count.postings += 1;
        let (_, account) = &self.accounts[&posting.account.code()];
        writeln!(self.output, "    {account}  {} IDR", posting.amount.get())
    }

    /// The last line says that it is the last one.
    fn finish(mut self) -> io::Result<Count> {
        self.begin()?;
        let Count { transactions, postings } = self.count;
        writeln!(self.output, "\n; The end: {transactions} transactions with {postings} postings.")?;
        self.output.flush()?;
        Ok(self.count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_one_part_of_an_account_whatever_is_in_it() {
        for (name, written) in [
            ("loket1", "loket1"),
            ("mitra-satu_2.a@b", "mitra-satu_2.a@b"),
            ("mitra satu", "mitra%20satu"),
            ("a:b", "a%3Ab"),
            ("a  ; x", "a%20%20%3B%20x"),
            ("a%20b", "a%2520b"),
            ("(a) [b] = \"c\"", "%28a%29%20%5Bb%5D%20%3D%20%22c%22"),
            ("é\u{2003}\u{a0}", "%C3%A9%E2%80%83%C2%A0"),
        ] {
            assert_eq!(segment(name), written);
        }
    }

    #[test]
    fn a_reference_ends_no_description() {
        for (text, written) in [
            ("BCA 12/3 (a) #4", "BCA 12/3 (a) #4"),
            ("a;b|c%", "a%3Bb%7Cc%25"),
            ("a\n2026-01-01 x\r\t", "a%0A2026-01-01 x%0D%09"),
            ("setoran № 1", "setoran %E2%84%96 1"),
        ] {
            assert_eq!(description(text), written);
        }
    }
}
