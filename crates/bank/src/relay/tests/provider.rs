//! A provider that answers as it is told to, over real sockets on this machine.

use std::{
    collections::{HashMap, VecDeque},
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::TcpListener,
    sync::watch,
};

/// What comes back.
#[derive(Clone, Debug)]
pub(super) enum Reply {
    /// A whole answer: HTTP status, body.
    Whole(u16, String),
    /// These bytes, and then it hangs up.
    Bytes(Vec<u8>),
    /// Nothing, and the connection stays.
    Silence,
    /// This much of an answer, and the connection stays.
    Stuck(String),
    /// Nothing until it is let go.
    Held(String),
}

impl Reply {
    pub(super) fn json(body: impl Into<String>) -> Self {
        Self::Whole(200, body.into())
    }

    fn bytes(&self) -> Vec<u8> {
        match self {
            Self::Whole(status, body) => {
                let location =
                    if (300..400).contains(status) { "Location: /json/esamsat/elsewhere\r\n" } else { "" };
                let length = body.len();
                format!(
                    "HTTP/1.1 {status} X\r\nContent-Type: application/json\r\n{location}Content-Length: {length}\r\n\r\n{body}"
                )
                .into_bytes()
            }
            Self::Held(body) => Self::json(body).bytes(),
            Self::Bytes(bytes) => bytes.clone(),
            Self::Stuck(text) => text.clone().into_bytes(),
            Self::Silence => Vec::new(),
        }
    }
}

/// One request that arrived.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Asked {
    pub(super) call: String,
    pub(super) parameters: HashMap<String, String>,
    pub(super) connection: usize,
}

#[derive(Default)]
struct Script {
    /// By call; the last reply is given again and again.
    replies: HashMap<String, VecDeque<Reply>>,
    asked: Vec<Asked>,
}

pub(super) struct Provider {
    pub(super) address: SocketAddr,
    script: Arc<Mutex<Script>>,
    /// How many requests have arrived.
    arrived: watch::Receiver<usize>,
    let_go: watch::Sender<bool>,
}

impl Provider {
    /// Listens.
    pub(super) async fn start() -> Self {
        Self::start_with(|stream| async { Some(stream) }).await
    }

    /// Listens; `wrap` makes of a connection what is spoken on, encrypted perhaps.
    pub(super) async fn start_with<S, W, F>(wrap: W) -> Self
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
        W: Fn(tokio::net::TcpStream) -> F + Send + Sync + 'static,
        F: Future<Output = Option<S>> + Send + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("an address");
        let script = Arc::new(Mutex::new(Script::default()));
        let (count, arrived) = watch::channel(0);
        let count = Arc::new(count);
        let (let_go, gone) = watch::channel(false);
        let shared = Arc::clone(&script);
        tokio::spawn(async move {
            for connection in 0.. {
                let Ok((stream, _)) = listener.accept().await else { return };
                let (wrapped, script) = (wrap(stream), Arc::clone(&shared));
                let (count, gone) = (Arc::clone(&count), gone.clone());
                tokio::spawn(async move {
                    if let Some(stream) = wrapped.await {
                        serve(stream, connection, &script, &count, gone).await;
                    }
                });
            }
        });
        let provider = Self { address, script, arrived, let_go };
        provider.on("list_esamsat", [Reply::json(super::LIST)]);
        provider.on("ceksaldo", [Reply::json(r#"{"result":"ok","saldo":"10,000,000"}"#)]);
        provider
    }

    /// Sets what a call is answered, one after the other.
    pub(super) fn on(&self, call: &str, replies: impl IntoIterator<Item = Reply>) {
        self.script().replies.insert(call.to_owned(), replies.into_iter().collect());
    }

    /// Everything that was asked of one call.
    pub(super) fn asked(&self, call: &str) -> Vec<Asked> {
        self.script().asked.iter().filter(|asked| asked.call == call).cloned().collect()
    }

    /// Waits until a call was made so often.
    pub(super) async fn until_asked(&self, call: &str, times: usize) {
        let mut arrived = self.arrived.clone();
        let is_so = |_: &usize| self.asked(call).len() >= times;
        tokio::time::timeout(super::PATIENCE, arrived.wait_for(is_so))
            .await
            .unwrap_or_else(|_| panic!("{call} was not asked {times} times"))
            .expect("the provider runs");
    }

    /// Sends the replies that are held.
    pub(super) fn let_go(&self) {
        self.let_go.send_replace(true);
    }

    fn script(&self) -> MutexGuard<'_, Script> {
        self.script.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn serve(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    connection: usize,
    script: &Mutex<Script>,
    count: &watch::Sender<usize>,
    mut gone: watch::Receiver<bool>,
) {
    while let Some((call, parameters)) = read(&mut stream).await {
        let reply = {
            let mut script = script.lock().unwrap_or_else(PoisonError::into_inner);
            script.asked.push(Asked { call: call.clone(), parameters, connection });
            let replies = script.replies.entry(call).or_default();
            if replies.len() > 1 { replies.pop_front() } else { replies.front().cloned() }
        };
        count.send_modify(|count| *count += 1);
        let reply = reply.unwrap_or(Reply::Whole(404, String::new()));
        if matches!(reply, Reply::Held(_)) && gone.wait_for(|gone| *gone).await.is_err() {
            return;
        }
        if stream.write_all(&reply.bytes()).await.is_err() || matches!(reply, Reply::Bytes(_)) {
            return;
        }
    }
}

async fn read(stream: &mut (impl AsyncRead + Unpin)) -> Option<(String, HashMap<String, String>)> {
    let mut bytes = Vec::new();
    let head = loop {
        if let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
            break String::from_utf8(bytes.drain(..end + 4).collect()).expect("a head is text");
        }
        if stream.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
    };
    let headers: HashMap<_, _> = head
        .lines()
        .filter_map(|line| line.split_once(": "))
        .map(|(name, value)| (name.to_lowercase(), value.to_owned()))
        .collect();
    assert!(head.starts_with("POST /json/") && head.contains(" HTTP/1.1\r\n"), "{head}");
    assert_eq!(headers["content-type"], "application/x-www-form-urlencoded");
    let length: usize = headers["content-length"].parse().expect("a length");
    while bytes.len() < length {
        if stream.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
    }
    let call = head.split(' ').nth(1)?.rsplit('/').next()?.to_owned();
    Some((call, form_urlencoded::parse(&bytes).into_owned().collect()))
}
