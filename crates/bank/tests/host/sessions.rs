//! Signing on and off, echoes, and new business days.

use crate::kit::{Bank, documented, text};
use bank::profile::{LineProfile, Meaning, Operation, Part, Value, Values};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_done_before_a_connection_has_signed_on() {
    for name in LineProfile::builtin_names() {
        let bank = Bank::speaking(name).await;
        let bill = bank.signed_on().await.bill(documented()).await;
        let mut client = bank.connect().await;
        for again in [false, true] {
            for operation in [Operation::Echo, Operation::Inquiry, Operation::Payment] {
                let answer = client.ask(operation, bill.clone()).await;
                assert_eq!(answer.code, "01", "{name} {operation:?}");
                assert_ne!(client.meaning(operation, &answer), Meaning::Done, "{name} {operation:?}");
            }
            let payment =
                client.profile.compose(Operation::Payment, &client.fresh(bill.clone()), false).unwrap();
            assert_eq!(
                client.status(&bill, &payment).await,
                Meaning::Unlisted,
                "{name}: nothing is proved by that"
            );
            if again {
                break;
            }
            client.sign_on().await;
            let echo = client.ask(Operation::Echo, Values::new()).await;
            assert_eq!(client.meaning(Operation::Echo, &echo), Meaning::Done, "{name}");
            assert_eq!(client.bill(documented()).await, bill, "{name}");
            let off = client.ask(Operation::SignOff, Values::new()).await;
            assert_eq!(off.code, "00", "{name}");
        }
        assert!(bank.payments().await.is_empty(), "{name}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_institution_is_not_signed_on() {
    let bank = Bank::speaking("contoh-37-80").await;
    let mut client = bank.connect().await;
    client.profile = LineProfile::from_toml(
        &text("contoh-37-80").replace("institution = \"110\"", "institution = \"111\""),
    )
    .unwrap();
    let answer = client.ask(Operation::SignOn, Values::new()).await;
    assert_eq!(client.meaning(Operation::SignOn, &answer), Meaning::Unlisted);
    assert_eq!((bank.host.state().signed_on, bank.host.state().connections), (0, 1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_day_is_told_to_every_line_that_has_signed_on_and_to_no_other() {
    let bank = Bank::speaking("contoh-38-50").await;
    let (mut one, mut two, mut stranger) =
        (bank.signed_on().await, bank.connect().await, bank.connect().await);
    two.terminal = "ESAM0002";
    two.sign_on().await;
    let tomorrow = bank.host.business_date().next();
    let told = tomorrow.date().strftime("%m%d").to_string();
    bank.host.cut_over(tomorrow);
    for client in [&mut one, &mut two] {
        let message = client.hear().await.unwrap();
        let (operation, part) = client.profile.operation_of(&message).unwrap();
        assert_eq!((operation, part), (Operation::CutOver, Part::Request { is_repeat: false }));
        let values = client.profile.read_request(operation, &message).unwrap();
        assert_eq!(values.get(Value::SettlementDate), Some(told.as_str()));
        assert_eq!(values.get(Value::Terminal), Some(client.terminal));
        let answer = client.profile.answer(operation, &message, "00", &Values::new()).unwrap();
        client.send(&answer).await;
        let echo = client.ask(Operation::Echo, Values::new()).await;
        assert_eq!(echo.code, "00", "the answer is taken without another");
    }
    stranger.hears_nothing().await;
    let answer = stranger.ask(Operation::SignOn, Values::new()).await;
    assert_eq!(answer.values.get(Value::SettlementDate), Some(told.as_str()));
    assert_eq!(bank.host.state().business_date, tomorrow.to_string());
}
