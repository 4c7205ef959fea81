//! Reading a message: every byte is accounted for, or it is an error.

use crate::{
    DecodeError, Message, Mti, Path, Rule, Spec,
    spec::{Bitmap, Content, Encoding, Field, Form, Kind, Layout, Length, Pad},
};
use std::sync::Arc;

/// What is left of the bytes, and where it begins.
struct Reader<'a> {
    bytes: &'a [u8],
    offset: usize,
}

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize) -> Result<&'a [u8], Rule> {
        let left = self.bytes.len() - self.offset;
        if count > left {
            return Err(Rule::Truncated { needed: count, left });
        }
        let taken = &self.bytes[self.offset..self.offset + count];
        self.offset += count;
        Ok(taken)
    }
}

fn wrong(field: impl Into<Option<Path>>, offset: usize, rule: Rule) -> DecodeError {
    DecodeError { field: field.into(), offset, rule }
}

fn message_type(reader: &mut Reader<'_>) -> Result<Mti, DecodeError> {
    let digits = reader.take(4).map_err(|rule| wrong(None, 0, rule))?;
    let digits = digits.try_into().expect("four were taken");
    Mti::from_digits(digits).ok_or_else(|| wrong(None, 0, Rule::NotAMessageType))
}

impl Spec {
    /// Reads a message, the whole of `bytes`.
    pub fn decode(&self, bytes: &[u8]) -> Result<Message, DecodeError> {
        let mut reader = Reader { bytes, offset: 0 };
        let mut message = Message::new(message_type(&mut reader)?);
        self.read_fields(&mut reader, &mut message)?;
        Ok(message)
    }

    /// Reads a message of which something is wrong as far as that: whatever stands before it. Good for telling
    /// whose message it is, and for nothing else.
    pub fn decode_beginning(&self, bytes: &[u8]) -> Option<Message> {
        let mut reader = Reader { bytes, offset: 0 };
        let mut message = Message::new(message_type(&mut reader).ok()?);
        // What it is that is wrong, `decode` tells.
        let _wrong = self.read_fields(&mut reader, &mut message);
        Some(message)
    }

    fn read_fields(&self, reader: &mut Reader<'_>, message: &mut Message) -> Result<(), DecodeError> {
        let bitmap_at = reader.offset;
        let first = self.bitmap(reader).map_err(|rule| wrong(None, bitmap_at, rule))?;
        let mut bits = u128::from(first) << 64;
        if first >> 63 == 1 {
            let at = reader.offset;
            let second = self.bitmap(reader).map_err(|rule| wrong(None, at, rule))?;
            if second == 0 {
                return Err(wrong(None, at, Rule::EmptyBitmap));
            }
            bits |= u128::from(second);
        }
        // The bitmaps' own bit names no field.
        let mut left = bits & !(1 << 127);
        while left != 0 {
            let number = u8::try_from(left.leading_zeros() + 1).expect("at most 128");
            left &= !(1 << (128 - u32::from(number)));
            let Some(field) = self.field(number) else {
                return Err(wrong(Path::from(number), bitmap_at, Rule::UnknownField));
            };
            read_field(number, field, reader, message)?;
        }
        match reader.bytes.len() - reader.offset {
            0 => Ok(()),
            count => Err(wrong(None, reader.offset, Rule::TrailingBytes { count })),
        }
    }

    fn bitmap(&self, reader: &mut Reader<'_>) -> Result<u64, Rule> {
        match self.bitmap {
            Bitmap::Binary => {
                let bytes = reader.take(8)?;
                Ok(u64::from_be_bytes(bytes.try_into().expect("eight were taken")))
            }
            Bitmap::Hex { lower } => {
                let mut bits = 0;
                for digit in reader.take(16)? {
                    bits = bits << 4 | u64::from(half(*digit, lower).ok_or(Rule::Bitmap)?);
                }
                Ok(bits)
            }
        }
    }
}

/// A hexadecimal digit of one letter case.
fn half(digit: u8, lower: bool) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'A'..=b'F' if !lower => Some(digit - b'A' + 10),
        b'a'..=b'f' if lower => Some(digit - b'a' + 10),
        _ => None,
    }
}

/// How many characters, or bytes, a value has on the wire before its encoding.
fn read_length(length: Length, encoding: Encoding, reader: &mut Reader<'_>) -> Result<usize, Rule> {
    let (digits, min, max) = match length {
        Length::Fixed(length) => return Ok(length),
        Length::Prefixed { digits, min, max } => (digits, min, max),
    };
    let mut length = 0_usize;
    if encoding == Encoding::Bcd {
        let bytes = reader.take(digits.div_ceil(2))?;
        for byte in bytes {
            for digit in [byte >> 4, byte & 15] {
                if digit > 9 {
                    return Err(Rule::LengthPrefix);
                }
                length = length * 10 + usize::from(digit);
            }
        }
    } else {
        for digit in reader.take(digits)? {
            if !digit.is_ascii_digit() {
                return Err(Rule::LengthPrefix);
            }
            length = length * 10 + usize::from(digit - b'0');
        }
    }
    if length > max {
        return Err(Rule::TooLong { length, max });
    }
    if length < min {
        return Err(Rule::TooShort { length, min });
    }
    Ok(length)
}

fn read_field(
    number: u8,
    field: &Field,
    reader: &mut Reader<'_>,
    message: &mut Message,
) -> Result<(), DecodeError> {
    let at = reader.offset;
    let here = |offset: usize, rule| wrong(Path::from(number), offset, rule);
    let Content { kind, length, encoding, pad } = field.content;
    let count = read_length(length, encoding, reader).map_err(|rule| here(at, rule))?;
    let start = reader.offset;
    match encoding {
        Encoding::Ascii => {
            let bytes = reader.take(count).map_err(|rule| here(start, rule))?;
            if !field.layouts.is_empty() {
                return read_parts(number, field, bytes, start, message);
            }
            let value = pad.map_or(bytes, |pad| pad.stripped(bytes));
            let is_blank = value.is_empty() && pad == Some(Pad::Spaces);
            // Zeros on the left are digits, and spaces on the right are beyond the value.
            if let Some(strange) = kind.strange(value).filter(|_| !is_blank) {
                let skipped = if pad == Some(Pad::Zeros) { bytes.len() - value.len() } else { 0 };
                return Err(here(start + skipped + strange, Rule::Character(kind)));
            }
            message.set_bytes(number, value);
        }
        Encoding::Hex => {
            let digits = reader.take(count * 2).map_err(|rule| here(start, rule))?;
            let mut bytes = Vec::with_capacity(count);
            for (index, pair) in digits.chunks(2).enumerate() {
                match (half(pair[0], false), half(pair[1], false)) {
                    (Some(high), Some(low)) => bytes.push(high << 4 | low),
                    _ => return Err(here(start + index * 2, Rule::Character(kind))),
                }
            }
            message.set_bytes(number, &bytes);
        }
        Encoding::Bcd => {
            let bytes = reader.take(count.div_ceil(2)).map_err(|rule| here(start, rule))?;
            let mut digits = Vec::with_capacity(bytes.len() * 2);
            for (index, byte) in bytes.iter().enumerate() {
                for digit in [byte >> 4, byte & 15] {
                    if digit > 9 {
                        return Err(here(start + index, Rule::Character(Kind::Digits)));
                    }
                    digits.push(b'0' + digit);
                }
            }
            let digits = match count % 2 {
                1 if digits[0] != b'0' => return Err(here(start, Rule::Filling)),
                odd => &digits[odd..],
            };
            message.set_bytes(number, pad.map_or(digits, |pad| pad.stripped(digits)));
        }
    }
    Ok(())
}

fn read_parts(
    number: u8,
    field: &Field,
    bytes: &[u8],
    start: usize,
    message: &mut Message,
) -> Result<(), DecodeError> {
    let Some(layout) = field.layouts.iter().find(|layout| layout.is_for(message)) else {
        return Err(wrong(Path::from(number), start, Rule::NoLayout));
    };
    message.set_without_parts(number);
    match layout.form {
        Form::Columns => read_columns(number, layout, bytes, start, message),
        Form::Tagged { tag_digits, length_digits } => {
            read_tagged(number, layout, (tag_digits, length_digits), bytes, start, message)
        }
    }
}

fn read_columns(
    number: u8,
    layout: &Layout,
    bytes: &[u8],
    start: usize,
    message: &mut Message,
) -> Result<(), DecodeError> {
    let mut at = 0;
    for part in &layout.parts {
        let here = |at: usize, rule| wrong(Path::part(number, Arc::clone(&part.name)), start + at, rule);
        let left = bytes.len() - at;
        if left == 0 && part.is_optional {
            return Ok(());
        }
        if left < part.length {
            return Err(here(at, Rule::WithinColumn));
        }
        let column = &bytes[at..at + part.length];
        let value = part.pad.map_or(column, |pad| pad.stripped(column));
        let is_blank = value.is_empty() && part.pad == Some(Pad::Spaces);
        if let Some(strange) = part.kind.strange(value).filter(|_| !is_blank) {
            let skipped = if part.pad == Some(Pad::Zeros) { column.len() - value.len() } else { 0 };
            return Err(here(at + skipped + strange, Rule::Character(part.kind)));
        }
        message.set_part(number, Arc::clone(&part.name), value);
        at += part.length;
    }
    match bytes.len() - at {
        0 => Ok(()),
        count => Err(wrong(Path::from(number), start + at, Rule::TrailingBytes { count })),
    }
}

fn read_tagged(
    number: u8,
    layout: &Layout,
    (tag_digits, length_digits): (usize, usize),
    bytes: &[u8],
    start: usize,
    message: &mut Message,
) -> Result<(), DecodeError> {
    let mut reader = Reader { bytes, offset: 0 };
    while reader.offset < bytes.len() {
        let at = start + reader.offset;
        let tag = reader.take(tag_digits).map_err(|rule| wrong(Path::from(number), at, rule))?;
        let Some(part) = layout.parts.iter().find(|part| part.tag.as_bytes() == tag) else {
            return Err(wrong(Path::from(number), at, Rule::UnknownTag));
        };
        let here = |at: usize, rule| wrong(Path::part(number, Arc::clone(&part.name)), start + at, rule);
        if message.part(number, &part.name).is_some() {
            return Err(here(at - start, Rule::DuplicateTag));
        }
        let length_at = reader.offset;
        let length = Length::Prefixed { digits: length_digits, min: 0, max: part.length };
        let length =
            read_length(length, Encoding::Ascii, &mut reader).map_err(|rule| here(length_at, rule))?;
        let value_at = reader.offset;
        let value = reader.take(length).map_err(|rule| here(value_at, rule))?;
        let is_blank = value.is_empty() && part.kind != Kind::SignedDigits;
        if let Some(strange) = part.kind.strange(value).filter(|_| !is_blank) {
            return Err(here(value_at + strange, Rule::Character(part.kind)));
        }
        message.set_part(number, Arc::clone(&part.name), value);
    }
    Ok(())
}
