//! Installs what the tests need and the machine lacks: Debian's packages where it is Debian, what Python needs with
//! pip, parts of Rust with rustup, and the test runner with cargo.
//!
//! What is there is left alone, wherever it came from: a program is tried, not looked up in a package
//! list. Needed are the languages of the example clients, which the tests run as partners would, another
//! implementation of ISO 8583, another program that keeps books, PostgreSQL with what keeps it available, what tells a
//! program another time, and the test runner.

use crate::steps::{Steps, cargo, spawn};
use anyhow::{Context, Result, bail};
use std::{
    path::PathBuf,
    process::{Command, Stdio},
};

/// The test runner, at the version that is known to build with the workspace's Rust.
const NEXTEST_VERSION: &str = "0.9.143";

/// Something that is there if its probe succeeds, and the Debian packages that bring it.
struct Need {
    probe: &'static [&'static str],
    packages: &'static [&'static str],
}

const NEEDS: [Need; 11] = [
    Need { probe: &["curl", "--version"], packages: &["ca-certificates", "curl"] },
    Need { probe: &["php", "-r", PHP_HAS_CURL], packages: &["php-cli", "php-curl"] },
    Need { probe: &["python3", "-c", PYTHON_HAS_LIBRARIES_OR_PIP], packages: &["python3-venv"] },
    Need { probe: &["openssl", "version"], packages: &["openssl"] },
    Need { probe: &["hledger", "--version"], packages: &["hledger"] },
    Need { probe: &["sh", "-c", "ss -V && pgrep -V"], packages: &["iproute2", "procps"] },
    Need { probe: &["sh", "-c", HAS_POSTGRESQL], packages: &["postgresql", "postgresql-contrib"] },
    Need { probe: &["sh", "-c", "ls /usr/lib/*/faketime/libfaketimeMT.so.1"], packages: &["libfaketime"] },
    Need { probe: &["sh", "-c", "PATH=$PATH:/usr/sbin haproxy -v"], packages: &["haproxy"] },
    Need { probe: &["patroni", "--version"], packages: &["patroni", "python3-etcd"] },
    Need {
        probe: &["sh", "-c", "etcd --version && etcdctl version"],
        packages: &["etcd-server", "etcd-client"],
    },
];
const PHP_HAS_CURL: &str = "exit(function_exists('curl_init') ? 0 : 1);";
/// A server of at least version 15 with its benchmark, and what makes throw-away ones.
const HAS_POSTGRESQL: &str = "ls /usr/lib/postgresql/1[5-9]/bin/pgbench && command -v pg_virtualenv";
const PYTHON_HAS_LIBRARIES: &str = "import requests, iso8583; assert iso8583.__version__.startswith('4.')";
/// Debian's Python makes no environments with pip in them until another package brings that.
const PYTHON_HAS_LIBRARIES_OR_PIP: &str = "\
try:
    import requests, iso8583; assert iso8583.__version__.startswith('4.')
except Exception:
    import ensurepip, venv";
/// What pip installs: Debian has not all of it, and a Python of the developer's own sees nothing of Debian's.
const PYTHON_LIBRARIES: [&str; 2] = ["requests", "pyiso8583==4.0.1"];

/// Installs what is missing.
pub(crate) fn install(steps: &mut Steps) -> Result<()> {
    let missing: Vec<&str> =
        NEEDS.iter().filter(|need| !succeeds(need.probe)).flat_map(|need| need.packages).copied().collect();
    if !missing.is_empty() {
        install_debian(&missing)?;
        if let Some(need) = NEEDS.iter().find(|need| !succeeds(need.probe)) {
            bail!("`{}` still fails with these packages installed", need.probe.join(" "));
        }
    }
    if !succeeds(&["python3", "-c", PYTHON_HAS_LIBRARIES]) {
        let environment = steps.repository().join("target/python");
        create_python_environment(&environment)?;
        steps.prefer(environment.join("bin"))?;
    }
    install_rust_components()?;
    install_nextest()
}

fn install_debian(packages: &[&str]) -> Result<()> {
    if !succeeds(&["apt-get", "--version"]) {
        bail!("please install what brings these Debian packages here: {}", packages.join(", "));
    }
    let sudo: &[&str] = if is_root() { &[] } else { &["sudo"] };
    eprintln!("installing with apt-get: {}", packages.join(", "));
    let apt_get = [sudo, &["env", "DEBIAN_FRONTEND=noninteractive", "apt-get"]].concat();
    spawn(&mut command(&[&apt_get[..], &["update", "--quiet"]].concat()))?;
    let install = ["install", "--quiet", "--yes", "--no-install-recommends"];
    spawn(&mut command(&[&apt_get[..], &install, packages].concat()))
}

fn create_python_environment(environment: &PathBuf) -> Result<()> {
    let python = environment.join("bin/python3");
    let has_libraries = Command::new(&python).args(["-c", PYTHON_HAS_LIBRARIES]).output();
    if has_libraries.is_ok_and(|run| run.status.success()) {
        return Ok(());
    }
    eprintln!("installing with pip, under target: {}", PYTHON_LIBRARIES.join(", "));
    spawn(Command::new("python3").args(["-m", "venv"]).arg(environment))
        .context("failed to make a Python environment (Debian: python3-venv)")?;
    spawn(Command::new(python).args(["-m", "pip", "install", "--quiet"]).args(PYTHON_LIBRARIES))
}

/// rustup's minimal profile leaves these out.
fn install_rust_components() -> Result<()> {
    for (component, subcommand) in [("rustfmt", "fmt"), ("clippy", "clippy")] {
        if !cargo_has(subcommand) {
            eprintln!("installing with rustup: {component}");
            spawn(Command::new("rustup").args(["component", "add", component]))?;
        }
    }
    Ok(())
}

fn install_nextest() -> Result<()> {
    if cargo_has("nextest") {
        return Ok(());
    }
    eprintln!("installing with cargo: cargo-nextest {NEXTEST_VERSION}");
    spawn(Command::new(cargo()).args(["install", "cargo-nextest", "--locked", "--version", NEXTEST_VERSION]))
}

fn cargo_has(subcommand: &str) -> bool {
    let mut command = Command::new(cargo());
    command.args([subcommand, "--version"]).output().is_ok_and(|run| run.status.success())
}

fn is_root() -> bool {
    Command::new("id").arg("-u").output().is_ok_and(|run| run.stdout.trim_ascii() == b"0")
}

fn succeeds(words: &[&str]) -> bool {
    command(words).stdin(Stdio::null()).output().is_ok_and(|run| run.status.success())
}

fn command(words: &[&str]) -> Command {
    let mut command = Command::new(words[0]);
    command.args(&words[1..]);
    command
}
