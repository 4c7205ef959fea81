//! A connection's socket with its time limits: for the head of a request, between requests, and for a peer
//! that does not take its answers.
//!
//! | phase | begins | ends | limit |
//! | --- | --- | --- | --- |
//! | idle | connection made, answer finished | first byte of a head | `idle` (a first head: `head`) |
//! | head | its first byte | the router is called | `head` |
//! | busy | the router is called | its answer is there | none here: the router bounds bodies and calls |
//!
//! One timer per connection, moved rarely: a request costs no timer of its own.

use std::{
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    task::{Context, Poll, ready},
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    time::{Instant, Sleep, sleep_until},
};

/// The limits of one connection.
#[derive(Clone, Copy)]
pub(crate) struct Limits {
    pub(crate) head: Duration,
    pub(crate) idle: Duration,
    pub(crate) write: Duration,
}

/// Counts the beginnings and ends of requests: odd while one is being answered.
#[derive(Clone, Default)]
pub(crate) struct Activity(Arc<AtomicU32>);

impl Activity {
    /// A request is being answered until the guard is dropped.
    pub(crate) fn begin(&self) -> Answering {
        self.0.fetch_add(1, Ordering::Relaxed);
        Answering(self.clone())
    }

    /// Whether any request has come yet.
    pub(crate) fn has_begun(&self) -> bool {
        self.count() > 0
    }

    fn count(&self) -> u32 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Held while a request is being answered.
pub(crate) struct Answering(Activity);

impl Drop for Answering {
    fn drop(&mut self) {
        self.0.0.fetch_add(1, Ordering::Relaxed);
    }
}

/// The socket.
pub(crate) struct Socket {
    stream: TcpStream,
    limits: Limits,
    activity: Activity,
    activity_seen: u32,
    between_requests: bool,
    read_by: Instant,
    read_timer: Pin<Box<Sleep>>,
    write_timer: Option<Pin<Box<Sleep>>>,
}

impl Socket {
    pub(crate) fn new(stream: TcpStream, limits: Limits, activity: Activity) -> Self {
        // The first head is due at once: a connection is made to be used.
        let read_by = Instant::now() + limits.head;
        Self {
            stream,
            limits,
            activity_seen: activity.count(),
            activity,
            between_requests: false,
            read_by,
            read_timer: Box::pin(sleep_until(read_by)),
            write_timer: None,
        }
    }

    fn poll_read_timer(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.read_timer.deadline() > self.read_by {
            self.read_timer.as_mut().reset(self.read_by);
        }
        loop {
            ready!(self.read_timer.as_mut().poll(cx));
            if self.read_timer.deadline() >= self.read_by {
                return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
            }
            // It was left running from an earlier phase.
            self.read_timer.as_mut().reset(self.read_by);
        }
    }

    fn bounded_write<T>(
        &mut self,
        cx: &mut Context<'_>,
        written: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if written.is_ready() {
            self.write_timer = None;
            return written;
        }
        let write_by = Instant::now() + self.limits.write;
        let timer = self.write_timer.get_or_insert_with(|| Box::pin(sleep_until(write_by)));
        ready!(timer.as_mut().poll(cx));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl AsyncRead for Socket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let activity = this.activity.count();
        if activity != this.activity_seen {
            this.activity_seen = activity;
            this.between_requests = true;
            this.read_by = Instant::now() + this.limits.idle;
        }
        let is_busy = activity % 2 == 1;
        let filled = buffer.filled().len();
        let read = Pin::new(&mut this.stream).poll_read(cx, buffer);
        if is_busy {
            return read;
        }
        if read.is_pending() {
            return this.poll_read_timer(cx);
        }
        if this.between_requests && buffer.filled().len() > filled {
            this.between_requests = false;
            this.read_by = Instant::now() + this.limits.head;
        }
        read
    }
}

impl AsyncWrite for Socket {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.bounded_write(cx, written)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.stream).poll_flush(cx);
        self.bounded_write(cx, flushed)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let shut = Pin::new(&mut self.stream).poll_shutdown(cx);
        self.bounded_write(cx, shut)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, slices);
        self.bounded_write(cx, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}
