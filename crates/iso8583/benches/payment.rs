//! What messages cost to write and to read: a payment, and the answer that brings a whole bill.

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use iso8583::{Message, Mti, Path, Spec};
use std::hint::black_box;

fn payment(dialect: bool) -> Message {
    let mut message = Message::new(Mti::parse("0200").expect("a message type"));
    for (field, text) in [
        (3, "800000"),
        (4, "178500"),
        (7, "1125052229"),
        (11, "000123"),
        (12, "122229"),
        (13, "1125"),
        (15, "1125"),
        (18, "6021"),
        (32, "110"),
        (37, "100000000123"),
        (41, "ESAM0001"),
        (49, "360"),
    ] {
        message.set(field, text);
    }
    if dialect {
        message.set(Path::part(48, "nik"), "3201111111111111");
        message.set(Path::part(48, "chassis"), "MH328D204AK401000");
        message.set(Path::part(48, "payment_code"), "322020060719000");
    } else {
        message.set(48, "3201111111111111MH328D204AK401000        322020060719000");
    }
    message
}

/// The longest message of a day: the answer to an inquiry, with the whole bill.
fn bill() -> Message {
    let mut message = payment(true);
    message.set_mti(Mti::parse("0210").expect("a message type"));
    message.set(39, "00");
    for (part, text) in [
        ("owner_name", "JORDAN"),
        ("owner_address", "KP CITAMIANG DUA RT1 RW4 PAMIJAHAN KAB BOGOR"),
        ("license_plate", "F 0001 Z"),
        ("brand", "YAMAHA"),
        ("model", "28D (AL115S/MIO)"),
        ("color", "MERAH MARUN"),
        ("year_built", "2010"),
        ("pkb", "143500"),
        ("opsen_pkb", "0"),
        ("swdkllj", "35000"),
        ("bbn", "0"),
        ("pkb_penalty", "0"),
        ("opsen_pkb_penalty", "0"),
        ("swdkllj_penalty", "0"),
        ("bbn_penalty", "0"),
    ] {
        message.set(Path::part(48, part), text);
    }
    message
}

fn measure(criterion: &mut Criterion) {
    let tagged = Spec::builtin("dialect-37-80").expect("it is shipped");
    let mut group = criterion.benchmark_group("iso8583");
    group.throughput(Throughput::Elements(1));
    for (name, spec, message) in [
        ("payment, default spec", Spec::iso87_ascii(), payment(false)),
        ("payment, tagged", tagged, payment(true)),
        ("bill, tagged", tagged, bill()),
    ] {
        let mut bytes = Vec::new();
        spec.encode(&message, &mut bytes).expect("the message fits");
        let mut out = Vec::with_capacity(512);
        group.bench_function(format!("{name}/encode"), |bencher| {
            bencher.iter(|| {
                out.clear();
                spec.encode(black_box(&message), &mut out).expect("the message fits");
                black_box(out.len())
            });
        });
        group.bench_function(format!("{name}/decode"), |bencher| {
            bencher.iter(|| spec.decode(black_box(&bytes)).expect("the bytes are a message"));
        });
    }
    group.finish();
}

criterion_group!(benches, measure);
criterion_main!(benches);
