//! Nothing secret and nothing personal in what the gateway prints or measures, at the most talkative setting.
//!
//! Every endpoint is driven with right and wrong parameters, in the body and in the query string, through
//! refusals, silences, contradictions and bad input. Then everything that was sent or answered in confidence
//! is looked for, as it was written and as it was escaped, in stderr, stdout and `/metrics`.

use crate::kit::{
    DUMMY, EXAMPLE, Gateway, Site, TESTER,
    http::{Partner, exchange, form, get, request},
    text, within,
};
use serde_json::Value;
use std::collections::BTreeSet;

const PASSWORD: &str = "sandi rahasia & 100%";
const WRONG_PASSWORDS: [&str; 4] = ["salah-sekali-7731", "' OR 1=1 --7732", "<b>7733</b>", "kata\nsandi7734"];
const URLENCODED: &str = "application/x-www-form-urlencoded";
const BOUNDARY: &str = "multipart/form-data; boundary=batas";
const ENDPOINTS: [&str; 5] = [
    "/json/esamsat/list_esamsat",
    "/json/esamsat/inquiry_esamsat",
    "/json/esamsat/pay_esamsat",
    "/json/esamsat/status_invoice",
    "/json/ceksaldo",
];

fn configuration(format: &str) -> String {
    let ours = ["esamsat", "web", "engine", "bank", "store", "store_sqlite", "domain"];
    let levels = ours.map(|name| format!("{name}=trace")).join(",");
    format!(
        "log = \"info,{levels}\"\nlog_format = \"{format}\"\nanswer_within_ms = 1000\nsend_within_ms = 400\n\
         pending_long_after_s = 0\n\n[upstream.simulator]\nkind = \"simulator\"\nhorizon_ms = 900\n\
         answer_timeout_ms = 300\n"
    )
}

/// What must not be found, in every writing that could be.
#[derive(Default)]
struct Confidential(BTreeSet<String>);

impl Confidential {
    fn add(&mut self, secret: &str) {
        let json = serde_json::to_string(secret).expect("a text is JSON");
        let escaped = form(&[("", secret)])[1..].to_owned();
        let plus = escaped.replace("%20", "+");
        let debug = format!("{secret:?}");
        for writing in [secret, json.trim_matches('"'), &escaped, &plus, debug.trim_matches('"')] {
            assert!(writing.len() >= 5, "{writing:?} is too short to be looked for");
            self.0.insert(writing.to_owned());
        }
    }

    /// What an answer tells about a person.
    fn add_owner(&mut self, bill: &Value) {
        for key in ["customer_name", "customer_address", "customer_number"] {
            if let Some(known) = bill[key].as_str() {
                self.add(known);
            }
        }
    }

    fn assert_absent(&self, place: &str, printed: &str) {
        for secret in &self.0 {
            let line = printed.lines().find(|line| line.contains(secret.as_str()));
            assert!(line.is_none(), "{place} tells {secret:?}: {line:?}");
        }
    }
}

/// Goes through every test number to its end.
fn drive_the_scenarios(site: &Site, partner: Partner<'_>, confidential: &mut Confidential) {
    let numbers = site.json(&["sandbox", "numbers"]);
    let numbers = numbers.as_array().expect("a list of test numbers");
    std::thread::scope(|scope| {
        let bills: Vec<_> = numbers
            .iter()
            .map(|number| {
                scope.spawn(move || {
                    let chassis = text(number, "structure_number");
                    let bill = partner.inquire((TESTER, &chassis));
                    if bill["result"] == "ok" {
                        let invoice = text(&bill, "invoice");
                        partner.pay(&invoice);
                        partner.status(&invoice);
                        // Again, as a joiner of what is pending, and as a late-comer.
                        partner.pay(&invoice);
                    }
                    bill
                })
            })
            .collect();
        for bill in bills {
            confidential.add_owner(&bill.join().expect("a scenario is driven"));
        }
    });
}

/// Owners with names of their own, from the population, and the document's.
fn drive_the_owners(site: &Site, partner: Partner<'_>, confidential: &mut Confidential) {
    let vehicles = site.json(&["sandbox", "vehicles", "--count", "5", "--product", "SAMSAT_JABAR"]);
    for vehicle in vehicles.as_array().expect("a list of vehicles") {
        let (nik, chassis) = (text(vehicle, "customer_number"), text(vehicle, "structure_number"));
        let bill = partner.inquire((&nik, &chassis));
        assert_eq!(bill["result"], "ok", "{bill}");
        partner.pay(&text(&bill, "invoice"));
        confidential.add_owner(&bill);
        // The right vehicle with somebody else's number.
        let stranger = format!("3299{}", &nik[4..].chars().rev().collect::<String>());
        confidential.add(&stranger);
        partner.inquire((&stranger, &chassis));
    }
    let bill = partner.inquire(EXAMPLE);
    partner.pay(&text(&bill, "invoice"));
    confidential.add_owner(&bill);
}

/// Everything at every endpoint, well-formed and not, by every way in.
fn sweep(gateway: &Gateway, confidential: &mut Confidential) {
    let address = gateway.address();
    let mut accused = 0;
    // The log-ins of one address are limited; what is turned away is part of the sweep.
    let mut send = |bytes: Vec<u8>| {
        if let Ok(answer) = exchange(address, &bytes) {
            assert_ne!(answer.status, 500, "{}: {answer:?}", String::from_utf8_lossy(&bytes));
            accused += 1;
        }
    };
    let niks = ["3299771100220033", "329977110022004", "32.9977-1100 220055", "nik-salah-880011", "99", ""];
    for (endpoint, wrong) in ENDPOINTS.iter().zip(WRONG_PASSWORDS.iter().cycle()) {
        for password in [PASSWORD, wrong, "", &"panjang77".repeat(30)] {
            for nik in niks {
                let pairs = [
                    ("username", "mitra0001"),
                    ("password", password),
                    ("product", "SAMSAT_JABAR"),
                    ("customer_number", nik),
                    ("structure_number", "UJI1000001"),
                    ("invoice", "1"),
                ];
                let encoded = form(&pairs);
                send(request("POST", endpoint, URLENCODED, encoded.as_bytes()));
                send(request("POST", &format!("{endpoint}?{encoded}"), "", b""));
                send(request("GET", &format!("{endpoint}?{encoded}"), "", b""));
                let json = serde_json::to_string(
                    &pairs.iter().copied().collect::<std::collections::BTreeMap<_, _>>(),
                );
                let json = json.expect("texts are JSON");
                send(request("POST", endpoint, "application/json", json.as_bytes()));
                send(request("POST", endpoint, "application/json", &json.as_bytes()[..json.len() - 3]));
                let parts = pairs.map(|(name, value)| {
                    format!("--batas\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n")
                });
                send(request("POST", endpoint, BOUNDARY, (parts.concat() + "--batas--\r\n").as_bytes()));
                send(request("POST", endpoint, BOUNDARY, (parts.concat() + "--bat").as_bytes()));
                send(request("POST", endpoint, "text/plain", encoded.as_bytes()));
                send(request("POST", endpoint, URLENCODED, format!("{encoded}&password=lain77").as_bytes()));
                send(request("POST", &format!("/{encoded}"), "", b""));
                send(request("POST", &format!("{endpoint}/{encoded}"), "", b""));
            }
        }
        let long = form(&[("username", "mitra0001"), ("password", PASSWORD), ("x", &"x".repeat(70_000))]);
        send(request("POST", endpoint, URLENCODED, long.as_bytes()));
        for junk in [
            &b"username=\xff\xfe&password=\x00\xc3\x28"[..],
            b"%zz%",
            b"&&&===",
            b"{\"password\":{\"a\":[1]}}",
        ] {
            send(request("POST", endpoint, URLENCODED, junk));
            send(request("POST", endpoint, "application/json", junk));
            send(request("POST", endpoint, BOUNDARY, junk));
        }
        // A head that is none, with the password in it.
        send(format!("POST {endpoint}?password=kepala-rusak-77\r\nHost\r\n\r\n").into_bytes());
        send(
            format!("POST {endpoint} HTTP/1.1\r\nConnection: close\r\nAuthorization: Basic kepala-basic-77\r\n\r\n").into_bytes(),
        );
    }
    assert!(accused > 1_000, "only {accused} requests were answered");
    for secret in [&niks[..4], &WRONG_PASSWORDS].concat() {
        confidential.add(secret);
    }
    for secret in [PASSWORD, "panjang77panjang77", "lain77", "kepala-rusak-77", "kepala-basic-77"] {
        confidential.add(secret);
    }
}

fn nothing_personal_is_told(format: &str) {
    let site = Site::with_partners(1, PASSWORD, 100_000_000);
    let gateway = site.serve(&configuration(format));
    let mut confidential = Confidential::default();
    let partner = gateway.partner(("mitra0001", PASSWORD));
    partner.call("list_esamsat", &[]);
    drive_the_owners(&site, partner, &mut confidential);
    drive_the_scenarios(&site, partner, &mut confidential);
    sweep(&gateway, &mut confidential);
    assert!(confidential.0.len() > 60, "too little to look for: {:?}", confidential.0);

    // By now incidents have been raised, and all but the two that only operators can end have settled.
    within(crate::kit::PATIENCE, "only the undecidable are open", || {
        site.json(&["pending", "list"]).as_array().is_some_and(|open| open.len() == 2)
    });
    let incidents = site.json(&["incident", "list"]);
    assert!(incidents.as_array().is_some_and(|incidents| incidents.len() >= 4), "{incidents}");
    confidential.assert_absent("incident list", &incidents.to_string());

    let metrics = get(gateway.address(), "/metrics").expect("the metrics are served").body;
    assert!(metrics.contains("esamsat_requests_total"), "{metrics}");
    confidential.assert_absent("/metrics", &metrics);
    let printed = gateway.stop();
    assert!(!printed.contains("panicked"), "{printed}");
    confidential.assert_absent("the log", &printed);
    // It is a log all the same: of every request, and in the format that was asked for.
    let requests = printed.matches("inquiry_esamsat").count();
    assert!(requests >= 100, "{requests} inquiries in the log");
    if format == "json" {
        let is_json = |line: &str| serde_json::from_str::<Value>(line).is_ok();
        assert_eq!(printed.lines().find(|line| !is_json(line)), None);
    }
    site.verify();
}

#[test]
fn the_text_log_and_the_metrics_tell_nothing_personal_or_secret() {
    nothing_personal_is_told("text");
}

#[test]
fn the_json_log_and_the_metrics_tell_nothing_personal_or_secret() {
    nothing_personal_is_told("json");
}

/// The demo's own messages name the sandbox's credentials on purpose; its log still does not.
#[test]
fn the_demo_logs_no_owner() {
    let site = Site::new();
    let mut command = site.command(&["demo", "--listen", "127.0.0.1:0"]);
    let gateway = Gateway::start(command.env("ESAMSAT_LOG", "trace"));
    let partner = gateway.partner(DUMMY);
    let bill = partner.inquire(EXAMPLE);
    partner.pay(&text(&bill, "invoice"));
    let encoded =
        form(&[("username", DUMMY.0), ("password", "sandi-salah-99"), ("customer_number", EXAMPLE.0)]);
    let target = format!("/json/esamsat/inquiry_esamsat?{encoded}");
    exchange(gateway.address(), &request("POST", &target, "", b"")).expect("an answer");
    let printed = gateway.stop();
    for secret in ["sandi-salah-99", "JORDAN", "CITAMIANG"] {
        assert!(!printed.contains(secret), "{secret} in {printed}");
    }
}
