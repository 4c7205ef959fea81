//! The last look before a request leaves: at both clocks, when its first byte is written and not earlier.
//!
//! It also knows for certain whether anything of a request was written, which no error says: what was not stays
//! unwritten once [`Gate::end`] was called. What is handed to TLS counts as written.

use crate::{SendBefore, locked};
use domain::Clock;
use std::{
    io,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard},
    task::{Context, Poll},
    time::Duration,
};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// What may be written on a connection.
pub(super) struct Gate {
    clock: Arc<dyn Clock>,
    unsent_max: Duration,
    state: Mutex<State>,
}

#[derive(Clone, Copy)]
enum State {
    Shut,
    /// None for a question.
    Open(Option<SendBefore>),
    /// Something of the request was written; the rest may follow, until then.
    Written(SendBefore),
}

impl Gate {
    pub(super) fn new(clock: Arc<dyn Clock>, unsent_max: Duration) -> Self {
        Self { clock, unsent_max, state: Mutex::new(State::Shut) }
    }

    /// A request is handed over: nothing of it is written.
    pub(super) fn begin(&self, send_before: Option<SendBefore>) {
        *self.state() = State::Open(send_before);
    }

    /// Whether anything of the request was written. If not, nothing will be.
    pub(super) fn end(&self) -> bool {
        let mut state = self.state();
        let is_written = matches!(*state, State::Written(_));
        *state = State::Shut;
        is_written
    }

    fn lets_through(&self) -> bool {
        let mut state = self.state();
        let now = self.clock.now();
        match *state {
            State::Shut => false,
            State::Open(send_before) => {
                let is_in_time = send_before.is_none_or(|it| it.allows(now));
                *state = if is_in_time {
                    State::Written(SendBefore::within(self.unsent_max, now))
                } else {
                    State::Shut
                };
                is_in_time
            }
            State::Written(until) => until.allows(now),
        }
    }

    /// Whether what TLS still holds of a request may follow.
    fn may_go_on(&self) -> bool {
        match *self.state() {
            State::Written(until) => until.allows(self.clock.now()),
            State::Shut | State::Open(_) => true,
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        locked(&self.state)
    }
}

/// A stream behind a gate.
pub(super) struct Gated<S> {
    pub(super) stream: S,
    pub(super) gate: Arc<Gate>,
}

impl<S: AsyncRead + Unpin> AsyncRead for Gated<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Gated<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if !self.gate.lets_through() {
            return Poll::Ready(Err(io::Error::other("it is too late to send")));
        }
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.gate.may_go_on() {
            // An error would say that the request failed; what is left of it is dropped with the connection.
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use domain::Timestamp;
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};
    use tokio::time::Instant;

    #[derive(Debug)]
    struct Noon;

    impl Clock for Noon {
        fn now(&self) -> Timestamp {
            Timestamp::from_millis(1_000)
        }
    }

    #[tokio::test(start_paused = true)]
    async fn nothing_of_a_request_is_written_too_late_or_after_it_ended() {
        let gate = Arc::new(Gate::new(Arc::new(Noon), Duration::from_secs(5)));
        let (stream, mut other) = duplex(1_024);
        let mut stream = Gated { stream, gate: Arc::clone(&gate) };
        assert!(stream.write_all(b"unasked").await.is_err());

        let (later, earlier) = (Timestamp::from_millis(1_001), Timestamp::from_millis(1_000));
        let (soon, now) = (Instant::now() + Duration::from_millis(1), Instant::now());
        let both = |wall, monotonic| Some(SendBefore { wall, monotonic });
        for (send_before, is_written) in
            [(None, true), (both(later, soon), true), (both(earlier, soon), false), (both(later, now), false)]
        {
            gate.begin(send_before);
            assert_eq!(stream.write_all(b"one").await.is_ok(), is_written, "{send_before:?}");
            assert_eq!(stream.write_all(b"two").await.is_ok(), is_written, "{send_before:?}");
            assert_eq!(gate.end(), is_written, "{send_before:?}");
            assert!(stream.write_all(b"three").await.is_err());
        }

        gate.begin(both(later, soon));
        stream.write_all(b"one").await.unwrap();
        tokio::time::advance(Duration::from_secs(1)).await;
        stream.write_all(b"two").await.unwrap();
        tokio::time::advance(Duration::from_secs(4)).await;
        assert!(stream.write_all(b"three").await.is_err(), "but not much later");
        assert!(gate.end(), "what has begun may end");

        gate.begin(None);
        assert!(!gate.end());
        assert!(stream.write_all(b"three").await.is_err(), "given up before anything was written");
        drop(stream);
        let mut seen = String::new();
        other.read_to_string(&mut seen).await.unwrap();
        assert_eq!(seen, "onetwo".repeat(3));
    }
}
