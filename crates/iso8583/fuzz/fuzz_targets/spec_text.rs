//! What must hold of any text that is read as a spec.

use iso8583::{Mti, Spec};

/// Whether it is a spec: then it reads what it samples and writes.
pub fn holds(text: &str) -> bool {
    let Ok(spec) = Spec::from_toml(text) else { return false };
    let mut state = 0x8583_1987_u64;
    for mti in ["0200", "0210", "0200", "0210"] {
        let message = spec.sample(Mti::parse(mti).expect("a message type"), |ways| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            usize::try_from(state >> 32).expect("half of it") % ways
        });
        let mut bytes = Vec::new();
        spec.encode(&message, &mut bytes).expect("a sample can be written");
        assert_eq!(spec.decode(&bytes).expect("what was written can be read"), message);
    }
    true
}
