//! `esamsat bank-host`: its control API, its commands, its start and its end.

use crate::kit::{Gateway, PATIENCE, Ran, Site, http, text};
use serde_json::{Value, json};
use std::{fs, net::SocketAddr};

/// A bank host and where it is controlled.
fn start(site: &Site, more: &[&str]) -> (Gateway, SocketAddr) {
    let flags = ["bank-host", "--listen", "127.0.0.1:0", "--control", "127.0.0.1:0"];
    let host = Gateway::start(&mut site.command(&[&flags[..], more].concat()));
    let control = host.wait_for("the control API", |text| {
        text.split_once("curl -s http://")?.1.split_once("/state")?.0.parse().ok()
    });
    (host, control)
}

fn call(control: SocketAddr, method: &str, path: &str, body: &str) -> (u16, Value) {
    let request = http::request(method, path, "application/json", body.as_bytes());
    let answer = http::exchange(control, &request).expect("the control API answers");
    (answer.status, answer.json())
}

#[test]
fn the_control_api_shows_and_sets_what_there_is() {
    let site = Site::new();
    let (host, control) = start(&site, &["--profile", "contoh-38-50"]);
    let (status, state) = call(control, "GET", "/state", "");
    assert_eq!((status, text(&state, "profile").as_str()), (200, "contoh-38-50"));
    assert_eq!((&state["connections"], &state["received"]), (&json!(0), &json!(0)));
    let (status, day) = call(control, "POST", "/cut-over", "");
    assert_eq!(status, 200);
    assert_ne!(day["business_date"], state["business_date"]);
    assert_eq!(call(control, "GET", "/state", "").1["business_date"], day["business_date"]);
    assert_eq!(call(control, "GET", "/payments", ""), (200, json!([])));
    assert_eq!(call(control, "POST", "/reset", ""), (200, json!({ "generation": 2 })));
    assert_eq!(call(control, "POST", "/close", ""), (200, json!({ "closed": true })));

    let (status, faults) = call(control, "PUT", "/faults", r#"{"silent": 0.25, "unknown_codes": ["ZZ"]}"#);
    assert_eq!((status, &faults["silent"], &faults["unknown_codes"]), (200, &json!(0.25), &json!(["ZZ"])));
    for (body, expected) in [
        (r#"{"silent": 2}"#, "fractions from 0 to 1"),
        (r#"{"silence": 0.5}"#, "unknown field `silence`"),
        ("silent = 0.5", "expected"),
        ("", "EOF"),
    ] {
        let (status, answer) = call(control, "PUT", "/faults", body);
        assert_eq!(status, 400, "{body}");
        assert!(text(&answer, "error").contains(expected), "{answer}");
    }
    assert_eq!(call(control, "GET", "/faults", "").1, faults, "what makes no sense changes nothing");
    for (method, path) in [("GET", "/"), ("POST", "/faults"), ("DELETE", "/payments")] {
        assert_eq!(call(control, method, path, "").0, 404, "{method} {path}");
    }
    host.terminate();
    let (status, printed) = host.wait(PATIENCE);
    assert!(status.success() && !printed.contains("panicked"), "{status}: {printed}");
}

#[test]
fn faults_are_shown_set_from_a_file_and_cleared_by_commands() {
    let site = Site::new();
    let path = site.path("faults.toml");
    fs::write(&path, "lost = 0.5\ndelay_ms = [5, 20]\n").expect("the file is written");
    let file = path.display().to_string();
    let (_host, control) = start(&site, &["--faults", &file, "--seed", "9"]);
    let control = control.to_string();
    let faults = |more: &[&str]| {
        let flags = ["bank-host", "faults", "--control", &control];
        Ran::of(&mut site.command(&[&flags[..], more].concat()))
    };
    let shown = faults(&["show"]).stdout;
    assert!(shown.contains("lost = 0.5\n") && shown.contains("delay_ms = [5, 20]"), "{shown}");
    fs::write(&path, shown.replace("lost = 0.5", "twice = 0.125").replace("twice = 0.0\n", ""))
        .expect("the file is written");
    assert_eq!(faults(&["set", &file]).code, 0);
    let set: Value = serde_json::from_str(&faults(&["show", "--json"]).stdout).expect("JSON");
    assert_eq!((&set["lost"], &set["twice"]), (&json!(0.0), &json!(0.125)), "what was shown can be set");
    fs::write(&path, "lost = 7").expect("the file is written");
    let refused = faults(&["set", &file]);
    assert!(refused.code == 1 && refused.stderr.contains("fractions from 0 to 1"), "{}", refused.stderr);
    assert_eq!(faults(&["clear"]).code, 0);
    let cleared: Value = serde_json::from_str(&faults(&["show", "--json"]).stdout).expect("JSON");
    assert_eq!(cleared["twice"], json!(0.0));
}

#[test]
fn what_cannot_be_started_or_asked_says_why() {
    let site = Site::new();
    let ran = |flags: &[&str]| Ran::of(&mut site.command(&[&["bank-host"], flags].concat()));
    let free = "127.0.0.1:0";
    for (flags, code, expected) in [
        (&["--control", "0.0.0.0:0"][..], 2, "is not on loopback"),
        (&["--listen", free, "--control", free, "--profile", "bjb"], 5, "failed to read the profile"),
        (&["--listen", free, "--control", free, "--faults", "none.toml"], 5, "failed to read none.toml"),
        (&["ledger"], 3, "there is no bank's ledger"),
        (&["faults", "show", "--control", "127.0.0.1:1"], 5, "is it running?"),
    ] {
        let ran = ran(flags);
        assert_eq!(ran.code, code, "{flags:?}: {}", ran.stderr);
        assert!(ran.stderr.contains(expected), "{flags:?}: {}", ran.stderr);
    }
    let (_host, control) = start(&site, &[]);
    let taken = ran(&["--listen", free, "--control", &control.to_string()]);
    assert!(taken.code == 5 && taken.stderr.contains("choose another --control"), "{}", taken.stderr);
    assert_eq!(site.json(&["bank-host", "ledger"]), json!([]), "beside one that runs");
}

#[test]
fn lines_that_make_no_sense_are_told() {
    let site = Site::new();
    let profile = site.done(&["bank", "profile", "contoh-37-80"]);
    fs::write(site.path("lax.toml"), profile.replace("match = [7, 11, 41]", "match = [7, 11]"))
        .expect("a file");
    fs::write(site.path("torn.toml"), profile.replace("\"4\" = \"{amount}\"", "\"4\" = \"{money}\""))
        .expect("a file");
    let upstream = |name: &str, profile: &str, lines: &[(&str, &str)]| {
        let mut text = format!("[upstream.{name}]\nkind = \"iso8583\"\nprofile = \"{profile}\"\n");
        for (terminal, address) in lines {
            let line = format!("terminal = \"{terminal}\"\naddresses = [\"{address}\"]\n");
            text.extend([&*format!("[[upstream.{name}.line]]\n"), &*line]);
        }
        text
    };
    let one = [("ESAM0001", "10.0.0.5:7000")];
    let two = [one[0], ("ESAM0002", "10.0.0.5:7000")];
    for (text, words) in [
        (upstream("bjb", "contoh-37-80", &[]), "there is no line; add [[upstream"),
        (
            upstream("bjb", "contoh-37-80", &[("esam1", "10.0.0.5:7000")]),
            "1 to 16 capital letters and digits",
        ),
        (upstream("bjb", "contoh-37-80", &[("ESAM0001", "10.0.0.5")]), "is no address such as"),
        (upstream("bjb", "contoh-37-80", &[one[0], one[0]]), "two lines have the same terminal"),
        (upstream("bjb", "nirgends.toml", &one), "or one that is shipped: contoh-37-80"),
        (upstream("bjb", "torn.toml", &one), "torn.toml, line "),
        (
            upstream("bjb", "lax.toml", &two),
            "[identity] match lacks the terminal's field, and there are 2 lines",
        ),
        (
            upstream("bjb", "contoh-37-80", &two) + &upstream("bjb-baru", "contoh-38-18", &one),
            "upstreams bjb and bjb-baru have the terminal ESAM0001 at 10.0.0.5:7000",
        ),
    ] {
        let path = site.configure(&text);
        let ran = site.run(&["config", "check", "--config", path.to_str().expect("a path in UTF-8")]);
        assert!(ran.code != 0 && ran.stderr.contains(words), "{words}: {}{}", ran.stdout, ran.stderr);
    }
    for text in [upstream("bjb", "lax.toml", &one), upstream("bjb", "contoh-37-80", &two)] {
        let path = site.configure(&text);
        site.done(&["config", "check", "--config", path.to_str().expect("a path in UTF-8")]);
    }
}
