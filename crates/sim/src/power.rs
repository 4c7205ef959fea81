//! The power of the one machine that all gateways run on goes: between two commits, or in the middle of one.

use crate::world::World;
use std::{sync::Arc, time::Duration};
use tokio::time::sleep;

/// The branches that twenty seeds must reach.
pub const POWER_PROBES: &[&str] = &[
    "power: lost",
    "power: lost in a commit, written",
    "power: lost in a commit, not written",
    "power: something was not synced",
    "state: CONFIRM",
    "state: REFUND, not found",
];

/// Strikes until it is over, if there is something to lose.
pub(crate) async fn power(world: Arc<World>) {
    let Some(database) = &world.database else { return };
    let machine = Arc::downgrade(&world);
    database.on_power_cut(move || {
        let Some(world) = machine.upgrade() else { return };
        for life in world.gateways.iter().filter_map(crate::world::Gateway::life) {
            life.gate.kill();
        }
    });
    let mut random = world.random("power");
    loop {
        sleep(Duration::from_millis(random.between(2_000, 30_000))).await;
        if random.permille(250) {
            if database.lose_power().is_ok() {
                database.compare();
            }
        } else {
            database.cut_power_at_sync(random.between(1, 10));
        }
    }
}
