//! What no client can make the host do: end, or keep more than it should.

use crate::kit::{Bank, PATIENCE, SILENCE, documented};
use bank::profile::{LineProfile, Meaning, Operation, Values};
use tokio::time::timeout;

/// Requests of one connection that the host has under way at most.
const UNDER_WAY_MAX: u64 = 16_384;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_frame_that_cannot_be_believed_ends_its_connection_and_no_other() {
    for name in LineProfile::builtin_names() {
        let bank = Bank::speaking(name).await;
        let mut good = bank.signed_on().await;
        for bytes in [&b"\0\0\0\0"[..], b"\xFF\xFF\xFF\xFF", b"0000", b"GET / HTTP/1.1\r\n\r\n"] {
            let mut bad = bank.connect().await;
            bad.send_bytes(bytes).await;
            // One that waits for the rest of a long frame is told apart by its end.
            bad.send_bytes(&[b'9'; 8_192]).await;
            assert_eq!(timeout(PATIENCE, bad.hear()).await.unwrap(), None, "{name} {bytes:?}");
        }
        assert_eq!(good.ask(Operation::Echo, Values::new()).await.code, "00", "{name}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_that_cannot_be_read_is_passed_over() {
    let bank = Bank::speaking("contoh-37-80").await;
    let mut client = bank.signed_on().await;
    for message in [&b"0200"[..], b"nonsense", b"0200F23A400188C08010000000000000000"] {
        let mut framed = Vec::new();
        client.profile.frame.put(message, &mut framed).unwrap();
        client.send_bytes(&framed).await;
    }
    let answer = client.ask(Operation::Inquiry, documented()).await;
    assert_eq!(client.meaning(Operation::Inquiry, &answer), Meaning::Done);
    assert_eq!(bank.host.state().unreadable, 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_reads_no_answers_is_read_no_further() {
    let bank = Bank::speaking("contoh-37-80").await;
    let mut client = bank.signed_on().await;
    let inquiry = client.profile.compose(Operation::Inquiry, &client.fresh(documented()), false).unwrap();
    let many = client.framed(&inquiry).repeat(1_000);
    let flood = tokio::spawn(async move {
        for _ in 0..200 {
            client.send_bytes(&many).await;
        }
    });
    let stops = async {
        loop {
            bank.host.until(|state| state.under_way == UNDER_WAY_MAX).await;
            let before = bank.host.state().received;
            if timeout(SILENCE, bank.host.until(|state| state.received > before)).await.is_err() {
                return;
            }
        }
    };
    timeout(PATIENCE * 3, stops).await.expect("it stops reading");
    assert!(!flood.is_finished());
    let mut other = bank.signed_on().await;
    assert_eq!(other.ask(Operation::Echo, Values::new()).await.code, "00", "others are");
    flood.abort();
}
