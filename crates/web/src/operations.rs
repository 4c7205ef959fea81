//! What operators and their tools ask: is the process alive, does it take payments, how is it doing.

use crate::{
    address::is_within,
    limits,
    router::{Face, Outcome},
};
use hyper::StatusCode;
use std::net::IpAddr;
use tokio::time::timeout;

/// `GET /health/live`: the process answers.
pub(crate) fn live() -> Outcome {
    Outcome::json_text(r#"{"status":"live"}"#, "ok")
}

/// `GET /health/ready`: new payments can be taken. Why not is for the log, not for whoever asks.
pub(crate) async fn ready(face: &Face) -> Outcome {
    let why_not = match timeout(limits::readiness_within_max, face.engine.ready()).await {
        Ok(Ok(())) => return Outcome::json_text(r#"{"status":"ready"}"#, "ok"),
        Ok(Err(why_not)) => why_not,
        Err(_) => "the check took too long".to_owned(),
    };
    tracing::warn!(%why_not, "not ready");
    Outcome::json_text(r#"{"status":"not ready"}"#, "not_ready").with_status(StatusCode::SERVICE_UNAVAILABLE)
}

/// `GET /metrics`, for the operators' networks; for others there is no such path.
pub(crate) fn metrics(face: &Face, client: IpAddr) -> Option<Outcome> {
    is_within(&face.metrics_networks, client).then(|| Outcome::metrics_text((face.render_metrics)()))
}

/// `GET /health/lines`, for the operators' networks: how the lines to the banks stand.
pub(crate) fn lines(face: &Face, client: IpAddr) -> Option<Outcome> {
    is_within(&face.metrics_networks, client).then(|| Outcome::json(&face.engine.lines(), "ok"))
}

/// `GET /`: where the API is.
pub(crate) fn index() -> Outcome {
    Outcome::json_text(r#"{"service":"esamsat","api":"POST /json/esamsat/list_esamsat"}"#, "ok")
}
