//! A PostgreSQL server of a test's own, on loopback, which may be killed with all its processes and comes up again on
//! what it has written.

use super::{Gateway, PATIENCE};
use std::{
    fs::{self, Permissions},
    net::{SocketAddr, TcpListener},
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::PathBuf,
    process::Command,
};
use tempfile::TempDir;

/// PostgreSQL refuses to run as root.
const UNPRIVILEGED: [&str; 6] = ["setpriv", "--reuid", "postgres", "--regid", "postgres", "--init-groups"];
const PASSWORD: &str = "test-only";

/// It ends with the test, however that ends.
pub(crate) struct Server {
    folder: TempDir,
    programs: PathBuf,
    process: Option<Gateway>,
    address: SocketAddr,
}

impl Server {
    /// One with nothing in it.
    pub(crate) fn start() -> Self {
        let folder = tempfile::Builder::new().permissions(Permissions::from_mode(0o755)).tempdir();
        let address = SocketAddr::from(([127, 0, 0, 1], 0));
        let folder = folder.expect("a folder for temporary files");
        let mut server = Self { folder, programs: programs(), process: None, address };
        fs::write(server.path("password"), PASSWORD).expect("the password is written");
        let data = server.path("data");
        if server.is_root() {
            let made = ["install", "-d", "-o", "postgres", "-g", "postgres", "-m", "700"];
            run(Command::new(made[0]).args(&made[1..]).arg(&data));
        }
        let mut initdb = server.program("initdb");
        initdb.args(["--no-sync", "--no-instructions", "--username=esamsat", "--auth=scram-sha-256"]);
        initdb.args(["--encoding=UTF8", "--locale=C", "--pwfile"]).arg(server.path("password"));
        run(initdb.arg("--pgdata").arg(data));
        server.start_again();
        server
    }

    /// Where it listens, until it is started again.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// SIGKILL to all its processes at once.
    pub(crate) fn kill(&mut self) {
        let postmaster = self.process.take().expect("it runs");
        let kill = "kill -STOP $0; kill -KILL $(pgrep -P $0) $0";
        run(Command::new("sh").args(["-c", kill, &postmaster.id().to_string()]));
        postmaster.kill();
    }

    /// Starts it, wherever there is room, and waits until it serves.
    pub(crate) fn start_again(&mut self) {
        while self.process.is_none() {
            let free = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
            self.address = free.expect("a free port");
            let mut command = self.program("postgres");
            command.arg("-D").arg(self.path("data")).args(["-c", "listen_addresses=127.0.0.1"]);
            command.args(["-c", "unix_socket_directories=", "-c", "max_connections=200"]);
            command.args(["-c", "shared_buffers=32MB", "-p", &self.address.port().to_string()]);
            let process = Gateway::begin(&mut command);
            let is_served = process.wait_for("PostgreSQL", |text| {
                let is_served = text.contains("database system is ready to accept connections");
                // Somebody else was faster.
                (is_served || text.contains("could not create any TCP/IP sockets")).then_some(is_served)
            });
            self.process = is_served.then_some(process);
        }
    }

    /// Its address for a gateway that reaches it there.
    pub(crate) fn url_at(address: SocketAddr) -> String {
        format!("postgres://esamsat:{PASSWORD}@{address}/postgres")
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn is_root(&self) -> bool {
        fs::metadata(self.folder.path()).expect("the folder").uid() == 0
    }

    fn program(&self, name: &str) -> Command {
        let program = self.programs.join(name);
        let mut command = Command::new(if self.is_root() { UNPRIVILEGED[0].into() } else { program.clone() });
        if self.is_root() {
            command.args(&UNPRIVILEGED[1..]).arg(program);
        }
        command.env("LC_ALL", "C").current_dir(self.folder.path());
        command
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(process) = self.process.take() {
            process.signal("INT");
            let (status, printed) = process.wait(PATIENCE);
            assert!(status.success() || std::thread::panicking(), "{printed}");
        }
    }
}

/// Those of the latest version.
fn programs() -> PathBuf {
    let versions = fs::read_dir("/usr/lib/postgresql").expect("PostgreSQL, where Debian keeps it");
    let versions = versions.map(|version| version.expect("a folder").path());
    let number = |path: &PathBuf| path.file_name()?.to_str()?.parse::<u32>().ok();
    versions.max_by_key(number).expect("a version of PostgreSQL").join("bin")
}

fn run(command: &mut Command) {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}
