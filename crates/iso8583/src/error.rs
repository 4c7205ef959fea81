//! What can be wrong with a message: which field, where, which rule. Never the content, which may be personal.

use crate::{Kind, Path};

/// A message that does not fit its spec.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{} at offset {offset}: {rule}", place(field.as_ref()))]
pub struct DecodeError {
    /// The field, or its part; none for what is before the fields or behind them.
    pub field: Option<Path>,
    /// Bytes from the start of the message.
    pub offset: usize,
    /// What is wrong there.
    pub rule: Rule,
}

/// A message that cannot be written by its spec.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}: {rule}", place(field.as_ref()))]
pub struct EncodeError {
    /// The field, or its part.
    pub field: Option<Path>,
    /// What is wrong with it.
    pub rule: Rule,
}

fn place(field: Option<&Path>) -> String {
    field.map_or_else(|| "message".to_owned(), |path| format!("field {path}"))
}

/// The rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Rule {
    /// The message ends within a value.
    #[error("{needed} bytes needed, {left} left")]
    Truncated {
        /// Bytes of the value.
        needed: usize,
        /// Bytes of the message.
        left: usize,
    },
    /// Something follows the last field.
    #[error("{count} bytes behind the last field")]
    TrailingBytes {
        /// How many.
        count: usize,
    },
    /// The first four digits are no message type of version 1987.
    #[error("not a message type of version 1987")]
    NotAMessageType,
    /// The bitmap is no hexadecimal text of the spec's letter case.
    #[error("the bitmap is not hexadecimal")]
    Bitmap,
    /// A second bitmap in which nothing is set.
    #[error("the second bitmap is empty")]
    EmptyBitmap,
    /// The spec has no such field, or it is the bitmap's own.
    #[error("the spec has no such field")]
    UnknownField,
    /// A character outside the kind's set.
    #[error("not {}", .0.name())]
    Character(Kind),
    /// A length prefix that is no number.
    #[error("the length is not a number")]
    LengthPrefix,
    /// Longer than the spec allows.
    #[error("length {length} is more than {max}")]
    TooLong {
        /// Of the value.
        length: usize,
        /// Of the spec.
        max: usize,
    },
    /// Shorter than the spec allows.
    #[error("length {length} is less than {min}")]
    TooShort {
        /// Of the value.
        length: usize,
        /// Of the spec.
        min: usize,
    },
    /// A value that carries its own padding would not come back as it is.
    #[error("the value begins or ends with its own padding")]
    Padding,
    /// The half byte that fills up an odd count of digits is not the spec's.
    #[error("the filling half byte is not the spec's")]
    Filling,
    /// No layout of the field is for messages like this one.
    #[error("no layout of the field is for such a message")]
    NoLayout,
    /// A structured field that was given, or has, no parts; or parts of a plain one.
    #[error("the field is structured otherwise")]
    Structure,
    /// A part that the layout does not have.
    #[error("the layout has no such part")]
    UnknownPart,
    /// A tag that the layout does not have.
    #[error("the layout has no such tag")]
    UnknownTag,
    /// A tag that came before.
    #[error("the tag comes twice")]
    DuplicateTag,
    /// A column that must be there, or is followed by one that is.
    #[error("the column is missing")]
    MissingColumn,
    /// The columns do not end where one of them does.
    #[error("the field ends within a column")]
    WithinColumn,
}
