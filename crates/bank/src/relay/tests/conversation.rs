//! What is sent, how often, and what comes of it when the provider fails in every way.

use super::{
    BILL, Fixture, INVOICE, LIST, NIK, PATIENCE, answered, asked, bill, impatient, patient, provider::Reply,
    refused,
};
use crate::{Bank, InquiryOutcome, NoPlace, PaymentOutcome, Placing, StatusOutcome, Unknown};
use domain::{ProductCode, Reason, Refusal, Rupiah, UpstreamTerms, record::IncidentKind};
use std::{sync::Arc, time::Duration};
use tokio::{
    net::TcpListener,
    time::{Instant, timeout},
};

fn is_paid(outcome: &PaymentOutcome) -> bool {
    matches!(outcome, PaymentOutcome::Paid(paid) if paid.identity == "111111111111" && paid.amount == Rupiah::new(178_500))
}

#[tokio::test]
async fn a_bill_is_asked_for_paid_and_looked_at() {
    let fixture = Fixture::new(|settings| {
        settings.username = "mitra=besar".to_owned();
        settings.products.insert(ProductCode::parse("SAMSAT_JABAR").unwrap(), "JABAR+".to_owned());
    })
    .await;
    let provider = &fixture.provider;
    provider.on("inquiry_esamsat", [Reply::json(BILL)]);
    provider.on("pay_esamsat", [Reply::json(answered("CONFIRM"))]);
    provider.on("status_invoice", [Reply::json(answered("CONFIRM"))]);

    let (presented, terms) = bill(fixture.inquire().await);
    assert_eq!(presented.taxes.total(), Rupiah::new(178_500));
    assert_eq!(presented.owner_name.expose(), "JORDAN");
    assert_eq!(presented.upstream_reference.as_deref(), Some("111111111111"));
    // The list there has no product JABAR+.
    assert_eq!(terms, UpstreamTerms { fee: Rupiah::new(5_000), cashback: Rupiah::ZERO });
    let place = fixture.place().unwrap();
    assert_eq!(place.identity, "111111111111");
    let outcome = fixture.relay.pay(place, fixture.request()).await;
    let PaymentOutcome::Paid(paid) = &outcome else { panic!("{outcome:?}") };
    assert_eq!(
        (&*paid.receipt.reference_number, &*paid.receipt.trace_number),
        ("5A834FE7A6394BA0A387EA9E8EFB1E48", "245209")
    );
    assert!(is_paid(&outcome));
    assert!(matches!(fixture.status().await, StatusOutcome::Paid(_)));

    let asked = provider.asked("inquiry_esamsat").remove(0);
    let named = |key: &str| asked.parameters[key].as_str();
    assert_eq!((named("username"), named("password")), ("mitra=besar", "rahasia & rahasia"));
    assert_eq!((named("product"), named("customer_number")), ("JABAR+", NIK));
    assert_eq!(asked.parameters.len(), 5);
    for call in ["pay_esamsat", "status_invoice"] {
        let asked = provider.asked(call);
        assert_eq!((asked.len(), &*asked[0].parameters["invoice"]), (1, "111111111111"), "{call}");
        assert_eq!(asked[0].parameters.len(), 3, "{call}");
    }
    let connections: Vec<_> = ["inquiry_esamsat", "pay_esamsat", "status_invoice"]
        .iter()
        .map(|call| provider.asked(call)[0].connection)
        .collect();
    assert!(
        connections.windows(2).all(|pair| pair[0] == pair[1]),
        "one after the other on one: {connections:?}"
    );
    assert_eq!(fixture.desk.raised(), []);
}

#[tokio::test]
async fn the_cashback_is_the_products_in_the_list() {
    let fixture = Fixture::new(patient).await;
    fixture.provider.on("inquiry_esamsat", [Reply::json(BILL)]);
    let (_, terms) = bill(fixture.inquire().await);
    assert_eq!(terms, UpstreamTerms { fee: Rupiah::new(5_000), cashback: Rupiah::new(2_000) });
    assert_eq!(fixture.provider.asked("list_esamsat").len(), 1);
    assert!(LIST.contains("2000"));
}

#[tokio::test]
async fn whatever_breaks_after_the_request_left_is_unknown_and_sent_once() {
    let confirm = answered("CONFIRM");
    let garbled = |what: &str| Unknown::Garbled(what.to_owned());
    let bytes = |text: &str| Reply::Bytes(text.as_bytes().to_vec());
    let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", confirm.len());
    let cases = [
        ("silence", Reply::Silence, Unknown::TimedOut),
        ("half an answer, then silence", Reply::Stuck(head.clone()), Unknown::TimedOut),
        ("hung up", bytes(""), Unknown::ConnectionCut),
        ("cut in the head", bytes("HTTP/1.1 200 OK\r\nContent-"), Unknown::ConnectionCut),
        ("cut in the middle", bytes(&(head.clone() + &confirm[..200])), Unknown::ConnectionCut),
        ("no HTTP", bytes("SSH-2.0-OpenSSH\r\n"), Unknown::ConnectionCut),
        (
            "cut, without a length",
            bytes(&("HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n".to_owned() + &confirm[..200])),
            garbled("the answer is not the contract's JSON"),
        ),
        (
            "a page",
            Reply::json("<html>Selamat datang</html>"),
            garbled("the answer is not the contract's JSON"),
        ),
        ("an array", Reply::json(format!("[{confirm}]")), garbled("the answer is not the contract's JSON")),
        ("nothing", Reply::json(""), garbled("the answer is not the contract's JSON")),
        ("bad gateway", Reply::Whole(502, confirm.clone()), garbled("HTTP status 502")),
        ("busy", Reply::Whole(503, refused("Sistem sibuk")), garbled("HTTP status 503")),
        ("elsewhere", Reply::Whole(302, String::new()), garbled("HTTP status 302")),
        ("elsewhere, with the method", Reply::Whole(307, confirm.clone()), garbled("HTTP status 307")),
        ("created", Reply::Whole(201, confirm.clone()), garbled("HTTP status 201")),
        (
            "too long",
            Reply::json(confirm.replace("JORDAN", &"J".repeat(70_000))),
            garbled("the answer is longer than 64 KiB"),
        ),
        (
            "another total",
            Reply::json(confirm.replace("183500", "183501")),
            garbled("total is not the taxes, the penalties and the fee"),
        ),
    ];
    for (name, reply, expected) in cases {
        let is_silent = expected == Unknown::TimedOut;
        let fixture = Fixture::new(if is_silent { impatient } else { patient }).await;
        let provider = &fixture.provider;
        provider.on("pay_esamsat", [reply.clone()]);
        provider.on("status_invoice", [reply]);
        assert_eq!(fixture.pay().await, PaymentOutcome::Unknown(expected.clone()), "{name}");
        assert_eq!(fixture.status().await, StatusOutcome::Unknown(expected), "{name}");
        assert_eq!(
            (provider.asked("pay_esamsat").len(), provider.asked("elsewhere").len()),
            (1, 0),
            "{name}"
        );
        assert!(fixture.place().is_ok(), "{name}: the place is given back");
    }
}

#[tokio::test]
async fn a_payment_that_could_not_leave_was_never_sent() {
    let fixture = Fixture::new(patient).await;
    let mut late = fixture.request();
    late.send_before.monotonic = Instant::now();
    assert_eq!(fixture.relay.pay(fixture.place().unwrap(), late).await, PaymentOutcome::NeverSent);
    let mut late = fixture.request();
    late.send_before.wall = fixture.clock.now();
    assert_eq!(fixture.relay.pay(fixture.place().unwrap(), late).await, PaymentOutcome::NeverSent);
    assert_eq!(fixture.provider.asked("pay_esamsat"), []);

    let nobody = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let fixture = Fixture::new(|settings| {
        settings.balance_url = Some(settings.url.replace("esamsat", "ceksaldo"));
        settings.url = format!("http://{nobody}/json/esamsat");
    })
    .await;
    assert_eq!(fixture.pay().await, PaymentOutcome::NeverSent);
    assert!(matches!(fixture.inquire().await, InquiryOutcome::NeverSent));
    assert_eq!(fixture.status().await, StatusOutcome::Unknown(Unknown::ConnectionCut));
    let line = fixture.relay.lines().remove(0);
    assert_eq!((line.is_up, &*line.state), (false, "no connection; balance Rp 10.000.000"));
    assert!(line.last_error.is_some_and(|error| error.contains("status_invoice: no connection")));
    assert_eq!((line.counts["never_sent"], line.counts["sent"]), (4, 1), "{:?}", line.counts);
}

#[tokio::test]
async fn a_provider_that_hangs_up_after_each_answer_costs_nothing() {
    let fixture = Fixture::new(patient).await;
    let whole = |body: &str| {
        let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len());
        Reply::Bytes((head + body).into_bytes())
    };
    for (call, body) in [
        ("inquiry_esamsat", BILL),
        ("pay_esamsat", &answered("CONFIRM")),
        ("status_invoice", &answered("CONFIRM")),
    ] {
        fixture.provider.on(call, [whole(body)]);
    }
    for _ in 0..3 {
        bill(fixture.inquire().await);
        fixture.until(|| fixture.relay.core.wire.last_is_closed()).await;
        assert!(is_paid(&fixture.pay().await));
        fixture.until(|| fixture.relay.core.wire.last_is_closed()).await;
        assert!(matches!(fixture.status().await, StatusOutcome::Paid(_)));
        fixture.until(|| fixture.relay.core.wire.last_is_closed()).await;
    }
    assert_eq!(fixture.provider.asked("pay_esamsat").len(), 3);
}

#[tokio::test]
async fn a_payment_without_the_providers_number_does_not_fit() {
    let fixture = Fixture::new(patient).await;
    let placing = Placing { invoice: INVOICE, upstream_reference: None };
    assert_eq!(fixture.relay.place(placing).err(), Some(NoPlace::Unfit));
}

#[tokio::test]
async fn pending_is_asked_about_until_the_provider_knows() {
    let fixture = Fixture::new(patient).await;
    let provider = &fixture.provider;
    provider.on("pay_esamsat", [Reply::json(answered("PENDING"))]);
    let answers = ["INQUIRY", "PENDING", "CONFIRM"].map(|status| Reply::json(answered(status)));
    provider.on("status_invoice", answers);
    assert_eq!(fixture.pay().await, PaymentOutcome::Unknown(Unknown::UnderWay));
    assert_eq!(fixture.status().await, StatusOutcome::NotPaid);
    assert_eq!(fixture.status().await, StatusOutcome::UnderWay);
    assert!(matches!(fixture.status().await, StatusOutcome::Paid(_)));
    assert_eq!(fixture.desk.raised(), []);
    assert_eq!(
        fixture.relay.profile().horizon,
        Duration::from_millis(15_000 + 2 * 3_750),
        "and until it has left"
    );
}

#[tokio::test]
async fn already_paid_is_a_refusal_only_if_the_provider_refunds_this_invoice() {
    let failure = r#"{"result":"no","status":"FAILURE","reason":"Failure Invoice 1!"}"#;
    let refusal = PaymentOutcome::Refused(Refusal::already_paid());
    for (status, expected) in [
        // The first of two that are the same may still be under way.
        (Reply::json(answered("INQUIRY")), Some(&PaymentOutcome::Unknown(Unknown::UnderWay))),
        (Reply::json(answered("REFUND")), Some(&refusal)),
        (Reply::json(answered("CONFIRM")), None),
        (Reply::json(answered("PENDING")), Some(&PaymentOutcome::Unknown(Unknown::UnderWay))),
        (Reply::json(failure), Some(&PaymentOutcome::Unknown(Unknown::UnderWay))),
        (Reply::Silence, Some(&PaymentOutcome::Unknown(Unknown::UnderWay))),
    ] {
        let is_silent = matches!(status, Reply::Silence);
        let fixture = Fixture::new(if is_silent { impatient } else { patient }).await;
        let reason = "Transaksi tidak dapat diproses. Tagihan sudah dibayar (Kode: 0054)";
        fixture.provider.on("pay_esamsat", [Reply::json(refused(reason))]);
        fixture.provider.on("status_invoice", [status.clone()]);
        let outcome = fixture.pay().await;
        assert!(
            expected.map_or(is_paid(&outcome), |expected| outcome == *expected),
            "{status:?}: {outcome:?}"
        );
    }
}

#[tokio::test]
async fn a_no_is_told_to_operators_and_settles_nothing() {
    let fixture = Fixture::new(patient).await;
    fixture
        .provider
        .on("pay_esamsat", [Reply::json(r#"{"result":"no","reason":"Username atau password salah."}"#)]);
    fixture.provider.on(
        "status_invoice",
        [Reply::json(r#"{"result":"no","status":"FAILURE","reason":"Failure Invoice 111111111111!"}"#)],
    );
    assert_eq!(fixture.pay().await, PaymentOutcome::Unknown(Unknown::UnderWay));
    assert_eq!(fixture.status().await, StatusOutcome::Unknown(Unknown::UnderWay));
    let raised = fixture.desk.raised();
    let expected = [
        "the provider says no to a payment: Username atau password salah.",
        "the provider says no to a status question: Failure Invoice …",
    ];
    assert_eq!(
        raised,
        expected.map(|detail| (Some(INVOICE), IncidentKind::UnknownCode, detail.to_owned())).to_vec()
    );
}

#[tokio::test]
async fn a_payment_goes_on_when_nobody_waits_and_keeps_its_place() {
    let fixture = Fixture::new(|settings| settings.in_flight_max = 1).await;
    fixture.provider.on("pay_esamsat", [Reply::Held(answered("CONFIRM"))]);
    let paying = fixture.relay.pay(fixture.place().unwrap(), fixture.request());
    assert!(timeout(Duration::from_millis(1), paying).await.is_err());
    fixture.provider.until_asked("pay_esamsat", 1).await;
    assert_eq!(fixture.place().err(), Some(NoPlace::Full));
    assert_eq!(fixture.relay.lines()[0].in_flight, 1);
    fixture.provider.let_go();
    fixture.until(|| fixture.place().is_ok()).await;
    assert_eq!(fixture.provider.asked("pay_esamsat").len(), 1);
}

#[tokio::test]
async fn a_short_balance_stops_what_is_sold_and_nothing_else() {
    let fixture = Fixture::with(super::Provider::start().await, "http", |settings| {
        settings.balance_warn_below = Rupiah::new(5_000_000);
        settings.balance_stop_below = Rupiah::new(500_000);
        settings.balance_every_s = 1;
        settings.answer_timeout_ms = 1_500;
    });
    let saldo = |text: &str| Reply::json(format!(r#"{{"result":"ok","saldo":"{text}"}}"#));
    let provider = &fixture.provider;
    provider.on(
        "ceksaldo",
        [saldo("4,000,000"), saldo("499,999"), Reply::Silence, saldo("499,999"), saldo("9,000,000")],
    );
    provider.on("status_invoice", [Reply::json(answered("PENDING"))]);
    provider.on("inquiry_esamsat", [Reply::json(BILL)]);
    fixture.open().await;
    assert!(fixture.place().is_ok(), "low is not short");

    fixture.until(|| fixture.place().err() == Some(NoPlace::FloatShort)).await;
    assert!(matches!(fixture.inquire().await, InquiryOutcome::NeverSent));
    assert_eq!(fixture.status().await, StatusOutcome::UnderWay);
    assert_eq!(provider.asked("inquiry_esamsat"), []);
    let line = fixture.relay.lines().remove(0);
    assert_eq!((line.is_up, &*line.state), (false, "stopped: the balance is short; balance Rp 499.999"));

    provider.until_asked("ceksaldo", 4).await;
    assert_eq!(
        fixture.place().err(),
        Some(NoPlace::FloatShort),
        "an answer that does not come changes nothing"
    );
    fixture.until(|| fixture.place().is_ok()).await;
    assert!(matches!(fixture.inquire().await, InquiryOutcome::Presented { .. }));
    let raised = fixture.desk.raised();
    let expected = [
        "penyedia: the balance there is Rp 4.000.000; top it up",
        "penyedia: the balance there is Rp 499.999, and its products are stopped; top it up",
    ];
    assert_eq!(
        raised,
        expected.map(|detail| (None, IncidentKind::UpstreamBalanceLow, detail.to_owned())).to_vec()
    );
}

#[tokio::test]
async fn a_balance_that_nobody_knows_stops_nothing() {
    let fixture = Fixture::with(super::Provider::start().await, "http", |settings| {
        settings.balance_warn_below = Rupiah::new(5_000_000);
        settings.balance_stop_below = Rupiah::new(500_000);
        settings.balance_every_s = 1;
    });
    let provider = &fixture.provider;
    provider.on(
        "ceksaldo",
        [Reply::Whole(500, String::new()), Reply::json(r#"{"result":"ok","saldo":"Rp banyak"}"#)],
    );
    provider.on("pay_esamsat", [Reply::json(answered("CONFIRM"))]);
    fixture.relay.open(Arc::clone(&fixture.desk) as Arc<dyn crate::Desk>);
    provider.until_asked("ceksaldo", 2).await;
    assert!(is_paid(&fixture.pay().await));
    fixture
        .until(|| {
            fixture.relay.lines()[0].last_error.as_ref().is_some_and(|error| error.contains("saldo is no"))
        })
        .await;
    assert!(fixture.relay.lines()[0].state.ends_with("balance not known"));
    assert_eq!(fixture.desk.raised(), []);
}

#[tokio::test]
async fn a_no_for_want_of_money_has_the_balance_asked_for_at_once() {
    let fixture = Fixture::new(|settings| {
        settings.balance_warn_below = Rupiah::new(500_000);
        settings.balance_stop_below = Rupiah::new(500_000);
    })
    .await;
    fixture.provider.on("pay_esamsat", [Reply::json(refused("Saldo Anda tidak cukup"))]);
    fixture.provider.on("ceksaldo", [Reply::json(r#"{"result":"ok","saldo":"100"}"#)]);
    let outcome = fixture.pay().await;
    assert_eq!(outcome, PaymentOutcome::Refused(Reason::BankUnreachable.into()), "no word of a balance");
    fixture.until(|| fixture.place().err() == Some(NoPlace::FloatShort)).await;
    let raised = fixture.desk.raised();
    assert!(
        raised.iter().all(|(invoice, kind, _)| (*invoice, *kind) == (None, IncidentKind::UpstreamBalanceLow))
    );
    assert!(raised[0].2.contains("Saldo Anda tidak cukup"), "{raised:?}");
}

#[tokio::test]
async fn a_provider_that_stopped_answering_is_left_alone_but_for_one() {
    let fixture = Fixture::new(|settings| {
        settings.answer_timeout_ms = 2_500;
    })
    .await;
    let provider = &fixture.provider;
    provider.on("inquiry_esamsat", [Reply::Silence]);
    let silent = (0..8).map(|_| fixture.inquire());
    for outcome in futures::future::join_all(silent).await {
        assert!(matches!(outcome, InquiryOutcome::Unknown(Unknown::TimedOut)), "{outcome:?}");
    }
    assert_eq!(fixture.place().err(), Some(NoPlace::Stalled));
    assert_eq!(fixture.relay.lines()[0].state, "stalled: it does not answer; balance Rp 10.000.000");
    provider.on("inquiry_esamsat", [Reply::Held(BILL.to_owned())]);
    let (one, others) = tokio::join!(fixture.inquire(), async {
        provider.until_asked("inquiry_esamsat", 9).await;
        let others = futures::future::join_all((0..20).map(|_| fixture.inquire())).await;
        provider.let_go();
        others
    });
    assert!(others.iter().all(|outcome| matches!(outcome, InquiryOutcome::NeverSent)), "{others:?}");
    assert!(matches!(one, InquiryOutcome::Presented { .. }), "{one:?}");
    assert_eq!(provider.asked("inquiry_esamsat").len(), 9);
    assert!(fixture.place().is_ok());
}

#[tokio::test]
async fn more_inquiries_than_places_wait_their_turn() {
    let fixture = Fixture::new(|settings| settings.in_flight_max = 2).await;
    fixture.provider.on("inquiry_esamsat", [Reply::json(BILL)]);
    let outcomes = futures::future::join_all((0..20).map(|_| fixture.relay.inquire(asked()))).await;
    assert!(
        outcomes.iter().all(|outcome| matches!(outcome, InquiryOutcome::Presented { .. })),
        "{outcomes:?}"
    );
}

#[tokio::test]
async fn it_stops_when_it_is_closed_and_prints_no_password() {
    let fixture = Fixture::new(|settings| settings.balance_every_s = 1).await;
    timeout(PATIENCE, fixture.relay.close()).await.expect("it stops");
    let line = format!("{:?} {:?}", fixture.relay, fixture.relay.lines());
    assert!(!line.contains("rahasia"), "{line}");
}
