//! Parameters in a JSON object.
//!
//! Numbers are taken as their digits, however many there are; a number with a sign, a point or an exponent
//! is no text of digits and thus invalid. `null` is an empty value. What belongs to no parameter is skipped
//! at any depth without recursion.

use super::{Given, Parameters, parameter_named};
use engine::domain::{Parameter, Reason};
use serde::{
    Deserialize, Deserializer,
    de::{Error, IgnoredAny, MapAccess, Visitor},
};
use serde_json::value::RawValue;
use std::fmt;

/// Reads an object; anything else is malformed.
pub(super) fn read(body: &[u8]) -> Result<Parameters, Reason> {
    let body = body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(body);
    serde_json::from_slice(body).map_err(|_| Reason::BodyMalformed)
}

impl<'de> Deserialize<'de> for Parameters {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(Object)
    }
}

struct Object;

impl<'de> Visitor<'de> for Object {
    type Value = Parameters;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object of parameters")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Parameters, A::Error> {
        let mut parameters = Parameters::default();
        while let Some(Name(name)) = map.next_key()? {
            match name {
                Some(parameter) => parameters.add(parameter, given(map.next_value()?)),
                None => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(parameters)
    }
}

/// A key, kept only if it names a parameter.
struct Name(Option<Parameter>);

impl<'de> Deserialize<'de> for Name {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Key;
        impl Visitor<'_> for Key {
            type Value = Name;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a parameter's name")
            }
            fn visit_str<E: Error>(self, name: &str) -> Result<Name, E> {
                Ok(Name(parameter_named(name)))
            }
        }
        deserializer.deserialize_str(Key)
    }
}

fn given(value: &RawValue) -> Given {
    let json = value.get();
    match json.as_bytes() {
        [b'"', ..] => serde_json::from_str(json).map_or(Given::NoText, Given::Text),
        b"null" => Given::Text(String::new()),
        digits if digits.iter().all(u8::is_ascii_digit) => Given::Text(json.to_owned()),
        _ => Given::NoText,
    }
}
