//! Whole bodies, byte for byte, against fixtures made from the document's examples. How these differ from
//! the printed page is in `docs/contract-deviations.md`.

use crate::support::{CREDENTIALS, FIRST_INVOICE, Gateway, JORDAN, Paying};
use engine::domain::{Refusal, Rupiah, Taxes};

macro_rules! golden {
    ($name:literal) => {
        include_str!(concat!("golden/", $name, ".json")).trim_end()
    };
}

#[tokio::test]
async fn the_list_of_products() {
    let gateway = Gateway::start().await;
    assert_eq!(gateway.post("/json/esamsat/list_esamsat", CREDENTIALS).await, golden!("list"));
}

#[tokio::test]
async fn the_balance() {
    let gateway = Gateway::start().await;
    assert_eq!(gateway.post("/json/ceksaldo", CREDENTIALS).await, golden!("ceksaldo"));
}

#[tokio::test]
async fn a_bill_is_found_paid_and_told_of() {
    let gateway = Gateway::start().await;
    assert_eq!(gateway.inquire().await, golden!("inquiry_ok"));
    assert_eq!(gateway.status(FIRST_INVOICE).await, golden!("invoice_inquiry"));
    assert_eq!(gateway.pay(FIRST_INVOICE).await, golden!("invoice_confirm"));
    assert_eq!(gateway.status(FIRST_INVOICE).await, golden!("invoice_confirm"));
    assert_eq!(gateway.pay(FIRST_INVOICE).await, golden!("pay_already_paid"));
    let balance = gateway.post("/json/ceksaldo", CREDENTIALS).await;
    assert_eq!(balance, r#"{"result":"ok","saldo":"818,500"}"#);
}

#[tokio::test]
async fn a_vehicle_that_is_not_found_still_gets_an_invoice() {
    let gateway = Gateway::start().await;
    let asked = "product=SAMSAT_JABAR&customer_number=647104120000000&structure_number=MHIJBK11EK04000";
    let answer = gateway.post("/json/esamsat/inquiry_esamsat", &format!("{CREDENTIALS}&{asked}")).await;
    assert_eq!(answer, golden!("inquiry_not_found"));
    let status = gateway.status(FIRST_INVOICE).await;
    assert_eq!(status, golden!("status_failure").replace("1111111111", FIRST_INVOICE));
}

#[tokio::test]
async fn a_payment_that_the_bank_refuses_is_refunded() {
    let gateway = Gateway::start().await;
    gateway.inquire().await;
    gateway.pays(Paying::Refuses(Refusal::already_paid()));
    assert_eq!(gateway.pay(FIRST_INVOICE).await, golden!("pay_already_paid"));
    assert_eq!(gateway.status(FIRST_INVOICE).await, golden!("invoice_refund"));
    assert_eq!(gateway.post("/json/ceksaldo", CREDENTIALS).await, golden!("ceksaldo"));
}

#[tokio::test(start_paused = true)]
async fn a_payment_whose_outcome_is_not_known_in_time_is_pending() {
    let gateway = Gateway::start().await;
    gateway.inquire().await;
    gateway.pays(Paying::IsSilent);
    assert_eq!(gateway.pay(FIRST_INVOICE).await, golden!("invoice_pending"));
    assert_eq!(gateway.status(FIRST_INVOICE).await, golden!("invoice_pending"));
}

#[tokio::test]
async fn an_invoice_that_does_not_exist_or_is_anothers() {
    let gateway = Gateway::start().await;
    assert_eq!(gateway.pay("1111111111").await, golden!("pay_unknown_invoice"));
    assert_eq!(gateway.status("1111111111").await, golden!("status_failure"));
    gateway.inquire().await;
    gateway.add_partner("other", "JKT-00001", &[]).await;
    let theirs = format!("username=other&password=other123&invoice={FIRST_INVOICE}");
    assert_eq!(
        gateway.post("/json/esamsat/pay_esamsat", &theirs).await,
        golden!("pay_unknown_invoice").replace("1111111111", FIRST_INVOICE).replace("JKT-00000", "JKT-00001")
    );
    assert_eq!(
        gateway.post("/json/esamsat/status_invoice", &theirs).await,
        golden!("status_failure").replace("1111111111", FIRST_INVOICE)
    );
}

#[tokio::test]
async fn bad_credentials() {
    let gateway = Gateway::start().await;
    for credentials in ["username=dummy&password=wrong", "username=nobody&password=dummy123"] {
        for (path, expected) in [
            ("/json/esamsat/list_esamsat", golden!("bad_credentials_plain")),
            ("/json/ceksaldo", golden!("bad_credentials_plain")),
            ("/json/esamsat/inquiry_esamsat", golden!("bad_credentials")),
            ("/json/esamsat/pay_esamsat", golden!("bad_credentials")),
            ("/json/esamsat/status_invoice", golden!("bad_credentials_status")),
        ] {
            let form = format!("{credentials}&{JORDAN}&invoice={FIRST_INVOICE}");
            assert_eq!(gateway.post(path, &form).await, expected, "{path}");
        }
    }
}

#[tokio::test]
async fn the_surcharge_is_inside_of_the_tax() {
    let gateway = Gateway::start().await;
    *gateway.bank.taxes.lock().unwrap() = Taxes {
        pkb: Rupiah::new(100_000),
        opsen_pkb: Rupiah::new(66_000),
        swdkllj: Rupiah::new(35_000),
        bbn: Rupiah::new(7),
        pkb_penalty: Rupiah::new(2_000),
        opsen_pkb_penalty: Rupiah::new(1_320),
        swdkllj_penalty: Rupiah::new(8_000),
        bbn_penalty: Rupiah::new(11),
    };
    let expected = concat!(
        r#""tax_pkb":"166000","tax_swd":"35000","tax_bnn":"7","#,
        r#""penalty_pkb":"3320","penalty_swd":"8000","penalty_bnn":"11","fee":"5000","total":"217338""#,
    );
    let answer = gateway.inquire().await;
    assert!(answer.contains(expected), "{answer}");
}
