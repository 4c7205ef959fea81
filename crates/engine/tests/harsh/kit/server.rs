//! A PostgreSQL server as the committed store, in a schema that is made once for a test and emptied for every world.
//!
//! Its answers take real time, while the test's own time stands still.

use domain::Decision;
use engine::{domain, store};
use futures::future::BoxFuture;
use std::sync::{Arc, mpsc};
use store::{Batch, BatchId, Error, Store, front::Front};
use store_postgres::{Address, PostgresStore};
use tokio::{sync::OnceCell, task::spawn_blocking};
use tokio_postgres::{Client, NoTls};

/// A schema that is dropped in the end.
#[derive(Debug)]
pub(crate) struct Schema {
    server: String,
    name: String,
}

impl Schema {
    /// A fresh one with the tables.
    pub(crate) fn migrated() -> Arc<Self> {
        let server = std::env::var("TEST_DATABASE_URL").expect(
            "TEST_DATABASE_URL names a PostgreSQL server; `cargo xtask test` starts one for the whole test run",
        );
        let name = format!("test_{:032x}", engine::Ids::from_system().batch().0);
        let schema = Self { server, name };
        schema.run(&schema.server, &format!("CREATE SCHEMA {}", schema.name));
        runtime().block_on(store_postgres::migrate(&schema.address())).expect("an empty schema is migrated");
        Arc::new(schema)
    }

    /// As it was at first.
    pub(crate) fn empty(&self) {
        let empty = "DO $$ DECLARE kept text; BEGIN
            FOR kept IN SELECT tablename FROM pg_tables WHERE schemaname = current_schema()
                AND tablename NOT IN ('schema_version', 'counter')
            LOOP EXECUTE 'DELETE FROM ' || kept; END LOOP;
            UPDATE counter SET value = 0;
        END $$";
        self.run(&self.url(), empty);
    }

    fn url(&self) -> String {
        format!("{}?options=-csearch_path%3D{}", self.server, self.name)
    }

    fn address(&self) -> Address {
        Address::parse(&self.url(), None).expect("the address is one")
    }

    fn run(&self, url: &str, statement: &str) {
        runtime().block_on(async {
            let client = connect(url).await;
            client.batch_execute(statement).await.unwrap_or_else(|error| panic!("{}: {error:?}", self.name));
        });
    }
}

impl Drop for Schema {
    fn drop(&mut self) {
        self.run(&self.server, &format!("DROP SCHEMA {} CASCADE", self.name));
    }
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime")
}

async fn connect(url: &str) -> Client {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await.expect("a connection");
    tokio::spawn(connection);
    client
}

/// The store, opened when it is first reached. What one life had under way on it ends with its runtime.
pub(crate) struct Server {
    schema: Arc<Schema>,
    opened: OnceCell<PostgresStore>,
}

impl Server {
    pub(crate) fn new(schema: Arc<Schema>) -> Arc<Self> {
        Arc::new(Self { schema, opened: OnceCell::new() })
    }
}

impl Front for Server {
    fn behind(&self) -> &dyn Store {
        self.opened.get().expect("it was reached")
    }

    fn reach(&self) -> BoxFuture<'_, Result<(), Error>> {
        Box::pin(async {
            let open = || async { PostgresStore::open(self.schema.address()).await };
            self.opened.get_or_try_init(open).await.expect("the database opens");
            Ok(())
        })
    }

    /// Paused time goes on by itself when everybody waits, but not while a thread is busy.
    fn passing<'a, T: Send + 'a>(
        &'a self,
        answer: BoxFuture<'a, Result<T, Error>>,
    ) -> BoxFuture<'a, Result<T, Error>> {
        Box::pin(async move {
            let (_answered, until_answered) = mpsc::channel::<()>();
            spawn_blocking(move || until_answered.recv());
            answer.await
        })
    }

    fn write(&self, batch: Batch) -> BoxFuture<'_, Result<Vec<Decision>, Error>> {
        self.passing(Box::pin(async move {
            self.reach().await?;
            self.behind().apply(batch).await
        }))
    }

    fn was_committed(&self, id: BatchId) -> BoxFuture<'_, Result<bool, Error>> {
        self.passing(Box::pin(async move {
            self.reach().await?;
            self.behind().batch_committed(id).await
        }))
    }
}
