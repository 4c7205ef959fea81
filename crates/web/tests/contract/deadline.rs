//! The 60-second rule, on a clock that only the tests' waiting moves.

use crate::support::{FIRST_INVOICE, Gateway, Paying};
use engine::domain::State;
use std::sync::Arc;
use tokio::time::Instant;

#[tokio::test(start_paused = true)]
async fn a_pay_is_answered_in_time_though_the_bank_is_silent() {
    let gateway = Gateway::start().await;
    gateway.inquire().await;
    gateway.pays(Paying::IsSilent);
    let began = Instant::now();
    let answer = gateway.pay(FIRST_INVOICE).await;
    assert!(answer.ends_with(r#""status":"PENDING"}"#), "{answer}");
    let within = gateway.engine.settings().answer_within;
    assert!(began.elapsed() >= within && began.elapsed().as_secs() <= within.as_secs() + 1);
    assert!(matches!(gateway.first_state().await, State::Pending { .. }));
}

#[tokio::test(start_paused = true)]
async fn an_inquiry_is_answered_in_time_though_the_bank_is_silent() {
    let gateway = Gateway::start().await;
    *gateway.bank.inquiry_waits_for.lock().unwrap() = Some(Arc::default());
    let began = Instant::now();
    let answer = gateway.inquire().await;
    assert!(answer.contains("Bank tidak menjawab cek tagihan"), "{answer}");
    assert!(answer.contains(&format!(r#""invoice":"{FIRST_INVOICE}""#)), "{answer}");
    assert!(began.elapsed().as_secs() < 60);
}
