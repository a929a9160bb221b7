//! The vocabulary of the house: requests, events, usage, errors and ids.
//!
//! Everything above this folder speaks these types; nothing in here knows a protocol, does I/O or
//! imports another room. None of the types is a wire format, so none of them is serializable.

mod credential;
mod error;
mod event;
mod grammar;
mod ids;
mod json_text;
mod rate;
mod request;
mod signature;
mod vendor;

pub use credential::{Credential, SigningKey};
pub use error::{Error, ErrorCode, Origin, VendorRefusal};
pub use event::{Citation, Event, FinishReason, MemberPlace, Sink, ToolCallDelta, Usage};
pub use grammar::{Grammar, MAX_TOOL_CALLS, is_empty};
pub use ids::{EventId, Ordinal, RequestId, StreamId};
pub use json_text::JsonText;
pub use rate::Rate;
pub use request::{
    Media, MediaSource, Message, NativeFields, Part, Reasoning, ReasoningStyle, Request,
    ResponseFormat, Role, Tool, ToolChoice,
};
pub use signature::{ReasoningSigner, SignatureMembers};
pub use vendor::{CredentialScheme, Prefill, Vendor};
