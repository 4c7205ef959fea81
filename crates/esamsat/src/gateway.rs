//! Wiring: the configured store, banks and faces, put together. The only place that names a backend or
//! a bank, but for `copy`, which is about two of them.

use crate::{
    config::{Config, LogFormat, StoreAt, Upstream, line_profile, relay_password},
    output::Fault,
};
use anyhow::Context;
use bank::{
    Bank,
    iso8583_line::{Iso8583Bank, LineSettings},
    profile::LineProfile,
    relay::{Relay, RelaySettings},
    simulator::{OpenError, Simulator, SimulatorSettings},
};
use domain::{Environment, Product};
use engine::{Engine, Ids, Settings, SystemClock, operate::Operations};
use std::{fs, path::Path, sync::Arc, time::Duration};
use store::Store;
use store_postgres::PostgresStore;
use store_sqlite::{Open, SqliteStore};

/// Opens the database as it is.
pub async fn open_store(config: &Config) -> anyhow::Result<Arc<dyn Store>> {
    Ok(match config.store_at() {
        StoreAt::File(path) => Arc::new(SqliteStore::open(&path, Open::Existing)?),
        StoreAt::Postgres(_) => Arc::new(PostgresStore::open(config.postgres_address()?).await?),
    })
}

/// Opens the database, created and brought up to date if need be.
pub async fn create_store(config: &Config) -> anyhow::Result<Arc<dyn Store>> {
    create_folder(&config.data)?;
    match config.store_at() {
        StoreAt::File(path) => Ok(Arc::new(SqliteStore::open(&path, Open::CreateOrMigrate)?)),
        StoreAt::Postgres(_) => {
            store_postgres::migrate(&config.postgres_address()?).await?;
            open_store(config).await
        }
    }
}

fn create_folder(folder: &Path) -> anyhow::Result<()> {
    fs::create_dir_all(folder).map_err(|error| {
        Fault::Unavailable(format!(
            "failed to create the data folder {}: {error}; name another one with --data",
            folder.display()
        ))
    })?;
    Ok(())
}

/// What the configured database takes on disk, in bytes. A simulated bank's books are not the gateway's.
pub async fn stored_bytes(config: &Config) -> anyhow::Result<u64> {
    Ok(open_store(config).await?.size_bytes().await?)
}

/// The operator's side of the configured database.
pub async fn operations(config: &Config) -> anyhow::Result<Operations> {
    Ok(operations_on(open_store(config).await?))
}

/// The operator's side of a database.
pub fn operations_on(store: Arc<dyn Store>) -> Operations {
    Operations::new(store, Arc::new(SystemClock), &Arc::new(Ids::from_system()))
}

/// Opens the configured upstreams.
pub fn upstreams(config: &Config) -> anyhow::Result<Vec<engine::Upstream>> {
    let mut upstreams = Vec::new();
    for (name, upstream) in &config.upstream {
        let bank: Arc<dyn Bank> = match upstream {
            Upstream::Simulator(settings) => simulator(config, name, settings.clone())?,
            Upstream::Iso8583(settings) => bank_behind_lines(name, settings.clone())?,
            Upstream::Relay(settings) => relay(name, settings.clone())?,
        };
        upstreams.push(engine::Upstream { name: name.clone(), bank });
    }
    Ok(upstreams)
}

/// Opens a simulated bank.
pub fn simulator(config: &Config, name: &str, settings: SimulatorSettings) -> anyhow::Result<Arc<Simulator>> {
    let ledger_path = config.bank_ledger(name);
    let settings = SimulatorSettings { ledger_path: ledger_path.clone(), ..settings };
    Simulator::open(settings, Arc::new(SystemClock)).map_err(|error| match error {
        OpenError::Settings(_) => anyhow::anyhow!("failed to open the simulated bank {name}: {error}"),
        OpenError::Ledger(error) => Fault::Unavailable(format!(
            "failed to open {}: {error}; restore it from a backup, or name another folder with --data",
            ledger_path.display()
        ))
        .into(),
    })
}

fn bank_behind_lines(name: &str, settings: LineSettings) -> anyhow::Result<Arc<Iso8583Bank>> {
    let profile = line_profile(&settings.profile)?;
    Iso8583Bank::new(name, profile, settings, Arc::new(SystemClock))
        .map_err(|what| anyhow::anyhow!("upstream {name}: {what}"))
}

fn relay(name: &str, settings: RelaySettings) -> anyhow::Result<Arc<Relay>> {
    let password = relay_password(&settings)?;
    Relay::new(name, settings, password, Arc::new(SystemClock))
        .map_err(|what| anyhow::anyhow!("upstream {name}: {what}"))
}

/// The four documented products in the sandbox, unless there are any.
pub async fn seed_sandbox_products(operations: &Operations, upstream: &str) -> anyhow::Result<()> {
    let products = operations.store().products().await?;
    if products.iter().any(|product| product.environment == Environment::Sandbox) {
        return Ok(());
    }
    let upstream = operations.register_upstream(upstream).await?;
    for (position, (code, on)) in
        [("SAMSAT_JABAR", true), ("SAMSAT_JATENG", false), ("SAMSAT_JAKARTA", false), ("SAMSAT_JATIM", false)]
            .into_iter()
            .enumerate()
    {
        operations
            .save_product(Product {
                environment: Environment::Sandbox,
                code: domain::ProductCode::parse(code).expect("a documented product code"),
                name: code.to_owned(),
                fee: domain::Rupiah::new(5_000),
                cashback: domain::Rupiah::new(2_000),
                on,
                upstream,
                position: u32::try_from(position).expect("there are four"),
            })
            .await?;
    }
    Ok(())
}

/// The products that are ON, each with the name of its upstream.
pub async fn products_sold(store: &dyn Store) -> anyhow::Result<Vec<(Product, String)>> {
    let registered = store.upstreams().await?;
    let sold = store.products().await?.into_iter().filter(|product| product.on);
    let named = sold.filter_map(|product| {
        let (name, _) = registered.iter().find(|(_, known)| *known == product.upstream)?;
        Some((product, name.clone()))
    });
    Ok(named.collect())
}

/// Those whose upstream the configuration does not have, and what to do about each.
pub fn stranded<'a>(config: &'a Config, sold: &'a [(Product, String)]) -> impl Iterator<Item = String> + 'a {
    let stranded = sold.iter().filter(|(_, name)| !config.upstream.contains_key(name));
    stranded.map(|(product, name)| {
        let (code, environment) = (&product.code, product.environment.name());
        format!(
            "product {code} ({environment}) is ON, and its upstream {name} is not in the configuration; add \
             [upstream.{name}], or give it another one: esamsat product set {code} --environment {environment} \
             --upstream …"
        )
    })
}

/// Warns of what is sold and cannot be what it seems.
async fn warn_of_products(config: &Config, store: &dyn Store) -> anyhow::Result<()> {
    let sold = products_sold(store).await?;
    for stranded in stranded(config, &sold) {
        tracing::warn!("{stranded}");
    }
    for (product, upstream) in sold.iter().filter(|(product, _)| product.environment == Environment::Live) {
        let product = &product.code;
        match config.upstream.get(upstream) {
            Some(Upstream::Simulator(_)) => {
                tracing::warn!(%product, "a live product is ON and its upstream is simulated: nothing that it pays is real");
            }
            Some(Upstream::Iso8583(settings)) if LineProfile::builtin(&settings.profile).is_some() => {
                tracing::warn!(
                    %product,
                    profile = settings.profile,
                    "a live product is ON and its bank is spoken to by a shipped example: its codes and times are no \
                     bank's; write the bank's own profile"
                );
            }
            _ => {}
        }
    }
    Ok(())
}

/// Starts the engine on a store.
pub async fn start(config: &Config, store: Arc<dyn Store>) -> anyhow::Result<Arc<Engine>> {
    // Whoever embeds the database is alone with it, and has one writer.
    let (lanes, lease_after) = match config.store_at() {
        StoreAt::File(_) => (1, None),
        StoreAt::Postgres(_) => (config.writers, Some(Duration::from_millis(config.lease_after_ms))),
    };
    let settings = Settings {
        lanes,
        lease_after,
        answer_within: Duration::from_millis(config.answer_within_ms),
        send_within: Duration::from_millis(config.send_within_ms),
        pending_long_after: Duration::from_secs(config.pending_long_after_s),
        ..Settings::default()
    };
    warn_of_products(config, store.as_ref()).await?;
    let upstreams = upstreams(config)?;
    let clock = Arc::new(SystemClock);
    let ids = Arc::new(Ids::from_system());
    Engine::start(settings, store, upstreams, clock, ids).await.context("failed to start the gateway")
}

/// Logs go to stderr; nothing personal or secret is ever handed to them.
pub fn start_logging(config: &Config, format: LogFormat) {
    use tracing_subscriber::{
        Layer, filter::Targets, fmt, layer::SubscriberExt, registry, util::SubscriberInitExt,
    };
    let targets: Targets = config.log.parse().expect("the configuration was checked");
    let lines = fmt::layer().with_writer(std::io::stderr);
    let layer = match format {
        LogFormat::Text => lines.with_target(true).boxed(),
        LogFormat::Json => lines.json().flatten_event(true).boxed(),
    };
    registry().with(layer.with_filter(targets)).init();
}
