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
        out.extend_from_slice(&message.mti().digits());
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

fn write_value(content: &Content, value: &[u8], out: &mut Vec<u8>) -> Result<(), Rule> {
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
        Length::Prefixed { digits, min, .. } => {
            if value.len() < min {
                return Err(Rule::TooShort { length: value.len(), min });
            }
            push_length(out, value.len(), digits, encoding == Encoding::Bcd);
            0
        }
    };
    match (encoding, pad) {
        (Encoding::Bcd, _) => {
            // What fills up a number is zeros, as is the first half of an odd count.
            let odd = (fill + value.len()) % 2;
            let mut digits = std::iter::repeat_n(&b'0', odd + fill).chain(value);
            while let (Some(high), Some(low)) = (digits.next(), digits.next()) {
                out.push((high - b'0') << 4 | (low - b'0'));
            }
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

fn push_length(out: &mut Vec<u8>, length: usize, digits: usize, is_bcd: bool) {
    let mut text = [b'0'; 4];
    let mut left = length;
    for place in (0..digits).rev() {
        text[place] = b'0' + u8::try_from(left % 10).expect("a digit");
        left /= 10;
    }
    let text = &text[..digits];
    if is_bcd {
        if digits % 2 == 1 {
            out.push(text[0] - b'0');
        }
        for pair in text[digits % 2..].chunks(2) {
            out.push((pair[0] - b'0') << 4 | (pair[1] - b'0'));
        }
    } else {
        out.extend_from_slice(text);
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
    if let Length::Prefixed { digits, .. } = length {
        push_length(out, 0, digits, false);
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
    if let Length::Prefixed { digits, min, .. } = length {
        if size < min {
            return Err(wrong(here(), Rule::TooShort { length: size, min }));
        }
        let mut prefix = Vec::with_capacity(digits);
        push_length(&mut prefix, size, digits, false);
        out[start..body].copy_from_slice(&prefix);
    }
    Ok(())
}

fn write_columns(number: u8, layout: &Layout, message: &Message, out: &mut Vec<u8>) -> Written {
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
    let strange = message.parts(number).find(|(name, _)| layout.parts.iter().all(|part| part.name != **name));
    match strange {
        Some((name, _)) if written < message.parts(number).count() => {
            Err(wrong(Path::part(number, Arc::clone(name)), Rule::UnknownPart))
        }
        _ => Ok(()),
    }
}

fn write_tagged(
    number: u8,
    layout: &Layout,
    length_digits: usize,
    message: &Message,
    out: &mut Vec<u8>,
) -> Written {
    for (name, value) in message.parts(number) {
        let here = || Path::part(number, Arc::clone(name));
        let Some(part) = layout.parts.iter().find(|part| part.name == *name) else {
            return Err(wrong(here(), Rule::UnknownPart));
        };
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
