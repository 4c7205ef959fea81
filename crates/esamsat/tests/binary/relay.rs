//! Two gateways, of which one is the other's provider: everything that can happen behind ends alike in front, in both
//! ledgers and at the provider's bank; and what is ours alone, a balance, a password, no partner hears of.

use crate::kit::{
    DUMMY, Gateway, PATIENCE, Site, TESTER,
    books::Books,
    clients::UNREACHABLE,
    http::{self, Partner},
    text, whole, within,
};
use serde_json::Value;
use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    net::SocketAddr,
    thread,
    time::Duration,
};
use tokio::time::Instant;

const LOGIN: (&str, &str) = ("mitra0001", "sandi-mitra");
const DEPOSIT: i64 = 900_000_000;
const HORIZON: Duration = Duration::from_secs(5);

/// The gateway in front, as its operator configures it.
fn in_front(provider: SocketAddr, username: &str, more: &str) -> String {
    let horizon_ms = HORIZON.as_millis();
    format!(
        r#"
answer_within_ms = 4000
send_within_ms = 1000
log_format = "json"

[upstream.penyedia]
kind = "relay"
url = "http://{provider}/json/esamsat"
username = "{username}"
password_file = "sandi"
answer_timeout_ms = 3500
connect_timeout_ms = 1000
horizon_ms = {horizon_ms}
balance_every_s = 1
{more}
"#
    )
}

const REFUSALS: &str = r#"
[upstream.penyedia.refusals]
"kode:0054" = "bill_already_paid"
"kode:0089" = "bank_refused"
"#;

/// A gateway in front, with a partner and the password at the provider.
fn site_in_front(password: &str) -> Site {
    let site = Site::with_partners(1, LOGIN.1, DEPOSIT);
    fs::write(site.path("sandi"), format!("{password}\n")).expect("the password is written");
    site
}

fn demo_at(site: &Site, listen: &str) -> Gateway {
    Gateway::start(&mut site.command(&["demo", "--listen", listen]))
}

fn pending(site: &Site, key: &str) -> BTreeSet<String> {
    let listed = site.json(&["invoice", "list", "--state", "pending", "--limit", "1000"]);
    listed.as_array().expect("a list of invoices").iter().map(|invoice| text(invoice, key)).collect()
}

fn incidents(site: &Site) -> BTreeMap<String, String> {
    let listed = site.json(&["incident", "list"]);
    let listed = listed.as_array().expect("a list of incidents");
    listed.iter().map(|incident| (text(incident, "kind"), text(incident, "detail"))).collect()
}

/// Both ledgers and the provider's bank say the same, to the rupiah.
fn assert_agreed(front: &Site, provider: &Site) {
    front.verify();
    provider.verify();
    let (ours, theirs) = (Books::read(front), Books::read(provider));
    theirs.agree_with_the_bank(&provider.json(&["sandbox", "payments"]));
    let confirmed = |books: &Books, key: &str| -> BTreeMap<String, Value> {
        let confirmed = books.invoices.values().filter(|invoice| invoice["state"] == "CONFIRM");
        confirmed.map(|invoice| (text(invoice, key), invoice.clone())).collect()
    };
    let (ours, theirs) = (confirmed(&ours, "identity"), confirmed(&theirs, "number"));
    let numbers = |confirmed: &BTreeMap<String, Value>| confirmed.keys().cloned().collect::<Vec<_>>();
    assert_eq!(numbers(&ours), numbers(&theirs), "one to one");
    let due = |invoice: &Value| whole(invoice, "total_rupiah") - whole(invoice, "fee_rupiah");
    for (number, invoice) in &ours {
        assert_eq!(due(invoice), due(&theirs[number]), "{number}");
        for key in ["payment_code", "reference_number", "trace_number"] {
            assert_eq!(invoice[key], theirs[number][key], "{number}: {key}");
        }
    }
    let sum = |key: &str| -> i64 { theirs.values().map(|invoice| whole(invoice, key)).sum() };
    let spent_there = sum("total_rupiah") - sum("cashback_rupiah");
    for (account, balance) in [
        ("bank_payable", -spent_there),
        ("upstream_fee_expense", sum("fee_rupiah")),
        ("upstream_cashback_income", -sum("cashback_rupiah")),
        ("reserved", 0),
    ] {
        assert_eq!(front.balance(account), balance, "{account}");
    }
    assert_eq!(provider.balance("reserved"), 0);
}

#[test]
fn every_outcome_of_the_provider_is_the_outcome_in_front() {
    let provider_site = Site::new();
    let provider = provider_site.demo();
    let direct = provider.partner(DUMMY);
    let site = site_in_front(DUMMY.1);
    let configuration = in_front(provider.address(), DUMMY.0, REFUSALS);
    site.sell(&configuration, "penyedia");
    let gateway = site.serve(&configuration);
    let partner = gateway.partner(LOGIN);

    // Whoever is known need not be checked again, thirty at a time.
    for known in [direct, partner] {
        known.call("ceksaldo", &[]);
    }
    let numbers = provider_site.json(&["sandbox", "numbers"]);
    let numbers = numbers.as_array().expect("a list of test numbers");
    let outcomes: Vec<(u64, String, Value)> = thread::scope(|scope| {
        let threads: Vec<_> =
            numbers.iter().map(|number| scope.spawn(|| outcome(number, partner, direct))).collect();
        threads.into_iter().map(|thread| thread.join().expect("no thread panics")).collect()
    });

    // What only operators can end stays open on both sides, and nothing else.
    let open = || (pending(&site, "identity"), pending(&provider_site, "number"));
    let left = numbers.iter().filter(|number| number["finally"] == "PENDING").count();
    within(PATIENCE, "only what operators decide is open", || {
        let (ours, theirs) = open();
        ours == theirs && ours.len() == left
    });
    for number in open().1 {
        let by = |operator| ["--not-paid", "--operator", operator];
        let because = ["--reference", "surat 12", "--reason", "surat bank"];
        provider_site.done(&[&["pending", "resolve", &number][..], &by("siti"), &because].concat());
        within(PATIENCE, "nothing can arrive any more", || {
            provider_site.run(&[&["pending", "approve", &number][..], &by("budi")].concat()).code == 0
        });
    }
    gateway.stop();
    site.sell(&configuration, "penyedia");
    let gateway = site.serve(&configuration);
    site.settled();

    for (scenario, finally, answer) in outcomes {
        let Some(invoice) = answer["invoice"].as_str() else { continue };
        let state = site.state(invoice);
        let expected = if finally == "PENDING" { "REFUND" } else { &*finally };
        assert_eq!(state, expected, "{scenario}: {answer}");
        match answer["status"].as_str() {
            Some("PENDING") => {}
            Some(word) => assert_eq!(word, state, "{scenario}: {answer}"),
            None => assert_ne!(state, "CONFIRM", "{scenario}: {answer}"),
        }
    }
    let raised = incidents(&site);
    assert!(raised.keys().all(|kind| kind == "unknown_code"), "{raised:?}");
    assert!(site.balance("upstream_fee_expense") >= 10 * 5_000, "the test reached too little");
    assert_agreed(&site, &provider_site);
    gateway.stop();
}

/// Asks for a test number's bill and pays it. An inquiry that fails says what the provider says.
fn outcome(number: &Value, partner: Partner<'_>, direct: Partner<'_>) -> (u64, String, Value) {
    let scenario = number["scenario"].as_u64().expect("a number");
    let (chassis, finally) = (text(number, "structure_number"), text(number, "finally"));
    let bill = partner.inquire((TESTER, &chassis));
    if finally == "FAILURE" {
        let there = direct.inquire((TESTER, &chassis));
        assert_eq!((&bill["result"], &bill["reason"]), (&there["result"], &there["reason"]), "{scenario}");
        return (scenario, finally, bill);
    }
    let invoice = text(&bill, "invoice");
    let mut answer = partner.pay(&invoice);
    answer["invoice"] = invoice.into();
    (scenario, finally, answer)
}

#[test]
fn killed_in_the_midst_of_a_payment_both_ledgers_end_alike() {
    let provider_site = Site::new();
    let provider = provider_site.demo();
    let address = provider.address();
    let site = site_in_front(DUMMY.1);
    let configuration = in_front(address, DUMMY.0, REFUSALS);
    site.sell(&configuration, "penyedia");
    let gateway = site.serve(&configuration);
    let partner = gateway.partner(LOGIN);
    let [open, later] = ["UJI4010001", "UJI1000001"].map(|chassis| partner.invoice((TESTER, chassis)));

    // The bank behind takes it and says nothing; then the provider dies.
    let answer = thread::scope(|scope| {
        let paying = scope.spawn(|| partner.pay(&open));
        within(PATIENCE, "the provider has begun", || !pending(&provider_site, "number").is_empty());
        provider.kill();
        paying.join().expect("the gateway answers")
    });
    assert_eq!(answer["status"], "PENDING", "{answer}");
    let refused = partner.pay(&later);
    assert_eq!(text(&refused, "reason"), UNREACHABLE, "{refused}");
    assert_eq!(site.state(&later), "REFUND", "it was never sent");
    let refused = partner.inquire((TESTER, "UJI1000002"));
    assert_eq!(text(&refused, "reason"), UNREACHABLE, "{refused}");
    assert_eq!(partner.status(&open), "PENDING");

    let provider = demo_at(&provider_site, &address.to_string());
    site.settled();
    assert_eq!((site.state(&open), partner.status(&open)), ("CONFIRM".to_owned(), "CONFIRM".to_owned()));

    // The same with the one in front.
    let open = partner.invoice((TESTER, "UJI4010002"));
    thread::scope(|scope| {
        scope.spawn(|| partner.try_call("pay_esamsat", &[("invoice", &open)]));
        within(PATIENCE, "the provider has begun", || !pending(&provider_site, "number").is_empty());
        gateway.kill();
    });
    site.sell(&configuration, "penyedia");
    let gateway = site.serve(&configuration);
    site.settled();
    assert_eq!(site.state(&open), "CONFIRM");
    assert_agreed(&site, &provider_site);
    gateway.stop();
    provider.stop();
}

/// A provider with one partner, us, that has so much there.
fn small_account(deposit: i64) -> (Site, Gateway) {
    let site = Site::with_partners(1, DUMMY.1, deposit);
    let provider = site
        .serve("answer_within_ms = 3000\nsend_within_ms = 2000\n[upstream.simulator]\nkind = \"simulator\"\nhorizon_ms = 30000\n");
    (site, provider)
}

#[test]
fn a_balance_that_runs_out_stops_the_products_and_no_partner_hears_of_it() {
    let (provider_site, provider) = small_account(1_000_000);
    let there = provider.partner(("mitra0001", DUMMY.1));
    let site = site_in_front(DUMMY.1);
    let limits = "balance_warn_below = 900000\nbalance_stop_below = 600000";
    let configuration = in_front(provider.address(), "mitra0001", limits);
    site.sell(&configuration, "penyedia");
    let gateway = site.serve(&configuration);
    let partner = gateway.partner(LOGIN);

    let invoices: Vec<_> =
        (1..=9).map(|serial| partner.invoice((TESTER, &format!("UJI100000{serial}")))).collect();
    let answers: Vec<_> = invoices.iter().map(|invoice| partner.pay(invoice)).collect();
    let paid = answers.iter().take_while(|answer| answer["status"] == "CONFIRM").count();
    assert!((1..9).contains(&paid), "{answers:?}");
    for (answer, invoice) in answers[paid..].iter().zip(&invoices[paid..]) {
        assert_eq!(text(answer, "reason"), UNREACHABLE, "{answer}");
        assert_eq!(site.state(invoice), "INQUIRY", "nothing was reserved");
    }
    let refused = partner.inquire((TESTER, "UJI1000001"));
    assert_eq!((text(&refused, "reason"), &refused["invoice"]), (UNREACHABLE.to_owned(), &Value::Null));

    within(PATIENCE, "operators are told", || {
        let told = incidents(&site);
        told.get("upstream_balance_low").is_some_and(|what| what.contains("its products are stopped"))
    });
    let metrics = http::get(gateway.address(), "/metrics").expect("metrics").body;
    assert!(metrics.contains("esamsat_upstream_balance_rupiah{upstream=\"penyedia\"}"), "{metrics}");
    let status = site.done(&["bank", "status", "--gateway", &gateway.address().to_string()]);
    assert!(status.contains("stopped: the balance is short"), "{status}");

    provider_site.done(&[
        "deposit",
        "add",
        "mitra0001",
        "5000000",
        "--reference",
        "TRF",
        "--operator",
        "siti",
    ]);
    within(PATIENCE, "it goes on", || partner.pay(&invoices[paid])["status"] == "CONFIRM");
    assert!(text(&there.call("ceksaldo", &[]), "saldo").len() > 6);
    assert_agreed(&site, &provider_site);
    gateway.stop();
}

#[test]
fn a_providers_no_for_want_of_money_costs_nobody_anything() {
    let (provider_site, provider) = small_account(1_000);
    let site = site_in_front(DUMMY.1);
    let configuration = in_front(provider.address(), "mitra0001", "");
    site.sell(&configuration, "penyedia");
    let gateway = site.serve(&configuration);
    let partner = gateway.partner(LOGIN);
    let unsure = partner.invoice((TESTER, "UJI1000001"));
    let began = Instant::now();
    let answer = partner.pay(&unsure);
    assert_eq!(answer["status"], "PENDING", "it is in no table: {answer}");
    site.settled();
    assert!(began.elapsed() >= HORIZON, "INQUIRY proves nothing before");
    assert_eq!(site.state(&unsure), "REFUND", "the provider still says INQUIRY beyond the horizon");
    let told = incidents(&site);
    assert!(told["upstream_balance_low"].contains("Saldo deposit Anda tidak cukup"), "{told:?}");
    gateway.stop();

    let table = r#"[upstream.penyedia.refusals]
"Saldo deposit Anda tidak cukup untuk transaksi ini. Silakan tambah saldo terlebih dahulu." = "bank_unreachable""#;
    let gateway = site.serve(&in_front(provider.address(), "mitra0001", table));
    let partner = gateway.partner(LOGIN);
    let sure = partner.invoice((TESTER, "UJI1000001"));
    let answer = partner.pay(&sure);
    assert_eq!((text(&answer, "reason"), site.state(&sure)), (UNREACHABLE.to_owned(), "REFUND".to_owned()));
    let shown = site.json(&["partner", "show", LOGIN.0]);
    assert_eq!((whole(&shown, "deposit_rupiah"), whole(&shown, "reserved_rupiah")), (DEPOSIT, 0));
    assert_agreed(&site, &provider_site);
    gateway.stop();
}

#[test]
fn a_wrong_password_is_the_operators_affair() {
    let provider_site = Site::new();
    let provider = provider_site.demo();
    let site = site_in_front("sandi-yang-salah");
    let configuration = in_front(provider.address(), DUMMY.0, "");
    site.sell(&configuration, "penyedia");
    let gateway = site.serve(&configuration);
    let refused = gateway.partner(LOGIN).inquire((TESTER, "UJI1000001"));
    assert_eq!(text(&refused, "reason"), UNREACHABLE, "{refused}");
    within(PATIENCE, "operators are told", || {
        incidents(&site).get("unknown_code").is_some_and(|what| what.contains("Username atau password salah"))
    });
    let status = site.done(&["bank", "status", "--gateway", &gateway.address().to_string()]);
    assert!(status.contains("balance not known"), "{status}");
    let printed = gateway.stop();
    assert!(!printed.contains("sandi-yang-salah") && !printed.contains(TESTER), "{printed}");
}

#[test]
fn a_configuration_that_makes_no_sense_is_told() {
    let site = Site::new();
    fs::write(site.path("sandi"), "\n").expect("a file");
    let right =
        "username = \"mitra\"\npassword = \"rahasia\"\nurl = \"https://penyedia.example/json/esamsat\"\n";
    for (text, words) in [
        (right.replace("https", "http"), "would send the password for everybody to read"),
        (right.replace("password = \"rahasia\"", "password_file = \"sandi\""), "the password is empty"),
        (right.replace("password = \"rahasia\"", "password_file = \"nirgends\""), "nirgends"),
        (right.replace("password = \"rahasia\"\n", ""), "password_file"),
        (right.to_owned() + "ca_file = \"nirgends.pem\"", "nirgends.pem"),
        (right.to_owned() + "horizon_ms = 1", "horizon_ms"),
        (right.to_owned() + "answer_timeout_ms = 45000", "answer_within_ms of the configuration 45000"),
        (right.to_owned() + "[upstream.x.refusals]\n\"Saldo habis\" = \"balance_short\"", "bank_unreachable"),
        (right.to_owned() + "[upstream.x.refusals]\n\"Saldo habis\" = \"kein_geld\"", "kein_geld"),
        (right.to_owned() + "refusal = 1", "refusals"),
    ] {
        let path = site.configure(&format!("[upstream.x]\nkind = \"relay\"\n{text}"));
        let ran = site.run(&["config", "check", "--config", path.to_str().expect("a path in UTF-8")]);
        assert!(ran.code != 0 && ran.stderr.contains(words), "{words}: {}{}", ran.stdout, ran.stderr);
        assert!(!ran.stderr.contains("rahasia"), "{}", ran.stderr);
    }
    let path = site.configure(&format!("[upstream.x]\nkind = \"relay\"\n{right}"));
    let path = path.to_str().expect("a path in UTF-8");
    site.done(&["config", "check", "--config", path]);
    assert!(!site.done(&["config", "show", "--config", path]).contains("rahasia"));
}
