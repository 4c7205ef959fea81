//! Many at once: clients of one invoice, gateways on one store, partners of one bill, payments of one deposit.

use crate::kit::{
    CASHBACK_RUPIAH, Gateway, TOTAL_RUPIAH, Terms, World, answer,
    bank::Pay,
    watched::{begin, settle},
};
use domain::{Partner, Reason};
use engine::domain;
use futures::future::join_all;
use std::{sync::Arc, time::Duration};
use tokio::time::sleep;

const DEPOSIT: i64 = 100_000_000;

/// All clients pay one invoice; what they read.
async fn storm(
    gateway: &Gateway,
    partner: &Arc<Partner>,
    clients: usize,
) -> Vec<Result<&'static str, Reason>> {
    let number = gateway.invoice(partner, 1).await;
    let pays: Vec<_> = (0..clients).map(|_| gateway.spawn_pay(partner, number)).collect();
    join_all(pays).await.iter().map(|joined| answer(joined.as_ref().expect("no panic"))).collect()
}

#[tokio::test(start_paused = true)]
async fn sixty_four_clients_of_one_invoice_are_one_payment_and_get_one_answer() {
    let (world, gateway, partner) = World::with_gateway(DEPOSIT).await;
    let answers = storm(&gateway, &partner, 64).await;
    assert_eq!(answers, vec![Ok("CONFIRM"); 64]);
    assert_eq!(gateway.store.count(begin), 1);
    assert_eq!(gateway.store.count(settle), 1);
    assert_eq!(world.bank.fresh_requests(), 1);
    world.must_be_over(DEPOSIT).await;
}

#[tokio::test(start_paused = true)]
async fn a_refusal_is_everybodys_answer_as_well() {
    let (world, gateway, partner) = World::with_gateway(DEPOSIT).await;
    world.bank.on_pay(Pay::Refused(Reason::CutOff));
    assert_eq!(storm(&gateway, &partner, 64).await, vec![Err(Reason::CutOff); 64]);
    assert_eq!(world.bank.fresh_requests(), 1);
    world.must_be_over(DEPOSIT).await;
}

#[tokio::test(start_paused = true)]
async fn a_thousand_retries_are_one_request() {
    let (world, gateway, partner) = World::with_gateway(DEPOSIT).await;
    let number = gateway.invoice(&partner, 1).await;
    // A retry each millisecond, across the payment's whole life and beyond.
    let mut pays = Vec::new();
    for _ in 0..1_000 {
        pays.push(gateway.spawn_pay(&partner, number));
        sleep(Duration::from_millis(1)).await;
    }
    for pay in join_all(pays).await {
        let answered = answer(&pay.expect("no panic"));
        assert!(matches!(answered, Ok("CONFIRM") | Err(Reason::BillAlreadyPaid)), "{answered:?}");
    }
    assert_eq!(gateway.store.count(begin), 1);
    assert_eq!(world.bank.fresh_requests(), 1);
    world.must_be_over(DEPOSIT).await;
}

#[test]
fn on_real_threads_too() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(4).enable_time().build();
    runtime.expect("a runtime").block_on(async {
        let (world, gateway, partner) = World::with_gateway(DEPOSIT).await;
        world.bank.set_latency(Duration::from_millis(20));
        let answers = storm(&gateway, &partner, 64).await;
        // A client that comes when all is over reads the state's answer.
        let confirmed = answers.iter().filter(|answer| **answer == Ok("CONFIRM")).count();
        let late = answers.iter().filter(|answer| **answer == Err(Reason::BillAlreadyPaid)).count();
        assert!(confirmed > 0 && confirmed + late == 64, "{answers:?}");
        assert_eq!(world.bank.fresh_requests(), 1);
        world.must_be_over(DEPOSIT).await;
    });
}

#[tokio::test(start_paused = true)]
async fn two_gateways_on_one_store_send_one_invoice_once() {
    let (world, one, partner) = World::with_gateway(DEPOSIT).await;
    let other = world.start().await;
    let number = one.invoice(&partner, 1).await;
    let pays: Vec<_> =
        (0..32).flat_map(|_| [one.spawn_pay(&partner, number), other.spawn_pay(&partner, number)]).collect();
    for pay in join_all(pays).await {
        assert_eq!(answer(&pay.expect("no panic")), Ok("CONFIRM"));
    }
    assert_eq!(world.bank.fresh_requests(), 1);
    world.must_be_over(DEPOSIT).await;
}

#[tokio::test(start_paused = true)]
async fn of_two_partners_with_one_bill_one_pays_and_the_other_is_not_debited() {
    let (world, gateway, first) = World::with_gateway(1_000_000).await;
    let second = world.add_partner("lain", 1_000_000).await;
    let numbers = [gateway.invoice(&first, 1).await, gateway.invoice(&second, 1).await];
    let pays = [gateway.spawn_pay(&first, numbers[0]), gateway.spawn_pay(&second, numbers[1])];
    let mut answers: Vec<_> =
        join_all(pays).await.iter().map(|pay| answer(pay.as_ref().expect("no panic"))).collect();
    answers.sort_by_key(Result::is_err);
    assert_eq!(answers, [Ok("CONFIRM"), Err(Reason::BillBeingPaid)]);
    assert_eq!(world.bank.fresh_requests(), 1);
    assert_eq!(world.deposit(second.id).await, 1_000_000);
    // Afterwards the bill is paid, whoever asks.
    assert_eq!(answer(&gateway.pay(&second, numbers[1]).await), Err(Reason::BillAlreadyPaid));
    world.must_be_over(2_000_000).await;
}

#[tokio::test(start_paused = true)]
async fn a_refunded_bill_can_be_paid_by_the_other_partner() {
    let (world, gateway, first) = World::with_gateway(1_000_000).await;
    let second = world.add_partner("lain", 1_000_000).await;
    let numbers = [gateway.invoice(&first, 1).await, gateway.invoice(&second, 1).await];
    world.bank.next_pay(Pay::Refused(Reason::BankRefused));
    assert_eq!(answer(&gateway.pay(&first, numbers[0]).await), Err(Reason::BankRefused));
    assert_eq!(answer(&gateway.pay(&second, numbers[1]).await), Ok("CONFIRM"));
    assert_eq!(answer(&gateway.pay(&first, numbers[0]).await), Err(Reason::InvoiceRefunded));
    world.must_be_over(2_000_000).await;
}

#[tokio::test(start_paused = true)]
async fn a_balance_for_k_of_n_pays_exactly_k() {
    for (bills, refused_by_bank) in [(0, 0), (1, 0), (7, 0), (7, 3), (40, 0)] {
        // Cashback comes back only at CONFIRM, too late for those that are refused now.
        let deposit = bills * TOTAL_RUPIAH + TOTAL_RUPIAH - 1;
        let (world, gateway, partner) = World::with_gateway(deposit).await;
        for _ in 0..refused_by_bank {
            world.bank.next_pay(Pay::Refused(Reason::BankRefused));
        }
        let mut numbers = Vec::new();
        for vehicle in 0..40 {
            numbers.push(gateway.invoice(&partner, vehicle).await);
        }
        let pays: Vec<_> = numbers.iter().map(|number| gateway.spawn_pay(&partner, *number)).collect();
        let answers: Vec<_> =
            join_all(pays).await.iter().map(|pay| answer(pay.as_ref().expect("no panic"))).collect();
        let count = |wanted| i64::try_from(answers.iter().filter(|a| **a == wanted).count()).expect("few");
        assert_eq!(count(Ok("CONFIRM")), bills - refused_by_bank);
        assert_eq!(count(Err(Reason::BankRefused)), refused_by_bank);
        assert_eq!(count(Err(Reason::BalanceShort)), 40 - bills);
        assert_eq!(i64::from(world.bank.fresh_requests()), bills);
        world.must_be_over(deposit).await;
    }
}

#[tokio::test(start_paused = true)]
async fn top_ups_beside_payments_are_neither_lost_nor_counted_twice() {
    let (world, gateway, partner) = World::with_gateway(10 * TOTAL_RUPIAH).await;
    let operations = Arc::new(world.operations());
    let mut numbers = Vec::new();
    for vehicle in 0..60 {
        numbers.push(gateway.invoice(&partner, vehicle).await);
    }
    let pays: Vec<_> = numbers.iter().map(|number| gateway.spawn_pay(&partner, *number)).collect();
    // Each reference twice: booked once.
    let top_ups = (0..40).map(|index| {
        let (operations, partner) = (Arc::clone(&operations), Arc::clone(&partner));
        tokio::spawn(async move {
            let reference = format!("transfer {}", index / 2);
            operations.top_up(&partner, domain::Rupiah::new(TOTAL_RUPIAH), &reference, "ani").await
        })
    });
    for top_up in join_all(top_ups).await {
        top_up.expect("no panic").expect("booked, or booked before");
    }
    let answers: Vec<_> =
        join_all(pays).await.iter().map(|pay| answer(pay.as_ref().expect("no panic"))).collect();
    let paid = i64::try_from(answers.iter().filter(|answer| **answer == Ok("CONFIRM")).count()).expect("few");
    assert!((10..=30).contains(&paid), "{paid}");
    assert_eq!(world.deposit(partner.id).await, 30 * TOTAL_RUPIAH - paid * (TOTAL_RUPIAH - CASHBACK_RUPIAH));
    // Those that came too early can be paid now, as far as the money goes.
    for number in numbers {
        let answered = answer(&gateway.pay(&partner, number).await);
        assert!(
            matches!(answered, Ok("CONFIRM") | Err(Reason::BalanceShort | Reason::BillAlreadyPaid)),
            "{answered:?}"
        );
    }
    assert!(world.deposit(partner.id).await < TOTAL_RUPIAH);
    world.must_be_over(30 * TOTAL_RUPIAH).await;
}

#[tokio::test(start_paused = true)]
async fn a_partner_who_hangs_up_cancels_nothing() {
    let (world, gateway, partner) = World::with_terms(Terms::default(), DEPOSIT).await;
    let number = gateway.invoice(&partner, 1).await;
    let pay = gateway.spawn_pay(&partner, number);
    sleep(Duration::from_millis(10)).await;
    pay.abort();
    world.until(number, "CONFIRM", Duration::from_secs(1)).await;
    world.must_be_over(DEPOSIT).await;
}
