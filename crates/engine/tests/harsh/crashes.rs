//! Crashes, counted: a payment's life is run once to count its steps, then ended at each of them, and its
//! recovery again at each of its own.
//!
//! Steps are what the world can see: each commit (before, and after, before anybody knows), each message to
//! the bank (before it leaves, when the bank has it, when it has answered), each status question. After any
//! two crashes the partner does what partners do: asks again, and pays what is not paid.

use crate::kit::{Backend, Terms, World, bank::Pay, steps::Steps};
use ::engine::bank::{Profile, Question, Unknown};
use domain::{InvoiceNumber, Partner, Reason};
use engine::{Settings, domain};
use std::{sync::Arc, time::Duration};
use tokio::{runtime::Runtime, time::sleep};

const DEPOSIT: i64 = 1_000_000;

/// Short, so that a life has few steps that are like others.
fn terms() -> Terms {
    Terms {
        settings: Settings {
            answer_within: Duration::from_secs(8),
            send_within: Duration::from_secs(1),
            ..Settings::default()
        },
        profile: Profile {
            horizon: Duration::from_secs(3),
            answer_timeout: Duration::from_secs(2),
            definitive_status: true,
            question: Question::Asks,
        },
        line_max: 10,
    }
}

/// What the partner knows; it outlives the gateway.
#[derive(Default)]
struct Client {
    invoice: Option<InvoiceNumber>,
    /// A final word that was read, which nothing may take back.
    read: Option<&'static str>,
}

fn runtime() -> Runtime {
    tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().expect("a runtime")
}

impl Client {
    /// Asks for the bill, pays it, asks for its status, until it is final.
    async fn pay_until_final(&mut self, world: &World, partner: &Arc<Partner>, steps: Arc<Steps>) {
        let gateway = world.start_with(steps).await;
        let number = match self.invoice {
            Some(number) => number,
            None => gateway.invoice(partner, 1).await,
        };
        self.invoice = Some(number);
        for _ in 0..100 {
            let status = gateway.engine.status(partner, number).await.expect("a status");
            let word = status.invoice.state.word();
            if let Some(read) = self.read {
                assert_eq!(word, read, "a final word was taken back");
            }
            match word {
                "INQUIRY" => {
                    if let Ok(view) = gateway.pay(partner, number).await
                        && view.invoice.state.is_final()
                    {
                        self.read = Some(view.invoice.state.word());
                    }
                }
                "PENDING" => sleep(Duration::from_secs(1)).await,
                word => {
                    self.read = Some(word);
                    // Whatever still comes late, comes now.
                    return sleep(Duration::from_secs(5)).await;
                }
            }
        }
        panic!("{number:?} never became final");
    }
}

/// One life of a gateway, to its end or to this step. How many steps it had, if it came to its end.
fn live(world: &World, partner: &Arc<Partner>, client: &mut Client, until: Option<usize>) -> Option<usize> {
    let steps = until.map_or_else(Steps::endless, Steps::until);
    let runtime = runtime();
    let ended = runtime.block_on(async {
        world.clock.begin_life();
        let ended = tokio::select! {
            biased;
            () = steps.died() => None,
            () = client.pay_until_final(world, partner, Arc::clone(&steps)) => Some(steps.passed().len()),
        };
        world.end_life();
        ended
    });
    // With the runtime goes everything that only the process knew.
    drop(runtime);
    ended
}

fn new_world(backend: Backend, pay: &Pay) -> (World, Arc<Partner>) {
    let world = World::empty(backend, terms());
    world.bank.on_pay(pay.clone());
    let partner = runtime().block_on(world.furnish(DEPOSIT));
    (world, partner)
}

/// Ends the first life at each of its steps, and the second at each of its own; the third is endless.
/// Returns how many pairs of crashes there were.
fn crash_at_every_pair_of_steps(backend: Backend, pay: &Pay, ends_as: &str) -> usize {
    let mut pairs = 0;
    for first in 1.. {
        for second in 1.. {
            let (world, partner) = new_world(backend, pay);
            let mut client = Client::default();
            let first_ended = live(&world, &partner, &mut client, Some(first)).is_some();
            let second_ended = !first_ended && live(&world, &partner, &mut client, Some(second)).is_some();
            if !first_ended && !second_ended {
                live(&world, &partner, &mut client, None);
                pairs += 1;
            }
            runtime().block_on(async {
                let at = format!("crashes at {first} and {second}");
                let number = client.invoice.unwrap_or_else(|| panic!("no invoice, {at}"));
                let word = world.word(number).await;
                assert!(
                    word == ends_as || (word == "REFUND" && !world.bank.has_taken(number)),
                    "{word}, {at}"
                );
                world.must_be_over(DEPOSIT).await;
            });
            if first_ended {
                return pairs;
            }
            if second_ended {
                break;
            }
        }
    }
    unreachable!("some life comes to its end")
}

/// What befalls the payment at the bank, and how it must end unless it was never sent.
fn scenarios() -> [(&'static str, Pay, &'static str); 8] {
    let silent = |takes_after| Pay::Silent { takes_after };
    let late = |outcome, copies| Pay::Late {
        outcome: Box::new(outcome),
        answers_after: Duration::from_millis(2_500),
        copies,
    };
    [
        ("paid", Pay::Paid, "CONFIRM"),
        ("refused", Pay::Refused(Reason::CutOff), "REFUND"),
        ("silent, paid at once", silent(Some(Duration::ZERO)), "CONFIRM"),
        ("silent, paid at the horizon", silent(Some(Duration::from_secs(3))), "CONFIRM"),
        ("silent, not paid", silent(None), "REFUND"),
        ("cut, paid", Pay::Lost { unknown: Unknown::ConnectionCut, taken: true }, "CONFIRM"),
        ("cut, not paid", Pay::Lost { unknown: Unknown::ConnectionCut, taken: false }, "REFUND"),
        ("late answers", late(Pay::Paid, 2), "CONFIRM"),
    ]
}

fn crash(backend: Backend, index: usize, pairs_min: usize) {
    let (name, pay, ends_as) = &scenarios()[index];
    let pairs = crash_at_every_pair_of_steps(backend, pay, ends_as);
    println!("{name} ({backend:?}): {pairs} pairs of crashes");
    assert!(pairs >= pairs_min, "{name}: only {pairs} pairs");
}

macro_rules! crashes {
    ($($name:ident $backend:ident $index:literal $pairs_min:literal;)*) => {
        $(#[test] fn $name() { crash(Backend::$backend, $index, $pairs_min); })*
    };
}

crashes! {
    paid_in_memory Memory 0 100;
    refused_in_memory Memory 1 100;
    silent_and_paid_in_memory Memory 2 100;
    silent_and_paid_at_the_horizon_in_memory Memory 3 100;
    silent_and_not_paid_in_memory Memory 4 100;
    cut_and_paid_in_memory Memory 5 100;
    cut_and_not_paid_in_memory Memory 6 100;
    late_answers_in_memory Memory 7 100;
    paid_on_file File 0 100;
    refused_on_file File 1 100;
    silent_and_paid_on_file File 2 100;
    silent_and_not_paid_on_file File 4 100;
    cut_and_paid_on_file File 5 100;
    silent_and_paid_at_the_horizon_on_file File 3 100;
    cut_and_not_paid_on_file File 6 100;
    late_answers_on_file File 7 100;
}
