//! Client protocols: a dialect parses requests and encodes events.
//!
//! A dialect is a folder and one line in [`ALL`]. Dialects depend on [`crate::model`] and never on
//! an upstream's wire. An [`Encoder`] is a state machine that cannot fail: one per stream, without
//! I/O and without a clock.

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
mod verbatim;

use std::time::SystemTime;

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderName, HeaderValue};
use serde_json::Value;

pub use preview::{Preview, normalize};
pub use reserved::{check_routing, check_routing_members};
pub(crate) use verbatim::write_frame;

use crate::model::{Error, Event, FinishReason, Request, RequestId, StreamId, Usage};

/// Every dialect, with the path that its clients post requests to.
pub static ALL: &[(&str, &dyn Dialect)] = &[
    ("/v1/chat/completions", &openai_chat::OpenaiChat),
    ("/v1/messages", &anthropic::Anthropic),
    ("/v1/responses", &openai_responses::OpenaiResponses),
    ("/v1/streams", NATIVE),
    ("/v1/ui-messages", &ui_messages::UiMessages),
];

/// The gateway's own dialect, which answers every path that belongs to no other dialect.
pub static NATIVE: &dyn Dialect = &native::Native;

/// The dialect of a client that sends a request to `path`, even if the path does not exist.
pub fn at(path: &str) -> &'static dyn Dialect {
    let spoken = ALL.iter().find(|(root, _)| path.starts_with(root));
    spoken.map_or(NATIVE, |(_, dialect)| *dialect)
}

/// The header in which the SDKs of OpenAI and Anthropic read whether to try again. Only an upstream's
/// own advice is passed on: without the header the SDKs try again after 408, 409, 429 and 5xx.
fn retry_advice(error: &Error) -> HeaderMap {
    let advice = error.should_retry().map(|retry| {
        let value = if retry { "true" } else { "false" };
        let name = HeaderName::from_static("x-should-retry");
        (name, HeaderValue::from_static(value))
    });
    advice.into_iter().collect()
}

/// The headers of an answer that is a stream of events.
pub(crate) fn stream_headers() -> HeaderMap {
    event_stream::headers(true)
}

/// One client protocol.
pub trait Dialect: Send + Sync + 'static {
    /// The name in logs and metrics.
    fn name(&self) -> &'static str;

    /// The wire of the same protocol. Where an upstream speaks it, requests, answers and refusals can
    /// pass as they are.
    fn wire(&self) -> Option<&'static str> {
        None
    }

    /// Parses the body of a request.
    ///
    /// # Errors
    /// [`crate::model::ErrorCode::InvalidRequest`], naming the field.
    fn parse(&self, body: &Bytes) -> Result<Request, Error>;

    /// Where clients ask how many tokens a prompt has, if the protocol has such a path.
    fn counting(&self) -> Option<CountEndpoint> {
        None
    }

    /// Adds what the request's headers say.
    fn read_headers(&self, _headers: &HeaderMap, _request: &mut Request) {}

    /// A new encoder for the answer to `request`: for a stream, or for a whole answer, which the
    /// encoder writes with its last call.
    fn encoder(&self, request: &Request, info: AnswerInfo) -> Box<dyn Encoder>;

    /// Whether the encoder of a streamed answer may hold content, so that the answer must be
    /// bounded.
    fn buffers_content(&self) -> bool {
        false
    }

    /// Whether a client can resume a stream: its events have ids.
    fn supports_resume(&self) -> bool {
        false
    }

    /// The bytes that show that the connection is alive; they may come between two events and before
    /// the first. See also [`Encoder::heartbeat`].
    fn heartbeat(&self) -> &'static [u8];

    /// The headers of the answer to `request`, its content type among them.
    fn headers(&self, request: &Request) -> HeaderMap;

    /// The header beside `x-request-id` in which this dialect's clients look for a request's id.
    fn request_id_header(&self) -> Option<HeaderName> {
        None
    }

    /// Adds the state of a limit on `counted`, such as `requests`, in this dialect's own headers,
    /// beside the `x-ratelimit-…` that every answer has.
    fn limit_headers(&self, _counted: &str, _standing: RateStatus, _headers: &mut HeaderMap) {}

    /// The headers that this dialect's clients expect in a refusal, beside `x-request-id`,
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

    /// The body of a refusal, before a stream began.
    fn refusal(&self, error: &Error, request: &RequestId) -> Vec<u8>;
}

/// The path at which clients ask how many tokens a prompt has.
#[derive(Clone, Copy)]
pub struct CountEndpoint {
    pub path: &'static str,
    /// As [`Dialect::parse`], for a request that needs no answer.
    pub parse: fn(&Bytes) -> Result<Request, Error>,
    /// The body of the answer.
    pub answer: fn(u64) -> Value,
}

/// The state of one limit.
#[derive(Debug, Clone, Copy)]
pub struct RateStatus {
    /// How much the limit allows at once.
    pub limit: u64,
    pub remaining: u64,
    /// When all of it is available again, if nothing more is taken.
    pub reset: SystemTime,
}

/// What is known about an answer when its request arrives.
#[derive(Debug, Clone)]
pub struct AnswerInfo {
    pub stream: StreamId,
    /// The model's name in the client's request.
    pub model: String,
    /// Unix time, in seconds.
    pub created: u64,
}

/// The target that gives the answer: known once the first content came, none if no target gave
/// any.
#[derive(Debug, Clone, Copy)]
pub struct AnswerSource<'a> {
    /// The upstream's name in the config.
    pub upstream: Option<&'a str>,
    /// The upstream's name of the model.
    pub model: Option<&'a str>,
}

/// The end of an answer that is complete.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Completion {
    pub finish: FinishReason,
    pub usage: Option<Usage>,
    /// From the request's arrival to its first content, in milliseconds.
    pub first_token_ms: u64,
    /// From the request's arrival to its end, in milliseconds.
    pub total_ms: u64,
    /// How often another target continued the answer after it was cut.
    pub continued: u32,
}

/// Encodes the events of one answer: `start`, then events, then one of `complete` and `error`.
/// Every method appends whole events to `out`.
pub trait Encoder: Send {
    fn start(&mut self, source: &AnswerSource<'_>, out: &mut BytesMut);
    fn event(&mut self, event: &Event<'_>, out: &mut BytesMut);
    fn complete(&mut self, completion: &Completion, out: &mut BytesMut);
    fn error(&mut self, error: &Error, usage: Option<Usage>, out: &mut BytesMut);

    /// Takes the tries of targets, such as `a/model=429`, if there was more than one. Comes before
    /// `complete` or `error`.
    fn set_attempts(&mut self, _attempts: Vec<String>) {}

    /// Writes an event that shows that the answer is still being made, for clients that do not count
    /// [`Dialect::heartbeat`]. Nothing is written if there is no such event, or not yet.
    fn heartbeat(&self, _out: &mut BytesMut) {}

    /// Writes the heartbeats before the answer's first event, if these are events too. `None` for
    /// protocols whose clients count [`Dialect::heartbeat`].
    fn opening_heartbeat(&self) -> Option<Arc<dyn OpeningHeartbeat>> {
        None
    }

    /// The encoder of the same answer if it comes in the client's own protocol. Called before `start`,
    /// if at all. None for protocols that no upstream speaks.
    fn verbatim(&self) -> Option<Box<dyn VerbatimEncoder>> {
        None
    }
}

/// Writes the heartbeats of an answer before its first event. The encoder of the same answer knows
/// what was written.
pub trait OpeningHeartbeat: Send + Sync {
    /// Writes whole events that show that the answer is being made. It cannot be passed on verbatim
    /// from then on.
    fn write(&self, out: &mut BytesMut);
}

/// Writes an answer that comes in the client's own protocol: the frames as the upstream wrote them,
/// then one of `complete` and `error`.
pub trait VerbatimEncoder: Send {
    fn frame(&mut self, name: &str, data: &str, out: &mut BytesMut);

    /// As `frame`, for a message in which the upstream states that it failed. Whether the client reads
    /// it as the end of the answer, so that nothing needs to follow.
    fn error_frame(&mut self, name: &str, data: &str, out: &mut BytesMut) -> bool;

    /// The answer is complete. The upstream's own end was written with its frame.
    fn complete(&mut self, out: &mut BytesMut);

    /// The answer broke off.
    fn error(&mut self, error: &Error, out: &mut BytesMut);

    /// As [`Encoder::heartbeat`].
    fn heartbeat(&self, _out: &mut BytesMut) {}

    /// Whether the frames are kept, and `complete` writes the whole answer.
    fn collects(&self) -> bool;
}
