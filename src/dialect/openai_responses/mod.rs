//! `openai_responses`: OpenAI's Responses API,
//! <https://platform.openai.com/docs/api-reference/responses>.
//!
//! | file | does |
//! |---|---|
//! | `parse` | a request's settings and tools |
//! | `input` | the items of a conversation |
//! | `encode` | events to output items |
//! | `item` | an output item as it grows |
//! | `tell` | what a stream says of it |
//! | `response` | the `response` object that answers and stream events carry |

mod encode;
mod input;
mod item;
mod parse;
mod response;
mod tell;

use http::{HeaderMap, HeaderValue};
use serde_json::json;

use super::{Dialect, Encoder, Opening, event_stream};
use crate::model::{Error, ErrorCode, Origin, Request, RequestId};

pub(super) struct OpenaiResponses;

/// The wire of the same protocol.
const WIRE: &str = "openai-responses";

impl Dialect for OpenaiResponses {
    fn name(&self) -> &'static str {
        "openai_responses"
    }

    fn parse(&self, body: &[u8]) -> Result<Request, Error> {
        parse::request(body)
    }

    fn encoder(&self, request: &Request, opening: Opening) -> Box<dyn Encoder> {
        Box::new(encode::ResponseEncoder::new(request, opening))
    }

    /// The last event repeats all the others.
    fn keeps_content(&self) -> bool {
        true
    }

    fn heartbeat(&self) -> &'static [u8] {
        b": keep-alive\n\n"
    }

    fn headers(&self, request: &Request) -> HeaderMap {
        event_stream::headers(request.stream)
    }

    fn refusal_headers(&self, error: &Error, _: &RequestId) -> HeaderMap {
        let mut headers = HeaderMap::new();
        if error.code().origin() == Origin::Upstream {
            // The gateway has tried what there was to try.
            headers.insert("x-should-retry", HeaderValue::from_static("false"));
        }
        headers
    }

    fn refusal(&self, error: &Error, _: &RequestId) -> Vec<u8> {
        let body = json!({
            "error": {
                "message": error.message(),
                "type": error_type(error),
                "param": null,
                "code": error.code().as_str(),
            },
        });
        body.to_string().into_bytes()
    }
}

/// The API's own word for a kind of error,
/// <https://platform.openai.com/docs/guides/error-codes/api-errors>.
fn error_type(error: &Error) -> &'static str {
    match error.code() {
        ErrorCode::Unauthenticated => "authentication_error",
        ErrorCode::Forbidden => "permission_error",
        ErrorCode::RateLimited | ErrorCode::UpstreamRateLimited => "rate_limit_error",
        _ if error.status().is_client_error() => "invalid_request_error",
        _ => "server_error",
    }
}

/// The `code` of a failed response, which the API's clients know a list of.
fn failure_code(error: &Error) -> &'static str {
    match error.code() {
        ErrorCode::RateLimited | ErrorCode::UpstreamRateLimited => "rate_limit_exceeded",
        ErrorCode::InvalidRequest | ErrorCode::UpstreamRejected => "invalid_prompt",
        _ => "server_error",
    }
}
