//! What a provider's answers mean. Only the documented words settle anything; an answer that contradicts what was
//! asked is unknown.

use super::wire::Answer;
use crate::{InquiryOutcome, InquiryRequest, Paid, PaymentOutcome, PaymentRequest, StatusOutcome, Unknown};
use domain::{
    Bill, PaymentCode, Reason, Refusal, Rupiah, Secret, Taxes, UpstreamTerms, invoice::BankReceipt,
};
use std::collections::BTreeMap;

type Read<T> = Result<T, Unknown>;

fn garbled(what: &str) -> Unknown {
    Unknown::Garbled(what.to_owned())
}

fn text<'a>(answer: &'a Answer, key: &str) -> Read<&'a str> {
    answer.get(key).map(String::as_str).ok_or_else(|| garbled(&format!("the answer lacks {key}")))
}

fn rupiah(answer: &Answer, key: &str) -> Read<Rupiah> {
    let digits = text(answer, key)?;
    let is_plain = (1..=15).contains(&digits.len()) && digits.bytes().all(|byte| byte.is_ascii_digit());
    let amount = digits.parse().ok().filter(|_| is_plain).map(Rupiah::new);
    amount.ok_or_else(|| garbled(&format!("{key} is no amount")))
}

/// A reason without its code, and the code.
pub(super) fn parted(reason: &str) -> (&str, Option<&str>) {
    let parted =
        reason.rsplit_once(" (Kode: ").and_then(|(text, rest)| Some((text, rest.strip_suffix(')')?)));
    parted.map_or((reason, None), |(text, code)| (text, Some(code)))
}

/// Our own sentence's reason.
fn reason_of(sentence: &str) -> Option<Reason> {
    let plain = |sentence: &str| sentence.trim().trim_end_matches('.').to_owned();
    Reason::ALL.iter().copied().find(|reason| plain(reason.sentence()) == plain(sentence))
}

/// What a provider says of its own account, or of itself, is not for our partners.
fn concerns_partner(reason: Reason) -> bool {
    matches!(
        reason,
        Reason::VehicleNotFound
            | Reason::NikMismatch
            | Reason::VehicleBlocked
            | Reason::FiveYearlyRenewal
            | Reason::TooEarly
            | Reason::TooLate
            | Reason::CompanyOwner
            | Reason::PlateColour
            | Reason::OtherProvince
            | Reason::BillAlreadyPaid
            | Reason::CutOff
            | Reason::BankRefused
            | Reason::BankSilent
    )
}

fn refusal(reason: Reason, code: Option<&str>) -> Refusal {
    let is_code =
        |code: &&str| (1..=8).contains(&code.len()) && code.bytes().all(|byte| byte.is_ascii_alphanumeric());
    match code.filter(is_code) {
        Some(code) => Refusal::with_code(reason, code.to_owned()),
        None => Refusal::new(reason),
    }
}

/// What came of an inquiry.
pub(super) fn inquiry(answer: &Answer, asked: &InquiryRequest, cashback: Rupiah) -> InquiryOutcome {
    match answer.get("result").map(String::as_str) {
        Some("ok") => presented(answer, asked, cashback).unwrap_or_else(InquiryOutcome::Unknown),
        Some("no") => {
            let (sentence, code) = parted(answer.get("reason").map_or("", String::as_str));
            let reason = reason_of(sentence).filter(|reason| concerns_partner(*reason));
            InquiryOutcome::Refused(refusal(reason.unwrap_or(Reason::BankRefused), code))
        }
        _ => InquiryOutcome::Unknown(garbled("result is neither ok nor no")),
    }
}

fn taxes(answer: &Answer) -> Read<Taxes> {
    Ok(Taxes {
        pkb: rupiah(answer, "tax_pkb")?,
        swdkllj: rupiah(answer, "tax_swd")?,
        bbn: rupiah(answer, "tax_bnn")?,
        pkb_penalty: rupiah(answer, "penalty_pkb")?,
        swdkllj_penalty: rupiah(answer, "penalty_swd")?,
        bbn_penalty: rupiah(answer, "penalty_bnn")?,
        ..Taxes::default()
    })
}

fn presented(answer: &Answer, asked: &InquiryRequest, cashback: Rupiah) -> Read<InquiryOutcome> {
    if text(answer, "customer_number")? != asked.nik.as_str()
        || text(answer, "structure_number")? != asked.chassis.as_str()
    {
        return Err(garbled("the bill is for another vehicle"));
    }
    let (taxes, fee) = (taxes(answer)?, rupiah(answer, "fee")?);
    if taxes.total() + fee != rupiah(answer, "total")? {
        return Err(garbled("total is not the taxes, the penalties and the fee"));
    }
    let own = |key| text(answer, key).map(str::to_owned);
    let number = own("invoice")?;
    if !(1..=18).contains(&number.len()) || !number.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(garbled("invoice is no number"));
    }
    let bill = Bill {
        payment_code: PaymentCode::parse(text(answer, "paymentcode")?)
            .ok_or_else(|| garbled("paymentcode is no payment code"))?,
        nik: asked.nik.clone(),
        chassis: asked.chassis.clone(),
        owner_name: Secret::new(own("customer_name")?),
        owner_address: Secret::new(own("customer_address")?),
        license_plate: own("license_plate")?,
        vehicle_brand: own("vehicle_brand")?,
        vehicle_model: own("vehicle_model")?,
        vehicle_color: own("vehicle_color")?,
        year_built: text(answer, "year_built")?.parse().map_err(|_| garbled("year_built is no year"))?,
        taxes,
        upstream_reference: Some(number),
    };
    Ok(InquiryOutcome::Presented { bill, payable_until: None, terms: UpstreamTerms { fee, cashback } })
}

/// What a provider says of a payment, whichever call it answers.
enum Told {
    Paid(Paid),
    Pending,
    Refund,
    Inquiry,
}

/// Reads an "ok" answer about a payment. It must be about that payment.
fn told(answer: &Answer, request: &PaymentRequest) -> Read<Told> {
    let status = text(answer, "status")?;
    let number = text(answer, "invoice")?.to_owned();
    if text(answer, "paymentcode")? != request.payment_code.as_str() {
        return Err(garbled("the answer is about another bill"));
    }
    match status {
        "CONFIRM" => {
            let (total, fee) = (rupiah(answer, "total")?, rupiah(answer, "fee")?);
            if fee != request.terms.fee {
                return Err(garbled("the fee is not the one of the inquiry"));
            }
            let receipt = BankReceipt {
                reference_number: text(answer, "reference_number")?.to_owned(),
                trace_number: text(answer, "trace_number")?.to_owned(),
            };
            Ok(Told::Paid(Paid { identity: number, amount: total - fee, receipt }))
        }
        _ if number != request.identity => Err(garbled("the answer is about another invoice")),
        "PENDING" => Ok(Told::Pending),
        "REFUND" => Ok(Told::Refund),
        "INQUIRY" => Ok(Told::Inquiry),
        _ => Err(garbled("status is none of the contract's")),
    }
}

/// What came of a payment, and what operators are to be told.
pub(super) fn payment(
    answer: &Answer,
    request: &PaymentRequest,
    refusals: &BTreeMap<String, Reason>,
) -> (PaymentOutcome, Option<String>) {
    let unknown = |unknown| (PaymentOutcome::Unknown(unknown), None);
    match answer.get("result").map(String::as_str) {
        Some("ok") => match told(answer, request) {
            Ok(Told::Paid(paid)) => (PaymentOutcome::Paid(paid), None),
            Ok(Told::Pending | Told::Inquiry) => unknown(Unknown::UnderWay),
            Ok(Told::Refund) => (PaymentOutcome::Refused(Reason::PaymentNotExecuted.into()), None),
            Err(what) => unknown(what),
        },
        Some("no") => {
            let reason = answer.get("reason").map_or("", String::as_str);
            let (sentence, code) = parted(reason);
            let by_code = code.and_then(|code| refusals.get(&format!("kode:{code}")));
            let listed = by_code.or_else(|| refusals.get(sentence)).or_else(|| refusals.get(reason));
            match listed {
                Some(known) => (PaymentOutcome::Refused(refusal(*known, code)), None),
                None => {
                    let shown: String = reason.chars().filter(|c| !c.is_control()).take(100).collect();
                    let what = format!("the provider says no, which is in no refusal table: {shown}");
                    (PaymentOutcome::Unknown(Unknown::UnderWay), Some(what))
                }
            }
        }
        _ => unknown(garbled("result is neither ok nor no")),
    }
}

/// What came of a status question.
pub(super) fn status(answer: &Answer, request: &PaymentRequest) -> StatusOutcome {
    match answer.get("result").map(String::as_str) {
        Some("ok") => match told(answer, request) {
            Ok(Told::Paid(paid)) => StatusOutcome::Paid(paid),
            Ok(Told::Pending) => StatusOutcome::UnderWay,
            Ok(Told::Refund) => StatusOutcome::Refused(Reason::PaymentNotExecuted.into()),
            Ok(Told::Inquiry) => StatusOutcome::NotPaid,
            Err(what) => StatusOutcome::Unknown(what),
        },
        Some("no") if answer.get("status").is_some_and(|status| status == "FAILURE") => {
            StatusOutcome::Unknown(garbled("the provider does not know its own invoice (FAILURE)"))
        }
        Some("no") => StatusOutcome::Unknown(Unknown::UnderWay),
        _ => StatusOutcome::Unknown(garbled("result is neither ok nor no")),
    }
}

/// `99,999` or `99.999`: whole Rupiah in groups of three.
pub(super) fn balance(answer: &Answer) -> Option<Rupiah> {
    let text = answer.get("saldo").filter(|_| answer.get("result").is_some_and(|result| result == "ok"))?;
    let (sign, text) = text.strip_prefix('-').map_or((1, text.as_str()), |rest| (-1, rest));
    let mut groups = text.split([',', '.']);
    let first = groups.next()?;
    let rest: Vec<&str> = groups.collect();
    let is_digits = |group: &&str| group.bytes().all(|byte| byte.is_ascii_digit());
    let is_grouped = rest.iter().all(|group| group.len() == 3)
        && !first.is_empty()
        && (rest.is_empty() || first.len() <= 3)
        && is_digits(&first)
        && rest.iter().all(is_digits);
    let digits = format!("{first}{}", rest.concat());
    let amount: i64 = digits.parse().ok().filter(|_| is_grouped)?;
    Some(Rupiah::new(sign * amount))
}
