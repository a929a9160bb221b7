//! Bytes to frames: where one upstream message ends and the next begins, and nothing of what it
//! means.
//!
//! A framer is fed whatever pieces the network gives and yields the same frames for every way of
//! cutting the same bytes. Everything is bounded by a cap in bytes; time is linear in the input.

use crate::model::Error;

/// One upstream message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Frame<'a> {
    /// The SSE event's name; empty where the wire or the message has none.
    pub name: &'a str,
    /// The message itself, mostly one JSON text. Invalid UTF-8 has become U+FFFD.
    pub data: &'a str,
}

/// Takes frames one at a time. An error stops the framer for good.
pub type FrameSink<'a> = dyn FnMut(&Frame<'_>) -> Result<(), Error> + 'a;

/// How a wire cuts its stream into messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    /// Server-Sent Events, <https://html.spec.whatwg.org/multipage/server-sent-events.html>.
    Sse,
    /// One JSON text a line.
    Ndjson,
}
