//! A graceful end: what can be finished is, what cannot stays PENDING, and nothing is lost.

use crate::kit::{World, answer, bank::Pay};
use domain::Reason;
use engine::domain;
use std::time::Duration;
use tokio::time::{Instant, sleep, timeout};

const DEPOSIT: i64 = 1_000_000;

#[tokio::test(start_paused = true)]
async fn what_is_under_way_is_finished_or_stays_pending_for_the_next_start() {
    let (world, gateway, partner) = World::with_gateway(DEPOSIT).await;
    let [quick, silent, refused] = [
        gateway.invoice(&partner, 1).await,
        gateway.invoice(&partner, 2).await,
        gateway.invoice(&partner, 3).await,
    ];
    world.bank.next_pay(Pay::Silent { takes_after: Some(Duration::from_secs(1)) });
    drop(gateway.spawn_pay(&partner, silent));
    sleep(Duration::from_millis(1)).await;
    let pay = gateway.spawn_pay(&partner, quick);
    sleep(Duration::from_millis(1)).await;

    let engine = std::sync::Arc::clone(&gateway.engine);
    let began = Instant::now();
    let ending = tokio::spawn(async move { engine.shut_down(began + Duration::from_secs(5)).await });
    sleep(Duration::from_millis(1)).await;
    assert!(gateway.engine.ready().await.is_err());
    assert_eq!(answer(&gateway.pay(&partner, refused).await), Err(Reason::Busy));
    assert_eq!(answer(&pay.await.expect("no panic")), Ok("CONFIRM"), "it had time to finish");
    ending.await.expect("no panic");
    assert_eq!(began.elapsed().as_secs(), 5, "it waited for the silent one until the deadline");
    assert_eq!(world.word(quick).await, "CONFIRM");
    assert_eq!(world.word(silent).await, "PENDING");
    assert_eq!(world.word(refused).await, "INQUIRY");
    world.must_prove().await;

    let next = world.start().await;
    world.until(silent, "CONFIRM", Duration::from_secs(2)).await;
    assert_eq!(answer(&next.pay(&partner, refused).await), Ok("CONFIRM"));
    world.must_be_over(DEPOSIT).await;
}

#[tokio::test(start_paused = true)]
async fn with_nothing_under_way_it_ends_at_once() {
    let (world, gateway, partner) = World::with_gateway(DEPOSIT).await;
    let number = gateway.invoice(&partner, 1).await;
    assert_eq!(answer(&gateway.pay(&partner, number).await), Ok("CONFIRM"));
    let ended = gateway.engine.shut_down(Instant::now() + Duration::from_mins(1));
    assert!(timeout(Duration::from_millis(100), ended).await.is_ok());
    world.must_be_over(DEPOSIT).await;
}
