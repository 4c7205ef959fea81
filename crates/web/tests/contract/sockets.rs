//! The server on real sockets: its limits of time and number, and how it stops.
//!
//! Time is real here, since the paused clock would run ahead of the network; the limits are short, and the
//! tests wait for what happens, not for time to pass.

use crate::support::{CREDENTIALS, FIRST_INVOICE, Gateway, JORDAN, Paying};
use engine::domain::State;
use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::Notify,
    task::JoinHandle,
    time::{Instant, timeout},
};
use tokio_util::sync::CancellationToken;
use web::{Router, Settings, listen, reference_router, serve};

const SHORT: Duration = Duration::from_millis(200);
const LONG: Duration = Duration::from_secs(20);

struct Server {
    address: SocketAddr,
    stopping: CancellationToken,
    ended: JoinHandle<()>,
}

fn patient() -> Settings {
    Settings {
        connections_max: 100,
        connections_per_address_max: 100,
        header_read_timeout: LONG,
        body_read_timeout: LONG,
        idle_timeout: LONG,
        write_timeout: LONG,
        shutdown_grace: LONG,
    }
}

fn start(router: Router, settings: Settings) -> Server {
    let listener = listen((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
    let address = listener.local_addr().unwrap();
    let stopping = CancellationToken::new();
    let ended = tokio::spawn(serve(listener, router, settings, stopping.clone()));
    Server { address, stopping, ended }
}

impl Server {
    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }

    async fn connect_and_send(&self, text: &str) -> TcpStream {
        let mut stream = self.connect().await;
        stream.write_all(text.as_bytes()).await.unwrap();
        stream
    }
}

fn pay_request(form: &str) -> String {
    format!(
        "POST /json/esamsat/pay_esamsat HTTP/1.1\r\nHost: x\r\n\
         Content-Type: application/x-www-form-urlencoded\r\nContent-Length: {}\r\n\r\n{form}",
        form.len()
    )
}

/// Everything until the server closes.
async fn rest(stream: &mut TcpStream) -> String {
    let mut bytes = Vec::new();
    // A reset instead of a clean end is an end as well.
    let _ = timeout(LONG / 2, stream.read_to_end(&mut bytes)).await.expect("the server closes");
    String::from_utf8(bytes).unwrap()
}

/// One answer of a connection that stays open.
async fn one_answer(stream: &mut TcpStream) -> String {
    let mut bytes = Vec::new();
    while !bytes.ends_with(b"}") {
        let read = timeout(LONG, stream.read_buf(&mut bytes)).await.expect("the server answers").unwrap();
        assert_ne!(read, 0, "closed after {}", String::from_utf8_lossy(&bytes));
    }
    String::from_utf8(bytes).unwrap()
}

const GOOD_FORM: &str = "username=dummy&password=dummy123&invoice=111111111111";

#[tokio::test]
async fn a_slow_head_is_closed_and_hurts_nobody() {
    let server = start(reference_router(), Settings { header_read_timeout: SHORT, ..patient() });
    let began = Instant::now();
    let mut silent = server.connect().await;
    let mut slow = server.connect_and_send("POST /json/esamsat/pay_esamsat HTTP/1.1\r\nHost:").await;
    let mut good = server.connect_and_send(&pay_request(GOOD_FORM)).await;
    assert!(one_answer(&mut good).await.contains("CONFIRM"));
    assert_eq!(rest(&mut silent).await, "");
    assert_eq!(rest(&mut slow).await, "");
    assert!(began.elapsed() >= SHORT);
    // The second head of a connection is due as soon as its first byte is there.
    good.write_all(b"POST /json").await.unwrap();
    assert_eq!(rest(&mut good).await, "");
}

#[tokio::test]
async fn a_slow_body_is_answered_and_closed() {
    let server = start(reference_router(), Settings { body_read_timeout: SHORT, ..patient() });
    let request = pay_request(GOOD_FORM);
    let mut slow = server.connect_and_send(&request[..request.len() - 1]).await;
    let mut good = server.connect_and_send(&request).await;
    assert!(one_answer(&mut good).await.contains("CONFIRM"));
    let answer = rest(&mut slow).await;
    assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
    assert!(answer.contains("connection: close"), "{answer}");
    assert!(answer.contains(r#"{"result":"no","reason":"Isi permintaan tidak diterima lengkap"#), "{answer}");
}

#[tokio::test]
async fn an_idle_connection_is_kept_for_a_while_and_then_closed() {
    let server = start(reference_router(), Settings { idle_timeout: SHORT, ..patient() });
    let mut stream = server.connect_and_send(&pay_request(GOOD_FORM)).await;
    one_answer(&mut stream).await;
    stream.write_all(pay_request(GOOD_FORM).as_bytes()).await.unwrap();
    assert!(one_answer(&mut stream).await.contains("CONFIRM"));
    assert_eq!(rest(&mut stream).await, "");
}

#[tokio::test]
async fn a_peer_that_reads_nothing_is_closed() {
    let server = start(reference_router(), Settings { write_timeout: SHORT, ..patient() });
    let mut stream = server.connect().await;
    let requests = pay_request(GOOD_FORM).repeat(100);
    let stuffed = async { while stream.write_all(requests.as_bytes()).await.is_ok() {} };
    timeout(LONG, stuffed).await.expect("the server closes");
}

#[tokio::test]
async fn a_large_body_is_refused_in_a_way_that_can_be_read() {
    let server = start(reference_router(), patient());
    let mut stream = server.connect_and_send(&pay_request(&"x".repeat(500_000))).await;
    let answer = rest(&mut stream).await;
    assert!(answer.starts_with("HTTP/1.1 413 "), "{answer}");
    // One that asks first is refused at once.
    let asks =
        "POST /json/ceksaldo HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 99999\r\n\r\n";
    let mut stream = server.connect_and_send(asks).await;
    assert!(rest(&mut stream).await.starts_with("HTTP/1.1 413 "));
}

#[tokio::test]
async fn a_chunked_body_and_one_that_waits_for_leave() {
    let server = start(reference_router(), patient());
    let chunked = "POST /json/esamsat/pay_esamsat HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n";
    let (one, other) = GOOD_FORM.split_at(20);
    let body = format!("{:x}\r\n{one}\r\n{:x}\r\n{other}\r\n0\r\n\r\n", one.len(), other.len());
    let mut stream = server.connect_and_send(&(chunked.to_owned() + &body)).await;
    assert!(one_answer(&mut stream).await.contains("CONFIRM"));

    let request = pay_request(GOOD_FORM).replace("Host: x\r\n", "Host: x\r\nExpect: 100-continue\r\n");
    let (head, body) = request.split_once("\r\n\r\n").unwrap();
    let mut stream = server.connect_and_send(&format!("{head}\r\n\r\n")).await;
    let mut leave = [0; 25];
    stream.read_exact(&mut leave).await.unwrap();
    assert_eq!(&leave, b"HTTP/1.1 100 Continue\r\n\r\n");
    stream.write_all(body.as_bytes()).await.unwrap();
    assert!(one_answer(&mut stream).await.contains("CONFIRM"));
}

#[tokio::test]
async fn connections_beyond_the_number_wait_their_turn() {
    let server = start(reference_router(), Settings { connections_max: 1, ..patient() });
    let mut first = server.connect_and_send(&pay_request(GOOD_FORM)).await;
    one_answer(&mut first).await;
    let mut second = server.connect_and_send(&pay_request(GOOD_FORM)).await;
    drop(first);
    assert!(one_answer(&mut second).await.contains("CONFIRM"));
}

#[tokio::test]
async fn one_address_has_a_share_of_the_connections() {
    let gateway = Gateway::start().await;
    let settings = Settings { connections_per_address_max: 1, ..patient() };
    let server = start(gateway.router.clone(), settings);
    let mut first = server.connect_and_send("GET /health/live HTTP/1.1\r\nHost: x\r\n\r\n").await;
    one_answer(&mut first).await;
    let mut second = server.connect().await;
    assert_eq!(rest(&mut second).await, "");
    first.write_all(b"GET /health/live HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await.unwrap();
    assert!(rest(&mut first).await.contains("live"));
}

#[tokio::test]
async fn stopping_closes_what_is_idle_and_finishes_what_is_under_way() {
    let gateway = Gateway::start().await;
    gateway.inquire().await;
    let let_it = Arc::new(Notify::new());
    gateway.pays(Paying::Waits(Arc::clone(&let_it)));
    let server = start(gateway.router.clone(), patient());
    let mut idle = server.connect_and_send("GET /health/live HTTP/1.1\r\nHost: x\r\n\r\n").await;
    one_answer(&mut idle).await;
    let mut fresh = server.connect().await;
    let request = pay_request(&format!("{CREDENTIALS}&invoice={FIRST_INVOICE}"));
    let mut paying = server.connect_and_send(&request).await;
    gateway.bank.asked.notified().await;
    server.stopping.cancel();
    assert_eq!(rest(&mut idle).await, "");
    assert_eq!(rest(&mut fresh).await, "");
    let_it.notify_one();
    let answer = rest(&mut paying).await;
    assert!(answer.contains("connection: close") && answer.contains("CONFIRM"), "{answer}");
    timeout(LONG, server.ended).await.expect("the server ends").unwrap();
    assert!(TcpStream::connect(server.address).await.is_err());
}

#[tokio::test]
async fn whoever_had_connected_when_the_port_closes_is_still_answered() {
    let listener = listen((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
    let address = listener.local_addr().unwrap();
    let mut clients = Vec::new();
    for number in 0..20 {
        let mut client = TcpStream::connect(address).await.unwrap();
        // Some have sent their request, some are about to.
        if number % 2 == 0 {
            client.write_all(b"GET /health/live HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
        }
        clients.push(client);
    }
    let stopping = CancellationToken::new();
    stopping.cancel();
    let gateway = Gateway::start().await;
    let ended = tokio::spawn(serve(listener, gateway.router.clone(), patient(), stopping));
    for (number, client) in clients.iter_mut().enumerate() {
        if number % 2 == 1 {
            client.write_all(b"GET /health/live HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
        }
    }
    for mut client in clients {
        let answer = rest(&mut client).await;
        assert!(answer.contains("live") && answer.contains("connection: close"), "{answer}");
    }
    timeout(LONG, ended).await.expect("the server ends").unwrap();
    assert!(TcpStream::connect(address).await.is_err());
}

#[tokio::test]
async fn stopping_ends_by_its_grace() {
    let gateway = Gateway::start().await;
    gateway.inquire().await;
    gateway.pays(Paying::IsSilent);
    let server = start(gateway.router.clone(), Settings { shutdown_grace: SHORT, ..patient() });
    let request = pay_request(&format!("{CREDENTIALS}&invoice={FIRST_INVOICE}"));
    let mut paying = server.connect_and_send(&request).await;
    gateway.bank.asked.notified().await;
    server.stopping.cancel();
    timeout(LONG, server.ended).await.expect("the server ends").unwrap();
    assert_eq!(rest(&mut paying).await, "");
    assert!(matches!(gateway.first_state().await, State::Pending { .. }));
}

#[tokio::test]
async fn a_partner_that_hangs_up_cancels_nothing() {
    let gateway = Gateway::start().await;
    gateway.inquire().await;
    let let_it = Arc::new(Notify::new());
    gateway.pays(Paying::Waits(Arc::clone(&let_it)));
    let server = start(gateway.router.clone(), patient());
    let request = pay_request(&format!("{CREDENTIALS}&invoice={FIRST_INVOICE}"));
    let stream = server.connect_and_send(&request).await;
    gateway.bank.asked.notified().await;
    drop(stream);
    server.stopping.cancel();
    timeout(LONG, server.ended).await.expect("the server lets go of the connection").unwrap();
    assert!(matches!(gateway.first_state().await, State::Pending { .. }));
    let_it.notify_one();
    // Whoever pays meanwhile waits for the outcome of the first one, and later ones find it paid.
    let answer = gateway.pay(FIRST_INVOICE).await;
    assert!(answer.contains("CONFIRM") || answer.contains("0054"), "{answer}");
    assert!(gateway.status(FIRST_INVOICE).await.ends_with(r#""status":"CONFIRM"}"#));
}

#[tokio::test]
async fn an_inquiry_that_nobody_waits_for_is_recorded() {
    let gateway = Gateway::start().await;
    let let_it = Arc::new(Notify::new());
    *gateway.bank.inquiry_waits_for.lock().unwrap() = Some(Arc::clone(&let_it));
    let server = start(gateway.router.clone(), patient());
    let request = pay_request(&format!("{CREDENTIALS}&{JORDAN}")).replace("pay_esamsat", "inquiry_esamsat");
    let stream = server.connect_and_send(&request).await;
    gateway.bank.asked.notified().await;
    drop(stream);
    server.stopping.cancel();
    timeout(LONG, server.ended).await.expect("the server lets go of the connection").unwrap();
    let_it.notify_one();
    *gateway.bank.inquiry_waits_for.lock().unwrap() = None;
    // The journal writes in order, so the second inquiry comes after the first.
    assert!(gateway.inquire().await.contains("100000000001"));
    assert!(matches!(gateway.first_state().await, State::Inquiry));
}
