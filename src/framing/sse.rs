//! Server-Sent Events: a block of lines up to an empty one is a frame.
//!
//! `eventsource-stream` reads the fields of a block. Alone it panics on a byte order mark,
//! rescans what it has for every read, has no bound and waits for one byte more after a CR; so it
//! is given one whole, clean block at a time: decoded, with LF line ends, no comment and no byte
//! order mark.
//!
//! Two things that are no Server-Sent Events are let through all the same, for they are how some
//! servers report that they failed: a field `error: {…}`, and a JSON document that stands bare
//! between the events.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use eventsource_stream::{Event, EventStream};
use futures_core::Stream;
use memchr::{memchr, memrchr};

use super::lines::Lines;
use super::{Frame, FrameSink, Remainder, no_stream, over_cap};
use crate::model::Error;

pub(super) struct Sse {
    lines: Lines,
    block: Block,
}

/// The lines of one event so far.
struct Block {
    text: String,
    /// The lines are a bare JSON document and no fields.
    document: bool,
    /// Some line was a comment or a field that the protocol knows.
    recognised: bool,
    cap: usize,
}

impl Sse {
    pub(super) fn new(cap: usize) -> Self {
        Self {
            lines: Lines::new(cap),
            block: Block {
                text: String::new(),
                document: false,
                recognised: false,
                cap,
            },
        }
    }

    pub(super) fn push(&mut self, bytes: &[u8], sink: &mut FrameSink<'_>) -> Result<(), Error> {
        let block = &mut self.block;
        self.lines.push(bytes, &mut |line| {
            if line.is_empty() {
                block.dispatch(sink)
            } else {
                block.add(line)
            }
        })
    }

    pub(super) fn end(&mut self) -> Result<Remainder, Error> {
        let block = &mut self.block;
        self.lines.end(&mut |line| block.add(line))?;
        if !block.recognised {
            return Err(no_stream());
        }
        let mut remainder = Remainder::Nothing;
        block.dispatch(&mut |frame| {
            remainder = Remainder::Unended {
                name: frame.name.to_owned(),
                data: frame.data.to_owned(),
            };
            Ok(())
        })?;
        Ok(remainder)
    }

    pub(super) fn repaired_lines(&self) -> u64 {
        self.lines.repaired()
    }
}

impl Block {
    fn add(&mut self, line: &str) -> Result<(), Error> {
        if self.text.len() + line.len() > self.cap {
            return Err(over_cap(self.cap));
        }
        if self.text.is_empty() && line.starts_with(['{', '[']) {
            self.document = true;
        }
        if !self.document {
            self.recognised |= is_known(line);
            if line.starts_with(':') {
                return Ok(());
            }
            // A byte order mark past the stream's start belongs to a field's name, so the field is
            // an unknown one; `eventsource-stream` would take it for the start of a stream.
            if line.starts_with('\u{feff}') {
                return Ok(());
            }
            if let Some(error) = bare_error(line) {
                self.text.push_str("event: error\ndata: ");
                self.text.push_str(error);
                self.text.push('\n');
                return Ok(());
            }
        }
        self.text.push_str(line);
        self.text.push('\n');
        Ok(())
    }

    fn dispatch(&mut self, sink: &mut FrameSink<'_>) -> Result<(), Error> {
        if self.text.is_empty() {
            return Ok(());
        }
        let outcome = if std::mem::take(&mut self.document) {
            sink(&Frame::new("", self.text.trim_end()))
        } else {
            self.text.push('\n');
            match parse(self.text.as_bytes()) {
                Some(event) => {
                    // An event without a name is one named `message`, says the standard.
                    let name = match event.event.as_str() {
                        "message" => "",
                        name => name,
                    };
                    sink(&Frame::new(name, &event.data))
                }
                None => Ok(()),
            }
        };
        self.text.clear();
        outcome
    }
}

/// Whether a line is one of the protocol's: a comment, or a field by its name.
fn is_known(line: &str) -> bool {
    let name = line.split(':').next().unwrap_or_default();
    matches!(name, "" | "data" | "event" | "id" | "retry" | "error")
}

/// `{…}` of a line `error: {…}`.
fn bare_error(line: &str) -> Option<&str> {
    let value = line.strip_prefix("error:")?.trim_start();
    value.starts_with('{').then_some(value)
}

/// The event of one whole block, if it has data. The block is text with LF ends, so the parser has
/// neither an error to report nor anything to wait for.
fn parse(block: &[u8]) -> Option<Event> {
    let mut events = EventStream::new(Pieces(block));
    let mut context = Context::from_waker(Waker::noop());
    match Pin::new(&mut events).poll_next(&mut context) {
        Poll::Ready(Some(Ok(event))) => Some(event),
        Poll::Ready(Some(Err(_)) | None) | Poll::Pending => None,
    }
}

/// A block in pieces of whole lines. For each line the parser copies what is behind it in its
/// piece, so a piece of many lines is a short one.
struct Pieces<'a>(&'a [u8]);

/// The longest piece of more than one line, in bytes.
const PIECE: usize = 4096;

impl<'a> Stream for Pieces<'a> {
    type Item = Result<&'a [u8], Infallible>;

    fn poll_next(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let rest = self.0;
        if rest.is_empty() {
            return Poll::Ready(None);
        }
        let end = memrchr(b'\n', &rest[..rest.len().min(PIECE)])
            .or_else(|| memchr(b'\n', rest))
            .map_or(rest.len(), |at| at + 1);
        let (piece, behind) = rest.split_at(end);
        self.0 = behind;
        Poll::Ready(Some(Ok(piece)))
    }
}
