//! A connection to a bank: prompt, watched, and encrypted where that is agreed.

use super::settings::Tls;
use crate::tls;
use futures::future::BoxFuture;
use rustls::{ClientConfig, pki_types::ServerName};
use socket2::{SockRef, TcpKeepalive};
use std::{io, sync::Arc, time::Duration};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    time::timeout,
};
use tokio_rustls::TlsConnector;

/// How long a connection may take to come up, encryption included.
const CONNECT_MAX: Duration = Duration::from_secs(10);

/// A silent peer is probed by the kernel after this time.
const KEEPALIVE: Duration = Duration::from_secs(30);

/// What comes from the bank.
pub type Reading = Box<dyn AsyncRead + Send + Unpin>;

/// What goes to the bank.
pub type Writing = Box<dyn AsyncWrite + Send + Unpin>;

/// How a line reaches its bank: by TCP, or by what stands in its place in a simulation.
pub trait Dial: Send + Sync {
    /// Connects. What is written and not acknowledged within `user_timeout` ends the connection, and never arrives
    /// later than that. When the connection is dropped, it is reset.
    fn dial<'a>(
        &'a self,
        address: &'a str,
        encryption: Option<&'a Tls>,
        user_timeout: Duration,
    ) -> BoxFuture<'a, io::Result<Connected>>;
}

/// TCP, and TLS where it is agreed.
pub(super) struct Tcp;

/// Reads what a line's encryption needs; the error says which file is of no use. It is read for every connection, so
/// that a renewed certificate needs no new start.
pub(super) fn tls_config(settings: &Tls) -> Result<(Arc<ClientConfig>, ServerName<'static>), String> {
    let name = ServerName::try_from(settings.server_name.clone())
        .map_err(|_| format!("tls.server_name {:?} is no host name", settings.server_name))?;
    let own = match (&settings.certificate_file, &settings.key_file) {
        (None, None) => None,
        (Some(certificate), Some(key)) => Some((certificate.as_path(), key.as_path())),
        _ => {
            return Err(
                "tls.certificate_file and tls.key_file belong together; give both or neither".to_owned()
            );
        }
    };
    Ok((tls::client_config(tls::roots("tls.ca_file", &settings.ca_file)?, own)?, name))
}

/// A connection's two ends, and how it is let go.
pub struct Connected {
    /// What comes.
    pub reading: Reading,
    /// What goes.
    pub writing: Writing,
    /// From here on, dropping the connection does not reset it any more.
    pub end_in_order: Box<dyn FnOnce() + Send>,
}

impl std::fmt::Debug for Connected {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connected").finish_non_exhaustive()
    }
}

impl Dial for Tcp {
    fn dial<'a>(
        &'a self,
        address: &'a str,
        encryption: Option<&'a Tls>,
        user_timeout: Duration,
    ) -> BoxFuture<'a, io::Result<Connected>> {
        Box::pin(async move {
            let stream = TcpStream::connect(address).await?;
            stream.set_nodelay(true)?;
            let socket = SockRef::from(&stream).try_clone()?;
            socket.set_linger(Some(Duration::ZERO))?;
            socket.set_tcp_keepalive(&TcpKeepalive::new().with_time(KEEPALIVE).with_interval(KEEPALIVE))?;
            socket.set_tcp_user_timeout(Some(user_timeout))?;
            let end_in_order = Box::new(move || drop(socket.set_linger(None)));
            let Some(settings) = encryption else {
                let (reading, writing) = stream.into_split();
                return Ok(Connected {
                    reading: Box::new(reading),
                    writing: Box::new(writing),
                    end_in_order,
                });
            };
            let (config, name) = tls_config(settings).map_err(io::Error::other)?;
            let stream = TlsConnector::from(config).connect(name, stream).await?;
            let (reading, writing) = tokio::io::split(stream);
            Ok(Connected { reading: Box::new(reading), writing: Box::new(writing), end_in_order })
        })
    }
}

/// Connects, or gives up in time.
pub(super) async fn connect(
    dial: &dyn Dial,
    address: &str,
    encryption: Option<&Tls>,
    user_timeout: Duration,
) -> io::Result<Connected> {
    timeout(CONNECT_MAX, dial.dial(address, encryption, user_timeout))
        .await
        .unwrap_or_else(|_| Err(io::Error::new(io::ErrorKind::TimedOut, "it did not come up in time")))
}
