//! `POST /json/esamsat/pay_esamsat` (`username`, `password`, `invoice`): pays an invoice, once.
//!
//! Document section "Bayar tagihan e-Samsat". `PENDING` means that the outcome is not known yet, and never
//! that it failed. The engine carries a payment on whether or not anybody still waits for it.

use super::Call;
use crate::{
    answer::{FailureAnswer, InvoiceAnswer},
    router::Outcome,
};

pub(super) async fn handle(call: Call<'_>) -> Outcome {
    let partner = match call.partner().await {
        Ok(partner) => partner,
        Err(declined) => return FailureAnswer::outcome(&declined, call.engine.now(), None, None),
    };
    let (number, sent) = match call.invoice() {
        Ok(invoice) => invoice,
        Err(declined) => return FailureAnswer::outcome(&declined, call.engine.now(), Some(&partner), None),
    };
    match call.engine.pay(&partner, number, call.arrived_at).await {
        Ok(view) => InvoiceAnswer::paid(&view, &partner),
        Err(refused) => {
            FailureAnswer::outcome(&refused.into(), call.engine.now(), Some(&partner), Some(sent))
        }
    }
}
