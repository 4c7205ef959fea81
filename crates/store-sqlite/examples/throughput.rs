//! How many payments one writer begins and settles in a second, and what one costs.
//!
//! `cargo run --release -p store-sqlite --example throughput [payments] [database]`
//!
//! A named database is kept: a gateway can be started on it, to see how it does with that much history.

use domain::{Command, Environment, InvoiceNumber, PartnerId, command::PaymentFacts, limits};
use std::{error::Error, path::PathBuf, time::Duration};
use store::{
    Store,
    conformance::fixture::{self, begin, paid, record},
};
use store_sqlite::{Open, SqliteStore};
use tokio::time::Instant;

const BATCH: usize = 256;
const PARTNERS: u32 = 20;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let payments: usize = arguments.next().map_or(Ok(100_000), |text| text.parse())?;
    let directory = tempfile::tempdir()?;
    let database = arguments.next().map_or_else(|| directory.path().join("throughput.db"), PathBuf::from);
    let store = SqliteStore::open(&database, Open::CreateOrMigrate)?;

    let mut partners: Vec<PartnerId> = Vec::new();
    for index in 0..PARTNERS {
        let name = format!("mitra{index}");
        partners.push(fixture::partner(&store, Environment::Live, &name, limits::amount_rupiah_max).await);
    }
    // The invoices' numbers come from reserved blocks, so that a gateway's own begin behind them.
    for _ in 0..payments.div_ceil(limits::invoice_block_max as usize) {
        let count = limits::invoice_block_max;
        fixture::apply(&store, vec![Command::ReserveInvoiceNumbers { count }]).await;
    }

    let (mut inquiring, mut paying) = (Duration::ZERO, Duration::ZERO);
    let numbers: Vec<u32> = (0_u32..).take(payments).collect();
    for chunk in numbers.chunks(BATCH) {
        let record = |index: &u32| {
            let partner = partners[usize::try_from(index % PARTNERS).unwrap_or(0)];
            // Bills and vehicles are not paid in the order of their numbers.
            let vehicle = index.wrapping_mul(2_654_435_761);
            record(Environment::Live, partner, i64::from(*index), vehicle)
        };
        let records: Vec<_> = chunk.iter().map(record).collect();
        let facts: Vec<_> = records.iter().filter_map(|record| PaymentFacts::of(&record.invoice)).collect();
        assert!(facts.iter().all(|fact| InvoiceNumber::in_range(fact.invoice)));

        let began = Instant::now();
        let commands = records.into_iter().map(|record| Command::RecordInquiry(Box::new(record)));
        fixture::apply(&store, commands.collect()).await;
        inquiring += began.elapsed();

        let began = Instant::now();
        let begun = fixture::apply(&store, facts.iter().map(begin).collect()).await;
        assert!(begun.iter().all(Result::is_ok), "{begun:?}");
        let settled = fixture::apply(&store, facts.iter().map(paid).collect()).await;
        assert!(settled.iter().all(Result::is_ok), "{settled:?}");
        paying += began.elapsed();
    }
    report("inquiries", payments, inquiring);
    report("payments", payments, paying);
    store.check().await?;
    Ok(())
}

#[expect(clippy::print_stdout, reason = "an example talks on standard output")]
#[expect(clippy::cast_precision_loss, reason = "a count of payments is small")]
fn report(what: &str, count: usize, elapsed: Duration) {
    println!(
        "{count} {what} in {elapsed:.2?}: {:.0} {what}/s, {:.1} µs each",
        count as f64 / elapsed.as_secs_f64(),
        elapsed.as_secs_f64() * 1e6 / count as f64
    );
}
