//! `esamsat ledger export`: hledger, which knows nothing of the gateway, accepts the journal at its strictest and comes
//! to the same balances.

use crate::kit::{DUMMY, EXAMPLE, PATIENCE, Ran, Site, TESTER, text, whole, within};
use rusqlite::Connection;
use std::{
    collections::BTreeMap,
    fs,
    path::Path,
    process::{Command, Stdio},
};

/// Names and references that would be something else in the journal if they were not escaped.
const AWKWARD: &str = "mitra: \"satu\"  ; type: X\u{a0}№\u{2003}\u{2003}(a) 100% = 1 IDR";
const AWKWARD_REFERENCES: [&str; 3] =
    ["TRF 1; dari: BCA | cek  (2) 100%", "=1 IDR @ 2 USD", "№ 7 include /etc/passwd"];

fn hledger(arguments: &[&str], journal: &Path) -> String {
    // In the plainest locale: the journal must not depend on the reader's.
    let mut command = Command::new("hledger");
    command.env("LC_ALL", "C").arg("-f").arg(journal).args(arguments).stdin(Stdio::null());
    let output = command.output().expect("hledger runs; `cargo xtask test` installs it (Debian: hledger)");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "hledger {arguments:?}: {stderr}");
    String::from_utf8(output.stdout).expect("hledger prints UTF-8")
}

/// Balances by hledger, by account name with its escapes undone; those that are zero as well.
fn balances_by_hledger(journal: &Path) -> BTreeMap<String, i64> {
    let printed = hledger(&["balance", "--flat", "--empty", "--no-total", "--output-format", "csv"], journal);
    let rows = printed.lines().skip(1).map(|line| {
        let cells = line.trim_matches('"').split_once("\",\"");
        let (name, amount) = cells.unwrap_or_else(|| panic!("no two cells: {line}"));
        let amount = amount.strip_suffix(" IDR").unwrap_or(amount);
        (unescaped(name), amount.parse().unwrap_or_else(|_| panic!("no whole amount: {line}")))
    });
    rows.collect()
}

fn unescaped(name: &str) -> String {
    let mut parts = name.split('%');
    let mut bytes = parts.next().unwrap_or_default().as_bytes().to_vec();
    for part in parts {
        let (hex, rest) = part.split_at(2);
        bytes.push(u8::from_str_radix(hex, 16).expect("two hexadecimal digits"));
        bytes.extend_from_slice(rest.as_bytes());
    }
    String::from_utf8(bytes).expect("a name in UTF-8")
}

/// Balances by the gateway's own word.
fn balances(site: &Site) -> BTreeMap<String, i64> {
    let ledger = site.json(&["ledger", "balances"]);
    let rows = ledger["balances"].as_array().expect("a list of balances");
    rows.iter()
        .map(|row| {
            let names = ["environment", "account", "owner"].map(|key| text(row, key));
            (names.join(":").trim_end_matches(':').to_owned(), whole(row, "balance_rupiah"))
        })
        .collect()
}

/// Payments of every outcome and one that stays open, and top-ups; stopped. The invoice that was refunded.
fn busy(site: &Site) -> String {
    let gateway = site.demo();
    let partner = gateway.partner(DUMMY);
    assert_eq!(partner.pay(&partner.invoice(EXAMPLE))["status"], "CONFIRM");
    for serial in 1..=5 {
        let invoice = partner.invoice((TESTER, &format!("UJI100000{serial}")));
        assert_eq!(partner.pay(&invoice)["status"], "CONFIRM");
    }
    let refunded = partner.invoice((TESTER, "UJI3010001"));
    partner.pay(&refunded);
    within(PATIENCE, "the money is given back", || site.state(&refunded) == "REFUND");
    let open = partner.invoice((TESTER, "UJI4130001"));
    assert_eq!(partner.pay(&open)["status"], "PENDING");
    site.done(&["partner", "add", AWKWARD, "--name", "Mitra", "--agent", "BDG-00001"]);
    for reference in AWKWARD_REFERENCES {
        let credit = ["deposit", "add", AWKWARD, "1234567", "--reference", reference];
        site.done(&[&credit[..], &["--operator", "siti"]].concat());
    }
    gateway.stop();
    refunded
}

/// Exports in both ways, and holds hledger's balances against the gateway's.
fn assert_exported(site: &Site, transactions: usize) {
    let path = site.path("esamsat.journal");
    let file = path.to_str().expect("a path in UTF-8");
    site.done(&["ledger", "export", "--format", "hledger", "--output", file]);
    let journal = fs::read_to_string(&path).expect("it was written");
    assert_eq!(journal, site.done(&["ledger", "export", "--format", "hledger"]), "stdout and the file agree");
    assert!(!site.path("esamsat.journal.partial").exists());
    assert!(journal.is_ascii(), "{journal}");

    // Strictly: whatever account and commodity is used was declared, and every transaction balances.
    hledger(&["check", "--strict"], &path);
    let printed = hledger(&["print"], &path);
    let counted = printed.lines().filter(|line| line.starts_with("20")).count();
    assert_eq!(counted, transactions, "{printed}");
    assert!(
        journal.ends_with(" postings.\n") && journal.contains(&format!("end: {transactions} transactions"))
    );

    let (ours, theirs) = (balances(site), balances_by_hledger(&path));
    assert_eq!(ours, theirs);
    assert_eq!(ours[&format!("sandbox:deposit:{AWKWARD}")], -3 * 1_234_567);
    assert!(ours["sandbox:reserved:dummy"] < 0, "a payment is open: {ours:?}");
    let statement = hledger(&["incomestatement", "--output-format", "csv"], &path);
    assert!(statement.contains("sandbox:fee_income"), "the types of accounts are told: {statement}");
}

#[test]
fn hledger_comes_to_the_same_balances() {
    let site = Site::new();
    let refunded = busy(&site);
    // The bank took it after all: written off, by a correction that the ledger carries as an entry.
    let file = Connection::open(site.database()).expect("opened");
    let seen = "INSERT INTO incident (invoice, kind, detail, first_at, last_at, count)
                VALUES (?1, 'paid_after_refund', 'by the statement', 1, 1, 1)";
    file.execute(seen, [&refunded]).expect("an incident");
    drop(file);
    let correct = ["incident", "correct", &refunded, "paid_after_refund", "--reference", "R/K 17"];
    site.done(&[&correct[..], &["--operator", "siti"]].concat());
    site.verify();
    // Seven settled in two steps each, an open one, the demo's own top-up, three others, and the correction.
    assert_exported(&site, 7 * 2 + 1 + 1 + 3 + 1);
    let journal = site.done(&["ledger", "export", "--format", "hledger"]);
    assert!(journal.contains(&format!(") correction invoice {refunded}: R/K 17\n")), "{journal}");
    assert!(journal.contains(&format!("({refunded}) settle\n")), "{journal}");
}

#[test]
fn shares_of_writers_on_postgres_are_one_account() {
    let site = Site::shared();
    busy(&site);
    site.verify();
    assert_exported(&site, 7 * 2 + 1 + 1 + 3);
}

#[test]
fn an_empty_ledger_is_a_journal_too() {
    let site = Site::new();
    site.done(&["migrate"]);
    let path = site.path("empty.journal");
    fs::write(&path, site.done(&["ledger", "export", "--format", "hledger"])).expect("written");
    hledger(&["check", "--strict"], &path);
}

/// Nothing is made up: a journal with a nameless account would be no proof of anything.
#[test]
fn an_account_without_an_owner_ends_the_export_and_leaves_no_file() {
    let site = Site::new();
    busy(&site);
    let original = fs::read(site.database()).expect("read");
    for change in ["DELETE FROM partner WHERE username = 'dummy'", "DELETE FROM balance"] {
        fs::write(site.database(), &original).expect("put back");
        let file = Connection::open(site.database()).expect("opened");
        assert!(file.execute(change, ()).expect(change) > 0, "{change}");
        drop(file);
        let path = site.path("esamsat.journal");
        let arguments = ["ledger", "export", "--format", "hledger", "--output"];
        let ran = site.run(&[&arguments[..], &[path.to_str().expect("a path in UTF-8")]].concat());
        assert_eq!((ran.code, &*ran.stdout), (1, ""), "{change}: {}", ran.stderr);
        assert!(
            ran.stderr.contains("sandbox/deposit/1") && ran.stderr.contains("esamsat verify"),
            "{}",
            ran.stderr
        );
        assert!(!path.exists() && !site.path("esamsat.journal.partial").exists(), "{change}");
    }
}

#[test]
fn a_journal_that_cannot_be_written_is_said_and_leaves_the_old_one() {
    let site = Site::new();
    site.done(&["migrate"]);
    let export = |file: &str| site.run(&["ledger", "export", "--format", "hledger", "--output", file]);
    let nowhere = site.path("nowhere/esamsat.journal");
    let nowhere = nowhere.to_str().expect("a path in UTF-8");
    for (file, code) in [(nowhere, 5), ("/dev/full", 2), (site.data().to_str().expect("a path in UTF-8"), 2)]
    {
        let Ran { code: found, stdout, stderr } = export(file);
        assert!(found == code && stdout.is_empty(), "{file}: {found}: {stdout}{stderr}");
        assert!(stderr.starts_with("esamsat: failed to write ") && stderr.contains(file), "{stderr}");
    }
    let full = fs::File::options().write(true).open("/dev/full").expect("Linux has one");
    let mut command = site.command(&["ledger", "export", "--format", "hledger"]);
    let output = command.stdout(full).stderr(Stdio::piped()).output().expect("it ran");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(5), "{stderr}");
    assert!(stderr.contains("failed to write stdout"), "{stderr}");
}
