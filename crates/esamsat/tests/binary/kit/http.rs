//! A partner's HTTP/1.1 client, by hand: one connection a request, so that a killed gateway shows as what it
//! is. An answer that is not whole is no answer.

use super::{PATIENCE, text};
use serde_json::Value;
use std::{
    io::{self, Read, Write},
    net::{SocketAddr, TcpStream},
};

/// What came back.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) body: String,
}

impl Answer {
    /// The body as JSON.
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error} in {self:?}"))
    }
}

/// Sends bytes and reads one whole answer.
pub(crate) fn exchange(address: SocketAddr, request: &[u8]) -> io::Result<Answer> {
    let mut stream = TcpStream::connect_timeout(&address, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE + PATIENCE / 2))?;
    stream.write_all(request)?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    whole_answer(&String::from_utf8_lossy(&answer)).ok_or(io::ErrorKind::UnexpectedEof.into())
}

fn whole_answer(answer: &str) -> Option<Answer> {
    let (head, body) = answer.split_once("\r\n\r\n")?;
    let status = head.split(' ').nth(1)?.parse().ok()?;
    let mut headers = head.lines().filter_map(|line| line.split_once(':'));
    let length = headers.find(|(name, _)| name.eq_ignore_ascii_case("content-length"));
    let is_whole = length.is_none_or(|(_, length)| length.trim().parse() == Ok(body.len()));
    is_whole.then(|| Answer { status, body: body.to_owned() })
}

/// A request with a body.
pub(crate) fn request(method: &str, target: &str, content_type: &str, body: &[u8]) -> Vec<u8> {
    let length = body.len();
    let content_type = match content_type {
        "" => String::new(),
        named => format!("Content-Type: {named}\r\n"),
    };
    let request = format!(
        "{method} {target} HTTP/1.1\r\nHost: gateway\r\nConnection: close\r\n{content_type}\
         Content-Length: {length}\r\n\r\n"
    );
    let mut request = request.into_bytes();
    request.extend_from_slice(body);
    request
}

/// `name=value&…`.
pub(crate) fn form(parameters: &[(&str, &str)]) -> String {
    let escaped = |text: &str| -> String {
        let escape = |byte: u8| match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' => char::from(byte).to_string(),
            _ => format!("%{byte:02X}"),
        };
        text.bytes().map(escape).collect()
    };
    parameters.iter().map(|(name, value)| format!("{name}={}", escaped(value))).collect::<Vec<_>>().join("&")
}

/// Reads a page.
pub(crate) fn get(address: SocketAddr, target: &str) -> io::Result<Answer> {
    exchange(address, &request("GET", target, "", b""))
}

/// Posts a form.
pub(crate) fn post(address: SocketAddr, target: &str, parameters: &[(&str, &str)]) -> io::Result<Answer> {
    let body = form(parameters);
    exchange(address, &request("POST", target, "application/x-www-form-urlencoded", body.as_bytes()))
}

/// A partner of a gateway.
#[derive(Clone, Copy)]
pub(crate) struct Partner<'a> {
    pub(crate) address: SocketAddr,
    pub(crate) login: (&'a str, &'a str),
}

impl Partner<'_> {
    /// Calls an endpoint, whatever comes of it.
    pub(crate) fn try_call(&self, endpoint: &str, parameters: &[(&str, &str)]) -> io::Result<Answer> {
        let login = [("username", self.login.0), ("password", self.login.1)];
        let folder = if endpoint == "ceksaldo" { "/json" } else { "/json/esamsat" };
        post(self.address, &format!("{folder}/{endpoint}"), &[&login, parameters].concat())
    }

    /// Calls an endpoint; the application answers.
    pub(crate) fn call(&self, endpoint: &str, parameters: &[(&str, &str)]) -> Value {
        let answer = self.try_call(endpoint, parameters).expect("the gateway answers");
        assert_eq!(answer.status, 200, "{endpoint}: {answer:?}");
        answer.json()
    }

    /// Asks for a bill in West Java.
    pub(crate) fn inquire(&self, (nik, chassis): (&str, &str)) -> Value {
        let vehicle = [("product", "SAMSAT_JABAR"), ("customer_number", nik), ("structure_number", chassis)];
        self.call("inquiry_esamsat", &vehicle)
    }

    /// Asks for a bill that there is, and returns its invoice.
    pub(crate) fn invoice(&self, vehicle: (&str, &str)) -> String {
        text(&self.inquire(vehicle), "invoice")
    }

    /// Pays.
    pub(crate) fn pay(&self, invoice: &str) -> Value {
        self.call("pay_esamsat", &[("invoice", invoice)])
    }

    /// Asks what became of an invoice.
    pub(crate) fn status(&self, invoice: &str) -> String {
        text(&self.call("status_invoice", &[("invoice", invoice)]), "status")
    }
}
