//! `esamsat incident`: what needs an operator's eye.

use super::{Operator, invoice_number, rfc3339, time};
use crate::{
    config::{Config, Place},
    gateway,
    output::{self, Table},
};
use clap::Subcommand;
use domain::{InvoiceNumber, record::IncidentKind};
use serde_json::json;

/// The commands.
#[derive(Subcommand)]
pub enum Command {
    /// List incidents, the last seen first.
    List {
        /// How many at most
        #[arg(long, default_value_t = 50)]
        limit: u32,
    },
    /// Write off a contradiction (`paid_after_refund`, `not_paid_after_confirm`) against dispute loss.
    Correct {
        /// Invoice number
        #[arg(value_parser = invoice_number)]
        number: InvoiceNumber,
        /// Which contradiction
        #[arg(value_parser = kind)]
        kind: IncidentKind,
        /// What this relies on
        #[arg(long)]
        reference: String,
        #[command(flatten)]
        operator: Operator,
    },
}

fn kind(text: &str) -> Result<IncidentKind, String> {
    match IncidentKind::from_name(text) {
        Some(kind @ (IncidentKind::PaidAfterRefund | IncidentKind::NotPaidAfterConfirm)) => Ok(kind),
        _ => Err("only paid_after_refund and not_paid_after_confirm can be corrected".to_owned()),
    }
}

/// Runs one.
pub async fn run(place: &Place, command: Command) -> anyhow::Result<()> {
    let config = Config::load(place)?;
    let operations = gateway::operations(&config).await?;
    let limit = match command {
        Command::List { limit } => limit,
        Command::Correct { number, kind, reference, operator } => {
            let entry = operations.correct_incident(number, kind, &operator.operator, &reference).await?;
            let sentence =
                format!("Entry {entry} corrects {} of invoice {number}; its state stays.", kind.name());
            let facts = json!({ "entry": entry, "invoice": number.to_string(), "kind": kind });
            output::done(place.json, sentence, &facts);
            return Ok(());
        }
    };
    let incidents = operations.store().incidents(limit).await?;
    if place.json {
        let rows: Vec<_> = incidents
            .iter()
            .map(|incident| {
                json!({
                    "invoice": incident.invoice.map(|number| number.to_string()),
                    "kind": incident.kind,
                    "detail": incident.detail,
                    "count": incident.count,
                    "first_at": rfc3339(incident.first_at),
                    "last_at": rfc3339(incident.last_at),
                    "corrected_by": incident.corrected_by,
                })
            })
            .collect();
        output::json(&rows);
        return Ok(());
    }
    let mut table = Table::new(&["Last seen (WIB)", ">Times", "Invoice", "Kind", "Detail", "Corrected"]);
    for incident in incidents {
        table.row([
            time(incident.last_at),
            incident.count.to_string(),
            incident.invoice.map_or_else(|| "–".to_owned(), |number| number.to_string()),
            incident.kind.name().to_owned(),
            incident.detail,
            incident.corrected_by.map_or_else(String::new, |entry| format!("entry {entry}")),
        ]);
    }
    table.print("No incidents.");
    Ok(())
}
