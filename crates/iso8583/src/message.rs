//! A message: its type and its values, without their wire form.

use crate::{Mti, Path};
use std::{fmt, sync::Arc};

/// A message type and the values of its fields. Values are logical: without padding and length prefixes.
///
/// The type knows no spec: whether the values fit is found when it is encoded.
#[derive(Clone)]
pub struct Message {
    mti: Mti,
    /// Bit `n - 1` says whether field `n` is there.
    present: u128,
    /// The present fields' values, in order of number.
    values: Vec<Value>,
    /// The parts of structured fields, in the order in which they were set.
    parts: Vec<Part>,
    bytes: Vec<u8>,
}

/// A value of its own, or parts.
#[derive(Clone, Copy)]
enum Value {
    Own(Span),
    Parts,
}

#[derive(Clone, Copy)]
struct Span {
    start: u32,
    end: u32,
}

#[derive(Clone)]
struct Part {
    field: u8,
    name: Arc<str>,
    span: Span,
}

const fn bit(field: u8) -> u128 {
    1 << (field - 1)
}

impl Message {
    /// A message without fields.
    pub fn new(mti: Mti) -> Self {
        Self {
            mti,
            present: 0,
            values: Vec::with_capacity(24),
            parts: Vec::new(),
            bytes: Vec::with_capacity(256),
        }
    }

    /// Its type.
    pub fn mti(&self) -> Mti {
        self.mti
    }

    /// The same values under another type.
    pub fn set_mti(&mut self, mti: Mti) {
        self.mti = mti;
    }

    /// Sets a field or a part of one. Setting a part of a plain field makes it structured, and the reverse.
    ///
    /// # Panics
    /// If the field's number is not 2 to 128.
    pub fn set(&mut self, path: impl Into<Path>, text: &str) {
        let path = path.into();
        match path.part {
            Some(name) => self.set_part(path.field, name, text.as_bytes()),
            None => self.set_bytes(path.field, text.as_bytes()),
        }
    }

    /// Sets a field of bytes.
    ///
    /// # Panics
    /// If the field's number is not 2 to 128.
    pub fn set_bytes(&mut self, field: u8, bytes: &[u8]) {
        let span = self.keep(bytes);
        self.put_own(field, span);
    }

    /// Sets a field of bytes that are made while they are kept.
    pub(crate) fn set_each(&mut self, field: u8, bytes: impl Iterator<Item = u8>) {
        let start = self.bytes.len();
        self.bytes.extend(bytes);
        let span = self.span_from(start);
        self.put_own(field, span);
    }

    fn put_own(&mut self, field: u8, span: Span) {
        if self.has(field) {
            self.parts.retain(|part| part.field != field);
        }
        self.put(field, Value::Own(span));
    }

    pub(crate) fn set_part(&mut self, field: u8, name: Arc<str>, bytes: &[u8]) {
        let span = self.keep(bytes);
        let known = self.parts.iter_mut().find(|part| part.field == field && part.name == name);
        match known {
            Some(part) => part.span = span,
            None => self.parts.push(Part { field, name, span }),
        }
        self.put(field, Value::Parts);
    }

    /// A field that is structured and has no parts yet, with room for some: all of them may be missing.
    pub(crate) fn set_without_parts(&mut self, field: u8, count: usize) {
        self.parts.reserve(count);
        self.put(field, Value::Parts);
    }

    /// Adds a part to a field of parts that does not have it yet.
    pub(crate) fn push_part(&mut self, field: u8, name: &Arc<str>, bytes: &[u8]) {
        let span = self.keep(bytes);
        self.parts.push(Part { field, name: Arc::clone(name), span });
    }

    /// Whether a part was pushed under this very name.
    pub(crate) fn has_pushed(&self, field: u8, name: &Arc<str>) -> bool {
        self.parts.iter().any(|part| part.field == field && Arc::ptr_eq(&part.name, name))
    }

    fn keep(&mut self, bytes: &[u8]) -> Span {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(bytes);
        self.span_from(start)
    }

    fn span_from(&self, start: usize) -> Span {
        let offset = |at: usize| u32::try_from(at).expect("a message is far below four gigabytes");
        Span { start: offset(start), end: offset(self.bytes.len()) }
    }

    fn rank(&self, field: u8) -> usize {
        (self.present & (bit(field) - 1)).count_ones() as usize
    }

    fn put(&mut self, field: u8, value: Value) {
        assert!((2..=128).contains(&field), "fields are numbered from 2 to 128");
        let rank = self.rank(field);
        if self.has(field) {
            self.values[rank] = value;
        } else {
            self.values.insert(rank, value);
            self.present |= bit(field);
        }
    }

    /// Takes a field out, with all its parts.
    pub fn remove(&mut self, field: u8) {
        if self.has(field) {
            let rank = self.rank(field);
            self.values.remove(rank);
            self.present &= !bit(field);
            self.parts.retain(|part| part.field != field);
        }
    }

    /// Whether a field is there.
    pub fn has(&self, field: u8) -> bool {
        (1..=128).contains(&field) && self.present & bit(field) != 0
    }

    /// The text of a field or a part; none for bytes that are no text, and for a field that has parts.
    pub fn get(&self, path: impl Into<Path>) -> Option<&str> {
        let path = path.into();
        let bytes = match &path.part {
            Some(name) => self.part(path.field, name)?,
            None => self.get_bytes(path.field)?,
        };
        std::str::from_utf8(bytes).ok()
    }

    /// The bytes of a plain field.
    pub fn get_bytes(&self, field: u8) -> Option<&[u8]> {
        if !self.has(field) {
            return None;
        }
        match self.values[self.rank(field)] {
            Value::Own(span) => Some(self.slice(span)),
            Value::Parts => None,
        }
    }

    pub(crate) fn part(&self, field: u8, name: &str) -> Option<&[u8]> {
        let part = self.parts.iter().find(|part| part.field == field && &*part.name == name)?;
        Some(self.slice(part.span))
    }

    /// The parts of a field, in the order in which they were set.
    pub(crate) fn parts(&self, field: u8) -> impl Iterator<Item = (&Arc<str>, &[u8])> {
        let of_field = self.parts.iter().filter(move |part| part.field == field);
        of_field.map(|part| (&part.name, self.slice(part.span)))
    }

    /// The numbers of the fields, in order.
    pub fn fields(&self) -> impl Iterator<Item = u8> + use<> {
        let mut left = self.present;
        std::iter::from_fn(move || {
            if left == 0 {
                return None;
            }
            let field = u8::try_from(left.trailing_zeros() + 1).expect("at most 128");
            left &= left - 1;
            Some(field)
        })
    }

    pub(crate) fn present(&self) -> u128 {
        self.present
    }

    fn slice(&self, span: Span) -> &[u8] {
        &self.bytes[span.start as usize..span.end as usize]
    }

    fn sorted_parts(&self) -> Vec<(u8, &str, &[u8])> {
        let mut parts: Vec<_> =
            self.parts.iter().map(|part| (part.field, &*part.name, self.slice(part.span))).collect();
        parts.sort_unstable();
        parts
    }
}

/// The same type and the same values, whatever the order of parts.
impl PartialEq for Message {
    fn eq(&self, other: &Self) -> bool {
        self.mti == other.mti
            && self.present == other.present
            && self.fields().all(|field| self.get_bytes(field) == other.get_bytes(field))
            && self.sorted_parts() == other.sorted_parts()
    }
}

impl Eq for Message {}

/// Which fields there are; their values may be personal.
impl fmt::Debug for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {:?}", self.mti, self.fields().collect::<Vec<_>>())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_set_replaced_and_removed() {
        let mut message = Message::new(Mti::parse("0200").unwrap());
        message.set(11, "000002");
        message.set(4, "100");
        message.set(Path::part(48, "b"), "2");
        message.set(Path::part(48, "a"), "1");
        message.set(4, "200");
        message.set(128, "x");
        assert_eq!(message.fields().collect::<Vec<_>>(), [4, 11, 48, 128]);
        assert_eq!(message.get(4), Some("200"));
        assert_eq!(message.get(48), None);
        assert_eq!(message.get(Path::part(48, "a")), Some("1"));

        let mut other = Message::new(message.mti());
        for (path, text) in
            [("128", "x"), ("48.a", "1"), ("48.b", "2"), ("4", "200"), ("11", "000002"), ("12", "gone")]
        {
            other.set(Path::parse(path).unwrap(), text);
        }
        assert_ne!(message, other);
        other.remove(12);
        other.remove(13);
        assert_eq!(message, other);
        other.set(48, "plain");
        assert_eq!((other.get(48), other.get(Path::part(48, "a"))), (Some("plain"), None));
        assert_eq!(format!("{message:?}"), "0200 [4, 11, 48, 128]");
    }
}
