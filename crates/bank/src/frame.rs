//! Where a message begins and ends on a TCP connection: a header that says its length.
//!
//! Strict: an empty frame, one that is too long, and a header that is no number are errors, after which nothing on
//! the connection can be believed. No more than one frame of the greatest length is kept in memory.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use serde::Deserialize;
use tokio_util::codec::Decoder;

/// How the length stands before each message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Frame {
    /// Numbers or digits.
    pub header: Header,
    /// Bytes of the header: 2 or 4; digits are always 4.
    pub header_bytes: usize,
    /// Which byte of a binary header comes first.
    #[serde(default)]
    pub order: Order,
    /// Whether the header's own bytes are counted.
    #[serde(default)]
    pub counts_itself: bool,
    /// The longest message, without its header.
    pub bytes_max: usize,
}

/// What a header is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Header {
    /// A binary number.
    Binary,
    /// Four digits.
    Ascii,
}

/// The order of bytes in a binary header.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Order {
    /// Most significant first.
    #[default]
    Big,
    /// Least significant first.
    Little,
}

/// Why a connection cannot be read any further.
#[derive(Debug, thiserror::Error)]
pub enum FrameError {
    /// The header is no number.
    #[error("the length header is not a number")]
    NotANumber,
    /// The header announces nothing.
    #[error("the length header announces an empty message")]
    Empty,
    /// The message is longer than agreed.
    #[error("the length header announces {length} bytes; the most is {max}")]
    TooLong {
        /// As announced.
        length: usize,
        /// As agreed.
        max: usize,
    },
    /// The connection.
    #[error(transparent)]
    Io(#[from] std::io::Error),
}

impl Frame {
    /// What makes no sense about it.
    pub(crate) fn flaw(&self) -> Option<&'static str> {
        let announced_max = match (self.header, self.header_bytes) {
            (Header::Ascii, 4) => 9_999,
            (Header::Ascii, _) => return Some("an ascii header has 4 digits: header_bytes = 4"),
            (Header::Binary, 2) => 0xFFFF,
            (Header::Binary, 4) => 0x00FF_FFFF,
            (Header::Binary, _) => return Some("a binary header has 2 or 4 bytes: header_bytes = 2"),
        };
        let own = if self.counts_itself { self.header_bytes } else { 0 };
        let fits = (20..=announced_max - own).contains(&self.bytes_max);
        (!fits).then_some("bytes_max must be at least 20, and not more than the header can say")
    }

    fn own(&self) -> usize {
        if self.counts_itself { self.header_bytes } else { 0 }
    }

    fn announced(&self, header: &[u8]) -> Result<usize, FrameError> {
        let length = match (self.header, self.order) {
            (Header::Ascii, _) => {
                if !header.iter().all(u8::is_ascii_digit) {
                    return Err(FrameError::NotANumber);
                }
                header.iter().fold(0, |length, digit| length * 10 + usize::from(digit - b'0'))
            }
            (Header::Binary, Order::Big) => {
                header.iter().fold(0, |length, byte| length << 8 | usize::from(*byte))
            }
            (Header::Binary, Order::Little) => {
                header.iter().rfold(0, |length, byte| length << 8 | usize::from(*byte))
            }
        };
        let Some(length) = length.checked_sub(self.own()).filter(|length| *length > 0) else {
            return Err(FrameError::Empty);
        };
        if length > self.bytes_max {
            return Err(FrameError::TooLong { length, max: self.bytes_max });
        }
        Ok(length)
    }

    /// Writes a message with its header.
    pub fn put(&self, message: &[u8], out: &mut impl BufMut) -> Result<(), FrameError> {
        if message.is_empty() {
            return Err(FrameError::Empty);
        }
        if message.len() > self.bytes_max {
            return Err(FrameError::TooLong { length: message.len(), max: self.bytes_max });
        }
        let length = u32::try_from(message.len() + self.own()).expect("below the greatest");
        let short = || u16::try_from(length).expect("the header was checked to hold it");
        match (self.header, self.header_bytes, self.order) {
            (Header::Ascii, ..) => out.put_slice(format!("{length:04}").as_bytes()),
            (Header::Binary, 2, Order::Big) => out.put_u16(short()),
            (Header::Binary, 2, Order::Little) => out.put_u16_le(short()),
            (Header::Binary, _, Order::Big) => out.put_u32(length),
            (Header::Binary, _, Order::Little) => out.put_u32_le(length),
        }
        out.put_slice(message);
        Ok(())
    }
}

impl Decoder for Frame {
    type Item = Bytes;
    type Error = FrameError;

    fn decode(&mut self, buffer: &mut BytesMut) -> Result<Option<Bytes>, FrameError> {
        let Some(header) = buffer.get(..self.header_bytes) else { return Ok(None) };
        let length = self.announced(header)?;
        if buffer.len() < self.header_bytes + length {
            buffer.reserve(self.header_bytes + length - buffer.len());
            return Ok(None);
        }
        buffer.advance(self.header_bytes);
        Ok(Some(buffer.split_to(length).freeze()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn frames() -> Vec<(Frame, &'static [u8])> {
        let binary = |header_bytes, order, counts_itself| Frame {
            header: Header::Binary,
            header_bytes,
            order,
            counts_itself,
            bytes_max: 1_000,
        };
        let ascii = |counts_itself| Frame {
            header: Header::Ascii,
            header_bytes: 4,
            order: Order::Big,
            counts_itself,
            bytes_max: 1_000,
        };
        vec![
            (binary(2, Order::Big, false), b"\x00\x03abc"),
            (binary(2, Order::Little, true), b"\x05\x00abc"),
            (binary(4, Order::Big, true), b"\x00\x00\x00\x07abc"),
            (binary(4, Order::Little, false), b"\x03\x00\x00\x00abc"),
            (ascii(false), b"0003abc"),
            (ascii(true), b"0007abc"),
        ]
    }

    #[test]
    fn every_header_reads_what_it_writes_in_whatever_pieces() {
        for (mut frame, wire) in frames() {
            assert_eq!(frame.flaw(), None);
            let mut out = BytesMut::new();
            frame.put(b"abc", &mut out).unwrap();
            assert_eq!(out, wire, "{frame:?}");
            out.extend_from_slice(wire);
            let mut buffer = BytesMut::new();
            let mut read = Vec::new();
            for byte in out {
                buffer.put_u8(byte);
                read.extend(frame.decode(&mut buffer).unwrap());
            }
            assert_eq!(read, [&b"abc"[..], b"abc"], "{frame:?}");
        }
    }

    #[test]
    fn what_cannot_be_believed() {
        let refused = |frame: &mut Frame, bytes: &[u8]| {
            frame.decode(&mut BytesMut::from(bytes)).unwrap_err().to_string()
        };
        for (mut frame, _) in frames() {
            let nothing: &[u8] = match (frame.header, frame.counts_itself, frame.order) {
                (Header::Ascii, true, _) => b"0004",
                (Header::Ascii, false, _) => b"0000",
                (_, true, Order::Little) => b"\x02\x00",
                (_, true, Order::Big) => b"\x00\x00\x00\x04",
                (_, false, _) => b"\x00\x00\x00\x00",
            };
            assert_eq!(refused(&mut frame, nothing), "the length header announces an empty message");
            assert!(refused(&mut frame, b"9999").starts_with("the length header announces "), "{frame:?}");
            assert!(frame.put(&[0; 1_001], &mut Vec::new()).is_err());
            assert!(frame.put(&[], &mut Vec::new()).is_err());
        }
        let (mut ascii, _) = frames().pop().unwrap();
        assert_eq!(refused(&mut ascii, b"00x3"), "the length header is not a number");
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn messages_arrive_whole_however_the_stream_is_cut(
            messages in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..=1_000), 0..8),
            piece_bytes in 1_usize..1_500,
        ) {
            for (mut frame, _) in frames() {
                let mut wire = Vec::new();
                for message in &messages {
                    frame.put(message, &mut wire).unwrap();
                }
                let (mut buffer, mut read) = (BytesMut::new(), Vec::new());
                for piece in wire.chunks(piece_bytes) {
                    buffer.extend_from_slice(piece);
                    while let Some(message) = frame.decode(&mut buffer).unwrap() {
                        read.push(message);
                    }
                }
                prop_assert_eq!(&read, &messages);
                prop_assert!(buffer.is_empty());
            }
        }

        #[test]
        fn no_bytes_upset_it_or_make_it_keep_more_than_one_frame(
            pieces in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..200), 0..40),
        ) {
            for (mut frame, _) in frames() {
                let mut buffer = BytesMut::new();
                'line: for piece in &pieces {
                    buffer.extend_from_slice(piece);
                    loop {
                        match frame.decode(&mut buffer) {
                            Ok(Some(message)) => prop_assert!((1..=frame.bytes_max).contains(&message.len())),
                            Ok(None) => break,
                            Err(_) => break 'line,
                        }
                    }
                    prop_assert!(buffer.len() < frame.header_bytes + frame.bytes_max);
                }
            }
        }
    }
}
