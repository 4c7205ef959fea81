//! The commands: every change of durable state there is, the keys each reads, and what can come of it.
//!
//! A command carries every immutable fact that its keys need (which partner, which bill), read beforehand
//! without locks. Its decision checks them again.

use crate::{
    invoice::{BankReceipt, Invoice, InvoiceNumber, NotPaidProof, Presentment},
    lease::{Fence, Lease},
    ledger::{Account, AccountKind, Slot},
    money::Rupiah,
    partner::{PartnerId, PartnerStatus},
    product::Product,
    record::{Incident, IncidentKind, Resolution},
    rows::{Claim, Counter, Keys},
    time::{BusinessDate, Timestamp},
    value::{
        AgentCode, ChassisNumber, Environment, PaymentCode, ProductCode, Secret, Terminal, UpstreamId,
        Username,
    },
};
use std::time::Duration;

/// A change of durable state.
#[derive(Clone, Debug)]
pub enum Command {
    /// Reserve a block of invoice numbers. → [`Accepted::Numbers`]
    ReserveInvoiceNumbers {
        /// How many.
        count: u32,
    },
    /// Reserve a block of a terminal's trace numbers. → [`Accepted::TraceNumbers`]
    ReserveTraceNumbers(Box<ReserveTraceNumbers>),
    /// Record an inquiry, with its bill or its refusal. → [`Accepted::Done`]
    RecordInquiry(Box<RecordInquiry>),
    /// Reserve the money of a payment. → [`Accepted::Invoice`]
    BeginPayment(Box<BeginPayment>),
    /// Put off when a payment may be found not paid, before another message leaves that may carry it out, or
    /// reverse it. → [`Accepted::PutOff`]
    PutOffResolution(Box<PutOffResolution>),
    /// Book the outcome of a payment. → [`Accepted::Invoice`], [`Accepted::AlreadySettled`] or
    /// [`Accepted::Contradiction`]
    SettlePayment(Box<SettlePayment>),
    /// Propose how an open payment ends. → [`Accepted::Done`]
    ProposeResolution(Box<ProposeResolution>),
    /// Approve another operator's proposal and settle by it. → [`Accepted::Invoice`]
    ApproveResolution(Box<ApproveResolution>),
    /// Write off a contradiction against dispute loss. → [`Accepted::Entry`]
    CorrectIncident(Box<CorrectIncident>),
    /// Note an incident. → [`Accepted::Done`]
    RaiseIncident(Box<RaiseIncident>),
    /// Credit a partner's deposit. → [`Accepted::Entry`]
    TopUp(Box<TopUp>),
    /// Register a partner. → [`Accepted::Partner`]
    AddPartner(Box<AddPartner>),
    /// Change a partner. → [`Accepted::Done`]
    ChangePartner {
        /// Who.
        id: PartnerId,
        /// What.
        change: PartnerChange,
    },
    /// Write a product whole. → [`Accepted::Done`]
    SaveProduct(Box<Product>),
    /// Give an upstream its number, or find it. → [`Accepted::Upstream`]
    RegisterUpstream {
        /// The configured name.
        name: String,
    },
    /// Make every sandbox bill of a simulated bank payable again, that of open payments excepted.
    /// → [`Accepted::Done`]
    ResetSandbox {
        /// Whose bills.
        upstream: UpstreamId,
    },
    /// Take, renew or give up a lease. → [`Accepted::Lease`]
    ChangeLease(Box<ChangeLease>),
}

/// See [`Command::ReserveTraceNumbers`].
#[derive(Clone, Debug)]
pub struct ReserveTraceNumbers {
    /// At which bank.
    pub upstream: UpstreamId,
    /// On which line.
    pub terminal: Terminal,
    /// How many.
    pub count: u32,
    /// The lease on the line, if it is under one.
    pub fence: Option<Fence>,
}

/// See [`Command::PutOffResolution`].
#[derive(Clone, Debug)]
pub struct PutOffResolution {
    /// Which payment.
    pub facts: PaymentFacts,
    /// From when on "not paid" counts again; later than it was.
    pub resolve_after: Timestamp,
    /// How long what leaves may take to arrive.
    pub rest: Duration,
    /// Whether what leaves is a reversal.
    pub reverses: bool,
    /// The lease under which the payment is looked after, if it is under one.
    pub fence: Option<Fence>,
    /// Now.
    pub at: Timestamp,
}

/// See [`Command::ChangeLease`].
#[derive(Clone, Debug)]
pub struct ChangeLease {
    /// Which lease.
    pub name: String,
    /// As it was last seen; if it has changed since, nothing is done.
    pub seen: Option<Lease>,
    /// Who holds it from now on; empty to give it up.
    pub holder: String,
}

/// See [`Command::RecordInquiry`].
#[derive(Clone, Debug)]
pub struct RecordInquiry {
    /// In state INQUIRY or FAILURE, numbered from a reserved block.
    pub invoice: Invoice,
    /// Its wide half.
    pub presentment: Presentment,
}

/// What a payment's keys are made of: immutable facts of its invoice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PaymentFacts {
    /// The invoice.
    pub invoice: InvoiceNumber,
    /// Its environment.
    pub environment: Environment,
    /// Its partner.
    pub partner: PartnerId,
    /// Its upstream.
    pub upstream: UpstreamId,
    /// Its product.
    pub product: ProductCode,
    /// Its vehicle.
    pub chassis: ChassisNumber,
    /// Its bill.
    pub payment_code: PaymentCode,
    /// Whether its upstream charges or gives something itself.
    pub has_upstream_terms: bool,
}

impl PaymentFacts {
    /// The facts of an invoice; `None` if its inquiry failed.
    pub fn of(invoice: &Invoice) -> Option<Self> {
        Some(Self {
            invoice: invoice.number,
            environment: invoice.environment,
            partner: invoice.partner,
            upstream: invoice.upstream,
            product: invoice.product.clone(),
            chassis: invoice.chassis.clone(),
            payment_code: invoice.payment_code.clone()?,
            has_upstream_terms: !invoice.upstream_terms.are_none(),
        })
    }

    /// The claim on the bill.
    pub fn bill_claim(&self) -> Claim {
        Claim::PaymentCode(self.environment, self.upstream, self.payment_code.clone())
    }

    /// The claim on the vehicle.
    pub fn vehicle_claim(&self) -> Claim {
        Claim::Chassis(self.environment, self.product.clone(), self.chassis.clone())
    }

    fn add_keys(&self, keys: &mut Keys) {
        keys.invoices.insert(self.invoice);
        keys.claims_are_shared |= !keys.claims.insert(self.bill_claim());
        keys.claims_are_shared |= !keys.claims.insert(self.vehicle_claim());
        keys.balances.insert(Account::deposit(self.environment, self.partner));
        keys.balances.insert(Account::reserved(self.environment, self.partner));
    }

    fn add_settlement_keys(&self, slot: Slot, keys: &mut Keys) {
        self.add_keys(keys);
        keys.balances.insert(Account::bank_payable(self.environment, self.upstream, slot));
        keys.balances.insert(Account::house(AccountKind::FeeIncome, self.environment, slot));
        keys.balances.insert(Account::house(AccountKind::CashbackExpense, self.environment, slot));
        if self.has_upstream_terms {
            for kind in [AccountKind::UpstreamFeeExpense, AccountKind::UpstreamCashbackIncome] {
                keys.balances.insert(Account::house(kind, self.environment, slot));
            }
        }
        keys.incidents.insert((self.invoice.get(), IncidentKind::PaidAfterRefund));
        keys.incidents.insert((self.invoice.get(), IncidentKind::NotPaidAfterConfirm));
    }
}

/// See [`Command::BeginPayment`].
#[derive(Clone, Debug)]
pub struct BeginPayment {
    /// Which payment.
    pub facts: PaymentFacts,
    /// Now.
    pub at: Timestamp,
    /// The bank's business day, now.
    pub business_date: BusinessDate,
    /// See [`crate::invoice::Attempt::send_before`].
    pub send_before: Timestamp,
    /// See [`crate::invoice::Attempt::resolve_after`].
    pub resolve_after: Timestamp,
    /// See [`crate::invoice::Attempt::identity`].
    pub identity: String,
    /// The lease on the line that it is going to be sent on, if that is under one.
    pub fence: Option<Fence>,
}

/// What became of a payment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The bank took it.
    Paid {
        /// Its proof.
        receipt: BankReceipt,
        /// The amount it took: must be the invoice's amount due.
        amount: Rupiah,
    },
    /// It is certain that the bank did not take it.
    NotPaid(NotPaidProof),
}

/// See [`Command::SettlePayment`].
#[derive(Clone, Debug)]
pub struct SettlePayment {
    /// Which payment.
    pub facts: PaymentFacts,
    /// What became of it.
    pub outcome: Outcome,
    /// The lease under which it was found out, if it was under one.
    pub fence: Option<Fence>,
    /// Until when the resolution had been put off when the message left whose answer this is; none for a question
    /// that only asks. What says that the payment was not made counts only if nothing put it off since: nothing
    /// else that could pay.
    pub put_off_until: Option<Timestamp>,
    /// Now.
    pub at: Timestamp,
}

/// See [`Command::ProposeResolution`].
#[derive(Clone, Debug)]
pub struct ProposeResolution {
    /// The invoice.
    pub invoice: InvoiceNumber,
    /// The proposed end.
    pub resolution: Resolution,
    /// Who proposes.
    pub operator: String,
    /// What it relies on.
    pub reference: String,
    /// Why.
    pub reason: String,
    /// Now.
    pub at: Timestamp,
}

/// See [`Command::ApproveResolution`].
#[derive(Clone, Debug)]
pub struct ApproveResolution {
    /// Which payment.
    pub facts: PaymentFacts,
    /// What the approver saw, and means to approve: the proposer may have changed it meanwhile.
    pub resolution: Resolution,
    /// Who approves; not who proposed.
    pub operator: String,
    /// Now.
    pub at: Timestamp,
}

/// See [`Command::CorrectIncident`].
#[derive(Clone, Debug)]
pub struct CorrectIncident {
    /// Which payment.
    pub facts: PaymentFacts,
    /// Which contradiction.
    pub kind: IncidentKind,
    /// Who books it.
    pub operator: String,
    /// What it relies on.
    pub reference: String,
    /// Now.
    pub at: Timestamp,
}

/// See [`Command::RaiseIncident`].
#[derive(Clone, Debug)]
pub struct RaiseIncident {
    /// The invoice, if one is known.
    pub invoice: Option<InvoiceNumber>,
    /// What is wrong.
    pub kind: IncidentKind,
    /// Details, without personal data.
    pub detail: String,
    /// Now.
    pub at: Timestamp,
}

/// See [`Command::TopUp`].
#[derive(Clone, Debug)]
pub struct TopUp {
    /// The partner's environment.
    pub environment: Environment,
    /// Whose deposit.
    pub partner: PartnerId,
    /// How much: more than nothing.
    pub amount: Rupiah,
    /// The incoming transfer's reference: booked once per environment, for ever; see
    /// [`Claim::deposit_reference`].
    pub reference: String,
    /// Who books it.
    pub operator: String,
    /// Now.
    pub at: Timestamp,
}

/// See [`Command::AddPartner`].
#[derive(Clone, Debug)]
pub struct AddPartner {
    /// Live or sandbox.
    pub environment: Environment,
    /// Log-in name.
    pub username: Username,
    /// The business's name.
    pub name: String,
    /// `kodeagen`.
    pub agent_code: AgentCode,
    /// How far below zero the deposit may go.
    pub credit_limit: Rupiah,
    /// Argon2id hash.
    pub password_hash: Secret,
    /// Networks that may call; empty means any.
    pub allowed_networks: Vec<String>,
}

/// See [`Command::ChangePartner`].
#[derive(Clone, Debug)]
pub enum PartnerChange {
    /// Suspend or resume.
    Status(PartnerStatus),
    /// A new password.
    PasswordHash(Secret),
    /// A new allow-list.
    AllowedNetworks(Vec<String>),
    /// A new credit limit.
    CreditLimit(Rupiah),
}

impl Command {
    /// The rows that the decision reads.
    pub fn add_keys(&self, slot: Slot, keys: &mut Keys) {
        match self {
            Self::ReserveInvoiceNumbers { .. } => {
                keys.counters.insert(Counter::Invoice);
            }
            Self::ReserveTraceNumbers(reserve) => {
                keys.counters.insert(reserve.counter());
                keys.fences.extend(reserve.fence.as_ref().map(|fence| fence.name.clone()));
            }
            // A fresh number from a reserved block: there is nothing to read.
            Self::RecordInquiry(_) => {}
            Self::BeginPayment(begin) => {
                begin.facts.add_keys(keys);
                keys.partners.insert(begin.facts.partner);
                keys.fences.extend(begin.fence.as_ref().map(|fence| fence.name.clone()));
            }
            Self::PutOffResolution(put_off) => {
                let facts = &put_off.facts;
                keys.invoices.insert(facts.invoice);
                keys.proposals.insert(facts.invoice);
                // Whoever settles the payment holds this lock.
                keys.balances.insert(Account::deposit(facts.environment, facts.partner));
                keys.fences.extend(put_off.fence.as_ref().map(|fence| fence.name.clone()));
            }
            Self::SettlePayment(settle) => {
                settle.facts.add_settlement_keys(slot, keys);
                keys.fences.extend(settle.fence.as_ref().map(|fence| fence.name.clone()));
            }
            Self::ProposeResolution(propose) => {
                keys.invoices.insert(propose.invoice);
                keys.proposals.insert(propose.invoice);
            }
            Self::ApproveResolution(approve) => {
                approve.facts.add_settlement_keys(slot, keys);
                keys.proposals.insert(approve.facts.invoice);
            }
            Self::CorrectIncident(correct) => {
                let facts = &correct.facts;
                keys.invoices.insert(facts.invoice);
                keys.incidents.insert((facts.invoice.get(), correct.kind));
                keys.balances.insert(Account::bank_payable(facts.environment, facts.upstream, slot));
                keys.balances.insert(Account::house(AccountKind::DisputeLoss, facts.environment, slot));
                keys.counters.insert(Counter::Entry);
            }
            Self::RaiseIncident(raise) => {
                keys.incidents.insert(raise.key());
            }
            Self::TopUp(top_up) => {
                keys.partners.insert(top_up.partner);
                keys.claims.insert(top_up.claim());
                keys.balances.insert(Account::deposit(top_up.environment, top_up.partner));
                keys.balances.insert(Account::house(AccountKind::BankCash, top_up.environment, slot));
                keys.counters.insert(Counter::Entry);
            }
            Self::AddPartner(add) => {
                keys.claims.insert(Claim::Username(add.username.clone()));
                keys.counters.extend([Counter::Partner, Counter::Catalogue]);
            }
            Self::ChangePartner { id, change } => {
                keys.partners.insert(*id);
                keys.counters.insert(Counter::Catalogue);
                if let PartnerChange::CreditLimit(_) = change {
                    // The partner's environment is not known here; the other account is not there.
                    keys.balances.insert(Account::deposit(Environment::Live, *id));
                    keys.balances.insert(Account::deposit(Environment::Sandbox, *id));
                }
            }
            Self::SaveProduct(product) => {
                keys.products.insert((product.environment, product.code.clone()));
                keys.counters.insert(Counter::Catalogue);
            }
            Self::RegisterUpstream { name } => {
                keys.claims.insert(Claim::Upstream(name.clone()));
                keys.counters.insert(Counter::Upstream);
            }
            Self::ResetSandbox { .. } => {
                keys.counters.insert(Counter::SandboxReset);
            }
            Self::ChangeLease(change) => {
                keys.leases.insert(change.name.clone());
            }
        }
    }

    /// The partner whose turn in the queue the command takes; none for the gateway's own.
    pub fn partner(&self) -> Option<PartnerId> {
        match self {
            Self::RecordInquiry(record) => Some(record.invoice.partner),
            Self::BeginPayment(begin) => Some(begin.facts.partner),
            _ => None,
        }
    }

    /// Whose accounts the command moves money between; none for what moves no partner's money.
    pub fn partner_charged(&self) -> Option<PartnerId> {
        match self {
            Self::BeginPayment(begin) => Some(begin.facts.partner),
            Self::PutOffResolution(put_off) => Some(put_off.facts.partner),
            Self::SettlePayment(settle) => Some(settle.facts.partner),
            Self::ApproveResolution(approve) => Some(approve.facts.partner),
            Self::TopUp(top_up) => Some(top_up.partner),
            _ => None,
        }
    }

    /// Whether the command belongs to the settlement lane: served first, never shed.
    pub fn is_settlement(&self) -> bool {
        matches!(
            self,
            Self::SettlePayment(_)
                | Self::PutOffResolution(_)
                | Self::ReserveTraceNumbers(_)
                | Self::ApproveResolution(_)
                | Self::ProposeResolution(_)
                | Self::CorrectIncident(_)
                | Self::RaiseIncident(_)
                | Self::ChangeLease(_)
        )
    }
}

impl ReserveTraceNumbers {
    /// What the numbers are counted by.
    pub fn counter(&self) -> Counter {
        Counter::Trace(self.upstream, self.terminal)
    }
}

impl TopUp {
    /// The claim on the reference.
    pub fn claim(&self) -> Claim {
        Claim::deposit_reference(self.environment, &self.reference)
    }
}

impl RaiseIncident {
    /// What the incident is kept under.
    pub fn key(&self) -> (i64, IncidentKind) {
        (self.invoice.map_or(0, InvoiceNumber::get), self.kind)
    }

    /// The incident as a row, following on what is known.
    pub fn into_incident(self, known: Option<&Incident>) -> Incident {
        Incident {
            invoice: self.invoice,
            kind: self.kind,
            detail: self.detail,
            first_at: known.map_or(self.at, |incident| incident.first_at),
            last_at: self.at,
            count: known.map_or(1, |incident| incident.count.saturating_add(1)),
            corrected_by: known.and_then(|incident| incident.corrected_by),
        }
    }
}

/// What a command brought about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Accepted {
    /// It is done.
    Done,
    /// The first of the reserved invoice numbers.
    Numbers {
        /// The first number; the rest follow on.
        first: InvoiceNumber,
    },
    /// The first of the reserved trace numbers: counted on for ever, whatever becomes of them at the bank.
    TraceNumbers {
        /// The first number; the rest follow on.
        first: i64,
    },
    /// The resolution is put off.
    PutOff {
        /// Whether, of what may carry the payment out, nothing could still arrive when this was asked: then a
        /// "not paid" to the question that was put off for counts.
        counts: bool,
    },
    /// The invoice as it is now.
    Invoice(Box<Invoice>),
    /// The same outcome was booked before; nothing changed.
    AlreadySettled(Box<Invoice>),
    /// Another outcome is final; nothing moved, and an incident was raised.
    Contradiction(Box<Invoice>),
    /// The partner's number.
    Partner(PartnerId),
    /// The upstream's number.
    Upstream(UpstreamId),
    /// The manual entry's number.
    Entry(i64),
    /// The lease as it stands now.
    Lease(Lease),
}

/// Which rule a command would have broken. In the order in which they are checked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Rejection {
    /// No such invoice, or another partner's, or other facts than the command's.
    #[error("the invoice is unknown")]
    InvoiceUnknown,
    /// Its inquiry failed.
    #[error("the invoice's inquiry failed")]
    InquiryFailed,
    /// Its payment is under way.
    #[error("the invoice is pending")]
    InvoicePending,
    /// Its payment is done.
    #[error("the invoice is paid")]
    InvoicePaid,
    /// Its payment failed.
    #[error("the invoice is refunded")]
    InvoiceRefunded,
    /// It has no payment.
    #[error("the invoice has no payment")]
    NotBegun,
    /// It is from another business day, or its bill has lapsed.
    #[error("the invoice has expired")]
    InvoiceExpired,
    /// No such partner.
    #[error("the partner is unknown")]
    PartnerUnknown,
    /// The partner is suspended.
    #[error("the partner is suspended")]
    PartnerSuspended,
    /// Another invoice is paying the bill.
    #[error("another invoice is paying the bill")]
    BillBeingPaid,
    /// Another invoice has paid the bill.
    #[error("another invoice has paid the bill")]
    BillPaid,
    /// The deposit does not cover it.
    #[error("the partner's balance is short")]
    BalanceShort,
    /// The bank took another amount than it was asked for.
    #[error("the bank's amount differs from the invoice's")]
    AmountDiffers,
    /// "Not paid" was established before the horizon, when the original may still arrive.
    #[error("the in-flight horizon has not passed: the bank may still receive the payment; try again later")]
    AskedTooEarly,
    /// The bank says that it took a payment that it was asked to reverse, in answer to something else.
    #[error("the payment is being reversed: only the bank's answer to that counts")]
    BeingReversed,
    /// No proposal to approve.
    #[error("nobody has proposed a resolution for this invoice")]
    NothingProposed,
    /// Another proposal stands.
    #[error("another resolution is proposed already")]
    AlreadyProposed,
    /// The same operator proposed it.
    #[error("a second operator must approve")]
    SameOperator,
    /// The approver approves something else than what is proposed.
    #[error("what is proposed is something else; look at `esamsat pending list`")]
    ProposalDiffers,
    /// The bank was asked since with a question that may pay or undo it.
    #[error("the bank was asked again since the proposal; look at what it says now, and propose once more")]
    ProposalOutdated,
    /// No such incident, or it is of a kind that moves no money.
    #[error("there is no such incident to correct")]
    NothingToCorrect,
    /// The incident was corrected before.
    #[error("the incident has been corrected")]
    AlreadyCorrected,
    /// The reference is booked.
    #[error("the reference has been booked")]
    ReferenceUsed,
    /// The user name is taken.
    #[error("the user name is taken")]
    UsernameTaken,
    /// A number, amount or text is outside its limits: which.
    #[error("{0} is outside its limits")]
    OutOfLimits(&'static str),
    /// The lease was lost, or has changed since it was seen.
    #[error("the lease is another's by now")]
    LeaseLost,
    /// All numbers are given out.
    #[error("no numbers are left")]
    NumbersExhausted,
    /// The decision panicked, or the store refused the rows: a bug of ours.
    #[error("the command cannot be carried out")]
    Impossible,
}

/// What became of one command of a batch.
pub type Decision = Result<Accepted, Rejection>;
