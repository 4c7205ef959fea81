//! The steps of a long run: announced, timed, and stopped at the first failure.
//!
//! What a step prints goes straight to the terminal; nothing is collected or filtered.

use anyhow::{Context, Result, bail};
use std::{
    ffi::OsString,
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

/// Runs steps one after another in one repository.
pub(crate) struct Steps {
    repository: PathBuf,
    /// The search path of the programs that steps run, if it is not our own.
    path: Option<OsString>,
    total: usize,
    done: Vec<(&'static str, Duration)>,
}

impl Steps {
    /// A run of `total` steps.
    pub(crate) fn new(repository: PathBuf, total: usize) -> Self {
        Self { repository, path: None, total, done: Vec::new() }
    }

    /// The repository's root.
    pub(crate) fn repository(&self) -> &Path {
        &self.repository
    }

    /// Makes the programs in a folder found first, from here on.
    pub(crate) fn prefer(&mut self, folder: PathBuf) -> Result<()> {
        let ours = std::env::var_os("PATH").unwrap_or_default();
        let folders = std::iter::once(folder).chain(std::env::split_paths(&ours));
        self.path = Some(std::env::join_paths(folders).context("failed to extend PATH")?);
        Ok(())
    }

    /// One step.
    pub(crate) fn run(
        &mut self,
        name: &'static str,
        step: impl FnOnce(&mut Self) -> Result<()>,
    ) -> Result<()> {
        eprintln!("\n== {}/{} {name}", self.done.len() + 1, self.total);
        let started_at = now();
        step(self).with_context(|| format!("failed at the step `{name}`"))?;
        let duration = now() - started_at;
        eprintln!("== {name}: passed in {:.1} s", duration.as_secs_f64());
        self.done.push((name, duration));
        Ok(())
    }

    /// One step that is a cargo command.
    pub(crate) fn cargo(&mut self, name: &'static str, arguments: &[&str]) -> Result<()> {
        self.run(name, |steps| steps.spawn_cargo(arguments))
    }

    /// The last step, a cargo command that has the last word: the durations of the others come before it. It
    /// runs as what `wrapper` says, with the command behind that.
    pub(crate) fn last_cargo(
        &mut self,
        name: &'static str,
        wrapper: &[&str],
        arguments: &[&str],
    ) -> Result<()> {
        eprintln!();
        for (name, duration) in &self.done {
            eprintln!("{:>8.1} s  {name}", duration.as_secs_f64());
        }
        eprintln!("\n== {}/{} {name}", self.done.len() + 1, self.total);
        self.spawn_wrapped(wrapper, arguments).with_context(|| format!("failed at the step `{name}`"))
    }

    fn spawn_cargo(&self, arguments: &[&str]) -> Result<()> {
        self.spawn_wrapped(&[], arguments)
    }

    fn spawn_wrapped(&self, wrapper: &[&str], arguments: &[&str]) -> Result<()> {
        let mut command = match wrapper.split_first() {
            Some((program, before)) => {
                let mut command = Command::new(program);
                command.args(before).arg(cargo());
                command
            }
            None => Command::new(cargo()),
        };
        command.args(arguments).current_dir(&self.repository);
        if let Some(path) = &self.path {
            command.env("PATH", path);
        }
        spawn(&mut command)
    }
}

/// The cargo that runs us, so that all steps use one toolchain.
pub(crate) fn cargo() -> OsString {
    std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into())
}

/// Runs a command to its end; anything but success is an error that shows the command.
pub(crate) fn spawn(command: &mut Command) -> Result<()> {
    let shown = shown(command);
    let status = command.status().with_context(|| format!("failed to start `{shown}`"))?;
    if !status.success() {
        bail!("`{shown}`: {status}");
    }
    Ok(())
}

/// `cargo fmt --all --check`.
fn shown(command: &Command) -> String {
    let program = Path::new(command.get_program());
    let name = program.file_name().unwrap_or(program.as_os_str());
    let words = std::iter::once(name).chain(command.get_args());
    words.map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ")
}

#[expect(clippy::disallowed_methods, reason = "how long a developer waited; nothing is decided on it")]
fn now() -> Instant {
    Instant::now()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failing_step_is_named_with_its_command() {
        let mut steps = Steps::new(PathBuf::from("."), 1);
        let step = |_: &mut Steps| spawn(Command::new("/bin/false").arg("--check"));
        let error = steps.run("formatting", step).unwrap_err();
        assert_eq!(format!("{error:#}"), "failed at the step `formatting`: `false --check`: exit status: 1");
        assert!(steps.done.is_empty());
    }
}
