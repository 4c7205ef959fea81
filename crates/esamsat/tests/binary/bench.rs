//! `esamsat bench --reference pgbench`, against a demo and with stand-ins for `PostgreSQL`'s programs: what it asks
//! of them, what it makes of their answers, and that no password is shown.

use crate::kit::{Ran, Site, text};
use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

/// Remembers how it was called and in which environment, and answers as pgbench does.
const PGBENCH: &str = r#"#!/bin/sh
echo "pgbench $* ## $PGPASSWORD;$PGOPTIONS" >> "$CALLS"
case " $* " in
    *" -i "*) exit 0 ;;
    *" -l "*) printf '0 1 200 0 1 1\n0 2 300 0 1 2\n0 3 250 0 1 3\n' > pgbench_log.77 ;;
esac
case " $* " in *" -c 8 "*) TPS=4000.5 ;; *) TPS=1000.0 ;; esac
echo "number of transactions actually processed: 3000
number of failed transactions: 1 (0.033%)
latency average = 0.250 ms
initial connection time = 13.011 ms
tps = $TPS (without initial connection time)"
"#;

/// Of a server on which there is nothing yet.
const PSQL: &str = r#"#!/bin/sh
echo "psql $(echo "$*" | tr '\n' ' ') ## $PGPASSWORD;$PGOPTIONS" >> "$CALLS"
case "$*" in
    *server_version*) echo '15.1|on|on' ;;
    *to_reg*) echo f ;;
esac
"#;

fn stand_ins(site: &Site) -> PathBuf {
    let folder = site.path("programs");
    fs::create_dir(&folder).expect("a folder");
    for (name, script) in [("pgbench", PGBENCH), ("psql", PSQL)] {
        let path = folder.join(name);
        fs::write(&path, script).expect("a script");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("executable");
    }
    folder
}

fn bench(site: &Site, programs: &Path, arguments: &[&str]) -> Ran {
    let gateway = site.demo();
    let url = format!("http://{}", gateway.address());
    let path = std::env::join_paths([programs, Path::new("/usr/bin"), Path::new("/bin")]).expect("a PATH");
    let mut command = site.command(&["bench", "--url", &url, "--seconds", "1", "--warmup", "0"]);
    command.args(["--reference", "pgbench"]).args(arguments);
    command
        .env("PATH", path)
        .env("CALLS", site.path("calls"))
        .env_remove("PGPASSWORD")
        .env_remove("PGOPTIONS");
    let ran = Ran::of(&mut command);
    gateway.stop();
    ran
}

#[test]
fn pgbench_takes_turns_with_the_gateway_and_its_password_is_shown_nowhere() {
    let site = Site::new();
    let programs = stand_ins(&site);
    let url = "postgres://siti:sandi%40rahasia@localhost/kas";
    let arguments =
        ["--hot", "--connections", "2", "--pgbench-url", url, "--pgbench-clients", "4,8", "--json"];
    let ran = bench(&site, &programs, &arguments);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    let calls = fs::read_to_string(site.path("calls")).expect("the calls");
    assert!(!(ran.stdout.clone() + &ran.stderr).contains("rahasia"), "{}{}", ran.stdout, ran.stderr);
    for call in calls.lines() {
        let (arguments, environment) = call.split_once(" ## ").expect("arguments and environment");
        assert!(arguments.trim_end().ends_with("postgres://siti@localhost/kas"), "{call}");
        assert!(environment.starts_with("sandi@rahasia; -csearch_path=esamsat_pgbench"), "{call}");
    }
    let count = |words: &str| calls.lines().filter(|call| call.contains(words)).count();
    assert_eq!((count("pgbench -i -q -s 50 "), count("CREATE SCHEMA esamsat_pgbench")), (1, 1), "{calls}");
    // Each of the two workloads is tried with both, and measured in three slices with the better one.
    assert_eq!((count("-M prepared -c 4 -j 2 -T 3"), count("-M prepared -c 8 -j 2 -T 3")), (2, 2), "{calls}");
    assert_eq!((count("-M prepared -c 8 -j 2 -T 1"), count("-n -f ")), (6, 5), "{calls}");

    let report: serde_json::Value = serde_json::from_str(&ran.stdout).expect("JSON");
    let pgbench = &report["pgbench"];
    assert_eq!(pgbench["tpcb"]["transactions_per_second"], 4_000.5, "{pgbench}");
    assert_eq!((&pgbench["tpcb"]["clients"], &pgbench["hot_row"]["clients"]), (&8.into(), &8.into()));
    assert_eq!(pgbench["tpcb"]["failed_transactions"], 3);
    let pairs = report["gateway"]["pairs_per_second"].as_f64().expect("pairs");
    let ratio = pgbench["ratio_to_hot_row"].as_f64().expect("a ratio");
    assert!(pairs > 0.0 && (ratio - pairs / 4_000.5).abs() < 0.001, "{report}");
    assert_eq!(pgbench["server"], "postgres://siti@localhost/kas");
    assert!(text(pgbench, "drop_command").contains("DROP SCHEMA esamsat_pgbench CASCADE"), "{pgbench}");
}

#[test]
fn one_client_at_a_time_is_compared_with_bare_commits() {
    let site = Site::new();
    let programs = stand_ins(&site);
    let ran = bench(&site, &programs, &["--connections", "1", "--mode", "pay", "--pgbench-clients", "1"]);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    for words in ["− 2 × bare commit 0.250 ms = ", "gateway / pgbench TPC-B: ", "psql -c 'DROP SCHEMA"] {
        assert!(ran.stdout.contains(words), "{words:?} is not in\n{}", ran.stdout);
    }
    assert!(!ran.stdout.contains("hot row"), "{}", ran.stdout);
}

#[test]
fn what_goes_wrong_at_postgresql_is_said_with_what_to_do() {
    let site = Site::new();
    let programs = stand_ins(&site);
    fs::write(
        programs.join("psql"),
        "#!/bin/sh\necho 'psql: error: connection to server at \"x\" failed: FATAL:  no password supplied' >&2\nexit 2\n",
    )
    .expect("a script");
    let ran = bench(&site, &programs, &[]);
    assert_eq!(ran.code, 5, "{}", ran.stderr);
    assert!(ran.stderr.contains("give the password in PGPASSWORD"), "{}", ran.stderr);
}
