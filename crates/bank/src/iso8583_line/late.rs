//! Answers that nobody waits for any more: told to the engine with what they say of their payment.

use super::{judge, mux::Request};
use crate::{
    LateAnswer, Paid, PaymentOutcome, StatusOutcome, Unknown,
    profile::{LineProfile, Meaning, Operation, ReferenceRule, Value},
};
use domain::{InvoiceNumber, invoice::BankReceipt};
use iso8583::Message;

/// What an answer says whose request was given up. None if it is about no payment, or a question's that settles
/// nothing.
pub(super) fn of(profile: &LineProfile, request: Request, answer: &Message) -> Option<LateAnswer> {
    let (identity, invoice) = request.payment?;
    let operation = request.operation;
    let sent = profile.read_request(operation, &request.message).ok();
    let amount = sent.and_then(|values| values.rupiah(Value::Amount).ok());
    let outcome = match profile.read_answer(operation, &request.message, answer) {
        Ok(answer) if operation == Operation::Payment => judge::payment(profile, &answer, &identity, amount),
        // Of a question, only that the payment was made holds at any time.
        Ok(answer) => match judge::question(profile, operation, &answer, &identity) {
            StatusOutcome::Paid(paid) if operation != Operation::Reversal => PaymentOutcome::Paid(paid),
            _ => return None,
        },
        Err(mismatch) => PaymentOutcome::Unknown(Unknown::Garbled(mismatch.to_string())),
    };
    Some(LateAnswer { invoice, outcome, contradicts: false })
}

/// What an answer says whose request nobody remembers: only "paid" can be believed of it, and only with the whole
/// identity that the engine can compare.
pub(super) fn of_unknown(
    profile: &LineProfile,
    operation: Operation,
    answer: &Message,
) -> Option<LateAnswer> {
    if operation == Operation::Reversal {
        return None;
    }
    let values = profile.read_unasked(operation, answer)?;
    if profile.reference != ReferenceRule::Invoice || operation == Operation::Status {
        return None;
    }
    let invoice = InvoiceNumber::parse(values.get(Value::Reference)?)?;
    if profile.meaning(operation, values.get(Value::Code)?) != Meaning::Done {
        return None;
    }
    let paid = Paid {
        identity: LineProfile::identity(&values)?,
        amount: values.rupiah(Value::Amount).ok()?,
        receipt: BankReceipt {
            reference_number: values.get(Value::BankReference)?.to_owned(),
            trace_number: values.get(Value::Trace)?.to_owned(),
        },
    };
    Some(LateAnswer { invoice, outcome: PaymentOutcome::Paid(paid), contradicts: false })
}
