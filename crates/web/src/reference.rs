//! The reference of the benchmark: the same server, the same parameters, a fixed answer of the size of a
//! paid invoice, and nothing behind it. What the gateway costs is measured against it.

use crate::{
    parameters::Parameters,
    router::{Outcome, Router},
};
use engine::domain::Parameter;

const ANSWER: &str = concat!(
    r#"{"result":"ok","tanggal":"2019-07-07 13:14:15","product":"SAMSAT_JABAR","invoice":"111111111111","#,
    r#""reference_number":"5A834FE7A6394BA0A387EA9E8EFB1E48","trace_number":"245209","#,
    r#""paymentcode":"322020060719000","customer_number":"320111111111111","customer_name":"JORDAN","#,
    r#""customer_address":"KP CITAMIANG DUA RT1 RW4 PAMIJAHAN KAB BOGOR","#,
    r#""structure_number":"MH328D204AK4010000","license_plate":"F 0001 Z","vehicle_brand":"YAMAHA","#,
    r#""vehicle_model":"28D (AL115S/MIO)","vehicle_color":"MERAH MARUN","year_built":"2010","#,
    r#""tax_pkb":"143500","tax_swd":"35000","tax_bnn":"0","penalty_pkb":"0","penalty_swd":"0","#,
    r#""penalty_bnn":"0","fee":"5000","total":"183500","kodeagen":"JKT-00000","status":"CONFIRM"}"#,
);

/// A router that answers `pay_esamsat` with the same bytes every time.
pub fn reference_router() -> Router {
    Router::reference()
}

/// Reads what a pay would read, then answers.
pub(crate) fn handle(parameters: &Parameters) -> Outcome {
    let needed = [Parameter::Username, Parameter::Password, Parameter::Invoice];
    match needed.into_iter().find_map(|parameter| parameters.text(parameter).err()) {
        Some(unfit) => Outcome::plain_failure(&unfit.sentence(), unfit.code()),
        None => Outcome::json_text(ANSWER, "ok"),
    }
}
