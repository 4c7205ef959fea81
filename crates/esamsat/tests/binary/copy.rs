//! Moving an installation over to PostgreSQL: there it tells what it told here and goes on from there,
//! whatever interrupted the move, and at no moment can both be used.

use crate::kit::{DUMMY, EXAMPLE, Gateway, PATIENCE, Ran, Site, TESTER, postgres::Schema, text, within};
use serde_json::Value;
use std::process::Command;

/// A bank whose silence outlasts the gateway, and short times for everything else.
const SILENT: &str = "answer_within_ms = 1000\nsend_within_ms = 900\nshutdown_within_ms = 500\n\
     [upstream.simulator]\nkind = \"simulator\"\nhorizon_ms = 60000\nanswer_timeout_ms = 60000\n";

/// The same bank, heard out.
const PROMPT: &str =
    "[upstream.simulator]\nkind = \"simulator\"\nhorizon_ms = 1500\nanswer_timeout_ms = 300\n";

/// An installation with something of everything; the last one returned is a payment that the bank has made,
/// and that is open here.
fn installation() -> (Site, Vec<String>, String) {
    let site = Site::new();
    let gateway = site.demo();
    let partner = gateway.partner(DUMMY);
    let mut invoices = Vec::new();
    let paid = partner.invoice(EXAMPLE);
    partner.pay(&paid);
    invoices.push(paid);
    // Refused by the bank; never answered for; inquired only.
    for (vehicle, is_paid) in
        [("UJI3010001", true), ("UJI4120001", true), ("UJI4130001", true), ("UJI1000001", false)]
    {
        let invoice = partner.invoice((TESTER, vehicle));
        if is_paid {
            partner.pay(&invoice);
        }
        invoices.push(invoice);
    }
    for vehicle in ["UJI1100001", "UJI1120001"] {
        partner.inquire((TESTER, vehicle));
    }
    site.done(&["deposit", "add", "dummy", "1000", "--reference", "TRF 1", "--operator", "siti"]);
    site.done(&["partner", "add", "loket1", "--name", "Loket Satu", "--agent", "BDG-00001"]);
    site.done(&["partner", "suspend", "loket1"]);
    within(PATIENCE, "the bank has been asked", || {
        site.done(&["incident", "list"]).contains("payer_unknown")
    });
    let (number, reason) = (&*invoices[3], "Bank: tidak ada transaksi");
    let by = ["--operator", "siti", "--reference", "Surat 12", "--reason", reason];
    within(PATIENCE, "the horizon has passed", || {
        site.run(&[&["pending", "resolve", number, "--not-paid"][..], &by].concat()).code == 0
    });
    gateway.stop();
    assert_eq!(
        [0, 1, 2, 3, 4].map(|place| site.state(&invoices[place])),
        ["CONFIRM", "REFUND", "PENDING", "PENDING", "INQUIRY"]
    );

    let gateway = site.serve(SILENT);
    let partner = gateway.partner(DUMMY);
    let open = partner.invoice((TESTER, "UJI4010001"));
    assert_eq!(text(&partner.pay(&open), "status"), "PENDING");
    gateway.stop();
    assert_eq!(site.state(&open), "PENDING");
    invoices.push(open.clone());
    (site, invoices, open)
}

/// What the commands tell about everything.
fn told(site: &Site, invoices: &[String], database: &[&str]) -> Vec<(String, Value)> {
    let mut questions: Vec<Vec<&str>> = [
        "partner list",
        "partner show dummy",
        "partner show loket1",
        "product list",
        "invoice list --limit 100",
        "invoice list --state pending",
        "ledger balances",
        "ledger entries",
        "ledger entries --partner dummy",
        "pending list",
        "incident list",
        "verify",
    ]
    .map(|question| question.split(' ').collect())
    .into();
    for invoice in invoices {
        questions.push(vec!["invoice", "show", invoice, "--reveal"]);
        questions.push(vec!["ledger", "entries", "--invoice", invoice]);
    }
    let ask = |question: &Vec<&str>| (question.join(" "), site.json(&[question, database].concat()));
    questions.iter().map(ask).collect()
}

fn from(site: &Site) -> String {
    format!("sqlite:{}", site.database().display())
}

fn copy(site: &Site, to: &str) -> Command {
    site.command(&["copy", "--from", &from(site), "--to", to, "--page", "3"])
}

fn refused(ran: &Ran, code: i32, words: &[&str]) {
    let told = &ran.stderr;
    assert!(ran.code == code && told.lines().count() == 1, "{code}: {} {told:?}", ran.code);
    assert!(ran.stdout.is_empty() && !told.contains("sandi"), "{told:?}");
    for word in words {
        assert!(told.contains(word), "{word:?} is not in {told:?}");
    }
}

#[test]
fn the_other_side_tells_the_same_and_goes_on() {
    let (site, invoices, open) = installation();
    let before = told(&site, &invoices, &[]);
    let schema = Schema::empty();
    let (url, password) = schema.url_and_password();

    // The folder stands for the file in it, the password in the environment.
    let folder = format!("sqlite:{}", site.data().display());
    let mut command = site.command(&["copy", "--from", &folder, "--to", &url, "--json"]);
    let ran = Ran::of(command.env("ESAMSAT_DATABASE_PASSWORD", &password));
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    let summary: Value = serde_json::from_str(&ran.stdout).expect("--json prints JSON");
    assert_eq!(
        (&summary["rows"]["partner"], &summary["rows"]["invoice"]),
        (&2.into(), &8.into()),
        "{summary}"
    );
    assert_eq!((&summary["verify"]["problem_count"], &summary["is_resumed"]), (&0.into(), &false.into()));
    assert!(!ran.stdout.contains(&password), "{summary}");

    let there = schema.url();
    let database = ["--database", &*there];
    for (before, after) in before.iter().zip(told(&site, &invoices, &database)) {
        assert_eq!(before, &after);
    }

    // Nothing uses the old one any more, by mistake.
    for arguments in [&["partner", "list"][..], &["migrate"], &["demo", "--listen", "127.0.0.1:0"]] {
        refused(&site.run(arguments), 5, &["was moved to postgres://", "--database", "docs/operating.md"]);
    }
    let again = Ran::of(&mut copy(&site, &there));
    assert!(again.code == 0 && again.stdout.contains("there is nothing to do"), "{}", again.stderr);

    // The new one goes on: what was open is settled, and new invoices follow.
    let mut serving = site.serving(PROMPT);
    let gateway = Gateway::start(serving.args(database));
    let partner = gateway.partner(DUMMY);
    within(PATIENCE, "the open payment is settled", || partner.status(&open) == "CONFIRM");
    let fresh = partner.invoice((TESTER, "UJI1000002"));
    assert!(fresh > *invoices.iter().max().expect("there are some"), "{fresh} is new");
    assert_eq!(text(&partner.pay(&fresh), "status"), "CONFIRM");
    // What is paid stays paid.
    let bill = partner.inquire(EXAMPLE);
    assert_ne!(text(&bill, "result"), "ok", "{bill}");
    gateway.stop();
    let ran = site.run(&[&["verify"][..], &database].concat());
    assert!(ran.code == 0 && ran.stdout.ends_with("Everything holds.\n"), "{}{}", ran.stdout, ran.stderr);
}

#[test]
fn a_move_that_is_killed_goes_on() {
    let (site, invoices, _) = installation();
    let before = told(&site, &invoices, &[]);
    let schema = Schema::empty();
    let url = schema.url();
    let database = ["--database", &*url];
    site.done(&[&["migrate"][..], &database].concat());

    let places = [
        ("copied_from", "true".to_owned()),
        ("partner", "NEW.id = 2".to_owned()),
        ("claim", "NEW.key LIKE 'u/%'".to_owned()),
        ("invoice", format!("NEW.number = {}", invoices[0])),
        ("settlement", format!("NEW.number = {}", invoices[1])),
        ("posting", format!("NEW.subject = {} AND NEW.step = 2", invoices[1])),
        ("outbox", "NEW.id = 5".to_owned()),
    ];
    for (table, condition) in &places {
        let hold = schema.hold(table, condition);
        let copying = Gateway::begin(&mut copy(&site, &url));
        hold.wait();
        copying.kill();
        // What the killed one had sent is done or undone, while the next one begins.
        hold.release();
        if *table != "copied_from" {
            let ran = site.run(&[&["partner", "list"][..], &database].concat());
            refused(&ran, 5, &["unfinished copy", "esamsat copy"]);
        }
    }
    // Killed where the source is marked and the target not yet open: neither can be used.
    schema.execute(
        "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RAISE ''not yet''; END';
         CREATE TRIGGER refuse BEFORE UPDATE ON copied_from FOR EACH ROW EXECUTE FUNCTION refuse()",
    );
    let ran = Ran::of(&mut copy(&site, &url));
    assert!(ran.code != 0 && ran.stderr.contains("run the same command again"), "{}", ran.stderr);
    refused(&site.run(&["partner", "list"]), 5, &["was moved to"]);
    refused(&site.run(&[&["partner", "list"][..], &database].concat()), 5, &["unfinished copy"]);
    schema.execute("DROP FUNCTION refuse CASCADE");

    let ran = Ran::of(copy(&site, &url).arg("--json"));
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    let summary: Value = serde_json::from_str(&ran.stdout).expect("--json prints JSON");
    assert_eq!(summary["is_resumed"], true, "{summary}");
    for (before, after) in before.iter().zip(told(&site, &invoices, &database)) {
        assert_eq!(before, &after);
    }
}

#[test]
fn what_would_mix_two_histories_is_refused() {
    let site = Site::new();
    let gateway = site.demo();
    let schema = Schema::empty();
    let url = schema.url();
    refused(&Ran::of(&mut copy(&site, &url)), 5, &["is locked by another process", "stop it"]);
    gateway.stop();

    for (arguments, words) in [
        (&["copy", "--from", "esamsat.sqlite", "--to", &url][..], "sqlite:"),
        (&["copy", "--from", "sqlite:nowhere"], "--to"),
    ] {
        let ran = site.run(arguments);
        assert!(ran.code == 2 && ran.stderr.contains(words), "{}", ran.stderr);
    }
    let ran = site.run(&["copy", "--from", "sqlite:nowhere", "--to", &url]);
    refused(&ran, 5, &["there is no database at nowhere"]);

    // Another database has something in it.
    let used = Schema::empty();
    let elsewhere = used.url();
    site.done(&["migrate", "--database", &elsewhere]);
    site.done(&["partner", "add", "x", "--name", "X", "--agent", "BDG-00001", "--database", &elsewhere]);
    refused(&Ran::of(&mut copy(&site, &elsewhere)), 4, &["not empty", "table partner"]);

    // The source changes between two tries.
    site.done(&["migrate", "--database", &url]);
    let hold = schema.hold("posting", "true");
    let copying = Gateway::begin(&mut copy(&site, &url));
    hold.wait();
    refused(&site.run(&["partner", "list"]), 5, &["is locked by another process"]);
    copying.kill();
    hold.release();
    site.done(&["deposit", "add", "dummy", "1000", "--reference", "TRF", "--operator", "siti"]);
    refused(&Ran::of(&mut copy(&site, &url)), 4, &["was changed since", "Empty the target"]);

    // A moved source, and how it is taken back.
    let fresh = Schema::empty();
    let there = fresh.url();
    let ran = Ran::of(&mut copy(&site, &there));
    assert!(ran.code == 0 && ran.stdout.contains("both ends tell the same"), "{}", ran.stderr);
    refused(&Ran::of(&mut copy(&site, &url)), 5, &["was moved to"]);
    let other = Schema::empty();
    refused(&Ran::of(&mut copy(&site, &other.url())), 4, &["was moved to", "is empty now", "copy --undo"]);
    let source = from(&site);
    let undo = ["copy", "--undo", "--from", &*source];
    assert!(site.done(&undo).contains("can be used again"));
    refused(&site.run(&undo), 4, &["was not moved"]);
    refused(&Ran::of(&mut copy(&site, &there)), 4, &["holds a finished copy"]);
    site.verify();
}
