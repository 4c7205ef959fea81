//! `esamsat deposit`: money that partners paid in.

use super::{Operator, amount, username};
use crate::{
    config::{Config, Place},
    gateway,
    output::{self, line, rupiah},
};
use clap::Subcommand;
use domain::{Account, Rupiah, Username};
use serde_json::json;

/// The commands.
#[derive(Subcommand)]
pub enum Command {
    /// Credit a partner's deposit, once per reference.
    Add {
        /// Log-in name
        #[arg(value_parser = username)]
        username: Username,
        /// Rupiah
        #[arg(value_parser = amount)]
        amount: Rupiah,
        /// The incoming transfer's reference; the same one again, in whatever case, books nothing
        #[arg(long)]
        reference: String,
        #[command(flatten)]
        operator: Operator,
    },
}

/// Runs one.
pub async fn run(place: &Place, command: Command) -> anyhow::Result<()> {
    let config = Config::load(place)?;
    let operations = gateway::operations(&config).await?;
    let Command::Add { username, amount, reference, operator } = command;
    let partner = operations.partner(&username).await?;
    let done = operations.top_up(&partner, amount, &reference, &operator.operator).await?;
    let deposit = -operations.store().balance(Account::deposit(partner.environment, partner.id)).await?;
    if place.json {
        output::json(&json!({
            "entry": done.entry.number,
            "repeated": done.repeated,
            "amount_rupiah": done.entry.amount,
            "deposit_rupiah": deposit,
        }));
    } else if done.repeated {
        line(format!(
            "Reference {} was booked before, as entry {}; nothing was booked now. Deposit: Rp {}.",
            done.entry.reference,
            done.entry.number,
            rupiah(deposit)
        ));
    } else {
        line(format!(
            "Entry {}: Rp {} credited to {username}. Deposit: Rp {}.",
            done.entry.number,
            rupiah(amount),
            rupiah(deposit)
        ));
    }
    Ok(())
}
