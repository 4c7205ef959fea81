//! The rules about the repository itself, as checks that return what breaks them.
//!
//! They keep true what no compiler looks at: which crate may know which, that a module says what it is
//! for, that no source file is left lying unused, that nothing of one developer's machine gets in, that
//! the two commands everybody starts with stay the ones that are tested, and that the tests that are said
//! to cause a fault are there. They read text line by line
//! and parse no Rust: style is for rustfmt and clippy.

use crate::steps::cargo;
use anyhow::{Context, Result, bail};
use serde_json::Value;
use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    process::Command,
};

type Check = fn(&Path) -> Result<Vec<String>>;

/// Every rule, by name.
pub(crate) const RULES: [(&str, Check); 7] = [
    ("arrows", arrows),
    ("lints", lints),
    ("modules", modules),
    ("machine", machine),
    ("registry", registry),
    ("commands", commands),
    ("faults", faults),
];

/// Which crate of the workspace may know which others. A new crate needs a line here, and a reason.
const ARROWS: [(&str, &[&str]); 13] = [
    ("domain", &[]),
    ("store", &["domain"]),
    ("store-sqlite", &["store", "domain"]),
    ("store-postgres", &["store", "domain"]),
    ("iso8583", &[]),
    ("bank", &["domain", "iso8583"]),
    ("engine", &["domain", "store", "bank"]),
    ("web", &["engine", "domain"]),
    ("esamsat", &["domain", "store", "store-sqlite", "store-postgres", "bank", "engine", "web"]),
    ("sim", &["domain", "store", "store-sqlite", "lossy-vfs", "bank", "engine"]),
    ("test-certificates", &[]),
    ("lossy-vfs", &[]),
    ("xtask", &[]),
];

/// The one crate with lints of its own: it hands files to `SQLite`, in C, and is a dependency of tests only.
const OWN_LINTS: &str = "lossy-vfs";

/// The commands that the README opens with: to see it run, and to test it.
const README_COMMANDS: [&str; 2] = ["cargo run --release -- demo", TEST_COMMAND];
const TEST_COMMAND: &str = "cargo xtask test";

/// Folders that belong to one machine only; the checkout's own is another.
const MACHINE_FOLDERS: [&str; 2] = ["/root/", "/home/"];

/// Words that send cargo or pip to another registry than everybody's.
const REGISTRY_WORDS: [&str; 6] =
    ["replace-with", "[source.", "[registries", "CARGO_REGISTRIES_", "sparse+", "index-url"];

/// Where every locked package comes from.
const CRATES_IO: &str = "registry+https://github.com/rust-lang/crates.io-index";

/// Where each fault has the tests that cause it, as `crate/file.rs::test`.
const FAULTS: &str = "docs/internals/faults.md";

/// This file spells out what it looks for.
const OWN_SOURCE: &str = "xtask/src/tidy.rs";

/// A workspace crate as cargo sees it.
struct Package {
    name: String,
    folder: PathBuf,
    /// The crate roots: libraries, binaries, tests, examples, build scripts.
    roots: Vec<PathBuf>,
    /// What it needs to be built. What only its tests need is free: a test may stand on anything.
    dependencies: Vec<String>,
}

fn packages(repository: &Path) -> Result<Vec<Package>> {
    let output = Command::new(cargo())
        .args(["metadata", "--no-deps", "--format-version", "1"])
        .current_dir(repository)
        .output()
        .context("failed to start `cargo metadata`")?;
    if !output.status.success() {
        bail!("`cargo metadata`: {}", String::from_utf8_lossy(&output.stderr));
    }
    let metadata: Value =
        serde_json::from_slice(&output.stdout).context("failed to read `cargo metadata`")?;
    list(&metadata["packages"]).iter().map(package).collect()
}

fn package(package: &Value) -> Result<Package> {
    let manifest = PathBuf::from(text(&package["manifest_path"]));
    Ok(Package {
        name: text(&package["name"]).to_owned(),
        folder: manifest.parent().context("a manifest lies in a folder")?.to_owned(),
        roots: list(&package["targets"]).iter().map(|target| text(&target["src_path"]).into()).collect(),
        dependencies: list(&package["dependencies"])
            .iter()
            .filter(|dependency| text(&dependency["kind"]) != "dev")
            .map(|dependency| text(&dependency["name"]).to_owned())
            .collect(),
    })
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

/// A crate knows only those that its arrows point to.
fn arrows(repository: &Path) -> Result<Vec<String>> {
    let known: BTreeMap<_, _> = ARROWS.into_iter().collect();
    let mut findings = Vec::new();
    for package in packages(repository)? {
        let Some(allowed) = known.get(package.name.as_str()) else {
            findings.push(format!("the crate {} has no line in the table of arrows", package.name));
            continue;
        };
        for dependency in &package.dependencies {
            if known.contains_key(dependency.as_str()) && !allowed.contains(&dependency.as_str()) {
                findings.push(format!("{} may not know {dependency}", package.name));
            }
        }
    }
    Ok(findings)
}

/// Every crate takes the workspace's lints, which forbid `unsafe`, but for the one that needs it; and nothing that
/// ships needs that one.
fn lints(repository: &Path) -> Result<Vec<String>> {
    let mut findings = Vec::new();
    for package in packages(repository)? {
        let manifest = package.folder.join("Cargo.toml");
        let manifest = fs::read_to_string(&manifest)
            .with_context(|| format!("failed to read {}", manifest.display()))?;
        if package.name != OWN_LINTS && !manifest.contains("[lints]\nworkspace = true") {
            findings.push(format!("{} does not take the workspace's lints", package.name));
        }
        if package.name != "sim" && package.dependencies.iter().any(|dependency| dependency == OWN_LINTS) {
            findings.push(format!("{} needs {OWN_LINTS}, which is for tests", package.name));
        }
    }
    Ok(findings)
}

/// Every source file belongs to a crate and opens with what it is for.
fn modules(repository: &Path) -> Result<Vec<String>> {
    let mut findings = Vec::new();
    for package in packages(repository)? {
        let mut reached = BTreeSet::new();
        for root in &package.roots {
            reach(root, true, &mut reached)?;
        }
        for path in files(&package.folder)? {
            if path.extension().is_none_or(|extension| extension != "rs") {
                continue;
            }
            let shown = relative(repository, &path);
            if !reached.contains(&path) && is_of(&package.folder, &path) {
                findings.push(format!("{shown} is reached by no `mod`"));
            }
            let source = fs::read_to_string(&path).with_context(|| format!("failed to read {shown}"))?;
            if !source.trim_start().starts_with("//!") {
                findings.push(format!("{shown} does not open with `//!`"));
            }
        }
    }
    Ok(findings)
}

/// Whether a file is part of the crate in a folder, and not of a workspace of its own inside it, as fuzz targets are.
fn is_of(folder: &Path, path: &Path) -> bool {
    path.ancestors().find(|above| above.join("Cargo.toml").is_file()) == Some(folder)
}

/// Adds a source file and those that its `mod` lines name. A `mod` that names nothing is the compiler's
/// to report.
fn reach(path: &Path, is_root: bool, reached: &mut BTreeSet<PathBuf>) -> Result<()> {
    if !reached.insert(path.to_owned()) {
        return Ok(());
    }
    let source = fs::read_to_string(path).with_context(|| format!("failed to read {}", path.display()))?;
    let folder = path.parent().context("a source file lies in a folder")?;
    let owns_folder = is_root || path.file_name().is_some_and(|name| name == "mod.rs");
    let folder = if owns_folder { folder.to_owned() } else { path.with_extension("") };
    for name in source.lines().filter_map(declared_module) {
        let candidates = [folder.join(format!("{name}.rs")), folder.join(name).join("mod.rs")];
        for candidate in candidates.iter().filter(|candidate| candidate.is_file()) {
            reach(candidate, false, reached)?;
        }
    }
    Ok(())
}

/// `decide`, of `pub(crate) mod decide;`.
fn declared_module(line: &str) -> Option<&str> {
    let mut line = line.trim();
    while line.starts_with("#[") {
        line = line.split_once(']')?.1.trim_start();
    }
    if let Some(rest) = line.strip_prefix("pub") {
        let rest = rest.trim_start();
        line = if rest.starts_with('(') { rest.split_once(')')?.1 } else { rest };
    }
    let name = line.trim_start().strip_prefix("mod ")?.split(';').next()?.trim();
    line.contains(';').then_some(name).filter(|name| !name.contains([' ', '{']))
}

/// Nothing names a folder of somebody's machine.
fn machine(repository: &Path) -> Result<Vec<String>> {
    let mut findings = Vec::new();
    let checkout = format!("{}/", repository.canonicalize()?.display());
    each_line(repository, |shown, number, line| {
        let mut folders = MACHINE_FOLDERS.iter().copied().chain([checkout.as_str()]);
        if folders.any(|folder| names_folder(line, folder)) {
            findings.push(format!("{shown}:{number} names a folder of one machine"));
        }
    })?;
    Ok(findings)
}

/// Whether the folder stands there as the beginning of a path, and not inside one.
fn names_folder(line: &str, folder: &str) -> bool {
    line.match_indices(folder).any(|(start, _)| {
        let before = line[..start].chars().next_back();
        before.is_none_or(|char| !char.is_alphanumeric() && !"._-~$}*".contains(char))
    })
}

/// Packages come from the registries that everybody uses.
fn registry(repository: &Path) -> Result<Vec<String>> {
    let mut findings = Vec::new();
    each_line(repository, |shown, number, line| {
        if let Some(word) = REGISTRY_WORDS.iter().find(|word| line.contains(**word)) {
            findings.push(format!("{shown}:{number} sets a registry: {word}"));
        }
        let source = line.strip_prefix("source = ").filter(|_| shown == "Cargo.lock");
        if source.is_some_and(|source| source.trim_matches('"') != CRATES_IO) {
            findings.push(format!("{shown}:{number} locks a package that is not from crates.io"));
        }
    })?;
    Ok(findings)
}

/// The README's commands stand in it, and the integration run uses the very one that it tells people.
fn commands(repository: &Path) -> Result<Vec<String>> {
    let read =
        |name| fs::read_to_string(repository.join(name)).with_context(|| format!("failed to read {name}"));
    let readme = read("README.md")?;
    let mut findings = Vec::new();
    for command in README_COMMANDS {
        if !has_command(&readme, command) {
            findings.push(format!("README.md lacks the command `{command}`"));
        }
    }
    if !has_command(&read(".ci/run")?, TEST_COMMAND) {
        findings.push(format!(".ci/run does not run `{TEST_COMMAND}`"));
    }
    Ok(findings)
}

/// Whether a line is the command, perhaps behind a prompt, `exec`, or before a comment.
fn has_command(text: &str, command: &str) -> bool {
    text.lines().any(|line| {
        let line = line.split(" #").next().unwrap_or_default().trim();
        line.trim_start_matches("$ ").trim_start_matches("exec ") == command
    })
}

/// The tests that the table of faults names are there, as functions or as lines of a macro that makes them.
fn faults(repository: &Path) -> Result<Vec<String>> {
    let table =
        fs::read_to_string(repository.join(FAULTS)).with_context(|| format!("failed to read {FAULTS}"))?;
    let named = table.split('`').skip(1).step_by(2).filter_map(|quoted| quoted.split_once(".rs::"));
    let mut findings = Vec::new();
    for (file, test) in named {
        let source = fs::read_to_string(repository.join("crates").join(format!("{file}.rs")));
        let declared = [format!("fn {test}("), format!("    {test} ")];
        if !source.is_ok_and(|source| declared.iter().any(|declared| source.contains(declared))) {
            findings.push(format!("{FAULTS} names {file}.rs::{test}, which is not there"));
        }
    }
    Ok(findings)
}

/// Calls `look` with the shown path, the number and the text of every line of every text file.
fn each_line(repository: &Path, mut look: impl FnMut(&str, usize, &str)) -> Result<()> {
    for path in files(repository)? {
        let shown = relative(repository, &path);
        let bytes = fs::read(&path).with_context(|| format!("failed to read {shown}"))?;
        let Ok(text) = String::from_utf8(bytes) else { continue };
        if shown != OWN_SOURCE {
            text.lines().enumerate().for_each(|(index, line)| look(&shown, index + 1, line));
        }
    }
    Ok(())
}

/// The files under a folder, in order, without what is built, generated or some tool's own.
fn files(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        let entries =
            fs::read_dir(&folder).with_context(|| format!("failed to list {}", folder.display()))?;
        for entry in entries {
            let entry = entry?;
            let name = entry.file_name();
            let name = name.to_string_lossy();
            if entry.file_type()?.is_dir() {
                let hidden = name.starts_with('.') && ![".cargo", ".ci", ".config"].contains(&&*name);
                if !hidden && !["target", "esamsat-demo", "__pycache__", "corpus"].contains(&&*name) {
                    folders.push(entry.path());
                }
            } else if !name.contains(".sqlite") {
                found.push(entry.path());
            }
        }
    }
    found.sort();
    Ok(found)
}

fn relative(repository: &Path, path: &Path) -> String {
    path.strip_prefix(repository).unwrap_or(path).display().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn assert_tidy(rule: Check) {
        let findings = rule(&crate::repository()).unwrap();
        assert!(findings.is_empty(), "{}", findings.join("\n"));
    }

    #[test]
    fn crates_know_only_those_their_arrows_point_to() {
        assert_tidy(arrows);
    }

    #[test]
    fn one_crate_has_lints_of_its_own_and_does_not_ship() {
        assert_tidy(lints);
    }

    #[test]
    fn every_source_file_is_used_and_says_what_it_is_for() {
        assert_tidy(modules);
    }

    #[test]
    fn nothing_names_a_folder_of_one_machine() {
        assert_tidy(machine);
    }

    #[test]
    fn packages_come_from_the_public_registry() {
        assert_tidy(registry);
    }

    #[test]
    fn the_commands_of_the_readme_are_the_tested_ones() {
        assert_tidy(commands);
    }

    #[test]
    fn the_tests_that_the_table_of_faults_names_are_there() {
        assert_tidy(faults);
    }

    #[test]
    fn module_declarations_are_recognised() {
        for (line, name) in [
            ("mod begin;", Some("begin")),
            ("    pub(crate) mod settle; // why", Some("settle")),
            ("#[cfg(test)] mod tests;", Some("tests")),
            ("pub mod model;", Some("model")),
            ("mod tests {", None),
            ("mod tests { use super::*; }", None),
            ("// mod begin;", None),
            ("let module = 1;", None),
        ] {
            assert_eq!(declared_module(line), name, "{line}");
        }
    }

    #[test]
    fn folders_of_a_machine_are_recognised_where_a_path_begins() {
        for (line, is_named) in [
            ("see /root/notes", true),
            ("\"/home/somebody/file\"", true),
            ("file:///home/somebody", true),
            ("~/home/notes", false),
            ("src/home/mod.rs", false),
            ("$HOME/home/notes", false),
            ("/homework/", false),
        ] {
            assert_eq!(MACHINE_FOLDERS.iter().any(|folder| names_folder(line, folder)), is_named, "{line}");
        }
    }

    #[test]
    fn commands_are_recognised_as_whole_lines() {
        assert!(has_command("```sh\n$ cargo xtask test   # everything\n```", TEST_COMMAND));
        assert!(has_command("exec cargo xtask test", TEST_COMMAND));
        assert!(!has_command("run `cargo xtask test` first", TEST_COMMAND));
        assert!(!has_command("cargo xtask tests", TEST_COMMAND));
    }
}
