//! A message for people: one line a value, personal data and secrets masked.

use crate::{Message, Spec, spec::Mask};
use std::fmt::{self, Write};

struct Described<'a> {
    spec: &'a Spec,
    message: &'a Message,
}

impl Spec {
    /// The message in lines, for logs and consoles. What the spec does not know is masked whole.
    pub fn describe<'a>(&'a self, message: &'a Message) -> impl fmt::Display + 'a {
        Described { spec: self, message }
    }
}

impl fmt::Display for Described<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { spec, message } = self;
        write!(f, "{}", message.mti())?;
        for number in message.fields() {
            let field = spec.field(number);
            let name = field.map_or("unknown field", |field| field.name.as_str());
            let mask = field.map_or(Mask::Secret, |field| field.mask);
            let Some(value) = message.get_bytes(number) else {
                write!(f, "\n{number:>4}  {name}")?;
                let layout =
                    field.and_then(|field| field.layouts.iter().find(|layout| layout.is_for(message)));
                for (name, value) in message.parts(number) {
                    let part = layout.and_then(|layout| layout.parts.iter().find(|part| part.name == *name));
                    let mask = part.map_or(Mask::Secret, |part| part.mask).max(mask);
                    write!(f, "\n      .{name:<26} {}", masked(value, mask))?;
                }
                continue;
            };
            write!(f, "\n{number:>4}  {name:<27} {}", masked(value, mask))?;
        }
        Ok(())
    }
}

impl Mask {
    /// The stricter of two.
    fn max(self, other: Self) -> Self {
        match (self, other) {
            (Self::Secret, _) | (_, Self::Secret) => Self::Secret,
            (Self::Personal, _) | (_, Self::Personal) => Self::Personal,
            (Self::Open, Self::Open) => Self::Open,
        }
    }
}

/// Of a secret not even the length; of personal data the first character, and of longer ones the last as well.
fn masked(value: &[u8], mask: Mask) -> String {
    match mask {
        Mask::Secret => "(secret)".to_owned(),
        Mask::Open => shown(value),
        Mask::Personal if value.is_empty() => String::new(),
        Mask::Personal => {
            let first = shown(&value[..1]);
            let last = if value.len() >= 8 { shown(&value[value.len() - 1..]) } else { String::new() };
            format!("{first}…{last} ({} characters)", value.len())
        }
    }
}

fn shown(value: &[u8]) -> String {
    if value.iter().all(|byte| (0x20..=0x7e).contains(byte)) {
        return String::from_utf8_lossy(value).into_owned();
    }
    value.iter().fold(String::from("0x"), |mut text, byte| {
        write!(text, "{byte:02X}").expect("a text takes all");
        text
    })
}
