//! A strict ISO 8583 codec. What a message looks like is data ([`Spec`], written as TOML), never code.
//!
//! ```text
//! Message ──Spec::encode──► bytes ──Spec::decode──► Message
//!    └────Spec::describe──► lines for people, personal data and secrets masked
//! ```
//!
//! What it keeps true:
//!
//! - `decode(encode(m)) == m`, and whatever decodes encodes to the same bytes again.
//! - Nothing is truncated, padded silently, skipped or dropped. A message that does not fit its spec is an error
//!   that names field, offset and rule, and never shows the content.
//! - No input makes it panic, or use more memory than a small multiple of the input.
//!
//! Deliberately absent: framing and connections, the meaning of fields and codes, versions other than 1987, and
//! anything that guesses.
//!
//! ```
//! use iso8583::{Message, Mti, Spec};
//!
//! let spec = Spec::iso87_ascii();
//! let mut echo = Message::new(Mti::parse("0800").unwrap());
//! echo.set(7, "1125052229");
//! echo.set(11, "000001");
//! echo.set(70, "301");
//! let mut bytes = Vec::new();
//! spec.encode(&echo, &mut bytes)?;
//! assert_eq!(bytes, b"0800822000000000000004000000000000001125052229000001301");
//! assert_eq!(spec.decode(&bytes)?, echo);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod build;
mod decode;
mod describe;
mod encode;
mod error;
mod message;
mod mti;
mod path;
mod sample;
mod spec;
#[cfg(test)]
mod tests;

/// Its examples are tests.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

pub use build::{SpecError, SpecFile};
pub use error::{DecodeError, EncodeError, Rule};
pub use message::Message;
pub use mti::Mti;
pub use path::Path;
pub use spec::{Facts, Kind, Spec};
