//! Operators: two people who top up, switch products, suspend partners, and decide by hand what the bank does not.
//!
//! They are right: what they decide is what the bank's books say when they look, and they look once more before the
//! second of them approves.

use crate::{auditor::BankBooks, random::Random, world::World};
use domain::{
    NotPaidProof, PartnerStatus, Rupiah, State, UpstreamId,
    command::PartnerChange,
    record::{IncidentKind, Resolution},
};
use engine::{bank::Question, domain, operate::Operations};
use std::{collections::BTreeMap, sync::Arc, time::Duration};
use tokio::time::sleep;

/// The operators' day.
pub(crate) async fn operators(world: Arc<World>, upstream: UpstreamId) {
    let mut random = world.random("operators");
    let mut top_ups = 0;
    let mut transfer = None;
    let mut commands = 0;
    while !world.is_over() {
        sleep(Duration::from_millis(random.between(500, 9_000))).await;
        // Every command is a process of its own.
        commands += 1;
        let operations = world.operations(&format!("operators/{commands}"));
        match random.below(10) {
            0..=4 => {
                let (partner, amount) = *transfer.get_or_insert_with(|| {
                    let amount = i64::try_from(random.between(1, 15)).expect("a small number") * 100_000;
                    let index = usize::try_from(random.below(world.terms.partners)).expect("few partners");
                    (world.partner(index), Rupiah::new(amount))
                });
                let reference = format!("transfer {top_ups}");
                // What could not be booked, as far as is known, is typed in again next time.
                if let Ok(topped_up) = operations.top_up(partner, amount, &reference, "ani").await {
                    world.record.probe(if topped_up.repeated {
                        "top-up: found booked"
                    } else {
                        "top-up: booked"
                    });
                    if random.permille(200) {
                        match operations.top_up(partner, amount, &reference, "ani").await {
                            Ok(again) if again.repeated => world.record.probe("top-up: repeated"),
                            Ok(_) => world.record.wrong(None, "one transfer was booked twice"),
                            Err(_) => {}
                        }
                    }
                    (top_ups, transfer) = (top_ups + 1, None);
                }
            }
            5..=6 => {
                let mut product = World::product(upstream);
                product.on = random.permille(500);
                product.fee = Rupiah::new(i64::try_from(random.below(10)).expect("a small number") * 1_000);
                product.cashback =
                    Rupiah::new(i64::try_from(random.below(4)).expect("a small number") * 1_000);
                let is_off = !product.on;
                if operations.save_product(product.clone()).await.is_ok() {
                    world.record.probe(if is_off { "product: off" } else { "product: new fee" });
                }
                if is_off {
                    sleep(Duration::from_millis(random.between(1_000, 6_000))).await;
                    product.on = true;
                    while operations.save_product(product.clone()).await.is_err() && !world.is_over() {
                        sleep(Duration::from_secs(1)).await;
                    }
                }
            }
            7 => {
                let index = usize::try_from(random.below(world.terms.partners)).expect("few partners");
                let id = world.partner(index).id;
                let change = |status| operations.change_partner(id, PartnerChange::Status(status));
                if change(PartnerStatus::Suspended).await.is_ok() {
                    world.record.probe("partner: suspended");
                    sleep(Duration::from_millis(random.between(1_000, 6_000))).await;
                    while change(PartnerStatus::Active).await.is_err() && !world.is_over() {
                        sleep(Duration::from_secs(1)).await;
                    }
                }
            }
            _ => {}
        }
        operations.close().await;
    }
}

/// Those who decide by hand. They go on after the faults have ended.
pub(crate) async fn deciders(world: Arc<World>) {
    let mut random = world.random("deciders");
    let mut commands = 0;
    let mut since: BTreeMap<i64, Duration> = BTreeMap::new();
    let settings = &world.terms.settings;
    let in_flight = settings.send_within + world.terms.profile.horizon + Duration::from_secs(1);
    loop {
        sleep(Duration::from_millis(random.between(1_000, 6_000))).await;
        commands += 1;
        let operations = world.operations(&format!("deciders/{commands}"));
        let now = world.record.elapsed();
        let pending = world.lens.pending();
        since.retain(|number, _| pending.iter().any(|invoice| invoice.number.get() == *number));
        for invoice in pending {
            let open_since = *since.entry(invoice.number.get()).or_insert(now);
            let is_due = now.saturating_sub(open_since) > in_flight * 2;
            if is_due && (!world.terms.profile.definitive_status || random.permille(150)) {
                decide(&world, &operations, &mut random, &invoice, in_flight).await;
            }
        }
        for incident in world.lens.incidents() {
            world.record.probe(&format!("incident: {}", incident.kind.name()));
            correct(&world, &operations, &incident).await;
        }
        operations.close().await;
    }
}

/// What the bank's books say of an open payment.
fn truth(world: &World, invoice: &domain::Invoice) -> Option<(Resolution, String)> {
    let State::Pending { attempt } = &invoice.state else { return None };
    let standing = world.books.standing(&attempt.identity);
    let resolution =
        if standing.is_taken { Resolution::Paid { receipt: standing.receipt } } else { Resolution::NotPaid };
    Some((resolution, attempt.identity.clone()))
}

async fn decide(
    world: &World,
    operations: &Operations,
    random: &mut Random,
    invoice: &domain::Invoice,
    in_flight: Duration,
) {
    let number = invoice.number;
    let Some((resolution, _)) = truth(world, invoice) else { return };
    let why = ("ani", "statement 7", "the bank says so");
    if let Err(error) = operations.propose(number, resolution.clone(), why).await {
        return world.record.note(Some(number.get()), format!("operators: not proposed, {error}"));
    }
    world.record.note(Some(number.get()), format!("operators: propose {resolution:?}"));
    if random.permille(100) {
        // Nobody is two persons.
        if operations.approve(number, resolution.clone(), "Ani.").await.is_ok() {
            world.record.wrong(Some(number.get()), "one operator approved the own proposal");
        }
        world.record.probe("operators: one person refused");
    }
    let is_reversing = invoice.state.attempt().is_some_and(|attempt| attempt.is_reversing);
    let pause = match resolution {
        // What was asked before the proposal may still be under way.
        Resolution::NotPaid => in_flight,
        Resolution::Paid { .. } if is_reversing && random.permille(500) => in_flight,
        Resolution::Paid { .. } => Duration::from_millis(random.between(1, 3_000)),
    };
    sleep(pause).await;
    let now_says = world.lens.invoice(number.get()).and_then(|invoice| truth(world, &invoice));
    if now_says.is_none_or(|(now_says, _)| now_says != resolution) {
        world.record.probe("operators: thought again");
        return;
    }
    match operations.approve(number, resolution, "budi").await {
        Ok(settled) => {
            world.record.probe(match &settled.state {
                State::Refund { proof: NotPaidProof::Operators { .. }, .. } => "operators: refunded by hand",
                _ => "operators: confirmed by hand",
            });
            if world.terms.profile.question != Question::Asks {
                world.record.probe("operators: decided beside questions that pay or undo");
            }
        }
        Err(error) => {
            world.record.probe("operators: not approved");
            world.record.note(Some(number.get()), format!("operators: not approved, {error}"));
        }
    }
}

/// Writes off what a bank's lie cost.
async fn correct(world: &World, operations: &Operations, incident: &domain::record::Incident) {
    let (Some(number), IncidentKind::PaidAfterRefund, None) =
        (incident.invoice, incident.kind, incident.corrected_by)
    else {
        return;
    };
    let Some(invoice) = world.lens.invoice(number.get()) else { return };
    let taken =
        invoice.state.attempt().is_some_and(|attempt| world.books.standing(&attempt.identity).is_taken);
    if taken && operations.correct_incident(number, incident.kind, "ani", "statement 8").await.is_ok() {
        world.record.probe("operators: a loss written off");
    }
}
