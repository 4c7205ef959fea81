//! What must hold of any text that is read as a configuration. For the fuzzer and the replay of what it found; nothing
//! else calls it.

use crate::config::{Config, Upstream};
use bank::profile::LineProfile;

/// Whether it is one that makes sense. What `config show` prints of it is a configuration again, and the same.
pub fn holds(text: &str) -> bool {
    let mut config = match Config::from_toml(text) {
        Ok(config) => config,
        Err(told) => {
            let line = told.strip_prefix("line ").and_then(|rest| rest.split(':').next()?.parse().ok());
            let lines = 1 + text.matches('\n').count();
            assert!(line.is_some_and(|line: usize| (1..=lines).contains(&line)), "{told}");
            assert!(!told.contains('\n'), "{told}");
            return false;
        }
    };
    let shown = toml::to_string_pretty(&config).expect("it can be shown");
    let again = Config::from_toml(&shown).unwrap_or_else(|told| panic!("{told}\n{shown}"));
    assert_eq!(toml::to_string_pretty(&again).expect("it can be shown"), shown);
    // Whatever files it names, none is opened.
    config.database_password_file = None;
    for upstream in config.upstream.values_mut() {
        match upstream {
            Upstream::Simulator(_) => {}
            Upstream::Iso8583(settings) => {
                if LineProfile::builtin(&settings.profile).is_none() {
                    "contoh-37-80".clone_into(&mut settings.profile);
                }
                settings.line.iter_mut().for_each(|line| line.tls = None);
            }
            Upstream::Relay(settings) => {
                settings.password_file = None;
                settings.ca_file = None;
            }
        }
    }
    match config.check() {
        Ok(()) => true,
        Err(error) => {
            assert!(!format!("{error:#}").is_empty());
            false
        }
    }
}
