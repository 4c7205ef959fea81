//! Development commands: `cargo xtask test`, `cargo xtask tidy`, `cargo xtask sim` and `cargo xtask ordeal`.
//!
//! `test` is the whole test run, on a machine that has nothing but Rust: it installs what is missing, and
//! stops at the first step that fails and names it. Its last lines are the summary of `cargo nextest`.
//!
//! Nothing here ships, and nothing here knows the product: what it needs to know of a crate it asks cargo.

mod packages;
mod steps;
mod tidy;

use anyhow::{Result, bail};
use std::{
    path::{Path, PathBuf},
    process::{Command, ExitCode},
};
use steps::Steps;

const USAGE: &str = "\
usage: cargo xtask <command>

  test   install what is missing, then check formatting, lints, documentation and every test
  tidy   check only the rules about the repository itself
  sim [--store sqlite] --seeds A..B | --seed N [--trace]
         simulate the whole gateway: see docs/internals/proof.md
  ordeal --cycles N [--seed N] [--logs FOLDER]
         real gateways, a bank and PostgreSQL under every fault, and their books: see the same
  with-database <command>
         run a command beside a throw-away PostgreSQL, which TEST_DATABASE_URL names";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let outcome = match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["test"] => test(),
        ["tidy"] => tidy(),
        ["sim", ref seeds @ ..] => simulate(seeds),
        ["ordeal", ref flags @ ..] if ordeal_variables(flags).is_some() => ordeal(flags),
        ["with-database", ref command @ ..] if !command.is_empty() => {
            steps::spawn(Command::new(ON_A_DATABASE[0]).args(&ON_A_DATABASE[1..]).args(command))
        }
        ["help" | "--help" | "-h"] => {
            eprintln!("{USAGE}");
            Ok(())
        }
        _ => {
            eprintln!("{USAGE}");
            return ExitCode::from(2);
        }
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Runs a command beside a throw-away PostgreSQL server that ends with it. Its database belongs to a role
/// with ordinary rights.
const ON_A_DATABASE: [&str; 8] =
    ["pg_virtualenv", "-t", "-o", "max_connections=300", "sh", "-c", AS_ORDINARY_ROLE, "sh"];
const AS_ORDINARY_ROLE: &str = "\
    psql --quiet --dbname postgres --command \"CREATE ROLE esamsat LOGIN PASSWORD 'test-only'\" \
        --command 'CREATE DATABASE esamsat OWNER esamsat' &&
    export TEST_DATABASE_URL=postgres://esamsat:test-only@$PGHOST:$PGPORT/esamsat && exec \"$@\"";

/// Everything that must hold before a change is taken.
fn test() -> Result<()> {
    let mut steps = Steps::new(repository(), 6);
    steps.run("packages", packages::install)?;
    steps.cargo("formatting", &["fmt", "--all", "--check"])?;
    steps.cargo("lints", &["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"])?;
    steps.run("tidy", |_| tidy())?;
    // Before the tests, so that their summary is the last thing said.
    steps.cargo("documentation tests", &["test", "--quiet", "--doc", "--workspace"])?;
    steps.last_cargo("tests", &ON_A_DATABASE, &["nextest", "run", "--workspace"])
}

/// Runs seeds of the simulation, optimised.
fn simulate(seeds: &[&str]) -> Result<()> {
    let run = ["run", "--release", "--quiet", "--package", "sim", "--"];
    steps::spawn(Command::new(steps::cargo()).args(run).args(seeds).current_dir(repository()))
}

/// The ordeal, optimised, for as many cycles as one likes.
fn ordeal(flags: &[&str]) -> Result<()> {
    let run =
        ["test", "--release", "--package", "esamsat", "--test", "binary", "--", "--nocapture", "--exact"];
    let test = "ordeal::whatever_befalls_processes_and_connections_three_books_agree";
    let mut command = Command::new(steps::cargo());
    steps::spawn(
        command
            .args(run)
            .arg(test)
            .envs(ordeal_variables(flags).into_iter().flatten())
            .current_dir(repository()),
    )
}

/// What the test reads instead of flags; none without a number of cycles.
fn ordeal_variables(flags: &[&str]) -> Option<Vec<(&'static str, PathBuf)>> {
    let (pairs, rest) = flags.as_chunks();
    let variable = |[name, value]: &[&str; 2]| match *name {
        "--cycles" => Some(("ORDEAL_CYCLES", value.into())),
        "--seed" => Some(("ORDEAL_SEED", value.into())),
        // The test runs in another folder.
        "--logs" => Some(("ORDEAL_LOGS", std::path::absolute(value).ok()?)),
        _ => None,
    };
    let variables: Option<Vec<_>> = pairs.iter().map(variable).collect();
    variables.filter(|known| rest.is_empty() && known.iter().any(|(name, _)| *name == "ORDEAL_CYCLES"))
}

/// The rules about the repository itself.
fn tidy() -> Result<()> {
    let repository = repository();
    let mut count = 0_usize;
    for (rule, check) in tidy::RULES {
        for finding in check(&repository)? {
            eprintln!("{rule}: {finding}");
            count += 1;
        }
    }
    if count > 0 {
        bail!("the repository is not tidy: {count} finding(s)");
    }
    Ok(())
}

/// The root of the repository that this binary was built in.
fn repository() -> PathBuf {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
    manifest.parent().expect("the crate lies one folder below the root").to_owned()
}
