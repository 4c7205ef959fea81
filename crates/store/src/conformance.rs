//! The suite that every backend runs: one function a behaviour, each on a fresh database.
//!
//! A backend's test file names how to get one, and [`conformance!`](crate::conformance!) makes a test of every
//! case:
//!
//! ```text
//! async fn fresh() -> MyDatabase { … }
//! store::conformance!(fresh);
//! ```
//!
//! The cases speak to [`Store`] only. What a real database can suffer beyond that (a full disk, a foreign
//! file, a lost server) each backend tests for itself.

pub mod fixture;

use crate::{AuditRow, Error, InvoiceFilter, Store, StoredInvoice};
use domain::{
    Accepted, BusinessDate, Command, Environment, Fence, InvoiceNumber, Lease, NotPaidProof, PartnerId,
    PartnerStatus, Reason, Refusal, Rejection, Rupiah, Secret, Slot, State, Terminal, UpstreamId,
    UpstreamTerms, Username,
    command::{
        ApproveResolution, CorrectIncident, Outcome, PartnerChange, PaymentFacts, PutOffResolution,
        RaiseIncident, ReserveTraceNumbers,
    },
    invoice::Presentment,
    ledger::{Account, AccountKind, Step},
    record::{EntryKind, EventKind, IncidentKind, Resolution},
};
use fixture::{
    CASHBACK, FEE, NOW, TOTAL, UPSTREAM, add_partner, apply, apply_one, assert_sound, begin, not_paid,
    number, paid, record, seconds_later, today, top_up,
};
use futures::future::{BoxFuture, join, join_all};
use std::sync::{
    Arc,
    atomic::{AtomicU32, Ordering::Relaxed},
};
use std::time::Duration;

/// A database that can be opened again and again: a second handle, or the one after a crash.
pub trait Database: Send + Sync {
    /// Opens one more handle.
    fn open(&self) -> BoxFuture<'_, Arc<dyn Store>>;
}

/// Makes a test of every case. `$fresh` is an async function that gives a fresh [`Database`].
#[macro_export]
macro_rules! conformance {
    ($fresh:path) => {
        $crate::conformance! { @cases $fresh =>
            a_fresh_store_is_empty,
            numbers_are_reserved_in_blocks,
            partners_are_added_found_and_changed,
            products_are_written_whole_and_listed_by_position,
            an_upstream_is_registered_once,
            an_inquiry_is_kept_with_both_its_halves,
            a_payment_is_begun_and_confirmed,
            an_upstreams_own_terms_are_kept_and_booked,
            a_payment_is_refunded_on_proof,
            settling_again_changes_nothing,
            a_question_that_may_pay_puts_the_refund_off,
            a_reversal_alone_says_how_it_ended,
            an_approval_waits_for_what_left_before_and_counts_what_left_since,
            trace_numbers_are_given_out_once,
            a_contradiction_moves_no_money_until_it_is_corrected,
            two_operators_end_a_payment,
            incidents_are_counted_and_the_latest_comes_first,
            a_deposit_reference_is_booked_once,
            a_batch_sees_what_its_own_commands_did,
            one_bad_command_harms_nobody_else,
            rows_that_exist_are_refused_and_nothing_is_written,
            a_batch_is_applied_once,
            a_batch_that_was_asked_about_can_never_commit,
            ids_of_old_batches_are_forgotten,
            a_bill_has_one_living_payment,
            a_bill_that_is_taken_is_told_before_a_short_balance,
            a_batch_that_would_begin_and_end_a_payment_of_a_taken_bill_does_neither,
            a_sandbox_reset_releases_what_is_settled,
            a_sandbox_reset_is_of_one_upstream,
            the_same_payment_begins_once_on_two_handles,
            a_balance_for_three_payments_begins_three_on_two_handles,
            invoices_are_filtered_and_paged,
            postings_of_an_account_are_paged_between_subjects,
            entries_and_events_are_paged,
            an_audit_comes_in_order_and_ends_when_told,
            an_audit_is_of_one_moment,
            writers_of_several_slots_keep_their_own_house_accounts,
            a_lease_is_compared_and_set,
            one_of_two_handles_takes_a_lease,
            a_settlement_under_a_lost_lease_writes_nothing,
            a_healthy_store_says_so,
            what_was_committed_survives_a_restart,
        }
    };
    (@cases $fresh:path => $($case:ident,)*) => {
        $(
            #[::tokio::test]
            async fn $case() {
                $crate::conformance::$case(&$fresh().await).await;
            }
        )*
    };
}

const LIVE: Environment = Environment::Live;
const SANDBOX: Environment = Environment::Sandbox;
const ANSWERS: &str = "the store answers";

/// Nothing anywhere, and zero where a number is asked for.
pub async fn a_fresh_store_is_empty(database: &dyn Database) {
    let store = database.open().await;
    assert_eq!(store.partners().await.expect(ANSWERS), []);
    assert_eq!(store.products().await.expect(ANSWERS), []);
    assert_eq!(store.upstreams().await.expect(ANSWERS), []);
    assert_eq!(store.leases().await.expect(ANSWERS), []);
    assert_eq!(store.invoice(number(0)).await.expect(ANSWERS), None);
    assert_eq!(store.pending_count().await.expect(ANSWERS), 0);
    assert_eq!(store.balances().await.expect(ANSWERS), []);
    let deposit = Account::deposit(LIVE, PartnerId(1));
    assert_eq!(store.balance(deposit).await.expect(ANSWERS), Rupiah::ZERO);
    assert_eq!(store.postings(1).await.expect(ANSWERS), []);
    assert_eq!(store.account_postings(deposit, i64::MAX, 10).await.expect(ANSWERS), []);
    assert_eq!(store.entries(i64::MAX, 10).await.expect(ANSWERS), []);
    assert_eq!(store.entry_by_reference(LIVE, "x").await.expect(ANSWERS), None);
    assert!(fixture::audit(&*store).await.is_empty());
    assert_sound(&*store).await;
}

/// A block follows on the one before, and is never given out twice.
pub async fn numbers_are_reserved_in_blocks(database: &dyn Database) {
    let store = database.open().await;
    let reserve = |count| Command::ReserveInvoiceNumbers { count };
    let decisions = apply(&*store, vec![reserve(100), reserve(0), reserve(1)]).await;
    assert_eq!(decisions[0], Ok(Accepted::Numbers { first: number(0) }));
    assert_eq!(decisions[1], Err(Rejection::OutOfLimits("the count of numbers")));
    assert_eq!(decisions[2], Ok(Accepted::Numbers { first: number(100) }));
    let again = database.open().await;
    assert_eq!(apply_one(&*again, reserve(5)).await, Ok(Accepted::Numbers { first: number(101) }));
}

/// Every change can be read back by name and in the list.
pub async fn partners_are_added_found_and_changed(database: &dyn Database) {
    let store = database.open().await;
    let added = apply(&*store, vec![add_partner(LIVE, "mitra"), add_partner(SANDBOX, "Mitra 'é\"")]).await;
    assert_eq!(added, [Ok(Accepted::Partner(PartnerId(1))), Ok(Accepted::Partner(PartnerId(2)))]);
    let taken = apply_one(&*store, add_partner(SANDBOX, "mitra")).await;
    assert_eq!(taken, Err(Rejection::UsernameTaken));
    for change in [
        PartnerChange::Status(PartnerStatus::Suspended),
        PartnerChange::PasswordHash(Secret::new("$argon2id$other")),
        PartnerChange::AllowedNetworks(Vec::new()),
        PartnerChange::CreditLimit(Rupiah::new(7)),
    ] {
        let changed = apply_one(&*store, Command::ChangePartner { id: PartnerId(2), change }).await;
        assert_eq!(changed, Ok(Accepted::Done));
    }
    let name = Username::parse("Mitra 'é\"").expect("a user name");
    let partner = store.partner(&name).await.expect(ANSWERS).expect("the partner is there");
    assert_eq!((partner.id, partner.environment), (PartnerId(2), SANDBOX));
    assert_eq!(partner.status, PartnerStatus::Suspended);
    assert_eq!(partner.password_hash, Secret::new("$argon2id$other"));
    assert_eq!(partner.allowed_networks, Vec::<String>::new());
    assert_eq!(partner.credit_limit, Rupiah::new(7));
    let all = store.partners().await.expect(ANSWERS);
    assert_eq!(all.iter().map(|partner| partner.id.0).collect::<Vec<_>>(), [1, 2]);
    assert_eq!(all[1], partner);
    for absent in ["MITRA", "mitr", "nobody"] {
        let name = Username::parse(absent).expect("a user name");
        assert_eq!(store.partner(&name).await.expect(ANSWERS), None, "{absent}");
    }
    let nobody =
        Command::ChangePartner { id: PartnerId(9), change: PartnerChange::CreditLimit(Rupiah::ZERO) };
    assert_eq!(apply_one(&*store, nobody).await, Err(Rejection::PartnerUnknown));
}

/// The later writing stands; environments are apart.
pub async fn products_are_written_whole_and_listed_by_position(database: &dyn Database) {
    let store = database.open().await;
    let mut off = fixture::product(LIVE, "SAMSAT_B", 2);
    let save = |product: &domain::Product| Command::SaveProduct(Box::new(product.clone()));
    apply(
        &*store,
        vec![
            save(&off),
            save(&fixture::product(SANDBOX, "SAMSAT_A", 1)),
            save(&fixture::product(LIVE, "SAMSAT_Z", 1)),
            save(&fixture::product(LIVE, "SAMSAT_A", 2)),
        ],
    )
    .await;
    off.on = false;
    off.fee = Rupiah::new(9);
    apply(&*store, vec![save(&off)]).await;
    let products = store.products().await.expect(ANSWERS);
    let order: Vec<_> = products.iter().map(|p| (p.environment, p.code.as_str())).collect();
    assert_eq!(order, [(LIVE, "SAMSAT_Z"), (LIVE, "SAMSAT_A"), (LIVE, "SAMSAT_B"), (SANDBOX, "SAMSAT_A")]);
    assert_eq!(products[2], off);
}

/// The same name has the same number for ever.
pub async fn an_upstream_is_registered_once(database: &dyn Database) {
    let store = database.open().await;
    let register = |name: &str| Command::RegisterUpstream { name: name.to_owned() };
    let first = apply(&*store, vec![register("jabar"), register("relay"), register("jabar")]).await;
    assert_eq!(first[0], Ok(Accepted::Upstream(UPSTREAM)));
    assert_eq!(first[2], first[0]);
    assert_eq!(apply_one(&*database.open().await, register("relay")).await, first[1]);
    let upstreams = store.upstreams().await.expect(ANSWERS);
    let names: Vec<_> = upstreams.iter().map(|(name, id)| (name.as_str(), id.0)).collect();
    assert_eq!(names, [("jabar", 1), ("relay", 2)]);
}

/// Whatever was presented is read back to the letter: a bill with awkward texts, and a refusal.
pub async fn an_inquiry_is_kept_with_both_its_halves(database: &dyn Database) {
    let store = database.open().await;
    let mut bill = record(LIVE, PartnerId(7), 0, 1);
    bill.invoice.payable_until = Some(seconds_later(7200));
    let mut refused = record(SANDBOX, PartnerId(8), 1, 2);
    refused.invoice.payment_code = None;
    refused.invoice.state = State::Failure { refusal: Refusal::with_code(Reason::VehicleBlocked, "0088") };
    refused.invoice.total = Rupiah::ZERO;
    refused.presentment = Presentment::Refused {
        nik: bill.presentment.nik().clone(),
        chassis: refused.invoice.chassis.clone(),
    };
    for record in [&bill, &refused] {
        let recorded = apply_one(&*store, Command::RecordInquiry(Box::new(record.clone()))).await;
        assert_eq!(recorded, Ok(Accepted::Done));
    }
    for record in [bill, refused] {
        let number = record.invoice.number;
        let stored = StoredInvoice { invoice: record.invoice, presentment: record.presentment };
        assert_eq!(store.invoice(number).await.expect(ANSWERS), Some(stored));
    }
    assert_eq!(store.invoice(number(2)).await.expect(ANSWERS), None);
    assert_eq!(store.pending_count().await.expect(ANSWERS), 0);
}

/// The two steps of a payment, row by row.
pub async fn a_payment_is_begun_and_confirmed(database: &dyn Database) {
    let store = database.open().await;
    let partner = fixture::partner(&*store, LIVE, "mitra", 1_000_000).await;
    let facts = fixture::invoice(&*store, LIVE, partner, 0, 1).await;
    let deposit = Account::deposit(LIVE, partner);
    let reserved = Account::reserved(LIVE, partner);

    let Ok(Accepted::Invoice(begun)) = apply_one(&*store, begin(&facts)).await else {
        panic!("the payment begins")
    };
    assert_eq!(begun.state.word(), "PENDING");
    let stored = store.invoice(facts.invoice).await.expect(ANSWERS).expect("the invoice is there");
    assert_eq!(stored.invoice, *begun);
    assert_eq!(store.pending(number(-1), 10).await.expect(ANSWERS), [*begun]);
    assert_eq!(store.pending(facts.invoice, 10).await.expect(ANSWERS), []);
    assert_eq!(store.pending_count().await.expect(ANSWERS), 1);
    assert_eq!(store.balance(deposit).await.expect(ANSWERS), Rupiah::new(-816_500));
    assert_eq!(store.balance(reserved).await.expect(ANSWERS), -TOTAL);
    assert_sound(&*store).await;

    let Ok(Accepted::Invoice(settled)) = apply_one(&*store, paid(&facts)).await else {
        panic!("the payment settles")
    };
    let stored = store.invoice(facts.invoice).await.expect(ANSWERS).expect("the invoice is there");
    assert_eq!(stored.invoice, *settled);
    assert_eq!(settled.state.word(), "CONFIRM");
    assert_eq!(store.pending_count().await.expect(ANSWERS), 0);
    let balances = store.balances().await.expect(ANSWERS);
    assert_eq!(
        balances,
        [
            (deposit, Rupiah::new(-818_500)),
            (reserved, Rupiah::ZERO),
            (Account::bank_payable(LIVE, UPSTREAM, Slot(0)), FEE - TOTAL),
            (Account::house(AccountKind::FeeIncome, LIVE, Slot(0)), -FEE),
            (Account::house(AccountKind::CashbackExpense, LIVE, Slot(0)), CASHBACK),
            (Account::house(AccountKind::BankCash, LIVE, Slot(0)), Rupiah::new(1_000_000)),
        ]
    );
    let postings = store.postings(facts.invoice.get()).await.expect(ANSWERS);
    let steps: Vec<_> = postings.iter().map(|p| (p.step, p.account.kind, p.amount.get())).collect();
    assert_eq!(
        steps,
        [
            (Step::Begin, AccountKind::Deposit, 183_500),
            (Step::Begin, AccountKind::Reserved, -183_500),
            (Step::Settle, AccountKind::Deposit, -2_000),
            (Step::Settle, AccountKind::Reserved, 183_500),
            (Step::Settle, AccountKind::BankPayable, -178_500),
            (Step::Settle, AccountKind::FeeIncome, -5_000),
            (Step::Settle, AccountKind::CashbackExpense, 2_000),
        ]
    );
    let events = store.events(0, 10).await.expect(ANSWERS);
    let kinds: Vec<_> = events.iter().map(|(_, e)| (e.subject, e.sequence, e.kind)).collect();
    let subject = facts.invoice.get();
    assert_eq!(
        kinds,
        [
            (1, 1, EventKind::DepositCredited),
            (subject, 1, EventKind::PaymentPending),
            (subject, 2, EventKind::PaymentConfirmed),
        ]
    );
    assert_sound(&*store).await;
}

/// What the upstream charges and gives back is the invoice's for ever, whoever reads it, and booked apart.
pub async fn an_upstreams_own_terms_are_kept_and_booked(database: &dyn Database) {
    let store = database.open().await;
    let partner = fixture::partner(&*store, LIVE, "mitra", 1_000_000).await;
    let mut relayed = record(LIVE, partner, 0, 1);
    let terms = UpstreamTerms { fee: Rupiah::new(1_500), cashback: Rupiah::new(1_000) };
    relayed.invoice.upstream_terms = terms;
    if let Presentment::Bill(bill) = &mut relayed.presentment {
        bill.upstream_reference = Some("000000000017".to_owned());
    }
    let facts = PaymentFacts::of(&relayed.invoice).expect("an invoice with a bill");
    let recorded = apply_one(&*store, Command::RecordInquiry(Box::new(relayed.clone()))).await;
    assert_eq!(recorded, Ok(Accepted::Done));
    let again = database.open().await;
    let stored = again.invoice(facts.invoice).await.expect(ANSWERS).expect("the invoice is there");
    let presentment = relayed.presentment.clone();
    assert_eq!(stored, StoredInvoice { invoice: relayed.invoice, presentment });
    for command in [begin(&facts), paid(&facts)] {
        let Ok(Accepted::Invoice(changed)) = apply_one(&*again, command).await else {
            panic!("the payment goes on")
        };
        let stored = store.invoice(facts.invoice).await.expect(ANSWERS).expect("the invoice is there");
        assert_eq!((&stored.invoice, stored.invoice.upstream_terms), (&*changed, terms));
        assert_eq!(stored.presentment, relayed.presentment);
        let every = InvoiceFilter { limit: 10, ..InvoiceFilter::default() };
        let listed = store.invoices(every).await.expect(ANSWERS);
        assert!(format!("{listed:?}").contains(&format!("{terms:?}")), "{listed:?}");
    }
    let house = |kind| Account::house(kind, LIVE, Slot(0));
    for (account, balance) in [
        (Account::bank_payable(LIVE, UPSTREAM, Slot(0)), -179_000),
        (house(AccountKind::UpstreamFeeExpense), 1_500),
        (house(AccountKind::UpstreamCashbackIncome), -1_000),
        (house(AccountKind::FeeIncome), -5_000),
    ] {
        assert_eq!(store.balance(account).await.expect(ANSWERS), Rupiah::new(balance), "{account}");
    }
    assert_sound(&*store).await;
}

/// Every kind of proof is kept, and gives the money and the bill back.
pub async fn a_payment_is_refunded_on_proof(database: &dyn Database) {
    let store = database.open().await;
    let partner = fixture::partner(&*store, LIVE, "mitra", 200_000).await;
    let proofs = [
        NotPaidProof::NeverSent,
        NotPaidProof::Refused { refusal: Refusal::already_paid() },
        NotPaidProof::NotFound { asked_at: seconds_later(120) },
        NotPaidProof::PaidByAnother,
        NotPaidProof::Operators { reference: "letter \"1\"".to_owned() },
    ];
    for (index, proof) in (0..).zip(proofs) {
        // The same vehicle and bill every time, and money for one payment at a time.
        let facts = fixture::invoice(&*store, LIVE, partner, index, 1).await;
        assert!(apply_one(&*store, begin(&facts)).await.is_ok(), "the bill is free");
        let early = not_paid(&facts, NotPaidProof::NotFound { asked_at: seconds_later(119) });
        assert_eq!(apply_one(&*store, early).await, Err(Rejection::AskedTooEarly));
        let settled = apply_one(&*store, not_paid(&facts, proof.clone())).await;
        let stored = store.invoice(facts.invoice).await.expect(ANSWERS).expect("the invoice is there");
        assert_eq!(settled, Ok(Accepted::Invoice(Box::new(stored.invoice.clone()))));
        assert!(matches!(stored.invoice.state, State::Refund { proof: kept, .. } if kept == proof));
    }
    assert_eq!(store.balance(Account::deposit(LIVE, partner)).await.expect(ANSWERS), Rupiah::new(-200_000));
    assert_sound(&*store).await;
}

/// A final state stays, with its numbers.
pub async fn settling_again_changes_nothing(database: &dyn Database) {
    let store = database.open().await;
    let partner = fixture::partner(&*store, LIVE, "mitra", 1_000_000).await;
    let facts = fixture::invoice(&*store, LIVE, partner, 0, 1).await;
    assert_eq!(apply_one(&*store, paid(&facts)).await, Err(Rejection::NotBegun));
    apply(&*store, vec![begin(&facts)]).await;
    let wrong = Outcome::Paid { receipt: fixture::receipt(), amount: TOTAL };
    assert_eq!(apply_one(&*store, fixture::settle(&facts, wrong)).await, Err(Rejection::AmountDiffers));
    let settled = apply_one(&*store, paid(&facts)).await;
    let before = fixture::dump(&*store).await;
    let again = apply(&*store, vec![paid(&facts), begin(&facts), paid(&facts)]).await;
    let Ok(Accepted::Invoice(settled)) = settled else { panic!("the payment settles") };
    assert_eq!(again[0], Ok(Accepted::AlreadySettled(settled.clone())));
    assert_eq!(again[1], Err(Rejection::InvoicePaid));
    assert_eq!(again[2], again[0]);
    assert_eq!(fixture::dump(&*store).await, before);
}

fn put_off(facts: &PaymentFacts, at: u64, until: u64, reverses: bool) -> Command {
    Command::PutOffResolution(Box::new(PutOffResolution {
        facts: facts.clone(),
        resolve_after: seconds_later(until),
        rest: Duration::from_secs(90),
        reverses,
        fence: None,
        at: seconds_later(at),
    }))
}

fn approve(facts: &PaymentFacts, resolution: &Resolution, operator: &str, at: u64) -> Command {
    Command::ApproveResolution(Box::new(ApproveResolution {
        facts: facts.clone(),
        resolution: resolution.clone(),
        operator: operator.to_owned(),
        at: seconds_later(at),
    }))
}

fn settled_by_question(facts: &PaymentFacts, outcome: Outcome, until: u64) -> Command {
    let Command::SettlePayment(mut settle) = fixture::settle(facts, outcome) else {
        unreachable!("a settlement settles")
    };
    settle.put_off_until = Some(seconds_later(until));
    Command::SettlePayment(settle)
}

/// What may still pay puts off what "not paid" is worth, for everybody but the last who asked.
pub async fn a_question_that_may_pay_puts_the_refund_off(database: &dyn Database) {
    let store = database.open().await;
    let partner = fixture::partner(&*store, LIVE, "mitra", 1_000_000).await;
    let facts = fixture::invoice(&*store, LIVE, partner, 0, 1).await;
    assert_eq!(apply_one(&*store, put_off(&facts, 60, 200, false)).await, Err(Rejection::NotBegun));
    apply(&*store, vec![begin(&facts)]).await;
    let refused = apply_one(&*store, put_off(&facts, 60, 120, false)).await;
    assert_eq!(refused, Err(Rejection::AskedTooEarly), "it only ever goes on");
    let early = apply_one(&*store, put_off(&facts, 119, 200, false)).await;
    assert_eq!(early, Ok(Accepted::PutOff { counts: false }));
    let quiet = apply_one(&*store, put_off(&facts, 200, 300, false)).await;
    assert_eq!(quiet, Ok(Accepted::PutOff { counts: true }));
    let stored = store.invoice(facts.invoice).await.expect(ANSWERS).expect("the invoice is there");
    let attempt = stored.invoice.state.attempt().expect("it has begun");
    assert_eq!((attempt.resolve_after, attempt.is_reversing), (seconds_later(300), false));
    assert_eq!(attempt.rest, Duration::from_secs(90));

    let found = |asked| Outcome::NotPaid(NotPaidProof::NotFound { asked_at: seconds_later(asked) });
    let others = apply_one(&*store, fixture::settle(&facts, found(210))).await;
    assert_eq!(others, Err(Rejection::AskedTooEarly));
    let older = apply_one(&*store, settled_by_question(&facts, found(119), 200)).await;
    assert_eq!(older, Err(Rejection::AskedTooEarly), "somebody asked after it");
    for proof in [
        NotPaidProof::NeverSent,
        NotPaidProof::Refused { refusal: Refusal::already_paid() },
        NotPaidProof::PaidByAnother,
    ] {
        let first = apply_one(&*store, settled_by_question(&facts, Outcome::NotPaid(proof), 120)).await;
        assert_eq!(first, Err(Rejection::AskedTooEarly), "a question after it may have paid");
    }
    let latest = apply_one(&*store, settled_by_question(&facts, found(200), 300)).await;
    assert!(matches!(latest, Ok(Accepted::Invoice(invoice)) if invoice.state.word() == "REFUND"));
    let over = apply_one(&*store, put_off(&facts, 400, 500, false)).await;
    assert_eq!(over, Err(Rejection::InvoiceRefunded));

    let facts = fixture::invoice(&*store, LIVE, partner, 1, 2).await;
    apply(&*store, vec![begin(&facts), put_off(&facts, 60, 200, false)]).await;
    let outcome = Outcome::Paid { receipt: fixture::receipt(), amount: TOTAL - FEE };
    // Also if the answer is there before the question is written.
    apply(&*store, vec![put_off(&facts, 200, 300, false), settled_by_question(&facts, outcome, 300)]).await;
    let stored = store.invoice(facts.invoice).await.expect(ANSWERS).expect("the invoice is there");
    assert_eq!(stored.invoice.state.attempt().map(|it| it.resolve_after), Some(seconds_later(300)));
    let refused = || Outcome::NotPaid(NotPaidProof::Refused { refusal: Refusal::already_paid() });
    let first = apply_one(&*store, settled_by_question(&facts, refused(), 120)).await;
    assert!(matches!(first, Ok(Accepted::AlreadySettled(_))), "the question paid: {first:?}");
    let latest = apply_one(&*store, settled_by_question(&facts, refused(), 300)).await;
    assert!(matches!(latest, Ok(Accepted::Contradiction(_))), "{latest:?}");
    assert_sound(&*store).await;
}

/// Once the bank was asked to undo a payment, an answer to anything else settles nothing.
pub async fn a_reversal_alone_says_how_it_ended(database: &dyn Database) {
    let store = database.open().await;
    let partner = fixture::partner(&*store, LIVE, "mitra", 1_000_000).await;
    let facts = fixture::invoice(&*store, LIVE, partner, 0, 1).await;
    apply(&*store, vec![begin(&facts)]).await;
    let early = apply_one(&*store, put_off(&facts, 119, 300, true)).await;
    assert_eq!(early, Err(Rejection::AskedTooEarly), "it must not overtake the payment");
    let reversing = apply_one(&*store, put_off(&facts, 120, 300, true)).await;
    assert_eq!(reversing, Ok(Accepted::PutOff { counts: true }));
    let again = apply_one(&*store, put_off(&facts, 310, 400, false)).await;
    assert_eq!(again, Ok(Accepted::PutOff { counts: true }));
    let stored = store.invoice(facts.invoice).await.expect(ANSWERS).expect("the invoice is there");
    assert!(stored.invoice.state.attempt().is_some_and(|attempt| attempt.is_reversing), "it stays so");

    let late = apply_one(&*store, paid(&facts)).await;
    assert_eq!(late, Err(Rejection::BeingReversed));
    let resolution = Resolution::Paid { receipt: fixture::receipt() };
    apply(&*store, vec![fixture::propose(facts.invoice, resolution.clone(), "sari")]).await;
    // It is 600 by the clock of whoever proposes, which may be ahead: what left just before may take 90 seconds.
    for at in [399, 400, 689] {
        let too_early = apply_one(&*store, approve(&facts, &resolution, "budi", at)).await;
        assert_eq!(too_early, Err(Rejection::AskedTooEarly), "the reversal may still arrive");
    }
    let never_sent = apply_one(&*store, not_paid(&facts, NotPaidProof::NeverSent)).await;
    assert_eq!(never_sent, Err(Rejection::BeingReversed));
    let outcome = Outcome::Paid { receipt: fixture::receipt(), amount: TOTAL - FEE };
    let answered = apply_one(&*store, settled_by_question(&facts, outcome.clone(), 400)).await;
    assert!(matches!(answered, Ok(Accepted::Invoice(invoice)) if invoice.state.word() == "CONFIRM"));

    let facts = fixture::invoice(&*store, LIVE, partner, 1, 2).await;
    apply(&*store, vec![begin(&facts)]).await;
    apply(&*store, vec![put_off(&facts, 120, 300, true), settled_by_question(&facts, outcome, 300)]).await;
    let stored = store.invoice(facts.invoice).await.expect(ANSWERS).expect("the invoice is there");
    let attempt = stored.invoice.state.attempt().expect("it has begun");
    assert_eq!((attempt.resolve_after, attempt.is_reversing), (seconds_later(300), true));
    assert_sound(&*store).await;
}

/// What operators approve has neither been overtaken since it was proposed, nor can it be.
pub async fn an_approval_waits_for_what_left_before_and_counts_what_left_since(database: &dyn Database) {
    let store = database.open().await;
    let partner = fixture::partner(&*store, LIVE, "mitra", 1_000_000).await;
    let facts = fixture::invoice(&*store, LIVE, partner, 0, 1).await;
    apply(&*store, vec![begin(&facts), put_off(&facts, 500, 590, false)]).await;
    let resolution = Resolution::NotPaid;
    let propose = || fixture::propose(facts.invoice, resolution.clone(), "sari");
    apply(&*store, vec![propose()]).await;
    let early = apply_one(&*store, approve(&facts, &resolution, "budi", 689)).await;
    assert_eq!(early, Err(Rejection::AskedTooEarly));
    let held_back = apply_one(&*store, put_off(&facts, 600 + 86_399, 600 + 90_000, false)).await;
    assert_eq!(held_back, Err(Rejection::AlreadyProposed));
    let asked = apply_one(&*store, put_off(&facts, 600 + 86_400, 600 + 90_000, false)).await;
    assert_eq!(asked, Ok(Accepted::PutOff { counts: true }));
    let outdated = apply_one(&*store, approve(&facts, &resolution, "budi", 600 + 90_000)).await;
    assert_eq!(outdated, Err(Rejection::ProposalOutdated));

    let facts = fixture::invoice(&*store, LIVE, partner, 1, 2).await;
    apply(&*store, vec![begin(&facts), put_off(&facts, 500, 590, false)]).await;
    apply(&*store, vec![fixture::propose(facts.invoice, resolution.clone(), "sari")]).await;
    let approved = apply_one(&*store, approve(&facts, &resolution, "budi", 690)).await;
    assert!(matches!(approved, Ok(Accepted::Invoice(invoice)) if invoice.state.word() == "REFUND"));
    assert_sound(&*store).await;
}

/// Each terminal counts on for ever, under its own lease.
pub async fn trace_numbers_are_given_out_once(database: &dyn Database) {
    let store = database.open().await;
    let reserve = |terminal: &str, count: u32, fence: Option<Fence>| {
        let terminal = Terminal::parse(terminal).expect("a terminal id");
        let upstream = UPSTREAM;
        Command::ReserveTraceNumbers(Box::new(ReserveTraceNumbers { upstream, terminal, count, fence }))
    };
    let first = |decision| match decision {
        Ok(Accepted::TraceNumbers { first }) => first,
        other => panic!("no numbers: {other:?}"),
    };
    assert_eq!(first(apply_one(&*store, reserve("ESAM0001", 5_000, None)).await), 1);
    assert_eq!(first(apply_one(&*store, reserve("ESAM0001", 1, None)).await), 5_001);
    assert_eq!(first(apply_one(&*store, reserve("ESAM0002", 1, None)).await), 1);
    let none = apply_one(&*store, reserve("ESAM0001", 0, None)).await;
    assert!(matches!(none, Err(Rejection::OutOfLimits(_))), "{none:?}");
    let stale = Some(Fence { name: "line/1/ESAM0001".to_owned(), token: 1 });
    assert_eq!(apply_one(&*store, reserve("ESAM0001", 1, stale)).await, Err(Rejection::LeaseLost));

    // Two handles, both of a terminal that nobody had: no number twice.
    let other = database.open().await;
    let both = join_all((0..20).map(|turn| {
        let store = if turn % 2 == 0 { &store } else { &other };
        apply_one(&**store, reserve("ESAM0003", 10, None))
    }));
    let mut firsts: Vec<i64> = both.await.into_iter().map(first).collect();
    firsts.sort_unstable();
    assert_eq!(firsts, (0..20).map(|turn| 1 + turn * 10).collect::<Vec<_>>());
}

/// The state stays; an incident counts; the correction books the loss once.
pub async fn a_contradiction_moves_no_money_until_it_is_corrected(database: &dyn Database) {
    let store = database.open().await;
    let partner = fixture::partner(&*store, LIVE, "mitra", 1_000_000).await;
    let refunded = fixture::invoice(&*store, LIVE, partner, 0, 1).await;
    let confirmed = fixture::invoice(&*store, LIVE, partner, 1, 2).await;
    apply(
        &*store,
        vec![
            begin(&refunded),
            begin(&confirmed),
            not_paid(&refunded, NotPaidProof::NeverSent),
            paid(&confirmed),
        ],
    )
    .await;
    let balances = store.balances().await.expect(ANSWERS);
    for _ in 0..2 {
        let decisions =
            apply(&*store, vec![paid(&refunded), not_paid(&confirmed, NotPaidProof::PaidByAnother)]).await;
        assert!(decisions.iter().all(|d| matches!(d, Ok(Accepted::Contradiction(_)))), "{decisions:?}");
    }
    assert_eq!(store.balances().await.expect(ANSWERS), balances);
    let incidents = store.incidents(10).await.expect(ANSWERS);
    let counts: Vec<_> = incidents.iter().map(|i| (i.invoice, i.kind, i.count)).collect();
    assert_eq!(
        counts,
        [
            (Some(refunded.invoice), IncidentKind::PaidAfterRefund, 2),
            (Some(confirmed.invoice), IncidentKind::NotPaidAfterConfirm, 2),
        ]
    );

    let correct = |facts: &PaymentFacts, kind| {
        Command::CorrectIncident(Box::new(CorrectIncident {
            facts: facts.clone(),
            kind,
            operator: "sari".to_owned(),
            reference: "statement line 7".to_owned(),
            at: seconds_later(900),
        }))
    };
    let decisions = apply(
        &*store,
        vec![
            correct(&refunded, IncidentKind::PaidAfterRefund),
            correct(&refunded, IncidentKind::PaidAfterRefund),
            correct(&refunded, IncidentKind::AmountDiffers),
        ],
    )
    .await;
    assert!(matches!(decisions[0], Ok(Accepted::Entry(_))), "{decisions:?}");
    assert_eq!(decisions[1..], [Err(Rejection::AlreadyCorrected), Err(Rejection::NothingToCorrect)]);
    let loss = Account::house(AccountKind::DisputeLoss, LIVE, Slot(0));
    assert_eq!(store.balance(loss).await.expect(ANSWERS), TOTAL - FEE);
    assert!(apply_one(&*store, correct(&confirmed, IncidentKind::NotPaidAfterConfirm)).await.is_ok());
    assert_eq!(store.balance(loss).await.expect(ANSWERS), Rupiah::ZERO);
    let entries = store.entries(i64::MAX, 1).await.expect(ANSWERS);
    assert_eq!((entries[0].kind, entries[0].amount), (EntryKind::Correction, FEE - TOTAL));
    let incidents = store.incidents(10).await.expect(ANSWERS);
    assert!(incidents.iter().all(|incident| incident.corrected_by.is_some()));
    assert_sound(&*store).await;
}

/// One proposes, another approves; a proposal whose payment is over is no longer listed.
pub async fn two_operators_end_a_payment(database: &dyn Database) {
    let store = database.open().await;
    let partner = fixture::partner(&*store, LIVE, "mitra", 1_000_000).await;
    let approve = |facts: &PaymentFacts, resolution: &Resolution, operator: &str| {
        approve(facts, resolution, operator, 700)
    };
    let resolutions =
        [(Resolution::Paid { receipt: fixture::receipt() }, "CONFIRM"), (Resolution::NotPaid, "REFUND")];
    for (index, (resolution, word)) in (0..).zip(&resolutions) {
        let facts =
            fixture::invoice(&*store, LIVE, partner, index, 1 + u32::try_from(index).unwrap_or(0)).await;
        apply(&*store, vec![begin(&facts)]).await;
        let nothing = apply_one(&*store, approve(&facts, resolution, "budi")).await;
        assert_eq!(nothing, Err(Rejection::NothingProposed));
        let propose = |resolution, operator| fixture::propose(facts.invoice, resolution, operator);
        let mut receipt = fixture::receipt();
        "000124".clone_into(&mut receipt.trace_number);
        let other = Resolution::Paid { receipt };
        let decisions = apply(
            &*store,
            vec![
                propose(Resolution::NotPaid, "sari"),
                propose(resolution.clone(), "sari"),
                propose(resolution.clone(), "budi"),
                approve(&facts, resolution, " SARI"),
                approve(&facts, &other, "budi"),
            ],
        )
        .await;
        assert_eq!(
            decisions,
            [
                Ok(Accepted::Done),
                Ok(Accepted::Done),
                Err(Rejection::AlreadyProposed),
                Err(Rejection::SameOperator),
                Err(Rejection::ProposalDiffers)
            ]
        );
        // Before somebody has approved "not paid", nothing leaves that could pay; for a day.
        let reversal = apply_one(&*store, put_off(&facts, 640, 680, true)).await;
        assert_eq!(reversal, Err(Rejection::AlreadyProposed), "it would make either untrue");
        let held_back = apply_one(&*store, put_off(&facts, 650, 690, false)).await;
        let expected = match resolution {
            Resolution::NotPaid => Err(Rejection::AlreadyProposed),
            Resolution::Paid { .. } => Ok(Accepted::PutOff { counts: true }),
        };
        assert_eq!(held_back, expected);
        let standing = store.proposals().await.expect(ANSWERS);
        assert_eq!(standing.len(), 1);
        assert_eq!((standing[0].invoice, &standing[0].resolution), (facts.invoice, resolution));
        let ended = apply_one(&*store, approve(&facts, resolution, "budi")).await;
        assert!(matches!(ended, Ok(Accepted::Invoice(invoice)) if invoice.state.word() == *word));
        assert_eq!(store.proposals().await.expect(ANSWERS), []);
        let kept = store.proposal(facts.invoice).await.expect(ANSWERS).expect("the decision is kept");
        assert_eq!(kept.approved.map(|approval| approval.operator), Some("budi".to_owned()));
        assert_eq!(store.proposal(number(99)).await.expect(ANSWERS), None);
    }
    assert_sound(&*store).await;
}

/// One row an invoice and kind.
pub async fn incidents_are_counted_and_the_latest_comes_first(database: &dyn Database) {
    let store = database.open().await;
    let raise = |invoice: Option<InvoiceNumber>, kind, detail: &str, seconds| {
        Command::RaiseIncident(Box::new(RaiseIncident {
            invoice,
            kind,
            detail: detail.to_owned(),
            at: seconds_later(seconds),
        }))
    };
    apply(
        &*store,
        vec![
            raise(None, IncidentKind::Garbled, "field 48", 1),
            raise(Some(number(3)), IncidentKind::UnknownCode, "code 77", 2),
            raise(Some(number(3)), IncidentKind::AmountDiffers, "183501", 2),
            raise(None, IncidentKind::Garbled, "field 61", 3),
        ],
    )
    .await;
    let incidents = store.incidents(10).await.expect(ANSWERS);
    let shown: Vec<_> = incidents.iter().map(|i| (i.invoice, i.kind, i.detail.as_str(), i.count)).collect();
    assert_eq!(
        shown,
        [
            (None, IncidentKind::Garbled, "field 61", 2),
            (Some(number(3)), IncidentKind::AmountDiffers, "183501", 1),
            (Some(number(3)), IncidentKind::UnknownCode, "code 77", 1),
        ]
    );
    assert_eq!((incidents[0].first_at, incidents[0].last_at), (seconds_later(1), seconds_later(3)));
    assert_eq!(store.incidents(1).await.expect(ANSWERS).len(), 1);
}

/// Once per environment, for ever; the entry is found by it.
pub async fn a_deposit_reference_is_booked_once(database: &dyn Database) {
    let store = database.open().await;
    let live = fixture::partner(&*store, LIVE, "mitra", 0).await;
    let sandbox = fixture::partner(&*store, SANDBOX, "coba", 0).await;
    let reference = "BCA/2026 'x'; --";
    let decisions = apply(
        &*store,
        vec![
            top_up(LIVE, live, 500, reference),
            top_up(LIVE, live, 700, reference),
            top_up(LIVE, live, 700, " bca/2026 'X'; -- "),
            top_up(SANDBOX, sandbox, 900, &format!("\u{a0}{reference} ")),
            top_up(SANDBOX, live, 900, "another"),
        ],
    )
    .await;
    assert_eq!(
        decisions,
        [
            Ok(Accepted::Entry(1)),
            Err(Rejection::ReferenceUsed),
            Err(Rejection::ReferenceUsed),
            Ok(Accepted::Entry(2)),
            Err(Rejection::PartnerUnknown)
        ]
    );
    assert_eq!(apply_one(&*store, top_up(LIVE, live, 500, reference)).await, Err(Rejection::ReferenceUsed));
    for (environment, partner, amount) in [(LIVE, live, 500), (SANDBOX, sandbox, 900)] {
        let entry = store.entry_by_reference(environment, reference).await.expect(ANSWERS);
        let entry = entry.expect("the entry is there");
        assert_eq!((entry.partner, entry.amount.get(), &*entry.reference), (partner, amount, reference));
        let retyped = store.entry_by_reference(environment, " Bca/2026 'x'; --").await.expect(ANSWERS);
        assert_eq!(retyped, Some(entry));
        assert_eq!(
            store.balance(Account::deposit(environment, partner)).await.expect(ANSWERS).get(),
            -amount
        );
    }
    assert_eq!(store.entry_by_reference(LIVE, "another").await.expect(ANSWERS), None);
    assert_sound(&*store).await;
}

/// From the recording to the end in one batch, and a second payment that finds the money spent.
pub async fn a_batch_sees_what_its_own_commands_did(database: &dyn Database) {
    let store = database.open().await;
    let partner = fixture::partner(&*store, LIVE, "mitra", TOTAL.get()).await;
    let records = [record(LIVE, partner, 0, 1), record(LIVE, partner, 1, 2)];
    let facts: Vec<_> = records.iter().filter_map(|record| PaymentFacts::of(&record.invoice)).collect();
    let mut commands: Vec<_> =
        records.into_iter().map(|record| Command::RecordInquiry(Box::new(record))).collect();
    commands.extend([begin(&facts[0]), begin(&facts[1]), paid(&facts[0]), begin(&facts[0])]);
    let decisions = apply(&*store, commands).await;
    assert!(decisions[..3].iter().all(Result::is_ok) && decisions[4].is_ok(), "{decisions:?}");
    assert_eq!(decisions[3], Err(Rejection::BalanceShort));
    assert_eq!(decisions[5], Err(Rejection::InvoicePaid));
    let words = async |facts: &PaymentFacts| {
        let stored = store.invoice(facts.invoice).await.expect(ANSWERS).expect("the invoice is there");
        stored.invoice.state.word()
    };
    assert_eq!((words(&facts[0]).await, words(&facts[1]).await), ("CONFIRM", "INQUIRY"));
    assert_sound(&*store).await;
}

/// A rejection and a panic in the middle of a batch.
pub async fn one_bad_command_harms_nobody_else(database: &dyn Database) {
    let store = database.open().await;
    let partner = fixture::partner(&*store, LIVE, "mitra", 1_000_000).await;
    let first = fixture::invoice(&*store, LIVE, partner, 0, 1).await;
    let second = fixture::invoice(&*store, LIVE, partner, 1, 2).await;
    let mut unknown = first.clone();
    unknown.invoice = number(99);
    let mut stranger = first.clone();
    stranger.partner = PartnerId(77);
    // An invoice cannot begin its life as REFUND: the decision panics.
    let mut impossible = record(LIVE, partner, 2, 3);
    let refunded = apply(&*store, vec![begin(&first), not_paid(&first, NotPaidProof::NeverSent)]).await;
    let Ok(Accepted::Invoice(refunded)) = &refunded[1] else { panic!("the payment is refunded") };
    impossible.invoice.state = refunded.state.clone();
    let decisions = apply(
        &*store,
        vec![begin(&unknown), begin(&stranger), Command::RecordInquiry(Box::new(impossible)), begin(&second)],
    )
    .await;
    assert_eq!(
        decisions[..3],
        [Err(Rejection::InvoiceUnknown), Err(Rejection::InvoiceUnknown), Err(Rejection::Impossible)]
    );
    assert!(decisions[3].is_ok());
    assert_eq!(store.invoice(number(2)).await.expect(ANSWERS), None);
    assert_sound(&*store).await;
}

/// A number that is taken: the whole batch is refused, and each of the others can be written alone.
pub async fn rows_that_exist_are_refused_and_nothing_is_written(database: &dyn Database) {
    let store = database.open().await;
    let partner = fixture::partner(&*store, LIVE, "mitra", 1_000_000).await;
    let facts = fixture::invoice(&*store, LIVE, partner, 0, 1).await;
    let before = fixture::dump(&*store).await;
    let taken = || Command::RecordInquiry(Box::new(record(LIVE, partner, 0, 9)));
    let batch = fixture::batch(vec![begin(&facts), taken(), top_up(LIVE, partner, 5, "x")]);
    assert!(matches!(store.apply(batch.clone()).await, Err(Error::Data(_))));
    assert_eq!(fixture::dump(&*store).await, before);
    assert!(matches!(store.apply(fixture::batch(vec![taken()])).await, Err(Error::Data(_))));
    // Its name was not used up, since nothing was committed under it.
    let mut rest = batch;
    rest.commands.remove(1);
    assert!(store.apply(rest).await.expect("the rest can be written").iter().all(Result::is_ok));
    assert_sound(&*store).await;
}

/// The second time is an error and changes nothing.
pub async fn a_batch_is_applied_once(database: &dyn Database) {
    let store = database.open().await;
    let batch = fixture::batch(vec![Command::ReserveInvoiceNumbers { count: 10 }]);
    assert!(store.apply(batch.clone()).await.is_ok());
    let again = database.open().await;
    assert!(matches!(again.apply(batch.clone()).await, Err(Error::Data(_))));
    assert!(again.batch_committed(batch.id).await.expect(ANSWERS));
    let next = apply_one(&*store, Command::ReserveInvoiceNumbers { count: 1 }).await;
    assert_eq!(next, Ok(Accepted::Numbers { first: number(10) }));
}

/// "Not committed" is a promise, on every handle.
pub async fn a_batch_that_was_asked_about_can_never_commit(database: &dyn Database) {
    let store = database.open().await;
    let other = database.open().await;
    let batch = fixture::batch(vec![Command::ReserveInvoiceNumbers { count: 10 }]);
    assert!(!store.batch_committed(batch.id).await.expect(ANSWERS));
    assert!(matches!(other.apply(batch.clone()).await, Err(Error::Data(_))));
    assert!(!other.batch_committed(batch.id).await.expect(ANSWERS));
    let next = apply_one(&*store, Command::ReserveInvoiceNumbers { count: 1 }).await;
    assert_eq!(next, Ok(Accepted::Numbers { first: number(0) }));
}

/// Only those before the moment.
pub async fn ids_of_old_batches_are_forgotten(database: &dyn Database) {
    let store = database.open().await;
    let old = fixture::batch(vec![Command::ResetSandbox { upstream: UPSTREAM }]);
    store.apply(old.clone()).await.expect("the batch can be written");
    store.prune_batches(NOW).await.expect(ANSWERS);
    assert!(store.batch_committed(old.id).await.expect(ANSWERS));
    store.prune_batches(seconds_later(1)).await.expect(ANSWERS);
    assert!(!store.batch_committed(old.id).await.expect(ANSWERS));
}

/// One bank's reset leaves what another bank has taken, be its number the beginning of the other's.
pub async fn a_sandbox_reset_is_of_one_upstream(database: &dyn Database) {
    let store = database.open().await;
    let coba = fixture::partner(&*store, SANDBOX, "coba", 10_000_000).await;
    let upstreams = [UpstreamId(1), UpstreamId(2), UpstreamId(12)];
    let invoice = async |index: i64, upstream: UpstreamId| {
        let mut record = record(SANDBOX, coba, index, upstream.0);
        record.invoice.upstream = upstream;
        let facts = PaymentFacts::of(&record.invoice).expect("an invoice with a bill");
        assert!(apply_one(&*store, Command::RecordInquiry(Box::new(record))).await.is_ok());
        facts
    };
    for (index, upstream) in (0..).zip(upstreams) {
        let facts = invoice(index, upstream).await;
        assert!(apply(&*store, vec![begin(&facts), paid(&facts)]).await.iter().all(Result::is_ok));
    }
    let mut index = 3;
    let mut payable = async || {
        let mut payable = Vec::new();
        for upstream in upstreams {
            let facts = invoice(index, upstream).await;
            index += 1;
            if apply_one(&*store, begin(&facts)).await.is_ok() {
                apply(&*store, vec![paid(&facts)]).await;
                payable.push(upstream.0);
            }
        }
        payable
    };
    assert_eq!(payable().await, [0_u32; 0]);
    let reset = async |ids: &[u32]| {
        apply(&*store, ids.iter().map(|id| Command::ResetSandbox { upstream: UpstreamId(*id) }).collect())
            .await
    };
    reset(&[1]).await;
    assert_eq!(payable().await, [1]);
    reset(&[12, 2]).await;
    assert_eq!(payable().await, [2, 12]);
    reset(&[3]).await;
    assert_eq!(payable().await, [0_u32; 0]);
    assert_sound(&*store).await;
}

/// Across partners, until REFUND.
pub async fn a_bill_has_one_living_payment(database: &dyn Database) {
    let store = database.open().await;
    let one = fixture::partner(&*store, LIVE, "satu", 1_000_000).await;
    let two = fixture::partner(&*store, LIVE, "dua", 1_000_000).await;
    let first = fixture::invoice(&*store, LIVE, one, 0, 1).await;
    let second = fixture::invoice(&*store, LIVE, two, 1, 1).await;
    assert!(apply_one(&*store, begin(&first)).await.is_ok());
    assert_eq!(apply_one(&*store, begin(&second)).await, Err(Rejection::BillBeingPaid));
    apply(&*store, vec![not_paid(&first, NotPaidProof::NeverSent)]).await;
    assert!(apply(&*store, vec![begin(&second), paid(&second)]).await.iter().all(Result::is_ok));
    let third = fixture::invoice(&*store, LIVE, one, 2, 1).await;
    assert_eq!(apply_one(&*store, begin(&third)).await, Err(Rejection::BillPaid));
    assert_eq!(store.balance(Account::deposit(LIVE, one)).await.expect(ANSWERS).get(), -1_000_000);
    assert_sound(&*store).await;
}

/// Whatever else is wrong: a rejection is the first rule that is violated, on every backend.
pub async fn a_bill_that_is_taken_is_told_before_a_short_balance(database: &dyn Database) {
    let store = database.open().await;
    let rich = fixture::partner(&*store, LIVE, "mitra", 1_000_000).await;
    let poor = fixture::partner(&*store, LIVE, "miskin", 1).await;
    let first = fixture::invoice(&*store, LIVE, rich, 0, 1).await;
    apply_one(&*store, begin(&first)).await.expect("the bill is free");
    let second = fixture::invoice(&*store, LIVE, poor, 1, 1).await;
    assert_eq!(apply_one(&*store, begin(&second)).await, Err(Rejection::BillBeingPaid));
    apply_one(&*store, paid(&first)).await.expect("it is open");
    assert_eq!(apply_one(&*store, begin(&second)).await, Err(Rejection::BillPaid));
    let other = fixture::invoice(&*store, LIVE, poor, 2, 2).await;
    assert_eq!(apply_one(&*store, begin(&other)).await, Err(Rejection::BalanceShort));
}

/// And the claim stays with who has it.
pub async fn a_batch_that_would_begin_and_end_a_payment_of_a_taken_bill_does_neither(
    database: &dyn Database,
) {
    let store = database.open().await;
    let partner = fixture::partner(&*store, LIVE, "mitra", 1_000_000).await;
    let first = fixture::invoice(&*store, LIVE, partner, 0, 1).await;
    let second = fixture::invoice(&*store, LIVE, partner, 1, 1).await;
    apply_one(&*store, begin(&first)).await.expect("the bill is free");
    let store = database.open().await;
    let ends = vec![begin(&second), not_paid(&second, NotPaidProof::NeverSent)];
    assert_eq!(apply(&*store, ends).await, [Err(Rejection::BillBeingPaid), Err(Rejection::NotBegun)]);
    assert_eq!(apply_one(&*store, begin(&second)).await, Err(Rejection::BillBeingPaid));
    assert_sound(&*store).await;
}

/// Paid bills of the sandbox can be paid again; open ones and live ones stay claimed.
pub async fn a_sandbox_reset_releases_what_is_settled(database: &dyn Database) {
    let store = database.open().await;
    let live = fixture::partner(&*store, LIVE, "mitra", 1_000_000).await;
    let coba = fixture::partner(&*store, SANDBOX, "coba", 1_000_000).await;
    let mut facts = Vec::new();
    for (environment, partner, index, vehicle) in
        [(LIVE, live, 0, 1), (SANDBOX, coba, 1, 1), (SANDBOX, coba, 2, 2)]
    {
        facts.push(fixture::invoice(&*store, environment, partner, index, vehicle).await);
    }
    apply(&*store, facts.iter().map(begin).collect()).await;
    apply(&*store, vec![paid(&facts[0]), paid(&facts[1]), Command::ResetSandbox { upstream: UPSTREAM }])
        .await;
    assert_sound(&*store).await;
    let mut decisions = Vec::new();
    for (environment, partner, index, vehicle) in
        [(LIVE, live, 3, 1), (SANDBOX, coba, 4, 1), (SANDBOX, coba, 5, 2)]
    {
        let again = fixture::invoice(&*store, environment, partner, index, vehicle).await;
        decisions.push(apply_one(&*store, begin(&again)).await);
    }
    assert_eq!(decisions[0], Err(Rejection::BillPaid));
    assert!(decisions[1].is_ok());
    assert_eq!(decisions[2], Err(Rejection::BillBeingPaid));
    assert_sound(&*store).await;
}

/// Two gateways, many tries at once: one is accepted.
pub async fn the_same_payment_begins_once_on_two_handles(database: &dyn Database) {
    let stores = [database.open().await, database.open().await];
    let partner = fixture::partner(&*stores[0], LIVE, "mitra", 100_000_000).await;
    for index in 0..5 {
        let vehicle = u32::try_from(index).unwrap_or(0);
        let facts = fixture::invoice(&*stores[1], LIVE, partner, index, vehicle).await;
        let tries = (0..8).map(|turn| stores[turn % 2].apply(fixture::batch(vec![begin(&facts)])));
        let decisions: Vec<_> = join_all(tries).await.into_iter().flat_map(|d| d.expect(ANSWERS)).collect();
        assert_eq!(decisions.iter().filter(|decision| decision.is_ok()).count(), 1, "{decisions:?}");
        assert_eq!(
            decisions.iter().filter(|decision| **decision == Err(Rejection::InvoicePending)).count(),
            7,
            "{decisions:?}"
        );
    }
    assert_sound(&*stores[0]).await;
}

/// k of n, however they fall.
pub async fn a_balance_for_three_payments_begins_three_on_two_handles(database: &dyn Database) {
    let stores = [database.open().await, database.open().await];
    let partner = fixture::partner(&*stores[0], LIVE, "mitra", 3 * TOTAL.get() + 1).await;
    let mut facts = Vec::new();
    for index in 0..8 {
        let vehicle = u32::try_from(index).unwrap_or(0);
        facts.push(fixture::invoice(&*stores[0], LIVE, partner, index, vehicle).await);
    }
    let tries = facts
        .iter()
        .enumerate()
        .map(|(turn, facts)| stores[turn % 2].apply(fixture::batch(vec![begin(facts)])));
    let decisions: Vec<_> = join_all(tries).await.into_iter().flat_map(|d| d.expect(ANSWERS)).collect();
    assert_eq!(decisions.iter().filter(|decision| decision.is_ok()).count(), 3, "{decisions:?}");
    assert_eq!(store_pending(&*stores[1]).await, 3);
    assert_sound(&*stores[1]).await;
}

async fn store_pending(store: &dyn Store) -> usize {
    store.pending(number(-1), u32::MAX).await.expect(ANSWERS).len()
}

/// Every filter, alone and together, and the cursor.
pub async fn invoices_are_filtered_and_paged(database: &dyn Database) {
    let store = database.open().await;
    let one = fixture::partner(&*store, LIVE, "satu", 10_000_000).await;
    let two = fixture::partner(&*store, SANDBOX, "dua", 10_000_000).await;
    let tomorrow = BusinessDate::from_number(today().as_number() + 1).expect("a date");
    let mut commands = Vec::new();
    for index in 0..12 {
        let (environment, partner) = if index % 3 == 0 { (SANDBOX, two) } else { (LIVE, one) };
        let mut record = record(environment, partner, index, u32::try_from(index).unwrap_or(0));
        if index >= 8 {
            record.invoice.business_date = tomorrow;
        }
        let facts = PaymentFacts::of(&record.invoice).expect("an invoice with a bill");
        commands.push(Command::RecordInquiry(Box::new(record)));
        if index % 2 == 0 && index < 8 {
            commands.push(begin(&facts));
        }
    }
    apply(&*store, commands).await;
    let list = async |filter: InvoiceFilter| {
        let found = store.invoices(filter).await.expect(ANSWERS);
        found.iter().map(|stored| stored.invoice.number.get() - number(0).get()).collect::<Vec<_>>()
    };
    let every = || InvoiceFilter { limit: 100, ..InvoiceFilter::default() };
    let state = |word: &str| Some(word.to_owned());
    assert_eq!(list(every()).await, [11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0]);
    assert_eq!(list(InvoiceFilter { limit: 0, ..every() }).await, [0_i64; 0]);
    assert_eq!(list(InvoiceFilter { before: Some(number(4)), limit: 3, ..every() }).await, [3, 2, 1]);
    assert_eq!(list(InvoiceFilter { before: Some(number(0)), ..every() }).await, [0_i64; 0]);
    assert_eq!(list(InvoiceFilter { partner: Some(two), ..every() }).await, [9, 6, 3, 0]);
    assert_eq!(list(InvoiceFilter { partner: Some(PartnerId(99)), ..every() }).await, [0_i64; 0]);
    assert_eq!(list(InvoiceFilter { state: state("PENDING"), ..every() }).await, [6, 4, 2, 0]);
    assert_eq!(list(InvoiceFilter { state: state("INQUIRY"), limit: 2, ..every() }).await, [11, 10]);
    assert_eq!(list(InvoiceFilter { state: state("pending"), ..every() }).await, [0_i64; 0]);
    assert_eq!(list(InvoiceFilter { business_date: Some(tomorrow), ..every() }).await, [11, 10, 9, 8]);
    let together = InvoiceFilter {
        partner: Some(one),
        state: state("PENDING"),
        business_date: Some(today()),
        before: Some(number(4)),
        limit: 5,
    };
    assert_eq!(list(together).await, [2]);
    let pending = store.pending(number(0), 2).await.expect(ANSWERS);
    assert_eq!(pending.iter().map(|i| i.number).collect::<Vec<_>>(), [number(2), number(4)]);
    assert_eq!(store.pending_count().await.expect(ANSWERS), 4);
}

/// A page never cuts a subject in two, so that its last subject is the next cursor.
pub async fn postings_of_an_account_are_paged_between_subjects(database: &dyn Database) {
    let store = database.open().await;
    let partner = fixture::partner(&*store, LIVE, "mitra", 1_000_000).await;
    let other = fixture::partner(&*store, LIVE, "lain", 1_000_000).await;
    apply(&*store, vec![top_up(LIVE, partner, 5, "second")]).await;
    for (index, partner) in (0..).zip([partner, other, partner, partner]) {
        let vehicle = u32::try_from(index).unwrap_or(0);
        let facts = fixture::invoice(&*store, LIVE, partner, index, vehicle).await;
        apply(&*store, vec![begin(&facts)]).await;
        apply(&*store, vec![paid(&facts)]).await;
    }
    for (account, count) in [
        (Account::deposit(LIVE, partner), 8),
        (Account::reserved(LIVE, partner), 6),
        (Account::deposit(LIVE, other), 3),
        (Account::bank_payable(LIVE, UPSTREAM, Slot(0)), 4),
        (Account::house(AccountKind::BankCash, LIVE, Slot(0)), 3),
        (Account::house(AccountKind::BankCash, SANDBOX, Slot(0)), 0),
        (Account::deposit(SANDBOX, partner), 0),
    ] {
        let whole = store.account_postings(account, i64::MAX, 100).await.expect(ANSWERS);
        assert_eq!(whole.len(), count, "{account}");
        assert!(whole.iter().all(|posting| posting.account == account));
        assert!(whole.is_sorted_by_key(|p| std::cmp::Reverse((p.subject, p.step))), "{account}");
        let balance = store.balance(account).await.expect(ANSWERS);
        assert_eq!(whole.iter().map(|posting| posting.amount).sum::<Rupiah>(), balance, "{account}");
        for limit in 1..4 {
            let (mut paged, mut before) = (Vec::new(), i64::MAX);
            loop {
                let page = store.account_postings(account, before, limit).await.expect(ANSWERS);
                let Some(last) = page.last() else { break };
                before = last.subject;
                paged.extend(page);
            }
            assert_eq!(paged, whole, "{account} in pages of {limit}");
        }
    }
}

/// Newest entries first, oldest events first, each behind its cursor.
pub async fn entries_and_events_are_paged(database: &dyn Database) {
    let store = database.open().await;
    let partner = fixture::partner(&*store, LIVE, "mitra", 0).await;
    for index in 0..5 {
        apply(&*store, vec![top_up(LIVE, partner, 100 + index, &format!("reference {index}"))]).await;
    }
    let numbers = async |before, limit| {
        let entries = store.entries(before, limit).await.expect(ANSWERS);
        entries.iter().map(|entry| entry.number).collect::<Vec<_>>()
    };
    assert_eq!(numbers(i64::MAX, 100).await, [5, 4, 3, 2, 1]);
    assert_eq!(numbers(4, 2).await, [3, 2]);
    assert_eq!(numbers(1, 2).await, [0_i64; 0]);
    let all = store.events(0, 100).await.expect(ANSWERS);
    assert_eq!(all.iter().map(|(_, event)| event.subject).collect::<Vec<_>>(), [1, 2, 3, 4, 5]);
    assert!(all.is_sorted_by_key(|(position, _)| *position) && all[0].0 > 0);
    assert_eq!(store.events(all[1].0, 2).await.expect(ANSWERS), all[2..4]);
    assert_eq!(store.events(all[4].0, 2).await.expect(ANSWERS), []);
}

/// Balances, claims, entries, postings, invoices, events, each by its key.
pub async fn an_audit_comes_in_order_and_ends_when_told(database: &dyn Database) {
    let store = database.open().await;
    history(&*store).await;
    let rows = fixture::audit(&*store).await;
    let place = |row: &AuditRow| match row {
        AuditRow::Balance(account, _) => (0, String::new(), account.code(), 0, 0),
        AuditRow::Claim { key, .. } => (1, key.clone(), 0, 0, 0),
        AuditRow::Entry(entry) => (2, String::new(), entry.number, 0, 0),
        AuditRow::Posting(posting) => {
            (3, String::new(), posting.subject, posting.step as u8, posting.account.code())
        }
        AuditRow::Invoice(invoice) => (4, String::new(), invoice.number.get(), 0, 0),
        AuditRow::Event(_) => (5, String::new(), 0, 0, 0),
    };
    assert!(rows.is_sorted_by_key(place), "{rows:#?}");
    let kinds: std::collections::BTreeSet<_> = rows.iter().map(|row| place(row).0).collect();
    assert_eq!(kinds.len(), 6, "every kind of row comes");
    let counted = Arc::new(AtomicU32::new(0));
    let counter = Arc::clone(&counted);
    store.audit(Box::new(move |_| counter.fetch_add(1, Relaxed) < 2)).await.expect(ANSWERS);
    assert_eq!(counted.load(Relaxed), 3);
}

/// While payments are written beside it, the books of an audit still close.
pub async fn an_audit_is_of_one_moment(database: &dyn Database) {
    let store = database.open().await;
    let partner = fixture::partner(&*store, LIVE, "mitra", 100_000_000).await;
    let mut facts = Vec::new();
    for index in 0..20 {
        let vehicle = u32::try_from(index).unwrap_or(0);
        facts.push(fixture::invoice(&*store, LIVE, partner, index, vehicle).await);
    }
    let writing = async {
        for facts in &facts {
            apply(&*store, vec![begin(facts)]).await;
            apply(&*store, vec![paid(facts)]).await;
        }
    };
    let auditing = async {
        for _ in 0..10 {
            let mut sums = (Rupiah::ZERO, Rupiah::ZERO);
            let mut counts = (0, 0);
            for row in fixture::audit(&*store).await {
                match row {
                    AuditRow::Balance(_, amount) => sums.0 += amount,
                    AuditRow::Posting(posting) => {
                        sums.1 += posting.amount;
                        counts.0 += usize::from(posting.step == Step::Begin);
                    }
                    AuditRow::Invoice(invoice) => counts.1 += usize::from(invoice.sequence > 0),
                    _ => {}
                }
            }
            assert_eq!(sums, (Rupiah::ZERO, Rupiah::ZERO));
            assert_eq!(counts.0, 2 * counts.1, "every begun invoice has its two postings");
        }
    };
    join(writing, auditing).await;
    assert_sound(&*store).await;
}

/// Two gateways, one ledger.
pub async fn writers_of_several_slots_keep_their_own_house_accounts(database: &dyn Database) {
    let store = database.open().await;
    let partner = fixture::partner(&*store, LIVE, "mitra", 1_000_000).await;
    for (index, slot) in [(0, Slot(0)), (1, Slot(3))] {
        let vehicle = u32::try_from(index).unwrap_or(0);
        let facts = fixture::invoice(&*store, LIVE, partner, index, vehicle).await;
        let mut batch = fixture::batch(vec![begin(&facts), paid(&facts)]);
        batch.slot = slot;
        store.apply(batch).await.expect(ANSWERS);
        let income = Account::house(AccountKind::FeeIncome, LIVE, slot);
        assert_eq!(store.balance(income).await.expect(ANSWERS), -FEE);
    }
    assert_sound(&*store).await;
}

/// What was seen must still stand; every lease is listed, whoever holds it.
pub async fn a_lease_is_compared_and_set(database: &dyn Database) {
    let store = database.open().await;
    let lease = |holder: &str, token, renewals| Lease { holder: holder.to_owned(), token, renewals };
    let (first, renewed, other) = (lease("a", 1, 0), lease("a", 1, 1), lease("b", 2, 0));
    let changes = vec![
        fixture::change_lease("resolver/1", None, "a"),
        fixture::change_lease("resolver/1", None, "b"),
        fixture::change_lease("resolver/1", Some(&first), "a"),
    ];
    let taken = apply(&*store, changes).await;
    let expected =
        [Ok(Accepted::Lease(first.clone())), Err(Rejection::LeaseLost), Ok(Accepted::Lease(renewed.clone()))];
    assert_eq!(taken, expected);
    // From here on another handle finds it.
    let store = database.open().await;
    let stale = apply_one(&*store, fixture::change_lease("resolver/1", Some(&first), "b")).await;
    assert_eq!(stale, Err(Rejection::LeaseLost));
    let took = apply_one(&*store, fixture::change_lease("resolver/1", Some(&renewed), "b")).await;
    assert_eq!(took, Ok(Accepted::Lease(other.clone())));
    apply_one(&*store, fixture::change_lease("housekeeping", None, "a 'quoted'")).await.expect("it is free");
    let listed = store.leases().await.expect(ANSWERS);
    let expected =
        [("housekeeping".to_owned(), lease("a 'quoted'", 1, 0)), ("resolver/1".to_owned(), other.clone())];
    assert_eq!(listed, expected);
    let freed = apply_one(&*store, fixture::change_lease("resolver/1", Some(&other), "")).await;
    assert_eq!(freed, Ok(Accepted::Lease(lease("", 3, 0))));
    assert_eq!(store.leases().await.expect(ANSWERS)[1], ("resolver/1".to_owned(), lease("", 3, 0)));
}

/// At the same moment: one that nobody had, then one that stood still.
pub async fn one_of_two_handles_takes_a_lease(database: &dyn Database) {
    let (one, two) = (database.open().await, database.open().await);
    let mut seen: Option<Lease> = None;
    for turn in 0..5 {
        let takes = ["a", "b"]
            .map(|holder| fixture::change_lease("resolver/1", seen.as_ref(), &format!("{holder}{turn}")));
        let [left, right] = takes;
        let decisions: [_; 2] = join(apply_one(&*one, left), apply_one(&*two, right)).await.into();
        let refused = decisions.iter().filter(|decision| **decision == Err(Rejection::LeaseLost)).count();
        let taken: Vec<_> = decisions
            .iter()
            .filter_map(|d| if let Ok(Accepted::Lease(l)) = d { Some(l) } else { None })
            .collect();
        assert_eq!((taken.len(), refused), (1, 1), "{decisions:?}");
        assert_eq!(taken[0].token, turn + 1);
        assert_eq!(one.leases().await.expect(ANSWERS), [("resolver/1".to_owned(), taken[0].clone())]);
        seen = Some(taken[0].clone());
    }
}

/// A gateway that was paused, and does not know that another has taken over.
pub async fn a_settlement_under_a_lost_lease_writes_nothing(database: &dyn Database) {
    let store = database.open().await;
    let partner = fixture::partner(&*store, LIVE, "mitra", 1_000_000).await;
    let facts = fixture::invoice(&*store, LIVE, partner, 0, 1).await;
    apply_one(&*store, begin(&facts)).await.expect("the payment begins");
    let under = |name: &str, token, command| {
        let Command::SettlePayment(mut settle) = command else { panic!("a settlement") };
        settle.fence = Some(Fence { name: name.to_owned(), token });
        Command::SettlePayment(settle)
    };
    let take = fixture::change_lease("resolver/1", None, "a");
    let Ok(Accepted::Lease(first)) = apply_one(&*store, take).await else { panic!("it is free") };
    let take = fixture::change_lease("resolver/1", Some(&first), "b");
    let Ok(Accepted::Lease(second)) = apply_one(&*store, take).await else { panic!("it is taken over") };

    let before = fixture::dump(&*store).await;
    let refused = apply(
        &*store,
        vec![
            under("resolver/1", first.token, paid(&facts)),
            under("resolver/1", first.token, not_paid(&facts, NotPaidProof::NeverSent)),
            under("resolver/2", 1, paid(&facts)),
        ],
    )
    .await;
    assert_eq!(refused, [const { Err(Rejection::LeaseLost) }; 3]);
    assert_eq!(fixture::dump(&*store).await, before);

    // The lease changes hands within the batch: what comes before is written, what comes after is not.
    let changes = vec![
        fixture::change_lease("resolver/1", Some(&second), "c"),
        under("resolver/1", second.token, paid(&facts)),
        under("resolver/1", second.token + 1, paid(&facts)),
    ];
    let decisions = apply(&*store, changes).await;
    assert!(matches!(decisions[0], Ok(Accepted::Lease(_))));
    assert_eq!(decisions[1], Err(Rejection::LeaseLost));
    assert!(matches!(&decisions[2], Ok(Accepted::Invoice(invoice)) if invoice.state.word() == "CONFIRM"));
    assert_sound(&*store).await;
}

/// And asking changes nothing.
pub async fn a_healthy_store_says_so(database: &dyn Database) {
    let store = database.open().await;
    history(&*store).await;
    let before = fixture::dump(&*store).await;
    store.check().await.expect("the store can be written");
    store.check().await.expect("the store can be written");
    assert_eq!(fixture::dump(&*store).await, before);
}

/// The next handle tells the same, and goes on from there.
pub async fn what_was_committed_survives_a_restart(database: &dyn Database) {
    let store = database.open().await;
    history(&*store).await;
    let before = fixture::dump(&*store).await;
    drop(store);
    let store = database.open().await;
    assert_eq!(fixture::dump(&*store).await, before);
    let pending = store.pending(number(-1), 10).await.expect(ANSWERS);
    let facts = PaymentFacts::of(&pending[0]).expect("an open payment has a bill");
    assert!(apply_one(&*store, paid(&facts)).await.is_ok());
    assert_sound(&*store).await;
}

/// A little of everything; one payment stays open.
async fn history(store: &dyn Store) {
    let partner = fixture::partner(store, LIVE, "mitra", 1_000_000).await;
    apply(
        store,
        vec![
            Command::SaveProduct(Box::new(fixture::product(LIVE, "SAMSAT_JABAR", 1))),
            Command::RegisterUpstream { name: "jabar".to_owned() },
            Command::ReserveInvoiceNumbers { count: 100 },
        ],
    )
    .await;
    let mut facts = Vec::new();
    for index in 0..4 {
        let vehicle = u32::try_from(index).unwrap_or(0);
        facts.push(fixture::invoice(store, LIVE, partner, index, vehicle).await);
    }
    apply(store, facts[..3].iter().map(begin).collect()).await;
    apply(
        store,
        vec![
            paid(&facts[0]),
            not_paid(&facts[1], NotPaidProof::NeverSent),
            fixture::propose(facts[2].invoice, Resolution::NotPaid, "sari"),
        ],
    )
    .await;
    apply(store, vec![paid(&facts[1])]).await;
}
