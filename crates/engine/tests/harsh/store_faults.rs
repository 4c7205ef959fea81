//! A store that is away, full, unsure, refuses rows, or cannot be trusted any more.

use crate::kit::{
    Terms, World, answer,
    bank::Pay,
    watched::{Fault, any, begin, settle},
};
use domain::{
    Accepted, Command, InvoiceNumber, Reason, Rejection, Timestamp, command::RaiseIncident,
    record::IncidentKind,
};
use engine::{Failure, Settings, Turned, domain};
use futures::future::join_all;
use std::time::Duration;
use tokio::time::{Instant, sleep, timeout};

const DEPOSIT: i64 = 10_000_000;

fn incident() -> Command {
    Command::RaiseIncident(Box::new(RaiseIncident {
        invoice: None,
        kind: IncidentKind::Unmatched,
        detail: "test".to_owned(),
        at: Timestamp::default(),
    }))
}

#[tokio::test(start_paused = true)]
async fn a_reservation_that_is_not_written_sends_nothing() {
    for fault in [Fault::Unavailable, Fault::Full, Fault::LostBeforeCommit] {
        let (world, gateway, partner) = World::with_gateway(DEPOSIT).await;
        let number = gateway.invoice(&partner, 1).await;
        gateway.store.plan(begin, fault, 1);
        let refused = gateway.pay(&partner, number).await.expect_err("it is not written");
        assert_eq!(refused.refusal.reason, Reason::Unavailable, "{fault:?}");
        assert!(matches!(refused.turned, Turned::Unavailable { .. }));
        assert_eq!(world.word(number).await, "INQUIRY");
        assert_eq!(world.bank.fresh_requests(), 0, "{fault:?}");
        world.must_prove().await;
        // The partner's retry starts cleanly.
        assert_eq!(answer(&gateway.pay(&partner, number).await), Ok("CONFIRM"), "{fault:?}");
        world.must_be_over(DEPOSIT).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_full_store_refuses_inquiries_and_pays_and_settles_when_space_returns() {
    let (world, gateway, partner) = World::with_gateway(DEPOSIT).await;
    world.bank.on_pay(Pay::Paid);
    let number = gateway.invoice(&partner, 1).await;
    let second = gateway.invoice(&partner, 2).await;
    gateway.store.plan(|command| !begin(command), Fault::Full, u32::MAX);
    // Space runs out between the reservation and the outcome.
    let answered = timeout(Duration::from_secs(46), gateway.pay(&partner, number)).await;
    assert_eq!(answer(&answered.expect("in time")), Ok("PENDING"));
    assert_eq!(world.word(number).await, "PENDING");
    gateway.store.plan(any, Fault::Full, u32::MAX);
    assert_eq!(answer(&gateway.inquire(&partner, 3).await), Err(Reason::Unavailable));
    assert_eq!(answer(&gateway.pay(&partner, second).await), Err(Reason::Unavailable));
    assert_eq!(world.bank.fresh_requests(), 1);
    sleep(Duration::from_hours(1)).await;
    assert_eq!(world.word(number).await, "PENDING");
    gateway.store.heal();
    world.until(number, "CONFIRM", Duration::from_mins(7)).await;
    world.must_be_over(DEPOSIT).await;
}

#[tokio::test(start_paused = true)]
async fn an_outcome_that_cannot_be_written_is_kept_without_asking_the_bank() {
    for pay in [Pay::Paid, Pay::Refused(Reason::CutOff)] {
        let (world, gateway, partner) = World::with_gateway(DEPOSIT).await;
        world.bank.on_pay(pay);
        let number = gateway.invoice(&partner, 1).await;
        gateway.store.plan(settle, Fault::Full, 3);
        let answered = gateway.pay(&partner, number).await;
        assert!(matches!(answer(&answered), Ok("CONFIRM") | Err(Reason::CutOff)), "{:?}", answer(&answered));
        assert_eq!(world.bank.questions(number), []);
        world.must_be_over(DEPOSIT).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_lost_commit_answer_is_settled_by_the_batch_id_before_anything_is_sent() {
    for (which, fault) in [
        (begin as fn(&Command) -> bool, Fault::LostAfterCommit),
        (settle, Fault::LostAfterCommit),
        (settle, Fault::LostBeforeCommit),
    ] {
        let (world, gateway, partner) = World::with_gateway(DEPOSIT).await;
        let number = gateway.invoice(&partner, 1).await;
        gateway.store.plan(which, fault, 1);
        assert_eq!(answer(&gateway.pay(&partner, number).await), Ok("CONFIRM"), "{fault:?}");
        assert_eq!(gateway.store.questions_count(), 1);
        assert_eq!(world.bank.fresh_requests(), 1);
        world.must_be_over(DEPOSIT).await;
    }
}

/// The thirteenth invoice's reservation, which cannot be written, in whatever company it comes.
fn thirteenth(command: &Command) -> bool {
    matches!(command, Command::BeginPayment(begin) if begin.facts.invoice.get() % 1_000 == 12)
}

#[tokio::test(start_paused = true)]
async fn rows_that_the_store_refuses_harm_nobody_else_in_the_batch() {
    let (world, gateway, partner) = World::with_gateway(DEPOSIT).await;
    let mut numbers = Vec::new();
    for vehicle in 0..20 {
        numbers.push(gateway.invoice(&partner, vehicle).await);
    }
    assert_eq!(numbers[12].get() % 1_000, 12);
    gateway.store.plan(thirteenth, Fault::Data, u32::MAX);
    let pays: Vec<_> = numbers.iter().map(|number| gateway.spawn_pay(&partner, *number)).collect();
    let answers: Vec<_> =
        join_all(pays).await.iter().map(|pay| answer(pay.as_ref().expect("no panic"))).collect();
    for (index, answered) in answers.iter().enumerate() {
        let wanted = if index == 12 { Err(Reason::Internal) } else { Ok("CONFIRM") };
        assert_eq!(*answered, wanted, "{index}");
    }
    assert!(gateway.store.batches().iter().any(|batch| batch.len() == 20), "they came as one batch");
    assert_eq!(world.bank.fresh_requests(), 19);
    world.must_be_over(DEPOSIT).await;
}

#[tokio::test(start_paused = true)]
async fn a_store_that_cannot_be_trusted_stops_the_gateway() {
    let (world, gateway, partner) = World::with_gateway(DEPOSIT).await;
    let number = gateway.invoice(&partner, 1).await;
    let second = gateway.invoice(&partner, 2).await;
    gateway.store.plan(begin, Fault::Fatal, 1);
    let pay = gateway.spawn_pay(&partner, number);
    let why = timeout(Duration::from_secs(1), gateway.engine.failed()).await.expect("it fails at once");
    assert_eq!(why, "planned fault");
    assert_eq!(gateway.engine.ready().await, Err(why));
    assert!(matches!(gateway.engine.submit(incident()).await, Err(Failure::Stopped(_))));
    assert_eq!(
        gateway.engine.submit(Command::ReserveInvoiceNumbers { count: 1 }).await,
        Err(Failure::Stopped("planned fault".to_owned()))
    );
    // The next start tells what of all this is written.
    assert_eq!(answer(&gateway.pay(&partner, second).await), Ok("PENDING"));
    // Whether it was written is not known, and what may have happened is never called a failure.
    assert_eq!(answer(&pay.await.expect("no panic")), Ok("PENDING"));
    assert_eq!(world.bank.fresh_requests(), 0);
    assert_eq!(world.word(number).await, "INQUIRY");
    world.must_be_over(DEPOSIT).await;
}

#[tokio::test(start_paused = true)]
async fn a_store_that_panics_stops_the_gateway_rather_than_leaving_everybody_waiting() {
    let (world, gateway, partner) = World::with_gateway(DEPOSIT).await;
    let number = gateway.invoice(&partner, 1).await;
    gateway.store.plan(begin, Fault::Panic, 1);
    let pay = gateway.spawn_pay(&partner, number);
    let failed = timeout(Duration::from_secs(1), gateway.engine.failed()).await;
    assert!(failed.is_ok(), "the process must exit");
    let submitted = timeout(Duration::from_secs(1), gateway.engine.submit(incident())).await;
    assert!(matches!(submitted, Ok(Err(Failure::Stopped(_)))), "{submitted:?}");
    assert_eq!(answer(&pay.await.expect("no panic")), Ok("PENDING"));
    assert_eq!(world.bank.fresh_requests(), 0);
}

#[tokio::test(start_paused = true)]
async fn while_the_store_hangs_everybody_is_answered_in_time_and_nothing_is_sent_late() {
    let (world, gateway, partner) = World::with_gateway(DEPOSIT).await;
    let number = gateway.invoice(&partner, 1).await;
    gateway.store.set_open(false);
    let began = Instant::now();
    let pay = gateway.spawn_pay(&partner, number);
    assert_eq!(answer(&gateway.inquire(&partner, 2).await), Err(Reason::Unavailable));
    assert_eq!(answer(&pay.await.expect("no panic")), Ok("PENDING"));
    assert!(began.elapsed() < Duration::from_secs(50), "{:?}", began.elapsed());
    gateway.store.set_open(true);
    // The reservation is written after all, too late to be sent.
    world.until(number, "REFUND", Duration::from_secs(1)).await;
    assert_eq!(world.bank.fresh_requests(), 0);
    world.must_be_over(DEPOSIT).await;
}

#[tokio::test(start_paused = true)]
async fn while_the_store_is_away_new_work_is_refused_at_once_and_settlements_wait() {
    for lanes in [1, 3] {
        let settings = Settings { lanes, ..Settings::default() };
        let terms = Terms { settings, ..Terms::default() };
        let (world, gateway, partner) = World::with_terms(terms, DEPOSIT).await;
        let number = gateway.invoice(&partner, 1).await;
        let second = gateway.invoice(&partner, 2).await;
        let pay = gateway.spawn_pay(&partner, number);
        sleep(Duration::from_millis(50)).await;
        assert_eq!(world.bank.fresh_requests(), 1);
        // Between the reservation and the outcome.
        gateway.store.go_away();
        sleep(Duration::from_millis(100)).await;
        assert_eq!(gateway.store.count(settle), 1, "it was tried, and found the store away");

        let checks = gateway.store.checks().count;
        for _ in 0..100 {
            let began = Instant::now();
            assert_eq!(answer(&gateway.pay(&partner, second).await), Err(Reason::Unavailable));
            assert!(began.elapsed() < Duration::from_millis(1), "refused at once");
            assert!(gateway.engine.ready().await.is_err());
            sleep(Duration::from_millis(300)).await;
        }
        assert_eq!(answer(&gateway.inquire(&partner, 3).await), Err(Reason::Unavailable));
        assert_eq!(gateway.store.count(begin), 1, "what is refused never reaches the store");
        assert_eq!(gateway.store.count(settle), 1, "what waits is not tried in vain");
        let found = gateway.store.checks();
        let asked = found.count - checks;
        assert!((20..=40 * lanes).contains(&asked), "{asked} questions in 30 s");
        assert_eq!(found.under_way_max, 1, "one at a time");

        gateway.store.come_back();
        world.until(number, "CONFIRM", Duration::from_secs(2)).await;
        assert_eq!(answer(&pay.await.expect("no panic")), Ok("CONFIRM"));
        assert_eq!(gateway.engine.ready().await, Ok(()));
        assert_eq!(answer(&gateway.pay(&partner, second).await), Ok("CONFIRM"));
        assert_eq!(answer(&gateway.inquire(&partner, 3).await), Ok("INQUIRY"));
        world.must_be_over(DEPOSIT).await;
    }
}

#[tokio::test(start_paused = true)]
async fn reads_that_hang_are_answered_in_time_as_well() {
    let (_world, gateway, partner) = World::with_gateway(DEPOSIT).await;
    gateway.store.set_readable(false);
    let began = Instant::now();
    let unread = InvoiceNumber::new(100_000_000_999);
    assert_eq!(answer(&gateway.pay(&partner, unread).await), Err(Reason::Unavailable));
    assert_eq!(answer(&gateway.inquire(&partner, 1).await), Err(Reason::Unavailable));
    assert!(began.elapsed() < Duration::from_secs(100), "{:?}", began.elapsed());
}

/// Another gateway told CONFIRM; one that remembers the invoice as not paid, and can neither write nor read, takes it
/// not back.
#[tokio::test(start_paused = true)]
async fn what_is_only_remembered_takes_no_final_word_back() {
    let (world, gateway, partner) = World::with_gateway(DEPOSIT).await;
    let number = gateway.invoice(&partner, 1).await;
    let other = world.start().await;
    assert_eq!(answer(&other.pay(&partner, number).await), Ok("CONFIRM"));
    gateway.store.set_open(false);
    gateway.store.set_readable(false);
    let refused = gateway.pay(&partner, number).await.expect_err("it knows nothing");
    assert_eq!(refused.refusal.reason, Reason::Unavailable);
    assert!(matches!(refused.turned, Turned::Unavailable { .. }));
    gateway.store.set_open(true);
    gateway.store.set_readable(true);
    assert_eq!(answer(&gateway.pay(&partner, number).await), Err(Reason::BillAlreadyPaid));
    world.must_be_over(DEPOSIT).await;
}

#[tokio::test(start_paused = true)]
async fn what_this_gateway_has_begun_is_pending_though_the_store_cannot_be_read() {
    let (world, gateway, partner) = World::with_gateway(DEPOSIT).await;
    world.bank.on_pay(Pay::Silent { takes_after: None });
    let number = gateway.invoice(&partner, 1).await;
    gateway.store.set_readable(false);
    assert_eq!(answer(&gateway.pay(&partner, number).await), Ok("PENDING"));
    gateway.store.set_readable(true);
    world.until(number, "REFUND", Duration::from_mins(3)).await;
    world.must_be_over(DEPOSIT).await;
}

#[tokio::test(start_paused = true)]
async fn an_impossible_command_is_rejected_alone() {
    let (world, gateway, partner) = World::with_gateway(DEPOSIT).await;
    let number = gateway.invoice(&partner, 1).await;
    // Recorded a second time under the same number: the store's keys refuse it.
    let stored = world.store().invoice(number).await.expect("a read").expect("the invoice");
    let record = domain::command::RecordInquiry { invoice: stored.invoice, presentment: stored.presentment };
    let again = Command::RecordInquiry(Box::new(record));
    let (impossible, possible) =
        tokio::join!(gateway.engine.submit(again), gateway.engine.submit(incident()));
    assert_eq!(impossible, Err(Failure::Rejected(Rejection::Impossible)));
    assert_eq!(possible, Ok(Accepted::Done));
    assert_eq!(answer(&gateway.pay(&partner, number).await), Ok("CONFIRM"));
    world.must_be_over(DEPOSIT).await;
}
