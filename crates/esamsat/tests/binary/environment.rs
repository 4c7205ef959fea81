//! A wrong environment is told in one clear line on stderr that says what to do, with an exit code, and never
//! with a panic.

use crate::kit::{DUMMY, EXAMPLE, Ran, Site, esamsat, repository};
use rusqlite::Connection;
use std::{
    fs::{self, File},
    net::TcpListener,
    os::unix::fs::PermissionsExt,
    process::Command,
};

/// Exactly one line, with these words in it, and nothing on stdout.
fn tells(ran: &Ran, code: i32, words: &[&str]) {
    let Ran { stdout, stderr, .. } = ran;
    assert_eq!(ran.code, code, "{stderr}");
    assert!(stdout.is_empty(), "{stdout}");
    let lines: Vec<_> = stderr.lines().collect();
    assert!(lines.len() == 1 && lines[0].starts_with("esamsat: "), "not one line: {stderr}");
    for word in [words, &[]].concat() {
        assert!(stderr.contains(word), "{word:?} is not in {stderr}");
    }
    for noise in ["panicked", "backtrace", "Error {", "Os {"] {
        assert!(!stderr.contains(noise), "{noise:?} is in {stderr}");
    }
}

const DEMO: [&str; 3] = ["demo", "--listen", "127.0.0.1:0"];
const UPSTREAM: &str = "[upstream.simulator]\nkind = \"simulator\"\n";

fn demo(site: &Site) -> Ran {
    site.run(&DEMO)
}

fn serve(site: &Site, configuration: &str) -> Ran {
    Ran::of(&mut site.serving(configuration))
}

#[test]
fn a_port_in_use() {
    let site = Site::new();
    let taken = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = taken.local_addr().expect("an address").to_string();
    let ran = site.run(&["demo", "--listen", &address]);
    tells(&ran, 5, &["failed to listen on", &address, "--listen"]);
    assert!(!site.data().exists(), "the other one's files are left alone");
    site.done(&["migrate"]);
    let path = site.configure(UPSTREAM);
    let path = path.to_str().expect("a path in UTF-8");
    tells(&site.run(&["serve", "--listen", &address, "--config", path]), 5, &[&address, "--listen"]);
}

#[test]
fn an_address_of_somebody_else() {
    tells(&Site::new().run(&["demo", "--listen", "192.0.2.1:80"]), 5, &["192.0.2.1:80", "--listen"]);
}

#[test]
fn a_file_where_the_folder_should_be() {
    let site = Site::new();
    fs::write(site.data(), "a file").expect("written");
    for arguments in [&DEMO[..], &["migrate"]] {
        tells(&site.run(arguments), 5, &["failed to create the data folder", "--data"]);
    }
    // Nor is a folder a database.
    let site = Site::new();
    fs::create_dir_all(site.database()).expect("created");
    tells(&demo(&site), 5, &["it is not a file"]);
}

#[test]
fn a_folder_that_cannot_be_written() {
    let site = Site::new();
    let closed = site.path("closed");
    fs::create_dir(&closed).expect("created");
    fs::set_permissions(&closed, fs::Permissions::from_mode(0o555)).expect("closed");
    // Root may write everywhere, unless it gives its capabilities up.
    let is_root = Ran::of(Command::new("id").arg("-u")).stdout.trim() == "0";
    let plain = esamsat();
    let run = |arguments: &[&str]| {
        let mut command = if is_root {
            let mut command = Command::new("setpriv");
            command.args(["--bounding-set=-all", "--inh-caps=-all"]).arg(plain.get_program());
            command
        } else {
            Command::new(plain.get_program())
        };
        Ran::of(command.args(arguments))
    };
    let inside = closed.join("data");
    let inside = inside.to_str().expect("a path in UTF-8");
    tells(&run(&["migrate", "--data", inside]), 5, &["failed to create the data folder", "--data"]);
    let closed = closed.to_str().expect("a path in UTF-8");
    tells(&run(&["migrate", "--data", closed]), 5, &["ermission denied", "writable"]);

    // A database that may be read and not written.
    site.done(&["migrate"]);
    fs::set_permissions(site.database(), fs::Permissions::from_mode(0o444)).expect("closed");
    fs::set_permissions(site.data(), fs::Permissions::from_mode(0o555)).expect("closed");
    let data = site.data();
    let ran = run(&["verify", "--data", data.to_str().expect("a path in UTF-8")]);
    fs::set_permissions(&data, fs::Permissions::from_mode(0o755)).expect("opened");
    tells(&ran, 5, &["failed to open", "writable"]);
}

#[test]
fn no_database() {
    let site = Site::new();
    for arguments in [&["verify"][..], &["partner", "list"], &["pending", "list"], &["sandbox", "payments"]] {
        tells(&site.run(arguments), 5, &["there is no database", "esamsat migrate"]);
    }
    tells(&serve(&site, UPSTREAM), 5, &["there is no database", "esamsat migrate"]);
}

#[test]
fn another_programs_database() {
    let site = Site::new();
    fs::create_dir(site.data()).expect("created");
    let other = Connection::open(site.database()).expect("opened");
    other.execute_batch("CREATE TABLE recipe (name TEXT)").expect("created");
    drop(other);
    let before = fs::read(site.database()).expect("read");
    for ran in [demo(&site), site.run(&["verify"]), site.run(&["migrate"])] {
        tells(&ran, 5, &["is not an esamsat database", "left alone"]);
    }
    assert!(fs::read(site.database()).expect("read") == before, "it was left alone");
}

#[test]
fn a_file_that_is_no_database() {
    let site = Site::new();
    fs::create_dir(site.data()).expect("created");
    fs::write(site.database(), "shopping list\n".repeat(1_000)).expect("written");
    for ran in [demo(&site), site.run(&["verify"])] {
        tells(&ran, 5, &["is not an esamsat database", "left alone"]);
    }
}

#[test]
fn a_truncated_database() {
    let site = Site::with_partners(30, "sandi-uji", 1_000);
    let length = fs::metadata(site.database()).expect("there").len();
    File::options().write(true).open(site.database()).expect("opened").set_len(length / 2).expect("cut");
    for ran in [demo(&site), site.run(&["verify"]), serve(&site, UPSTREAM)] {
        tells(&ran, 5, &["is damaged", "restore it from a backup"]);
    }
}

#[test]
fn a_newer_database() {
    let site = Site::with_partners(1, "sandi-uji", 1_000);
    Connection::open(site.database()).expect("opened").pragma_update(None, "user_version", 99).expect("set");
    for ran in [demo(&site), site.run(&["migrate"]), serve(&site, UPSTREAM)] {
        tells(&ran, 5, &["newer esamsat", "99", "run that version"]);
    }
}

#[test]
fn a_damaged_ledger_of_the_simulated_bank() {
    let site = Site::with_partners(1, "sandi-uji", 1_000);
    fs::write(site.data().join("bank-simulator.sqlite"), "shopping list\n".repeat(1_000)).expect("written");
    for ran in [demo(&site), serve(&site, UPSTREAM), site.run(&["sandbox", "payments"])] {
        tells(&ran, 5, &["bank-simulator.sqlite", "restore it from a backup"]);
    }
}

#[test]
fn a_configuration_that_cannot_be_read() {
    let site = Site::new();
    let missing = site.path("missing.toml");
    let missing = missing.to_str().expect("a path in UTF-8");
    tells(&site.run(&["config", "check", "--config", missing]), 5, &["missing.toml", "--config"]);
    tells(&site.run(&["serve", "--config", missing]), 5, &["missing.toml", "--config"]);
    let folder = site.path("");
    let folder = folder.to_str().expect("a path in UTF-8");
    tells(&site.run(&["config", "check", "--config", folder]), 5, &["--config"]);
}

#[test]
fn a_configuration_that_makes_no_sense() {
    let cases: [(&str, &[&str]); 16] = [
        ("listen = ", &["line 1"]),
        ("log = \"info\"\nlisten = \"here\"", &["line 2"]),
        ("log = \"info\"\n\nlisten_on = \"127.0.0.1:1\"", &["line 3", "listen_on", "listen"]),
        ("[upstream.x]\nkind = \"telepathy\"", &["telepathy", "simulator"]),
        ("[upstream.x]\nhorizon_ms = 1", &["kind"]),
        ("[upstream.x]\nkind = \"simulator\"\nhorizon = 1", &["horizon", "horizon_ms"]),
        ("[upstream.x]\nkind = \"simulator\"\n[upstream.x.faults]\nlazy = 0.1", &["lazy"]),
        ("answer_within_ms = 60000", &["answer_within_ms", "54000"]),
        ("answer_within_ms = -1", &["line 1"]),
        ("send_within_ms = 0", &["send_within_ms"]),
        ("lease_after_ms = 999", &["lease_after_ms", "1000"]),
        ("log = \"loud=very\"", &["log", "info"]),
        ("log_format = \"xml\"", &["xml", "json"]),
        ("metrics_networks = [\"everywhere\"]", &["line 1"]),
        ("trusted_proxies = \"10.0.0.0/8\"", &["line 1"]),
        ("upstream = 3", &["line 1"]),
    ];
    let site = Site::new();
    for (text, words) in cases {
        let path = site.configure(text);
        let path = path.to_str().expect("a path in UTF-8");
        tells(&site.run(&["config", "check", "--config", path]), 1, words);
        tells(&serve(&site, text), 1, words);
    }
}

#[test]
fn settings_of_the_simulated_bank_that_make_no_sense() {
    let site = Site::new();
    site.done(&["migrate"]);
    for (setting, words) in
        [("delay_ms = [2, 1]", "delay_ms"), ("horizon_ms = 1", "horizon_ms"), ("capacity = 0", "capacity")]
    {
        tells(&serve(&site, &format!("{UPSTREAM}{setting}\n")), 1, &["simulator", words]);
    }
}

#[test]
fn a_bank_line_that_makes_no_sense() {
    const LINE: &str = "[[upstream.x.line]]\nterminal = \"ESAM0001\"\naddresses = [\"10.0.0.5:7000\"]\n";
    let site = Site::new();
    let bank = |profile: &str, more: &str| {
        format!("[upstream.x]\nkind = \"iso8583\"\nprofile = \"{profile}\"\n{more}")
    };
    let good = site.configure(&bank("contoh-37-80", LINE));
    assert_eq!(site.run(&["config", "check", "--config", good.to_str().expect("a path")]).code, 0);
    let profile = site.done(&["bank", "profile", "contoh-37-80"]);
    let slow = profile.replace("answer_timeout_ms = 30000", "answer_timeout_ms = 45000");
    fs::write(site.path("slow.toml"), slow).expect("written");
    let nonsense = profile.replace("mti = \"0220\"", "mti = \"0230\"");
    let line = 1 + nonsense.lines().position(|line| line.contains("[message.advice]")).expect("it is there");
    fs::write(site.path("nonsense.toml"), nonsense).expect("written");
    let encrypted = format!("{LINE}tls = {{ server_name = \"bank.example\", ca_file = \"none.pem\" }}\n");
    let cases: [(String, i32, &[&str]); 10] = [
        (bank("contoh-37-80", ""), 1, &["upstream x", "there is no line", "[[upstream.….line]]"]),
        (bank("contoh-37-80", &LINE.repeat(2)), 1, &["two lines have the same terminal"]),
        (bank("contoh-37-80", &LINE.replace("ESAM", "esam")), 1, &["esam0001", "capital letters"]),
        (bank("contoh-37-80", &LINE.replace(":7000", "")), 1, &["ESAM0001", "10.0.0.5", "is no address"]),
        (bank("contoh-37-80", &format!("lines_held = 2\n{LINE}")), 1, &["lines_held", "number of lines, 1"]),
        (bank("contoh-37-80", &format!("in_flight_max = 0\n{LINE}")), 1, &["in_flight_max"]),
        (bank("contoh-37-80", &encrypted), 1, &["tls.ca_file", "none.pem"]),
        (bank("none.toml", LINE), 5, &["none.toml", "contoh-37-80"]),
        (bank("slow.toml", LINE), 1, &["answer_timeout_ms is 45000", "answer_within_ms"]),
        (bank("nonsense.toml", LINE), 1, &["nonsense.toml", "0230", &format!("line {line}")]),
    ];
    for (text, code, words) in cases {
        let path = site.configure(&text);
        tells(&site.run(&["config", "check", "--config", path.to_str().expect("a path")]), code, words);
    }
}

#[test]
fn a_demo_of_two_kinds() {
    let site = Site::new();
    let path = site.configure(UPSTREAM);
    let path = path.to_str().expect("a path in UTF-8");
    let ran = site.run(&[&DEMO[..], &["--bank", "127.0.0.1:1", "--config", path]].concat());
    tells(&ran, 2, &["--bank", "upstreams", "leave out"]);
    assert!(!site.data().exists(), "nothing was begun");
}

#[test]
fn play_money_reaches_no_bank_by_itself() {
    let site = Site::new();
    site.done(&["migrate"]);
    let configuration = "[upstream.a]\nkind = \"iso8583\"\nprofile = \"contoh-37-80\"\n\
        [[upstream.a.line]]\nterminal = \"ESAM0001\"\naddresses = [\"127.0.0.1:1\"]\n";
    site.serve(configuration).stop();
    assert_eq!(site.json(&["product", "list"]).as_array().map(Vec::len), Some(0));
    site.serve(&format!("{configuration}[upstream.b]\nkind = \"simulator\"\n")).stop();
    let products = site.json(&["product", "list"]);
    let products = products.as_array().expect("a list of products");
    assert_eq!(products.len(), 4);
    assert!(products.iter().all(|product| product["upstream"] == "b"), "{products:?}");
}

#[test]
fn no_upstream() {
    let site = Site::new();
    site.done(&["migrate"]);
    tells(&serve(&site, ""), 1, &["upstream", "esamsat demo"]);
    tells(&site.run(&["serve", "--listen", "127.0.0.1:0"]), 1, &["upstream", "esamsat demo"]);
}

#[test]
fn environment_variables() {
    let site = Site::new();
    let with = |name: &str, value: &str| Ran::of(site.command(&["config", "check"]).env(name, value));
    tells(&with("ESAMSAT_LISTNE", "127.0.0.1:1"), 1, &["ESAMSAT_LISTNE", "ESAMSAT_LISTEN"]);
    tells(&with("ESAMSAT_LISTEN", "here"), 1, &["ESAMSAT_LISTEN", "127.0.0.1:8080"]);
    tells(&with("ESAMSAT_LOG", "loud=very"), 1, &["loud=very"]);
    assert_eq!(with("ESAMSAT_LISTEN", "127.0.0.1:1").code, 0);
}

/// What is documented as a program's way out when its reader goes away.
#[test]
fn a_reader_that_goes_away() {
    let site = Site::with_partners(1, "sandi-uji", 1_000);
    let program = esamsat();
    let program = program.get_program().to_str().expect("a path in UTF-8").to_owned();
    let listing =
        format!("{program} sandbox vehicles --count 100000 | head -n 1; exit \"${{PIPESTATUS[0]}}\"");
    let ran = Ran::of(Command::new("bash").args(["-c", &listing]).current_dir(site.path("")));
    assert_eq!((ran.code, &*ran.stderr), (0, ""), "{}", ran.stdout);
}

/// A folder with spaces, quotes and letters of other scripts is as good.
#[test]
fn a_folder_with_an_awkward_name() {
    let site = Site::new();
    let data = site.path("it's a \"folder\" of Jalan Cihampelas №5 ?#%");
    let mut command = esamsat();
    command.args(DEMO).arg("--data").arg(&data).current_dir(repository());
    let gateway = crate::kit::Gateway::start(&mut command);
    assert_eq!(gateway.partner(DUMMY).inquire(EXAMPLE)["status"], "INQUIRY");
    gateway.stop();
    let ran = Ran::of(esamsat().arg("verify").arg("--data").arg(&data));
    assert_eq!(ran.code, 0, "{}{}", ran.stdout, ran.stderr);
}

#[test]
fn a_product_without_an_upstream() {
    let site = Site::new();
    let bank = "[upstream.bjb]\nkind = \"simulator\"\n";
    let check = |text: &str| {
        let path = site.configure(text);
        site.run(&["config", "check", "--config", path.to_str().expect("a path in UTF-8")])
    };
    let is_fine = |ran: &Ran, what: &str| {
        assert_eq!(ran.code, 0, "{}", ran.stderr);
        assert!(ran.stdout.contains("is fine") && ran.stdout.ends_with(what), "{}", ran.stdout);
        assert_eq!(ran.stdout.lines().count(), 1, "{}", ran.stdout);
    };
    is_fine(&check(bank), "there is no database yet, and thus no products to look at.\n");
    site.done(&["migrate"]);
    site.sell(bank, "bjb");
    is_fine(&check(bank), "every product that is ON has its upstream in it.\n");
    let words = ["its upstream bjb is not in the configuration", "add [upstream.bjb]", "esamsat product set"];
    tells(&check(UPSTREAM), 1, &words);
    is_fine(&check(""), "it has no upstreams, and the products were not looked at.\n");
    fs::write(site.database(), "no database").expect("written");
    let unread = check(bank);
    is_fine(&unread, "; the products were not looked at.\n");
    assert!(unread.stderr.starts_with("esamsat: the products were not looked at: "), "{}", unread.stderr);
}
