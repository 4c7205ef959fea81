//! Each fault by itself, from the partner's request to both books.

use crate::kit::{BankHost, World, until};
use ::engine::bank::{host::HostFaults, profile::LineProfile};
use engine::{
    Engine,
    domain::{InvoiceNumber, NotPaidProof, Reason, State, record::IncidentKind},
};
use std::time::Duration;
use tokio::time::Instant;

/// Where a test number ends, with a question that only asks and with one that carries out.
const ENDS: [(u16, &str, &str); 17] = [
    (100, "CONFIRM", "CONFIRM"),
    (301, "REFUND", "REFUND"),
    (302, "REFUND", "REFUND"),
    (304, "CONFIRM", "CONFIRM"),
    (305, "CONFIRM", "CONFIRM"),
    (401, "CONFIRM", "CONFIRM"),
    (402, "REFUND", "CONFIRM"),
    (403, "CONFIRM", "CONFIRM"),
    (404, "REFUND", "REFUND"),
    (408, "REFUND", "CONFIRM"),
    (409, "CONFIRM", "CONFIRM"),
    (410, "CONFIRM", "CONFIRM"),
    (411, "REFUND", "REFUND"),
    (415, "CONFIRM", "CONFIRM"),
    (405, "CONFIRM", "CONFIRM"),
    (406, "REFUND", "CONFIRM"),
    (407, "CONFIRM", "CONFIRM"),
];

/// From where on they break the connection.
const BREAKING_FROM: usize = 14;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_course_of_a_payment_ends_as_the_banks_books_in_every_dialect() {
    for dialect in LineProfile::builtin_names() {
        let host = BankHost::open(dialect).await;
        let world = World::with(&[&host]).await;
        let mut numbers = Vec::new();
        for (scenario, ..) in ENDS {
            numbers.push(world.test_number(scenario, 1).await);
        }
        let nobody_knows = world.test_number(412, 1).await;
        // Those that break the connection come one by one, so that they do not cut the others short.
        let (quiet, breaking) = numbers.split_at(BREAKING_FROM);
        let mut answers = futures::future::join_all(quiet.iter().map(|number| world.pay(*number))).await;
        for number in breaking {
            world.until_up().await;
            answers.push(world.pay(*number).await);
        }
        world.until_up().await;
        let open = world.pay(nobody_knows).await;
        assert_eq!(open, Ok("PENDING"), "{dialect}");
        for ((scenario, asks, executes), (number, answer)) in
            ENDS.into_iter().zip(numbers.iter().zip(answers))
        {
            let ends = if host.profile.advice_executes { executes } else { asks };
            let finally = world.finally(*number).await;
            assert_eq!(finally, ends, "{dialect}, {scenario}, answered {answer:?}");
            match answer {
                Ok("PENDING") => assert!(scenario >= 400, "{dialect}, {scenario}"),
                Ok(word) => assert_eq!(word, ends, "{dialect}, {scenario}"),
                Err(_) => assert_eq!(ends, "REFUND", "{dialect}, {scenario}"),
            }
        }
        let kinds = |scenario: u16| {
            let place = ENDS.iter().position(|(known, ..)| *known == scenario).expect("it is one of them");
            Some(numbers[place])
        };
        assert_eq!(world.incidents(IncidentKind::UnknownCode).await, [kinds(408)], "{dialect}");
        assert_eq!(world.incidents(IncidentKind::AmountDiffers).await, [kinds(409)], "{dialect}");
        assert_eq!(world.incidents(IncidentKind::PayerUnknown).await, [Some(nobody_knows)], "{dialect}");
        assert_eq!(world.word(nobody_knows).await, "PENDING", "{dialect}: an operator's to decide");
        for kind in [IncidentKind::PaidAfterRefund, IncidentKind::NotPaidAfterConfirm] {
            assert!(world.incidents(kind).await.is_empty(), "{dialect}: {kind:?}");
        }
        world.must_agree_with(&host, &numbers).await;
    }
}

/// Of a bank that only tells, beyond what test numbers reach: what befalls the one payment, whether the bank took it,
/// and which incident is raised.
const FAULTS: [(&str, &str, Option<IncidentKind>); 11] = [
    ("lost", "REFUND", None),
    ("silent", "CONFIRM", None),
    ("late", "CONFIRM", None),
    ("near_horizon", "CONFIRM", None),
    ("twice", "CONFIRM", None),
    ("wrong_trace", "CONFIRM", Some(IncidentKind::IdentityDiffers)),
    ("echoed", "CONFIRM", Some(IncidentKind::Unmatched)),
    ("garbled", "CONFIRM", Some(IncidentKind::Garbled)),
    ("cut", "CONFIRM", None),
    ("cut_before", "REFUND", None),
    ("cut_over", "CONFIRM", None),
];

fn faults(name: &str) -> HostFaults {
    let mut faults = HostFaults::default();
    *match name {
        "lost" => &mut faults.lost,
        "silent" => &mut faults.silent,
        "late" => &mut faults.late,
        "near_horizon" => &mut faults.near_horizon,
        "twice" => &mut faults.twice,
        "wrong_trace" => &mut faults.wrong_trace,
        "echoed" => &mut faults.echoed,
        "cut" => &mut faults.cut,
        "cut_before" => &mut faults.cut_before,
        "cut_over" => &mut faults.cut_over,
        "garbled" => &mut faults.garbled,
        other => panic!("there is no {other}"),
    } = 1.0;
    faults
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_befalls_a_payment_it_ends_as_the_banks_books() {
    let host = BankHost::open("contoh-37-80").await;
    let world = World::with(&[&host]).await;
    let mut next = 0;
    for (name, ends, incident) in FAULTS {
        world.until_up().await;
        let (number, after) = world.resident(0, next).await;
        next = after;
        let befallen = host.host.state().faults;
        host.faults(faults(name));
        let paying = world.pay(number);
        let sparing_the_questions = async {
            until("it is befallen", async || host.host.state().faults > befallen).await;
            host.faults(HostFaults::default());
        };
        let (answer, ()) = futures::join!(paying, sparing_the_questions);
        assert!(answer == Ok(ends) || answer == Ok("PENDING") || ends == "REFUND", "{name}: {answer:?}");
        assert_eq!(world.finally(number).await, ends, "{name}");
        if let Some(incident) = incident {
            assert!(!world.incidents(incident).await.is_empty(), "{name}: no {incident:?}");
        }
        world.must_agree_with(&host, &[number]).await;
    }
    for kind in [IncidentKind::PaidAfterRefund, IncidentKind::NotPaidAfterConfirm] {
        assert!(world.incidents(kind).await.is_empty(), "{kind:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_in_each_others_place_settle_their_own_payments() {
    let host = BankHost::open("contoh-38-50").await;
    let world = World::with(&[&host]).await;
    for crossed in [false, true] {
        world.until_up().await;
        let first = u32::from(crossed) * 1_000;
        let (one, next) = world.resident(0, first).await;
        let (other, _) = world.resident(0, next).await;
        let befallen = host.host.state().faults;
        let (swapped, crossed) = if crossed { (0.0, 1.0) } else { (1.0, 0.0) };
        host.faults(HostFaults { swapped, crossed, ..HostFaults::default() });
        let sparing_the_questions = async {
            until("both are befallen", async || host.host.state().faults >= befallen + 2).await;
            host.faults(HostFaults::default());
        };
        let (_, _, ()) = futures::join!(world.pay(one), world.pay(other), sparing_the_questions);
        assert_eq!((world.finally(one).await, world.finally(other).await), ("CONFIRM", "CONFIRM"));
        world.must_agree_with(&host, &[one, other]).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bank_that_cannot_be_reached_costs_nothing() {
    let host = BankHost::open("contoh-37-80").await;
    let world = World::with(&[&host]).await;
    let number = world.test_number(100, 1).await;
    host.faults(HostFaults { refuses_connections: true, ..HostFaults::default() });
    host.host.close_connections();
    until("the line is down", async || !world.engine.lines()["bank0"][0].is_up).await;
    assert_eq!(world.pay(number).await, Err(Reason::BankUnreachable));
    assert_eq!((world.word(number).await, world.reserved().await), ("INQUIRY", 0), "nothing was begun");
    let refused = world.inquire(0, "3299000000000001", "UJI1000002").await.expect_err("nobody is there");
    assert_eq!(refused.refusal.reason, Reason::BankUnreachable);
    host.faults(HostFaults::default());
    world.until_up().await;
    assert_eq!(world.pay(number).await, Ok("CONFIRM"), "the same invoice");
    world.must_agree_with(&host, &[number]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bank_that_stalls_harms_no_other() {
    let (stalled, sound) = (BankHost::open("contoh-37-80").await, BankHost::open("contoh-38-18").await);
    let world = World::with(&[&stalled, &sound]).await;
    let mut numbers = Vec::new();
    for serial in 0..12 {
        numbers.push(world.test_number(100, serial).await);
    }
    let (other, next) = world.resident(1, 0).await;
    let (another, _) = world.resident(1, next).await;
    let spare = world.test_number(100, 99).await;
    stalled.faults(HostFaults { stalled: true, ..HostFaults::default() });
    let began = Instant::now();
    let paying = futures::future::join_all(numbers.iter().map(|number| world.pay(*number)));
    let elsewhere = async {
        let answer = world.pay(other).await;
        (answer, began.elapsed())
    };
    let (answers, (answer, took)) = futures::join!(paying, elsewhere);
    assert_eq!(answer, Ok("CONFIRM"));
    assert!(took < Duration::from_secs(3), "{took:?}");
    // One may have been read before the bank fell asleep.
    assert!(answers.iter().filter(|answer| **answer == Ok("PENDING")).count() >= 11, "{answers:?}");
    until("new work is shed", async || world.pay(spare).await == Err(Reason::BankUnreachable)).await;
    assert_eq!(world.word(spare).await, "INQUIRY");
    assert_eq!(world.pay(another).await, Ok("CONFIRM"));
    stalled.faults(HostFaults::default());
    for number in &numbers {
        world.finally(*number).await;
    }
    world.must_agree_with(&stalled, &numbers).await;
    world.must_agree_with(&sound, &[other, another]).await;
    until("it is paid after all", async || world.pay(spare).await == Ok("CONFIRM")).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bill_that_another_gateway_paid_is_released() {
    let host = BankHost::open("contoh-37-80").await;
    let ours = World::with(&[&host]).await;
    let theirs = World::at(&["ESAM0009"], &[&host]).await;
    let (number, _) = ours.resident(0, 0).await;
    let (same, _) = theirs.resident(0, 0).await;
    assert_eq!(theirs.pay(same).await, Ok("CONFIRM"));
    assert_eq!(ours.pay(number).await, Err(Reason::BillAlreadyPaid));
    let State::Refund { proof, .. } = ours.invoice(number).await.state else { panic!("a refund") };
    let NotPaidProof::Refused { refusal } = proof else { panic!("{proof:?}") };
    assert_eq!(refusal.bank_code.as_deref(), Some("0054"));
    assert_eq!(ours.reserved().await, 0);
    ours.must_agree_with(&host, &[number]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_open_when_a_gateway_ends_is_settled_by_the_next() {
    for dialect in LineProfile::builtin_names() {
        let host = BankHost::open(dialect).await;
        let mut world = World::with(&[&host]).await;
        let numbers = [
            world.test_number(401, 1).await,
            world.test_number(402, 1).await,
            world.test_number(403, 1).await,
        ];
        for number in numbers {
            let (engine, partner) = (world.engine.clone(), world.partner.clone());
            tokio::spawn(async move { engine.pay(&partner, number, Instant::now()).await });
        }
        until("the bank has them", async || {
            let sent = world.engine.lines()["bank0"][0].counts["sent"];
            let taken = host.host.payments().await.expect("the bank's books").len();
            // The sign-on, and an inquiry and a payment of each.
            sent >= 7 && taken >= 2
        })
        .await;
        world.restart(&[&host]).await;
        let executes = host.profile.advice_executes;
        let ends = ["CONFIRM", if executes { "CONFIRM" } else { "REFUND" }, "CONFIRM"];
        for (number, ends) in numbers.into_iter().zip(ends) {
            assert_eq!(world.finally(number).await, ends, "{dialect}");
        }
        world.must_agree_with(&host, &numbers).await;
        assert_eq!(world.reserved().await, 0);
    }
}

/// The terminals whose lines a gateway has up.
fn up(engine: &Engine) -> Vec<String> {
    engine.lines()["bank0"].iter().filter(|line| line.is_up).map(|line| line.name.clone()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn gateways_on_one_store_share_the_lines_out() {
    let host = BankHost::open("contoh-37-80").await;
    let mut world = World::at(&["ESAM0001", "ESAM0002"], &[&host]).await;
    assert_eq!(up(&world.engine).len(), 2, "who is alone has all");
    world.engine.shut_down(Instant::now()).await;

    world.engine = world.another(&[&host]).await;
    let second = world.another(&[&host]).await;
    until("each has one", async || up(&world.engine).len() == 1 && up(&second).len() == 1).await;
    let (own, others) = (up(&world.engine), up(&second));
    assert_ne!(own, others);
    assert_eq!(host.host.state().signed_on, 2);
    let number = world.test_number(100, 1).await;
    assert_eq!(world.pay(number).await, Ok("CONFIRM"));
    assert!(world.identity(number).await.contains(&own[0]));

    let third = world.another(&[&host]).await;
    assert!(up(&third).is_empty(), "there is none left");
    world.engine.shut_down(Instant::now()).await;
    until("it takes over the one that was given up", async || up(&third) == own).await;
    world.engine = third;
    let another = world.test_number(100, 2).await;
    assert_eq!(world.pay(another).await, Ok("CONFIRM"));
    let identities = [world.identity(number).await, world.identity(another).await];
    assert!(identities[1].contains(&own[0]));
    assert_ne!(identities[0].split('-').nth(1), identities[1].split('-').nth(1), "numbers are counted on");
    world.must_agree_with(&host, &[number, another]).await;
    second.shut_down(Instant::now()).await;
}

/// The gateway's clock moves between a payment and its answer.
async fn with_the_clock_moved(hours: i64, fault: &str) -> (BankHost, World, InvoiceNumber) {
    let host = BankHost::open("contoh-37-80").await;
    let world = World::with(&[&host]).await;
    let (number, _) = world.resident(0, 0).await;
    let befallen = host.host.state().faults;
    host.faults(faults(fault));
    let moving = async {
        until("it is befallen", async || host.host.state().faults > befallen).await;
        host.clock.put_forward(hours);
    };
    let (answer, ()) = futures::join!(world.pay(number), moving);
    // A late answer may come while the partner still waits.
    assert!(answer == Ok("PENDING") || fault == "late", "{fault}: {answer:?}");
    (host, world, number)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_of_the_day_before_settles_its_own_payment() {
    // The questions' answers are late as well.
    let (host, world, number) = with_the_clock_moved(24, "late").await;
    assert_eq!(world.finally(number).await, "CONFIRM");
    host.faults(HostFaults::default());
    let (other, _) = world.resident(0, 100).await;
    assert_eq!(world.pay(other).await, Ok("CONFIRM"), "of the new day");
    world.must_agree_with(&host, &[number, other]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_clock_that_is_put_forward_shortens_no_horizon() {
    for (fault, ends) in [("near_horizon", "CONFIRM"), ("lost", "REFUND")] {
        let began = Instant::now();
        let (host, world, number) = with_the_clock_moved(1, fault).await;
        host.faults(HostFaults::default());
        assert_eq!(world.finally(number).await, ends, "{fault}");
        assert!(ends != "REFUND" || began.elapsed() >= host.profile.horizon, "{fault}: by no clock");
        world.must_agree_with(&host, &[number]).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_clock_that_is_set_back_refunds_nothing_too_early_and_hides_no_payment() {
    let (host, world, taken) = with_the_clock_moved(-1, "silent").await;
    host.faults(HostFaults::default());
    assert_eq!(world.finally(taken).await, "CONFIRM");
    host.clock.put_forward(1);
    let (number, _) = world.resident(0, 100).await;
    let befallen = host.host.state().faults;
    host.faults(faults("lost"));
    let setting_back = async {
        until("it is befallen", async || host.host.state().faults > befallen).await;
        host.clock.put_forward(-1);
        host.faults(HostFaults::default());
    };
    let (answer, ()) = futures::join!(world.pay(number), setting_back);
    assert_eq!(answer, Ok("PENDING"));
    // Meanwhile it is asked again when, by the clock that nobody sets, nothing can arrive any more.
    let begun = Instant::now();
    while begun.elapsed() < host.profile.horizon * 2 {
        let answered = host.host.state().answered;
        host.host.until(|state| state.answered > answered).await;
    }
    assert_eq!(world.word(number).await, "PENDING", "by the clock on the wall it is too early");
    host.clock.put_forward(1);
    assert_eq!(world.finally(number).await, "REFUND");
    world.must_agree_with(&host, &[taken, number]).await;
}
