//! Messages that fit a spec, for property tests, fuzzing, and comparing with other implementations.

use crate::{
    Kind, Message, Mti, Path, Spec,
    spec::{Content, Field, Form, Layout, Length, Pad},
};
use std::sync::Arc;

impl Spec {
    /// A message that the spec can write: `choose(n)` picks one of `n` ways (below `n`), again and again. A field
    /// of which no layout is for the message is left out.
    pub fn sample(&self, mti: Mti, mut choose: impl FnMut(usize) -> usize) -> Message {
        let mut choose = |ways: usize| choose(ways).min(ways - 1);
        let mut message = Message::new(mti);
        let fields: Vec<(u8, &Field)> = (2..=128)
            .filter_map(|number| Some((number, self.field(number)?)))
            .filter(|_| choose(4) == 0)
            .collect();
        // What layouts depend on comes first: it must not change under a field that has its parts already.
        for (_, field) in fields.iter().filter(|(_, field)| !field.layouts.is_empty()) {
            let layout = &field.layouts[choose(field.layouts.len())];
            for (condition, text) in &layout.when.fields {
                if !message.has(*condition) {
                    message.set(*condition, text);
                }
            }
        }
        for (number, field) in &fields {
            if field.layouts.is_empty() && !message.has(*number) {
                message.set_bytes(*number, &value(&field.content, &mut choose));
            }
        }
        for (number, field) in fields {
            if let Some(layout) = field.layouts.iter().find(|layout| layout.is_for(&message)) {
                set_parts(number, layout, field.content.length.max(), &mut message, &mut choose);
            }
        }
        message
    }
}

fn set_parts(
    number: u8,
    layout: &Layout,
    max: usize,
    message: &mut Message,
    choose: &mut impl FnMut(usize) -> usize,
) {
    let is_set = match layout.form {
        Form::Columns => set_columns(number, layout, message, choose),
        Form::Tagged { .. } => set_tags(number, layout, max, message, choose),
    };
    if !is_set {
        message.remove(number);
    }
}

fn set_columns(
    number: u8,
    layout: &Layout,
    message: &mut Message,
    choose: &mut impl FnMut(usize) -> usize,
) -> bool {
    let needed = layout.parts.iter().take_while(|part| !part.is_optional).count();
    let count = needed + choose(layout.parts.len() - needed + 1);
    for part in &layout.parts[..count] {
        let length = Length::Fixed(part.length);
        let content =
            Content { kind: part.kind, length, encoding: crate::spec::Encoding::Ascii, pad: part.pad };
        message.set_part(number, Arc::clone(&part.name), &value(&content, choose));
    }
    count > 0
}

fn set_tags(
    number: u8,
    layout: &Layout,
    max: usize,
    message: &mut Message,
    choose: &mut impl FnMut(usize) -> usize,
) -> bool {
    let Form::Tagged { tag_digits, length_digits } = layout.form else { return false };
    let mut left = max;
    for part in &layout.parts {
        let Some(room) = left.checked_sub(tag_digits + length_digits) else { break };
        if choose(2) == 0 {
            continue;
        }
        let most = part.length.min(room);
        let least = usize::from(part.kind == Kind::SignedDigits);
        if most < least {
            continue;
        }
        let length = least + choose(most - least + 1);
        let text: Vec<u8> = (0..length).map(|place| character(part.kind, place, choose)).collect();
        left = room - length;
        message.set_part(number, Arc::clone(&part.name), &text);
    }
    message.has(number)
}

fn value(content: &Content, choose: &mut impl FnMut(usize) -> usize) -> Vec<u8> {
    let (min, max) = match (content.length, content.pad) {
        (Length::Fixed(length), None) => (length, length),
        (Length::Fixed(length), Some(Pad::Zeros)) => (1, length),
        (Length::Fixed(length), Some(Pad::Spaces)) => (0, length),
        (Length::Prefixed { min, max, .. }, _) => (min, max),
    };
    let length = min + choose(max - min + 1);
    let mut value: Vec<u8> = (0..length).map(|place| character(content.kind, place, choose)).collect();
    match content.pad {
        Some(Pad::Zeros) if length > 1 && value[0] == b'0' => value[0] = b'7',
        Some(Pad::Spaces) if value.last() == Some(&b' ') => *value.last_mut().expect("it has one") = b'.',
        _ => {}
    }
    value
}

fn character(kind: Kind, place: usize, choose: &mut impl FnMut(usize) -> usize) -> u8 {
    let one_of = |set: &[u8], choose: &mut dyn FnMut(usize) -> usize| set[choose(set.len())];
    match kind {
        Kind::SignedDigits if place == 0 => one_of(b"CD", choose),
        Kind::Digits | Kind::SignedDigits => one_of(b"0123456789", choose),
        Kind::Letters => one_of(b"ABCMXYZabcxyz", choose),
        Kind::LettersAndDigits => one_of(b"ABCXYZabcxyz0123456789", choose),
        Kind::Track => one_of(b"0123456789:;<=>?D", choose),
        Kind::Printable => b' ' + u8::try_from(choose(95)).expect("below 95"),
        Kind::Bytes => u8::try_from(choose(256)).expect("below 256"),
    }
}

/// The path of every value that a message has.
impl Message {
    /// Fields and parts, in order.
    pub fn paths(&self) -> Vec<Path> {
        let mut paths = Vec::new();
        for number in self.fields() {
            if self.get_bytes(number).is_some() {
                paths.push(Path::from(number));
            }
            paths.extend(self.parts(number).map(|(name, _)| Path::part(number, Arc::clone(name))));
        }
        paths
    }
}
