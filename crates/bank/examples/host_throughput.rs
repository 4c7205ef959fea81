//! How many inquiries and payments a bank host answers in a second on one connection, client included.
//!
//! `cargo run --release -p bank --example host_throughput [pairs] [profile] [in_flight]`
//!
//! Each pair is an inquiry and the payment of its bill, for vehicles of the population. The ledger is a real one: what
//! was paid is on the disk before it is answered.

use bank::{
    host::{Host, HostFaults},
    profile::{LineProfile, Meaning, Operation, Value, Values},
    simulator::population,
};
use bytes::BytesMut;
use domain::{Clock, Timestamp};
use std::{collections::HashMap, error::Error, sync::Arc};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    time::Instant,
};
use tokio_util::{codec::Decoder, sync::CancellationToken};

struct Now;

impl Clock for Now {
    #[expect(clippy::disallowed_methods, reason = "it is the system's clock")]
    fn now(&self) -> Timestamp {
        Timestamp::from_millis(jiff::Timestamp::now().as_millisecond())
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let pairs: usize = arguments.next().map_or(Ok(50_000), |text| text.parse())?;
    let name = arguments.next().unwrap_or_else(|| "contoh-37-80".to_owned());
    let in_flight: usize = arguments.next().map_or(Ok(1_024), |text| text.parse())?;
    let profile = LineProfile::builtin(&name).ok_or("no such profile")?;
    let directory = tempfile::tempdir()?;
    let ledger = directory.path().join("bank.sqlite");
    let faults = (HostFaults::default(), 1);
    let host = Host::open(profile.clone(), &ledger, population::VEHICLES_MAX, faults, Arc::new(Now))?;
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let mut stream = TcpStream::connect(listener.local_addr()?).await?;
    stream.set_nodelay(true)?;
    let stop = CancellationToken::new();
    let (serving, stopping) = (Arc::clone(&host), stop.clone());
    let served = tokio::spawn(async move { serving.serve(listener, stopping).await });

    let mut client = Client { profile, written: Vec::new(), vehicle: 0, trace: 0, waiting: HashMap::new() };
    client.say(Operation::SignOn, Values::new())?;
    let (mut buffer, mut frame) = (BytesMut::new(), client.profile.frame);
    let (mut paid, mut refused, mut asked) = (0, 0, 0);
    let begun = Instant::now();
    loop {
        stream.write_all(&client.written).await?;
        client.written.clear();
        if paid + refused >= pairs {
            break;
        }
        if stream.read_buf(&mut buffer).await? == 0 {
            return Err("the host hung up".into());
        }
        while let Some(bytes) = frame.decode(&mut buffer)? {
            match client.hear(&bytes)? {
                Heard::Paid => paid += 1,
                Heard::Refused => refused += 1,
                Heard::Bill | Heard::Session => {}
            }
        }
        while asked < pairs && client.waiting.len() < in_flight {
            client.ask()?;
            asked += 1;
        }
    }
    let seconds = begun.elapsed().as_secs_f64();
    #[expect(clippy::cast_precision_loss, reason = "a rate for people")]
    let rate = |count: usize| count as f64 / seconds;
    eprintln!(
        "{name}: {paid} inquiries with their payments and {refused} refused inquiries in {seconds:.2} s: {:.0} pairs/s, {:.0} messages/s each way",
        rate(paid),
        rate(2 * paid + refused),
    );
    stop.cancel();
    served.await?;
    Ok(())
}

/// What came of an answer.
enum Heard {
    Session,
    Bill,
    Paid,
    Refused,
}

struct Client {
    profile: LineProfile,
    written: Vec<u8>,
    vehicle: u32,
    trace: u32,
    waiting: HashMap<u32, (Operation, Values, iso8583::Message)>,
}

impl Client {
    fn say(&mut self, operation: Operation, mut values: Values) -> Result<(), Box<dyn Error>> {
        self.trace += 1;
        values.set_moment(Now.now());
        values.set(Value::Trace, format!("{:06}", self.trace % 1_000_000));
        values.set(Value::Reference, format!("{:012}", self.trace));
        values.set(Value::Terminal, "ESAM0001");
        values.set_settlement_date(Now.now().date_in_jakarta());
        let message = self.profile.compose(operation, &values, false)?;
        let mut bytes = Vec::new();
        self.profile.spec.encode(&message, &mut bytes)?;
        self.profile.frame.put(&bytes, &mut self.written)?;
        self.waiting.insert(self.trace % 1_000_000, (operation, values, message));
        Ok(())
    }

    fn ask(&mut self) -> Result<(), Box<dyn Error>> {
        let (nik, chassis, product) = population::numbers(self.vehicle);
        self.vehicle += 1;
        let values = Values::new()
            .with(Value::Nik, nik.as_str())
            .with(Value::Chassis, chassis.as_str())
            .with(Value::Product, product.as_str());
        self.say(Operation::Inquiry, values)
    }

    fn hear(&mut self, bytes: &[u8]) -> Result<Heard, Box<dyn Error>> {
        let message = self.profile.spec.decode(bytes)?;
        let trace = message.get(11).ok_or("no trace number")?.parse()?;
        let (operation, mut values, request) = self.waiting.remove(&trace).ok_or("an answer to nothing")?;
        let answer = self.profile.read_answer(operation, &request, &message)?;
        let is_done = self.profile.meaning(operation, &answer.code) == Meaning::Done;
        match operation {
            Operation::Inquiry if is_done => {
                for value in [Value::Amount, Value::PaymentCode] {
                    values.set(value, answer.values.get(value).ok_or("an incomplete bill")?);
                }
                self.say(Operation::Payment, values)?;
                Ok(Heard::Bill)
            }
            Operation::Inquiry => Ok(Heard::Refused),
            _ if !is_done => Err(format!("{} {}", operation.name(), answer.code).into()),
            Operation::Payment => Ok(Heard::Paid),
            _ => Ok(Heard::Session),
        }
    }
}
