//! Whoever is not proved to be the right server gets no password: a stand-in that speaks TLS before the real
//! one, with certificates made for the test.

use crate::kit::Schema;
use std::{
    path::{Path, PathBuf},
    process::Command,
    sync::Arc,
};
use store::Store;
use store_postgres::{Address, OpenError, PostgresStore};
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional},
    net::{TcpListener, TcpStream},
};
use tokio_rustls::{
    TlsAcceptor,
    rustls::{
        ServerConfig,
        crypto::ring,
        pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    },
};

/// What a client that wants TLS begins with.
const SSL_REQUEST: [u8; 8] = [0, 0, 0, 8, 4, 210, 22, 47];

/// The name in the server's certificate.
const NAME: &str = "db.example";

/// Two authorities, of which the first one has signed the server's certificate.
struct Certificates {
    folder: TempDir,
}

impl Certificates {
    fn new() -> Self {
        let certificates = Self { folder: TempDir::new().expect("a temporary directory") };
        let new_key = "-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes";
        for authority in ["right", "wrong"] {
            let files = format!("-keyout {authority}.key -out {authority}.pem");
            certificates.openssl(&format!("req -x509 {new_key} -days 2 -subj /CN={authority} {files}"));
        }
        let names = format!("subjectAltName=DNS:{NAME}\nbasicConstraints=CA:FALSE\n");
        std::fs::write(certificates.path("names"), names).expect("a file");
        let files = "-keyout server.key -out server.csr";
        certificates.openssl(&format!("req {new_key} -subj /CN={NAME} {files}"));
        let signer = "-CA right.pem -CAkey right.key -CAcreateserial";
        let signing = "x509 -req -in server.csr -days 2 -extfile names -out server.pem";
        certificates.openssl(&format!("{signing} {signer}"));
        certificates
    }

    fn openssl(&self, arguments: &str) {
        let mut command = Command::new("openssl");
        let done = command.args(arguments.split(' ')).current_dir(self.folder.path()).output();
        let done = done.expect("openssl is installed");
        assert!(done.status.success(), "openssl {arguments}: {}", String::from_utf8_lossy(&done.stderr));
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn acceptor(&self) -> TlsAcceptor {
        let certificate = CertificateDer::from_pem_file(self.path("server.pem")).expect("a certificate");
        let key = PrivateKeyDer::from_pem_file(self.path("server.key")).expect("a key");
        let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("ring has the default protocol versions")
            .with_no_client_auth()
            .with_single_cert(vec![certificate], key)
            .expect("the key is the certificate's");
        TlsAcceptor::from(Arc::new(config))
    }
}

/// Stands in for a server: with TLS, or as one that has none. Returns its port.
async fn stand_in(server: String, acceptor: Option<TlsAcceptor>) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = listener.local_addr().expect("it is bound").port();
    tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            let (server, acceptor) = (server.clone(), acceptor.clone());
            tokio::spawn(async move {
                let mut request = [0; 8];
                client.read_exact(&mut request).await?;
                assert_eq!(request, SSL_REQUEST, "nobody speaks in the clear");
                let Some(acceptor) = acceptor else { return client.write_all(b"N").await };
                client.write_all(b"S").await?;
                let mut client = acceptor.accept(client).await?;
                let mut server = TcpStream::connect(server).await?;
                copy_bidirectional(&mut client, &mut server).await?;
                Ok(())
            });
        }
    });
    port
}

/// Opens the schema on a server of this name, which is found at a port of this machine.
async fn open(schema: &Schema, name: &str, port: u16, roots: &Path) -> Result<PostgresStore, OpenError> {
    let server = format!("@{}/", schema.server_address());
    let url = schema.url().replacen(&server, &format!("@{name}:{port}/"), 1);
    let url = format!("{url}&hostaddr=127.0.0.1&sslrootcert={}", roots.display());
    PostgresStore::open(Address::parse(&url, None)?).await
}

#[tokio::test]
async fn only_the_server_of_the_right_name_and_authority_is_spoken_to() {
    let schema = Schema::migrated().await;
    let certificates = Certificates::new();
    let port = stand_in(schema.server_address(), Some(certificates.acceptor())).await;
    let (right, wrong) = (certificates.path("right.pem"), certificates.path("wrong.pem"));

    let store = open(&schema, NAME, port, &right).await.expect("it is the right server");
    store.check().await.expect("it can be written");

    for (name, roots, expected) in [
        (NAME, &wrong, "invalid peer certificate: UnknownIssuer"),
        ("other.example", &right, "not valid for name \"other.example\""),
        (NAME, &certificates.path("server.key"), "holds no certificate"),
        (NAME, &certificates.path("missing.pem"), "missing.pem"),
    ] {
        let error = open(&schema, name, port, roots).await.expect_err("it is not the right server");
        assert!(error.to_string().contains(expected), "{name} by {}: {error}", roots.display());
    }
}

#[tokio::test]
async fn a_server_without_tls_is_spoken_to_only_if_the_address_says_so() {
    let schema = Schema::migrated().await;
    let certificates = Certificates::new();
    let port = stand_in(schema.server_address(), None).await;
    let refused = open(&schema, NAME, port, &certificates.path("right.pem")).await;
    let error = refused.expect_err("it has no TLS").to_string();
    assert!(error.contains("server does not support TLS"), "{error}");

    let plain = format!("{}&sslmode=disable", schema.url());
    let store = PostgresStore::open(Address::parse(&plain, None).expect("an address")).await;
    store.expect("it is asked for").check().await.expect("it can be written");
}
