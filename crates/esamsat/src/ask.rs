//! One question over HTTP to a process of this program: a gateway, a bank host.
//!
//! Deliberately absent: retries, and TLS.

use anyhow::{Context, bail};
use http_body_util::{BodyExt, Full, Limited};
use hyper::{Method, Request, StatusCode, body::Bytes, header::HOST};
use hyper_util::rt::TokioIo;
use std::{net::SocketAddr, time::Duration};
use tokio::{net::TcpStream, time::timeout};

/// How long an answer may take.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);

/// Bytes of an answer.
const BYTES_MAX: usize = 1024 * 1024;

/// Asks, and returns the answer's status and body.
pub async fn ask(
    address: SocketAddr,
    method: Method,
    path: &str,
    body: Bytes,
) -> anyhow::Result<(StatusCode, Bytes)> {
    let Ok(answer) = timeout(ANSWER_WITHIN, exchange(address, method, path, body)).await else {
        bail!("it does not answer");
    };
    answer
}

async fn exchange(
    address: SocketAddr,
    method: Method,
    path: &str,
    body: Bytes,
) -> anyhow::Result<(StatusCode, Bytes)> {
    let stream = TcpStream::connect(address).await?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    let request = Request::builder().method(method).uri(path).header(HOST, address.to_string());
    let response = sender.send_request(request.body(Full::new(body))?).await?;
    let status = response.status();
    let body = Limited::new(response.into_body(), BYTES_MAX).collect().await;
    let body = body.map_err(|error| anyhow::anyhow!("{error}")).context("failed to read the answer")?;
    Ok((status, body.to_bytes()))
}
