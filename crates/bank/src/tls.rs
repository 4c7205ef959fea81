//! Whom an encrypted connection believes, and what it shows of itself.

use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
};
use std::{fmt::Display, path::Path, sync::Arc};

fn unusable(what: &str, path: &Path, error: &dyn Display) -> String {
    format!("failed to read {what} from {}: {error}", path.display())
}

fn certificates(what: &str, path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let read = CertificateDer::pem_file_iter(path).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    match read {
        Ok(certificates) if certificates.is_empty() => {
            Err(unusable(what, path, &"there is no certificate in it"))
        }
        Ok(certificates) => Ok(certificates),
        Err(error) => Err(unusable(what, path, &error)),
    }
}

/// Whoever a file names as an authority (PEM); the error calls the file `what`.
pub(crate) fn roots(what: &str, path: &Path) -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(what, path)? {
        roots.add(certificate).map_err(|error| unusable(what, path, &error))?;
    }
    Ok(roots)
}

/// Believes these, and shows the certificate in the first file with its key in the second, if there are any.
pub(crate) fn client_config(
    roots: RootCertStore,
    own: Option<(&Path, &Path)>,
) -> Result<Arc<ClientConfig>, String> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("ring has the default versions")
        .with_root_certificates(roots);
    let Some((certificate, key)) = own else { return Ok(Arc::new(builder.with_no_client_auth())) };
    let chain = certificates("tls.certificate_file", certificate)?;
    let wrong_key = |error: &dyn Display| unusable("tls.key_file", key, error);
    let key_der = PrivateKeyDer::from_pem_file(key).map_err(|error| wrong_key(&error))?;
    let config = builder.with_client_auth_cert(chain, key_der).map_err(|error| wrong_key(&error))?;
    Ok(Arc::new(config))
}
