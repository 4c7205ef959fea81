//! `esamsat pending`: payments whose outcome is open. The resolver asks about them by itself; where the
//! bank cannot tell, two operators decide, one after the other.

use super::{Operator, invoice_number, rfc3339, time};
use crate::{
    config::{Config, Place},
    gateway,
    output::{self, Table, line, rupiah},
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
    /// Approve what another operator proposed, by saying it again; this moves the money.
    Approve(Approve),
}

/// A proposal.
#[derive(Args)]
pub struct Resolve {
    /// Invoice number
    #[arg(value_parser = invoice_number)]
    number: InvoiceNumber,
    #[command(flatten)]
    ending: Ending,
    /// What this relies on: the bank's letter, a statement line
    #[arg(long)]
    reference: String,
    /// Why
    #[arg(long)]
    reason: String,
    #[command(flatten)]
    operator: Operator,
}

/// An approval: the second operator says by himself what the bank told, and does not merely agree.
#[derive(Args)]
pub struct Approve {
    /// Invoice number
    #[arg(value_parser = invoice_number)]
    number: InvoiceNumber,
    #[command(flatten)]
    ending: Ending,
    #[command(flatten)]
    operator: Operator,
}

/// How the payment ends, as both operators say it.
#[derive(Args)]
pub struct Ending {
    #[command(flatten)]
    outcome: Outcome,
    /// The bank's reference number of the payment
    #[arg(long, requires = "paid", required_if_eq("paid", "true"))]
    reference_number: Option<String>,
    /// The bank's trace number of the payment: six digits
    #[arg(long, requires = "paid", required_if_eq("paid", "true"))]
    trace_number: Option<String>,
}

impl Ending {
    fn resolution(self) -> anyhow::Result<Resolution> {
        match (self.outcome.paid, self.reference_number, self.trace_number) {
            (true, Some(reference_number), Some(trace_number)) => {
                // Space that came along with a copied number is nobody's meaning.
                let [reference_number, trace_number] =
                    [reference_number, trace_number].map(|number| number.trim().to_owned());
                Ok(Resolution::Paid { receipt: BankReceipt { reference_number, trace_number } })
            }
            (true, _, _) => anyhow::bail!("--paid needs the bank's --reference-number and --trace-number"),
            (false, _, _) => Ok(Resolution::NotPaid),
        }
    }
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
    let operations = gateway::operations(&config).await?;
    match command {
        Command::List => list(&operations, place.json).await,
        Command::Resolve(resolve) => propose(&operations, resolve, place.json).await,
        Command::Approve(approve) => settle(&operations, approve, place.json).await,
    }
}

async fn propose(operations: &Operations, resolve: Resolve, json: bool) -> anyhow::Result<()> {
    let resolution = resolve.ending.resolution()?;
    let (word, flags) = (word(&resolution), flags(&resolution));
    operations
        .propose(
            resolve.number,
            resolution,
            (&resolve.operator.operator, &resolve.reference, &resolve.reason),
        )
        .await?;
    let sentence = format!(
        "Proposed for invoice {0}: {word}. Nothing has moved yet; another operator approves with\n\
         esamsat pending approve {0} {flags} --operator NAME",
        resolve.number
    );
    output::done(json, sentence, &json!({ "number": resolve.number.to_string(), "proposed": word }));
    Ok(())
}

async fn settle(operations: &Operations, approve: Approve, json: bool) -> anyhow::Result<()> {
    let resolution = approve.ending.resolution()?;
    let invoice = operations.approve(approve.number, resolution, &approve.operator.operator).await?;
    let sentence =
        format!("Invoice {} is {} over Rp {}.", approve.number, invoice.state.word(), rupiah(invoice.total));
    output::done(json, sentence, &super::invoice::as_json(&invoice));
    Ok(())
}

/// `paid` or `not paid`.
pub fn word(resolution: &Resolution) -> &'static str {
    match resolution {
        Resolution::Paid { .. } => "paid",
        Resolution::NotPaid => "not paid",
    }
}

fn receipt(resolution: &Resolution) -> Option<&BankReceipt> {
    match resolution {
        Resolution::Paid { receipt } => Some(receipt),
        Resolution::NotPaid => None,
    }
}

/// The flags that say this resolution.
fn flags(resolution: &Resolution) -> String {
    let Some(receipt) = receipt(resolution) else { return "--not-paid".to_owned() };
    let reference_number = &receipt.reference_number;
    // Quoted for a shell where that is needed.
    let is_plain = reference_number.chars().all(|c| c.is_ascii_alphanumeric());
    let reference_number = if is_plain {
        reference_number.clone()
    } else {
        format!("'{}'", reference_number.replace('\'', r"'\''"))
    };
    format!("--paid --reference-number {reference_number} --trace-number {}", receipt.trace_number)
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
                        "outcome": word(&p.resolution),
                        "reference_number": receipt(&p.resolution).map(|r| &r.reference_number),
                        "trace_number": receipt(&p.resolution).map(|r| &r.trace_number),
                        "operator": p.operator, "reference": p.reference, "reason": p.reason,
                        "at": rfc3339(p.at),
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
    for proposal in open.iter().filter_map(proposed) {
        line(format!(
            "\nProposed for invoice {} by {} at {} WIB: {}",
            proposal.invoice,
            proposal.operator,
            time(proposal.at),
            word(&proposal.resolution)
        ));
        if let Some(receipt) = receipt(&proposal.resolution) {
            line(format!("  reference number  {}", receipt.reference_number));
            line(format!("  trace number      {}", receipt.trace_number));
        }
        line(format!("  relies on         {}", proposal.reference));
        line(format!("  reason            {}", proposal.reason));
    }
    Ok(())
}
