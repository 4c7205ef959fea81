//! The answers that carry an invoice, byte for byte: the documented keys in the documented order, every
//! value a text, `""` for what is not known yet, and never `null`.
//!
//! The 2019 wire has no field for the surcharge of 2025 (opsen): it is part of the vehicle tax there.

use crate::{partner::Declined, router::Outcome};
use engine::{
    About, Turned, View,
    domain::{ChassisNumber, Nik, Partner, ProductCode, Reason, Rupiah, State, Timestamp},
};
use serde::{Serialize, Serializer};
use std::fmt::Display;

/// An invoice; without its two bank numbers as `inquiry_esamsat` says it, with them as the others do.
#[derive(Serialize)]
pub(crate) struct InvoiceAnswer<'a> {
    result: &'static str,
    tanggal: String,
    product: &'a str,
    #[serde(serialize_with = "as_text")]
    invoice: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    reference_number: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    trace_number: Option<&'a str>,
    paymentcode: &'a str,
    customer_number: &'a str,
    customer_name: &'a str,
    customer_address: &'a str,
    structure_number: &'a str,
    license_plate: &'a str,
    vehicle_brand: &'a str,
    vehicle_model: &'a str,
    vehicle_color: &'a str,
    #[serde(serialize_with = "as_text")]
    year_built: u16,
    #[serde(serialize_with = "as_text")]
    tax_pkb: Rupiah,
    #[serde(serialize_with = "as_text")]
    tax_swd: Rupiah,
    #[serde(serialize_with = "as_text")]
    tax_bnn: Rupiah,
    #[serde(serialize_with = "as_text")]
    penalty_pkb: Rupiah,
    #[serde(serialize_with = "as_text")]
    penalty_swd: Rupiah,
    #[serde(serialize_with = "as_text")]
    penalty_bnn: Rupiah,
    #[serde(serialize_with = "as_text")]
    fee: Rupiah,
    #[serde(serialize_with = "as_text")]
    total: Rupiah,
    kodeagen: &'a str,
    status: &'static str,
}

fn as_text<S: Serializer>(value: &impl Display, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(value)
}

impl InvoiceAnswer<'_> {
    /// As `inquiry_esamsat` answers.
    pub(crate) fn inquired(view: &View, partner: &Partner) -> Outcome {
        Self::outcome(view, partner, None)
    }

    /// As `pay_esamsat` and `status_invoice` answer: with the bank's numbers, as far as there are any.
    pub(crate) fn paid(view: &View, partner: &Partner) -> Outcome {
        let numbers = match &view.invoice.state {
            State::Confirm { receipt, .. } => (&*receipt.reference_number, &*receipt.trace_number),
            _ => ("", ""),
        };
        Self::outcome(view, partner, Some(numbers))
    }

    fn outcome(view: &View, partner: &Partner, bank_numbers: Option<(&str, &str)>) -> Outcome {
        let invoice = &view.invoice;
        let Some(bill) = view.presentment.bill() else {
            tracing::error!(invoice = %invoice.number, "an invoice that is no failure has no bill");
            return Declined::from(Reason::Internal).plainly();
        };
        let taxes = &bill.taxes;
        let answer = InvoiceAnswer {
            result: "ok",
            tanggal: invoice
                .state
                .attempt()
                .map_or(invoice.inquired_at, |attempt| attempt.begun_at)
                .tanggal(),
            product: invoice.product.as_str(),
            invoice: invoice.number.get(),
            reference_number: bank_numbers.map(|(reference, _)| reference),
            trace_number: bank_numbers.map(|(_, trace)| trace),
            paymentcode: bill.payment_code.as_str(),
            customer_number: bill.nik.as_str(),
            customer_name: bill.owner_name.expose(),
            customer_address: bill.owner_address.expose(),
            structure_number: bill.chassis.as_str(),
            license_plate: &bill.license_plate,
            vehicle_brand: &bill.vehicle_brand,
            vehicle_model: &bill.vehicle_model,
            vehicle_color: &bill.vehicle_color,
            year_built: bill.year_built,
            tax_pkb: taxes.pkb + taxes.opsen_pkb,
            tax_swd: taxes.swdkllj,
            tax_bnn: taxes.bbn,
            penalty_pkb: taxes.pkb_penalty + taxes.opsen_pkb_penalty,
            penalty_swd: taxes.swdkllj_penalty,
            penalty_bnn: taxes.bbn_penalty,
            fee: invoice.fee,
            total: invoice.total,
            kodeagen: partner.agent_code.as_str(),
            status: invoice.state.word(),
        };
        Outcome::json(&answer, "ok")
    }
}

/// A refused inquiry or payment; what is not known is left out.
#[derive(Serialize)]
pub(crate) struct FailureAnswer<'a> {
    result: &'static str,
    tanggal: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    product: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    invoice: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    customer_number: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    structure_number: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    kodeagen: Option<&'a str>,
    reason: &'a str,
}

impl FailureAnswer<'_> {
    /// As `inquiry_esamsat` and `pay_esamsat` answer; overload answers alike everywhere. `invoice_sent` is the number in the caller's writing.
    pub(crate) fn outcome(
        declined: &Declined,
        now: Timestamp,
        partner: Option<&Partner>,
        invoice_sent: Option<&str>,
    ) -> Outcome {
        if declined.turned != Turned::Answer {
            return declined.plainly();
        }
        let About { product, invoice, nik, chassis } = &*declined.about;
        let answer = FailureAnswer {
            result: "no",
            tanggal: now.tanggal(),
            product: product.as_ref().map(ProductCode::as_str),
            invoice: invoice_sent.map(str::to_owned).or_else(|| invoice.map(|number| number.to_string())),
            customer_number: nik.as_ref().map(Nik::as_str),
            structure_number: chassis.as_ref().map(ChassisNumber::as_str),
            kodeagen: partner.map(|partner| partner.agent_code.as_str()),
            reason: &declined.sentence,
        };
        Outcome::json(&answer, declined.code)
    }
}
