//! `esamsat ledger`: balances, postings and manual entries; and the journal for another program.

mod export;
mod owners;

use self::owners::{Owner, Owners};
use super::{invoice_number, rfc3339, time, username};
use crate::{
    config::{Config, Place},
    gateway,
    output::{self, Table, rupiah},
};
use clap::{Args, Subcommand};
use domain::{Account, InvoiceNumber, Posting, Rupiah, Slot, Username};
use engine::operate::Operations;
use serde_json::json;
use std::collections::BTreeMap;

/// The commands.
#[derive(Subcommand)]
pub enum Command {
    /// All balances. Deposits and income are negative: the gateway owes or has earned them.
    Balances,
    /// Postings of a partner's deposit, of an invoice, or the manual entries.
    Entries(Entries),
    /// The whole journal, for a program that keeps books. As of one moment, beside a running gateway.
    Export(export::Export),
}

/// Which entries; none named means the manual ones.
#[derive(Args)]
pub struct Entries {
    /// Postings of this partner's deposit
    #[arg(long, value_parser = username, value_name = "USERNAME", conflicts_with = "invoice")]
    partner: Option<Username>,
    /// Postings of this invoice
    #[arg(long, value_parser = invoice_number, value_name = "NUMBER")]
    invoice: Option<InvoiceNumber>,
    /// How many at most
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    limit: u32,
}

/// Runs one.
pub async fn run(place: &Place, command: Command) -> anyhow::Result<()> {
    let config = Config::load(place)?;
    let operations = gateway::operations(&config).await?;
    match command {
        Command::Balances => balances(&operations, place.json).await,
        Command::Entries(entries) => self::entries(&operations, entries, place.json).await,
        Command::Export(export) => export::run(place, &operations, export).await,
    }
}

async fn balances(operations: &Operations, json: bool) -> anyhow::Result<()> {
    // House accounts are shared among writers; what counts is their sum.
    let mut summed: BTreeMap<Account, Rupiah> = BTreeMap::new();
    for (account, balance) in operations.store().balances().await? {
        *summed.entry(Account { slot: Slot(0), ..account }).or_default() += balance;
    }
    let total: Rupiah = summed.values().copied().sum();
    let owners = Owners::read(operations.store().as_ref()).await?;
    let owner = |account: &Account| match owners.of(*account) {
        Owner::Named(name) => name.to_owned(),
        Owner::House | Owner::Unknown => String::new(),
    };
    if json {
        let rows: Vec<_> = summed
            .iter()
            .map(|(account, balance)| {
                json!({
                    "environment": account.environment,
                    "account": account.kind,
                    "owner": owner(account),
                    "balance_rupiah": balance,
                })
            })
            .collect();
        output::json(&json!({ "balances": rows, "sum_rupiah": total }));
        return Ok(());
    }
    let mut table = Table::new(&["Environment", "Account", "Owner", ">Balance Rp"]);
    for (account, balance) in &summed {
        table.row([
            account.environment.name().to_owned(),
            account.kind.name().replace('_', " "),
            owner(account),
            rupiah(*balance),
        ]);
    }
    if !summed.is_empty() {
        table.row(["", "sum of all", "", &rupiah(total)]);
    }
    table.print("Nothing is booked yet.");
    Ok(())
}

/// Postings for people.
pub fn postings_table(postings: &[Posting]) -> Table {
    let mut table = Table::new(&["Booked (WIB)", ">Subject", "Step", "Account", ">Amount Rp"]);
    for posting in postings {
        table.row([
            time(posting.at),
            posting.subject.to_string(),
            format!("{:?}", posting.step).to_lowercase(),
            posting.account.to_string(),
            rupiah(posting.amount),
        ]);
    }
    table
}

async fn entries(operations: &Operations, entries: Entries, json: bool) -> anyhow::Result<()> {
    let store = operations.store();
    let postings = if let Some(number) = entries.invoice {
        Some(store.postings(number.get()).await?)
    } else if let Some(username) = &entries.partner {
        let partner = operations.partner(username).await?;
        let deposit = Account::deposit(partner.environment, partner.id);
        Some(store.account_postings(deposit, i64::MAX, entries.limit).await?)
    } else {
        None
    };
    if let Some(postings) = postings {
        if json {
            let rows: Vec<_> = postings
                .iter()
                .map(|p| {
                    json!({
                        "subject": p.subject, "step": p.step, "account": p.account.to_string(),
                        "amount_rupiah": p.amount, "at": rfc3339(p.at),
                    })
                })
                .collect();
            output::json(&rows);
        } else {
            postings_table(&postings).print("No postings.");
        }
        return Ok(());
    }
    let manual = store.entries(i64::MAX, entries.limit).await?;
    if json {
        let rows: Vec<_> = manual
            .iter()
            .map(|entry| {
                json!({
                    "number": entry.number, "kind": entry.kind, "environment": entry.environment,
                    "partner": entry.partner, "amount_rupiah": entry.amount, "operator": entry.operator,
                    "reference": entry.reference, "at": rfc3339(entry.at),
                })
            })
            .collect();
        output::json(&rows);
        return Ok(());
    }
    let mut table =
        Table::new(&[">Entry", "Booked (WIB)", "Kind", ">Partner", ">Amount Rp", "Reference", "Operator"]);
    for entry in manual {
        table.row([
            entry.number.to_string(),
            time(entry.at),
            entry.kind.name().replace('_', " "),
            entry.partner.0.to_string(),
            rupiah(entry.amount),
            entry.reference.clone(),
            entry.operator.clone(),
        ]);
    }
    table.print("There are no manual entries.");
    Ok(())
}
