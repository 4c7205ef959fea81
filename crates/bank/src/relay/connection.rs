//! Connections to a provider: brought up before a request is handed over, and kept for the next one.
//!
//! One that does not come up is the certain kind of "never sent". A kept one is used again only for so long that the
//! provider will hardly hang up just then. Deliberately absent: redirects, proxies, HTTP/2, and a second try of
//! anything of which a byte was written.

use super::{
    gate::{Gate, Gated},
    settings::RelaySettings,
};
use crate::{SendBefore, locked, sending::unsent_max, tls};
use bytes::Bytes;
use domain::Clock;
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::{Request, Uri, body::Incoming, client::conn::http1};
use hyper_util::rt::TokioIo;
use rustls::{ClientConfig, RootCertStore, pki_types::ServerName};
use socket2::SockRef;
use std::{
    io,
    path::Path,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    time::{Instant, timeout_at},
};
use tokio_rustls::TlsConnector;
use tokio_util::task::AbortOnDropHandle;

/// Bytes of an answer's body, and of its head.
const ANSWER_BYTES_MAX: usize = 64 * 1024;

/// A connection that was idle for longer is not used again: the usual servers hang up after five seconds.
const IDLE_MAX: Duration = Duration::from_secs(4);

/// What is sent.
pub(super) type Posted = Request<Full<Bytes>>;

/// An answer over HTTP.
pub(super) struct Received {
    pub(super) status: u16,
    pub(super) body: Bytes,
}

/// Why there is no answer.
#[derive(Debug)]
pub(super) enum Missed {
    /// Not one byte left.
    NeverSent(NotSent),
    /// None in time.
    TimedOut,
    /// It broke off.
    Cut,
    /// More than anybody wants to read.
    TooLong,
}

/// Why nothing was sent.
#[derive(Debug)]
pub(super) enum NotSent {
    /// No connection came up. `is_silent`: nothing was heard, not even that it is not wanted.
    NoConnection { why: String, is_silent: bool },
    /// One did, and it was too late by then.
    TooLate,
}

impl std::fmt::Display for NotSent {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::NoConnection { why, .. } => write!(f, "no connection: {why}"),
            Self::TooLate => f.write_str("it became too late to send"),
        }
    }
}

/// The connections to one host.
pub(super) struct Connections {
    host: String,
    port: u16,
    tls: Option<(TlsConnector, ServerName<'static>)>,
    clock: Arc<dyn Clock>,
    connect_timeout: Duration,
    /// What the kernel was given it gives up after this time, so that nothing arrives later.
    unsent_max: Duration,
    kept_max: usize,
    kept: Mutex<Vec<Connection>>,
}

struct Connection {
    sender: http1::SendRequest<Full<Bytes>>,
    gate: Arc<Gate>,
    /// Its reading and writing; nothing goes on when it is dropped.
    _task: AbortOnDropHandle<()>,
    idle_since: Instant,
}

impl Connections {
    /// To the host of an address, which was checked.
    pub(super) fn new(
        address: &Uri,
        settings: &RelaySettings,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, String> {
        let host = address.host().unwrap_or_default().trim_matches(['[', ']']).to_owned();
        let is_tls = address.scheme_str() == Some("https");
        let tls = if is_tls {
            let name = ServerName::try_from(host.clone()).map_err(|_| format!("{host:?} is no host name"))?;
            Some((TlsConnector::from(client_config(settings.ca_file.as_deref())?), name))
        } else {
            None
        };
        Ok(Self {
            port: address.port_u16().unwrap_or(if is_tls { 443 } else { 80 }),
            host,
            tls,
            clock,
            connect_timeout: Duration::from_millis(settings.connect_timeout_ms),
            unsent_max: unsent_max(settings.horizon()),
            kept_max: settings.in_flight_max,
            kept: Mutex::default(),
        })
    }

    /// Sends a request, at most once, and reads the whole answer.
    pub(super) async fn exchange(
        &self,
        posted: &Posted,
        send_before: Option<SendBefore>,
        deadline: Instant,
    ) -> Result<Received, Missed> {
        let mut kept = self.take_kept();
        loop {
            let is_new = kept.is_none();
            let mut connection = match kept.take() {
                Some(connection) => connection,
                None => self.connect(deadline).await?,
            };
            connection.gate.begin(send_before);
            let answered = timeout_at(deadline, post(&mut connection.sender, posted.clone())).await;
            let is_written = connection.gate.end();
            match answered {
                Ok(Ok(received)) => {
                    self.keep(connection);
                    return Ok(received);
                }
                Ok(Err(missed)) if is_written => return Err(missed),
                Err(_) if is_written => return Err(Missed::TimedOut),
                // A kept connection that had been closed meanwhile.
                Ok(Err(_)) if !is_new => {}
                _ => return Err(Missed::NeverSent(NotSent::TooLate)),
            }
        }
    }

    /// Hangs up where nothing is under way.
    pub(super) fn close(&self) {
        self.kept().clear();
    }

    fn kept(&self) -> MutexGuard<'_, Vec<Connection>> {
        locked(&self.kept)
    }

    /// The one that was used last.
    fn take_kept(&self) -> Option<Connection> {
        let mut kept = self.kept();
        kept.retain(|connection| {
            connection.idle_since.elapsed() < IDLE_MAX && !connection.sender.is_closed()
        });
        kept.pop()
    }

    fn keep(&self, mut connection: Connection) {
        let mut kept = self.kept();
        if kept.len() < self.kept_max {
            connection.idle_since = Instant::now();
            kept.push(connection);
        }
    }

    /// Whether the one that was used last is known to be closed.
    #[cfg(test)]
    pub(super) fn last_is_closed(&self) -> bool {
        self.kept().last().is_some_and(|connection| connection.sender.is_closed())
    }

    async fn connect(&self, deadline: Instant) -> Result<Connection, Missed> {
        let deadline = deadline.min(Instant::now() + self.connect_timeout);
        let (why, is_silent) = match timeout_at(deadline, self.try_connect()).await {
            Ok(Ok(connection)) => return Ok(connection),
            Ok(Err(error)) => (error.to_string(), error.kind() == io::ErrorKind::TimedOut),
            Err(_) => ("it did not come up in time".to_owned(), true),
        };
        Err(Missed::NeverSent(NotSent::NoConnection { why, is_silent }))
    }

    async fn try_connect(&self) -> io::Result<Connection> {
        let stream = TcpStream::connect((self.host.as_str(), self.port)).await?;
        stream.set_nodelay(true)?;
        SockRef::from(&stream).set_tcp_user_timeout(Some(self.unsent_max))?;
        match &self.tls {
            None => self.speak_http(stream).await,
            Some((connector, name)) => self.speak_http(connector.connect(name.clone(), stream).await?).await,
        }
    }

    async fn speak_http(
        &self,
        stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    ) -> io::Result<Connection> {
        let gate = Arc::new(Gate::new(Arc::clone(&self.clock), self.unsent_max));
        let io = TokioIo::new(Gated { stream, gate: Arc::clone(&gate) });
        let (sender, connection) = http1::Builder::new()
            .max_buf_size(ANSWER_BYTES_MAX)
            .handshake(io)
            .await
            .map_err(io::Error::other)?;
        let task = AbortOnDropHandle::new(tokio::spawn(async move {
            // How it ended is told to whoever waits on it.
            drop(connection.await);
        }));
        Ok(Connection { sender, gate, _task: task, idle_since: Instant::now() })
    }
}

async fn post(sender: &mut http1::SendRequest<Full<Bytes>>, posted: Posted) -> Result<Received, Missed> {
    sender.ready().await.map_err(|_| Missed::Cut)?;
    let response: hyper::Response<Incoming> = sender.send_request(posted).await.map_err(|_| Missed::Cut)?;
    let status = response.status().as_u16();
    let collected = Limited::new(response.into_body(), ANSWER_BYTES_MAX).collect().await;
    let body = collected
        .map_err(|error| if error.is::<LengthLimitError>() { Missed::TooLong } else { Missed::Cut })?
        .to_bytes();
    Ok(Received { status, body })
}

/// Believes whom the file names, or whom the operating system does.
pub(super) fn client_config(ca_file: Option<&Path>) -> Result<Arc<ClientConfig>, String> {
    let trusted = match ca_file {
        None => {
            let mut trusted = RootCertStore::empty();
            trusted.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
            trusted
        }
        Some(path) => tls::roots("ca_file", path)?,
    };
    tls::client_config(trusted, None)
}
