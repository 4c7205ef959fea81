//! How often a line and a bank fail, at random.

use super::{
    PROVIDER_DOWN_CODE,
    scenarios::{Answer, Arrival, AtBank, Inquiry, ORDINARY, Payment},
};
use domain::Reason;
use serde::{Deserialize, Serialize};

/// How often each fault befalls a request: fractions from 0 to 1, together at most 1 for payments and at most
/// 1 for inquiries.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct FaultRates {
    /// Payment: no connection.
    pub unreachable: f64,
    /// Payment: refused, code 0089.
    pub refused: f64,
    /// Payment: no answer, but taken.
    pub silent_then_paid: f64,
    /// Payment: no answer, and not taken.
    pub silent_then_not_paid: f64,
    /// Payment: no answer, and taken only shortly before the horizon.
    pub arrives_late: f64,
    /// Payment: taken, answered too late.
    pub late: f64,
    /// Payment: connection broken, but taken.
    pub cut_then_paid: f64,
    /// Payment: connection broken, and not taken.
    pub cut_then_not_paid: f64,
    /// Payment: taken, with an answer that cannot be read.
    pub garbled: f64,
    /// Payment: not taken, with an unknown response code.
    pub unknown_code: f64,
    /// Inquiry: no answer.
    pub inquiry_silent: f64,
    /// Inquiry: connection broken.
    pub inquiry_cut: f64,
    /// Inquiry: refused, code 0089.
    pub inquiry_refused: f64,
}

impl FaultRates {
    pub(crate) fn payments(&self) -> [(f64, Payment); 10] {
        let loses = |answer| Payment { at_bank: AtBank::Loses, answer, ..ORDINARY };
        let executes = |answer| Payment { answer, ..ORDINARY };
        let refuses = AtBank::Refuses(Reason::BankRefused, Some(PROVIDER_DOWN_CODE));
        [
            (self.unreachable, Payment { arrival: Arrival::NeverSent, ..ORDINARY }),
            (self.refused, Payment { at_bank: refuses, ..ORDINARY }),
            (self.silent_then_paid, executes(Answer::Never)),
            (self.silent_then_not_paid, loses(Answer::Never)),
            (self.arrives_late, Payment { arrival: Arrival::NearHorizon, ..executes(Answer::Never) }),
            (self.late, executes(Answer::Late)),
            (self.cut_then_paid, executes(Answer::Cut)),
            (self.cut_then_not_paid, loses(Answer::Cut)),
            (self.garbled, executes(Answer::Garbled)),
            (self.unknown_code, loses(Answer::UnknownCode)),
        ]
    }

    pub(crate) fn inquiries(&self) -> [(f64, Inquiry); 3] {
        [
            (self.inquiry_silent, Inquiry::Silent),
            (self.inquiry_cut, Inquiry::Cut),
            (self.inquiry_refused, Inquiry::Refused(Reason::BankRefused, Some(PROVIDER_DOWN_CODE))),
        ]
    }
}

/// The fault whose share of the rates the throw falls into.
pub(crate) fn befalls<T: Copy>(rates: &[(f64, T)], throw: f64) -> Option<T> {
    let mut end = 0.0;
    rates.iter().find_map(|(rate, fault)| {
        end += rate;
        (throw < end).then_some(*fault)
    })
}
