//! `esamsat partner`: who may call, and on what terms.

use super::{EnvironmentName, amount, username};
use crate::{
    config::{Config, Place},
    gateway,
    output::{self, Fault, Table, rupiah},
};
use anyhow::Context;
use clap::{Args, Subcommand};
use domain::{
    Account, AgentCode, Partner, PartnerStatus, Rupiah, Secret, Username,
    command::{AddPartner, PartnerChange},
};
use engine::{Ids, operate::Operations};
use serde_json::json;
use std::io::Read;

/// The commands.
#[derive(Subcommand)]
pub enum Command {
    /// Register a partner.
    Add(Add),
    /// List all partners with their balances.
    List,
    /// Show one partner.
    Show {
        /// Log-in name
        #[arg(value_parser = username)]
        username: Username,
    },
    /// Refuse all calls of a partner; what is under way is still settled.
    Suspend {
        /// Log-in name
        #[arg(value_parser = username)]
        username: Username,
    },
    /// Accept a suspended partner's calls again.
    Resume {
        /// Log-in name
        #[arg(value_parser = username)]
        username: Username,
    },
    /// Give a partner a new password.
    Password {
        /// Log-in name
        #[arg(value_parser = username)]
        username: Username,
        #[command(flatten)]
        password: Password,
    },
    /// Set the networks that a partner may call from; none means any.
    Allow {
        /// Log-in name
        #[arg(value_parser = username)]
        username: Username,
        /// Networks (192.0.2.0/24) or single addresses
        networks: Vec<String>,
    },
    /// Set how far below zero a partner's deposit may go.
    Credit {
        /// Log-in name
        #[arg(value_parser = username)]
        username: Username,
        /// Rupiah
        #[arg(value_parser = amount)]
        limit: Rupiah,
    },
}

/// A new partner.
#[derive(Args)]
pub struct Add {
    /// Log-in name
    #[arg(value_parser = username)]
    username: Username,
    /// The business's name
    #[arg(long)]
    name: String,
    /// Agent code (kodeagen), such as JKT-00001
    #[arg(long, value_name = "CODE")]
    agent: String,
    /// Real or play money
    #[arg(long, value_enum, default_value_t = EnvironmentName::Sandbox)]
    environment: EnvironmentName,
    /// How far below zero the deposit may go, in Rupiah
    #[arg(long, value_parser = amount, default_value = "0")]
    credit_limit: Rupiah,
    /// A network that may call; may be given more than once; none means any
    #[arg(long, value_name = "CIDR")]
    allow: Vec<String>,
    #[command(flatten)]
    password: Password,
}

/// Where a password comes from; never the command line, where others can see it.
// Without a group, whose name would be that of the command's own.
#[derive(Args)]
#[group(skip)]
pub struct Password {
    /// Read the password from standard input instead of making one up
    #[arg(long)]
    password_stdin: bool,
}

impl Password {
    /// The password, and whether it was made up and must be shown.
    fn get(&self, ids: &Ids) -> anyhow::Result<(Secret, bool)> {
        if !self.password_stdin {
            const LETTERS: &[u8; 32] = b"abcdefghijkmnpqrstuvwxyz23456789";
            let password: String =
                ids.bytes::<20>().iter().map(|b| char::from(LETTERS[usize::from(b % 32)])).collect();
            return Ok((Secret::new(password), true));
        }
        let mut text = String::new();
        std::io::stdin().take(1_000).read_to_string(&mut text).context("failed to read the password")?;
        let password = text.trim_end_matches(['\r', '\n']);
        let length = password.chars().count();
        if !(8..=domain::limits::password_chars_max).contains(&length) {
            let max = domain::limits::password_chars_max;
            let text = format!("the password has {length} characters; it must have 8 to {max}");
            return Err(Fault::Usage(text).into());
        }
        Ok((Secret::new(password), false))
    }
}

/// Runs one.
pub async fn run(place: &Place, command: Command) -> anyhow::Result<()> {
    let config = Config::load(place)?;
    let operations = gateway::operations(&config).await?;
    let json = place.json;
    match command {
        Command::Add(add) => register(&operations, add, json).await,
        Command::List => list(&operations, json).await,
        Command::Show { username } => show(&operations, &username, json).await,
        Command::Suspend { username } => {
            change(
                &operations,
                &username,
                PartnerChange::Status(PartnerStatus::Suspended),
                "is suspended",
                json,
            )
            .await
        }
        Command::Resume { username } => {
            change(&operations, &username, PartnerChange::Status(PartnerStatus::Active), "is active", json)
                .await
        }
        Command::Password { username, password } => {
            let ids = Ids::from_system();
            let (password, made_up) = password.get(&ids)?;
            let hash = engine::hash_password(&password, &ids);
            let partner = operations.partner(&username).await?;
            operations.change_partner(partner.id, PartnerChange::PasswordHash(hash)).await?;
            let facts = json!({ "username": username, "password": made_up.then(|| password.expose()) });
            let sentence = format!("Partner {username} has a new password.{}", shown(&password, made_up));
            output::done(json, sentence, &facts);
            Ok(())
        }
        Command::Allow { username, networks } => {
            let networks = networks_of(&networks)?;
            let done = if networks.is_empty() {
                "may call from anywhere".to_owned()
            } else {
                format!("may call from {}", networks.join(", "))
            };
            change(&operations, &username, PartnerChange::AllowedNetworks(networks), &done, json).await
        }
        Command::Credit { username, limit } => {
            let done = format!("may go Rp {} below zero", rupiah(limit));
            change(&operations, &username, PartnerChange::CreditLimit(limit), &done, json).await
        }
    }
}

fn networks_of(texts: &[String]) -> anyhow::Result<Vec<String>> {
    engine::parse_networks(texts.iter().map(String::as_str)).map_err(|text| {
        Fault::Usage(format!("{text:?} is no network; write 192.0.2.0/24 or a single address")).into()
    })
}

async fn register(operations: &Operations, add: Add, json: bool) -> anyhow::Result<()> {
    let ids = Ids::from_system();
    let agent_code = AgentCode::parse(&add.agent).ok_or_else(|| {
        Fault::Usage(format!("{:?} is no agent code; it has 1 to 20 letters, digits and dashes", add.agent))
    })?;
    let allowed_networks = networks_of(&add.allow)?;
    let (password, made_up) = add.password.get(&ids)?;
    let id = operations
        .add_partner(AddPartner {
            environment: add.environment.into(),
            username: add.username.clone(),
            name: add.name,
            agent_code,
            credit_limit: add.credit_limit,
            password_hash: engine::hash_password(&password, &ids),
            allowed_networks,
        })
        .await
        .with_context(|| format!("failed to register {}", add.username))?;
    let sentence =
        format!("Partner {} is registered as number {}.{}", add.username, id.0, shown(&password, made_up));
    let facts = json!({
        "number": id, "username": add.username, "password": made_up.then(|| password.expose()),
    });
    output::done(json, sentence, &facts);
    Ok(())
}

/// A password that was made up is shown once; one that was given is known.
fn shown(password: &Secret, made_up: bool) -> String {
    if made_up { format!("\nPassword, shown only now: {}", password.expose()) } else { String::new() }
}

async fn change(
    operations: &Operations,
    username: &Username,
    change: PartnerChange,
    done: &str,
    json: bool,
) -> anyhow::Result<()> {
    let partner = operations.partner(username).await?;
    operations.change_partner(partner.id, change).await?;
    let changed = operations.partner(username).await?;
    output::done(json, format!("Partner {username} {done}."), &as_json(operations, &changed).await?);
    Ok(())
}

async fn balances(operations: &Operations, partner: &Partner) -> anyhow::Result<(Rupiah, Rupiah)> {
    let store = operations.store();
    let deposit = store.balance(Account::deposit(partner.environment, partner.id)).await?;
    let reserved = store.balance(Account::reserved(partner.environment, partner.id)).await?;
    Ok((-deposit, -reserved))
}

fn status_word(partner: &Partner) -> &'static str {
    match partner.status {
        PartnerStatus::Active => "active",
        PartnerStatus::Suspended => "suspended",
    }
}

async fn as_json(operations: &Operations, partner: &Partner) -> anyhow::Result<serde_json::Value> {
    let (deposit, reserved) = balances(operations, partner).await?;
    Ok(json!({
        "number": partner.id,
        "environment": partner.environment,
        "username": partner.username,
        "name": partner.name,
        "agent_code": partner.agent_code,
        "status": partner.status,
        "deposit_rupiah": deposit,
        "reserved_rupiah": reserved,
        "credit_limit_rupiah": partner.credit_limit,
        "allowed_networks": partner.allowed_networks,
    }))
}

async fn list(operations: &Operations, json: bool) -> anyhow::Result<()> {
    let partners = operations.store().partners().await?;
    if json {
        let mut rows = Vec::new();
        for partner in &partners {
            rows.push(as_json(operations, partner).await?);
        }
        output::json(&rows);
        return Ok(());
    }
    let mut table = Table::new(&[
        ">No",
        "Username",
        "Name",
        "Agent",
        "Environment",
        "Status",
        ">Deposit Rp",
        ">Reserved Rp",
    ]);
    for partner in &partners {
        let (deposit, reserved) = balances(operations, partner).await?;
        table.row([
            partner.id.0.to_string(),
            partner.username.to_string(),
            partner.name.clone(),
            partner.agent_code.to_string(),
            partner.environment.name().to_owned(),
            status_word(partner).to_owned(),
            rupiah(deposit),
            rupiah(reserved),
        ]);
    }
    table.print("There are no partners; add one with `esamsat partner add`.");
    Ok(())
}

async fn show(operations: &Operations, username: &Username, json: bool) -> anyhow::Result<()> {
    let partner = operations.partner(username).await?;
    if json {
        output::json(&as_json(operations, &partner).await?);
        return Ok(());
    }
    let (deposit, reserved) = balances(operations, &partner).await?;
    let networks = if partner.allowed_networks.is_empty() {
        "any address".to_owned()
    } else {
        partner.allowed_networks.join(", ")
    };
    let mut table = Table::new(&["Partner", partner.username.as_str()]);
    table.row(["number", &partner.id.0.to_string()]);
    table.row(["name", &partner.name]);
    table.row(["agent code", partner.agent_code.as_str()]);
    table.row(["environment", partner.environment.name()]);
    table.row(["status", status_word(&partner)]);
    table.row(["deposit", &format!("Rp {}", rupiah(deposit))]);
    table.row(["reserved", &format!("Rp {}", rupiah(reserved))]);
    table.row(["credit limit", &format!("Rp {}", rupiah(partner.credit_limit))]);
    table.row(["may call from", &networks]);
    table.print("");
    Ok(())
}
