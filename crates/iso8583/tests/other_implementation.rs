//! An implementation that is not ours (pyiso8583) reads what this one writes, and writes what this one reads: over
//! thousands of generated messages of every shipped spec, and of one with all that packed dialects have.
//!
//! `cargo xtask test` installs it; without it the test fails and says so.

#![expect(clippy::unwrap_used, reason = "these are tests, helpers included")]

use iso8583::{Kind, Message, Mti, Path, Spec};
use serde_json::{Value, json};
use std::{
    collections::BTreeSet,
    fmt::Write as _,
    io::Write as _,
    process::{Command, Stdio},
};

const MESSAGES_OF_EACH: usize = 1_000;

const SPECS: [(&str, &str); 5] = [
    ("iso87-ascii", include_str!("../specs/iso87-ascii.toml")),
    ("dialect-37-80", include_str!("../specs/dialect-37-80.toml")),
    ("dialect-38-18", include_str!("../specs/dialect-38-18.toml")),
    ("dialect-38-50", include_str!("../specs/dialect-38-50.toml")),
    ("packed", include_str!("packed.toml")),
];

const TYPES: [&str; 8] = ["0200", "0210", "0220", "0230", "0401", "0430", "0800", "0810"];

/// Picks by a generator that is the same on every run.
fn chooser() -> impl FnMut(usize) -> usize {
    let mut state = 0x8583_1987_u64;
    move |ways| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        usize::try_from(state % u64::try_from(ways).unwrap()).unwrap()
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02X}").unwrap();
        text
    })
}

/// Every place that a spec's file has.
fn places(file: &Value) -> BTreeSet<Path> {
    let mut places = BTreeSet::new();
    for (number, field) in file["field"].as_object().unwrap() {
        let number = number.parse().unwrap();
        let layouts = field["layout"].as_array().map_or(&[][..], Vec::as_slice);
        if layouts.is_empty() {
            places.insert(Path::from(number));
        }
        for layout in layouts {
            let parts = layout["columns"].as_array().or(layout["tagged"]["parts"].as_array()).unwrap();
            places.extend(parts.iter().map(|part| Path::part(number, part["name"].as_str().unwrap())));
        }
    }
    places
}

/// The values by field: text, bytes as hexadecimal text, parts as pairs in their order.
fn values(spec: &Spec, message: &Message) -> Value {
    let mut values = json!({ "t": message.mti().as_str() });
    for path in message.paths() {
        let number = path.field.to_string();
        match &path.part {
            Some(name) => {
                if values.get(&number).is_none() {
                    values[&number] = json!([]);
                }
                let text = message.get(path.clone()).unwrap();
                values[&number].as_array_mut().unwrap().push(json!([&**name, text]));
            }
            None if spec.facts(&path).unwrap().kind == Kind::Bytes => {
                values[&number] = hex(message.get_bytes(path.field).unwrap()).into();
            }
            None => values[&number] = message.get(path).unwrap().into(),
        }
    }
    values
}

/// Sends lines to the other implementation, and returns its lines.
fn told(lines: &str) -> Vec<String> {
    let probe = "import iso8583; assert iso8583.__version__.startswith('4.')";
    let is_there =
        Command::new("python3").args(["-c", probe]).output().is_ok_and(|output| output.status.success());
    assert!(is_there, "python3 has no pyiso8583 of version 4; `cargo xtask test` installs what it needs");

    let script = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/other_implementation.py");
    let mut python = Command::new("python3")
        .arg(script)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // It reads all before it writes; if it stops early, what it said is more to the point than the broken pipe.
    let _ = python.stdin.take().unwrap().write_all(lines.as_bytes());
    let output = python.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect()
}

#[test]
fn another_implementation_reads_what_is_written_and_writes_what_is_read() {
    let files: serde_json::Map<String, Value> =
        SPECS.iter().map(|(name, text)| ((*name).to_owned(), toml::from_str(text).unwrap())).collect();
    let mut lines = format!("{}\n", Value::from(files.clone()));
    let mut sent = Vec::new();
    let mut choose = chooser();
    for (name, text) in SPECS {
        let spec = Spec::from_toml(text).unwrap();
        let mut never_sent = places(&files[name]);
        for index in 0..MESSAGES_OF_EACH {
            let mti = Mti::parse(TYPES[index % TYPES.len()]).unwrap();
            let message = spec.sample(mti, &mut choose);
            let mut bytes = Vec::new();
            spec.encode(&message, &mut bytes).unwrap();
            let line = json!({ "spec": name, "values": values(&spec, &message), "bytes": hex(&bytes) });
            writeln!(lines, "{line}").unwrap();
            for path in message.paths() {
                never_sent.remove(&path);
            }
            sent.push((name, message, bytes));
        }
        assert!(never_sent.is_empty(), "{name}: {never_sent:?}");
    }

    let answers = told(&lines);
    assert_eq!(answers.len(), sent.len());
    let specs = SPECS.map(|(name, text)| (name, Spec::from_toml(text).unwrap()));
    for ((name, message, bytes), answer) in sent.iter().zip(answers) {
        let (_, spec) = specs.iter().find(|(known, _)| known == name).unwrap();
        let theirs: Vec<u8> = (0..answer.len() / 2)
            .map(|index| u8::from_str_radix(&answer[index * 2..][..2], 16).unwrap())
            .collect();
        assert_eq!(spec.decode(&theirs).as_ref(), Ok(message), "{name}");
        assert_eq!(theirs, *bytes, "{name}");
    }
}
