//! What becomes of payments and of questions about them, without faults.

use crate::dialects::reversing;
use crate::kit::{Bank, HORIZON, documented, test_number, text};
use bank::{
    host::HostFaults,
    profile::{LineProfile, Meaning, Operation, Value},
};
use std::time::Duration;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_payment_is_taken_once_however_often_it_comes() {
    for name in LineProfile::builtin_names() {
        let bank = Bank::speaking(name).await;
        let mut client = bank.signed_on().await;
        let bill = client.bill(documented()).await;
        let (payment, paid) = client.pay(bill.clone()).await;
        assert_eq!(client.meaning(Operation::Payment, &paid), Meaning::Done, "{name}");
        assert_eq!(paid.values.get(Value::Amount), Some("178500"), "{name}");
        for _ in 0..3 {
            client.send(&payment).await;
            let again = client.hear().await.unwrap();
            assert_eq!(client.read(Operation::Payment, &payment, &again), paid, "{name}: the same answer");
        }
        assert_eq!(client.status(&bill, &payment).await, Meaning::Done, "{name}");
        let (_, refused) = client.pay(bill.clone()).await;
        assert_eq!(refused.code, "54", "{name}: of another number it is paid");
        let payments = bank.payments().await;
        assert_eq!(payments.len(), 1, "{name}");
        let sent = client.profile.read_request(Operation::Payment, &payment).unwrap();
        assert_eq!(LineProfile::identity(&sent), Some(payments[0].identity.clone()), "{name}");
        let reference: i64 = sent.get(Value::Reference).unwrap().parse().unwrap();
        let invoice = if name == "contoh-38-18" { 0 } else { reference };
        assert_eq!(payments[0].invoice.get(), invoice, "{name}: known where it is the reference");

        let bank = bank.again().await;
        let mut client = bank.signed_on().await;
        client.send(&payment).await;
        let again = client.hear().await.unwrap();
        assert_eq!(
            client.read(Operation::Payment, &payment, &again),
            paid,
            "{name}: the bank's memory is its file"
        );
        assert_eq!(client.status(&bill, &payment).await, Meaning::Done, "{name}");
        assert_eq!(bank.payments().await.len(), 1, "{name}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_taken_was_taken_whatever_the_bill_is_by_now() {
    let bank = Bank::speaking("contoh-38-18").await;
    let mut client = bank.signed_on().await;
    let bill = client.resident(0).await;
    let (payment, paid) = client.pay(bill.clone()).await;
    // Another year's bill has another code, another amount, or is not to be paid yet.
    bank.clock.put_forward(Duration::from_hours(24 * 300));
    client.send(&payment).await;
    let again = client.hear().await.unwrap();
    assert_eq!(client.read(Operation::Payment, &payment, &again), paid);
    let (operation, question) = client.question(&bill, &payment);
    client.send(&question).await;
    let answer = client.hear().await.unwrap();
    assert_eq!(client.read(operation, &question, &answer).code, "00", "to an advice that executes, too");
    assert_eq!(bank.payments().await.len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_payment_that_was_longer_on_its_way_than_the_horizon_is_dead() {
    let bank = Bank::speaking("contoh-37-80").await;
    let mut client = bank.signed_on().await;
    let bill = client.resident(0).await;
    let values = client.fresh(bill.clone());
    let payment = client.profile.compose(Operation::Payment, &values, false).unwrap();
    bank.clock.put_forward(HORIZON + Duration::from_secs(3));
    client.send(&payment).await;
    client.hears_nothing().await;
    assert!(!bank.has_taken(&payment).await);
    assert_eq!(client.status(&bill, &payment).await, Meaning::NotPaid);
    let (payment, _) = client.pay(bill).await;
    assert!(bank.has_taken(&payment).await, "a fresh one is taken");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_refused_stays_refused_when_an_advice_comes_that_could_pay_it() {
    let bank = Bank::speaking("contoh-38-18").await;
    let mut client = bank.signed_on().await;
    let bill = client.resident(0).await;
    bank.faults(HostFaults { refused: 1.0, ..HostFaults::default() });
    let (refused, answer) = client.pay(bill.clone()).await;
    assert_eq!(answer.code, "89");
    bank.faults(HostFaults { lost: 1.0, ..HostFaults::default() });
    let lost = client.say(Operation::Payment, bill.clone()).await;
    client.hears_nothing().await;
    bank.faults(HostFaults::default());
    assert_eq!(client.status(&bill, &refused).await, Meaning::NotPaid);
    assert!(!bank.has_taken(&refused).await);
    assert_eq!(
        client.status(&bill, &lost).await,
        Meaning::Done,
        "what was lost is carried out by its advice"
    );
    assert!(bank.has_taken(&lost).await);

    let bill = client.bill(test_number(301, "0001")).await;
    let (payment, _) = client.pay(bill.clone()).await;
    assert_eq!(client.status(&bill, &payment).await, Meaning::NotPaid);
    let bill = client.bill(test_number(402, "0001")).await;
    let payment = client.say(Operation::Payment, bill.clone()).await;
    assert_eq!(client.status(&bill, &payment).await, Meaning::Done);
    assert!(bank.has_taken(&payment).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reversal_undoes_what_was_paid_and_bars_what_comes_later() {
    let bank = Bank::with(&reversing(), 7).await;
    let mut client = bank.signed_on().await;
    let bill = client.resident(0).await;
    let (payment, _) = client.pay(bill.clone()).await;
    assert!(bank.has_taken(&payment).await);
    for _ in 0..2 {
        assert_eq!(client.status(&bill, &payment).await, Meaning::NotPaid);
        assert!(!bank.has_taken(&payment).await);
    }
    let payments = bank.payments().await;
    assert!(payments.len() == 1 && payments[0].generation < 0, "it is marked, and stays: {payments:?}");
    client.send(&payment).await;
    client.hears_nothing().await;

    let later = client.profile.compose(Operation::Payment, &client.fresh(bill.clone()), false).unwrap();
    assert_eq!(client.status(&bill, &later).await, Meaning::NotPaid, "before it comes");
    client.send(&later).await;
    client.hears_nothing().await;
    assert!(!bank.has_taken(&later).await);
    let (payment, _) = client.pay(bill).await;
    assert!(bank.has_taken(&payment).await, "the bill is free");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dialect_whose_payments_name_only_the_bill_can_be_tried_as_well() {
    let text =
        text("contoh-38-18").replace("advice_executes = true", "advice_executes = true # by the bill alone");
    let (before, after) = text.split_at(text.find("[message.payment]").unwrap());
    let kept = |line: &&str| {
        !["\"48.nik\"", "\"48.chassis\"", "\"63\" ="].iter().any(|field| line.starts_with(field))
    };
    let after: Vec<&str> = after.lines().filter(kept).collect();
    let spec = r#"
[spec]
name = "by-bill"
extends = "dialect-38-18"
[spec.field.48]
name = "Additional data"
kind = "ans"
lll = 999
[[spec.field.48.layout]]
when = { fields = { "3" = "380000" } }
columns = [
    { name = "nik", kind = "n", length = 16, pad = "spaces" },
    { name = "chassis", kind = "an", length = 25, pad = "spaces" },
    { name = "payment_code", kind = "n", length = 20, pad = "spaces", optional = true },
    { name = "owner_name", kind = "ans", length = 40, pad = "spaces", optional = true },
    { name = "owner_address", kind = "ans", length = 100, pad = "spaces", optional = true },
    { name = "license_plate", kind = "ans", length = 12, pad = "spaces", optional = true },
    { name = "brand", kind = "ans", length = 20, pad = "spaces", optional = true },
    { name = "model", kind = "ans", length = 30, pad = "spaces", optional = true },
    { name = "color", kind = "ans", length = 20, pad = "spaces", optional = true },
    { name = "year_built", kind = "n", length = 4, optional = true },
    { name = "pkb", kind = "n", length = 12, pad = "zeros", optional = true },
    { name = "opsen_pkb", kind = "n", length = 12, pad = "zeros", optional = true },
    { name = "swdkllj", kind = "n", length = 12, pad = "zeros", optional = true },
    { name = "bbn", kind = "n", length = 12, pad = "zeros", optional = true },
    { name = "pkb_penalty", kind = "n", length = 12, pad = "zeros", optional = true },
    { name = "opsen_pkb_penalty", kind = "n", length = 12, pad = "zeros", optional = true },
    { name = "swdkllj_penalty", kind = "n", length = 12, pad = "zeros", optional = true },
    { name = "bbn_penalty", kind = "n", length = 12, pad = "zeros", optional = true },
    { name = "valid_until", kind = "n", length = 14, pad = "spaces", optional = true },
]
[[spec.field.48.layout]]
when = { fields = { "3" = "180000" } }
columns = [
    { name = "payment_code", kind = "n", length = 20, pad = "spaces" },
    { name = "bank_reference", kind = "an", length = 32, pad = "spaces", optional = true },
]
"#;
    let payments = after.join("\n").replace(", 48, 63]", ", 48]").replace(", 49, 48, 63]", ", 49, 48]");
    let dialect = format!("{}{payments}\n{spec}", before.replace("dialect = \"dialect-38-18\"\n", ""));
    let bank = Bank::with(&dialect, 7).await;
    let mut client = bank.signed_on().await;
    let bill = client.resident(0).await;
    bank.faults(HostFaults { lost: 1.0, ..HostFaults::default() });
    let lost = client.say(Operation::Payment, bill.clone()).await;
    client.hears_nothing().await;
    bank.faults(HostFaults::default());
    assert_eq!(client.status(&bill, &lost).await, Meaning::Done);
    assert!(bank.has_taken(&lost).await);
    let other = client.resident(40).await;
    let (payment, _) = client.pay(other.clone()).await;
    assert!(bank.has_taken(&payment).await);

    // One that has forgotten what it presented refuses, and knows what it took.
    let bank = bank.again().await;
    let mut client = bank.signed_on().await;
    assert_eq!(client.status(&other, &payment).await, Meaning::Done);
    let (_, refused) = client.pay(bill.with(Value::PaymentCode, "1000000099322026")).await;
    assert!(matches!(client.meaning(Operation::Payment, &refused), Meaning::Refused(_)), "{}", refused.code);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn test_numbers_answer_questions_in_every_dialect() {
    for name in LineProfile::builtin_names() {
        let bank = Bank::speaking(name).await;
        let mut client = bank.signed_on().await;
        for (scenario, expected) in [(411, Meaning::PaidByAnother), (412, Meaning::PayerUnknown)] {
            let bill = client.bill(test_number(scenario, "0001")).await;
            let payment = client.say(Operation::Payment, bill.clone()).await;
            assert_eq!(client.status(&bill, &payment).await, expected, "{name} {scenario}");
        }
        let bill = client.bill(test_number(415, "0001")).await;
        let payment = client.say(Operation::Payment, bill.clone()).await;
        assert_eq!(client.status(&bill, &payment).await, Meaning::UnderWay, "{name}");
        bank.settled().await;
        assert_eq!(client.status(&bill, &payment).await, Meaning::Done, "{name}: taken near the horizon");
        let bill = client.bill(test_number(413, "0001")).await;
        let payment = client.say(Operation::Payment, bill.clone()).await;
        let (_, question) = client.question(&bill, &payment);
        client.send(&question).await;
        client.hears_nothing().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_question_that_cannot_be_read_proves_nothing() {
    let bank = Bank::speaking("contoh-37-80").await;
    let mut client = bank.signed_on().await;
    let bill = client.resident(0).await;
    let (payment, _) = client.pay(bill.clone()).await;
    let (operation, question) = client.question(&bill, &payment);
    for (place, text) in [("product", "SMS99"), ("payment_code", "")] {
        let mut broken = question.clone();
        broken.set(iso8583::Path::part(48, place), text);
        client.send(&broken).await;
        let answer = client.hear().await.unwrap();
        let answer = client.read(operation, &broken, &answer);
        assert_eq!(client.meaning(operation, &answer), Meaning::Unknown, "{place}");
    }
    assert_eq!(client.status(&bill, &payment).await, Meaning::Done);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bill_whose_texts_are_too_long_for_the_dialect_is_presented_all_the_same() {
    for name in LineProfile::builtin_names() {
        let bank = Bank::speaking(name).await;
        let mut client = bank.signed_on().await;
        // Plates of every province, the longest included.
        assert_eq!(client.residents(0, 40).await.len(), 40, "{name}");
        assert_eq!(bank.host.state().unreadable, 0, "{name}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_a_reset_bills_can_be_paid_again_and_old_payments_stay_known() {
    let bank = Bank::speaking("contoh-37-80").await;
    let mut client = bank.signed_on().await;
    let bill = client.bill(documented()).await;
    let (payment, _) = client.pay(bill.clone()).await;
    assert_eq!(client.ask(Operation::Inquiry, documented()).await.code, "54");
    assert_eq!(bank.host.reset().await.unwrap(), 2);
    assert_eq!(client.bill(documented()).await, bill);
    assert_eq!(client.status(&bill, &payment).await, Meaning::Done);
    let (again, _) = client.pay(bill).await;
    assert!(bank.has_taken(&again).await);
    assert_eq!(bank.payments().await.len(), 2);
}
