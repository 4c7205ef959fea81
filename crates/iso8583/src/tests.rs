//! Every rule of the codec: tables of what is refused, and properties over messages and bytes of all kinds.

use crate::*;
use proptest::prelude::*;
use std::fmt::Write;

/// All that a spec can say, in one.
const ODD: &str = r#"
name = "odd"
bitmap = "hex-lower"
[field.2]
name = "packed, odd"
kind = "n"
length = 5
encoding = "bcd"
[field.3]
name = "packed, padded"
kind = "n"
length = 7
encoding = "bcd"
pad = "zeros"
[field.4]
name = "packed, prefixed"
kind = "n"
lll = 19
encoding = "bcd"
[field.5]
name = "letters"
kind = "a"
length = 4
pad = "spaces"
[field.6]
name = "track"
kind = "z"
ll = 37
[field.7]
name = "signed"
kind = "x+n"
length = 9
[field.8]
name = "raw bytes"
kind = "b"
encoding = "binary"
lll = 300
min = 0
[field.9]
name = "bytes as text"
kind = "b"
encoding = "hex"
length = 8
[field.10]
name = "long"
kind = "ans"
llll = 2000
min = 0
[field.11]
name = "which"
kind = "n"
length = 1
[field.12]
name = "by type and field"
kind = "ans"
lll = 99
[[field.12.layout]]
when = { mti = ["0200"], fields = { "11" = "1" } }
columns = [{ name = "a", kind = "n", length = 3 }, { name = "b", kind = "ans", length = 5, pad = "spaces" }]
[[field.12.layout]]
when = { mti = ["0200", "0210"] }
columns = [
    { name = "a", kind = "n", length = 2 },
    { name = "c", kind = "n", length = 4, pad = "zeros", optional = true },
    { name = "d", kind = "an", length = 1, optional = true },
]
[[field.12.layout]]
tagged = { tag = 2, length = 2, parts = [
    { tag = "A1", name = "a", kind = "ans", length = 20, mask = "secret" },
    { tag = "A2", name = "e", kind = "x+n", length = 9 },
] }
[field.128]
name = "last"
kind = "an"
length = 2
mask = "personal"
"#;

fn odd() -> Spec {
    Spec::from_toml(ODD).unwrap()
}

fn packed() -> Spec {
    Spec::from_toml(include_str!("../tests/packed.toml")).unwrap()
}

fn specs() -> Vec<Spec> {
    let builtin = Spec::builtin_names().map(|name| Spec::builtin(name).unwrap().clone());
    builtin.chain([odd(), packed()]).collect()
}

fn message(mti: &str, values: &[(&str, &str)]) -> Message {
    let mut message = Message::new(Mti::parse(mti).unwrap());
    for (path, text) in values {
        message.set(Path::parse(path).unwrap(), text);
    }
    message
}

fn encoded(spec: &Spec, message: &Message) -> Result<Vec<u8>, String> {
    let mut bytes = b"before".to_vec();
    let result = spec.encode(message, &mut bytes);
    assert!(result.is_ok() || bytes == b"before", "an error leaves nothing behind");
    result.map(|()| bytes.split_off(6)).map_err(|error| error.to_string())
}

#[test]
fn a_payment_on_the_wire() {
    let spec = Spec::builtin("dialect-37-80").unwrap();
    let payment = message(
        "0200",
        &[
            ("3", "800000"),
            ("4", "178500"),
            ("7", "1125052229"),
            ("11", "000123"),
            ("32", "110"),
            ("37", "100000000123"),
            ("41", "ESAM01"),
            ("48.payment_code", "322020060719000"),
            ("48.nik", "320111111111111"),
            ("49", "360"),
        ],
    );
    let bytes = encoded(spec, &payment).unwrap();
    assert_eq!(
        String::from_utf8(bytes.clone()).unwrap(),
        "02003220000108818000800000000000178500112505222900012303110100000000123ESAM01  \
         04003015322020060719000010153201111111111113 60"
            .replace("3 60", "360")
    );
    assert_eq!(spec.decode(&bytes).unwrap(), payment);
}

#[test]
fn packed_and_binary_values() {
    let spec = odd();
    let mut values = message("0800", &[("2", "12345"), ("3", "6"), ("4", "123"), ("128", "Z9")]);
    values.set_bytes(8, &[0, 255]);
    values.set_bytes(9, &[0xAB; 8]);
    let bytes = encoded(&spec, &values).unwrap();
    let mut expected = b"0800f1800000000000000000000000000001".to_vec();
    expected.extend([0x01, 0x23, 0x45, 0, 0, 0, 6, 0, 3, 0x01, 0x23]);
    expected.extend(b"002\x00\xFFABABABABABABABABZ9");
    assert_eq!(bytes, expected);
    assert_eq!(spec.decode(&bytes).unwrap(), values);
}

#[test]
fn every_filler_and_prefix() {
    let spec = packed();
    let mut values = message(
        "0200",
        &[
            ("2", "123"),
            ("3", "380000"),
            ("4", "7"),
            ("5", "1234567"),
            ("6", "123"),
            ("7", "0"),
            ("8", "1234"),
            ("9", "text"),
            ("90.first", "42"),
        ],
    );
    values.set_bytes(10, &[]);
    let bytes = encoded(&spec, &values).unwrap();
    let mut expected = vec![0x02, 0x00, 0xFF, 0xC0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x40, 0, 0, 0, 0];
    expected.extend([0x03, 0x01, 0x23]);
    expected.extend([0x38, 0x00, 0x00]);
    expected.extend([0, 0, 0, 0, 0, 0x07]);
    expected.extend([0x12, 0x34, 0x56, 0x70]);
    expected.extend([0x00, 0x03, 0x12, 0x3F]);
    expected.extend([0x00, 0x00, 0x0F]);
    expected.extend(b"004\x12\x34");
    expected.extend(b"\x00\x04text");
    expected.extend([0x00]);
    expected.extend(b"\x00\x06000042");
    assert_eq!(bytes, expected);
    assert_eq!(spec.decode(&bytes).unwrap(), values);
}

#[test]
fn what_cannot_be_written() {
    let spec = odd();
    for (mti, values, expected) in [
        ("0800", &[("13", "x")][..], "field 13: the spec has no such field"),
        ("0800", &[("2", "1234")], "field 2: length 4 is less than 5"),
        ("0800", &[("2", "123456")], "field 2: length 6 is more than 5"),
        ("0800", &[("2", "1234x")], "field 2: not a digit"),
        ("0800", &[("3", "007")], "field 3: the value begins or ends with its own padding"),
        ("0800", &[("3", "")], "field 3: the value begins or ends with its own padding"),
        ("0800", &[("5", "AB ")], "field 5: not a letter"),
        ("0800", &[("6", "")], "field 6: length 0 is less than 1"),
        ("0800", &[("7", "X00000000")], "field 7: not C or D and digits"),
        ("0800", &[("10", "é")], "field 10: not printable ASCII"),
        ("0800", &[("10.a", "1")], "field 10: the field is structured otherwise"),
        ("0800", &[("12", "plain")], "field 12: the field is structured otherwise"),
        ("0800", &[("12.b", "1")], "field 12.b: the layout has no such part"),
        ("0800", &[("12.a", "123456789012345678901")], "field 12.a: length 21 is more than 20"),
        ("0200", &[("11", "1"), ("12.a", "123")], "field 12.b: the column is missing"),
        ("0200", &[("11", "1"), ("12.a", "12"), ("12.b", "")], "field 12.a: length 2 is less than 3"),
        (
            "0200",
            &[("11", "1"), ("12.a", "123"), ("12.b", "x ")],
            "field 12.b: the value begins or ends with its own padding",
        ),
        ("0200", &[("12.a", "12"), ("12.d", "x")], "field 12.c: the column is missing"),
        ("0200", &[("12.a", "12"), ("12.x", "x")], "field 12.x: the layout has no such part"),
    ] {
        assert_eq!(encoded(&spec, &message(mti, values)).unwrap_err(), expected);
    }
}

#[test]
fn what_cannot_be_read() {
    let spec = Spec::builtin("dialect-37-80").unwrap();
    let sixty_four_kibibytes = "9".repeat(65_536);
    for (text, expected) in [
        ("", "message at offset 0: 4 bytes needed, 0 left"),
        ("02", "message at offset 0: 4 bytes needed, 2 left"),
        ("1200", "message at offset 0: not a message type of version 1987"),
        ("O200", "message at offset 0: not a message type of version 1987"),
        (&sixty_four_kibibytes, "message at offset 0: not a message type of version 1987"),
        ("0200", "message at offset 4: 16 bytes needed, 0 left"),
        ("0200002000000000000g", "message at offset 19: the bitmap is not hexadecimal"),
        ("0200002000000000000a", "message at offset 19: the bitmap is not hexadecimal"),
        ("080080000000000000000000000000000000", "message at offset 20: the second bitmap is empty"),
        ("080080000000000000008000000000000000", "field 65 at offset 20: the spec has no such field"),
        ("08000020000000000000", "field 11 at offset 20: 6 bytes needed, 0 left"),
        ("0800002000000000000000O123", "field 11 at offset 22: not a digit"),
        ("08000020000000000000000123x", "message at offset 26: 1 bytes behind the last field"),
        ("02000000000100000000xx110", "field 32 at offset 20: the length is not a number"),
        ("0200000000010000000012110", "field 32 at offset 20: length 12 is more than 11"),
        ("0200000000010000000000", "field 32 at offset 20: length 0 is less than 1"),
        ("020000000001000000000911", "field 32 at offset 22: 9 bytes needed, 2 left"),
        ("02000000000000010000005990011", "field 48 at offset 23: the layout has no such tag"),
        ("0200000000000001000000501X00", "field 48.nik at offset 25: the length is not a number"),
        ("0200000000000001000000501017", "field 48.nik at offset 25: length 17 is more than 16"),
        ("02000000000000010000007010031", "field 48 at offset 23: 7 bytes needed, 6 left"),
        ("0200000000000001000000701003123", "field 48.nik at offset 28: 3 bytes needed, 2 left"),
        ("020000000000000100000080100312a", "field 48.nik at offset 30: not a digit"),
        ("020000000000000100000120100110100123", "field 48.nik at offset 29: the tag comes twice"),
    ] {
        assert_eq!(
            spec.decode(text.as_bytes()).unwrap_err().to_string(),
            expected,
            "{}",
            &text[..text.len().min(60)]
        );
    }
    let spec = packed();
    for (bytes, expected) in [
        (&[][..], "message at offset 0: 2 bytes needed, 0 left"),
        (&[0x0A, 0x00], "message at offset 0: not a message type of version 1987"),
        (&[0x12, 0x00], "message at offset 0: not a message type of version 1987"),
        (&[0x02, 0x00, 1, 2, 3], "message at offset 2: 8 bytes needed, 3 left"),
        (&[0x02, 0x00, 0x80, 0, 0, 0, 0, 0, 0, 0, 1], "message at offset 10: 8 bytes needed, 1 left"),
        (&[0x02, 0x00, 0, 0, 0, 0, 0, 0x80, 0, 0], "field 41 at offset 7: the spec has no such field"),
        (&[0x02, 0x00, 0x40, 0, 0, 0, 0, 0, 0, 0, 0x0A], "field 2 at offset 10: the length is not a number"),
        (&[0x02, 0x00, 0x40, 0, 0, 0, 0, 0, 0, 0, 0x20], "field 2 at offset 10: length 20 is more than 19"),
        (
            &[0x02, 0x00, 0x40, 0, 0, 0, 0, 0, 0, 0, 0x03, 0x11, 0x11],
            "field 2 at offset 11: the filling half byte is not the spec's",
        ),
        (&[0x02, 0x00, 0x40, 0, 0, 0, 0, 0, 0, 0, 0x03, 0x01, 0x1F], "field 2 at offset 12: not a digit"),
        (
            &[0x02, 0x00, 0x08, 0, 0, 0, 0, 0, 0, 0, 0x12, 0x34, 0x56, 0x7F],
            "field 5 at offset 13: the filling half byte is not the spec's",
        ),
        (
            &[0x02, 0x00, 0x04, 0, 0, 0, 0, 0, 0, 0, 0x00, 0x03, 0x12, 0x30],
            "field 6 at offset 13: the filling half byte is not the spec's",
        ),
        (
            &[0x02, 0x00, 0x04, 0, 0, 0, 0, 0, 0, 0, 0x20, 0x00],
            "field 6 at offset 10: length 2000 is more than 1999",
        ),
        (
            &[0x02, 0x00, 0x00, 0x80, 0, 0, 0, 0, 0, 0, 0x10, 0x04],
            "field 9 at offset 10: length 1004 is more than 300",
        ),
    ] {
        assert_eq!(spec.decode(bytes).unwrap_err().to_string(), expected);
    }
    let spec = odd();
    let with = |head: &str, tail: &[u8]| [head.as_bytes(), tail].concat();
    for (bytes, expected) in [
        (
            with("08004000000000000000", &[0x11, 0x23, 0x45]),
            "field 2 at offset 20: the filling half byte is not the spec's",
        ),
        (with("08004000000000000000", &[0x01, 0xA3, 0x45]), "field 2 at offset 21: not a digit"),
        (with("08001000000000000000", &[0, 0x1B]), "field 4 at offset 20: the length is not a number"),
        (with("08000080000000000000", b"ABABABABABABABaB"), "field 9 at offset 34: not a byte"),
        (with("02000030000000000000", b"10091234 "), "field 12 at offset 24: 9 bytes needed, 5 left"),
        (
            with("02000030000000000000", b"1004123x"),
            "field 12.b at offset 27: the field ends within a column",
        ),
        (
            with("02000030000000000000", b"2004123x"),
            "field 12.c at offset 26: the field ends within a column",
        ),
    ] {
        assert_eq!(spec.decode(&bytes).unwrap_err().to_string(), expected);
    }
}

#[test]
fn what_makes_no_spec() {
    let field = |rest: &str| format!("name = \"x\"\n[field.48]\nname = \"y\"\n{rest}");
    let column =
        |rest: &str| field(&format!("kind = \"ans\"\nlll = 9\n[[field.48.layout]]\ncolumns = [{rest}]"));
    for (text, line, expected) in [
        ("name = \"x\"".to_owned(), None, "the spec has no fields"),
        ("name = \"x\"\nextends = \"iso93\"".to_owned(), Some(2), "there is no shipped spec \"iso93\""),
        ("name = \"x\"\nbitmap = \"octal\"".to_owned(), Some(2), "\"octal\" is none"),
        (
            "name = \"x\"\n\n[field.65]\nname = \"y\"\nkind = \"n\"\nlength = 1".to_owned(),
            Some(3),
            "1 and 65 belong to the bitmaps",
        ),
        (
            "name = \"x\"\n[field.048]\nname = \"y\"\nkind = \"n\"\nlength = 1".to_owned(),
            Some(2),
            "numbered from 2 to 128",
        ),
        (field("kind = \"n\"\nlength = 1\nlenght = 2"), Some(6), "unknown field `lenght`"),
        (field("kind = \"number\"\nlength = 1"), Some(2), "kind \"number\" is none"),
        (field("kind = \"n\""), Some(2), "give one length"),
        (field("kind = \"n\"\nlength = 1\nll = 2"), Some(2), "give one length"),
        (field("kind = \"n\"\nll = 100"), Some(2), "from 1 to 99"),
        (field("kind = \"n\"\nlength = 0"), Some(2), "from 1 to 9999"),
        (field("kind = \"n\"\nll = 5\nmin = 6"), Some(2), "min 6 is more"),
        (field("kind = \"n\"\nlength = 5\nmin = 1"), Some(2), "a fixed length has no min"),
        (field("kind = \"x+n\"\nll = 9\nmin = 0"), Some(2), "has at least its C or D"),
        (field("kind = \"b\"\nlength = 5"), Some(2), "say which as encoding"),
        (field("kind = \"an\"\nlength = 5\nencoding = \"bcd\""), Some(2), "only digits"),
        ("name = \"x\"\nmti = \"octal\"".to_owned(), Some(2), "write \"ascii\" or \"bcd\""),
        (field("kind = \"n\"\nll = 5\nencoding = \"bcd\"\nfiller = \"F\""), Some(2), "filler \"F\" is none"),
        (field("kind = \"n\"\nll = 5\nfiller = \"left-0\""), Some(2), "take the filler away"),
        (field("kind = \"n\"\nlength = 5\nprefix = \"bcd\""), Some(2), "a fixed length has no prefix"),
        (field("kind = \"n\"\nll = 5\nprefix = \"binary\""), Some(2), "prefix \"binary\" is none"),
        (field("kind = \"n\"\nll = 5\npad = \"zeros\""), Some(2), "only what has a fixed length"),
        (field("kind = \"an\"\nlength = 5\npad = \"zeros\""), Some(2), "zeros fill up digits"),
        (field("kind = \"n\"\nlength = 5\nmask = \"some\""), Some(2), "mask \"some\" is none"),
        (column(""), Some(6), "at least one part"),
        (column("{ name = \"a\", kind = \"n\", length = 10 }"), Some(7), "from 1 to 9"),
        (
            column("{ name = \"a\", kind = \"n\", length = 5 }, { name = \"b\", kind = \"n\", length = 5 }"),
            Some(6),
            "10 wide together",
        ),
        (
            column("{ name = \"a\", kind = \"n\", length = 2 }, { name = \"a\", kind = \"n\", length = 2 }"),
            Some(7),
            "the name comes twice",
        ),
        (column("{ name = \"A\", kind = \"n\", length = 2 }"), Some(7), "small letters"),
        (column("{ name = \"a\", kind = \"b\", length = 2 }"), Some(7), "a part is text"),
        (column("{ name = \"a\", tag = \"1\", kind = \"n\", length = 2 }"), Some(7), "a column has no tag"),
        (
            column(
                "{ name = \"a\", kind = \"n\", length = 2, optional = true }, { name = \"b\", kind = \"n\", length = 2 }",
            ),
            Some(7),
            "must be optional as well",
        ),
        (
            field(
                "kind = \"ans\"\nlll = 9\n[[field.48.layout]]\ntagged = { tag = 2, length = 1, parts = [{ tag = \"1\", name = \"a\", kind = \"n\", length = 1 }] }",
            ),
            Some(7),
            "a tag of 2",
        ),
        (
            field(
                "kind = \"ans\"\nlength = 9\n[[field.48.layout]]\ntagged = { tag = 1, length = 1, parts = [{ tag = \"1\", name = \"a\", kind = \"n\", length = 1 }] }",
            ),
            Some(6),
            "tags have no fixed length",
        ),
        (
            field(
                "kind = \"ans\"\nlll = 9\nmin = 3\n[[field.48.layout]]\ncolumns = [{ name = \"a\", kind = \"n\", length = 2 }]",
            ),
            Some(7),
            "take its min away",
        ),
        (
            field(
                "kind = \"ans\"\nlll = 9\n[[field.48.layout]]\nwhen = { fields = { \"50\" = \"1\" } }\ncolumns = [{ name = \"a\", kind = \"n\", length = 2 }]",
            ),
            Some(2),
            "not on field 50",
        ),
        (
            field(
                "kind = \"ans\"\nlll = 9\n[[field.48.layout]]\nwhen = { fields = { \"3\" = \"1\" } }\ncolumns = [{ name = \"a\", kind = \"n\", length = 2 }]",
            ),
            Some(2),
            "field 3, which is not there",
        ),
        (
            field(
                "kind = \"ans\"\nlll = 9\n[[field.48.layout]]\nwhen = { mti = [\"200\"] }\ncolumns = [{ name = \"a\", kind = \"n\", length = 2 }]",
            ),
            Some(6),
            "no message type",
        ),
        (
            "name = \"x\"\nextends = \"dialect-38-18\"\n[field.3]\nname = \"y\"\nkind = \"n\"\nlength = 4".to_owned(),
            Some(2),
            "field 48: a layout depends on field 3 being \"380000\", which it cannot be: length 6 is more than 4",
        ),
        (
            "name = \"x\"\nextends = \"iso87-ascii\"\n[field.48]\nname = \"y\"\nkind = \"ans\"\nlll = 9\n[[field.48.layout]]\ncolumns = [{ name = \"a\", kind = \"n\", length = 2 }]\n[[field.48.layout]]\nwhen = { mti = [\"0200\"] }\ncolumns = [{ name = \"b\", kind = \"n\", length = 2 }]".to_owned(),
            Some(3),
            "layout 2 is for no message",
        ),
    ] {
        let error = Spec::from_toml(&text).expect_err(expected);
        assert!(error.message.contains(expected), "{}", error.message);
        assert_eq!(error.line(&text), line, "{}", error.message);
    }
}

#[test]
fn personal_data_is_masked() {
    let spec = Spec::builtin("dialect-37-80").unwrap();
    let inquiry = message(
        "0200",
        &[
            ("2", "4111111111111111"),
            ("3", "370000"),
            ("48.nik", "3201111111111111"),
            ("48.owner_name", "JORDAN"),
            ("48.brand", "YAMAHA"),
            ("61", "0812345678"),
        ],
    );
    assert_eq!(
        spec.describe(&inquiry).to_string(),
        "\
0200
   2  Primary account number      (secret)
   3  Processing code             370000
  48  Additional data
      .nik                        3…1 (16 characters)
      .owner_name                 J… (6 characters)
      .brand                      YAMAHA
  61  Reserved, private           0…8 (10 characters)"
    );
}

#[test]
fn places_are_known() {
    let spec = Spec::builtin("dialect-38-18").unwrap();
    let facts = |path: &str| spec.facts(&Path::parse(path).unwrap());
    assert_eq!(
        facts("4").map(|facts| (facts.kind, facts.length_max, facts.is_exact)),
        Some((Kind::Digits, 12, false))
    );
    assert_eq!(facts("11").map(|facts| facts.is_exact), Some(true));
    assert_eq!(facts("48.nik").map(|facts| facts.length_max), Some(16));
    assert_eq!(facts("48"), None, "it has parts");
    assert_eq!(facts("48.nobody"), None);
}

/// Picks by bytes, and the first way when they are used up.
fn chooser(choices: Vec<u8>) -> impl FnMut(usize) -> usize {
    let mut choices = choices.into_iter();
    move |ways| usize::from(choices.next().unwrap_or(0)) % ways
}

/// Picks without end.
fn generator(seed: u64) -> impl FnMut(usize) -> usize {
    let mut state = seed | 1;
    move |ways| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        usize::try_from(state >> 32).unwrap() % ways
    }
}

/// Two fields of any description, most of which make sense.
fn any_spec(choose: &mut impl FnMut(usize) -> usize) -> String {
    let mut text = "name = \"any\"\n".to_owned();
    text += ["", "bitmap = \"binary\"\n", "mti = \"bcd\"\n"][choose(3)];
    text += "[field.3]\nname = \"which\"\nkind = \"n\"\nlength = 1\n";
    for number in ["48", "90"] {
        let has_parts = choose(2) == 0;
        let kind = if has_parts { "ans" } else { ["a", "n", "an", "ans", "x+n", "z", "b", "n"][choose(8)] };
        let form = ["length", "ll", "lll", "llll"][choose(4)];
        let length = 1 + choose(40);
        let _ = writeln!(text, "[field.{number}]\nname = \"y\"\nkind = \"{kind}\"\n{form} = {length}");
        text += match (kind, choose(8)) {
            ("b", choice) => ["encoding = \"hex\"\n", "encoding = \"binary\"\n"][choice % 2],
            ("n", 0) => "encoding = \"bcd\"\n",
            ("n", 1) => "encoding = \"bcd\"\nfiller = \"right-0\"\n",
            ("n", 2) => "encoding = \"bcd\"\nfiller = \"right-F\"\npad = \"zeros\"\n",
            ("n", 3) => "pad = \"zeros\"\n",
            ("n" | "a" | "an" | "ans", 4) => "pad = \"spaces\"\n",
            (_, 5) => "prefix = \"bcd\"\n",
            (_, 6) => "min = 0\n",
            (_, 7) => "min = 2\n",
            _ => "",
        };
        for _ in 0..if has_parts { 1 + choose(2) } else { 0 } {
            let _ = writeln!(text, "[[field.{number}.layout]]");
            text +=
                ["", "when = { mti = [\"0200\"] }\n", "when = { fields = { \"3\" = \"1\" } }\n"][choose(3)];
            let is_tagged = choose(2) == 0;
            let parts: Vec<String> = (0..=choose(3))
                .map(|index| {
                    let kind = ["a", "n", "an", "ans", "x+n", "z"][choose(6)];
                    let tag = if is_tagged { format!("tag = \"{index}\", ") } else { String::new() };
                    let pad = match (is_tagged, kind) {
                        (true, _) => "",
                        (false, "n") => {
                            ["", ", pad = \"zeros\"", ", pad = \"spaces\"", ", optional = true"][choose(4)]
                        }
                        (false, _) => ["", ", pad = \"spaces\"", ", optional = true"][choose(3)],
                    };
                    format!(
                        "{{ {tag}name = \"p{index}\", kind = \"{kind}\", length = {}{pad} }}",
                        1 + choose(9)
                    )
                })
                .collect();
            let parts = parts.join(", ");
            if is_tagged {
                let length_digits = 1 + choose(2);
                let _ = writeln!(text, "tagged = {{ tag = 1, length = {length_digits}, parts = [{parts}] }}");
            } else {
                let _ = writeln!(text, "columns = [{parts}]");
            }
        }
    }
    text
}

const TYPES: [&str; 6] = ["0200", "0210", "0220", "0230", "0421", "0800"];

#[test]
fn what_stands_before_a_wrong_place_can_be_read() {
    let spec = Spec::builtin("dialect-37-80").unwrap();
    // Field 32 is longer than it may be; field 11 stands before it.
    let text = b"0200002000010000000012345612110";
    assert_eq!(
        spec.decode(text).unwrap_err().to_string(),
        "field 32 at offset 26: length 12 is more than 11"
    );
    let beginning = spec.decode_beginning(text).unwrap();
    assert_eq!((beginning.mti().as_str(), beginning.get(11)), ("0200", Some("123456")));
    assert_eq!(beginning.get(32), None);
    assert!(spec.decode_beginning(b"12").is_none() && spec.decode_beginning(b"1200").is_none());
}

proptest! {
    #[test]
    fn what_is_written_is_read_back(which in 0..6_usize, mti in 0..TYPES.len(), choices: Vec<u8>) {
        let spec = &specs()[which];
        let message = spec.sample(Mti::parse(TYPES[mti]).unwrap(), chooser(choices));
        let bytes = encoded(spec, &message).unwrap();
        let read = spec.decode(&bytes).unwrap();
        prop_assert_eq!(&read, &message);
        prop_assert_eq!(encoded(spec, &read).unwrap(), bytes);
    }

    #[test]
    fn whatever_can_be_written_is_read_back(
        which in 0..6_usize,
        mti in 0..TYPES.len(),
        choices in prop::collection::vec(any::<u8>(), 0..400),
        place: prop::sample::Index,
        value in "[ -~é]{0,12}|0{0,3}[0-9]{0,30}|[CD][0-9]{8}|[A-Z0]{0,6} {0,2}",
        other_mti in 0..TYPES.len(),
    ) {
        let spec = &specs()[which];
        let mut message = spec.sample(Mti::parse(TYPES[mti]).unwrap(), chooser(choices));
        let paths = message.paths();
        if !paths.is_empty() {
            message.set(paths[place.index(paths.len())].clone(), &value);
        }
        message.set_mti(Mti::parse(TYPES[other_mti]).unwrap());
        if let Ok(bytes) = encoded(spec, &message) {
            prop_assert_eq!(&spec.decode(&bytes).unwrap(), &message);
        }
    }

    #[test]
    fn damage_is_an_error_or_another_message_whole(
        which in 0..6_usize, choices in prop::collection::vec(any::<u8>(), 0..400), at: prop::sample::Index, byte: u8, cut: bool,
    ) {
        let spec = &specs()[which];
        let mut bytes = encoded(spec, &spec.sample(Mti::parse("0200").unwrap(), chooser(choices))).unwrap();
        let at = at.index(bytes.len());
        if cut { bytes.truncate(at) } else { bytes[at] = byte }
        if let Ok(message) = spec.decode(&bytes) {
            prop_assert_eq!(encoded(spec, &message).unwrap(), bytes);
        }
    }

    #[test]
    fn any_bytes_at_all(which in 0..6_usize, bytes: Vec<u8>) {
        let spec = &specs()[which];
        let head: &[u8] = if which == 5 { b"\x02\x00" } else { b"0200" };
        let bytes = [head, &bytes].concat();
        if let Ok(message) = spec.decode(&bytes) {
            prop_assert_eq!(encoded(spec, &message).unwrap(), bytes);
            spec.describe(&message).to_string();
        }
    }

    #[test]
    fn any_spec_that_is_accepted_works(seed: u64) {
        let mut choose = generator(seed);
        let text = any_spec(&mut choose);
        let Ok(spec) = Spec::from_toml(&text) else { return Ok(()) };
        for mti in TYPES {
            let message = spec.sample(Mti::parse(mti).unwrap(), &mut choose);
            let bytes = encoded(&spec, &message).unwrap_or_else(|error| panic!("{error}\n{text}"));
            prop_assert_eq!(spec.decode(&bytes), Ok(message), "{}", &text);
        }
    }

    #[test]
    fn any_text_as_a_spec(text: String) {
        let _ = Spec::from_toml(&text);
        let _ = Spec::from_toml(&format!("name = \"x\"\n[field.48]\n{text}"));
    }
}
