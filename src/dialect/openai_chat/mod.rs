//! `openai_chat`: OpenAI's Chat Completions,
//! <https://platform.openai.com/docs/api-reference/chat>.
//!
//! | file | does |
//! |---|---|
//! | `parse` | parses a request |
//! | `legacy` | rewrites `functions`, the predecessor of `tools` |
//! | `native_members` | finds members that only an upstream of this protocol understands |
//! | `stream` | encodes events as chunks |
//! | `whole` | encodes events as one `chat.completion` |
//! | `shape` | JSON that streamed and whole answers share |

mod legacy;
mod native_members;
mod parse;
mod shape;
mod stream;
mod variants;
mod verbatim;
mod whole;

use bytes::Bytes;
use http::HeaderMap;

use super::{AnswerInfo, Dialect, Encoder, event_stream, openai_error, retry_advice};
use crate::model::{Error, Request, RequestId};

pub(super) struct OpenaiChat;

/// The wire of the same protocol.
const WIRE: &str = "openai-chat";

impl Dialect for OpenaiChat {
    fn name(&self) -> &'static str {
        "openai_chat"
    }

    fn wire(&self) -> Option<&'static str> {
        Some(WIRE)
    }

    fn parse(&self, body: &Bytes) -> Result<Request, Error> {
        parse::request(body)
    }

    fn read_headers(&self, headers: &HeaderMap, request: &mut Request) {
        openai_error::keep_beta_headers(headers, request);
    }

    fn encoder(&self, request: &Request, info: AnswerInfo) -> Box<dyn Encoder> {
        if request.stream {
            Box::new(stream::StreamEncoder::new(request, &info))
        } else {
            Box::new(whole::WholeEncoder::new(request, info))
        }
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
