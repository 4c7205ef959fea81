//! The shipped profiles from end to end, and what is wrong with broken ones.

use super::*;
use domain::{Rupiah, Taxes, Timestamp};
use iso8583::Message;

fn profiles() -> Vec<LineProfile> {
    LineProfile::builtin_names().map(|name| LineProfile::builtin(name).unwrap()).collect()
}

/// What a gateway knows when it asks.
fn asked() -> Values {
    let mut values = Values::new();
    values.set_moment(Timestamp::from_millis(1_795_584_149_000));
    for (value, text) in [
        (Value::Trace, "000123"),
        (Value::Reference, "100000000123"),
        (Value::Terminal, "ESAM0001"),
        (Value::SettlementDate, "1125"),
        (Value::Nik, "320111111111111"),
        (Value::Chassis, "MH328D204AK4010000"),
        (Value::Product, "SAMSAT_JABAR"),
        (Value::Amount, "178500"),
        (Value::PaymentCode, "322020060719000"),
        (Value::OriginalTrace, "000122"),
        (Value::OriginalTransmission, "1125052200"),
        (Value::OriginalReference, "100000000122"),
    ] {
        values.set(value, text);
    }
    values
}

/// What a bank says of a bill.
fn told() -> Values {
    let mut values = Values::new();
    for (value, text) in [
        (Value::Amount, "178500"),
        (Value::PaymentCode, "322020060719000"),
        (Value::OwnerName, "JORDAN"),
        (Value::OwnerAddress, "KP CITAMIANG DUA RT1 RW4 PAMIJAHAN KAB BOGOR"),
        (Value::LicensePlate, "F 0001 Z"),
        (Value::Brand, "YAMAHA"),
        (Value::Model, "28D (AL115S/MIO)"),
        (Value::Color, "MERAH MARUN"),
        (Value::YearBuilt, "2010"),
        (Value::BankReference, "0123456789ABCDEF0123456789ABCDEF"),
    ] {
        values.set(value, text);
    }
    values.set_taxes(&Taxes { pkb: Rupiah::new(143_500), swdkllj: Rupiah::new(35_000), ..Taxes::default() });
    values
}

fn over_the_wire(profile: &LineProfile, message: &Message) -> Message {
    let mut bytes = Vec::new();
    profile.spec.encode(message, &mut bytes).unwrap();
    profile.spec.decode(&bytes).unwrap()
}

#[test]
fn every_message_of_every_profile_is_said_and_understood() {
    for profile in profiles() {
        for operation in Operation::ALL.into_iter().filter(|operation| profile.has(*operation)) {
            for is_repeat in [false, true] {
                let name = format!("{} {operation:?}", profile.name);
                let request =
                    over_the_wire(&profile, &profile.request(operation, &asked(), is_repeat).unwrap());
                assert_eq!(
                    profile.operation_of(&request),
                    Some((operation, Part::Request { is_repeat })),
                    "{name}"
                );
                let read = profile.read_request(operation, &request).unwrap();
                for value in Value::ALL {
                    let expected = if *value == Value::Institution {
                        Some("110")
                    } else {
                        asked().get(*value).map(|_| ()).and(read.get(*value))
                    };
                    assert!(
                        read.get(*value).is_none() || read.get(*value) == expected.or(asked().get(*value)),
                        "{name}: {value:?}"
                    );
                }
                let code = if operation == Operation::Reversal { "48" } else { "00" };
                let answer =
                    over_the_wire(&profile, &profile.answer(operation, &request, code, &told()).unwrap());
                assert_eq!(profile.operation_of(&answer), Some((operation, Part::Answer)), "{name}");
                assert_eq!(profile.match_key(&request), profile.match_key(&answer), "{name}");
                let read = profile.read_answer(operation, &request, &answer).unwrap();
                assert_eq!(read.code, code, "{name}");
                if operation == Operation::Inquiry {
                    assert_eq!(read.values.taxes(), told().taxes(), "{name}");
                    assert_eq!(read.values.get(Value::OwnerName), Some("JORDAN"), "{name}");
                }
                if matches!(operation, Operation::Inquiry | Operation::Payment) {
                    assert_eq!(read.values.rupiah(Value::Amount), Ok(Rupiah::new(178_500)), "{name}");
                }
            }
        }
    }
}

#[test]
fn a_refused_answer_has_no_bill() {
    for profile in profiles() {
        let request = profile.request(Operation::Inquiry, &asked(), false).unwrap();
        let answer = profile.answer(Operation::Inquiry, &request, "14", &Values::new()).unwrap();
        let read =
            profile.read_answer(Operation::Inquiry, &request, &over_the_wire(&profile, &answer)).unwrap();
        assert_eq!(
            profile.meaning(Operation::Inquiry, &read.code),
            Meaning::Refused(Reason::VehicleNotFound)
        );
        assert_eq!(profile.meaning(Operation::Inquiry, "7F"), Meaning::Unknown);
        assert_eq!(profile.refusal(Reason::BillAlreadyPaid, "54").bank_code.as_deref(), Some("0054"));
        assert_eq!(profile.code_of_shown("0054").as_deref(), Some("54"));
    }
}

#[test]
fn an_answer_to_something_else_is_told() {
    for profile in profiles() {
        let request = profile.request(Operation::Payment, &asked(), false).unwrap();
        let good = profile.answer(Operation::Payment, &request, "00", &told()).unwrap();
        let mut other = good.clone();
        other.set(37, "100000000999");
        assert_eq!(profile.read_answer(Operation::Payment, &request, &other), Err(Mismatch::Echo(37)));
        let mut other = good.clone();
        other.set(11, "000999");
        assert_ne!(profile.match_key(&request), profile.match_key(&other));
        let mut other = good.clone();
        other.remove(39);
        assert_eq!(
            profile.read_answer(Operation::Payment, &request, &other),
            Err(Mismatch::Field(Path::from(39)))
        );
        assert_eq!(
            profile.read_answer(Operation::Payment, &request, &request),
            Err(Mismatch::Kind("payment"))
        );
        let mut other = good;
        other.set(4, "1");
        let read = profile.read_answer(Operation::Payment, &request, &other);
        assert!(read.is_err() || read.unwrap().values.rupiah(Value::Amount) == Ok(Rupiah::new(1)));
    }
}

#[test]
fn what_a_dialect_cannot_say_is_found_before_it_is_sent() {
    for profile in profiles() {
        let unfit =
            |values: Values| profile.request(Operation::Payment, &values, false).unwrap_err().to_string();
        assert!(unfit(asked().with(Value::Product, "SAMSAT_BALI")).contains("names no product SAMSAT_BALI"));
        assert!(unfit(asked().with(Value::Trace, "1")).starts_with("field 11: length 1"));
        let mut nameless = Values::new();
        nameless.set_moment(Timestamp::from_millis(0));
        assert!(unfit(nameless).contains("which is not known"));
    }
}

#[test]
fn identities_read_back() {
    let identity = LineProfile::identity(&asked()).unwrap();
    assert_eq!(identity, "1125052229-000123-100000000123-ESAM0001-1125");
    let values = LineProfile::values_of_identity(&identity).unwrap();
    assert_eq!(LineProfile::identity(&values).as_deref(), Some(identity.as_str()));
    assert_eq!(LineProfile::terminal_of_identity(&identity), Terminal::parse("ESAM0001"));
    assert_eq!(LineProfile::values_of_identity("1-2"), None);
}

#[test]
fn what_makes_no_profile() {
    let text = LineProfile::builtin_text("contoh-37-80").unwrap();
    for (from, to, line_has, expected) in [
        ("dialect = \"dialect-37-80\"", "dialect = \"dialect-9\"", "dialect", "there is no dialect"),
        ("header_bytes = 2", "header_bytes = 3", "[frame]", "2 or 4 bytes"),
        ("bytes_max = 4096", "bytes_max = 70000", "[frame]", "bytes_max"),
        ("horizon_ms = 120000", "horizon_ms = 1000", "[times]", "horizon_ms must not be below"),
        ("ask = \"advice\"", "ask = \"status\"", "[unanswered]", "add [message.status]"),
        ("ask = \"advice\"", "ask = \"hope\"", "ask", "unknown variant"),
        ("match = [7, 11, 41]", "match = [7, 41]", "[identity]", "must have the trace number"),
        (
            "match = [7, 11, 41]",
            "match = [7, 11, 41, 42]",
            "[message.advice]",
            "field 42 is in [identity] match",
        ),
        ("shown_as = \"00{code}\"", "shown_as = \"00\"", "[codes", "must contain {code}"),
        ("\"48\" = \"not_paid\"", "\"48\" = \"gone\"", "[codes", "\"gone\" is no meaning"),
        (
            "\"89\" = { refused = \"bank_refused\" }",
            "\"89\" = { refused = \"tired\" }",
            "[codes",
            "there is no reason \"tired\"",
        ),
        ("\"03\" = \"unknown\"", "\"03\" = \"not_paid\"", "[codes", "is for questions"),
        ("\"48.nik\" = \"{nik}\"", "\"48.nik\" = \"{nick}\"", "\"48.nik\"", "there is no value {nick}"),
        ("\"48.nik\" = \"{nik}\"", "\"48.nick\" = \"{nik}\"", "\"48.nick\"", "has no such place"),
        ("\"48.nik\" = \"{nik}\"", "\"48\" = \"{nik}\"", "\"48\" =", "it has parts"),
        ("\"18\" = \"6021\"", "\"18\" = \"602\"", "\"18\"", "has 3 characters, the field 4"),
        ("\"18\" = \"6021\"", "\"18\" = \"x{trace}\"", "\"18\"", "a placeholder is a whole value"),
        ("\"39\" = \"{code}\"\n\"4\"", "\"4\"", "[message.", "no field has {code}"),
    ] {
        assert!(text.contains(from), "{from}");
        let broken = text.replace(from, to);
        let error = LineProfile::from_toml(&broken).expect_err(expected);
        assert!(error.message.contains(expected), "{to}: {error}");
        let line = broken.lines().nth(error.line - 1).unwrap_or_default();
        assert!(line.contains(line_has), "{error}\n{line}");
    }
}
