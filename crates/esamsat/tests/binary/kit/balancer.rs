//! A balancer before several gateways: HAProxy, with its sockets handed over, so that no port is ever free for
//! others to take, and no start has to be waited for.

use super::PATIENCE;
use std::{
    fmt::Write as _,
    fs::{self, File},
    io::{Read, Write},
    net::{SocketAddr, TcpListener},
    os::{
        fd::OwnedFd,
        unix::net::{UnixListener, UnixStream},
    },
    path::PathBuf,
    process::{Child, Command, Stdio},
};
use tempfile::TempDir;

/// Retries are for connections that were never made: whatever may have reached a gateway is the partner's to
/// repeat.
const CONFIGURATION: &str = "\
global
    stats socket fd@1 level admin
defaults
    mode http
    timeout connect 1s
    timeout client 1m
    timeout server 1m
    timeout check 500ms
frontend partners
    bind fd@0
    default_backend gateways
backend gateways
    balance roundrobin
    option httpchk GET /health/ready
    http-check expect status 200
    retries 3
    retry-on conn-failure
    option redispatch 1
    default-server check inter 200ms fall 2 rise 1
";

/// It is killed when the test ends, however it ends.
pub(crate) struct Balancer {
    address: SocketAddr,
    folder: TempDir,
    child: Child,
}

impl Balancer {
    /// Starts one with places for so many gateways, all empty.
    pub(crate) fn start(places: usize) -> Self {
        let folder = TempDir::new().expect("a folder for temporary files");
        let mut configuration = CONFIGURATION.to_owned();
        for place in 0..places {
            writeln!(configuration, "    server gateway{place} 127.0.0.1:1").expect("written to memory");
        }
        let path = folder.path().join("haproxy.cfg");
        fs::write(&path, configuration).expect("the configuration is written");
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("an address");
        let admin = UnixListener::bind(folder.path().join("admin")).expect("a socket");
        let log = File::create(folder.path().join("log")).expect("a file");
        // Debian keeps it where only administrators look.
        let child = Command::new("sh")
            .args(["-c", "PATH=$PATH:/usr/sbin exec haproxy -db -f \"$0\""])
            .arg(&path)
            .stdin(Stdio::from(OwnedFd::from(listener)))
            .stdout(Stdio::from(OwnedFd::from(admin)))
            .stderr(Stdio::from(log))
            .spawn();
        Self { address, folder, child: child.expect("HAProxy starts") }
    }

    /// Where partners come in.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Sends partners to a gateway at this address from now on, in this place.
    pub(crate) fn send_to(&self, place: usize, gateway: SocketAddr) {
        let said = self.ask(&format!(
            "set server gateways/gateway{place} addr {} port {}",
            gateway.ip(),
            gateway.port()
        ));
        assert!(said.contains("changed"), "{said}: {}", self.log());
    }

    /// What it has told so far.
    fn log(&self) -> String {
        fs::read_to_string(self.path("log")).unwrap_or_default()
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn ask(&self, command: &str) -> String {
        let mut admin = UnixStream::connect(self.path("admin")).expect("the balancer listens");
        admin.set_read_timeout(Some(PATIENCE)).expect("a time-out");
        writeln!(admin, "{command}").expect("asked");
        let mut said = String::new();
        let read = admin.read_to_string(&mut said);
        assert!(read.is_ok(), "{read:?}: {}", self.log());
        said
    }
}

impl Drop for Balancer {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
