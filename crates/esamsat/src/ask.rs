//! One question over HTTP to a process of this program: a gateway, a bank host.
//!
//! Deliberately absent: retries, TLS, and a time limit, which is the caller's.

use anyhow::Context;
use http_body_util::{BodyExt, Full, Limited};
use hyper::{Method, Request, StatusCode, body::Bytes, header::HOST};
use hyper_util::rt::TokioIo;
use std::net::SocketAddr;
use tokio::net::TcpStream;

/// Bytes of an answer.
const BYTES_MAX: usize = 1024 * 1024;

/// Asks, and returns the answer's status and body.
pub async fn ask(
    address: SocketAddr,
    method: Method,
    path: &str,
    body: impl Into<Bytes>,
) -> anyhow::Result<(StatusCode, Bytes)> {
    let stream = TcpStream::connect(address).await?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    let request = Request::builder().method(method).uri(path).header(HOST, address.to_string());
    let response = sender.send_request(request.body(Full::new(body.into()))?).await?;
    let status = response.status();
    let body = Limited::new(response.into_body(), BYTES_MAX).collect().await;
    let body = body.map_err(|error| anyhow::anyhow!("{error}")).context("failed to read the answer")?;
    Ok((status, body.to_bytes()))
}
