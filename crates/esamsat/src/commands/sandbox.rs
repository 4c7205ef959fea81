//! `esamsat sandbox`: the simulated Samsat and bank.

use super::{amount, product_code, rfc3339, time};
use crate::{
    config::{Config, Place},
    gateway,
    output::{self, Table, line, rupiah},
};
use anyhow::{Context, ensure};
use bank::simulator::{Simulator, SimulatorSettings, population, scenarios::Finally, test_numbers};
use clap::{Args, Subcommand};
use domain::{AgentCode, Environment, ProductCode, Rupiah, Secret, Username, command::AddPartner};
use engine::{Ids, operate};
use serde_json::json;
use std::sync::Arc;

/// The commands.
#[derive(Subcommand)]
pub enum Command {
    /// List test numbers for every refusal, silence and delay.
    Numbers {
        /// In English instead of Indonesian
        #[arg(long)]
        english: bool,
    },
    /// List vehicles of the generated population.
    Vehicles(Vehicles),
    /// Make the sandbox bills of all simulated banks payable again. Invoices and money stay as they are.
    Reset,
    /// List what the simulated bank took, by its own books.
    Payments,
    /// Register many partners with money, for load tests.
    Partners(Partners),
}

/// Which vehicles.
#[derive(Args)]
pub struct Vehicles {
    /// The first vehicle's number, from 0
    #[arg(long, default_value_t = 0)]
    from: u32,
    /// How many
    #[arg(long, default_value_t = 10)]
    count: u32,
    /// Only of this product
    #[arg(long, value_parser = product_code)]
    product: Option<ProductCode>,
}

/// Which partners.
#[derive(Args)]
pub struct Partners {
    /// How many
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=9_999))]
    count: u32,
    /// What their log-in names begin with; a number of four digits follows
    #[arg(long, default_value = "beban")]
    prefix: String,
    /// The password of all of them
    #[arg(long)]
    password: String,
    /// What each gets, in Rupiah
    #[arg(long, value_parser = amount, default_value = "10000000000")]
    deposit: Rupiah,
}

/// Runs one.
pub async fn run(place: &Place, command: Command) -> anyhow::Result<()> {
    match command {
        Command::Numbers { english } => numbers(english, place.json),
        Command::Vehicles(vehicles) => list_vehicles(place, &vehicles)?,
        Command::Reset => reset(place).await?,
        Command::Payments => payments(place).await?,
        Command::Partners(partners) => register(place, &partners).await?,
    }
    Ok(())
}

fn numbers(english: bool, json: bool) {
    let numbers = test_numbers();
    if json {
        return output::json(&numbers);
    }
    let headings: [&str; 5] = if english {
        ["KTP number", "Chassis number", "Inquiry", "Payment", "Ends as"]
    } else {
        ["Nomor KTP", "Nomor rangka", "Cek tagihan", "Bayar", "Akhirnya"]
    };
    let mut table = Table::new(&headings);
    for number in numbers {
        let text =
            |text: bank::simulator::scenarios::Text| if english { text.english } else { text.indonesian };
        table.row([
            number.customer_number.to_owned(),
            number.structure_number.clone(),
            text(number.at_inquiry).to_owned(),
            number.at_payment.map_or("–", text).to_owned(),
            match number.finally {
                Finally::Failure => "FAILURE",
                Finally::Confirm => "CONFIRM",
                Finally::Refund => "REFUND",
                Finally::Pending => "PENDING",
            }
            .to_owned(),
        ]);
    }
    table.print("");
    line("");
    line(if english {
        "What follows UJI and three digits is free: any 4 to 19 letters and digits make a fresh vehicle."
    } else {
        "Setelah UJI dan tiga angka, isinya bebas: 4 sampai 19 huruf dan angka apa saja menjadi kendaraan baru."
    });
}

fn list_vehicles(place: &Place, vehicles: &Vehicles) -> anyhow::Result<()> {
    let config = Config::load(place)?;
    let (_, settings) = config.simulator();
    ensure!(
        vehicles.from < settings.population,
        "--from is {}; the population has {} vehicles",
        vehicles.from,
        settings.population
    );
    let numbers = (vehicles.from..settings.population)
        .map(|number| (number, population::numbers(number)))
        .filter(|(_, (_, _, product))| vehicles.product.as_ref().is_none_or(|only| only == product))
        .take(usize::try_from(vehicles.count).unwrap_or(usize::MAX));
    if place.json {
        let rows: Vec<_> = numbers
            .map(|(number, (nik, chassis, product))| {
                json!({
                    "number": number, "product": product,
                    "customer_number": nik, "structure_number": chassis,
                })
            })
            .collect();
        output::json(&rows);
        return Ok(());
    }
    let mut table = Table::new(&[">No", "product", "customer_number", "structure_number"]);
    for (number, (nik, chassis, product)) in numbers {
        table.row([number.to_string(), product.to_string(), nik.as_str().to_owned(), chassis.to_string()]);
    }
    table.print("There are no such vehicles.");
    Ok(())
}

/// All simulated banks of the configuration; the demo's if it names none.
fn simulators(config: &Config) -> Vec<(String, SimulatorSettings)> {
    if config.upstream.is_empty() {
        return vec![config.simulator()];
    }
    config.simulators().map(|(name, settings)| (name.clone(), settings.clone())).collect()
}

fn bank(config: &Config) -> anyhow::Result<Arc<Simulator>> {
    let (name, settings) = config.simulator();
    gateway::simulator(config, &name, settings)
}

async fn reset(place: &Place) -> anyhow::Result<()> {
    let config = Config::load(place)?;
    let operations = gateway::operations(&config).await?;
    let mut names = Vec::new();
    for (name, settings) in simulators(&config) {
        let bank = gateway::simulator(&config, &name, settings)?;
        // The bank forgets first: a claim given up too early would let a bill be paid twice in between.
        bank.reset().await.with_context(|| format!("failed to reset the simulated bank {name}"))?;
        operations.reset_sandbox(&name).await?;
        names.push(name);
    }
    let sentence =
        "Every bill in the sandbox can be paid again. Payments still pending are settled as before.";
    output::done(place.json, sentence, &json!({ "reset": true, "upstreams": names }));
    Ok(())
}

async fn payments(place: &Place) -> anyhow::Result<()> {
    let config = Config::load(place)?;
    gateway::open_store(&config).await?;
    let payments = bank(&config)?.payments().await.context("failed to read the simulated bank's ledger")?;
    if place.json {
        let rows: Vec<_> = payments
            .iter()
            .map(|payment| {
                json!({
                    "invoice": payment.invoice.to_string(),
                    "identity": payment.identity,
                    "generation": payment.generation,
                    "payment_code": payment.payment_code,
                    "amount_rupiah": payment.amount,
                    "reference_number": payment.receipt.reference_number,
                    "trace_number": payment.receipt.trace_number,
                    "paid_at": rfc3339(payment.paid_at),
                })
            })
            .collect();
        output::json(&rows);
        return Ok(());
    }
    let mut table =
        Table::new(&["Paid (WIB)", "Invoice", "Payment code", ">Amount Rp", "Reference", "Trace"]);
    for payment in payments {
        table.row([
            time(payment.paid_at),
            payment.invoice.to_string(),
            payment.payment_code.to_string(),
            rupiah(payment.amount),
            payment.receipt.reference_number,
            payment.receipt.trace_number,
        ]);
    }
    table.print("The simulated bank has taken nothing yet.");
    Ok(())
}

/// One hash serves all, since they share the password anyway.
async fn register(place: &Place, partners: &Partners) -> anyhow::Result<()> {
    let config = Config::load(place)?;
    let operations = gateway::operations(&config).await?;
    let ids = Ids::from_system();
    let password_hash = engine::hash_password(&Secret::new(partners.password.as_str()), &ids);
    for number in 1..=partners.count {
        let text = format!("{}{number:04}", partners.prefix);
        let username = Username::parse(&text).with_context(|| format!("{text:?} is no user name"))?;
        if let Err(error) = operations.partner(&username).await {
            ensure!(matches!(error, operate::Error::NotFound(_)), error);
            operations
                .add_partner(AddPartner {
                    environment: Environment::Sandbox,
                    username: username.clone(),
                    name: format!("Mitra beban {number}"),
                    agent_code: AgentCode::parse(&format!("UJI-{number:05}")).expect("letters and digits"),
                    credit_limit: Rupiah::ZERO,
                    password_hash: password_hash.clone(),
                    // Listed addresses are not slowed down when they log in by the hundred.
                    allowed_networks: vec!["127.0.0.0/8".to_owned(), "::1/128".to_owned()],
                })
                .await?;
        }
        let partner = operations.partner(&username).await?;
        let reference = format!("sandbox-partners-{text}");
        operations.top_up(&partner, partners.deposit, &reference, "sandbox").await?;
    }
    let sentence = format!(
        "{0} partners, {1}0001 to {1}{0:04}, each with Rp {2}.",
        partners.count,
        partners.prefix,
        rupiah(partners.deposit)
    );
    output::done(place.json, sentence, &json!({ "count": partners.count, "prefix": partners.prefix }));
    Ok(())
}
