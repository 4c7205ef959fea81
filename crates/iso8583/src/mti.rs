//! The message type indicator: four digits for version, class, function and origin.

use std::fmt;

/// Which kind of message: `0200`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Mti([u8; 4]);

impl Mti {
    /// Reads four digits. The version is 0 (1987); other versions are unknown here.
    pub fn parse(text: &str) -> Option<Self> {
        Self::from_digits(text.as_bytes().try_into().ok()?)
    }

    pub(crate) fn from_digits(digits: [u8; 4]) -> Option<Self> {
        let is_known = digits[0] == b'0' && digits.iter().all(u8::is_ascii_digit);
        is_known.then_some(Self(digits))
    }

    /// The four digits.
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).expect("digits are text")
    }

    pub(crate) const fn digits(self) -> [u8; 4] {
        self.0
    }

    /// Whether it asks for an answer, or advises and is answered: an even third digit.
    pub const fn is_request(self) -> bool {
        (self.0[2] - b'0').is_multiple_of(2)
    }

    /// What answers it, a repeat as its original: `0200` → `0210`, `0221` → `0230`; none for an answer.
    #[must_use]
    pub const fn answer(self) -> Option<Self> {
        if !self.is_request() {
            return None;
        }
        let origin = (self.0[3] - b'0') & !1;
        Some(Self([self.0[0], self.0[1], self.0[2] + 1, b'0' + origin]))
    }

    /// The same, sent again: `0220` → `0221`.
    #[must_use]
    pub const fn repeat(self) -> Self {
        Self([self.0[0], self.0[1], self.0[2], b'0' + ((self.0[3] - b'0') | 1)])
    }
}

impl fmt::Display for Mti {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for Mti {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_and_repeats() {
        for (request, answer, repeat) in [
            ("0200", "0210", "0201"),
            ("0220", "0230", "0221"),
            ("0221", "0230", "0221"),
            ("0400", "0410", "0401"),
            ("0401", "0410", "0401"),
            ("0421", "0430", "0421"),
            ("0800", "0810", "0801"),
        ] {
            let mti = Mti::parse(request).unwrap();
            assert!(mti.is_request(), "{request}");
            assert_eq!(mti.answer().unwrap().as_str(), answer, "{request}");
            assert_eq!(mti.repeat().as_str(), repeat, "{request}");
            assert_eq!(mti.answer().unwrap().answer(), None, "{answer} is an answer");
        }
    }

    #[test]
    fn what_is_none() {
        for text in ["", "200", "02000", "1200", "02O0", "０２００"] {
            assert_eq!(Mti::parse(text), None, "{text}");
        }
    }
}
