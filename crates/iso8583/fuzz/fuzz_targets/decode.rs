//! Any bytes: decoding never panics, and whatever decodes encodes to the same bytes.
#![no_main]

use iso8583::Spec;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Some((which, bytes)) = data.split_first() else { return };
    let names: Vec<_> = Spec::builtin_names().collect();
    let spec = Spec::builtin(names[usize::from(*which) % names.len()]).expect("it is shipped");
    if let Ok(message) = spec.decode(bytes) {
        let mut again = Vec::new();
        spec.encode(&message, &mut again).expect("what was read can be written");
        assert_eq!(again, bytes);
        assert!(!spec.describe(&message).to_string().is_empty());
    }
});
