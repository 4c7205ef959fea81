//! What operators do: partners, deposits, products, decisions by hand. Works beside a running gateway,
//! since every batch decides on rows that it locks and loads itself.

use crate::{Failure, Ids, journal::Journal};
use domain::{
    Accepted, Clock, Command, Environment, InvoiceNumber, Partner, PartnerId, Product, ProductCode,
    Rejection, Rupiah, Slot, UpstreamId, Username,
    command::{
        AddPartner, ApproveResolution, CorrectIncident, PartnerChange, PaymentFacts, ProposeResolution, TopUp,
    },
    record::{Entry, IncidentKind, Resolution},
};
use std::sync::Arc;
use store::Store;

/// Why an operator's wish was not carried out. Nothing was written.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// What was named does not exist.
    #[error("{0} does not exist")]
    NotFound(String),
    /// A deposit's reference stands for another partner or amount.
    #[error(
        "reference {reference} is already booked as entry {number}: Rp {amount} for partner {partner}; \
         use another reference"
    )]
    ReferenceTaken {
        /// The reference.
        reference: String,
        /// The entry that has it.
        number: i64,
        /// Its amount.
        amount: Rupiah,
        /// Its partner.
        partner: u32,
    },
    /// A rule forbids it, or the store cannot write.
    #[error(transparent)]
    Failure(#[from] Failure),
    /// A read failed.
    #[error(transparent)]
    Store(#[from] store::Error),
}

impl From<Rejection> for Error {
    fn from(rejection: Rejection) -> Self {
        Self::Failure(Failure::Rejected(rejection))
    }
}

/// What became of a top-up.
#[derive(Clone, Debug)]
pub struct ToppedUp {
    /// The entry.
    pub entry: Entry,
    /// Whether the same top-up had been booked before; then nothing was written now.
    pub repeated: bool,
}

/// The operator's side of a store.
pub struct Operations {
    store: Arc<dyn Store>,
    clock: Arc<dyn Clock>,
    journal: Journal,
}

impl Operations {
    /// Starts a journal of its own on the store.
    pub fn new(store: Arc<dyn Store>, clock: Arc<dyn Clock>, ids: &Arc<Ids>) -> Self {
        let journal = Journal::start(&store, ids, &[Slot(0)], 1_000);
        Self { store, clock, journal }
    }

    /// The store, for reading.
    pub fn store(&self) -> &Arc<dyn Store> {
        &self.store
    }

    /// A partner by log-in name.
    pub async fn partner(&self, username: &Username) -> Result<Partner, Error> {
        let partner = self.store.partner(username).await?;
        partner.ok_or_else(|| Error::NotFound(format!("partner {username}")))
    }

    /// Registers a partner.
    pub async fn add_partner(&self, partner: AddPartner) -> Result<PartnerId, Error> {
        match self.journal.submit(Command::AddPartner(Box::new(partner))).await? {
            Accepted::Partner(id) => Ok(id),
            other => unreachable!("a new partner is never answered with {other:?}"),
        }
    }

    /// Changes a partner.
    pub async fn change_partner(&self, id: PartnerId, change: PartnerChange) -> Result<(), Error> {
        self.journal.submit(Command::ChangePartner { id, change }).await?;
        Ok(())
    }

    /// Credits a deposit, once per reference: the same top-up again is answered with the first entry.
    pub async fn top_up(
        &self,
        partner: &Partner,
        amount: Rupiah,
        reference: &str,
        operator: &str,
    ) -> Result<ToppedUp, Error> {
        let environment = partner.environment;
        let command = Command::TopUp(Box::new(TopUp {
            environment,
            partner: partner.id,
            amount,
            reference: reference.to_owned(),
            operator: operator.to_owned(),
            at: self.clock.now(),
        }));
        let repeated = match self.journal.submit(command).await {
            Ok(_) => false,
            Err(Failure::Rejected(Rejection::ReferenceUsed)) => true,
            Err(failure) => return Err(failure.into()),
        };
        let entry = self.store.entry_by_reference(environment, reference).await?;
        let entry = entry.ok_or_else(|| Error::NotFound(format!("the entry of reference {reference}")))?;
        if entry.partner != partner.id || entry.amount != amount {
            return Err(Error::ReferenceTaken {
                reference: reference.to_owned(),
                number: entry.number,
                amount: entry.amount,
                partner: entry.partner.0,
            });
        }
        Ok(ToppedUp { entry, repeated })
    }

    /// A product of one environment.
    pub async fn product(&self, environment: Environment, code: &ProductCode) -> Result<Product, Error> {
        let products = self.store.products().await?;
        let product = products.into_iter().find(|p| p.environment == environment && p.code == *code);
        product.ok_or_else(|| Error::NotFound(format!("product {code} ({})", environment.name())))
    }

    /// Writes a product whole.
    pub async fn save_product(&self, product: Product) -> Result<(), Error> {
        self.journal.submit(Command::SaveProduct(Box::new(product))).await?;
        Ok(())
    }

    /// The number of an upstream; a new name gets a new number.
    pub async fn register_upstream(&self, name: &str) -> Result<UpstreamId, Error> {
        Ok(register_upstream(&self.journal, name).await?)
    }

    /// Proposes how an open payment ends.
    pub async fn propose(
        &self,
        invoice: InvoiceNumber,
        resolution: Resolution,
        (operator, reference, reason): (&str, &str, &str),
    ) -> Result<(), Error> {
        let propose = ProposeResolution {
            invoice,
            resolution,
            operator: operator.to_owned(),
            reference: reference.to_owned(),
            reason: reason.to_owned(),
            at: self.clock.now(),
        };
        self.journal.submit(Command::ProposeResolution(Box::new(propose))).await?;
        Ok(())
    }

    /// Approves another operator's proposal, if it is this one, and settles by it.
    pub async fn approve(
        &self,
        invoice: InvoiceNumber,
        resolution: Resolution,
        operator: &str,
    ) -> Result<domain::Invoice, Error> {
        let approve = ApproveResolution {
            facts: self.facts(invoice).await?,
            resolution,
            operator: operator.to_owned(),
            at: self.clock.now(),
        };
        match self.journal.submit(Command::ApproveResolution(Box::new(approve))).await? {
            Accepted::Invoice(invoice) => Ok(*invoice),
            other => unreachable!("an approval is never answered with {other:?}"),
        }
    }

    /// Writes off a contradiction against dispute loss.
    pub async fn correct_incident(
        &self,
        invoice: InvoiceNumber,
        kind: IncidentKind,
        operator: &str,
        reference: &str,
    ) -> Result<i64, Error> {
        let correct = CorrectIncident {
            facts: self.facts(invoice).await?,
            kind,
            operator: operator.to_owned(),
            reference: reference.to_owned(),
            at: self.clock.now(),
        };
        match self.journal.submit(Command::CorrectIncident(Box::new(correct))).await? {
            Accepted::Entry(number) => Ok(number),
            other => unreachable!("a correction is never answered with {other:?}"),
        }
    }

    /// Gives up the gateway's claims on an upstream's settled sandbox bills; the simulated bank is reset by
    /// itself. A name that no gateway has used yet has claimed nothing.
    pub async fn reset_sandbox(&self, upstream: &str) -> Result<(), Error> {
        let upstreams = self.store.upstreams().await?;
        if let Some((_, upstream)) = upstreams.into_iter().find(|(name, _)| name == upstream) {
            self.journal.submit(Command::ResetSandbox { upstream }).await?;
        }
        Ok(())
    }

    /// Writes what is queued and ends.
    pub async fn close(&self) {
        self.journal.stop().await;
    }

    async fn facts(&self, invoice: InvoiceNumber) -> Result<PaymentFacts, Error> {
        let stored = self.store.invoice(invoice).await?;
        let stored = stored.ok_or_else(|| Error::NotFound(format!("invoice {invoice}")))?;
        PaymentFacts::of(&stored.invoice).ok_or_else(|| Rejection::NotBegun.into())
    }
}

pub(crate) async fn register_upstream(journal: &Journal, name: &str) -> Result<UpstreamId, Failure> {
    match journal.submit(Command::RegisterUpstream { name: name.to_owned() }).await? {
        Accepted::Upstream(id) => Ok(id),
        other => unreachable!("an upstream is never answered with {other:?}"),
    }
}
