//! `esamsat pending`: payments whose outcome is open. The resolver asks about them by itself; where the
//! bank cannot tell, two operators decide, one after the other.

use super::{Operator, invoice_number, rfc3339, time};
use crate::{
    config::{Config, Place},
    gateway,
    output::{self, Table, rupiah},
};
use clap::{Args, Subcommand};
use domain::{Invoice, InvoiceNumber, Timestamp, invoice::BankReceipt, record::Resolution};
use engine::operate::Operations;
use serde_json::json;

/// The commands.
#[derive(Subcommand)]
pub enum Command {
    /// List open payments, and what is proposed about them.
    List,
    /// Propose how an open payment ends; a second operator approves.
    Resolve(Resolve),
    /// Approve what another operator proposed; this moves the money.
    Approve {
        /// Invoice number
        #[arg(value_parser = invoice_number)]
        number: InvoiceNumber,
        #[command(flatten)]
        operator: Operator,
    },
}

/// A proposal.
#[derive(Args)]
pub struct Resolve {
    /// Invoice number
    #[arg(value_parser = invoice_number)]
    number: InvoiceNumber,
    #[command(flatten)]
    outcome: Outcome,
    /// The bank's reference number of the payment
    #[arg(long, requires = "paid", required_if_eq("paid", "true"))]
    reference_number: Option<String>,
    /// The bank's trace number of the payment: six digits
    #[arg(long, requires = "paid", required_if_eq("paid", "true"))]
    trace_number: Option<String>,
    /// What this relies on: the bank's letter, a statement line
    #[arg(long)]
    reference: String,
    /// Why
    #[arg(long)]
    reason: String,
    #[command(flatten)]
    operator: Operator,
}

/// One or the other.
#[derive(Args)]
#[group(required = true, multiple = false)]
pub struct Outcome {
    /// The bank took the payment
    #[arg(long)]
    paid: bool,
    /// The bank did not take the payment
    #[arg(long)]
    not_paid: bool,
}

/// Runs one.
pub async fn run(place: &Place, command: Command) -> anyhow::Result<()> {
    let config = Config::load(place)?;
    let operations = gateway::operations(&config)?;
    match command {
        Command::List => list(&operations, place.json).await,
        Command::Resolve(resolve) => propose(&operations, resolve, place.json).await,
        Command::Approve { number, operator } => {
            let invoice = operations.approve(number, &operator.operator).await?;
            let sentence =
                format!("Invoice {number} is {} over Rp {}.", invoice.state.word(), rupiah(invoice.total));
            output::done(place.json, sentence, &super::invoice::as_json(&invoice));
            Ok(())
        }
    }
}

async fn propose(operations: &Operations, resolve: Resolve, json: bool) -> anyhow::Result<()> {
    let resolution = match (resolve.outcome.paid, resolve.reference_number, resolve.trace_number) {
        (true, Some(reference_number), Some(trace_number)) => {
            Resolution::Paid { receipt: BankReceipt { reference_number, trace_number } }
        }
        (true, _, _) => anyhow::bail!("--paid needs the bank's --reference-number and --trace-number"),
        (false, _, _) => Resolution::NotPaid,
    };
    let word = if resolve.outcome.paid { "paid" } else { "not paid" };
    operations
        .propose(
            resolve.number,
            resolution,
            (&resolve.operator.operator, &resolve.reference, &resolve.reason),
        )
        .await?;
    let sentence = format!(
        "Proposed for invoice {0}: {word}. Nothing has moved yet; another operator approves with\n\
         esamsat pending approve {0} --operator NAME",
        resolve.number
    );
    output::done(json, sentence, &json!({ "number": resolve.number.to_string(), "proposed": word }));
    Ok(())
}

async fn all_pending(operations: &Operations) -> anyhow::Result<Vec<Invoice>> {
    let mut open: Vec<Invoice> = Vec::new();
    loop {
        let after = open.last().map_or(InvoiceNumber::new(0), |invoice| invoice.number);
        let page = operations.store().pending(after, 1_000).await?;
        if page.is_empty() {
            return Ok(open);
        }
        open.extend(page);
    }
}

async fn list(operations: &Operations, json: bool) -> anyhow::Result<()> {
    let open = all_pending(operations).await?;
    let proposals = operations.store().proposals().await?;
    let proposed = |invoice: &Invoice| proposals.iter().find(|proposal| proposal.invoice == invoice.number);
    let word = |resolution: &Resolution| match resolution {
        Resolution::Paid { .. } => "paid",
        Resolution::NotPaid => "not paid",
    };
    let begun_at = |invoice: &Invoice| invoice.state.attempt().map_or(Timestamp::default(), |a| a.begun_at);
    if json {
        let rows: Vec<_> = open
            .iter()
            .map(|invoice| {
                json!({
                    "number": invoice.number.to_string(),
                    "partner": invoice.partner,
                    "product": invoice.product,
                    "total_rupiah": invoice.total,
                    "begun_at": rfc3339(begun_at(invoice)),
                    "proposal": proposed(invoice).map(|p| json!({
                        "outcome": word(&p.resolution), "operator": p.operator, "reference": p.reference,
                        "reason": p.reason, "at": rfc3339(p.at),
                    })),
                })
            })
            .collect();
        output::json(&rows);
        return Ok(());
    }
    let mut table =
        Table::new(&["Invoice", "Reserved (WIB)", ">Partner", "Product", ">Total Rp", "Proposed"]);
    for invoice in &open {
        table.row([
            invoice.number.to_string(),
            time(begun_at(invoice)),
            invoice.partner.0.to_string(),
            invoice.product.to_string(),
            rupiah(invoice.total),
            proposed(invoice)
                .map_or_else(String::new, |p| format!("{} by {}", word(&p.resolution), p.operator)),
        ]);
    }
    table.print("No payment is open.");
    Ok(())
}
