//! One connection's way between its ends: how long it takes, where it breaks, and who notices.

use super::tap::{Frames, Tap};
use crate::{gate::Gate, random::Random};
use std::{
    collections::VecDeque,
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, Ordering::Relaxed},
    },
    time::Duration,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, DuplexStream, ReadHalf, WriteHalf},
    sync::{Notify, watch},
    time::{Instant, sleep, sleep_until, timeout_at},
};

/// Chunks of one direction that are on their way at the same time.
const CHUNKS_MAX: usize = 256;

/// Until when a gateway is cut off from the bank.
pub(super) type Partition = watch::Receiver<Option<Instant>>;

/// Resolves while the gateway is not cut off.
pub(super) async fn reachable(partition: &mut Partition) {
    loop {
        let until = *partition.borrow_and_update();
        let Some(until) = until.filter(|until| *until > Instant::now()) else { return };
        tokio::select! {
            biased;
            _ = partition.changed() => {}
            () = sleep_until(until) => {}
        }
    }
}

/// What befalls one connection.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    pub(super) latency_ms: (u64, u64),
    /// Bytes that travel together, at most.
    chunk_max: u64,
    /// What either end keeps of what was not read.
    pub(super) buffer: usize,
    fate: Fate,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Fate {
    /// It holds.
    Holds,
    /// It breaks when so many bytes have gone a way.
    Breaks { way: Way, at: u64, seen_by: SeenBy },
    /// It stands still for a while when so many bytes have gone a way.
    Stands { way: Way, at: u64, for_ms: u64 },
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Way {
    ToBank,
    ToGateway,
}

/// Who notices at once that a connection broke.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum SeenBy {
    Both,
    Gateway,
    Bank,
}

impl Plan {
    pub(super) fn draw(random: &mut Random, trouble_permille: u64) -> Self {
        let slowest = random.weighted(&[(6, 20), (3, 200), (1, 1_500)]);
        let way = if random.permille(500) { Way::ToBank } else { Way::ToGateway };
        // The sign-on is some hundred bytes, a payment as many.
        let most = random.weighted(&[(2, 400), (5, 3_000), (3, 20_000)]);
        let at = random.below(most);
        let fate = if !random.permille(trouble_permille) {
            Fate::Holds
        } else if random.permille(700) {
            let seen_by = random.weighted(&[(4, SeenBy::Both), (2, SeenBy::Gateway), (2, SeenBy::Bank)]);
            Fate::Breaks { way, at, seen_by }
        } else {
            Fate::Stands { way, at, for_ms: random.between(200, 20_000) }
        };
        Self {
            latency_ms: (1, slowest),
            chunk_max: random.weighted(&[(2, 7), (3, 200), (5, 65_536)]),
            buffer: random.weighted(&[(1, 512), (9, 65_536)]),
            fate,
        }
    }

    pub(super) fn calm() -> Self {
        Self { latency_ms: (1, 20), chunk_max: 65_536, buffer: 65_536, fate: Fate::Holds }
    }
}

/// Whether the gateway still has the connection, and how it let it go.
#[derive(Default)]
pub(super) struct Hold {
    halves: AtomicU32,
    is_in_order: AtomicBool,
    let_go: Notify,
}

impl Hold {
    /// From here on the connection is let go without a reset.
    pub(super) fn end_in_order(&self) {
        self.is_in_order.store(true, Relaxed);
    }

    async fn is_let_go(&self) {
        while self.halves.load(Relaxed) > 0 {
            self.let_go.notified().await;
        }
    }
}

/// One half of a gateway's end.
pub(super) struct Held(Arc<Hold>);

impl Held {
    pub(super) fn of(hold: &Arc<Hold>) -> Self {
        hold.halves.fetch_add(1, Relaxed);
        Self(Arc::clone(hold))
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.0.halves.fetch_sub(1, Relaxed);
        self.0.let_go.notify_one();
    }
}

/// Why a connection is no more.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Ended {
    /// The gateway let it go.
    LetGo,
    /// The gateway's process died.
    Killed,
    /// The bank is gone.
    BankGone,
    /// It broke on the way.
    Broken(SeenBy),
    /// The gateway's kernel gave up what the bank did not acknowledge.
    Unacknowledged,
}

/// One connection.
pub(super) struct Wire {
    pub(super) name: String,
    pub(super) tap: Arc<Tap>,
    pub(super) gate: Arc<Gate>,
    pub(super) hold: Arc<Hold>,
    pub(super) partition: Partition,
    pub(super) plan: Plan,
    pub(super) user_timeout: Duration,
    pub(super) random: Random,
}

impl Wire {
    /// Carries what is written at either end to the other one, until one of them is gone.
    pub(super) async fn carry(mut self, gateway: DuplexStream, bank: DuplexStream) {
        let (from_gateway, to_gateway) = tokio::io::split(gateway);
        let (from_bank, to_bank) = tokio::io::split(bank);
        let mut up = self.direction(Way::ToBank, from_gateway, to_bank);
        let mut down = self.direction(Way::ToGateway, from_bank, to_gateway);
        let ended = tokio::select! {
            biased;
            () = self.gate.died() => Ended::Killed,
            () = self.hold.is_let_go() => Ended::LetGo,
            ended = up.carry() => ended,
            ended = down.carry() => ended,
        };
        let record = Arc::clone(&self.tap.record);
        record.note(None, format!("{} ended: {ended:?}", self.name));
        if up.frames.is_within() || down.frames.is_within() {
            record.probe("line: cut in the middle of a message");
        }
        let Direction { from: from_bank, to: to_gateway, .. } = down;
        match ended {
            Ended::BankGone => {}
            Ended::Broken(SeenBy::Both) => record.fault("line: broken, seen by both", None, &self.name),
            Ended::Broken(SeenBy::Gateway) | Ended::Unacknowledged => {
                record.fault(
                    if ended == Ended::Unacknowledged {
                        "line: bytes that the bank did not acknowledge"
                    } else {
                        "line: broken, seen by the gateway"
                    },
                    None,
                    &self.name,
                );
                drop((up.from, to_gateway));
                self.bank_lingers(from_bank, up.to).await;
            }
            Ended::Broken(SeenBy::Bank) => {
                record.fault("line: broken, seen by the bank", None, &self.name);
                drop((from_bank, up.to));
                self.gateway_lingers(up.from, to_gateway).await;
            }
            Ended::LetGo | Ended::Killed => {
                drop(to_gateway);
                let is_in_order = ended == Ended::LetGo && self.hold.is_in_order.load(Relaxed);
                if is_in_order {
                    record.probe("line: ended in order");
                }
                if is_in_order || self.random.permille(500) {
                    // It was on its way before.
                    up.deliver_rest().await;
                }
                let is_silent = ended == Ended::Killed && self.random.permille(300);
                if is_silent {
                    record.probe("line: a gateway vanished without a word");
                    self.bank_lingers(from_bank, up.to).await;
                } else {
                    reachable(&mut self.partition).await;
                }
            }
        }
    }

    fn direction(
        &mut self,
        way: Way,
        from: ReadHalf<DuplexStream>,
        to: WriteHalf<DuplexStream>,
    ) -> Direction {
        let stop = match self.plan.fate {
            Fate::Breaks { way: broken, at, seen_by } if broken == way => Some((at, Stop::Breaks(seen_by))),
            Fate::Stands { way: standing, at, for_ms } if standing == way => {
                Some((at, Stop::Stands(Duration::from_millis(for_ms))))
            }
            _ => None,
        };
        Direction {
            from,
            to,
            name: self.name.clone(),
            tap: Arc::clone(&self.tap),
            partition: self.partition.clone(),
            latency_ms: self.plan.latency_ms,
            chunk_max: self.plan.chunk_max,
            user_timeout: (way == Way::ToBank).then_some(self.user_timeout),
            random: self.random.branch(),
            frames: Frames::of(&self.tap.profile),
            queue: VecDeque::new(),
            is_at_end: false,
            stop,
            stands_until: None,
        }
    }

    /// The bank's end stays until the bank says something, or ends it.
    async fn bank_lingers(
        &mut self,
        mut from_bank: ReadHalf<DuplexStream>,
        to_bank: WriteHalf<DuplexStream>,
    ) {
        let _said = from_bank.read_u8().await;
        reachable(&mut self.partition).await;
        drop(to_bank);
    }

    /// The gateway's end stays until what it writes is not acknowledged, or it ends it.
    async fn gateway_lingers(
        &mut self,
        mut from_gateway: ReadHalf<DuplexStream>,
        to_gateway: WriteHalf<DuplexStream>,
    ) {
        let unacknowledged = async {
            if from_gateway.read_u8().await.is_err() {
                std::future::pending::<()>().await;
            }
            sleep(self.user_timeout).await;
        };
        tokio::select! {
            biased;
            () = self.gate.died() => {}
            () = self.hold.is_let_go() => {}
            () = unacknowledged => {}
        }
        drop(to_gateway);
    }
}

/// What happens when so many bytes have gone a way.
#[derive(Clone, Copy)]
enum Stop {
    Breaks(SeenBy),
    Stands(Duration),
}

/// Bytes that travel together.
struct Chunk {
    bytes: Vec<u8>,
    written_at: Instant,
    due: Instant,
}

/// One direction of a connection.
struct Direction {
    from: ReadHalf<DuplexStream>,
    to: WriteHalf<DuplexStream>,
    name: String,
    tap: Arc<Tap>,
    partition: Partition,
    latency_ms: (u64, u64),
    chunk_max: u64,
    /// What is not taken for so long is given up.
    user_timeout: Option<Duration>,
    random: Random,
    /// Of what has arrived.
    frames: Frames,
    queue: VecDeque<Chunk>,
    is_at_end: bool,
    /// What happens after so many more bytes.
    stop: Option<(u64, Stop)>,
    stands_until: Option<Instant>,
}

/// What a moment brings.
enum Next {
    Read(io::Result<Vec<u8>>),
    Delivered(io::Result<usize>),
    GivenUp,
}

impl Direction {
    /// Carries until it breaks. One that was ended at its beginning is ended at its end, too, and waits.
    async fn carry(&mut self) -> Ended {
        loop {
            if let Some((0, stop)) = self.stop {
                self.stop = None;
                match stop {
                    Stop::Breaks(seen_by) => return Ended::Broken(seen_by),
                    Stop::Stands(time) => {
                        self.tap.record.fault("line: stands still", None, &self.name);
                        self.stands_until = Some(Instant::now() + time);
                    }
                }
            }
            if self.queue.is_empty() && self.is_at_end {
                let _is_ended = self.to.shutdown().await;
                std::future::pending::<()>().await;
            }
            let size = usize::try_from(self.chunk_max).expect("a small number");
            let Self { from, to, partition, queue, stop, stands_until, user_timeout, is_at_end, .. } = self;
            let reads = !*is_at_end && queue.len() < CHUNKS_MAX;
            let mut buffer = vec![0; if reads { size } else { 0 }];
            let head = queue.front();
            let next = tokio::select! {
                biased;
                next = deliver(head, to, partition, (*stop).map(|(left, _)| left), *stands_until, *user_timeout) => next,
                read = from.read(&mut buffer), if reads => Next::Read(read.map(|count| {
                    buffer.truncate(count);
                    buffer
                })),
            };
            match next {
                Next::Read(Ok(bytes)) if bytes.is_empty() => self.is_at_end = true,
                Next::Read(Ok(bytes)) => self.take(&bytes),
                Next::Read(Err(_)) => self.is_at_end = true,
                Next::Delivered(Ok(count)) => self.delivered(count),
                // Whoever does not read any more will say no more.
                Next::Delivered(Err(_)) if self.user_timeout.is_some() => return Ended::BankGone,
                Next::Delivered(Err(_)) => std::future::pending().await,
                Next::GivenUp => return Ended::Unacknowledged,
            }
        }
    }

    fn take(&mut self, bytes: &[u8]) {
        let latency = Duration::from_millis(self.random.between(self.latency_ms.0, self.latency_ms.1));
        let now = Instant::now();
        let due = self.queue.back().map_or(now, |last| last.due).max(now + latency);
        // Cut into pieces that each arrive by themselves.
        let first = usize::try_from(self.random.between(1, self.chunk_max)).expect("a small number");
        let (one, other) = bytes.split_at(first.min(bytes.len()));
        self.queue.push_back(Chunk { bytes: one.to_vec(), written_at: now, due });
        if !other.is_empty() {
            let due = due + Duration::from_millis(self.random.between(0, self.latency_ms.1));
            self.queue.push_back(Chunk { bytes: other.to_vec(), written_at: now, due });
        }
    }

    fn delivered(&mut self, count: usize) {
        let head = self.queue.front_mut().expect("it was delivered from");
        let bytes: Vec<u8> = head.bytes.drain(..count).collect();
        if head.bytes.is_empty() {
            self.queue.pop_front();
        }
        if let Some((left, _)) = &mut self.stop {
            *left -= bytes.len() as u64;
        }
        self.frames.feed(&bytes);
    }

    /// What was on its way when its sender was gone.
    async fn deliver_rest(&mut self) {
        while let Some(head) = self.queue.front() {
            match deliver(
                Some(head),
                &mut self.to,
                &mut self.partition,
                None,
                self.stands_until,
                self.user_timeout,
            )
            .await
            {
                Next::Delivered(Ok(count)) => self.delivered(count),
                _ => return,
            }
        }
    }
}

/// Delivers some of a chunk when it is due.
async fn deliver(
    head: Option<&Chunk>,
    to: &mut WriteHalf<DuplexStream>,
    partition: &mut Partition,
    left: Option<u64>,
    stands_until: Option<Instant>,
    user_timeout: Option<Duration>,
) -> Next {
    let Some(Chunk { bytes, written_at, due }) = head else { return std::future::pending().await };
    let delivering = async {
        sleep_until((*due).max(stands_until.unwrap_or(*due))).await;
        reachable(partition).await;
        let count =
            left.map_or(bytes.len(), |left| bytes.len().min(usize::try_from(left).unwrap_or(usize::MAX)));
        Next::Delivered(to.write(&bytes[..count]).await)
    };
    match user_timeout {
        Some(time) => timeout_at(*written_at + time, delivering).await.unwrap_or(Next::GivenUp),
        None => delivering.await,
    }
}
