//! One keep-alive connection: writes a request in one piece, reads its answer, one at a time.
//!
//! It reads what the gateway's server writes (a status line, headers, a body of stated length) and calls
//! everything else a failure, rather than guess: no chunked bodies, no interim answers, no pipelining.
//! After a failure the connection is closed, and the next request opens another.

use super::answer::Failed;
use std::{io, net::SocketAddr, ops::Range, time::Duration};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

/// Longer than the contract lets an answer take.
const ANSWER_WITHIN: Duration = Duration::from_secs(65);
const CONNECT_WITHIN: Duration = Duration::from_secs(10);

/// EMFILE, for which the standard library has no kind.
const TOO_MANY_OPEN_FILES: i32 = 24;

const HEAD_BYTES_MAX: usize = 16 * 1024;
const BODY_BYTES_MAX: usize = 1024 * 1024;
const READ_BYTES: usize = 4 * 1024;

/// A connection that opens itself when it is needed.
pub(super) struct Connection {
    address: SocketAddr,
    stream: Option<TcpStream>,
    buffer: Vec<u8>,
}

/// An answer.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Response<'a> {
    /// The HTTP status.
    pub(super) status: u16,
    /// The body.
    pub(super) body: &'a [u8],
}

impl Connection {
    pub(super) fn new(address: SocketAddr) -> Self {
        Self { address, stream: None, buffer: Vec::with_capacity(2 * READ_BYTES) }
    }

    /// Opens it now, if it is not open.
    pub(super) async fn open(&mut self) -> Result<&mut TcpStream, Failed> {
        let stream = match self.stream.take() {
            Some(stream) => stream,
            None => match timeout(CONNECT_WITHIN, TcpStream::connect(self.address)).await {
                Ok(connected) => {
                    let stream = connected.map_err(|error| failed(&error))?;
                    // Without it, Nagle's algorithm could hold a request back.
                    stream.set_nodelay(true).map_err(|error| failed(&error))?;
                    stream
                }
                Err(_) => return Err(Failed::Connection("not made in time")),
            },
        };
        Ok(self.stream.insert(stream))
    }

    /// Sends a request and reads its answer.
    pub(super) async fn exchange(&mut self, request: &[u8]) -> Result<Response<'_>, Failed> {
        self.open().await?;
        // Taken out, so that whatever goes wrong from here on closes it.
        let mut stream = self.stream.take().expect("it was opened just now");
        let buffer = &mut self.buffer;
        let exchanged = timeout(ANSWER_WITHIN, async {
            stream.write_all(request).await.map_err(|error| failed(&error))?;
            read_answer(&mut stream, buffer).await
        });
        let head = exchanged.await.unwrap_or(Err(Failed::Connection("no answer in time")))?;
        if head.keep_alive {
            self.stream = Some(stream);
        }
        Ok(Response { status: head.status, body: &self.buffer[head.body] })
    }
}

fn failed(error: &io::Error) -> Failed {
    Failed::Connection(match error.kind() {
        io::ErrorKind::ConnectionRefused => "refused",
        io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe => "reset",
        io::ErrorKind::AddrNotAvailable => "no local port free",
        io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable => "unreachable",
        _ if error.raw_os_error() == Some(TOO_MANY_OPEN_FILES) => "no file descriptor left, see `ulimit -n`",
        _ => "broken",
    })
}

#[derive(Debug, PartialEq, Eq)]
struct Head {
    status: u16,
    /// Where the body is in the buffer; at first only its head's word for it.
    body: Range<usize>,
    keep_alive: bool,
}

/// Reads one answer into the buffer.
async fn read_answer(source: &mut (impl AsyncRead + Unpin), buffer: &mut Vec<u8>) -> Result<Head, Failed> {
    buffer.clear();
    let mut searched = 0;
    let head_end = loop {
        // The blank line may lie across two reads.
        let from = searched.max(3) - 3;
        if let Some(at) = buffer[from..].windows(4).position(|window| window == b"\r\n\r\n") {
            break from + at + 4;
        }
        if buffer.len() > HEAD_BYTES_MAX {
            return Err(Failed::Unreadable("the head is too long"));
        }
        searched = buffer.len();
        read_more(source, buffer).await?;
    };
    let head = read_head(&buffer[..head_end])?;
    while buffer.len() < head.body.end {
        read_more(source, buffer).await?;
    }
    if buffer.len() > head.body.end {
        return Err(Failed::Unreadable("more bytes than the head says"));
    }
    Ok(head)
}

async fn read_more(source: &mut (impl AsyncRead + Unpin), buffer: &mut Vec<u8>) -> Result<(), Failed> {
    buffer.reserve(READ_BYTES);
    match source.read_buf(buffer).await {
        Ok(0) => Err(Failed::Connection("closed before the answer's end")),
        Ok(_) => Ok(()),
        Err(error) => Err(failed(&error)),
    }
}

/// Reads a head, blank line included.
fn read_head(head: &[u8]) -> Result<Head, Failed> {
    let mut lines = head.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii_end);
    let status_line = lines.next().unwrap_or_default();
    let status = match status_line {
        [b'H', b'T', b'T', b'P', b'/', b'1', b'.', b'1', b' ', status @ ..] => number(status.get(..3)),
        _ => None,
    };
    let status = status.and_then(|status| u16::try_from(status).ok());
    let status = status.ok_or(Failed::Unreadable("no HTTP/1.1 status line"))?;
    if status < 200 {
        return Err(Failed::Unreadable("an interim answer"));
    }
    let (mut length, mut keep_alive) = (None, true);
    for line in lines.take_while(|line| !line.is_empty()) {
        let colon = line.iter().position(|byte| *byte == b':');
        let (name, value) = line.split_at(colon.ok_or(Failed::Unreadable("a header without a colon"))?);
        let value = value[1..].trim_ascii();
        if name.eq_ignore_ascii_case(b"content-length") {
            let stated = number(Some(value)).ok_or(Failed::Unreadable("a wrong Content-Length"))?;
            if length.replace(stated).is_some_and(|before| before != stated) {
                return Err(Failed::Unreadable("two Content-Lengths"));
            }
        } else if name.eq_ignore_ascii_case(b"transfer-encoding") {
            return Err(Failed::Unreadable("a body without stated length"));
        } else if name.eq_ignore_ascii_case(b"connection") {
            keep_alive = !value.eq_ignore_ascii_case(b"close");
        }
    }
    let length = length.ok_or(Failed::Unreadable("a body without stated length"))?;
    if length > BODY_BYTES_MAX {
        return Err(Failed::Unreadable("the body is too long"));
    }
    Ok(Head { status, body: head.len()..head.len() + length, keep_alive })
}

/// Digits, and nothing but digits.
fn number(text: Option<&[u8]>) -> Option<usize> {
    let text = text.filter(|text| text.iter().all(u8::is_ascii_digit))?;
    str::from_utf8(text).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reads what arrives in these pieces, and then the end.
    async fn read(pieces: &[&[u8]]) -> Result<(u16, Vec<u8>, bool), Failed> {
        let (mut near, mut far) = tokio::io::duplex(1);
        let pieces: Vec<Vec<u8>> = pieces.iter().map(|piece| piece.to_vec()).collect();
        let writer = tokio::spawn(async move {
            for piece in pieces {
                // The reader may have had enough.
                let _closed = far.write_all(&piece).await;
            }
        });
        let mut buffer = b"of the last answer".to_vec();
        let head = read_answer(&mut near, &mut buffer).await;
        drop(near);
        writer.await.unwrap();
        head.map(|head| (head.status, buffer[head.body].to_vec(), head.keep_alive))
    }

    const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nContent-Length: 15\r\n\
        date: Mon, 23 Nov 2026 00:00:00 GMT\r\n\r\n{\"result\":\"ok\"}";

    #[tokio::test]
    async fn an_answer_is_read_wherever_it_is_split() {
        let whole = Ok((200, b"{\"result\":\"ok\"}".to_vec(), true));
        assert_eq!(read(&[ANSWER]).await, whole);
        for at in 0..ANSWER.len() {
            assert_eq!(read(&[&ANSWER[..at], &ANSWER[at..]]).await, whole, "split at {at}");
            assert!(
                matches!(read_all_at_once(&ANSWER[..at]).await, Err(Failed::Connection(_))),
                "ended at {at}"
            );
        }
        assert_eq!(read_all_at_once(ANSWER).await, Ok(()));
    }

    async fn read_all_at_once(mut bytes: &[u8]) -> Result<(), Failed> {
        read_answer(&mut bytes, &mut Vec::new()).await.map(|_| ())
    }

    #[tokio::test]
    async fn the_end_of_keeping_alive_is_noticed() {
        let answer = b"HTTP/1.1 503 Service Unavailable\r\nConnection: Close\r\ncontent-length: 2\r\n\r\n{}";
        assert_eq!(read(&[answer]).await, Ok((503, b"{}".to_vec(), false)));
        let empty = b"HTTP/1.1 405 Method Not Allowed\r\nallow: POST\r\ncontent-length: 0\r\n\r\n";
        assert_eq!(read(&[empty]).await, Ok((405, Vec::new(), true)));
    }

    #[tokio::test]
    async fn what_is_not_understood_is_a_failure() {
        for answer in [
            &b"HTTP/1.1 200 OK\r\n\r\n{}"[..],
            b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
            b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}{}",
            b"HTTP/1.1 200 OK\r\ncontent-length: two\r\n\r\n{}",
            b"HTTP/1.1 200 OK\r\ncontent-length: +2\r\n\r\n{}",
            b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\ncontent-length: 3\r\n\r\n{}",
            b"HTTP/1.1 200 OK\r\ncontent-length: 99999999999999999999999\r\n\r\n{}",
            b"HTTP/1.1 200 OK\r\ncontent-length: 9999999\r\n\r\n{}",
            b"HTTP/1.1 100 Continue\r\n\r\n",
            b"HTTP/1.1 2x0 OK\r\ncontent-length: 2\r\n\r\n{}",
            b"HTTP/2 200\r\ncontent-length: 2\r\n\r\n{}",
            b"HTTP/1.1 200 OK\r\nno colon\r\ncontent-length: 2\r\n\r\n{}",
            b"\r\n\r\n",
            b"SSH-2.0-OpenSSH_9.6\r\n\r\n",
        ] {
            let shown = String::from_utf8_lossy(answer);
            assert!(matches!(read_all_at_once(answer).await, Err(Failed::Unreadable(_))), "{shown}");
        }
        let endless = vec![b'a'; 3 * HEAD_BYTES_MAX];
        assert_eq!(read_all_at_once(&endless).await, Err(Failed::Unreadable("the head is too long")));
    }

    #[tokio::test]
    async fn nobody_listening_is_a_refused_connection() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        drop(listener);
        let mut connection = Connection::new(address);
        assert_eq!(connection.exchange(b"POST").await, Err(Failed::Connection("refused")));
    }
}
