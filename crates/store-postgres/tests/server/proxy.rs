//! A way to the server that can fail where a test says: before a statement, after the answer to it, or by
//! falling silent.
//!
//! It reads what a client says message by message, so that a fault hits one statement exactly and not
//! "about then".

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU32, Ordering::Relaxed},
    },
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::{Notify, watch},
};

/// Where a fault hits.
#[derive(Clone, Copy, Debug)]
pub(crate) enum At {
    /// The first statement run whose text begins so.
    Run(&'static str),
    /// The first statement prepared whose text begins so.
    Prepare(&'static str),
    /// The statement that is run after so many others.
    Nth(u32),
}

/// What happens there.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Fault {
    /// The connection ends, and the server never sees the statement.
    CutBefore,
    /// The server carries out the COMMIT, and the connection ends instead of its answer.
    CutInsteadOfAnswer,
    /// Nothing gets through any more, either way, and the connection stays.
    Silence,
}

/// What one connection does with what it is given.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Line {
    Open,
    /// Answers are kept back until the one to COMMIT.
    Swallowing,
    Silent,
    Cut,
}

#[derive(Default)]
struct State {
    server: String,
    armed: Mutex<Option<(At, Fault)>>,
    hit: Notify,
    lines: Mutex<Vec<watch::Sender<Line>>>,
    is_refusing: AtomicBool,
    attempts: AtomicU32,
}

/// A proxy on a port of its own, for as long as the test's runtime lives.
pub(crate) struct Proxy {
    /// `127.0.0.1:12345`.
    pub(crate) address: String,
    state: Arc<State>,
}

fn locked<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Proxy {
    /// One in front of a server (`host:port`).
    pub(crate) async fn to(server: String) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("it is bound").to_string();
        let state = Arc::new(State { server, ..State::default() });
        tokio::spawn(accept(listener, Arc::clone(&state)));
        Self { address, state }
    }

    /// The next statement that fits is hit; and only it.
    pub(crate) fn arm(&self, at: At, fault: Fault) {
        *locked(&self.state.armed) = Some((at, fault));
    }

    /// Takes the fault back; whether it had not hit yet.
    pub(crate) fn disarm(&self) -> bool {
        locked(&self.state.armed).take().is_some()
    }

    /// Waits until the fault has hit.
    pub(crate) async fn hit(&self) {
        self.state.hit.notified().await;
    }

    /// Ends all connections, and makes no new ones.
    pub(crate) fn refuse(&self) {
        self.state.is_refusing.store(true, Relaxed);
        for line in locked(&self.state.lines).drain(..) {
            line.send_replace(Line::Cut);
        }
    }

    /// Makes connections again.
    pub(crate) fn accept(&self) {
        self.state.is_refusing.store(false, Relaxed);
    }

    /// How many connections were asked for so far.
    pub(crate) fn attempts(&self) -> u32 {
        self.state.attempts.load(Relaxed)
    }
}

async fn accept(listener: TcpListener, state: Arc<State>) {
    while let Ok((client, _)) = listener.accept().await {
        state.attempts.fetch_add(1, Relaxed);
        if state.is_refusing.load(Relaxed) {
            continue;
        }
        let server = TcpStream::connect(&state.server).await.expect("the server is there");
        for socket in [&client, &server] {
            socket.set_nodelay(true).expect("a socket");
        }
        let line = watch::Sender::new(Line::Open);
        locked(&state.lines).push(line.clone());
        let (from_client, to_client) = client.into_split();
        let (from_server, to_server) = server.into_split();
        tokio::spawn(until_cut(line.clone(), ask(from_client, to_server, line.clone(), Arc::clone(&state))));
        tokio::spawn(until_cut(line.clone(), answer(from_server, to_client, line)));
    }
}

/// Both halves of a connection are dropped together.
async fn until_cut(line: watch::Sender<Line>, pump: impl Future<Output = std::io::Result<()>>) {
    let mut state = line.subscribe();
    tokio::select! {
        _ended = pump => { line.send_replace(Line::Cut); }
        _cut = state.wait_for(|state| *state == Line::Cut) => {}
    }
}

/// One message: its kind, and all of it as it came.
async fn message(from: &mut OwnedReadHalf, has_kind: bool) -> std::io::Result<(u8, Vec<u8>)> {
    let mut bytes = vec![0; if has_kind { 5 } else { 4 }];
    from.read_exact(&mut bytes).await?;
    let (kind, length) = if has_kind { (bytes[0], &bytes[1..5]) } else { (0, &bytes[..4]) };
    let length = u32::from_be_bytes(length.try_into().expect("four bytes"));
    let head = bytes.len();
    bytes.resize(head + usize::try_from(length).expect("it fits") - 4, 0);
    from.read_exact(&mut bytes[head..]).await?;
    Ok((kind, bytes))
}

/// The texts of a message's body, as far as it has any.
fn texts(message: &[u8]) -> impl Iterator<Item = String> {
    message[5..].split(|byte| *byte == 0).map(|text| String::from_utf8_lossy(text).into_owned())
}

async fn ask(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    line: watch::Sender<Line>,
    state: Arc<State>,
) -> std::io::Result<()> {
    let mut prepared: HashMap<String, String> = HashMap::new();
    to.write_all(&message(&mut from, false).await?.1).await?;
    loop {
        let (kind, bytes) = message(&mut from, true).await?;
        let mut of = texts(&bytes);
        let (is_run, text) = match kind {
            b'P' => {
                let (name, text) = (of.next().unwrap_or_default(), of.next().unwrap_or_default());
                prepared.insert(name, text.clone());
                (false, Some(text))
            }
            b'B' => (true, of.nth(1).and_then(|name| prepared.get(&name).cloned())),
            b'Q' => (true, of.next()),
            _ => (false, None),
        };
        let fault = text.and_then(|text| state.fault(is_run, &text));
        match fault {
            Some(Fault::CutBefore) => line.send_replace(Line::Cut),
            Some(Fault::Silence) => line.send_replace(Line::Silent),
            Some(Fault::CutInsteadOfAnswer) => line.send_replace(Line::Swallowing),
            None => Line::Open,
        };
        if fault.is_some() {
            state.hit.notify_one();
        }
        let now = *line.borrow();
        match now {
            Line::Open | Line::Swallowing => to.write_all(&bytes).await?,
            Line::Silent | Line::Cut => std::future::pending().await,
        }
    }
}

impl State {
    /// The fault that hits a statement, if one does.
    fn fault(&self, is_run: bool, text: &str) -> Option<Fault> {
        let mut armed = locked(&self.armed);
        let (at, fault) = armed.as_mut()?;
        let hits = match at {
            At::Run(start) => is_run && text.starts_with(*start),
            At::Prepare(start) => !is_run && text.starts_with(*start),
            At::Nth(0) => is_run,
            At::Nth(left) => {
                *left -= u32::from(is_run);
                false
            }
        };
        let fault = *fault;
        if hits {
            *armed = None;
        }
        hits.then_some(fault)
    }
}

async fn answer(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    line: watch::Sender<Line>,
) -> std::io::Result<()> {
    loop {
        let (kind, bytes) = message(&mut from, true).await?;
        let now = *line.borrow();
        match now {
            Line::Open => to.write_all(&bytes).await?,
            Line::Swallowing if kind == b'C' && texts(&bytes).next().as_deref() == Some("COMMIT") => {
                return Ok(());
            }
            Line::Swallowing => {}
            Line::Silent | Line::Cut => std::future::pending().await,
        }
    }
}
