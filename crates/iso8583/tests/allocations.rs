//! What a message costs in memory: nothing per field, and never much more than its bytes.

use allocation_counter::measure;
use iso8583::{Message, Mti, Path, Spec};

fn payment(fields: &[(u8, &str)]) -> Message {
    let mut message = Message::new(Mti::parse("0200").expect("a message type"));
    for (field, text) in fields {
        message.set(*field, text);
    }
    message
}

const FIXED: [(u8, &str); 12] = [
    (3, "800000"),
    (4, "178500"),
    (7, "1125052229"),
    (11, "000123"),
    (12, "122229"),
    (13, "1125"),
    (15, "1125"),
    (18, "6021"),
    (37, "100000000123"),
    (41, "ESAM01"),
    (42, "ESAMSAT"),
    (49, "360"),
];

#[test]
fn a_field_costs_no_allocation() {
    let spec = Spec::builtin("dialect-37-80").expect("it is shipped");
    let mut counts = Vec::new();
    for count in [1, 4, 12] {
        let mut message = payment(&FIXED[..count]);
        message.set(Path::part(48, "payment_code"), "322020060719000");
        let mut bytes = Vec::with_capacity(1_000);
        let written = measure(|| spec.encode(&message, &mut bytes).expect("it fits"));
        assert_eq!(written.count_total, 0, "{count} fields");
        let read = measure(|| drop(spec.decode(&bytes).expect("it was written")));
        counts.push(read.count_total);
    }
    // The message's own three: values, parts, bytes.
    assert_eq!(counts, [3, 3, 3]);
}

#[test]
fn packed_fields_cost_no_allocation_either() {
    let spec = Spec::from_toml(include_str!("packed.toml")).expect("the other tests read it as well");
    let message = payment(&[(2, "123"), (3, "380000"), (4, "7"), (5, "1234567"), (7, "42"), (8, "12345")]);
    let mut bytes = Vec::with_capacity(1_000);
    assert_eq!(measure(|| spec.encode(&message, &mut bytes).expect("it fits")).count_total, 0);
    assert_eq!(measure(|| drop(spec.decode(&bytes).expect("it was written"))).count_total, 2);
}

#[test]
fn whatever_comes_costs_little_more_than_its_own_size() {
    let all_fields = ["0200".to_owned(), "F".repeat(32), "9".repeat(65_500)].concat();
    let lying = "02000000000000010000999".to_owned() + &"0100100010".repeat(100);
    let tags = "02000000000000010000990".to_owned() + &"04000".repeat(198);
    for text in [all_fields, lying, tags, "0".repeat(65_536), "9".repeat(65_536)] {
        for name in Spec::builtin_names() {
            let spec = Spec::builtin(name).expect("it is shipped");
            let cost = measure(|| drop(spec.decode(text.as_bytes())));
            let bytes_max = 2_048 + 3 * u64::try_from(text.len()).expect("it is short");
            assert!(cost.bytes_max < bytes_max, "{name}: {} bytes of {}", cost.bytes_max, text.len());
        }
    }
}
