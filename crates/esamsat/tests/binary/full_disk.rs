//! A disk that fills up under a running gateway, and has space again: new payments are refused before the bank
//! is asked, those under way stay PENDING, and all goes on afterwards by itself.
//!
//! The disk is a small one in memory, which takes root. Where that cannot be had the test says so and proves
//! nothing; the store's own tests fill a database up everywhere.

use crate::kit::{PATIENCE, Ran, Site, TESTER, http::get, text, within};
use std::{
    fs::{self, File},
    io::Write,
    path::{Path, PathBuf},
    process::Command,
};

/// Twice what the readiness check wants to see free.
const DISK: &str = "128m";

/// A disk of its own; gone when the test ends.
struct Disk(PathBuf);

impl Disk {
    fn mount(at: &Path) -> Option<Self> {
        fs::create_dir_all(at).expect("created");
        let options = format!("size={DISK}");
        let mounted =
            Command::new("mount").args(["-t", "tmpfs", "-o", &options, "esamsat-test"]).arg(at).output();
        mounted.is_ok_and(|output| output.status.success()).then(|| Self(at.to_owned()))
    }

    fn fill(&self) {
        let mut ballast = File::create(self.0.join("ballast")).expect("created");
        // Down to the last byte: a page that is half there would take one more row.
        for size in [1 << 20, 4_096, 1] {
            let block = vec![0_u8; size];
            while ballast.write_all(&block).is_ok() {}
        }
    }

    fn relieve(&self) {
        fs::remove_file(self.0.join("ballast")).expect("removed");
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // Lazily: a process that is being killed may still hold a file.
        drop(Command::new("umount").arg("--lazy").arg(&self.0).status());
    }
}

#[test]
fn a_full_disk_refuses_new_payments_and_loses_nothing() {
    const CONFIGURATION: &str = "answer_within_ms = 1000\nsend_within_ms = 400\n\n[upstream.simulator]\n\
        kind = \"simulator\"\nhorizon_ms = 1500\nanswer_timeout_ms = 300\n";
    let site = Site::new();
    let Some(disk) = Disk::mount(&site.data()) else {
        eprintln!("skipped: a file system cannot be mounted here");
        return;
    };
    // The bank's own books are on a disk of their own.
    let bank = site.path("bank.sqlite");
    File::create(&bank).expect("created");
    std::os::unix::fs::symlink(&bank, site.data().join("bank-simulator.sqlite")).expect("linked");
    site.done(&["migrate"]);
    let partners = ["sandbox", "partners", "--prefix", "mitra", "--count", "1", "--password", "sandi-uji"];
    site.done(&partners);
    let gateway = site.serve(CONFIGURATION);
    let partner = gateway.partner(("mitra0001", "sandi-uji"));
    let ready = || get(gateway.address(), "/health/ready").expect("an answer").status;
    let paid = partner.invoice((TESTER, "UJI1000001"));
    assert_eq!(partner.pay(&paid)["status"], "CONFIRM");
    let inquired: Vec<_> = (0..3).map(|n| partner.invoice((TESTER, &format!("UJI100100{n}")))).collect();
    // The bank is silent; it took the first and did not take the second.
    let under_way = ["UJI4010001", "UJI4020001"].map(|chassis| partner.invoice((TESTER, chassis)));
    assert_eq!(ready(), 200);

    std::thread::scope(|scope| {
        let pays = under_way.each_ref().map(|invoice| scope.spawn(move || partner.pay(invoice)));
        // Asked of the gateway: an operator's command moves the log into the database when it opens it, and
        // the log that is begun anew has room on a full disk.
        within(PATIENCE, "both are under way", || {
            under_way.each_ref().map(|invoice| partner.status(invoice)) == ["PENDING", "PENDING"]
        });
        disk.fill();
        for pay in pays {
            assert_eq!(pay.join().expect("an answer")["status"], "PENDING");
        }
    });
    within(PATIENCE, "the gateway is not ready", || ready() == 503);
    assert_eq!(get(gateway.address(), "/health/live").expect("an answer").status, 200);
    for invoice in &inquired {
        let refused = partner.try_call("pay_esamsat", &[("invoice", invoice)]).expect("an answer");
        assert_eq!(refused.status, 503, "{refused:?}");
        assert_eq!(refused.json()["result"], "no");
    }
    for invoice in &under_way {
        assert_eq!(partner.status(invoice), "PENDING");
    }
    for invoice in &inquired {
        assert_eq!(partner.status(invoice), "INQUIRY");
    }
    assert_eq!(partner.status(&paid), "CONFIRM");

    disk.relieve();
    within(PATIENCE, "the gateway is ready again", || ready() == 200);
    let taken = site.taken();
    assert!(
        inquired.iter().all(|invoice| !taken.contains(invoice)),
        "the bank was asked for {inquired:?}: {taken:?}"
    );
    site.settled();
    assert_eq!(under_way.each_ref().map(|invoice| partner.status(invoice)), ["CONFIRM", "REFUND"]);
    for invoice in &inquired {
        assert_eq!(partner.pay(invoice)["status"], "CONFIRM");
    }
    gateway.stop();
    site.verify();

    // A start on a full disk says so, in a line.
    disk.fill();
    let ran: Ran =
        site.run(&["deposit", "add", "mitra0001", "5", "--reference", "PENUH", "--operator", "kasir"]);
    assert!(matches!(ran.code, 0 | 5), "{}", ran.stderr);
    assert!(ran.stderr.lines().count() <= 1 && !ran.stderr.contains("panicked"), "{}", ran.stderr);
    disk.relieve();
    site.verify();
    assert!(!text(&site.json(&["partner", "show", "mitra0001"]), "username").is_empty());
}
