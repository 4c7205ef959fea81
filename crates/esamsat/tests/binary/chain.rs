//! A gateway that relays to another one, which asks a bank over an ISO 8583 line: three ledgers, and faults between
//! each pair, that end consistent.

use crate::kit::{Bank, DUMMY, Gateway, PATIENCE, Site, TESTER, books::Books, http, text, whole, within};
use serde_json::Value;
use std::{fs, net::SocketAddr};

const LOGIN: (&str, &str) = ("mitra0001", "sandi-rantai");

/// The gateway in front, as its operator configures it.
fn in_front(provider: SocketAddr) -> String {
    format!(
        r#"
answer_within_ms = 3000
send_within_ms = 1000
log = "warn,esamsat=info"
log_format = "json"

[upstream.penyedia]
kind = "relay"
url = "http://{provider}/json/esamsat"
username = "{}"
password_file = "sandi"
answer_timeout_ms = 2500
horizon_ms = 5000
balance_every_s = 1

[upstream.penyedia.refusals]
"kode:0089" = "bank_refused"
"kode:0054" = "bill_already_paid"
"#,
        DUMMY.0
    )
}

fn provider_starts(site: &Site, bank: &Bank, listen: &str) -> Gateway {
    let path = site.configure(&bank.configuration());
    let mut command = site.command(&["demo", "--listen", listen]);
    command.arg("--config").arg(path).env("ESAMSAT_LOG", "warn");
    Gateway::start(&mut command)
}

#[test]
fn three_ledgers_end_alike_with_faults_between_each_pair() {
    let bank = Bank::open("contoh-37-80", 7);
    let provider_site = Site::new();
    let provider = provider_starts(&provider_site, &bank, "127.0.0.1:0");
    let address = provider.address();
    within(PATIENCE, "the provider's line is up", || {
        http::get(address, "/health/lines").is_ok_and(|answer| answer.body.contains("\"is_up\":true"))
    });
    let site = Site::with_partners(1, LOGIN.1, 900_000_000);
    fs::write(site.path("sandi"), format!("{}\n", DUMMY.1)).expect("the password is written");
    site.sell(&in_front(address), "penyedia");
    let gateway = site.serve(&in_front(address));
    let partner = gateway.partner(LOGIN);

    // Every outcome that test numbers reach, through both gateways and the line.
    let mut invoices = Vec::new();
    for scenario in [100, 301, 302, 401, 402, 403, 404, 405, 406, 408, 409, 410] {
        let chassis = format!("UJI{scenario:03}0001");
        let invoice = partner.invoice((TESTER, &chassis));
        let answer = partner.pay(&invoice);
        invoices.push((scenario, invoice, answer));
    }
    for (scenario, reason) in [(110, "Tidak Ketemu"), (112, "diblokir"), (119, "sudah dibayar (Kode: 0054)")]
    {
        let answer = partner.inquire((TESTER, &format!("UJI{scenario:03}0001")));
        assert!(text(&answer, "reason").contains(reason), "{scenario}: {answer}");
    }

    // Noise on the line, the provider killed in the midst of it and started again.
    bank.faults(r#"{"lost":0.1,"silent":0.1,"late":0.1,"cut":0.1,"garbled":0.1,"unknown_code":0.05}"#);
    let mut killed = Some(provider);
    for serial in 2..30 {
        let chassis = format!("UJI100{serial:04}");
        let answer = partner.inquire((TESTER, &chassis));
        let Some(invoice) = answer["invoice"].as_str().filter(|_| answer["status"] == "INQUIRY") else {
            continue;
        };
        let invoice = invoice.to_owned();
        if serial == 12 {
            killed.take().expect("it runs").kill();
            let answer = partner.pay(&invoice);
            assert_ne!(answer["status"], "CONFIRM", "{answer}");
            killed = Some(provider_starts(&provider_site, &bank, &address.to_string()));
            invoices.push((100, invoice, answer));
            continue;
        }
        let answer = partner.pay(&invoice);
        invoices.push((100, invoice, answer));
    }
    bank.faults("{}");
    provider_site.settled();
    site.settled();

    // What was said stands, and what was open ended as the bank's truth.
    for (scenario, invoice, answer) in &invoices {
        let state = site.state(invoice);
        match answer["status"].as_str() {
            Some("PENDING") => assert!(matches!(&*state, "CONFIRM" | "REFUND"), "{scenario}: {state}"),
            Some(word) => assert_eq!(word, state, "{scenario}"),
            None => assert_ne!(state, "CONFIRM", "{scenario}: {answer}"),
        }
        match scenario {
            301 | 302 | 402 | 404 | 406 | 408 => assert_eq!(state, "REFUND", "{scenario}"),
            401 | 403 | 405 | 409 | 410 => assert_eq!(state, "CONFIRM", "{scenario}"),
            _ => {}
        }
    }
    site.verify();
    provider_site.verify();
    let (front, behind) = (Books::read(&site), Books::read(&provider_site));
    behind.agree_with_the_bank(&bank.payments());
    let codes = |books: &Books| -> Vec<String> {
        let confirmed = books.invoices.values().filter(|invoice| invoice["state"] == "CONFIRM");
        let mut codes: Vec<_> = confirmed.map(|invoice| text(invoice, "payment_code")).collect();
        codes.sort();
        codes
    };
    assert_eq!(codes(&front), codes(&behind), "one to one");
    let sum = |books: &Books, key: &str| -> i64 {
        let confirmed = books.invoices.values().filter(|invoice| invoice["state"] == "CONFIRM");
        confirmed.map(|invoice: &Value| whole(invoice, key)).sum()
    };
    let count = i64::try_from(codes(&front).len()).expect("a few");
    assert!(count > 5);
    // The provider's fee of 5 000 and cashback of 2 000 are booked in front; what it took is what we owe it.
    assert_eq!(site.balance("upstream_fee_expense"), 5_000 * count);
    assert_eq!(site.balance("upstream_cashback_income"), -2_000 * count);
    let spent_there = sum(&behind, "total_rupiah") - sum(&behind, "cashback_rupiah");
    assert_eq!(site.balance("bank_payable"), -spent_there);
    assert_eq!(provider_site.balance("reserved"), 0);
    gateway.stop();
    drop(killed);
}
