//! Partners and products, cached. Once a second the store is asked whether any of them was changed, here or
//! elsewhere: so changes are seen soon, and any number of partners costs one small read a second. Whatever moves
//! money is decided on rows under lock, not on these.

use crate::limits;
use domain::{Partner, Product, Username};
use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};
use store::{Error, Store};
use tokio::time::Instant;

/// The cache.
pub(crate) struct Catalogue {
    store: Arc<dyn Store>,
    known: Mutex<Known>,
    /// Held by the one who asks.
    asking: tokio::sync::Mutex<()>,
}

/// What is as of one version; it may be newer.
#[derive(Default)]
struct Known {
    version: i64,
    checked_at: Option<Instant>,
    /// Whatever the version says, nothing is kept for ever.
    begun_at: Option<Instant>,
    products: Option<Arc<Vec<Product>>>,
    partners: HashMap<Username, Arc<Partner>>,
}

impl Known {
    fn is_fresh(&self) -> bool {
        self.checked_at.is_some_and(|at| at.elapsed() < limits::catalogue_age_max)
    }
}

impl Catalogue {
    pub(crate) fn new(store: Arc<dyn Store>) -> Self {
        Self { store, known: Mutex::default(), asking: tokio::sync::Mutex::default() }
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Forgets what may have been changed; says which version the rest is of.
    async fn refresh(&self) -> Result<i64, Error> {
        let fresh = |known: &Known| known.is_fresh().then_some(known.version);
        if let Some(version) = fresh(&self.known()) {
            return Ok(version);
        }
        let _turn = self.asking.lock().await;
        if let Some(version) = fresh(&self.known()) {
            return Ok(version);
        }
        let asked_at = Instant::now();
        let version = self.store.catalogue_version().await?;
        let mut known = self.known();
        let is_old = known.begun_at.is_none_or(|at| at.elapsed() >= limits::catalogue_kept_max);
        if known.version != version || is_old {
            *known = Known { version, begun_at: Some(asked_at), ..Known::default() };
        }
        known.checked_at = Some(asked_at);
        Ok(version)
    }

    /// Keeps what was read, unless the version that was known before is no longer the one.
    fn keep(&self, version: i64, keep: impl FnOnce(&mut Known)) {
        let mut known = self.known();
        if known.version == version {
            keep(&mut known);
        }
    }

    /// All products.
    pub(crate) async fn products(&self) -> Result<Arc<Vec<Product>>, Error> {
        let version = self.refresh().await?;
        if let Some(products) = &self.known().products {
            return Ok(Arc::clone(products));
        }
        let products = Arc::new(self.store.products().await?);
        self.keep(version, |known| known.products = Some(Arc::clone(&products)));
        Ok(products)
    }

    /// A partner by log-in name. Only partners that exist are cached.
    pub(crate) async fn partner(&self, username: &Username) -> Result<Option<Arc<Partner>>, Error> {
        let version = self.refresh().await?;
        if let Some(partner) = self.known().partners.get(username) {
            return Ok(Some(Arc::clone(partner)));
        }
        let Some(partner) = self.store.partner(username).await?.map(Arc::new) else {
            return Ok(None);
        };
        self.keep(version, |known| {
            if known.partners.len() >= limits::catalogue_partners_max {
                known.partners.clear();
            }
            known.partners.insert(username.clone(), Arc::clone(&partner));
        });
        Ok(Some(partner))
    }
}
