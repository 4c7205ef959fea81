//! `POST /json/esamsat/status_invoice` (`username`, `password`, `invoice`): what became of an invoice.
//!
//! Document section "Cek status invoice e-Samsat". `INQUIRY`, `PENDING`, `CONFIRM` and `REFUND` are answers;
//! an invoice that does not exist, is another partner's or whose inquiry failed is a `FAILURE`, in the
//! same words for all three.

use super::{Call, Declined};
use crate::{answer::InvoiceAnswer, router::Outcome};
use engine::{
    Refused, Turned, View,
    domain::{Partner, Reason},
};
use serde::Serialize;
use std::sync::Arc;

#[derive(Serialize)]
struct StatusFailure<'a> {
    result: &'static str,
    status: &'static str,
    reason: &'a str,
}

pub(super) async fn handle(call: Call<'_>) -> Outcome {
    match status(&call).await {
        Ok((view, partner)) => InvoiceAnswer::paid(&view, &partner),
        Err(declined) if declined.turned != Turned::Answer => declined.plainly(),
        Err(declined) => {
            let failure = StatusFailure { result: "no", status: "FAILURE", reason: &declined.sentence };
            Outcome::json(&failure, declined.code)
        }
    }
}

async fn status(call: &Call<'_>) -> Result<(View, Arc<Partner>), Declined> {
    let partner = call.partner().await?;
    let (number, sent) = call.invoice()?;
    match call.engine.status(&partner, number).await {
        Ok(view) => Ok((view, partner)),
        Err(refused) => Err(in_the_documents_words(refused, sent)),
    }
}

fn in_the_documents_words(refused: Refused, sent: &str) -> Declined {
    let is_no_invoice = matches!(refused.refusal.reason, Reason::InvoiceUnknown | Reason::InquiryFailed);
    let declined = Declined::from(refused);
    if is_no_invoice {
        Declined { sentence: format!("Failure Invoice {sent}!"), ..declined }
    } else {
        declined
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_lack_of_an_invoice_has_the_documented_sentence() {
        let sentence =
            |reason: Reason| in_the_documents_words(Refused::answer(reason), "1111111111").sentence;
        assert_eq!(sentence(Reason::InvoiceUnknown), "Failure Invoice 1111111111!");
        assert_eq!(sentence(Reason::InquiryFailed), "Failure Invoice 1111111111!");
        assert_eq!(sentence(Reason::Unavailable), Reason::Unavailable.sentence());
    }
}
