//! Encrypted: whom it believes, and the clock that is looked at after the connection came up.

use super::{
    BILL, Fixture, answered, bill, impatient,
    provider::{Provider, Reply},
};
use crate::{Bank, PaymentOutcome};
use rustls::{
    ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
};
use std::{path::PathBuf, process::Command, sync::Arc, time::Duration};
use tempfile::TempDir;
use tokio::time::{Instant, sleep};
use tokio_rustls::TlsAcceptor;

/// Two authorities, of which the first one has signed the certificate of 127.0.0.1.
struct Certificates(TempDir);

impl Certificates {
    fn new() -> Self {
        let certificates = Self(TempDir::new().unwrap());
        let new_key = "-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes";
        for authority in ["right", "wrong"] {
            let files = format!("-keyout {authority}.key -out {authority}.pem");
            certificates.openssl(&format!("req -x509 {new_key} -days 2 -subj /CN={authority} {files}"));
        }
        std::fs::write(
            certificates.path("names"),
            "subjectAltName=IP:127.0.0.1\nbasicConstraints=CA:FALSE\n",
        )
        .unwrap();
        certificates.openssl(&format!("req {new_key} -subj /CN=penyedia -keyout server.key -out server.csr"));
        let signer = "-CA right.pem -CAkey right.key -CAcreateserial";
        certificates
            .openssl(&format!("x509 -req -in server.csr -days 2 -extfile names -out server.pem {signer}"));
        certificates
    }

    fn openssl(&self, arguments: &str) {
        let done =
            Command::new("openssl").args(arguments.split(' ')).current_dir(self.0.path()).output().unwrap();
        assert!(done.status.success(), "openssl {arguments}: {}", String::from_utf8_lossy(&done.stderr));
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// A provider that takes its time to come up.
    async fn provider(&self, handshake: Duration) -> Provider {
        let certificate = CertificateDer::from_pem_file(self.path("server.pem")).unwrap();
        let key = PrivateKeyDer::from_pem_file(self.path("server.key")).unwrap();
        let config = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate], key)
            .unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let provider = Provider::start_with(move |stream| {
            let acceptor = acceptor.clone();
            async move {
                sleep(handshake).await;
                acceptor.accept(stream).await.ok()
            }
        })
        .await;
        provider.on("inquiry_esamsat", [Reply::json(BILL)]);
        provider.on("pay_esamsat", [Reply::json(answered("CONFIRM"))]);
        provider
    }
}

#[tokio::test]
async fn it_believes_whom_the_file_names() {
    let certificates = Certificates::new();
    let trusting = |provider, authority: &str| {
        let ca_file = certificates.path(authority);
        Fixture::with(provider, "https", move |settings| {
            settings.ca_file = Some(ca_file);
        })
    };
    let fixture = trusting(certificates.provider(Duration::ZERO).await, "right.pem");
    fixture.open().await;
    bill(fixture.inquire().await);
    assert!(matches!(fixture.pay().await, PaymentOutcome::Paid(_)));

    let fixture = trusting(certificates.provider(Duration::ZERO).await, "wrong.pem");
    assert_eq!(fixture.pay().await, PaymentOutcome::NeverSent);
    let error = fixture.relay.lines().remove(0).last_error.unwrap_or_default();
    assert!(error.contains("certificate"), "{error}");
    assert_eq!(fixture.provider.asked("pay_esamsat"), []);
}

#[tokio::test]
async fn the_clocks_are_looked_at_when_the_connection_is_up() {
    let certificates = Certificates::new();
    let fixture =
        Fixture::with(certificates.provider(Duration::from_millis(200)).await, "https", |settings| {
            settings.answer_timeout_ms = 15_000;
            settings.connect_timeout_ms = 15_000;
            settings.horizon_ms = 15_000;
            settings.ca_file = Some(certificates.path("right.pem"));
        });
    for by_clock in [true, false] {
        let mut request = fixture.request();
        if by_clock {
            request.send_before = fixture.clock.now().plus(Duration::from_millis(100));
        } else {
            request.send_before_monotonic = Instant::now() + Duration::from_millis(100);
        }
        assert_eq!(fixture.relay.pay(fixture.place().unwrap(), request).await, PaymentOutcome::NeverSent);
    }
    assert_eq!(fixture.provider.asked("pay_esamsat"), []);
    assert!(matches!(fixture.pay().await, PaymentOutcome::Paid(_)));
}

#[tokio::test]
async fn a_connection_that_does_not_come_up_was_never_sent() {
    let certificates = Certificates::new();
    let fixture = Fixture::with(certificates.provider(Duration::from_secs(10)).await, "https", |settings| {
        impatient(settings);
        settings.ca_file = Some(certificates.path("right.pem"));
    });
    assert_eq!(fixture.pay().await, PaymentOutcome::NeverSent);
    let error = fixture.relay.lines().remove(0).last_error.unwrap_or_default();
    assert!(error.contains("did not come up in time"), "{error}");
}
