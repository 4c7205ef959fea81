//! The rows a batch loads, the changes a decision makes, and the keys that name them beforehand.
//!
//! A backend locks and loads what [`Keys`] names, in the order of its fields, each sorted, once. It knows
//! rows, not rules.

use crate::{
    invoice::{Invoice, InvoiceNumber, Presentment},
    lease::Lease,
    ledger::{Account, Posting},
    money::Rupiah,
    partner::{Partner, PartnerId},
    product::Product,
    record::{Entry, Event, Incident, IncidentKind, Proposal},
    value::{ChassisNumber, Environment, PaymentCode, ProductCode, Terminal, UpstreamId, Username},
};
use std::{
    borrow::Cow,
    collections::{BTreeMap, BTreeSet},
};

/// Something that only one owner may have at a time. The owner is an invoice, a partner, an upstream or
/// a manual entry.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Claim {
    /// A log-in name; owned by a partner.
    Username(Username),
    /// An upstream's configured name; owned by its number.
    Upstream(String),
    /// A deposit's reference, as [`Claim::deposit_reference`] writes it; owned by the entry that booked it.
    DepositReference(Environment, String),
    /// A bill at its bank; owned by the invoice that pays or has paid it, until REFUND.
    PaymentCode(Environment, UpstreamId, PaymentCode),
    /// A vehicle; owned by the invoice that pays it, while PENDING.
    Chassis(Environment, ProductCode, ChassisNumber),
}

impl Claim {
    /// The claim on a deposit's reference. Case and the space around it are a typist's, so that one transfer
    /// is not booked twice for their sake.
    pub fn deposit_reference(environment: Environment, reference: &str) -> Self {
        Self::DepositReference(environment, reference.trim().to_uppercase())
    }

    /// What the keys of all claims on an upstream's sandbox bills begin with; it ends with a slash.
    pub fn sandbox_bills(upstream: UpstreamId) -> String {
        format!("p/{}/{}/", Environment::Sandbox.name(), upstream.0)
    }

    /// The claim as one unique text, for keys.
    pub fn key(&self) -> String {
        match self {
            Self::Username(name) => format!("u/{name}"),
            Self::Upstream(name) => format!("b/{name}"),
            Self::DepositReference(environment, reference) => format!("d/{}/{reference}", environment.name()),
            Self::PaymentCode(environment, upstream, code) => {
                format!("p/{}/{}/{code}", environment.name(), upstream.0)
            }
            Self::Chassis(environment, product, chassis) => {
                format!("c/{}/{product}/{chassis}", environment.name())
            }
        }
    }
}

/// A number that only ever grows.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Counter {
    /// Invoice numbers, handed out in blocks.
    Invoice,
    /// Manual entries.
    Entry,
    /// Partners.
    Partner,
    /// Upstreams.
    Upstream,
    /// How often the sandbox was reset.
    SandboxReset,
    /// How often a partner or a product was changed: what caches are held against.
    Catalogue,
    /// Trace numbers of one terminal at a bank, handed out in blocks. The row is not there before the first.
    Trace(UpstreamId, Terminal),
}

impl Counter {
    /// `invoice`, `trace/3/ESAM0001`.
    pub fn name(self) -> Cow<'static, str> {
        Cow::Borrowed(match self {
            Self::Invoice => "invoice",
            Self::Entry => "entry",
            Self::Partner => "partner",
            Self::Upstream => "upstream",
            Self::SandboxReset => "sandbox_reset",
            Self::Catalogue => "catalogue",
            Self::Trace(upstream, terminal) => {
                return Cow::Owned(format!("trace/{}/{terminal}", upstream.0));
            }
        })
    }

    /// The reverse of [`Self::name`].
    pub fn from_name(name: &str) -> Option<Self> {
        if let Some((upstream, terminal)) = name.strip_prefix("trace/").and_then(|rest| rest.split_once('/'))
        {
            return Some(Self::Trace(UpstreamId(upstream.parse().ok()?), Terminal::parse(terminal)?));
        }
        [Self::Invoice, Self::Entry, Self::Partner, Self::Upstream, Self::SandboxReset, Self::Catalogue]
            .into_iter()
            .find(|counter| counter.name() == name)
    }
}

/// What one incident is kept under: invoice number (0 for none) and kind.
pub type IncidentKey = (i64, IncidentKind);

/// The rows that a batch reads, in lock order.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Keys {
    /// Partners.
    pub partners: BTreeSet<PartnerId>,
    /// Products.
    pub products: BTreeSet<(Environment, ProductCode)>,
    /// Claims.
    pub claims: BTreeSet<Claim>,
    /// Whether two commands name one claim of a payment, so that one of them may decide on what the other did.
    pub claims_are_shared: bool,
    /// Invoices.
    pub invoices: BTreeSet<InvoiceNumber>,
    /// Proposals.
    pub proposals: BTreeSet<InvoiceNumber>,
    /// Incidents.
    pub incidents: BTreeSet<IncidentKey>,
    /// Balances; partners' before house accounts.
    pub balances: BTreeSet<Account>,
    /// Counters.
    pub counters: BTreeSet<Counter>,
    /// Leases to be changed, by name.
    pub leases: BTreeSet<String>,
    /// Leases that are relied on, by name.
    pub fences: BTreeSet<String>,
}

/// The loaded rows. A key that is here without a value was looked for and is not there.
#[derive(Clone, Debug, Default)]
pub struct Rows {
    /// Partners.
    pub partners: BTreeMap<PartnerId, Option<Partner>>,
    /// Products.
    pub products: BTreeMap<(Environment, ProductCode), Option<Product>>,
    /// Claims and their owners.
    pub claims: BTreeMap<Claim, Option<i64>>,
    /// Invoices.
    pub invoices: BTreeMap<InvoiceNumber, Option<Invoice>>,
    /// Proposals.
    pub proposals: BTreeMap<InvoiceNumber, Option<Proposal>>,
    /// Incidents.
    pub incidents: BTreeMap<IncidentKey, Option<Incident>>,
    /// Balances; an account never used has zero.
    pub balances: BTreeMap<Account, Rupiah>,
    /// Counters: the last number given out; zero if none was.
    pub counters: BTreeMap<Counter, i64>,
    /// Leases.
    pub leases: BTreeMap<String, Option<Lease>>,
}

/// What is missing is a bug in `Command::keys`.
const UNNAMED: &str = "Command::keys names every row that its decision reads";

impl Rows {
    /// A loaded partner.
    pub fn partner(&self, id: PartnerId) -> Option<&Partner> {
        self.partners.get(&id).expect(UNNAMED).as_ref()
    }

    /// A loaded product.
    pub fn product(&self, environment: Environment, code: &ProductCode) -> Option<&Product> {
        self.products.get(&(environment, code.clone())).expect(UNNAMED).as_ref()
    }

    /// A claim's owner.
    pub fn claim(&self, claim: &Claim) -> Option<i64> {
        *self.claims.get(claim).expect(UNNAMED)
    }

    /// A loaded invoice.
    pub fn invoice(&self, number: InvoiceNumber) -> Option<&Invoice> {
        self.invoices.get(&number).expect(UNNAMED).as_ref()
    }

    /// A loaded proposal.
    pub fn proposal(&self, number: InvoiceNumber) -> Option<&Proposal> {
        self.proposals.get(&number).expect(UNNAMED).as_ref()
    }

    /// A loaded incident.
    pub fn incident(&self, key: IncidentKey) -> Option<&Incident> {
        self.incidents.get(&key).expect(UNNAMED).as_ref()
    }

    /// A loaded balance.
    pub fn balance(&self, account: Account) -> Rupiah {
        *self.balances.get(&account).expect(UNNAMED)
    }

    /// A loaded counter.
    pub fn counter(&self, counter: Counter) -> i64 {
        *self.counters.get(&counter).expect(UNNAMED)
    }

    /// A loaded lease.
    pub fn lease(&self, name: &str) -> Option<&Lease> {
        self.leases.get(name).expect(UNNAMED).as_ref()
    }

    /// Makes the changes visible to the decisions that follow in the batch.
    pub fn absorb(&mut self, changes: &Changes) {
        for (key, row) in &changes.partners {
            self.partners.insert(*key, Some(row.clone()));
        }
        for (key, row) in &changes.products {
            self.products.insert(key.clone(), Some(row.clone()));
        }
        for (key, owner) in &changes.claims {
            self.claims.insert(key.clone(), *owner);
        }
        for (key, row) in &changes.invoices {
            self.invoices.insert(*key, Some(row.clone()));
        }
        for (key, row) in &changes.proposals {
            self.proposals.insert(*key, row.clone());
        }
        for (key, row) in &changes.incidents {
            self.incidents.insert(*key, Some(row.clone()));
        }
        for (key, balance) in &changes.balances {
            self.balances.insert(*key, *balance);
        }
        for (key, value) in &changes.counters {
            self.counters.insert(*key, *value);
        }
        for (name, lease) in &changes.leases {
            self.leases.insert(name.clone(), Some(lease.clone()));
        }
    }
}

/// What one decision, or a whole batch of them, writes.
#[derive(Clone, Debug, Default)]
pub struct Changes {
    /// Partners to write.
    pub partners: BTreeMap<PartnerId, Partner>,
    /// Products to write.
    pub products: BTreeMap<(Environment, ProductCode), Product>,
    /// Claims to set (`Some(owner)`) or to release (`None`).
    pub claims: BTreeMap<Claim, Option<i64>>,
    /// Every claim on a sandbox bill of these upstreams whose payment is not open is released.
    pub release_settled_sandbox_claims: BTreeSet<UpstreamId>,
    /// Invoices to insert (those with a presentment) or update.
    pub invoices: BTreeMap<InvoiceNumber, Invoice>,
    /// The wide halves of new invoices.
    pub presentments: BTreeMap<InvoiceNumber, Presentment>,
    /// Proposals to write (`Some`) or to remove (`None`).
    pub proposals: BTreeMap<InvoiceNumber, Option<Proposal>>,
    /// Incidents to write.
    pub incidents: BTreeMap<IncidentKey, Incident>,
    /// Balances to write.
    pub balances: BTreeMap<Account, Rupiah>,
    /// Counters to write.
    pub counters: BTreeMap<Counter, i64>,
    /// Leases to write.
    pub leases: BTreeMap<String, Lease>,
    /// Postings to add.
    pub postings: Vec<Posting>,
    /// Events to add to the outbox.
    pub events: Vec<Event>,
    /// Headers of manual entries to add.
    pub entries: Vec<Entry>,
}

impl Changes {
    /// Adds a later decision's changes; where both write a row, the later one stands.
    pub fn absorb(&mut self, later: Self) {
        self.partners.extend(later.partners);
        self.products.extend(later.products);
        self.claims.extend(later.claims);
        self.release_settled_sandbox_claims.extend(later.release_settled_sandbox_claims);
        self.invoices.extend(later.invoices);
        self.presentments.extend(later.presentments);
        self.proposals.extend(later.proposals);
        self.incidents.extend(later.incidents);
        self.balances.extend(later.balances);
        self.counters.extend(later.counters);
        self.leases.extend(later.leases);
        self.postings.extend(later.postings);
        self.events.extend(later.events);
        self.entries.extend(later.entries);
    }
}
