//! An encrypted line: only to the bank that proves who it is, and only for a gateway that does.

use crate::peer::{AMOUNT, Connection, Gateway, NO_ECHO, PATIENT, Peer, profile, soon};
use bank::{
    Bank, NoPlace, PaymentOutcome,
    iso8583_line::{LineSettings, OneLine, Tls},
    profile::Operation,
};
use rustls::{
    RootCertStore, ServerConfig,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    server::WebPkiClientVerifier,
};
use std::{path::PathBuf, process::Command, sync::Arc};
use tempfile::TempDir;
use tokio_rustls::TlsAcceptor;

/// The name in the bank's certificate.
const NAME: &str = "host.bjb.example";

/// Two authorities; the first has signed the bank's certificate and the gateway's, the second one that claims to be
/// the gateway's.
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
        let extensions = format!("subjectAltName=DNS:{NAME}\nbasicConstraints=CA:FALSE\n");
        std::fs::write(certificates.path("extensions"), extensions).expect("a file");
        for (owner, signer) in [("bank", "right"), ("gateway", "right"), ("intruder", "wrong")] {
            certificates
                .openssl(&format!("req {new_key} -subj /CN={owner} -keyout {owner}.key -out {owner}.csr"));
            let signing = format!("-CA {signer}.pem -CAkey {signer}.key -CAcreateserial");
            let files = format!("-in {owner}.csr -out {owner}.pem -extfile extensions");
            certificates.openssl(&format!("x509 -req -days 2 {files} {signing}"));
        }
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

    /// The bank's end, which wants to see the gateway's certificate.
    fn acceptor(&self) -> TlsAcceptor {
        let provider = Arc::new(ring::default_provider());
        let read = |name: &str| CertificateDer::from_pem_file(self.path(name)).expect("a certificate");
        let mut roots = RootCertStore::empty();
        roots.add(read("right.pem")).expect("an authority");
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider));
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("ring has the default protocol versions")
            .with_client_cert_verifier(verifier.build().expect("there is an authority"))
            .with_single_cert(
                vec![read("bank.pem")],
                PrivateKeyDer::from_pem_file(self.path("bank.key")).expect("a key"),
            )
            .expect("the key is the certificate's");
        TlsAcceptor::from(Arc::new(config))
    }

    fn settings(&self, authority: &str, gateway: Option<&str>, name: &str) -> Tls {
        Tls {
            server_name: name.to_owned(),
            ca_file: self.path(&format!("{authority}.pem")),
            certificate_file: gateway.map(|gateway| self.path(&format!("{gateway}.pem"))),
            key_file: gateway.map(|gateway| self.path(&format!("{gateway}.key"))),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn both_ends_prove_who_they_are() {
    let certificates = Certificates::new();
    let peer = Peer::open().await;
    let tls = certificates.settings("right", Some("gateway"), NAME);
    let gateway = Gateway::with(profile(PATIENT, NO_ECHO), &[peer.address()], Some(&tls));
    let stream = soon("a handshake", certificates.acceptor().accept(peer.accept_raw().await)).await.unwrap();
    let mut connection = Connection::on(stream, profile(PATIENT, NO_ECHO));
    let request = connection.expect(Operation::SignOn).await;
    connection.agree(Operation::SignOn, &request).await;
    gateway.until_up(0).await;
    let (_, paying) = gateway.pay();
    let request = connection.expect(Operation::Payment).await;
    let answer = connection.paid(Operation::Payment, &request, AMOUNT);
    connection.send(&answer).await;
    assert!(matches!(paying.await, PaymentOutcome::Paid(_)));
    let (_, paying) = gateway.pay();
    connection.expect(Operation::Payment).await;
    drop(connection);
    assert!(matches!(paying.await, PaymentOutcome::Unknown(_)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_cannot_is_told_nothing() {
    let certificates = Certificates::new();
    for (tls, why) in [
        (certificates.settings("wrong", Some("gateway"), NAME), "UnknownIssuer"),
        (certificates.settings("right", Some("gateway"), "other.example"), "not valid for name"),
        (certificates.settings("right", Some("intruder"), NAME), ""),
        (certificates.settings("right", None, NAME), ""),
    ] {
        let peer = Peer::open().await;
        let gateway = Gateway::with(profile(PATIENT, NO_ECHO), &[peer.address()], Some(&tls));
        let handshake = certificates.acceptor().accept(peer.accept_raw().await);
        assert!(soon("it fails", handshake).await.is_err(), "{tls:?}");
        gateway.until("it is said why", |gateway| gateway.bank.lines()[0].last_error.is_some()).await;
        let said = gateway.bank.lines()[0].last_error.clone().unwrap();
        assert!(said.contains(why), "{said}");
        assert_eq!(gateway.place().unwrap_err(), NoPlace::Down);
        assert_eq!(gateway.count("answered"), 0);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bank_that_speaks_no_tls_is_not_spoken_to() {
    let certificates = Certificates::new();
    let peer = Peer::open().await;
    let tls = certificates.settings("right", Some("gateway"), NAME);
    let gateway = Gateway::with(profile(PATIENT, NO_ECHO), &[peer.address()], Some(&tls));
    let mut plain = Connection::on(peer.accept_raw().await, profile(PATIENT, NO_ECHO));
    plain.send_bytes(b"\x00\x04what").await;
    gateway.until("it is said why", |gateway| gateway.bank.lines()[0].last_error.is_some()).await;
    assert_eq!(gateway.place().unwrap_err(), NoPlace::Down);
}

#[test]
fn settings_name_the_file_that_is_of_no_use() {
    let certificates = Certificates::new();
    let good = certificates.settings("right", Some("gateway"), NAME);
    let said = |tls: Tls| {
        let line = OneLine {
            terminal: "ESAM0001".to_owned(),
            addresses: vec!["10.0.0.5:7000".to_owned()],
            tls: Some(tls),
        };
        let settings =
            LineSettings { profile: String::new(), in_flight_max: 1, lines_held: 1, line: vec![line] };
        settings.check().map_err(|what| what.replace(&*certificates.folder.path().to_string_lossy(), "…"))
    };
    assert_eq!(said(good.clone()), Ok(()));
    let missing = Tls { ca_file: certificates.path("none.pem"), ..good.clone() };
    assert!(said(missing).unwrap_err().contains("failed to read tls.ca_file from …/none.pem"));
    let empty = Tls { ca_file: certificates.path("extensions"), ..good.clone() };
    let why = said(empty).unwrap_err();
    assert_eq!(
        why,
        "line ESAM0001: failed to read tls.ca_file from …/extensions: there is no certificate in it"
    );
    let half = Tls { key_file: None, ..good.clone() };
    assert!(said(half).unwrap_err().contains("belong together"));
    let others = Tls { key_file: Some(certificates.path("intruder.key")), ..good.clone() };
    assert!(said(others).unwrap_err().contains("failed to read tls.key_file from …/intruder.key"));
    let nobody = Tls { server_name: "not a name".to_owned(), ..good };
    assert!(said(nobody).unwrap_err().contains("is no host name"));
}
