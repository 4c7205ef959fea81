//! Where a value stands: a field, or a part of one.

use std::{fmt, sync::Arc};

/// `48`, or `48.payment_code`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Path {
    /// The field's number, 2 to 128.
    pub field: u8,
    /// The part's name, if the value is a part.
    pub part: Option<Arc<str>>,
}

impl Path {
    /// A part of a field.
    pub fn part(field: u8, name: impl Into<Arc<str>>) -> Self {
        Self { field, part: Some(name.into()) }
    }

    /// Reads `48` or `48.payment_code`.
    pub fn parse(text: &str) -> Option<Self> {
        let (number, part) = match text.split_once('.') {
            Some((number, part)) => (number, Some(part)),
            None => (text, None),
        };
        let is_plain =
            !number.is_empty() && !number.starts_with('0') && number.bytes().all(|b| b.is_ascii_digit());
        let field = number.parse().ok().filter(|field| is_plain && (2..=128).contains(field))?;
        match part {
            Some("") => None,
            part => Some(Self { field, part: part.map(Arc::from) }),
        }
    }
}

impl From<u8> for Path {
    fn from(field: u8) -> Self {
        Self { field, part: None }
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.part {
            Some(part) => write!(f, "{}.{part}", self.field),
            None => write!(f, "{}", self.field),
        }
    }
}

impl fmt::Debug for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_read_back() {
        for text in ["2", "128", "48.payment_code"] {
            assert_eq!(Path::parse(text).unwrap().to_string(), text);
        }
        for text in ["", "1", "0", "129", "04", "48.", ".a", "x", "-4", "+4", "4 "] {
            assert_eq!(Path::parse(text), None, "{text:?}");
        }
    }
}
