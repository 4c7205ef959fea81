//! Fair and bounded: one partner's storm leaves room for the others, what is not taken on is refused before
//! anything is done, and settlements are never behind begins.

use crate::kit::{
    TOTAL_RUPIAH, Terms, World, answer,
    bank::Pay,
    watched::{begin, settle},
};
use domain::{Command, Reason};
use engine::{Settings, Turned, domain};
use futures::future::join_all;
use std::time::Duration;
use tokio::time::sleep;

const DEPOSIT: i64 = 1_000_000_000;

#[tokio::test(start_paused = true)]
async fn a_storm_of_one_partner_leaves_room_for_the_others() {
    let terms = Terms::default();
    let terms = Terms { settings: Settings { work_max: 20, ..terms.settings }, ..terms };
    let (world, gateway, storming) = World::with_terms(terms, DEPOSIT).await;
    let mut quiet = Vec::new();
    for index in 0..5 {
        let partner = world.add_partner(&format!("tenang {index}"), 1_000_000).await;
        let number = gateway.invoice(&partner, 500 + index).await;
        quiet.push((partner, number));
    }
    let mut numbers = Vec::new();
    for vehicle in 0..100 {
        numbers.push(gateway.invoice(&storming, vehicle).await);
    }
    world.bank.set_latency(Duration::from_secs(10));
    let storm: Vec<_> = numbers.iter().map(|number| gateway.spawn_pay(&storming, *number)).collect();
    sleep(Duration::from_secs(1)).await;
    let others: Vec<_> = quiet.iter().map(|(partner, number)| gateway.spawn_pay(partner, *number)).collect();
    for pay in join_all(others).await {
        assert_eq!(answer(&pay.expect("no panic")), Ok("CONFIRM"), "a quiet partner is served");
    }
    let mut paid = 0;
    for pay in join_all(storm).await {
        match pay.expect("no panic") {
            Ok(view) => {
                assert_eq!(view.invoice.state.word(), "CONFIRM");
                paid += 1;
            }
            Err(refused) => {
                assert_eq!(refused.refusal.reason, Reason::Busy);
                assert!(matches!(refused.turned, Turned::Unavailable { .. }));
            }
        }
    }
    assert_eq!(paid, 10, "alone, a partner gets half");
    assert_eq!(gateway.store.count(begin), 15, "what was refused was not even begun");
    world.must_be_over(DEPOSIT + 5_000_000).await;
}

#[tokio::test(start_paused = true)]
async fn a_full_queue_is_busy_before_anything_is_done() {
    let terms = Terms::default();
    let terms = Terms { settings: Settings { queue_max: 5, ..terms.settings }, ..terms };
    let (world, gateway, partner) = World::with_terms(terms, DEPOSIT).await;
    let mut numbers = Vec::new();
    for vehicle in 0..40 {
        numbers.push(gateway.invoice(&partner, vehicle).await);
    }
    gateway.store.set_open(false);
    let mut pays = vec![gateway.spawn_pay(&partner, numbers[0])];
    sleep(Duration::from_millis(1)).await;
    pays.extend(numbers[1..].iter().map(|number| gateway.spawn_pay(&partner, *number)));
    sleep(Duration::from_secs(1)).await;
    gateway.store.set_open(true);
    let answers: Vec<_> =
        join_all(pays).await.iter().map(|pay| answer(pay.as_ref().expect("no panic"))).collect();
    let count = |wanted| answers.iter().filter(|answer| **answer == wanted).count();
    assert_eq!(count(Ok("CONFIRM")), 6, "one was being written, five were waiting");
    assert_eq!(count(Err(Reason::Busy)), 34);
    assert_eq!(world.bank.fresh_requests(), 6);
    world.must_be_over(DEPOSIT).await;
}

#[tokio::test(start_paused = true)]
async fn settlements_are_never_behind_begins_and_partners_take_turns() {
    let (world, gateway, storming) = World::with_gateway(DEPOSIT).await;
    let quiet = world.add_partner("tenang", 1_000_000).await;
    let early = gateway.invoice(&quiet, 9_001).await;
    let late = gateway.invoice(&quiet, 9_002).await;
    let mut numbers = Vec::new();
    for vehicle in 0..900 {
        numbers.push(gateway.invoice(&storming, vehicle).await);
    }
    world.bank.set_latency(Duration::from_secs(1));
    let mut pays = vec![gateway.spawn_pay(&quiet, early)];
    sleep(Duration::from_millis(500)).await;
    // The store stands still: the first begin is in it, the others queue up, then one settlement and one
    // more begin of the quiet partner.
    gateway.store.set_open(false);
    pays.push(gateway.spawn_pay(&storming, numbers[0]));
    sleep(Duration::from_millis(1)).await;
    pays.extend(numbers[1..].iter().map(|number| gateway.spawn_pay(&storming, *number)));
    sleep(Duration::from_secs(1)).await;
    pays.push(gateway.spawn_pay(&quiet, late));
    sleep(Duration::from_millis(1)).await;
    let seen = gateway.store.batches().len();
    gateway.store.set_open(true);
    for pay in join_all(pays).await {
        assert_eq!(answer(&pay.expect("no panic")), Ok("CONFIRM"));
    }
    let batches = gateway.store.batches();
    let next = &batches[seen];
    assert!(next.len() > 100, "a batch takes what has queued up");
    assert!(settle(&next[0]), "the settlement comes first");
    let is_late = |command: &Command| matches!(command, Command::BeginPayment(b) if b.facts.invoice == late);
    assert!(next[1..4].iter().any(is_late), "the quiet partner's turn comes before the storm's third");
    for batch in &batches {
        let first_other = batch.iter().position(|command| !command.is_settlement()).unwrap_or(batch.len());
        assert!(!batch[first_other..].iter().any(Command::is_settlement));
    }
    world.must_be_over(DEPOSIT + 1_000_000).await;
}

#[tokio::test(start_paused = true)]
async fn open_payments_do_not_shut_their_partner_out() {
    let (world, gateway, partner) = World::with_gateway(DEPOSIT).await;
    for vehicle in 0..200 {
        world.bank.next_pay(Pay::Silent { takes_after: None });
        let number = gateway.invoice(&partner, vehicle).await;
        drop(gateway.spawn_pay(&partner, number));
    }
    sleep(Duration::from_secs(31)).await;
    assert_eq!(world.reserved(partner.id).await, 200 * TOTAL_RUPIAH);
    let number = gateway.invoice(&partner, 999).await;
    assert_eq!(answer(&gateway.pay(&partner, number).await), Ok("CONFIRM"));
    sleep(Duration::from_mins(2)).await;
    world.must_be_over(DEPOSIT).await;
}
