//! A bank at the other end of ISO 8583 lines: `esamsat bank-host`, in a process and with books of its own.

use super::{Gateway, Ran, Site, http};
use serde_json::Value;
use std::{
    fs,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::PathBuf,
};

/// A port that is free.
const ANYWHERE: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

/// A bank in a process of its own.
pub(crate) struct Bank {
    site: Site,
    profile: PathBuf,
    process: Option<Gateway>,
    pub(crate) address: SocketAddr,
    control: SocketAddr,
}

impl Bank {
    /// One that speaks a shipped profile, with times for tests.
    pub(crate) fn open(profile: &str, seed: u64) -> Self {
        Self::with_horizon(profile, 2_000, seed)
    }

    /// One that carries nothing out any more so many milliseconds after it was sent.
    pub(crate) fn with_horizon(profile: &str, horizon_ms: u64, seed: u64) -> Self {
        let site = Site::new();
        let text = Ran::of(&mut site.command(&["bank", "profile", profile])).stdout;
        let text = text.replace("answer_timeout_ms = 30000", "answer_timeout_ms = 300");
        let text = text.replace("horizon_ms = 120000", &format!("horizon_ms = {horizon_ms}"));
        let text = text.replace("echo_after_ms = 60000", "echo_after_ms = 1000");
        let path = site.path("bank.toml");
        fs::write(&path, text).expect("the profile is written");
        let mut bank = Self { site, profile: path, process: None, address: ANYWHERE, control: ANYWHERE };
        bank.start(seed);
        bank
    }

    /// Starts it, at the address that it had.
    fn start(&mut self, seed: u64) {
        let profile = self.profile.display().to_string();
        let (listen, control, seed) = (self.address.to_string(), self.control.to_string(), seed.to_string());
        let flags =
            ["bank-host", "--listen", &listen, "--control", &control, "--profile", &profile, "--seed", &seed];
        let mut command = self.site.command(&flags);
        command.env("ESAMSAT_LOG", "warn");
        let process = Gateway::start(&mut command);
        self.address = process.address();
        self.control = process.wait_for("the control API", |text| {
            text.split_once("curl -s http://")?.1.split_once("/state")?.0.parse().ok()
        });
        self.process = Some(process);
    }

    /// SIGKILL.
    pub(crate) fn kill(&mut self) {
        self.process.take().expect("it runs").kill();
    }

    /// Starts it wherever there is room.
    pub(crate) fn start_elsewhere(&mut self, seed: u64) {
        (self.address, self.control) = (ANYWHERE, ANYWHERE);
        self.start(seed);
    }

    /// SIGKILL, and another one on the same books.
    pub(crate) fn kill_and_start(&mut self, seed: u64) {
        self.kill();
        self.start(seed);
    }

    /// Sends a signal by its name.
    pub(crate) fn signal(&self, name: &str) {
        self.process.as_ref().expect("it runs").signal(name);
    }

    /// What goes wrong from now on.
    pub(crate) fn faults(&self, json: &str) {
        let request = http::request("PUT", "/faults", "application/json", json.as_bytes());
        let answer = http::exchange(self.control, &request).expect("the control API answers");
        assert_eq!(answer.status, 200, "{}", answer.body);
    }

    /// What it has been paid.
    pub(crate) fn payments(&self) -> Value {
        self.site.json(&["bank-host", "ledger"])
    }

    /// The configuration of a gateway that asks it, on one line.
    pub(crate) fn configuration(&self) -> String {
        self.with_lines(&[("ESAM0001", self.address)])
    }

    /// The configuration of gateways that share these lines, each a terminal and where it connects to.
    pub(crate) fn with_lines(&self, lines: &[(&str, SocketAddr)]) -> String {
        let line = |(terminal, address): &(&str, SocketAddr)| {
            format!("[[upstream.bank.line]]\nterminal = \"{terminal}\"\naddresses = [\"{address}\"]\n")
        };
        let lines: String = lines.iter().map(line).collect();
        format!(
            r#"
answer_within_ms = 1000
send_within_ms = 400
log = "warn,esamsat=info"
log_format = "json"

[upstream.bank]
kind = "iso8583"
profile = "{}"
in_flight_max = 128

{lines}"#,
            self.profile.display(),
        )
    }
}
