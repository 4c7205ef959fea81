//! Who calls: alike refusals, remembered passwords, and limits that do not shut honest partners out.

use crate::kit::World;
use domain::{Partner, PartnerStatus, Reason, Secret, command::PartnerChange};
use engine::{Engine, Refused, Turned, domain, hash_password};
use std::{net::IpAddr, sync::Arc, time::Duration};
use tokio::time::sleep;

const HOME: &str = "192.0.2.7";
const ELSEWHERE: &str = "198.51.100.9";

async fn log_in(engine: &Engine, name: &str, password: &str, from: &str) -> Result<Arc<Partner>, Refused> {
    let address: IpAddr = from.parse().expect("an address");
    engine.authenticate(name, &Secret::new(password), address).await
}

fn reason(result: &Result<Arc<Partner>, Refused>) -> Option<Reason> {
    result.as_ref().err().map(|refused| refused.refusal.reason)
}

fn too_many(result: &Result<Arc<Partner>, Refused>) -> bool {
    matches!(result, Err(Refused { turned: Turned::TooMany { .. }, .. }))
}

/// A gateway with two partners, `bebas` without an allow-list and `terdaftar` with one.
async fn world() -> (World, crate::kit::Gateway) {
    let (world, gateway, _) = World::with_gateway(0).await;
    let hash = hash_password(&Secret::new("benar"), &world.ids());
    world.add_partner_with("bebas", 0, hash.clone(), &[]).await;
    world.add_partner_with("terdaftar", 0, hash, &["192.0.2.0/24"]).await;
    (world, gateway)
}

#[tokio::test(start_paused = true)]
async fn a_wrong_password_and_an_unknown_user_are_alike() {
    let (_world, gateway) = world().await;
    let wrong = log_in(&gateway.engine, "bebas", "salah", HOME).await.expect_err("wrong");
    for (name, password) in
        [("siapa", "benar"), ("", "benar"), ("bebas\n", "benar"), ("BEBAS", "benar"), ("bebas", "")]
    {
        let refused = log_in(&gateway.engine, name, password, HOME).await.expect_err("refused");
        assert_eq!(refused, wrong, "{name:?} {password:?}");
    }
    let long = "x".repeat(129);
    assert_eq!(log_in(&gateway.engine, "bebas", &long, HOME).await.expect_err("refused"), wrong);
    assert_eq!(reason(&log_in(&gateway.engine, "bebas", "benar", HOME).await), None);
}

#[tokio::test(start_paused = true)]
async fn a_verified_password_is_remembered_and_forgotten_with_its_hash() {
    let (world, gateway) = world().await;
    // Far more than the limiter would let be hashed.
    for _ in 0..10_000 {
        let partner = log_in(&gateway.engine, "bebas", "benar", ELSEWHERE).await.expect("it is right");
        assert_eq!(partner.username.as_str(), "bebas");
    }
    let partner = log_in(&gateway.engine, "bebas", "benar", ELSEWHERE).await.expect("it is right");
    let operations = world.operations();
    let hash = hash_password(&Secret::new("baru"), &world.ids());
    operations.change_partner(partner.id, PartnerChange::PasswordHash(hash)).await.expect("changed");
    sleep(Duration::from_millis(1_001)).await;
    assert_eq!(reason(&log_in(&gateway.engine, "bebas", "benar", HOME).await), Some(Reason::BadCredentials));
    assert_eq!(reason(&log_in(&gateway.engine, "bebas", "baru", HOME).await), None);
}

#[tokio::test(start_paused = true)]
async fn guessing_is_limited_by_address_and_shuts_nobody_out_who_is_known() {
    let (_world, gateway) = world().await;
    assert_eq!(reason(&log_in(&gateway.engine, "bebas", "benar", HOME).await), None);
    let mut limited = 0;
    for attempt in 0..60 {
        // Unknown users count as well, so that the limit tells nothing.
        let name = if attempt % 2 == 0 { "bebas" } else { "siapa" };
        let refused = log_in(&gateway.engine, name, &format!("tebakan {attempt}"), HOME).await;
        limited += u32::from(too_many(&refused));
    }
    assert_eq!(limited, 41, "after nineteen of them the address has had its twenty");
    // Remembered, listed, or from another address: served.
    assert_eq!(reason(&log_in(&gateway.engine, "bebas", "benar", HOME).await), None);
    assert_eq!(reason(&log_in(&gateway.engine, "terdaftar", "benar", HOME).await), None);
    assert_eq!(reason(&log_in(&gateway.engine, "bebas", "benar", ELSEWHERE).await), None);
    // After five minutes the password is checked again, and whoever shares the address may have used it up anew.
    sleep(Duration::from_secs(301)).await;
    for attempt in 0..20 {
        log_in(&gateway.engine, "siapa", &format!("tebakan {attempt}"), HOME)
            .await
            .expect_err("it is a guess");
    }
    assert!(too_many(&log_in(&gateway.engine, "bebas", "benar", HOME).await));
    assert_eq!(reason(&log_in(&gateway.engine, "terdaftar", "benar", HOME).await), None);
}

#[tokio::test(start_paused = true)]
async fn suspension_and_allow_lists_are_told_only_to_who_knows_the_password() {
    let (world, gateway) = world().await;
    let partner = log_in(&gateway.engine, "terdaftar", "benar", HOME).await.expect("it is right");
    assert_eq!(
        reason(&log_in(&gateway.engine, "terdaftar", "benar", ELSEWHERE).await),
        Some(Reason::AddressNotAllowed)
    );
    assert_eq!(
        reason(&log_in(&gateway.engine, "terdaftar", "salah", ELSEWHERE).await),
        Some(Reason::BadCredentials)
    );
    let operations = world.operations();
    operations
        .change_partner(partner.id, PartnerChange::Status(PartnerStatus::Suspended))
        .await
        .expect("done");
    sleep(Duration::from_millis(1_001)).await;
    assert_eq!(
        reason(&log_in(&gateway.engine, "terdaftar", "benar", HOME).await),
        Some(Reason::PartnerSuspended)
    );
    assert_eq!(
        reason(&log_in(&gateway.engine, "terdaftar", "salah", HOME).await),
        Some(Reason::BadCredentials)
    );
}
