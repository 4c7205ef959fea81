//! What every answer means, by itself.

use super::{BILL, answered, asked, refused, request};
use crate::{
    InquiryOutcome, PaymentOutcome, StatusOutcome, Unknown,
    relay::{answer::Answer, mapping, reasons::Refusals},
};
use domain::{Reason, Refusal, Rupiah, Timestamp, record::IncidentKind};
use std::collections::BTreeMap;

fn refusals() -> Refusals {
    let table = [
        ("kode:0054", Reason::BillAlreadyPaid),
        ("Saldo Anda tidak cukup", Reason::BankUnreachable),
        ("Kendaraan diblokir", Reason::VehicleBlocked),
    ];
    Refusals::parse(
        &table.map(|(key, reason)| (key.to_owned(), reason)).into_iter().collect::<BTreeMap<_, _>>(),
    )
    .unwrap()
}

/// `CONFIRM`, `Refused(bill_already_paid)`, `UnderWay`, `Garbled(…)`; behind it what operators are told.
fn payment(answer: &str) -> String {
    let judged = mapping::payment(&Answer::from(answer), &request(Timestamp::from_millis(0)), &refusals());
    let alarm = judged.alarm.map(|(kind, detail)| format!("; {}: {detail}", kind.name())).unwrap_or_default();
    let outcome = match judged.outcome {
        PaymentOutcome::Paid(paid) => format!("Paid {} of {}", paid.amount, paid.identity),
        PaymentOutcome::Refused(refusal) => format!("Refused {}", refusal.reason.code()),
        PaymentOutcome::NeverSent => "NeverSent".to_owned(),
        PaymentOutcome::Unknown(unknown) => unknown.to_string(),
    };
    outcome + &alarm
}

fn status(answer: &str) -> String {
    let judged = mapping::status(&Answer::from(answer), &request(Timestamp::from_millis(0)));
    let alarm = judged.alarm.map(|(kind, detail)| format!("; {}: {detail}", kind.name())).unwrap_or_default();
    let outcome = match judged.outcome {
        StatusOutcome::Paid(paid) => format!("Paid {} of {}", paid.amount, paid.identity),
        StatusOutcome::Refused(refusal) => format!("Refused {}", refusal.reason.code()),
        StatusOutcome::Unknown(unknown) => unknown.to_string(),
        other => format!("{other:?}"),
    };
    outcome + &alarm
}

fn with(answer: &str, key: &str, value: &str) -> String {
    let mut values: serde_json::Value = serde_json::from_str(answer).unwrap();
    values[key] = value.into();
    values.to_string()
}

fn without(answer: &str, key: &str) -> String {
    let mut values: serde_json::Value = serde_json::from_str(answer).unwrap();
    values.as_object_mut().unwrap().remove(key).unwrap();
    values.to_string()
}

const UNREADABLE: &str = "the answer could not be read: ";

#[test]
fn what_a_payment_comes_to() {
    let confirm = answered("CONFIRM");
    let under_way = Unknown::UnderWay.to_string();
    let no_more = "; unknown_code: the provider says no to a payment: ";
    let table = [
        (confirm.clone(), "Paid 178500 of 111111111111".to_owned()),
        (answered("PENDING"), under_way.clone()),
        (answered("REFUND"), "Refused payment_not_executed".to_owned()),
        (answered("INQUIRY"), format!("{UNREADABLE}status INQUIRY answers a payment")),
        (answered("SUKSES"), format!("{UNREADABLE}status is none of the contract's")),
        (with(&confirm, "result", "OK"), format!("{UNREADABLE}result is neither ok nor no")),
        (without(&confirm, "result"), format!("{UNREADABLE}result is neither ok nor no")),
        (without(&confirm, "status"), format!("{UNREADABLE}the answer lacks status")),
        // Whoever compares the identity tells operators.
        (with(&confirm, "invoice", "111111111112"), "Paid 178500 of 111111111112".to_owned()),
        (with(&answered("PENDING"), "invoice", "1"), format!("{UNREADABLE}the answer names another invoice")),
        (with(&answered("REFUND"), "invoice", "1"), format!("{UNREADABLE}the answer names another invoice")),
        (with(&confirm, "paymentcode", "322020060719001"), format!("{UNREADABLE}the answer names another paymentcode")),
        (
            with(&confirm, "customer_number", "320111111111112"),
            format!("{UNREADABLE}the answer names another customer_number"),
        ),
        (
            with(&confirm, "structure_number", "MH328D204AK4010001"),
            format!("{UNREADABLE}the answer names another structure_number"),
        ),
        (with(&confirm, "structure_number", "mh328d204ak-4010000"), "Paid 178500 of 111111111111".to_owned()),
        (without(&confirm, "structure_number"), format!("{UNREADABLE}the answer lacks structure_number")),
        (without(&confirm, "invoice"), format!("{UNREADABLE}the answer lacks invoice")),
        (without(&confirm, "tax_swd"), format!("{UNREADABLE}the answer lacks tax_swd")),
        (without(&confirm, "reference_number"), format!("{UNREADABLE}the answer lacks reference_number")),
        (
            with(&confirm, "total", "183501"),
            format!("{UNREADABLE}total is not the taxes, the penalties and the fee"),
        ),
        (with(&confirm, "total", "183,500"), format!("{UNREADABLE}total is no amount")),
        // Another amount, in itself consistent: whoever compares it tells operators.
        (with(&with(&confirm, "total", "283500"), "tax_pkb", "243500"), "Paid 278500 of 111111111111".to_owned()),
        (
            with(&with(&confirm, "total", "184500"), "fee", "6000"),
            format!(
                "{under_way}; amount_differs: the provider says paid, with a fee of Rp 6.000; at the inquiry it was Rp 5.000"
            ),
        ),
        (refused("Transaksi tidak dapat diproses. Tagihan sudah dibayar (Kode: 0054)"), "Refused bill_already_paid".to_owned()),
        (refused("Kendaraan diblokir"), "Refused vehicle_blocked".to_owned()),
        (
            refused("Saldo Anda tidak cukup"),
            "Refused bank_unreachable; upstream_balance_low: the provider says no to a payment: Saldo Anda tidak cukup"
                .to_owned(),
        ),
        (
            refused("Saldo kurang"),
            format!("{under_way}; upstream_balance_low: the provider says no to a payment: Saldo kurang"),
        ),
        (refused("Sistem sibuk"), format!("{under_way}{no_more}Sistem sibuk")),
        (refused("Ditolak (Kode: 0068)"), format!("{under_way}{no_more}Ditolak (Kode: 0068)")),
        (refused("NIK 320111111111111 salah"), format!("{under_way}{no_more}NIK … salah")),
        (r#"{"result":"no","reason":"Username atau password salah."}"#.to_owned(), format!("{under_way}{no_more}Username atau password salah.")),
        (r#"{"result":"no"}"#.to_owned(), format!("{under_way}{no_more}")),
        (with(&refused("Kendaraan diblokir"), "invoice", "7"), format!("{UNREADABLE}the answer names another invoice")),
        (
            with(&refused("Kendaraan diblokir"), "customer_number", "3201111111111119"),
            format!("{UNREADABLE}the answer names another customer_number"),
        ),
        ("{}".to_owned(), format!("{UNREADABLE}result is neither ok nor no")),
    ];
    for (answer, expected) in table {
        assert_eq!(payment(&answer), expected, "{answer}");
    }
}

#[test]
fn what_a_status_question_comes_to() {
    let confirm = answered("CONFIRM");
    let under_way = Unknown::UnderWay.to_string();
    let no = "; unknown_code: the provider says no to a status question: ";
    let table = [
        (confirm.clone(), "Paid 178500 of 111111111111".to_owned()),
        (answered("PENDING"), "UnderWay".to_owned()),
        (answered("REFUND"), "Refused payment_not_executed".to_owned()),
        (answered("INQUIRY"), "NotPaid".to_owned()),
        (with(&answered("INQUIRY"), "invoice", "7"), format!("{UNREADABLE}the answer names another invoice")),
        (
            with(&answered("INQUIRY"), "paymentcode", "7"),
            format!("{UNREADABLE}the answer names another paymentcode"),
        ),
        (answered("EXPIRED"), format!("{UNREADABLE}status is none of the contract's")),
        (
            with(&confirm, "total", "1"),
            format!("{UNREADABLE}total is not the taxes, the penalties and the fee"),
        ),
        (
            r#"{"result":"no","status":"FAILURE","reason":"Failure Invoice 111111111111!"}"#.to_owned(),
            format!("{under_way}{no}Failure Invoice …"),
        ),
        (
            r#"{"result":"no","reason":"Sistem sedang sibuk."}"#.to_owned(),
            format!("{under_way}{no}Sistem sedang sibuk."),
        ),
        // Not even one that is a refusal of a payment.
        (
            refused("Tagihan sudah dibayar (Kode: 0054)"),
            format!("{under_way}{no}Tagihan sudah dibayar (Kode: 0054)"),
        ),
        (r#"{"result":"yes"}"#.to_owned(), format!("{UNREADABLE}result is neither ok nor no")),
    ];
    for (answer, expected) in table {
        assert_eq!(status(&answer), expected, "{answer}");
    }
}

fn inquiry(answer: &str) -> (String, bool) {
    let judged = mapping::inquiry(&Answer::from(answer), &asked(), Rupiah::new(2_000));
    let outcome = match judged.outcome {
        InquiryOutcome::Presented { bill, terms, payable_until } => {
            assert_eq!(payable_until, None);
            let reference = bill.upstream_reference.unwrap_or_default();
            format!("{} of {reference}, {} {}", bill.taxes.total(), terms.fee, terms.cashback)
        }
        InquiryOutcome::Refused(refusal) => refusal.sentence(),
        InquiryOutcome::NeverSent => "NeverSent".to_owned(),
        InquiryOutcome::Unknown(unknown) => unknown.to_string(),
    };
    (outcome, judged.alarm.is_some())
}

#[test]
fn what_an_inquiry_comes_to() {
    let with_code = |reason, code: &str| Refusal::with_code(reason, code.to_owned()).sentence();
    let table = [
        (BILL.to_owned(), "178500 of 111111111111, 5000 2000".to_owned()),
        (with(BILL, "fee", "5001"), format!("{UNREADABLE}total is not the taxes, the penalties and the fee")),
        (with(BILL, "status", "CONFIRM"), format!("{UNREADABLE}status of a bill is not INQUIRY")),
        (with(BILL, "invoice", "12A"), format!("{UNREADABLE}invoice is no number")),
        (with(BILL, "invoice", "1234567890123456789"), format!("{UNREADABLE}invoice is no number")),
        (with(BILL, "invoice", ""), format!("{UNREADABLE}the answer lacks invoice")),
        (with(BILL, "paymentcode", "3220-2006"), format!("{UNREADABLE}paymentcode is no payment code")),
        (with(BILL, "year_built", "MMX"), format!("{UNREADABLE}year_built is no year")),
        (with(BILL, "vehicle_color", "MERAH\nMARUN"), format!("{UNREADABLE}vehicle_color is no plain text")),
        (
            with(BILL, "customer_name", &"A".repeat(256)),
            format!("{UNREADABLE}customer_name is no plain text"),
        ),
        (without(BILL, "customer_number"), format!("{UNREADABLE}the answer lacks customer_number")),
        (
            with(BILL, "customer_number", "3201111111111111"),
            format!("{UNREADABLE}the answer names another customer_number"),
        ),
        (refused(Reason::VehicleNotFound.sentence()), Reason::VehicleNotFound.sentence().to_owned()),
        (refused(&with_code(Reason::TooEarly, "0012")), with_code(Reason::TooEarly, "0012")),
        (refused("Data ganda (Kode: 0099)"), with_code(Reason::BankRefused, "0099")),
        (refused("Data ganda"), Reason::BankRefused.sentence().to_owned()),
        (
            with(&refused("Data ganda"), "structure_number", "MH328D204AK4010001"),
            format!("{UNREADABLE}the answer names another structure_number"),
        ),
    ];
    for (answer, expected) in table {
        assert_eq!(inquiry(&answer), (expected, false), "{answer}");
    }
    // Whose balance is short is nobody's business but ours.
    for reason in
        [Reason::BalanceShort.sentence(), "Maaf, saldo anda tidak mencukupi", "Username atau password salah."]
    {
        let expected = (Reason::BankUnreachable.sentence().to_owned(), true);
        assert_eq!(inquiry(&refused(reason)), expected, "{reason}");
    }
}

#[test]
fn balances() {
    for (text, balance) in [
        ("99,999", Some(99_999)),
        ("9,999,818,500", Some(9_999_818_500)),
        ("99.999", Some(99_999)),
        ("183500", Some(183_500)),
        ("0", Some(0)),
        ("-1,000", Some(-1_000)),
        ("1,00", None),
        ("1,0000", None),
        ("1,000.00", None),
        ("1,000.000", None),
        (",100", None),
        ("100,", None),
        ("01,000", None),
        ("Rp 100", None),
        ("", None),
        ("-", None),
        ("1,000,000,000,000,000", None),
    ] {
        let answer = format!(r#"{{"result":"ok","saldo":"{text}"}}"#);
        let read = mapping::balance(&Answer::from(answer.as_str())).ok();
        assert_eq!(read, balance.map(Rupiah::new), "{text}");
    }
    assert!(mapping::balance(&Answer::from(r#"{"result":"no","saldo":"1"}"#)).is_err());
}

#[test]
fn a_balance_that_is_short_is_no_incident_of_an_invoice() {
    let answer = Answer::from(refused("Saldo kurang").as_str());
    let judged = mapping::payment(&answer, &request(Timestamp::from_millis(0)), &refusals());
    assert_eq!(judged.alarm.map(|(kind, _)| kind), Some(IncidentKind::UpstreamBalanceLow));
}
