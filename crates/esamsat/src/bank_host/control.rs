//! The host's control API: HTTP and JSON, for tests and trainings.
//!
//! ```text
//! GET /state   GET|PUT /faults   POST /cut-over   POST /close   POST /reset   GET /payments
//! ```

use crate::commands::rfc3339;
use bank::{host::Host, profile::LineProfile, simulator::LedgerPayment};
use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::{Method, Request, Response, StatusCode, body::Incoming, service::service_fn};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use std::{convert::Infallible, sync::Arc, time::Duration};
use tokio::{
    net::TcpListener,
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;

/// Bytes of a request's body.
const BODY_BYTES_MAX: usize = 64 * 1024;

/// How long after a failure to accept a connection another one is tried.
const ACCEPT_AGAIN_AFTER: Duration = Duration::from_millis(50);

/// How long a connection may take.
const CONNECTION_WITHIN: Duration = Duration::from_mins(1);

/// Serves until it is told to stop.
pub(super) async fn serve(host: Arc<Host>, listener: TcpListener, stop: CancellationToken) {
    while let Some(accepted) = stop.run_until_cancelled(listener.accept()).await {
        let Ok((stream, _)) = accepted else {
            // There are no more files to be had; perhaps soon.
            sleep(ACCEPT_AGAIN_AFTER).await;
            continue;
        };
        let host = Arc::clone(&host);
        let stop = stop.clone();
        tokio::spawn(async move {
            let service = service_fn(move |request| answer(Arc::clone(&host), request));
            let connection =
                hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service);
            // Whoever hangs up in the midst of it is nobody's concern.
            drop(stop.run_until_cancelled(timeout(CONNECTION_WITHIN, connection)).await);
        });
    }
}

async fn answer(host: Arc<Host>, request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    let (head, body) = request.into_parts();
    let body = Limited::new(body, BODY_BYTES_MAX).collect().await.map(http_body_util::Collected::to_bytes);
    let (status, value) = match (&head.method, head.uri.path()) {
        (&Method::GET, "/state") => (StatusCode::OK, json!(host.state())),
        (&Method::GET, "/faults") => (StatusCode::OK, json!(host.faults())),
        (&Method::PUT, "/faults") => set_faults(&host, &body.unwrap_or_default()),
        (&Method::POST, "/cut-over") => {
            let date = host.business_date().next();
            host.cut_over(date);
            (StatusCode::OK, json!({ "business_date": date.to_string() }))
        }
        (&Method::POST, "/close") => {
            host.close_connections();
            (StatusCode::OK, json!({ "closed": true }))
        }
        (&Method::POST, "/reset") => match host.reset().await {
            Ok(generation) => (StatusCode::OK, json!({ "generation": generation })),
            Err(error) => failed(&error),
        },
        (&Method::GET, "/payments") => match host.payments().await {
            Ok(payments) => (StatusCode::OK, payments.iter().map(payment_json).collect()),
            Err(error) => failed(&error),
        },
        _ => (
            StatusCode::NOT_FOUND,
            json!({ "error": "there are GET /state, GET|PUT /faults, POST /cut-over, POST /close, POST /reset, GET /payments" }),
        ),
    };
    let mut response = Response::new(Full::new(Bytes::from(format!("{value}\n"))));
    *response.status_mut() = status;
    response
        .headers_mut()
        .insert(hyper::header::CONTENT_TYPE, hyper::header::HeaderValue::from_static("application/json"));
    Ok(response)
}

fn set_faults(host: &Host, body: &[u8]) -> (StatusCode, Value) {
    let set = serde_json::from_slice(body)
        .map_err(|error| error.to_string())
        .and_then(|faults| host.set_faults(faults).map_err(str::to_owned));
    match set {
        Ok(()) => (StatusCode::OK, json!(host.faults())),
        Err(error) => (StatusCode::BAD_REQUEST, json!({ "error": error })),
    }
}

fn failed(error: &impl std::fmt::Display) -> (StatusCode, Value) {
    (StatusCode::INTERNAL_SERVER_ERROR, json!({ "error": error.to_string() }))
}

/// A payment for scripts.
pub(super) fn payment_json(payment: &LedgerPayment) -> Value {
    json!({
        "identity": payment.identity,
        "invoice": payment.invoice.to_string(),
        "payment_code": payment.payment_code,
        "amount_rupiah": payment.amount,
        "reference_number": payment.receipt.reference_number,
        "trace_number": LineProfile::trace_of_identity(&payment.identity),
        "reversed": payment.generation < 0,
        "generation": payment.generation,
        "paid_at": rfc3339(payment.paid_at),
    })
}
