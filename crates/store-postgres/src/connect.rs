//! Connections: where the server is, how it is proved to be the right one, and how a session is set up.
//!
//! Every wait has an end: for a connection, for a lock, for a statement, for a client that fell silent
//! inside a transaction. A server that was found away is left alone for a moment ([`Gate`]), so that whoever
//! asks meanwhile is refused at once, and its return is not met by a storm.

use crate::{
    failure::{Failure, explain},
    statements::Statements,
};
use futures::future::poll_fn;
use rustls::{ClientConfig, RootCertStore, pki_types::CertificateDer, pki_types::pem::PemObject};
use std::{
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};
use tokio::{
    sync::{Semaphore, SemaphorePermit},
    time::{Instant, timeout},
};
use tokio_postgres::{
    AsyncMessage, Client, Config, Connection, NoTls, Socket,
    config::{Host, SslMode, TargetSessionAttrs},
    tls::TlsStream,
};
use tokio_postgres_rustls::MakeRustlsConnect;

/// How long a connection may take to be made, over all hosts.
const CONNECT_WITHIN: Duration = Duration::from_secs(4);

/// How long a server that was away is left alone, at first and at most.
const AWAY_FIRST: Duration = Duration::from_millis(200);
const AWAY_MAX: Duration = Duration::from_secs(2);

/// What the server is told about time: a client that was stopped inside a transaction loses it, before those
/// who wait for its locks give up.
const LIMITS: &str = "SET statement_timeout = 5000; SET lock_timeout = 3000; \
     SET idle_in_transaction_session_timeout = 2000; SET client_min_messages = warning; SET jit = off; \
     SELECT set_config('synchronous_commit', 'on', false) \
     WHERE current_setting('synchronous_commit') NOT IN ('on', 'remote_apply');";

/// The statements of every payment keep one plan, the one by index, whatever was in the tables when they were
/// first planned.
const STABLE_PLANS: &str = "SET plan_cache_mode = force_generic_plan; SET enable_seqscan = off; \
     SET enable_hashjoin = off; SET enable_mergejoin = off; SET enable_bitmapscan = off; \
     SET enable_material = off; SET max_parallel_workers_per_gather = 0;";

/// Why a database was not opened. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The address makes no sense.
    #[error("the database address {0}")]
    Address(String),
    /// The server's certificates cannot be read.
    #[error("failed to read the certificates {}: {reason}", path.display())]
    Certificates {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// The server is away, or refused the log-in.
    #[error("failed to reach the database: {0}; check its address, that it runs, and the password")]
    Away(String),
    /// There are no tables yet.
    #[error("the database has no esamsat tables yet; create them with `esamsat migrate`")]
    NotFound,
    /// Written by a version that is too new.
    #[error("the database has schema {found}, this esamsat knows {known}; run a newer version")]
    Newer {
        /// Its schema.
        found: i32,
        /// The latest schema that this version knows.
        known: i32,
    },
    /// A copy into it was begun and not finished.
    #[error(
        "the database holds an unfinished copy of {source_path}; finish it by the same `esamsat copy`, or name \
         another database"
    )]
    Unfinished {
        /// What was to be copied, in words.
        source_path: String,
    },
    /// Written by an older version.
    #[error("the database has schema {found}, this esamsat needs {known}; run `esamsat migrate`")]
    Pending {
        /// Its schema.
        found: i32,
        /// The schema that this version needs.
        known: i32,
    },
}

impl From<Failure> for OpenError {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Away(what) => Self::Away(what),
            other => Self::Away(store::Error::from(other).to_string()),
        }
    }
}

/// Where the database is. The password is shown nowhere.
#[derive(Clone)]
pub struct Address {
    config: Config,
    tls: Option<MakeRustlsConnect>,
}

impl Address {
    /// Reads `postgres://user[:password]@host[:port][,host…]/database[?parameters]`.
    ///
    /// `sslmode` is `verify-full` (the same as `require` here: the certificate and the name are always
    /// checked) or `disable`; without it, connections to this machine are plain and all others verified.
    /// `sslrootcert` names a file of certificates to trust instead of the system's. The password may come
    /// from elsewhere.
    pub fn parse(url: &str, password: Option<&str>) -> Result<Self, OpenError> {
        let wrong = |what: &str| OpenError::Address(what.to_owned());
        let (base, query) = url.split_once('?').unwrap_or((url, ""));
        let (mut mode, mut roots, mut rest) = (None, None, Vec::new());
        for parameter in query.split('&').filter(|parameter| !parameter.is_empty()) {
            match parameter.split_once('=') {
                Some(("sslmode", value)) => mode = Some(value.to_owned()),
                Some(("sslrootcert", value)) => roots = Some(PathBuf::from(value)),
                _ => rest.push(parameter),
            }
        }
        let rest = if rest.is_empty() { String::new() } else { format!("?{}", rest.join("&")) };
        // The parser's own words may quote the address, and the address may hold the password.
        let parsed = format!("{base}{rest}").parse::<Config>();
        let mut config = parsed.map_err(|_| {
            wrong("is not of the form postgres://user@host:5432/database (special characters as %XX)")
        })?;
        if config.get_hosts().is_empty() {
            return Err(wrong("names no host"));
        }
        if let Some(password) = password {
            config.password(password);
        }
        let is_verified = match mode.as_deref() {
            Some("disable") => false,
            Some("verify-full" | "require") => true,
            None => !config.get_hosts().iter().all(is_this_machine),
            Some(other) => {
                return Err(OpenError::Address(format!(
                    "asks for sslmode={other}; choose verify-full, or disable"
                )));
            }
        };
        let is_named = config.get_application_name().is_some()
            || config.get_options().is_some_and(|options| options.contains("application_name"));
        if !is_named {
            config.application_name("esamsat");
        }
        config.connect_timeout(CONNECT_WITHIN / 2).keepalives_idle(Duration::from_secs(10));
        config.keepalives_interval(Duration::from_secs(3)).keepalives_retries(3);
        config.tcp_user_timeout(Duration::from_secs(15));
        if config.get_target_session_attrs() == TargetSessionAttrs::Any {
            config.target_session_attrs(TargetSessionAttrs::ReadWrite);
        }
        config.ssl_mode(if is_verified { SslMode::Require } else { SslMode::Disable });
        let tls = is_verified.then(|| tls(roots.as_deref())).transpose()?;
        Ok(Self { config, tls })
    }

    /// Makes a session.
    pub(crate) async fn connect(&self, plans: Plans) -> Result<Session, Failure> {
        let connecting = async {
            let unheard = Arc::new(AtomicBool::new(false));
            let client = if let Some(tls) = &self.tls {
                let (client, connection) = self.config.connect(tls.clone()).await?;
                drive(connection, Arc::clone(&unheard));
                client
            } else {
                let (client, connection) = self.config.connect(NoTls).await?;
                drive(connection, Arc::clone(&unheard));
                client
            };
            client.batch_execute(LIMITS).await?;
            if plans == Plans::Stable {
                client.batch_execute(STABLE_PLANS).await?;
            }
            Ok(Session { client, unheard, statements: None })
        };
        match timeout(CONNECT_WITHIN, connecting).await {
            Ok(Ok(session)) => Ok(session),
            Ok(Err(error)) => Err(Failure::Away(explain(&error))),
            Err(_) => Err(Failure::Away("no connection in time".to_owned())),
        }
    }
}

impl std::fmt::Debug for Address {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let hosts = self.config.get_hosts();
        f.debug_struct("Address")
            .field("hosts", &hosts)
            .field("database", &self.config.get_dbname())
            .finish_non_exhaustive()
    }
}

fn is_this_machine(host: &Host) -> bool {
    match host {
        Host::Tcp(name) => {
            name == "localhost" || name.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
        }
        Host::Unix(_) => true,
    }
}

fn tls(roots: Option<&Path>) -> Result<MakeRustlsConnect, OpenError> {
    let mut trusted = RootCertStore::empty();
    if let Some(path) = roots {
        let failed = |reason: String| OpenError::Certificates { path: path.to_owned(), reason };
        for certificate in CertificateDer::pem_file_iter(path).map_err(|error| failed(error.to_string()))? {
            let certificate = certificate.map_err(|error| failed(error.to_string()))?;
            trusted.add(certificate).map_err(|error| failed(error.to_string()))?;
        }
        if trusted.is_empty() {
            return Err(failed("it holds no certificate".to_owned()));
        }
    } else {
        trusted.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("ring has the default protocol versions")
        .with_root_certificates(trusted)
        .with_no_client_auth();
    Ok(MakeRustlsConnect::new(config))
}

/// Runs a connection until it ends, and listens for the one notice that concerns money: that the wait for the
/// standby's word was cancelled, so that a commit that looks done may be known to one machine only.
fn drive<T>(mut connection: Connection<Socket, T>, unheard: Arc<AtomicBool>)
where
    T: TlsStream + Unpin + Send + 'static,
{
    tokio::spawn(async move {
        loop {
            match poll_fn(|context| connection.poll_message(context)).await {
                Some(Ok(AsyncMessage::Notice(notice))) => {
                    if notice.routine() == Some("SyncRepWaitForLSN") {
                        unheard.store(true, Relaxed);
                    }
                    tracing::warn!(code = notice.code().code(), message = notice.message(), "PostgreSQL");
                }
                Some(Ok(_)) => {}
                // Whoever waits for an answer learns of it there.
                Some(Err(_)) | None => return,
            }
        }
    });
}

/// Waits for work on a session, but not for ever; a session that did not answer in time is given up.
pub(crate) async fn within<T>(
    limit: Duration,
    work: impl Future<Output = Result<T, Failure>>,
) -> Result<T, Failure> {
    let late = |_| Err(Failure::Away("the database did not answer in time".to_owned()));
    timeout(limit, work).await.unwrap_or_else(late)
}

/// How a session plans its statements.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Plans {
    /// Always by index: for what every payment does.
    Stable,
    /// As the server's statistics say: for lists and audits.
    ByStatistics,
}

/// One connection with what was set and prepared on it.
pub(crate) struct Session {
    pub(crate) client: Client,
    /// Set once a commit did not wait for its standby.
    unheard: Arc<AtomicBool>,
    statements: Option<Arc<Statements>>,
}

impl Session {
    /// The prepared statements of payments.
    pub(crate) async fn statements(&mut self) -> Result<Arc<Statements>, Failure> {
        if let Some(statements) = &self.statements {
            return Ok(Arc::clone(statements));
        }
        let statements = Arc::new(within(CONNECT_WITHIN, Statements::prepare(&self.client)).await?);
        self.statements = Some(Arc::clone(&statements));
        Ok(statements)
    }

    /// Whether some commit of this session did not wait for its standby. Such a session is given up.
    pub(crate) fn is_unheard(&self) -> bool {
        self.unheard.load(Relaxed)
    }
}

/// After a failed connection, refuses at once for a moment; one caller at a time then tries again.
#[derive(Default)]
struct Gate {
    closed: Mutex<Option<Closed>>,
}

#[derive(Clone)]
struct Closed {
    until: Instant,
    pause: Duration,
    why: String,
}

impl Gate {
    fn pass(&self) -> Result<(), Failure> {
        let mut closed = self.closed.lock().unwrap_or_else(PoisonError::into_inner);
        match closed.as_mut() {
            Some(closed) if Instant::now() < closed.until => Err(Failure::Away(closed.why.clone())),
            Some(closed) => {
                // This one tries; the others wait for what comes of it.
                closed.until = Instant::now() + CONNECT_WITHIN;
                Ok(())
            }
            None => Ok(()),
        }
    }

    fn opened(&self) {
        if self.closed.lock().unwrap_or_else(PoisonError::into_inner).take().is_some() {
            tracing::info!("the database is back");
        }
    }

    fn failed(&self, why: String) {
        let mut closed = self.closed.lock().unwrap_or_else(PoisonError::into_inner);
        if closed.is_none() {
            tracing::warn!(%why, "the database is away");
        }
        let pause = closed.as_ref().map_or(AWAY_FIRST, |closed| (closed.pause * 2).min(AWAY_MAX));
        *closed = Some(Closed { until: Instant::now() + pause, pause, why });
    }
}

/// Some sessions of one kind, made when they are needed.
pub(crate) struct Pool {
    address: Arc<Address>,
    plans: Plans,
    wait: Duration,
    places: Semaphore,
    idle: Mutex<Vec<Session>>,
    gate: Gate,
}

/// A session in use; unless it is given back, it is closed.
pub(crate) struct Lent<'a> {
    pub(crate) session: Session,
    pool: &'a Pool,
    _place: SemaphorePermit<'a>,
}

impl Pool {
    pub(crate) fn new(address: Arc<Address>, plans: Plans, sessions_max: usize, wait: Duration) -> Self {
        let (places, idle, gate) = (Semaphore::new(sessions_max), Mutex::default(), Gate::default());
        Self { address, plans, wait, places, idle, gate }
    }

    /// Lends a session; waits for one to be given back, but not for long.
    pub(crate) async fn lend(&self) -> Result<Lent<'_>, Failure> {
        let place = timeout(self.wait, self.places.acquire()).await;
        let place =
            place.map_err(|_| Failure::Away("all connections to the database are busy".to_owned()))?;
        let place = place.expect("the semaphore is never closed");
        loop {
            let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
            match idle {
                Some(session) if session.client.is_closed() => {}
                Some(session) => return Ok(Lent { session, pool: self, _place: place }),
                None => break,
            }
        }
        self.gate.pass()?;
        match self.address.connect(self.plans).await {
            Ok(session) => {
                self.gate.opened();
                Ok(Lent { session, pool: self, _place: place })
            }
            Err(failure) => {
                if let Failure::Away(why) = &failure {
                    self.gate.failed(why.clone());
                }
                Err(failure)
            }
        }
    }
}

impl Lent<'_> {
    /// Gives the session back, in order and outside any transaction.
    pub(crate) fn give_back(self) {
        if !self.session.client.is_closed() && !self.session.is_unheard() {
            self.pool.idle.lock().unwrap_or_else(PoisonError::into_inner).push(self.session);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(url: &str) -> Result<bool, String> {
        Address::parse(url, None).map(|address| address.tls.is_some()).map_err(|error| error.to_string())
    }

    #[test]
    fn other_machines_are_verified_and_this_one_need_not_be() {
        for (url, is_verified) in [
            ("postgres://esamsat@127.0.0.1:5432/esamsat", false),
            ("postgres://esamsat@localhost/esamsat", false),
            ("postgres://esamsat@%2Fvar%2Frun%2Fpostgresql/esamsat", false),
            ("postgres://esamsat@db.example/esamsat", true),
            ("postgres://esamsat@db1.example,127.0.0.1/esamsat", true),
            ("postgres://esamsat@db.example/esamsat?sslmode=disable", false),
            ("postgres://esamsat@127.0.0.1/esamsat?sslmode=verify-full", true),
            ("postgres://esamsat@127.0.0.1/esamsat?sslmode=require&application_name=x", true),
        ] {
            assert_eq!(mode(url), Ok(is_verified), "{url}");
        }
    }

    #[test]
    fn sessions_are_called_by_the_program_unless_the_address_says_otherwise() {
        for (parameters, name) in [
            ("", Some("esamsat")),
            ("?application_name=x", Some("x")),
            ("?options=-capplication_name%3Dx", None),
        ] {
            let address = Address::parse(&format!("postgres://esamsat@127.0.0.1/esamsat{parameters}"), None);
            assert_eq!(address.unwrap().config.get_application_name(), name, "{parameters}");
        }
    }

    #[test]
    fn a_wrong_address_is_explained_without_its_password() {
        for url in [
            "postgres://esamsat:rahasia@/esamsat?port=x",
            "postgres://esamsat:rahasia@db.example/esamsat?sslmode=prefer",
            "postgres://esamsat:rahasia@db.example/esamsat?unknown=1",
            "mysql://esamsat:rahasia@db.example/esamsat",
            "rahasia",
        ] {
            let told = mode(url).expect_err(url);
            assert!(told.starts_with("the database address ") && !told.contains("rahasia"), "{told}");
        }
        let missing = mode("postgres://db.example/esamsat?sslrootcert=/nowhere.pem").unwrap_err();
        assert!(missing.contains("/nowhere.pem"), "{missing}");
        let address = Address::parse("postgres://esamsat:rahasia@127.0.0.1/esamsat", Some("sandi")).unwrap();
        assert!(!format!("{address:?}").contains("rahasia") && !format!("{address:?}").contains("sandi"));
    }

    #[tokio::test(start_paused = true)]
    async fn a_closed_gate_refuses_at_once_and_lets_one_try_again() {
        let gate = Gate::default();
        assert!(gate.pass().is_ok());
        gate.failed("away".to_owned());
        assert!(gate.pass().is_err());
        tokio::time::advance(AWAY_FIRST).await;
        assert!(gate.pass().is_ok(), "the first one tries");
        assert!(gate.pass().is_err(), "the others wait for what comes of it");
        gate.failed("away".to_owned());
        tokio::time::advance(AWAY_FIRST).await;
        assert!(gate.pass().is_err(), "the pause has doubled");
        tokio::time::advance(AWAY_FIRST).await;
        assert!(gate.pass().is_ok());
        gate.opened();
        assert!(gate.pass().is_ok() && gate.pass().is_ok());
    }
}
