//! The server: accepting connections, bounding them in number and time, stopping gracefully.
//!
//! Slow heads, slow bodies, idle connections and peers that do not read are closed by their own limits and
//! cost others nothing. Stopping closes the listener and every idle connection, and lets requests under way
//! finish for a while; whoever had connected by then still has his one request answered, so that a balancer that
//! tries closed ports elsewhere loses none. HTTP/1.1 only: it is what partners speak.

use crate::{
    limits,
    router::{Arrival, Router},
    socket::{Activity, Limits, Socket},
};
use hyper::{
    body::Incoming,
    header::{CONNECTION, HeaderValue},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use std::{
    collections::HashMap,
    convert::Infallible,
    io,
    net::{IpAddr, SocketAddr},
    pin::pin,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use tokio::{
    net::{TcpListener, TcpSocket, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{Instant, sleep, timeout},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// What an operator can set about the server; see [`limits`] for the defaults.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// Connections open at the same time; more wait in the kernel.
    pub connections_max: usize,
    /// Connections from one address, trusted proxies excepted; more are closed at once.
    pub connections_per_address_max: usize,
    /// From the first byte of a head (or from the connection) to the head's end.
    pub header_read_timeout: Duration,
    /// From the head to the end of the body.
    pub body_read_timeout: Duration,
    /// Between two requests of a connection.
    pub idle_timeout: Duration,
    /// How long a peer may take none of the bytes of its answer.
    pub write_timeout: Duration,
    /// How long requests under way may take to finish when stopping.
    pub shutdown_grace: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            connections_max: limits::connections_max,
            connections_per_address_max: limits::connections_per_address_max,
            header_read_timeout: limits::header_read_max,
            body_read_timeout: limits::body_read_max,
            idle_timeout: limits::idle_max,
            write_timeout: limits::write_stall_max,
            shutdown_grace: limits::shutdown_grace_max,
        }
    }
}

/// Binds a listener with a backlog that stands a spike.
pub fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(limits::accept_backlog_max)
}

/// Serves until `stopping` is cancelled and what was under way has ended, or its grace has.
pub async fn serve(listener: TcpListener, router: Router, settings: Settings, stopping: CancellationToken) {
    let places = Arc::new(Semaphore::new(settings.connections_max));
    let crowd = Arc::new(Crowd::default());
    let connections = TaskTracker::new();
    let cutting = CancellationToken::new();
    let admit = |(stream, peer, place): (TcpStream, IpAddr, OwnedSemaphorePermit)| {
        let is_shared = router.trusts(peer);
        // One network may have as many as are left for all others, so that no few of them take everything.
        let count_max = settings.connections_per_address_max.min(places.available_permits() + 1);
        let Some(member) = crowd.admit(network_of(peer), (!is_shared).then_some(count_max)) else {
            metrics::counter!("esamsat_connections_refused_total").increment(1);
            return;
        };
        let connection = Connection { stream, peer, _place: place, _member: member };
        let (stopping, cutting) = (stopping.child_token(), cutting.child_token());
        connections.spawn(connection.run(router.clone(), settings, stopping, cutting));
    };
    while let Some(accepted) = stopping.run_until_cancelled(accept(&listener, &places)).await {
        admit(accepted);
    }
    close(listener, &places).into_iter().for_each(admit);
    connections.close();
    if timeout(settings.shutdown_grace, connections.wait()).await.is_err() {
        tracing::warn!(connections = connections.len(), "connections cut at the end of the shutdown grace");
        cutting.cancel();
        connections.wait().await;
    }
}

/// The next connection, once there is a place for it.
async fn accept(
    listener: &TcpListener,
    places: &Arc<Semaphore>,
) -> (TcpStream, IpAddr, OwnedSemaphorePermit) {
    let place = Arc::clone(places).acquire_owned().await.expect("the semaphore is never closed");
    loop {
        match listener.accept().await {
            Ok((stream, peer)) => return (stream, peer.ip().to_canonical(), place),
            Err(error) if is_about_one_connection(&error) => {}
            Err(error) => {
                tracing::warn!(%error, "failed to accept a connection");
                sleep(limits::accept_retry_pause).await;
            }
        }
    }
}

/// Closes the port, and hands over who had connected before: a closed port would reset them, with what they may
/// have sent.
fn close(listener: TcpListener, places: &Arc<Semaphore>) -> Vec<(TcpStream, IpAddr, OwnedSemaphorePermit)> {
    let mut waiting = Vec::new();
    let Ok(listener) = listener.into_std() else { return waiting };
    while let Ok(place) = Arc::clone(places).try_acquire_owned() {
        match listener.accept() {
            Ok((stream, peer)) => {
                let stream = stream.set_nonblocking(true).and_then(|()| TcpStream::from_std(stream));
                if let Ok(stream) = stream {
                    waiting.push((stream, peer.ip().to_canonical(), place));
                }
            }
            Err(error) if is_about_one_connection(&error) => {}
            // Nobody is left.
            Err(_) => break,
        }
    }
    waiting
}

fn is_about_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset)
}

/// Whom an address stands for: itself, or with IPv6 the /64 that one subscriber has.
fn network_of(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => address,
        IpAddr::V6(address) => IpAddr::V6((address.to_bits() & !u128::from(u64::MAX)).into()),
    }
}

/// How many connections each network has.
#[derive(Default)]
struct Crowd(Mutex<HashMap<IpAddr, usize>>);

impl Crowd {
    fn admit(self: &Arc<Self>, address: IpAddr, count_max: Option<usize>) -> Option<Member> {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let count = counts.entry(address).or_default();
        if count_max.is_some_and(|max| *count >= max) {
            return None;
        }
        *count += 1;
        metrics::gauge!("esamsat_connections").increment(1.0);
        Some(Member { crowd: Arc::clone(self), address })
    }
}

/// One connection's share of its address.
struct Member {
    crowd: Arc<Crowd>,
    address: IpAddr,
}

impl Drop for Member {
    fn drop(&mut self) {
        metrics::gauge!("esamsat_connections").decrement(1.0);
        let mut counts = self.crowd.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = counts.get_mut(&self.address) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&self.address);
            }
        }
    }
}

struct Connection {
    stream: TcpStream,
    peer: IpAddr,
    _place: OwnedSemaphorePermit,
    _member: Member,
}

impl Connection {
    async fn run(
        self,
        router: Router,
        settings: Settings,
        stopping: CancellationToken,
        cutting: CancellationToken,
    ) {
        if let Err(error) = self.stream.set_nodelay(true) {
            tracing::debug!(%error, "failed to set TCP_NODELAY");
        }
        let activity = Activity::default();
        let limits = Limits {
            head: settings.header_read_timeout,
            idle: settings.idle_timeout,
            write: settings.write_timeout,
        };
        let peer = self.peer;
        let socket = Socket::new(self.stream, limits, activity.clone());
        let service = service_fn(|request: hyper::Request<Incoming>| {
            let answering = activity.begin();
            let (router, stopping) = (&router, &stopping);
            async move {
                let at = Instant::now();
                let arrival = Arrival { peer, at, body_by: at + settings.body_read_timeout };
                let mut response = router.answer(request, arrival).await;
                if stopping.is_cancelled() {
                    response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
                }
                drop(answering);
                Ok::<_, Infallible>(response)
            }
        });
        let connection = http1::Builder::new()
            // A client that closes its half counts as gone, so that a storm of time-outs and retries does
            // not hold connections until the bank answers. What it asked for goes on without it.
            .half_close(false)
            .max_buf_size(limits::head_bytes_max)
            .serve_connection(TokioIo::new(socket), service);
        let mut connection = pin!(connection);
        let mut may_stop = pin!(async {
            stopping.cancelled().await;
            if !activity.has_begun() {
                sleep(limits::last_request_wait).await;
            }
        });
        let mut is_stopping = false;
        let ended = loop {
            tokio::select! {
                biased;
                ended = connection.as_mut() => break ended,
                () = &mut may_stop, if !is_stopping => {
                    is_stopping = true;
                    connection.as_mut().graceful_shutdown();
                }
                () = cutting.cancelled(), if is_stopping => break Ok(()),
            }
        };
        if let Err(error) = ended {
            // Peers that hang up, stall or speak something else: common, and never the gateway's fault.
            tracing::debug!(%error, "a connection ended early");
        }
    }
}
