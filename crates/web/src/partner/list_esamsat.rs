//! `POST /json/esamsat/list_esamsat` (`username`, `password`): the products, what they take and give.
//!
//! Document section "Daftar daerah e-Samsat". `debet` is a text: the bill and the fee on top of it.

use super::{Call, Declined};
use crate::router::Outcome;
use engine::domain::Product;
use serde::Serialize;

#[derive(Serialize)]
struct Line<'a> {
    product: &'a str,
    product_code: &'a str,
    debet: String,
    cashback: String,
    status: &'static str,
}

impl<'a> From<&'a Product> for Line<'a> {
    fn from(product: &'a Product) -> Self {
        Self {
            product: &product.name,
            product_code: product.code.as_str(),
            debet: format!("tagihan+{}", product.fee),
            cashback: product.cashback.to_string(),
            status: if product.on { "ON" } else { "OFF" },
        }
    }
}

pub(super) async fn handle(call: Call<'_>) -> Outcome {
    match products(&call).await {
        Ok(products) => Outcome::json(&products.iter().map(Line::from).collect::<Vec<_>>(), "ok"),
        Err(declined) => declined.plainly(),
    }
}

async fn products(call: &Call<'_>) -> Result<Vec<Product>, Declined> {
    let partner = call.partner().await?;
    Ok(call.engine.products(&partner).await?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use engine::domain::{Environment, ProductCode, Rupiah, UpstreamId};

    #[test]
    fn a_line_as_documented() {
        let mut product = Product {
            environment: Environment::Sandbox,
            code: ProductCode::parse("SAMSAT_JABAR").unwrap(),
            name: "SAMSAT_JABAR".to_owned(),
            fee: Rupiah::new(5_000),
            cashback: Rupiah::new(2_000),
            on: true,
            upstream: UpstreamId(1),
            position: 1,
        };
        let expected = r#"{"product":"SAMSAT_JABAR","product_code":"SAMSAT_JABAR","debet":"tagihan+5000","cashback":"2000","status":"ON"}"#;
        assert_eq!(serde_json::to_string(&Line::from(&product)).unwrap(), expected);
        product.on = false;
        assert!(serde_json::to_string(&Line::from(&product)).unwrap().ends_with(r#""status":"OFF"}"#));
    }
}
