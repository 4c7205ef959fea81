//! Schemas that are not what this program expects, and migrations that meet each other or are cut off.

use crate::{
    kit::Schema,
    proxy::{At, Fault, Proxy},
};
use domain::{Accepted, Environment};
use futures::future::join_all;
use std::time::Duration;
use store::{
    Error, Store,
    conformance::fixture::{self, begin, paid},
};
use store_postgres::{Address, OpenError, PostgresStore};
use tokio::time::timeout;

/// How long something may take that should take moments, on a machine that is busy with other things.
const PATIENCE: Duration = Duration::from_secs(30);

async fn refused(schema: &Schema) -> OpenError {
    PostgresStore::open(schema.address()).await.expect_err("the database is not opened")
}

#[tokio::test]
async fn a_database_without_tables_is_not_opened() {
    let schema = Schema::empty().await;
    let error = refused(&schema).await;
    assert!(matches!(error, OpenError::NotFound), "{error:?}");
    assert!(error.to_string().contains("`esamsat migrate`"), "{error}");
}

#[tokio::test]
async fn a_newer_schema_is_opened_if_it_works_for_this_program() {
    let schema = Schema::migrated().await;
    let admin = schema.admin().await;
    let known: i32 =
        admin.query_one("SELECT max(version) FROM schema_version", &[]).await.expect("a version").get(0);
    let sql = "INSERT INTO schema_version (version, works_from) VALUES ($1, $2)";
    admin.execute(sql, &[&(known + 1), &known]).await.expect("a newer version");
    let store = schema.store().await;
    fixture::partner(&store, Environment::Live, "mitra", 1).await;
    store_postgres::migrate(&schema.address()).await.expect("there is nothing to do");

    admin.execute(sql, &[&(known + 2), &(known + 1)]).await.expect("a version too new");
    let error = refused(&schema).await;
    assert!(matches!(error, OpenError::Newer { found, .. } if found == known + 2), "{error:?}");
    let migrating = store_postgres::migrate(&schema.address()).await;
    assert!(matches!(migrating, Err(OpenError::Newer { .. })), "it is left as it is: {migrating:?}");
}

#[tokio::test]
async fn an_older_schema_is_to_be_migrated() {
    let schema = Schema::migrated().await;
    let admin = schema.admin().await;
    let older = "DELETE FROM schema_version; INSERT INTO schema_version (version, works_from) VALUES (0, 0)";
    admin.batch_execute(older).await.expect("an older version");
    let error = refused(&schema).await;
    assert!(matches!(error, OpenError::Pending { found: 0, .. }), "{error:?}");
    assert!(error.to_string().contains("run `esamsat migrate`"), "{error}");
}

#[tokio::test]
async fn of_eight_that_migrate_at_once_one_does_the_work() {
    let schema = Schema::empty().await;
    for migrated in join_all((0..8).map(async |_| store_postgres::migrate(&schema.address()).await)).await {
        migrated.expect("it is migrated");
    }
    let versions = schema.admin().await.query("SELECT version FROM schema_version", &[]).await;
    let versions: Vec<i32> = versions.expect("the versions").iter().map(|row| row.get(0)).collect();
    assert!((1..).take(versions.len()).eq(versions), "each ran once");
    fixture::partner(&schema.store().await, Environment::Live, "mitra", 1).await;
}

/// The steps are counted: the connection ends before each in turn, until a migration has none left.
#[tokio::test]
async fn a_migration_that_is_cut_off_leaves_nothing_half_done() {
    let schema = Schema::empty().await;
    let proxy = Proxy::to(schema.server_address()).await;
    for step in 0.. {
        proxy.arm(At::Nth(step), Fault::CutBefore);
        let migrated = store_postgres::migrate(&schema.address_by(&proxy.address)).await;
        if proxy.disarm() {
            migrated.expect("nothing went wrong");
            assert!(step > 5, "it has some steps");
            break;
        }
        migrated.expect_err("it was cut off");
        let tables = schema.tables().await;
        if tables.len() > 1 {
            // Cut off after a commit: what was migrated by then is whole, and the next run goes on from there.
            let opened = PostgresStore::open(schema.address()).await;
            assert!(matches!(opened, Ok(_) | Err(OpenError::Pending { .. })), "{step}: {:?}", opened.err());
        } else {
            assert!(tables.iter().all(|table| table == "schema_version"), "{step}: {tables:?}");
            assert!(matches!(refused(&schema).await, OpenError::NotFound));
        }
    }
    fixture::partner(&schema.store().await, Environment::Live, "mitra", 1).await;
}

#[tokio::test]
async fn a_migration_that_stands_still_does_not_hold_up_the_next() {
    let schema = Schema::empty().await;
    let proxy = Proxy::to(schema.server_address()).await;
    proxy.arm(At::Run("INSERT INTO schema_version"), Fault::Silence);
    let address = schema.address_by(&proxy.address);
    let standing = store_postgres::migrate(&address);
    let next = async {
        proxy.hit().await;
        store_postgres::migrate(&schema.address()).await
    };
    let migrated = tokio::select! {
        migrated = standing => panic!("it stands still: {migrated:?}"),
        migrated = timeout(PATIENCE, next) => migrated,
    };
    migrated.expect("in bounded time").expect("it is migrated");
    fixture::partner(&schema.store().await, Environment::Live, "mitra", 1).await;
}

#[tokio::test]
async fn a_store_works_on_while_the_schema_grows() {
    let schema = Schema::migrated().await;
    let (store, admin) = (schema.store().await, schema.admin().await);
    let partner = fixture::partner(&store, Environment::Live, "mitra", 10_000_000).await;
    let mut tables = schema.tables().await.into_iter();
    // A payment beside the change of each table in turn, on sessions that have used it before.
    for index in 0.. {
        let vehicle = u32::try_from(index).expect("a few");
        let facts = fixture::invoice(&store, Environment::Live, partner, index, vehicle).await;
        let begun = fixture::apply_one(&store, begin(&facts)).await;
        assert!(matches!(begun, Ok(Accepted::Invoice(_))), "{begun:?}");
        assert_eq!(store.pending(fixture::number(-1), 10).await.expect("the store answers").len(), 1);
        let confirmed = fixture::apply_one(&store, paid(&facts)).await;
        assert!(matches!(confirmed, Ok(Accepted::Invoice(_))), "{confirmed:?}");
        let found = store.invoice(facts.invoice).await.expect("the store answers");
        assert_eq!(found.map(|stored| stored.invoice.state.word()), Some("CONFIRM"));
        let lease = fixture::change_lease(&format!("resolver/{index}"), None, "a");
        fixture::apply_one(&store, lease).await.expect("it is free");
        let again = fixture::top_up(Environment::Live, partner, 5, &format!("transfer {index}"));
        fixture::apply_one(&store, again).await.expect("it is new");
        fixture::assert_sound(&store).await;
        let Some(table) = tables.next() else { break };
        let grow = format!("ALTER TABLE {table} ADD COLUMN added bigint NOT NULL DEFAULT 7");
        admin.batch_execute(&grow).await.expect("the table grows");
    }
    assert!(fixture::dump(&schema.store().await).await.len() > 100, "a new one reads it, too");
}

#[tokio::test]
async fn a_table_that_is_missing_makes_the_store_unavailable_until_it_is_back() {
    let schema = Schema::migrated().await;
    let (store, admin) = (schema.store().await, schema.admin().await);
    let partner = fixture::partner(&store, Environment::Live, "mitra", 1_000_000).await;
    let facts = fixture::invoice(&store, Environment::Live, partner, 0, 1).await;
    let before = fixture::dump(&store).await;
    for table in ["payment", "balance", "outbox", "claim"] {
        admin.batch_execute(&format!("ALTER TABLE {table} RENAME TO away")).await.expect("it is away");
        // On a session that has used it, and on one that has not.
        for store in [&store, &schema.store().await] {
            let applied = store.apply(fixture::batch(vec![begin(&facts)])).await;
            assert!(matches!(applied, Err(Error::Unavailable(_))), "without {table}: {applied:?}");
        }
        admin.batch_execute(&format!("ALTER TABLE away RENAME TO {table}")).await.expect("it is back");
        assert_eq!(fixture::dump(&store).await, before);
    }
    fixture::apply_one(&store, begin(&facts)).await.expect("the payment begins");
}

/// A standby, or a primary that is to be spared: nothing is written there.
#[tokio::test]
async fn a_server_that_only_reads_is_not_opened() {
    let schema = Schema::migrated().await;
    let url = schema.url_with(" -cdefault_transaction_read_only=on");
    let error = PostgresStore::open(Address::parse(&url, None).expect("an address")).await;
    let error = error.expect_err("it is not opened");
    assert!(matches!(error, OpenError::Away(_)), "{error:?}");
    assert!(error.to_string().contains("database does not allow writes"), "{error}");
    let migrating = store_postgres::migrate(&Address::parse(&url, None).expect("an address")).await;
    assert!(matches!(migrating, Err(OpenError::Away(_))), "{migrating:?}");
}
