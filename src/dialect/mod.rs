//! Client protocols: a request on its way in, events on their way out.
//!
//! A dialect is one file and one line in [`ALL`]. Dialects know [`crate::model`] and never an
//! upstream's wire. An [`Encoder`] is a plain state machine that cannot fail: one per stream, no
//! I/O, no clock.

mod anthropic;
mod chat_form;
mod event_stream;
mod field;
mod json;
pub mod native;
mod openai_chat;
mod openai_error;
mod openai_responses;
mod preview;
mod reserved;
mod sequence;
mod ui_messages;

use std::time::SystemTime;

use bytes::BytesMut;
use http::{HeaderMap, HeaderName};

pub use preview::{Preview, normalize};
pub use reserved::check_routing;

use crate::model::{Error, Event, FinishReason, Request, RequestId, StreamId, Usage};

/// Every dialect that the gateway speaks, with the path it is spoken on.
pub static ALL: &[(&str, &dyn Dialect)] = &[
    ("/v1/chat/completions", &openai_chat::OpenaiChat),
    ("/v1/messages", &anthropic::Anthropic),
    ("/v1/responses", &openai_responses::OpenaiResponses),
    ("/v1/streams", NATIVE),
    ("/v1/ui-messages", &ui_messages::UiMessages),
];

/// The gateway's own dialect, in which everything is answered that no other dialect claims.
pub static NATIVE: &dyn Dialect = &native::Native;

/// The dialect in which a client reads who asks at `path`, whether or not there is anything.
pub fn at(path: &str) -> &'static dyn Dialect {
    let spoken = ALL.iter().find(|(root, _)| path.starts_with(root));
    spoken.map_or(NATIVE, |(_, dialect)| *dialect)
}

/// One client protocol.
pub trait Dialect: Send + Sync + 'static {
    /// The name in logs and metrics.
    fn name(&self) -> &'static str;

    /// Reads a request's body.
    ///
    /// # Errors
    /// [`crate::model::ErrorCode::InvalidRequest`], naming the field.
    fn parse(&self, body: &[u8]) -> Result<Request, Error>;

    /// Adds what the client asked for in headers.
    fn read_headers(&self, _headers: &HeaderMap, _request: &mut Request) {}

    /// A fresh encoder for the answer to `request`: of a stream, or of one whole answer that is
    /// written with its last call.
    fn encoder(&self, request: &Request, info: AnswerInfo) -> Box<dyn Encoder>;

    /// Whether a streamed answer's encoder may keep content back or until its end, so that the
    /// answer must be bounded.
    fn buffers_content(&self) -> bool {
        false
    }

    /// Whether a client can come back to a stream: its events are numbered.
    fn supports_resume(&self) -> bool {
        false
    }

    /// What says that the connection lives; may stand between any two events and before the first.
    fn heartbeat(&self) -> &'static [u8];

    /// The headers of the answer to `request`, its content type among them.
    fn headers(&self, request: &Request) -> HeaderMap;

    /// The header beside `x-request-id` in which this dialect's clients look for a request's id.
    fn request_id_header(&self) -> Option<HeaderName> {
        None
    }

    /// Tells where the request's sender stands with the limit on `counted`, such as `requests`, in
    /// this dialect's own headers, beside the `x-ratelimit-…` that every answer has.
    fn limit_headers(&self, _counted: &str, _standing: RateStatus, _headers: &mut HeaderMap) {}

    /// What this dialect's clients expect in a refusal's headers beside `x-request-id`,
    /// `retry-after` and the limits.
    fn refusal_headers(&self, error: &Error, request: &RequestId) -> HeaderMap;

    /// The response headers that this dialect's clients read in a web page, beside those that every
    /// answer may have.
    fn cors_response_headers(&self) -> Vec<&'static str> {
        Vec::new()
    }

    /// Routes on which this dialect's clients ask with `GET` for something that the gateway never
    /// has: they are answered with 204.
    fn empty_routes(&self) -> &'static [&'static str] {
        &[]
    }

    /// The body of a refusal, where no stream has begun.
    fn refusal(&self, error: &Error, request: &RequestId) -> Vec<u8>;
}

/// Where somebody stands with a limit.
#[derive(Debug, Clone, Copy)]
pub struct RateStatus {
    /// How much is allowed at once.
    pub limit: u64,
    pub remaining: u64,
    /// When all of it is left again, if nothing more is taken.
    pub reset: SystemTime,
}

/// What is known of an answer when its request comes in.
#[derive(Debug, Clone)]
pub struct AnswerInfo {
    pub stream: StreamId,
    /// The model in the client's words.
    pub model: String,
    /// Unix time, in seconds.
    pub created: u64,
}

/// Who gives the answer: known when the first content came; nobody where no target gave any.
#[derive(Debug, Clone, Copy)]
pub struct AnswerSource<'a> {
    /// The upstream's name in the config.
    pub upstream: Option<&'a str>,
    /// The model in the upstream's words.
    pub model: Option<&'a str>,
}

/// A whole answer's last words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Completion {
    pub finish: FinishReason,
    pub usage: Option<Usage>,
    /// From the request's arrival to its first content, in milliseconds.
    pub first_token_ms: u64,
    /// From the request's arrival to its end, in milliseconds.
    pub total_ms: u64,
    /// How often another target went on with the answer after it had broken off.
    pub continued: u32,
}

/// Events to bytes, for one answer: `start`, then events, then one of `complete` and `error`.
/// Every method appends to `out` and each event's bytes are whole.
pub trait Encoder: Send {
    fn start(&mut self, source: &AnswerSource<'_>, out: &mut BytesMut);
    fn event(&mut self, event: &Event<'_>, out: &mut BytesMut);
    fn complete(&mut self, completion: &Completion, out: &mut BytesMut);
    fn error(&mut self, error: &Error, usage: Option<Usage>, out: &mut BytesMut);
}
