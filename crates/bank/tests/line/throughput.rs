//! How many inquiries with their payments one connection carries. For people, who ask for it:
//! `cargo test --release -p bank --test line -- --ignored --nocapture throughput`.

use crate::peer::{AMOUNT, Connection, Gateway, NO_ECHO, PATIENT, Peer, profile};
use bank::{
    Bank, InquiryOutcome, PaymentOutcome,
    profile::{LineProfile, Value, Values},
};
use domain::{Rupiah, Taxes};
use futures::StreamExt;
use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};
use tokio::time::Instant;

const SECONDS: u64 = 5;

/// What a bank says to everything.
fn said() -> Values {
    let mut values = Values::new()
        .with(Value::Amount, AMOUNT.get().to_string())
        .with(Value::BankReference, "BJB0000000001")
        .with(Value::PaymentCode, "322020060719000")
        .with(Value::OwnerName, "JORDAN")
        .with(Value::OwnerAddress, "KP CITAMIANG DUA RT1 RW4 PAMIJAHAN KAB BOGOR")
        .with(Value::LicensePlate, "F 0001 Z")
        .with(Value::Brand, "YAMAHA")
        .with(Value::Model, "28D (AL115S/MIO)")
        .with(Value::Color, "MERAH MARUN")
        .with(Value::YearBuilt, "2010");
    values.set_taxes(&Taxes { pkb: Rupiah::new(143_500), swdkllj: Rupiah::new(35_000), ..Taxes::default() });
    values
}

/// Answers all that has come with one write.
async fn answer_all(mut connection: Connection, profile: LineProfile) {
    let values = said();
    let (frames, writing) = connection.parts();
    let mut chunks = frames.ready_chunks(256);
    let (mut out, mut bytes) = (Vec::new(), Vec::new());
    while let Some(chunk) = chunks.next().await {
        for frame in chunk {
            let Ok(frame) = frame else { return };
            let request = profile.spec.decode(&frame).expect("it fits");
            let (operation, _) = profile.operation_of(&request).expect("it is of a known kind");
            let answer = profile.answer(operation, &request, "00", &values).expect("it fits");
            bytes.clear();
            profile.spec.encode(&answer, &mut bytes).expect("it fits");
            profile.frame.put(&bytes, &mut out).expect("it fits");
        }
        if tokio::io::AsyncWriteExt::write_all(writing, &out).await.is_err() {
            return;
        }
        out.clear();
    }
}

#[test]
#[ignore = "it measures, and takes the whole machine for it"]
fn pairs_on_one_connection() {
    let profile = profile(PATIENT, NO_ECHO);
    let address = {
        let (sender, receiver) = std::sync::mpsc::channel();
        let bank_profile = profile.clone();
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.expect("a runtime").block_on(async move {
                let peer = Peer::open().await;
                sender.send(peer.address()).expect("somebody waits");
                let connection = peer.signed_on().await;
                answer_all(connection, bank_profile).await;
            });
        });
        receiver.recv().expect("an address")
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    runtime.expect("a runtime").block_on(async move {
        let gateway = Arc::new(Gateway::with(profile, &[address], None));
        gateway.until_up(0).await;
        gateway.until("there are trace numbers", |gateway| gateway.place().is_ok()).await;
        let (pairs, refused) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
        let until = Instant::now() + Duration::from_secs(SECONDS);
        let clients = (0..256).map(|_| {
            let (gateway, pairs, refused) = (Arc::clone(&gateway), Arc::clone(&pairs), Arc::clone(&refused));
            tokio::spawn(async move {
                while Instant::now() < until {
                    let outcome = gateway.bank.inquire(gateway.inquiry()).await;
                    let is_presented = matches!(outcome, InquiryOutcome::Presented { .. });
                    let Ok((place, request)) = gateway.try_begin() else {
                        refused.fetch_add(1, Relaxed);
                        tokio::task::yield_now().await;
                        continue;
                    };
                    let outcome = gateway.bank.pay(place, request).await;
                    if is_presented && matches!(outcome, PaymentOutcome::Paid(_)) {
                        pairs.fetch_add(1, Relaxed);
                    } else {
                        refused.fetch_add(1, Relaxed);
                    }
                }
            })
        });
        futures::future::join_all(clients).await;
        let per_second = pairs.load(Relaxed) / SECONDS;
        eprintln!("{per_second} pairs a second, {} refused", refused.load(Relaxed));
        assert!(gateway.count("timed_out") == 0, "{:?}", gateway.bank.lines());
    });
}
