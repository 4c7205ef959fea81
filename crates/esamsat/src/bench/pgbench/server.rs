//! The `PostgreSQL` server, and the programs that talk to it.
//!
//! A password is taken out of the address and handed to children in their environment: on a command line everybody
//! on the machine could read it. No message repeats an address that could not be read, for the same reason.

use super::SCHEMA;
use crate::{bench::progress::Progress, output::Fault};
use anyhow::{Context, bail};
use domain::Secret;
use std::{
    env,
    ffi::OsString,
    fs, io,
    path::{Path, PathBuf},
    pin::pin,
    process::{Output, Stdio},
};
use tokio::{
    process::Command,
    time::{Instant, interval},
};

/// Where Debian puts each version's programs.
const VERSIONS: &str = "/usr/lib/postgresql";

const CONNECT_WITHIN_S: &str = "10";

/// A server's address, and what to ask it with.
pub(super) struct Server {
    /// Without the password; none if the environment alone says it.
    pub(super) url: Option<String>,
    password: Option<Secret>,
    pgbench: PathBuf,
    psql: PathBuf,
}

impl Server {
    /// At this address, or where the environment says.
    pub(super) fn new(url: Option<&str>) -> Result<Self, String> {
        let (url, password) = match url {
            Some(url) => split_password(url).map(|(url, password)| (Some(url), password))?,
            None => (None, None),
        };
        Ok(Self { url, password, pgbench: program("pgbench"), psql: program("psql") })
    }

    /// pgbench with its tables in the schema of its own; all flags are still to come.
    pub(super) fn pgbench(&self) -> Command {
        self.command(&self.pgbench)
    }

    /// Runs SQL, and returns the one row that it answers: cells with `|` between them.
    pub(super) async fn query(&self, sql: &str) -> anyhow::Result<String> {
        let mut command = self.command(&self.psql);
        // -w: nobody is there to type a password.
        command.args(["-w", "-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-c", sql]).args(&self.url);
        Ok(printed(command.output().await)?.trim().to_owned())
    }

    /// Runs one of the programs to its end, and returns what it printed.
    pub(super) async fn run(
        &self,
        mut command: Command,
        name: &str,
        progress: &Progress,
    ) -> anyhow::Result<String> {
        command.args(&self.url);
        let begin = Instant::now();
        progress.begin(name);
        let mut running = pin!(command.output());
        let mut ticks = interval(progress.interval());
        let ended = loop {
            tokio::select! {
                ended = &mut running => break ended,
                _ = ticks.tick() => progress.show_time(begin.elapsed()),
            }
        };
        progress.end();
        printed(ended)
    }

    fn command(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        let mut options = env::var_os("PGOPTIONS").unwrap_or_default();
        options.push(format!(" -csearch_path={SCHEMA}"));
        command
            .stdin(Stdio::null())
            .kill_on_drop(true)
            // What they print is read, so that it must not be in somebody's language.
            .env("LC_ALL", "C")
            .env("PGAPPNAME", "esamsat bench")
            .env("PGOPTIONS", options);
        if env::var_os("PGCONNECT_TIMEOUT").is_none() {
            command.env("PGCONNECT_TIMEOUT", CONNECT_WITHIN_S);
        }
        if let Some(password) = &self.password {
            command.env("PGPASSWORD", password.expose());
        }
        command
    }
}

/// What a program printed, if it did what it should.
fn printed(ended: io::Result<Output>) -> anyhow::Result<String> {
    let ended = ended.map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => not_installed().into(),
        _ => anyhow::Error::new(error).context("failed to start one of PostgreSQL's programs"),
    })?;
    if !ended.status.success() {
        bail!(explain(&String::from_utf8_lossy(&ended.stderr)));
    }
    String::from_utf8(ended.stdout).context("failed to read the output of one of PostgreSQL's programs")
}

/// Takes the password out of an address.
fn split_password(url: &str) -> Result<(String, Option<Secret>), String> {
    let wrong =
        |what: &str| format!("--pgbench-url {what}; write for example postgres://user@localhost/esamsat");
    let scheme = ["postgres://", "postgresql://"].into_iter().find(|scheme| url.starts_with(scheme));
    let scheme = scheme.ok_or_else(|| wrong("must begin with postgres://"))?;
    let (user, rest) = match url[scheme.len()..].split_once('@') {
        Some((user, rest)) => (Some(user), rest),
        None => (None, &url[scheme.len()..]),
    };
    // Such characters in a password would cut it in two, and one half would be shown.
    if rest.contains('@') || user.is_some_and(|user| user.contains('/')) {
        return Err(wrong("has an @ or a / in its password; write %40 or %2F"));
    }
    let names = rest.split_once('?').map_or("", |(_, parameters)| parameters).split('&');
    for name in names.map(|parameter| parameter.split('=').next().unwrap_or_default()) {
        match decoded(name).as_deref() {
            Some("password" | "sslpassword") => return Err(wrong("has a password behind its ?")),
            Some("options") => return Err(wrong("has options, which belong into PGOPTIONS")),
            Some(_) => {}
            None => return Err(wrong("is encoded in a wrong way")),
        }
    }
    let Some((user, password)) = user.and_then(|user| user.split_once(':')) else {
        return Ok((url.to_owned(), None));
    };
    let password = decoded(password).ok_or_else(|| wrong("has a password that is encoded in a wrong way"))?;
    Ok((format!("{scheme}{user}@{rest}"), Some(Secret::new(password))))
}

/// `%40` is an `@`.
fn decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, behind @ ..] = rest {
        rest = behind;
        if *first == b'%' {
            let (digits, behind) = rest.split_at_checked(2)?;
            let digits = str::from_utf8(digits).ok().filter(|digits| !digits.starts_with('+'))?;
            bytes.push(u8::from_str_radix(digits, 16).ok()?);
            rest = behind;
        } else {
            bytes.push(*first);
        }
    }
    String::from_utf8(bytes).ok()
}

/// From the PATH, or else the newest that Debian has; if there is none, its name, which will not be found.
fn program(name: &str) -> PathBuf {
    let path = env::var_os("PATH").unwrap_or_default();
    let in_path = env::split_paths(&path).map(|folder| folder.join(name)).find(|file| file.is_file());
    in_path.or_else(|| newest(name)).unwrap_or_else(|| name.into())
}

fn newest(name: &str) -> Option<PathBuf> {
    let versions = fs::read_dir(VERSIONS).ok()?.filter_map(|entry| Some(entry.ok()?.file_name()));
    let mut versions: Vec<OsString> = versions.collect();
    versions.sort_by_key(|version| version.to_string_lossy().parse::<u32>().unwrap_or(0));
    let files = versions.iter().rev().map(|version| Path::new(VERSIONS).join(version).join("bin").join(name));
    files.into_iter().find(|file| file.is_file())
}

fn not_installed() -> Fault {
    Fault::Unavailable(
        "pgbench and psql were not found; on Debian, the package postgresql brings them (in old releases, \
         postgresql-contrib)"
            .to_owned(),
    )
}

/// What went wrong, and what can be done about it.
fn explain(stderr: &str) -> Fault {
    // Debian's wrapper is there without what it wraps.
    if stderr.contains("You must install") {
        return not_installed();
    }
    let is_error = |line: &&str| ["error:", "ERROR:", "FATAL:"].iter().any(|word| line.contains(word));
    let error = stderr.lines().find(is_error).or_else(|| stderr.lines().last()).unwrap_or("it says nothing");
    let error = error.trim().trim_start_matches("pgbench: ").trim_start_matches("psql: ");
    let error = error.trim_start_matches("error: ");
    let told = |advice: &str| format!("PostgreSQL's benchmark failed: {error}; {advice}");
    for (words, advice) in [
        ("password", "give the password in PGPASSWORD, or in ~/.pgpass"),
        ("too many clients", "raise max_connections, or give fewer --pgbench-clients"),
        ("remaining connection slots", "raise max_connections, or give fewer --pgbench-clients"),
        ("does not exist", "name a role and a database that are there, with --pgbench-url"),
        ("connection to server", "name the server with --pgbench-url, or with PGHOST and PGPORT"),
        ("could not translate host name", "name the server with --pgbench-url, or with PGHOST and PGPORT"),
    ] {
        if error.contains(words) {
            return Fault::Unavailable(told(advice));
        }
    }
    Fault::Refused(told(if error.contains("permission denied") {
        "the role must be allowed to make a schema: GRANT CREATE ON DATABASE … TO …"
    } else if error.contains("No space left") {
        "free some space, or choose a smaller --pgbench-scale"
    } else {
        "PostgreSQL's log may say more"
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_taken_out_of_the_address() {
        for (url, stripped, password) in [
            ("postgres://localhost/esamsat", "postgres://localhost/esamsat", None),
            ("postgres://siti@localhost/esamsat", "postgres://siti@localhost/esamsat", None),
            ("postgresql://siti:rahasia@db:5433/x", "postgresql://siti@db:5433/x", Some("rahasia")),
            ("postgres://siti:p%40%2Fss:1@/x?host=/run", "postgres://siti@/x?host=/run", Some("p@/ss:1")),
            ("postgres://:rahasia@db", "postgres://@db", Some("rahasia")),
        ] {
            let (read, secret) = split_password(url).unwrap();
            assert_eq!((&*read, secret.as_ref().map(Secret::expose)), (stripped, password), "{url}");
        }
    }

    #[test]
    fn an_address_that_would_show_its_password_is_refused_unshown() {
        for url in [
            "siti:rahasia@localhost",
            "http://siti:rahasia@localhost",
            "host=localhost password=rahasia",
            "postgres://siti:rah@sia@localhost/x",
            "postgres://siti:/rahasia@localhost/x",
            "postgres://siti:rahasia%4@localhost/x",
            "postgres://siti:rahasia%+1@localhost/x",
            "postgres://localhost/x?user=siti&password=rahasia",
            "postgres://localhost/x?p%61ssword=rahasia",
            "postgres://localhost/x?options=-csearch_path%3Dpublic",
        ] {
            let refused = split_password(url).unwrap_err();
            assert!(!refused.contains("rah") && refused.contains("postgres://user@"), "{url}: {refused}");
        }
    }

    #[test]
    fn errors_say_what_to_do() {
        for (stderr, words) in [
            (
                "pgbench (15.1)\nstarting vacuum...end.\npgbench: error: connection to server at \"localhost\", \
                 port 5432 failed: FATAL:  sorry, too many clients already\npgbench: error: could not create \
                 connection for client 100\n",
                "fewer --pgbench-clients",
            ),
            ("psql: error: connection to server failed: fe_sendauth: no password supplied\n", "PGPASSWORD"),
            (
                "psql: error: connection to server at \"127.0.0.1\", port 1 failed: Connection refused\n\tIs the \
                 server running on that host?\n",
                "name the server with --pgbench-url",
            ),
            ("ERROR:  permission denied for database x\n", "GRANT CREATE ON DATABASE"),
            (
                "Error: You must install at least one postgresql-client-<version> package\n",
                "package postgresql",
            ),
            ("", "PostgreSQL's log"),
        ] {
            let told = explain(stderr).to_string();
            assert!(told.contains(words) && told.lines().count() == 1, "{told}");
        }
    }
}
