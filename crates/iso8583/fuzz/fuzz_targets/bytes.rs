//! What must hold of any bytes.

use crate::specs;

/// Whether they are a message of the spec that the first of them chooses: then it encodes to the same bytes.
pub fn holds(data: &[u8]) -> bool {
    let Some((which, bytes)) = data.split_first() else { return false };
    let spec = specs::pick(*which);
    match spec.decode(bytes) {
        Ok(message) => {
            let mut again = Vec::new();
            spec.encode(&message, &mut again).expect("what was read can be written");
            assert_eq!(again, bytes);
            assert!(!spec.describe(&message).to_string().is_empty());
            true
        }
        Err(error) => {
            assert!(error.offset <= bytes.len(), "{error}");
            false
        }
    }
}
