//! What pgbench prints and logs, read by what its lines say and not by where they stand: versions differ.

use crate::bench::tally::float;
use anyhow::Context;
use std::{fs, path::Path};

/// What pgbench says of one run.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Run {
    pub(super) clients: u16,
    pub(super) transactions: u64,
    /// Rolled back for good.
    pub(super) failed: u64,
    /// Without the time to connect.
    pub(super) transactions_per_second: f64,
    pub(super) latency_average_ms: f64,
}

/// Reads the summary that ends a run.
pub(super) fn summary(printed: &str, clients: u16) -> anyhow::Result<Run> {
    let value = |name: &str| {
        let found = printed.lines().find_map(|line| line.trim().strip_prefix(name));
        found.with_context(|| format!("there is no {name:?}"))
    };
    let count = |name: &str| {
        // "123/1000" where a number was wanted, "12 (0.1%)" where a part of all is.
        let digits = value(name)?.trim().split(|c: char| !c.is_ascii_digit()).next().unwrap_or_default();
        digits.parse::<u64>().with_context(|| format!("{name:?} is no number"))
    };
    let transactions = count("number of transactions actually processed:")?;
    // Before PostgreSQL 15 nothing was repeated, and nothing told.
    let failed = count("number of failed transactions:").unwrap_or(0);
    // Before PostgreSQL 14 there are two, the other one with the time to connect.
    let is_without = |line: &&str| {
        ["without initial connection time", "excluding connections establishing"]
            .iter()
            .any(|words| line.contains(words))
    };
    let line = printed.lines().filter(|line| line.trim().starts_with("tps = ")).find(is_without);
    let line = line.context("there is no \"tps\" without the time to connect")?;
    let transactions_per_second = number(line).context("\"tps\" is no number")?;
    let latency_average_ms = match value("latency average") {
        Ok(rest) => number(rest).context("\"latency average\" is no number")?,
        Err(error) if transactions > 0 => return Err(error),
        Err(_) => 0.0,
    };
    Ok(Run { clients, transactions, failed, transactions_per_second, latency_average_ms })
}

/// The number behind the equals sign.
fn number(text: &str) -> Option<f64> {
    let number: f64 = text.split_once('=')?.1.split_whitespace().next()?.parse().ok()?;
    (number.is_finite() && number >= 0.0).then_some(number)
}

/// Reads and removes the logs of single transactions that pgbench left in a folder.
pub(super) fn take_logs(folder: &Path) -> anyhow::Result<Vec<String>> {
    let mut logs = Vec::new();
    for entry in fs::read_dir(folder).context("failed to look for pgbench's logs")? {
        let path = entry.context("failed to look for pgbench's logs")?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if name.starts_with("pgbench_log.") {
            let read = fs::read_to_string(&path).and_then(|log| fs::remove_file(&path).map(|()| log));
            logs.push(read.with_context(|| format!("failed to read pgbench's log {name}"))?);
        }
    }
    Ok(logs)
}

/// The latencies in a log: the third column, in microseconds; a word there is a transaction that failed.
pub(super) fn log_latencies_us(log: &str) -> impl Iterator<Item = u64> {
    log.lines().filter_map(|line| line.split_whitespace().nth(2)?.parse().ok())
}

impl Run {
    /// How long it took, by its own figures.
    pub(super) fn seconds(&self) -> f64 {
        if self.transactions_per_second > 0.0 {
            float(self.transactions) / self.transactions_per_second
        } else {
            0.0
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const VERSION_15: &str = "\
pgbench (15.1 (Debian 15.1-1))
transaction type: <builtin: TPC-B (sort of)>
scaling factor: 50
query mode: prepared
number of clients: 8
number of threads: 2
maximum number of tries: 1
duration: 3 s
number of transactions actually processed: 6310
number of failed transactions: 2 (0.032%)
latency average = 0.314 ms
initial connection time = 13.011 ms
tps = 6370.384878 (without initial connection time)
";

    const VERSION_12: &str = "\
number of transactions actually processed: 100/100
latency average = 1.750 ms
tps = 4400.100000 (including connections establishing)
tps = 4571.000000 (excluding connections establishing)
";

    #[test]
    fn summaries_of_several_versions() {
        let run = |transactions, failed, transactions_per_second, latency_average_ms| Run {
            clients: 8,
            transactions,
            failed,
            transactions_per_second,
            latency_average_ms,
        };
        assert_eq!(summary(VERSION_15, 8).unwrap(), run(6_310, 2, 6_370.384_878, 0.314));
        assert_eq!(summary(VERSION_12, 8).unwrap(), run(100, 0, 4_571.0, 1.75));
        let nothing =
            "number of transactions actually processed: 0\ntps = 0.0 (without initial connection time)";
        assert_eq!(summary(nothing, 8).unwrap(), run(0, 0, 0.0, 0.0));
    }

    #[test]
    fn what_is_no_summary_is_refused() {
        for printed in [
            "",
            "pgbench: error: connection failed",
            &VERSION_15.replace("tps = 6370", "tps = many"),
            &VERSION_15.replace("tps = 6370.384878", "tps = NaN"),
            &VERSION_15.replace("processed: 6310", "processed: -"),
            &VERSION_15.replace("latency average", "lag"),
            &VERSION_12.replace("excluding", "including"),
        ] {
            assert!(summary(printed, 8).is_err(), "{printed}");
        }
    }

    #[test]
    fn a_log_has_latencies_in_its_third_column() {
        let log =
            "0 199 2241 0 1175850568 995598\n0 200 failed 0 1175850568 998079\n0 201 2465 0 1175850569 608\n";
        assert_eq!(log_latencies_us(log).collect::<Vec<_>>(), [2_241, 2_465]);
    }
}
