//! Whose accounts they are, by name.

use domain::{Account, PartnerId, UpstreamId, ledger::AccountKind};
use std::collections::HashMap;
use store::Store;

/// Those who can own accounts, as they were registered at one moment.
#[derive(Default)]
pub struct Owners {
    partners: HashMap<PartnerId, String>,
    upstreams: HashMap<UpstreamId, String>,
}

/// Whose an account is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owner<'a> {
    /// The gateway's own.
    House,
    /// A partner's, by user name, or an upstream's.
    Named(&'a str),
    /// Of somebody who is not registered.
    Unknown,
}

impl Owners {
    /// Reads them.
    pub async fn read(store: &dyn Store) -> Result<Self, store::Error> {
        let partners = store.partners().await?.into_iter();
        let upstreams = store.upstreams().await?.into_iter();
        Ok(Self {
            partners: partners.map(|partner| (partner.id, partner.username.to_string())).collect(),
            upstreams: upstreams.map(|(name, id)| (id, name)).collect(),
        })
    }

    /// Whose an account is.
    pub fn of(&self, account: Account) -> Owner<'_> {
        let name = match account.kind {
            AccountKind::Deposit | AccountKind::Reserved => self.partners.get(&PartnerId(account.owner)),
            AccountKind::BankPayable => self.upstreams.get(&UpstreamId(account.owner)),
            _ => return Owner::House,
        };
        name.map_or(Owner::Unknown, |name| Owner::Named(name))
    }
}
