//! The network between gateways and the bank: connections that take their time, break at any byte, stand still, and
//! end on one side only.
//!
//! It keeps what TCP promises: bytes come in order or not at all, and what is not acknowledged within the sender's
//! user time-out never comes.

use super::{
    house::{House, Running},
    tap::{Listening, Tap},
    wire::{Held, Hold, Plan, Wire, reachable},
};
use crate::{gate::Gate, random::Random, record::Record};
use bank::iso8583_line::{Connected, Dial, Tls};
use engine::bank;
use futures::future::BoxFuture;
use std::{
    collections::BTreeMap,
    io,
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    task::{Context, Poll, ready},
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncWrite, DuplexStream, ReadBuf, ReadHalf, WriteHalf},
    sync::watch,
    time::{Instant, sleep},
};

/// The network of one run.
pub(crate) struct Network {
    pub(super) seed: u64,
    pub(super) record: Arc<Record>,
    pub(super) house: Arc<House>,
    pub(super) tap: Arc<Tap>,
    pub(super) is_calm: AtomicBool,
    /// How often something befalls a connection, in a thousand.
    pub(super) trouble_permille: u64,
    /// Until when a gateway is cut off from the bank.
    partitions: Mutex<BTreeMap<String, watch::Sender<Option<Instant>>>>,
    /// Connections by life.
    dialled: Mutex<BTreeMap<String, u64>>,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Network {
    pub(super) fn new(seed: u64, house: &Arc<House>, tap: &Arc<Tap>, trouble_permille: u64) -> Arc<Self> {
        Arc::new(Self {
            seed,
            record: Arc::clone(&tap.record),
            house: Arc::clone(house),
            tap: Arc::clone(tap),
            is_calm: AtomicBool::new(false),
            trouble_permille,
            partitions: Mutex::default(),
            dialled: Mutex::default(),
        })
    }

    fn partition(&self, gateway: &str) -> watch::Receiver<Option<Instant>> {
        locked(&self.partitions).entry(gateway.to_owned()).or_default().subscribe()
    }

    /// A gateway is cut off from the bank for so long.
    pub(super) fn cut_off(&self, gateway: &str, time: Duration) {
        let until = Instant::now() + time;
        locked(&self.partitions).entry(gateway.to_owned()).or_default().send_replace(Some(until));
    }

    /// Nothing befalls connections any more, and nobody is cut off.
    pub(super) fn calm_down(&self) {
        self.is_calm.store(true, Relaxed);
        for partition in locked(&self.partitions).values() {
            partition.send_replace(None);
        }
    }

    fn number(&self, life: &str) -> u64 {
        let mut dialled = locked(&self.dialled);
        let number = dialled.entry(life.to_owned()).or_default();
        *number += 1;
        *number
    }
}

/// How one life of a gateway dials.
pub(super) struct Dialler {
    pub(super) network: Arc<Network>,
    pub(super) gate: Arc<Gate>,
    pub(super) gateway: String,
}

impl Dial for Dialler {
    fn dial<'a>(
        &'a self,
        _address: &'a str,
        _encryption: Option<&'a Tls>,
        user_timeout: Duration,
    ) -> BoxFuture<'a, io::Result<Connected>> {
        Box::pin(self.connect(user_timeout))
    }
}

impl Dialler {
    async fn connect(&self, user_timeout: Duration) -> io::Result<Connected> {
        self.gate.open().await;
        let network = &self.network;
        let name = format!("{}/{}", self.gate.name(), network.number(self.gate.name()));
        let mut random = Random::of(network.seed, &format!("connection/{name}"));
        let is_calm = network.is_calm.load(Relaxed);
        let trouble = if is_calm { 0 } else { network.trouble_permille };
        let plan = if is_calm { Plan::calm() } else { Plan::draw(&mut random, trouble) };
        let mut partition = network.partition(&self.gateway);
        reachable(&mut partition).await;
        sleep(Duration::from_millis(random.between(plan.latency_ms.0, plan.latency_ms.1))).await;
        let refused = |what: &str| {
            network.record.probe(what);
            Err(io::ErrorKind::ConnectionRefused.into())
        };
        if random.permille(trouble / 12) {
            network.record.fault("line: a connection does not come up", None, &name);
            std::future::pending::<()>().await;
        }
        if random.permille(trouble / 8) {
            return refused("line: a connection refused");
        }
        let Some(Running { host, stop }) = network.house.running() else {
            return refused("line: no host");
        };
        if host.faults().refuses_connections {
            return refused("line: a connection refused by the host");
        }
        self.gate.open().await;
        network.record.note(None, format!("{name} connects: {plan:?}"));
        let (near, far) = tokio::io::duplex(plan.buffer);
        let (at_host, from_host) = tokio::io::duplex(plan.buffer);
        let (reading, writing) = tokio::io::split(at_host);
        host.serve_on(reading, writing, &stop);
        let hold = Arc::new(Hold::default());
        let listening = Arc::new(Mutex::new(Listening::new(&network.tap, &self.gateway)));
        let wire = Wire {
            name,
            tap: Arc::clone(&network.tap),
            gate: Arc::clone(&self.gate),
            hold: Arc::clone(&hold),
            partition,
            plan,
            user_timeout,
            random,
        };
        tokio::spawn(wire.carry(far, from_host));
        let (reading, writing) = tokio::io::split(near);
        let end = |inner| End {
            inner,
            gate: Arc::clone(&self.gate),
            opening: None,
            listening: Arc::clone(&listening),
            _held: Held::of(&hold),
        };
        let in_order = Arc::clone(&hold);
        Ok(Connected {
            reading: Box::new(end(Half::Reading(reading))),
            writing: Box::new(end(Half::Writing(writing))),
            end_in_order: Box::new(move || in_order.end_in_order()),
        })
    }
}

enum Half {
    Reading(ReadHalf<DuplexStream>),
    Writing(WriteHalf<DuplexStream>),
}

/// A gateway's end of a connection: while its process is stopped, nothing is read or written.
struct End {
    inner: Half,
    gate: Arc<Gate>,
    opening: Option<BoxFuture<'static, ()>>,
    listening: Arc<Mutex<Listening>>,
    _held: Held,
}

impl End {
    fn poll_open(&mut self, context: &mut Context<'_>) -> Poll<()> {
        while !self.gate.is_running() {
            let gate = Arc::clone(&self.gate);
            let opening = self.opening.get_or_insert_with(|| Box::pin(async move { gate.open().await }));
            ready!(opening.as_mut().poll(context));
            self.opening = None;
        }
        Poll::Ready(())
    }
}

impl AsyncRead for End {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        ready!(self.poll_open(context));
        let before = buffer.filled().len();
        let Half::Reading(inner) = &mut self.inner else { unreachable!("the reading half") };
        ready!(Pin::new(inner).poll_read(context, buffer))?;
        self.gate.may_end("crash before an answer is read", None);
        ready!(self.poll_open(context));
        locked(&self.listening).comes(&buffer.filled()[before..]);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for End {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        ready!(self.poll_open(context));
        self.gate.may_end("crash before sending", None);
        ready!(self.poll_open(context));
        let Half::Writing(inner) = &mut self.inner else { unreachable!("the writing half") };
        let written = ready!(Pin::new(inner).poll_write(context, bytes))?;
        locked(&self.listening).goes(&bytes[..written]);
        self.gate.may_end("crash after sending", None);
        Poll::Ready(Ok(written))
    }

    fn poll_flush(self: Pin<&mut Self>, _context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_open(context));
        let Half::Writing(inner) = &mut self.inner else { unreachable!("the writing half") };
        Pin::new(inner).poll_shutdown(context)
    }
}
