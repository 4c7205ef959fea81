//! An encrypted line: only to the bank that proves who it is, and only for a gateway that does.

use crate::peer::{AMOUNT, Connection, Gateway, NO_ECHO, PATIENT, Peer, pass, profile, soon};
use bank::{
    Bank, NoPlace, PaymentOutcome,
    iso8583_line::{LineSettings, OneLine, Tls},
    profile::Operation,
};
use std::time::Duration;
use test_certificates::Certificates;

/// The name in the bank's certificate.
const NAME: &str = "host.bjb.example";

/// The bank's and the gateway's, and that of one who claims to be the gateway.
fn certificates() -> Certificates {
    let name = format!("DNS:{NAME}");
    let certificates = Certificates::default().signed("bank", "right", &name);
    certificates.signed("gateway", "right", &name).signed("intruder", "wrong", &name)
}

fn settings(certificates: &Certificates, authority: &str, gateway: Option<&str>, name: &str) -> Tls {
    Tls {
        server_name: name.to_owned(),
        ca_file: certificates.path(&format!("{authority}.pem")),
        certificate_file: gateway.map(|gateway| certificates.path(&format!("{gateway}.pem"))),
        key_file: gateway.map(|gateway| certificates.path(&format!("{gateway}.key"))),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn both_ends_prove_who_they_are() {
    let certificates = certificates();
    let peer = Peer::open().await;
    let tls = settings(&certificates, "right", Some("gateway"), NAME);
    let gateway = Gateway::with(profile(PATIENT, NO_ECHO), &[peer.address()], Some(&tls));
    let stream =
        soon("a handshake", certificates.acceptor("bank", Some("right")).accept(peer.accept_raw().await))
            .await
            .unwrap();
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
    let certificates = certificates();
    for (tls, why) in [
        (settings(&certificates, "wrong", Some("gateway"), NAME), "UnknownIssuer"),
        (settings(&certificates, "right", Some("gateway"), "other.example"), "not valid for name"),
        (settings(&certificates, "right", Some("intruder"), NAME), ""),
        (settings(&certificates, "right", None, NAME), ""),
    ] {
        let peer = Peer::open().await;
        let gateway = Gateway::with(profile(PATIENT, NO_ECHO), &[peer.address()], Some(&tls));
        let handshake = certificates.acceptor("bank", Some("right")).accept(peer.accept_raw().await);
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
    let certificates = certificates();
    let peer = Peer::open().await;
    let tls = settings(&certificates, "right", Some("gateway"), NAME);
    let gateway = Gateway::with(profile(PATIENT, NO_ECHO), &[peer.address()], Some(&tls));
    let mut plain = Connection::on(peer.accept_raw().await, profile(PATIENT, NO_ECHO));
    plain.send_bytes(b"\x00\x04what").await;
    gateway.until("it is said why", |gateway| gateway.bank.lines()[0].last_error.is_some()).await;
    assert_eq!(gateway.place().unwrap_err(), NoPlace::Down);
}

/// It takes the connection, and says nothing.
#[tokio::test]
async fn a_connection_that_does_not_come_up_is_given_up() {
    let certificates = certificates();
    let peer = Peer::open().await;
    let tls = settings(&certificates, "right", Some("gateway"), NAME);
    let gateway = Gateway::with(profile(PATIENT, NO_ECHO), &[peer.address()], Some(&tls));
    let _silent = peer.accept_raw().await;
    assert_eq!(gateway.place().unwrap_err(), NoPlace::Down);
    pass(Duration::from_secs(10)).await;
    gateway.until("it is said why", |gateway| gateway.bank.lines()[0].last_error.is_some()).await;
    let said = gateway.bank.lines()[0].last_error.clone().unwrap();
    assert!(said.contains("it did not come up in time"), "{said}");
    drop(peer.accept_raw().await);
}

#[test]
fn settings_name_the_file_that_is_of_no_use() {
    let certificates = certificates();
    let good = settings(&certificates, "right", Some("gateway"), NAME);
    let said = |tls: Tls| {
        let line = OneLine {
            terminal: "ESAM0001".to_owned(),
            addresses: vec!["10.0.0.5:7000".to_owned()],
            tls: Some(tls),
        };
        let settings =
            LineSettings { profile: String::new(), in_flight_max: 1, lines_held: 1, line: vec![line] };
        settings
            .check()
            .map(|_| ())
            .map_err(|what| what.replace(&*certificates.folder().to_string_lossy(), "…"))
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
