//! Connections that are lost, and waits that must end: what the store then says is true, and it works again.

use crate::{
    kit::Schema,
    proxy::{At, Fault, Proxy},
};
use domain::{Accepted, Command, Environment, PartnerId, command::PaymentFacts};
use futures::{StreamExt, future::join_all};
use std::time::Duration;
use store::{
    Error, Store,
    conformance::fixture::{self, TOTAL, begin},
};
use store_postgres::PostgresStore;
use tokio::time::{Instant, timeout};
use tokio_postgres::Client;

const ANSWERS: &str = "the store answers";

/// What one call may take at most where the server, or the way to it, stands still: five seconds for the
/// round trip that is lost, and a little for a busy machine.
const BOUND: Duration = Duration::from_secs(8);

/// A ledger with one payment that may begin, and two ways to it.
struct World {
    schema: Schema,
    proxy: Proxy,
    /// Through the proxy, with a session that has been used.
    store: PostgresStore,
    /// Past it.
    direct: PostgresStore,
    partner: PartnerId,
    facts: PaymentFacts,
}

impl World {
    async fn new() -> Self {
        let schema = Schema::migrated().await;
        let proxy = Proxy::to(schema.server_address()).await;
        let store = PostgresStore::open(schema.address_by(&proxy.address)).await.expect("the database opens");
        let direct = schema.store().await;
        let partner = fixture::partner(&store, Environment::Live, "mitra", 10 * TOTAL.get()).await;
        let facts = fixture::invoice(&store, Environment::Live, partner, 0, 1).await;
        Self { schema, proxy, store, direct, partner, facts }
    }

    fn top_up(&self) -> Command {
        fixture::top_up(Environment::Live, self.partner, 5, "another")
    }

    /// A batch that failed was not written, never will be, and can be given again under another name.
    async fn assert_never_written(&self, commands: Vec<Command>, batch: store::Batch, before: &[String]) {
        let is_committed = self.store.batch_committed(batch.id).await;
        assert!(matches!(is_committed, Ok(false)), "{is_committed:?}");
        assert!(matches!(self.direct.apply(batch).await, Err(Error::Data(_))), "its name is fenced");
        assert_eq!(fixture::dump(&self.direct).await, before);
        let decisions = self.store.apply(fixture::batch(commands)).await.expect(ANSWERS);
        assert!(decisions[0].is_ok(), "{decisions:?}");
        fixture::assert_sound(&self.direct).await;
    }
}

#[tokio::test]
async fn a_commit_whose_answer_is_lost_is_found_by_its_batch() {
    let world = World::new().await;
    world.proxy.arm(At::Run("COMMIT"), Fault::CutInsteadOfAnswer);
    let batch = fixture::batch(vec![begin(&world.facts)]);
    let Err(Error::Ambiguous { decisions, .. }) = world.store.apply(batch.clone()).await else {
        panic!("nobody knows yet")
    };
    assert!(matches!(&decisions[..], [Ok(Accepted::Invoice(begun))] if begun.state.word() == "PENDING"));
    assert!(world.store.batch_committed(batch.id).await.expect(ANSWERS));
    assert!(world.store.batch_committed(batch.id).await.expect(ANSWERS), "however often it is asked");
    assert_eq!(world.direct.pending_count().await.expect(ANSWERS), 1);
    fixture::assert_sound(&world.direct).await;
}

/// What a batch with one begin comes to when it is cut off before each of its steps: *u*navailable while it
/// loads, which leaves no doubt; *a*mbiguous once it writes, COMMIT last.
const STEPS: &str = "uuuuuaaaaaaa";

/// The steps are counted: the connection ends before each in turn, until a batch has none left.
#[tokio::test]
async fn a_batch_that_is_cut_off_before_its_commit_is_never_written() {
    let world = World::new().await;
    let mut ends = Vec::new();
    for step in 0.. {
        let index = i64::from(step) + 1;
        let facts = fixture::invoice(&world.store, Environment::Live, world.partner, index, step + 2).await;
        let before = fixture::dump(&world.direct).await;
        world.proxy.arm(At::Nth(step), Fault::CutBefore);
        let batch = fixture::batch(vec![begin(&facts)]);
        let applied = world.store.apply(batch.clone()).await;
        if world.proxy.disarm() {
            assert!(applied.is_ok(), "nothing went wrong");
            break;
        }
        ends.push(match applied {
            Err(Error::Unavailable(_)) => 'u',
            Err(Error::Ambiguous { .. }) => 'a',
            other => panic!("cut off before step {step}: {other:?}"),
        });
        world.assert_never_written(vec![begin(&facts)], batch, &before).await;
        // Money for the next one.
        let refund = fixture::not_paid(&facts, domain::NotPaidProof::NeverSent);
        fixture::apply_one(&world.direct, refund).await.expect("it is open");
    }
    assert_eq!(ends.iter().collect::<String>(), STEPS);
}

/// The same with a way that falls silent: each call ends, the server ends what it began, and another
/// session goes on.
#[tokio::test]
async fn a_batch_whose_connection_falls_silent_ends_in_bounded_time() {
    let steps = (0..).take(STEPS.len()).map(|step| (At::Nth(step), false));
    let rare = ["INSERT INTO entry", "INSERT INTO posting", "COMMIT"].map(|text| (At::Run(text), true));
    // Some at a time: each has sessions of its own.
    let silences = futures::stream::iter(steps.chain(rare)).map(async |(at, is_top_up)| {
        let world = World::new().await;
        let command = || if is_top_up { world.top_up() } else { begin(&world.facts) };
        let before = fixture::dump(&world.direct).await;
        world.proxy.arm(at, Fault::Silence);
        let batch = fixture::batch(vec![command()]);
        let started = Instant::now();
        let applied = timeout(BOUND, world.store.apply(batch.clone())).await;
        let applied = applied.unwrap_or_else(|_| panic!("silent at {at:?}, and no answer"));
        assert!(!world.proxy.disarm(), "{at:?} was reached");
        let is_told = matches!(applied, Err(Error::Unavailable(_) | Error::Ambiguous { .. }));
        assert!(is_told, "silent at {at:?}: {applied:?} after {:?}", started.elapsed());
        let settling = world.assert_never_written(vec![command()], batch, &before);
        timeout(BOUND, settling).await.unwrap_or_else(|_| panic!("silent at {at:?}, and not settled"));
    });
    silences.buffer_unordered(6).collect::<()>().await;
}

#[tokio::test]
async fn a_session_that_falls_silent_while_it_is_set_up_is_given_up() {
    let places = [At::Run("SET statement_timeout"), At::Prepare("BEGIN"), At::Prepare("WITH given")];
    join_all(places.map(async |at| {
        let world = World::new().await;
        // A store without a session for writing.
        let address = world.schema.address_by(&world.proxy.address);
        let store = PostgresStore::open(address).await.expect("the database opens");
        world.proxy.arm(at, Fault::Silence);
        let batch = fixture::batch(vec![world.top_up()]);
        let applied = timeout(BOUND, store.apply(batch)).await.expect("the call ends");
        assert!(matches!(applied, Err(Error::Unavailable(_))), "silent at {at:?}: {applied:?}");
        assert!(!world.proxy.disarm(), "{at:?} was reached");
        // Nothing was written before: its reference is free.
        works_again(&store, || world.top_up()).await;
    }))
    .await;
}

#[tokio::test]
async fn a_question_whose_connection_falls_silent_ends_in_bounded_time() {
    let world = World::new().await;
    world.store.invoice(world.facts.invoice).await.expect(ANSWERS);
    world.proxy.arm(At::Run("SELECT invoice.number"), Fault::Silence);
    let asked = timeout(2 * BOUND, world.store.invoice(world.facts.invoice)).await.expect("the call ends");
    assert!(matches!(asked, Err(Error::Unavailable(_))), "{asked:?}");
    let found = world.store.invoice(world.facts.invoice).await.expect(ANSWERS);
    assert_eq!(found.map(|stored| stored.invoice.number), Some(world.facts.invoice));
}

/// Calls until one succeeds: the server is left alone for a moment after it was found away.
async fn works_again(store: &dyn Store, command: impl Fn() -> Command) {
    let working = async {
        loop {
            match store.apply(fixture::batch(vec![command()])).await {
                Err(Error::Unavailable(_)) => tokio::task::yield_now().await,
                decided => return decided.expect(ANSWERS),
            }
        }
    };
    let decisions = timeout(BOUND, working).await.expect("it works again");
    assert!(decisions[0].is_ok(), "{decisions:?}");
}

#[tokio::test]
async fn a_server_that_is_away_is_left_alone_and_used_again_when_it_is_back() {
    let world = World::new().await;
    world.proxy.refuse();
    let attempted = world.proxy.attempts();
    let started = Instant::now();
    for _ in 0..1_000 {
        let applied = world.store.apply(fixture::batch(vec![begin(&world.facts)])).await;
        assert!(matches!(applied, Err(Error::Unavailable(_))), "{applied:?}");
    }
    let pauses = u32::try_from(started.elapsed().as_millis() / 200).expect("it took moments");
    let attempts = world.proxy.attempts() - attempted;
    assert!(
        attempts <= pauses + 1,
        "a thousand calls made {attempts} connections in {:?}",
        started.elapsed()
    );
    assert_eq!(world.direct.pending_count().await.expect(ANSWERS), 0);
    world.proxy.accept();
    works_again(&world.store, || begin(&world.facts)).await;
    world.store.check().await.expect("it can be written");
    fixture::assert_sound(&world.direct).await;
}

/// Ends every session of a schema's stores, as a restart of the server does.
async fn end_sessions(schema: &Schema, admin: &Client) -> i64 {
    let sql = "SELECT count(*) FILTER (WHERE pg_terminate_backend(pid, 5000)) FROM pg_stat_activity
               WHERE application_name = $1";
    let row = admin.query_one(sql, &[&schema.name()]).await.expect("sessions are ended");
    // One more round trip, so that everybody has read what came before its answer.
    admin.batch_execute("SELECT").await.expect("the server answers");
    row.get(0)
}

#[tokio::test]
async fn sessions_that_the_server_has_ended_are_replaced_unnoticed() {
    let world = World::new().await;
    let admin = world.schema.admin().await;
    world.direct.invoice(world.facts.invoice).await.expect(ANSWERS);
    fixture::apply_one(&world.direct, world.top_up()).await.expect("it is new");
    assert!(end_sessions(&world.schema, &admin).await >= 3, "a writer, a looker, a reader");
    fixture::apply_one(&world.direct, begin(&world.facts)).await.expect("the payment begins");
    world.direct.invoice(world.facts.invoice).await.expect(ANSWERS).expect("it is there");
    world.direct.check().await.expect("it can be written");
    assert_eq!(world.direct.pending_count().await.expect(ANSWERS), 1);
}

/// Waits until somebody waits for a lock in a schema.
async fn somebody_waits(schema: &Schema, admin: &Client) {
    let sql =
        "SELECT count(*) FROM pg_stat_activity WHERE application_name = $1 AND wait_event_type = 'Lock'";
    let waiting = async {
        while admin.query_one(sql, &[&schema.name()]).await.expect("the server answers").get::<_, i64>(0) == 0
        {
        }
    };
    timeout(BOUND, waiting).await.expect("somebody waits for a lock");
}

#[tokio::test]
async fn a_balance_that_somebody_else_holds_is_not_waited_for_for_ever() {
    let world = World::new().await;
    let foreign = world.schema.admin().await;
    foreign.batch_execute("BEGIN; SELECT FROM balance FOR UPDATE").await.expect("the balances are free");
    let before = fixture::dump(&world.direct).await;
    let batch = fixture::batch(vec![begin(&world.facts)]);
    let applied = timeout(BOUND, world.direct.apply(batch.clone())).await.expect("the call ends");
    assert!(matches!(applied, Err(Error::Unavailable(_))), "{applied:?}");
    foreign.batch_execute("ROLLBACK").await.expect("the balances are free again");
    world.assert_never_written(vec![begin(&world.facts)], batch, &before).await;
}

#[tokio::test]
async fn a_deadlock_with_somebody_else_is_tried_again() {
    let world = World::new().await;
    let (foreign, admin) = (world.schema.admin().await, world.schema.admin().await);
    fixture::apply_one(&world.direct, world.top_up()).await.expect("it is new");
    for turn in 0.. {
        // A batch locks balances first and counters then; this one does it the other way round.
        foreign.batch_execute("BEGIN; SELECT FROM counter FOR UPDATE").await.expect("the counters are free");
        let booked = fixture::top_up(Environment::Live, world.partner, 7, &format!("transfer {turn}"));
        let booking = fixture::apply_one(&world.direct, booked);
        let blocking = async {
            somebody_waits(&world.schema, &admin).await;
            let locked = foreign.batch_execute("SELECT FROM balance FOR UPDATE").await;
            foreign.batch_execute("ROLLBACK").await.expect("it is over");
            locked
        };
        let (decision, locked) = tokio::join!(booking, blocking);
        assert!(matches!(decision, Ok(Accepted::Entry(_))), "{decision:?}");
        // Who waited first is asked to give way; on a busy machine, that may be the foreign one.
        match locked {
            Ok(()) => break,
            Err(error) => {
                assert_eq!(error.code().map(tokio_postgres::error::SqlState::code), Some("40P01"), "{error}");
            }
        }
    }
    fixture::assert_sound(&world.direct).await;
}

#[tokio::test]
async fn a_gateway_that_stands_still_in_a_batch_does_not_hold_up_the_others() {
    let world = World::new().await;
    let other = fixture::invoice(&world.direct, Environment::Live, world.partner, 1, 2).await;
    // With its locks taken, and about to write.
    world.proxy.arm(At::Run("INSERT INTO payment"), Fault::Silence);
    let standing = world.store.apply(fixture::batch(vec![begin(&world.facts)]));
    let proceeding = async {
        world.proxy.hit().await;
        let started = Instant::now();
        let begun = fixture::apply_one(&world.direct, begin(&other)).await;
        (begun, started.elapsed())
    };
    let (stood, (begun, took)) = tokio::join!(standing, proceeding);
    assert!(begun.is_ok(), "{begun:?}");
    assert!(took < BOUND, "the other gateway waited {took:?}");
    assert!(matches!(stood, Err(Error::Ambiguous { .. })), "{stood:?}");
    assert_eq!(world.direct.pending_count().await.expect(ANSWERS), 1);
    fixture::assert_sound(&world.direct).await;
}
