//! Crashes, counted: a payment's life is run once to count its steps, then ended at each of them, and its
//! recovery again at each of its own.
//!
//! Steps are what the world can see: each commit (before, and after, before anybody knows), each message to
//! the bank (before it leaves, when the bank has it, when it has answered), each status question. After any
//! two crashes the partner does what partners do: asks again, and pays what is not paid; operators do again what they do
//! not know to be done.
//!
//! On a lossy disk each sync is a step too, and with every crash goes the power: what was not synced is lost, or left
//! in any mixture, anew for each pair. A crash before a sync is one at every write since the last.

use crate::kit::{
    Backend, Gateway, Terms, World, add_partner,
    bank::{Pay, Status},
    product,
    server::Schema,
    steps::Steps,
    watched::Watched,
};
use ::engine::bank::{LateAnswer, PaymentOutcome, Profile, Question, StatusOutcome, Unknown};
use domain::{
    Command, InvoiceNumber, Partner, Reason, Rejection, Rupiah, Username,
    command::PartnerChange,
    record::{EntryKind, IncidentKind, Resolution},
};
use engine::{
    Failure, Settings, domain,
    operate::{self, Operations},
    store,
};
use std::{
    collections::BTreeSet,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    time::Duration,
};
use store::Store;
use tokio::{
    runtime::Runtime,
    time::{advance, sleep},
};

const DEPOSIT: i64 = 1_000_000;
const TOP_UP: i64 = 50_000;
const LIMIT: i64 = 10_000;

/// Short, so that a life has few steps that are like others.
fn terms() -> Terms {
    Terms {
        settings: Settings {
            answer_within: Duration::from_secs(8),
            send_within: Duration::from_secs(1),
            ..Settings::default()
        },
        profile: Profile {
            horizon: Duration::from_secs(3),
            answer_timeout: Duration::from_secs(2),
            definitive_status: true,
            question: Question::Asks,
        },
        line_max: 10,
    }
}

/// What people outside know; it outlives the gateway.
#[derive(Default)]
struct Client {
    invoice: Option<InvoiceNumber>,
    /// A final word that was read, which nothing may take back.
    read: Option<&'static str>,
    /// The stores of the lives so far.
    stores: Vec<Arc<Watched>>,
}

fn runtime() -> Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().expect("a runtime")
}

impl Client {
    async fn begin_life(&mut self, world: &World, steps: Arc<Steps>) -> Gateway {
        let gateway = world.start_with(steps).await;
        self.stores.push(Arc::clone(&gateway.store));
        gateway
    }

    async fn invoice(&mut self, gateway: &Gateway, partner: &Arc<Partner>) -> InvoiceNumber {
        let number = match self.invoice {
            Some(number) => number,
            None => gateway.invoice(partner, 1).await,
        };
        self.invoice = Some(number);
        number
    }

    /// Asks for the bill, pays it, asks for its status, until it is final.
    async fn pay_until_final(&mut self, world: &World, partner: &Arc<Partner>, steps: Arc<Steps>) {
        let gateway = self.begin_life(world, steps).await;
        let number = self.invoice(&gateway, partner).await;
        for _ in 0..100 {
            let status = gateway.engine.status(partner, number).await.expect("a status");
            let word = status.invoice.state.word();
            if let Some(read) = self.read {
                assert_eq!(word, read, "a final word was taken back");
            }
            match word {
                "INQUIRY" => {
                    if let Ok(view) = gateway.pay(partner, number).await
                        && view.invoice.state.is_final()
                    {
                        self.read = Some(view.invoice.state.word());
                    }
                }
                "PENDING" => sleep(Duration::from_secs(1)).await,
                word => {
                    self.read = Some(word);
                    // Whatever still comes late, comes now.
                    return sleep(Duration::from_secs(5)).await;
                }
            }
        }
        panic!("{number:?} never became final");
    }

    /// Furnishes the gateway, tops up, ends an open payment by hand, and writes off what the bank says later; each act
    /// again where it is not known to be done.
    async fn operate(&mut self, world: &World, partner: &Arc<Partner>, steps: Arc<Steps>) {
        let gateway = self.begin_life(world, steps).await;
        let clock = Arc::clone(&world.clock) as Arc<dyn domain::Clock>;
        let operations = Operations::new(Arc::clone(&gateway.store) as Arc<dyn Store>, clock, &world.ids());
        let upstream = operations.register_upstream("bank").await.expect("an upstream");
        operations.save_product(product(upstream)).await.expect("a product");
        let limit = PartnerChange::CreditLimit(Rupiah::new(LIMIT));
        operations.change_partner(partner.id, limit).await.expect("a limit");
        let second = Username::parse("second").expect("a user name");
        if operations.partner(&second).await.is_err() {
            operations.add_partner(add_partner(&second)).await.expect("a partner");
        }
        operations.top_up(partner, Rupiah::new(TOP_UP), "transfer 7", "ani").await.expect("a top-up");
        operations.reset_sandbox("bank").await.expect("a reset");

        let number = self.invoice(&gateway, partner).await;
        if world.word(number).await == "INQUIRY" {
            _ = gateway.pay(partner, number).await;
        }
        if world.word(number).await == "PENDING" {
            let why = ("ani", "letter 7", "the bank's statement");
            operations.propose(number, Resolution::NotPaid, why).await.expect("proposed");
            let Settings { send_within, .. } = terms().settings;
            advance(send_within + terms().profile.horizon).await;
            operations.approve(number, Resolution::NotPaid, "budi").await.expect("approved");
        }
        if world.bank.payment(number).is_none() {
            return;
        }
        if world.incidents(IncidentKind::PaidAfterRefund).await == 0 {
            world.bank.take(number);
            let outcome = PaymentOutcome::Paid(world.bank.paid(number));
            world.bank.send_late(LateAnswer { invoice: number, outcome, contradicts: false });
            world.until_incident(IncidentKind::PaidAfterRefund, Duration::from_secs(10)).await;
        }
        let corrected =
            operations.correct_incident(number, IncidentKind::PaidAfterRefund, "ani", "letter 8").await;
        let is_over = |error: &operate::Error| {
            matches!(error, operate::Error::Failure(Failure::Rejected(Rejection::AlreadyCorrected)))
        };
        assert!(corrected.as_ref().err().is_none_or(is_over), "{corrected:?}");
    }
}

/// One life of a gateway, to its end or to this step. How many steps it had, if it came to its end.
fn live(world: &World, until: Option<usize>, life: impl AsyncFnOnce(&World, Arc<Steps>)) -> Option<usize> {
    let steps = until.map_or_else(Steps::endless, Steps::until);
    let runtime = runtime();
    let ended = runtime.block_on(async {
        world.clock.begin_life();
        let ended = tokio::select! {
            biased;
            () = steps.died() => None,
            () = life(world, Arc::clone(&steps)) => Some(steps.passed().len()),
        };
        world.end_life();
        ended
    });
    // With the runtime goes everything that only the process knew.
    drop(runtime);
    ended
}

fn new_world(backend: &Backend, terms: Terms, pay: &Pay) -> (World, Arc<Partner>) {
    let world = World::empty(backend, terms);
    world.bank.on_pay(pay.clone());
    let partner = runtime().block_on(world.furnish(DEPOSIT));
    if matches!(backend, Backend::Lossy | Backend::Lying) {
        // So that opening the database is of the first life, too.
        world.end_life();
    }
    (world, partner)
}

/// Which lives are ended.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Ended {
    First,
    FirstAndSecond,
}

/// Ends the first life at each of its steps, and the second at each of its own; the next is endless.
/// Returns how many crashes, or pairs of them, there were.
fn crash_at_every_step(
    ended: Ended,
    new_world: impl Fn() -> (World, Arc<Partner>),
    life: &impl AsyncFn(&mut Client, &World, &Arc<Partner>, Arc<Steps>),
    must_hold: &impl AsyncFn(&World, &Client, &str),
) -> usize {
    let mut pairs = 0;
    for first in 1.. {
        for second in 1.. {
            let (world, partner) = new_world();
            world.choose_losses(u64::try_from(first * 1_000 + second).expect("few steps") * 10);
            let mut client = Client::default();
            let mut live = |until| {
                let life = async |world: &World, steps| life(&mut client, world, &partner, steps).await;
                live(&world, until, life).is_some()
            };
            let first_ended = live(Some(first));
            let until = (ended == Ended::FirstAndSecond).then_some(second);
            let second_ended = !first_ended && live(until);
            if !first_ended && !second_ended {
                live(None);
            }
            pairs += usize::from(!first_ended && (!second_ended || ended == Ended::First));
            runtime().block_on(must_hold(&world, &client, &format!("crashes at {first} and {second}")));
            if first_ended {
                return pairs;
            }
            if second_ended {
                break;
            }
        }
    }
    unreachable!("some life comes to its end")
}

/// What befalls the payment at the bank, and how it must end unless it was never sent.
fn scenarios() -> [(&'static str, Pay, &'static str); 8] {
    let silent = |takes_after| Pay::Silent { takes_after };
    let late = |outcome, copies| Pay::Late {
        outcome: Box::new(outcome),
        answers_after: Duration::from_millis(2_500),
        copies,
    };
    [
        ("paid", Pay::Paid, "CONFIRM"),
        ("refused", Pay::Refused(Reason::CutOff), "REFUND"),
        ("silent, paid at once", silent(Some(Duration::ZERO)), "CONFIRM"),
        ("silent, paid at the horizon", silent(Some(Duration::from_secs(3))), "CONFIRM"),
        ("silent, not paid", silent(None), "REFUND"),
        ("cut, paid", Pay::Lost { unknown: Unknown::ConnectionCut, taken: true }, "CONFIRM"),
        ("cut, not paid", Pay::Lost { unknown: Unknown::ConnectionCut, taken: false }, "REFUND"),
        ("late answers", late(Pay::Paid, 2), "CONFIRM"),
    ]
}

fn crash(backend: &Backend, index: usize, pairs_min: usize) {
    let (name, pay, ends_as) = &scenarios()[index];
    crash_payment(backend, &terms(), (name, pay, ends_as), pairs_min);
}

fn crash_payment(
    backend: &Backend,
    terms: &Terms,
    (name, pay, ends_as): (&str, &Pay, &str),
    pairs_min: usize,
) {
    let pairs = crash_at_every_step(
        Ended::FirstAndSecond,
        || new_world(backend, terms.clone(), pay),
        &Client::pay_until_final,
        &async |world, client, at| {
            let number = client.invoice.unwrap_or_else(|| panic!("no invoice, {at}"));
            let word = world.word(number).await;
            assert_eq!(client.read.unwrap_or(word), word, "a final word is gone, {at}");
            assert!(word == ends_as || (word == "REFUND" && !world.bank.has_taken(number)), "{word}, {at}");
            world.must_be_over(DEPOSIT).await;
        },
    );
    println!("{name} ({backend:?}): {pairs} pairs of crashes");
    assert!(pairs >= pairs_min, "{name}: only {pairs} pairs");
}

/// The bank tells nothing about a payment: operators end it.
fn operators_world(backend: &Backend) -> (World, Arc<Partner>) {
    let (world, partner) = new_world(backend, terms(), &Pay::Silent { takes_after: None });
    world.bank.on_status(Status::Says(StatusOutcome::Unknown(Unknown::TimedOut)));
    (world, partner)
}

fn crash_operators(backend: &Backend, ended: Ended, crashes_min: usize) {
    let crashes = crash_at_every_step(
        ended,
        || operators_world(backend),
        &Client::operate,
        &async |world, client, at| {
            world.must_prove().await;
            let number = client.invoice.unwrap_or_else(|| panic!("no invoice, {at}"));
            assert_eq!(world.word(number).await, "REFUND", "{at}");
            let partners = world.store().partners().await.expect("a read");
            let [first, second] = &partners[..] else { panic!("{} partners, {at}", partners.len()) };
            let paid_in = [world.deposit(first.id).await, world.deposit(second.id).await];
            assert_eq!(paid_in, [DEPOSIT + TOP_UP, 0], "{at}");
            assert_eq!((first.credit_limit.get(), world.reserved(first.id).await), (LIMIT, 0), "{at}");
            let entries = world.store().entries(i64::MAX, 100).await.expect("a read");
            let corrections = entries.iter().filter(|it| it.kind == EntryKind::Correction).count();
            let was_told = world.bank.payment(number).is_some();
            assert_eq!((entries.len() - corrections, corrections), (2, usize::from(was_told)), "{at}");
        },
    );
    println!("operators ({backend:?}): {crashes} crashes");
    assert!(crashes >= crashes_min, "only {crashes}");
}

fn executing() -> Terms {
    let profile = Profile { question: Question::Executes, ..terms().profile };
    Terms { profile, ..terms() }
}

/// Which of the lives here has a command, so that a new one cannot be forgotten; none where a life of its own is needed.
fn life_with(command: &Command) -> Option<&'static str> {
    Some(match command {
        Command::ReserveInvoiceNumbers { .. } => "ReserveInvoiceNumbers",
        Command::RecordInquiry(_) => "RecordInquiry",
        Command::BeginPayment(_) => "BeginPayment",
        Command::PutOffResolution(_) => "PutOffResolution",
        Command::SettlePayment(_) => "SettlePayment",
        Command::ProposeResolution(_) => "ProposeResolution",
        Command::ApproveResolution(_) => "ApproveResolution",
        Command::CorrectIncident(_) => "CorrectIncident",
        Command::RaiseIncident(_) => "RaiseIncident",
        Command::TopUp(_) => "TopUp",
        Command::AddPartner(_) => "AddPartner",
        Command::ChangePartner { .. } => "ChangePartner",
        Command::SaveProduct(_) => "SaveProduct",
        Command::RegisterUpstream { .. } => "RegisterUpstream",
        Command::ResetSandbox { .. } => "ResetSandbox",
        // Of gateways with lines, and of several: `store/src/conformance.rs`, `tests/line`, the simulation.
        Command::ReserveTraceNumbers(_) | Command::ChangeLease(_) => return None,
    })
}

#[test]
fn every_command_has_a_life_that_is_ended_before_and_after_it() {
    let mut client = Client::default();
    let whole = |(world, partner): (World, Arc<Partner>), client: &mut Client, operates: bool| {
        client.invoice = None;
        client.read = None;
        live(&world, None, async |world: &World, steps| {
            if operates {
                client.operate(world, &partner, steps).await;
            } else {
                client.pay_until_final(world, &partner, steps).await;
            }
        });
    };
    let backend = Backend::Memory;
    let unknown_code = Pay::Lost { unknown: Unknown::UnknownCode("77".to_owned()), taken: false };
    whole(new_world(&backend, executing(), &unknown_code), &mut client, false);
    whole(operators_world(&backend), &mut client, true);
    let commands = client.stores.iter().flat_map(|store| store.batches()).flatten();
    let seen: BTreeSet<_> = commands.filter_map(|command| life_with(&command)).collect();
    assert_eq!(seen.len(), 15, "only {seen:?}");
}

/// Some of the scenarios: what the others add is at the bank, and not in the store.
fn on_server() -> Backend {
    Backend::Server(Schema::migrated())
}

macro_rules! crashes {
    ($($name:ident $backend:expr, $index:literal $pairs_min:literal;)*) => {
        $(#[test] fn $name() { crash(&$backend, $index, $pairs_min); })*
    };
}

crashes! {
    paid_in_memory Backend::Memory, 0 100;
    refused_in_memory Backend::Memory, 1 100;
    silent_and_paid_in_memory Backend::Memory, 2 100;
    silent_and_paid_at_the_horizon_in_memory Backend::Memory, 3 100;
    silent_and_not_paid_in_memory Backend::Memory, 4 100;
    cut_and_paid_in_memory Backend::Memory, 5 100;
    cut_and_not_paid_in_memory Backend::Memory, 6 100;
    late_answers_in_memory Backend::Memory, 7 100;
    paid_on_file Backend::File, 0 100;
    refused_on_file Backend::File, 1 100;
    silent_and_paid_on_file Backend::File, 2 100;
    silent_and_not_paid_on_file Backend::File, 4 100;
    cut_and_paid_on_file Backend::File, 5 100;
    silent_and_paid_at_the_horizon_on_file Backend::File, 3 100;
    cut_and_not_paid_on_file Backend::File, 6 100;
    late_answers_on_file Backend::File, 7 100;
    paid_on_a_lossy_disk Backend::Lossy, 0 200;
    silent_and_paid_on_a_lossy_disk Backend::Lossy, 2 200;
    cut_and_not_paid_on_a_lossy_disk Backend::Lossy, 6 200;
    paid_on_postgresql on_server(), 0 100;
    silent_and_not_paid_on_postgresql on_server(), 4 100;
}

#[test]
fn operators_in_memory() {
    crash_operators(&Backend::Memory, Ended::FirstAndSecond, 400);
}

#[test]
fn operators_on_file() {
    crash_operators(&Backend::File, Ended::FirstAndSecond, 400);
}

#[test]
fn a_question_that_executes_in_memory() {
    let pay = Pay::Lost { unknown: Unknown::UnknownCode("77".to_owned()), taken: false };
    crash_payment(&Backend::Memory, &executing(), ("a question that executes", &pay, "REFUND"), 100);
}

#[test]
fn a_question_that_executes_on_file() {
    let pay = Pay::Lost { unknown: Unknown::UnknownCode("77".to_owned()), taken: false };
    crash_payment(&Backend::File, &executing(), ("a question that executes", &pay, "REFUND"), 100);
}

#[test]
fn operators_on_postgresql() {
    crash_operators(&on_server(), Ended::First, 20);
}

/// Lives to the end, and loses power. How often, of so many times, the CONFIRM that the partner has read is not there.
fn lost_answers(backend: &Backend, times: u64) -> usize {
    let is_lost = |seed: &u64| {
        let (world, partner) = new_world(backend, terms(), &Pay::Paid);
        world.choose_losses(seed * 10);
        let mut client = Client::default();
        let pay = async |world: &World, steps| client.pay_until_final(world, &partner, steps).await;
        live(&world, None, pay);
        assert_eq!(client.read, Some("CONFIRM"));
        let number = client.invoice.expect("an invoice");
        // A damaged database does not even open.
        let word = catch_unwind(AssertUnwindSafe(|| runtime().block_on(world.word(number))));
        !matches!(word, Ok("CONFIRM"))
    };
    (0..times).filter(is_lost).count()
}

#[test]
fn an_answer_is_lost_if_the_disk_lies_about_syncs_and_only_then() {
    assert_eq!(lost_answers(&Backend::Lossy, 20), 0);
    assert!(lost_answers(&Backend::Lying, 20) >= 5);
    let found = catch_unwind(|| crash(&Backend::Lying, 0, 100));
    assert!(found.is_err(), "the crashes do not find it");
}
