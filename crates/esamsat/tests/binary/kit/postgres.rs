//! A schema of its own on the PostgreSQL server that the test run names.

use super::{PATIENCE, within};
use std::{
    process,
    sync::atomic::{AtomicU32, Ordering::Relaxed},
    time::UNIX_EPOCH,
};
use tokio::runtime::Runtime;
use tokio_postgres::{Client, NoTls};

static COUNT: AtomicU32 = AtomicU32::new(0);

/// A schema that is dropped in the end, with a connection to it.
pub(crate) struct Schema {
    server: String,
    name: String,
    client: Client,
    runtime: Runtime,
}

impl Schema {
    /// One without tables.
    pub(crate) fn empty() -> Self {
        let server = std::env::var("TEST_DATABASE_URL").expect(
            "TEST_DATABASE_URL names a PostgreSQL server; `cargo xtask test` starts one for the whole test run",
        );
        let name = unique_name();
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .expect("a runtime");
        let client = runtime.block_on(async {
            let (client, connection) =
                tokio_postgres::connect(&url(&server, &name), NoTls).await.expect("a connection");
            tokio::spawn(connection);
            client.batch_execute(&format!("CREATE SCHEMA {name}")).await.expect("a schema");
            client
        });
        Self { server, name, client, runtime }
    }

    /// Its address, with the password.
    pub(crate) fn url(&self) -> String {
        url(&self.server, &self.name)
    }

    /// Its address without the password, and the password.
    pub(crate) fn url_and_password(&self) -> (String, String) {
        let url = self.url();
        let (login, place) = url.split_once('@').expect("an address with a log-in");
        let (user, password) = login.rsplit_once(':').expect("a log-in with a password");
        (format!("{user}@{place}"), password.to_owned())
    }

    /// Runs statements.
    pub(crate) fn execute(&self, sql: &str) {
        self.runtime.block_on(self.client.batch_execute(sql)).expect("the statements run");
    }

    /// One number.
    pub(crate) fn number(&self, sql: &str) -> i64 {
        self.runtime.block_on(self.client.query_one(sql, &[])).expect("a row").get(0)
    }

    /// Makes whoever inserts the row that the condition names wait, until [`Hold::release`].
    pub(crate) fn hold<'a>(&'a self, table: &'static str, condition: &str) -> Hold<'a> {
        // Locks of this kind are the whole database's.
        let key = (process::id() << 8 | COUNT.fetch_add(1, Relaxed)) & 0x7FFF_FFFF;
        self.execute(&format!(
            "SELECT pg_advisory_lock({key});
             CREATE FUNCTION hold_{key}() RETURNS trigger LANGUAGE plpgsql AS
                 'BEGIN PERFORM pg_advisory_xact_lock_shared({key}); RETURN NEW; END';
             CREATE TRIGGER hold_{key} BEFORE INSERT ON {table} FOR EACH ROW WHEN ({condition})
                 EXECUTE FUNCTION hold_{key}()"
        ));
        Hold { schema: self, key }
    }
}

/// See [`Schema::hold`].
pub(crate) struct Hold<'a> {
    schema: &'a Schema,
    key: u32,
}

impl Hold<'_> {
    /// Waits until somebody waits here.
    pub(crate) fn wait(&self) {
        let key = self.key;
        let waiting = format!(
            "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND objid = {key} AND NOT granted"
        );
        within(PATIENCE, "somebody comes to the row", || self.schema.number(&waiting) > 0);
    }

    /// Lets everybody pass, from now on.
    pub(crate) fn release(self) {
        let key = self.key;
        self.schema.execute(&format!("SELECT pg_advisory_unlock({key}); DROP FUNCTION hold_{key} CASCADE"));
    }
}

impl Drop for Schema {
    fn drop(&mut self) {
        self.execute(&format!("DROP SCHEMA {} CASCADE", self.name));
    }
}

fn url(server: &str, name: &str) -> String {
    format!("{server}?options=-csearch_path%3D{name}")
}

#[expect(clippy::disallowed_methods, reason = "a name that no other test run uses")]
fn unique_name() -> String {
    let since_epoch = std::time::SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let count = COUNT.fetch_add(1, Relaxed);
    format!("binary_{}_{}_{count}", process::id(), since_epoch.as_micros())
}
