//! Random histories in random batches: the model, `SQLite` and PostgreSQL decide alike, keep the same rows,
//! and the books are in order after every batch.
//!
//! A failing history is shrunk, and its seed is kept in `proptest-regressions`.

use crate::kit::Schema;
use domain::{
    Accepted, Command, Decision, Environment, Fence, InvoiceNumber, Lease, NotPaidProof, PartnerId,
    PartnerStatus, Reason, Rejection, Rupiah, Secret, UpstreamId,
    command::{ApproveResolution, CorrectIncident, Outcome, PartnerChange, PaymentFacts, RaiseIncident},
    record::{IncidentKind, Resolution},
};
use proptest::{
    collection::vec,
    prelude::*,
    sample::select,
    test_runner::{Config, FileFailurePersistence, TestRunner},
};
use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
};
use store::{
    BatchId, InvoiceFilter, Store,
    conformance::fixture::{self, FEE, TOTAL, begin, record, seconds_later},
    model::Model,
};
use store_postgres::PostgresStore;
use store_sqlite::{Open, SqliteStore};

/// What a generated command is about; numbers are taken modulo what there is.
#[derive(Clone, Debug)]
enum Act {
    Record { partner: usize, vehicle: u32 },
    RecordAgain(usize),
    Begin(usize),
    BeginTomorrow(usize),
    Settle(usize, Outcome, Option<Under>),
    ChangeLease { lease: usize, is_current: bool, holder: &'static str },
    Propose(usize, Resolution, &'static str),
    Approve(usize, Resolution, &'static str),
    Correct(usize, IncidentKind),
    Raise(Option<usize>, IncidentKind),
    TopUp { partner: usize, amount: i64, reference: u8 },
    Change(u32, PartnerChange),
    AddPartner(&'static str),
    SaveProduct(bool, u32),
    RegisterUpstream(&'static str),
    ReserveNumbers(u32),
    Reset(u32),
}

/// Under which lease a settlement is booked, and whether it is as it was last seen, or as it was before.
#[derive(Clone, Copy, Debug)]
struct Under {
    lease: usize,
    is_current: bool,
}

const LEASES: [&str; 2] = ["resolver/1", "resolver/2"];

const ANSWERS: &str = "the store answers";

const PARTNERS: [(Environment, PartnerId); 3] = [
    (Environment::Live, PartnerId(1)),
    (Environment::Live, PartnerId(2)),
    (Environment::Sandbox, PartnerId(3)),
];

fn outcome() -> impl Strategy<Value = Outcome> {
    let took = |amount| Outcome::Paid { receipt: fixture::receipt(), amount };
    prop_oneof![
        6 => Just(took(TOTAL - FEE)),
        1 => Just(took(TOTAL)),
        4 => select(vec![
            NotPaidProof::NeverSent,
            NotPaidProof::Refused { refusal: Reason::BankRefused.into() },
            NotPaidProof::NotFound { asked_at: seconds_later(119) },
            NotPaidProof::NotFound { asked_at: seconds_later(120) },
            NotPaidProof::PaidByAnother,
        ])
        .prop_map(Outcome::NotPaid),
    ]
}

fn resolution() -> impl Strategy<Value = Resolution> {
    select(vec![Resolution::NotPaid, Resolution::Paid { receipt: fixture::receipt() }])
}

fn under() -> impl Strategy<Value = Option<Under>> {
    let one = (0..2_usize, prop::bool::weighted(0.8));
    proptest::option::weighted(0.4, one.prop_map(|(lease, is_current)| Under { lease, is_current }))
}

fn act() -> impl Strategy<Value = Act> {
    let invoice = || 0..12_usize;
    let operator = || select(vec!["sari", "budi", "tono"]);
    let contradiction = || select(vec![IncidentKind::PaidAfterRefund, IncidentKind::NotPaidAfterConfirm]);
    prop_oneof![
        10 => (0..3_usize, 0..5_u32).prop_map(|(partner, vehicle)| Act::Record { partner, vehicle }),
        1 => invoice().prop_map(Act::RecordAgain),
        16 => invoice().prop_map(Act::Begin),
        1 => invoice().prop_map(Act::BeginTomorrow),
        16 => (invoice(), outcome(), under()).prop_map(|(i, outcome, under)| Act::Settle(i, outcome, under)),
        6 => (0..2_usize, prop::bool::weighted(0.8), select(vec!["a", "b", ""]))
            .prop_map(|(lease, is_current, holder)| Act::ChangeLease { lease, is_current, holder }),
        6 => (invoice(), resolution(), operator()).prop_map(|(i, resolution, by)| Act::Propose(i, resolution, by)),
        8 => (invoice(), resolution(), operator()).prop_map(|(i, resolution, by)| Act::Approve(i, resolution, by)),
        4 => (invoice(), contradiction()).prop_map(|(invoice, kind)| Act::Correct(invoice, kind)),
        2 => (proptest::option::of(invoice()), select(IncidentKind::ALL.to_vec()))
            .prop_map(|(invoice, kind)| Act::Raise(invoice, kind)),
        4 => (0..3_usize, 1..600_000_i64, 0..8_u8)
            .prop_map(|(partner, amount, reference)| Act::TopUp { partner, amount, reference }),
        2 => (1..5_u32, change()).prop_map(|(id, change)| Act::Change(id, change)),
        1 => select(vec!["satu", "empat", "lima"]).prop_map(Act::AddPartner),
        1 => (any::<bool>(), 0..3_u32).prop_map(|(live, position)| Act::SaveProduct(live, position)),
        1 => select(vec!["jabar", "relay"]).prop_map(Act::RegisterUpstream),
        1 => (0..3_u32).prop_map(Act::ReserveNumbers),
        1 => (1..3_u32).prop_map(Act::Reset),
    ]
}

fn change() -> impl Strategy<Value = PartnerChange> {
    // A credit limit only grows here: who lowers it below what is spent leaves nothing to spend, rightly.
    select(vec![
        PartnerChange::Status(PartnerStatus::Active),
        PartnerChange::Status(PartnerStatus::Active),
        PartnerChange::Status(PartnerStatus::Suspended),
        PartnerChange::PasswordHash(Secret::new("$argon2id$other")),
        PartnerChange::AllowedNetworks(vec!["192.168.0.0/16".to_owned()]),
        PartnerChange::CreditLimit(Rupiah::new(250_000)),
    ])
}

/// The invoices of a history, and how to speak of them.
#[derive(Default)]
struct Actors {
    invoices: Vec<PaymentFacts>,
    committed: usize,
    /// As they were last seen: within a batch, the second one who changes one comes too late.
    leases: BTreeMap<String, Lease>,
}

impl Actors {
    fn command(&mut self, act: &Act) -> Option<Command> {
        let chosen = |index: usize| {
            let count = self.invoices.len();
            (count > 0).then(|| self.invoices[index % count].clone())
        };
        Some(match act {
            Act::Record { partner, vehicle } => {
                let (environment, partner) = PARTNERS[*partner];
                let index = i64::try_from(self.invoices.len()).expect("histories are short");
                let mut record = record(environment, partner, index, *vehicle);
                // One vehicle in five is another bank's.
                record.invoice.upstream = UpstreamId(1 + vehicle / 4);
                self.invoices.push(PaymentFacts::of(&record.invoice).expect("an invoice with a bill"));
                Command::RecordInquiry(Box::new(record))
            }
            // Of what is committed only: numbers are fresh, so that no batch holds one twice.
            Act::RecordAgain(index) if self.committed > 0 => {
                let facts = &self.invoices[index % self.committed];
                let index = facts.invoice.get() - fixture::number(0).get();
                Command::RecordInquiry(Box::new(record(facts.environment, facts.partner, index, 1)))
            }
            Act::RecordAgain(_) => return None,
            Act::Begin(index) => begin(&chosen(*index)?),
            Act::BeginTomorrow(index) => {
                let Command::BeginPayment(mut late) = begin(&chosen(*index)?) else { return None };
                late.business_date = seconds_later(86_400).date_in_jakarta();
                Command::BeginPayment(late)
            }
            Act::Settle(index, outcome, under) => {
                let facts = chosen(*index)?;
                let Command::SettlePayment(mut settle) = fixture::settle(&facts, outcome.clone()) else {
                    return None;
                };
                settle.fence = under.map(|Under { lease, is_current }| {
                    let name = LEASES[lease];
                    let token = self.leases.get(name).map_or(0, |lease| lease.token);
                    Fence { name: name.to_owned(), token: token - i64::from(!is_current) }
                });
                Command::SettlePayment(settle)
            }
            Act::ChangeLease { lease, is_current, holder } => {
                let name = LEASES[*lease];
                let seen = self.leases.get(name).cloned().map(|seen| {
                    let renewals = seen.renewals - i64::from(!is_current);
                    Lease { renewals, ..seen }
                });
                fixture::change_lease(name, seen.as_ref(), holder)
            }
            Act::Propose(index, resolution, operator) => {
                fixture::propose(chosen(*index)?.invoice, resolution.clone(), operator)
            }
            Act::Approve(index, resolution, operator) => {
                Command::ApproveResolution(Box::new(ApproveResolution {
                    facts: chosen(*index)?,
                    resolution: resolution.clone(),
                    operator: (*operator).to_owned(),
                    at: seconds_later(700),
                }))
            }
            Act::Correct(index, kind) => Command::CorrectIncident(Box::new(CorrectIncident {
                facts: chosen(*index)?,
                kind: *kind,
                operator: "sari".to_owned(),
                reference: "statement".to_owned(),
                at: seconds_later(800),
            })),
            Act::Raise(index, kind) => Command::RaiseIncident(Box::new(RaiseIncident {
                invoice: index.and_then(chosen).map(|facts| facts.invoice),
                kind: *kind,
                detail: format!("{kind:?} seen"),
                at: seconds_later(300),
            })),
            Act::TopUp { partner, amount, reference } => {
                let (environment, partner) = PARTNERS[*partner];
                fixture::top_up(environment, partner, *amount, &transfer(*reference))
            }
            Act::Change(id, change) => Command::ChangePartner { id: PartnerId(*id), change: change.clone() },
            Act::AddPartner(name) => fixture::add_partner(Environment::Live, name),
            Act::SaveProduct(live, position) => {
                let environment = if *live { Environment::Live } else { Environment::Sandbox };
                let code = format!("SAMSAT_{}", position % 2);
                Command::SaveProduct(Box::new(fixture::product(environment, &code, *position)))
            }
            Act::RegisterUpstream(name) => Command::RegisterUpstream { name: (*name).to_owned() },
            Act::ReserveNumbers(count) => Command::ReserveInvoiceNumbers { count: *count },
            Act::Reset(upstream) => Command::ResetSandbox { upstream: UpstreamId(*upstream) },
        })
    }
}

impl Actors {
    /// What a batch that was written has changed of what they know.
    fn saw(&mut self, commands: &[Command], decisions: &[Decision]) {
        self.committed = self.invoices.len();
        for (command, decision) in commands.iter().zip(decisions) {
            if let (Command::ChangeLease(change), Ok(Accepted::Lease(lease))) = (command, decision) {
                self.leases.insert(change.name.clone(), lease.clone());
            }
        }
    }
}

/// Four references, each in two spellings.
fn transfer(number: u8) -> String {
    let text = format!("transfer {}", number / 2);
    if number.is_multiple_of(2) { text } else { format!(" {} ", text.to_uppercase()) }
}

/// `Contradiction`, `BalanceShort`, or the invoice's new state.
fn name(decision: &Decision) -> String {
    match decision {
        Ok(Accepted::Invoice(invoice)) => invoice.state.word().to_owned(),
        Ok(accepted) => format!("{accepted:?}").split(['(', ' ']).next().unwrap_or_default().to_owned(),
        Err(rejection) => format!("{rejection:?}"),
    }
}

async fn play(schema: &Schema, history: &[Vec<Act>], reached: &Mutex<BTreeMap<String, u32>>) {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let path = directory.path().join("esamsat.db");
    let model = Model::new();
    let mut sqlite = SqliteStore::open(&path, Open::CreateOrMigrate).expect("the file opens");
    empty(schema).await;
    let mut postgres = schema.store().await;
    let mut actors = Actors::default();
    for store in [&model as &dyn Store, &sqlite, &postgres] {
        for ((environment, _), name) in PARTNERS.iter().zip(["satu", "dua", "tiga"]) {
            fixture::partner(store, *environment, name, 500_000).await;
        }
    }
    for (turn, acts) in history.iter().enumerate() {
        let commands: Vec<_> = acts.iter().filter_map(|act| actors.command(act)).collect();
        let mut batch = fixture::batch(commands);
        batch.slot = domain::Slot(u16::try_from(turn % 2).expect("histories are short"));
        let decided = model.apply(batch.clone()).await;
        for (name, store) in stores(&sqlite, &postgres) {
            match (&decided, store.apply(batch.clone()).await) {
                (Ok(expected), Ok(decisions)) => assert_eq!(&decisions, expected, "{name}"),
                (Err(store::Error::Data(_)), Err(store::Error::Data(_))) => {}
                (expected, other) => panic!("the model says {expected:?}, {name} {other:?}"),
            }
        }
        if let Ok(decisions) = &decided {
            actors.saw(&batch.commands, decisions);
            count(reached, decisions.iter().map(name));
        } else {
            actors.invoices.truncate(actors.committed);
            count(reached, ["data error".to_owned()]);
        }
        fixture::assert_sound(&model).await;
        let expected = fixture::dump(&model).await;
        for (name, store) in stores(&sqlite, &postgres) {
            assert_eq!(fixture::dump(store).await, expected, "{name}");
            assert_eq!(
                store.batch_committed(batch.id).await.expect(ANSWERS),
                model.batch_committed(batch.id).await.expect(ANSWERS),
                "{name}"
            );
        }
        if turn % 6 == 4 {
            drop((sqlite, postgres));
            sqlite = SqliteStore::open(&path, Open::Existing).expect("the file opens");
            postgres = schema.store().await;
        }
    }
    for (name, store) in stores(&sqlite, &postgres) {
        fixture::assert_sound(store).await;
        compare_queries(&model, name, store, &actors).await;
    }
}

fn count(reached: &Mutex<BTreeMap<String, u32>>, names: impl IntoIterator<Item = String>) {
    let mut reached = reached.lock().unwrap_or_else(PoisonError::into_inner);
    for name in names {
        *reached.entry(name).or_default() += 1;
    }
}

/// Takes all rows out of a schema, as if it were fresh: faster than another one.
async fn empty(schema: &Schema) {
    let mut emptying = "UPDATE counter SET value = 0;".to_owned();
    for table in schema.tables().await {
        if !["schema_version", "counter"].contains(&table.as_str()) {
            emptying += "DELETE FROM ";
            emptying += &table;
            emptying += ";";
        }
    }
    schema.admin().await.batch_execute(&emptying).await.expect("the tables are emptied");
}

fn stores<'a>(sqlite: &'a SqliteStore, postgres: &'a PostgresStore) -> [(&'static str, &'a dyn Store); 2] {
    [("SQLite", sqlite), ("PostgreSQL", postgres)]
}

/// What the dump does not ask.
async fn compare_queries(model: &Model, name: &str, store: &dyn Store, actors: &Actors) {
    for (account, _) in model.balances().await.expect(ANSWERS) {
        assert_eq!(
            store.balance(account).await.expect(ANSWERS),
            model.balance(account).await.expect(ANSWERS),
            "{name} {account}"
        );
        for (before, limit) in [(i64::MAX, 1000), (i64::MAX, 2), (fixture::number(3).get(), 1)] {
            assert_eq!(
                store.account_postings(account, before, limit).await.expect(ANSWERS),
                model.account_postings(account, before, limit).await.expect(ANSWERS),
                "{name} {account} {before} {limit}"
            );
        }
    }
    for facts in &actors.invoices {
        assert_eq!(
            store.invoice(facts.invoice).await.expect(ANSWERS),
            model.invoice(facts.invoice).await.expect(ANSWERS),
            "{name}"
        );
        let subject = InvoiceNumber::get(facts.invoice);
        assert_eq!(
            store.postings(subject).await.expect(ANSWERS),
            model.postings(subject).await.expect(ANSWERS),
            "{name}"
        );
    }
    for partner in model.partners().await.expect(ANSWERS) {
        let found = store.partner(&partner.username).await.expect(ANSWERS);
        assert_eq!(found, Some(partner), "{name}");
    }
    let filters = [
        InvoiceFilter { limit: 3, ..InvoiceFilter::default() },
        InvoiceFilter { partner: Some(PartnerId(1)), limit: 4, ..InvoiceFilter::default() },
        InvoiceFilter { before: Some(fixture::number(4)), limit: 9, ..InvoiceFilter::default() },
        InvoiceFilter {
            partner: Some(PartnerId(2)),
            business_date: Some(fixture::today()),
            limit: 9,
            ..InvoiceFilter::default()
        },
    ];
    let words = ["FAILURE", "INQUIRY", "PENDING", "CONFIRM", "REFUND", "NONE"];
    let by_state = words.map(|word| InvoiceFilter {
        state: Some(word.to_owned()),
        limit: 9,
        ..InvoiceFilter::default()
    });
    for filter in filters.into_iter().chain(by_state) {
        assert_eq!(
            store.invoices(filter.clone()).await.expect(ANSWERS),
            model.invoices(filter.clone()).await.expect(ANSWERS),
            "{name} {filter:?}"
        );
    }
    for (before, limit) in [(i64::MAX, 2), (3, 10)] {
        assert_eq!(
            store.entries(before, limit).await.expect(ANSWERS),
            model.entries(before, limit).await.expect(ANSWERS),
            "{name}"
        );
    }
    let never = BatchId(1);
    assert!(!store.batch_committed(never).await.expect(ANSWERS), "{name}");
}

#[test]
fn random_histories_are_told_alike_by_all_stores() {
    let config = Config {
        cases: 30,
        source_file: Some(file!()),
        failure_persistence: Some(Box::new(FileFailurePersistence::WithSource("proptest-regressions"))),
        ..Config::default()
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let reached = Mutex::new(BTreeMap::new());
    let schema = runtime.block_on(Schema::migrated());
    let is_reached =
        |probe: &String| reached.lock().unwrap_or_else(PoisonError::into_inner).contains_key(probe);
    let mut missing = probes();
    // The dice may leave something out; then they are thrown again, a few times.
    for _ in 0..10 {
        let played = TestRunner::new(config.clone()).run(&vec(vec(act(), 1..24), 4..12), |history| {
            runtime.block_on(play(&schema, &history, &reached));
            Ok(())
        });
        if let Err(failure) = played {
            panic!("{failure}");
        }
        missing.retain(|probe| !is_reached(probe));
        if missing.is_empty() {
            return;
        }
    }
    panic!("never reached: {missing:?}");
}

/// What histories must have come to, to be worth anything.
fn probes() -> Vec<String> {
    let rejections = [
        Rejection::InvoicePending,
        Rejection::InvoicePaid,
        Rejection::InvoiceRefunded,
        Rejection::NotBegun,
        Rejection::InvoiceExpired,
        Rejection::PartnerSuspended,
        Rejection::BillBeingPaid,
        Rejection::BillPaid,
        Rejection::BalanceShort,
        Rejection::AmountDiffers,
        Rejection::AskedTooEarly,
        Rejection::NothingProposed,
        Rejection::AlreadyProposed,
        Rejection::ProposalDiffers,
        Rejection::ReferenceUsed,
        Rejection::LeaseLost,
    ];
    let words =
        ["PENDING", "CONFIRM", "REFUND", "AlreadySettled", "Contradiction", "Entry", "Lease", "data error"];
    let rejections = rejections.iter().map(|rejection| format!("{rejection:?}"));
    rejections.chain(words.map(str::to_owned)).collect()
}
