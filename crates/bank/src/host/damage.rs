//! Damage to the bytes of an answer, in every way that a line can do it.

use crate::{
    core_banking::Dice,
    frame::{Frame, Header},
    profile::LineProfile,
};

/// How often a place is sought where damage is noticed.
const TRIES_MAX: usize = 16;

/// What goes out instead of a good frame, so that no reader takes it for an answer.
pub(super) fn unreadable(profile: &LineProfile, message: &[u8], dice: &mut Dice) -> Vec<u8> {
    let frame = &profile.frame;
    match dice.below(8) {
        0 => noticed(profile, message, || flipped(message, dice)),
        1 => noticed(profile, message, || lettered(message, dice)),
        2 => noticed(profile, message, || promising(message, dice)),
        // Cut short, in a whole frame.
        3 => framed(frame, &message[..=place(dice, message.len() - 1)]),
        4 => framed(frame, &with_more(message)),
        // A header that announces nothing, and one that announces more than may be.
        5 => vec![if frame.header == Header::Ascii { b'0' } else { 0 }; frame.header_bytes],
        6 => vec![if frame.header == Header::Ascii { b'9' } else { 0xFF }; frame.header_bytes],
        // 64 KiB of noise.
        _ => {
            let noise = b'0' + u8::try_from(dice.below(75)).expect("below 75");
            vec![noise; 65_536]
        }
    }
}

/// What goes out instead of a good frame, damaged wherever it may be: a reader may find a good message in it.
pub(super) fn anywhere(profile: &LineProfile, message: &[u8], dice: &mut Dice) -> Vec<u8> {
    match dice.below(3) {
        0 => framed(&profile.frame, &flipped(message, dice)),
        1 => framed(&profile.frame, &lettered(message, dice)),
        // Half a frame, which takes the rest from the next one.
        _ => {
            let mut out = framed(&profile.frame, message);
            out.truncate(out.len() / 2);
            out
        }
    }
}

/// What the codec refuses, of whatever it is damaged to.
fn noticed(profile: &LineProfile, message: &[u8], damage: impl FnMut() -> Vec<u8>) -> Vec<u8> {
    let refused = |bytes: &Vec<u8>| profile.spec.decode(bytes).is_err();
    let found = std::iter::repeat_with(damage).take(TRIES_MAX).find(refused);
    framed(&profile.frame, &found.unwrap_or_else(|| with_more(message)))
}

/// A bit flips.
fn flipped(message: &[u8], dice: &mut Dice) -> Vec<u8> {
    let mut bytes = message.to_vec();
    let at = place(dice, bytes.len());
    bytes[at] ^= 1 << dice.below(8);
    bytes
}

/// A letter where a digit was.
fn lettered(message: &[u8], dice: &mut Dice) -> Vec<u8> {
    let mut bytes = message.to_vec();
    let at = place(dice, bytes.len());
    bytes[at] = b'x';
    bytes
}

/// The bitmap promises other fields.
fn promising(message: &[u8], dice: &mut Dice) -> Vec<u8> {
    let mut bytes = message.to_vec();
    let at = 4 + place(dice, 8.min(bytes.len() - 4));
    bytes[at] = if bytes[at] == b'F' { b'7' } else { b'F' };
    bytes
}

/// Something stands behind it.
fn with_more(message: &[u8]) -> Vec<u8> {
    [message, b"000000"].concat()
}

fn place(dice: &mut Dice, end: usize) -> usize {
    usize::try_from(dice.below(end as u64)).expect("below a length")
}

fn framed(frame: &Frame, bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(bytes.len() + 4);
    if frame.put(bytes, &mut out).is_err() {
        // Longer than a frame may be: it goes without a header.
        out.extend_from_slice(bytes);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::profile::{Operation, Value, Values};
    use bytes::BytesMut;
    use std::collections::BTreeSet;
    use tokio_util::codec::Decoder;

    const READABLE: &str = "a readable message";

    /// What whoever reads the damage finds.
    fn found(profile: &LineProfile, damage: &[u8]) -> String {
        let mut frame = profile.frame;
        match frame.decode(&mut BytesMut::from(damage)) {
            Err(error) => error.to_string(),
            Ok(None) => "an unfinished frame".to_owned(),
            Ok(Some(bytes)) => match profile.spec.decode(&bytes) {
                Err(error) => {
                    format!("{:?}", error.rule).chars().take_while(|char| char.is_alphabetic()).collect()
                }
                Ok(_) => READABLE.to_owned(),
            },
        }
    }

    /// A profile, and the bytes of an answer in it.
    fn answers() -> impl Iterator<Item = (LineProfile, Vec<u8>)> {
        LineProfile::builtin_names().map(|name| {
            let profile = LineProfile::builtin(name).unwrap();
            let values = Values::new()
                .with(Value::Transmission, "1125052229")
                .with(Value::Trace, "000123")
                .with(Value::Terminal, "ESAM0001")
                .with(Value::SettlementDate, "1125");
            let request = profile.compose(Operation::SignOn, &values, false).unwrap();
            let answer = profile.answer(Operation::SignOn, &request, "00", &values).unwrap();
            let mut good = Vec::new();
            profile.spec.encode(&answer, &mut good).unwrap();
            (profile, good)
        })
    }

    #[test]
    fn what_is_unreadable_is_so_in_every_way() {
        for (profile, good) in answers() {
            let name = &profile.name;
            let mut dice = Dice::from(1);
            let kinds: BTreeSet<String> = std::iter::repeat_with(|| unreadable(&profile, &good, &mut dice))
                .take(2_000)
                .map(|damage| found(&profile, &damage))
                .collect();
            for kind in ["Truncated", "TrailingBytes", "the length header announces an empty message"] {
                assert!(kinds.contains(kind), "{name}: {kind}: {kinds:?}");
            }
            assert!(kinds.iter().any(|kind| kind.contains("the most is")), "{name}: {kinds:?}");
            assert!(!kinds.contains(READABLE) && !kinds.contains("an unfinished frame"), "{name}: {kinds:?}");
            assert!(kinds.len() >= 8, "{name}: {kinds:?}");
        }
    }

    #[test]
    fn what_is_damaged_anywhere_may_be_readable() {
        for (profile, good) in answers() {
            let mut dice = Dice::from(1);
            let kinds: BTreeSet<String> = std::iter::repeat_with(|| anywhere(&profile, &good, &mut dice))
                .take(2_000)
                .map(|damage| found(&profile, &damage))
                .collect();
            assert!(kinds.contains(READABLE) && kinds.contains("an unfinished frame"), "{kinds:?}");
        }
    }
}
