//! What the embedded backend hands over is taken over whole, in pages, with interruptions, once.

use crate::kit::Schema;
use domain::{
    Accepted, Command, Environment, NotPaidProof, Reason, Refusal, State,
    command::{PaymentFacts, RaiseIncident},
    invoice::Presentment,
    record::{IncidentKind, Resolution},
};
use std::path::Path;
use store::{
    Store,
    conformance::fixture::{
        self, add_partner, apply, apply_one, assert_sound, begin, dump, not_paid, number, paid, propose,
        record, seconds_later,
    },
    copy::{Fingerprint, Part},
};
use store_postgres::{Import, ImportError, OpenError, PostgresStore};
use store_sqlite::{Export, Moved, Open, SqliteStore};
use tempfile::TempDir;

const INVOICES: i64 = 3_000;

/// A database with something of everything in it.
async fn source(path: &Path, invoices: i64) {
    let store = SqliteStore::open(path, Open::CreateOrMigrate).expect("a database");
    let told = "it is accepted";
    let mut partners = Vec::new();
    for (place, environment) in
        [Environment::Live, Environment::Sandbox, Environment::Sandbox].into_iter().enumerate()
    {
        let name = format!("mitra{place}");
        partners.push((environment, fixture::partner(&store, environment, &name, 100_000_000_000).await));
    }
    apply_one(&store, Command::RegisterUpstream { name: "simulator".to_owned() }).await.expect(told);
    apply_one(&store, Command::ReserveInvoiceNumbers { count: 10_000 }).await.expect(told);
    for (code, position) in [("SAMSAT_JABAR", 0), ("SAMSAT_JATIM", 1)] {
        for environment in [Environment::Live, Environment::Sandbox] {
            let product = fixture::product(environment, code, position);
            apply_one(&store, Command::SaveProduct(Box::new(product))).await.expect(told);
        }
    }
    let mut commands = Vec::new();
    for index in 0..invoices {
        let (environment, partner) = partners[usize::try_from(index % 3).expect("small")];
        let mut inquiry = record(environment, partner, index, u32::try_from(index).expect("small"));
        if index % 5 == 0 {
            inquiry.invoice.state =
                State::Failure { refusal: Refusal::with_code(Reason::VehicleBlocked, "0088") };
            inquiry.invoice.payment_code = None;
            inquiry.presentment = Presentment::Refused {
                nik: inquiry.presentment.nik().clone(),
                chassis: inquiry.presentment.chassis().clone(),
            };
        }
        let facts = PaymentFacts::of(&inquiry.invoice);
        commands.push(Command::RecordInquiry(Box::new(inquiry)));
        if let Some(facts) = facts.filter(|_| index % 5 > 1) {
            commands.push(begin(&facts));
            match index % 10 {
                2 | 3 | 7 => commands.push(paid(&facts)),
                4 => commands.push(not_paid(&facts, NotPaidProof::NotFound { asked_at: seconds_later(140) })),
                8 => commands.push(not_paid(&facts, NotPaidProof::PaidByAnother)),
                _ => {}
            }
        }
        if index % 500 == 9 {
            commands.push(propose(number(index), Resolution::NotPaid, "sari"));
        }
        if index % 250 == 0 {
            commands.push(Command::RaiseIncident(Box::new(RaiseIncident {
                invoice: (index > 0).then(|| number(index)),
                kind: if index % 500 == 0 { IncidentKind::Garbled } else { IncidentKind::PendingLong },
                detail: "seen by a test".to_owned(),
                at: seconds_later(u64::try_from(index).expect("positive")),
            })));
        }
        if commands.len() > 500 {
            for decision in apply(&store, std::mem::take(&mut commands)).await {
                decision.expect(told);
            }
        }
    }
    for decision in apply(&store, commands).await {
        decision.expect(told);
    }
}

/// Hands over until everything is, or so many pages are.
async fn hand_over(export: &Export, import: &mut Import, limit: usize, mut pages: u32) {
    for part in Part::ALL {
        while !import.reached(part).is_done {
            if pages == 0 {
                return;
            }
            pages -= 1;
            let page = export.page(part, &import.reached(part).cursor, limit).expect("a page");
            import.write(page).await.expect("the page is written");
        }
    }
}

async fn begin_import(schema: &Schema, fingerprint: &Fingerprint) -> Import {
    PostgresStore::import(schema.address(), "FILE", fingerprint).await.expect("the copy begins or goes on")
}

fn moved(fingerprint: &Fingerprint) -> Moved {
    Moved { target: "ELSEWHERE".to_owned(), fingerprint: fingerprint.text(), at: fixture::NOW }
}

/// Everything that a store tells but leases; positions of events as well.
async fn told(store: &dyn Store) -> (Vec<String>, Vec<i64>) {
    let events = store.events(0, u32::MAX).await.expect("the store answers");
    (dump(store).await, events.into_iter().map(|(position, _)| position).collect())
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_is_taken_over_once_whatever_interrupts() {
    let folder = TempDir::new().expect("a folder");
    let path = folder.path().join("esamsat.sqlite");
    source(&path, INVOICES).await;
    let before = told(&SqliteStore::open(&path, Open::Existing).expect("opened")).await;

    let schema = Schema::empty().await;
    // Every time some pages more, each time with other ones.
    for (pages, limit) in [(1, 7), (5, 1), (40, 13), (25, 70), (3, 1_000), (u32::MAX, 257)] {
        let export = Export::open(&path).expect("nobody has it open");
        let mut import = begin_import(&schema, &export.fingerprint().expect("a fingerprint")).await;
        hand_over(&export, &mut import, limit, pages).await;
        let refused = PostgresStore::open(schema.address()).await.expect_err("it is not finished");
        assert!(matches!(refused, OpenError::Unfinished { .. }), "{refused}");
    }
    let export = Export::open(&path).expect("nobody has it open");
    let fingerprint = export.fingerprint().expect("a fingerprint");
    let import = begin_import(&schema, &fingerprint).await;
    assert!(import.is_resumed() && !import.is_finished());
    for part in Part::ALL {
        let reached = import.reached(part);
        assert_eq!((reached.tally.rows, reached.is_done), (fingerprint.rows[&part], true), "{part:?}");
        let mut heard = 0;
        assert_eq!(
            import.tally(part, |rows| heard = rows).await.expect("read back"),
            reached.tally,
            "{part:?}"
        );
        assert_eq!(heard, reached.tally.rows);
    }
    import.analyze().await.expect("analyzed");
    export.mark_moved(&moved(&fingerprint)).expect("marked");
    import.finish().await.expect("finished");

    let store = schema.store().await;
    assert_eq!(told(&store).await, before);
    assert_sound(&store).await;

    // Numbers and positions continue behind what was taken over.
    let last = *before.1.last().expect("there are events");
    let added = apply_one(&store, add_partner(Environment::Live, "mitra3")).await;
    assert!(matches!(added, Ok(Accepted::Partner(id)) if id.0 == 4), "{added:?}");
    let credited =
        apply_one(&store, fixture::top_up(Environment::Live, domain::PartnerId(4), 500, "new")).await;
    assert!(matches!(credited, Ok(Accepted::Entry(4))), "{credited:?}");
    let reserved = apply_one(&store, Command::ReserveInvoiceNumbers { count: 1 }).await;
    assert!(matches!(reserved, Ok(Accepted::Numbers { .. })), "{reserved:?}");
    let events = store.events(last, 10).await.expect("the store answers");
    assert_eq!(events.iter().map(|(position, _)| *position).collect::<Vec<_>>(), [last + 1]);
    // What was open is settled as if it had been begun here.
    let open = store.pending(number(-1), 1).await.expect("the store answers").remove(0);
    let facts = PaymentFacts::of(&open).expect("a payment");
    apply_one(&store, paid(&facts)).await.expect("settled");
    assert_sound(&store).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_does_not_belong_together_is_refused() {
    let folder = TempDir::new().expect("a folder");
    let path = folder.path().join("esamsat.sqlite");
    source(&path, 40).await;

    // A target with rows.
    let used = Schema::migrated().await;
    apply_one(&used.store().await, add_partner(Environment::Live, "mitra")).await.expect("added");
    let export = Export::open(&path).expect("nobody has it open");
    let fingerprint = export.fingerprint().expect("a fingerprint");
    let refused = PostgresStore::import(used.address(), "FILE", &fingerprint).await.err();
    assert!(matches!(&refused, Some(ImportError::NotEmpty { table }) if table == "partner"), "{refused:?}");
    drop(used.store().await);

    // A source that was changed since the copy began.
    let schema = Schema::empty().await;
    let mut import = begin_import(&schema, &fingerprint).await;
    hand_over(&export, &mut import, 5, 12).await;
    // A second copy of the same: whoever comes second writes nothing.
    let mut second = begin_import(&schema, &fingerprint).await;
    hand_over(&export, &mut second, 5, 1).await;
    let part = Part::ALL.into_iter().find(|part| !import.reached(*part).is_done).expect("one is not done");
    let page = export.page(part, &import.reached(part).cursor, 5).expect("a page");
    assert!(import.write(page).await.is_err(), "its place is taken");
    drop(export);
    let store = SqliteStore::open(&path, Open::Existing).expect("opened");
    apply_one(&store, fixture::top_up(Environment::Live, domain::PartnerId(1), 1, "later"))
        .await
        .expect("booked");
    drop(store);
    let export = Export::open(&path).expect("nobody has it open");
    let changed = export.fingerprint().expect("a fingerprint");
    assert_ne!(changed, fingerprint);
    let refused = PostgresStore::import(schema.address(), "FILE", &changed).await.err();
    assert!(matches!(&refused, Some(ImportError::OtherSource { .. })), "{refused:?}");
}
