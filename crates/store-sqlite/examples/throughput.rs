//! How many payments one writer begins and settles in a second, and what one costs.
//!
//! `cargo run --release -p store-sqlite --example throughput [payments] [directory]`

use domain::{Command, Environment, InvoiceNumber, PartnerId, command::PaymentFacts, limits};
use std::{error::Error, path::PathBuf};
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
    let parent = arguments.next().map_or_else(std::env::temp_dir, PathBuf::from);
    let directory = tempfile::tempdir_in(parent)?;
    let store = SqliteStore::open(&directory.path().join("throughput.db"), Open::CreateOrMigrate)?;

    let mut partners: Vec<PartnerId> = Vec::new();
    for index in 0..PARTNERS {
        let name = format!("mitra{index}");
        partners.push(fixture::partner(&store, Environment::Live, &name, limits::amount_rupiah_max).await);
    }
    let records: Vec<_> = (0_u32..)
        .take(payments)
        .map(|index| {
            let partner = partners[usize::try_from(index % PARTNERS).unwrap_or(0)];
            // Bills and vehicles are not paid in the order of their numbers.
            let vehicle = index.wrapping_mul(2_654_435_761);
            record(Environment::Live, partner, i64::from(index), vehicle)
        })
        .collect();
    let facts: Vec<_> = records.iter().filter_map(|record| PaymentFacts::of(&record.invoice)).collect();
    assert!(facts.iter().all(|fact| InvoiceNumber::in_range(fact.invoice)));

    let began = Instant::now();
    for chunk in records.chunks(BATCH) {
        let commands = chunk.iter().map(|record| Command::RecordInquiry(Box::new(record.clone())));
        fixture::apply(&store, commands.collect()).await;
    }
    report("inquiries", payments, began);

    let began = Instant::now();
    for chunk in facts.chunks(BATCH) {
        let begun = fixture::apply(&store, chunk.iter().map(begin).collect()).await;
        assert!(begun.iter().all(Result::is_ok), "{begun:?}");
        let settled = fixture::apply(&store, chunk.iter().map(paid).collect()).await;
        assert!(settled.iter().all(Result::is_ok), "{settled:?}");
    }
    report("payments", payments, began);
    store.check().await?;
    Ok(())
}

#[expect(clippy::print_stdout, reason = "an example talks on standard output")]
#[expect(clippy::cast_precision_loss, reason = "a count of payments is small")]
fn report(what: &str, count: usize, began: Instant) {
    let elapsed = began.elapsed();
    println!(
        "{count} {what} in {elapsed:.2?}: {:.0} {what}/s, {:.1} µs each",
        count as f64 / elapsed.as_secs_f64(),
        elapsed.as_secs_f64() * 1e6 / count as f64
    );
}
