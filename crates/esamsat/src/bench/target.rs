//! Where the gateway is and who calls it, and the requests of the partner contract as ready bytes.
//!
//! Credentials are encoded once; a request is a few copies into a buffer that its worker keeps. Passwords
//! leave this file only towards the gateway.

use crate::output::Fault;
use bank::simulator::population;
use clap::Args;
use domain::{ChassisNumber, Nik, ProductCode};
use std::{fmt, fmt::Write as _, io::Write as _, net::SocketAddr, str::FromStr};

/// The flags that name it.
#[derive(Args)]
pub(crate) struct Driven {
    /// The gateway to drive
    #[arg(long, default_value = "http://127.0.0.1:8080")]
    pub(super) url: Url,

    /// Connections, each with at most one request under way
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u16).range(1..=10_000))]
    pub(super) connections: u16,
}

/// The address of a gateway: `http://host:port`, and a path before its endpoints if a proxy adds one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Url {
    /// As the `Host` header says it.
    authority: String,
    /// For resolving.
    host: String,
    port: u16,
    path: String,
}

impl FromStr for Url {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || "write for example http://127.0.0.1:8080".to_owned();
        if text.starts_with("https://") {
            return Err("TLS is not spoken here; name the gateway itself, behind the proxy".to_owned());
        }
        let rest = text.strip_prefix("http://").ok_or_else(wrong)?;
        let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        let is_plain =
            |text: &str| text.bytes().all(|byte| byte.is_ascii_graphic() && !b"?#@".contains(&byte));
        if !is_plain(rest) {
            return Err(wrong());
        }
        // An IPv6 address stands in brackets, with colons of its own.
        let (host, port) = match authority.rsplit_once(':') {
            Some((host, port)) if !port.ends_with(']') => (host, port.parse().map_err(|_| wrong())?),
            _ => (authority, 80),
        };
        let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        if host.is_empty() {
            return Err(wrong());
        }
        Ok(Self {
            authority: authority.to_owned(),
            host: host.to_owned(),
            port,
            path: path.trim_end_matches('/').to_owned(),
        })
    }
}

impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "http://{}{}", self.authority, self.path)
    }
}

/// A partner's log-in, encoded as the first parameters of a form.
pub(crate) struct Credentials {
    /// The name, for messages.
    pub(crate) username: String,
    form: String,
}

impl Credentials {
    pub(crate) fn new(username: &str, password: &str) -> Self {
        let mut form = String::from("username=");
        encode(username, &mut form);
        form.push_str("&password=");
        encode(password, &mut form);
        Self { username: username.to_owned(), form }
    }
}

fn encode(text: &str, form: &mut String) {
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._*".contains(&byte) {
            form.push(char::from(byte));
        } else {
            write!(form, "%{byte:02X}").expect("writing to a string cannot fail");
        }
    }
}

/// A vehicle's numbers, by its index among the payable ones.
pub(super) fn vehicle(index: u32) -> (Nik, ChassisNumber, ProductCode) {
    population::numbers(index * 4)
}

/// A gateway, and the partners who call it.
pub(super) struct Target {
    /// For messages and for the report.
    pub(super) url: Url,
    /// Where to connect to.
    pub(super) address: SocketAddr,
    /// At least one.
    pub(super) partners: Vec<Credentials>,
    inquiry_head: String,
    pay_head: String,
    balance_head: String,
}

impl Target {
    /// Looks the host up, once.
    pub(super) async fn resolve(url: Url, partners: Vec<Credentials>) -> anyhow::Result<Self> {
        let found = tokio::net::lookup_host((url.host.as_str(), url.port)).await;
        let address = found.ok().and_then(|mut addresses| addresses.next());
        let address =
            address.ok_or_else(|| Fault::Unavailable(format!("failed to find the host of {url}")))?;
        let head = |endpoint: &str| {
            format!(
                "POST {}{endpoint} HTTP/1.1\r\nHost: {}\r\nContent-Type: application/x-www-form-urlencoded\r\n\
                 Content-Length: ",
                url.path, url.authority
            )
        };
        Ok(Self {
            inquiry_head: head("/json/esamsat/inquiry_esamsat"),
            pay_head: head("/json/esamsat/pay_esamsat"),
            balance_head: head("/json/ceksaldo"),
            url,
            address,
            partners,
        })
    }

    pub(super) fn write_inquiry(
        &self,
        request: &mut Vec<u8>,
        partner: usize,
        (nik, chassis, product): &(Nik, ChassisNumber, ProductCode),
    ) {
        self.write(
            request,
            &self.inquiry_head,
            partner,
            &[
                "&product=",
                product.as_str(),
                "&customer_number=",
                nik.as_str(),
                "&structure_number=",
                chassis.as_str(),
            ],
        );
    }

    pub(super) fn write_pay(&self, request: &mut Vec<u8>, partner: usize, invoice: u64) {
        self.write(request, &self.pay_head, partner, &["&invoice=", &invoice.to_string()]);
    }

    pub(super) fn write_balance(&self, request: &mut Vec<u8>, partner: usize) {
        self.write(request, &self.balance_head, partner, &[]);
    }

    fn write(&self, request: &mut Vec<u8>, head: &str, partner: usize, parameters: &[&str]) {
        let form = &self.partners[partner].form;
        let length = form.len() + parameters.iter().map(|part| part.len()).sum::<usize>();
        request.clear();
        request.extend_from_slice(head.as_bytes());
        write!(request, "{length}\r\n\r\n{form}").expect("writing to a vector cannot fail");
        for part in parameters {
            request.extend_from_slice(part.as_bytes());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls() {
        for (text, read) in [
            ("http://127.0.0.1:8080", Some(("127.0.0.1", 8080, ""))),
            ("http://127.0.0.1:8080/", Some(("127.0.0.1", 8080, ""))),
            ("http://localhost", Some(("localhost", 80, ""))),
            ("http://[::1]:8080/gw/", Some(("::1", 8080, "/gw"))),
            ("http://[::1]", Some(("::1", 80, ""))),
            ("https://localhost", None),
            ("localhost:8080", None),
            ("http://", None),
            ("http://:80", None),
            ("http://localhost:http", None),
            ("http://localhost:99999", None),
            ("http://localhost/a b", None),
            ("http://localhost/\r\nX-Injected: 1", None),
            ("http://localhost/?username=a", None),
        ] {
            let url = text.parse::<Url>().ok();
            let parts = url.as_ref().map(|url| (url.host.as_str(), url.port, url.path.as_str()));
            assert_eq!(parts, read, "{text}");
        }
    }

    #[tokio::test]
    async fn a_request_is_well_formed() {
        let url: Url = "http://127.0.0.1:8080/gw".parse().unwrap();
        let target = Target::resolve(url, vec![Credentials::new("a b", "p&=é")]).await.unwrap();
        let mut request = b"of the last one".to_vec();
        target.write_pay(&mut request, 0, 111_111_111_111);
        assert_eq!(
            String::from_utf8(request).unwrap(),
            "POST /gw/json/esamsat/pay_esamsat HTTP/1.1\r\nHost: 127.0.0.1:8080\r\n\
             Content-Type: application/x-www-form-urlencoded\r\nContent-Length: 58\r\n\r\n\
             username=a%20b&password=p%26%3D%C3%A9&invoice=111111111111"
        );
    }
}
