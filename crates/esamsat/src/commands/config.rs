//! `esamsat config`: what the gateway would run with.

use crate::{
    config::{Config, Place},
    output::line,
};
use clap::Subcommand;

/// The commands.
#[derive(Subcommand)]
pub enum Command {
    /// Check the configuration and say what is wrong.
    Check,
    /// Print the configuration in effect, defaults included, as TOML.
    Show,
}

/// Runs one.
pub fn run(place: &Place, command: &Command) -> anyhow::Result<()> {
    let config = Config::load(place)?;
    match command {
        Command::Check => match &place.config {
            Some(path) => line(format!("{} is fine.", path.display())),
            None => line("The configuration is fine (defaults; name a file with --config)."),
        },
        Command::Show if place.json => crate::output::json(&config),
        Command::Show => line(toml::to_string_pretty(&config)?.trim_end()),
    }
    Ok(())
}
