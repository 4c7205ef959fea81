//! What an answer says, or how a request failed.
//!
//! On the hot path a search for a few bytes decides: inside a JSON text a quote is always escaped, so
//! `"status":"` is never part of a value. An answer about something else than was asked is a failure.

use super::client::Response;
use domain::Reason;
use std::{borrow::Cow, fmt};

/// How a request failed.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Failed {
    /// `result: "no"`, with the reason's sentence.
    Refused(String),
    /// Another HTTP status than 200, with the reason's sentence if there is one.
    Status(u16, String),
    /// An answer that says something else than the contract.
    Unexpected(&'static str),
    /// Bytes that are no answer.
    Unreadable(&'static str),
    /// What befell the connection.
    Connection(&'static str),
    /// Whatever exceeds what is told apart.
    Other,
}

impl Failed {
    /// Whether it is this reason's sentence, with or without a bank's code.
    pub(super) fn is(&self, reason: Reason) -> bool {
        let (Self::Refused(sentence) | Self::Status(_, sentence)) = self else { return false };
        sentence.starts_with(reason.sentence().trim_end_matches('.'))
    }

    /// Whether the same request would be refused again, until somebody does something.
    pub(super) fn stays(&self) -> bool {
        [
            Reason::BadCredentials,
            Reason::PartnerSuspended,
            Reason::AddressNotAllowed,
            Reason::BalanceShort,
            Reason::VehicleNotFound,
            Reason::ProductOff,
            Reason::ProductUnknown,
        ]
        .iter()
        .any(|reason| self.is(*reason))
    }

    /// What can be done about it.
    pub(super) fn advice(&self) -> &'static str {
        let advices = [
            (Reason::BadCredentials, "check --username, --partners and --password"),
            (Reason::PartnerSuspended, "choose a partner that is not suspended"),
            (Reason::BalanceShort, "top the partner's balance up with `esamsat deposit`"),
            (Reason::VehicleNotFound, "its bank must be the simulator, with vehicles from --from on"),
            (Reason::BillAlreadyPaid, "these vehicles are paid: choose another --from, or reset the sandbox"),
            (Reason::ProductOff, "switch SAMSAT_JABAR on with `esamsat product`"),
            (Reason::ProductUnknown, "the partner's environment must have the product SAMSAT_JABAR"),
        ];
        match self {
            Self::Connection(_) => "see that the gateway is running there",
            Self::Unexpected(_) | Self::Unreadable(_) | Self::Status(404, _) => {
                "see that it is an esamsat gateway"
            }
            Self::Refused(_) | Self::Status(..) | Self::Other => advices
                .iter()
                .find_map(|(reason, advice)| self.is(*reason).then_some(*advice))
                .unwrap_or("the gateway's log may say more"),
        }
    }
}

impl fmt::Display for Failed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused(reason) => write!(f, "refused: {reason}"),
            Self::Status(status, reason) if reason.is_empty() => write!(f, "HTTP {status}"),
            Self::Status(status, reason) => write!(f, "HTTP {status}: {reason}"),
            Self::Unexpected(what) => write!(f, "unexpected answer: {what}"),
            Self::Unreadable(what) => write!(f, "unreadable answer: {what}"),
            Self::Connection(what) => write!(f, "connection: {what}"),
            Self::Other => write!(f, "others"),
        }
    }
}

/// How a payment was answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Paid {
    /// CONFIRM.
    Confirmed,
    /// PENDING.
    Pending,
}

/// The invoice of an inquiry for this vehicle.
pub(super) fn inquiry(response: &Response<'_>, chassis: &str) -> Result<u64, Failed> {
    let body = success(response)?;
    if value(body, br#""structure_number":""#) != Some(chassis.as_bytes()) {
        return Err(Failed::Unexpected("another vehicle"));
    }
    if last_value(body, br#""status":""#) != Some(b"INQUIRY") {
        return Err(Failed::Unexpected("another status than INQUIRY"));
    }
    invoice_of(body).ok_or(Failed::Unexpected("no invoice number"))
}

/// How the payment of this invoice was answered.
pub(super) fn payment(response: &Response<'_>, invoice: u64) -> Result<Paid, Failed> {
    let body = success(response)?;
    if invoice_of(body) != Some(invoice) {
        return Err(Failed::Unexpected("another invoice"));
    }
    match last_value(body, br#""status":""#) {
        Some(b"CONFIRM") => Ok(Paid::Confirmed),
        Some(b"PENDING") => Ok(Paid::Pending),
        _ => Err(Failed::Unexpected("another status than CONFIRM or PENDING")),
    }
}

/// The partner's balance, as the gateway writes it.
pub(super) fn balance(response: &Response<'_>) -> Result<String, Failed> {
    let body = success(response)?;
    let saldo = value(body, br#""saldo":""#).ok_or(Failed::Unexpected("no balance"))?;
    Ok(String::from_utf8_lossy(saldo).into_owned())
}

fn success<'a>(response: &Response<'a>) -> Result<&'a [u8], Failed> {
    if response.status == 200 && response.body.starts_with(br#"{"result":"ok""#) {
        return Ok(response.body);
    }
    let answer: Option<serde_json::Value> = serde_json::from_slice(response.body).ok();
    let text = |key| answer.as_ref().and_then(|answer| answer.get(key)?.as_str()).map(Cow::Borrowed);
    if response.status != 200 {
        return Err(Failed::Status(response.status, text("reason").unwrap_or_default().into_owned()));
    }
    match (text("result").as_deref(), text("reason")) {
        (Some("no"), Some(reason)) => Err(Failed::Refused(reason.into_owned())),
        _ => Err(Failed::Unexpected("neither ok nor a reason")),
    }
}

fn invoice_of(body: &[u8]) -> Option<u64> {
    str::from_utf8(value(body, br#""invoice":""#)?).ok()?.parse().ok()
}

/// The text after the first place where the key stands.
fn value<'a>(body: &'a [u8], key: &[u8]) -> Option<&'a [u8]> {
    let at = body.windows(key.len()).position(|window| window[1] == key[1] && window == key)?;
    until_quote(&body[at + key.len()..])
}

/// The text after the last place where the key stands: quicker for the last keys.
fn last_value<'a>(body: &'a [u8], key: &[u8]) -> Option<&'a [u8]> {
    let at = body.windows(key.len()).rposition(|window| window[1] == key[1] && window == key)?;
    until_quote(&body[at + key.len()..])
}

fn until_quote(text: &[u8]) -> Option<&[u8]> {
    Some(&text[..text.iter().position(|byte| *byte == b'"')?])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(body: &str) -> Response<'_> {
        Response { status: 200, body: body.as_bytes() }
    }

    const BILL: &str = r#"{"result":"ok","invoice":"100000000001","structure_number":"MH1JM81A123456789","status":"INQUIRY"}"#;

    #[test]
    fn an_inquiry_is_for_the_vehicle_that_was_asked_for() {
        assert_eq!(inquiry(&answer(BILL), "MH1JM81A123456789"), Ok(100_000_000_001));
        assert_eq!(inquiry(&answer(BILL), "MH1JM81A12345678"), Err(Failed::Unexpected("another vehicle")));
        let paid = BILL.replace("INQUIRY", "CONFIRM");
        assert!(matches!(inquiry(&answer(&paid), "MH1JM81A123456789"), Err(Failed::Unexpected(_))));
        let unnumbered = BILL.replace("100000000001", "");
        assert!(matches!(inquiry(&answer(&unnumbered), "MH1JM81A123456789"), Err(Failed::Unexpected(_))));
    }

    #[test]
    fn a_payment_is_of_the_invoice_that_was_sent() {
        for (status, paid) in [
            ("CONFIRM", Ok(Paid::Confirmed)),
            ("PENDING", Ok(Paid::Pending)),
            ("REFUND", Err(Failed::Unexpected("another status than CONFIRM or PENDING"))),
        ] {
            assert_eq!(payment(&answer(&BILL.replace("INQUIRY", status)), 100_000_000_001), paid);
        }
        let confirmed = BILL.replace("INQUIRY", "CONFIRM");
        assert_eq!(payment(&answer(&confirmed), 1), Err(Failed::Unexpected("another invoice")));
    }

    #[test]
    fn a_value_that_looks_like_a_key_is_not_one() {
        let body = BILL.replace("MH1JM81A123456789", r#"\"status\":\"CONFIRM\""#);
        assert_eq!(last_value(body.as_bytes(), br#""status":""#), Some(&b"INQUIRY"[..]));
    }

    #[test]
    fn failures_are_told_apart() {
        let short = r#"{"result":"no","reason":"Saldo deposit Anda tidak cukup untuk transaksi ini. Silakan tambah saldo terlebih dahulu."}"#;
        let failed = payment(&answer(short), 1).unwrap_err();
        assert!(failed.is(Reason::BalanceShort), "{failed}");
        assert!(failed.advice().contains("deposit") && failed.stays());
        let paid = r#"{"result":"no","reason":"Transaksi tidak dapat diproses. Tagihan sudah dibayar (Kode: 0054)"}"#;
        assert!(payment(&answer(paid), 1).unwrap_err().is(Reason::BillAlreadyPaid));
        let busy = Response { status: 503, body: br#"{"result":"no","reason":"Sistem sedang sibuk."}"# };
        let failed = payment(&busy, 1).unwrap_err();
        assert_eq!((&*failed.to_string(), failed.stays()), ("HTTP 503: Sistem sedang sibuk.", false));
        let page = Response { status: 502, body: b"<html>" };
        assert_eq!(payment(&page, 1).unwrap_err().to_string(), "HTTP 502");
        for body in ["", "[]", "<html>", r#"{"result":"no"}"#, r#"{"result":"OK"}"#] {
            assert!(matches!(payment(&answer(body), 1), Err(Failed::Unexpected(_))), "{body}");
        }
    }
}
