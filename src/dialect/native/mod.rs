//! `native`: the gateway's own `POST /v1/streams` and its `start`, `token`, `complete` events.

mod encode;
mod log_codec;
mod parse;

use std::time::{SystemTime, UNIX_EPOCH};

use bytes::{Bytes, BytesMut};
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderMap, HeaderName, HeaderValue};
use serde_json::{Map, Value, json};

use super::{Answering, Dialect, Encoder, Opening};
use crate::model::{Error, EventId, Ordinal, Request, RequestId, StreamId};

pub(super) struct Native;

impl Dialect for Native {
    fn name(&self) -> &'static str {
        "native"
    }

    fn parse(&self, body: &[u8]) -> Result<Request, Error> {
        parse::request(body)
    }

    fn encoder(&self, _: &Request, opening: Opening) -> Box<dyn Encoder> {
        Box::new(encode::NativeEncoder::new(opening))
    }

    fn resumes(&self) -> bool {
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
            // Keeps nginx and its like from collecting the stream.
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
        let mut body = described(error);
        body.insert("request_id".into(), request.as_str().into());
        json!({ "error": body }).to_string().into_bytes()
    }
}

pub use encode::retry;
pub use log_codec::{Told, last_told, renumbered, told};
pub(super) use parse::settings;

/// The body that says what `GET /v1/streams?model=&prompt=` does, which a browser's `EventSource`
/// can ask.
///
/// # Errors
/// [`crate::model::ErrorCode::InvalidRequest`] where one of the two is missing or empty.
pub fn from_query(model: Option<String>, prompt: Option<String>) -> Result<Bytes, Error> {
    let model = parse::required("model", model)?;
    let prompt = parse::required("prompt", prompt)?;
    let body = json!({ "model": model, "prompt": prompt });
    Ok(body.to_string().into())
}

/// An encoder that goes on with a stream that has said everything before `next`.
pub fn going_on(stream: StreamId, next: Ordinal) -> Box<dyn Encoder> {
    Box::new(encode::NativeEncoder::going_on(stream, next))
}

/// A whole stream that broke before it said anything: its start, at `first`, and the error.
pub fn broken(stream: StreamId, first: Ordinal, model: String, error: &Error) -> Bytes {
    let mut encoder = encode::NativeEncoder::going_on(stream, first);
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    encoder.begin(model, now.map_or(0, |since| since.as_secs()));
    let mut out = BytesMut::new();
    let nobody = Answering {
        upstream: None,
        model: None,
    };
    encoder.start(&nobody, &mut out);
    encoder.error(error, None, &mut out);
    out.freeze()
}

/// An `error` event for one reader of a stream that goes on for others. `id` is where the reader
/// stands afterwards.
pub fn error(id: Option<EventId>, error: &Error) -> Bytes {
    let id = id.map_or_else(String::new, |id| format!("id: {id}\n"));
    format!("{id}event: error\ndata: {}\n\n", error_data(error)).into()
}

/// The data of an `error` event, as JSON on one line.
pub fn error_data(error: &Error) -> String {
    json!({ "error": described(error) }).to_string()
}

/// The fields that an error has both in an `error` event and in a refusal's body.
fn described(error: &Error) -> Map<String, Value> {
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
