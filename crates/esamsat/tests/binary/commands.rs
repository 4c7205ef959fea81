//! The command line itself: help everywhere, tables for people, JSON for scripts, and exit codes.

use crate::kit::{DUMMY, EXAMPLE, PATIENCE, Ran, Site, TESTER, esamsat, within};
use serde_json::Value;
use std::fs::{self, File};

/// The commands that a help page lists.
fn listed(help: &str) -> Vec<String> {
    let commands = help.split_once("\nCommands:\n").map_or("", |(_, rest)| rest);
    let commands = commands.split_once("\n\n").map_or(commands, |(commands, _)| commands);
    let names = commands.lines().filter_map(|line| line.strip_prefix("  ")?.split(' ').next());
    names.filter(|name| !name.is_empty() && *name != "help").map(str::to_owned).collect()
}

fn assert_help(path: &[String], pages: &mut usize) {
    let ran = Ran::of(esamsat().args(path).arg("--help"));
    assert_eq!((ran.code, &*ran.stderr), (0, ""), "{path:?}");
    assert!(ran.stdout.contains("Usage: esamsat"), "{path:?}: {}", ran.stdout);
    let about = ran.stdout.lines().next().unwrap_or_default();
    assert!(
        !about.is_empty() && !about.starts_with("Usage"),
        "{path:?} does not say what it is for: {about:?}"
    );
    *pages += 1;
    for name in listed(&ran.stdout) {
        assert_help(&[path, &[name]].concat(), pages);
    }
}

#[test]
fn every_command_has_help() {
    let mut pages = 0;
    assert_help(&[], &mut pages);
    assert!(pages >= 40, "only {pages} help pages were found");
    let version = Ran::of(esamsat().arg("--version"));
    assert_eq!((version.code, version.stdout), (0, format!("esamsat {}\n", env!("CARGO_PKG_VERSION"))));
}

/// A site on which there is something of everything to show: a paid invoice, and an open one.
fn site() -> (Site, String, String) {
    let site = Site::new();
    let gateway = site.demo();
    let partner = gateway.partner(DUMMY);
    let paid = partner.invoice(EXAMPLE);
    partner.pay(&paid);
    let open = partner.invoice((TESTER, "UJI4120001"));
    partner.pay(&open);
    site.done(&["deposit", "add", "dummy", "1000", "--reference", "TRF", "--operator", "siti"]);
    within(PATIENCE, "the bank has been asked", || {
        site.done(&["incident", "list"]).contains("payer_unknown")
    });
    gateway.stop();
    (site, paid, open)
}

#[test]
fn every_command_prints_a_table_and_json() {
    let (site, paid, open) = site();
    let cases: [(&[&str], &[&str], &[&str]); 16] = [
        (
            &["partner", "list"],
            &["Username", "Deposit Rp", "dummy"],
            &["username", "deposit_rupiah", "reserved_rupiah"],
        ),
        (
            &["partner", "show", "dummy"],
            &["deposit", "JKT-00000"],
            &["agent_code", "status", "allowed_networks"],
        ),
        (
            &["product", "list"],
            &["Code", "Fee Rp", "SAMSAT_JATIM"],
            &["code", "fee_rupiah", "on", "upstream"],
        ),
        (&["invoice", "list"], &["Invoice", "State", "CONFIRM", &paid], &["number", "state", "total_rupiah"]),
        (&["invoice", "list", "--state", "pending"], &["PENDING", &open], &["number", "identity"]),
        (
            &["invoice", "show", &paid],
            &["CONFIRM", "Rp 183.500", "settle"],
            &["state", "postings", "trace_number"],
        ),
        (&["ledger", "balances"], &["Account", "Balance Rp", "fee income"], &["balances", "sum_rupiah"]),
        (&["ledger", "entries"], &["Entry", "Reference", "TRF"], &["number", "reference", "operator"]),
        (&["ledger", "entries", "--partner", "dummy"], &["Step", "Amount Rp"], &["subject", "amount_rupiah"]),
        (&["ledger", "entries", "--invoice", &paid], &["Step", "begin"], &["step", "account"]),
        (&["pending", "list"], &["Invoice", "Reserved (WIB)", &open], &["number", "begun_at", "proposal"]),
        (&["incident", "list"], &["Kind", "Last seen (WIB)"], &["invoice", "kind", "count"]),
        (&["verify"], &["Everything holds."], &["checked", "problem_count", "problems"]),
        (&["sandbox", "numbers"], &["Nomor KTP", "UJI4130001"], &["scenario", "structure_number", "finally"]),
        (
            &["sandbox", "vehicles", "--count", "2"],
            &["customer_number"],
            &["number", "product", "customer_number"],
        ),
        (
            &["sandbox", "payments"],
            &["Reference", "178.500"],
            &["invoice", "amount_rupiah", "reference_number"],
        ),
    ];
    for (arguments, words, keys) in cases {
        let table = site.done(arguments);
        for word in words {
            assert!(table.contains(word), "{arguments:?}: {word:?} is not in\n{table}");
        }
        assert!(!table.contains('\u{1b}') && table.lines().all(|line| line.trim_end() == line), "{table}");
        let json = site.json(arguments);
        let row = json.get(0).unwrap_or(&json);
        for key in keys {
            assert!(row.get(key).is_some(), "{arguments:?}: no {key:?} in {row}");
        }
    }
    let first = |arguments: &[&str]| site.done(arguments).lines().next().unwrap_or_default().to_owned();
    assert!(first(&["sandbox", "numbers", "--english"]).contains("KTP number"));
    assert!(first(&["config", "show"]).starts_with("listen = "));
    assert!(first(&["config", "check"]).starts_with("The configuration is fine"));
}

#[test]
fn an_invoices_owner_is_shown_only_on_demand() {
    let (site, paid, _) = site();
    let secrets = [EXAMPLE.0, "JORDAN", "CITAMIANG"];
    for json in [&[][..], &["--json"]] {
        let masked = site.done(&[&["invoice", "show", &paid], json].concat());
        assert!(secrets.iter().all(|secret| !masked.contains(secret)), "{masked}");
        let revealed = site.done(&[&["invoice", "show", &paid, "--reveal"], json].concat());
        assert!(secrets.iter().all(|secret| revealed.contains(secret)), "{revealed}");
    }
    let listed = site.done(&["invoice", "list"]) + &site.done(&["invoice", "list", "--json"]);
    assert!(secrets.iter().all(|secret| !listed.contains(secret)), "{listed}");
}

#[test]
fn exit_codes_say_what_kind_of_failure_it_was() {
    let (site, paid, open) = site();
    let nobody = "999999999999";
    let by = ["--operator", "siti"];
    let because = ["--reference", "R", "--reason", "r", "--operator", "siti"];
    let cases: [(i32, Vec<&str>); 25] = [
        (0, vec!["verify"]),
        (2, vec![]),
        (2, vec!["sell"]),
        (2, vec!["partner", "show"]),
        (2, vec!["deposit", "add", "dummy", "much", "--reference", "R", "--operator", "siti"]),
        (2, vec!["deposit", "add", "dummy", "1000.50", "--reference", "R", "--operator", "siti"]),
        (2, vec!["partner", "credit", "dummy", "1.5"]),
        (2, vec!["deposit", "add", "dummy", "1000", "--reference", "R"]),
        (2, [&["pending", "approve", &open][..], &by].concat()),
        (2, [&["pending", "approve", &open, "--paid", "--trace-number", "123456"][..], &by].concat()),
        (2, [&["pending", "resolve", &open][..], &because].concat()),
        (2, [&["pending", "resolve", &open, "--paid"][..], &because].concat()),
        (2, vec!["invoice", "list", "--state", "LOST"]),
        (3, vec!["partner", "show", "nobody"]),
        (3, vec!["partner", "suspend", "nobody"]),
        (3, vec!["invoice", "show", nobody]),
        (3, vec!["invoice", "list", "--partner", "nobody"]),
        (3, vec!["product", "on", "SAMSAT_BALI"]),
        (3, [&["pending", "approve", nobody, "--not-paid"][..], &by].concat()),
        (3, [&["deposit", "add", "nobody", "1000", "--reference", "R"][..], &by].concat()),
        (4, [&["deposit", "add", "dummy", "2000", "--reference", "TRF"][..], &by].concat()),
        (4, [&["pending", "approve", &open, "--not-paid"][..], &by].concat()),
        (4, [&["pending", "resolve", &paid, "--not-paid"][..], &because].concat()),
        (4, [&["incident", "correct", &paid, "paid_after_refund", "--reference", "R"][..], &by].concat()),
        (4, vec!["partner", "add", "dummy", "--name", "Kembar", "--agent", "JKT-00001"]),
    ];
    for (code, arguments) in cases {
        let ran = site.run(&arguments);
        assert_eq!(ran.code, code, "{arguments:?}: {}{}", ran.stdout, ran.stderr);
        if code > 2 {
            let is_one_line = ran.stderr.lines().count() == 1 && ran.stderr.starts_with("esamsat: ");
            assert!(is_one_line && ran.stdout.is_empty(), "{arguments:?}: {}{}", ran.stdout, ran.stderr);
        }
    }
    let elsewhere = Site::new();
    assert_eq!(elsewhere.run(&["verify"]).code, 5);
    site.verify();
}

#[test]
fn new_partners_and_products_are_there_at_once() {
    let (site, ..) = site();
    let added = site.done(&[
        "partner",
        "add",
        "baru",
        "--name",
        "Mitra Baru",
        "--agent",
        "BDG-00001",
        "--allow",
        "127.0.0.1",
    ]);
    let password =
        added.lines().find_map(|line| line.strip_prefix("Password, shown only now: ")).expect("a password");
    assert!(password.len() >= 16, "{added}");
    site.done(&["partner", "credit", "baru", "500.000"]);
    let shown = site.json(&["partner", "show", "baru"]);
    assert_eq!(
        (&shown["credit_limit_rupiah"], &shown["status"]),
        (&500_000.into(), &"active".into()),
        "{shown}"
    );
    let terms = ["--fee", "6000", "--cashback", "1000", "--upstream", "simulator", "--position", "9"];
    site.done(&[&["product", "set", "SAMSAT_BALI", "--name", "Bali"], &terms[..]].concat());
    let products = site.json(&["product", "list"]);
    let bali = products.as_array().and_then(|products| products.last()).unwrap_or(&Value::Null);
    assert_eq!((&bali["code"], &bali["on"]), (&"SAMSAT_BALI".into(), &false.into()), "{products}");
    let gateway = site.demo();
    let partner = gateway.partner(("baru", password));
    assert_eq!(partner.call("ceksaldo", &[])["saldo"], "0");
    // On credit.
    assert_eq!(partner.pay(&partner.invoice((TESTER, "UJI1000009")))["status"], "CONFIRM");
    gateway.stop();
    site.verify();
}

#[test]
fn a_sandbox_reset_is_of_every_configured_bank() {
    const UPSTREAMS: &str =
        "[upstream.jabar]\nkind = \"simulator\"\n\n[upstream.bali]\nkind = \"simulator\"\n";
    let site = Site::with_partners(1, "sandi-uji", 1_000_000);
    let path = site.configure(UPSTREAMS);
    let config = ["--config", path.to_str().expect("a path in UTF-8")];
    // Not of the first bank by name, of which the other commands speak.
    site.done(&[&["product", "set", "SAMSAT_JABAR", "--upstream", "jabar"][..], &config].concat());
    site.done(&["product", "on", "SAMSAT_JABAR"]);
    let gateway = site.serve(UPSTREAMS);
    let partner = gateway.partner(("mitra0001", "sandi-uji"));
    let is_paid = || {
        let inquired = partner.call(
            "inquiry_esamsat",
            &[("product", "SAMSAT_JABAR"), ("customer_number", EXAMPLE.0), ("structure_number", EXAMPLE.1)],
        );
        let invoice = inquired["invoice"].as_str().unwrap_or_default().to_owned();
        partner.call("pay_esamsat", &[("invoice", &invoice)])["result"] == "ok"
    };
    assert!(is_paid());
    assert!(!is_paid());
    let reset = site.json(&[&["sandbox", "reset"][..], &config].concat());
    assert_eq!(reset["upstreams"], serde_json::json!(["bali", "jabar"]));
    assert!(is_paid());
    gateway.stop();
    site.verify();
}

#[test]
fn a_message_is_described_as_bytes_and_as_hexadecimal_text() {
    let site = Site::new();
    let path = site.path("message");
    let describe = |bytes: &[u8]| {
        fs::write(&path, bytes).expect("the message is written");
        let mut command = site.command(&["bank", "describe", "--profile", "contoh-37-80"]);
        Ran::of(command.stdin(File::open(&path).expect("it was written")))
    };
    let forms = |message: &str| {
        let bytes = message.as_bytes();
        let hex = bytes.iter().map(|byte| format!("{byte:02X}")).collect::<Vec<_>>().concat();
        let in_lines = format!("{} \n{}\n", &hex[..20], &hex[20..]);
        [bytes.to_vec(), [bytes, b"\r\n"].concat(), hex.into_bytes(), in_lines.into_bytes()]
    };
    let message = "02002000000000010000370000021010163299000000000001";
    for form in forms(message) {
        let ran = describe(&form);
        assert!(ran.code == 0 && ran.stdout.contains("nik"), "{}{}", ran.stdout, ran.stderr);
    }
    for form in forms(&message.replace("01016", "01043")) {
        let ran = describe(&form);
        let expected = "does not fit the profile contoh-37-80: field 48.nik at offset 31: length 43";
        assert!(ran.code == 1 && ran.stderr.contains(expected), "{}{}", ran.stdout, ran.stderr);
    }
    let ran = describe(b"neither");
    assert!(ran.code == 1 && ran.stderr.contains("message at offset 0"), "{}{}", ran.stdout, ran.stderr);
}
