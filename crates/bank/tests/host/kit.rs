//! A bank host with a clock that can be set, and a client that says what it is told to.

use bank::{
    frame::Frame,
    host::{Host, HostFaults, HostState},
    profile::{Answer, LineProfile, Meaning, Operation, Value, Values},
    simulator::LedgerPayment,
};
use domain::{Clock, Timestamp};
use futures::StreamExt;
use iso8583::Message;
use std::{
    net::SocketAddr,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicI64, AtomicU32, AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};
use tempfile::TempDir;
use tokio::{
    io::AsyncWriteExt,
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    time::timeout,
};
use tokio_util::{codec::FramedRead, sync::CancellationToken};

/// How long something may take that should take moments, on a machine that is busy with other things.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// How long a bank that does nothing must do nothing before that is believed.
pub const SILENCE: Duration = Duration::from_millis(300);

pub const ANSWER_TIMEOUT: Duration = Duration::from_millis(600);
pub const HORIZON: Duration = Duration::from_millis(1_500);

/// The system's clock, and how far it is put forward.
#[derive(Default)]
pub struct TestClock(AtomicI64);

impl TestClock {
    pub fn put_forward(&self, by: Duration) {
        self.0.fetch_add(i64::try_from(by.as_millis()).expect("a test's time"), Relaxed);
    }
}

impl Clock for TestClock {
    #[expect(clippy::disallowed_methods, reason = "the host speaks to a real socket, in real time")]
    fn now(&self) -> Timestamp {
        Timestamp::from_millis(jiff::Timestamp::now().as_millisecond() + self.0.load(Relaxed))
    }
}

/// A shipped profile's text.
pub fn text(name: &str) -> &'static str {
    LineProfile::builtin_text(name).expect("it is shipped")
}

/// A bank.
pub struct Bank {
    pub host: Arc<Host>,
    pub clock: Arc<TestClock>,
    pub profile: LineProfile,
    address: SocketAddr,
    stop: CancellationToken,
    ledger: PathBuf,
    directory: Option<TempDir>,
    trace: Arc<AtomicU32>,
    /// Messages that its clients sent.
    sent: Arc<AtomicU64>,
}

impl Bank {
    pub async fn speaking(name: &str) -> Self {
        Self::with(text(name), 7).await
    }

    pub async fn with(profile: &str, seed: u64) -> Self {
        let profile = LineProfile::from_toml(profile).expect("a good profile");
        let echo_after = profile.echo_after;
        let profile = profile.with_times(ANSWER_TIMEOUT, HORIZON, echo_after);
        let directory = TempDir::new().expect("a folder");
        let ledger = directory.path().join("bank.sqlite");
        Self::on(profile, ledger, Some(directory), seed).await
    }

    async fn on(profile: LineProfile, ledger: PathBuf, directory: Option<TempDir>, seed: u64) -> Self {
        let clock = Arc::new(TestClock::default());
        let faults = (HostFaults::default(), seed);
        let opened =
            Host::open(profile.clone(), &ledger, 1_000_000, faults, Arc::clone(&clock) as Arc<dyn Clock>);
        let host = opened.expect("a ledger");
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let stop = CancellationToken::new();
        let (serving, stopping) = (Arc::clone(&host), stop.clone());
        tokio::spawn(async move { serving.serve(listener, stopping).await });
        let (trace, sent) = (Arc::default(), Arc::default());
        Self { host, clock, profile, address, stop, ledger, directory, trace, sent }
    }

    /// Another host on the same books.
    pub async fn again(mut self) -> Self {
        self.stop.cancel();
        let next = Self::on(self.profile.clone(), self.ledger.clone(), self.directory.take(), 8).await;
        next.trace.store(self.trace.load(Relaxed), Relaxed);
        next
    }

    pub async fn connect(&self) -> Client {
        let stream = TcpStream::connect(self.address).await.expect("it listens");
        stream.set_nodelay(true).expect("a socket");
        let (reading, writing) = stream.into_split();
        Client {
            frames: FramedRead::new(reading, self.profile.frame),
            writing,
            profile: self.profile.clone(),
            clock: Arc::clone(&self.clock),
            trace: Arc::clone(&self.trace),
            host: Arc::clone(&self.host),
            sent: Arc::clone(&self.sent),
            terminal: "ESAM0001",
        }
    }

    pub async fn signed_on(&self) -> Client {
        let mut client = self.connect().await;
        client.sign_on().await;
        client
    }

    pub fn faults(&self, faults: HostFaults) {
        self.host.set_faults(faults).expect("they make sense");
    }

    /// Waits until it stands so.
    pub async fn until(&self, what: &str, is_so: impl Fn(&HostState) -> bool) {
        until(&self.host, what, is_so).await;
    }

    /// Waits until it is done with all that was sent.
    pub async fn settled(&self) {
        settled(&self.host, &self.sent).await;
    }

    pub async fn payments(&self) -> Vec<LedgerPayment> {
        self.host.payments().await.expect("the ledger is read")
    }

    /// Whether the bank has taken what was asked for so, once it is done with all that was sent.
    pub async fn takes(&self, payment: &Message) -> bool {
        self.settled().await;
        self.has_taken(payment).await
    }

    /// Whether the bank has taken what was asked for so.
    pub async fn has_taken(&self, payment: &Message) -> bool {
        let values = self.profile.read_request(Operation::Payment, payment).expect("a payment");
        let identity = LineProfile::identity(&values).expect("a whole one");
        self.payments().await.iter().any(|taken| taken.identity == identity && taken.generation > 0)
    }
}

impl Drop for Bank {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

async fn until(host: &Host, what: &str, is_so: impl Fn(&HostState) -> bool) {
    let waited = timeout(PATIENCE, host.until(is_so)).await;
    waited.unwrap_or_else(|_| panic!("in time: {what}; {:?}", host.state()));
}

async fn settled(host: &Host, sent: &AtomicU64) {
    let is_done = |state: &HostState| state.received == sent.load(Relaxed) && state.under_way == 0;
    until(host, "it is done with all that was sent", is_done).await;
}

/// The gateway's end of a connection.
pub struct Client {
    frames: FramedRead<OwnedReadHalf, Frame>,
    writing: OwnedWriteHalf,
    pub profile: LineProfile,
    clock: Arc<TestClock>,
    trace: Arc<AtomicU32>,
    host: Arc<Host>,
    sent: Arc<AtomicU64>,
    pub terminal: &'static str,
}

/// Which vehicle.
pub fn vehicle(nik: &str, chassis: &str) -> Values {
    let values = Values::new().with(Value::Nik, nik).with(Value::Chassis, chassis);
    values.with(Value::Product, "SAMSAT_JABAR")
}

pub fn documented() -> Values {
    vehicle("320111111111111", "MH328D204AK4010000")
}

pub fn test_number(scenario: u16, serial: &str) -> Values {
    vehicle("3299000000000001", &format!("UJI{scenario:03}{serial}"))
}

impl Client {
    pub async fn sign_on(&mut self) {
        let answer = self.ask(Operation::SignOn, Values::new()).await;
        assert_eq!(self.meaning(Operation::SignOn, &answer), Meaning::Done);
    }

    /// What is fresh about a message, with what it is about.
    pub fn fresh(&self, mut values: Values) -> Values {
        let trace = self.trace.fetch_add(1, Relaxed) + 1;
        values.set_moment(self.clock.now());
        values.set(Value::Trace, format!("{trace:06}"));
        values.set(Value::Reference, format!("1{trace:011}"));
        values.set(Value::Terminal, self.terminal);
        values.set_settlement_date(self.clock.now().date_in_jakarta());
        values
    }

    pub async fn send_bytes(&mut self, bytes: &[u8]) {
        // The host may have hung up; what comes of it is what the test is about.
        drop(self.writing.write_all(bytes).await);
    }

    pub fn framed(&self, message: &Message) -> Vec<u8> {
        let (mut bytes, mut framed) = (Vec::new(), Vec::new());
        self.profile.spec.encode(message, &mut bytes).expect("it fits");
        self.profile.frame.put(&bytes, &mut framed).expect("it fits");
        framed
    }

    pub async fn send(&mut self, message: &Message) {
        let framed = self.framed(message);
        self.sent.fetch_add(1, Relaxed);
        self.send_bytes(&framed).await;
    }

    pub async fn say(&mut self, operation: Operation, values: Values) -> Message {
        let message = self.profile.compose(operation, &self.fresh(values), false).expect("it fits");
        self.send(&message).await;
        message
    }

    /// The next frame; none when the host has hung up.
    pub async fn bytes(&mut self) -> Option<Vec<u8>> {
        let next = timeout(PATIENCE, self.frames.next()).await.expect("something in time");
        Some(next?.ok()?.to_vec())
    }

    /// The next message; none when the host has hung up.
    pub async fn hear(&mut self) -> Option<Message> {
        let bytes = self.bytes().await?;
        Some(self.profile.spec.decode(&bytes).expect("a readable message"))
    }

    /// That nothing came of what was sent: what is asked next is answered next.
    pub async fn hears_nothing(&mut self) {
        settled(&self.host, &self.sent).await;
        let echo = self.say(Operation::Echo, Values::new()).await;
        let answer = self.hear().await.expect("an answer");
        assert_eq!(self.profile.match_key(&answer), self.profile.match_key(&echo), "{answer:?}");
    }

    /// Whether nothing comes for a while, of a bank that would not answer a question either.
    pub async fn is_silent(&mut self) -> bool {
        timeout(SILENCE, self.frames.next()).await.is_err()
    }

    pub fn read(&self, operation: Operation, request: &Message, answer: &Message) -> Answer {
        self.profile.read_answer(operation, request, answer).expect("an answer")
    }

    pub fn meaning(&self, operation: Operation, answer: &Answer) -> Meaning {
        self.profile.meaning(operation, &answer.code)
    }

    /// Says something and waits for its answer.
    pub async fn ask(&mut self, operation: Operation, values: Values) -> Answer {
        let request = self.say(operation, values).await;
        let answer = self.hear().await.expect("an answer");
        self.read(operation, &request, &answer)
    }

    /// A vehicle with its bill, as a payment needs it.
    pub async fn bill(&mut self, asked: Values) -> Values {
        let answer = self.ask(Operation::Inquiry, asked.clone()).await;
        assert_eq!(self.meaning(Operation::Inquiry, &answer), Meaning::Done, "{}", answer.code);
        let of = |value| answer.values.get(value).expect("a whole bill");
        asked.with(Value::Amount, of(Value::Amount)).with(Value::PaymentCode, of(Value::PaymentCode))
    }

    /// Vehicles of the population that have a bill, from this number on.
    pub async fn residents(&mut self, from: u32, count: usize) -> Vec<Values> {
        let mut bills = Vec::new();
        for number in from.. {
            if bills.len() == count {
                break;
            }
            let (nik, chassis, product) = bank::simulator::population::numbers(number);
            let asked = vehicle(nik.as_str(), chassis.as_str()).with(Value::Product, product.as_str());
            let answer = self.ask(Operation::Inquiry, asked.clone()).await;
            if self.meaning(Operation::Inquiry, &answer) == Meaning::Done {
                bills.push(self.bill(asked).await);
            }
        }
        bills
    }

    pub async fn resident(&mut self, from: u32) -> Values {
        self.residents(from, 1).await.remove(0)
    }

    /// Pays, and waits for the answer.
    pub async fn pay(&mut self, bill: Values) -> (Message, Answer) {
        let request = self.say(Operation::Payment, bill).await;
        let answer = self.hear().await.expect("an answer");
        let answer = self.read(Operation::Payment, &request, &answer);
        (request, answer)
    }

    /// The question that the dialect has about a payment, which was asked for so, of this bill.
    pub fn question(&self, bill: &Values, payment: &Message) -> (Operation, Message) {
        let operation = self.profile.unanswered.operation();
        let sent = self.profile.read_request(Operation::Payment, payment).expect("a payment");
        let of = |value| sent.get(value).expect("it was sent").to_owned();
        let values = if operation == Operation::Status {
            self.fresh(bill.clone())
                .with(Value::OriginalTrace, of(Value::Trace))
                .with(Value::OriginalTransmission, of(Value::Transmission))
                .with(Value::OriginalReference, of(Value::Reference))
                .with(Value::SettlementDate, of(Value::SettlementDate))
        } else {
            let identity = LineProfile::identity(&sent).expect("a whole one");
            let mut values = LineProfile::values_of_identity(&identity).expect("its own");
            for value in [Value::Amount, Value::PaymentCode, Value::Nik, Value::Chassis, Value::Product] {
                values.set(value, bill.get(value).expect("a whole bill"));
            }
            values.set_local_of_transmission(self.clock.now()).expect("it was a moment");
            values
        };
        let is_repeat = operation != Operation::Status;
        (operation, self.profile.compose(operation, &values, is_repeat).expect("it fits"))
    }

    /// What the bank says became of a payment.
    pub async fn status(&mut self, bill: &Values, payment: &Message) -> Meaning {
        let (operation, question) = self.question(bill, payment);
        self.send(&question).await;
        let answer = self.hear().await.expect("an answer");
        let answer = self.read(operation, &question, &answer);
        self.meaning(operation, &answer)
    }
}
