//! Upstream protocols: a request on its way out, frames on their way in.
//!
//! A wire is one folder and one line in [`ALL`]. Wires know [`crate::model`] and
//! [`crate::framing`] and never a client's dialect. A [`Decoder`] is a plain state machine: one
//! per stream, no I/O, no clock.

mod adapt;
mod anthropic_messages;
mod bedrock_converse;
mod block_calls;
mod calls;
mod claude_thinking;
mod cohere_chat;
mod counting;
mod digest;
pub mod digits;
mod effort;
mod emit;
mod failure;
mod finish;
mod gemini;
mod json;
mod lenient;
mod limits;
mod model_rules;
mod ollama_chat;
mod openai_chat;
mod openai_responses;
mod parse;
mod refusal;
mod request_parts;
mod verbatim;

use http::{HeaderMap, StatusCode};
use serde_json::{Map, Value, json};

use crate::framing::{Frame, Framing};
use crate::model::{
    CredentialScheme, Error, ErrorCode, Event, Request, SignatureMembers, Sink, Vendor,
};

pub use adapt::{Adapted, TargetSettings, ToolNames};
pub use counting::Counting;
pub(crate) use failure::{plain_failure, stated_failure};
pub use limits::{Limits, NameLimit};
pub use refusal::Refusal;
use refusal::parse_refusal;
pub use verbatim::VerbatimRequest;

/// Every wire that the gateway speaks.
pub static ALL: &[&dyn Wire] = &[
    &anthropic_messages::AnthropicMessages,
    &bedrock_converse::BedrockConverse,
    &cohere_chat::CohereChat,
    &gemini::Gemini,
    &ollama_chat::OllamaChat,
    &openai_chat::OpenaiChat,
    &openai_responses::OpenaiResponses,
];

/// The wire of that name.
pub fn by_name(name: &str) -> Option<&'static dyn Wire> {
    ALL.iter().copied().find(|wire| wire.name() == name)
}

/// One upstream protocol.
pub trait Wire: Send + Sync + 'static {
    /// The contract's name, such as `openai-chat`.
    fn name(&self) -> &'static str;

    /// How the answer's stream is cut into frames.
    fn framing(&self) -> Framing;

    /// How the wire's own vendor takes its credential; presets and configs may override it.
    fn credential(&self) -> CredentialScheme;

    /// What the API accepts in a request for `model`.
    fn limits(&self, model: &str, vendor: &Vendor) -> Limits;

    /// The request for `model`, without host or credential, asking for a stream. `request` fits the
    /// [`Wire::limits`].
    ///
    /// # Errors
    /// [`ErrorCode::InvalidRequest`] naming the field that the wire cannot express.
    fn request(&self, request: &Request, model: &str, vendor: &Vendor) -> Result<Outgoing, Error>;

    /// How the body of a client of the wire's own protocol reaches `model`, apart from its own members.
    /// `None` for wires that no client speaks.
    fn verbatim_request(&self, _model: &str, _vendor: &Vendor) -> Option<VerbatimRequest> {
        None
    }

    /// How the upstream counts the tokens of a prompt, if it can.
    fn counting(&self) -> Option<Counting> {
        None
    }

    /// Whether servers of many vendors speak the protocol in forms of their own, so that their answers
    /// are repaired unless the vendor is known to keep to it.
    fn has_look_alikes(&self) -> bool {
        false
    }

    /// Whether the upstream understands [`Request::continues_answer`]: the model continues the last
    /// message and does not repeat it.
    fn supports_prefill(&self, _vendor: &Vendor) -> bool {
        false
    }

    /// A decoder for one answer of `vendor`.
    fn decoder(&self, vendor: &Vendor) -> Box<dyn Decoder>;

    /// The message of the body of a non-2xx answer. Whose fault the refusal is is decided by status, in
    /// one place for all wires.
    fn refusal(&self, body: &[u8]) -> Option<Refusal> {
        parse_refusal(body)
    }

    /// The members of this protocol that hold a signature of reasoning, if clients speak it too.
    fn signature_members(&self) -> SignatureMembers {
        SignatureMembers::default()
    }

    /// Whether the model accepts the signatures of its vendor's family, if the vendor is of one.
    fn shares_signatures(&self, _model: &str) -> bool {
        true
    }

    /// The other end's view, for the fixture server: the body of a refusal, after the API reference.
    /// Most vendors use OpenAI's form.
    fn error_body(&self, status: StatusCode, message: &str) -> Value {
        json!({
            "error": {
                "message": message,
                "type": error_type(status),
                "param": null,
                "code": null,
            },
        })
    }

    /// The other end's view, for the fixture server: if `path` is this wire's, the model that
    /// `body` asks for.
    fn requested_model(&self, path: &str, body: &Value) -> Option<String>;
}

/// The name of a refusal's kind in the protocols of OpenAI and Anthropic.
fn error_type(status: StatusCode) -> &'static str {
    match status.as_u16() {
        400 | 413 | 422 => "invalid_request_error",
        401 => "authentication_error",
        403 => "permission_error",
        404 => "not_found_error",
        429 => "rate_limit_error",
        529 => "overloaded_error",
        _ => "api_error",
    }
}

/// A request on its way out: `POST {base_url}{path}`.
#[derive(Debug, Clone, PartialEq)]
pub struct Outgoing {
    /// Begins with `/`; appended to the upstream's base URL.
    pub path: String,
    /// Headers that the protocol itself demands, such as `anthropic-version`.
    pub headers: HeaderMap,
    pub body: Value,
}

/// Frames to events, for one answer.
///
/// The law of the template: after a frame that emitted one text and nothing else, the same frame with
/// another text emits that text and nothing else, and changes nothing in the decoder but what
/// [`Decoder::repeated`] changes. Such frames are not handed to the decoder.
pub trait Decoder: Send {
    /// The request asked for several answers. Called before anything is read, if at all.
    fn expect_alternatives(&mut self) {}

    /// The client speaks this protocol, and the gateway encodes the answer's events for it: members that
    /// no event expresses are emitted as [`Event::NativeMembers`]. Called before anything is read, if at all.
    fn keep_members(&mut self) {}

    /// Decodes one frame and emits its events at once.
    ///
    /// # Errors
    /// [`ErrorCode::BadUpstreamData`] for what does not parse, [`ErrorCode::UpstreamError`] for the
    /// upstream's own in-band error. The stream is over with the first one.
    fn frame(&mut self, frame: &Frame<'_>, sink: &mut dyn Sink) -> Result<(), Error>;

    /// A frame like the last one came, and `event` was emitted for it without decoding it.
    fn repeated(&mut self, _event: &Event<'_>) {}

    /// Keys that the decoder ignores wherever they stand, and whose values differ from frame to frame:
    /// strings, or whole numbers.
    fn ignored_keys(&self) -> &'static [&'static str] {
        &[]
    }

    /// Decodes a whole answer that came as one JSON document instead of a stream, to its finish.
    ///
    /// # Errors
    /// As [`Decoder::frame`]; and [`ErrorCode::BadUpstreamData`] for a document that is no answer.
    fn document(&mut self, document: &str, sink: &mut dyn Sink) -> Result<(), Error>;

    /// Whether `frame` is this wire's end of the answer, so that it counts although the body ended
    /// before the frame did. Half a frame never is.
    fn is_terminal(&self, frame: &Frame<'_>) -> bool;

    /// The body ended cleanly, and no finish was seen. Wires whose vendors leave their terminal marker
    /// out may finish here.
    ///
    /// # Errors
    /// [`ErrorCode::StreamInterrupted`] where the answer is not whole.
    fn end(&mut self, _sink: &mut dyn Sink) -> Result<(), Error> {
        Err(interrupted())
    }

    /// The answer broke off: emits what was held back.
    fn flush(&mut self, _sink: &mut dyn Sink) {}
}

/// The error for a body that ended before its answer did.
pub fn interrupted() -> Error {
    Error::new(
        ErrorCode::StreamInterrupted,
        "the upstream's stream ended before the answer was complete",
    )
}

/// The error for JSON of another protocol.
fn wrong_protocol() -> Error {
    Error::new(
        ErrorCode::BadUpstreamData,
        "the upstream answered with JSON that is not an answer of its protocol",
    )
}

/// Whether a message is empty or `null`, which some vendors send to keep the connection alive.
pub(crate) fn is_blank(data: &str) -> bool {
    matches!(data.trim_ascii(), "" | "null")
}

/// The error of a document that is not an answer: the upstream's own if it has a message.
fn document_error(document: &str) -> Error {
    stated_failure(document).unwrap_or_else(wrong_protocol)
}

/// The upstream's own error, with the message of the frame or document that holds it.
fn upstream_error(data: &str) -> Error {
    let message = parse_refusal(data.as_bytes())
        .map_or_else(|| "no reason given".to_owned(), |refusal| refusal.message);
    Error::new(ErrorCode::UpstreamError, message)
}

/// The error for a frame that is not what the wire requires. The data itself stays out of the message:
/// it may be anything, the user's own text included.
fn unparsable(error: &serde_json::Error) -> Error {
    Error::new(
        ErrorCode::BadUpstreamData,
        format!(
            "the upstream sent data that does not parse (line {}, column {})",
            error.line(),
            error.column()
        ),
    )
}

/// Merges a request's `extra` into the upstream's body: objects are merged, all else is replaced.
fn merge(body: &mut Map<String, Value>, extra: &Map<String, Value>) {
    for (name, value) in extra {
        match (body.get_mut(name), value) {
            (Some(Value::Object(into)), Value::Object(from)) => merge(into, from),
            _ => {
                body.insert(name.clone(), value.clone());
            }
        }
    }
}
