//! `native`: the gateway's own `POST /v1/streams` and its `start`, `token`, `complete` events.

mod encode;
pub mod log_codec;
mod parse;

use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderMap, HeaderName, HeaderValue};
use serde_json::{Map, Value, json};

use super::{AnswerInfo, Dialect, Encoder};
use crate::model::{Error, Request, RequestId};

pub(super) struct Native;

impl Dialect for Native {
    fn name(&self) -> &'static str {
        "native"
    }

    fn parse(&self, body: &Bytes) -> Result<Request, Error> {
        parse::request(body)
    }

    fn encoder(&self, _: &Request, info: AnswerInfo) -> Box<dyn Encoder> {
        Box::new(encode::NativeEncoder::new(info))
    }

    fn supports_resume(&self) -> bool {
        true
    }

    fn heartbeat(&self) -> &'static [u8] {
        b": keep-alive\n\n"
    }

    fn headers(&self, _: &Request) -> HeaderMap {
        HeaderMap::from_iter([
            (CONTENT_TYPE, HeaderValue::from_static("text/event-stream")),
            (
                CACHE_CONTROL,
                HeaderValue::from_static("no-cache, no-transform"),
            ),
            // Keeps nginx and similar proxies from buffering the stream.
            (
                HeaderName::from_static("x-accel-buffering"),
                HeaderValue::from_static("no"),
            ),
        ])
    }

    fn refusal_headers(&self, _: &Error, _: &RequestId) -> HeaderMap {
        HeaderMap::new()
    }

    fn refusal(&self, error: &Error, request: &RequestId) -> Vec<u8> {
        let mut body = error_fields(error);
        body.insert("request_id".into(), request.as_str().into());
        json!({ "error": body }).to_string().into_bytes()
    }
}

pub(super) use parse::settings;

/// The body that is equal to the query of `GET /v1/streams?model=&prompt=`, which a browser's
/// `EventSource` can send.
///
/// # Errors
/// [`crate::model::ErrorCode::InvalidRequest`] where one of the two is missing or empty.
pub fn body_from_query(model: Option<String>, prompt: Option<String>) -> Result<Bytes, Error> {
    let model = parse::required("model", model)?;
    let prompt = parse::required("prompt", prompt)?;
    let body = json!({ "model": model, "prompt": prompt });
    Ok(body.to_string().into())
}

/// The fields that an error has in an `error` event and in the body of a refusal.
fn error_fields(error: &Error) -> Map<String, Value> {
    let code = error.code();
    let mut out = Map::new();
    out.insert("code".into(), code.as_str().into());
    out.insert("message".into(), error.message().into());
    out.insert("retryable".into(), code.retryable().into());
    out.insert("origin".into(), code.origin().as_str().into());
    if let Some(seconds) = error.retry_after_seconds() {
        out.insert("retry_after".into(), seconds.into());
    }
    out
}
