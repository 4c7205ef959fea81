//! Small values that are right once they exist: parsed at the edge, never checked again.
//!
//! Personal data and secrets print masked, so that no log, error or panic can leak them.

use crate::limits;
use serde::{Deserialize, Serialize};
use std::fmt;

/// Live money or the sandbox. They never share an account, a claim or a key.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Environment {
    /// Real money and a real bank.
    Live,
    /// Play money and a simulated bank.
    Sandbox,
}

impl Environment {
    /// `live` or `sandbox`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Live => "live",
            Self::Sandbox => "sandbox",
        }
    }

    /// The reverse of [`Self::name`].
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Live, Self::Sandbox].into_iter().find(|e| e.name() == name)
    }
}

/// An upstream (bank or provider), by the number it was registered under.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub struct UpstreamId(pub u32);

/// Which line at a bank: a terminal id of 1 to 16 capital letters and digits, short enough to be copied.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Terminal([u8; 16]);

impl Terminal {
    /// Reads a terminal id.
    pub fn parse(text: &str) -> Option<Self> {
        let valid = (1..=16).contains(&text.len())
            && text.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit());
        valid.then(|| {
            let mut bytes = [0; 16];
            bytes[..text.len()].copy_from_slice(text.as_bytes());
            Self(bytes)
        })
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        let end = self.0.iter().position(|byte| *byte == 0).unwrap_or(self.0.len());
        std::str::from_utf8(&self.0[..end]).expect("letters and digits")
    }
}

impl fmt::Display for Terminal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for Terminal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

macro_rules! text_value {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(Box<str>);

        impl $name {
            /// The text itself.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl TryFrom<String> for $name {
            type Error = Malformed;
            fn try_from(text: String) -> Result<Self, Malformed> {
                Self::parse(&text).ok_or(Malformed(stringify!($name)))
            }
        }

        impl From<$name> for String {
            fn from(value: $name) -> Self {
                value.0.into()
            }
        }
    };
}

macro_rules! shown_plainly {
    ($name:ident) => {
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

/// A stored text that is not a valid value of its type.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a valid {0}")]
pub struct Malformed(&'static str);

/// Drops the separators that people type into numbers: spaces, dots and dashes.
fn without_separators(text: &str) -> impl Iterator<Item = char> + '_ {
    text.chars().filter(|c| !matches!(c, ' ' | '.' | '-'))
}

text_value! {
    /// The KTP number (NIK) of the vehicle's owner: 15 or 16 digits (the document's own examples have
    /// both). Personal data: `Debug` masks it.
    Nik
}

impl Nik {
    /// Reads a KTP number; spaces, dots and dashes are stripped.
    pub fn parse(text: &str) -> Option<Self> {
        let digits: String = without_separators(text).take(17).collect();
        let valid = (15..=16).contains(&digits.len()) && digits.bytes().all(|b| b.is_ascii_digit());
        valid.then(|| Self(digits.into()))
    }
}

impl fmt::Debug for Nik {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Nik(…{})", &self.0[self.0.len() - 2..])
    }
}

text_value! {
    /// A chassis number (nomor rangka): 5 to 25 letters and digits, upper case.
    ChassisNumber
}
shown_plainly!(ChassisNumber);

impl ChassisNumber {
    /// Reads a chassis number; spaces, dots and dashes are stripped, letters become upper case.
    pub fn parse(text: &str) -> Option<Self> {
        let plain: String = without_separators(text).map(|c| c.to_ascii_uppercase()).take(26).collect();
        let valid = (5..=25).contains(&plain.len()) && plain.bytes().all(|b| b.is_ascii_alphanumeric());
        valid.then(|| Self(plain.into()))
    }
}

text_value! {
    /// A product code: `SAMSAT_JABAR`.
    ProductCode
}
shown_plainly!(ProductCode);

impl ProductCode {
    /// Reads a product code: 1 to 32 upper-case letters, digits and underscores.
    pub fn parse(text: &str) -> Option<Self> {
        let valid = (1..=32).contains(&text.len())
            && text.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'_');
        valid.then(|| Self(text.into()))
    }
}

text_value! {
    /// The bank's payment code of one bill: up to 20 digits.
    PaymentCode
}
shown_plainly!(PaymentCode);

impl PaymentCode {
    /// Reads a payment code.
    pub fn parse(text: &str) -> Option<Self> {
        let valid = (1..=limits::payment_code_digits_max).contains(&text.len())
            && text.bytes().all(|b| b.is_ascii_digit());
        valid.then(|| Self(text.into()))
    }
}

text_value! {
    /// A partner's agent code (`kodeagen`): `JKT-00000`.
    AgentCode
}
shown_plainly!(AgentCode);

impl AgentCode {
    /// Reads an agent code: 1 to 20 letters, digits and dashes.
    pub fn parse(text: &str) -> Option<Self> {
        let valid =
            (1..=20).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
        valid.then(|| Self(text.into()))
    }
}

text_value! {
    /// A partner's user name.
    Username
}
shown_plainly!(Username);

impl Username {
    /// Reads a user name: 1 to 64 characters, none of them a control character.
    pub fn parse(text: &str) -> Option<Self> {
        let valid = (1..=limits::username_chars_max).contains(&text.chars().count())
            && !text.chars().any(char::is_control);
        valid.then(|| Self(text.into()))
    }
}

/// A secret, or personal data in free text: `Debug` prints `…`, and there is no `Display`.
#[derive(Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Secret(String);

impl Secret {
    /// Wraps a text that must not be printed by accident.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text itself; for the one place that needs it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("…")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nik() {
        for (text, parsed) in [
            ("320111111111111", Some("320111111111111")),
            ("3201111111111111", Some("3201111111111111")),
            ("3201.1111-1111 1111", Some("3201111111111111")),
            ("32011111111111", None),
            ("32011111111111111", None),
            ("32011111111111A", None),
            ("３２０１１１１１１１１１１１１", None),
            ("", None),
        ] {
            assert_eq!(Nik::parse(text).as_ref().map(Nik::as_str), parsed, "{text}");
        }
    }

    #[test]
    fn chassis() {
        for (text, parsed) in [
            ("MH328D204AK4010000", Some("MH328D204AK4010000")),
            ("mh3-28d.204 ak4010000", Some("MH328D204AK4010000")),
            ("ABCD", None),
            ("ABCDE", Some("ABCDE")),
            ("ABCDEFGHIJKLMNOPQRSTUVWXY", Some("ABCDEFGHIJKLMNOPQRSTUVWXY")),
            ("ABCDEFGHIJKLMNOPQRSTUVWXYZ", None),
            ("MH328D'204", None),
        ] {
            assert_eq!(ChassisNumber::parse(text).as_ref().map(ChassisNumber::as_str), parsed, "{text}");
        }
    }

    #[test]
    fn nothing_personal_is_printed() {
        let nik = Nik::parse("3201111111111199").unwrap();
        assert_eq!(format!("{nik:?}"), "Nik(…99)");
        assert_eq!(format!("{:?}", Secret::new("dummy123")), "…");
    }
}
