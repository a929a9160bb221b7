//! Server-Sent Events: a block of lines up to an empty one is a frame,
//! <https://html.spec.whatwg.org/multipage/server-sent-events.html#event-stream-interpretation>.
//!
//! Every token passes here, so the fields are read as their lines come, into buffers that are used
//! again.
//!
//! Two things that are no Server-Sent Events are accepted, because some servers report failures with
//! them: a field `error: {…}`, and a JSON document that stands bare
//! between the events.

use memchr::memchr;

use super::lines::{Line, Lines};
use super::{Frame, FrameSink, Remainder, not_a_stream, over_cap};
use crate::model::Error;

/// How much is kept of a body that is no stream, in bytes.
const MAX_UNRECOGNISED: usize = 512;

pub(super) struct Sse {
    lines: Lines,
    block: Block,
}

/// The fields of one event so far.
#[derive(Default)]
struct Block {
    name: String,
    /// Each line of it with an LF behind.
    data: String,
    /// The bytes of its lines, with their ends.
    size: usize,
    /// The lines are a bare JSON document and no fields.
    document: bool,
    /// Some line, of this event or of one before, was a comment or a field that the protocol knows.
    recognised: bool,
    /// The beginning of a body that is no stream.
    unrecognised: String,
    cap: usize,
}

/// A block and the read that continues it.
struct Reading<'read, 'block> {
    block: &'block mut Block,
    /// The data so far, where that is one line of this read: mostly it is the only one, and the frame
    /// ends before it would have to be copied.
    held: Option<&'read str>,
}

impl Sse {
    pub(super) fn new(cap: usize) -> Self {
        Self {
            lines: Lines::new(cap),
            block: Block {
                cap,
                ..Block::default()
            },
        }
    }

    pub(super) fn push(&mut self, bytes: &[u8], sink: &mut FrameSink<'_>) -> Result<(), Error> {
        let mut reading = self.block.read();
        self.lines.push(bytes, &mut |line| {
            if line.as_str().is_empty() {
                reading.dispatch(sink)
            } else {
                reading.add(line)
            }
        })?;
        reading.keep();
        Ok(())
    }

    pub(super) fn end(&mut self) -> Result<Remainder, Error> {
        let mut reading = self.block.read();
        self.lines
            .end(&mut |line| reading.add(Line::Transient(line)))?;
        if !reading.block.recognised {
            let text = std::mem::take(&mut reading.block.unrecognised);
            return match text.is_empty() {
                true => Err(not_a_stream()),
                false => Ok(Remainder::Text(text)),
            };
        }
        let mut remainder = Remainder::Nothing;
        reading.dispatch(&mut |frame| {
            remainder = Remainder::Unended {
                name: frame.name.to_owned(),
                data: frame.data.to_owned(),
            };
            Ok(())
        })?;
        Ok(remainder)
    }

    pub(super) fn held_bytes(&self) -> usize {
        self.lines.held_bytes() + self.block.data.len()
    }

    pub(super) fn repaired_lines(&self) -> u64 {
        self.lines.repaired()
    }
}

impl Block {
    fn read(&mut self) -> Reading<'_, '_> {
        Reading {
            block: self,
            held: None,
        }
    }

    fn rename(&mut self, name: &str) {
        self.name.clear();
        self.name.push_str(name);
    }
}

impl<'read> Reading<'read, '_> {
    fn add(&mut self, line: Line<'read, '_>) -> Result<(), Error> {
        let text = line.as_str();
        let block = &mut *self.block;
        if block.size + text.len() > block.cap {
            return Err(over_cap(block.cap));
        }
        if block.size == 0 && text.starts_with(['{', '[']) {
            block.document = true;
        }
        if block.document {
            self.push_data(line);
        } else if !self.add_field(line) {
            return Ok(());
        }
        self.block.size += text.len() + 1;
        Ok(())
    }

    /// Whether the line is a part of the event: a comment is not.
    fn add_field(&mut self, line: Line<'read, '_>) -> bool {
        let text = line.as_str();
        let colon = memchr(b':', text.as_bytes()).unwrap_or(text.len());
        let name = &text[..colon];
        let value = line.behind(colon + 1);
        match name {
            "data" => self.push_data(value),
            "event" => self.block.rename(value.as_str()),
            "error" if value.as_str().trim_start().starts_with('{') => {
                self.block.rename("error");
                self.push_data(Line::Transient(value.as_str().trim_start()));
            }
            "" | "id" | "retry" => {}
            // A byte order mark after the stream's start belongs to the name of an unknown field. What
            // follows it may still be a document.
            _ => {
                if !self.block.recognised && self.block.unrecognised.len() < MAX_UNRECOGNISED {
                    let end = text.floor_char_boundary(MAX_UNRECOGNISED);
                    self.block.unrecognised.push_str(&text[..end]);
                    self.block.unrecognised.push('\n');
                }
                return !name.starts_with('\u{feff}');
            }
        }
        self.block.recognised = true;
        !name.is_empty()
    }

    fn push_data(&mut self, line: Line<'read, '_>) {
        match line {
            Line::Borrowed(text) if self.held.is_none() && self.block.data.is_empty() => {
                self.held = Some(text);
            }
            _ => {
                self.keep();
                self.block.data.push_str(line.as_str());
                self.block.data.push('\n');
            }
        }
    }

    /// What is held stays when the read is over.
    fn keep(&mut self) {
        if let Some(text) = self.held.take() {
            self.block.data.push_str(text);
            self.block.data.push('\n');
        }
    }

    /// An event without data is none.
    fn dispatch(&mut self, sink: &mut FrameSink<'_>) -> Result<(), Error> {
        let held = self.held.take();
        let block = &mut *self.block;
        let outcome = match held.or_else(|| block.data.strip_suffix('\n')) {
            None => Ok(()),
            Some(document) if block.document => sink(&Frame::new("", document.trim_end())),
            Some(data) => {
                // The standard calls an event without a name `message`.
                let name = match block.name.as_str() {
                    "message" => "",
                    name => name,
                };
                sink(&Frame::new(name, data))
            }
        };
        block.name.clear();
        block.data.clear();
        block.size = 0;
        block.document = false;
        outcome
    }
}
