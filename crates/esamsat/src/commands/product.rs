//! `esamsat product`: what can be sold.

use super::{EnvironmentName, amount, product_code};
use crate::{
    config::{Config, Place},
    gateway,
    output::{self, Fault, Table, rupiah},
};
use clap::{Args, Subcommand};
use domain::{Environment, Product, ProductCode, Rupiah, UpstreamId};
use engine::operate::{self, Operations};
use serde_json::json;

/// The commands.
#[derive(Subcommand)]
pub enum Command {
    /// List all products.
    List,
    /// Switch a product on.
    On(Named),
    /// Switch a product off: no new inquiries and payments; what is under way is still settled.
    Off(Named),
    /// Change a product, or create it.
    Set(Set),
}

/// Which product.
#[derive(Args)]
pub struct Named {
    /// Product code
    #[arg(value_parser = product_code)]
    code: ProductCode,
    /// Real or play money
    #[arg(long, value_enum, default_value_t = EnvironmentName::Sandbox)]
    environment: EnvironmentName,
}

/// What to change; what is not named stays.
#[derive(Args)]
pub struct Set {
    #[command(flatten)]
    named: Named,
    /// The name shown to partners
    #[arg(long)]
    name: Option<String>,
    /// The gateway's fee, in Rupiah
    #[arg(long, value_parser = amount)]
    fee: Option<Rupiah>,
    /// What the partner gets back, in Rupiah
    #[arg(long, value_parser = amount)]
    cashback: Option<Rupiah>,
    /// Who is asked: an upstream's configured name
    #[arg(long)]
    upstream: Option<String>,
    /// Where it stands in the list
    #[arg(long)]
    position: Option<u32>,
}

/// Runs one.
pub async fn run(place: &Place, command: Command) -> anyhow::Result<()> {
    let config = Config::load(place)?;
    let operations = gateway::operations(&config).await?;
    match command {
        Command::List => list(&operations, place.json).await,
        Command::On(named) => switch(&operations, named, true, place.json).await,
        Command::Off(named) => switch(&operations, named, false, place.json).await,
        Command::Set(set) => save(&operations, &config, set, place.json).await,
    }
}

async fn switch(operations: &Operations, named: Named, on: bool, json: bool) -> anyhow::Result<()> {
    let product = operations.product(named.environment.into(), &named.code).await?;
    operations.save_product(Product { on, ..product }).await?;
    let word = if on { "ON" } else { "OFF" };
    let sentence = format!("{} is {word}. Running gateways follow within seconds.", named.code);
    output::done(json, sentence, &json!({ "code": named.code, "on": on }));
    Ok(())
}

async fn save(operations: &Operations, config: &Config, set: Set, json: bool) -> anyhow::Result<()> {
    let environment: Environment = set.named.environment.into();
    let code = set.named.code;
    let known = match operations.product(environment, &code).await {
        Ok(product) => Some(product),
        Err(operate::Error::NotFound(_)) => None,
        Err(error) => return Err(error.into()),
    };
    let upstream = match &set.upstream {
        Some(name) => Some(upstream_id(operations, config, name).await?),
        None => known.as_ref().map(|product| product.upstream),
    };
    let Some(upstream) = upstream else {
        return Err(Fault::Refused(format!("{code} is new: name who is asked with --upstream")).into());
    };
    let product = Product {
        environment,
        name: set.name.or_else(|| known.as_ref().map(|p| p.name.clone())).unwrap_or_else(|| code.to_string()),
        fee: set.fee.or(known.as_ref().map(|p| p.fee)).unwrap_or(Rupiah::new(5_000)),
        cashback: set.cashback.or(known.as_ref().map(|p| p.cashback)).unwrap_or_default(),
        on: known.as_ref().is_some_and(|p| p.on),
        position: set.position.or(known.as_ref().map(|p| p.position)).unwrap_or_default(),
        upstream,
        code,
    };
    operations.save_product(product.clone()).await?;
    let sentence = format!(
        "{}: fee Rp {}, cashback Rp {}, {}. Invoices already inquired keep their terms.",
        product.code,
        rupiah(product.fee),
        rupiah(product.cashback),
        if product.on { "ON" } else { "OFF" }
    );
    output::done(json, sentence, &serde_json::to_value(&product)?);
    Ok(())
}

/// A name is taken only if it is configured or in use, so that a slip makes no new upstream.
async fn upstream_id(operations: &Operations, config: &Config, name: &str) -> anyhow::Result<UpstreamId> {
    let upstreams = operations.store().upstreams().await?;
    if let Some((_, id)) = upstreams.iter().find(|(known, _)| known == name) {
        return Ok(*id);
    }
    if config.upstream.contains_key(name) {
        return Ok(operations.register_upstream(name).await?);
    }
    let known: Vec<_> = upstreams.iter().map(|(name, _)| name.as_str()).collect();
    Err(Fault::NotFound(format!(
        "there is no upstream {name}; there are: {}. New ones come from the configuration (--config)",
        known.join(", ")
    ))
    .into())
}

async fn list(operations: &Operations, json: bool) -> anyhow::Result<()> {
    let products = operations.store().products().await?;
    let upstreams = operations.store().upstreams().await?;
    let upstream = |id: UpstreamId| {
        upstreams
            .iter()
            .find(|(_, known)| *known == id)
            .map_or_else(|| id.0.to_string(), |(name, _)| name.clone())
    };
    if json {
        let rows: Vec<_> = products
            .iter()
            .map(|product| {
                json!({
                    "environment": product.environment,
                    "code": product.code,
                    "name": product.name,
                    "fee_rupiah": product.fee,
                    "cashback_rupiah": product.cashback,
                    "on": product.on,
                    "upstream": upstream(product.upstream),
                    "position": product.position,
                })
            })
            .collect();
        output::json(&rows);
        return Ok(());
    }
    let mut table =
        Table::new(&["Code", "Name", "Environment", "Status", ">Fee Rp", ">Cashback Rp", "Upstream"]);
    for product in products {
        table.row([
            product.code.to_string(),
            product.name.clone(),
            product.environment.name().to_owned(),
            if product.on { "ON" } else { "OFF" }.to_owned(),
            rupiah(product.fee),
            rupiah(product.cashback),
            upstream(product.upstream),
        ]);
    }
    table.print("There are no products; `esamsat demo` and `esamsat serve` make the sandbox's.");
    Ok(())
}
