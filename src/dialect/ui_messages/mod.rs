//! `ui_messages`: the AI SDK's UI message stream, version 1, which `useChat` reads,
//! <https://ai-sdk.dev/docs/ai-sdk-ui/stream-protocol>.
//!
//! | file | does |
//! |---|---|
//! | `parse` | parses the messages of a chat; the settings beside them are the native dialect's |
//! | `encode` | encodes events as parts of a message |
//! | `chunk` | the JSON of the stream |

mod chunk;
mod encode;
mod parse;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue};

use super::{AnswerInfo, Dialect, Encoder, NATIVE, event_stream};
use crate::model::{Error, Request, RequestId};

pub(super) struct UiMessages;

/// The name under which the SDK keeps data that it sends back unchanged.
const PROVIDER: &str = "sluicegate";

impl Dialect for UiMessages {
    fn name(&self) -> &'static str {
        "ui_messages"
    }

    fn parse(&self, body: &Bytes) -> Result<Request, Error> {
        parse::request(body)
    }

    fn encoder(&self, request: &Request, info: AnswerInfo) -> Box<dyn Encoder> {
        Box::new(encode::UiEncoder::new(request, info.stream))
    }

    /// The arguments of a call are repeated when they are complete.
    fn buffers_content(&self) -> bool {
        true
    }

    fn heartbeat(&self) -> &'static [u8] {
        b": keep-alive\n\n"
    }

    fn headers(&self, _: &Request) -> HeaderMap {
        let mut headers = event_stream::headers(true);
        let version = HeaderValue::from_static("v1");
        headers.insert("x-vercel-ai-ui-message-stream", version);
        headers
    }

    fn refusal_headers(&self, _: &Error, _: &RequestId) -> HeaderMap {
        HeaderMap::new()
    }

    /// The SDK shows the body of a refusal unchanged.
    fn refusal(&self, error: &Error, request: &RequestId) -> Vec<u8> {
        NATIVE.refusal(error, request)
    }

    fn empty_routes(&self) -> &'static [&'static str] {
        // `useChat` asks here before it resumes a stream; these streams are not resumed.
        &["/v1/ui-messages/{chat}/stream"]
    }
}
