//! `esamsat config`: what the gateway would run with.

use crate::{
    config::{Config, Place, StoreAt},
    gateway,
    output::{self, line},
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
            let products = check_products(&config).await?;
            match &place.config {
                Some(path) => {
                    line(format!("{} is fine, with the files that it names; {products}.", path.display()));
                }
                None => line(format!(
                    "The configuration is fine (defaults; name a file with --config); {products}."
                )),
            }
        }
        Command::Show if place.json => output::json(&config),
        Command::Show => line(toml::to_string_pretty(&config)?.trim_end()),
    }
    Ok(())
}

/// What the database sells must have an upstream; without a database, nothing is sold. A configuration without
/// upstreams is the demo's, which has its own. Says what was looked at.
async fn check_products(config: &Config) -> anyhow::Result<&'static str> {
    if config.upstream.is_empty() {
        return Ok("it has no upstreams, and the products were not looked at");
    }
    if matches!(config.store_at(), StoreAt::File(path) if !path.exists()) {
        return Ok("there is no database yet, and thus no products to look at");
    }
    let sold = match gateway::open_store(config).await {
        Ok(store) => gateway::products_sold(store.as_ref()).await?,
        Err(error) => {
            output::note(format!("the products were not looked at: {error:#}"));
            return Ok("the products were not looked at");
        }
    };
    let stranded: Vec<String> = gateway::stranded(config, &sold).collect();
    if !stranded.is_empty() {
        bail!("{}", stranded.join("\n"));
    }
    Ok("every product that is ON has its upstream in it")
}
