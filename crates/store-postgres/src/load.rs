//! The first round trip of a batch: the locks, and the rows that the batch reads.

use crate::{
    columns::{self, environment_code},
    failure::{Failure, explain},
    pipeline::{Answer, Pipeline, parameters},
    statements::Statements,
};
use domain::{
    Invoice, InvoiceNumber, PartnerId, State, Timestamp,
    record::{Incident, Proposal},
    rows::{Claim, Counter, IncidentKey, Keys, Rows},
};
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::time::Duration;
use store::BatchId;
use tokio_postgres::{Client, Row};
use uuid::Uuid;

/// The rows, and of some of them the texts that a change is compared with.
pub(crate) struct Loaded {
    rows: Rows,
    look: Claims,
    partner_bodies: HashMap<PartnerId, String>,
    proposal_bodies: HashMap<InvoiceNumber, String>,
}

/// What stood there before the decisions, as far as writing depends on it.
#[derive(Default)]
pub(crate) struct Before {
    look: Claims,
    claims: HashSet<String>,
    pub(crate) stages: HashMap<InvoiceNumber, (Stage, Option<PutOff>)>,
    pub(crate) partner_bodies: HashMap<PartnerId, String>,
    pub(crate) proposal_bodies: HashMap<InvoiceNumber, String>,
    pub(crate) incidents: BTreeMap<IncidentKey, Option<Incident>>,
    pub(crate) leases: BTreeMap<String, Option<domain::Lease>>,
    pub(crate) counters: BTreeMap<Counter, i64>,
}

/// What is known of the claims on bills and vehicles.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) enum Claims {
    /// Their owners.
    #[default]
    LookedUp,
    /// Nothing: whoever takes one takes it for free, and its key is refused if it is not.
    TakenForFree,
}

/// Whether a claim is one of those that every payment takes.
fn is_of_payment(claim: &Claim) -> bool {
    matches!(claim, Claim::PaymentCode(..) | Claim::Chassis(..))
}

impl Before {
    /// Whether a claim had an owner; none if nobody looked.
    pub(crate) fn stood(&self, claim: &Claim, key: &str) -> Option<bool> {
        let looked = self.look == Claims::LookedUp || !is_of_payment(claim);
        looked.then(|| self.claims.contains(key))
    }
}

/// How far an invoice is: which of its rows there are.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Stage {
    /// None.
    New,
    /// `invoice`.
    Inquired,
    /// `payment` as well.
    Begun,
    /// `settlement` as well.
    Settled,
}

/// What questions have changed about a payment: until when it is put off, whether it is being reversed, and how
/// long what put it off may take to arrive.
pub(crate) type PutOff = (Timestamp, bool, Duration);

pub(crate) fn put_off(invoice: &Invoice) -> Option<PutOff> {
    invoice.state.attempt().map(|attempt| (attempt.resolve_after, attempt.is_reversing, attempt.rest))
}

impl Stage {
    pub(crate) fn of(invoice: &Invoice) -> Self {
        match invoice.state {
            State::Failure { .. } | State::Inquiry => Self::Inquired,
            State::Pending { .. } => Self::Begun,
            State::Confirm { .. } | State::Refund { .. } => Self::Settled,
        }
    }
}

impl Loaded {
    /// The rows for deciding, and what writing needs to know of them.
    pub(crate) fn split(self) -> (Rows, Before) {
        let rows = &self.rows;
        let before = Before {
            look: self.look,
            claims: rows
                .claims
                .iter()
                .filter(|(_, owner)| owner.is_some())
                .map(|(claim, _)| claim.key())
                .collect(),
            stages: rows
                .invoices
                .iter()
                .filter_map(|(number, invoice)| {
                    let invoice = invoice.as_ref()?;
                    Some((*number, (Stage::of(invoice), put_off(invoice))))
                })
                .collect(),
            partner_bodies: self.partner_bodies,
            proposal_bodies: self.proposal_bodies,
            incidents: rows.incidents.clone(),
            leases: rows.leases.clone(),
            counters: rows.counters.clone(),
        };
        (self.rows, before)
    }
}

/// Begins the transaction, locks, and loads.
pub(crate) async fn load(
    client: &Client,
    statements: &Statements,
    id: BatchId,
    keys: &Keys,
    created: &[i64],
    look: Claims,
) -> Result<Loaded, Failure> {
    let mut pipeline = Pipeline::new(client);
    pipeline.push(&statements.begin, parameters![]);
    pipeline.push(&statements.insert_batch, parameters![Uuid::from_u128(id.0)]);
    if !created.is_empty() {
        pipeline.push(&statements.create_balances, parameters![created]);
    }
    let accounts: BTreeSet<i64> = keys.balances.iter().copied().map(columns::balance_row).collect();
    let accounts: Vec<i64> = accounts.into_iter().collect();
    let counters: Vec<String> = keys.counters.iter().map(|counter| counter.name().into_owned()).collect();
    let leases: Vec<&str> = keys.leases.iter().map(String::as_str).collect();
    let fences: Vec<&str> = keys.fences.difference(&keys.leases).map(String::as_str).collect();
    let (vehicles, claims): (Vec<_>, Vec<_>) = keys
        .claims
        .iter()
        .filter(|claim| look == Claims::LookedUp || !is_of_payment(claim))
        .partition(|claim| matches!(claim, Claim::Chassis(..)));
    let texts = |claims: &[&Claim]| claims.iter().map(|claim| claim.key()).collect::<Vec<_>>();
    let numbers: Vec<i64> = keys.invoices.iter().map(|number| number.get()).collect();
    let partners: Vec<i64> = keys.partners.iter().map(|id| i64::from(id.0)).collect();
    let mut incidents: Vec<i64> = keys.incidents.iter().map(|(invoice, _)| *invoice).collect();
    incidents.dedup();

    // Locks first and in this order; what is read after them is as it stands under them.
    let balances =
        (!accounts.is_empty()).then(|| pipeline.push(&statements.lock_balances, parameters![accounts]));
    let counters =
        (!counters.is_empty()).then(|| pipeline.push(&statements.lock_counters, parameters![counters]));
    let leases = (!leases.is_empty()).then(|| pipeline.push(&statements.lock_leases, parameters![leases]));
    let fences = (!fences.is_empty()).then(|| pipeline.push(&statements.lock_fences, parameters![fences]));
    let incidents =
        (!incidents.is_empty()).then(|| pipeline.push(&statements.lock_incidents, parameters![incidents]));
    let partners =
        (!partners.is_empty()).then(|| pipeline.push(&statements.load_partners, parameters![partners]));
    let looked_up = (!claims.is_empty() || !vehicles.is_empty())
        .then(|| pipeline.push(&statements.load_claims, parameters![texts(&claims), texts(&vehicles)]));
    let invoices =
        (!numbers.is_empty()).then(|| pipeline.push(&statements.load_invoices, parameters![numbers]));
    let mut answers = Answers(pipeline.run().await);
    answers.check()?;

    let mut rows = absent(keys);
    for row in answers.take(balances) {
        for (account, amount) in columns::balances(&row)? {
            if keys.balances.contains(&account) {
                rows.balances.insert(account, amount.unwrap_or_default());
            }
        }
    }
    if rows.balances.len() != keys.balances.len() {
        return Err(Failure::Conflict("an account's row is not there".to_owned()));
    }
    for row in answers.take(counters) {
        let (name, value): (&str, i64) = (row.try_get(0)?, row.try_get(1)?);
        let counter = keys.counters.iter().find(|counter| counter.name() == name);
        rows.counters.extend(counter.map(|counter| (*counter, value)));
    }
    for row in answers.take(leases).into_iter().chain(answers.take(fences)) {
        let (name, lease) = columns::lease(&row)?;
        rows.leases.insert(name, Some(lease));
    }
    let mut partner_bodies = HashMap::new();
    for row in answers.take(partners) {
        let id: i64 = row.try_get(0)?;
        let partner: domain::Partner = columns::body(&row, 1, "partner", id)?;
        partner_bodies.insert(partner.id, row.try_get(1)?);
        rows.partners.insert(partner.id, Some(partner));
    }
    let mut owners: HashMap<String, i64> = HashMap::new();
    for row in answers.take(looked_up) {
        owners.insert(row.try_get(0)?, row.try_get(1)?);
    }
    if !owners.is_empty() {
        for (claim, owner) in &mut rows.claims {
            *owner = owners.get(&claim.key()).copied();
        }
    }
    for row in answers.take(invoices) {
        let invoice = columns::invoice(&row)?;
        rows.invoices.insert(invoice.number, Some(invoice));
    }
    for row in answers.take(incidents) {
        let incident = columns::incident(&row)?;
        let key = (incident.invoice.map_or(0, InvoiceNumber::get), incident.kind);
        if let Some(known) = rows.incidents.get_mut(&key) {
            *known = Some(incident);
        }
    }
    let proposal_bodies = load_rare(client, keys, &mut rows).await?;
    Ok(Loaded { rows, look, partner_bodies, proposal_bodies })
}

/// What only operators' commands read.
async fn load_rare(
    client: &Client,
    keys: &Keys,
    rows: &mut Rows,
) -> Result<HashMap<InvoiceNumber, String>, Failure> {
    for key in &keys.products {
        let sql = "SELECT body FROM product WHERE environment = $1 AND code = $2";
        let code = key.1.as_str();
        if let Some(row) = client.query_opt(sql, &[&environment_code(key.0), &code]).await? {
            rows.products.insert(key.clone(), Some(columns::body(&row, 0, "product", code)?));
        }
    }
    let mut bodies = HashMap::new();
    for number in &keys.proposals {
        let sql = "SELECT body FROM proposal WHERE invoice = $1";
        if let Some(row) = client.query_opt(sql, &[&number.get()]).await? {
            let proposal: Proposal = columns::body(&row, 0, "proposal", number)?;
            rows.proposals.insert(*number, Some(proposal));
            bodies.insert(*number, row.try_get(0)?);
        }
    }
    Ok(bodies)
}

/// Every key that can be missing, as missing.
fn absent(keys: &Keys) -> Rows {
    Rows {
        partners: keys.partners.iter().map(|id| (*id, None)).collect(),
        products: keys.products.iter().map(|key| (key.clone(), None)).collect(),
        claims: keys.claims.iter().map(|claim| (claim.clone(), None)).collect(),
        invoices: keys.invoices.iter().map(|number| (*number, None)).collect(),
        proposals: keys.proposals.iter().map(|number| (*number, None)).collect(),
        incidents: keys.incidents.iter().map(|key| (*key, None)).collect(),
        balances: BTreeMap::new(),
        counters: keys.counters.iter().map(|counter: &Counter| (*counter, 0)).collect(),
        leases: keys.leases.union(&keys.fences).map(|name| (name.clone(), None)).collect(),
    }
}

/// The answers to a pipeline, to be taken by place.
struct Answers(Vec<Answer>);

impl Answers {
    /// The first error is the one that the others follow from.
    fn check(&mut self) -> Result<(), Failure> {
        match self.0.iter().position(Result::is_err) {
            Some(place) => match self.0.swap_remove(place) {
                Err(error) if error.is_closed() => Err(Failure::Away(explain(&error))),
                Err(error) => Err(error.into()),
                Ok(_) => Ok(()),
            },
            None => Ok(()),
        }
    }

    fn take(&mut self, place: Option<usize>) -> Vec<Row> {
        place.and_then(|place| self.0[place].as_mut().ok()).map(std::mem::take).unwrap_or_default()
    }
}
