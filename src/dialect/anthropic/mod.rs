//! `anthropic`: Anthropic's Messages API, <https://platform.claude.com/docs/en/api/messages>.
//!
//! | file | does |
//! |---|---|
//! | `parse` | parses a request: settings, tools and turns |
//! | `content` | parses the blocks of a turn |
//! | `stream` | encodes events as `message_start`, `content_block_delta` and so on |
//! | `whole` | encodes events as one `message` |
//! | `shape` | JSON that streams and whole messages share |

mod content;
mod parse;
mod shape;
mod stream;
mod verbatim;
mod whole;

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};
use humantime::format_rfc3339_seconds;
use serde_json::json;

use super::{AnswerInfo, CountEndpoint, Dialect, Encoder, RateStatus, event_stream, retry_advice};
use crate::model::{Error, ErrorCode, Request, RequestId};

pub(super) struct Anthropic;

/// The wire of the same protocol.
const WIRE: &str = "anthropic-messages";

/// The API's own headers, such as `anthropic-beta`.
const HEADER_PREFIX: &str = "anthropic-";

impl Dialect for Anthropic {
    fn name(&self) -> &'static str {
        "anthropic"
    }

    fn wire(&self) -> Option<&'static str> {
        Some(WIRE)
    }

    fn parse(&self, body: &Bytes) -> Result<Request, Error> {
        parse::request(body)
    }

    fn counting(&self) -> Option<CountEndpoint> {
        Some(CountEndpoint {
            path: "/v1/messages/count_tokens",
            parse: parse::counted_request,
            answer: |tokens| json!({"input_tokens": tokens}),
        })
    }

    fn read_headers(&self, headers: &HeaderMap, request: &mut Request) {
        let Some(native) = &mut request.native_fields else {
            return;
        };
        let own = headers
            .iter()
            .filter(|(name, _)| name.as_str().starts_with(HEADER_PREFIX));
        for (name, value) in own {
            native.headers.append(name, value.clone());
        }
    }

    fn encoder(&self, request: &Request, info: AnswerInfo) -> Box<dyn Encoder> {
        if request.stream {
            Box::new(stream::StreamEncoder::new(info))
        } else {
            Box::new(whole::WholeEncoder::new(info))
        }
    }

    fn buffers_content(&self) -> bool {
        true
    }

    fn heartbeat(&self) -> &'static [u8] {
        b"event: ping\ndata: {\"type\":\"ping\"}\n\n"
    }

    fn headers(&self, request: &Request) -> HeaderMap {
        event_stream::headers(request.stream)
    }

    fn request_id_header(&self) -> Option<HeaderName> {
        Some(HeaderName::from_static("request-id"))
    }

    fn limit_headers(&self, counted: &str, status: RateStatus, headers: &mut HeaderMap) {
        // In whole seconds, rounded up, so that a client that waits for it does not come too early.
        let reset = status.reset + Duration::from_nanos(999_999_999);
        for (what, value) in [
            ("limit", status.limit.to_string()),
            ("remaining", status.remaining.to_string()),
            ("reset", format_rfc3339_seconds(reset).to_string()),
        ] {
            let name = HeaderName::try_from(format!("anthropic-ratelimit-{counted}-{what}"));
            if let (Ok(name), Ok(value)) = (name, HeaderValue::try_from(value)) {
                headers.insert(name, value);
            }
        }
    }

    fn refusal_headers(&self, error: &Error, _: &RequestId) -> HeaderMap {
        retry_advice(error)
    }

    fn refusal(&self, error: &Error, request: &RequestId) -> Vec<u8> {
        let body = json!({
            "type": "error",
            "error": { "type": error_type(error), "message": error.message() },
            "request_id": request.as_str(),
        });
        body.to_string().into_bytes()
    }

    fn cors_response_headers(&self) -> Vec<&'static str> {
        vec![
            "anthropic-ratelimit-requests-limit",
            "anthropic-ratelimit-requests-remaining",
            "anthropic-ratelimit-requests-reset",
            "anthropic-ratelimit-tokens-limit",
            "anthropic-ratelimit-tokens-remaining",
            "anthropic-ratelimit-tokens-reset",
            "request-id",
            "x-should-retry",
        ]
    }
}

/// The `type` that the API gives an error,
/// <https://platform.claude.com/docs/en/api/errors#http-errors>.
fn error_type(error: &Error) -> &'static str {
    match error.code() {
        ErrorCode::InvalidRequest | ErrorCode::MethodNotAllowed => "invalid_request_error",
        ErrorCode::UpstreamRejected => match error.status().as_u16() {
            404 => "not_found_error",
            413 => "request_too_large",
            _ => "invalid_request_error",
        },
        ErrorCode::Unauthenticated => "authentication_error",
        ErrorCode::Forbidden => "permission_error",
        ErrorCode::NotFound | ErrorCode::Gone => "not_found_error",
        ErrorCode::PayloadTooLarge => "request_too_large",
        ErrorCode::RateLimited | ErrorCode::UpstreamRateLimited => "rate_limit_error",
        ErrorCode::Overloaded | ErrorCode::Draining => "overloaded_error",
        ErrorCode::RequestTimeout | ErrorCode::UpstreamTimeout => "timeout_error",
        ErrorCode::UpstreamAuth
        | ErrorCode::UpstreamUnavailable
        | ErrorCode::UpstreamError
        | ErrorCode::BadUpstreamData
        | ErrorCode::StreamInterrupted
        | ErrorCode::StreamStalled
        | ErrorCode::StreamTooLong
        | ErrorCode::Internal => "api_error",
    }
}
