//! The partner contract of 2019: its endpoints, and what they share.
//!
//! Every endpoint checks in one order: the credentials are there, they are right, the other parameters are
//! there and valid, and then the use case. Whoever is not a partner learns nothing about the parameters.
//! What the application answers is HTTP 200, refusals included; only overload leaves with another status.

mod ceksaldo;
mod inquiry_esamsat;
mod list_esamsat;
mod pay_esamsat;
mod status_invoice;

use crate::{
    parameters::{Parameters, Unfit},
    router::Outcome,
};
use engine::{
    About, Engine, Refused, Turned,
    domain::{
        InvoiceNumber, Parameter, Partner, Reason, Refusal, Secret, Username, limits::password_chars_max,
    },
};
use std::{net::IpAddr, sync::Arc};
use tokio::time::Instant;

/// The endpoints.
#[derive(Clone, Copy)]
pub(crate) enum Endpoint {
    ListEsamsat,
    InquiryEsamsat,
    PayEsamsat,
    StatusInvoice,
    Ceksaldo,
}

impl Endpoint {
    /// The last part of the path.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::ListEsamsat => "list_esamsat",
            Self::InquiryEsamsat => "inquiry_esamsat",
            Self::PayEsamsat => "pay_esamsat",
            Self::StatusInvoice => "status_invoice",
            Self::Ceksaldo => "ceksaldo",
        }
    }
}

/// Answers a call.
pub(crate) async fn answer(endpoint: Endpoint, call: Call<'_>) -> Outcome {
    match endpoint {
        Endpoint::ListEsamsat => list_esamsat::handle(call).await,
        Endpoint::InquiryEsamsat => inquiry_esamsat::handle(call).await,
        Endpoint::PayEsamsat => pay_esamsat::handle(call).await,
        Endpoint::StatusInvoice => status_invoice::handle(call).await,
        Endpoint::Ceksaldo => ceksaldo::handle(call).await,
    }
}

/// One call of a partner, or of somebody who says so.
pub(crate) struct Call<'a> {
    pub(crate) engine: &'a Arc<Engine>,
    /// Or why the body could not be read.
    pub(crate) parameters: Result<Parameters, Reason>,
    pub(crate) client: IpAddr,
    pub(crate) arrived_at: Instant,
}

impl Call<'_> {
    /// Who calls.
    pub(crate) async fn partner(&self) -> Result<Arc<Partner>, Declined> {
        let username = self.value(Parameter::Username, Username::parse)?;
        let password = self.value(Parameter::Password, |text| {
            (text.chars().count() <= password_chars_max).then(|| Secret::new(text))
        })?;
        Ok(self.engine.authenticate(username.as_str(), &password, self.client).await?)
    }

    /// The invoice, as a number and as it was sent: a partner recognises its own text in a refusal.
    pub(crate) fn invoice(&self) -> Result<(InvoiceNumber, &str), Declined> {
        let number = self.value(Parameter::Invoice, InvoiceNumber::parse)?;
        let parameters = self.parameters.as_ref().map_err(|reason| Declined::from(*reason))?;
        Ok((number, parameters.text(Parameter::Invoice)?.trim_matches(' ')))
    }

    /// A valid parameter.
    pub(crate) fn value<T>(
        &self,
        parameter: Parameter,
        parse: impl FnOnce(&str) -> Option<T>,
    ) -> Result<T, Declined> {
        let parameters = self.parameters.as_ref().map_err(|reason| Declined::from(*reason))?;
        Ok(parameters.value(parameter, parse)?)
    }
}

/// A call that is not done, with what the partner is told.
pub(crate) struct Declined {
    pub(crate) sentence: String,
    /// The name for metrics and logs.
    pub(crate) code: &'static str,
    pub(crate) turned: Turned,
    pub(crate) about: Box<About>,
}

impl Declined {
    /// `{"result":"no","reason":…}`: as `list_esamsat` and `ceksaldo` always say it, and all when overloaded.
    pub(crate) fn plainly(&self) -> Outcome {
        Outcome::plain_failure(&self.sentence, self.code).turned_away(self.turned)
    }
}

impl From<Refused> for Declined {
    fn from(refused: Refused) -> Self {
        let Refused { refusal, turned, about } = refused;
        Self { sentence: refusal.sentence(), code: refusal.reason.code(), turned, about }
    }
}

impl From<Reason> for Declined {
    fn from(reason: Reason) -> Self {
        Refused::answer(Refusal::new(reason)).into()
    }
}

impl From<Unfit> for Declined {
    fn from(unfit: Unfit) -> Self {
        Self { sentence: unfit.sentence(), code: unfit.code(), turned: Turned::Answer, about: Box::default() }
    }
}
