//! Who may call, from where; and that nothing personal is written down about it.

use crate::support::{Answered, CREDENTIALS, Gateway, JORDAN, post};
use engine::domain::{PartnerStatus, command::PartnerChange};
use hyper::StatusCode;
use std::{
    io,
    sync::{Arc, Mutex},
};
use tracing_subscriber::fmt::MakeWriter;

const FORM: &str = "application/x-www-form-urlencoded";
const LISTED: &str = "username=listed&password=listed123";

async fn balance_from(gateway: &Gateway, peer: &str, forwarded: Option<&str>, credentials: &str) -> Answered {
    let mut request = post("/json/ceksaldo", FORM, credentials.to_owned());
    if let Some(forwarded) = forwarded {
        request.headers_mut().insert("x-forwarded-for", forwarded.parse().unwrap());
    }
    gateway.send_from(peer, request).await
}

#[tokio::test]
async fn the_allow_list_counts_from_the_clients_own_address() {
    let trust = |face: &mut web::Face| face.trusted_proxies = vec!["10.0.0.0/8".parse().unwrap()];
    let gateway = Gateway::start_with(trust).await;
    gateway.add_partner("listed", "JKT-00002", &["198.51.100.0/24"]).await;
    for (peer, forwarded, allowed) in [
        ("198.51.100.7", None, true),
        ("::ffff:198.51.100.7", None, true),
        ("203.0.113.7", None, false),
        ("203.0.113.7", Some("198.51.100.7"), false),
        ("10.0.0.1", Some("198.51.100.7"), true),
        ("10.0.0.1", Some("198.51.100.7, 203.0.113.7"), false),
        ("10.0.0.1", None, false),
    ] {
        let answered = balance_from(&gateway, peer, forwarded, LISTED).await;
        assert_eq!(answered.status, StatusCode::OK);
        let expected = if allowed { r#"{"result":"ok""# } else { "Alamat IP Anda tidak terdaftar" };
        assert!(answered.body.contains(expected), "{peer} {forwarded:?}: {}", answered.body);
    }
}

#[tokio::test(start_paused = true)]
async fn a_suspended_partner_is_refused_everywhere() {
    let gateway = Gateway::start().await;
    let id = gateway.add_partner("listed", "JKT-00002", &[]).await;
    gateway.change_partner(id, PartnerChange::Status(PartnerStatus::Suspended)).await;
    for path in [
        "/json/esamsat/list_esamsat",
        "/json/esamsat/inquiry_esamsat",
        "/json/esamsat/pay_esamsat",
        "/json/esamsat/status_invoice",
        "/json/ceksaldo",
    ] {
        let answer = gateway.post(path, &format!("{LISTED}&{JORDAN}&invoice=1")).await;
        assert!(answer.contains("Akun mitra dinonaktifkan"), "{path}: {answer}");
    }
}

#[tokio::test]
async fn an_unknown_user_and_a_wrong_password_read_alike() {
    let gateway = Gateway::start().await;
    let unknown = balance_from(&gateway, "192.0.2.1", None, "username=nobody&password=dummy123").await;
    let wrong = balance_from(&gateway, "192.0.2.2", None, "username=dummy&password=wrong").await;
    assert_eq!(unknown, wrong);
}

#[tokio::test]
async fn a_storm_of_log_ins_is_told_to_wait() {
    let gateway = Gateway::start().await;
    let limited = loop {
        let answered = balance_from(&gateway, "192.0.2.1", None, "username=dummy&password=wrong").await;
        if answered.status != StatusCode::OK {
            break answered;
        }
    };
    assert_eq!(limited.status, StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(limited.headers["retry-after"], "2");
    assert!(limited.body.starts_with(r#"{"result":"no","reason":"Terlalu banyak percobaan login"#));
    let other = balance_from(&gateway, "192.0.2.2", None, CREDENTIALS).await;
    assert_eq!(other.status, StatusCode::OK);
}

/// Collects everything that is logged on this thread.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Log {
    type Writer = Self;
    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

#[tokio::test]
async fn the_log_knows_nobodys_data() {
    let gateway = Gateway::start().await;
    let log = Log::default();
    let subscriber = tracing_subscriber::fmt().with_max_level(tracing::Level::TRACE).with_writer(log.clone());
    let logging = tracing::subscriber::set_default(subscriber.finish());
    gateway.inquire().await;
    let target = format!("/json/esamsat/inquiry_esamsat?{CREDENTIALS}&{JORDAN}");
    gateway.send(post(&target, "application/json", "{")).await;
    gateway.send(post(&format!("/json/ceksaldo/secret?{CREDENTIALS}"), FORM, CREDENTIALS)).await;
    drop(logging);
    let log = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
    assert!(log.contains("inquiry_esamsat"), "{log}");
    for secret in ["dummy123", "320111111111111", "JORDAN", "CITAMIANG", "password", "?", "secret"] {
        assert!(!log.contains(secret), "{secret}: {log}");
    }
}
