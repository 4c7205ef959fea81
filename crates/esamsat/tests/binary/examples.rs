//! The example clients, run as a partner would against a demo: list, inquire, pay, status, pay again.
//!
//! Their programs (`curl`, `php`, `python3`) are installed by `cargo xtask test`; without them these tests fail
//! and say so.

use crate::kit::{DUMMY, Ran, Site, repository};
use std::process::Command;

const LIST: &str = r#"[{"product":"SAMSAT_JABAR","product_code":"SAMSAT_JABAR","debet":"tagihan+5000","cashback":"2000","status":"ON"},{"product":"SAMSAT_JATENG","product_code":"SAMSAT_JATENG","debet":"tagihan+5000","cashback":"2000","status":"OFF"},{"product":"SAMSAT_JAKARTA","product_code":"SAMSAT_JAKARTA","debet":"tagihan+5000","cashback":"2000","status":"OFF"},{"product":"SAMSAT_JATIM","product_code":"SAMSAT_JATIM","debet":"tagihan+5000","cashback":"2000","status":"OFF"}]"#;
const INQUIRY: &str = r#"{"result":"ok","tanggal":"…","product":"SAMSAT_JABAR","invoice":"…","paymentcode":"322020060719000","customer_number":"320111111111111","customer_name":"JORDAN","customer_address":"KP CITAMIANG DUA RT1 RW4 PAMIJAHAN KAB BOGOR","structure_number":"MH328D204AK4010000","license_plate":"F 0001 Z","vehicle_brand":"YAMAHA","vehicle_model":"28D (AL115S/MIO)","vehicle_color":"MERAH MARUN","year_built":"2010","tax_pkb":"143500","tax_swd":"35000","tax_bnn":"0","penalty_pkb":"0","penalty_swd":"0","penalty_bnn":"0","fee":"5000","total":"183500","kodeagen":"JKT-00000","status":"INQUIRY"}"#;
const PAID: &str = r#"{"result":"ok","tanggal":"…","product":"SAMSAT_JABAR","invoice":"…","reference_number":"…","trace_number":"…","paymentcode":"322020060719000","customer_number":"320111111111111","customer_name":"JORDAN","customer_address":"KP CITAMIANG DUA RT1 RW4 PAMIJAHAN KAB BOGOR","structure_number":"MH328D204AK4010000","license_plate":"F 0001 Z","vehicle_brand":"YAMAHA","vehicle_model":"28D (AL115S/MIO)","vehicle_color":"MERAH MARUN","year_built":"2010","tax_pkb":"143500","tax_swd":"35000","tax_bnn":"0","penalty_pkb":"0","penalty_swd":"0","penalty_bnn":"0","fee":"5000","total":"183500","kodeagen":"JKT-00000","status":"CONFIRM"}"#;
const PAID_BEFORE: &str = r#"{"result":"no","tanggal":"…","product":"SAMSAT_JABAR","invoice":"…","customer_number":"320111111111111","structure_number":"MH328D204AK4010000","kodeagen":"JKT-00000","reason":"Transaksi tidak dapat diproses. Tagihan sudah dibayar (Kode: 0054)"}"#;

/// The document's five answers.
const ANSWERS: [&str; 5] = [LIST, INQUIRY, PAID, PAID, PAID_BEFORE];

/// What a program must say to be there at all.
fn needs(program: &str, arguments: &[&str]) {
    let probe = Command::new(program).args(arguments).output();
    let is_there = probe.is_ok_and(|output| output.status.success());
    assert!(is_there, "`{program} {}` fails; `cargo xtask test` installs what it needs", arguments.join(" "));
}

/// What differs between two runs, put out of the way after a look at its form.
pub(crate) fn with_blanks(answer: &str) -> String {
    type Form = fn(&str) -> bool;
    let forms: [(&str, Form); 4] = [
        ("tanggal", |value| {
            let digits = value.bytes().map(|b| if b.is_ascii_digit() { b'0' } else { b }).collect::<Vec<_>>();
            digits == b"0000-00-00 00:00:00"
        }),
        ("invoice", |value| value.len() == 12 && value.bytes().all(|b| b.is_ascii_digit())),
        ("reference_number", |value| {
            value.len() == 32 && value.bytes().all(|b| b"0123456789ABCDEF".contains(&b))
        }),
        ("trace_number", |value| value.len() == 6 && value.bytes().all(|b| b.is_ascii_digit())),
    ];
    let mut blanked = answer.to_owned();
    for (key, is_well_formed) in forms {
        let Some((before, rest)) = blanked.split_once(&format!("\"{key}\":\"")) else { continue };
        let (value, after) = rest.split_once('"').expect("a text ends");
        assert!(is_well_formed(value), "{key} is {value:?} in {answer}");
        blanked = format!("{before}\"{key}\":\"…\"{after}");
    }
    blanked
}

fn gives_the_documents_answers(program: &str, example: &str) {
    let site = Site::new();
    let gateway = site.demo();
    let run = || {
        let mut command = Command::new(program);
        command.arg(repository().join("examples").join(example)).arg(format!("http://{}", gateway.address()));
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("ESAMSAT_") {
                command.env_remove(name);
            }
        }
        let ran = Ran::of(&mut command);
        (ran.code, ran.stdout.lines().map(with_blanks).collect::<Vec<_>>(), ran.stderr)
    };
    let (code, answers, remarks) = run();
    assert_eq!(answers, ANSWERS, "{remarks}");
    assert_eq!(code, 0, "{remarks}");

    // A vehicle that has been paid is refused, and the client says so.
    let (code, answers, remarks) = run();
    assert_eq!((code, answers), (1, vec![LIST.to_owned(), PAID_BEFORE.to_owned()]), "{remarks}");

    site.done(&["sandbox", "reset"]);
    let (code, answers, remarks) = run();
    assert_eq!((code, answers), (0, ANSWERS.map(str::to_owned).to_vec()), "{remarks}");
    assert_eq!(site.taken().len(), 2);
    assert_eq!(gateway.partner(DUMMY).call("ceksaldo", &[])["saldo"], "9,999,637,000");
    gateway.stop();
    site.verify();
}

#[test]
fn the_curl_example_gives_the_documents_answers() {
    needs("curl", &["--version"]);
    gives_the_documents_answers("bash", "curl.sh");
}

#[test]
fn the_php_example_gives_the_documents_answers() {
    needs("php", &["-r", "exit(function_exists('curl_init') ? 0 : 1);"]);
    gives_the_documents_answers("php", "pay.php");
}

#[test]
fn the_python_example_gives_the_documents_answers() {
    needs("python3", &["-c", "import requests"]);
    gives_the_documents_answers("python3", "pay.py");
}
