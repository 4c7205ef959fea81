//! Deadlines: partners are answered in time, nothing is sent late, and a clock that is set wrong pays
//! nothing twice and returns nothing early.

use crate::kit::{
    TOTAL_RUPIAH, Terms, World, answer,
    bank::{Ask, Pay},
    watched::{Fault, begin},
};
use ::engine::bank::{NoPlace, Profile};
use domain::Reason;
use engine::domain;
use std::time::Duration;
use tokio::time::{Instant, sleep, sleep_until};

const DEPOSIT: i64 = 1_000_000;
const HOUR_MS: i64 = 3_600_000;

/// A bank line that waits longer than any partner does.
fn patient_line() -> Terms {
    let terms = Terms::default();
    Terms { profile: Profile { answer_timeout: Duration::from_secs(90), ..terms.profile }, ..terms }
}

#[tokio::test(start_paused = true)]
async fn pay_answers_pending_in_time_and_status_tells_the_truth_later() {
    for (takes_after, ends_as) in [(Some(Duration::ZERO), "CONFIRM"), (None, "REFUND")] {
        let (world, gateway, partner) = World::with_terms(patient_line(), DEPOSIT).await;
        world.bank.on_pay(Pay::Silent { takes_after });
        let number = gateway.invoice(&partner, 1).await;
        let arrived = Instant::now();
        // Whoever joins later has a deadline of his own.
        let first = gateway.spawn_pay(&partner, number);
        sleep(Duration::from_secs(20)).await;
        let joined = Instant::now();
        let second = gateway.spawn_pay(&partner, number);
        assert_eq!(answer(&first.await.expect("no panic")), Ok("PENDING"));
        assert_eq!(arrived.elapsed().as_secs(), 45);
        assert_eq!(answer(&second.await.expect("no panic")), Ok("PENDING"));
        assert_eq!(joined.elapsed().as_secs(), 45);
        world.until(number, ends_as, Duration::from_mins(3)).await;
        let status = gateway.engine.status(&partner, number).await;
        assert_eq!(answer(&status), Ok(ends_as));
        world.must_be_over(DEPOSIT).await;
    }
}

#[tokio::test(start_paused = true)]
async fn time_spent_before_the_engine_counts() {
    let (world, gateway, partner) = World::with_terms(patient_line(), DEPOSIT).await;
    world.bank.on_pay(Pay::Silent { takes_after: None });
    let number = gateway.invoice(&partner, 1).await;
    let arrived = Instant::now();
    sleep(Duration::from_secs(30)).await;
    assert_eq!(answer(&gateway.engine.pay(&partner, number, arrived).await), Ok("PENDING"));
    assert_eq!(arrived.elapsed().as_secs(), 45);
    drop(world);
}

#[tokio::test(start_paused = true)]
async fn an_inquiry_that_the_bank_does_not_answer_is_refused_in_time_and_recorded() {
    let (world, gateway, partner) = World::with_terms(patient_line(), DEPOSIT).await;
    world.bank.on_inquiry(Ask::Silent);
    let arrived = Instant::now();
    let refused = gateway.inquire(&partner, 1).await.expect_err("no answer");
    assert_eq!(arrived.elapsed().as_secs(), 45);
    assert_eq!(refused.refusal.reason, Reason::BankSilent);
    let number = refused.about.invoice.expect("recorded");
    assert_eq!(world.word(number).await, "FAILURE");
    assert_eq!(answer(&gateway.pay(&partner, number).await), Err(Reason::InquiryFailed));
    world.bank.on_inquiry(Ask::Refused(Reason::VehicleNotFound));
    assert_eq!(answer(&gateway.inquire(&partner, 1).await), Err(Reason::VehicleNotFound));
    world.must_be_over(DEPOSIT).await;
}

#[tokio::test(start_paused = true)]
async fn a_gateway_that_was_paused_before_sending_never_sends() {
    // The last column: whether it is in time for sending.
    for (paused_ms, clock_wrong_by_ms, sent) in [
        (0, 0, true),
        (4_900, 0, true),
        (5_000, 0, false),
        (60_000, 0, false),
        (60_000, -HOUR_MS, false),
        (4_000, HOUR_MS, false),
        (4_000, -HOUR_MS, true),
    ] {
        let (world, gateway, partner) = World::with_gateway(DEPOSIT).await;
        let number = gateway.invoice(&partner, 1).await;
        gateway.store.plan(begin, Fault::SlowAfterCommit(Duration::from_millis(paused_ms)), 1);
        let pay = gateway.spawn_pay(&partner, number);
        sleep(Duration::from_millis(1)).await;
        world.clock.jump(clock_wrong_by_ms);
        let answered = answer(&pay.await.expect("no panic"));
        let case = format!("paused {paused_ms} ms, clock wrong by {clock_wrong_by_ms} ms");
        if sent {
            assert_eq!(answered, Ok("CONFIRM"), "{case}");
        } else {
            assert!(matches!(answered, Ok("PENDING") | Err(Reason::BankUnreachable)), "{case}: {answered:?}");
            world.until(number, "REFUND", Duration::from_secs(20)).await;
        }
        assert_eq!(world.bank.fresh_requests(), u32::from(sent), "{case}");
        world.must_be_over(DEPOSIT).await;
    }
}

#[tokio::test(start_paused = true)]
async fn what_was_never_sent_is_returned_at_once() {
    let (world, gateway, partner) = World::with_gateway(DEPOSIT).await;
    world.bank.next_pay(Pay::NeverSent);
    let number = gateway.invoice(&partner, 1).await;
    assert_eq!(answer(&gateway.pay(&partner, number).await), Err(Reason::BankUnreachable));
    assert_eq!(world.word(number).await, "REFUND");
    // Nothing at all is reserved while the line is down.
    world.bank.set_down(true);
    let second = gateway.invoice(&partner, 1).await;
    assert_eq!(answer(&gateway.pay(&partner, second).await), Err(Reason::BankUnreachable));
    assert_eq!(world.word(second).await, "INQUIRY");
    assert_eq!(gateway.store.count(begin), 1);
    world.bank.set_down(false);
    assert_eq!(answer(&gateway.pay(&partner, second).await), Ok("CONFIRM"));
    world.must_be_over(DEPOSIT).await;
}

#[tokio::test(start_paused = true)]
async fn a_full_line_is_busy_before_anything_is_reserved() {
    let (world, gateway, partner) =
        World::with_terms(Terms { line_max: 1, ..Terms::default() }, DEPOSIT).await;
    let numbers = [gateway.invoice(&partner, 1).await, gateway.invoice(&partner, 2).await];
    let first = gateway.spawn_pay(&partner, numbers[0]);
    sleep(Duration::from_millis(10)).await;
    assert_eq!(answer(&gateway.pay(&partner, numbers[1]).await), Err(Reason::Busy), "{}", NoPlace::Full);
    assert_eq!(gateway.store.count(begin), 1);
    assert_eq!(world.reserved(partner.id).await, TOTAL_RUPIAH);
    assert_eq!(answer(&first.await.expect("no panic")), Ok("CONFIRM"));
    assert_eq!(answer(&gateway.pay(&partner, numbers[1]).await), Ok("CONFIRM"));
    world.must_be_over(DEPOSIT).await;
}

#[tokio::test(start_paused = true)]
async fn a_clock_that_jumps_refunds_nothing_early_and_loses_nothing() {
    for jump_ms in [HOUR_MS, -HOUR_MS] {
        for takes_after in [Some(Duration::from_secs(59)), None] {
            let (world, gateway, partner) = World::with_gateway(DEPOSIT).await;
            world.bank.on_pay(Pay::Silent { takes_after: None });
            let number = gateway.invoice(&partner, 1).await;
            let begun = Instant::now();
            drop(gateway.spawn_pay(&partner, number));
            sleep(Duration::from_secs(1)).await;
            world.clock.jump(jump_ms);
            sleep_until(begun + Duration::from_secs(65) - Duration::from_millis(1)).await;
            assert_eq!(world.word(number).await, "PENDING");
            if takes_after.is_some() {
                world.bank.take(number);
            }
            let ends_as = if takes_after.is_some() { "CONFIRM" } else { "REFUND" };
            // Set back, the clock must first come to where "not found" counts.
            world.until(number, ends_as, Duration::from_mins(70)).await;
            world.must_be_over(DEPOSIT).await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_clock_that_jumps_between_restarts_refunds_nothing_early() {
    let (world, gateway, partner) = World::with_gateway(DEPOSIT).await;
    world.bank.on_pay(Pay::Silent { takes_after: None });
    let number = gateway.invoice(&partner, 1).await;
    drop(gateway.spawn_pay(&partner, number));
    sleep(Duration::from_secs(1)).await;
    gateway.engine.shut_down(Instant::now()).await;
    world.clock.jump(HOUR_MS);
    let restarted = Instant::now();
    let _second = world.start().await;
    sleep_until(restarted + Duration::from_secs(65) - Duration::from_millis(1)).await;
    assert_eq!(world.word(number).await, "PENDING");
    world.until(number, "REFUND", Duration::from_secs(1)).await;
    world.must_be_over(DEPOSIT).await;
}
