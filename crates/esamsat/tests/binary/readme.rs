//! The README's promises: the demo's lines work when they are pasted, its data is kept, and every operator's
//! command works beside the running gateway.

use crate::{
    examples::with_blanks,
    kit::{
        DUMMY, EXAMPLE, Gateway, PATIENCE, Ran, Site, TESTER, esamsat, http::Partner, text, whole, within,
    },
};
use serde_json::Value;
use std::{
    io::Write,
    process::{Command, Stdio},
};

/// Pastes the demo's lines for curl into a shell.
fn paste(gateway: &Gateway) -> (Vec<String>, String) {
    let printed = gateway.printed();
    let lines: Vec<_> = printed.lines().filter(|line| line.contains("curl ")).collect();
    assert_eq!(lines.len(), 4, "{printed}");
    let ran = Ran::of(Command::new("sh").args(["-c", &lines.join("\n")]));
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    (ran.stdout.lines().filter(|line| !line.is_empty()).map(with_blanks).collect(), ran.stderr)
}

#[test]
fn the_demos_lines_work_when_pasted_and_its_data_is_kept() {
    let site = Site::new();
    let gateway = site.demo();
    let (answers, inquiry) = paste(&gateway);
    assert_eq!(answers.len(), 3, "{answers:?}");
    assert!(answers[0].starts_with("[{\"product\":\"SAMSAT_JABAR\""), "{answers:?}");
    assert!(
        with_blanks(&inquiry).contains(r#""total":"183500","kodeagen":"JKT-00000","status":"INQUIRY""#),
        "{inquiry}"
    );
    for answer in &answers[1..] {
        assert!(answer.ends_with(r#""status":"CONFIRM"}"#), "{answer}");
    }
    assert_eq!(answers[1], answers[2], "the status repeats the payment's answer");

    // Killed, and started again: everything is still there, and the vehicle is refused as paid.
    gateway.kill();
    let gateway = site.demo();
    let partner = gateway.partner(DUMMY);
    let refused = partner.inquire(EXAMPLE);
    assert_eq!(refused["reason"], "Transaksi tidak dapat diproses. Tagihan sudah dibayar (Kode: 0054)");
    assert_eq!(partner.call("ceksaldo", &[])["saldo"], "9,999,818,500");
    assert_eq!(site.json(&["partner", "list"]).as_array().map(Vec::len), Some(1));

    site.done(&["sandbox", "reset"]);
    let (answers, _) = paste(&gateway);
    assert!(answers[1].ends_with(r#""status":"CONFIRM"}"#), "{answers:?}");
    // The commands that the demo prints work as they stand.
    let printed = gateway.printed();
    let commands: Vec<_> = printed.lines().filter(|line| line.contains(" --data ")).collect();
    assert_eq!(commands.len(), 4, "{printed}");
    for command in commands {
        let (command, _) = command.split_once("   ").expect("a command and what it is for");
        let ran = Ran::of(Command::new("sh").args(["-c", command]));
        assert_eq!((ran.code, &*ran.stderr), (0, ""), "{command}: {}", ran.stdout);
    }
    gateway.stop();
    site.verify();
}

#[test]
fn products_and_partners_change_beside_the_running_demo() {
    let site = Site::new();
    let gateway = site.demo();
    let partner = gateway.partner(DUMMY);
    let vehicle = &site.json(&["sandbox", "vehicles", "--count", "1", "--product", "SAMSAT_JATENG"])[0];
    let ask = || {
        let (nik, chassis) = (text(vehicle, "customer_number"), text(vehicle, "structure_number"));
        let vehicle =
            [("product", "SAMSAT_JATENG"), ("customer_number", &*nik), ("structure_number", &*chassis)];
        partner.call("inquiry_esamsat", &vehicle)
    };
    assert_eq!(ask()["result"], "no");
    site.done(&["product", "on", "SAMSAT_JATENG"]);
    within(PATIENCE, "SAMSAT_JATENG is sold", || ask()["result"] == "ok");
    let bill = ask();
    let paid = partner.pay(&text(&bill, "invoice"));
    assert_eq!((&paid["status"], &paid["product"]), (&"CONFIRM".into(), &"SAMSAT_JATENG".into()), "{paid}");
    assert_eq!(partner.call("list_esamsat", &[])[1]["status"], "ON");
    site.done(&["product", "off", "SAMSAT_JATENG"]);
    within(PATIENCE, "SAMSAT_JATENG is sold no more", || {
        partner.call("list_esamsat", &[])[1]["status"] == "OFF"
    });

    // New terms are for new inquiries alone.
    let before = partner.invoice((TESTER, "UJI1000001"));
    site.done(&["product", "set", "SAMSAT_JABAR", "--fee", "7.500", "--cashback", "0"]);
    within(PATIENCE, "the new fee", || partner.inquire((TESTER, "UJI1000002"))["fee"] == "7500");
    assert_eq!(partner.pay(&before)["fee"], "5000");

    // Not by `call`: wrong passwords are limited, and while they are, HTTP 429 says so.
    let ceksaldo = |partner: Partner<'_>| partner.try_call("ceksaldo", &[]).expect("an answer").json();
    let reason = || ceksaldo(partner)["reason"].clone();
    for (arguments, told) in [
        (&["partner", "suspend", "dummy"][..], "Akun mitra dinonaktifkan."),
        (&["partner", "resume", "dummy"], ""),
        (&["partner", "allow", "dummy", "192.0.2.0/24"], "Alamat IP Anda tidak terdaftar"),
        (&["partner", "allow", "dummy", "192.0.2.0/24", "127.0.0.1"], ""),
        (&["partner", "allow", "dummy"], ""),
    ] {
        site.done(arguments);
        within(PATIENCE, &format!("{arguments:?}"), || match reason() {
            Value::String(reason) => !told.is_empty() && reason.starts_with(told),
            _ => told.is_empty(),
        });
    }
    let changed = site.done(&["partner", "password", "dummy"]);
    let password = changed.lines().find_map(|line| line.strip_prefix("Password, shown only now: "));
    let password = password.expect("the new password is shown");
    within(PATIENCE, "the old password is refused", || reason() == "Username atau password salah.");
    let partner = gateway.partner((DUMMY.0, password));
    within(PATIENCE, "the new password", || ceksaldo(partner)["result"] == "ok");
    // Or the operator's own, from standard input.
    let mut command = site.command(&["partner", "password", "dummy", "--password-stdin"]);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("started");
    child.stdin.take().expect("a pipe").write_all(b"sandi-baru-sekali\n").expect("written");
    let output = child.wait_with_output().expect("ended");
    assert!(output.status.success() && !String::from_utf8_lossy(&output.stdout).contains("sandi"));
    let partner = gateway.partner((DUMMY.0, "sandi-baru-sekali"));
    within(PATIENCE, "the operator's password", || ceksaldo(partner)["result"] == "ok");
    gateway.stop();
    site.verify();
}

#[test]
fn money_and_decisions_beside_the_running_demo() {
    let site = Site::new();
    let gateway = site.demo();
    let partner = gateway.partner(DUMMY);
    let add = ["deposit", "add", "dummy", "1.000.000", "--reference", "TRF-1", "--operator", "siti"];
    let first = site.json(&add);
    assert_eq!((whole(&first, "deposit_rupiah"), &first["repeated"]), (10_001_000_000, &false.into()));
    let second = site.json(&add);
    assert_eq!((whole(&second, "deposit_rupiah"), &second["repeated"]), (10_001_000_000, &true.into()));
    assert_eq!(first["entry"], second["entry"]);
    let retyped = ["deposit", "add", "dummy", "1000000", "--reference", "trf-1 ", "--operator", "siti"];
    assert_eq!(site.json(&retyped), second);
    assert_eq!(partner.call("ceksaldo", &[])["saldo"], "10,001,000,000");

    // Payments about which the bank never says a word: one that operators find paid, one not paid.
    let invoices = ["UJI4130001", "UJI4120001"].map(|chassis| partner.invoice((TESTER, chassis)));
    for invoice in &invoices {
        assert_eq!(partner.pay(invoice)["status"], "PENDING");
    }
    within(PATIENCE, "the bank has been asked who paid", || {
        let incidents = site.json(&["incident", "list"]);
        incidents.as_array().is_some_and(|incidents| incidents.iter().any(|i| i["kind"] == "payer_unknown"))
    });
    let open = site.json(&["pending", "list"]);
    assert_eq!(open.as_array().map(Vec::len), Some(2), "{open}");
    assert_eq!(
        site.run(&["pending", "approve", &invoices[0], "--not-paid", "--operator", "budi"]).code,
        4,
        "nothing is proposed"
    );
    let because = ["--reference", "SURAT-7", "--reason", "rekening koran", "--operator", "siti"];
    let paid =
        ["--paid", "--reference-number", "0123456789ABCDEF0123456789ABCDEF", "--trace-number", "123456"];
    let mut ends_as = [paid.to_vec(), vec!["--not-paid"]];
    let hint = site.done(&[&["pending", "resolve", &invoices[0]], &paid[..], &because].concat());
    let expected = format!("esamsat pending approve {} {} --operator NAME\n", invoices[0], paid.join(" "));
    assert!(hint.ends_with(&expected), "{hint}");
    site.done(&[&["pending", "resolve", &invoices[1], "--not-paid"], &because[..]].concat());
    assert_eq!(partner.status(&invoices[0]), "PENDING", "a proposal moves nothing");
    let proposed = site.json(&["pending", "list"]);
    let shown = &proposed[0]["proposal"];
    assert_eq!(shown["outcome"], "paid", "{proposed}");
    assert_eq!((&shown["reference_number"], &shown["trace_number"]), (&paid[2].into(), &paid[4].into()));
    assert_eq!(proposed[1]["proposal"]["trace_number"], Value::Null, "{proposed}");
    let listed = site.done(&["pending", "list"]);
    for word in ["siti", paid[2], paid[4], "SURAT-7", "rekening koran"] {
        assert!(listed.contains(word), "{word:?} is not in\n{listed}");
    }
    let approve = |invoice: &str, ending: &[&str], operator: &str| {
        site.run(&[&["pending", "approve", invoice], ending, &["--operator", operator]].concat())
    };
    let alone = approve(&invoices[0], &ends_as[0], "siti");
    assert!(alone.code == 4 && alone.stderr.contains("a second operator"), "{}", alone.stderr);
    // Who misread a digit, or saw an earlier proposal, moves nothing.
    let mut misread = paid;
    misread[4] = "123465";
    for ending in [&misread[..], &["--not-paid"]] {
        let other = approve(&invoices[0], ending, "budi");
        assert!(other.code == 4 && other.stderr.contains("something else"), "{}", other.stderr);
    }
    assert_eq!(partner.status(&invoices[0]), "PENDING");
    ends_as[0][2] = " 0123456789ABCDEF0123456789ABCDEF";
    for (invoice, ending) in invoices.iter().zip(&ends_as) {
        // "Not paid" has to wait until the bank cannot receive the payment any more.
        within(PATIENCE, "the second operator's approval", || {
            let ran = approve(invoice, ending, "budi");
            assert!(ran.code == 0 || ran.stderr.contains("horizon has not passed"), "{}", ran.stderr);
            ran.code == 0
        });
    }
    assert_eq!(invoices.each_ref().map(|invoice| partner.status(invoice)), ["CONFIRM", "REFUND"]);
    let settled = partner.call("status_invoice", &[("invoice", &invoices[0])]);
    assert_eq!((&settled["reference_number"], &settled["trace_number"]), (&paid[2].into(), &paid[4].into()));
    assert!(site.done(&["pending", "list"]).starts_with("No payment is open."));

    let ledger = site.json(&["ledger", "balances"]);
    assert_eq!(whole(&ledger, "sum_rupiah"), 0);
    let postings = site.json(&["ledger", "entries", "--invoice", &invoices[1]]);
    let sum: i64 = postings.as_array().expect("a list").iter().map(|p| whole(p, "amount_rupiah")).sum();
    assert_eq!(sum, 0, "{postings}");
    let manual = site.json(&["ledger", "entries"]);
    assert_eq!(manual.as_array().map(Vec::len), Some(2), "{manual}");
    site.verify();
    gateway.stop();
    site.verify();
}

#[test]
fn without_a_folder_the_demo_keeps_its_data_here() {
    let site = Site::new();
    let mut command = esamsat();
    command.args(["demo", "--listen", "127.0.0.1:0"]).current_dir(site.path(""));
    let gateway = Gateway::start(&mut command);
    let ran = Ran::of(esamsat().arg("verify").current_dir(site.path("")));
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    assert!(site.path("esamsat-demo/esamsat.sqlite").exists());
    gateway.stop();
}
