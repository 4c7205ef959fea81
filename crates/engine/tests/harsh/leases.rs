//! Several gateways on one store: one of them looks after what another one left, and one that was stopped and
//! wakes up changes nothing any more.

use crate::kit::{
    Gateway, Terms, World,
    bank::{Pay, Status},
    watched::settle,
};
use ::engine::bank::StatusOutcome;
use domain::{
    Accepted, Clock, Command, InvoiceNumber, Lease, Partner, Slot,
    command::{PaymentFacts, PutOffResolution},
    record::IncidentKind,
};
use engine::{Settings, domain, store};
use std::{sync::Arc, time::Duration};
use store::Batch;
use tokio::{
    sync::Notify,
    time::{Instant, sleep, sleep_until, timeout},
};

const DEPOSIT: i64 = 1_000_000;
const LEASE_AFTER: Duration = Duration::from_secs(8);
/// Gateways look at the leases this often.
const LOOK: Duration = Duration::from_secs(2);
/// How soon whoever has taken the lease over finds what is open, at the latest.
const SCAN: Duration = Duration::from_secs(5);
/// For how long a payment is its own gateway's alone: until it can be sent no more, and answered no more.
const OWN: Duration = Duration::from_secs(5 + 30 + 2);
/// How long after it was found an orphan is refunded at the earliest: it may still be sent, and arrive.
const HORIZON: Duration = Duration::from_secs(5 + 60);

fn terms() -> Terms {
    let settings = Settings { lease_after: Some(LEASE_AFTER), ..Settings::default() };
    Terms { settings, ..Terms::default() }
}

/// A world with a gateway that holds every lease.
async fn with_holder() -> (World, Gateway, Arc<Partner>) {
    let (world, holder, partner) = World::with_terms(terms(), DEPOSIT).await;
    sleep(Duration::from_millis(10)).await;
    assert!(resolver(&world).await.is_held());
    (world, holder, partner)
}

/// The lease on orphans.
async fn resolver(world: &World) -> Lease {
    let leases = world.store().leases().await.expect("a read");
    let found = leases.into_iter().find(|(name, _)| name.starts_with("resolver/"));
    found.expect("a gateway has taken it").1
}

/// A payment that this gateway began, and that the bank never answers.
async fn silent_payment(
    world: &World,
    gateway: &Gateway,
    partner: &Arc<Partner>,
    takes_after: Option<Duration>,
) -> InvoiceNumber {
    let number = gateway.invoice(partner, 1).await;
    world.bank.next_pay(Pay::Silent { takes_after });
    drop(gateway.spawn_pay(partner, number));
    sleep(Duration::from_millis(10)).await;
    assert_eq!(world.word(number).await, "PENDING");
    number
}

#[tokio::test(start_paused = true)]
async fn what_a_gateway_that_died_had_sent_another_one_settles() {
    for (takes_after, ends_as, at_most) in [
        (Some(Duration::from_secs(1)), "CONFIRM", OWN + SCAN + LOOK),
        (None, "REFUND", OWN + SCAN + HORIZON + LOOK),
    ] {
        let (world, dying, partner) = with_holder().await;
        let _living = world.start().await;
        let before = resolver(&world).await;
        let number = silent_payment(&world, &dying, &partner, takes_after).await;
        dying.store.set_paused(true);
        world.until(number, ends_as, at_most).await;
        let after = resolver(&world).await;
        assert!(after.holder != before.holder && after.token > before.token, "{after:?}");
        assert_eq!(dying.store.count(settle), 0);
        world.must_be_over(DEPOSIT).await;

        // It was not dead after all.
        dying.store.set_paused(false);
        sleep(Duration::from_mins(10)).await;
        assert_eq!(world.word(number).await, ends_as);
        world.must_be_over(DEPOSIT).await;
    }
}

#[tokio::test(start_paused = true)]
async fn an_outcome_under_a_lease_that_was_lost_meanwhile_is_not_written() {
    let (world, holder, partner) = with_holder().await;
    let other = world.start().await;
    let dying = world.start().await;
    world.bank.on_status(Status::Says(StatusOutcome::UnderWay));
    let number = silent_payment(&world, &dying, &partner, None).await;
    dying.store.set_paused(true);
    // From here on "not found" would count.
    sleep(OWN + SCAN + HORIZON).await;
    let released = Arc::new(Notify::new());
    world.bank.next_status(Status::Held(Arc::clone(&released), StatusOutcome::NotPaid));
    let asked = world.bank.questions(number).len();
    while world.bank.questions(number).len() == asked {
        sleep(Duration::from_millis(100)).await;
    }
    // Stopped in the middle of this question.
    let before = resolver(&world).await;
    holder.store.set_paused(true);
    world.bank.on_status(Status::Truth);
    world.bank.take(number);
    world.until(number, "CONFIRM", LEASE_AFTER + LOOK * 2 + SCAN).await;
    let after = resolver(&world).await;
    assert!(after.holder != before.holder && after.token > before.token, "{after:?}");
    assert_eq!((holder.store.count(settle), other.store.count(settle)), (0, 1));

    let settled = world.invoice(number).await;
    let events = world.store().events(0, 1_000).await.expect("a read").len();
    holder.store.set_paused(false);
    released.notify_one();
    sleep(Duration::from_secs(1)).await;
    assert_eq!(holder.store.count(settle), 1, "it tried to");
    assert_eq!(world.invoice(number).await, settled);
    assert_eq!(world.incidents(IncidentKind::NotPaidAfterConfirm).await, 0);
    assert_eq!(world.store().events(0, 1_000).await.expect("a read").len(), events);
    world.must_be_over(DEPOSIT).await;
    sleep(Duration::from_mins(10)).await;
    assert_eq!(resolver(&world).await.token, after.token, "who wakes up does not take it back");
}

#[tokio::test(start_paused = true)]
async fn only_the_holder_of_the_lease_asks_about_orphans() {
    let mut questions = Vec::new();
    for others in [0, 3] {
        let (world, _holder, partner) = with_holder().await;
        let dying = world.start().await;
        let mut gateways = Vec::new();
        for _ in 0..others {
            gateways.push(world.start().await);
        }
        world.bank.on_status(Status::Says(StatusOutcome::UnderWay));
        let number = silent_payment(&world, &dying, &partner, None).await;
        dying.store.set_paused(true);
        sleep(Duration::from_mins(30)).await;
        questions.push(world.bank.questions(number).len());
        world.must_prove().await;
    }
    // The back-off has its jitter.
    assert!(questions[0] >= 8 && questions[1] <= questions[0] + 3, "of one gateway, of four: {questions:?}");
}

#[tokio::test(start_paused = true)]
async fn a_living_gateway_refunds_what_it_began_as_soon_as_one_alone_would() {
    let (world, holder, partner) = with_holder().await;
    let other = world.start().await;
    let number = silent_payment(&world, &other, &partner, None).await;
    world.until(number, "REFUND", HORIZON + Duration::from_secs(1)).await;
    assert_eq!((holder.store.count(settle), other.store.count(settle)), (0, 1));
    world.must_be_over(DEPOSIT).await;
}

#[tokio::test(start_paused = true)]
async fn what_stays_open_beyond_the_horizon_is_left_to_the_holder_of_the_lease() {
    let (world, holder, partner) = with_holder().await;
    let other = world.start().await;
    world.bank.on_status(Status::Says(StatusOutcome::UnderWay));
    let number = silent_payment(&world, &other, &partner, None).await;
    sleep(Duration::from_mins(10)).await;
    world.bank.on_status(Status::Truth);
    world.until(number, "REFUND", Duration::from_mins(7)).await;
    assert_eq!((holder.store.count(settle), other.store.count(settle)), (1, 0));
    world.must_be_over(DEPOSIT).await;
}

#[tokio::test(start_paused = true)]
async fn who_stops_in_good_order_gives_its_leases_up_and_another_one_goes_on_at_once() {
    for (has_payment_under_way, within) in [(false, 0), (true, 0), (false, 20), (true, 20)] {
        let (world, leaving, partner) = with_holder().await;
        let _staying = world.start().await;
        sleep(LOOK * 2).await;
        let before = resolver(&world).await;
        let open = if has_payment_under_way {
            Some(silent_payment(&world, &leaving, &partner, Some(Duration::from_secs(1))).await)
        } else {
            None
        };
        let engine = Arc::clone(&leaving.engine);
        let stopping = tokio::spawn(async move {
            engine.shut_down(Instant::now() + Duration::from_secs(within)).await;
        });
        sleep(LOOK + Duration::from_millis(100)).await;
        let after = resolver(&world).await;
        assert!(after.is_held() && after.holder != before.holder && after.token > before.token, "{after:?}");
        let leases = world.store().leases().await.expect("a read");
        assert!(leases.iter().all(|(_, lease)| lease.holder != before.holder), "{leases:?}");
        timeout(Duration::from_secs(20), stopping).await.expect("it ends").expect("no panic");
        if let Some(number) = open {
            world.until(number, "CONFIRM", OWN + SCAN + LOOK).await;
        }
        world.must_be_over(DEPOSIT).await;
    }
}

/// Another gateway may still send it, and hear of it; by clocks that differ its age is not known.
#[tokio::test(start_paused = true)]
async fn a_young_payment_of_another_gateway_is_not_asked_about() {
    for set_back in [0, 3_600_000] {
        let (world, _holder, partner) = with_holder().await;
        let dying = world.start().await;
        world.bank.on_status(Status::Says(StatusOutcome::UnderWay));
        let begun = world.clock.now();
        let number = silent_payment(&world, &dying, &partner, None).await;
        dying.store.set_paused(true);
        world.clock.jump(-set_back);
        let begun_by_this_clock = begun.minus(Duration::from_millis(set_back.unsigned_abs()));
        let asked = world.bank.question_after(number, begun_by_this_clock).await;
        let after = asked.since(begun_by_this_clock);
        assert!((OWN..OWN + SCAN * 2).contains(&after), "{after:?}");
    }
}

/// As another gateway writes it, whose clock is behind: by this one's the moment has passed at once.
async fn put_off_by_another(world: &World, number: InvoiceNumber) {
    let invoice = world.invoice(number).await;
    let attempt = invoice.state.attempt().expect("it is open");
    let put_off = PutOffResolution {
        facts: PaymentFacts::of(&invoice).expect("it has a bill"),
        resolve_after: attempt.resolve_after.plus(Duration::from_millis(1)),
        rest: HORIZON,
        reverses: false,
        fence: None,
        at: attempt.resolve_after,
    };
    let commands = vec![Command::PutOffResolution(Box::new(put_off))];
    let batch = Batch { id: world.ids().batch(), slot: Slot(0), commands };
    let decided = world.store().apply(batch).await.expect("a batch");
    assert!(matches!(decided[..], [Ok(Accepted::PutOff { .. })]), "{decided:?}");
}

#[tokio::test(start_paused = true)]
async fn a_question_of_another_gateway_is_waited_out_by_ones_own_clock() {
    let (world, holder, partner) = with_holder().await;
    let begun = Instant::now();
    let number = silent_payment(&world, &holder, &partner, None).await;
    sleep_until(begun + HORIZON - Duration::from_secs(1)).await;
    put_off_by_another(&world, number).await;
    let put_off = world.clock.now();
    world.until(number, "REFUND", HORIZON * 2).await;
    let waited = world.clock.now().since(put_off);
    assert!((HORIZON..HORIZON + Duration::from_secs(3)).contains(&waited), "{waited:?}");
    world.must_be_over(DEPOSIT).await;
}
