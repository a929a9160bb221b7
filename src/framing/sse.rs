//! Server-Sent Events: a block of lines up to an empty one is a frame,
//! <https://html.spec.whatwg.org/multipage/server-sent-events.html#event-stream-interpretation>.
//!
//! Every token passes here, so the fields are read as their lines come, into buffers that are used
//! again.
//!
//! Two things that are no Server-Sent Events are let through all the same, for they are how some
//! servers report that they failed: a field `error: {…}`, and a JSON document that stands bare
//! between the events.

use memchr::memchr;

use super::lines::Lines;
use super::{Frame, FrameSink, Remainder, no_stream, over_cap};
use crate::model::Error;

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
    cap: usize,
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
        if self.size + line.len() > self.cap {
            return Err(over_cap(self.cap));
        }
        if self.size == 0 && line.starts_with(['{', '[']) {
            self.document = true;
        }
        if self.document {
            self.push_data(line);
        } else if !self.add_field(line) {
            return Ok(());
        }
        self.size += line.len() + 1;
        Ok(())
    }

    /// Says whether the line is a part of the event: a comment is not.
    fn add_field(&mut self, line: &str) -> bool {
        let (name, value) = match memchr(b':', line.as_bytes()) {
            Some(colon) => (&line[..colon], &line[colon + 1..]),
            None => (line, ""),
        };
        match name {
            "data" => self.push_data(value.strip_prefix(' ').unwrap_or(value)),
            "event" => self.rename(value.strip_prefix(' ').unwrap_or(value)),
            "error" => {
                let value = value.trim_start();
                if value.starts_with('{') {
                    self.rename("error");
                    self.push_data(value);
                }
            }
            "" | "id" | "retry" => {}
            // A byte order mark past the stream's start belongs to the name of a field that nobody
            // knows. What stands behind it may still be a document.
            _ => return !name.starts_with('\u{feff}'),
        }
        self.recognised = true;
        !name.is_empty()
    }

    fn push_data(&mut self, line: &str) {
        self.data.push_str(line);
        self.data.push('\n');
    }

    fn rename(&mut self, name: &str) {
        self.name.clear();
        self.name.push_str(name);
    }

    /// An event without data is none.
    fn dispatch(&mut self, sink: &mut FrameSink<'_>) -> Result<(), Error> {
        let outcome = match self.data.strip_suffix('\n') {
            None => Ok(()),
            Some(document) if self.document => sink(&Frame::new("", document.trim_end())),
            Some(data) => {
                // An event without a name is one named `message`, says the standard.
                let name = match self.name.as_str() {
                    "message" => "",
                    name => name,
                };
                sink(&Frame::new(name, data))
            }
        };
        self.name.clear();
        self.data.clear();
        self.size = 0;
        self.document = false;
        outcome
    }
}
