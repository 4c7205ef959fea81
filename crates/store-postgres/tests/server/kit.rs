//! A schema of its own for every test, on the server that the test run names.

use futures::future::BoxFuture;
use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering::Relaxed},
    },
    time::UNIX_EPOCH,
};
use store::{Store, conformance::Database};
use store_postgres::{Address, PostgresStore};
use tokio_postgres::{Client, NoTls};

static COUNT: AtomicU32 = AtomicU32::new(0);

/// A schema that is dropped in the end.
pub(crate) struct Schema {
    server: String,
    name: String,
}

impl Schema {
    /// A fresh one with the tables.
    pub(crate) async fn migrated() -> Self {
        let schema = Self::empty().await;
        store_postgres::migrate(&schema.address()).await.expect("an empty schema is migrated");
        schema
    }

    /// A fresh one without tables.
    pub(crate) async fn empty() -> Self {
        let server = std::env::var("TEST_DATABASE_URL").expect(
            "TEST_DATABASE_URL names a PostgreSQL server; `cargo xtask test` starts one for the whole test run",
        );
        let schema = Self { server, name: unique_name() };
        schema
            .admin()
            .await
            .batch_execute(&format!("CREATE SCHEMA {}", schema.name))
            .await
            .expect("a schema");
        schema
    }

    /// The schema, which its sessions are called by as well.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn url(&self) -> String {
        self.url_with("")
    }

    /// With more options for its sessions, ` -c` and all.
    pub(crate) fn url_with(&self, options: &str) -> String {
        let name = &self.name;
        let options = format!("-csearch_path={name} -capplication_name={name}{options}");
        format!("{}?options={}", self.server, options.replace('=', "%3D").replace(' ', "%20"))
    }

    pub(crate) fn address(&self) -> Address {
        Address::parse(&self.url(), None).expect("the address is one")
    }

    /// `host:port` of the server.
    pub(crate) fn server_address(&self) -> String {
        let (_, rest) = self.server.rsplit_once('@').expect("the URL names a user");
        rest.split('/').next().unwrap_or_default().to_owned()
    }

    /// The way over another `host:port`.
    pub(crate) fn address_by(&self, host: &str) -> Address {
        let url = self.url().replacen(&format!("@{}/", self.server_address()), &format!("@{host}/"), 1);
        Address::parse(&url, None).expect("the address is one")
    }

    pub(crate) async fn store(&self) -> PostgresStore {
        PostgresStore::open(self.address()).await.expect("the database opens")
    }

    /// The names of its tables.
    pub(crate) async fn tables(&self) -> Vec<String> {
        let sql = "SELECT tablename::text FROM pg_tables WHERE schemaname = current_schema()";
        let tables = self.admin().await.query(sql, &[]).await.expect("the tables are listed");
        tables.iter().map(|row| row.get(0)).collect()
    }

    /// A connection beside the store's, in the schema.
    pub(crate) async fn admin(&self) -> Client {
        let url = self.url_with(" -capplication_name=admin");
        let (client, connection) = tokio_postgres::connect(&url, NoTls).await.expect("a connection");
        tokio::spawn(connection);
        client
    }
}

impl Drop for Schema {
    fn drop(&mut self) {
        let drop = format!("DROP SCHEMA {} CASCADE", self.name);
        let server = self.server.clone();
        // A thread of its own, since the test's runtime may be ending.
        let dropping = std::thread::spawn(move || {
            let runtime =
                tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(async {
                let (client, connection) =
                    tokio_postgres::connect(&server, NoTls).await.expect("a connection");
                tokio::spawn(connection);
                client.batch_execute(&drop).await.expect("the schema is dropped");
            });
        });
        assert!(dropping.join().is_ok() || std::thread::panicking(), "the schema is dropped");
    }
}

#[expect(clippy::disallowed_methods, reason = "a name that no other test run uses")]
fn unique_name() -> String {
    let since_epoch = std::time::SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    format!("test_{}_{}_{}", std::process::id(), since_epoch.as_micros(), COUNT.fetch_add(1, Relaxed))
}

impl Database for Schema {
    fn open(&self) -> BoxFuture<'_, Arc<dyn Store>> {
        Box::pin(async { Arc::new(self.store().await) as Arc<dyn Store> })
    }
}
