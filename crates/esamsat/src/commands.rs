//! The operator's commands, one file each. All work beside a running gateway.

pub mod config;
pub mod deposit;
pub mod incident;
pub mod invoice;
pub mod ledger;
pub mod partner;
pub mod pending;
pub mod product;
pub mod sandbox;
pub mod verify;

use crate::{
    config::{Config, Place},
    gateway,
    output::{self, Fault},
};
use clap::Args;
use domain::{Environment, InvoiceNumber, Rupiah, Username};

/// Creates the database, or brings it up to date.
pub fn migrate(place: &Place) -> anyhow::Result<()> {
    let config = Config::load(place)?;
    gateway::create_store(&config)?;
    let database = config.database();
    let facts = serde_json::json!({ "database": database });
    output::done(place.json, format!("{} is ready.", database.display()), &facts);
    Ok(())
}

/// Who is answerable for what is booked.
#[derive(Args, Debug)]
pub struct Operator {
    /// Who you are; it is written down
    #[arg(long, env = "ESAMSAT_OPERATOR", value_name = "NAME")]
    pub operator: String,
}

/// Live or sandbox, as a flag.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
pub enum EnvironmentName {
    /// Real money.
    Live,
    /// Play money.
    Sandbox,
}

impl From<EnvironmentName> for Environment {
    fn from(name: EnvironmentName) -> Self {
        match name {
            EnvironmentName::Live => Self::Live,
            EnvironmentName::Sandbox => Self::Sandbox,
        }
    }
}

/// Reads a user name from the command line.
pub fn username(text: &str) -> Result<Username, String> {
    Username::parse(text).ok_or_else(|| "a user name has 1 to 64 characters".to_owned())
}

/// Reads an amount from the command line: `1000000`, `1.000.000` or `1_000_000`.
pub fn amount(text: &str) -> Result<Rupiah, String> {
    let digits: String = text.chars().filter(|c| !matches!(c, '.' | '_')).collect();
    let plain = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
    let amount = digits.parse().ok().filter(|_| plain);
    amount.map(Rupiah::new).ok_or_else(|| "an amount is a whole number of Rupiah, such as 1000000".to_owned())
}

/// Reads an invoice number from the command line.
pub fn invoice_number(text: &str) -> Result<InvoiceNumber, String> {
    InvoiceNumber::parse(text).ok_or_else(|| "an invoice number has digits only".to_owned())
}

/// Reads a product code from the command line.
pub fn product_code(text: &str) -> Result<domain::ProductCode, String> {
    domain::ProductCode::parse(text).ok_or_else(|| "a product code looks like SAMSAT_JABAR".to_owned())
}

/// "There is no invoice 123."
pub fn no_invoice(number: InvoiceNumber) -> Fault {
    Fault::NotFound(format!("there is no invoice {number}; see `esamsat invoice list`"))
}

/// A moment for people: Jakarta time.
pub fn time(at: domain::Timestamp) -> String {
    at.tanggal()
}

/// A moment for scripts: RFC 3339 with Jakarta's offset.
pub fn rfc3339(at: domain::Timestamp) -> String {
    format!("{}.{:03}+07:00", at.tanggal().replace(' ', "T"), at.as_millis().rem_euclid(1000))
}
