//! What the transport answers by itself, and what operators ask.

use crate::support::{CREDENTIALS, Gateway, bare, post};
use hyper::{StatusCode, body::Bytes};
use std::sync::Arc;
use tokio::time::Instant;

#[tokio::test]
async fn what_is_no_call() {
    let gateway = Gateway::start().await;
    for method in ["GET", "HEAD", "PUT", "DELETE", "OPTIONS", "PATCH", "ODD"] {
        for path in ["/json/esamsat/pay_esamsat", "/json/ceksaldo/"] {
            let answered = gateway.send(bare(method, &format!("{path}?{CREDENTIALS}"))).await;
            assert_eq!(answered.status, StatusCode::METHOD_NOT_ALLOWED);
            assert_eq!(answered.headers["allow"], "POST");
            assert!(
                answered.body.starts_with(r#"{"result":"no","reason":"Metode HTTP"#),
                "{}",
                answered.body
            );
        }
    }
    for path in ["/json", "/json/esamsat/", "/json/esamsat/pay_esamsat/x", "/index.php"] {
        for method in ["GET", "POST"] {
            let answered = gateway.send(bare(method, path)).await;
            assert_eq!(answered.status, StatusCode::NOT_FOUND, "{path}");
            assert!(answered.body.starts_with(r#"{"result":"no","reason":"Alamat"#), "{}", answered.body);
        }
    }
}

#[tokio::test]
async fn bodies_and_types_that_are_not_read() {
    let gateway = Gateway::start().await;
    let form = "application/x-www-form-urlencoded";
    let padded = format!("{CREDENTIALS}&padding={}", "x".repeat(64 * 1024));
    let (fits, too_large) = padded.split_at(64 * 1024);
    let answered = gateway.send(post("/json/ceksaldo", form, fits.to_owned())).await;
    assert_eq!(answered.status, StatusCode::OK);
    assert!(answered.body.starts_with(r#"{"result":"ok""#));
    for body in [format!("{fits}{too_large}"), format!("{fits}x"), "x".repeat(3 * 1024 * 1024)] {
        let answered = gateway.send(post("/json/ceksaldo", form, Bytes::from(body))).await;
        assert_eq!(answered.status, StatusCode::PAYLOAD_TOO_LARGE);
        assert_eq!(answered.headers["connection"], "close");
        assert!(answered.body.starts_with(r#"{"result":"no","reason":"Isi permintaan terlalu besar"#));
    }
    let answered = gateway.send(post("/json/ceksaldo", "text/xml", CREDENTIALS)).await;
    assert_eq!(answered.status, StatusCode::UNSUPPORTED_MEDIA_TYPE);
    assert!(answered.body.starts_with(r#"{"result":"no","reason":"Content-Type"#));
}

#[tokio::test]
async fn ten_thousand_parameters() {
    let gateway = Gateway::start().await;
    let form = "a=b&".repeat(10_000) + CREDENTIALS;
    let answer = gateway.post("/json/ceksaldo", &form).await;
    assert!(answer.starts_with(r#"{"result":"ok""#), "{answer}");
}

#[tokio::test]
async fn health_and_metrics() {
    let gateway = Gateway::start().await;
    for (path, body) in [
        ("/health/live", r#"{"status":"live"}"#),
        ("/health/ready", r#"{"status":"ready"}"#),
        ("/metrics", "up 1\n"),
    ] {
        let answered = gateway.send(bare("GET", path)).await;
        assert_eq!((answered.status, &*answered.body), (StatusCode::OK, body), "{path}");
        let answered = gateway.send(bare("POST", path)).await;
        assert_eq!(answered.status, StatusCode::METHOD_NOT_ALLOWED);
        assert_eq!(answered.headers["allow"], "GET, HEAD");
    }
    let answered = gateway.send_from("192.0.2.1", bare("GET", "/metrics")).await;
    assert_eq!(answered.status, StatusCode::NOT_FOUND);
    assert_eq!(gateway.send(bare("GET", "/")).await.status, StatusCode::OK);

    gateway.engine.shut_down(Instant::now()).await;
    let answered = gateway.send(bare("GET", "/health/ready")).await;
    assert_eq!(answered.status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(answered.body, r#"{"status":"not ready"}"#);
    assert_eq!(gateway.send(bare("GET", "/health/live")).await.status, StatusCode::OK);
}

#[tokio::test]
async fn a_panic_is_answered_and_the_gateway_lives_on() {
    let gateway = Gateway::start_with(|face| face.render_metrics = Arc::new(|| panic!("a bug"))).await;
    let answered = gateway.send(bare("GET", "/metrics")).await;
    assert_eq!(answered.status, StatusCode::INTERNAL_SERVER_ERROR);
    assert!(answered.body.starts_with(r#"{"result":"no","reason":"Terjadi kesalahan sistem"#));
    assert_eq!(gateway.send(bare("GET", "/health/live")).await.status, StatusCode::OK);
}
