//! Partners: patient and impatient ones, who hang up, storm, pay twice, pay too late, and try what is not theirs.

use crate::{random::Random, world::World};
use engine::{Refused, View};
use futures::future::join_all;
use std::{
    sync::{Arc, PoisonError},
    time::Duration,
};
use tokio::time::sleep;

/// What a partner does next.
#[derive(Clone, Copy)]
enum Does {
    Buys,
    AsksAgain,
    PaysAgain,
    TriesAnothers,
    AsksForNothing,
}

/// How a partner pays.
#[derive(Clone, Copy)]
enum Pays {
    Patiently,
    HangingUp,
    Storming,
    AtTwoGateways,
    Later,
    Never,
}

fn millis(random: &mut Random, first: u64, last: u64) -> Duration {
    Duration::from_millis(random.between(first, last))
}

/// One partner's day.
pub(crate) async fn partner(world: Arc<World>, index: usize) {
    let mut random = world.random(&format!("partner/{index}"));
    let mut own: Vec<i64> = Vec::new();
    while !world.is_over() {
        sleep(millis(&mut random, 50, 5_000)).await;
        let does = random.weighted(&[
            (20, Does::Buys),
            (4, Does::AsksAgain),
            (3, Does::PaysAgain),
            (2, Does::TriesAnothers),
            (1, Does::AsksForNothing),
        ]);
        let gateway = any_gateway(&world, &mut random);
        match does {
            Does::Buys => buy(&world, &mut random, index, &mut own).await,
            Does::AsksAgain if !own.is_empty() => {
                let number = *random.one_of(&own);
                _ = world.ask(gateway, index, number, "status").await;
            }
            Does::PaysAgain if !own.is_empty() => {
                let number = *random.one_of(&own);
                _ = world.ask(gateway, index, number, "pay").await;
            }
            Does::TriesAnothers => {
                let known = world.known.lock().unwrap_or_else(PoisonError::into_inner).clone();
                let others: Vec<i64> =
                    known.iter().filter(|(owner, _)| *owner != index).map(|(_, number)| *number).collect();
                if !others.is_empty() {
                    let number = *random.one_of(&others);
                    let channel = if random.permille(500) { "pay" } else { "status" };
                    if let Some(Ok(_)) = world.ask(gateway, index, number, channel).await {
                        world.record.wrong(Some(number), "another partner's invoice was shown");
                    }
                }
            }
            Does::AsksForNothing => {
                _ = world.inquire(gateway, index, u64::MAX).await;
            }
            Does::AsksAgain | Does::PaysAgain => {}
        }
    }
}

fn any_gateway(world: &World, random: &mut Random) -> usize {
    usize::try_from(random.below(world.gateways.len() as u64)).expect("few gateways")
}

async fn buy(world: &Arc<World>, random: &mut Random, index: usize, own: &mut Vec<i64>) {
    let gateway = any_gateway(world, random);
    let vehicle = random.below(world.terms.vehicles);
    let Some(Ok(view)) = world.inquire(gateway, index, vehicle).await else { return };
    let number = view.invoice.number.get();
    own.push(number);
    world.known.lock().unwrap_or_else(PoisonError::into_inner).push((index, number));
    let pays = random.weighted(&[
        (10, Pays::Patiently),
        (6, Pays::HangingUp),
        (4, Pays::Storming),
        (4, Pays::AtTwoGateways),
        (2, Pays::Later),
        (1, Pays::Never),
    ]);
    // Most pay where they asked.
    let at = if random.permille(800) { gateway } else { any_gateway(world, random) };
    let answered = match pays {
        Pays::Never => return,
        Pays::Patiently => world.ask(at, index, number, "pay").await,
        Pays::Later => {
            sleep(millis(random, 2_000, 60_000)).await;
            world.ask(at, index, number, "pay").await
        }
        Pays::HangingUp => {
            let patience = millis(random, 1, 4_000);
            let answered = tokio::select! {
                biased;
                answer = world.ask(at, index, number, "pay") => answer,
                () = sleep(patience) => {
                    world.record.probe("partner: hung up");
                    world.record.note(Some(number), format!("mitra{index} hangs up"));
                    None
                }
            };
            if answered.is_none() && random.permille(500) {
                world.ask(at, index, number, "pay").await
            } else {
                answered
            }
        }
        Pays::Storming => {
            let calls = random.between(3, 25);
            let moments: Vec<_> =
                (0..calls).map(|_| (millis(random, 0, 1_500), any_gateway(world, random))).collect();
            let is_everywhere = random.permille(300);
            let storm = moments.into_iter().map(|(moment, elsewhere)| async move {
                sleep(moment).await;
                world.ask(if is_everywhere { elsewhere } else { at }, index, number, "pay").await
            });
            let answers = join_all(storm).await;
            let same = answers.iter().flatten().flatten().filter(|view| is_final(view)).count();
            if same > 1 {
                world.record.probe("storm: one outcome for many");
            }
            answers.into_iter().flatten().next()
        }
        Pays::AtTwoGateways => {
            let other = (at + 1) % world.gateways.len();
            let pause = millis(random, 0, 30);
            let (first, second) = tokio::join!(
                biased;
                world.ask(at, index, number, "pay"),
                async {
                    sleep(pause).await;
                    world.ask(other, index, number, "pay").await
                },
            );
            first.or(second)
        }
    };
    follow(world, random, index, number, answered).await;
}

fn is_final(view: &View) -> bool {
    view.invoice.state.is_final()
}

/// Asks for the status for a while, unless the answer was final.
async fn follow(
    world: &Arc<World>,
    random: &mut Random,
    index: usize,
    number: i64,
    answered: Option<Result<View, Refused>>,
) {
    if matches!(&answered, Some(Ok(view)) if is_final(view)) || random.permille(400) {
        return;
    }
    for _ in 0..random.between(1, 5) {
        sleep(millis(random, 200, 6_000)).await;
        let gateway = any_gateway(world, random);
        if let Some(Ok(view)) = world.ask(gateway, index, number, "status").await
            && is_final(&view)
        {
            return;
        }
    }
}
