//! What must hold of any message that a spec can write, and of what damage makes of it.

use crate::specs;
use iso8583::Mti;

/// Makes a message of the bytes' choices, writes it, and reads it back: whole, with another value, and damaged.
pub fn holds(data: &[u8]) {
    let [which, mti, at_high, at_low, with, choices @ ..] = data else { return };
    let spec = specs::pick(*which);
    let types = ["0200", "0210", "0220", "0230", "0400", "0430", "0800", "0810"];
    let mti = Mti::parse(types[usize::from(*mti) % types.len()]).expect("a message type");
    let mut choices = choices.iter();
    let message = spec.sample(mti, |ways| usize::from(*choices.next().unwrap_or(&0)) % ways);
    let mut bytes = Vec::new();
    spec.encode(&message, &mut bytes).expect("a sample can be written");
    assert_eq!(spec.decode(&bytes).expect("what was written can be read"), message);
    let changed = message.paths();
    if !changed.is_empty() {
        let mut message = message;
        message.set(
            changed[usize::from(*at_low) % changed.len()].clone(),
            &String::from_utf8_lossy(choices.as_slice()),
        );
        let mut bytes = Vec::new();
        if spec.encode(&message, &mut bytes).is_ok() {
            assert_eq!(spec.decode(&bytes).expect("what was written can be read"), message);
        }
        assert!(bytes.is_empty() || spec.decode(&bytes).is_ok(), "an error leaves nothing behind");
    }
    let at = (usize::from(*at_high) << 8 | usize::from(*at_low)) % bytes.len();
    bytes[at] = *with;
    if let Ok(other) = spec.decode(&bytes) {
        let mut again = Vec::new();
        spec.encode(&other, &mut again).expect("what was read can be written");
        assert_eq!(again, bytes);
    }
}
