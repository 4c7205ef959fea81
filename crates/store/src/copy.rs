//! Moving everything from one backend to another: pages of the domain's rows, which the one writes and the
//! other reads, so that neither knows the other.
//!
//! Everything is told in parts, each in order of its key, from where the last page ended. Leases and the ids
//! of batches are no part: they are about processes that have ended. What was read and what was written are
//! each summed up as a [`Tally`], so that both ends can be compared without holding either.

use crate::StoredInvoice;
use domain::{
    Invoice, Partner, Posting, Product, Rupiah, State,
    ledger::Account,
    record::{Entry, Event, Incident, Proposal},
    rows::Counter,
};
use std::{
    collections::BTreeMap,
    hash::{DefaultHasher, Hash, Hasher},
    io,
};

/// One kind of rows.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Part {
    /// Partners.
    Partner,
    /// Products.
    Product,
    /// Counters that have counted.
    Counter,
    /// Manual entries.
    Entry,
    /// Balances.
    Balance,
    /// Incidents.
    Incident,
    /// Proposals, whether or not they stand.
    Proposal,
    /// Claims.
    Claim,
    /// Invoices with both their halves.
    Invoice,
    /// Postings, line by line.
    Posting,
    /// The outbox.
    Event,
}

impl Part {
    /// In the order in which they are copied.
    pub const ALL: [Self; 11] = [
        Self::Partner,
        Self::Product,
        Self::Counter,
        Self::Entry,
        Self::Balance,
        Self::Incident,
        Self::Proposal,
        Self::Claim,
        Self::Invoice,
        Self::Posting,
        Self::Event,
    ];

    /// `posting`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Partner => "partner",
            Self::Product => "product",
            Self::Counter => "counter",
            Self::Entry => "entry",
            Self::Balance => "balance",
            Self::Incident => "incident",
            Self::Proposal => "proposal",
            Self::Claim => "claim",
            Self::Invoice => "invoice",
            Self::Posting => "posting",
            Self::Event => "event",
        }
    }

    /// The reverse of [`Self::name`].
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|part| part.name() == name)
    }
}

/// Where a page ended: the last key as text, empty before the first.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Cursor(pub String);

/// Rows, of one part unless somebody collects more.
#[derive(Clone, Debug, Default)]
pub struct Rows {
    /// Partners.
    pub partners: Vec<Partner>,
    /// Products.
    pub products: Vec<Product>,
    /// Counters and the last number that each gave out.
    pub counters: Vec<(Counter, i64)>,
    /// Manual entries.
    pub entries: Vec<Entry>,
    /// Balances.
    pub balances: Vec<(Account, Rupiah)>,
    /// Incidents.
    pub incidents: Vec<Incident>,
    /// Proposals.
    pub proposals: Vec<Proposal>,
    /// Claims by [`domain::rows::Claim::key`], and their owners.
    pub claims: Vec<(String, i64)>,
    /// Invoices.
    pub invoices: Vec<StoredInvoice>,
    /// Postings; the lines of one step stand together.
    pub postings: Vec<Posting>,
    /// Events with their positions in the outbox.
    pub events: Vec<(i64, Event)>,
}

impl Rows {
    /// How many there are.
    pub fn len(&self) -> usize {
        self.partners.len()
            + self.products.len()
            + self.counters.len()
            + self.entries.len()
            + self.balances.len()
            + self.incidents.len()
            + self.proposals.len()
            + self.claims.len()
            + self.invoices.len()
            + self.postings.len()
            + self.events.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Some rows of one part, in order of key.
#[derive(Clone, Debug)]
pub struct Page {
    /// Which part.
    pub part: Part,
    /// The rows. Those that belong to one subject stand on one page.
    pub rows: Rows,
    /// What they add to the part's tally.
    pub tally: Tally,
    /// Where the next page begins.
    pub reached: Cursor,
    /// Whether there is no next page.
    pub is_last: bool,
}

/// How many rows, and one number that differs where any of them differs, whatever their order.
///
/// It finds mistakes, not forgers. Its numbers may change with the program's version, so that they are good
/// for one copy only.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Tally {
    /// How many.
    pub rows: u64,
    /// The sum of their hashes.
    pub digest: u64,
}

impl Tally {
    /// The tally of some rows.
    pub fn of(rows: &Rows) -> Self {
        let mut tally = Self::default();
        rows.partners.iter().for_each(|partner| tally.row(|hash| json(hash, partner)));
        rows.products.iter().for_each(|product| tally.row(|hash| json(hash, product)));
        rows.counters.iter().for_each(|counter| tally.row(|hash| counter.hash(hash)));
        rows.entries.iter().for_each(|row| tally.row(|hash| entry(hash, row)));
        rows.balances.iter().for_each(|balance| tally.row(|hash| balance.hash(hash)));
        rows.incidents.iter().for_each(|row| tally.row(|hash| incident(hash, row)));
        rows.proposals.iter().for_each(|proposal| tally.row(|hash| json(hash, proposal)));
        rows.claims.iter().for_each(|claim| tally.row(|hash| claim.hash(hash)));
        for stored in &rows.invoices {
            tally.row(|hash| {
                invoice(hash, &stored.invoice);
                json(hash, &stored.presentment);
            });
        }
        rows.postings.iter().for_each(|row| tally.row(|hash| posting(hash, row)));
        rows.events.iter().for_each(|(position, row)| tally.row(|hash| event(hash, *position, row)));
        tally
    }

    /// Both together.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self { rows: self.rows + other.rows, digest: self.digest.wrapping_add(other.digest) }
    }

    fn row(&mut self, write: impl FnOnce(&mut DefaultHasher)) {
        let mut hasher = DefaultHasher::new();
        write(&mut hasher);
        self.rows += 1;
        self.digest = self.digest.wrapping_add(hasher.finish());
    }
}

/// What a source holds, short enough to be kept: it differs after anything was changed there.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Fingerprint {
    /// How many rows each part has.
    pub rows: BTreeMap<Part, u64>,
    /// One number over these, the greatest keys, and all rows of the small parts.
    pub digest: u64,
}

impl Fingerprint {
    /// As a text to be kept and compared.
    pub fn text(&self) -> String {
        format!("{:016x}", self.digest)
    }
}

/// What a value writes as JSON; some of these print masked, and are compared in full.
fn json(hasher: &mut DefaultHasher, value: &impl serde::Serialize) {
    struct Feed<'a>(&'a mut DefaultHasher);
    impl io::Write for Feed<'_> {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.write(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    serde_json::to_writer(Feed(hasher), value)
        .expect("the domain's values have text keys and no failing parts");
}

// Each takes its row apart whole, so that a new column is not forgotten here.

fn invoice(hasher: &mut DefaultHasher, row: &Invoice) {
    let Invoice {
        number,
        environment,
        partner,
        product,
        upstream,
        inquired_at,
        business_date,
        payable_until,
        payment_code,
        chassis,
        total,
        fee,
        cashback,
        upstream_terms,
        state,
        sequence,
    } = row;
    (number, environment, partner, product, upstream, inquired_at.as_millis()).hash(hasher);
    (business_date.as_number(), payable_until.map(domain::Timestamp::as_millis)).hash(hasher);
    (payment_code, chassis, total, fee, cashback, sequence, state.word()).hash(hasher);
    (upstream_terms.fee, upstream_terms.cashback).hash(hasher);
    if let Some(attempt) = state.attempt() {
        json(hasher, attempt);
    }
    match state {
        State::Failure { refusal } => json(hasher, refusal),
        State::Inquiry | State::Pending { .. } => {}
        State::Confirm { attempt: _, receipt, settled_at } => {
            json(hasher, receipt);
            settled_at.as_millis().hash(hasher);
        }
        State::Refund { attempt: _, proof, settled_at } => {
            json(hasher, proof);
            settled_at.as_millis().hash(hasher);
        }
    }
}

fn posting(hasher: &mut DefaultHasher, row: &Posting) {
    let Posting { subject, step, account, amount, at } = row;
    (subject, step, account, amount, at.as_millis()).hash(hasher);
}

fn event(hasher: &mut DefaultHasher, position: i64, row: &Event) {
    let Event { subject, sequence, kind, environment, partner, at } = row;
    (position, subject, sequence, kind.name(), environment, partner, at.as_millis()).hash(hasher);
}

fn entry(hasher: &mut DefaultHasher, row: &Entry) {
    let Entry { number, kind, environment, partner, amount, operator, reference, at } = row;
    (number, kind.name(), environment, partner, amount, operator, reference, at.as_millis()).hash(hasher);
}

fn incident(hasher: &mut DefaultHasher, row: &Incident) {
    let Incident { invoice, kind, detail, first_at, last_at, count, corrected_by } = row;
    (invoice, kind, detail, first_at.as_millis(), last_at.as_millis(), count, corrected_by).hash(hasher);
}
