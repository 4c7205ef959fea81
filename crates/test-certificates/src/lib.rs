//! Certificates for tests of what is encrypted, made by `openssl` in a folder of their own.
//!
//! # Panics
//!
//! Everything here, with what `openssl` said, when it does not work.

use rustls::{
    RootCertStore, ServerConfig,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    server::WebPkiClientVerifier,
};
use std::{
    path::{Path, PathBuf},
    process::Command,
    sync::Arc,
};
use tempfile::TempDir;
use tokio_rustls::TlsAcceptor;

/// Two authorities, `right` and `wrong`, and whom they have signed: `name.pem` and `name.key` of each.
#[derive(Debug)]
pub struct Certificates {
    folder: TempDir,
}

impl Default for Certificates {
    fn default() -> Self {
        let certificates = Self { folder: TempDir::new().expect("a temporary directory") };
        for authority in ["right", "wrong"] {
            let files = format!("-keyout {authority}.key -out {authority}.pem");
            certificates.openssl(&format!("req -x509 {NEW_KEY} -days 2 -subj /CN={authority} {files}"));
        }
        certificates
    }
}

const NEW_KEY: &str = "-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes";

impl Certificates {
    /// With one of an owner, signed by an authority for an alternative name: `DNS:db.example`, `IP:127.0.0.1`.
    #[must_use]
    pub fn signed(self, owner: &str, authority: &str, name: &str) -> Self {
        let extensions = format!("subjectAltName={name}\nbasicConstraints=CA:FALSE\n");
        std::fs::write(self.path("extensions"), extensions).expect("a file");
        self.openssl(&format!("req {NEW_KEY} -subj /CN={owner} -keyout {owner}.key -out {owner}.csr"));
        let signing = format!("-CA {authority}.pem -CAkey {authority}.key -CAcreateserial");
        let files = format!("-in {owner}.csr -out {owner}.pem -extfile extensions");
        self.openssl(&format!("x509 -req -days 2 {files} {signing}"));
        self
    }

    fn openssl(&self, arguments: &str) {
        let mut command = Command::new("openssl");
        let done = command.args(arguments.split(' ')).current_dir(self.folder()).output();
        let done = done.expect("openssl is installed");
        assert!(done.status.success(), "openssl {arguments}: {}", String::from_utf8_lossy(&done.stderr));
    }

    /// Where they are.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// One of the files.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder().join(name)
    }

    /// A server with an owner's certificate; it wants to see one of its clients that `clients` has signed, if given.
    pub fn acceptor(&self, owner: &str, clients: Option<&str>) -> TlsAcceptor {
        let provider = Arc::new(ring::default_provider());
        let read = |name: &str| {
            CertificateDer::from_pem_file(self.path(&format!("{name}.pem"))).expect("a certificate")
        };
        let config = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .expect("ring has the default protocol versions");
        let config = match clients {
            None => config.with_no_client_auth(),
            Some(authority) => {
                let mut roots = RootCertStore::empty();
                roots.add(read(authority)).expect("an authority");
                let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
                config.with_client_cert_verifier(verifier.build().expect("there is an authority"))
            }
        };
        let key = PrivateKeyDer::from_pem_file(self.path(&format!("{owner}.key"))).expect("a key");
        let config = config.with_single_cert(vec![read(owner)], key);
        TlsAcceptor::from(Arc::new(config.expect("the key is the certificate's")))
    }
}
