//! `esamsat invoice`: inquiries and payments.

use super::{invoice_number, no_invoice, rfc3339, time, username};
use crate::{
    config::{Config, Place},
    gateway,
    output::{self, Table, rupiah},
};
use clap::{Args, Subcommand};
use domain::{BusinessDate, Invoice, InvoiceNumber, NotPaidProof, State, Username, invoice::Presentment};
use engine::operate::Operations;
use serde_json::{Value, json};
use store::{InvoiceFilter, StoredInvoice};

/// The commands.
#[derive(Subcommand)]
pub enum Command {
    /// Show one invoice with its bill, its payment and its postings.
    Show {
        /// Invoice number
        #[arg(value_parser = invoice_number)]
        number: InvoiceNumber,
        /// Show the owner's KTP number, name and address in full
        #[arg(long)]
        reveal: bool,
    },
    /// List invoices, newest first.
    List(List),
}

/// Which invoices.
#[derive(Args)]
pub struct List {
    /// Only this partner's
    #[arg(long, value_parser = username, value_name = "USERNAME")]
    partner: Option<Username>,
    /// Only in this state
    #[arg(long, value_parser = ["INQUIRY", "PENDING", "CONFIRM", "REFUND", "FAILURE"], ignore_case = true)]
    state: Option<String>,
    /// Only inquired on this day (2026-01-31)
    #[arg(long, value_parser = date)]
    date: Option<BusinessDate>,
    /// Only numbers below this one: for the next page
    #[arg(long, value_parser = invoice_number, value_name = "NUMBER")]
    before: Option<InvoiceNumber>,
    /// How many at most
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    limit: u32,
}

fn date(text: &str) -> Result<BusinessDate, String> {
    let number: String = text.chars().filter(|c| *c != '-').collect();
    let parsed = number.parse().ok().filter(|_| text.len() == 10).and_then(BusinessDate::from_number);
    parsed.ok_or_else(|| "a day is written 2026-01-31".to_owned())
}

/// Runs one.
pub async fn run(place: &Place, command: Command) -> anyhow::Result<()> {
    let config = Config::load(place)?;
    let operations = gateway::operations(&config).await?;
    match command {
        Command::Show { number, reveal } => show(&operations, number, reveal, place.json).await,
        Command::List(list) => self::list(&operations, list, place.json).await,
    }
}

/// An invoice for scripts: no personal data.
pub fn as_json(invoice: &Invoice) -> Value {
    let attempt = invoice.state.attempt();
    let (mut reference, mut trace, mut settled_at, mut reason, mut proof) = (None, None, None, None, None);
    match &invoice.state {
        State::Confirm { receipt, settled_at: at, .. } => {
            reference = Some(&receipt.reference_number);
            trace = Some(&receipt.trace_number);
            settled_at = Some(rfc3339(*at));
        }
        State::Refund { proof: why, settled_at: at, .. } => {
            settled_at = Some(rfc3339(*at));
            reason = Some(why.refusal());
            proof = Some(why);
        }
        State::Failure { refusal } => reason = Some(refusal.clone()),
        State::Inquiry | State::Pending { .. } => {}
    }
    json!({
        "number": invoice.number.to_string(),
        "environment": invoice.environment,
        "partner": invoice.partner,
        "product": invoice.product,
        "state": invoice.state.word(),
        "structure_number": invoice.chassis,
        "payment_code": invoice.payment_code,
        "total_rupiah": invoice.total,
        "fee_rupiah": invoice.fee,
        "cashback_rupiah": invoice.cashback,
        "inquired_at": rfc3339(invoice.inquired_at),
        "begun_at": attempt.map(|a| rfc3339(a.begun_at)),
        "identity": attempt.map(|a| &a.identity),
        "settled_at": settled_at,
        "reference_number": reference,
        "trace_number": trace,
        "reason": reason,
        "proof": proof,
    })
}

async fn list(operations: &Operations, list: List, json: bool) -> anyhow::Result<()> {
    let partner = match &list.partner {
        Some(username) => Some(operations.partner(username).await?.id),
        None => None,
    };
    let filter = InvoiceFilter {
        partner,
        state: list.state.map(|state| state.to_uppercase()),
        business_date: list.date,
        before: list.before,
        limit: list.limit,
    };
    let invoices = operations.store().invoices(filter).await?;
    if json {
        output::json(&invoices.iter().map(|stored| as_json(&stored.invoice)).collect::<Vec<_>>());
        return Ok(());
    }
    let mut table =
        Table::new(&["Invoice", "Inquired (WIB)", ">Partner", "Product", "Plate", "State", ">Total Rp"]);
    for StoredInvoice { invoice, presentment } in &invoices {
        table.row([
            invoice.number.to_string(),
            time(invoice.inquired_at),
            invoice.partner.0.to_string(),
            invoice.product.to_string(),
            presentment.bill().map_or_else(|| "–".to_owned(), |bill| bill.license_plate.clone()),
            invoice.state.word().to_owned(),
            rupiah(invoice.total),
        ]);
    }
    table.print("No invoice matches.");
    Ok(())
}

fn masked(text: &str, reveal: bool) -> String {
    if reveal {
        return text.to_owned();
    }
    let shown: String = text.chars().take(2).collect();
    format!("{shown}…")
}

fn proof_text(proof: &NotPaidProof) -> String {
    match proof {
        NotPaidProof::NeverSent => "the request never left".to_owned(),
        NotPaidProof::Refused { refusal } => format!("the bank refused: {}", refusal.sentence()),
        NotPaidProof::NotFound { asked_at } => {
            format!("the bank, asked at {}, knows no such payment", time(*asked_at))
        }
        NotPaidProof::PaidByAnother => "the bank says that another payment paid this bill".to_owned(),
        NotPaidProof::Operators { reference } => format!("operators decided: {reference}"),
    }
}

async fn show(
    operations: &Operations,
    number: InvoiceNumber,
    reveal: bool,
    json: bool,
) -> anyhow::Result<()> {
    let stored = operations.store().invoice(number).await?.ok_or_else(|| no_invoice(number))?;
    let postings = operations.store().postings(number.get()).await?;
    let StoredInvoice { invoice, presentment } = &stored;
    if json {
        let mut value = as_json(invoice);
        value["postings"] = postings
            .iter()
            .map(|p| json!({"step": p.step, "account": p.account.to_string(), "amount_rupiah": p.amount, "at": rfc3339(p.at)}))
            .collect();
        value["proposal"] = json!(operations.store().proposal(number).await?);
        if reveal {
            value["customer_number"] = json!(presentment.nik());
            value["customer_name"] = json!(presentment.bill().map(|bill| &bill.owner_name));
            value["customer_address"] = json!(presentment.bill().map(|bill| &bill.owner_address));
        }
        output::json(&value);
        return Ok(());
    }
    let mut table = Table::new(&["Invoice", &number.to_string()]);
    table.row(["state", invoice.state.word()]);
    table.row(["environment", invoice.environment.name()]);
    table.row(["partner", &invoice.partner.0.to_string()]);
    table.row(["product", invoice.product.as_str()]);
    table.row(["inquired", &time(invoice.inquired_at)]);
    table.row(["chassis number", invoice.chassis.as_str()]);
    table.row(["KTP number", &masked(presentment.nik().as_str(), reveal)]);
    if let Presentment::Bill(bill) = presentment {
        table.row(["owner", &masked(bill.owner_name.expose(), reveal)]);
        table.row(["address", &masked(bill.owner_address.expose(), reveal)]);
        table.row(["plate", &bill.license_plate]);
        table.row([
            "vehicle",
            &format!("{} {} ({})", bill.vehicle_brand, bill.vehicle_model, bill.year_built),
        ]);
        table.row(["payment code", bill.payment_code.as_str()]);
        let taxes = &bill.taxes;
        let parts = [
            ("PKB", taxes.pkb),
            ("opsen PKB", taxes.opsen_pkb),
            ("SWDKLLJ", taxes.swdkllj),
            ("BBN", taxes.bbn),
            ("PKB penalty", taxes.pkb_penalty),
            ("opsen PKB penalty", taxes.opsen_pkb_penalty),
            ("SWDKLLJ penalty", taxes.swdkllj_penalty),
            ("BBN penalty", taxes.bbn_penalty),
            ("fee", invoice.fee),
        ];
        for (name, amount) in parts.into_iter().filter(|(_, amount)| *amount != domain::Rupiah::ZERO) {
            table.row([name, &format!("Rp {}", rupiah(amount))]);
        }
        table.row(["total", &format!("Rp {}", rupiah(invoice.total))]);
    }
    if let Some(attempt) = invoice.state.attempt() {
        table.row(["reserved", &time(attempt.begun_at)]);
        table.row(["identity at the bank", &attempt.identity]);
    }
    match &invoice.state {
        State::Failure { refusal } => table.row(["refused", &refusal.sentence()]),
        State::Inquiry => {}
        State::Pending { attempt } => {
            table.row(["\"not found\" counts from", &time(attempt.resolve_after)]);
        }
        State::Confirm { receipt, settled_at, .. } => {
            table.row(["confirmed", &time(*settled_at)]);
            table.row(["reference number", &receipt.reference_number]);
            table.row(["trace number", &receipt.trace_number]);
        }
        State::Refund { proof, settled_at, .. } => {
            table.row(["refunded", &time(*settled_at)]);
            table.row(["proof", &proof_text(proof)]);
        }
    }
    let proposal = operations.store().proposal(number).await?;
    if let Some(proposal) = &proposal {
        let word = super::pending::word(&proposal.resolution);
        let proposed = format!("{word}, by {}, {}", proposal.operator, time(proposal.at));
        table.row(["proposed by hand", &proposed]);
        table.row(["relying on", &format!("{} ({})", proposal.reference, proposal.reason)]);
        let approved = proposal.approved.as_ref().map(|a| format!("by {}, {}", a.operator, time(a.at)));
        table.row(["approved", approved.as_deref().unwrap_or("no")]);
    }
    table.print("");
    if !postings.is_empty() {
        output::line("");
        super::ledger::postings_table(&postings).print("");
    }
    Ok(())
}
