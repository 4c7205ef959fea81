//! `POST /json/esamsat/inquiry_esamsat` (`username`, `password`, `product`, `customer_number`,
//! `structure_number`): the bill of a vehicle, as an invoice that can be paid.
//!
//! Document section "Cek tagihan e-Samsat". A refusal says what it is about as far as that is known.

use super::{Call, Declined};
use crate::{
    answer::{FailureAnswer, InvoiceAnswer},
    router::Outcome,
};
use engine::{
    About, Inquiry, Refused, View,
    domain::{ChassisNumber, Nik, Parameter, Partner, ProductCode, Reason},
};
use std::sync::Arc;

pub(super) async fn handle(call: Call<'_>) -> Outcome {
    let partner = match call.partner().await {
        Ok(partner) => partner,
        Err(declined) => return FailureAnswer::outcome(&declined, call.engine.now(), None, None),
    };
    let asked = match inquiry(&call) {
        Ok(inquiry) => inquire(&call, &partner, inquiry).await,
        Err(declined) => Err(declined),
    };
    match asked {
        Ok(view) => InvoiceAnswer::inquired(&view, &partner),
        Err(declined) => FailureAnswer::outcome(&declined, call.engine.now(), Some(&partner), None),
    }
}

/// What is asked for. A refusal of one parameter still tells those that are valid.
fn inquiry(call: &Call<'_>) -> Result<Inquiry, Declined> {
    let product = call.value(Parameter::Product, ProductCode::parse);
    let nik = call.value(Parameter::CustomerNumber, Nik::parse);
    let chassis = call.value(Parameter::StructureNumber, ChassisNumber::parse);
    match (product, nik, chassis) {
        (Ok(product), Ok(nik), Ok(chassis)) => Ok(Inquiry { product, nik, chassis }),
        (product, nik, chassis) => {
            let about = About {
                product: product.as_ref().ok().cloned(),
                invoice: None,
                nik: nik.as_ref().ok().cloned(),
                chassis: chassis.as_ref().ok().cloned(),
            };
            let declined = product.err().or(nik.err()).or(chassis.err()).expect("one of them is refused");
            Err(Declined { about: Box::new(about), ..declined })
        }
    }
}

/// In a task of its own: a partner that hangs up does not keep the Samsat's answer from being recorded.
async fn inquire(call: &Call<'_>, partner: &Arc<Partner>, inquiry: Inquiry) -> Result<View, Declined> {
    let (engine, partner, arrived_at) = (Arc::clone(call.engine), Arc::clone(partner), call.arrived_at);
    let task = tokio::spawn(async move { engine.inquire(&partner, inquiry, arrived_at).await });
    let inquired = task.await.unwrap_or_else(|error| {
        tracing::error!(%error, "an inquiry panicked");
        Err(Refused::answer(Reason::Internal))
    });
    Ok(inquired?)
}
