//! The auditor: recomputes, from postings, from the bank's own books and from what every partner was told, what must
//! always hold.
//!
//! It shares no rule with the engine. It reads rows as data, calls neither `decide` nor `verify`, and knows of the
//! design only its tables: what each step posts, which state may follow which, what a bank may be asked.

use crate::{bank::BankStanding, record::Record, store::Lens};
use domain::{
    Accepted, Account, Command, Decision, Invoice, NotPaidProof, Partner, Reason, State,
    ledger::{AccountKind, Step},
    record::EntryKind,
};
use engine::{Refused, Turned, View, domain, store};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use store::{AuditRow, Batch};

/// A bank's own books, as the auditor reads them.
pub(crate) trait BankBooks: Send + Sync {
    /// What they say of a payment, of which they may never have heard.
    fn standing(&self, identity: &str) -> BankStanding;

    /// All payments that a gateway asked for, by identity.
    fn payments(&self) -> Vec<(String, BankStanding)>;
}

/// What a partner was told at the inquiry.
#[derive(Clone, Copy)]
struct Offer {
    partner: u32,
    total: i64,
    fee: i64,
    cashback: i64,
}

/// How a request to pay or a question about a payment was answered.
pub(crate) struct Answered<'a> {
    pub(crate) partner: &'a Partner,
    pub(crate) invoice: i64,
    /// `pay`, `status`.
    pub(crate) channel: &'static str,
    /// When it was asked, on the run's own time.
    pub(crate) asked_at: Duration,
    /// Whether the gateway stood still in between, which no deadline can help.
    pub(crate) was_disturbed: bool,
    pub(crate) answer: &'a Result<View, Refused>,
}

/// The auditor of one run.
pub(crate) struct Auditor {
    lens: Lens,
    record: Arc<Record>,
    books: Arc<dyn BankBooks>,
    send_within: Duration,
    seen: Mutex<Seen>,
}

#[derive(Default)]
struct Seen {
    invoices: BTreeMap<i64, Invoice>,
    /// What each step of each subject posted.
    groups: BTreeMap<(i64, Step), BTreeMap<Account, i64>>,
    sums: BTreeMap<Account, i64>,
    /// Which invoice pays or has paid a bill.
    living: BTreeMap<String, i64>,
    credit_limits: BTreeMap<Account, i64>,
    /// Events by subject, and the position of the last.
    events: BTreeMap<i64, u32>,
    last_event: i64,
    offers: BTreeMap<i64, Offer>,
    /// The final word that a partner read, the receipt with it, and when.
    told: BTreeMap<i64, (&'static str, String, Duration)>,
    /// When a reservation was handed to the store, when it and the end were committed.
    handed_in: BTreeMap<i64, Duration>,
    begun: BTreeMap<i64, Duration>,
    ended: BTreeMap<i64, Duration>,
    fresh: BTreeMap<i64, u32>,
    topped_up: BTreeMap<u32, i64>,
    commits: u64,
}

impl Auditor {
    pub(crate) fn new(
        lens: Lens,
        record: Arc<Record>,
        books: Arc<dyn BankBooks>,
        send_within: Duration,
    ) -> Self {
        Self { lens, record, books, send_within, seen: Mutex::default() }
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Payments that were begun.
    pub(crate) fn payments(&self) -> u64 {
        self.seen().begun.len() as u64
    }

    /// A batch is handed to a store.
    pub(crate) fn handed_in(&self, batch: &Batch) {
        let now = self.record.elapsed();
        let mut seen = self.seen();
        for command in &batch.commands {
            if let Command::BeginPayment(begin) = command {
                seen.handed_in.insert(begin.facts.invoice.get(), now);
            }
        }
    }

    /// A batch was committed.
    pub(crate) fn committed(&self, batch: &Batch, decisions: &[Decision]) {
        let mut guard = self.seen();
        let seen = &mut *guard;
        let mut touched = BTreeSet::new();
        for (command, decision) in batch.commands.iter().zip(decisions) {
            match command {
                Command::RecordInquiry(record) => _ = touched.insert(record.invoice.number.get()),
                Command::BeginPayment(begin) => _ = touched.insert(begin.facts.invoice.get()),
                Command::PutOffResolution(put_off) => _ = touched.insert(put_off.facts.invoice.get()),
                Command::SettlePayment(settle) => _ = touched.insert(settle.facts.invoice.get()),
                Command::ApproveResolution(approve) => _ = touched.insert(approve.facts.invoice.get()),
                Command::TopUp(_) | Command::CorrectIncident(_) => {
                    if let Ok(Accepted::Entry(number)) = decision {
                        touched.insert(*number);
                    }
                    if let (Command::TopUp(top_up), Ok(_)) = (command, decision) {
                        *seen.topped_up.entry(top_up.partner.0).or_default() += top_up.amount.get();
                    }
                }
                Command::AddPartner(_) | Command::ChangePartner { .. } => self.read_partners(seen),
                _ => {}
            }
        }
        self.read_events(seen);
        // What ends with a commit makes room for what begins with it.
        let is_open = |subject: &i64| {
            self.lens.invoice(*subject).is_some_and(|invoice| matches!(invoice.state, State::Pending { .. }))
        };
        let (open, others): (Vec<_>, Vec<_>) = touched.into_iter().partition(is_open);
        for subject in others.into_iter().chain(open) {
            self.read_postings(seen, subject);
            self.read_invoice(seen, subject);
        }
        self.balances(seen);
        seen.commits += 1;
        if seen.commits.is_multiple_of(100) {
            self.everything(seen);
        }
    }

    fn read_partners(&self, seen: &mut Seen) {
        for partner in self.lens.partners() {
            let account = Account::deposit(partner.environment, partner.id);
            seen.credit_limits.insert(account, partner.credit_limit.get());
        }
    }

    fn read_events(&self, seen: &mut Seen) {
        for (position, event) in self.lens.events(seen.last_event) {
            seen.last_event = position;
            let count = seen.events.entry(event.subject).or_default();
            *count += 1;
            if event.sequence != *count {
                let what = format!("event {} of {} comes as number {count}", event.sequence, event.subject);
                self.record.wrong(Some(event.subject), what);
            }
        }
    }

    fn read_postings(&self, seen: &mut Seen, subject: i64) {
        let mut groups: BTreeMap<Step, BTreeMap<Account, i64>> = BTreeMap::new();
        for posting in self.lens.postings(subject) {
            groups.entry(posting.step).or_default().insert(posting.account, posting.amount.get());
        }
        for ((_, step), known) in seen.groups.range((subject, Step::Begin)..=(subject, Step::Manual)) {
            if groups.get(step) != Some(known) {
                self.record.wrong(Some(subject), format!("the postings of {step:?} were changed"));
            }
        }
        for (step, lines) in groups {
            if seen.groups.contains_key(&(subject, step)) {
                continue;
            }
            let sum: i64 = lines.values().sum();
            if sum != 0 {
                self.record.wrong(Some(subject), format!("the postings of {step:?} sum to {sum}"));
            }
            for (account, amount) in &lines {
                *seen.sums.entry(*account).or_default() += amount;
            }
            seen.groups.insert((subject, step), lines);
        }
    }

    fn read_invoice(&self, seen: &mut Seen, number: i64) {
        let Some(invoice) = self.lens.invoice(number) else { return };
        let wrong = |what: String| self.record.wrong(Some(number), what);
        let known = seen.invoices.insert(number, invoice.clone());
        if known.as_ref() == Some(&invoice) {
            return;
        }
        if let Some(known) = &known {
            let terms = |invoice: &Invoice| {
                let Invoice { partner, total, fee, cashback, business_date, .. } = invoice;
                (*partner, *total, *fee, *cashback, *business_date, invoice.payment_code.clone())
            };
            if terms(known) != terms(&invoice) {
                wrong("the terms of an invoice changed".to_owned());
            }
            let (before, after) = (known.state.word(), invoice.state.word());
            let may_follow = matches!(
                (before, after),
                ("INQUIRY", "PENDING") | ("PENDING", "PENDING" | "CONFIRM" | "REFUND")
            );
            if !may_follow {
                wrong(format!("{after} follows {before}"));
            }
            let (was, is) = (known.state.attempt(), invoice.state.attempt());
            if let (Some(was), Some(is)) = (was, is)
                && (was.identity != is.identity || was.send_before != is.send_before)
            {
                wrong("a payment changed its identity".to_owned());
            }
        } else if !matches!(invoice.state, State::Inquiry | State::Failure { .. }) {
            wrong(format!("an invoice begins as {}", invoice.state.word()));
        }
        self.record.note(Some(number), format!("committed {}", told_of(&invoice)));
        self.shape(seen, &invoice);
        let now = self.record.elapsed();
        let Some(code) = invoice.payment_code.as_ref().map(|code| code.as_str().to_owned()) else { return };
        match &invoice.state {
            State::Pending { .. } => {
                seen.begun.entry(number).or_insert(now);
                let other = seen.living.insert(code, number);
                if other.is_some_and(|other| other != number) {
                    wrong(format!("a bill has a second living payment; the first is {other:?}"));
                }
                let open_of_vehicle = seen.invoices.values().filter(|other| {
                    other.chassis == invoice.chassis && matches!(other.state, State::Pending { .. })
                });
                if open_of_vehicle.count() > 1 {
                    wrong("a vehicle has two open payments".to_owned());
                }
            }
            State::Confirm { attempt, receipt, .. } => {
                seen.ended.insert(number, now);
                self.record.probe("state: CONFIRM");
                let bank = self.books.standing(&attempt.identity);
                if !bank.is_taken && !bank.has_lied {
                    wrong("CONFIRM, and the bank has not taken it".to_owned());
                }
                if bank.may_undo {
                    wrong("CONFIRM, and a reversal is on its way to the bank".to_owned());
                }
                if bank.amount != invoice.total.get() - invoice.fee.get() {
                    wrong(format!("CONFIRM, and the bank took {}", bank.amount));
                }
                if *receipt != bank.receipt {
                    wrong("CONFIRM with another receipt than the bank's".to_owned());
                }
            }
            State::Refund { attempt, proof, .. } => {
                seen.ended.insert(number, now);
                self.record.probe(match proof {
                    NotPaidProof::NeverSent => "state: REFUND, never sent",
                    NotPaidProof::Refused { .. } => "state: REFUND, refused",
                    NotPaidProof::NotFound { .. } => "state: REFUND, not found",
                    NotPaidProof::PaidByAnother => "state: REFUND, paid by another",
                    NotPaidProof::Operators { .. } => "state: REFUND, by operators",
                });
                seen.living.remove(&code);
                let bank = self.books.standing(&attempt.identity);
                if bank.is_taken && !bank.has_lied {
                    wrong(format!("REFUND ({proof:?}), and the bank has taken it"));
                }
                if bank.may_take && !bank.has_lied {
                    wrong(format!("REFUND ({proof:?}), and a message that pays it is on its way"));
                }
            }
            State::Inquiry | State::Failure { .. } => {}
        }
    }

    /// The design's table of what each step posts, and the events with it.
    fn shape(&self, seen: &Seen, invoice: &Invoice) {
        let number = invoice.number.get();
        let (total, fee, cashback) = (invoice.total.get(), invoice.fee.get(), invoice.cashback.get());
        let begin: Lines<'_> = &[(AccountKind::Deposit, total), (AccountKind::Reserved, -total)];
        let confirm: Lines<'_> = &[
            (AccountKind::Reserved, total),
            (AccountKind::BankPayable, fee - total),
            (AccountKind::FeeIncome, -fee),
            (AccountKind::CashbackExpense, cashback),
            (AccountKind::Deposit, -cashback),
        ];
        let refund: Lines<'_> = &[(AccountKind::Reserved, total), (AccountKind::Deposit, -total)];
        let (first, last, events): (Option<Lines<'_>>, Option<Lines<'_>>, u32) = match &invoice.state {
            State::Inquiry | State::Failure { .. } => (None, None, 0),
            State::Pending { .. } => (Some(begin), None, 1),
            State::Confirm { .. } => (Some(begin), Some(confirm), 2),
            State::Refund { .. } => (Some(begin), Some(refund), 2),
        };
        for (step, expected) in [(Step::Begin, first), (Step::Settle, last)] {
            let posted = seen.groups.get(&(number, step));
            let shown = posted.map(|lines| {
                lines.iter().map(|(account, amount)| (account.kind, *amount)).collect::<BTreeMap<_, _>>()
            });
            let expected = expected.map(|lines| {
                lines.iter().copied().filter(|(_, amount)| *amount != 0).collect::<BTreeMap<_, _>>()
            });
            if shown != expected {
                let what = format!("{} posted {shown:?} at {step:?}, not {expected:?}", invoice.state.word());
                self.record.wrong(Some(number), what);
            }
            let is_others = |account: &Account| {
                matches!(account.kind, AccountKind::Deposit | AccountKind::Reserved)
                    && account.owner != invoice.partner.0
            };
            if posted.is_some_and(|lines| lines.keys().any(is_others)) {
                self.record.wrong(Some(number), "another partner's money was moved");
            }
        }
        let count = seen.events.get(&number).copied().unwrap_or(0);
        if count != events {
            let what = format!("{} has {count} events, not {events}", invoice.state.word());
            self.record.wrong(Some(number), what);
        }
        if let Some(offer) = seen.offers.get(&number)
            && (offer.partner, offer.total, offer.fee, offer.cashback)
                != (invoice.partner.0, total, fee, cashback)
        {
            self.record.wrong(Some(number), "the partner was told other terms at the inquiry");
        }
    }

    fn balances(&self, seen: &Seen) {
        let mut stored: BTreeMap<Account, i64> = self.lens.balances();
        stored.retain(|_, amount| *amount != 0);
        let mut sums = seen.sums.clone();
        sums.retain(|_, amount| *amount != 0);
        if stored != sums {
            for account in stored.keys().chain(sums.keys()).collect::<BTreeSet<_>>() {
                let (balance, sum) = (stored.get(account), sums.get(account));
                if balance != sum {
                    self.record.wrong(
                        None,
                        format!("the balance of {account} is {balance:?}, its postings {sum:?}"),
                    );
                }
            }
        }
        let all: i64 = stored.values().sum();
        if all != 0 {
            self.record.wrong(None, format!("all balances sum to {all}"));
        }
        for (account, amount) in &stored {
            match account.kind {
                AccountKind::Deposit => {
                    let limit = seen.credit_limits.get(account).copied().unwrap_or(0);
                    if *amount > limit {
                        self.record
                            .wrong(None, format!("{account} is {amount}, beyond its credit limit {limit}"));
                    }
                }
                AccountKind::Reserved if *amount > 0 => {
                    self.record
                        .wrong(None, format!("{account} is {amount}: more was released than reserved"));
                }
                _ => {}
            }
        }
    }

    /// Everything anew, from all rows.
    fn everything(&self, seen: &Seen) {
        let (mut groups, mut invoices) = (BTreeMap::new(), 0_usize);
        let (mut claims, mut deposits, mut top_ups) = (BTreeMap::new(), BTreeSet::new(), BTreeSet::new());
        for row in self.lens.rows() {
            match row {
                AuditRow::Posting(posting) => {
                    let lines: &mut BTreeMap<_, _> =
                        groups.entry((posting.subject, posting.step)).or_default();
                    lines.insert(posting.account, posting.amount.get());
                }
                AuditRow::Invoice(invoice) => {
                    invoices += 1;
                    if seen.invoices.get(&invoice.number.get()) != Some(&*invoice) {
                        self.record.wrong(Some(invoice.number.get()), "an invoice changed without a command");
                    }
                }
                AuditRow::Claim { key, owner } if key.starts_with("d/") => _ = deposits.insert(owner),
                AuditRow::Claim { key, owner } if key.starts_with("p/") || key.starts_with("c/") => {
                    claims.insert(key, owner);
                }
                AuditRow::Entry(entry) if entry.kind == EntryKind::TopUp => _ = top_ups.insert(entry.number),
                AuditRow::Claim { .. } | AuditRow::Balance(..) | AuditRow::Entry(_) | AuditRow::Event(_) => {}
            }
        }
        if groups != seen.groups || invoices != seen.invoices.len() {
            self.record.wrong(None, "rows came or went without a command");
        }
        let mut expected = BTreeMap::new();
        for invoice in seen.invoices.values() {
            let (number, upstream) = (invoice.number.get(), invoice.upstream.0);
            let is_open = matches!(invoice.state, State::Pending { .. });
            if let Some(code) =
                invoice.payment_code.as_ref().filter(|_| is_open || invoice.state.word() == "CONFIRM")
            {
                expected.insert(format!("p/live/{upstream}/{code}"), number);
            }
            if is_open {
                expected.insert(format!("c/live/{}/{}", invoice.product, invoice.chassis), number);
            }
        }
        if claims != expected {
            let of_either = expected.iter().chain(&claims);
            let differing = of_either.into_iter().find(|(key, _)| claims.get(*key) != expected.get(*key));
            let what = format!("the claims differ from what living payments need: {differing:?}");
            self.record.wrong(differing.map(|(_, number)| *number), what);
        }
        if deposits != top_ups {
            self.record.wrong(None, "top-ups and the claims on their references differ");
        }
    }

    /// The first byte of a payment request is about to leave, the first time.
    pub(crate) fn sent(&self, number: i64, identity: &str, is_in_time: bool) {
        let now = self.record.elapsed();
        let mut seen = self.seen();
        let fresh = seen.fresh.entry(number).or_default();
        *fresh += 1;
        if *fresh > 1 {
            let what = format!("{fresh} fresh requests reached the bank");
            self.record.wrong(Some(number), what);
        }
        let stored = self.lens.invoice(number);
        let attempt = stored.as_ref().and_then(|invoice| invoice.state.attempt());
        if attempt.is_none_or(|attempt| attempt.identity != identity) {
            self.record.wrong(Some(number), "a request left before its reservation was durable");
        }
        // One that a question has paid meanwhile is a repeat to the bank.
        match stored.map(|invoice| invoice.state.word()) {
            Some("REFUND") => {
                self.record.wrong(Some(number), "a request left after its payment was refunded");
            }
            Some("CONFIRM") => self.record.probe("a request left after a question had paid it"),
            _ => {}
        }
        let handed_in = seen.handed_in.get(&number).copied().unwrap_or_default();
        if !is_in_time || now > handed_in + self.send_within {
            self.record.wrong(Some(number), "a request left after send_before");
        }
    }

    /// A partner was told of a bill.
    pub(crate) fn offered(&self, partner: &Partner, view: &View) {
        let Invoice { number, total, fee, cashback, .. } = &view.invoice;
        let (total, fee, cashback) = (total.get(), fee.get(), cashback.get());
        let offer = Offer { partner: partner.id.0, total, fee, cashback };
        let mut seen = self.seen();
        if self.lens.invoice(number.get()).is_none_or(|stored| stored != view.invoice) {
            self.record.wrong(Some(number.get()), "a partner was told of a bill that is not recorded so");
        }
        if seen.offers.insert(number.get(), offer).is_some() {
            self.record.wrong(Some(number.get()), "a number was given out twice");
        }
    }

    /// A partner was told something about an invoice.
    pub(crate) fn told(&self, answered: &Answered<'_>) {
        let Answered { partner, invoice: number, channel, asked_at, was_disturbed, answer } = answered;
        let wrong = |what: String| self.record.wrong(Some(*number), what);
        let now = self.record.elapsed();
        if !was_disturbed && now.saturating_sub(*asked_at) >= Duration::from_mins(1) {
            wrong(format!("{channel} was answered after {:?}", now.saturating_sub(*asked_at)));
        }
        let mut seen = self.seen();
        let owner = seen.offers.get(number).map(|offer| offer.partner);
        let stored = seen.invoices.get(number).cloned();
        match answer {
            Ok(view) => {
                let word = view.invoice.state.word();
                self.record.note(Some(*number), format!("told {} by {channel}: {word}", partner.username));
                if owner.is_some_and(|owner| owner != partner.id.0) {
                    wrong("a partner saw what is another's".to_owned());
                }
                let stored = stored.expect("what is told of was recorded");
                match &view.invoice.state {
                    State::Confirm { receipt, .. } => {
                        self.final_word(&mut seen, *number, "CONFIRM", &receipt.reference_number);
                        if stored.state.word() != "CONFIRM" {
                            wrong(format!("told CONFIRM, and it is {}", stored.state.word()));
                        }
                    }
                    State::Refund { .. } => {
                        self.final_word(&mut seen, *number, "REFUND", "");
                        if stored.state.word() != "REFUND" {
                            wrong(format!("told REFUND, and it is {}", stored.state.word()));
                        }
                    }
                    _ => {
                        // Of two requests at the same time, either may be answered first.
                        if let Some((told, _, told_at)) = seen.told.get(number)
                            && told_at < asked_at
                        {
                            wrong(format!("told {told} before, and {word} now"));
                        }
                    }
                }
            }
            Err(refused) => {
                let reason = refused.refusal.reason;
                let shown = format!("told {} by {channel}: refused, {}", partner.username, reason.code());
                self.record.note(Some(*number), shown);
                if reason == Reason::Internal {
                    wrong("an unclassified error".to_owned());
                }
                if refused.turned != Turned::Answer {
                    return;
                }
                let (Some(stored), true) = (stored, owner.is_none_or(|owner| owner == partner.id.0)) else {
                    return;
                };
                let is_before = |moment: Option<&Duration>| moment.is_some_and(|at| at < asked_at);
                let is_paid = reason == Reason::BillAlreadyPaid;
                match stored.state.word() {
                    "CONFIRM" if is_before(seen.ended.get(number)) && !is_paid => {
                        wrong(format!("it is CONFIRM, and {channel} is refused as {}", reason.code()));
                    }
                    "PENDING" if is_before(seen.begun.get(number)) && reason != Reason::InvoiceUnknown => {
                        wrong(format!("it is PENDING, and {channel} is refused as {}", reason.code()));
                    }
                    "CONFIRM" | "PENDING" if reason == Reason::InvoiceRefunded => {
                        wrong(format!("it is {}, and called refunded", stored.state.word()));
                    }
                    _ => {}
                }
            }
        }
    }

    fn final_word(&self, seen: &mut Seen, number: i64, word: &'static str, receipt: &str) {
        let now = self.record.elapsed();
        let told = seen.told.entry(number).or_insert_with(|| (word, receipt.to_owned(), now));
        if (told.0, told.1.as_str()) != (word, receipt) {
            let what = format!("told {} before, and {word} now", told.0);
            self.record.wrong(Some(number), what);
        }
    }

    /// Invoices whose payment is open.
    pub(crate) fn open(&self) -> Vec<i64> {
        let seen = self.seen();
        let is_open = |invoice: &&Invoice| matches!(invoice.state, State::Pending { .. });
        seen.invoices.values().filter(is_open).map(|invoice| invoice.number.get()).collect()
    }

    /// Everything is over: what is final is the bank's truth, one to one and to the Rupiah.
    pub(crate) fn over(&self) {
        let seen = self.seen();
        self.everything(&seen);
        self.balances(&seen);
        let mut confirmed = BTreeMap::new();
        let mut spent: BTreeMap<u32, i64> = BTreeMap::new();
        for invoice in seen.invoices.values() {
            let number = invoice.number.get();
            match &invoice.state {
                State::Pending { .. } => {
                    self.record.wrong(Some(number), "still open after the faults have ended");
                }
                State::Confirm { attempt, .. } => {
                    confirmed.insert(attempt.identity.clone(), number);
                    *spent.entry(invoice.partner.0).or_default() +=
                        invoice.total.get() - invoice.cashback.get();
                }
                _ => {}
            }
            if let Some((told, ..)) = seen.told.get(&number)
                && *told != invoice.state.word()
            {
                let what = format!("a partner was told {told}, and it ended as {}", invoice.state.word());
                self.record.wrong(Some(number), what);
            }
        }
        let mut confirmed_rupiah = 0;
        for (identity, payment) in self.books.payments() {
            let number = payment.invoice;
            match (payment.is_taken, confirmed.remove(&identity)) {
                (true, Some(_)) => confirmed_rupiah += payment.amount,
                // It said that it took it.
                (false, Some(_)) if payment.has_lied => confirmed_rupiah += payment.amount,
                (true, None) if payment.has_lied => self.record.probe("bank: a lie cost money"),
                (true, None) => self.record.wrong(Some(number), "the bank took it, and it is not CONFIRM"),
                (false, Some(_)) => self.record.wrong(Some(number), "CONFIRM, and the bank did not take it"),
                (false, None) => {}
            }
        }
        for (_, number) in confirmed {
            self.record.wrong(Some(number), "CONFIRM, and the bank never heard of it");
        }
        let of = |kind| {
            let kinds = seen.sums.iter().filter(move |(account, _)| account.kind == kind);
            kinds.map(|(_, amount)| *amount).sum::<i64>()
        };
        // What was written off is owed to the bank as well.
        let owed = confirmed_rupiah + of(AccountKind::DisputeLoss);
        if of(AccountKind::BankPayable) != -owed {
            let what = format!(
                "the bank is owed {} by the books, and {owed} by its own",
                -of(AccountKind::BankPayable)
            );
            self.record.wrong(None, what);
        }
        if of(AccountKind::Reserved) != 0 {
            self.record.wrong(None, "money is still reserved");
        }
        for (partner, topped_up) in &seen.topped_up {
            let deposit: i64 = seen
                .sums
                .iter()
                .filter(|(account, _)| account.kind == AccountKind::Deposit && account.owner == *partner)
                .map(|(_, amount)| -*amount)
                .sum();
            let left = topped_up - spent.get(partner).copied().unwrap_or(0);
            if deposit != left {
                self.record.wrong(None, format!("partner {partner} has {deposit}, and should have {left}"));
            }
        }
    }
}

type Lines<'a> = &'a [(AccountKind, i64)];

fn told_of(invoice: &Invoice) -> String {
    match &invoice.state {
        State::Failure { refusal } => format!("FAILURE, {}", refusal.reason.code()),
        State::Pending { attempt } => {
            let Invoice { chassis, partner, .. } = invoice;
            format!(
                "PENDING, of partner {}, vehicle {chassis}, resolve_after {}{}",
                partner.0,
                attempt.resolve_after.as_millis(),
                if attempt.is_reversing { ", reversing" } else { "" }
            )
        }
        State::Refund { proof, .. } => format!("REFUND, {proof:?}"),
        state => state.word().to_owned(),
    }
}
