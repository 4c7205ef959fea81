//! A schema of its own for a test, on the PostgreSQL server that the test run names.

use tokio_postgres::NoTls;

/// A schema that is dropped in the end.
pub(crate) struct Schema {
    server: String,
    name: String,
}

impl Schema {
    /// A fresh one without tables.
    pub(crate) fn new() -> Self {
        let server = std::env::var("TEST_DATABASE_URL").expect(
            "TEST_DATABASE_URL names a PostgreSQL server; `cargo xtask test` starts one for the whole test run",
        );
        let name = format!("test_{:032x}", engine::Ids::from_system().batch().0);
        run(&server, &format!("CREATE SCHEMA {name}"));
        Self { server, name }
    }

    /// Its address for a gateway.
    pub(crate) fn url(&self) -> String {
        format!("{}?options=-csearch_path%3D{}", self.server, self.name)
    }

    /// Runs statements beside the gateways, each in a transaction of its own.
    pub(crate) fn execute(&self, statements: &[&str]) {
        for statement in statements {
            run(&self.url(), statement);
        }
    }
}

impl Drop for Schema {
    fn drop(&mut self) {
        run(&self.server, &format!("DROP SCHEMA {} CASCADE", self.name));
    }
}

fn run(url: &str, statement: &str) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let (client, connection) = tokio_postgres::connect(url, NoTls).await.expect("a connection");
        tokio::spawn(connection);
        client.batch_execute(statement).await.unwrap_or_else(|error| panic!("{statement}: {error:?}"));
    });
}
