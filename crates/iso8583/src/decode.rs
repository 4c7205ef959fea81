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

impl Spec {
    /// Reads a message, the whole of `bytes`.
    pub fn decode(&self, bytes: &[u8]) -> Result<Message, DecodeError> {
        let mut reader = Reader { bytes, offset: 0 };
        let mti = self.mti(&mut reader).map_err(|rule| wrong(None, 0, rule))?;
        let mut message = Message::new(mti);
        self.read_fields(&mut reader, &mut message)?;
        Ok(message)
    }

    /// Reads a message of which something is wrong as far as that: whatever stands before it. Good for telling
    /// whose message it is, and for nothing else.
    pub fn decode_beginning(&self, bytes: &[u8]) -> Option<Message> {
        let mut reader = Reader { bytes, offset: 0 };
        let mut message = Message::new(self.mti(&mut reader).ok()?);
        // What it is that is wrong, `decode` tells.
        let _wrong = self.read_fields(&mut reader, &mut message);
        Some(message)
    }

    fn read_fields(&self, reader: &mut Reader<'_>, message: &mut Message) -> Result<(), DecodeError> {
        let bitmap_at = reader.offset;
        let first = self.bitmap(reader)?;
        let mut bits = u128::from(first) << 64;
        if first >> 63 == 1 {
            let at = reader.offset;
            let second = self.bitmap(reader)?;
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
                let bits_a_byte = if self.bitmap == Bitmap::Binary { 8 } else { 4 };
                let at = bitmap_at + usize::from(number - 1) / bits_a_byte;
                return Err(wrong(Path::from(number), at, Rule::UnknownField));
            };
            read_field(number, field, reader, message)?;
        }
        match reader.bytes.len() - reader.offset {
            0 => Ok(()),
            count => Err(wrong(None, reader.offset, Rule::TrailingBytes { count })),
        }
    }

    fn mti(&self, reader: &mut Reader<'_>) -> Result<Mti, Rule> {
        let digits = if self.has_packed_mti {
            let [first, second] = reader.take(2)?.try_into().expect("two were taken");
            [first >> 4, first & 15, second >> 4, second & 15].map(|digit| b'0' + digit)
        } else {
            reader.take(4)?.try_into().expect("four were taken")
        };
        Mti::from_digits(digits).ok_or(Rule::NotAMessageType)
    }

    fn bitmap(&self, reader: &mut Reader<'_>) -> Result<u64, DecodeError> {
        let at = reader.offset;
        let truncated = |rule| wrong(None, at, rule);
        match self.bitmap {
            Bitmap::Binary => {
                let bytes = reader.take(8).map_err(truncated)?;
                Ok(u64::from_be_bytes(bytes.try_into().expect("eight were taken")))
            }
            Bitmap::Hex { lower } => {
                let mut bits = 0;
                for (index, digit) in reader.take(16).map_err(truncated)?.iter().enumerate() {
                    let Some(half) = half(*digit, lower) else {
                        return Err(wrong(None, at + index, Rule::Bitmap));
                    };
                    bits = bits << 4 | u64::from(half);
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
fn read_length(length: Length, reader: &mut Reader<'_>) -> Result<usize, Rule> {
    let (digits, is_packed, min, max) = match length {
        Length::Fixed(length) => return Ok(length),
        Length::Prefixed { digits, is_packed, min, max } => (digits, is_packed, min, max),
    };
    let mut length = 0_usize;
    if is_packed {
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
    let count = read_length(length, reader).map_err(|rule| here(at, rule))?;
    let start = reader.offset;
    match encoding {
        Encoding::Ascii => {
            let bytes = reader.take(count).map_err(|rule| here(start, rule))?;
            if !field.layouts.is_empty() {
                return read_parts(number, field, bytes, start, message);
            }
            let value =
                unpadded(kind, pad, bytes).map_err(|strange| here(start + strange, Rule::Character(kind)))?;
            message.set_bytes(number, value);
        }
        Encoding::Hex => {
            let digits = reader.take(count * 2).map_err(|rule| here(start, rule))?;
            if let Some(strange) = digits.iter().position(|digit| half(*digit, false).is_none()) {
                return Err(here(start + strange, Rule::Character(kind)));
            }
            let halves = digits.iter().filter_map(|digit| half(*digit, false));
            message.set_each(number, pairs(halves).map(|(high, low)| high << 4 | low));
        }
        Encoding::Bcd(filler) => {
            let bytes = reader.take(count.div_ceil(2)).map_err(|rule| here(start, rule))?;
            let halves = || bytes.iter().flat_map(|byte| [byte >> 4, byte & 15]);
            let (before, behind) = filler.around(count);
            if before.is_some() && halves().next() != before {
                return Err(here(start, Rule::Filling));
            }
            if behind.is_some() && halves().next_back() != behind {
                return Err(here(start + bytes.len() - 1, Rule::Filling));
            }
            let skipped = before.iter().count();
            let digits = || halves().skip(skipped).take(count);
            if let Some(strange) = digits().position(|digit| digit > 9) {
                let half = skipped + strange;
                return Err(here(start + half / 2, Rule::Character(kind)));
            }
            let zeros = match pad {
                Some(_) => digits().take(count - 1).take_while(|digit| *digit == 0).count(),
                None => 0,
            };
            message.set_each(number, digits().skip(zeros).map(|digit| b'0' + digit));
        }
    }
    Ok(())
}

/// A value without what fills its place; the error is where a character is none of its kind.
fn unpadded(kind: Kind, pad: Option<Pad>, bytes: &[u8]) -> Result<&[u8], usize> {
    let value = pad.map_or(bytes, |pad| pad.stripped(bytes));
    if value.is_empty() && pad == Some(Pad::Spaces) {
        return Ok(value);
    }
    // Zeros on the left are digits, and spaces on the right are beyond the value.
    let skipped = if pad == Some(Pad::Zeros) { bytes.len() - value.len() } else { 0 };
    kind.strange(value).map_or(Ok(value), |strange| Err(skipped + strange))
}

fn pairs(mut halves: impl Iterator<Item = u8>) -> impl Iterator<Item = (u8, u8)> {
    std::iter::from_fn(move || Some((halves.next()?, halves.next()?)))
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
    let count = match layout.form {
        Form::Columns => layout.parts.len(),
        Form::Tagged { tag_digits, length_digits } => bytes.len() / (tag_digits + length_digits),
    };
    message.set_without_parts(number, count.min(layout.parts.len()));
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
        let value = unpadded(part.kind, part.pad, column)
            .map_err(|strange| here(at + strange, Rule::Character(part.kind)))?;
        message.push_part(number, &part.name, value);
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
    let mut next = 0;
    while reader.offset < bytes.len() {
        let at = start + reader.offset;
        let tag = reader.take(tag_digits).map_err(|rule| wrong(Path::from(number), at, rule))?;
        let Some(index) = layout.find(next, |part| part.tag.as_bytes() == tag) else {
            return Err(wrong(Path::from(number), at, Rule::UnknownTag));
        };
        let part = &layout.parts[index];
        next = index + 1;
        let here = |at: usize, rule| wrong(Path::part(number, Arc::clone(&part.name)), start + at, rule);
        if message.has_pushed(number, &part.name) {
            return Err(here(at - start, Rule::DuplicateTag));
        }
        let length_at = reader.offset;
        let length = Length::Prefixed { digits: length_digits, is_packed: false, min: 0, max: part.length };
        let length = read_length(length, &mut reader).map_err(|rule| here(length_at, rule))?;
        let value_at = reader.offset;
        let value = reader.take(length).map_err(|rule| here(value_at, rule))?;
        let is_blank = value.is_empty() && part.kind != Kind::SignedDigits;
        if let Some(strange) = part.kind.strange(value).filter(|_| !is_blank) {
            return Err(here(value_at + strange, Rule::Character(part.kind)));
        }
        message.push_part(number, &part.name, value);
    }
    Ok(())
}
