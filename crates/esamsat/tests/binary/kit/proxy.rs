//! A TCP forwarder on loopback that does to its connections what networks do: it delays, cuts, stalls, swallows,
//! refuses and, on lines of frames, doubles.
//!
//! One fault at a time, laid and lifted while connections stand. Bytes that were swallowed are missed for ever: their
//! connection never forwards that way again, whatever is lifted. What it did is counted where it did it, on bytes
//! and connections that were there. Deliberately absent: damaged bytes, which TCP does not deliver.

use std::{
    collections::BTreeMap,
    io::{self, ErrorKind},
    mem,
    net::SocketAddr,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        TcpListener, TcpSocket, TcpStream,
        tcp::{ReadHalf, WriteHalf},
    },
    runtime::Runtime,
    sync::watch,
    time::{Instant, timeout},
};

/// Bytes that one read takes along.
const CHUNK_BYTES_MAX: usize = 64 * 1024;
/// Connections that wait to be accepted.
const BACKLOG: u32 = 1024;
/// Before a frame stands its length, as a binary number.
const HEADER_BYTES: usize = 2;

/// Which way bytes go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// From whoever connected.
    Up,
    /// Back to it.
    Down,
}

/// What befalls all connections, those that stand and those that come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// Each chunk is held back for so long, if this is not lifted before.
    Delay(Duration),
    /// The connection ends when so many more bytes went this way.
    Cut(Way, usize),
    /// Each frame that goes this way goes twice. Of a proxy for frames only.
    Double(Way),
    /// Connections are taken, and nothing is forwarded until the fault is lifted.
    Stall,
    /// What goes this way is swallowed; the other way is open.
    Swallow(Way),
    /// The peer is gone, and nobody was told: everything is swallowed.
    Vanish,
    /// Standing connections are reset, and new ones refused.
    Refuse,
}

impl Fault {
    /// What it is counted as.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Delay(_) => "delay",
            Self::Cut(Way::Up, _) => "cut up",
            Self::Cut(Way::Down, _) => "cut down",
            Self::Double(Way::Up) => "double up",
            Self::Double(Way::Down) => "double down",
            Self::Stall => "stall",
            Self::Swallow(Way::Up) => "half-open down",
            Self::Swallow(Way::Down) => "half-open up",
            Self::Vanish => "vanish",
            Self::Refuse => "refuse",
        }
    }
}

/// What a chunk is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unit {
    /// Whatever is there.
    Bytes,
    /// A message behind its length.
    Frame,
}

#[derive(Clone, Copy)]
struct State {
    target: SocketAddr,
    fault: Option<Fault>,
    /// Counted up whenever a fault is laid.
    turn: u64,
    /// Counted up whenever all connections are ended.
    ends: u64,
}

struct Shared {
    unit: Unit,
    /// What a stall held for longer is not forwarded any more: its connection ends.
    held_max: Duration,
    state: watch::Sender<State>,
    counts: Mutex<BTreeMap<&'static str, usize>>,
    /// Connections that stand.
    standing: AtomicUsize,
}

/// It ends with its connections when it is dropped.
pub(crate) struct Proxy {
    address: SocketAddr,
    shared: Arc<Shared>,
    runtime: Option<Runtime>,
}

impl Proxy {
    /// One that forwards bytes to a server.
    pub(crate) fn of_bytes(target: SocketAddr) -> Self {
        Self::start(target, Unit::Bytes, Duration::MAX)
    }

    /// One that forwards frames to a server, none of which it holds for longer.
    pub(crate) fn of_frames(target: SocketAddr, held_max: Duration) -> Self {
        Self::start(target, Unit::Frame, held_max)
    }

    fn start(target: SocketAddr, unit: Unit, held_max: Duration) -> Self {
        let state = State { target, fault: None, turn: 0, ends: 0 };
        let (state, counts, standing) = (watch::Sender::new(state), Mutex::default(), AtomicUsize::new(0));
        let shared = Arc::new(Shared { unit, held_max, state, counts, standing });
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
        let runtime = runtime.expect("a runtime");
        let entered = runtime.enter();
        // It never listens, and keeps the port while nobody else does.
        let reserved = bind(SocketAddr::from(([127, 0, 0, 1], 0))).expect("a free port");
        let address = reserved.local_addr().expect("an address");
        let listener = listen(address);
        drop(entered);
        runtime.spawn(accept(Arc::clone(&shared), reserved, listener));
        Self { address, shared, runtime: Some(runtime) }
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Connections that come from now on go there.
    pub(crate) fn lead_to(&self, target: SocketAddr) {
        self.shared.state.send_modify(|state| state.target = target);
    }

    /// Instead of the present fault, if there is one.
    pub(crate) fn lay(&self, fault: Fault) {
        assert!(self.shared.unit == Unit::Frame || !matches!(fault, Fault::Double(_)), "there are no frames");
        self.shared.state.send_modify(|state| {
            state.fault = Some(fault);
            state.turn += 1;
        });
    }

    /// All is well again, but for connections that lost something.
    pub(crate) fn lift(&self) {
        self.shared.state.send_modify(|state| state.fault = None);
    }

    /// Ends all connections that stand.
    pub(crate) fn end_all(&self) {
        self.shared.state.send_modify(|state| state.ends += 1);
    }

    /// How many connections stand.
    pub(crate) fn standing(&self) -> usize {
        self.shared.standing.load(SeqCst)
    }

    /// How often a fault by this name befell a chunk or a connection.
    pub(crate) fn count(&self, name: &str) -> usize {
        self.counts().get(name).copied().unwrap_or_default()
    }

    /// How often which fault befell a chunk or a connection.
    pub(crate) fn counts(&self) -> BTreeMap<&'static str, usize> {
        self.shared.counts.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.runtime.take().expect("it runs").shutdown_background();
    }
}

impl Shared {
    fn fault(&self) -> Option<Fault> {
        self.state.borrow().fault
    }

    /// Waits until it is so.
    async fn until(&self, is_so: impl FnMut(&State) -> bool) {
        self.state.subscribe().wait_for(is_so).await.expect("it is ours");
    }

    fn count(&self, fault: Fault) {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        *counts.entry(fault.name()).or_default() += 1;
    }
}

fn bind(address: SocketAddr) -> io::Result<TcpSocket> {
    let socket = TcpSocket::new_v4()?;
    socket.set_reuseaddr(true)?;
    socket.set_reuseport(true)?;
    socket.bind(address)?;
    Ok(socket)
}

fn listen(address: SocketAddr) -> TcpListener {
    bind(address).and_then(|socket| socket.listen(BACKLOG)).expect("the port is reserved")
}

/// Takes connections, but while they are refused.
async fn accept(shared: Arc<Shared>, reserved: TcpSocket, mut listener: TcpListener) {
    let address = reserved.local_addr().expect("an address");
    loop {
        tokio::select! {
            accepted = listener.accept() => if let Ok((client, _)) = accepted {
                tokio::spawn(serve(Arc::clone(&shared), client));
            },
            () = shared.until(|state| state.fault == Some(Fault::Refuse)) => {
                drop(listener);
                shared.until(|state| state.fault != Some(Fault::Refuse)).await;
                listener = listen(address);
            }
        }
    }
}

/// One connection, until both sides have closed it or it is ended.
async fn serve(shared: Arc<Shared>, mut client: TcpStream) {
    let State { target, ends, .. } = *shared.state.borrow();
    let Ok(mut server) = TcpStream::connect(target).await else {
        drop(client.set_zero_linger());
        return;
    };
    for stream in [&client, &server] {
        stream.set_nodelay(true).expect("a connection");
    }
    shared.standing.fetch_add(1, SeqCst);
    let is_refused = {
        let (from_client, to_client) = client.split();
        let (from_server, to_server) = server.split();
        let is_lost = AtomicBool::new(false);
        let mut up =
            Pump { shared: &shared, way: Way::Up, is_lost: &is_lost, passed: (0, 0), is_dead: false };
        let mut down = Pump { way: Way::Down, ..up };
        let both =
            async { tokio::try_join!(up.run(from_client, to_server), down.run(from_server, to_client)) };
        tokio::select! {
            _ = both => false,
            () = shared.until(|state| state.ends != ends) => false,
            () = shared.until(|state| state.fault == Some(Fault::Refuse)) => true,
        }
    };
    shared.standing.fetch_sub(1, SeqCst);
    if is_refused {
        shared.count(Fault::Refuse);
        for stream in [&client, &server] {
            drop(stream.set_zero_linger());
        }
    }
}

/// One direction of a connection.
#[derive(Clone, Copy)]
struct Pump<'a> {
    shared: &'a Shared,
    way: Way,
    /// Whether anything of the connection was swallowed.
    is_lost: &'a AtomicBool,
    /// In which turn, and how many bytes.
    passed: (u64, usize),
    /// Whether nothing goes this way any more.
    is_dead: bool,
}

impl Pump<'_> {
    /// An error ends the connection.
    async fn run(&mut self, from: ReadHalf<'_>, mut to: WriteHalf<'_>) -> io::Result<()> {
        let mut chunks = Chunks { from, unit: self.shared.unit, bytes: Vec::new(), is_over: false };
        loop {
            let chunk = chunks.next().await;
            self.wait_while_stalled().await?;
            if chunk.is_empty() {
                self.wait_while_swallowing().await?;
                return to.shutdown().await;
            }
            self.forward(&chunk, &mut to).await?;
        }
    }

    /// Forwards a chunk as far as the fault lets it.
    async fn forward(&mut self, chunk: &[u8], to: &mut WriteHalf<'_>) -> io::Result<()> {
        let State { fault, turn, .. } = *self.shared.state.borrow();
        match fault {
            _ if self.is_dead => Ok(()),
            Some(fault) if self.swallows(fault) => {
                self.shared.count(fault);
                self.is_dead = true;
                self.is_lost.store(true, SeqCst);
                Ok(())
            }
            Some(fault @ Fault::Delay(time)) => {
                self.shared.count(fault);
                let is_lifted = self.shared.until(|state| state.fault != Some(fault));
                _ = timeout(time, is_lifted).await;
                to.write_all(chunk).await
            }
            Some(fault @ Fault::Cut(way, after)) if way == self.way => {
                let passed = if self.passed.0 == turn { self.passed.1 } else { 0 };
                self.passed = (turn, passed + chunk.len());
                if self.passed.1 < after {
                    return to.write_all(chunk).await;
                }
                to.write_all(&chunk[..after - passed]).await?;
                self.shared.count(fault);
                Err(ErrorKind::ConnectionAborted.into())
            }
            Some(fault @ Fault::Double(way)) if way == self.way => {
                self.shared.count(fault);
                to.write_all(&[chunk, chunk].concat()).await
            }
            _ => to.write_all(chunk).await,
        }
    }

    fn swallows(&self, fault: Fault) -> bool {
        match fault {
            Fault::Swallow(way) => way == self.way,
            Fault::Vanish => true,
            _ => false,
        }
    }

    /// The end is not told while it would be swallowed; then a connection that lost something ends on both sides, so
    /// that nothing is left behind.
    async fn wait_while_swallowing(&self) -> io::Result<()> {
        self.shared.until(|state| !state.fault.is_some_and(|fault| self.swallows(fault))).await;
        if self.is_lost.load(SeqCst) { Err(ErrorKind::ConnectionAborted.into()) } else { Ok(()) }
    }

    async fn wait_while_stalled(&self) -> io::Result<()> {
        if self.shared.fault() != Some(Fault::Stall) {
            return Ok(());
        }
        self.shared.count(Fault::Stall);
        let since = Instant::now();
        self.shared.until(|state| state.fault != Some(Fault::Stall)).await;
        if since.elapsed() > self.shared.held_max {
            return Err(ErrorKind::ConnectionAborted.into());
        }
        Ok(())
    }
}

/// What is read, chunk by chunk; an empty one is the end.
struct Chunks<'a> {
    from: ReadHalf<'a>,
    unit: Unit,
    bytes: Vec<u8>,
    is_over: bool,
}

impl Chunks<'_> {
    async fn next(&mut self) -> Vec<u8> {
        loop {
            let length = self.whole();
            if length > 0 {
                return self.bytes.drain(..length).collect();
            }
            if self.is_over {
                // Part of a frame is forwarded as it came.
                return mem::take(&mut self.bytes);
            }
            self.bytes.reserve(CHUNK_BYTES_MAX);
            self.is_over = self.from.read_buf(&mut self.bytes).await.unwrap_or(0) == 0;
        }
    }

    /// How many bytes are a chunk.
    fn whole(&self) -> usize {
        match (self.unit, &self.bytes[..]) {
            (Unit::Bytes, bytes) => bytes.len(),
            (Unit::Frame, [high, low, message @ ..]) => {
                let length = usize::from(u16::from_be_bytes([*high, *low]));
                if message.len() < length { 0 } else { HEADER_BYTES + length }
            }
            (Unit::Frame, _) => 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kit::{PATIENCE, within};
    use std::{
        io::{Read, Write},
        net::{TcpListener, TcpStream},
        thread,
    };

    /// As long as one can wait for something that must not come.
    const MOMENT: Duration = Duration::from_millis(100);

    /// A server that says everything again that it hears.
    fn echo() -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                thread::spawn(move || {
                    let mut bytes = [0; 1024];
                    while let Ok(read @ 1..) = stream.read(&mut bytes) {
                        if stream.write_all(&bytes[..read]).is_err() {
                            break;
                        }
                    }
                });
            }
        });
        address
    }

    fn connect(proxy: &Proxy) -> TcpStream {
        let stream = TcpStream::connect(proxy.address()).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream
    }

    /// One that has passed bytes both ways.
    fn connected(proxy: &Proxy) -> TcpStream {
        let mut stream = connect(proxy);
        assert_eq!(asked(&mut stream, b"\0\x03abc", 5), b"\0\x03abc");
        stream
    }

    fn asked(stream: &mut TcpStream, bytes: &[u8], count: usize) -> Vec<u8> {
        stream.write_all(bytes).unwrap();
        let mut answer = vec![0; count];
        stream.read_exact(&mut answer).unwrap();
        answer
    }

    /// What comes until the connection ends.
    fn rest(mut stream: TcpStream) -> Vec<u8> {
        let mut bytes = Vec::new();
        // By a reset, too.
        if let Err(error) = stream.read_to_end(&mut bytes) {
            assert_eq!(error.kind(), ErrorKind::ConnectionReset);
        }
        bytes
    }

    fn hears_nothing(stream: &mut TcpStream) {
        stream.set_read_timeout(Some(MOMENT)).unwrap();
        let error = stream.read(&mut [0]).unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut), "{error}");
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
    }

    #[test]
    fn bytes_and_the_end_pass() {
        for proxy in [Proxy::of_bytes(echo()), Proxy::of_frames(echo(), MOMENT)] {
            let mut stream = connected(&proxy);
            stream.write_all(b"\0\x09half").unwrap();
            stream.shutdown(std::net::Shutdown::Write).unwrap();
            assert_eq!(rest(stream), b"\0\x09half");
            assert!(proxy.counts().is_empty());
        }
    }

    #[test]
    fn chunks_are_held_back() {
        let proxy = Proxy::of_bytes(echo());
        let mut stream = connected(&proxy);
        proxy.lay(Fault::Delay(MOMENT));
        let asked_at = Instant::now();
        asked(&mut stream, b"later", 5);
        assert!(asked_at.elapsed() >= 2 * MOMENT, "each way");
        assert_eq!(proxy.count("delay"), 2);
        proxy.lift();
        connected(&proxy);
        assert_eq!(proxy.count("delay"), 2);
    }

    #[test]
    fn connections_are_cut_after_a_byte_of_each_way() {
        let proxy = Proxy::of_bytes(echo());
        for (way, name) in [(Way::Up, "cut up"), (Way::Down, "cut down")] {
            let mut standing = connected(&proxy);
            proxy.lay(Fault::Cut(way, 6));
            assert_eq!(asked(&mut standing, b"1234", 4), b"1234", "before the byte");
            for mut stream in [standing, connect(&proxy)] {
                stream.write_all(b"567890").unwrap();
                let rest = rest(stream);
                assert!(b"567890".starts_with(&rest), "{rest:?}");
            }
            proxy.lift();
            assert!((1..=2).contains(&proxy.count(name)));
            connected(&proxy);
        }
    }

    #[test]
    fn exactly_so_many_bytes_arrive() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let proxy = Proxy::of_bytes(listener.local_addr().unwrap());
        proxy.lay(Fault::Cut(Way::Up, 4));
        let mut stream = connect(&proxy);
        stream.write_all(b"123456").unwrap();
        assert_eq!(rest(listener.accept().unwrap().0), b"1234");
    }

    #[test]
    fn frames_go_twice_and_whole() {
        let proxy = Proxy::of_frames(echo(), MOMENT);
        let mut stream = connected(&proxy);
        proxy.lay(Fault::Double(Way::Down));
        stream.write_all(b"\0\x04ab").unwrap();
        hears_nothing(&mut stream);
        assert_eq!(asked(&mut stream, b"cd\0\x01x", 18), b"\0\x04abcd\0\x04abcd\0\x01x\0\x01x");
        proxy.lay(Fault::Double(Way::Up));
        assert_eq!(asked(&mut stream, b"\0\x01y", 6), b"\0\x01y\0\x01y");
        assert_eq!((proxy.count("double down"), proxy.count("double up")), (2, 1));
    }

    #[test]
    fn a_stall_holds_everything_until_it_is_lifted() {
        let proxy = Proxy::of_bytes(echo());
        let mut standing = connected(&proxy);
        proxy.lay(Fault::Stall);
        let mut new = connect(&proxy);
        for stream in [&mut standing, &mut new] {
            stream.write_all(b"held").unwrap();
            hears_nothing(stream);
        }
        proxy.lift();
        for stream in [&mut standing, &mut new] {
            assert_eq!(asked(stream, b"!", 5), b"held!");
        }
        assert_eq!(proxy.count("stall"), 2);
    }

    #[test]
    fn what_was_held_for_too_long_is_not_forwarded() {
        let proxy = Proxy::of_frames(echo(), MOMENT / 2);
        let mut stream = connected(&proxy);
        proxy.lay(Fault::Stall);
        stream.write_all(b"\0\x01x").unwrap();
        hears_nothing(&mut stream);
        proxy.lift();
        assert_eq!(rest(stream), b"");
        connected(&proxy);
    }

    #[test]
    fn what_was_swallowed_is_missed_for_ever() {
        for fault in [Fault::Swallow(Way::Up), Fault::Swallow(Way::Down), Fault::Vanish] {
            let proxy = Proxy::of_bytes(echo());
            let mut stream = connected(&proxy);
            proxy.lay(fault);
            stream.write_all(b"gone").unwrap();
            hears_nothing(&mut stream);
            assert_eq!(proxy.count(fault.name()), 1);
            proxy.lift();
            stream.write_all(b"and gone").unwrap();
            hears_nothing(&mut stream);
            connected(&proxy);
            proxy.end_all();
            assert_eq!(rest(stream), b"");
        }
    }

    #[test]
    fn the_other_way_stays_open() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let proxy = Proxy::of_bytes(listener.local_addr().unwrap());
        let mut client = connect(&proxy);
        let mut server = listener.accept().unwrap().0;
        proxy.lay(Fault::Swallow(Way::Down));
        server.write_all(b"gone").unwrap();
        hears_nothing(&mut client);
        client.write_all(b"arrives").unwrap();
        let mut bytes = [0; 7];
        server.read_exact(&mut bytes).unwrap();
        assert_eq!(&bytes, b"arrives");
        drop(client);
        server.set_read_timeout(Some(PATIENCE)).unwrap();
        assert_eq!(server.read(&mut [0]).unwrap_or(0), 0, "the end of the way that is open is told");
    }

    #[test]
    fn nobody_is_told_that_a_peer_has_vanished() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let proxy = Proxy::of_bytes(listener.local_addr().unwrap());
        let client = connect(&proxy);
        let mut server = listener.accept().unwrap().0;
        proxy.lay(Fault::Vanish);
        drop(client);
        hears_nothing(&mut server);
        proxy.lift();
        assert_eq!(rest(server), b"");
    }

    #[test]
    fn connections_are_reset_and_refused() {
        let proxy = Proxy::of_bytes(echo());
        let mut standing = connected(&proxy);
        assert_eq!(proxy.standing(), 1);
        proxy.lay(Fault::Refuse);
        assert_eq!(standing.read(&mut [0]).unwrap_err().kind(), ErrorKind::ConnectionReset);
        within(PATIENCE, "connections are refused", || {
            TcpStream::connect(proxy.address())
                .is_err_and(|error| error.kind() == ErrorKind::ConnectionRefused)
        });
        assert_eq!((proxy.count("refuse"), proxy.standing()), (1, 0));
        proxy.lift();
        within(PATIENCE, "connections are taken again", || TcpStream::connect(proxy.address()).is_ok());
        connected(&proxy);
    }

    #[test]
    fn it_leads_elsewhere() {
        let (silent, proxy) = (TcpListener::bind("127.0.0.1:0").unwrap(), Proxy::of_bytes(echo()));
        let mut standing = connected(&proxy);
        proxy.lead_to(silent.local_addr().unwrap());
        let mut new = connect(&proxy);
        new.write_all(b"heard there").unwrap();
        assert_eq!(asked(&mut standing, b"here", 4), b"here");
        let mut bytes = [0; 11];
        silent.accept().unwrap().0.read_exact(&mut bytes).unwrap();
        assert_eq!(&bytes, b"heard there");
    }
}
