//! `verify` on a file that somebody has changed by hand: every kind of damage is found, and named.

use crate::kit::{Terms, World, answer, bank::Pay};
use domain::{InvoiceNumber, Reason};
use engine::{domain, verify::verify};
use std::time::Duration;
use store_sqlite::{Open, SqliteStore};
use tokio::time::{Instant, sleep};

/// A file with a confirmed, a refunded and an open payment, in this order.
async fn world() -> (World, [InvoiceNumber; 3]) {
    let world = World::on_file(Terms::default());
    world.clock.begin_life();
    let partner = world.furnish(1_000_000).await;
    let gateway = world.start().await;
    let [paid, refused, open] = [
        gateway.invoice(&partner, 1).await,
        gateway.invoice(&partner, 2).await,
        gateway.invoice(&partner, 3).await,
    ];
    assert_eq!(answer(&gateway.pay(&partner, paid).await), Ok("CONFIRM"));
    world.bank.next_pay(Pay::Refused(Reason::CutOff));
    assert_eq!(answer(&gateway.pay(&partner, refused).await), Err(Reason::CutOff));
    world.bank.next_pay(Pay::Silent { takes_after: None });
    drop(gateway.spawn_pay(&partner, open));
    sleep(Duration::from_secs(1)).await;
    gateway.engine.shut_down(Instant::now()).await;
    (world, [paid, refused, open])
}

#[tokio::test(start_paused = true)]
async fn every_kind_of_damage_is_found_and_named() {
    let (world, [paid, refused, open]) = world().await;
    world.must_prove().await;
    let directory = tempfile::tempdir().expect("a directory");
    let of = |number: InvoiceNumber| format!("invoice {number}");
    let damages = [
        ("a posting's amount", format!("UPDATE posting SET amount = amount + 1 WHERE subject = {paid} AND step = 1 AND amount > 0"), of(paid)),
        ("a posting is gone", format!("DELETE FROM posting WHERE subject = {paid} AND step = 2 AND amount < 0"), of(paid)),
        ("a payment's postings are gone", format!("DELETE FROM posting WHERE subject = {refused}"), of(refused)),
        ("two postings, still balanced", format!("UPDATE posting SET amount = amount * 2 WHERE subject = {paid} AND step = 1"), of(paid)),
        ("a posting's account", format!("UPDATE posting SET account = account + 65536 WHERE subject = {open} AND amount > 0"), of(open)),
        ("a balance", "UPDATE balance SET amount = amount + 1 WHERE account = (SELECT min(account) FROM balance)".to_owned(), "live/deposit/1".to_owned()),
        ("two balances, still balanced", "UPDATE balance SET amount = amount + CASE account WHEN (SELECT min(account) FROM balance) THEN 7 ELSE -7 END WHERE account IN (SELECT min(account) FROM balance UNION SELECT max(account) FROM balance)".to_owned(), "live/deposit/1".to_owned()),
        ("a balance is gone", "DELETE FROM balance WHERE account = (SELECT max(account) FROM balance)".to_owned(), "live/bank_cash/0".to_owned()),
        ("CONFIRM made PENDING", format!("UPDATE invoice SET state = 2 WHERE number = {paid}"), of(paid)),
        ("PENDING made INQUIRY", format!("UPDATE invoice SET state = 1 WHERE number = {open}"), of(open)),
        ("an invoice's total", format!("UPDATE invoice SET total = total - 1000 WHERE number = {paid}"), of(paid)),
        ("an invoice's cashback", format!("UPDATE invoice SET cashback = 9999 WHERE number = {paid}"), of(paid)),
        ("an invoice's partner", format!("UPDATE invoice SET partner = 2 WHERE number = {paid}"), of(paid)),
        ("an invoice is gone", format!("DELETE FROM invoice WHERE number = {paid}"), of(paid)),
        ("an invoice's count of events", format!("UPDATE invoice SET sequence = 1 WHERE number = {paid}"), of(paid)),
        ("the claim on a paid bill", format!("DELETE FROM claim WHERE owner = {paid}"), of(paid)),
        ("the claim on a vehicle", format!("DELETE FROM claim WHERE owner = {open} AND key LIKE 'c/%'"), of(open)),
        ("a claim that is nobody's", format!("INSERT INTO claim VALUES ('p/live/1/9', {refused})"), "p/live/1/9".to_owned()),
        ("a claim given to another", format!("UPDATE claim SET owner = {open} WHERE owner = {paid}"), of(paid)),
        ("an event is gone", format!("DELETE FROM outbox WHERE subject = {paid} AND sequence = 2"), "outbox".to_owned()),
        ("an event's kind", format!("UPDATE outbox SET kind = 'payment_confirmed' WHERE subject = {refused} AND sequence = 2"), "outbox".to_owned()),
        ("an event twice", format!("INSERT INTO outbox SELECT 999, subject, sequence, kind, environment, partner, at FROM outbox WHERE subject = {paid} AND sequence = 2"), "outbox".to_owned()),
        ("a top-up's amount", "UPDATE entry SET amount = amount + 1 WHERE number = 1".to_owned(), "entry 1".to_owned()),
        ("a top-up is gone", "DELETE FROM entry WHERE number = 1".to_owned(), "entry 1".to_owned()),
        ("a top-up's postings are gone", "DELETE FROM posting WHERE subject = 1".to_owned(), "entry 1".to_owned()),
    ];
    for (index, (name, sql, place)) in damages.iter().enumerate() {
        let path = directory.path().join(format!("{index}.db"));
        let original = rusqlite::Connection::open(world.path()).expect("it opens");
        original.execute("VACUUM INTO ?1", [path.to_str().expect("UTF-8")]).expect("a copy");
        let copy = rusqlite::Connection::open(&path).expect("it opens");
        assert!(copy.execute(sql, ()).expect(name) > 0, "{name}: nothing was damaged");
        drop(copy);
        let store = SqliteStore::open(&path, Open::Existing).expect("it opens");
        let report = verify(&store).await.expect("an audit");
        assert!(!report.is_clean(), "{name} went unnoticed");
        assert!(
            report.problems.iter().any(|problem| problem.contains(place)),
            "{name}: {place} is not named in {:#?}",
            report.problems
        );
    }
}
