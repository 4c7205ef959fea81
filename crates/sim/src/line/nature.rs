//! What befalls a line run besides the network: gateways die and are stopped, the store is away, clocks are set wrong,
//! and the bank fails in every way in which its host can.

use super::{Bank, network::Network};
use crate::{random::Random, world::World};
use bank::host::HostFaults;
use domain::State;
use engine::{bank, domain};
use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};
use tokio::time::{Instant, sleep};

fn millis(random: &mut Random, first: u64, last: u64) -> Duration {
    Duration::from_millis(random.between(first, last))
}

/// Mostly not long enough to be noticed.
fn cut_off_for(random: &mut Random) -> Duration {
    let most = random.weighted(&[(6, 3_000), (3, 10_000), (1, 40_000)]);
    millis(random, 300, most)
}

/// What goes wrong at the bank for a while.
pub(super) fn host_faults(random: &mut Random, harshness: u64) -> HostFaults {
    let from = random.below(50);
    let mut faults = HostFaults {
        delay_ms: (from, from + random.weighted(&[(4, 100), (3, 600), (1, 3_000)])),
        slow: if random.permille(300) { 0.05 } else { 0.0 },
        slow_ms: random.between(1_000, 20_000),
        ..HostFaults::default()
    };
    let mut rate = |is_rare: bool| {
        let is_on = random.permille(if is_rare { 200 } else { 500 });
        let most = 10 + harshness * 15;
        let permille = u32::try_from(random.below(most)).expect("a small number");
        if is_on { f64::from(permille) / 1_000.0 } else { 0.0 }
    };
    for fault in [
        &mut faults.lost,
        &mut faults.silent,
        &mut faults.late,
        &mut faults.near_horizon,
        &mut faults.twice,
        &mut faults.swapped,
        &mut faults.crossed,
        &mut faults.garbled,
        &mut faults.wrong_amount,
        &mut faults.wrong_trace,
        &mut faults.echoed,
        &mut faults.cut,
        &mut faults.cut_before,
        &mut faults.unknown_code,
        &mut faults.refused,
    ] {
        *fault = rate(false);
    }
    faults.cut_over = rate(true) / 8.0;
    faults.cut_reading = rate(true) / 4.0;
    faults.check().expect("together they are below one");
    faults
}

/// Strikes until it is over.
pub(super) async fn nature(world: Arc<World>, bank: Arc<Bank>) {
    let mut random = world.random("line nature");
    loop {
        sleep(millis(&mut random, 500, world.terms.nature_ms_max)).await;
        match random.below(20) {
            0..=5 => gateways(&world, &bank.network, &mut random),
            6 => {
                world.record.fault("store: goes away", None, "all");
                world.weather.is_away.store(true, Ordering::Relaxed);
                sleep(millis(&mut random, 200, 9_000)).await;
                world.weather.is_away.store(false, Ordering::Relaxed);
            }
            7 => {
                world.record.fault("store: slow", None, "all");
                world.weather.commit_ms_max.store(random.between(500, 4_000), Ordering::Relaxed);
                sleep(millis(&mut random, 1_000, 15_000)).await;
                world.weather.commit_ms_max.store(8, Ordering::Relaxed);
            }
            8..=10 => {
                world.record.fault("line: cut off from the bank", None, "all");
                let time = cut_off_for(&mut random);
                for gateway in &world.gateways {
                    bank.network.cut_off(&gateway.name, time);
                }
            }
            _ => at_the_bank(&world, &bank, &mut random).await,
        }
    }
}

fn gateways(world: &Arc<World>, network: &Network, random: &mut Random) {
    let index = usize::try_from(random.below(world.gateways.len() as u64)).expect("few gateways");
    let gateway = &world.gateways[index];
    let fault = |name: &str| world.record.fault(name, None, &gateway.name);
    let Some(life) = gateway.life() else { return };
    match random.below(6) {
        0 => {
            fault("gateway: killed");
            life.gate.kill();
        }
        1 => {
            fault("gateway: stopped");
            life.gate.pause();
            let pause = millis(random, 500, 45_000);
            tokio::spawn(async move {
                sleep(pause).await;
                life.gate.resume();
            });
        }
        2 => {
            fault("gateway: shut down in good order");
            let grace = millis(random, 10, 20_000);
            tokio::spawn(async move {
                life.engine.shut_down(Instant::now() + grace).await;
                life.gate.kill();
            });
        }
        3 => {
            let most = *random.one_of(&[2_000, 60_000, 3_600_000]);
            let wrong_by = i64::try_from(random.below(2 * most)).expect("an hour fits")
                - i64::try_from(most).expect("an hour fits");
            fault(if wrong_by < 0 { "clock: set back" } else { "clock: set forward" });
            world.record.note(None, format!("{} is wrong by {wrong_by} ms", gateway.name));
            gateway.clock.set_wrong_by(wrong_by);
        }
        _ => {
            fault("line: a gateway cut off from the bank");
            network.cut_off(&gateway.name, cut_off_for(random));
        }
    }
}

async fn at_the_bank(world: &Arc<World>, bank: &Bank, random: &mut Random) {
    let house = &bank.house;
    let fault = |name: &str| world.record.fault(name, None, "bank");
    match random.below(9) {
        0..=2 => {
            world.record.note(None, "other faults at the bank");
            house.set_faults(host_faults(random, bank.harshness));
        }
        3 => {
            fault("bank: host restarted");
            house.stop();
            let pause = random.weighted(&[(3, 1_500), (1, 15_000)]);
            sleep(millis(random, 100, pause)).await;
            house.start();
        }
        4 => {
            fault("bank: stalled");
            let faults = house.faults();
            house.set_faults(HostFaults { stalled: true, ..faults.clone() });
            sleep(millis(random, 500, 20_000)).await;
            house.set_faults(faults);
        }
        5 => {
            fault("bank: refuses connections");
            let faults = house.faults();
            house.set_faults(HostFaults { refuses_connections: true, ..faults.clone() });
            house.close_connections();
            sleep(millis(random, 500, 5_000)).await;
            house.set_faults(faults);
        }
        6 => {
            fault("bank: closes all connections");
            house.close_connections();
        }
        7 => {
            let open = world.lens.pending().len();
            fault(if open > 0 { "bank: cut-over, payments under way" } else { "bank: cut-over" });
            house.cut_over();
        }
        _ => {
            let invoices = world.lens.invoices();
            let offered = invoices.iter().filter(|invoice| matches!(invoice.state, State::Inquiry)).rev();
            let codes: Vec<_> = offered.filter_map(|invoice| invoice.payment_code.clone()).take(5).collect();
            if !codes.is_empty() {
                house.pay_at_counter(random.one_of(&codes));
            }
        }
    }
}
