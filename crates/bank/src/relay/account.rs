//! The account at a provider: its balance, and what the provider gives back.
//!
//! Between two answers to `ceksaldo`, what is sent meanwhile is counted off, so that a spike does not outrun the
//! question. A balance that is not known, or long ago, stops nothing. Partners never hear of any of it.

use super::{answer::Answer, settings::RelaySettings};
use crate::locked;
use domain::{Rupiah, UpstreamTerms, money::grouped};
use std::{
    collections::HashMap,
    sync::{
        Mutex,
        atomic::{AtomicI64, Ordering::SeqCst},
    },
    time::Duration,
};
use tokio::time::Instant;

/// How long a balance is believed when no newer one comes.
const BALANCE_KEPT: Duration = Duration::from_mins(10);

/// How long a product list is believed when a newer one can be had.
pub(super) const PRODUCTS_KEPT: Duration = Duration::from_mins(5);

/// How far the balance has fallen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Level {
    Enough,
    Low,
    Short,
}

pub(super) struct Account {
    warn_below: Rupiah,
    stop_below: Rupiah,
    told: Mutex<Option<Told>>,
    /// What was sent since the start, in whole Rupiah.
    spent: AtomicI64,
    level: Mutex<Level>,
    cashbacks: Mutex<HashMap<String, Rupiah>>,
}

#[derive(Clone, Copy)]
struct Told {
    balance: Rupiah,
    /// What had been sent when it was asked for.
    spent: i64,
    at: Instant,
}

impl Account {
    pub(super) fn new(settings: &RelaySettings) -> Self {
        Self {
            warn_below: settings.balance_warn_below,
            stop_below: settings.balance_stop_below,
            told: Mutex::default(),
            spent: AtomicI64::new(0),
            level: Mutex::new(Level::Enough),
            cashbacks: Mutex::default(),
        }
    }

    /// What is there, as far as it is known.
    pub(super) fn balance(&self) -> Option<Rupiah> {
        let told = locked(&self.told).filter(|told| told.at.elapsed() < BALANCE_KEPT)?;
        told.balance.checked_add(Rupiah::new(told.spent - self.spent.load(SeqCst)))
    }

    /// Whether nothing more is to be sold.
    pub(super) fn is_short(&self) -> bool {
        self.balance().is_some_and(|balance| balance < self.stop_below)
    }

    /// What had been sent until now: taken down before the balance is asked for.
    pub(super) fn spent(&self) -> i64 {
        self.spent.load(SeqCst)
    }

    /// A payment goes out.
    pub(super) fn spend(&self, amount: Rupiah, terms: UpstreamTerms) {
        self.spent.fetch_add((amount + terms.fee).get(), SeqCst);
    }

    /// It came to nothing.
    pub(super) fn give_back(&self, amount: Rupiah, terms: UpstreamTerms) {
        self.spent.fetch_sub((amount + terms.fee).get(), SeqCst);
    }

    /// The provider says what is there; returns what operators are to be told, once each time that it falls.
    pub(super) fn told(&self, balance: Rupiah, spent: i64) -> Option<String> {
        *locked(&self.told) = Some(Told { balance, spent, at: Instant::now() });
        let level = match balance {
            _ if balance < self.stop_below => Level::Short,
            _ if balance < self.warn_below => Level::Low,
            _ => Level::Enough,
        };
        let before = std::mem::replace(&mut *locked(&self.level), level);
        let shown = grouped(balance, '.');
        match level {
            Level::Low if before == Level::Enough => {
                Some(format!("the balance there is Rp {shown}; top it up"))
            }
            Level::Short if before != Level::Short => {
                Some(format!("the balance there is Rp {shown}, and its products are stopped; top it up"))
            }
            _ => None,
        }
    }

    /// What the provider gives back for a product; nothing if it never said so.
    pub(super) fn cashback(&self, product: &str) -> Rupiah {
        locked(&self.cashbacks).get(product).copied().unwrap_or_default()
    }

    /// The provider's product list. Its lines may be many, and say more.
    pub(super) fn listed(&self, products: &[Answer]) {
        let cashback = |product: &Answer| {
            Some((product.get("product_code")?.to_owned(), product.rupiah("cashback").ok()?))
        };
        *locked(&self.cashbacks) = products.iter().filter_map(cashback).collect();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TERMS: UpstreamTerms = UpstreamTerms { fee: Rupiah::new(1_500), cashback: Rupiah::new(1_000) };

    fn account(warn_below: i64, stop_below: i64) -> Account {
        Account::new(&RelaySettings {
            balance_warn_below: Rupiah::new(warn_below),
            balance_stop_below: Rupiah::new(stop_below),
            ..RelaySettings::example()
        })
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_sent_since_is_counted_off_and_an_old_balance_stops_nothing() {
        let account = account(0, 500_000);
        assert_eq!((account.balance(), account.is_short()), (None, false));
        account.spend(Rupiah::new(7), TERMS);
        let spent = account.spent();
        account.spend(Rupiah::new(178_500), TERMS);
        account.told(Rupiah::new(600_000), spent);
        assert_eq!(account.balance(), Some(Rupiah::new(420_000)), "what left after the question was asked");
        assert!(account.is_short());
        account.give_back(Rupiah::new(178_500), TERMS);
        assert!(!account.is_short());
        account.told(Rupiah::new(499_999), account.spent());
        assert!(account.is_short());
        tokio::time::advance(BALANCE_KEPT).await;
        assert_eq!((account.balance(), account.is_short()), (None, false));
    }

    #[tokio::test(start_paused = true)]
    async fn operators_are_told_once_each_time_that_it_falls() {
        let account = account(5_000_000, 500_000);
        let told = |balance| account.told(Rupiah::new(balance), 0);
        assert_eq!(told(5_000_000), None);
        assert_eq!(told(4_999_999), Some("the balance there is Rp 4.999.999; top it up".to_owned()));
        assert_eq!(told(4_000_000), None);
        assert!(told(499_999).is_some_and(|what| what.contains("its products are stopped")));
        assert_eq!(told(100), None);
        assert_eq!(told(600_000), None, "better, and still low");
        assert_eq!(told(6_000_000), None);
        assert!(told(100).is_some(), "from above again");
    }

    #[test]
    fn cashbacks_of_a_product_list() {
        let account = account(0, 0);
        let list = r#"[{"product":"A","product_code":"SAMSAT_A","cashback":"2000","status":"ON"},
            {"product_code":"SAMSAT_B","cashback":"2.000"},{"product_code":"SAMSAT_C"},{"cashback":"1"}]"#;
        account.listed(&Answer::read_list(list.as_bytes()).unwrap());
        let cashbacks = ["SAMSAT_A", "SAMSAT_B", "SAMSAT_C"].map(|product| account.cashback(product).get());
        assert_eq!(cashbacks, [2_000, 0, 0]);
    }
}
