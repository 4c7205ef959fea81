//! Whoever is not proved to be the right server gets no password: a stand-in that speaks TLS before the real
//! one, with certificates made for the test.

use crate::kit::Schema;
use std::path::Path;
use store::Store;
use store_postgres::{Address, OpenError, PostgresStore};
use test_certificates::Certificates;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional},
    net::{TcpListener, TcpStream},
};
use tokio_rustls::TlsAcceptor;

/// What a client that wants TLS begins with.
const SSL_REQUEST: [u8; 8] = [0, 0, 0, 8, 4, 210, 22, 47];

/// The name in the server's certificate.
const NAME: &str = "db.example";

fn certificates() -> Certificates {
    Certificates::default().signed("server", "right", &format!("DNS:{NAME}"))
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
    let certificates = certificates();
    let port = stand_in(schema.server_address(), Some(certificates.acceptor("server", None))).await;
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
    let certificates = certificates();
    let port = stand_in(schema.server_address(), None).await;
    let refused = open(&schema, NAME, port, &certificates.path("right.pem")).await;
    let error = refused.expect_err("it has no TLS").to_string();
    assert!(error.contains("server does not support TLS"), "{error}");

    let plain = format!("{}&sslmode=disable", schema.url());
    let store = PostgresStore::open(Address::parse(&plain, None).expect("an address")).await;
    store.expect("it is asked for").check().await.expect("it can be written");
}
