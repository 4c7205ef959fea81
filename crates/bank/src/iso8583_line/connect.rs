//! A connection to a bank: prompt, watched, and encrypted where that is agreed.

use super::settings::Tls;
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject},
};
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

pub(super) type Reading = Box<dyn AsyncRead + Send + Unpin>;
pub(super) type Writing = Box<dyn AsyncWrite + Send + Unpin>;

/// Reads what a line's encryption needs; the error says which file is of no use.
pub(super) fn tls_config(tls: &Tls) -> Result<(Arc<ClientConfig>, ServerName<'static>), String> {
    let name = ServerName::try_from(tls.server_name.clone())
        .map_err(|_| format!("tls.server_name {:?} is no host name", tls.server_name))?;
    let unusable = |what: &str, path: &std::path::Path, error: &dyn std::fmt::Display| {
        format!("failed to read {what} from {}: {error}", path.display())
    };
    let certificates = |what: &str, path: &std::path::Path| -> Result<Vec<CertificateDer<'static>>, String> {
        let read = CertificateDer::pem_file_iter(path).and_then(Iterator::collect::<Result<Vec<_>, _>>);
        match read {
            Ok(certificates) if certificates.is_empty() => {
                Err(unusable(what, path, &"there is no certificate in it"))
            }
            Ok(certificates) => Ok(certificates),
            Err(error) => Err(unusable(what, path, &error)),
        }
    };
    let mut roots = RootCertStore::empty();
    for certificate in certificates("tls.ca_file", &tls.ca_file)? {
        roots.add(certificate).map_err(|error| unusable("tls.ca_file", &tls.ca_file, &error))?;
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("ring has the default versions")
        .with_root_certificates(roots);
    let config = match (&tls.certificate_file, &tls.key_file) {
        (None, None) => builder.with_no_client_auth(),
        (Some(certificate), Some(key)) => {
            let chain = certificates("tls.certificate_file", certificate)?;
            let key_der =
                PrivateKeyDer::from_pem_file(key).map_err(|error| unusable("tls.key_file", key, &error))?;
            builder
                .with_client_auth_cert(chain, key_der)
                .map_err(|error| unusable("tls.key_file", key, &error))?
        }
        _ => {
            return Err(
                "tls.certificate_file and tls.key_file belong together; give both or neither".to_owned()
            );
        }
    };
    Ok((Arc::new(config), name))
}

/// Connects. What is handed to the kernel is given up by it after `user_timeout` without an acknowledgement, so
/// that nothing arrives later than that.
pub(super) async fn connect(
    address: &str,
    tls: Option<&Tls>,
    user_timeout: Duration,
) -> io::Result<(Reading, Writing)> {
    let connecting = async {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        let socket = SockRef::from(&stream);
        socket.set_tcp_keepalive(&TcpKeepalive::new().with_time(KEEPALIVE).with_interval(KEEPALIVE))?;
        socket.set_tcp_user_timeout(Some(user_timeout))?;
        let Some(tls) = tls else {
            let (reading, writing) = stream.into_split();
            return Ok((Box::new(reading) as Reading, Box::new(writing) as Writing));
        };
        let (config, name) = tls_config(tls).map_err(io::Error::other)?;
        let stream = TlsConnector::from(config).connect(name, stream).await?;
        let (reading, writing) = tokio::io::split(stream);
        Ok((Box::new(reading) as Reading, Box::new(writing) as Writing))
    };
    timeout(CONNECT_MAX, connecting)
        .await
        .unwrap_or_else(|_| Err(io::Error::new(io::ErrorKind::TimedOut, "it did not come up in time")))
}
