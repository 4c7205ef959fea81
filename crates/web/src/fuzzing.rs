//! What must hold of any request, in whichever encoding. For the fuzzer and the replay of what it found; nothing else
//! calls it.

use crate::parameters::{ALL, Parameters};
use bytes::Bytes;
use hyper::header::{CONTENT_TYPE, HeaderMap};

const NAMES: [&str; 6] =
    ["username", "password", "product", "customer_number", "structure_number", "invoice"];

const CONTENT_TYPES: [Option<&str>; 5] = [
    None,
    Some("application/x-www-form-urlencoded; charset=utf-8"),
    Some("application/json"),
    Some("multipart/form-data; boundary=X"),
    Some("multipart/form-data; boundary=\"a b'()+_,-./:=?\""),
];

/// The first byte chooses an encoding, the second says how long the query is; the rest is the body. Whether it could be
/// read. No value is longer than what it was read from, and what was read means the same when it is sent as JSON or a form.
pub fn holds(data: &[u8]) -> bool {
    let [which, length, rest @ ..] = data else { return false };
    let (query, body) = rest.split_at(usize::from(*length).min(rest.len()));
    let Ok(query) = std::str::from_utf8(query) else { return false };
    let content_type = CONTENT_TYPES[usize::from(*which) % CONTENT_TYPES.len()];
    let Some(texts) = texts_of(content_type, Some(query), body) else { return false };
    let bytes: usize = texts.iter().flatten().map(String::len).sum();
    assert!(bytes <= query.len() + body.len());
    let given = || NAMES.into_iter().zip(&texts).filter_map(|(name, text)| Some((name, text.as_ref()?)));

    let json: Vec<_> = given().map(|(name, text)| format!("\"{name}\":\"{}\"", escaped(text))).collect();
    let json = format!("{{{}}}", json.join(","));
    assert_eq!(texts_of(Some("application/json"), None, json.as_bytes()).as_ref(), Some(&texts), "{json}");
    // A form has no way of its own to say U+FFFD.
    if !texts.iter().flatten().any(|text| text.contains(char::REPLACEMENT_CHARACTER)) {
        let form: Vec<_> = given().map(|(name, text)| format!("{name}={}", percent(text))).collect();
        let form = form.join("&");
        assert_eq!(texts_of(None, Some(&form), b"").as_ref(), Some(&texts), "{form}");
        assert_eq!(texts_of(None, None, form.as_bytes()).as_ref(), Some(&texts), "{form}");
    }
    true
}

/// The texts of the six parameters, or nothing where the request is refused whole.
fn texts_of(content_type: Option<&str>, query: Option<&str>, body: &[u8]) -> Option<[Option<String>; 6]> {
    let mut headers = HeaderMap::new();
    if let Some(content_type) = content_type {
        headers.insert(CONTENT_TYPE, content_type.parse().ok()?);
    }
    let parameters = Parameters::read(&headers, query, Bytes::copy_from_slice(body)).ok()?;
    Some(ALL.map(|parameter| parameters.text(parameter).ok().map(str::to_owned)))
}

fn escaped(text: &str) -> String {
    text.encode_utf16().map(|unit| format!("\\u{unit:04x}")).collect::<Vec<_>>().concat()
}

fn percent(text: &str) -> String {
    text.bytes().map(|byte| format!("%{byte:02x}")).collect::<Vec<_>>().concat()
}
