//! Writing a message.

use crate::{
    EncodeError, Message, Path, Rule, Spec,
    spec::{Bitmap, Content, Encoding, Field, Form, Kind, Layout, Length, Pad, Part},
};
use std::sync::Arc;

type Written = Result<(), EncodeError>;

fn wrong(field: impl Into<Option<Path>>, rule: Rule) -> EncodeError {
    EncodeError { field: field.into(), rule }
}

impl Spec {
    /// Writes a message behind what is in `out`. On an error, `out` is what it was.
    pub fn encode(&self, message: &Message, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        let before = out.len();
        let written = self.write(message, out);
        if written.is_err() {
            out.truncate(before);
        }
        written
    }

    fn write(&self, message: &Message, out: &mut Vec<u8>) -> Written {
        let digits = message.mti().digits();
        if self.has_packed_mti {
            push_packed(out, digits.iter().map(|digit| digit - b'0'));
        } else {
            out.extend_from_slice(&digits);
        }
        let mut bits = message.present().reverse_bits();
        let has_second = message.present() >> 64 != 0;
        if has_second {
            bits |= 1 << 127;
        }
        let bytes = bits.to_be_bytes();
        let bytes = if has_second { &bytes[..] } else { &bytes[..8] };
        match self.bitmap {
            Bitmap::Binary => out.extend_from_slice(bytes),
            Bitmap::Hex { lower } => push_hex(out, bytes, lower),
        }
        for number in message.fields() {
            let Some(field) = self.field(number) else {
                return Err(wrong(Path::from(number), Rule::UnknownField));
            };
            match (field.layouts.is_empty(), message.get_bytes(number)) {
                (true, Some(value)) => {
                    write_value(&field.content, value, out)
                        .map_err(|rule| wrong(Path::from(number), rule))?;
                }
                (false, None) => write_parts(number, field, message, out)?,
                (_, _) => return Err(wrong(Path::from(number), Rule::Structure)),
            }
        }
        Ok(())
    }
}

/// Two digits a byte.
fn push_hex(out: &mut Vec<u8>, bytes: &[u8], lower: bool) {
    let digits = if lower { b"0123456789abcdef" } else { b"0123456789ABCDEF" };
    for byte in bytes {
        out.push(digits[usize::from(byte >> 4)]);
        out.push(digits[usize::from(byte & 15)]);
    }
}

pub(crate) fn write_value(content: &Content, value: &[u8], out: &mut Vec<u8>) -> Result<(), Rule> {
    let Content { kind, length, encoding, pad } = *content;
    if kind.strange(value).is_some() && !(value.is_empty() && pad == Some(Pad::Spaces)) {
        return Err(Rule::Character(kind));
    }
    let max = length.max();
    if value.len() > max {
        return Err(Rule::TooLong { length: value.len(), max });
    }
    let fill = match length {
        Length::Fixed(length) => {
            match pad {
                Some(pad) if pad.is_in(value) => return Err(Rule::Padding),
                None if value.len() < length => {
                    return Err(Rule::TooShort { length: value.len(), min: length });
                }
                _ => {}
            }
            length - value.len()
        }
        Length::Prefixed { digits, is_packed, min, .. } => {
            if value.len() < min {
                return Err(Rule::TooShort { length: value.len(), min });
            }
            push_length(out, value.len(), digits, is_packed);
            0
        }
    };
    match (encoding, pad) {
        (Encoding::Bcd(filler), _) => {
            let (before, behind) = filler.around(fill + value.len());
            let zeros = std::iter::repeat_n(0, fill);
            let digits = value.iter().map(|digit| digit - b'0');
            push_packed(out, before.into_iter().chain(zeros).chain(digits).chain(behind));
        }
        (Encoding::Hex, _) => push_hex(out, value, false),
        (Encoding::Ascii, pad) => push_padded(out, value, fill, pad),
    }
    Ok(())
}

fn push_padded(out: &mut Vec<u8>, value: &[u8], fill: usize, pad: Option<Pad>) {
    if pad == Some(Pad::Zeros) {
        out.resize(out.len() + fill, b'0');
        out.extend_from_slice(value);
    } else {
        out.extend_from_slice(value);
        out.resize(out.len() + fill, b' ');
    }
}

/// Two half bytes a byte, of which there are an even count.
fn push_packed(out: &mut Vec<u8>, mut halves: impl Iterator<Item = u8>) {
    while let (Some(high), Some(low)) = (halves.next(), halves.next()) {
        out.push(high << 4 | low);
    }
}

fn push_length(out: &mut Vec<u8>, length: usize, digits: usize, is_packed: bool) {
    let at = out.len();
    out.resize(at + if is_packed { digits.div_ceil(2) } else { digits }, 0);
    put_length(&mut out[at..], length, is_packed);
}

/// Fills the place of a prefix. The spec bounds the length to what fits there.
fn put_length(place: &mut [u8], mut length: usize, is_packed: bool) {
    let mut digit = || {
        let digit = u8::try_from(length % 10).expect("a digit");
        length /= 10;
        digit
    };
    for byte in place.iter_mut().rev() {
        *byte = if is_packed { digit() | digit() << 4 } else { b'0' + digit() };
    }
}

impl Layout {
    /// Whether the layout is for messages like this one.
    pub(crate) fn is_for(&self, message: &Message) -> bool {
        (self.when.mti.is_empty() || self.when.mti.contains(&message.mti()))
            && self.when.fields.iter().all(|(field, text)| message.get_bytes(*field) == Some(text.as_bytes()))
    }
}

fn write_parts(number: u8, field: &Field, message: &Message, out: &mut Vec<u8>) -> Written {
    let here = || Path::from(number);
    let Some(layout) = field.layouts.iter().find(|layout| layout.is_for(message)) else {
        return Err(wrong(here(), Rule::NoLayout));
    };
    let Content { length, .. } = field.content;
    let start = out.len();
    if let Length::Prefixed { digits, is_packed, .. } = length {
        push_length(out, 0, digits, is_packed);
    }
    let body = out.len();
    match layout.form {
        Form::Columns => write_columns(number, layout, message, out)?,
        Form::Tagged { length_digits, .. } => write_tagged(number, layout, length_digits, message, out)?,
    }
    let size = out.len() - body;
    if size > length.max() {
        return Err(wrong(here(), Rule::TooLong { length: size, max: length.max() }));
    }
    if matches!(length, Length::Fixed(length) if size < length) {
        return Err(wrong(here(), Rule::TooShort { length: size, min: length.max() }));
    }
    if let Length::Prefixed { is_packed, min, .. } = length {
        if size < min {
            return Err(wrong(here(), Rule::TooShort { length: size, min }));
        }
        put_length(&mut out[start..body], size, is_packed);
    }
    Ok(())
}

fn write_columns(number: u8, layout: &Layout, message: &Message, out: &mut Vec<u8>) -> Written {
    let here = || Path::from(number);
    let mut missing: Option<&Part> = None;
    let mut written = 0;
    for part in &layout.parts {
        let here = || Path::part(number, Arc::clone(&part.name));
        let Some(value) = message.part(number, &part.name) else {
            if !part.is_optional {
                return Err(wrong(here(), Rule::MissingColumn));
            }
            missing = missing.or(Some(part));
            continue;
        };
        if let Some(part) = missing {
            return Err(wrong(Path::part(number, Arc::clone(&part.name)), Rule::MissingColumn));
        }
        check_part(part, value).map_err(|rule| wrong(here(), rule))?;
        if part.pad.is_none() && value.len() < part.length {
            return Err(wrong(here(), Rule::TooShort { length: value.len(), min: part.length }));
        }
        push_padded(out, value, part.length - value.len(), part.pad);
        written += 1;
    }
    if written == message.parts(number).count() {
        return Ok(());
    }
    let is_known = |name: &Arc<str>| layout.parts.iter().any(|part| part.name == *name);
    let strange = message.parts(number).find(|(name, _)| !is_known(name));
    let path = strange.map_or(here(), |(name, _)| Path::part(number, Arc::clone(name)));
    Err(wrong(path, Rule::UnknownPart))
}

fn write_tagged(
    number: u8,
    layout: &Layout,
    length_digits: usize,
    message: &Message,
    out: &mut Vec<u8>,
) -> Written {
    let mut next = 0;
    for (name, value) in message.parts(number) {
        let here = || Path::part(number, Arc::clone(name));
        let Some(index) = layout.find(next, |part| part.name == *name) else {
            return Err(wrong(here(), Rule::UnknownPart));
        };
        let part = &layout.parts[index];
        next = index + 1;
        check_part(part, value).map_err(|rule| wrong(here(), rule))?;
        out.extend_from_slice(part.tag.as_bytes());
        push_length(out, value.len(), length_digits, false);
        out.extend_from_slice(value);
    }
    Ok(())
}

fn check_part(part: &Part, value: &[u8]) -> Result<(), Rule> {
    let is_blank = value.is_empty()
        && (part.pad == Some(Pad::Spaces) || part.kind != Kind::SignedDigits && part.pad.is_none());
    if !is_blank && part.kind.strange(value).is_some() {
        return Err(Rule::Character(part.kind));
    }
    if value.len() > part.length {
        return Err(Rule::TooLong { length: value.len(), max: part.length });
    }
    if part.pad.is_some_and(|pad| pad.is_in(value)) {
        return Err(Rule::Padding);
    }
    Ok(())
}
