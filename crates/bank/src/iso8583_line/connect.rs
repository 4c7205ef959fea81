//! A connection to a bank: prompt, watched, and encrypted where that is agreed.

use super::settings::Tls;
use crate::tls;
use rustls::{ClientConfig, pki_types::ServerName};
use socket2::{SockRef, Socket, TcpKeepalive};
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

pub(super) type Reading = Box<dyn AsyncRead + Send + Unpin>;
pub(super) type Writing = Box<dyn AsyncWrite + Send + Unpin>;

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

/// A connection's two ends, and its socket.
pub(super) struct Connected {
    pub(super) reading: Reading,
    pub(super) writing: Writing,
    pub(super) socket: Socket,
}

/// Connects. What is handed to the kernel is given up by it after `user_timeout` without an acknowledgement, so that
/// nothing arrives later than that; and when the connection is dropped, by a reset.
pub(super) async fn connect(
    address: &str,
    encryption: Option<&Tls>,
    user_timeout: Duration,
) -> io::Result<Connected> {
    let connecting = async {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        let socket = SockRef::from(&stream).try_clone()?;
        socket.set_linger(Some(Duration::ZERO))?;
        socket.set_tcp_keepalive(&TcpKeepalive::new().with_time(KEEPALIVE).with_interval(KEEPALIVE))?;
        socket.set_tcp_user_timeout(Some(user_timeout))?;
        let Some(settings) = encryption else {
            let (reading, writing) = stream.into_split();
            return Ok(Connected { reading: Box::new(reading), writing: Box::new(writing), socket });
        };
        let (config, name) = tls_config(settings).map_err(io::Error::other)?;
        let stream = TlsConnector::from(config).connect(name, stream).await?;
        let (reading, writing) = tokio::io::split(stream);
        Ok(Connected { reading: Box::new(reading), writing: Box::new(writing), socket })
    };
    timeout(CONNECT_MAX, connecting)
        .await
        .unwrap_or_else(|_| Err(io::Error::new(io::ErrorKind::TimedOut, "it did not come up in time")))
}
