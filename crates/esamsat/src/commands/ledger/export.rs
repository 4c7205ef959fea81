//! `esamsat ledger export`: the whole journal for another program, which adds it up by rules of its own.
//!
//! It is what one audit reads, as of one moment, written as it is read: memory grows with the accounts and the manual
//! entries, never with the postings. Account and description are made of ASCII only, and of nothing that has a meaning
//! in the format, so that no name can end its line, begin a directive, or depend on the reader's locale. Deliberately
//! absent: a selection by date (the reader has one), and any judgement: what does not balance is written as it is.

use super::owners::{Owner, Owners};
use crate::{
    config::Place,
    output::{self, Fault},
    replacement::Replacement,
};
use anyhow::bail;
use clap::{Args, ValueEnum};
use domain::{
    Account, Posting,
    ledger::{AccountKind, Step},
};
use engine::operate::Operations;
use std::{
    collections::{BTreeMap, HashMap},
    io::{self, BufWriter, Write},
    path::PathBuf,
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
        return match write(store, BufWriter::new(io::stdout())).await {
            // A reader that went away ends the process quietly, as `head` expects.
            Err(Stopped::Output(error)) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
            written => written.map(drop).map_err(|stopped| stopped.writing("stdout")),
        };
    };
    if path.exists() && !path.is_file() {
        bail!(Fault::Usage(format!(
            "failed to write {}: it is no ordinary file; name another one, or leave out --output for stdout",
            path.display()
        )));
    }
    let written = async {
        let (count, replacement) = write(store, Replacement::of(&path)?).await?;
        replacement.take_place()?;
        Ok(count)
    };
    let count = written.await.map_err(|stopped: Stopped| stopped.writing(path.display()))?;
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

/// Why there is no journal.
#[derive(Debug, thiserror::Error)]
enum Stopped {
    #[error(transparent)]
    Output(#[from] io::Error),
    #[error(transparent)]
    Store(#[from] store::Error),
    #[error("failed to name the account {0}: its owner is not registered; run `esamsat verify`")]
    Unnamed(Account),
    #[error("failed to export the postings of the account {0}: it has no balance; run `esamsat verify`")]
    BalanceMissing(Account),
}

impl Stopped {
    /// Told with what was written.
    fn writing(self, what: impl std::fmt::Display) -> anyhow::Error {
        match self {
            Self::Output(error) => Fault::Unavailable(format!("failed to write {what}: {error}")).into(),
            Self::Store(error) => error.into(),
            other => other.into(),
        }
    }
}

/// What was written.
#[derive(Clone, Copy, Default)]
struct Count {
    transactions: u64,
    postings: u64,
}

/// Writes what is booked, as of one moment.
async fn write<W: Write + Send + 'static>(store: &dyn Store, output: W) -> Result<(Count, W), Stopped> {
    let mut journal = Journal::new(output);
    let mut unnamed = None;
    loop {
        journal.owners = Owners::read(store).await?;
        let shared = Arc::new(Mutex::new(journal));
        let visitor = Arc::clone(&shared);
        let visit = move |row| visitor.lock().unwrap_or_else(PoisonError::into_inner).visit(row);
        store.audit(Box::new(visit)).await?;
        let visited = Arc::into_inner(shared).expect("an audit that is over has dropped its visitor");
        journal = visited.into_inner().unwrap_or_else(PoisonError::into_inner);
        match journal.stopped.take() {
            None => return Ok(journal.finish()?),
            // Balances come first: nothing is written yet. Who was registered between the names and the audit has a
            // name the next time.
            Some(Stopped::Unnamed(account)) if unnamed.replace(account) != Some(account) => {
                journal.accounts.clear();
            }
            Some(stopped) => return Err(stopped),
        }
    }
}

/// `live:deposit:loket1`, `live:bank_payable:bank`, `live:fee_income`. The writers' shares of a house account are one
/// account here: which gateway wrote is nothing that books are kept about.
fn name_of(account: Account, owners: &Owners) -> Result<String, Stopped> {
    let house = format!("{}:{}", account.environment.name(), account.kind.name());
    match owners.of(account) {
        Owner::House => Ok(house),
        Owner::Named(name) => Ok(format!("{house}:{}", segment(name))),
        Owner::Unknown => Err(Stopped::Unnamed(account)),
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

/// Writes rows of an audit as they come.
struct Journal<W> {
    output: W,
    owners: Owners,
    /// The names of the accounts that have a balance, and thus of all that have postings.
    accounts: BTreeMap<Account, String>,
    /// What the manual entries are about; each is dropped when it is written.
    entries: HashMap<i64, String>,
    has_begun: bool,
    open: Option<(i64, Step)>,
    count: Count,
    /// Why the audit ended early, if it did.
    stopped: Option<Stopped>,
}

impl<W: Write> Journal<W> {
    fn new(output: W) -> Self {
        Self {
            output,
            owners: Owners::default(),
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
        let name = name_of(account, &self.owners)?;
        self.accounts.insert(account, name);
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
            self.accounts.iter().map(|(account, name)| (name.as_str(), account.kind)).collect();
        for (name, kind) in declared {
            writeln!(self.output, "account {name}  ; type: {}", type_code(kind))?;
        }
        Ok(())
    }

    fn posting(&mut self, posting: &Posting) -> Result<(), Stopped> {
        self.begin()?;
        let name = self.accounts.get(&posting.account).ok_or(Stopped::BalanceMissing(posting.account))?;
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
        Ok(writeln!(self.output, "    {name}  {} IDR", posting.amount.get())?)
    }

    /// The last line says that it is the last one.
    fn finish(mut self) -> io::Result<(Count, W)> {
        self.begin()?;
        let Count { transactions, postings } = self.count;
        writeln!(self.output, "\n; The end: {transactions} transactions with {postings} postings.")?;
        self.output.flush()?;
        Ok((self.count, self.output))
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
