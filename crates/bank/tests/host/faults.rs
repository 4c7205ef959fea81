//! Each fault, as the other end of the line sees it.

use crate::kit::{ANSWER_TIMEOUT, Bank, Client};
use bank::{
    host::HostFaults,
    profile::{Meaning, Operation, Part, Value, Values},
};
use iso8583::Message;
use tokio::time::{Duration, Instant};

/// A bank whose every message meets a fault from now on, a line to it, and bills to pay.
async fn bank(faults: HostFaults, bills: usize) -> (Bank, Client, Vec<Values>) {
    let bank = Bank::speaking("contoh-37-80").await;
    let mut client = bank.signed_on().await;
    let bills = client.residents(0, bills).await;
    bank.faults(faults);
    (bank, client, bills)
}

fn only(fault: impl FnOnce(&mut HostFaults)) -> HostFaults {
    let mut faults = HostFaults::default();
    fault(&mut faults);
    faults
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn silence_before_after_and_near_the_horizon() {
    for (faults, is_taken) in [
        (only(|faults| faults.lost = 1.0), false),
        (only(|faults| faults.silent = 1.0), true),
        (only(|faults| faults.near_horizon = 1.0), true),
    ] {
        let (bank, mut client, mut bills) = bank(faults, 1).await;
        let bill = bills.remove(0);
        let payment = client.say(Operation::Payment, bill.clone()).await;
        client.hears_nothing().await;
        assert_eq!(bank.has_taken(&payment).await, is_taken);
        assert_eq!(bank.host.state().faults, 1);
        bank.faults(HostFaults::default());
        let expected = if is_taken { Meaning::Done } else { Meaning::NotPaid };
        assert_eq!(client.status(&bill, &payment).await, expected);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn late_slow_and_second_answers() {
    let (_bank, mut client, mut bills) = bank(only(|faults| faults.late = 1.0), 1).await;
    let begun = Instant::now();
    client.pay(bills.remove(0)).await;
    assert!(begun.elapsed() > ANSWER_TIMEOUT, "after it was given up");

    let delays = only(|faults| faults.delay_ms = (150, 160));
    let (_bank, mut client, mut bills) = bank(delays, 1).await;
    let begun = Instant::now();
    client.pay(bills.remove(0)).await;
    assert!(begun.elapsed() >= Duration::from_millis(150));

    let slow = only(|faults| (faults.slow, faults.slow_ms) = (1.0, 200));
    let (_bank, mut client, mut bills) = bank(slow, 1).await;
    let begun = Instant::now();
    client.pay(bills.remove(0)).await;
    assert!(begun.elapsed() >= Duration::from_millis(200));

    let (bank, mut client, mut bills) = bank(only(|faults| faults.twice = 1.0), 1).await;
    client.say(Operation::Payment, bills.remove(0)).await;
    let (one, two) = (client.hear().await.unwrap(), client.hear().await.unwrap());
    assert_eq!(one, two);
    assert_eq!(bank.payments().await.len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_change_places_or_trace_numbers() {
    for is_crossed in [false, true] {
        let faults = if is_crossed {
            only(|faults| faults.crossed = 1.0)
        } else {
            only(|faults| faults.swapped = 1.0)
        };
        let (bank, mut client, mut bills) = bank(faults, 2).await;
        let first = client.say(Operation::Payment, bills.remove(0)).await;
        bank.until("its answer waits", |state| state.is_one_held).await;
        bank.faults(HostFaults::default());
        let second = client.say(Operation::Payment, bills.remove(0)).await;
        let heard = [client.hear().await.unwrap(), client.hear().await.unwrap()];
        let traces = heard.each_ref().map(|answer| answer.get(11).unwrap());
        let references = heard.each_ref().map(|answer| answer.get(37).unwrap());
        let of = |field: u8, of: [&Message; 2]| of.map(|message| message.get(field).unwrap().to_owned());
        assert_eq!(references.map(str::to_owned), of(37, [&second, &first]), "the second comes first");
        let carried = if is_crossed { [&first, &second] } else { [&second, &first] };
        assert_eq!(traces.map(str::to_owned), of(11, carried));
    }
    // The last one waits for no other for ever.
    let (_bank, mut client, mut bills) = bank(only(|faults| faults.swapped = 1.0), 1).await;
    client.pay(bills.remove(0)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_that_are_wrong() {
    let (_bank, mut client, mut bills) = bank(only(|faults| faults.wrong_amount = 1.0), 1).await;
    let bill = bills.remove(0);
    let (_, answer) = client.pay(bill.clone()).await;
    let more = answer.values.rupiah(Value::Amount).unwrap() - bill.rupiah(Value::Amount).unwrap();
    assert_eq!(more, domain::Rupiah::new(1));

    let (_bank, mut client, mut bills) = bank(only(|faults| faults.wrong_trace = 1.0), 1).await;
    let payment = client.say(Operation::Payment, bills.remove(0)).await;
    let answer = client.hear().await.unwrap();
    assert_ne!(client.profile.match_key(&payment), client.profile.match_key(&answer));

    let (bank, mut client, mut bills) = bank(only(|faults| faults.echoed = 1.0), 1).await;
    let payment = client.say(Operation::Payment, bills.remove(0)).await;
    assert_eq!(client.hear().await.unwrap(), payment);
    assert!(bank.has_taken(&payment).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn refusals_and_unknown_codes_of_ones_choice() {
    let (bank, mut client, bills) = bank(only(|faults| faults.refused = 1.0), 8).await;
    let (payment, answer) = client.pay(bills[0].clone()).await;
    assert_eq!(answer.code, "89");
    assert!(!bank.has_taken(&payment).await);
    let codes = |codes: [&str; 2]| codes.map(str::to_owned).to_vec();
    bank.faults(HostFaults { refused: 1.0, refusal_codes: codes(["13", "81"]), ..HostFaults::default() });
    let mut heard = std::collections::BTreeSet::new();
    for bill in &bills {
        heard.insert(client.pay(bill.clone()).await.1.code);
    }
    assert_eq!(heard.into_iter().collect::<Vec<_>>(), ["13", "81"]);
    bank.faults(HostFaults { unknown_code: 1.0, ..HostFaults::default() });
    assert_eq!(client.pay(bills[0].clone()).await.1.code, "7F");
    bank.faults(HostFaults {
        unknown_code: 1.0,
        unknown_codes: codes(["ZZ", "ZZ"]),
        ..HostFaults::default()
    });
    let (payment, answer) = client.pay(bills[0].clone()).await;
    assert_eq!(answer.code, "ZZ");
    assert!(!bank.has_taken(&payment).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_day_in_the_midst_of_a_payment() {
    let (bank, mut client, mut bills) = bank(only(|faults| faults.cut_over = 1.0), 1).await;
    let today = bank.host.business_date();
    let payment = client.say(Operation::Payment, bills.remove(0)).await;
    let message = client.hear().await.unwrap();
    assert_eq!(
        client.profile.operation_of(&message),
        Some((Operation::CutOver, Part::Request { is_repeat: false }))
    );
    let answer = client.hear().await.unwrap();
    assert_eq!(client.read(Operation::Payment, &payment, &answer).code, "00");
    assert_eq!(bank.host.business_date(), today.next());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn garbled_answers() {
    let (bank, mut client, bills) = bank(HostFaults::default(), 24).await;
    for bill in bills {
        bank.faults(only(|faults| faults.garbled = 1.0));
        let payment = client.say(Operation::Payment, bill).await;
        assert!(bank.takes(&payment).await);
        let heard = client.bytes().await;
        let read = heard.map(|bytes| client.profile.spec.decode(&bytes));
        assert!(read.as_ref().is_none_or(Result::is_err), "{read:?}");
        // Behind some damage, nothing on the connection can be read any more.
        bank.faults(HostFaults::default());
        client = bank.signed_on().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_that_close_in_the_answer_before_it_and_in_the_request() {
    for (faults, is_taken) in [
        (only(|faults| faults.cut = 1.0), true),
        (only(|faults| faults.cut_before = 1.0), false),
        (only(|faults| faults.cut_reading = 1.0), false),
    ] {
        let (bank, _client, bills) = bank(HostFaults::default(), 6).await;
        for bill in bills {
            let mut client = bank.signed_on().await;
            bank.faults(faults.clone());
            let payment = client.say(Operation::Payment, bill).await;
            assert_eq!(client.hear().await, None, "{faults:?}");
            assert_eq!(bank.has_taken(&payment).await, is_taken, "{faults:?}");
            bank.faults(HostFaults::default());
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_may_close_before_a_whole_request_was_read() {
    let (bank, mut client, mut bills) = bank(only(|faults| faults.cut_reading = 1.0), 1).await;
    let payment = client.profile.compose(Operation::Payment, &client.fresh(bills.remove(0)), false).unwrap();
    let mut framed = client.framed(&payment);
    // Beyond any byte at which it closes, and no whole frame.
    framed[..2].copy_from_slice(&[0x0F, 0xFF]);
    framed.resize(500, b'0');
    client.send_bytes(&framed).await;
    assert_eq!(client.hear().await, None);
    assert_eq!(bank.host.state().faults, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stalled_bank_reads_and_answers_nothing_and_forgets_what_waited_for_long() {
    let (bank, mut client, mut bills) = bank(HostFaults::default(), 2).await;
    let stalled = || only(|faults| faults.stalled = true);
    let received = bank.host.state().received;
    bank.faults(stalled());
    let payment = client.say(Operation::Payment, bills.remove(0)).await;
    assert!(client.is_silent().await);
    assert_eq!(bank.host.state().received, received, "it reads nothing");
    bank.faults(HostFaults::default());
    let answer = client.hear().await.unwrap();
    assert_eq!(
        client.read(Operation::Payment, &payment, &answer).code,
        "00",
        "a short stall is a slow answer"
    );

    bank.faults(stalled());
    let payment = client.say(Operation::Payment, bills.remove(0)).await;
    assert!(client.is_silent().await);
    bank.clock.put_forward(ANSWER_TIMEOUT);
    bank.faults(HostFaults::default());
    assert_eq!(client.hear().await, None, "the connection ends with a long one");
    bank.until("nobody is connected", |state| state.connections == 0).await;
    assert_eq!(bank.host.state().received, received + 1);
    assert!(!bank.has_taken(&payment).await, "and what waited in it is never carried out");

    // What was read before the stall is answered behind it.
    let mut client = bank.signed_on().await;
    let bill = client.resident(100).await;
    bank.faults(only(|faults| faults.delay_ms = (100, 100)));
    let payment = client.say(Operation::Payment, bill).await;
    bank.until("it is read", |state| state.under_way == 1).await;
    let answered = bank.host.state().answered;
    bank.faults(stalled());
    bank.until("it is answered", |state| state.answered == answered + 1).await;
    assert!(bank.has_taken(&payment).await);
    assert!(client.is_silent().await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_are_refused_and_closed_on_demand() {
    let (bank, mut client, _) = bank(only(|faults| faults.refuses_connections = true), 0).await;
    let mut refused = bank.connect().await;
    assert_eq!(refused.hear().await, None);
    let echo = client.ask(Operation::Echo, Values::new()).await;
    assert_eq!(echo.code, "00", "those that stand, stand");
    bank.host.close_connections();
    assert_eq!(client.hear().await, None);
    assert_eq!(bank.host.state().signed_on, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_goes_wrong_follows_from_the_seed() {
    let mut told = Vec::new();
    for seed in [1, 1, 2] {
        let bank = Bank::with(crate::kit::text("contoh-37-80"), seed).await;
        let mut client = bank.signed_on().await;
        let bills = client.residents(0, 40).await;
        bank.faults(HostFaults {
            unknown_code: 0.3,
            refused: 0.3,
            wrong_amount: 0.2,
            refusal_codes: vec!["13".to_owned(), "89".to_owned()],
            ..HostFaults::default()
        });
        let mut course = Vec::new();
        for bill in bills {
            let (_, answer) = client.pay(bill).await;
            course.push((answer.code, answer.values.get(Value::Amount).map(str::to_owned)));
        }
        told.push(course);
    }
    assert_eq!(told[0], told[1]);
    assert_ne!(told[0], told[2]);
}

#[test]
fn faults_that_make_no_sense() {
    for (fault, expected) in [
        (only(|faults| faults.lost = 1.5), "fractions"),
        (only(|faults| (faults.lost, faults.cut) = (0.6, 0.6)), "at most 1"),
        (only(|faults| faults.cut_reading = -0.1), "fractions"),
        (only(|faults| faults.slow = f64::NAN), "fractions"),
        (only(|faults| faults.delay_ms = (2, 1)), "from <= to"),
        (only(|faults| faults.refusal_codes = vec!["5".to_owned()]), "two letters or digits"),
    ] {
        assert!(fault.check().unwrap_err().contains(expected), "{fault:?}");
    }
}
