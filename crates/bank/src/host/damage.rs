//! Damage to the bytes of an answer, in every way that a line can do it.

use crate::{
    core_banking::Dice,
    frame::{Frame, Header},
};

/// What goes out instead of a good frame; whether the connection can be read on behind it.
pub(super) fn damaged(frame: &Frame, message: &[u8], dice: &mut Dice) -> Vec<u8> {
    let mut bytes = message.to_vec();
    let place =
        |dice: &mut Dice, end: usize| usize::try_from(dice.below(end as u64)).expect("below a length");
    let framed = |bytes: &[u8]| {
        let mut out = Vec::with_capacity(bytes.len() + 4);
        if frame.put(bytes, &mut out).is_err() {
            // Longer than the frame may be: the header says so, and lies about nothing else.
            out.extend_from_slice(bytes);
        }
        out
    };
    match dice.below(8) {
        // A bit flips.
        0 => {
            let at = place(dice, bytes.len());
            bytes[at] ^= 1 << dice.below(8);
            framed(&bytes)
        }
        // A letter where a digit was.
        1 => {
            let at = place(dice, bytes.len());
            bytes[at] = b'x';
            framed(&bytes)
        }
        // The bitmap promises other fields.
        2 => {
            let at = 4 + place(dice, 8.min(bytes.len() - 4));
            bytes[at] = if bytes[at] == b'F' { b'7' } else { b'F' };
            framed(&bytes)
        }
        // Cut short, whole frame.
        3 => {
            let at = 1 + place(dice, bytes.len() - 1);
            framed(&bytes[..at])
        }
        // Something behind it.
        4 => {
            bytes.extend_from_slice(b"000000");
            framed(&bytes)
        }
        // A header that announces nothing.
        5 => vec![if frame.header == Header::Ascii { b'0' } else { 0 }; frame.header_bytes],
        // A header that announces more than there is.
        6 => {
            let mut out = framed(&bytes);
            out.truncate(out.len() / 2);
            out
        }
        // 64 KiB of noise.
        _ => {
            let noise = b'0' + u8::try_from(dice.below(75)).expect("below 75");
            vec![noise; 65_536]
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::profile::{LineProfile, Operation, Value, Values};
    use bytes::BytesMut;
    use tokio_util::codec::Decoder;

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
                Ok(_) => "a readable message".to_owned(),
            },
        }
    }

    #[test]
    fn damage_is_of_every_kind_and_upsets_no_reader() {
        for name in LineProfile::builtin_names() {
            let profile = LineProfile::builtin(name).unwrap();
            let values = Values::new()
                .with(Value::Transmission, "1125052229")
                .with(Value::Trace, "000123")
                .with(Value::Terminal, "ESAM0001")
                .with(Value::SettlementDate, "1125");
            let request = profile.request(Operation::SignOn, &values, false).unwrap();
            let answer = profile.answer(Operation::SignOn, &request, "00", &values).unwrap();
            let mut good = Vec::new();
            profile.spec.encode(&answer, &mut good).unwrap();
            let mut dice = Dice::from(1);
            let mut kinds = std::collections::BTreeSet::new();
            for _ in 0..2_000 {
                kinds.insert(found(&profile, &damaged(&profile.frame, &good, &mut dice)));
            }
            for kind in [
                "Truncated",
                "TrailingBytes",
                "an unfinished frame",
                "the length header announces an empty message",
            ] {
                assert!(kinds.contains(kind), "{name}: {kind}: {kinds:?}");
            }
            assert!(kinds.len() >= 8, "{name}: {kinds:?}");
        }
    }
}
