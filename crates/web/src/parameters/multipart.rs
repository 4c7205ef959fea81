//! Parameters as parts of a form (`multipart/form-data`), which PHP's curl sends when given an array.
//!
//! The body is in memory already, so reading it never waits. A part with a file name is a value like any
//! other.

use super::{Given, Parameters, parameter_named};
use bytes::Bytes;
use engine::domain::Reason;
use futures::{FutureExt, stream};
use hyper::header::{CONTENT_TYPE, HeaderMap};
use std::convert::Infallible;

/// Reads a form; without a boundary, or cut off, it is malformed.
pub(super) fn read(headers: &HeaderMap, body: Bytes) -> Result<Parameters, Reason> {
    let content_type = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let boundary = multer::parse_boundary(content_type).map_err(|_| Reason::BodyMalformed)?;
    let parts = read_parts(body, boundary).now_or_never();
    parts.and_then(Result::ok).ok_or(Reason::BodyMalformed)
}

async fn read_parts(body: Bytes, boundary: String) -> multer::Result<Parameters> {
    let body = stream::once(async { Ok::<_, Infallible>(body) });
    let mut form = multer::Multipart::new(body, boundary);
    let mut parameters = Parameters::default();
    while let Some(part) = form.next_field().await? {
        if let Some(parameter) = part.name().and_then(parameter_named) {
            let text = String::from_utf8(part.bytes().await?.into());
            parameters.add(parameter, text.map_or(Given::NoText, Given::Text));
        }
    }
    Ok(parameters)
}
