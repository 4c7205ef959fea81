//! `esamsat verify`: exit code 1, and the place, when something is off.

use crate::{
    config::{Config, Place},
    gateway,
    output::{self, line},
};
use engine::verify::Report;
use std::process::ExitCode;

/// Checks everything as of one moment.
pub async fn run(place: &Place) -> anyhow::Result<ExitCode> {
    let config = Config::load(place)?;
    let report = check(&config).await?;
    if place.json {
        output::json(&report);
    } else {
        print(&config, &report);
    }
    Ok(if report.is_clean() { ExitCode::SUCCESS } else { ExitCode::from(1) })
}

/// Checks the configured database.
pub async fn check(config: &Config) -> anyhow::Result<Report> {
    let store = gateway::open_store(config).await?;
    Ok(engine::verify::verify(store.as_ref()).await?)
}

/// For people.
pub fn print(config: &Config, report: &Report) {
    let checked = &report.checked;
    line(format!("{}, checked as of one moment:", config.store_at()));
    line(format!("  {} postings in {} steps: must sum to zero in each", checked.postings, checked.steps));
    line(format!("  {} accounts: each balance must be the sum of its postings", checked.accounts));
    line(format!("  all balances together: Rp {} (must be 0)", checked.sum_of_balances));
    for (state, count) in &checked.invoices {
        line(format!("  {count} in {state}: postings, claims and events must be those of the state"));
    }
    line(format!(
        "  {} manual entries, {} claims, {} events",
        checked.entries, checked.claims, checked.events
    ));
    if report.is_clean() {
        line("Everything holds.");
        return;
    }
    line("");
    line(format!("{} problems:", report.problem_count));
    for problem in &report.problems {
        line(format!("  {problem}"));
    }
}
