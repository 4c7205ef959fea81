//! What messages look like, once it has been checked.

use crate::Path;
use std::sync::{Arc, LazyLock};

/// A checked description of messages. Made by [`Spec::from_toml`] and [`Spec::build`].
#[derive(Clone, Debug)]
pub struct Spec {
    pub(crate) name: String,
    /// Whether the message type is two digits a byte.
    pub(crate) has_packed_mti: bool,
    pub(crate) bitmap: Bitmap,
    /// By number; those of the bitmaps are never there.
    pub(crate) fields: Vec<Option<Field>>,
}

/// How a bitmap is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Bitmap {
    Binary,
    Hex { lower: bool },
}

#[derive(Clone, Debug)]
pub(crate) struct Field {
    pub(crate) name: String,
    pub(crate) content: Content,
    pub(crate) mask: Mask,
    /// Empty for a plain value.
    pub(crate) layouts: Vec<Layout>,
}

/// What a value may be, and how it is written.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Content {
    pub(crate) kind: Kind,
    pub(crate) length: Length,
    pub(crate) encoding: Encoding,
    pub(crate) pad: Option<Pad>,
}

/// Which characters a value has, by the standard's names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `a`: letters.
    Letters,
    /// `n`: digits.
    Digits,
    /// `an`: letters and digits.
    LettersAndDigits,
    /// `ans`: printable ASCII.
    Printable,
    /// `x+n`: `C` or `D`, then digits.
    SignedDigits,
    /// `z`: a magnetic track's digits and separators, 0x30 to 0x3F; `D` where a separator is written so.
    Track,
    /// `b`: bytes.
    Bytes,
}

impl Kind {
    pub(crate) fn parse(text: &str) -> Option<Self> {
        Some(match text {
            "a" => Self::Letters,
            "n" => Self::Digits,
            "an" => Self::LettersAndDigits,
            "ans" => Self::Printable,
            "x+n" => Self::SignedDigits,
            "z" => Self::Track,
            "b" => Self::Bytes,
            _ => return None,
        })
    }

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Letters => "a letter",
            Self::Digits => "a digit",
            Self::LettersAndDigits => "a letter or digit",
            Self::Printable => "printable ASCII",
            Self::SignedDigits => "C or D and digits",
            Self::Track => "a track character",
            Self::Bytes => "a byte",
        }
    }

    /// Where the first character is that the kind does not have.
    pub(crate) fn strange(self, bytes: &[u8]) -> Option<usize> {
        match self {
            Self::Letters => bytes.iter().position(|byte| !byte.is_ascii_alphabetic()),
            Self::Digits => bytes.iter().position(|byte| !byte.is_ascii_digit()),
            Self::LettersAndDigits => bytes.iter().position(|byte| !byte.is_ascii_alphanumeric()),
            Self::Printable => bytes.iter().position(|byte| !(0x20..=0x7e).contains(byte)),
            Self::SignedDigits => match bytes.split_first() {
                Some((b'C' | b'D', digits)) => Self::Digits.strange(digits).map(|at| at + 1),
                _ => Some(0),
            },
            Self::Track => bytes.iter().position(|byte| !matches!(byte, b'0'..=b'?' | b'D')),
            Self::Bytes => None,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Length {
    Fixed(usize),
    /// A prefix of so many digits, perhaps two a byte; then at least and at most so much.
    Prefixed {
        digits: usize,
        is_packed: bool,
        min: usize,
        max: usize,
    },
}

impl Length {
    pub(crate) const fn max(self) -> usize {
        match self {
            Self::Fixed(length) => length,
            Self::Prefixed { max, .. } => max,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Encoding {
    /// One byte a character; of bytes, their own.
    Ascii,
    /// Two digits a byte, an odd count of them filled up.
    Bcd(Filler),
    /// Two hexadecimal digits a byte.
    Hex,
}

/// The half byte that makes an odd count of packed digits even.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Filler {
    ZeroLeft,
    ZeroRight,
    FifteenRight,
}

impl Filler {
    pub(crate) fn parse(text: &str) -> Option<Self> {
        Some(match text {
            "left-0" => Self::ZeroLeft,
            "right-0" => Self::ZeroRight,
            "right-F" => Self::FifteenRight,
            _ => return None,
        })
    }

    /// What stands before and behind `count` digits.
    pub(crate) const fn around(self, count: usize) -> (Option<u8>, Option<u8>) {
        match self {
            _ if count.is_multiple_of(2) => (None, None),
            Self::ZeroLeft => (Some(0), None),
            Self::ZeroRight => (None, Some(0)),
            Self::FifteenRight => (None, Some(15)),
        }
    }
}

/// With what a value is filled up to a fixed length.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pad {
    /// Zeros on the left, of a number.
    Zeros,
    /// Spaces on the right.
    Spaces,
}

impl Pad {
    /// Whether a value would come back as another one.
    pub(crate) fn is_in(self, value: &[u8]) -> bool {
        match self {
            Self::Zeros => value.is_empty() || (value.len() > 1 && value[0] == b'0'),
            Self::Spaces => value.last() == Some(&b' '),
        }
    }

    /// The value without it.
    pub(crate) fn stripped(self, padded: &[u8]) -> &[u8] {
        match self {
            Self::Zeros => {
                let zeros = padded.iter().take_while(|byte| **byte == b'0').count();
                &padded[zeros.min(padded.len().saturating_sub(1))..]
            }
            Self::Spaces => {
                let end = padded.iter().rposition(|byte| *byte != b' ').map_or(0, |last| last + 1);
                &padded[..end]
            }
        }
    }
}

/// How much of a value people see.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mask {
    Open,
    /// A few characters of it.
    Personal,
    /// Nothing of it.
    Secret,
}

/// One way in which a field is made of parts.
#[derive(Clone, Debug)]
pub(crate) struct Layout {
    pub(crate) when: When,
    pub(crate) form: Form,
    pub(crate) parts: Vec<Part>,
}

impl Layout {
    /// The place of a part, which is mostly the one behind the last.
    pub(crate) fn find(&self, next: usize, is_it: impl Fn(&Part) -> bool) -> Option<usize> {
        let (before, behind) = self.parts.split_at(next);
        let position = behind.iter().position(&is_it).map(|place| next + place);
        position.or_else(|| before.iter().position(is_it))
    }
}

/// Which messages a layout is for: all that it says must be so.
#[derive(Clone, Debug, Default)]
pub(crate) struct When {
    /// Any, if empty.
    pub(crate) mti: Vec<crate::Mti>,
    /// Plain fields with lower numbers, and their values.
    pub(crate) fields: Vec<(u8, String)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// One after another, each of its width.
    Columns,
    /// Tag, length, value; of so many digits.
    Tagged { tag_digits: usize, length_digits: usize },
}

#[derive(Clone, Debug)]
pub(crate) struct Part {
    pub(crate) name: Arc<str>,
    /// Of a tagged layout.
    pub(crate) tag: String,
    pub(crate) kind: Kind,
    /// A column's width; the most that a tag's value may be.
    pub(crate) length: usize,
    pub(crate) pad: Option<Pad>,
    /// Of columns: it and those behind it may be missing.
    pub(crate) is_optional: bool,
    pub(crate) mask: Mask,
}

/// What a spec says of one place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Facts {
    /// Its characters.
    pub kind: Kind,
    /// The most characters that a value has.
    pub length_max: usize,
    /// Whether every value has that length.
    pub is_exact: bool,
}

/// Names and texts of the specs that are shipped.
const BUILTIN: [(&str, &str); 4] = [
    ("iso87-ascii", include_str!("../specs/iso87-ascii.toml")),
    ("dialect-37-80", include_str!("../specs/dialect-37-80.toml")),
    ("dialect-38-18", include_str!("../specs/dialect-38-18.toml")),
    ("dialect-38-50", include_str!("../specs/dialect-38-50.toml")),
];

static SPECS: [LazyLock<Spec>; 4] = [
    LazyLock::new(|| shipped(0)),
    LazyLock::new(|| shipped(1)),
    LazyLock::new(|| shipped(2)),
    LazyLock::new(|| shipped(3)),
];

fn shipped(index: usize) -> Spec {
    Spec::from_toml(BUILTIN[index].1).expect("the shipped specs are tested")
}

impl Spec {
    /// The default: ISO 8583:1987 in ASCII, bitmaps as hexadecimal text.
    pub fn iso87_ascii() -> &'static Self {
        &SPECS[0]
    }

    /// A spec that is shipped, by its name: one of [`Spec::builtin_names`].
    pub fn builtin(name: &str) -> Option<&'static Self> {
        let index = BUILTIN.iter().position(|(known, _)| *known == name)?;
        Some(&SPECS[index])
    }

    /// The names of the specs that are shipped.
    pub fn builtin_names() -> impl Iterator<Item = &'static str> {
        BUILTIN.iter().map(|(name, _)| *name)
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What it says of a field, or of a part in any of the field's layouts; `None` if it has no such place.
    pub fn facts(&self, path: &Path) -> Option<Facts> {
        let field = self.field(path.field)?;
        let Some(name) = &path.part else {
            if !field.layouts.is_empty() {
                return None;
            }
            let Content { kind, length, pad, .. } = field.content;
            let is_exact = matches!(length, Length::Fixed(_)) && pad.is_none();
            return Some(Facts { kind, length_max: length.max(), is_exact });
        };
        let mut parts = field.layouts.iter().flat_map(|layout| {
            layout.parts.iter().filter(|part| part.name == *name).map(move |part| (layout.form, part))
        });
        let (form, part) = parts.next()?;
        let is_exact = form == Form::Columns && part.pad.is_none();
        Some(Facts { kind: part.kind, length_max: part.length, is_exact })
    }

    pub(crate) fn field(&self, number: u8) -> Option<&Field> {
        self.fields.get(usize::from(number))?.as_ref()
    }
}
