//! Handing a database over: nobody else has it meanwhile, and once it was moved nobody opens it by mistake.

use domain::{Environment, Timestamp};
use std::path::Path;
use store::{
    Store,
    conformance::fixture::{self, add_partner, apply_one},
    copy::{Cursor, Part},
};
use store_sqlite::{Export, Moved, Open, OpenError, SqliteStore, take_back};
use tempfile::TempDir;

async fn database(path: &Path) {
    let store = SqliteStore::open(path, Open::CreateOrMigrate).expect("a database");
    for name in ["mitra1", "mitra2", "mitra3"] {
        fixture::partner(&store, Environment::Live, name, 1_000).await;
    }
}

fn moved(export: &Export) -> Moved {
    let fingerprint = export.fingerprint().expect("a fingerprint").text();
    Moved {
        target: "postgres://esamsat@db.example/esamsat".to_owned(),
        fingerprint,
        at: Timestamp::from_millis(7),
    }
}

#[tokio::test]
async fn whoever_hands_over_is_alone() {
    let folder = TempDir::new().expect("a folder");
    let path = folder.path().join("esamsat.sqlite");
    database(&path).await;

    let store = SqliteStore::open(&path, Open::Existing).expect("opened");
    let refused = Export::open(&path).expect_err("somebody has it open");
    assert!(matches!(refused, OpenError::Locked { .. }), "{refused}");
    drop(store);

    let export = Export::open(&path).expect("nobody has it open");
    let refused = SqliteStore::open(&path, Open::Existing).expect_err("it is being handed over");
    assert!(matches!(refused, OpenError::Locked { .. }), "{refused}");
    drop(export);
    assert_eq!(
        SqliteStore::open(&path, Open::Existing).expect("opened").partners().await.expect("told").len(),
        3
    );
}

#[tokio::test]
async fn what_was_moved_is_opened_for_nothing_else_until_that_is_taken_back() {
    let folder = TempDir::new().expect("a folder");
    let path = folder.path().join("esamsat.sqlite");
    database(&path).await;
    assert_eq!(take_back(&path).expect("opened"), None);

    let export = Export::open(&path).expect("opened");
    let mark = moved(&export);
    export.mark_moved(&mark).expect("marked");
    for open in [Open::Existing, Open::CreateOrMigrate] {
        let refused = SqliteStore::open(&path, open).expect_err("it was moved").to_string();
        assert!(refused.contains("was moved to postgres://esamsat@db.example/esamsat; "), "{refused}");
    }
    // The move itself can be finished, and its mark is no change of what was moved.
    let export = Export::open(&path).expect("opened");
    assert_eq!((export.moved(), &moved(&export)), (Some(&mark), &mark));
    export.mark_moved(&mark).expect("marked again");

    assert_eq!(take_back(&path).expect("opened"), Some(mark));
    let store = SqliteStore::open(&path, Open::Existing).expect("opened");
    assert!(apply_one(&store, add_partner(Environment::Live, "mitra4")).await.is_ok());
}

#[tokio::test]
async fn pages_follow_each_other_and_part_no_subject() {
    let folder = TempDir::new().expect("a folder");
    let path = folder.path().join("esamsat.sqlite");
    database(&path).await;
    let export = Export::open(&path).expect("opened");
    for part in Part::ALL {
        let whole = export.page(part, &Cursor::default(), usize::MAX).expect("a page");
        assert!(whole.is_last);
        let (mut cursor, mut tally, mut pages) = (Cursor::default(), store::copy::Tally::default(), 0);
        loop {
            let page = export.page(part, &cursor, 1).expect("a page");
            for postings in page.rows.postings.chunk_by(|one, next| one.subject == next.subject) {
                assert_eq!(postings.iter().map(|posting| posting.amount).sum::<domain::Rupiah>().get(), 0);
            }
            (cursor, tally, pages) = (page.reached, tally.and(page.tally), pages + 1);
            if page.is_last {
                break;
            }
        }
        assert_eq!((tally, cursor), (whole.tally, whole.reached), "{part:?}");
        assert!(part != Part::Partner || pages == 3, "{pages} pages");
    }
    assert!(Export::open(&folder.path().join("none")).is_err());
}
