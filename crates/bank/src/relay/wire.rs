//! One call of the contract: parameters in, an answer out, or how far it came.
//!
//! The password and the parameters are in the body only, and no error names them.

use super::{
    answer::Answer,
    connection::{Connections, Missed, NotSent, Posted},
    settings::RelaySettings,
};
use crate::{SendBefore, Unknown};
use bytes::Bytes;
use domain::{Clock, Secret};
use http_body_util::Full;
use hyper::{
    Request, Uri,
    header::{ACCEPT, CONTENT_TYPE, HOST, USER_AGENT},
};
use std::{sync::Arc, time::Duration};
use tokio::time::Instant;

/// The calls there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Call {
    List,
    Inquiry,
    Pay,
    Status,
    Balance,
}

impl Call {
    /// The last part of its address.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::List => "list_esamsat",
            Self::Inquiry => "inquiry_esamsat",
            Self::Pay => "pay_esamsat",
            Self::Status => "status_invoice",
            Self::Balance => "ceksaldo",
        }
    }
}

/// What became of a call.
#[derive(Debug)]
pub(super) enum Called<T = Answer> {
    Answered(T),
    NeverSent(NotSent),
    Unknown(Unknown),
}

/// Where calls go.
struct Place {
    connections: Arc<Connections>,
    authority: String,
    /// Without a slash behind it.
    path: String,
}

/// The account at a provider, as far as calls need it.
pub(super) struct Wire {
    esamsat: Place,
    balance: Place,
    username: String,
    password: Secret,
    answer_timeout: Duration,
}

impl Wire {
    pub(super) fn new(
        settings: &RelaySettings,
        password: Secret,
        clock: &Arc<dyn Clock>,
    ) -> Result<Self, String> {
        let (esamsat, balance) = (settings.address()?, settings.balance_address()?);
        let connections =
            |address: &Uri| Connections::new(address, settings, Arc::clone(clock)).map(Arc::new);
        let place = |address: &Uri, connections: &Arc<Connections>| Place {
            connections: Arc::clone(connections),
            authority: address.authority().map(ToString::to_string).unwrap_or_default(),
            path: address.path().trim_end_matches('/').to_owned(),
        };
        let first = connections(&esamsat)?;
        let is_same = (esamsat.scheme(), esamsat.authority()) == (balance.scheme(), balance.authority());
        let second = if is_same { Arc::clone(&first) } else { connections(&balance)? };
        Ok(Self {
            esamsat: place(&esamsat, &first),
            balance: place(&balance, &second),
            username: settings.username.clone(),
            password,
            answer_timeout: Duration::from_millis(settings.answer_timeout_ms),
        })
    }

    /// The host that is called.
    pub(super) fn host(&self) -> &str {
        &self.esamsat.authority
    }

    /// Until when a call that begins now is waited for.
    pub(super) fn deadline(&self) -> Instant {
        Instant::now() + self.answer_timeout
    }

    pub(super) fn close(&self) {
        self.esamsat.connections.close();
        self.balance.connections.close();
    }

    /// Whether the connection that was used last is known to be closed.
    #[cfg(test)]
    pub(super) fn last_is_closed(&self) -> bool {
        self.esamsat.connections.last_is_closed()
    }

    /// Calls with these parameters.
    pub(super) async fn call(
        &self,
        call: Call,
        parameters: &[(&str, &str)],
        send_before: Option<SendBefore>,
        deadline: Instant,
    ) -> Called {
        self.reach(call, parameters, send_before, deadline, Answer::read).await
    }

    /// The product list.
    pub(super) async fn list(&self) -> Called<Vec<Answer>> {
        self.reach(Call::List, &[], None, self.deadline(), Answer::read_list).await
    }

    async fn reach<T>(
        &self,
        call: Call,
        parameters: &[(&str, &str)],
        send_before: Option<SendBefore>,
        deadline: Instant,
        read: impl Fn(&[u8]) -> Option<T>,
    ) -> Called<T> {
        let (place, target) = match call {
            Call::Balance => (&self.balance, self.balance.path.clone()),
            _ => (&self.esamsat, format!("{}/{}", self.esamsat.path, call.name())),
        };
        let posted = self.posted(&place.authority, &target, parameters);
        let garbled = |what: &str| Called::Unknown(Unknown::Garbled(what.to_owned()));
        match place.connections.exchange(&posted, send_before, deadline).await {
            Ok(received) if received.status != 200 => garbled(&format!("HTTP status {}", received.status)),
            Ok(received) => read(&received.body)
                .map_or_else(|| garbled("the answer is not the contract's JSON"), Called::Answered),
            Err(Missed::NeverSent(why)) => Called::NeverSent(why),
            Err(Missed::TimedOut) => Called::Unknown(Unknown::TimedOut),
            Err(Missed::Cut) => Called::Unknown(Unknown::ConnectionCut),
            Err(Missed::TooLong) => garbled("the answer is longer than 64 KiB"),
        }
    }

    fn posted(&self, authority: &str, target: &str, parameters: &[(&str, &str)]) -> Posted {
        let login = [("username", self.username.as_str()), ("password", self.password.expose())];
        let form = form_urlencoded::Serializer::new(String::new())
            .extend_pairs(login)
            .extend_pairs(parameters)
            .finish();
        Request::post(target)
            .header(HOST, authority)
            .header(CONTENT_TYPE, "application/x-www-form-urlencoded")
            .header(ACCEPT, "application/json")
            .header(USER_AGENT, concat!("esamsat/", env!("CARGO_PKG_VERSION")))
            .body(Full::new(Bytes::from(form)))
            .expect("the address was checked, and the rest is constant")
    }
}
