//! Verify: re-proves the ledger from its postings, and the invoices against it, as of one moment.
//!
//! Nothing is believed that can be computed: balances from postings, postings from invoices, claims and
//! events from states. It shares no rule with the decisions but the names of accounts.

use domain::{
    Account, Invoice, InvoiceNumber, Partner, PartnerId, Posting, Rupiah, Slot, State, UpstreamId,
    ledger::{AccountKind, Step},
    record::{Entry, EntryKind, Event, EventKind},
    rows::Claim,
};
use serde::Serialize;
use std::{
    collections::{BTreeMap, HashMap, HashSet, hash_map::DefaultHasher},
    hash::{Hash, Hasher},
    sync::{Arc, Mutex, PoisonError},
};
use store::{AuditRow, Store};

/// How many problems are told in words; all are counted.
const PROBLEMS_TOLD_MAX: usize = 50;

/// What was checked, and what is off.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Report {
    /// What was looked at, and how many.
    pub checked: Checked,
    /// How many things are off.
    pub problem_count: u64,
    /// The first of them: where, and what.
    pub problems: Vec<String>,
}

/// What was looked at, and how many.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Checked {
    /// Accounts with a balance.
    pub accounts: u64,
    /// Postings.
    pub postings: u64,
    /// Steps whose postings must sum to zero.
    pub steps: u64,
    /// Manual entries.
    pub entries: u64,
    /// Invoices, by state.
    pub invoices: BTreeMap<&'static str, u64>,
    /// Claims on bills and vehicles.
    pub claims: u64,
    /// Events in the outbox.
    pub events: u64,
    /// The sum of all balances: zero.
    pub sum_of_balances: Rupiah,
}

impl Report {
    /// Whether everything holds.
    pub const fn is_clean(&self) -> bool {
        self.problem_count == 0
    }

    fn problem(&mut self, text: impl FnOnce() -> String) {
        self.problem_count += 1;
        if self.problems.len() < PROBLEMS_TOLD_MAX {
            self.problems.push(text());
        }
    }
}

/// Checks everything in the store.
pub async fn verify(store: &dyn Store) -> Result<Report, store::Error> {
    let auditor = Arc::new(Mutex::new(Auditor::default()));
    let visitor = Arc::clone(&auditor);
    let visit = move |row| {
        visitor.lock().unwrap_or_else(PoisonError::into_inner).visit(row);
        true
    };
    store.audit(Box::new(visit)).await?;
    let mut auditor = std::mem::take(&mut *auditor.lock().unwrap_or_else(PoisonError::into_inner));
    // Read afterwards: whoever has a posting was registered before, and is there now.
    auditor.partners = store.partners().await?.into_iter().map(|partner| (partner.id, partner)).collect();
    auditor.upstreams = store.upstreams().await?.into_iter().map(|(_, id)| id).collect();
    Ok(auditor.finish())
}

/// A step's postings, folded to what an invoice can be compared with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Booked {
    subject: i64,
    /// One hash over account, amount and step of every posting, whatever their order.
    digest: u64,
}

#[derive(Default)]
struct Auditor {
    report: Report,
    partners: HashMap<PartnerId, Partner>,
    upstreams: Vec<UpstreamId>,
    balances: BTreeMap<i64, (Account, Rupiah)>,
    from_postings: BTreeMap<i64, (Account, Rupiah)>,
    /// Bill and vehicle claims; what invoices account for is taken out.
    claims: HashMap<String, i64>,
    entries: HashMap<i64, Entry>,
    corrections: Vec<(Entry, u64)>,
    /// In order of subject, as the audit hands postings over.
    booked: Vec<Booked>,
    step: Option<(i64, Step, Rupiah)>,
    next_booked: usize,
    reserved_by_invoices: HashMap<i64, Rupiah>,
    /// Sums of hashes: of the events that the invoices and entries call for, and of those that are there.
    events_expected: u64,
    events_found: u64,
}

impl Auditor {
    fn visit(&mut self, row: AuditRow) {
        match row {
            AuditRow::Balance(account, balance) => {
                self.report.checked.accounts += 1;
                self.report.checked.sum_of_balances += balance;
                self.balances.insert(account.code(), (account, balance));
            }
            AuditRow::Claim { key, owner } => {
                if key.starts_with("p/") || key.starts_with("c/") {
                    self.report.checked.claims += 1;
                    self.claims.insert(key, owner);
                }
            }
            AuditRow::Entry(entry) => {
                self.report.checked.entries += 1;
                self.entries.insert(entry.number, entry);
            }
            AuditRow::Posting(posting) => self.posting(&posting),
            AuditRow::Invoice(invoice) => {
                self.close_step();
                self.invoice(&invoice);
            }
            AuditRow::Event(event) => {
                self.report.checked.events += 1;
                self.events_found = self.events_found.wrapping_add(event_hash(&event));
            }
        }
    }

    fn posting(&mut self, posting: &Posting) {
        self.report.checked.postings += 1;
        let subject = posting.subject;
        match &mut self.step {
            Some((open, step, sum)) if *open == subject && *step == posting.step => *sum += posting.amount,
            _ => {
                self.close_step();
                self.step = Some((subject, posting.step, posting.amount));
            }
        }
        let account =
            self.from_postings.entry(posting.account.code()).or_insert((posting.account, Rupiah::ZERO));
        account.1 += posting.amount;
        let digest = posting_hash(posting.step, posting.account, posting.amount);
        match self.booked.last_mut() {
            Some(last) if last.subject == subject => last.digest = last.digest.wrapping_add(digest),
            _ => self.booked.push(Booked { subject, digest }),
        }
    }

    fn close_step(&mut self) {
        if let Some((subject, step, sum)) = self.step.take() {
            self.report.checked.steps += 1;
            if sum != Rupiah::ZERO {
                self.report.problem(|| {
                    format!(
                        "postings of {} step {step:?}: they sum to {sum}, not to zero",
                        subject_name(subject)
                    )
                });
            }
        }
    }

    fn invoice(&mut self, invoice: &Invoice) {
        *self.report.checked.invoices.entry(invoice.state.word()).or_default() += 1;
        let number = invoice.number;
        let subject = number.get();
        // Both come in order of number, so that what is skipped belongs to no invoice.
        let digest = self.take_booked(subject);
        let (lines, kinds) = expected(invoice);
        let expected_digest = lines.iter().fold(0_u64, |digest, (step, account, amount)| {
            digest.wrapping_add(posting_hash(*step, *account, *amount))
        });
        if digest != expected_digest {
            self.report.problem(|| {
                format!(
                    "{number:?} is {} over Rp {}: its postings are not those that this calls for",
                    invoice.state.word(),
                    invoice.total
                )
            });
        }
        if usize::try_from(invoice.sequence) != Ok(kinds.len()) {
            self.report
                .problem(|| format!("{number:?} counts {} events, not {}", invoice.sequence, kinds.len()));
        }
        for (index, kind) in kinds.iter().enumerate() {
            let sequence = u32::try_from(index + 1).unwrap_or(u32::MAX);
            self.events_expected =
                self.events_expected.wrapping_add(hash_of(&(subject, sequence, kind.name())));
        }

        let pending = matches!(invoice.state, State::Pending { .. });
        let confirmed = matches!(invoice.state, State::Confirm { .. });
        if pending {
            let reserved = Account::reserved(invoice.environment, invoice.partner).code();
            *self.reserved_by_invoices.entry(reserved).or_default() += invoice.total;
        }
        if let Some(code) = invoice.payment_code.clone().filter(|_| pending || confirmed) {
            let bill = Claim::PaymentCode(invoice.environment, invoice.upstream, code).key();
            let held = self.claims.get(&bill) == Some(&subject);
            if held {
                self.claims.remove(&bill);
            }
            // A sandbox reset gives up the claims of settled bills.
            let given_up = confirmed && invoice.environment == domain::Environment::Sandbox;
            if !held && !given_up {
                self.report.problem(|| format!("{number:?} does not hold the claim on its bill"));
            }
        }
        if pending {
            let vehicle =
                Claim::Chassis(invoice.environment, invoice.product.clone(), invoice.chassis.clone()).key();
            if self.claims.get(&vehicle) == Some(&subject) {
                self.claims.remove(&vehicle);
            } else {
                self.report.problem(|| format!("{number:?} does not hold the claim on its vehicle"));
            }
        }
    }

    /// What is booked for an invoice; what lies before it in order must be manual entries.
    fn take_booked(&mut self, subject: i64) -> u64 {
        while let Some(booked) = self.booked.get(self.next_booked).copied() {
            if booked.subject > subject {
                return 0;
            }
            self.next_booked += 1;
            if booked.subject == subject {
                return booked.digest;
            }
            self.entry(booked);
        }
        0
    }

    fn entry(&mut self, booked: Booked) {
        let Some(entry) = self.entries.remove(&booked.subject) else {
            return self.report.problem(|| {
                format!("postings of {}: there is no such invoice or entry", subject_name(booked.subject))
            });
        };
        match entry.kind {
            EntryKind::TopUp => {
                let deposit = Account::deposit(entry.environment, entry.partner);
                let cash = Account::house(AccountKind::BankCash, entry.environment, Slot(0));
                let digest = posting_hash(Step::Manual, deposit, -entry.amount).wrapping_add(posting_hash(
                    Step::Manual,
                    cash,
                    entry.amount,
                ));
                if digest != booked.digest {
                    self.report.problem(|| {
                        format!(
                            "entry {} is a top-up of Rp {}: its postings are others",
                            entry.number, entry.amount
                        )
                    });
                }
                let event = hash_of(&(entry.number, 1_u32, EventKind::DepositCredited.name()));
                self.events_expected = self.events_expected.wrapping_add(event);
            }
            // Which upstreams there are is known at the end.
            EntryKind::Correction => self.corrections.push((entry, booked.digest)),
        }
    }

    fn correction(&mut self, entry: &Entry, digest: u64) {
        let loss = Account::house(AccountKind::DisputeLoss, entry.environment, Slot(0));
        let is_booked = self.upstreams.iter().any(|upstream| {
            let payable = Account::bank_payable(entry.environment, *upstream, Slot(0));
            let expected = posting_hash(Step::Manual, loss, entry.amount).wrapping_add(posting_hash(
                Step::Manual,
                payable,
                -entry.amount,
            ));
            expected == digest
        });
        if !is_booked {
            self.report.problem(|| {
                format!(
                    "entry {} is a correction of Rp {}: its postings are others",
                    entry.number, entry.amount
                )
            });
        }
    }

    fn finish(mut self) -> Report {
        self.close_step();
        while let Some(booked) = self.booked.get(self.next_booked).copied() {
            self.next_booked += 1;
            self.entry(booked);
        }
        for (entry, digest) in std::mem::take(&mut self.corrections) {
            self.correction(&entry, digest);
        }
        for number in self.entries.keys().copied().collect::<Vec<_>>() {
            self.report.problem(|| format!("entry {number} has no postings"));
        }
        let sum = self.report.checked.sum_of_balances;
        if sum != Rupiah::ZERO {
            self.report.problem(|| format!("all balances sum to {sum}, not to zero"));
        }
        let accounts: HashSet<i64> = self.balances.keys().chain(self.from_postings.keys()).copied().collect();
        for code in accounts {
            let (kept, posted) = (self.balances.get(&code), self.from_postings.get(&code));
            let amount =
                |known: Option<&(Account, Rupiah)>| known.map_or(Rupiah::ZERO, |(_, amount)| *amount);
            let Some((account, _)) = kept.or(posted).copied() else { continue };
            let (kept, posted) = (amount(kept), amount(posted));
            if kept != posted {
                self.report.problem(|| {
                    format!("account {account}: the balance is {kept}, its postings sum to {posted}")
                });
            }
            match account.kind {
                AccountKind::Reserved => {
                    let open = self.reserved_by_invoices.get(&code).copied().unwrap_or_default();
                    if kept != -open {
                        self.report.problem(|| {
                            format!("account {account}: {kept} is reserved, open payments come to {open}")
                        });
                    }
                }
                AccountKind::Deposit => match self.partners.get(&PartnerId(account.owner)) {
                    None => self.report.problem(|| format!("account {account}: there is no such partner")),
                    Some(partner) if partner.credit_limit - kept < Rupiah::ZERO => {
                        self.report.problem(|| {
                            format!(
                                "account {account}: {kept} is beyond the credit limit {}",
                                partner.credit_limit
                            )
                        });
                    }
                    Some(_) => {}
                },
                _ => {}
            }
        }
        for (key, owner) in std::mem::take(&mut self.claims) {
            self.report.problem(|| {
                format!("claim {key} of {} holds for no open or paid invoice", subject_name(owner))
            });
        }
        if self.events_expected != self.events_found {
            self.report.problem(|| {
                "outbox: its events are not those that the invoices and top-ups call for".to_owned()
            });
        }
        self.report
    }
}

/// The postings and events that an invoice's state calls for. Slots are left out: any writer may have
/// booked them.
fn expected(invoice: &Invoice) -> (Vec<(Step, Account, Rupiah)>, &'static [EventKind]) {
    let environment = invoice.environment;
    let deposit = Account::deposit(environment, invoice.partner);
    let reserved = Account::reserved(environment, invoice.partner);
    let house = |kind| Account::house(kind, environment, Slot(0));
    let mut lines = Vec::new();
    if invoice.state.attempt().is_some() {
        lines.extend([(Step::Begin, deposit, invoice.total), (Step::Begin, reserved, -invoice.total)]);
    }
    let kinds: &[EventKind] = match invoice.state {
        State::Failure { .. } | State::Inquiry => &[],
        State::Pending { .. } => &[EventKind::PaymentPending],
        State::Confirm { .. } => {
            let terms = invoice.upstream_terms;
            lines.extend([
                (Step::Settle, reserved, invoice.total),
                (
                    Step::Settle,
                    Account::bank_payable(environment, invoice.upstream, Slot(0)),
                    -invoice.payable(),
                ),
                (Step::Settle, house(AccountKind::FeeIncome), -invoice.fee),
                (Step::Settle, house(AccountKind::CashbackExpense), invoice.cashback),
                (Step::Settle, deposit, -invoice.cashback),
                (Step::Settle, house(AccountKind::UpstreamFeeExpense), terms.fee),
                (Step::Settle, house(AccountKind::UpstreamCashbackIncome), -terms.cashback),
            ]);
            &[EventKind::PaymentPending, EventKind::PaymentConfirmed]
        }
        State::Refund { .. } => {
            lines.extend([(Step::Settle, reserved, invoice.total), (Step::Settle, deposit, -invoice.total)]);
            &[EventKind::PaymentPending, EventKind::PaymentRefunded]
        }
    };
    lines.retain(|(_, _, amount)| *amount != Rupiah::ZERO);
    (lines, kinds)
}

fn posting_hash(step: Step, account: Account, amount: Rupiah) -> u64 {
    hash_of(&(step, Account { slot: Slot(0), ..account }, amount.get()))
}

fn event_hash(event: &Event) -> u64 {
    hash_of(&(event.subject, event.sequence, event.kind.name()))
}

fn hash_of(value: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish()
}

fn subject_name(subject: i64) -> String {
    let number = InvoiceNumber::new(subject);
    if number.in_range() { format!("invoice {subject}") } else { format!("entry {subject}") }
}
