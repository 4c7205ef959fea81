//! A profile is tried before it is believed: each message is written with made-up values, read back, and answered.
//!
//! What no value could make right (a column that nothing fills, a layout for other messages, two messages that look
//! alike, a code that the field cannot hold) is found when the profile is read, and not when a payment waits for it.
//! Deliberately absent: what only some values are too long for, which is found when they come.

use super::{Dialog, LineProfile, Operation, Part, Template, Unfit, Value, Values};
use domain::ProductCode;
use iso8583::{EncodeError, Facts, Message};

/// What a gateway knows when it says this.
fn known(operation: Operation) -> Vec<Value> {
    let moment = [
        Value::Transmission,
        Value::LocalTime,
        Value::LocalDate,
        Value::Trace,
        Value::Terminal,
        Value::SettlementDate,
    ];
    let vehicle = [Value::Reference, Value::Product, Value::Nik, Value::Chassis];
    let payment = [Value::PaymentCode, Value::Amount];
    let original = [Value::OriginalTrace, Value::OriginalTransmission, Value::OriginalReference];
    let more: &[&[Value]] = match operation {
        Operation::SignOn | Operation::SignOff | Operation::Echo | Operation::CutOver => &[],
        Operation::Inquiry => &[&vehicle],
        Operation::Payment | Operation::Advice | Operation::Reversal => &[&vehicle, &payment],
        Operation::Status => &[&vehicle, &payment, &original],
    };
    moment.into_iter().chain(more.iter().copied().flatten().copied()).collect()
}

/// What a value looks like; whether every one is as long.
const fn example(value: Value) -> (&'static str, bool) {
    match value {
        Value::Transmission | Value::OriginalTransmission => ("0105030201", true),
        Value::Trace | Value::OriginalTrace => ("000123", true),
        Value::Reference | Value::OriginalReference => ("012345678901", true),
        Value::LocalTime => ("090807", true),
        Value::LocalDate | Value::SettlementDate => ("0105", true),
        Value::OriginalMti => ("0200", true),
        Value::Code => ("00", true),
        Value::YearBuilt => ("2010", true),
        Value::ValidUntil => ("20270105030201", true),
        Value::Amount
        | Value::Pkb
        | Value::OpsenPkb
        | Value::Swdkllj
        | Value::Bbn
        | Value::PkbPenalty
        | Value::OpsenPkbPenalty
        | Value::SwdklljPenalty
        | Value::BbnPenalty => ("178500", true),
        Value::Nik => ("3201111111111111", false),
        Value::Chassis => ("MH328D204AK401000", false),
        Value::PaymentCode | Value::BankReference | Value::Terminal | Value::Institution => {
            ("1234567890123456", false)
        }
        Value::Product => ("SAMSAT_JABAR", false),
        Value::OwnerName
        | Value::OwnerAddress
        | Value::LicensePlate
        | Value::Brand
        | Value::Model
        | Value::Color => ("JORDAN", false),
    }
}

impl LineProfile {
    /// A text for every value.
    pub(super) fn samples(&self) -> Values {
        Value::ALL.iter().map(|value| (*value, self.sample(*value))).collect()
    }

    /// Writes and reads a message, for each product, and answers it. Says what is wrong.
    pub(super) fn try_out(&self, operation: Operation, samples: &Values) -> Result<(), String> {
        let text = |value| samples.get(value).unwrap_or_default().to_owned();
        let asked: Values = known(operation).into_iter().map(|value| (value, text(value))).collect();
        let message = self.try_request(operation, &asked)?;
        if self.carries(operation, Value::Product) {
            for product in self.products.keys() {
                self.try_request(operation, &asked.clone().with(Value::Product, product.as_str()))?;
            }
        }
        // Where one of digits fits, all of digits do.
        let has_letter = |code: &&str| code.bytes().any(|byte| byte.is_ascii_alphabetic());
        self.codes(operation).filter(has_letter).chain(["00"]).try_for_each(|code| {
            let tried = self.try_answer(operation, &message, code, samples);
            tried.map_err(|what| format!("its answer with code {code}: {what}"))
        })
    }

    fn try_request(&self, operation: Operation, asked: &Values) -> Result<Message, String> {
        let message = self.compose(operation, asked, false).map_err(|unfit| self.told(&unfit))?;
        let message = self.there_and_back(&message)?;
        match self.operation_of(&message) {
            Some((read, Part::Request { is_repeat: false })) if read == operation => {}
            Some((other, _)) => {
                return Err(format!(
                    "it looks like [message.{}]; one of the two needs another mti, or another text in a field",
                    other.name()
                ));
            }
            None => return Err("a field reads back as another text than it was written with".to_owned()),
        }
        self.read_request(operation, &message).map_err(|mismatch| mismatch.to_string())?;
        Ok(message)
    }

    fn try_answer(
        &self,
        operation: Operation,
        request: &Message,
        code: &str,
        told: &Values,
    ) -> Result<(), String> {
        let answer = self.answer(operation, request, code, told).map_err(|unfit| self.told(&unfit))?;
        let answer = self.there_and_back(&answer)?;
        let read = self.read_answer(operation, request, &answer).map_err(|what| what.to_string())?;
        if self.match_key(request) != self.match_key(&answer) {
            return Err("it has other values in the fields of [identity] match".to_owned());
        }
        if read.code != code {
            return Err("the code reads back as another one".to_owned());
        }
        Ok(())
    }

    /// A message as the other end reads it.
    fn there_and_back(&self, message: &Message) -> Result<Message, String> {
        let mut bytes = Vec::new();
        self.spec.encode(message, &mut bytes).map_err(|error| self.told(&error.into()))?;
        if bytes.len() > self.frame.bytes_max {
            return Err(format!("it has {} bytes, more than [frame] bytes_max", bytes.len()));
        }
        self.spec.decode(&bytes).map_err(|error| error.to_string())
    }

    /// With the value that stands where something does not fit.
    fn told(&self, unfit: &Unfit) -> String {
        let Unfit::Encode(EncodeError { field: Some(path), .. }) = unfit else { return unfit.to_string() };
        let places = self.dialogs.values().flat_map(Dialog::places);
        let value = places.filter(|(place, _)| place == path).find_map(|(_, template)| template.value());
        value.map_or_else(|| unfit.to_string(), |value| format!("{unfit} ({{{}}})", value.name()))
    }

    /// A text for a value that has the length of its places, where they leave a choice.
    fn sample(&self, value: Value) -> String {
        let (text, is_always_so_long) = example(value);
        if is_always_so_long {
            return text.to_owned();
        }
        if value == Value::Product {
            return self.products.keys().next().map_or(text, ProductCode::as_str).to_owned();
        }
        let places = self.dialogs.values().flat_map(Dialog::places);
        let of_value = places.filter(|(_, template)| template.value() == Some(value));
        let facts: Vec<Facts> = of_value.filter_map(|(path, _)| self.spec.facts(path)).collect();
        let exact = facts.iter().find(|facts| facts.is_exact).map(|facts| facts.length_max);
        let most = facts.iter().map(|facts| facts.length_max).min().unwrap_or(text.len());
        text.chars().cycle().take(exact.unwrap_or(text.len().min(most))).collect()
    }
}

impl Template {
    const fn value(&self) -> Option<Value> {
        match self {
            Self::Value(value) => Some(*value),
            Self::Constant(_) => None,
        }
    }
}
