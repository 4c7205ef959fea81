//! What must hold of any text that is read as a bank's profile.

use bank::profile::LineProfile;

/// Whether it is a profile. What is wrong with it is told with a line that it has.
pub fn holds(text: &str) -> bool {
    match LineProfile::from_toml(text) {
        Ok(profile) => {
            assert!(profile.horizon >= profile.answer_timeout);
            true
        }
        Err(error) => {
            assert!(!error.message.is_empty());
            assert!((1..=1 + text.matches('\n').count()).contains(&error.line), "line {}", error.line);
            false
        }
    }
}
