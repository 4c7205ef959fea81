//! One connection of a line: frames in, frames out, and whether it has signed on.

use super::{Host, locked};
use crate::frame::Frame;
use bytes::BytesMut;
use futures::StreamExt;
use iso8583::Message;
use std::sync::{
    Arc, Mutex,
    atomic::{AtomicBool, Ordering::Relaxed},
};
use tokio::{
    io::AsyncWriteExt,
    net::{TcpStream, tcp::OwnedWriteHalf},
    sync::mpsc,
};
use tokio_util::{codec::FramedRead, sync::CancellationToken};

/// Answers that one write takes along.
const BATCH_MAX: usize = 256;

pub(super) struct Connection {
    outgoing: mpsc::UnboundedSender<Outgoing>,
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

impl Connection {
    pub(super) fn send(&self, outgoing: Outgoing) {
        // Whoever has hung up hears nothing.
        drop(self.outgoing.send(outgoing));
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
pub(super) fn serve(host: &Arc<Host>, stream: TcpStream, stop: CancellationToken) -> Arc<Connection> {
    // Without it, an answer may wait for the next one; it changes nothing else.
    let _is_prompt = stream.set_nodelay(true);
    let (reading, writing) = stream.into_split();
    let (outgoing, answers) = mpsc::unbounded_channel();
    let connection = Arc::new(Connection {
        outgoing,
        is_signed_on: AtomicBool::new(false),
        stop: stop.clone(),
        terminal: Mutex::default(),
    });
    let frame = host.profile.frame;
    host.tasks.spawn(write(Arc::clone(host), frame, writing, answers, stop.clone()));
    let (host, served) = (Arc::clone(host), Arc::clone(&connection));
    host.clone().tasks.spawn(async move {
        let mut frames = FramedRead::new(reading, frame);
        let mut faults = host.faults.subscribe();
        loop {
            // One who stalls reads nothing.
            let stalls = async {
                let ended = faults.wait_for(|faults| !faults.stalled).await;
                drop(ended);
            };
            if stop.run_until_cancelled(stalls).await.is_none() {
                break;
            }
            match stop.run_until_cancelled(frames.next()).await {
                Some(Some(Ok(bytes))) => host.receive(&served, &bytes),
                Some(Some(Err(error))) => {
                    tracing::warn!(%error, "a line cannot be read any further");
                    break;
                }
                Some(None) | None => break,
            }
        }
        served.close();
        let terminal = locked(&served.terminal).clone();
        tracing::info!(terminal, "a line disconnected");
    });
    connection
}

async fn write(
    host: Arc<Host>,
    frame: Frame,
    mut writing: OwnedWriteHalf,
    mut answers: mpsc::UnboundedReceiver<Outgoing>,
    stop: CancellationToken,
) {
    let mut batch = Vec::with_capacity(BATCH_MAX);
    let mut bytes = BytesMut::new();
    let mut message_bytes = Vec::new();
    loop {
        let received = stop.run_until_cancelled(answers.recv_many(&mut batch, BATCH_MAX)).await;
        if received.is_none_or(|count| count == 0) {
            break;
        }
        let mut is_last = false;
        for outgoing in batch.drain(..) {
            let (message, cut) = match outgoing {
                Outgoing::Bytes(damaged) => {
                    bytes.extend_from_slice(&damaged);
                    continue;
                }
                Outgoing::Message(message) => (message, None),
                Outgoing::Cut(message, at) => (message, Some(at)),
            };
            message_bytes.clear();
            let before = bytes.len();
            let written = host.profile.spec.encode(&message, &mut message_bytes);
            if let Err(error) = written {
                tracing::error!(%error, "an answer does not fit the profile");
                continue;
            }
            if let Err(error) = frame.put(&message_bytes, &mut bytes) {
                tracing::error!(%error, "an answer does not fit the frame");
                continue;
            }
            if let Some(at) = cut {
                bytes.truncate(before + at % (bytes.len() - before));
                is_last = true;
                break;
            }
        }
        if writing.write_all(&bytes).await.is_err() || is_last {
            break;
        }
        bytes.clear();
    }
    stop.cancel();
    drop(writing.shutdown().await);
}
