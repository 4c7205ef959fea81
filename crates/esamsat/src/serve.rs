//! `esamsat serve`: the gateway as configured, until it is told to stop.

use crate::{
    config::{Config, Place},
    gateway,
    output::Fault,
};
use anyhow::{Context, bail};
use clap::Args;
use engine::Engine;
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use std::{net::SocketAddr, sync::Arc, time::Duration};
use tokio::{
    net::TcpListener,
    signal::unix::{Signal, SignalKind, signal},
    time::Instant,
};

/// The flags of `serve`.
#[derive(Args)]
pub struct Arguments {
    /// Where to listen [default: 127.0.0.1:8080, or what the configuration says]
    #[arg(long, value_name = "ADDRESS")]
    pub listen: Option<SocketAddr>,
}

/// Runs until SIGINT or SIGTERM.
pub async fn run(place: &Place, arguments: Arguments) -> anyhow::Result<()> {
    let mut config = Config::load(place)?;
    if let Some(listen) = arguments.listen {
        config.listen = listen;
    }
    if config.upstream.is_empty() {
        bail!(
            "the configuration names no upstream; add [upstream.simulator] with kind = \"simulator\", a bank with \
             kind = \"iso8583\", or a provider with kind = \"relay\", to the file named with --config, or run the ready sandbox with `esamsat demo`"
        );
    }
    gateway::start_logging(&config, config.log_format);
    let store = gateway::open_store(&config).await?;
    let operations = gateway::operations_on(Arc::clone(&store));
    // Play money must reach no real bank: other products than the simulator's are an operator's to make.
    if let Some((simulator, _)) = config.simulators().next() {
        gateway::seed_sandbox_products(&operations, simulator).await?;
    }
    operations.close().await;
    let listener = listen(config.listen)?;
    let address = listener.local_addr().context("failed to learn the own address")?;
    let recorder = record_metrics()?;
    let engine = gateway::start(&config, store).await?;
    let signals = Signals::listen()?;
    tracing::info!(%address, "the gateway is ready");
    until_stopped(&config, engine, recorder, listener, signals).await
}

/// What ends the gateway in good order. Listened for before anybody is told that it serves: from then on,
/// no signal kills it half-way.
pub struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    /// Takes over SIGTERM and SIGINT.
    pub fn listen() -> anyhow::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate()).context("failed to listen for SIGTERM")?,
            interrupt: signal(SignalKind::interrupt()).context("failed to listen for SIGINT")?,
        })
    }

    /// Resolves with the first of them.
    pub async fn first(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

/// Takes the port.
pub fn listen(address: SocketAddr) -> anyhow::Result<TcpListener> {
    web::listen(address).map_err(|error| {
        Fault::Unavailable(format!(
            "failed to listen on {address}: {error}; stop what listens there, or choose another --listen"
        ))
        .into()
    })
}

/// Installs the metrics' recorder, and what keeps its histograms small. Before anything is counted.
pub fn record_metrics() -> anyhow::Result<PrometheusHandle> {
    let recorder = PrometheusBuilder::new()
        .set_buckets(&[
            0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0,
        ])
        .context("failed to set up metrics")?
        .install_recorder()
        .context("failed to set up metrics")?;
    describe_metrics();
    let upkeep = recorder.clone();
    tokio::spawn(async move {
        let mut ticks = tokio::time::interval(Duration::from_secs(5));
        loop {
            ticks.tick().await;
            upkeep.run_upkeep();
        }
    });
    Ok(recorder)
}

/// What `/metrics` says about each.
fn describe_metrics() {
    use metrics::{describe_counter as counter, describe_gauge as gauge, describe_histogram as histogram};
    counter!("esamsat_requests_total", "Requests answered, by call and result");
    histogram!("esamsat_request_duration_seconds", "From a request's head to its answer");
    gauge!("esamsat_connections", "Connections open");
    counter!("esamsat_connections_refused_total", "Connections closed for want of a place");
    counter!("esamsat_logins_failed_total", "Unknown users and wrong passwords");
    counter!("esamsat_logins_limited_total", "Log-ins refused since their address tried too often");
    counter!("esamsat_inquiries_total", "Inquiries recorded, by result");
    counter!("esamsat_payments_refused_total", "Payments refused before anything was reserved, by reason");
    counter!("esamsat_payments_settled_total", "Payments settled, by final state");
    gauge!("esamsat_payments_pending", "Payments whose outcome is open, as last counted");
    histogram!("esamsat_payment_bank_seconds", "From a reservation to the bank's answer or silence");
    counter!("esamsat_bank_unknown_total", "Answers of the bank that left an outcome unknown");
    counter!("esamsat_status_questions_total", "Questions to the bank about open payments");
    counter!("esamsat_late_answers_total", "Answers that came after their requests had been given up");
    counter!("esamsat_incidents_total", "Incidents raised, repetitions included, by kind");
    counter!("esamsat_contradictions_total", "Times that the bank contradicted a final state");
    gauge!("esamsat_line_up", "Whether a bank line is signed on, and the bank answers on it");
    gauge!(
        "esamsat_line_in_flight",
        "Requests to a bank line, or payments at a provider, that are waited for"
    );
    counter!("esamsat_line_messages_total", "Messages on a bank line, by what became of them");
    gauge!("esamsat_upstream_balance_rupiah", "The gateway's own balance at a provider");
    gauge!("esamsat_journal_waiting", "Commands waiting to be written");
    histogram!("esamsat_journal_batch_commands", "Commands written in one transaction");
}

/// Serves until a signal, then finishes what is under way. A store that cannot be trusted ends the
/// process at once.
pub async fn until_stopped(
    config: &Config,
    engine: Arc<Engine>,
    recorder: PrometheusHandle,
    listener: TcpListener,
    mut signals: Signals,
) -> anyhow::Result<()> {
    let face = web::Face {
        engine: Arc::clone(&engine),
        trusted_proxies: config.trusted_proxies.clone(),
        metrics_networks: config.metrics_networks.clone(),
        render_metrics: Arc::new(move || recorder.render()),
    };
    let shutdown_within = Duration::from_millis(config.shutdown_within_ms);
    let settings = web::Settings { shutdown_grace: shutdown_within, ..web::Settings::default() };
    let stop = tokio_util::sync::CancellationToken::new();
    let server = tokio::spawn(web::serve(listener, web::Router::new(face), settings, stop.clone()));

    tokio::select! {
        () = signals.first() => {}
        why = engine.failed() => bail!("stopped, since the database can no longer be trusted: {why}"),
    }
    tracing::info!("shutting down");
    let deadline = Instant::now() + shutdown_within;
    stop.cancel();
    if tokio::time::timeout_at(deadline, server).await.is_err() {
        tracing::warn!("requests were cut at the shutdown deadline");
    }
    engine.shut_down(deadline).await;
    tracing::info!("stopped");
    Ok(())
}
