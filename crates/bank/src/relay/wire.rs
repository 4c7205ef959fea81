//! One call over HTTP: parameters in, an answer's texts out, or how far it came.
//!
//! "Never sent" is said only where no connection came up. Everything after that, whatever broke, is unknown.
//! Redirects are not followed: a payment is not for another address.

use super::settings::RelaySettings;
use crate::Unknown;
use domain::Secret;
use std::{collections::HashMap, time::Duration};

/// Bytes of an answer.
const ANSWER_BYTES_MAX: usize = 64 * 1024;

/// How long a connection may take to come up.
const CONNECT_MAX: Duration = Duration::from_secs(10);

/// An answer's values by key.
pub(super) type Answer = HashMap<String, String>;

/// What became of a call.
#[derive(Debug)]
pub(super) enum Called {
    Answered(Answer),
    NeverSent(String),
    Unknown(Unknown),
}

#[derive(Debug)]
pub(super) struct Wire {
    client: reqwest::Client,
    username: String,
    password: Secret,
}

impl Wire {
    pub(super) fn new(settings: &RelaySettings, password: Secret) -> Result<Self, String> {
        // The binary may have chosen one already.
        drop(rustls::crypto::ring::default_provider().install_default());
        let mut builder = reqwest::Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            .retry(reqwest::retry::never())
            .no_proxy()
            .connect_timeout(CONNECT_MAX)
            .timeout(Duration::from_millis(settings.answer_timeout_ms))
            .pool_max_idle_per_host(settings.in_flight_max)
            .user_agent(concat!("esamsat/", env!("CARGO_PKG_VERSION")));
        if let Some(path) = &settings.ca_file {
            let unusable =
                |error: &dyn std::fmt::Display| format!("failed to read ca_file {}: {error}", path.display());
            let pem = std::fs::read(path).map_err(|error| unusable(&error))?;
            let certificates =
                reqwest::Certificate::from_pem_bundle(&pem).map_err(|error| unusable(&error))?;
            if certificates.is_empty() {
                return Err(unusable(&"there is no certificate in it"));
            }
            builder = builder.tls_certs_only(certificates);
        }
        let client = builder.build().map_err(|error| error.to_string())?;
        Ok(Self { client, username: settings.username.clone(), password })
    }

    /// Calls with the account's credentials and these parameters.
    pub(super) async fn call(&self, url: &str, parameters: &[(&str, &str)]) -> Called {
        let mut form = vec![("username", self.username.as_str()), ("password", self.password.expose())];
        form.extend_from_slice(parameters);
        let sent = self.client.post(url).form(&form).send().await;
        // The error's own text may name the address, and never the parameters: they are in the body.
        let response = match sent {
            Ok(response) => response,
            Err(error) if error.is_connect() => return Called::NeverSent(chain(&error)),
            Err(error) if error.is_builder() => return Called::NeverSent(chain(&error)),
            Err(error) if error.is_timeout() => return Called::Unknown(Unknown::TimedOut),
            Err(_) => return Called::Unknown(Unknown::ConnectionCut),
        };
        let status = response.status();
        match read(response).await {
            Ok(_) if status != reqwest::StatusCode::OK => {
                Called::Unknown(Unknown::Garbled(format!("HTTP status {}", status.as_u16())))
            }
            Ok(body) => match parse(&body) {
                Some(answer) => Called::Answered(answer),
                None => {
                    Called::Unknown(Unknown::Garbled("the answer is not a JSON object of texts".to_owned()))
                }
            },
            Err(unknown) => Called::Unknown(unknown),
        }
    }
}

async fn read(mut response: reqwest::Response) -> Result<Vec<u8>, Unknown> {
    let mut body = Vec::new();
    loop {
        match response.chunk().await {
            Ok(Some(chunk)) if body.len() + chunk.len() > ANSWER_BYTES_MAX => {
                return Err(Unknown::Garbled("the answer is longer than 64 KiB".to_owned()));
            }
            Ok(Some(chunk)) => body.extend_from_slice(&chunk),
            Ok(None) => return Ok(body),
            Err(error) if error.is_timeout() => return Err(Unknown::TimedOut),
            Err(_) => return Err(Unknown::ConnectionCut),
        }
    }
}

/// An object of texts; numbers are taken as their digits. The product list is an array of such objects: it is
/// read by [`parse_list`].
fn parse(body: &[u8]) -> Option<Answer> {
    object(serde_json::from_slice(body).ok()?)
}

/// The objects of an array, for the product list.
pub(super) fn parse_list(body: &[u8]) -> Option<Vec<Answer>> {
    let values: Vec<serde_json::Value> = serde_json::from_slice(body).ok()?;
    values.into_iter().map(object).collect()
}

fn object(value: serde_json::Value) -> Option<Answer> {
    let serde_json::Value::Object(entries) = value else { return None };
    entries
        .into_iter()
        .map(|(key, value)| match value {
            serde_json::Value::String(text) => Some((key, text)),
            serde_json::Value::Number(number) => Some((key, number.to_string())),
            _ => None,
        })
        .collect()
}

impl Wire {
    /// The product list; none if it cannot be had now.
    pub(super) async fn list(&self, url: &str) -> Option<Vec<Answer>> {
        let form = [("username", self.username.as_str()), ("password", self.password.expose())];
        let response = self.client.post(url).form(&form).send().await.ok()?;
        if response.status() != reqwest::StatusCode::OK {
            return None;
        }
        parse_list(&read(response).await.ok()?)
    }
}

fn chain(error: &reqwest::Error) -> String {
    let mut text = String::new();
    let mut cause: Option<&dyn std::error::Error> = std::error::Error::source(error);
    while let Some(error) = cause {
        if !text.is_empty() {
            text.push_str(": ");
        }
        text.push_str(&error.to_string());
        cause = error.source();
    }
    if text.is_empty() { "no connection came up".to_owned() } else { text }
}
