//! What a provider's answers mean.
//!
//! Only the documented words settle anything. An answer that contradicts what was asked (another invoice, payment
//! code, owner or vehicle, a total that is not its parts, another fee than at the inquiry) is unknown, whatever else
//! it says. What operators must look at comes back beside the outcome.

use super::{
    answer::{Answer, Read, garbled},
    reasons::{Refusals, Said},
};
use crate::{InquiryOutcome, InquiryRequest, Paid, PaymentOutcome, PaymentRequest, StatusOutcome, Unknown};
use domain::{
    Bill, ChassisNumber, Nik, PaymentCode, Reason, Refusal, Rupiah, Secret, Taxes, UpstreamTerms,
    invoice::BankReceipt, money::grouped, record::IncidentKind,
};

/// Digits of an invoice number.
const INVOICE_DIGITS_MAX: usize = 18;

/// What operators are to be told.
pub(super) type Alarm = (IncidentKind, String);

/// An outcome, and what operators are to be told with it.
#[derive(Debug)]
pub(super) struct Judged<T> {
    pub(super) outcome: T,
    pub(super) alarm: Option<Alarm>,
}

impl<T> From<T> for Judged<T> {
    fn from(outcome: T) -> Self {
        Self { outcome, alarm: None }
    }
}

fn refused_us(said: &Said<'_>, what: &str) -> Alarm {
    let kind =
        if said.is_about_balance() { IncidentKind::UpstreamBalanceLow } else { IncidentKind::UnknownCode };
    (kind, format!("the provider says no to {what}: {}", said.shown()))
}

/// What came of an inquiry.
pub(super) fn inquiry(answer: &Answer, asked: &InquiryRequest, cashback: Rupiah) -> Judged<InquiryOutcome> {
    if let Err(what) = agrees(answer, &asked.nik, &asked.chassis) {
        return InquiryOutcome::Unknown(what).into();
    }
    match answer.get("result") {
        Some("ok") => presented(answer, asked, cashback).unwrap_or_else(InquiryOutcome::Unknown).into(),
        Some("no") => {
            let said = Said::parse(answer.get("reason").unwrap_or_default());
            let (refusal, is_for_operators) = said.of_inquiry();
            Judged {
                outcome: InquiryOutcome::Refused(refusal),
                alarm: is_for_operators.then(|| refused_us(&said, "an inquiry")),
            }
        }
        _ => InquiryOutcome::Unknown(garbled("result is neither ok nor no")).into(),
    }
}

/// Whatever the answer names is what was asked for.
fn agrees(answer: &Answer, nik: &Nik, chassis: &ChassisNumber) -> Read<()> {
    if answer.get("customer_number").is_some_and(|named| Nik::parse(named).as_ref() != Some(nik)) {
        return Err(garbled("the answer names another customer_number"));
    }
    if answer
        .get("structure_number")
        .is_some_and(|named| ChassisNumber::parse(named).as_ref() != Some(chassis))
    {
        return Err(garbled("the answer names another structure_number"));
    }
    Ok(())
}

fn presented(answer: &Answer, asked: &InquiryRequest, cashback: Rupiah) -> Read<InquiryOutcome> {
    answer.required("customer_number")?;
    answer.required("structure_number")?;
    if !answer.says("status", "INQUIRY") {
        return Err(garbled("status of a bill is not INQUIRY"));
    }
    let (taxes, fee) = parts(answer)?;
    let number = answer.required("invoice")?;
    if number.len() > INVOICE_DIGITS_MAX || !number.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(garbled("invoice is no number"));
    }
    let code = answer.required("paymentcode")?;
    let bill = Bill {
        payment_code: PaymentCode::parse(code).ok_or_else(|| garbled("paymentcode is no payment code"))?,
        nik: asked.nik.clone(),
        chassis: asked.chassis.clone(),
        owner_name: Secret::new(answer.plain("customer_name")?),
        owner_address: Secret::new(answer.plain("customer_address")?),
        license_plate: answer.plain("license_plate")?,
        vehicle_brand: answer.plain("vehicle_brand")?,
        vehicle_model: answer.plain("vehicle_model")?,
        vehicle_color: answer.plain("vehicle_color")?,
        year_built: answer.required("year_built")?.parse().map_err(|_| garbled("year_built is no year"))?,
        taxes,
        upstream_reference: Some(number.to_owned()),
    };
    Ok(InquiryOutcome::Presented { bill, payable_until: None, terms: UpstreamTerms { fee, cashback } })
}

/// The taxes as the 2019 wire has them, the surcharge inside the vehicle tax, and the provider's fee; they must make
/// up the total.
fn parts(answer: &Answer) -> Read<(Taxes, Rupiah)> {
    let taxes = Taxes {
        pkb: answer.rupiah("tax_pkb")?,
        swdkllj: answer.rupiah("tax_swd")?,
        bbn: answer.rupiah("tax_bnn")?,
        pkb_penalty: answer.rupiah("penalty_pkb")?,
        swdkllj_penalty: answer.rupiah("penalty_swd")?,
        bbn_penalty: answer.rupiah("penalty_bnn")?,
        ..Taxes::default()
    };
    let fee = answer.rupiah("fee")?;
    if taxes.total() + fee == answer.rupiah("total")? {
        Ok((taxes, fee))
    } else {
        Err(garbled("total is not the taxes, the penalties and the fee"))
    }
}

/// What a provider says of a payment, whichever call it answers.
enum Told {
    Paid(Paid),
    Pending,
    Refund,
    Inquiry,
    /// Paid, at another price than agreed.
    OtherFee(Rupiah),
}

/// Reads an "ok" about a payment.
fn told(answer: &Answer, request: &PaymentRequest) -> Read<Told> {
    agrees(answer, &request.nik, &request.chassis)?;
    if answer.get("paymentcode").is_some_and(|code| code != request.payment_code.as_str()) {
        return Err(garbled("the answer names another paymentcode"));
    }
    let number = answer.required("invoice")?;
    match answer.required("status")? {
        // Another invoice's is told to operators by whoever compares the identity.
        "CONFIRM" => {
            for key in ["customer_number", "structure_number", "paymentcode"] {
                answer.required(key)?;
            }
            let (taxes, fee) = parts(answer)?;
            if fee != request.terms.fee {
                return Ok(Told::OtherFee(fee));
            }
            let receipt = BankReceipt {
                reference_number: answer.plain("reference_number")?,
                trace_number: answer.plain("trace_number")?,
            };
            Ok(Told::Paid(Paid { identity: number.to_owned(), amount: taxes.total(), receipt }))
        }
        _ if number != request.identity => Err(garbled("the answer names another invoice")),
        "PENDING" => Ok(Told::Pending),
        "REFUND" => Ok(Told::Refund),
        "INQUIRY" => Ok(Told::Inquiry),
        _ => Err(garbled("status is none of the contract's")),
    }
}

fn other_fee(fee: Rupiah, request: &PaymentRequest) -> Alarm {
    let (fee, agreed) = (grouped(fee, '.'), grouped(request.terms.fee, '.'));
    let detail = format!("the provider says paid, with a fee of Rp {fee}; at the inquiry it was Rp {agreed}");
    (IncidentKind::AmountDiffers, detail)
}

/// What came of a payment.
pub(super) fn payment(
    answer: &Answer,
    request: &PaymentRequest,
    refusals: &Refusals,
) -> Judged<PaymentOutcome> {
    let unknown = |unknown| Judged::from(PaymentOutcome::Unknown(unknown));
    match answer.get("result") {
        Some("ok") => match told(answer, request) {
            Ok(Told::Paid(paid)) => PaymentOutcome::Paid(paid).into(),
            Ok(Told::Pending) => unknown(Unknown::UnderWay),
            Ok(Told::Refund) => PaymentOutcome::Refused(not_carried_out()).into(),
            Ok(Told::Inquiry) => unknown(garbled("status INQUIRY answers a payment")),
            Ok(Told::OtherFee(fee)) => Judged {
                outcome: PaymentOutcome::Unknown(Unknown::UnderWay),
                alarm: Some(other_fee(fee, request)),
            },
            Err(what) => unknown(what),
        },
        Some("no") => {
            let is_about_another = answer.get("invoice").is_some_and(|number| number != request.identity);
            if is_about_another {
                return unknown(garbled("the answer names another invoice"));
            }
            if let Err(what) = agrees(answer, &request.nik, &request.chassis) {
                return unknown(what);
            }
            let said = Said::parse(answer.get("reason").unwrap_or_default());
            let alarm = Some(refused_us(&said, "a payment"));
            match refusals.find(&said) {
                Some(refusal) => Judged {
                    outcome: PaymentOutcome::Refused(refusal),
                    alarm: alarm.filter(|(kind, _)| *kind == IncidentKind::UpstreamBalanceLow),
                },
                None => Judged { outcome: PaymentOutcome::Unknown(Unknown::UnderWay), alarm },
            }
        }
        _ => unknown(garbled("result is neither ok nor no")),
    }
}

/// What came of a status question.
pub(super) fn status(answer: &Answer, request: &PaymentRequest) -> Judged<StatusOutcome> {
    let unknown = |unknown| Judged::from(StatusOutcome::Unknown(unknown));
    match answer.get("result") {
        Some("ok") => match told(answer, request) {
            Ok(Told::Paid(paid)) => StatusOutcome::Paid(paid).into(),
            Ok(Told::Pending) => StatusOutcome::UnderWay.into(),
            Ok(Told::Refund) => StatusOutcome::Refused(not_carried_out()).into(),
            Ok(Told::Inquiry) => StatusOutcome::NotPaid.into(),
            Ok(Told::OtherFee(fee)) => Judged {
                outcome: StatusOutcome::Unknown(Unknown::UnderWay),
                alarm: Some(other_fee(fee, request)),
            },
            Err(what) => unknown(what),
        },
        // FAILURE among others: it does not know its own invoice, or not us.
        Some("no") => {
            let said = Said::parse(answer.get("reason").unwrap_or_default());
            Judged {
                outcome: StatusOutcome::Unknown(Unknown::UnderWay),
                alarm: Some((IncidentKind::UnknownCode, refused_us(&said, "a status question").1)),
            }
        }
        _ => unknown(garbled("result is neither ok nor no")),
    }
}

fn not_carried_out() -> Refusal {
    Reason::PaymentNotExecuted.into()
}

/// `99,999`: whole Rupiah in groups of three, by commas or by dots, or plain.
pub(super) fn balance(answer: &Answer) -> Read<Rupiah> {
    if !answer.says("result", "ok") {
        let said = Said::parse(answer.get("reason").unwrap_or_default());
        return Err(Unknown::UnknownCode(format!("the provider says no: {}", said.shown())));
    }
    let text = answer.required("saldo")?;
    let (is_negative, digits) = text.strip_prefix('-').map_or((false, text), |digits| (true, digits));
    let separator = if digits.contains(',') { ',' } else { '.' };
    let plain = digits.replace(separator, "");
    let is_number = (1..=15).contains(&plain.len()) && plain.bytes().all(|byte| byte.is_ascii_digit());
    let amount = plain.parse().ok().filter(|_| is_number).map(Rupiah::new);
    let amount = amount.filter(|amount| digits == plain || grouped(*amount, separator) == digits);
    amount
        .map(|amount| if is_negative { -amount } else { amount })
        .ok_or_else(|| garbled("saldo is no whole amount in groups of three digits"))
}
