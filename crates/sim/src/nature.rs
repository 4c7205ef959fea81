//! Nature: gateways die, are stopped and go on; the store goes away and is slow; clocks are set wrong; somebody pays at a
//! counter.

use crate::world::{World, chassis};
use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};
use tokio::time::{Instant, sleep};

/// Strikes until it is over.
pub(crate) async fn nature(world: Arc<World>) {
    let mut random = world.random("nature");
    loop {
        sleep(Duration::from_millis(random.between(1_000, world.terms.nature_ms_max))).await;
        let index = usize::try_from(random.below(world.gateways.len() as u64)).expect("few gateways");
        let gateway = &world.gateways[index];
        let fault = |name: &str| world.record.fault(name, None, &gateway.name);
        match random.below(12) {
            0..=1 => {
                if let Some(life) = gateway.life() {
                    fault("gateway: killed");
                    life.gate.kill();
                }
            }
            2..=3 => {
                if let Some(life) = gateway.life() {
                    fault("gateway: stopped");
                    life.gate.pause();
                    let pause = Duration::from_millis(random.between(500, 45_000));
                    tokio::spawn(async move {
                        sleep(pause).await;
                        life.gate.resume();
                    });
                }
            }
            4 => {
                if let Some(life) = gateway.life() {
                    fault("gateway: shut down in good order");
                    let grace = Duration::from_millis(random.between(10, 20_000));
                    tokio::spawn(async move {
                        life.engine.shut_down(Instant::now() + grace).await;
                        life.gate.kill();
                    });
                }
            }
            5 => {
                world.record.fault("store: goes away", None, "all");
                world.weather.is_away.store(true, Ordering::Relaxed);
                sleep(Duration::from_millis(random.between(200, 9_000))).await;
                world.weather.is_away.store(false, Ordering::Relaxed);
            }
            6 => {
                world.record.fault("store: slow", None, "all");
                world.weather.commit_ms_max.store(random.between(500, 4_000), Ordering::Relaxed);
                sleep(Duration::from_millis(random.between(1_000, 15_000))).await;
                world.weather.commit_ms_max.store(8, Ordering::Relaxed);
            }
            7..=9 => {
                let most = *random.one_of(&[2_000, 60_000, 600_000, 3_600_000]);
                let wrong_by = i64::try_from(random.below(2 * most)).expect("an hour fits")
                    - i64::try_from(most).expect("an hour fits");
                fault(if wrong_by < 0 { "clock: set back" } else { "clock: set forward" });
                world.record.note(None, format!("{} is wrong by {wrong_by} ms", gateway.name));
                gateway.clock.set_wrong_by(wrong_by);
            }
            _ => world.books.pay_at_counter(&chassis(random.below(world.terms.vehicles))),
        }
    }
}
