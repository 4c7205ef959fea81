//! `SQLite` keeps the suite.

use futures::future::BoxFuture;
use std::{path::PathBuf, sync::Arc};
use store::{Store, conformance::Database};
use store_sqlite::{Open, SqliteStore};
use tempfile::TempDir;

struct File {
    path: PathBuf,
    _directory: TempDir,
}

impl Database for File {
    fn open(&self) -> BoxFuture<'_, Arc<dyn Store>> {
        Box::pin(async {
            let store = SqliteStore::open(&self.path, Open::CreateOrMigrate).expect("the file opens");
            Arc::new(store) as Arc<dyn Store>
        })
    }
}

async fn fresh() -> File {
    let directory = tempfile::tempdir().expect("a temporary directory");
    File { path: directory.path().join("esamsat.db"), _directory: directory }
}

store::conformance!(fresh);
