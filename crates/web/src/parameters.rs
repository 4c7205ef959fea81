//! What a partner sent: the six parameters of the contract, in whichever encoding.
//!
//! Urlencoded, multipart, a JSON object, and the query string of the POST; the body wins over the query.
//! Whatever else was sent is skipped without being kept, so memory is bounded by the body's limit. A value
//! is exactly what was sent, taken literally: what it means is for its type to say. There is no `Debug`:
//! among the values are passwords.

mod json;
mod multipart;

use bytes::Bytes;
use engine::domain::{
    Parameter, Reason,
    reason::{parameter_invalid, parameter_missing, parameter_repeated},
};
use hyper::header::{CONTENT_ENCODING, CONTENT_TYPE, HeaderMap};

/// What stands for one parameter.
#[derive(Clone, Default, PartialEq, Eq)]
enum Given {
    #[default]
    Nothing,
    Text(String),
    /// Not a text: another JSON type, or not UTF-8.
    NoText,
    /// More than once, with different values.
    Repeated,
}

/// The parameters of a request.
#[derive(Default)]
pub(crate) struct Parameters([Given; ALL.len()]);

/// Each at its own index.
pub(crate) const ALL: [Parameter; 6] = [
    Parameter::Username,
    Parameter::Password,
    Parameter::Product,
    Parameter::CustomerNumber,
    Parameter::StructureNumber,
    Parameter::Invoice,
];

/// Why a parameter cannot be used.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Unfit {
    Missing(Parameter),
    Invalid(Parameter),
    Repeated(Parameter),
}

impl Unfit {
    /// The sentence that the partner reads.
    pub(crate) fn sentence(self) -> String {
        match self {
            Self::Missing(parameter) => parameter_missing(parameter),
            Self::Invalid(parameter) => parameter_invalid(parameter),
            Self::Repeated(parameter) => parameter_repeated(parameter),
        }
    }

    /// The name for metrics and logs.
    pub(crate) const fn code(self) -> &'static str {
        match self {
            Self::Missing(_) => "parameter_missing",
            Self::Invalid(_) => "parameter_invalid",
            Self::Repeated(_) => "parameter_repeated",
        }
    }
}

impl Parameters {
    /// Reads the body by its content type and fills up from the query string. The error is
    /// [`Reason::MediaTypeUnsupported`] or [`Reason::BodyMalformed`].
    pub(crate) fn read(headers: &HeaderMap, query: Option<&str>, body: Bytes) -> Result<Self, Reason> {
        let encoding = Encoding::of(headers).ok_or(Reason::MediaTypeUnsupported)?;
        let mut parameters = if body.iter().all(u8::is_ascii_whitespace) {
            // Clients that put everything into the query string announce all sorts of empty bodies.
            Self::default()
        } else {
            match encoding {
                Encoding::Urlencoded => Self::from_urlencoded(&body),
                Encoding::Multipart => multipart::read(headers, body)?,
                Encoding::Json => json::read(&body)?,
            }
        };
        if let Some(query) = query.filter(|query| !query.is_empty()) {
            parameters.fill_up(Self::from_urlencoded(query.as_bytes()));
        }
        Ok(parameters)
    }

    /// The text of a parameter that must be there.
    pub(crate) fn text(&self, parameter: Parameter) -> Result<&str, Unfit> {
        match &self.0[parameter as usize] {
            Given::Nothing => Err(Unfit::Missing(parameter)),
            Given::Text(text) if text.is_empty() => Err(Unfit::Missing(parameter)),
            Given::Text(text) => Ok(text),
            Given::NoText => Err(Unfit::Invalid(parameter)),
            Given::Repeated => Err(Unfit::Repeated(parameter)),
        }
    }

    /// The value of a parameter that must be there and be valid.
    pub(crate) fn value<T>(
        &self,
        parameter: Parameter,
        parse: impl FnOnce(&str) -> Option<T>,
    ) -> Result<T, Unfit> {
        parse(self.text(parameter)?).ok_or(Unfit::Invalid(parameter))
    }

    fn from_urlencoded(pairs: &[u8]) -> Self {
        let mut parameters = Self::default();
        for (name, value) in form_urlencoded::parse(pairs) {
            if let Some(parameter) = parameter_named(&name) {
                // The decoder puts U+FFFD where the bytes were not UTF-8.
                let given = if value.contains(char::REPLACEMENT_CHARACTER) {
                    Given::NoText
                } else {
                    Given::Text(value.into_owned())
                };
                parameters.add(parameter, given);
            }
        }
        parameters
    }

    fn add(&mut self, parameter: Parameter, given: Given) {
        let standing = &mut self.0[parameter as usize];
        if *standing == Given::Nothing {
            *standing = given;
        } else if *standing != given {
            *standing = Given::Repeated;
        }
    }

    fn fill_up(&mut self, others: Self) {
        for (standing, other) in self.0.iter_mut().zip(others.0) {
            if *standing == Given::Nothing {
                *standing = other;
            }
        }
    }
}

fn parameter_named(name: &str) -> Option<Parameter> {
    ALL.into_iter().find(|parameter| parameter.name() == name)
}

#[derive(Clone, Copy)]
enum Encoding {
    Urlencoded,
    Multipart,
    Json,
}

impl Encoding {
    /// `None` if it is none of those that are read. A charset is not looked at: all is read as UTF-8.
    fn of(headers: &HeaderMap) -> Option<Self> {
        let compression = headers.get(CONTENT_ENCODING);
        if compression.is_some_and(|value| !value.as_bytes().eq_ignore_ascii_case(b"identity")) {
            return None;
        }
        let Some(content_type) = headers.get(CONTENT_TYPE) else { return Some(Self::Urlencoded) };
        let essence = content_type.as_bytes().split(|byte| *byte == b';').next().unwrap_or_default();
        let essence = essence.trim_ascii();
        let names: [(&[u8], Self); 4] = [
            (b"", Self::Urlencoded),
            (b"application/x-www-form-urlencoded", Self::Urlencoded),
            (b"multipart/form-data", Self::Multipart),
            (b"application/json", Self::Json),
        ];
        names.into_iter().find(|(name, _)| essence.eq_ignore_ascii_case(name)).map(|(_, encoding)| encoding)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MULTIPART: &str = "multipart/form-data; boundary=X";

    fn read(content_type: Option<&str>, query: Option<&str>, body: &[u8]) -> Result<String, Reason> {
        let mut headers = HeaderMap::new();
        if let Some(content_type) = content_type {
            headers.insert(CONTENT_TYPE, content_type.parse().unwrap());
        }
        Parameters::read(&headers, query, Bytes::copy_from_slice(body)).map(|parameters| {
            let shown = |parameter| match parameters.text(parameter) {
                Ok(text) => text.to_owned(),
                Err(Unfit::Missing(_)) => "-".to_owned(),
                Err(Unfit::Invalid(_)) => "!".to_owned(),
                Err(Unfit::Repeated(_)) => "~".to_owned(),
            };
            [Parameter::Username, Parameter::Password, Parameter::Invoice].map(shown).join("|")
        })
    }

    #[track_caller]
    fn reads(content_type: Option<&str>, body: impl AsRef<[u8]>, expected: &str) {
        assert_eq!(read(content_type, None, body.as_ref()).as_deref(), Ok(expected));
    }

    fn part(name: &str, value: &str) -> String {
        format!("--X\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n")
    }

    #[test]
    fn every_index_is_its_parameter() {
        for (index, parameter) in ALL.into_iter().enumerate() {
            assert_eq!(parameter as usize, index);
        }
    }

    #[test]
    fn urlencoded() {
        let body = "username=dummy&password=dummy123&invoice=111111111111";
        for content_type in [
            None,
            Some(""),
            Some("application/x-www-form-urlencoded"),
            Some("Application/X-WWW-Form-URLEncoded; Charset=UTF-8"),
            Some(" application/x-www-form-urlencoded ;charset=iso-8859-1"),
        ] {
            reads(content_type, body, "dummy|dummy123|111111111111");
        }
        for (body, expected) in [
            ("", "-|-|-"),
            ("username=&password", "-|-|-"),
            ("&&username=a&&", "a|-|-"),
            ("user%6Eame=a%20b+c%26&password=%2B%3D%25", "a b c&|+=%|-"),
            ("username=a&username=a", "a|-|-"),
            ("username=a&username=b", "~|-|-"),
            ("username=a&username=b&username=a", "~|-|-"),
            ("username=a&username=", "~|-|-"),
            ("username[]=a&Username=b&username =c", "-|-|-"),
            ("username=%ff&password=\u{e9}", "!|\u{e9}|-"),
            ("username=a%00b&invoice=%zz", "a\0b|-|%zz"),
            ("username=a=b=c", "a=b=c|-|-"),
            ("username=a;password=b", "a;password=b|-|-"),
        ] {
            reads(None, body, expected);
        }
        reads(None, b"username=\xff\xfe&password=x", "!|x|-");
    }

    #[test]
    fn json() {
        for content_type in ["application/json", "APPLICATION/JSON;charset=utf-8"] {
            let body = r#" {"username":"dummy","password":"p\u0041\"","invoice":111111111111,"other":[{}]} "#;
            reads(Some(content_type), body, "dummy|pA\"|111111111111");
        }
        for (body, expected) in [
            ("{}", "-|-|-"),
            ("", "-|-|-"),
            ("\u{feff}{\"username\":\"a\"}", "a|-|-"),
            (r#"{"username":null,"password":"","invoice":0}"#, "-|-|0"),
            (r#"{"username":true,"password":[],"invoice":{"a":1}}"#, "!|!|!"),
            (r#"{"username":1.0,"password":-1,"invoice":1e3}"#, "!|!|!"),
            (r#"{"invoice":123456789012345678901234567890}"#, "-|-|123456789012345678901234567890"),
            (r#"{"username":"a","username":"a","password":"a","password":"b"}"#, "a|~|-"),
            (r#"{"invoice":7,"invoice":"7"}"#, "-|-|7"),
            (r#"{"username":"\ud800","password":"\u0000"}"#, "!|\0|-"),
            (r#"{"user\u006eame":"a"}"#, "a|-|-"),
        ] {
            reads(Some("application/json"), body, expected);
        }
        for body in [
            "[]",
            "1",
            "null",
            "\"username\"",
            "{",
            r#"{"username":"a"}}"#,
            r#"{"username":"a",}"#,
            "{username:\"a\"}",
            r#"{"invoice":0320}"#,
            "username=a",
            "{\"username\":\"\u{1}\"}",
        ] {
            let read = read(Some("application/json"), None, body.as_bytes());
            assert_eq!(read, Err(Reason::BodyMalformed), "{body}");
        }
        let invalid = read(Some("application/json"), None, b"{\"username\":\"\xff\"}");
        assert_eq!(invalid, Err(Reason::BodyMalformed));
    }

    #[test]
    fn deep_json_and_ten_thousand_parameters() {
        let deep = format!(r#"{{"other":{}{},"username":"a"}}"#, "[".repeat(20_000), "]".repeat(20_000));
        reads(Some("application/json"), &deep, "a|-|-");
        let deep = format!(r#"{{"username":{}{}}}"#, "[".repeat(20_000), "]".repeat(20_000));
        reads(Some("application/json"), &deep, "!|-|-");
        let open = "[".repeat(60_000);
        assert_eq!(read(Some("application/json"), None, open.as_bytes()), Err(Reason::BodyMalformed));
        let many = "a=b&".repeat(10_000) + "username=a";
        reads(None, &many, "a|-|-");
        let many = "username=a&".repeat(5_000);
        reads(None, &many, "a|-|-");
    }

    #[test]
    fn multipart() {
        let body =
            part("username", "dummy") + &part("other", "x") + &part("password", " d\"2 ") + "--X--\r\n";
        for content_type in [
            MULTIPART,
            "Multipart/Form-Data; Boundary=X",
            "multipart/form-data; charset=utf-8; boundary=\"X\"",
        ] {
            reads(Some(content_type), &body, "dummy| d\"2 |-");
        }
        let repeated = part("username", "a") + &part("username", "b") + "--X--";
        reads(Some(MULTIPART), repeated, "~|-|-");
        let file = "--X\r\nContent-Disposition: form-data; name=\"username\"; filename=\"a.txt\"\r\nContent-Type: text/plain\r\n\r\na\r\n--X--\r\n";
        reads(Some(MULTIPART), file, "a|-|-");
        reads(Some(MULTIPART), "", "-|-|-");
        reads(Some(MULTIPART), "--X--\r\n", "-|-|-");
        let mut invalid = part("username", "a").replace("\r\na\r\n", "\r\n").into_bytes();
        invalid.extend_from_slice(b"\xff\r\n--X--\r\n");
        reads(Some(MULTIPART), invalid, "!|-|-");
        for (content_type, body) in [
            (MULTIPART, "username=a"),
            (MULTIPART, "--X\r\nContent-Disposition: form-data; name=\"username\"\r\n\r\na"),
            ("multipart/form-data", "--X--\r\n"),
            ("multipart/form-data; boundary=Y", "--X--\r\n"),
        ] {
            assert_eq!(read(Some(content_type), None, body.as_bytes()), Err(Reason::BodyMalformed), "{body}");
        }
    }

    #[test]
    fn the_body_wins_over_the_query() {
        let query = Some("username=q&password=q");
        assert_eq!(read(None, query, b"").as_deref(), Ok("q|q|-"));
        assert_eq!(read(None, query, b"username=b").as_deref(), Ok("b|q|-"));
        assert_eq!(read(None, query, b"username=").as_deref(), Ok("-|q|-"));
        assert_eq!(read(Some("application/json"), query, b"\r\n").as_deref(), Ok("q|q|-"));
        assert_eq!(read(Some("application/json"), query, b"{\"username\":null}").as_deref(), Ok("-|q|-"));
        assert_eq!(read(None, Some("username=a&username=b"), b"").as_deref(), Ok("~|-|-"));
    }

    #[test]
    fn other_media_types() {
        for content_type in
            ["text/plain", "application/xml", "application/jsonp", "multipart/mixed; boundary=X"]
        {
            assert_eq!(read(Some(content_type), None, b"username=a"), Err(Reason::MediaTypeUnsupported));
        }
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_ENCODING, "gzip".parse().unwrap());
        let refused = Parameters::read(&headers, None, Bytes::from_static(b"x")).err();
        assert_eq!(refused, Some(Reason::MediaTypeUnsupported));
    }

    proptest! {
        #[test]
        fn any_bytes_get_an_answer(body: Vec<u8>, which in 0_usize..3) {
            let content_type = [None, Some("application/json"), Some(MULTIPART)][which];
            let _ = read(content_type, None, &body);
            let framed = [b"--X\r\n".as_slice(), &body, b"\r\n--X--"].concat();
            let _ = read(content_type, None, &framed);
        }
    }
}
