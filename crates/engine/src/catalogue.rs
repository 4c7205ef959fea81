//! Partners and products, cached for a second: changes made elsewhere are seen soon, and a hot partner
//! costs no reads. Whatever moves money is decided on rows under lock, not on these.

use crate::limits;
use domain::{Partner, Product, Username};
use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};
use store::Store;
use tokio::time::Instant;

/// The cache.
pub(crate) struct Catalogue {
    store: Arc<dyn Store>,
    products: Mutex<Option<Aged<Arc<Vec<Product>>>>>,
    partners: Mutex<HashMap<Username, Aged<Arc<Partner>>>>,
}

struct Aged<T> {
    value: T,
    read_at: Instant,
}

impl<T: Clone> Aged<T> {
    fn new(value: T) -> Self {
        Self { value, read_at: Instant::now() }
    }

    fn fresh(&self) -> Option<T> {
        (self.read_at.elapsed() < limits::catalogue_age_max).then(|| self.value.clone())
    }
}

impl Catalogue {
    pub(crate) fn new(store: Arc<dyn Store>) -> Self {
        Self { store, products: Mutex::default(), partners: Mutex::default() }
    }

    /// All products.
    pub(crate) async fn products(&self) -> Result<Arc<Vec<Product>>, store::Error> {
        let cached =
            self.products.lock().unwrap_or_else(PoisonError::into_inner).as_ref().and_then(Aged::fresh);
        if let Some(products) = cached {
            return Ok(products);
        }
        let products = Arc::new(self.store.products().await?);
        *self.products.lock().unwrap_or_else(PoisonError::into_inner) =
            Some(Aged::new(Arc::clone(&products)));
        Ok(products)
    }

    /// A partner by log-in name. Only partners that exist are cached.
    pub(crate) async fn partner(&self, username: &Username) -> Result<Option<Arc<Partner>>, store::Error> {
        let cached =
            self.partners.lock().unwrap_or_else(PoisonError::into_inner).get(username).and_then(Aged::fresh);
        if cached.is_some() {
            return Ok(cached);
        }
        let Some(partner) = self.store.partner(username).await?.map(Arc::new) else {
            return Ok(None);
        };
        let mut partners = self.partners.lock().unwrap_or_else(PoisonError::into_inner);
        if partners.len() >= limits::catalogue_partners_max {
            partners.clear();
        }
        partners.insert(username.clone(), Aged::new(Arc::clone(&partner)));
        Ok(Some(partner))
    }
}
