//! One connection of a line: frames in, frames out, and whether it has signed on.
//!
//! One task reads, another writes as many answers at once as wait. Whoever sends without reading is read no further
//! once so many of its requests are under way. What befalls the messages follows from the host's seed, the connection's
//! number and the messages' order.

use super::{Host, HostFaults};
use crate::{
    core_banking::{Dice, Sent, fraction},
    frame::{Frame, FrameError},
    locked,
};
use bytes::{Bytes, BytesMut};
use iso8583::Message;
use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch},
    time::Instant,
};
use tokio_util::{codec::Decoder, sync::CancellationToken};

/// Answers that one write takes along.
const BATCH_MAX: usize = 256;

/// Requests of one connection under way, from reading to the written answer.
const UNDER_WAY_MAX: usize = 16_384;

/// Bytes that one read takes along.
const READ_BYTES_MAX: usize = 64 * 1024;

/// Bytes of a request within which the connection may be closed.
const CUT_BYTES_MAX: u64 = 400;

/// How long after a stall what arrives may have been on its way before.
const DRAINED_WITHIN: Duration = Duration::from_secs(1);

/// What comes from a gateway.
type Reading = Box<dyn AsyncRead + Send + Unpin>;

/// What goes to it.
type Writing = Box<dyn AsyncWrite + Send + Unpin>;

/// A request's place among those under way; held until its answer is written.
pub(super) type Place = Arc<Taken>;

pub(super) struct Taken {
    host: Arc<Host>,
    /// Free for the next one.
    _permit: OwnedSemaphorePermit,
}

impl Taken {
    fn new(host: &Arc<Host>, permit: OwnedSemaphorePermit) -> Place {
        host.count(|counts| &counts.under_way);
        Arc::new(Self { host: Arc::clone(host), _permit: permit })
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        self.host.counts.under_way.fetch_sub(1, Relaxed);
        self.host.changed.notify_waiters();
    }
}

pub(super) struct Connection {
    outgoing: mpsc::UnboundedSender<(Outgoing, Option<Place>)>,
    is_signed_on: AtomicBool,
    stop: CancellationToken,
    /// The terminal that signed on.
    pub(super) terminal: Mutex<Option<String>>,
}

/// What goes out.
pub(super) enum Outgoing {
    /// A message in its frame.
    Message(Message),
    /// Bytes as they are.
    Bytes(Vec<u8>),
    /// So many bytes of a message in its frame, and then the end.
    Cut(Message, usize),
}

/// A request as it was read.
pub(super) struct Incoming {
    pub(super) bytes: Bytes,
    pub(super) place: Place,
    pub(super) sent: Sent,
    /// What befalls it.
    pub(super) dice: Dice,
}

impl Connection {
    /// Puts something on its way; whoever has hung up hears nothing.
    pub(super) fn send(&self, outgoing: Outgoing, place: Option<&Place>) {
        drop(self.outgoing.send((outgoing, place.cloned())));
    }

    pub(super) fn is_signed_on(&self) -> bool {
        self.is_signed_on.load(Relaxed) && !self.is_closed()
    }

    pub(super) fn set_signed_on(&self, is_signed_on: bool) {
        self.is_signed_on.store(is_signed_on, Relaxed);
    }

    pub(super) fn is_closed(&self) -> bool {
        self.stop.is_cancelled()
    }

    pub(super) fn close(&self) {
        self.stop.cancel();
    }
}

/// Serves a connection in tasks of its own.
pub(super) fn serve(
    host: &Arc<Host>,
    (reading, writing): (Reading, Writing),
    dice: Dice,
    stop: CancellationToken,
) -> Arc<Connection> {
    let (outgoing, answers) = mpsc::unbounded_channel();
    let connection = Arc::new(Connection {
        outgoing,
        is_signed_on: AtomicBool::new(false),
        stop: stop.clone(),
        terminal: Mutex::default(),
    });
    let faults = host.faults.subscribe();
    let writer = Writer { host: Arc::clone(host), writing, faults: faults.clone(), stop };
    host.tasks.spawn(writer.run(answers));
    let reader = Reader {
        host: Arc::clone(host),
        connection: Arc::clone(&connection),
        reading,
        buffer: BytesMut::new(),
        faults,
        dice,
        places: Arc::new(Semaphore::new(UNDER_WAY_MAX)),
        drained: None,
    };
    host.tasks.spawn(reader.run());
    connection
}

/// Waits until nothing stalls.
async fn unstalled(faults: &mut watch::Receiver<HostFaults>) {
    // It fails when the host is gone, and its connections with it.
    let _ended = faults.wait_for(|faults| !faults.stalled).await.map(drop);
}

struct Reader {
    host: Arc<Host>,
    connection: Arc<Connection>,
    reading: Reading,
    buffer: BytesMut,
    faults: watch::Receiver<HostFaults>,
    dice: Dice,
    places: Arc<Semaphore>,
    /// What is read until then may have been sent as early as that.
    drained: Option<(Instant, Sent)>,
}

impl Reader {
    async fn run(mut self) {
        let stop = self.connection.stop.clone();
        while let Some(Some(incoming)) = stop.run_until_cancelled(self.next()).await {
            self.host.receive(&self.connection, incoming);
        }
        self.connection.close();
        self.host.changed.notify_waiters();
        let terminal = locked(&self.connection.terminal).clone();
        tracing::info!(terminal, "a line disconnected");
    }

    /// The next request; none if there will be none.
    async fn next(&mut self) -> Option<Incoming> {
        let mut dice = self.dice.row();
        let (cut, cut_at) = (fraction(dice.throw()), 1 + usize::try_from(dice.below(CUT_BYTES_MAX)).ok()?);
        let bytes = match self.frame(cut, cut_at).await {
            Ok(bytes) => bytes?,
            Err(error) => {
                tracing::warn!(%error, "a line cannot be read any further");
                return None;
            }
        };
        let place = Taken::new(&self.host, Arc::clone(&self.places).acquire_owned().await.ok()?);
        let now = self.host.sent_now();
        let sent = match self.drained {
            Some((until, early)) if now.instant < until => early,
            _ => now,
        };
        Some(Incoming { bytes, place, sent, dice })
    }

    /// A frame; none at the end, or if the dice have it that the connection is closed so many bytes into it.
    async fn frame(&mut self, cut: f64, cut_at: usize) -> Result<Option<Bytes>, FrameError> {
        let mut frame = self.host.profile.frame;
        loop {
            if self.faults.borrow_and_update().stalled && !self.sit_out().await {
                return Ok(None);
            }
            let is_cut = cut < self.faults.borrow().cut_reading;
            if is_cut && self.buffer.len() >= cut_at {
                self.host.count(|counts| &counts.faults);
                return Ok(None);
            }
            if let Some(bytes) = frame.decode(&mut self.buffer)? {
                if is_cut {
                    self.host.count(|counts| &counts.faults);
                    return Ok(None);
                }
                return Ok(Some(bytes));
            }
            let room = if is_cut { cut_at - self.buffer.len() } else { READ_BYTES_MAX };
            let mut limited = (&mut self.reading).take(room as u64);
            // Whoever begins to stall meanwhile reads nothing more.
            tokio::select! {
                biased;
                changed = self.faults.changed() => if changed.is_err() { return Ok(None) },
                read = limited.read_buf(&mut self.buffer) => if read? == 0 { return Ok(None) },
            }
        }
    }

    /// Waits for the end of a stall; whether the connection goes on. After a long one it does not: what has waited
    /// in it and on its way for so long must not be carried out, and nobody can tell it from what is new.
    async fn sit_out(&mut self) -> bool {
        let since = self.host.sent_now();
        unstalled(&mut self.faults).await;
        let now = self.host.sent_now();
        self.drained = Some((now.instant + DRAINED_WITHIN, since));
        now.since(since) < self.host.profile.answer_timeout
    }
}

struct Writer {
    host: Arc<Host>,
    writing: Writing,
    faults: watch::Receiver<HostFaults>,
    stop: CancellationToken,
}

impl Writer {
    async fn run(mut self, answers: mpsc::UnboundedReceiver<(Outgoing, Option<Place>)>) {
        let stop = self.stop.clone();
        stop.run_until_cancelled(self.write(answers)).await;
        stop.cancel();
        drop(self.writing.shutdown().await);
    }

    async fn write(&mut self, mut answers: mpsc::UnboundedReceiver<(Outgoing, Option<Place>)>) {
        let frame = self.host.profile.frame;
        let mut batch = Vec::with_capacity(BATCH_MAX);
        let mut bytes = BytesMut::new();
        let mut message_bytes = Vec::new();
        let mut is_last = false;
        while !is_last && answers.recv_many(&mut batch, BATCH_MAX).await > 0 {
            for (outgoing, _) in &batch {
                let (message, cut) = match outgoing {
                    Outgoing::Bytes(damaged) => {
                        bytes.extend_from_slice(damaged);
                        continue;
                    }
                    Outgoing::Message(message) => (message, None),
                    Outgoing::Cut(message, at) => (message, Some(*at)),
                };
                let before = bytes.len();
                if !self.put(frame, message, &mut message_bytes, &mut bytes) {
                    continue;
                }
                if let Some(at) = cut {
                    bytes.truncate(before + at % (bytes.len() - before));
                    is_last = true;
                    break;
                }
            }
            unstalled(&mut self.faults).await;
            if self.writing.write_all(&bytes).await.is_err() {
                break;
            }
            bytes.clear();
            // Only now are their places free.
            batch.clear();
        }
    }

    fn put(
        &self,
        frame: Frame,
        message: &Message,
        message_bytes: &mut Vec<u8>,
        bytes: &mut BytesMut,
    ) -> bool {
        message_bytes.clear();
        if let Err(error) = self.host.profile.spec.encode(message, message_bytes) {
            tracing::error!(%error, "an answer does not fit the profile");
            return false;
        }
        if let Err(error) = frame.put(message_bytes, bytes) {
            tracing::error!(%error, "an answer does not fit the frame");
            return false;
        }
        true
    }
}
