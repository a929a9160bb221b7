//! Bytes to frames: finds where one upstream message ends and the next begins, without reading its
//! meaning.
//!
//! A [`Framer`] takes bytes in any pieces and emits the same frames for every way of cutting the same
//! bytes. Everything it keeps is bounded by a cap in bytes; its time is linear
//! in its input.

mod aws;
mod lines;
mod ndjson;
mod sse;
pub mod surrogate;

use crate::model::{Error, ErrorCode};

use aws::AwsEventStream;
use ndjson::Ndjson;
use sse::Sse;

/// One upstream message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Frame<'a> {
    /// The event's name or type; empty where the framing or the message has none.
    pub name: &'a str,
    /// The message itself, mostly one JSON text. Invalid UTF-8 has become U+FFFD.
    pub data: &'a str,
    /// The framing itself marks the message as a failure of the upstream: `name` is its kind, `data` its
    /// reason. Only [`Framing::AwsEventStream`] does so.
    pub failure: bool,
}

impl<'a> Frame<'a> {
    pub fn new(name: &'a str, data: &'a str) -> Self {
        Self {
            name,
            data,
            failure: false,
        }
    }

    /// See [`Frame::failure`].
    fn failure(name: &'a str, data: &'a str) -> Self {
        Self {
            name,
            data,
            failure: true,
        }
    }
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
    /// `application/vnd.amazon.eventstream`,
    /// <https://smithy.io/2.0/aws/amazon-eventstream.html>.
    AwsEventStream,
}

/// What a body's end left over.
#[derive(Debug, PartialEq, Eq)]
pub enum Remainder {
    /// The body ended between two frames.
    Nothing,
    /// The body ended inside what may be a last frame, whose end mark is missing.
    Unended { name: String, data: String },
    /// The body ended inside a frame that says how long it is, so that nothing of it counts.
    Broken,
    /// The body was no stream but one JSON document, and this is it.
    Document(String),
    /// The body was no stream but plain text, and this is its beginning.
    Text(String),
}

/// Cuts one body into frames.
pub struct Framer {
    shape: Shape,
    cap: usize,
    repaired_document: bool,
}

enum Shape {
    /// The first byte that is no white space tells whether a body is a stream at all; what comes
    /// before it waits here.
    Unread(Unread),
    Sse(Sse),
    Ndjson(Ndjson),
    AwsEventStream(AwsEventStream),
    Document(Vec<u8>),
}

struct Unread {
    waiting: Vec<u8>,
    /// What the body is, if it is a stream.
    stream: fn(usize) -> Shape,
}

impl Framer {
    /// `cap` bounds one frame, in bytes.
    pub fn new(framing: Framing, cap: usize) -> Self {
        let shape = match framing {
            Framing::Sse => Shape::unread(|cap| Shape::Sse(Sse::new(cap))),
            // A message's first byte is the highest of its length: a whole message of the size
            // that a `{` stands for would be of 2 GB.
            Framing::AwsEventStream => {
                Shape::unread(|cap| Shape::AwsEventStream(AwsEventStream::new(cap)))
            }
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
    /// and the errors of `sink`. The framer must not be used after an error.
    pub fn push(&mut self, bytes: &[u8], sink: &mut FrameSink<'_>) -> Result<(), Error> {
        if let Shape::Unread(Unread { waiting, stream }) = &mut self.shape {
            let mark = bytes.iter().position(is_content);
            if waiting.len() + mark.unwrap_or(bytes.len()) > self.cap {
                return Err(over_cap(self.cap));
            }
            let shape = match mark.map(|at| bytes[at]) {
                None => {
                    waiting.extend_from_slice(bytes);
                    return Ok(());
                }
                Some(b'{' | b'[') => Shape::Document(Vec::new()),
                Some(b'<') => return Err(not_a_stream()),
                Some(_) => stream(self.cap),
            };
            let waiting = std::mem::take(waiting);
            self.shape = shape;
            self.push(&waiting, sink)?;
        }
        match &mut self.shape {
            Shape::Unread(_) => Ok(()),
            Shape::Sse(sse) => sse.push(bytes, sink),
            Shape::Ndjson(ndjson) => ndjson.push(bytes, sink),
            Shape::AwsEventStream(stream) => stream.push(bytes, sink),
            Shape::Document(document) => {
                if document.len() + bytes.len() > self.cap {
                    return Err(over_cap(self.cap));
                }
                document.extend_from_slice(bytes);
                Ok(())
            }
        }
    }

    /// The body has ended: returns what is left of it.
    ///
    /// # Errors
    /// [`ErrorCode::BadUpstreamData`] for an empty body, or one with not a line of the framing in it.
    pub fn end(&mut self) -> Result<Remainder, Error> {
        match &mut self.shape {
            Shape::Unread(_) => Err(empty()),
            Shape::Sse(sse) => sse.end(),
            Shape::AwsEventStream(stream) => Ok(stream.end()),
            Shape::Ndjson(ndjson) => ndjson.end(),
            Shape::Document(document) => {
                let document = document.trim_ascii_start();
                let document = document.strip_prefix(lines::BOM).unwrap_or(document);
                let (text, broken) = lines::repair_utf8(document);
                self.repaired_document = broken;
                Ok(Remainder::Document(text.into_owned()))
            }
        }
    }

    /// How many bytes of an unfinished frame are kept.
    pub fn held_bytes(&self) -> usize {
        match &self.shape {
            Shape::Unread(unread) => unread.waiting.len(),
            Shape::Sse(sse) => sse.held_bytes(),
            Shape::Ndjson(ndjson) => ndjson.held_bytes(),
            Shape::AwsEventStream(stream) => stream.held_bytes(),
            Shape::Document(document) => document.len(),
        }
    }

    /// How many lines, or messages where lines mean nothing, had invalid UTF-8 that became U+FFFD.
    pub fn repaired_lines(&self) -> u64 {
        match &self.shape {
            Shape::Sse(sse) => sse.repaired_lines(),
            Shape::Ndjson(ndjson) => ndjson.repaired_lines(),
            Shape::AwsEventStream(stream) => stream.repaired(),
            // A document counts as one line, and is read at its end.
            Shape::Document(_) => u64::from(self.repaired_document),
            Shape::Unread(_) => 0,
        }
    }
}

impl Shape {
    fn unread(stream: fn(usize) -> Self) -> Self {
        Self::Unread(Unread {
            waiting: Vec::new(),
            stream,
        })
    }
}

/// Whether a byte is neither white space nor a part of a byte order mark.
fn is_content(byte: &u8) -> bool {
    !byte.is_ascii_whitespace() && !lines::BOM.contains(byte)
}

/// The error for a body that is neither a stream nor JSON.
pub(crate) fn not_a_stream() -> Error {
    Error::new(
        ErrorCode::BadUpstreamData,
        "the upstream answered with a body that is not a stream",
    )
}

/// The body is empty or white space: there is no answer.
fn empty() -> Error {
    Error::new(
        ErrorCode::BadUpstreamData,
        "the upstream answered with an empty body",
    )
}

fn over_cap(cap: usize) -> Error {
    Error::new(
        ErrorCode::BadUpstreamData,
        format!("the upstream sent a frame of more than {cap} bytes"),
    )
}
