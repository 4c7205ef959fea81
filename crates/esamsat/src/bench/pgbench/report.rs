//! What pgbench did, and what the gateway did beside it: the ratios.

use super::{Pgbench, SCHEMA, THREADS, Workload};
use crate::{
    bench::report::{median, milliseconds, rounded},
    output::{self, Table},
};
use serde::Serialize;

/// Everything about pgbench.
#[derive(Serialize)]
pub(crate) struct Report {
    /// Without a password; none if the environment said it.
    server: Option<String>,
    server_version: String,
    /// Without it the figures are not of durable commits.
    fsync: bool,
    synchronous_commit: String,
    scale: u32,
    schema: &'static str,
    drop_command: String,
    tpcb: Figures,
    hot_row: Option<Figures>,
    bare_commit: Option<Figures>,
    /// What of the gateway's is counted: pairs, inquiries or payments.
    gateway_unit: &'static str,
    gateway_per_second: f64,
    /// The gateway's throughput by that of TPC-B; in an open loop it would say nothing.
    ratio_to_tpcb: Option<f64>,
    /// The gateway's throughput with one hot partner by that of one hot row.
    ratio_to_hot_row: Option<f64>,
    /// The median payment of one client at a time.
    pay_p50_ms: Option<f64>,
    /// That less two bare commits: what a payment takes beyond those that it cannot do without.
    overhead_ms: Option<f64>,
}

/// One workload.
#[derive(Serialize)]
struct Figures {
    #[serde(skip)]
    workload: &'static str,
    clients: u16,
    threads: u16,
    /// The median of the slices, without the time to connect.
    transactions_per_second: f64,
    slices_transactions_per_second: Vec<f64>,
    /// The median of the slices' averages.
    latency_average_ms: f64,
    /// Of all transactions of all slices, where each was logged.
    latency_p50_ms: Option<f64>,
    transactions: u64,
    failed_transactions: u64,
    measured_s: f64,
    /// How the number of clients was chosen.
    tried: Vec<Tried>,
}

#[derive(Serialize)]
struct Tried {
    clients: u16,
    transactions_per_second: f64,
    latency_average_ms: f64,
}

/// What the gateway did.
pub(crate) struct Gateway {
    pub(crate) unit: &'static str,
    pub(crate) per_second: f64,
    pub(crate) is_open: bool,
    /// Of one client at a time.
    pub(crate) pay_p50_ms: Option<f64>,
}

impl Report {
    pub(crate) fn new(pgbench: &Pgbench, gateway: &Gateway) -> Self {
        let tpcb = Figures::new(&pgbench.tpcb);
        let hot_row = pgbench.hot_row.as_ref().map(Figures::new);
        let bare_commit = pgbench.bare_commit.as_ref().map(Figures::new);
        let ratio = |reference: &Figures| {
            let is_comparable = !gateway.is_open && reference.transactions_per_second > 0.0;
            is_comparable.then(|| rounded(gateway.per_second / reference.transactions_per_second))
        };
        let bare_commit_p50_ms = bare_commit.as_ref().and_then(|figures| figures.latency_p50_ms);
        let overhead_ms =
            gateway.pay_p50_ms.zip(bare_commit_p50_ms).map(|(pay, commit)| rounded(pay - 2.0 * commit));
        let server = pgbench.server.url.clone();
        let database = server.as_ref().map(|url| format!(" '{url}'")).unwrap_or_default();
        Self {
            drop_command: format!("psql{database} -c 'DROP SCHEMA {SCHEMA} CASCADE'"),
            server,
            server_version: pgbench.facts.server_version.clone(),
            fsync: pgbench.facts.fsync,
            synchronous_commit: pgbench.facts.synchronous_commit.clone(),
            scale: pgbench.scale,
            schema: SCHEMA,
            gateway_unit: gateway.unit,
            gateway_per_second: gateway.per_second,
            ratio_to_tpcb: ratio(&tpcb),
            ratio_to_hot_row: hot_row.as_ref().and_then(ratio),
            pay_p50_ms: gateway.pay_p50_ms,
            overhead_ms,
            tpcb,
            hot_row,
            bare_commit,
        }
    }

    fn figures(&self) -> impl Iterator<Item = &Figures> {
        [Some(&self.tpcb), self.hot_row.as_ref(), self.bare_commit.as_ref()].into_iter().flatten()
    }

    pub(crate) fn print(&self) {
        let mut table = Table::new(&[
            "pgbench",
            ">clients",
            ">transactions/s",
            ">average ms",
            ">p50 ms",
            ">transactions",
            ">failed",
        ]);
        for figures in self.figures() {
            table.row([
                figures.workload.to_owned(),
                figures.clients.to_string(),
                format!("{:.1}", figures.transactions_per_second),
                format!("{:.3}", figures.latency_average_ms),
                figures.latency_p50_ms.map(|ms| format!("{ms:.3}")).unwrap_or_default(),
                figures.transactions.to_string(),
                figures.failed_transactions.to_string(),
            ]);
        }
        table.print("");
        let say = |text: String| output::line(text);
        for figures in self.figures().filter(|figures| !figures.tried.is_empty()) {
            let tried = figures.tried.iter();
            let tried: Vec<_> =
                tried.map(|run| format!("{} {:.0}/s", run.clients, run.transactions_per_second)).collect();
            say(format!("{}, clients tried: {}", figures.workload, tried.join(", ")));
        }
        say(format!(
            "PostgreSQL {}, scale {}, fsync {}, synchronous_commit {}",
            self.server_version,
            self.scale,
            if self.fsync { "on" } else { "OFF: these are no durable commits" },
            self.synchronous_commit
        ));
        for (ratio, of) in [(self.ratio_to_tpcb, "TPC-B"), (self.ratio_to_hot_row, "hot row")] {
            if let Some(ratio) = ratio {
                say(format!("gateway / pgbench {of}: {ratio:.3} {} a transaction", self.gateway_unit));
            }
        }
        let bare_commit = self.bare_commit.as_ref().and_then(|figures| figures.latency_p50_ms);
        if let (Some(pay), Some(commit), Some(overhead)) = (self.pay_p50_ms, bare_commit, self.overhead_ms) {
            say(format!("pay p50 {pay:.3} ms − 2 × bare commit {commit:.3} ms = {overhead:.3} ms"));
        }
        say(format!("The tables stay in the schema {SCHEMA} for the next time; {}", self.drop_command));
    }
}

impl Figures {
    fn new(workload: &Workload) -> Self {
        let slices = &workload.slices;
        Self {
            workload: workload.name,
            clients: workload.clients,
            threads: THREADS.min(workload.clients),
            transactions_per_second: median(slices.iter().map(|run| run.transactions_per_second)),
            slices_transactions_per_second: slices
                .iter()
                .map(|run| rounded(run.transactions_per_second))
                .collect(),
            latency_average_ms: median(slices.iter().map(|run| run.latency_average_ms)),
            latency_p50_ms: workload
                .latency
                .as_ref()
                .filter(|latency| !latency.is_empty())
                .map(|latency| milliseconds(latency.value_at_quantile(0.5))),
            transactions: slices.iter().map(|run| run.transactions).sum(),
            failed_transactions: slices.iter().map(|run| run.failed).sum(),
            measured_s: rounded(slices.iter().map(super::Run::seconds).sum()),
            tried: workload
                .tried
                .iter()
                .map(|run| Tried {
                    clients: run.clients,
                    transactions_per_second: rounded(run.transactions_per_second),
                    latency_average_ms: run.latency_average_ms,
                })
                .collect(),
        }
    }
}
