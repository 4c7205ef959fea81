//! What goes wrong on the host's line, on demand.

use serde::{Deserialize, Serialize};

/// How often each fault befalls a message, as fractions from 0 to 1, together at most 1; and how long answers take.
/// Test numbers and the documented vehicle have courses of their own and are spared, except where it is said.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct HostFaults {
    /// It is lost before anything is done about it.
    pub lost: f64,
    /// It is done, and not answered.
    pub silent: f64,
    /// It is done, and answered after the gateway has given up.
    pub late: f64,
    /// It is done late in the horizon, and not answered.
    pub near_horizon: f64,
    /// It is answered twice.
    pub twice: f64,
    /// Its answer comes behind the next one.
    pub swapped: f64,
    /// Its answer and the next one carry each other's trace number.
    pub crossed: f64,
    /// Its answer is damaged, so that no reader takes it for one.
    pub garbled: f64,
    /// Its answer is damaged at any place, so that a reader may take it for another one: a line without
    /// authentication codes or TLS.
    pub corrupted: f64,
    /// Its answer has another amount.
    pub wrong_amount: f64,
    /// Its answer has a trace number that nobody sent.
    pub wrong_trace: f64,
    /// It comes back itself, as if it were an answer.
    pub echoed: f64,
    /// The connection is closed at some byte of its answer.
    pub cut: f64,
    /// It is not done, and the connection is closed.
    pub cut_before: f64,
    /// It is not done, and answered with a code that nobody knows.
    pub unknown_code: f64,
    /// It is refused.
    pub refused: f64,
    /// A new business day begins just before its answer.
    pub cut_over: f64,
    /// The connection is closed at some byte of the request, whichever it is: nobody is spared. Beside the sum of the
    /// others.
    pub cut_reading: f64,
    /// The codes of random refusals; provider down if there are none.
    pub refusal_codes: Vec<String>,
    /// The codes that nobody knows; `7F` if there are none.
    pub unknown_codes: Vec<String>,
    /// How long an answer takes: from, to. Milliseconds.
    pub delay_ms: (u64, u64),
    /// How many answers take longer than that …
    pub slow: f64,
    /// … and how long. Milliseconds.
    pub slow_ms: u64,
    /// Nothing is read and nothing answered, while the connection stays. When that ends after longer than an answer
    /// may take, the connection does, too.
    pub stalled: bool,
    /// Nobody gets a connection.
    pub refuses_connections: bool,
}

/// What befalls one message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    Lost,
    Silent,
    Late,
    NearHorizon,
    Twice,
    Swapped,
    Crossed,
    Garbled,
    Corrupted,
    WrongAmount,
    WrongTrace,
    Echoed,
    Cut,
    CutBefore,
    UnknownCode,
    Refused,
    CutOver,
}

impl HostFaults {
    pub(super) fn rates(&self) -> [(f64, Fault); 17] {
        [
            (self.lost, Fault::Lost),
            (self.silent, Fault::Silent),
            (self.late, Fault::Late),
            (self.near_horizon, Fault::NearHorizon),
            (self.twice, Fault::Twice),
            (self.swapped, Fault::Swapped),
            (self.crossed, Fault::Crossed),
            (self.garbled, Fault::Garbled),
            (self.corrupted, Fault::Corrupted),
            (self.wrong_amount, Fault::WrongAmount),
            (self.wrong_trace, Fault::WrongTrace),
            (self.echoed, Fault::Echoed),
            (self.cut, Fault::Cut),
            (self.cut_before, Fault::CutBefore),
            (self.unknown_code, Fault::UnknownCode),
            (self.refused, Fault::Refused),
            (self.cut_over, Fault::CutOver),
        ]
    }

    /// What makes no sense about it.
    pub fn check(&self) -> Result<(), &'static str> {
        let rates = self.rates().map(|(rate, _)| rate);
        let apart = [self.slow, self.cut_reading];
        let are_fractions = rates.iter().chain(&apart).all(|rate| (0.0..=1.0).contains(rate));
        if !are_fractions || rates.iter().sum::<f64>() > 1.0 + 1e-9 {
            return Err("rates must be fractions from 0 to 1 whose sum is at most 1");
        }
        if self.delay_ms.0 > self.delay_ms.1 {
            return Err("delay_ms must be [from, to] with from <= to");
        }
        let mut codes = self.refusal_codes.iter().chain(&self.unknown_codes);
        if !codes.all(|code| code.len() == 2 && code.bytes().all(|byte| byte.is_ascii_alphanumeric())) {
            return Err("a response code has two letters or digits");
        }
        Ok(())
    }
}
