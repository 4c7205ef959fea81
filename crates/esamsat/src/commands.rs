//! The operator's commands, one file each. All work beside a running gateway.

pub mod bank;
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
pub async fn migrate(place: &Place) -> anyhow::Result<()> {
    let config = Config::load(place)?;
    gateway::create_store(&config).await?;
    let database = config.store_at().to_string();
    let facts = serde_json::json!({ "database": database });
    output::done(place.json, format!("{database} is ready."), &facts);
    Ok(())
}

/// How this program was called.
pub fn program() -> String {
    std::env::args().next().unwrap_or_else(|| "esamsat".to_owned())
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

/// Reads an amount from the command line: `1000000`, `1.000.000` or `1_000_000`. A dot that could as well
/// begin a fraction is refused: nobody means a hundred times what he wrote.
pub fn amount(text: &str) -> Result<Rupiah, String> {
    let separator = if text.contains('_') { '_' } else { '.' };
    let groups: Vec<&str> = text.split(separator).collect();
    let (first, others) = groups.split_first().expect("a split text has a first part");
    let is_grouped = others.is_empty()
        || ((1..=3).contains(&first.len())
            && !first.starts_with('0')
            && others.iter().all(|group| group.len() == 3));
    let digits = groups.concat();
    let is_amount = is_grouped && digits.bytes().all(|b| b.is_ascii_digit());
    digits.parse().ok().filter(|_| is_amount).map(Rupiah::new).ok_or_else(|| {
        "an amount is a whole number of Rupiah, such as 1000000, 1.000.000 or 1_000_000: dots or underscores \
         stand before groups of three digits only"
            .to_owned()
    })
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

#[cfg(test)]
mod tests {
    use super::amount;

    #[test]
    fn amounts_are_whole_rupiah_in_groups_of_three() {
        for (text, expected) in [
            ("0", Some(0)),
            ("5", Some(5)),
            ("1000000", Some(1_000_000)),
            ("1.000.000", Some(1_000_000)),
            ("1_000_000", Some(1_000_000)),
            ("12.000", Some(12_000)),
            ("123_456", Some(123_456)),
            ("9223372036854775807", Some(i64::MAX)),
            ("9223372036854775808", None),
            ("1000.50", None),
            ("1000.500", None),
            ("1.5", None),
            ("1.50", None),
            ("1..0", None),
            ("1..000", None),
            ("0.500", None),
            (".500", None),
            ("500.", None),
            ("1.000.00", None),
            ("1.000_000", None),
            ("1,000", None),
            ("1.0000", None),
            ("-5", None),
            ("+5", None),
            ("5 000", None),
            ("", None),
            (".", None),
            ("\u{661}", None),
        ] {
            let read = amount(text);
            assert_eq!(read.as_ref().ok().map(|amount| amount.get()), expected, "{text:?}");
            assert!(read.is_ok() || read.is_err_and(|told| told.contains("1.000.000")), "{text:?}");
        }
    }
}
