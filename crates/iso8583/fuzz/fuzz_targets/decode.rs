//! Any bytes: decoding never panics, and whatever decodes encodes to the same bytes.
#![no_main]

mod specs;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Some((which, bytes)) = data.split_first() else { return };
    let spec = specs::pick(*which);
    if let Ok(message) = spec.decode(bytes) {
        let mut again = Vec::new();
        spec.encode(&message, &mut again).expect("what was read can be written");
        assert_eq!(again, bytes);
        assert!(!spec.describe(&message).to_string().is_empty());
    }
});
