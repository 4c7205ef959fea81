//! A bank that says exactly what a test tells it to, byte for byte, and a gateway's line to it.
//!
//! It does nothing by itself: what is not sent in the test is silence. Nothing here sleeps; every wait ends with what
//! it waits for, or fails.

use crate::kit::{Now, PATIENCE, TestDesk};
use bank::{
    Bank, Desk, InquiryRequest, PaymentOutcome, PaymentRequest, Place, Placing, SendBefore, StatusOutcome,
    iso8583_line::{Iso8583Bank, LineSettings, OneLine, Tls},
    profile::{LineProfile, Operation, Value, Values},
};
use domain::{
    ChassisNumber, Clock, InvoiceNumber, Nik, PaymentCode, ProductCode, Rupiah, Timestamp, UpstreamTerms,
};
use futures::StreamExt;
use iso8583::Message;
use std::{
    net::SocketAddr,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering::Relaxed},
    },
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadHalf, WriteHalf},
    net::{TcpListener, TcpSocket},
    task::JoinHandle,
    time::{Instant, sleep, timeout},
};
use tokio_util::codec::FramedRead;

pub const AMOUNT: Rupiah = Rupiah::new(178_500);
const NIK: &str = "3299000000000001";
const CHASSIS: &str = "MH328D204AK4010000";
const PAYMENT_CODE: &str = "322020060719000";

/// Longer than anything takes that need not wait for it, on a machine that is busy with other things.
pub const PATIENT: Duration = Duration::from_secs(10);

/// For tests in which an answer does not come.
pub const HASTY: Duration = Duration::from_millis(700);

/// Never, as far as a test can tell.
pub const NO_ECHO: Duration = Duration::from_hours(1);

/// A shipped profile that waits for answers so long, and tests a line that was silent for so long.
pub fn profile(answer_timeout: Duration, echo_after: Duration) -> LineProfile {
    let example = LineProfile::builtin("contoh-37-80").expect("it is shipped");
    example.with_times(answer_timeout, answer_timeout * 3, echo_after)
}

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// Something must be so soon.
pub async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    timeout(PATIENCE, future).await.unwrap_or_else(|_| panic!("in time: {what}"))
}

/// Lets time pass at once, to the gateway.
pub async fn pass(time: Duration) {
    tokio::time::pause();
    tokio::time::advance(time).await;
    tokio::time::resume();
}

/// The bank's end, listening.
pub struct Peer {
    listener: TcpListener,
    profile: LineProfile,
}

impl Peer {
    pub async fn open() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        Self { listener, profile: profile(PATIENT, NO_ECHO) }
    }

    /// One whose kernel takes in little that is not read.
    pub fn with_small_buffers() -> Self {
        let socket = TcpSocket::new_v4().expect("a socket");
        socket.set_recv_buffer_size(4_096).expect("a size");
        socket.bind(SocketAddr::from(([127, 0, 0, 1], 0))).expect("a port");
        Self { listener: socket.listen(8).expect("it listens"), profile: profile(PATIENT, NO_ECHO) }
    }

    /// One at an address that was free a moment ago.
    pub async fn open_at(address: SocketAddr) -> Self {
        let listener = TcpListener::bind(address).await.expect("the port is free again");
        Self { listener, profile: profile(PATIENT, NO_ECHO) }
    }

    pub fn address(&self) -> SocketAddr {
        self.listener.local_addr().expect("it is bound")
    }

    /// The next connection as it comes.
    pub async fn accept_raw(&self) -> tokio::net::TcpStream {
        soon("a connection", self.listener.accept()).await.expect("it comes").0
    }

    pub async fn accept(&self) -> Connection {
        Connection::on(self.accept_raw().await, self.profile.clone())
    }

    /// The next connection, signed on.
    pub async fn signed_on(&self) -> Connection {
        let mut connection = self.accept().await;
        let (operation, request) = connection.next().await.expect("a sign-on");
        assert_eq!(operation, Operation::SignOn);
        connection.agree(operation, &request).await;
        connection
    }
}

/// One connection, at the bank's end.
pub struct Connection {
    frames: FramedRead<ReadHalf<Box<dyn Stream>>, bank::frame::Frame>,
    writing: WriteHalf<Box<dyn Stream>>,
    profile: LineProfile,
}

impl Connection {
    pub fn on(stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static, profile: LineProfile) -> Self {
        let (reading, writing) = tokio::io::split(Box::new(stream) as Box<dyn Stream>);
        Self { frames: FramedRead::new(reading, profile.frame), writing, profile }
    }

    /// The next request; none when the gateway has hung up.
    pub async fn next(&mut self) -> Option<(Operation, Message)> {
        let frame = soon("a request, or the end", self.frames.next()).await?.ok()?;
        let message = self.profile.spec.decode(&frame).expect("the gateway writes what fits");
        let (operation, _) = self.profile.operation_of(&message).expect("it is of a known kind");
        Some((operation, message))
    }

    /// The next request, which must be this.
    pub async fn expect(&mut self, operation: Operation) -> Message {
        let (found, message) = self.next().await.unwrap_or_else(|| panic!("a {}", operation.name()));
        assert_eq!(found, operation);
        message
    }

    /// The next payment; to what is about the session, the bank agrees.
    pub async fn payment(&mut self) -> Message {
        loop {
            let (operation, message) = self.next().await.expect("a payment");
            if operation == Operation::Payment {
                return message;
            }
            self.agree(operation, &message).await;
        }
    }

    pub fn answer(&self, operation: Operation, request: &Message, code: &str) -> Message {
        self.profile.answer(operation, request, code, &Values::new()).expect("it fits")
    }

    /// The answer to a payment or an advice that was carried out.
    pub fn paid(&self, operation: Operation, request: &Message, amount: Rupiah) -> Message {
        let values = Values::new()
            .with(Value::Amount, amount.get().to_string())
            .with(Value::BankReference, "BJB0000000001");
        self.profile.answer(operation, request, "00", &values).expect("it fits")
    }

    pub fn bytes(&self, message: &Message) -> Vec<u8> {
        let mut bytes = Vec::new();
        self.profile.spec.encode(message, &mut bytes).expect("it fits");
        bytes
    }

    /// In its frame.
    pub fn framed(&self, message: &[u8]) -> Vec<u8> {
        let mut framed = Vec::new();
        self.profile.frame.put(message, &mut framed).expect("it fits");
        framed
    }

    pub async fn send_bytes(&mut self, bytes: &[u8]) {
        // The gateway may have hung up; what it does then is what the test is about.
        drop(self.writing.write_all(bytes).await);
        drop(self.writing.flush().await);
    }

    pub async fn send(&mut self, message: &Message) {
        let framed = self.framed(&self.bytes(message));
        self.send_bytes(&framed).await;
    }

    /// Says "done" to a message about the session.
    pub async fn agree(&mut self, operation: Operation, request: &Message) {
        let answer = self.answer(operation, request, "00");
        self.send(&answer).await;
    }

    /// Asks the gateway something about the session, and returns its answer.
    pub async fn ask(&mut self, operation: Operation, values: &Values) -> Message {
        let request = self.profile.compose(operation, values, false).expect("it fits");
        self.send(&request).await;
        let frame = soon("an answer", self.frames.next()).await.expect("an answer").expect("a frame");
        self.profile.spec.decode(&frame).expect("it fits")
    }

    /// Whether the gateway hangs up, and says nothing before.
    pub async fn ends(&mut self) -> bool {
        self.next().await.is_none()
    }
}

/// The gateway's end.
pub struct Gateway {
    pub bank: Arc<Iso8583Bank>,
    pub desk: Arc<TestDesk>,
    next_invoice: AtomicI64,
}

impl Gateway {
    /// With a line to each of these, terminals `ESAM0001` and on.
    pub fn to(addresses: &[SocketAddr]) -> Self {
        Self::with(profile(PATIENT, NO_ECHO), addresses, None)
    }

    pub fn with(profile: LineProfile, addresses: &[SocketAddr], tls: Option<&Tls>) -> Self {
        let line = addresses.iter().zip(1..).map(|(address, number)| OneLine {
            terminal: format!("ESAM{number:04}"),
            addresses: vec![address.to_string()],
            tls: tls.cloned(),
        });
        let settings = LineSettings {
            profile: String::new(),
            in_flight_max: 50_000,
            lines_held: 1,
            line: line.collect(),
        };
        Self::configured(profile, settings)
    }

    pub fn configured(profile: LineProfile, settings: LineSettings) -> Self {
        let bank = Iso8583Bank::new("bjb", profile, settings, Arc::new(Now)).expect("good settings");
        let desk = Arc::new(TestDesk::default());
        bank.open(Arc::clone(&desk) as Arc<dyn Desk>);
        Self { bank, desk, next_invoice: AtomicI64::new(100_000_000_000) }
    }

    /// A gateway and its one line, signed on.
    pub async fn on_line() -> (Self, Peer, Connection) {
        let peer = Peer::open().await;
        let gateway = Self::to(&[peer.address()]);
        let connection = gateway.signed_on(&peer).await;
        (gateway, peer, connection)
    }

    /// One that does not wait for long.
    pub async fn on_hasty_line() -> (Self, Peer, Connection) {
        let peer = Peer::open().await;
        let gateway = Self::with(profile(HASTY, NO_ECHO), &[peer.address()], None);
        let connection = gateway.signed_on(&peer).await;
        (gateway, peer, connection)
    }

    /// The line's connection, once it is up, however many are given up before that.
    pub async fn signed_on(&self, peer: &Peer) -> Connection {
        let mut connection = peer.signed_on().await;
        loop {
            tokio::select! {
                biased;
                () = self.until_up(0) => return connection,
                next = peer.signed_on() => connection = next,
            }
        }
    }

    pub async fn until_up(&self, line: usize) {
        self.until("the line is up", |gateway| gateway.bank.lines()[line].is_up).await;
    }

    /// Waits until something is so.
    pub async fn until(&self, what: &str, is_so: impl Fn(&Self) -> bool) {
        let waiting = async {
            while !is_so(self) {
                sleep(Duration::from_millis(2)).await;
            }
        };
        let waited = timeout(PATIENCE, waiting).await;
        waited.unwrap_or_else(|_| panic!("in time: {what}; {:?}", self.bank.lines()));
    }

    pub fn count(&self, name: &str) -> u64 {
        self.bank.lines()[0].counts[name]
    }

    /// What was raised, as kind and detail.
    pub fn raised(&self) -> Vec<(&'static str, String)> {
        let raised = self.desk.raised.lock().expect("nobody panicked");
        raised.iter().map(|(kind, detail)| (kind.name(), detail.clone())).collect()
    }

    fn next_invoice(&self) -> InvoiceNumber {
        InvoiceNumber::new(self.next_invoice.fetch_add(1, Relaxed))
    }

    pub fn inquiry(&self) -> InquiryRequest {
        InquiryRequest {
            invoice: self.next_invoice(),
            product: ProductCode::parse("SAMSAT_JABAR").expect("a code"),
            nik: Nik::parse(NIK).expect("a number"),
            chassis: ChassisNumber::parse(CHASSIS).expect("a number"),
        }
    }

    pub fn place(&self) -> Result<Place, bank::NoPlace> {
        self.bank.place(Placing { invoice: InvoiceNumber::new(1), upstream_reference: None })
    }

    pub fn begin(&self) -> (Place, PaymentRequest) {
        self.try_begin().expect("a place")
    }

    fn try_begin(&self) -> Result<(Place, PaymentRequest), bank::NoPlace> {
        let invoice = self.next_invoice();
        let place = self.bank.place(Placing { invoice, upstream_reference: None })?;
        let request = PaymentRequest {
            invoice,
            identity: place.identity.clone(),
            product: ProductCode::parse("SAMSAT_JABAR").expect("a code"),
            nik: Nik::parse(NIK).expect("a number"),
            chassis: ChassisNumber::parse(CHASSIS).expect("a number"),
            payment_code: PaymentCode::parse(PAYMENT_CODE).expect("a code"),
            amount: AMOUNT,
            terms: UpstreamTerms::default(),
            send_before: SendBefore {
                wall: now().plus(Duration::from_secs(10)),
                monotonic: Instant::now() + Duration::from_secs(10),
            },
        };
        Ok((place, request))
    }

    /// A question about a payment, on its way.
    pub fn ask(&self, request: &PaymentRequest) -> JoinHandle<StatusOutcome> {
        let (bank, request) = (Arc::clone(&self.bank), request.clone());
        tokio::spawn(async move { bank.status(request).await })
    }

    /// A payment on its way.
    pub fn pay(&self) -> (PaymentRequest, Paying) {
        self.try_pay().expect("a place")
    }

    pub fn try_pay(&self) -> Result<(PaymentRequest, Paying), bank::NoPlace> {
        let (place, request) = self.try_begin()?;
        let (bank, sent) = (Arc::clone(&self.bank), request.clone());
        Ok((request, Paying(tokio::spawn(async move { bank.pay(place, sent).await }))))
    }
}

fn now() -> Timestamp {
    Now.now()
}

/// A payment that is waited for.
pub struct Paying(JoinHandle<PaymentOutcome>);

impl Future for Paying {
    type Output = PaymentOutcome;

    fn poll(
        mut self: Pin<&mut Self>,
        context: &mut std::task::Context<'_>,
    ) -> std::task::Poll<PaymentOutcome> {
        Pin::new(&mut self.0).poll(context).map(|ended| ended.expect("it ends"))
    }
}
