//! A database of three nodes loses a standby, then its whole primary node, while partners pay: nothing that was
//! answered is lost or doubled, payments go on within half a minute, and the old primary comes back as a standby.
//!
//! The nodes are PostgreSQL under Patroni and etcd, as `deploy/ha/cluster` brings them up, with one synchronous
//! acknowledgement, strict.

use crate::kit::{
    Gateway, PATIENCE, Site,
    books::{Books, times_said},
    clients::{CONFIGURATION, Hall, Note, OPENING, PARTNERS, PASSWORD, Said, username},
    http::Partner,
    repository, within,
};
use serde_json::Value;
use std::{
    fs::Permissions,
    net::SocketAddr,
    os::unix::fs::PermissionsExt,
    path::PathBuf,
    process::{Command, Stdio},
    time::Duration,
};
use tempfile::TempDir;

/// How soon payments must go on.
const BACK_WITHIN: Duration = Duration::from_secs(30);

/// Three nodes; they end with the test, however it ends.
struct Cluster {
    folder: TempDir,
    url: String,
}

impl Cluster {
    fn up() -> Self {
        // The nodes run as another user where the test runs as root.
        let folder = tempfile::Builder::new().permissions(Permissions::from_mode(0o755)).tempdir();
        let mut cluster = Self { folder: folder.expect("a folder for temporary files"), url: String::new() };
        cluster.url = cluster.call("up", None);
        cluster
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("cluster")
    }

    /// Runs one of the script's commands, and returns the last line that it printed.
    fn call(&self, command: &str, node: Option<&str>) -> String {
        let ran = Command::new(repository().join("deploy/ha/cluster"))
            .arg(command)
            .arg(self.path())
            .args(node)
            .env("ESAMSAT_HA_SHARED_BUFFERS", "32MB")
            .env("ESAMSAT_HA_MAX_WAL_SIZE", "256MB")
            .env("ESAMSAT_HA_WAIT_S", "120")
            .stdin(Stdio::null())
            .output()
            .expect("the script runs");
        let told = String::from_utf8_lossy(&ran.stderr);
        assert!(ran.status.success(), "{command}: {told}");
        let printed = String::from_utf8(ran.stdout).expect("it prints text");
        printed.lines().last().unwrap_or_default().to_owned()
    }

    /// What a node is; none while it starts or stops.
    fn role(&self, node: &str) -> Option<String> {
        let ran = Command::new(repository().join("deploy/ha/cluster"))
            .arg("status")
            .arg(self.path())
            .arg("--json")
            .output()
            .expect("the script runs");
        let status: Value = serde_json::from_slice(&ran.stdout).expect("it prints JSON");
        let nodes = status["nodes"].as_array().expect("a list of nodes");
        let found = nodes.iter().find(|found| found["name"] == node).expect("the node");
        found["role"].as_str().map(str::to_owned)
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        let down = Command::new(repository().join("deploy/ha/cluster")).arg("down").arg(self.path()).output();
        assert!(down.is_ok_and(|down| down.status.success()) || std::thread::panicking());
    }
}

/// Pays one owner's bill after another until one is paid, or its outcome open.
fn goes_on(hall: &Hall, address: SocketAddr, what: &str) {
    let username = username(0);
    let partner = Partner { address, login: (&username, PASSWORD) };
    within(BACK_WITHIN, what, || {
        let vehicle = hall.next_vehicle();
        let vehicle = [
            ("product", "SAMSAT_JABAR"),
            ("customer_number", &*vehicle.0),
            ("structure_number", &*vehicle.1),
        ];
        let Ok(bill) = partner.try_call("inquiry_esamsat", &vehicle) else { return false };
        if bill.status != 200 {
            return false;
        }
        let Some(invoice) = bill.json()["invoice"].as_str().map(str::to_owned) else { return false };
        let Ok(paid) = partner.try_call("pay_esamsat", &[("invoice", &invoice)]) else { return false };
        paid.status == 200 && paid.json()["result"] == "ok"
    });
}

#[test]
fn a_lost_standby_and_a_lost_primary_cost_no_payment_that_was_answered() {
    let cluster = Cluster::up();
    let site = Site::on(&cluster.url).furnished(PARTNERS, PASSWORD, OPENING);
    let hall = Hall::with_doors(&site, 2);
    let gateways = hall.work_while(20_261_125, || {
        let gateways: Vec<Gateway> =
            (0..2).map(|_| Gateway::begin(&mut site.serving(CONFIGURATION))).collect();
        for (door, gateway) in gateways.iter().enumerate() {
            hall.open(door, gateway.address(), true);
        }
        let work = || hall.run_for_answers(300, Duration::from_secs(20));
        work();
        let standby = cluster.call("kill-standby", None);
        goes_on(&hall, gateways[0].address(), "payments without the standby");
        cluster.call("start-node", Some(&standby));
        work();
        let primary = cluster.call("kill-primary", None);
        goes_on(&hall, gateways[1].address(), "payments on the new primary");
        work();
        cluster.call("start-node", Some(&primary));
        within(PATIENCE, "the old primary comes back as a standby", || {
            let role = cluster.role(&primary);
            assert_ne!(role.as_deref(), Some("primary"), "the old primary leads again");
            role.is_some_and(|role| role.ends_with("standby"))
        });
        work();
        // Longer than the bank's horizon.
        hall.run_for(Duration::from_secs(4));
        gateways
    });
    site.settled();
    site.verify();
    let mut notes = hall.take_notes();
    // While nobody knew whether the reservation was written, PENDING was the only true answer; where it was not,
    // nothing was ever reserved.
    let never_begun = |note: &Note| {
        let is_pending = matches!(&note.said, Said::State { word, .. } if word == "PENDING");
        is_pending && site.state(&note.invoice) == "INQUIRY"
    };
    notes.retain(|note| !never_begun(note));
    let books = Books::read_all(&site, &notes);
    for gateway in gateways {
        let printed = gateway.stop();
        for word in ["panicked", "can no longer be trusted", "contradicts a final state"] {
            assert!(!printed.contains(word), "{printed}");
        }
    }
    let reached = [books.count("CONFIRM"), books.count("REFUND"), times_said(&notes, "CONFIRM")];
    assert!(reached.iter().all(|count| *count >= 20), "the test reached too little: {reached:?}");
}
