//! What an answer means. Only an explicit success or an explicit refusal settles anything; what contradicts its
//! request is unknown, and told as such.

use crate::{
    InquiryOutcome, InquiryRequest, Paid, PaymentOutcome, StatusOutcome, Unknown,
    profile::{Answer, LineProfile, Malformed, Meaning, Operation, Value, Values},
};
use domain::{Bill, Rupiah, Secret, UpstreamTerms, invoice::BankReceipt};

fn garbled(what: impl std::fmt::Display) -> Unknown {
    Unknown::Garbled(what.to_string())
}

fn malformed(value: Malformed) -> Unknown {
    garbled(format_args!("the answer's {} is missing or malformed", value.name()))
}

/// What came of an inquiry.
pub(super) fn inquiry(profile: &LineProfile, asked: &InquiryRequest, answer: &Answer) -> InquiryOutcome {
    match profile.meaning(Operation::Inquiry, &answer.code) {
        Meaning::Done => presented(asked, &answer.values).unwrap_or_else(InquiryOutcome::Unknown),
        Meaning::Refused(reason) => InquiryOutcome::Refused(profile.refusal(reason, &answer.code)),
        Meaning::Unknown => InquiryOutcome::Unknown(Unknown::UnderWay),
        _ => InquiryOutcome::Unknown(Unknown::UnknownCode(answer.code.clone())),
    }
}

fn presented(asked: &InquiryRequest, values: &Values) -> Result<InquiryOutcome, Unknown> {
    let text = |value| values.need(value).map(str::to_owned).map_err(malformed);
    let taxes = values.taxes().map_err(malformed)?;
    if values.get(Value::Amount).is_some()
        && values.rupiah(Value::Amount).map_err(malformed)? != taxes.total()
    {
        return Err(garbled("the bill's parts do not make its amount"));
    }
    let bill = Bill {
        payment_code: values.payment_code().map_err(malformed)?,
        nik: asked.nik.clone(),
        chassis: asked.chassis.clone(),
        owner_name: Secret::new(text(Value::OwnerName)?),
        owner_address: Secret::new(values.get(Value::OwnerAddress).unwrap_or_default()),
        license_plate: text(Value::LicensePlate)?,
        vehicle_brand: text(Value::Brand)?,
        vehicle_model: text(Value::Model)?,
        vehicle_color: values.get(Value::Color).unwrap_or_default().to_owned(),
        year_built: text(Value::YearBuilt)?.parse().map_err(|_| malformed(Value::YearBuilt))?,
        taxes,
        upstream_reference: None,
    };
    let payable_until = values.valid_until().map_err(malformed)?;
    Ok(InquiryOutcome::Presented { bill, payable_until, terms: UpstreamTerms::default() })
}

/// What came of a payment of so much.
pub(super) fn payment(
    profile: &LineProfile,
    answer: &Answer,
    identity: &str,
    amount: Option<Rupiah>,
) -> PaymentOutcome {
    match profile.meaning(Operation::Payment, &answer.code) {
        Meaning::Done => match paid(&answer.values, identity) {
            Ok(paid) => PaymentOutcome::Paid(paid),
            Err(unknown) => PaymentOutcome::Unknown(unknown),
        },
        Meaning::Refused(_) if has_receipt(&answer.values) => {
            PaymentOutcome::Unknown(contradicts_itself(answer))
        }
        Meaning::Refused(_) if is_of_another_amount(&answer.values, amount) => {
            let what = format_args!("code {} comes with another amount", answer.code);
            PaymentOutcome::Unknown(garbled(what))
        }
        Meaning::Refused(reason) => PaymentOutcome::Refused(profile.refusal(reason, &answer.code)),
        Meaning::Unknown => PaymentOutcome::Unknown(Unknown::UnderWay),
        _ => PaymentOutcome::Unknown(Unknown::UnknownCode(answer.code.clone())),
    }
}

/// What came of a question about a payment.
pub(super) fn question(
    profile: &LineProfile,
    operation: Operation,
    answer: &Answer,
    identity: &str,
) -> StatusOutcome {
    match profile.meaning(operation, &answer.code) {
        Meaning::Done => match paid(&answer.values, identity) {
            Ok(paid) => StatusOutcome::Paid(paid),
            Err(unknown) => StatusOutcome::Unknown(unknown),
        },
        // One that was undone may show what was.
        Meaning::NotPaid if operation != Operation::Reversal && has_receipt(&answer.values) => {
            StatusOutcome::Unknown(contradicts_itself(answer))
        }
        Meaning::NotPaid => StatusOutcome::NotPaid,
        Meaning::PaidByAnother => StatusOutcome::PaidByAnother,
        Meaning::PayerUnknown => StatusOutcome::PayerUnknown,
        Meaning::UnderWay => StatusOutcome::UnderWay,
        Meaning::Unknown => StatusOutcome::Unknown(Unknown::UnderWay),
        // Whoever wants a session begun first says nothing of the payment.
        _ if profile.wants_sign_on(operation, &answer.code) => StatusOutcome::Unknown(Unknown::UnderWay),
        // To refuse the question says no more of the payment.
        Meaning::Refused(_) | Meaning::Unlisted => {
            StatusOutcome::Unknown(Unknown::UnknownCode(answer.code.clone()))
        }
    }
}

/// A code of two characters is soon another one, on a line that nothing protects; a receipt is not.
fn has_receipt(values: &Values) -> bool {
    let is_blank = |reference: &str| reference.bytes().all(|byte| matches!(byte, b' ' | b'0'));
    values.get(Value::BankReference).is_some_and(|reference| !is_blank(reference))
}

fn contradicts_itself(answer: &Answer) -> Unknown {
    garbled(format_args!("code {} says that nothing was paid, and there is a bank_reference", answer.code))
}

/// Where nothing was paid, nothing may be the amount.
fn is_of_another_amount(values: &Values, amount: Option<Rupiah>) -> bool {
    let is_other = |told| Some(told) != amount && told != Rupiah::ZERO;
    values.get(Value::Amount).is_some() && values.rupiah(Value::Amount).map_or(true, is_other)
}

/// The amount is the answer's own, so that whoever asked can compare it; all else was echoed.
fn paid(values: &Values, identity: &str) -> Result<Paid, Unknown> {
    let trace = LineProfile::trace_of_identity(identity).unwrap_or_default();
    Ok(Paid {
        identity: identity.to_owned(),
        amount: values.rupiah(Value::Amount).map_err(malformed)?,
        receipt: BankReceipt {
            reference_number: values.need(Value::BankReference).map_err(malformed)?.to_owned(),
            trace_number: trace.to_owned(),
        },
    })
}
