//! `esamsat config`: what the gateway would run with.

use crate::{
    config::{Config, Place, StoreAt},
    gateway,
    output::line,
};
use anyhow::bail;
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
pub async fn run(place: &Place, command: &Command) -> anyhow::Result<()> {
    let config = Config::load(place)?;
    match command {
        Command::Check => {
            check_products(&config).await?;
            match &place.config {
                Some(path) => line(format!("{} is fine.", path.display())),
                None => line("The configuration is fine (defaults; name a file with --config)."),
            }
        }
        Command::Show if place.json => crate::output::json(&config),
        Command::Show => line(toml::to_string_pretty(&config)?.trim_end()),
    }
    Ok(())
}

/// What the database sells must have an upstream; without a database, nothing is sold. A configuration without
/// upstreams is the demo's, which has its own.
async fn check_products(config: &Config) -> anyhow::Result<()> {
    if config.upstream.is_empty() || matches!(config.store_at(), StoreAt::File(path) if !path.exists()) {
        return Ok(());
    }
    let stranded = match gateway::open_store(config).await {
        Ok(store) => gateway::stranded_products(config, store.as_ref()).await?,
        Err(error) => {
            line(format!("The products were not looked at: {error:#}"));
            return Ok(());
        }
    };
    if !stranded.is_empty() {
        bail!("{}", stranded.join("\n"));
    }
    Ok(())
}
