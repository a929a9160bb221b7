//! Server-Sent Events in the form that several dialects share.

use bytes::{BufMut, BytesMut};
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderMap, HeaderName, HeaderValue};
use serde::Serialize;

use super::json::put_json;

/// Writes one whole event.
pub(super) fn write_event(name: &str, data: &impl Serialize, out: &mut BytesMut) {
    out.put_slice(b"event: ");
    out.put_slice(name.as_bytes());
    out.put_slice(b"\ndata: ");
    put_json(data, out);
    out.put_slice(b"\n\n");
}

/// The headers of an answer: of an event stream, or of one JSON document.
pub(super) fn headers(streamed: bool) -> HeaderMap {
    if !streamed {
        let json = HeaderValue::from_static("application/json");
        return HeaderMap::from_iter([(CONTENT_TYPE, json)]);
    }
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
