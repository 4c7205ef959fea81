//! `PostgreSQL`'s own benchmark as a reference: `pgbench` against the very server that the gateway writes to.
//!
//! | workload | one transaction | clients |
//! | --- | --- | --- |
//! | TPC-B | pgbench's built-in one: three updates, one look-up, one insert | those with the best throughput |
//! | hot row | the same, with all clients on one account, teller and branch | those with the best throughput |
//! | bare commit | an insert of some 200 bytes | one |
//!
//! All of them prepared (`-M prepared`). What they need lies in a schema of its own, is made if it is not there,
//! and stays for the next time. Deliberately absent: whether it is the gateway's server; only who gives the
//! address can know.

mod output;
mod report;
mod server;

pub(super) use report::{Gateway, Report};

use super::{progress::Progress, tally};
use crate::output::Fault;
use anyhow::{Context, bail};
use clap::Args;
use hdrhistogram::Histogram;
use output::Run;
use server::Server;
use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};
use tempfile::TempDir;

/// Nothing outside of it is touched.
const SCHEMA: &str = "esamsat_pgbench";

const SCALE: u32 = 50;

/// The numbers of clients to try.
const CLIENTS: [u16; 6] = [2, 4, 8, 16, 32, 64];

/// The threads of pgbench's own.
const THREADS: u16 = 2;

/// So long each number of clients is tried.
const TRY: Duration = Duration::from_secs(3);

/// pgbench's own TPC-B-like transaction, with all clients on one account, one teller and one branch: what a hot
/// partner's payment is to a ledger.
const HOT_ROW_SCRIPT: &str = "\
\\set delta random(-5000, 5000)
BEGIN;
UPDATE pgbench_accounts SET abalance = abalance + :delta WHERE aid = 1;
SELECT abalance FROM pgbench_accounts WHERE aid = 1;
UPDATE pgbench_tellers SET tbalance = tbalance + :delta WHERE tid = 1;
UPDATE pgbench_branches SET bbalance = bbalance + :delta WHERE bid = 1;
INSERT INTO pgbench_history (tid, bid, aid, delta, mtime) VALUES (1, 1, 1, :delta, CURRENT_TIMESTAMP);
END;
";

const BARE_COMMIT_SCRIPT: &str = "INSERT INTO bare_commit (filling) VALUES (repeat('x', 170));\n";

/// The tables of the two scripts. They are emptied, so that no run pays for the last one.
const TABLES: &str = "\
CREATE TABLE IF NOT EXISTS bare_commit (filling text NOT NULL);
TRUNCATE bare_commit;";

/// The flags.
#[derive(Args)]
pub(super) struct Flags {
    /// With --reference pgbench: the gateway's database server, as in
    /// `postgres://user@host/database` [default: as the environment's PGHOST, PGPORT, PGUSER, PGPASSWORD and PGDATABASE say]
    // Whatever cannot be read is refused later, and without quoting it: it may have a password in it.
    #[arg(id = "pgbench-url", long = "pgbench-url", value_name = "URL", requires = "reference")]
    url: Option<String>,

    /// With --reference pgbench: the scale; one is 100 000 accounts, some 15 MB [default: 50]
    #[arg(id = "pgbench-scale", long = "pgbench-scale", value_name = "SCALE", requires = "reference",
          value_parser = clap::value_parser!(u32).range(1..=10_000))]
    scale: Option<u32>,

    /// With --reference pgbench: the numbers of clients to try, of which the best is measured
    /// [default: 2,4,8,16,32,64]
    #[arg(id = "pgbench-clients", long = "pgbench-clients", value_name = "CLIENTS", value_delimiter = ',', requires = "reference",
          value_parser = clap::value_parser!(u16).range(1..=1_000))]
    clients: Vec<u16>,
}

impl Flags {
    /// Whether any of them stands there.
    pub(super) fn is_given(&self) -> bool {
        self.url.is_some() || self.scale.is_some() || !self.clients.is_empty()
    }
}

/// What to measure beside TPC-B.
#[derive(Clone, Copy)]
pub(super) struct Wanted {
    pub(super) hot_row: bool,
    pub(super) bare_commit: bool,
}

/// One of the workloads, and what was seen of it.
struct Workload {
    name: &'static str,
    /// None: pgbench's own.
    script: Option<PathBuf>,
    clients: u16,
    /// To choose the number of clients.
    tried: Vec<Run>,
    slices: Vec<Run>,
    /// Only of what is logged transaction by transaction.
    latency: Option<Histogram<u64>>,
}

/// A server that is ready to be measured.
pub(super) struct Pgbench {
    server: Server,
    facts: Facts,
    scale: u32,
    /// Scripts and logs.
    folder: TempDir,
    tpcb: Workload,
    hot_row: Option<Workload>,
    bare_commit: Option<Workload>,
}

/// What its figures depend on.
struct Facts {
    server_version: String,
    fsync: bool,
    synchronous_commit: String,
}

impl Pgbench {
    /// Prepares the server, and finds the best numbers of clients.
    pub(super) async fn start(flags: &Flags, wanted: Wanted, progress: &Progress) -> anyhow::Result<Self> {
        let server = Server::new(flags.url.as_deref()).map_err(Fault::Usage)?;
        let scale = flags.scale.unwrap_or(SCALE);
        let clients = if flags.clients.is_empty() { &CLIENTS[..] } else { &flags.clients };
        let facts = facts(&server).await?;
        prepare(&server, scale, progress).await?;
        let folder = TempDir::with_prefix("esamsat-bench-").context("failed to make a temporary folder")?;
        let script = |is_wanted: bool, name: &'static str, text: &str| {
            let path = folder.path().join(name).with_extension("sql");
            let write =
                || fs::write(&path, text).with_context(|| format!("failed to write {}", path.display()));
            is_wanted.then(write).transpose().map(|written| written.map(|()| Workload::new(name, Some(path))))
        };
        let mut tpcb = Workload::new("TPC-B", None);
        let mut hot_row = script(wanted.hot_row, "hot row", HOT_ROW_SCRIPT)?;
        let mut bare_commit = script(wanted.bare_commit, "bare commit", BARE_COMMIT_SCRIPT)?;
        for workload in [Some(&mut tpcb), hot_row.as_mut()].into_iter().flatten() {
            workload.choose_clients(clients, &server, folder.path(), progress).await?;
        }
        if let Some(workload) = &mut bare_commit {
            workload.latency = Some(tally::histogram());
        }
        Ok(Self { server, facts, scale, folder, tpcb, hot_row, bare_commit })
    }

    /// Measures each workload once.
    pub(super) async fn slice(
        &mut self,
        of_slices: &str,
        measured: Duration,
        progress: &Progress,
    ) -> anyhow::Result<()> {
        let workloads = [Some(&mut self.tpcb), self.hot_row.as_mut(), self.bare_commit.as_mut()];
        for workload in workloads.into_iter().flatten() {
            let name = format!("pgbench, {}, {of_slices}", workload.name);
            let run = workload.run(&self.server, self.folder.path(), measured, &name, progress).await?;
            workload.slices.push(run);
        }
        Ok(())
    }
}

impl Workload {
    /// With one client, until more are chosen.
    fn new(name: &'static str, script: Option<PathBuf>) -> Self {
        Self { name, script, clients: 1, tried: Vec::new(), slices: Vec::new(), latency: None }
    }

    /// Those with the best throughput; a single candidate needs no trial.
    async fn choose_clients(
        &mut self,
        candidates: &[u16],
        server: &Server,
        folder: &Path,
        progress: &Progress,
    ) -> anyhow::Result<()> {
        if let [only] = candidates {
            self.clients = *only;
            return Ok(());
        }
        for clients in candidates {
            self.clients = *clients;
            let name = format!("pgbench, {} with {clients} clients", self.name);
            let run = self.run(server, folder, TRY, &name, progress).await?;
            self.tried.push(run);
        }
        let throughput =
            |run: &&Run, other: &&Run| run.transactions_per_second.total_cmp(&other.transactions_per_second);
        self.clients = self.tried.iter().max_by(throughput).map_or(1, |best| best.clients);
        Ok(())
    }

    async fn run(
        &mut self,
        server: &Server,
        folder: &Path,
        measured: Duration,
        name: &str,
        progress: &Progress,
    ) -> anyhow::Result<Run> {
        // pgbench knows whole seconds.
        let seconds = u64::from(measured.subsec_nanos() > 0) + measured.as_secs();
        let mut command = server.pgbench();
        command.args(["-M", "prepared", "-c", &self.clients.to_string()]);
        command.args(["-j", &THREADS.min(self.clients).to_string(), "-T", &seconds.max(1).to_string()]);
        if let Some(script) = &self.script {
            // -n: there are none of pgbench's own tables to be vacuumed.
            command.arg("-n").arg("-f").arg(script);
        }
        if self.latency.is_some() {
            // The log lies where the process stands.
            command.arg("-l").current_dir(folder);
        }
        let printed = server.run(command, name, progress).await?;
        let run = output::summary(&printed, self.clients)
            .with_context(|| format!("failed to read what pgbench printed: {printed:?}"))?;
        if run.transactions == 0 {
            bail!(Fault::Refused("pgbench finished no transaction; PostgreSQL's log may say why".to_owned()));
        }
        if let Some(latency) = &mut self.latency {
            for log in output::take_logs(folder)? {
                output::log_latencies_us(&log).for_each(|us| latency.saturating_record(us));
            }
        }
        Ok(run)
    }
}

async fn facts(server: &Server) -> anyhow::Result<Facts> {
    let settings = ["server_version", "fsync", "synchronous_commit"];
    let select = settings.map(|name| format!("current_setting('{name}')")).join(", ");
    let row = server.query(&format!("SELECT {select}")).await?;
    let mut cells = row.split('|').map(str::to_owned);
    match (cells.next(), cells.next(), cells.next()) {
        (Some(server_version), Some(fsync), Some(synchronous_commit)) => {
            Ok(Facts { server_version, fsync: fsync == "on", synchronous_commit })
        }
        _ => bail!("failed to read PostgreSQL's settings from {row:?}"),
    }
}

/// Makes what is not there.
async fn prepare(server: &Server, scale: u32, progress: &Progress) -> anyhow::Result<()> {
    // To create it if it is not there asks for the right to create one even where it is.
    if server.query(&format!("SELECT to_regnamespace('{SCHEMA}') IS NOT NULL")).await? != "t" {
        server.query(&format!("CREATE SCHEMA {SCHEMA}")).await?;
    }
    // The last thing that pgbench makes: a run that was killed before left less.
    let is_whole = format!("SELECT to_regclass('{SCHEMA}.pgbench_accounts_pkey') IS NOT NULL");
    let branches = format!("SELECT count(*) FROM {SCHEMA}.pgbench_branches");
    let is_ready = server.query(&is_whole).await? == "t"
        && server.query(&branches).await?.parse::<u32>().is_ok_and(|count| count == scale);
    if !is_ready {
        let mut command = server.pgbench();
        command.args(["-i", "-q", "-s", &scale.to_string()]);
        server.run(command, &format!("pgbench, making its tables at scale {scale}"), progress).await?;
    }
    server.query(TABLES).await?;
    Ok(())
}
