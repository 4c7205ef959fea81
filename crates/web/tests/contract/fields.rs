//! Every encoding carries every parameter; every parameter can be missing, empty, oversized, wrongly
//! encoded, repeated or of a wrong type, and each gets a clear answer in the contract's shape.

use crate::support::{CREDENTIALS, FIRST_INVOICE, Gateway, JORDAN, bare, post};
use hyper::{StatusCode, header::CONTENT_TYPE};

const INQUIRY: &str = "/json/esamsat/inquiry_esamsat";
const MULTIPART: &str = "multipart/form-data; boundary=----X";

fn multipart(form: &str) -> String {
    let parts = form.split('&').map(|pair| {
        let (name, value) = pair.split_once('=').unwrap();
        format!("------X\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n")
    });
    parts.collect::<String>() + "------X--\r\n"
}

fn json(form: &str, quote: &str) -> String {
    let pairs = form.split('&').map(|pair| {
        let (name, value) = pair.split_once('=').unwrap();
        let quote = if value.bytes().all(|b| b.is_ascii_digit()) { quote } else { "\"" };
        format!("\"{name}\": {quote}{value}{quote}")
    });
    format!("{{{}}}", pairs.collect::<Vec<_>>().join(", "))
}

#[tokio::test]
async fn every_encoding_says_the_same() {
    let gateway = Gateway::start().await;
    let form = format!("{CREDENTIALS}&{JORDAN}");
    let mut without_type = post(INQUIRY, "", form.clone());
    without_type.headers_mut().remove(CONTENT_TYPE);
    for (number, request) in [
        post(INQUIRY, "application/x-www-form-urlencoded", form.clone()),
        post(INQUIRY, "Application/X-Www-Form-Urlencoded;CHARSET=utf-8", form.clone()),
        without_type,
        post(INQUIRY, MULTIPART, multipart(&form)),
        post(INQUIRY, "application/json", json(&form, "\"")),
        post(INQUIRY, "application/json; charset=utf-8", json(&form, "")),
        bare("POST", &format!("{INQUIRY}?{form}")),
        post(&format!("{INQUIRY}/?{CREDENTIALS}"), "application/json", json(JORDAN, "")),
        post(&format!("{INQUIRY}?{CREDENTIALS}&product=SAMSAT_JATIM"), MULTIPART, multipart(JORDAN)),
    ]
    .into_iter()
    .enumerate()
    {
        let answered = gateway.send(request).await;
        let number = 100_000_000_000 + number;
        let expected = include_str!("golden/inquiry_ok.json").trim_end();
        assert_eq!(answered.body, expected.replace(FIRST_INVOICE, &number.to_string()));
    }
}

/// The forms that each have one thing wrong, with what the reason names.
fn defects(name: &str, oversized: &str) -> Vec<(&'static str, String, &'static str)> {
    let encoded = |value: &str| ("application/x-www-form-urlencoded", format!("{name}={value}"));
    let in_json = |value: &str| ("application/json", format!("{{\"{name}\":{value}}}"));
    [
        (("application/x-www-form-urlencoded", String::new()), "wajib diisi"),
        (encoded(""), "wajib diisi"),
        (encoded(oversized), "tidak valid"),
        (encoded("%FF%FE"), "tidak valid"),
        (encoded(&format!("1&{name}=2")), "dikirim lebih dari sekali"),
        (in_json("null"), "wajib diisi"),
        (in_json("\"\""), "wajib diisi"),
        (in_json("true"), "tidak valid"),
        (in_json("[\"1\"]"), "tidak valid"),
        (in_json("{\"a\":\"1\"}"), "tidak valid"),
        (in_json("-1"), "tidak valid"),
        (in_json("1e3"), "tidak valid"),
    ]
    .into_iter()
    .map(|((content_type, body), said)| (content_type, body, said))
    .collect()
}

#[tokio::test]
async fn every_defect_of_every_field_is_answered() {
    let gateway = Gateway::start().await;
    let long = "1".repeat(200);
    for (path, names) in [
        ("/json/esamsat/list_esamsat", &["username", "password"][..]),
        ("/json/ceksaldo", &["username", "password"][..]),
        (INQUIRY, &["username", "password", "product", "customer_number", "structure_number"][..]),
        ("/json/esamsat/pay_esamsat", &["username", "password", "invoice"][..]),
        ("/json/esamsat/status_invoice", &["username", "password", "invoice"][..]),
    ] {
        for name in names {
            for (content_type, body, said) in defects(name, &long) {
                // The right ones stand in the query, where a body with the defect wins.
                let right = format!("{CREDENTIALS}&{JORDAN}&invoice=1");
                let right: Vec<_> = right.split('&').filter(|pair| !pair.starts_with(name)).collect();
                let target = format!("{path}?{}", right.join("&"));
                let answered = gateway.send(post(&target, content_type, body.clone())).await;
                assert_eq!(answered.status, StatusCode::OK, "{path} {body}");
                assert!(answered.body.starts_with("{\"result\":\"no\""), "{path} {body}: {}", answered.body);
                let told = format!("Parameter {name} {said}");
                assert!(answered.body.contains(&told), "{path} {body}: {}", answered.body);
            }
        }
    }
}

#[tokio::test]
async fn a_refusal_tells_what_is_known() {
    let gateway = Gateway::start().await;
    let form =
        format!("{CREDENTIALS}&product=SAMSAT_JABAR&customer_number=1&structure_number=mh328d204ak4010000");
    assert_eq!(
        gateway.post(INQUIRY, &form).await,
        concat!(
            r#"{"result":"no","tanggal":"2019-07-07 13:14:15","product":"SAMSAT_JABAR","#,
            r#""structure_number":"MH328D204AK4010000","kodeagen":"JKT-00000","reason":"#,
            r#""Parameter customer_number tidak valid: harus nomor KTP pemilik kendaraan, 15 atau 16 angka."}"#,
        )
    );
    let off = JORDAN.replace("SAMSAT_JABAR", "SAMSAT_JATIM");
    assert_eq!(
        gateway.post(INQUIRY, &format!("{CREDENTIALS}&{off}")).await,
        concat!(
            r#"{"result":"no","tanggal":"2019-07-07 13:14:15","product":"SAMSAT_JATIM","#,
            r#""customer_number":"320111111111111","structure_number":"MH328D204AK4010000","#,
            r#""kodeagen":"JKT-00000","reason":"Produk sedang tidak aktif. Silakan lihat status produk pada daftar produk."}"#,
        )
    );
    let unknown = JORDAN.replace("SAMSAT_JABAR", "SAMSAT_NOWHERE");
    let answer = gateway.post(INQUIRY, &format!("{CREDENTIALS}&{unknown}")).await;
    assert!(answer.contains("Produk tidak dikenal"), "{answer}");
    // The invoice's number comes back as it was written.
    let answer = gateway.pay("%200001%20").await;
    assert!(answer.contains(r#""invoice":"0001""#), "{answer}");
    let answer = gateway.status("0001").await;
    assert!(answer.contains("Failure Invoice 0001!"), "{answer}");
}

#[tokio::test]
async fn injections_are_taken_literally() {
    let gateway = Gateway::start().await;
    let strings = [
        "' OR '1'='1' --",
        "\"; DROP TABLE invoice; --",
        "<script>alert(1)</script>",
        "{{7*7}} ${jndi:ldap://x}",
        "line\r\nSet-Cookie: a=b\r\n\r\nHTTP/1.1 200 OK",
        "\u{1b}[2J\u{0}\u{7}",
        "../../etc/passwd",
        "%s%n%x",
        "\u{202e}\u{feff}😀",
    ];
    for text in strings {
        let encoded = percent_encoded(text);
        for name in
            ["username", "password", "product", "customer_number", "structure_number", "invoice", text]
        {
            let right = format!("{CREDENTIALS}&{JORDAN}&invoice=1");
            let right: Vec<_> = right.split('&').filter(|pair| !pair.starts_with(name)).collect();
            let name = percent_encoded(name);
            let form = format!("{}&{name}={encoded}", right.join("&"));
            for path in
                [INQUIRY, "/json/esamsat/pay_esamsat", "/json/esamsat/status_invoice", "/json/ceksaldo"]
            {
                // An address of its own each time: the storm of wrong log-ins is not what is tested.
                let request = post(path, "application/x-www-form-urlencoded", form.clone());
                let answered = gateway.send_from(&unique_address(&form, path), request).await;
                assert_eq!(answered.status, StatusCode::OK, "{path} {text:?}: {}", answered.body);
                assert!(!answered.body.contains(text), "{path} {text:?}: {}", answered.body);
                assert!(answered.headers.get("set-cookie").is_none());
            }
        }
    }
    let answer = gateway.post("/json/ceksaldo", CREDENTIALS).await;
    assert_eq!(answer, r#"{"result":"ok","saldo":"1,000,000"}"#);
}

fn percent_encoded(text: &str) -> String {
    text.bytes().flat_map(|byte| ['%', digit(byte >> 4), digit(byte & 15)]).collect()
}

fn digit(value: u8) -> char {
    char::from_digit(value.into(), 16).unwrap()
}

fn unique_address(form: &str, path: &str) -> String {
    use std::hash::{DefaultHasher, Hash, Hasher};
    let mut hasher = DefaultHasher::new();
    (form, path).hash(&mut hasher);
    let bytes = hasher.finish().to_be_bytes();
    format!("10.{}.{}.{}", bytes[0], bytes[1], bytes[2])
}

#[tokio::test]
async fn a_body_that_cannot_be_read_is_answered_in_the_endpoints_shape() {
    let gateway = Gateway::start().await;
    let reason = "Isi permintaan tidak dapat dibaca sesuai Content-Type. Silakan periksa format parameter.";
    for (path, expected) in [
        ("/json/ceksaldo", format!(r#"{{"result":"no","reason":"{reason}"}}"#)),
        (INQUIRY, format!(r#"{{"result":"no","tanggal":"2019-07-07 13:14:15","reason":"{reason}"}}"#)),
        (
            "/json/esamsat/status_invoice",
            format!(r#"{{"result":"no","status":"FAILURE","reason":"{reason}"}}"#),
        ),
    ] {
        for (content_type, body) in [("application/json", "{"), ("multipart/form-data", "a")] {
            let answered = gateway.send(post(path, content_type, body)).await;
            assert_eq!((answered.status, &*answered.body), (StatusCode::OK, &*expected));
        }
    }
}
