//! What operators change between an inquiry and its payment, and what they book by hand.

use crate::kit::{CASHBACK_RUPIAH, ENVIRONMENT, TOTAL_RUPIAH, World, answer, bank::Pay, watched::begin};
use ::engine::bank::Bank;
use domain::{PartnerStatus, Reason, Rupiah, command::PartnerChange};
use engine::{Engine, Settings, StartError, Upstream, domain, operate::Error};
use std::{sync::Arc, time::Duration};
use tokio::time::{Instant, sleep};

const DEPOSIT: i64 = 1_000_000;

/// What was changed is seen after this.
const CATALOGUE_AGE: Duration = Duration::from_millis(1_001);

#[tokio::test(start_paused = true)]
async fn a_product_switched_off_refuses_cleanly_and_pays_when_it_is_on_again() {
    let (world, gateway, partner) = World::with_gateway(DEPOSIT).await;
    let number = gateway.invoice(&partner, 1).await;
    world.save_product(|product| product.on = false).await;
    sleep(CATALOGUE_AGE).await;
    assert_eq!(answer(&gateway.pay(&partner, number).await), Err(Reason::ProductOff));
    assert_eq!(answer(&gateway.inquire(&partner, 2).await), Err(Reason::ProductOff));
    assert_eq!(gateway.store.count(begin), 0);
    assert_eq!(world.invoices().await.len(), 1, "what is refused here gets no invoice");
    world.save_product(|product| product.on = true).await;
    sleep(CATALOGUE_AGE).await;
    assert_eq!(answer(&gateway.pay(&partner, number).await), Ok("CONFIRM"));
    world.must_be_over(DEPOSIT).await;
}

#[tokio::test(start_paused = true)]
async fn a_product_repriced_leaves_the_invoices_own_terms() {
    let (world, gateway, partner) = World::with_gateway(DEPOSIT).await;
    let number = gateway.invoice(&partner, 1).await;
    world
        .save_product(|product| {
            product.fee = Rupiah::new(9_000);
            product.cashback = Rupiah::new(1);
        })
        .await;
    sleep(CATALOGUE_AGE).await;
    let view = gateway.pay(&partner, number).await.expect("paid");
    assert_eq!(view.invoice.total, Rupiah::new(TOTAL_RUPIAH));
    assert_eq!(world.deposit(partner.id).await, DEPOSIT - TOTAL_RUPIAH + CASHBACK_RUPIAH);
    let dearer = gateway.inquire(&partner, 2).await.expect("a bill");
    assert_eq!(dearer.invoice.total, Rupiah::new(TOTAL_RUPIAH + 4_000));
    world.must_be_over(DEPOSIT).await;
}

#[tokio::test(start_paused = true)]
async fn a_partner_suspended_after_the_inquiry_pays_nothing() {
    let (world, gateway, partner) = World::with_gateway(DEPOSIT).await;
    let number = gateway.invoice(&partner, 1).await;
    let operations = world.operations();
    operations
        .change_partner(partner.id, PartnerChange::Status(PartnerStatus::Suspended))
        .await
        .expect("done");
    // Decided under the lock, whatever is cached.
    assert_eq!(answer(&gateway.pay(&partner, number).await), Err(Reason::PartnerSuspended));
    assert_eq!(world.bank.fresh_requests(), 0);
    world.must_be_over(DEPOSIT).await;
}

#[tokio::test(start_paused = true)]
async fn a_top_up_is_booked_once_per_reference() {
    let (world, _gateway, partner) = World::with_gateway(0).await;
    let other = world.add_partner("lain", 0).await;
    let operations = world.operations();
    let amount = Rupiah::new(500_000);
    let first = operations.top_up(&partner, amount, "transfer 1", "ani").await.expect("booked");
    assert!(!first.repeated);
    for retyped in ["transfer 1", "transfer 1 ", "TRANSFER 1"] {
        let again = operations.top_up(&partner, amount, retyped, "budi").await.expect("booked before");
        assert!(again.repeated);
        assert_eq!(again.entry, first.entry);
    }
    for (who, how_much) in [(&partner, Rupiah::new(500_001)), (&other, amount)] {
        let refused = operations.top_up(who, how_much, "transfer 1", "ani").await;
        assert!(matches!(refused, Err(Error::ReferenceTaken { .. })), "{refused:?}");
    }
    for nothing in [0, -1, domain::limits::amount_rupiah_max + 1] {
        let refused = operations.top_up(&partner, Rupiah::new(nothing), "transfer 2", "ani").await;
        assert!(matches!(refused, Err(Error::Failure(_))), "{refused:?}");
    }
    assert_eq!(world.deposit(partner.id).await, 500_000);
    world.must_be_over(500_000).await;
}

#[tokio::test(start_paused = true)]
async fn nobody_pays_or_sees_another_partners_invoice() {
    let (world, gateway, partner) = World::with_gateway(DEPOSIT).await;
    let other = world.add_partner("lain", DEPOSIT).await;
    let number = gateway.invoice(&partner, 1).await;
    assert_eq!(answer(&gateway.pay(&other, number).await), Err(Reason::InvoiceUnknown));
    assert_eq!(answer(&gateway.engine.status(&other, number).await), Err(Reason::InvoiceUnknown));
    // While it is being paid, and afterwards.
    let pay = gateway.spawn_pay(&partner, number);
    sleep(Duration::from_millis(10)).await;
    assert_eq!(answer(&gateway.pay(&other, number).await), Err(Reason::InvoiceUnknown));
    assert_eq!(answer(&pay.await.expect("no panic")), Ok("CONFIRM"));
    assert_eq!(answer(&gateway.pay(&other, number).await), Err(Reason::InvoiceUnknown));
    assert_eq!(partner.environment, ENVIRONMENT);
    world.must_be_over(2 * DEPOSIT).await;
}

/// Nobody could ask about it, and nobody would know that it is open.
#[tokio::test(start_paused = true)]
async fn a_gateway_does_not_start_without_the_upstream_of_a_payment_that_is_open() {
    let (world, gateway, partner) = World::with_gateway(DEPOSIT).await;
    let number = gateway.invoice(&partner, 1).await;
    world.bank.next_pay(Pay::Silent { takes_after: None });
    assert_eq!(answer(&gateway.pay(&partner, number).await), Ok("PENDING"));
    gateway.engine.shut_down(Instant::now()).await;
    let upstream = Upstream { name: "another".to_owned(), bank: Arc::clone(&world.bank) as Arc<dyn Bank> };
    let clock = Arc::clone(&world.clock) as Arc<dyn domain::Clock>;
    let started = Engine::start(Settings::default(), world.store(), vec![upstream], clock, world.ids()).await;
    let Err(StartError::UpstreamMissing { invoice, name }) = started.map(drop) else { panic!("it started") };
    assert_eq!((invoice, name.as_str()), (number, "bank"));
}
