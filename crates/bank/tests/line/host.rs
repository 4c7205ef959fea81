//! The conversation without incident, and with each of the host's faults.

use crate::{
    dialects::reversing,
    kit::{Fixture, Now, PATIENCE, hasty},
};
use bank::{
    Bank, InquiryOutcome, NoPlace, PaymentOutcome, Placing, StatusOutcome, Unknown, host::HostFaults,
    profile::LineProfile,
};
use domain::{Clock, InvoiceNumber, Reason, Rupiah, Timestamp, record::IncidentKind};
use std::sync::atomic::Ordering::Relaxed;
use tokio::time::{Instant, timeout};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bill_is_asked_for_paid_and_asked_about_in_every_dialect() {
    for name in LineProfile::builtin_names() {
        let f = Fixture::new(name).await;
        let bill = f.bill(f.documented()).await;
        assert_eq!(bill.owner_name.expose(), "JORDAN", "{name}");
        assert_eq!(
            (bill.taxes.total(), bill.payment_code.as_str()),
            (Rupiah::new(178_500), "322020060719000"),
            "{name}"
        );
        assert_eq!((bill.vehicle_model.as_str(), bill.year_built), ("28D (AL115S/MIO)", 2010), "{name}");
        let (request, outcome) = f.pay(&bill).await;
        let PaymentOutcome::Paid(paid) = outcome else { panic!("{name}: {outcome:?}") };
        assert_eq!(
            (paid.identity.as_str(), paid.amount),
            (request.identity.as_str(), Rupiah::new(178_500)),
            "{name}"
        );
        assert_eq!(paid.receipt.trace_number, request.identity.split('-').nth(1).unwrap(), "{name}");
        assert_eq!(paid.receipt.reference_number.len(), 32, "{name}");
        assert!(f.has_taken(&request).await, "{name}");
        for _ in 0..2 {
            assert_eq!(f.bank.status(request.clone()).await, StatusOutcome::Paid(paid.clone()), "{name}");
        }
        let again = f.bank.inquire(f.documented()).await;
        let InquiryOutcome::Refused(refusal) = again else { panic!("{name}: {again:?}") };
        assert_eq!(
            (refusal.reason, refusal.bank_code.as_deref()),
            (Reason::BillAlreadyPaid, Some("0054")),
            "{name}"
        );
        timeout(PATIENCE, f.bank.close()).await.unwrap();
        assert_eq!(
            f.bank.place(Placing { invoice: InvoiceNumber::new(1), upstream_reference: None }).unwrap_err(),
            NoPlace::Down
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn test_numbers_reach_the_same_outcomes_over_the_wire() {
    let f = Fixture::new("contoh-37-80").await;
    for (scenario, reason) in [
        (110, Reason::VehicleNotFound),
        (111, Reason::NikMismatch),
        (112, Reason::VehicleBlocked),
        (113, Reason::FiveYearlyRenewal),
        (114, Reason::TooEarly),
        (115, Reason::TooLate),
        (116, Reason::CompanyOwner),
        (117, Reason::PlateColour),
        (118, Reason::OtherProvince),
        (119, Reason::BillAlreadyPaid),
        (120, Reason::CutOff),
        (203, Reason::BankRefused),
    ] {
        match f.bank.inquire(f.test_number(scenario, "0001")).await {
            InquiryOutcome::Refused(refusal) => assert_eq!(refusal.reason, reason, "{scenario}"),
            other => panic!("{scenario}: {other:?}"),
        }
    }
    let silent = f.bank.inquire(f.test_number(201, "0001")).await;
    assert!(matches!(silent, InquiryOutcome::Unknown(Unknown::TimedOut)), "{silent:?}");
    let unknown = f.bank.inquire(f.test_number(206, "0001")).await;
    assert!(
        matches!(&unknown, InquiryOutcome::Unknown(Unknown::UnknownCode(code)) if code == "7F"),
        "{unknown:?}"
    );

    for (scenario, is_paid, is_taken) in [
        (100, Some(true), true),
        (301, Some(false), false),
        (302, Some(false), false),
        (304, Some(true), true),
        (305, Some(true), true),
        (401, None, true),
        (402, None, false),
        (403, None, true),
        (408, None, false),
        (410, None, true),
        (412, None, false),
    ] {
        let bill = f.bill(f.test_number(scenario, "0002")).await;
        let (request, outcome) = f.pay(&bill).await;
        let told = match &outcome {
            PaymentOutcome::Paid(_) => Some(true),
            PaymentOutcome::Refused(_) => Some(false),
            PaymentOutcome::Unknown(_) => None,
            PaymentOutcome::NeverSent => panic!("{scenario}: never sent"),
        };
        assert_eq!(told, is_paid, "{scenario}: {outcome:?}");
        let status = f.bank.status(request.clone()).await;
        match scenario {
            412 => assert_eq!(status, StatusOutcome::PayerUnknown),
            _ if is_taken => assert!(matches!(status, StatusOutcome::Paid(_)), "{scenario}: {status:?}"),
            302 => assert_eq!(status, StatusOutcome::NotPaid),
            _ => assert_eq!(status, StatusOutcome::NotPaid, "{scenario}"),
        }
        assert_eq!(f.has_taken(&request).await, is_taken, "{scenario}");
    }
    // Another amount than was asked for is told as it came; who asked compares it.
    let bill = f.bill(f.test_number(409, "0002")).await;
    let (_, outcome) = f.pay(&bill).await;
    assert!(
        matches!(outcome, PaymentOutcome::Paid(paid) if paid.amount == bill.taxes.total() + Rupiah::new(1))
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_late_answer_settles_its_own_payment_and_a_second_one_is_counted() {
    let f = Fixture::new("contoh-37-80").await;
    let mut late = f.bank.late_answers().unwrap();
    let bill = f.bill(f.test_number(403, "0001")).await;
    let (request, outcome) = f.pay(&bill).await;
    assert_eq!(outcome, PaymentOutcome::Unknown(Unknown::TimedOut));
    let answer = timeout(PATIENCE, late.recv()).await.unwrap().unwrap();
    assert_eq!(answer.invoice, request.invoice);
    assert!(
        matches!(&answer.outcome, PaymentOutcome::Paid(paid) if paid.identity == request.identity),
        "{answer:?}"
    );

    let bill = f.bill(f.test_number(305, "0001")).await;
    let (_, outcome) = f.pay(&bill).await;
    assert!(matches!(outcome, PaymentOutcome::Paid(_)));
    f.until("the second answer is counted", |f| f.count("duplicate") == 1).await;
    assert!(late.try_recv().is_err(), "it says nothing new");
}

/// One of the rates of a host's faults.
type Rate = fn(&mut HostFaults) -> &mut f64;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_fault_leaves_the_truth_to_be_asked_for() {
    let f = Fixture::new("contoh-37-80").await;
    let all = |rate: Rate| {
        let mut faults = HostFaults::default();
        *rate(&mut faults) = 1.0;
        faults
    };
    let rates: [(&str, Rate, bool); 13] = [
        ("lost", |f| &mut f.lost, false),
        ("silent", |f| &mut f.silent, true),
        ("late", |f| &mut f.late, true),
        ("near_horizon", |f| &mut f.near_horizon, true),
        ("twice", |f| &mut f.twice, true),
        ("swapped", |f| &mut f.swapped, true),
        ("crossed", |f| &mut f.crossed, true),
        ("garbled", |f| &mut f.garbled, true),
        ("wrong_amount", |f| &mut f.wrong_amount, true),
        ("wrong_trace", |f| &mut f.wrong_trace, true),
        ("echoed", |f| &mut f.echoed, true),
        ("cut", |f| &mut f.cut, true),
        ("cut_before", |f| &mut f.cut_before, false),
    ];
    let mut from = 0;
    for (name, rate, is_taken) in rates {
        f.until("the line is up again", |f| f.bank.lines()[0].is_up).await;
        let bill = f.resident(from).await;
        from += 40;
        f.faults(all(rate));
        let (request, outcome) = f.pay(&bill).await;
        f.faults(HostFaults::default());
        match name {
            "twice" | "swapped" | "crossed" => {
                assert!(matches!(outcome, PaymentOutcome::Paid(_)), "{name}: {outcome:?}");
            }
            "wrong_amount" => {
                assert!(
                    matches!(&outcome, PaymentOutcome::Paid(paid) if paid.amount != request.amount),
                    "{name}"
                );
            }
            _ => assert!(matches!(outcome, PaymentOutcome::Unknown(_)), "{name}: {outcome:?}"),
        }
        // Beyond the horizon the truth is final.
        let done = f.host.until(|state| state.under_way == 0);
        timeout(PATIENCE, done).await.unwrap_or_else(|_| panic!("{name}: {:?}", f.host.state()));
        f.until("the line is up again", |f| f.bank.lines()[0].is_up).await;
        let status = f.bank.status(request.clone()).await;
        if is_taken {
            let is_right = matches!(&status, StatusOutcome::Paid(paid) if paid.amount == request.amount);
            assert!(is_right, "{name}: {status:?}");
        } else {
            assert_eq!(status, StatusOutcome::NotPaid, "{name}");
        }
        assert_eq!(f.has_taken(&request).await, is_taken, "{name}");
    }
    assert!(f.count("unmatched") >= 2, "the wrong trace, and the echo");
    let raised = f.desk.raised.lock().unwrap();
    assert!(raised.iter().any(|(kind, _)| *kind == IncidentKind::Unmatched), "{raised:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn garbled_answers_of_every_kind_settle_nothing_by_themselves() {
    let f = Fixture::new("contoh-37-80").await;
    for turn in 0..24 {
        f.until("the line is up", |f| f.bank.lines()[0].is_up).await;
        let bill = f.bill(f.test_number(407, &format!("{turn:04}"))).await;
        let (request, outcome) = f.pay(&bill).await;
        assert!(matches!(outcome, PaymentOutcome::Unknown(_)), "{turn}: {outcome:?}");
        let paid = f.status_until_known(&request).await;
        assert_eq!(paid.amount, request.amount, "{turn}");
    }
    assert!(f.count("garbled") > 0 && f.count("connected") > 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn corrupted_answers_are_never_taken_for_a_refusal() {
    let f = Fixture::new("contoh-37-80").await;
    let corrupted = HostFaults { corrupted: 1.0, ..HostFaults::default() };
    let (mut settled, mut number) = (0, 0);
    for turn in 0..60 {
        f.until("the line is up", |f| f.bank.lines()[0].is_up).await;
        let bill = f.resident(number).await;
        number += 40;
        f.faults(corrupted.clone());
        let (request, outcome) = f.pay(&bill).await;
        f.faults(HostFaults::default());
        match outcome {
            PaymentOutcome::Unknown(_) => {}
            // Who pays compares the amount with what was asked for. A damaged reference nobody can know.
            PaymentOutcome::Paid(_) => settled += 1,
            outcome => panic!("{turn}: {outcome:?}"),
        }
        let paid = f.status_until_known(&request).await;
        assert_eq!((paid.amount, &paid.identity), (request.amount, &request.identity), "{turn}");
    }
    assert!(settled > 0, "some damage leaves a good answer");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_advice_that_executes_pays_what_never_arrived() {
    let f = Fixture::new("contoh-38-18").await;
    let bill = f.resident(0).await;
    f.faults(HostFaults { lost: 1.0, ..HostFaults::default() });
    let (mut request, outcome) = f.pay(&bill).await;
    assert_eq!(outcome, PaymentOutcome::Unknown(Unknown::TimedOut));
    assert!(!f.has_taken(&request).await);
    f.faults(HostFaults::default());
    let late = Instant::now();
    let in_time = request.send_before.monotonic;
    request.send_before.monotonic = late;
    let unsent = f.bank.status(request.clone()).await;
    assert!(
        matches!(unsent, StatusOutcome::Unknown(_)),
        "an advice that pays is not sent too late: {unsent:?}"
    );
    assert!(!f.has_taken(&request).await);
    request.send_before.monotonic = in_time;
    assert!(matches!(f.bank.status(request.clone()).await, StatusOutcome::Paid(_)));
    assert!(f.has_taken(&request).await);
    assert!(matches!(f.bank.status(request.clone()).await, StatusOutcome::Paid(_)), "once");
    assert_eq!(f.host.payments().await.unwrap().len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reversal_undoes_a_payment_and_whatever_of_it_is_on_its_way() {
    let f = Fixture::with(hasty(LineProfile::from_toml(&reversing()).unwrap())).await;
    let bill = f.resident(0).await;
    f.faults(HostFaults { silent: 1.0, ..HostFaults::default() });
    let (request, outcome) = f.pay(&bill).await;
    assert_eq!(outcome, PaymentOutcome::Unknown(Unknown::TimedOut));
    assert!(f.has_taken(&request).await);
    f.faults(HostFaults::default());
    for _ in 0..2 {
        assert_eq!(f.bank.status(request.clone()).await, StatusOutcome::NotPaid);
        assert!(!f.has_taken(&request).await);
    }
    let (_, outcome) = f.pay(&bill).await;
    assert!(matches!(outcome, PaymentOutcome::Paid(_)), "its bill is free again");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_sent_too_late_without_a_lease_or_without_a_line() {
    let f = Fixture::new("contoh-37-80").await;
    let bill = f.resident(0).await;
    let (place, mut request) = f.begin(&bill);
    request.send_before.wall = Timestamp::from_millis(0);
    assert_eq!(f.bank.pay(place, request.clone()).await, PaymentOutcome::NeverSent);
    let (place, request) = f.begin(&bill);
    f.desk.holds_none.store(true, Relaxed);
    assert_eq!(f.bank.pay(place, request).await, PaymentOutcome::NeverSent);
    f.until("the line is given up", |f| f.host.state().signed_on == 0).await;
    let nobody = Placing { invoice: InvoiceNumber::new(1), upstream_reference: None };
    assert_eq!(f.bank.place(nobody).unwrap_err(), NoPlace::Down);
    f.desk.holds_none.store(false, Relaxed);
    f.until("the line is up", |f| f.bank.lines()[0].is_up).await;

    f.faults(HostFaults { refuses_connections: true, ..HostFaults::default() });
    let (place, request) = f.begin(&bill);
    f.host.close_connections();
    f.until("the line is down", |f| !f.bank.lines()[0].is_up).await;
    assert_eq!(
        f.bank.pay(place, request).await,
        PaymentOutcome::NeverSent,
        "it may never have been connected"
    );
    assert_eq!(f.bank.place(nobody).unwrap_err(), NoPlace::Down);
    assert!(matches!(f.bank.inquire(f.documented()).await, InquiryOutcome::NeverSent));
    f.faults(HostFaults::default());
    f.until("the line is up again", |f| f.bank.lines()[0].is_up).await;
    assert!(f.host.payments().await.unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stalled_bank_is_left_alone_and_found_again() {
    let f = Fixture::new("contoh-37-80").await;
    let bill = f.resident(0).await;
    f.faults(HostFaults { lost: 1.0, ..HostFaults::default() });
    let storm = (0..12).map(|_| f.pay(&bill));
    for (_, outcome) in futures::future::join_all(storm).await {
        assert_eq!(outcome, PaymentOutcome::Unknown(Unknown::TimedOut));
    }
    let nobody = Placing { invoice: InvoiceNumber::new(1), upstream_reference: None };
    f.until("the breaker opens", |f| matches!(f.bank.place(nobody), Err(NoPlace::Stalled))).await;
    let asked = Instant::now();
    let mut quick = 0;
    while quick < 3 {
        let outcome = f.bank.inquire(f.documented()).await;
        quick += u32::from(matches!(outcome, InquiryOutcome::NeverSent));
        assert!(asked.elapsed() < PATIENCE);
    }
    f.faults(HostFaults::default());
    let again = async {
        while !matches!(f.bank.inquire(f.documented()).await, InquiryOutcome::Presented { .. }) {
            tokio::task::yield_now().await;
        }
    };
    timeout(PATIENCE, again).await.expect("one that tries finds it");
    assert!(f.bank.place(nobody).is_ok());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_line_that_goes_silent_is_tested_and_replaced() {
    let f = Fixture::new("contoh-37-80").await;
    let connected = f.count("connected");
    f.until("an echo is answered", |f| f.count("answered") >= 3).await;
    assert_eq!(f.count("connected"), connected);
    f.faults(HostFaults { stalled: true, ..HostFaults::default() });
    f.until("the line is given up", |f| f.count("timed_out") >= 1 && !f.bank.lines()[0].is_up).await;
    f.faults(HostFaults::default());
    f.until("and replaced", |f| f.bank.lines()[0].is_up && f.count("connected") > connected).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_bank_begins_a_new_day() {
    let f = Fixture::new("contoh-37-80").await;
    let today = Now.now().date_in_jakarta();
    assert_eq!(f.bank.business_date(Now.now()), today);
    f.host.cut_over(today.next());
    f.until("the day is told", |f| f.bank.business_date(Now.now()) == today.next()).await;
    let bill = f.bill(f.documented()).await;
    let (place, _) = f.begin(&bill);
    let settlement = place.identity.split('-').nth(4).unwrap().to_owned();
    assert_eq!(settlement, today.next().date().strftime("%m%d").to_string());
}
