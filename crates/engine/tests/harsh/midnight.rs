//! Midnight in Jakarta, the end of the year, and bills that lapse.

use crate::kit::{
    World, answer,
    bank::{Ask, Pay},
    clock::on_day,
};
use domain::{Clock, Reason, Timestamp};
use engine::domain;
use std::time::Duration;
use tokio::time::sleep;

const DEPOSIT: i64 = 1_000_000;
const DAY: Duration = Duration::from_hours(24);

fn before(moment: Timestamp, milliseconds: i64) -> Timestamp {
    Timestamp::from_millis(moment.as_millis() - milliseconds)
}

#[tokio::test(start_paused = true)]
async fn an_invoice_lives_until_midnight_in_jakarta_and_not_a_moment_longer() {
    for day in [20_261_123, 20_261_231, 20_280_229] {
        let midnight = on_day(day, DAY);
        for (left_ms, wanted) in [(1, Ok("CONFIRM")), (0, Err(Reason::InvoiceExpired))] {
            let (world, gateway, partner) = World::with_gateway(DEPOSIT).await;
            world.clock.set(before(midnight, 1_000));
            let number = gateway.invoice(&partner, 1).await;
            assert!(world.clock.now() < midnight);
            world.clock.set(before(midnight, left_ms));
            assert_eq!(answer(&gateway.pay(&partner, number).await), wanted, "{day}, {left_ms} ms left");
            // An invoice that lapsed still says INQUIRY, and nothing was sent or reserved.
            if wanted.is_err() {
                assert_eq!(answer(&gateway.engine.status(&partner, number).await), Ok("INQUIRY"));
                assert_eq!(world.bank.fresh_requests(), 0);
                let fresh = gateway.invoice(&partner, 1).await;
                assert_eq!(answer(&gateway.pay(&partner, fresh).await), Ok("CONFIRM"));
            }
            world.must_be_over(DEPOSIT).await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_payment_begun_before_midnight_settles_after_it() {
    for day in [20_261_123, 20_261_231] {
        for (pay, ends_as) in [
            (Pay::Paid, "CONFIRM"),
            (Pay::Silent { takes_after: Some(Duration::from_secs(20)) }, "CONFIRM"),
            (Pay::Silent { takes_after: None }, "REFUND"),
        ] {
            let (world, gateway, partner) = World::with_gateway(DEPOSIT).await;
            world.clock.set(before(on_day(day, DAY), 1_000));
            let number = gateway.invoice(&partner, 1).await;
            world.clock.set(before(on_day(day, DAY), 50));
            world.bank.on_pay(pay);
            drop(gateway.spawn_pay(&partner, number));
            world.until(number, ends_as, Duration::from_mins(2)).await;
            let invoice = world.invoice(number).await;
            assert_eq!(invoice.business_date.as_number(), day);
            assert!(world.clock.now() > on_day(day, DAY));
            world.must_be_over(DEPOSIT).await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_bill_that_lapses_cannot_be_begun_and_what_was_begun_does_not_lapse() {
    let (world, gateway, partner) = World::with_gateway(DEPOSIT).await;
    let until = world.clock.now().plus(Duration::from_mins(10));
    world.bank.on_inquiry(Ask::Presented { payable_until: Some(until) });
    let numbers = [gateway.invoice(&partner, 1).await, gateway.invoice(&partner, 2).await];
    world.clock.set(before(until, 1));
    world.bank.next_pay(Pay::Silent { takes_after: Some(Duration::from_secs(30)) });
    drop(gateway.spawn_pay(&partner, numbers[0]));
    sleep(Duration::from_millis(1)).await;
    assert_eq!(answer(&gateway.pay(&partner, numbers[1]).await), Err(Reason::InvoiceExpired));
    world.until(numbers[0], "CONFIRM", Duration::from_mins(2)).await;
    world.must_be_over(DEPOSIT).await;
}

#[tokio::test(start_paused = true)]
async fn a_clock_that_jumps_over_midnight_expires_nothing_that_is_under_way() {
    for jump_ms in [3_600_000, -3_600_000] {
        let (world, gateway, partner) = World::with_gateway(DEPOSIT).await;
        world.clock.set(on_day(20_261_231, Duration::from_mins(23 * 60 + 30)));
        if jump_ms < 0 {
            world.clock.set(on_day(20_270_101, Duration::from_mins(30)));
        }
        world.bank.on_pay(Pay::Silent { takes_after: Some(Duration::from_secs(20)) });
        let number = gateway.invoice(&partner, 1).await;
        let pay = gateway.spawn_pay(&partner, number);
        sleep(Duration::from_secs(1)).await;
        world.clock.jump(jump_ms);
        let answered = answer(&pay.await.expect("no panic"));
        assert!(matches!(answered, Ok("CONFIRM" | "PENDING")), "{answered:?}");
        world.until(number, "CONFIRM", Duration::from_mins(70)).await;
        world.must_be_over(DEPOSIT).await;
    }
}
