//! `POST /json/ceksaldo` (`username`, `password`): the partner's balance.
//!
//! Not in the e-Samsat document; the same provider's other APIs have it, and partners need it. What may be
//! spent on credit is not in it.

use super::{Call, Declined};
use crate::router::Outcome;
use engine::domain::{Rupiah, money::grouped};
use serde::Serialize;

#[derive(Serialize)]
struct Balance {
    result: &'static str,
    saldo: String,
}

pub(super) async fn handle(call: Call<'_>) -> Outcome {
    match deposit(&call).await {
        Ok(deposit) => Outcome::json(&Balance { result: "ok", saldo: grouped(deposit, ',') }, "ok"),
        Err(declined) => declined.plainly(),
    }
}

async fn deposit(call: &Call<'_>) -> Result<Rupiah, Declined> {
    let partner = call.partner().await?;
    Ok(call.engine.deposit(&partner).await?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_balance_as_documented() {
        let balance = Balance { result: "ok", saldo: grouped(Rupiah::new(99_999), ',') };
        assert_eq!(serde_json::to_string(&balance).unwrap(), r#"{"result":"ok","saldo":"99,999"}"#);
    }
}
