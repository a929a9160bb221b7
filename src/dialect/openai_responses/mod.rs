//! `openai_responses`: OpenAI's Responses API,
//! <https://platform.openai.com/docs/api-reference/responses>.
//!
//! | file | does |
//! |---|---|
//! | `parse` | parses a request: settings and tools |
//! | `input` | parses the items of a conversation |
//! | `tools` | the client's tools as functions of other protocols |
//! | `encode` | encodes events as output items |
//! | `custom_input` | decodes the input of a custom tool from a function's arguments |
//! | `item` | an output item under construction |
//! | `event_writer` | writes the events of a stream |
//! | `response` | the `response` object in whole answers and stream events |

mod custom_input;
mod encode;
mod event_writer;
mod input;
mod item;
mod parse;
mod response;
mod tools;
mod verbatim;

use bytes::Bytes;
use http::HeaderMap;
use serde_json::json;

use super::{
    AnswerInfo, CountEndpoint, Dialect, Encoder, event_stream, openai_error, retry_advice,
};
use crate::model::{Error, ErrorCode, Request, RequestId};

pub(super) struct OpenaiResponses;

/// The wire of the same protocol.
const WIRE: &str = "openai-responses";

impl Dialect for OpenaiResponses {
    fn name(&self) -> &'static str {
        "openai_responses"
    }

    fn wire(&self) -> Option<&'static str> {
        Some(WIRE)
    }

    fn parse(&self, body: &Bytes) -> Result<Request, Error> {
        parse::request(body)
    }

    fn counting(&self) -> Option<CountEndpoint> {
        Some(CountEndpoint {
            path: "/v1/responses/input_tokens",
            parse: parse::request,
            answer: |tokens| json!({"object": "response.input_tokens", "input_tokens": tokens}),
        })
    }

    fn read_headers(&self, headers: &HeaderMap, request: &mut Request) {
        openai_error::keep_beta_headers(headers, request);
    }

    fn encoder(&self, request: &Request, info: AnswerInfo) -> Box<dyn Encoder> {
        Box::new(encode::ResponseEncoder::new(request, info))
    }

    /// The last event repeats the whole answer.
    fn buffers_content(&self) -> bool {
        true
    }

    fn heartbeat(&self) -> &'static [u8] {
        b": keep-alive\n\n"
    }

    fn headers(&self, request: &Request) -> HeaderMap {
        event_stream::headers(request.stream)
    }

    fn refusal_headers(&self, error: &Error, _: &RequestId) -> HeaderMap {
        retry_advice(error)
    }

    fn refusal(&self, error: &Error, _: &RequestId) -> Vec<u8> {
        openai_error::body(error).to_string().into_bytes()
    }

    fn cors_response_headers(&self) -> Vec<&'static str> {
        vec!["x-should-retry"]
    }
}

/// The `code` of a failed response, one of those that the API's clients know.
fn failure_code(error: &Error) -> &'static str {
    match error.code() {
        ErrorCode::RateLimited | ErrorCode::UpstreamRateLimited => "rate_limit_exceeded",
        ErrorCode::InvalidRequest | ErrorCode::UpstreamRejected => "invalid_prompt",
        _ => "server_error",
    }
}
