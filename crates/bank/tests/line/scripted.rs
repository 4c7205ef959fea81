//! What a line makes of a bank that misbehaves, each thing by itself.

use crate::peer::{AMOUNT, Connection, Gateway, HASTY, NO_ECHO, PATIENT, Peer, pass, profile, soon};
use bank::{
    Bank, InquiryOutcome, NoPlace, PaymentOutcome, StatusOutcome, Unknown,
    iso8583_line::{LineSettings, OneLine},
    profile::{Operation, Value, Values},
};
use domain::{Reason, Rupiah};
use std::{collections::BTreeSet, sync::atomic::Ordering::Relaxed, time::Duration};
use tokio::time::Instant;

fn is_paid(outcome: &PaymentOutcome, amount: Rupiah) -> bool {
    matches!(outcome, PaymentOutcome::Paid(paid) if paid.amount == amount)
}

#[tokio::test]
async fn nobody_listens_and_then_somebody_does() {
    let address = Peer::open().await.address();
    let gateway = Gateway::to(&[address]);
    gateway.until("it is said why", |gateway| gateway.bank.lines()[0].last_error.is_some()).await;
    assert_eq!(gateway.place().unwrap_err(), NoPlace::Down);
    assert!(matches!(gateway.bank.inquire(gateway.inquiry()).await, InquiryOutcome::NeverSent));
    let peer = Peer::open_at(address).await;
    let _connection = peer.signed_on().await;
    gateway.until_up(0).await;
    assert!(gateway.place().is_ok());
}

#[tokio::test]
async fn the_next_address_is_tried() {
    let nobody = Peer::open().await.address();
    let peer = Peer::open().await;
    let addresses = vec![nobody.to_string(), peer.address().to_string()];
    let line = OneLine { terminal: "ESAM0001".to_owned(), addresses, tls: None };
    let settings =
        LineSettings { profile: String::new(), in_flight_max: 10, lines_held: 1, line: vec![line] };
    let gateway = Gateway::configured(profile(PATIENT, NO_ECHO), settings);
    let _connection = peer.signed_on().await;
    gateway.until_up(0).await;
}

#[tokio::test]
async fn a_bank_that_does_not_sign_on_is_no_line() {
    let peer = Peer::open().await;
    let gateway = Gateway::with(profile(HASTY, NO_ECHO), &[peer.address()], None);
    let mut silent = peer.accept().await;
    silent.expect(Operation::SignOn).await;
    assert_eq!(gateway.place().unwrap_err(), NoPlace::Down);
    assert!(silent.ends().await, "it is given up");
    let mut refusing = peer.accept().await;
    let request = refusing.expect(Operation::SignOn).await;
    let answer = refusing.answer(Operation::SignOn, &request, "05");
    refusing.send(&answer).await;
    assert!(refusing.ends().await);
    gateway
        .until("it is said why", |gateway| {
            let error = gateway.bank.lines()[0].last_error.clone();
            error.is_some_and(|error| error.ends_with("the sign-on failed: the bank answers with code 05"))
        })
        .await;
    assert_eq!(gateway.place().unwrap_err(), NoPlace::Down);
}

#[tokio::test]
async fn a_connection_that_breaks_at_sign_on_is_replaced_without_waiting_for_an_answer() {
    let peer = Peer::open().await;
    let gateway = Gateway::to(&[peer.address()]);
    let mut broken = peer.accept().await;
    broken.expect(Operation::SignOn).await;
    let began = Instant::now();
    drop(broken);
    let _connection = peer.signed_on().await;
    assert!(began.elapsed() < PATIENT, "{:?}", began.elapsed());
    gateway.until_up(0).await;
}

#[tokio::test]
async fn what_is_in_flight_ends_with_its_connection() {
    let (gateway, _peer, mut connection) = Gateway::on_line().await;
    let (_, paying) = gateway.pay();
    connection.expect(Operation::Payment).await;
    let began = Instant::now();
    drop(connection);
    assert_eq!(paying.await, PaymentOutcome::Unknown(Unknown::ConnectionCut));
    assert!(began.elapsed() < PATIENT, "{:?}", began.elapsed());
}

#[tokio::test]
async fn answers_in_another_order_find_their_requests() {
    let (gateway, _peer, mut connection) = Gateway::on_line().await;
    let (_, one) = gateway.pay();
    let one_request = connection.expect(Operation::Payment).await;
    let (_, other) = gateway.pay();
    let other_request = connection.expect(Operation::Payment).await;
    let answer = connection.answer(Operation::Payment, &other_request, "54");
    connection.send(&answer).await;
    let answer = connection.paid(Operation::Payment, &one_request, AMOUNT);
    connection.send(&answer).await;
    assert!(is_paid(&one.await, AMOUNT));
    let PaymentOutcome::Refused(refusal) = other.await else { panic!("refused") };
    assert_eq!((refusal.reason, refusal.bank_code.as_deref()), (Reason::BillAlreadyPaid, Some("0054")));
}

#[tokio::test]
async fn a_late_answer_is_its_own_payments_on_the_next_connection_too() {
    let (gateway, peer, mut connection) = Gateway::on_hasty_line().await;
    let mut late = gateway.bank.late_answers().unwrap();
    let (first, paying) = gateway.pay();
    let first_request = connection.expect(Operation::Payment).await;
    let (second, cut) = gateway.pay();
    let second_request = connection.expect(Operation::Payment).await;
    assert_eq!(paying.await, PaymentOutcome::Unknown(Unknown::TimedOut));
    drop(connection);
    assert!(matches!(cut.await, PaymentOutcome::Unknown(_)));

    let mut connection = peer.signed_on().await;
    let answer = connection.answer(Operation::Payment, &second_request, "54");
    connection.send(&answer).await;
    let answer = connection.paid(Operation::Payment, &first_request, AMOUNT);
    for _ in 0..3 {
        connection.send(&answer).await;
    }
    let told = soon("a late answer", late.recv()).await.unwrap();
    assert_eq!(told.invoice, second.invoice);
    assert!(matches!(told.outcome, PaymentOutcome::Refused(_)), "{told:?}");
    let told = soon("a late answer", late.recv()).await.unwrap();
    assert_eq!(told.invoice, first.invoice);
    assert!(is_paid(&told.outcome, AMOUNT), "{told:?}");
    gateway.until("the others are counted", |gateway| gateway.count("duplicate") == 2).await;
    assert!(late.try_recv().is_err(), "they say nothing new");
    let contradiction = connection.answer(Operation::Payment, &first_request, "54");
    connection.send(&contradiction).await;
    let told = soon("a contradiction", late.recv()).await.unwrap();
    assert_eq!((told.invoice, told.contradicts), (first.invoice, true));
    assert!(matches!(told.outcome, PaymentOutcome::Refused(_)), "{told:?}");
}

#[tokio::test]
async fn an_answer_of_an_earlier_life_is_told_with_its_invoice() {
    let (gateway, peer, mut connection) = Gateway::on_line().await;
    let (request, _paying) = gateway.pay();
    let message = connection.expect(Operation::Payment).await;
    let answer = connection.paid(Operation::Payment, &message, AMOUNT);
    drop((gateway, connection));
    let gateway = Gateway::to(&[peer.address()]);
    let mut late = gateway.bank.late_answers().unwrap();
    let mut connection = peer.signed_on().await;
    connection.send(&answer).await;
    let told = soon("a late answer", late.recv()).await.unwrap();
    assert_eq!(told.invoice, request.invoice);
    assert!(
        matches!(&told.outcome, PaymentOutcome::Paid(paid) if paid.identity == request.identity),
        "{told:?}"
    );
}

/// The answer is the whole answer, or none.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_that_ends_at_any_byte_leaves_the_payment_unknown() {
    let (gateway, _peer, mut connection) = Gateway::on_line().await;
    let (_, paying) = gateway.pay();
    let request = connection.expect(Operation::Payment).await;
    let answer = connection.paid(Operation::Payment, &request, AMOUNT);
    let length = connection.framed(&connection.bytes(&answer)).len();
    connection.send(&answer).await;
    assert!(is_paid(&paying.await, AMOUNT));
    let cut_at = async |at: usize| {
        let (gateway, _peer, mut connection) = Gateway::on_line().await;
        let (_, paying) = gateway.pay();
        let request = connection.expect(Operation::Payment).await;
        let answer = connection.paid(Operation::Payment, &request, AMOUNT);
        let framed = connection.framed(&connection.bytes(&answer));
        connection.send_bytes(&framed[..at]).await;
        drop(connection);
        assert_eq!(paying.await, PaymentOutcome::Unknown(Unknown::ConnectionCut), "at byte {at}");
    };
    for from in (0..length).step_by(8) {
        futures::future::join_all((from..length.min(from + 8)).map(cut_at)).await;
    }
}

/// One byte of an answer becomes another, each in turn: whatever is believed of it is what was said.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn damage_to_any_byte_never_settles_a_payment_wrongly() {
    for damage in [|byte: u8| byte ^ 0x01, |_: u8| b'x', |_: u8| b'0', |_: u8| 0xFF] {
        let (gateway, _peer, mut connection) = Gateway::on_line().await;
        let mut at = 0;
        let mut payings = Vec::new();
        loop {
            let (payment, paying) = gateway.pay();
            let request = connection.payment().await;
            let answer = connection.paid(Operation::Payment, &request, AMOUNT);
            let mut bytes = connection.bytes(&answer);
            let Some(byte) = bytes.get_mut(at) else { break };
            let is_same = damage(*byte) == *byte;
            *byte = damage(*byte);
            let framed = connection.framed(&bytes);
            connection.send_bytes(&framed).await;
            payings.push((at, is_same, payment, paying));
            at += 1;
        }
        assert_eq!(gateway.count("connected"), 1, "the frames were whole");
        // All that was said is heard before the end; who has heard nothing by then will not.
        drop(connection);
        for (at, is_same, payment, paying) in payings {
            match paying.await {
                // Whoever asked compares amount and identity; the bank's own number is whatever it says.
                PaymentOutcome::Paid(paid) => {
                    assert_eq!(paid.identity, payment.identity, "byte {at}");
                    let is_whole = paid.receipt.reference_number == "BJB0000000001" && paid.amount == AMOUNT;
                    let is_told = paid.amount != AMOUNT || paid.receipt.reference_number != "BJB0000000001";
                    assert!(if is_same { is_whole } else { is_told }, "byte {at}: {paid:?}");
                }
                PaymentOutcome::Unknown(_) => assert!(!is_same, "byte {at}"),
                outcome => panic!("byte {at}: {outcome:?}"),
            }
        }
        assert!(gateway.count("garbled") > 0);
        let incidents = gateway.raised().len();
        assert!(incidents <= 4, "incidents without an invoice are told once in a while: {incidents}");
    }
}

#[tokio::test]
async fn a_garbled_answer_is_told_to_whoever_waits_for_it() {
    let (gateway, _peer, mut connection) = Gateway::on_line().await;
    let (_, paying) = gateway.pay();
    let request = connection.expect(Operation::Payment).await;
    let answer = connection.paid(Operation::Payment, &request, AMOUNT);
    let mut bytes = connection.bytes(&answer);
    // Something behind the last field.
    bytes.extend_from_slice(b"00");
    let framed = connection.framed(&bytes);
    let began = Instant::now();
    connection.send_bytes(&framed).await;
    let outcome = paying.await;
    assert!(began.elapsed() < PATIENT);
    let PaymentOutcome::Unknown(Unknown::Garbled(what)) = outcome else { panic!("{outcome:?}") };
    assert!(what.contains("2 bytes behind the last field"), "{what}");
    assert!(gateway.raised().is_empty(), "whoever waited raises it, with the invoice");
    assert!(gateway.bank.lines()[0].is_up);
}

#[tokio::test]
async fn frames_that_cannot_be_believed_end_the_connection() {
    let (gateway, peer, mut connection) = Gateway::on_line().await;
    for damage in [&[0, 0][..], &[0xFF, 0xFF], &[0x10, 0x01]] {
        let (_, paying) = gateway.pay();
        connection.expect(Operation::Payment).await;
        connection.send_bytes(damage).await;
        assert_eq!(paying.await, PaymentOutcome::Unknown(Unknown::ConnectionCut), "{damage:?}");
        connection = peer.signed_on().await;
        gateway.until_up(0).await;
    }
    assert_eq!(gateway.count("garbled"), 3);
    assert!(gateway.raised().iter().any(|(kind, _)| *kind == "garbled"), "{:?}", gateway.raised());
}

#[tokio::test]
async fn what_contradicts_its_request_settles_nothing() {
    let (gateway, _peer, mut connection) = Gateway::on_line().await;
    for (field, text) in [(37, "999999999999"), (32, "999"), (3, "370000"), (49, "840"), (15, "0101")] {
        let (_, paying) = gateway.pay();
        let request = connection.expect(Operation::Payment).await;
        let mut answer = connection.paid(Operation::Payment, &request, AMOUNT);
        answer.set(field, text);
        connection.send(&answer).await;
        let outcome = paying.await;
        let PaymentOutcome::Unknown(Unknown::Garbled(what)) = &outcome else {
            panic!("{field}: {outcome:?}")
        };
        assert!(what.contains(&field.to_string()), "{what}");
    }
    let (_, paying) = gateway.pay();
    let request = connection.expect(Operation::Payment).await;
    let mut answer = connection.paid(Operation::Payment, &request, AMOUNT);
    answer.set(iso8583::Path::part(48, "payment_code"), "322020060719999");
    connection.send(&answer).await;
    assert!(matches!(paying.await, PaymentOutcome::Unknown(Unknown::Garbled(_))), "another bill's answer");

    let (request, paying) = gateway.pay();
    let message = connection.expect(Operation::Payment).await;
    let mut answer = connection.paid(Operation::Payment, &message, AMOUNT);
    answer.set(39, "40");
    connection.send(&answer).await;
    let outcome = paying.await;
    let PaymentOutcome::Unknown(Unknown::Garbled(what)) = &outcome else { panic!("{outcome:?}") };
    assert!(what.contains("code 40") && what.contains("bank_reference"), "{what}");
    let asking = gateway.ask(&request);
    let message = connection.expect(Operation::Advice).await;
    let mut answer = connection.paid(Operation::Advice, &message, AMOUNT);
    answer.set(39, "48");
    connection.send(&answer).await;
    let outcome = asking.await.unwrap();
    assert!(matches!(outcome, StatusOutcome::Unknown(Unknown::Garbled(_))), "{outcome:?}");

    let (request, paying) = gateway.pay();
    let message = connection.expect(Operation::Payment).await;
    let answer = connection.paid(Operation::Payment, &message, AMOUNT + Rupiah::new(1));
    connection.send(&answer).await;
    let PaymentOutcome::Paid(paid) = paying.await else { panic!("told as it came") };
    assert_eq!((paid.amount, paid.identity), (AMOUNT + Rupiah::new(1), request.identity));
}

#[tokio::test]
async fn what_answers_nothing_is_counted_and_told() {
    let (gateway, _peer, mut connection) = Gateway::on_hasty_line().await;
    let mut late = gateway.bank.late_answers().unwrap();
    let (first, paying) = gateway.pay();
    let request = connection.expect(Operation::Payment).await;
    // Our own request, coming back.
    connection.send(&request).await;
    gateway.until("it is counted", |gateway| gateway.count("unmatched") == 1).await;
    assert_eq!(gateway.raised()[0].1, "line ESAM0001: a 0200 came that is no answer");
    // A trace number that nobody sent: told for the engine to compare, not applied.
    let mut answer = connection.paid(Operation::Payment, &request, AMOUNT);
    answer.set(11, "999999");
    connection.send(&answer).await;
    let told = soon("it is told", late.recv()).await.unwrap();
    assert_eq!(told.invoice, first.invoice);
    assert!(
        matches!(&told.outcome, PaymentOutcome::Paid(paid) if paid.identity != first.identity),
        "{told:?}"
    );
    assert_eq!(paying.await, PaymentOutcome::Unknown(Unknown::TimedOut));
    // A refusal of nothing.
    let mut answer = connection.answer(Operation::Payment, &request, "54");
    answer.set(11, "999999");
    connection.send(&answer).await;
    gateway.until("it is counted", |gateway| gateway.count("unmatched") == 3).await;
    assert!(late.try_recv().is_err());
    // An answer of no known kind to a request that waits is that request's, and no good one.
    let (_, paying) = gateway.pay();
    let request = connection.expect(Operation::Payment).await;
    let mut answer = connection.paid(Operation::Payment, &request, AMOUNT);
    answer.set(3, "000000");
    connection.send(&answer).await;
    assert!(matches!(paying.await, PaymentOutcome::Unknown(Unknown::Garbled(_))));
}

#[tokio::test]
async fn codes_that_nobody_knows_are_unknown() {
    let (gateway, _peer, mut connection) = Gateway::on_line().await;
    let (_, paying) = gateway.pay();
    let request = connection.expect(Operation::Payment).await;
    let answer = connection.answer(Operation::Payment, &request, "7F");
    connection.send(&answer).await;
    assert_eq!(paying.await, PaymentOutcome::Unknown(Unknown::UnknownCode("7F".to_owned())));
    let inquiring = tokio::spawn({
        let (bank, inquiry) = (std::sync::Arc::clone(&gateway.bank), gateway.inquiry());
        async move { bank.inquire(inquiry).await }
    });
    let request = connection.expect(Operation::Inquiry).await;
    let answer = connection.answer(Operation::Inquiry, &request, "7F");
    connection.send(&answer).await;
    let outcome = inquiring.await.unwrap();
    assert!(matches!(outcome, InquiryOutcome::Unknown(Unknown::UnknownCode(_))), "{outcome:?}");
}

#[tokio::test]
async fn a_question_is_marked_as_a_repeat_once_one_was_sent() {
    let (gateway, _peer, mut connection) = Gateway::on_hasty_line().await;
    let (mut request, paying) = gateway.pay();
    let original = connection.expect(Operation::Payment).await;
    assert_eq!(paying.await, PaymentOutcome::Unknown(Unknown::TimedOut));
    request.send_before.monotonic = Instant::now();
    for mti in ["0220", "0221", "0221"] {
        let asking = gateway.ask(&request);
        let advice = connection.expect(Operation::Advice).await;
        assert_eq!(advice.mti().as_str(), mti);
        for field in [4, 7, 11, 12, 13, 15, 32, 37, 41] {
            assert_eq!(advice.get(field), original.get(field), "field {field}");
        }
        let answer = connection.paid(Operation::Advice, &advice, AMOUNT);
        connection.send(&answer).await;
        assert!(matches!(asking.await.unwrap(), StatusOutcome::Paid(_)));
    }
}

/// All questions about one payment look alike, and so do their answers.
#[tokio::test]
async fn what_was_not_found_may_have_been_answered_to_an_earlier_question() {
    let (gateway, _peer, mut connection) = Gateway::on_hasty_line().await;
    let (request, paying) = gateway.pay();
    connection.expect(Operation::Payment).await;
    assert_eq!(paying.await, PaymentOutcome::Unknown(Unknown::TimedOut));
    let asked = async |connection: &mut Connection, code: &str| {
        let asking = gateway.ask(&request);
        let advice = connection.expect(Operation::Advice).await;
        let answer = connection.answer(Operation::Advice, &advice, code);
        connection.send(&answer).await;
        asking.await.unwrap()
    };
    let unclear = StatusOutcome::Unknown(Unknown::UnderWay);
    let answered_within = gateway.bank.profile().horizon + HASTY * 2;
    // An earlier life may have asked about a payment so young.
    pass(answered_within).await;
    for _ in 0..2 {
        assert_eq!(asked(&mut connection, "48").await, StatusOutcome::NotPaid);
        pass(HASTY).await;
    }
    assert_eq!(asked(&mut connection, "48").await, StatusOutcome::NotPaid);
    assert_eq!(asked(&mut connection, "48").await, unclear, "the one before may have been answered twice");
    pass(answered_within).await;
    let unanswered = gateway.ask(&request);
    connection.expect(Operation::Advice).await;
    assert_eq!(unanswered.await.unwrap(), StatusOutcome::Unknown(Unknown::TimedOut));
    let clear_from = || gateway.bank.not_paid_counts_from(&request.identity).unwrap();
    let just_before = |moment: Instant| moment - HASTY / 2 - Instant::now();
    for _ in 0..2 {
        pass(just_before(clear_from())).await;
        for code in ["48", "54"] {
            assert_eq!(
                asked(&mut connection, code).await,
                unclear,
                "{code}: an earlier one's may still come"
            );
        }
    }
    pass(clear_from() - Instant::now()).await;
    assert_eq!(asked(&mut connection, "54").await, StatusOutcome::PaidByAnother);
}

#[tokio::test]
async fn a_question_that_was_not_sent_is_no_repeat_later() {
    let (gateway, peer, mut connection) = Gateway::on_line().await;
    let (request, paying) = gateway.pay();
    connection.expect(Operation::Payment).await;
    drop(connection);
    assert!(matches!(paying.await, PaymentOutcome::Unknown(_)));
    gateway.until("the line is down", |gateway| !gateway.bank.lines()[0].is_up).await;
    let unsent = gateway.bank.status(request.clone()).await;
    assert_eq!(unsent, StatusOutcome::Unknown(Unknown::ConnectionCut));
    let mut connection = peer.signed_on().await;
    gateway.until_up(0).await;
    let asking = gateway.bank.status(request);
    let answering = async {
        let advice = connection.expect(Operation::Advice).await;
        assert_eq!(advice.mti().as_str(), "0220");
        let answer = connection.paid(Operation::Advice, &advice, AMOUNT);
        connection.send(&answer).await;
    };
    let (status, ()) = futures::join!(asking, answering);
    assert!(matches!(status, StatusOutcome::Paid(_)), "{status:?}");
}

#[tokio::test]
async fn a_payment_keeps_its_line_and_its_questions_take_any() {
    let (one, other) = (Peer::open().await, Peer::open().await);
    let gateway = Gateway::to(&[one.address(), other.address()]);
    let mut first = one.signed_on().await;
    let mut second = other.signed_on().await;
    gateway.until_up(0).await;
    gateway.until_up(1).await;
    let terminals: BTreeSet<String> = (0..2).map(|_| terminal(&gateway.begin().1.identity)).collect();
    assert_eq!(terminals.len(), 2, "in turn");

    let (request, paying) = loop {
        let (place, request) = gateway.begin();
        if terminal(&request.identity) == "ESAM0001" {
            break (request.clone(), gateway.bank.pay(place, request));
        }
    };
    let hearing = async {
        first.expect(Operation::Payment).await;
        drop(first);
    };
    let (outcome, ()) = futures::join!(paying, hearing);
    assert_eq!(outcome, PaymentOutcome::Unknown(Unknown::ConnectionCut));
    gateway.until("the line is down", |gateway| !gateway.bank.lines()[0].is_up).await;
    for _ in 0..4 {
        assert_eq!(terminal(&gateway.begin().1.identity), "ESAM0002", "new payments take the other");
    }
    let asking = gateway.bank.status(request.clone());
    let answering = async {
        let advice = second.expect(Operation::Advice).await;
        assert_eq!(advice.get(41), Some("ESAM0001"), "under its own identity");
        let answer = second.paid(Operation::Advice, &advice, AMOUNT);
        second.send(&answer).await;
    };
    let (status, ()) = futures::join!(asking, answering);
    assert!(matches!(&status, StatusOutcome::Paid(paid) if paid.identity == request.identity), "{status:?}");
}

fn terminal(identity: &str) -> String {
    identity.split('-').nth(3).unwrap_or_default().to_owned()
}

#[tokio::test]
async fn a_place_on_a_line_that_broke_is_never_sent_elsewhere() {
    let (one, other) = (Peer::open().await, Peer::open().await);
    let gateway = Gateway::to(&[one.address(), other.address()]);
    let (first, second) = (one.signed_on().await, other.signed_on().await);
    gateway.until_up(0).await;
    gateway.until_up(1).await;
    let (place, request) = gateway.begin();
    let line = usize::from(terminal(&request.identity) != "ESAM0001");
    let _other = if line == 0 { (drop(first), second).1 } else { (drop(second), first).1 };
    gateway.until("the line is down", |gateway| !gateway.bank.lines()[line].is_up).await;
    assert_eq!(gateway.bank.pay(place, request).await, PaymentOutcome::NeverSent);
}

#[tokio::test]
async fn a_lost_lease_ends_the_line_at_once() {
    let (gateway, _peer, mut connection) = Gateway::on_line().await;
    let (_, paying) = gateway.pay();
    connection.expect(Operation::Payment).await;
    let (place, request) = gateway.begin();
    gateway.desk.holds_none.store(true, Relaxed);
    assert_eq!(gateway.bank.pay(place, request).await, PaymentOutcome::NeverSent);
    let began = Instant::now();
    assert!(connection.ends().await, "nothing is said any more, not even a sign-off");
    assert!(began.elapsed() < PATIENT, "{:?}", began.elapsed());
    assert_eq!(paying.await, PaymentOutcome::Unknown(Unknown::ConnectionCut));
    gateway.until("it is said why", |gateway| gateway.bank.lines()[0].state == "another gateway's").await;
}

#[tokio::test]
async fn a_line_whose_echo_is_not_answered_is_replaced() {
    let peer = Peer::open().await;
    let gateway = Gateway::with(profile(HASTY, Duration::from_millis(100)), &[peer.address()], None);
    let mut connection = gateway.signed_on(&peer).await;
    let echo = connection.expect(Operation::Echo).await;
    connection.agree(Operation::Echo, &echo).await;
    connection.expect(Operation::Echo).await;
    assert!(connection.ends().await, "no answer");
    gateway.signed_on(&peer).await;
}

#[tokio::test]
async fn a_lease_is_watched_while_an_answer_is_waited_for() {
    let peer = Peer::open().await;
    let gateway = Gateway::with(profile(PATIENT, Duration::from_millis(100)), &[peer.address()], None);
    let mut connection = gateway.signed_on(&peer).await;
    connection.expect(Operation::Echo).await;
    let began = Instant::now();
    gateway.desk.holds_none.store(true, Relaxed);
    assert!(connection.ends().await);
    assert!(began.elapsed() < PATIENT / 2, "{:?}", began.elapsed());
}

#[tokio::test]
async fn the_end_is_told_to_the_bank_and_waits_for_nobody() {
    let (gateway, _peer, mut connection) = Gateway::on_line().await;
    let closing = gateway.bank.close();
    let answering = async {
        let request = connection.expect(Operation::SignOff).await;
        connection.agree(Operation::SignOff, &request).await;
        connection.ends().await
    };
    let ((), ended) = soon("it closes", async { futures::join!(closing, answering) }).await;
    assert!(ended);
    assert_eq!(gateway.place().unwrap_err(), NoPlace::Down);

    let (gateway, _peer, mut silent) = Gateway::on_line().await;
    let began = Instant::now();
    soon("it closes", gateway.bank.close()).await;
    assert!(began.elapsed() < PATIENT / 2, "{:?}", began.elapsed());
    silent.expect(Operation::SignOff).await;

    let peer = Peer::open().await;
    let gateway = Gateway::to(&[peer.address()]);
    let mut signing_on = peer.accept().await;
    signing_on.expect(Operation::SignOn).await;
    soon("it closes at sign-on", gateway.bank.close()).await;
}

#[tokio::test]
async fn the_bank_may_ask_as_well() {
    let (gateway, _peer, mut connection) = Gateway::on_line().await;
    let values = |trace: &str| {
        Values::new()
            .with(Value::Transmission, "1125052229")
            .with(Value::Trace, trace)
            .with(Value::Terminal, "BANK")
    };
    let answer = connection.ask(Operation::Echo, &values("000001")).await;
    assert_eq!((answer.mti().as_str(), answer.get(39), answer.get(11)), ("0810", Some("00"), Some("000001")));
    // Signed off by the bank, the line signs on again.
    let answer = connection.ask(Operation::SignOff, &values("000002")).await;
    assert_eq!(answer.get(39), Some("00"));
    let request = connection.expect(Operation::SignOn).await;
    connection.agree(Operation::SignOn, &request).await;
    // A bank that wants a session first gets one.
    let (_, paying) = gateway.pay();
    let request = connection.expect(Operation::Payment).await;
    let answer = connection.answer(Operation::Payment, &request, "01");
    connection.send(&answer).await;
    assert!(matches!(paying.await, PaymentOutcome::Refused(_)));
    let request = connection.expect(Operation::SignOn).await;
    connection.agree(Operation::SignOn, &request).await;
    assert_eq!(gateway.count("connected"), 1);
}

/// What is not read by the bank ends the connection soon, so that nothing of it arrives much later; what was not
/// handed over by then was never sent.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bank_that_reads_nothing_is_not_written_to_for_long() {
    let peer = Peer::with_small_buffers();
    let gateway = Gateway::with(profile(HASTY, NO_ECHO), &[peer.address()], None);
    let connection = gateway.signed_on(&peer).await;
    let began = Instant::now();
    let mut payings = Vec::new();
    while gateway.bank.lines()[0].is_up && payings.len() < 100_000 {
        payings.extend((0..500).map_while(|_| gateway.try_pay().ok()).map(|(_, paying)| paying));
        tokio::task::yield_now().await;
    }
    assert!(began.elapsed() < Duration::from_secs(15), "{:?}", began.elapsed());
    let (mut unsent, mut unknown) = (0, 0);
    for outcome in futures::future::join_all(payings).await {
        match outcome {
            PaymentOutcome::NeverSent => unsent += 1,
            PaymentOutcome::Unknown(_) => unknown += 1,
            other => panic!("{other:?}"),
        }
    }
    assert!(unknown > 0, "{unsent} {unknown}");
    // What the bank finds when it reads at last is no more than what is unknown.
    let mut connection: Connection = connection;
    let mut found = 0;
    while connection.next().await.is_some() {
        found += 1;
    }
    assert!(found <= unknown, "{found} of {unknown}, {unsent} never sent");
    eprintln!("{found} found, {unknown} unknown, {unsent} never sent");
}
