//! Bytes to frames: where one upstream message ends and the next begins, and nothing of what it
//! means.
//!
//! A [`Framer`] is fed whatever pieces the network gives and yields the same frames for every way
//! of cutting the same bytes. Everything it keeps is bounded by a cap in bytes; its time is linear
//! in its input.

mod lines;
mod ndjson;
mod sse;

use crate::model::{Error, ErrorCode};

use ndjson::Ndjson;
use sse::Sse;

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

/// What a body's end left over.
#[derive(Debug, PartialEq, Eq)]
pub enum Remainder {
    /// The body ended between two frames.
    Nothing,
    /// The body ended inside what may be a last frame, whose end mark is missing.
    Unended { name: String, data: String },
    /// The body was no stream but one JSON document, and this is it.
    Document(String),
}

/// Cuts one body into frames.
pub struct Framer {
    shape: Shape,
    cap: usize,
    repaired_document: bool,
}

enum Shape {
    /// The first byte that is no white space tells whether an SSE body is one at all; what comes
    /// before it waits here.
    Unread(Vec<u8>),
    Sse(Sse),
    Ndjson(Ndjson),
    Document(Vec<u8>),
}

impl Framer {
    /// `cap` bounds one frame, in bytes.
    pub fn new(framing: Framing, cap: usize) -> Self {
        let shape = match framing {
            Framing::Sse => Shape::Unread(Vec::new()),
            Framing::Ndjson => Shape::Ndjson(Ndjson::new(cap)),
        };
        Self {
            shape,
            cap,
            repaired_document: false,
        }
    }

    /// Hands every frame that `bytes` completes to `sink`.
    ///
    /// # Errors
    /// [`ErrorCode::BadUpstreamData`] for a frame over the cap or a body that is no stream at all,
    /// and whatever `sink` says. The framer must not be fed again after either.
    pub fn push(&mut self, bytes: &[u8], sink: &mut FrameSink<'_>) -> Result<(), Error> {
        if let Shape::Unread(waiting) = &mut self.shape {
            let mark = bytes.iter().position(is_mark);
            if waiting.len() + mark.unwrap_or(bytes.len()) > self.cap {
                return Err(over_cap(self.cap));
            }
            let shape = match mark.map(|at| bytes[at]) {
                None => {
                    waiting.extend_from_slice(bytes);
                    return Ok(());
                }
                Some(b'{' | b'[') => Shape::Document(Vec::new()),
                Some(b'<') => return Err(no_stream()),
                Some(_) => Shape::Sse(Sse::new(self.cap)),
            };
            let waiting = std::mem::take(waiting);
            self.shape = shape;
            self.push(&waiting, sink)?;
        }
        match &mut self.shape {
            Shape::Unread(_) => Ok(()),
            Shape::Sse(sse) => sse.push(bytes, sink),
            Shape::Ndjson(ndjson) => ndjson.push(bytes, sink),
            Shape::Document(document) => {
                if document.len() + bytes.len() > self.cap {
                    return Err(over_cap(self.cap));
                }
                document.extend_from_slice(bytes);
                Ok(())
            }
        }
    }

    /// The body has ended: says what it left over.
    ///
    /// # Errors
    /// [`ErrorCode::BadUpstreamData`] for a body with not a line of the framing in it.
    pub fn end(&mut self) -> Result<Remainder, Error> {
        match &mut self.shape {
            Shape::Unread(_) => Ok(Remainder::Nothing),
            Shape::Sse(sse) => sse.end(),
            Shape::Ndjson(ndjson) => ndjson.end(),
            Shape::Document(document) => {
                let document = document.trim_ascii_start();
                let document = document.strip_prefix(lines::BOM).unwrap_or(document);
                let (text, broken) = lines::repaired(document);
                self.repaired_document = broken;
                Ok(Remainder::Document(text.into_owned()))
            }
        }
    }

    /// How many lines had invalid UTF-8 that became U+FFFD.
    pub fn repaired_lines(&self) -> u64 {
        match &self.shape {
            Shape::Sse(sse) => sse.repaired_lines(),
            Shape::Ndjson(ndjson) => ndjson.repaired_lines(),
            // A document counts as one line, and is read at its end.
            Shape::Document(_) => u64::from(self.repaired_document),
            Shape::Unread(_) => 0,
        }
    }
}

/// Whether a byte is neither white space nor a part of a byte order mark.
fn is_mark(byte: &u8) -> bool {
    !byte.is_ascii_whitespace() && !lines::BOM.contains(byte)
}

fn no_stream() -> Error {
    Error::new(
        ErrorCode::BadUpstreamData,
        "the upstream answered with something that is no stream",
    )
}

fn over_cap(cap: usize) -> Error {
    Error::new(
        ErrorCode::BadUpstreamData,
        format!("the upstream sent a frame of more than {cap} bytes"),
    )
}
