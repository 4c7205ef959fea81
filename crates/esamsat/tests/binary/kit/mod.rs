//! What the tests stand on: a folder for one gateway, the process by its handle, and a small HTTP client.
//!
//! Nothing here sleeps: a process is waited for by what it prints, or by the end of its pipes. Every wait is
//! bounded and says what it saw. Deliberately absent: retries of anything that failed.

mod balancer;
mod bank;
pub(crate) mod books;
pub(crate) mod clients;
pub(crate) mod dice;
pub(crate) mod http;
pub(crate) mod postgres;
mod process;
pub(crate) mod proxy;
mod schema;
mod server;

pub(crate) use balancer::Balancer;
pub(crate) use bank::Bank;
pub(crate) use process::{Gateway, Ran, told};
pub(crate) use schema::Schema;
pub(crate) use server::Server;

use serde_json::Value;
use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};
use tempfile::TempDir;

/// How long anything may take that should take moments, on a machine that is busy with other things.
pub(crate) const PATIENCE: Duration = Duration::from_mins(1);

/// The documented example's partner.
pub(crate) const DUMMY: (&str, &str) = ("dummy", "dummy123");
/// The documented example's vehicle: KTP number and chassis number.
pub(crate) const EXAMPLE: (&str, &str) = ("320111111111111", "MH328D204AK4010000");
/// The KTP number of all test vehicles.
pub(crate) const TESTER: &str = "3299000000000001";

/// The program under test, away from whatever is set around the test run.
pub(crate) fn esamsat() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_esamsat"));
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("ESAMSAT_") {
            command.env_remove(name);
        }
    }
    command.stdin(Stdio::null());
    command
}

/// The repository.
pub(crate) fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// One gateway's folder.
pub(crate) struct Site {
    folder: TempDir,
    /// PostgreSQL instead of the embedded database.
    url: Option<String>,
    /// Where that is a schema of the test's own.
    schema: Option<Schema>,
}

impl Site {
    /// An empty one.
    pub(crate) fn new() -> Self {
        Self { folder: TempDir::new().expect("a folder for temporary files"), url: None, schema: None }
    }

    /// An empty one for gateways that share a PostgreSQL database, and the folder with the simulated bank.
    pub(crate) fn shared() -> Self {
        let schema = Schema::new();
        Self { url: Some(schema.url()), schema: Some(schema), ..Self::new() }
    }

    /// An empty one on this PostgreSQL database.
    pub(crate) fn on(url: &str) -> Self {
        Self { url: Some(url.to_owned()), ..Self::new() }
    }

    /// One with a database, and partners `mitra0001` … that have this password and money each.
    pub(crate) fn with_partners(count: usize, password: &str, deposit: i64) -> Self {
        Self::new().furnished(count, password, deposit)
    }

    /// With a database and partners.
    pub(crate) fn furnished(self, count: usize, password: &str, deposit: i64) -> Self {
        self.done(&["migrate"]);
        let (count, deposit) = (count.to_string(), deposit.to_string());
        let partners = ["sandbox", "partners", "--prefix", "mitra", "--count", &count];
        self.done(&[&partners[..], &["--password", password, "--deposit", &deposit]].concat());
        self
    }

    /// The shared database.
    pub(crate) fn schema(&self) -> &Schema {
        self.schema.as_ref().expect("a site of gateways that share a database")
    }

    /// A path in the folder.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Where the database is.
    pub(crate) fn data(&self) -> PathBuf {
        self.path("data")
    }

    /// The database.
    pub(crate) fn database(&self) -> PathBuf {
        self.data().join("esamsat.sqlite")
    }

    /// Writes a configuration file.
    pub(crate) fn configure(&self, text: &str) -> PathBuf {
        let path = self.path("esamsat.toml");
        // Somebody may be reading it.
        if fs::read_to_string(&path).ok().as_deref() != Some(text) {
            fs::write(&path, text).expect("the configuration is written");
        }
        path
    }

    /// A command with `--data`.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = esamsat();
        command.args(arguments).arg("--data").arg(self.data());
        if let Some(url) = &self.url {
            command.env("ESAMSAT_DATABASE", url);
        }
        command
    }

    /// Runs a command to its end.
    pub(crate) fn run(&self, arguments: &[&str]) -> Ran {
        Ran::of(&mut self.command(arguments))
    }

    /// Runs a command that succeeds, and returns what it printed.
    pub(crate) fn done(&self, arguments: &[&str]) -> String {
        let ran = self.run(arguments);
        assert_eq!((ran.code, &*ran.stderr), (0, ""), "esamsat {arguments:?}: {}", ran.stdout);
        ran.stdout
    }

    /// Runs a command that succeeds with `--json`.
    pub(crate) fn json(&self, arguments: &[&str]) -> Value {
        let printed = self.done(&[arguments, &["--json"]].concat());
        serde_json::from_str(&printed).expect("--json prints JSON")
    }

    /// Proves the ledger.
    pub(crate) fn verify(&self) {
        let ran = self.run(&["verify"]);
        assert!(ran.code == 0 && ran.stdout.ends_with("Everything holds.\n"), "{}{}", ran.stdout, ran.stderr);
    }

    /// A running demo.
    pub(crate) fn demo(&self) -> Gateway {
        Gateway::start(&mut self.command(&["demo", "--listen", "127.0.0.1:0"]))
    }

    /// A running gateway with this configuration.
    pub(crate) fn serve(&self, configuration: &str) -> Gateway {
        Gateway::start(&mut self.serving(configuration))
    }

    /// The command that [`Self::serve`] starts.
    pub(crate) fn serving(&self, configuration: &str) -> Command {
        let path = self.configure(configuration);
        let mut command = self.command(&["serve", "--listen", "127.0.0.1:0"]);
        command.arg("--config").arg(path);
        command
    }

    /// Lets partners of the sandbox pay the first product at an upstream that is no simulator, on the simulator's terms.
    pub(crate) fn sell(&self, configuration: &str, upstream: &str) {
        let path = self.configure(configuration);
        let code = "SAMSAT_JABAR";
        for arguments in [
            &["product", "set", code, "--cashback", "2000", "--upstream", upstream][..],
            &["product", "on", code],
        ] {
            let ran = Ran::of(self.command(arguments).arg("--config").arg(&path));
            assert_eq!(ran.code, 0, "{}{}", ran.stdout, ran.stderr);
        }
    }

    /// Waits until no payment is open.
    pub(crate) fn settled(&self) {
        within(PATIENCE, "every payment is settled", || {
            let open = self.json(&["pending", "list"]);
            open.as_array().is_some_and(Vec::is_empty)
        });
    }

    /// The state of an invoice by the gateway's books.
    pub(crate) fn state(&self, invoice: &str) -> String {
        text(&self.json(&["invoice", "show", invoice]), "state")
    }

    /// What is on all accounts of a kind together.
    pub(crate) fn balance(&self, account: &str) -> i64 {
        let ledger = self.json(&["ledger", "balances"]);
        let accounts = ledger["balances"].as_array().expect("a list of balances");
        let alike = accounts.iter().filter(|balance| balance["account"] == account);
        alike.map(|balance| whole(balance, "balance_rupiah")).sum()
    }

    /// The invoices that the simulated bank took money for, by its own books.
    pub(crate) fn taken(&self) -> Vec<String> {
        let payments = self.json(&["sandbox", "payments"]);
        let payments = payments.as_array().expect("a list of payments");
        payments.iter().map(|payment| text(payment, "invoice")).collect()
    }
}

/// Asks again until it is so. What is asked takes a moment by itself (a process, a request), so that this
/// is no busy loop.
pub(crate) fn within(limit: Duration, what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = tokio::time::Instant::now() + limit;
    while !is_so() {
        assert!(tokio::time::Instant::now() < deadline, "not within {limit:?}: {what}");
    }
}

/// A text in an answer.
pub(crate) fn text(value: &Value, key: &str) -> String {
    value[key].as_str().unwrap_or_else(|| panic!("no text {key:?} in {value}")).to_owned()
}

/// A whole number in an answer.
pub(crate) fn whole(value: &Value, key: &str) -> i64 {
    value[key].as_i64().unwrap_or_else(|| panic!("no number {key:?} in {value}"))
}
