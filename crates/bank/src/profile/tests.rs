//! The shipped profiles from end to end, and what is wrong with broken ones.

use super::*;
use domain::{Rupiah, Taxes, Timestamp};
use iso8583::Message;
use proptest::prelude::*;
use std::sync::LazyLock;

fn profiles() -> &'static [LineProfile] {
    static PROFILES: LazyLock<Vec<LineProfile>> = LazyLock::new(|| {
        LineProfile::builtin_names().map(|name| LineProfile::builtin(name).unwrap()).collect()
    });
    &PROFILES
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
                    over_the_wire(profile, &profile.compose(operation, &asked(), is_repeat).unwrap());
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
                    over_the_wire(profile, &profile.answer(operation, &request, code, &told()).unwrap());
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
        let request = profile.compose(Operation::Inquiry, &asked(), false).unwrap();
        let answer = profile.answer(Operation::Inquiry, &request, "14", &Values::new()).unwrap();
        let read =
            profile.read_answer(Operation::Inquiry, &request, &over_the_wire(profile, &answer)).unwrap();
        assert_eq!(
            profile.meaning(Operation::Inquiry, &read.code),
            Meaning::Refused(Reason::VehicleNotFound)
        );
        assert_eq!(profile.meaning(Operation::Inquiry, "7F"), Meaning::Unlisted);
        assert_eq!(profile.refusal(Reason::BillAlreadyPaid, "54").bank_code.as_deref(), Some("0054"));
        assert_eq!(profile.code_of_shown("0054").as_deref(), Some("54"));
    }
}

#[test]
fn an_answer_to_something_else_is_told() {
    for profile in profiles() {
        let request = profile.compose(Operation::Payment, &asked(), false).unwrap();
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
        let unfit = |values: Values| {
            let composed = profile.compose(Operation::Payment, &values, false);
            let encoded = composed.and_then(|message| Ok(profile.spec.encode(&message, &mut Vec::new())?));
            encoded.unwrap_err().to_string()
        };
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
        ("shown_as = \"00{code}\"", "shown_as = \"00\"", "shown_as", "must contain {code}"),
        ("[codes.advice]", "[codes.advise]", "advise", "unknown field `advise`"),
        (
            "[codes.echo]\n\"00\" = \"done\"",
            "[codes.echo]\n\"00\" = \"unknown\"",
            "[codes.echo]",
            "add it to [codes.echo]",
        ),
        ("[codes.echo]\n\"00\" = \"done\"\n", "", "[message.echo]", "add it to [codes.echo]"),
        ("\"48\" = \"not_paid\"", "\"48\" = \"gone\"", "\"48\" = \"gone\"", "\"gone\" is no meaning"),
        ("\"48\" = \"not_paid\"", "\"48\" = 1", "\"48\" = 1", "a meaning is a word such as"),
        ("\"48\" = \"not_paid\"", "\"148\" = \"not_paid\"", "\"148\"", "has two letters or digits"),
        (
            "\"89\" = { refused = \"bank_refused\" }",
            "\"89\" = { refused = \"tired\" }",
            "\"tired\"",
            "there is no reason \"tired\"",
        ),
        (
            "\"89\" = { refused = \"bank_refused\" }",
            "\"89\" = { refused = \"balance_short\" }",
            "\"balance_short\"",
            "is nothing to tell a partner",
        ),
        ("\"03\" = \"unknown\"", "\"03\" = \"not_paid\"", "\"03\" = \"not_paid\"", "is for questions"),
        ("SAMSAT_JATIM =", "samsat-jatim =", "samsat-jatim", "is no product code"),
        (
            "\"SMS35\"",
            "\"SMS35-0123456789AB\"",
            "[message.",
            "field 48.product: length 18 is more than 16 ({product})",
        ),
        (
            "institution = \"110\"",
            "institution = \"11O\"",
            "[message.",
            "field 32: not a digit ({institution})",
        ),
        ("amount_decimals = 0", "amount_decimals = 1", "[identity]", "is 0 or 2"),
        (
            "37, 41, 49, 48]\n[message.advice.fields]",
            "37, 41, 49]\n[message.advice.fields]",
            "[message.advice]",
            "field 48 has {payment_code}, which an answer must repeat to be believed; add 48 to echo",
        ),
        ("\"3\" = \"800000\"", "\"3\" = \"370000\"", "[message.", "it looks like [message.inquiry]"),
        (
            "\"12\" = \"{local_time}\"",
            "\"12\" = \"{transmission}\"",
            "[message.",
            "field 12: length 10 is more than 6",
        ),
        (
            "\"48.nik\" = \"{nik}\"",
            "\"48.nik\" = \"{payment_code}\"",
            "[message.inquiry",
            "no field has {nik}",
        ),
        (
            "\"49\" = \"360\"",
            "\"49\" = \"360\"\n\"102\" = \"{owner_name}\"",
            "[message.inquiry",
            "which is not known",
        ),
        ("bytes_max = 4096", "bytes_max = 200", "[message.", "more than [frame] bytes_max"),
        ("\"48.nik\" = \"{nik}\"", "\"48.nik\" = \"{nick}\"", "\"48.nik\"", "there is no value {nick}"),
        ("\"48.nik\" = \"{nik}\"", "\"48.nick\" = \"{nik}\"", "\"48.nick\"", "has no such place"),
        ("\"48.nik\" = \"{nik}\"", "\"48\" = \"{nik}\"", "\"48\" =", "it has parts"),
        ("\"18\" = \"6021\"", "\"18\" = \"602\"", "\"18\"", "has 3 characters, the field 4"),
        ("\"18\" = \"6021\"", "\"18\" = \"x{trace}\"", "\"18\"", "a placeholder is a whole value"),
        ("\"39\" = \"{code}\"\n\"4\"", "\"4\"", "[message.", "no field has {code}"),
        (
            "\"4\" = \"{amount}\"\n\"48.bank_reference\"",
            "\"48.bank_reference\"",
            "[message.",
            "no field has {amount}; add one to answer",
        ),
    ] {
        assert!(text.contains(from), "{from}");
        let broken = text.replace(from, to);
        let error = LineProfile::from_toml(&broken).err().unwrap_or_else(|| panic!("{to} passes"));
        assert!(error.message.contains(expected), "{to}: {error}");
        let line = broken.lines().nth(error.line - 1).unwrap_or_default();
        assert!(line.contains(line_has), "{error}\n{line}");
    }
}

#[test]
fn a_question_says_which_payment_it_is_about() {
    let text = LineProfile::builtin_text("contoh-37-80").unwrap();
    let echo = "echo = [3, 7, 11, 12, 13, 15, 18, 32, 37, 41, 49, 48]\n[message.advice.fields]";
    let original = "\"90.mti\" = \"{original_mti}\"\n\"90.trace\" = \"{original_trace}\"\n\
        \"90.transmission\" = \"{original_transmission}\"\n\"90.acquirer\" = \"{institution}\"\n\"90.forwarder\" = \"0\"";
    assert!(text.contains(echo));
    let profile = LineProfile::from_toml(&text.replace(echo, &format!("{echo}\n{original}"))).unwrap();
    let values = LineProfile::values_of_identity(&LineProfile::identity(&asked()).unwrap()).unwrap();
    let values = [
        Value::Amount,
        Value::PaymentCode,
        Value::Nik,
        Value::Chassis,
        Value::Product,
        Value::LocalTime,
        Value::LocalDate,
    ]
    .into_iter()
    .fold(values, |values, value| values.with(value, asked().get(value).unwrap()));
    let advice = over_the_wire(&profile, &profile.compose(Operation::Advice, &values, true).unwrap());
    let part = |name| advice.get(Path::part(90, name)).unwrap().to_owned();
    assert_eq!(part("mti"), "0200", "of the payment");
    assert_eq!((part("trace"), part("transmission")), ("000123".to_owned(), "1125052229".to_owned()));
    let read = profile.read_request(Operation::Advice, &advice).unwrap();
    assert_eq!(read.get(Value::OriginalTrace), Some("000123"));
}

#[test]
fn a_message_of_another_institution_is_not_ours() {
    for profile in profiles() {
        let mut message = profile.compose(Operation::SignOn, &asked(), false).unwrap();
        message.set(32, "111");
        let read = profile.read_request(Operation::SignOn, &message);
        assert_eq!(read, Err(Mismatch::Field(Path::from(32))), "{}", profile.name);
    }
}

/// Whatever a gateway and a bank can have to say.
fn any_values() -> impl Strategy<Value = Values> {
    let digits = |value, length: usize| {
        (Just(value), proptest::string::string_regex(&format!("[0-9]{{{length}}}")).unwrap())
    };
    let text = |value, regex: &str| (Just(value), proptest::string::string_regex(regex).unwrap());
    let amount = |value| (Just(value), (0..=999_999_999_999_i64).prop_map(|amount| amount.to_string()));
    let session = [
        digits(Value::Transmission, 10),
        digits(Value::Trace, 6),
        digits(Value::Reference, 12),
        digits(Value::LocalTime, 6),
        digits(Value::LocalDate, 4),
        digits(Value::SettlementDate, 4),
        digits(Value::OriginalTrace, 6),
        digits(Value::OriginalTransmission, 10),
        digits(Value::OriginalReference, 12),
    ];
    let texts = [
        text(Value::Terminal, "[A-Z0-9]{1,8}"),
        text(Value::Nik, "[0-9]{15,16}"),
        text(Value::Chassis, "[A-Z0-9]{5,25}"),
        text(Value::PaymentCode, "[0-9]{1,20}"),
        text(Value::Product, "SAMSAT_(JABAR|JATENG|JAKARTA|JATIM)"),
        text(Value::BankReference, "[0-9A-F]{32}"),
        text(Value::OwnerName, "[A-Z][A-Z ,.']{0,28}[A-Z]"),
        text(Value::OwnerAddress, "[A-Z][A-Z0-9 /.-]{0,78}[0-9]"),
        text(Value::LicensePlate, "[A-Z]{1,2} [0-9]{4} [A-Z]{1,2}"),
        text(Value::Brand, "[A-Z]{1,15}"),
        text(Value::Model, "[A-Z0-9()/]{0,24}[A-Z]"),
        text(Value::Color, "[A-Z]{1,15}"),
        text(Value::YearBuilt, "[12][0-9]{3}"),
        text(Value::ValidUntil, "(20[0-9]{12})?"),
    ];
    // What is paid has two decimals more in a dialect.
    let paid = (Just(Value::Amount), (0..=9_999_999_999_i64).prop_map(|amount| amount.to_string()));
    let taxes = [
        amount(Value::Pkb),
        amount(Value::OpsenPkb),
        amount(Value::Swdkllj),
        amount(Value::Bbn),
        amount(Value::PkbPenalty),
        amount(Value::OpsenPkbPenalty),
        amount(Value::SwdklljPenalty),
        amount(Value::BbnPenalty),
    ];
    (session, Vec::from(texts), paid, taxes).prop_map(|(session, texts, paid, taxes)| {
        session.into_iter().chain(texts).chain([paid]).chain(taxes).collect()
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_is_said_is_understood_whatever_it_is(values in any_values(), is_repeat: bool) {
        for profile in profiles() {
            for operation in Operation::ALL.into_iter().filter(|operation| profile.has(*operation)) {
                let request = over_the_wire(profile, &profile.compose(operation, &values, is_repeat).unwrap());
                prop_assert_eq!(profile.operation_of(&request), Some((operation, Part::Request { is_repeat })));
                let read = profile.read_request(operation, &request).unwrap();
                let code = profile.codes(operation).next().unwrap_or("00").to_owned();
                let answer = over_the_wire(profile, &profile.answer(operation, &request, &code, &values).unwrap());
                prop_assert_eq!(profile.operation_of(&answer), Some((operation, Part::Answer)));
                prop_assert_eq!(profile.match_key(&request), profile.match_key(&answer));
                let told = profile.read_answer(operation, &request, &answer).unwrap();
                prop_assert_eq!(&told.code, &code);
                for value in Value::ALL {
                    for read in [&read, &told.values] {
                        let said = values.get(*value);
                        prop_assert!(read.get(*value).is_none() || said.is_none() || read.get(*value) == said, "{:?}", value);
                    }
                }
                if operation == Operation::Payment {
                    prop_assert_eq!(LineProfile::identity(&read), LineProfile::identity(&values));
                }
            }
        }
    }

    #[test]
    fn no_bytes_and_no_text_upset_the_reader(bytes: Vec<u8>, text in "[ -~\n]{0,200}", cut in 0_usize..8_000) {
        for profile in profiles() {
            if let Ok(message) = profile.spec.decode(&bytes)
                && let Some((operation, _)) = profile.operation_of(&message)
            {
                let _values = profile.read_request(operation, &message);
            }
        }
        prop_assert!(LineProfile::from_toml(&text).is_err());
        let shipped = LineProfile::builtin_text("contoh-38-50").unwrap();
        let cut = cut.min(shipped.len());
        let broken = shipped.get(..cut).unwrap_or_default();
        if let Err(error) = LineProfile::from_toml(broken) {
            prop_assert!((1..=broken.lines().count() + 1).contains(&error.line), "{}", error);
        }
    }
}
