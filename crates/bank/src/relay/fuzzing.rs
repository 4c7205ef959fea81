//! What must hold of any bytes that a provider may answer, whatever was asked. For the fuzzer and the replay of what
//! it found; nothing else calls it.

use super::{
    answer::Answer,
    mapping::{self, Alarm},
    reasons::Refusals,
};
use crate::{InquiryOutcome, InquiryRequest, PaymentOutcome, PaymentRequest, SendBefore, StatusOutcome};
use domain::{
    ChassisNumber, InvoiceNumber, Nik, PaymentCode, ProductCode, Reason, Rupiah, Timestamp, UpstreamTerms,
};
use std::collections::BTreeMap;
use tokio::time::Instant;

const INVOICE: &str = "111111111111";

/// Reads the bytes as the answer to every call. Money moves only on the contract's own words, and nothing that could be
/// somebody's number is told to operators.
pub fn holds(body: &[u8]) {
    if let Some(list) = Answer::read_list(body) {
        let cashbacks = list.iter().filter_map(|product| product.rupiah("cashback").ok());
        cashbacks.for_each(|cashback| assert!(cashback >= Rupiah::ZERO));
    }
    let Some(answer) = Answer::read(body) else { return };
    let inquired = inquiry();
    let judged = mapping::inquiry(&answer, &inquired, Rupiah::new(2_000));
    is_told_masked(judged.alarm.as_ref());
    if let InquiryOutcome::Presented { bill, terms, .. } = judged.outcome {
        assert!(answer.says("result", "ok") && answer.says("status", "INQUIRY"));
        assert_eq!((&bill.nik, &bill.chassis), (&inquired.nik, &inquired.chassis));
        assert_eq!(answer.rupiah("total").ok(), Some(bill.taxes.total() + terms.fee));
        let number = bill.upstream_reference.expect("a provider's invoice");
        assert!(number.bytes().all(|byte| byte.is_ascii_digit()));
    }

    let asked = request(inquired);
    let table = BTreeMap::from([
        ("kode:0054".to_owned(), Reason::BillAlreadyPaid),
        ("Saldo Anda tidak cukup".to_owned(), Reason::BankUnreachable),
    ]);
    let judged = mapping::payment(&answer, &asked, &Refusals::parse(&table).expect("a table that is right"));
    is_told_masked(judged.alarm.as_ref());
    match judged.outcome {
        PaymentOutcome::Paid(paid) => is_confirmed(&answer, paid.amount),
        PaymentOutcome::Refused(_) => assert!(answer.says("result", "no") || is_refunded(&answer)),
        _ => {}
    }
    let judged = mapping::status(&answer, &asked);
    is_told_masked(judged.alarm.as_ref());
    match judged.outcome {
        StatusOutcome::Paid(paid) => is_confirmed(&answer, paid.amount),
        StatusOutcome::Refused(_) => assert!(is_refunded(&answer)),
        StatusOutcome::NotPaid => {
            assert!(answer.says("result", "ok") && answer.says("status", "INQUIRY"));
            assert!(answer.says("invoice", INVOICE));
        }
        _ => {}
    }
    if mapping::balance(&answer).is_ok() {
        assert!(answer.says("result", "ok"));
    }
}

fn is_confirmed(answer: &Answer, amount: Rupiah) {
    assert!(answer.says("result", "ok") && answer.says("status", "CONFIRM"));
    assert_eq!(answer.rupiah("total").ok(), Some(amount + Rupiah::new(5_000)));
}

fn is_refunded(answer: &Answer) -> bool {
    answer.says("result", "ok") && answer.says("status", "REFUND") && answer.says("invoice", INVOICE)
}

/// A code has eight digits at most; a KTP number has fifteen.
fn is_told_masked(alarm: Option<&Alarm>) {
    let Some((_, told)) = alarm else { return };
    assert!(told.chars().count() <= 200 && !told.chars().any(char::is_control), "{told:?}");
    let longest = told.split(|c: char| !c.is_ascii_digit()).map(str::len).max();
    assert!(longest.is_none_or(|digits| digits <= 8), "{told:?}");
}

fn inquiry() -> InquiryRequest {
    InquiryRequest {
        invoice: InvoiceNumber::new(100_000_000_007),
        product: ProductCode::parse("SAMSAT_JABAR").expect("a product"),
        nik: Nik::parse("320111111111111").expect("a KTP number"),
        chassis: ChassisNumber::parse("MH328D204AK4010000").expect("a chassis number"),
    }
}

fn request(inquired: InquiryRequest) -> PaymentRequest {
    PaymentRequest {
        invoice: inquired.invoice,
        identity: INVOICE.to_owned(),
        product: inquired.product,
        nik: inquired.nik,
        chassis: inquired.chassis,
        payment_code: PaymentCode::parse("322020060719000").expect("a payment code"),
        amount: Rupiah::new(178_500),
        terms: UpstreamTerms { fee: Rupiah::new(5_000), cashback: Rupiah::new(2_000) },
        send_before: SendBefore { wall: Timestamp::from_millis(0), monotonic: Instant::now() },
    }
}
