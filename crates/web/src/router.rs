//! The route table, and what every request gets: a body of bounded size and time, an answer in bounded
//! time, one log line, metrics; and after a bug of ours, still an answer.
//!
//! The log line and the metrics know the route, never the query string, a parameter or a body.

use crate::{
    address::{client_address, is_within},
    limits, operations,
    parameters::Parameters,
    partner::{self, Call, Endpoint},
    reference,
};
use bytes::Bytes;
use engine::{Engine, Turned, domain::Reason};
use futures::FutureExt;
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::{
    Method, Request, Response, StatusCode,
    body::Body as HttpBody,
    header::{self, HeaderMap, HeaderValue},
    http::request::Parts,
};
use ipnet::IpNet;
use std::{
    net::IpAddr,
    panic::AssertUnwindSafe,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};
use tokio::time::{Instant, timeout_at};

/// The body of an answer.
pub type Body = Full<Bytes>;

/// What the faces need.
pub struct Face {
    /// The gateway.
    pub engine: Arc<Engine>,
    /// Whose `X-Forwarded-For` is believed.
    pub trusted_proxies: Vec<IpNet>,
    /// Who may read `/metrics` and `/health/lines`.
    pub metrics_networks: Vec<IpNet>,
    /// Renders the metrics in Prometheus' text format.
    pub render_metrics: Arc<dyn Fn() -> String + Send + Sync>,
}

impl Face {
    /// A face that trusts no proxy and shows metrics to this machine only.
    pub fn new(engine: Arc<Engine>, render_metrics: Arc<dyn Fn() -> String + Send + Sync>) -> Self {
        let loopback = ["127.0.0.0/8", "::1/128"];
        let metrics_networks = loopback.iter().map(|text| text.parse().expect("a valid network")).collect();
        Self { engine, trusted_proxies: Vec::new(), metrics_networks, render_metrics }
    }
}

/// Where and when a request came in.
#[derive(Clone, Copy, Debug)]
pub struct Arrival {
    /// The other end of the connection.
    pub peer: IpAddr,
    /// When its head was complete.
    pub at: Instant,
    /// When its body has to be complete.
    pub body_by: Instant,
}

/// Answers requests.
#[derive(Clone)]
pub struct Router(Arc<Inner>);

struct Inner {
    behind: Behind,
    requests: AtomicU64,
}

enum Behind {
    Gateway(Face),
    Reference,
}

#[derive(Clone, Copy)]
enum Route {
    Partner(Endpoint),
    Live,
    Ready,
    Metrics,
    Lines,
    Index,
    Unknown,
}

impl Route {
    /// The table. One trailing slash is tolerated.
    fn of(path: &str) -> Self {
        match path.strip_suffix('/').unwrap_or(path) {
            "/json/esamsat/list_esamsat" => Self::Partner(Endpoint::ListEsamsat),
            "/json/esamsat/inquiry_esamsat" => Self::Partner(Endpoint::InquiryEsamsat),
            "/json/esamsat/pay_esamsat" => Self::Partner(Endpoint::PayEsamsat),
            "/json/esamsat/status_invoice" => Self::Partner(Endpoint::StatusInvoice),
            "/json/ceksaldo" => Self::Partner(Endpoint::Ceksaldo),
            "/health/live" => Self::Live,
            "/health/ready" => Self::Ready,
            "/metrics" => Self::Metrics,
            "/health/lines" => Self::Lines,
            "" => Self::Index,
            _ => Self::Unknown,
        }
    }

    /// The name for metrics and logs.
    const fn name(self) -> &'static str {
        match self {
            Self::Partner(endpoint) => endpoint.name(),
            Self::Live => "live",
            Self::Ready => "ready",
            Self::Metrics => "metrics",
            Self::Lines => "lines",
            Self::Index => "index",
            Self::Unknown => "unknown",
        }
    }
}

impl Router {
    /// The gateway's router.
    pub fn new(face: Face) -> Self {
        Self::behind(Behind::Gateway(face))
    }

    pub(crate) fn reference() -> Self {
        Self::behind(Behind::Reference)
    }

    fn behind(behind: Behind) -> Self {
        Self(Arc::new(Inner { behind, requests: AtomicU64::new(0) }))
    }

    /// Whether the address is a trusted proxy's.
    pub(crate) fn trusts(&self, address: IpAddr) -> bool {
        match &self.0.behind {
            Behind::Gateway(face) => is_within(&face.trusted_proxies, address),
            Behind::Reference => true,
        }
    }

    /// Answers one request.
    pub async fn answer<B>(&self, request: Request<B>, arrival: Arrival) -> Response<Body>
    where
        B: HttpBody<Data = Bytes> + Unpin,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let (head, body) = request.into_parts();
        let route = Route::of(head.uri.path());
        let mut record = Record {
            id: self.0.requests.fetch_add(1, Ordering::Relaxed),
            call: route.name(),
            method: head.method.clone(),
            arrived_at: arrival.at,
            status: 0,
            result: "hung_up",
        };
        let answered = timeout_at(arrival.at + limits::answer_within_max, async {
            let body = read_body(body, &head.headers, arrival.body_by).await;
            self.dispatch(route, head, body, arrival).await
        });
        let outcome = match AssertUnwindSafe(answered).catch_unwind().await {
            Ok(Ok(outcome)) => outcome,
            Ok(Err(_)) => {
                tracing::error!(call = record.call, "a request was not answered in time");
                Outcome::turned(Turned::Unavailable { retry_after: Duration::from_secs(5) }, Reason::Internal)
            }
            Err(_) => {
                tracing::error!(call = record.call, "a request panicked");
                Outcome::transport(Reason::Internal)
            }
        };
        record.status = outcome.response.status().as_u16();
        record.result = outcome.result;
        outcome.response
    }

    async fn dispatch(
        &self,
        route: Route,
        head: Parts,
        body: Result<Bytes, Reason>,
        arrival: Arrival,
    ) -> Outcome {
        let body = match body {
            Ok(body) => Ok(body),
            Err(Reason::BodyMalformed) => Err(Reason::BodyMalformed),
            Err(reason) => return Outcome::transport(reason),
        };
        match route {
            Route::Unknown => return Outcome::transport(Reason::PathUnknown),
            Route::Partner(_) if head.method != Method::POST => {
                return Outcome::transport(Reason::MethodNotAllowed);
            }
            Route::Partner(_) => {}
            _ if head.method != Method::GET && head.method != Method::HEAD => {
                return Outcome::get_only();
            }
            _ => {}
        }
        let read = |body| Parameters::read(&head.headers, head.uri.query(), body);
        let face = match (&self.0.behind, route) {
            (Behind::Gateway(face), _) => face,
            (Behind::Reference, Route::Partner(Endpoint::PayEsamsat)) => {
                return match body.and_then(read) {
                    Ok(parameters) => reference::handle(&parameters),
                    Err(reason) => Outcome::transport(reason),
                };
            }
            (Behind::Reference, _) => return Outcome::transport(Reason::PathUnknown),
        };
        let client = client_address(&face.trusted_proxies, arrival.peer, &head.headers);
        match route {
            Route::Partner(endpoint) => {
                let parameters = match body.and_then(read) {
                    Err(Reason::MediaTypeUnsupported) => {
                        return Outcome::transport(Reason::MediaTypeUnsupported);
                    }
                    parameters => parameters,
                };
                let engine = &face.engine;
                partner::answer(endpoint, Call { engine, parameters, client, arrived_at: arrival.at }).await
            }
            Route::Live => operations::live(),
            Route::Ready => operations::ready(face).await,
            Route::Metrics | Route::Lines => {
                // Forwarded by a proxy that is not configured: the peer is not who asks.
                let is_forwarded = head.headers.contains_key("x-forwarded-for") && client == arrival.peer;
                let told = match route {
                    Route::Lines => operations::lines(face, client),
                    _ => operations::metrics(face, client),
                };
                told.filter(|_| !is_forwarded).unwrap_or_else(|| Outcome::transport(Reason::PathUnknown))
            }
            Route::Index => operations::index(),
            Route::Unknown => Outcome::transport(Reason::PathUnknown),
        }
    }
}

/// Reads a body whole. The error is [`Reason::BodyTooSlow`], [`Reason::BodyTooLarge`] or, when the
/// connection broke, [`Reason::BodyMalformed`].
async fn read_body<B>(mut body: B, headers: &HeaderMap, by: Instant) -> Result<Bytes, Reason>
where
    B: HttpBody<Data = Bytes> + Unpin,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let announced_too_large = body.size_hint().lower() > limits::body_bytes_max as u64;
    if announced_too_large && headers.contains_key(header::EXPECT) {
        // The sender waits for leave to send it.
        return Err(Reason::BodyTooLarge);
    }
    let whole = timeout_at(by, Limited::new(&mut body, limits::body_bytes_max).collect()).await;
    match whole {
        Ok(Ok(collected)) => Ok(collected.to_bytes()),
        Err(_) => Err(Reason::BodyTooSlow),
        Ok(Err(error)) if error.is::<LengthLimitError>() => {
            // A sender that is cut off while it writes would never read why.
            let discarded = timeout_at(by, discard(&mut body)).await;
            if discarded.is_err() { Err(Reason::BodyTooSlow) } else { Err(Reason::BodyTooLarge) }
        }
        Ok(Err(_)) => Err(Reason::BodyMalformed),
    }
}

async fn discard<B: HttpBody<Data = Bytes> + Unpin>(body: &mut B) {
    let mut left = limits::discarded_bytes_max;
    while let Some(Ok(frame)) = body.frame().await {
        let length = frame.data_ref().map_or(0, Bytes::len);
        match left.checked_sub(length) {
            Some(rest) => left = rest,
            None => return,
        }
    }
}

/// An answer, and what the log and the metrics call it.
pub(crate) struct Outcome {
    pub(crate) response: Response<Body>,
    pub(crate) result: &'static str,
}

const JSON: HeaderValue = HeaderValue::from_static("application/json");
const PROMETHEUS_TEXT: HeaderValue = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");

impl Outcome {
    fn new(body: impl Into<Bytes>, content_type: HeaderValue, result: &'static str) -> Self {
        let mut response = Response::new(Full::new(body.into()));
        response.headers_mut().insert(header::CONTENT_TYPE, content_type);
        // Answers name people.
        response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        Self { response, result }
    }

    pub(crate) fn json_text(body: &'static str, result: &'static str) -> Self {
        Self::new(body, JSON, result)
    }

    /// A serialised answer of the application.
    pub(crate) fn json<T: serde::Serialize>(answer: &T, result: &'static str) -> Self {
        let mut body = Vec::with_capacity(1_024);
        serde_json::to_writer(&mut body, answer).expect("answers are maps of texts, written to memory");
        Self::new(body, JSON, result)
    }

    pub(crate) fn metrics_text(body: String) -> Self {
        Self::new(body, PROMETHEUS_TEXT, "ok")
    }

    /// `{"result":"no","reason":…}`.
    pub(crate) fn plain_failure(sentence: &str, result: &'static str) -> Self {
        #[derive(serde::Serialize)]
        struct PlainFailure<'a> {
            result: &'static str,
            reason: &'a str,
        }
        Self::json(&PlainFailure { result: "no", reason: sentence }, result)
    }

    pub(crate) fn with_status(mut self, status: StatusCode) -> Self {
        *self.response.status_mut() = status;
        self
    }

    fn with_header(mut self, name: header::HeaderName, value: HeaderValue) -> Self {
        self.response.headers_mut().insert(name, value);
        self
    }

    /// What the transport refuses, with its status.
    fn transport(reason: Reason) -> Self {
        let outcome = Self::plain_failure(reason.sentence(), reason.code());
        let close = HeaderValue::from_static("close");
        match reason {
            Reason::PathUnknown => outcome.with_status(StatusCode::NOT_FOUND),
            Reason::MethodNotAllowed => outcome
                .with_status(StatusCode::METHOD_NOT_ALLOWED)
                .with_header(header::ALLOW, HeaderValue::from_static("POST")),
            Reason::BodyTooSlow => {
                outcome.with_status(StatusCode::REQUEST_TIMEOUT).with_header(header::CONNECTION, close)
            }
            Reason::BodyTooLarge => {
                outcome.with_status(StatusCode::PAYLOAD_TOO_LARGE).with_header(header::CONNECTION, close)
            }
            Reason::MediaTypeUnsupported => outcome.with_status(StatusCode::UNSUPPORTED_MEDIA_TYPE),
            Reason::Internal => outcome.with_status(StatusCode::INTERNAL_SERVER_ERROR),
            _ => outcome,
        }
    }

    /// A refusal by overload: 429 or 503, with when to come back.
    fn turned(turned: Turned, reason: Reason) -> Self {
        Self::plain_failure(reason.sentence(), reason.code()).turned_away(turned)
    }

    /// With the status and the pause that a refusal leaves with.
    pub(crate) fn turned_away(self, turned: Turned) -> Self {
        let (status, retry_after) = match turned {
            Turned::Answer => return self,
            Turned::TooMany { retry_after } => (StatusCode::TOO_MANY_REQUESTS, retry_after),
            Turned::Unavailable { retry_after } => (StatusCode::SERVICE_UNAVAILABLE, retry_after),
        };
        let seconds = retry_after.as_secs().max(1);
        self.with_status(status).with_header(header::RETRY_AFTER, HeaderValue::from(seconds))
    }

    /// What is only there to be read.
    fn get_only() -> Self {
        Self::json_text(r#"{"status":"method not allowed"}"#, "method_not_allowed")
            .with_status(StatusCode::METHOD_NOT_ALLOWED)
            .with_header(header::ALLOW, HeaderValue::from_static("GET, HEAD"))
    }
}

/// What is told about a request when it ends, however it ends.
struct Record {
    id: u64,
    call: &'static str,
    method: Method,
    arrived_at: Instant,
    status: u16,
    result: &'static str,
}

impl Drop for Record {
    fn drop(&mut self) {
        let Self { id, call, method, arrived_at, status, result } = self;
        let duration = arrived_at.elapsed();
        metrics::counter!("esamsat_requests_total", "call" => *call, "result" => *result).increment(1);
        metrics::histogram!("esamsat_request_duration_seconds", "call" => *call).record(duration);
        let duration_us = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
        tracing::info!(request = id, %method, call, status, result, duration_us, "request");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_route_table() {
        for (path, name) in [
            ("/json/esamsat/list_esamsat", "list_esamsat"),
            ("/json/esamsat/list_esamsat/", "list_esamsat"),
            ("/json/esamsat/list_esamsat//", "unknown"),
            ("/json/esamsat/inquiry_esamsat", "inquiry_esamsat"),
            ("/json/esamsat/pay_esamsat", "pay_esamsat"),
            ("/json/esamsat/status_invoice", "status_invoice"),
            ("/json/ceksaldo/", "ceksaldo"),
            ("/JSON/ceksaldo", "unknown"),
            ("/health/live", "live"),
            ("/health/ready", "ready"),
            ("/metrics", "metrics"),
            ("/", "index"),
            ("", "index"),
            ("//", "unknown"),
            ("*", "unknown"),
        ] {
            assert_eq!(Route::of(path).name(), name, "{path}");
        }
    }
}
