//! A provider's answer: an object of texts.
//!
//! Numbers are taken as their digits; what is neither is as if it were not there. Nobody's content is in what is
//! said of an answer that cannot be read.

use crate::Unknown;
use domain::Rupiah;
use serde_json::Value;
use std::collections::HashMap;

/// What can be read, or why not.
pub(super) type Read<T> = Result<T, Unknown>;

/// Characters of one value.
const VALUE_CHARS_MAX: usize = 255;

/// Digits of an amount.
const AMOUNT_DIGITS_MAX: usize = 15;

/// An answer's values by key.
#[derive(Debug, Default)]
pub(super) struct Answer(HashMap<String, String>);

pub(super) fn garbled(what: &str) -> Unknown {
    Unknown::Garbled(what.to_owned())
}

impl Answer {
    pub(super) fn read(body: &[u8]) -> Option<Self> {
        Self::of(serde_json::from_slice(body).ok()?)
    }

    pub(super) fn read_list(body: &[u8]) -> Option<Vec<Self>> {
        let values: Vec<Value> = serde_json::from_slice(body).ok()?;
        values.into_iter().map(Self::of).collect()
    }

    fn of(value: Value) -> Option<Self> {
        let Value::Object(entries) = value else { return None };
        let texts = entries.into_iter().filter_map(|(key, value)| match value {
            Value::String(text) => Some((key, text)),
            Value::Number(number) => Some((key, number.to_string())),
            _ => None,
        });
        Some(Self(texts.collect()))
    }

    /// The value, if there is one: an empty text says that it is not known.
    pub(super) fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key).map(String::as_str).filter(|text| !text.is_empty())
    }

    /// Whether it says so.
    pub(super) fn says(&self, key: &str, text: &str) -> bool {
        self.get(key) == Some(text)
    }

    /// A value that must be there.
    pub(super) fn required(&self, key: &str) -> Read<&str> {
        self.get(key).ok_or_else(|| garbled(&format!("the answer lacks {key}")))
    }

    /// A text that goes on to people: perhaps empty, never long, nothing but characters.
    pub(super) fn plain(&self, key: &str) -> Read<String> {
        let text = self.0.get(key).ok_or_else(|| garbled(&format!("the answer lacks {key}")))?;
        let is_plain = text.chars().count() <= VALUE_CHARS_MAX && !text.chars().any(char::is_control);
        if is_plain { Ok(text.clone()) } else { Err(garbled(&format!("{key} is no plain text"))) }
    }

    /// Whole Rupiah in plain digits.
    pub(super) fn rupiah(&self, key: &str) -> Read<Rupiah> {
        let digits = self.required(key)?;
        let is_amount = digits.len() <= AMOUNT_DIGITS_MAX && digits.bytes().all(|byte| byte.is_ascii_digit());
        let amount = digits.parse().ok().filter(|_| is_amount).map(Rupiah::new);
        amount.ok_or_else(|| garbled(&format!("{key} is no amount")))
    }
}

#[cfg(test)]
impl From<&str> for Answer {
    fn from(json: &str) -> Self {
        Self::read(json.as_bytes()).expect("an object")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn objects_of_texts_and_numbers() {
        let answer = Answer::from(r#"{"a":"x","b":183500,"c":null,"d":"","e":{"f":1},"g":true}"#);
        assert_eq!((answer.get("a"), answer.get("b")), (Some("x"), Some("183500")));
        for absent in ["c", "d", "e", "g", "h"] {
            assert_eq!(answer.get(absent), None, "{absent}");
        }
        for body in ["", "[]", "1", "<html>", r#"{"a":"x""#, "{\"a\":\"\u{0}\"}"] {
            assert!(Answer::read(body.as_bytes()).is_none(), "{body}");
        }
        assert_eq!(Answer::read_list(br#"[{"a":"1"},{"a":"2"}]"#).map(|list| list.len()), Some(2));
        assert!(Answer::read_list(br#"{"result":"no"}"#).is_none());
    }

    #[test]
    fn amounts_are_plain_digits() {
        for (json, amount) in [
            (r#"{"fee":"0"}"#, Some(0)),
            (r#"{"fee":"5000"}"#, Some(5_000)),
            (r#"{"fee":5000}"#, Some(5_000)),
            (r#"{"fee":"5,000"}"#, None),
            (r#"{"fee":"5.000"}"#, None),
            (r#"{"fee":5000.0}"#, None),
            (r#"{"fee":5e3}"#, None),
            (r#"{"fee":"-1"}"#, None),
            (r#"{"fee":"+1"}"#, None),
            (r#"{"fee":" 1"}"#, None),
            (r#"{"fee":""}"#, None),
            (r#"{"fee":"1234567890123456"}"#, None),
            ("{}", None),
        ] {
            assert_eq!(Answer::from(json).rupiah("fee").ok(), amount.map(Rupiah::new), "{json}");
        }
    }
}
