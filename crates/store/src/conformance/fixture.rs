//! Commands with believable contents, and what must hold of every store at every moment.

use crate::{AuditRow, Batch, BatchId, InvoiceFilter, Store};
use domain::{
    Accepted, AgentCode, Bill, BusinessDate, ChassisNumber, Command, Decision, Environment, Invoice,
    InvoiceNumber, Lease, Nik, NotPaidProof, PartnerId, PaymentCode, Posting, Product, ProductCode, Rupiah,
    Secret, Slot, State, Taxes, Timestamp, UpstreamId, UpstreamTerms, Username,
    command::{
        AddPartner, BeginPayment, ChangeLease, Outcome, PaymentFacts, ProposeResolution, RecordInquiry,
        SettlePayment, TopUp,
    },
    invoice::{BankReceipt, Presentment},
    ledger::{Account, AccountKind, Step},
    limits,
    record::Resolution,
};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

/// The moment at which everything happens unless a case says otherwise: 2026-11-23 16:00 WIB.
pub const NOW: Timestamp = Timestamp::from_millis(1_795_424_400_000);

/// The only upstream.
pub const UPSTREAM: UpstreamId = UpstreamId(1);

/// What one bill of [`record`] comes to, fee included.
pub const TOTAL: Rupiah = Rupiah::new(183_500);

/// The gateway's part of it.
pub const FEE: Rupiah = Rupiah::new(5_000);

/// What the partner gets back.
pub const CASHBACK: Rupiah = Rupiah::new(2_000);

/// A moment so many seconds after [`NOW`].
pub fn seconds_later(seconds: u64) -> Timestamp {
    NOW.plus(std::time::Duration::from_secs(seconds))
}

/// The bank's business day.
pub fn today() -> BusinessDate {
    NOW.date_in_jakarta()
}

/// The first number that an invoice can have, and those that follow.
pub const fn number(index: i64) -> InvoiceNumber {
    InvoiceNumber::new(limits::invoice_number_first + index)
}

/// A batch with a fresh name, in the shape of those that a journal gives.
pub fn batch(commands: Vec<Command>) -> Batch {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let id = BatchId(BatchId::first_of(NOW).0 + u128::from(NEXT.fetch_add(1, Relaxed)));
    Batch { id, slot: Slot(0), commands }
}

/// Applies commands as one batch that must be written.
pub async fn apply(store: &dyn Store, commands: Vec<Command>) -> Vec<Decision> {
    store.apply(batch(commands)).await.expect("the batch can be written")
}

/// Applies one command.
pub async fn apply_one(store: &dyn Store, command: Command) -> Decision {
    apply(store, vec![command]).await.remove(0)
}

/// Adds a partner and credits its deposit. Panics where either is refused.
pub async fn partner(store: &dyn Store, environment: Environment, name: &str, deposit: i64) -> PartnerId {
    let Ok(Accepted::Partner(id)) = apply_one(store, add_partner(environment, name)).await else {
        panic!("{name} can be added")
    };
    if deposit > 0 {
        let credited = apply_one(store, top_up(environment, id, deposit, &format!("first of {name}"))).await;
        assert!(matches!(credited, Ok(Accepted::Entry(_))), "the deposit of {name} can be credited");
    }
    id
}

/// Registers a partner.
pub fn add_partner(environment: Environment, name: &str) -> Command {
    Command::AddPartner(Box::new(AddPartner {
        environment,
        username: Username::parse(name).expect("a user name"),
        name: format!("CV {name}"),
        agent_code: AgentCode::parse("JKT-00000").expect("an agent code"),
        credit_limit: Rupiah::ZERO,
        password_hash: Secret::new("$argon2id$dummy"),
        allowed_networks: vec!["10.0.0.0/8".to_owned()],
    }))
}

/// Credits a deposit.
pub fn top_up(environment: Environment, partner: PartnerId, amount: i64, reference: &str) -> Command {
    Command::TopUp(Box::new(TopUp {
        environment,
        partner,
        amount: Rupiah::new(amount),
        reference: reference.to_owned(),
        operator: "sari".to_owned(),
        at: NOW,
    }))
}

/// A product.
pub fn product(environment: Environment, code: &str, position: u32) -> Product {
    Product {
        environment,
        code: ProductCode::parse(code).expect("a product code"),
        name: format!("E-Samsat {code}"),
        fee: FEE,
        cashback: CASHBACK,
        on: true,
        upstream: UPSTREAM,
        position,
    }
}

/// A recorded inquiry: invoice `index` of a partner, about vehicle `vehicle`.
pub fn record(environment: Environment, partner: PartnerId, index: i64, vehicle: u32) -> RecordInquiry {
    let nik = Nik::parse("3201111111111111").expect("a KTP number");
    let chassis = ChassisNumber::parse(&format!("MH328D204AK{vehicle:06}")).expect("a chassis number");
    let payment_code = PaymentCode::parse(&format!("3200{vehicle:012}")).expect("a payment code");
    let bill = Bill {
        payment_code: payment_code.clone(),
        nik,
        chassis: chassis.clone(),
        owner_name: Secret::new("BUDI \"CONTOH\" O'NEIL"),
        owner_address: Secret::new("JL. CONTOH NO. 1\nBOGOR"),
        license_plate: "F 0001 Z".to_owned(),
        vehicle_brand: "YAMAHA".to_owned(),
        vehicle_model: "28D (AL115S/MIO)".to_owned(),
        vehicle_color: "MERAH MARUN".to_owned(),
        year_built: 2010,
        taxes: Taxes { pkb: Rupiah::new(143_500), swdkllj: Rupiah::new(35_000), ..Taxes::default() },
        upstream_reference: None,
    };
    RecordInquiry {
        invoice: Invoice {
            number: number(index),
            environment,
            partner,
            product: ProductCode::parse("SAMSAT_JABAR").expect("a product code"),
            upstream: UPSTREAM,
            inquired_at: NOW,
            business_date: today(),
            payable_until: None,
            payment_code: Some(payment_code),
            chassis,
            total: TOTAL,
            fee: FEE,
            cashback: CASHBACK,
            upstream_terms: UpstreamTerms::default(),
            state: State::Inquiry,
            sequence: 0,
        },
        presentment: Presentment::Bill(bill),
    }
}

/// Records an inquiry and gives the facts for its payment.
pub async fn invoice(
    store: &dyn Store,
    environment: Environment,
    partner: PartnerId,
    index: i64,
    vehicle: u32,
) -> PaymentFacts {
    let record = record(environment, partner, index, vehicle);
    let facts = PaymentFacts::of(&record.invoice).expect("an invoice with a bill");
    let decision = apply_one(store, Command::RecordInquiry(Box::new(record))).await;
    assert_eq!(decision, Ok(Accepted::Done), "an inquiry is always recorded");
    facts
}

/// Begins a payment, now.
pub fn begin(facts: &PaymentFacts) -> Command {
    Command::BeginPayment(Box::new(BeginPayment {
        facts: facts.clone(),
        at: NOW,
        business_date: today(),
        send_before: seconds_later(30),
        resolve_after: seconds_later(120),
        identity: format!("1123090000-{:06}", facts.invoice.get() % 1_000_000),
        fence: None,
    }))
}

/// The bank's proof of a payment.
pub fn receipt() -> BankReceipt {
    BankReceipt {
        reference_number: "0123456789ABCDEF0123456789ABCDEF".to_owned(),
        trace_number: "000123".to_owned(),
    }
}

/// Settles a payment: the bank took what it was asked for.
pub fn paid(facts: &PaymentFacts) -> Command {
    settle(facts, Outcome::Paid { receipt: receipt(), amount: TOTAL - FEE })
}

/// Settles a payment: the bank did not take it.
pub fn not_paid(facts: &PaymentFacts, proof: NotPaidProof) -> Command {
    settle(facts, Outcome::NotPaid(proof))
}

/// Settles a payment.
pub fn settle(facts: &PaymentFacts, outcome: Outcome) -> Command {
    Command::SettlePayment(Box::new(SettlePayment {
        facts: facts.clone(),
        outcome,
        fence: None,
        put_off_until: None,
        at: seconds_later(150),
    }))
}

/// Proposes how an open payment ends.
pub fn propose(invoice: InvoiceNumber, resolution: Resolution, operator: &str) -> Command {
    Command::ProposeResolution(Box::new(ProposeResolution {
        invoice,
        resolution,
        operator: operator.to_owned(),
        reference: "letter 12/2026".to_owned(),
        reason: "the bank answered by letter".to_owned(),
        at: seconds_later(600),
    }))
}

/// Takes, renews or gives up a lease.
pub fn change_lease(name: &str, seen: Option<&Lease>, holder: &str) -> Command {
    Command::ChangeLease(Box::new(ChangeLease {
        name: name.to_owned(),
        seen: seen.cloned(),
        holder: holder.to_owned(),
    }))
}

/// All rows of an audit.
pub async fn audit(store: &dyn Store) -> Vec<AuditRow> {
    let rows = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&rows);
    let visit = move |row| {
        seen.lock().expect("no visit panics").push(row);
        true
    };
    store.audit(Box::new(visit)).await.expect("the store can be audited");
    std::mem::take(&mut *rows.lock().expect("no visit panics"))
}

/// Everything that a store tells, one line a row: two stores with the same history tell the same.
pub async fn dump(store: &dyn Store) -> Vec<String> {
    let told = "the store answers";
    let mut lines: Vec<String> = audit(store).await.iter().map(|row| format!("{row:?}")).collect();
    lines.extend(store.partners().await.expect(told).iter().map(|row| format!("{row:?}")));
    lines.extend(store.products().await.expect(told).iter().map(|row| format!("{row:?}")));
    lines.extend(store.incidents(u32::MAX).await.expect(told).iter().map(|row| format!("{row:?}")));
    lines.extend(store.proposals().await.expect(told).iter().map(|row| format!("{row:?}")));
    lines.extend(store.upstreams().await.expect(told).iter().map(|row| format!("{row:?}")));
    // Where an event stands differs between backends; the order does not.
    lines.extend(store.events(0, u32::MAX).await.expect(told).iter().map(|(_, row)| format!("{row:?}")));
    lines.extend(store.leases().await.expect(told).iter().map(|row| format!("{row:?}")));
    lines.extend(store.pending(number(-1), u32::MAX).await.expect(told).iter().map(|row| format!("{row:?}")));
    let every = InvoiceFilter { limit: u32::MAX, ..InvoiceFilter::default() };
    lines.extend(store.invoices(every).await.expect(told).iter().map(|row| format!("{row:?}")));
    lines.push(format!("{} pending", store.pending_count().await.expect(told)));
    lines
}

/// Panics unless the books and the claims are in order.
///
/// The postings of every subject and step sum to zero, and so do all balances; a balance is the sum of its
/// postings; nobody has spent more than the deposit and its credit; an invoice's postings are those of its
/// state; whose payment is open owns the claims on its bill and its vehicle and nobody else owns a
/// vehicle; who has paid owns the bill, unless the sandbox was reset.
pub async fn assert_sound(store: &dyn Store) {
    let mut balances: BTreeMap<Account, Rupiah> = BTreeMap::new();
    let mut claims: BTreeMap<String, i64> = BTreeMap::new();
    let mut postings: Vec<Posting> = Vec::new();
    let mut invoices: Vec<Invoice> = Vec::new();
    let mut events: BTreeSet<(i64, u32)> = BTreeSet::new();
    for row in audit(store).await {
        match row {
            AuditRow::Balance(account, amount) => drop(balances.insert(account, amount)),
            AuditRow::Claim { key, owner } => drop(claims.insert(key, owner)),
            AuditRow::Posting(posting) => postings.push(posting),
            AuditRow::Invoice(invoice) => invoices.push(*invoice),
            AuditRow::Event(event) => {
                assert!(events.insert((event.subject, event.sequence)), "{event:?} comes once");
            }
            AuditRow::Entry(_) => {}
        }
    }
    let partners = store.partners().await.expect("the store answers");

    let mut groups: BTreeMap<(i64, Step), Rupiah> = BTreeMap::new();
    let mut sums: BTreeMap<Account, Rupiah> = BTreeMap::new();
    for posting in &postings {
        *groups.entry((posting.subject, posting.step)).or_default() += posting.amount;
        *sums.entry(posting.account).or_default() += posting.amount;
    }
    for (group, sum) in &groups {
        assert_eq!(*sum, Rupiah::ZERO, "{group:?} sums to zero");
    }
    assert_eq!(sums, balances, "a balance is the sum of its postings");
    assert_eq!(balances.values().copied().sum::<Rupiah>(), Rupiah::ZERO, "all balances sum to zero");
    for partner in &partners {
        let deposit = Account::deposit(partner.environment, partner.id);
        let spendable = partner.credit_limit - balances.get(&deposit).copied().unwrap_or_default();
        assert!(!spendable.is_negative(), "{:?} has spent more than there was", partner.id);
    }

    let mut open_claims = 0;
    let mut open_total: BTreeMap<Account, Rupiah> = BTreeMap::new();
    for invoice in &invoices {
        let subject = invoice.number.get();
        let begun = groups.contains_key(&(subject, Step::Begin));
        let settled = groups.contains_key(&(subject, Step::Settle));
        let expected = match invoice.state {
            State::Failure { .. } | State::Inquiry => (false, false, 0),
            State::Pending { .. } => (true, false, 1),
            State::Confirm { .. } | State::Refund { .. } => (true, true, 2),
        };
        assert_eq!((begun, settled, invoice.sequence), expected, "{invoice:?}");
        assert!((1..=invoice.sequence).all(|sequence| events.contains(&(subject, sequence))), "{invoice:?}");
        let Some(facts) = PaymentFacts::of(invoice) else { continue };
        let bill = claims.get(&facts.bill_claim().key());
        let vehicle = claims.get(&facts.vehicle_claim().key());
        match invoice.state {
            State::Pending { .. } => {
                assert_eq!((bill, vehicle), (Some(&subject), Some(&subject)), "{invoice:?}");
                open_claims += 1;
                let reserved = Account::reserved(invoice.environment, invoice.partner);
                *open_total.entry(reserved).or_default() += -invoice.total;
            }
            State::Confirm { .. } => {
                assert!(
                    bill == Some(&subject) || invoice.environment == Environment::Sandbox,
                    "{invoice:?} owns its bill"
                );
                assert_ne!(vehicle, Some(&subject), "{invoice:?} has given its vehicle back");
            }
            State::Failure { .. } | State::Inquiry | State::Refund { .. } => {
                assert!(bill != Some(&subject) && vehicle != Some(&subject), "{invoice:?} owns nothing");
            }
        }
    }
    assert_eq!(
        claims.keys().filter(|key| key.starts_with("c/")).count(),
        open_claims,
        "vehicles are claimed"
    );
    for (account, balance) in balances.iter().filter(|(account, _)| account.kind == AccountKind::Reserved) {
        let open = open_total.get(account).copied().unwrap_or_default();
        assert_eq!(*balance, open, "{account} is what open payments have reserved");
    }
    let open = invoices.iter().filter(|invoice| matches!(invoice.state, State::Pending { .. }));
    assert_eq!(
        store.pending_count().await.expect("the store answers"),
        u64::try_from(open.count()).unwrap_or(0)
    );
}
