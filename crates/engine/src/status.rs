//! Status: what became of an invoice, read from the store each time.

use crate::{About, Engine, Refused, View, limits};
use domain::{InvoiceNumber, Partner, Reason, State};
use std::sync::Arc;
use tokio::time::timeout;

impl Engine {
    /// The partner's invoice as it is now. One whose inquiry failed is refused like an unknown one.
    pub async fn status(&self, partner: &Partner, number: InvoiceNumber) -> Result<View, Refused> {
        let view = self.view(partner, number).await?;
        if matches!(view.invoice.state, State::Failure { .. }) {
            return Err(Refused::answer(Reason::InquiryFailed));
        }
        Ok(view)
    }

    /// The partner's invoice; another partner's is as unknown as one that does not exist.
    pub(crate) async fn view(&self, partner: &Partner, number: InvoiceNumber) -> Result<View, Refused> {
        let unknown = || {
            let about = About { invoice: Some(number), ..About::default() };
            Refused::answer(Reason::InvoiceUnknown).about(about)
        };
        if !number.in_range() {
            return Err(unknown());
        }
        let looked = timeout(limits::read_max, self.store.invoice(number)).await;
        let stored = looked.unwrap_or_else(|_| Err(store::Error::Unavailable("a read hangs".to_owned())))?;
        let stored = stored.filter(|s| s.invoice.partner == partner.id).ok_or_else(unknown)?;
        Ok(View { invoice: stored.invoice, presentment: Arc::new(stored.presentment) })
    }
}
