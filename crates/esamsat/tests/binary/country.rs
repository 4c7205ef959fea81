//! `esamsat country` against a demo: it pays every vehicle of its range once, killed and begun again or not, and
//! stops where going on is of no use.

use crate::kit::{Gateway, PATIENCE, Ran, Site, text, whole, within};
use serde_json::Value;
use std::collections::BTreeSet;

/// Slow enough to be killed half-way.
const SLOW_BANK: &str = "[upstream.simulator]\nkind = \"simulator\"\ndelay_ms = [15, 25]\n";
const VEHICLES: usize = 300;

/// The command, with a state file in the site's folder.
fn country(site: &Site, gateway: &Gateway, arguments: &[&str]) -> std::process::Command {
    let url = format!("http://{}", gateway.address());
    let mut command = site.command(&[&["country", "--url", &url, "--json"][..], arguments].concat());
    command.arg("--state").arg(site.path("state.json"));
    command
}

/// What the state file says, whoever writes it.
fn report(site: &Site) -> Option<Value> {
    let mut command = site.command(&["country", "--report", "--json"]);
    let ran = Ran::of(command.arg("--state").arg(site.path("state.json")));
    assert!(matches!(ran.code, 0 | 3), "{}", ran.stderr);
    (ran.code == 0).then(|| serde_json::from_str(&ran.stdout).expect("JSON"))
}

/// Each of the first vehicles is paid by one invoice, and the bank took as many payments.
fn assert_each_is_paid_once(site: &Site, vehicles: usize) {
    let count = vehicles.to_string();
    let wanted = site.json(&["sandbox", "vehicles", "--count", &count, "--product", "SAMSAT_JABAR"]);
    let wanted = wanted.as_array().expect("a list of vehicles");
    let wanted: BTreeSet<_> = wanted.iter().map(|vehicle| text(vehicle, "structure_number")).collect();
    let paid = site.json(&["invoice", "list", "--state", "confirm", "--limit", "100000"]);
    let paid = paid.as_array().expect("a list of invoices");
    assert_eq!(paid.len(), vehicles, "each is paid once");
    assert_eq!(paid.iter().map(|invoice| text(invoice, "structure_number")).collect::<BTreeSet<_>>(), wanted);
    assert_eq!(site.taken().len(), vehicles);
}

#[test]
fn a_killed_run_goes_on_and_every_vehicle_is_paid_once() {
    let site = Site::new();
    let config = site.configure(SLOW_BANK);
    let mut demo = site.command(&["demo", "--listen", "127.0.0.1:0"]);
    let gateway = Gateway::start(demo.arg("--config").arg(config));
    let arguments = ["--vehicles", &VEHICLES.to_string(), "--connections", "3"];
    let run = Gateway::begin(&mut country(&site, &gateway, &arguments));
    within(PATIENCE, "something is written down", || {
        report(&site).is_some_and(|report| whole(&report, "done") > 0)
    });
    let printed = run.kill();
    let killed = report(&site).expect("a state file");
    let done = whole(&killed, "done");
    assert!((1..300).contains(&done) && killed["is_complete"] == false, "{killed}{printed}");
    assert_eq!(whole(&killed, "already_paid"), 0, "{killed}");

    // How many there are, and where they begin, is in the file.
    let ran = Ran::of(&mut country(&site, &gateway, &["--connections", "3"]));
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    let finished: Value = serde_json::from_str(&ran.stdout).expect("JSON");
    assert_eq!((whole(&finished, "done"), whole(&finished, "runs"), &finished["open"]), (300, 2, &0.into()));
    assert!(whole(&finished, "paid") > done, "{finished}");
    assert_eq!(finished["verify"]["problem_count"], 0, "{finished}");
    assert!(finished["bytes_per_payment"].as_f64().is_some_and(|bytes| bytes > 100.0), "{finished}");
    let stretches = finished["stretches"].as_array().expect("a list of stretches");
    let last = stretches.last().expect("something was done");
    assert!(stretches.len() <= 10 && whole(last, "done_to") == 300, "{finished}");
    assert_each_is_paid_once(&site, VEHICLES);

    // What is complete needs no gateway any more.
    gateway.stop();
    let again = Ran::of(site.command(&["country"]).arg("--state").arg(site.path("state.json")));
    assert_eq!(again.code, 0, "{}", again.stderr);
    let told = again.stdout;
    for words in [
        "300 vehicles from 0 on; 300 are paid, all of them",
        "in 2 runs",
        "bytes a payment",
        "Everything holds.",
    ] {
        assert!(told.contains(words), "{words:?} is not in\n{told}");
    }
}

#[test]
fn a_short_balance_ends_the_run_and_a_deposit_lets_it_go_on() {
    const PARTNERS: [&str; 7] =
        ["--partners", "1", "--partner-prefix", "mitra", "--password", "sandi-uji", "--vehicles"];
    let site = Site::with_partners(1, "sandi-uji", 20_000_000);
    let gateway = site.demo();
    let run = || Ran::of(&mut country(&site, &gateway, &[&PARTNERS[..], &["60"]].concat()));
    let short = run();
    assert_eq!((short.code, &*short.stdout), (4, ""), "{}", short.stderr);
    assert!(short.stderr.contains("top the partner's balance up"), "{}", short.stderr);
    let kept = report(&site).expect("a state file");
    assert!(whole(&kept, "open") > 0 && kept["failures"][0]["count"].as_i64() > Some(0), "{kept}");

    let books = ["--reference", "TRF-1", "--operator", "siti"];
    site.done(&[&["deposit", "add", "mitra0001", "900.000.000"], &books[..]].concat());
    let finished = run();
    assert_eq!(finished.code, 0, "{}", finished.stderr);
    assert_each_is_paid_once(&site, 60);
    gateway.stop();
}

#[test]
fn a_state_of_another_run_is_refused() {
    let site = Site::new();
    let gateway = site.demo();
    assert_eq!(report(&site), None);
    let run = |arguments: &[&str]| Ran::of(&mut country(&site, &gateway, arguments));
    assert_eq!(run(&["--from", "7", "--vehicles", "5"]).code, 0);
    for (arguments, words) in [
        (&["--from", "8"][..], "of a run --from 7"),
        (&["--vehicles", "4"], "raise --vehicles"),
        (&["--vehicles", "42500000"], "lower --vehicles"),
    ] {
        let ran = run(arguments);
        assert!(ran.code == 2 && ran.stderr.contains(words), "{arguments:?}: {} {}", ran.code, ran.stderr);
    }
    // More of them is the same run.
    let more = run(&["--vehicles", "9"]);
    assert_eq!(more.code, 0, "{}", more.stderr);
    assert_eq!(report(&site).map(|report| whole(&report, "done")), Some(9));
    // Of another database, the number of invoices gives it away.
    let elsewhere = Site::with_partners(1, "sandi-uji", 1_000);
    let ran = Ran::of(elsewhere.command(&["country"]).arg("--state").arg(site.path("state.json")));
    assert!(ran.code == 1 && ran.stderr.contains("has 0 CONFIRM invoices"), "{} {}", ran.code, ran.stderr);
    std::fs::write(site.path("state.json"), "{}").expect("written");
    assert_eq!(run(&[]).code, 2);
    gateway.stop();
}
