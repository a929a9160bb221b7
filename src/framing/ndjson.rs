//! Newline-delimited JSON: a line is a frame, an empty line is nothing.
//!
//! A body whose first line is a lone `{` or `[` is no stream but one JSON document, written over
//! many lines.

use super::lines::Lines;
use super::{Frame, FrameSink, Remainder, empty, over_cap};
use crate::model::Error;

pub(super) struct Ndjson {
    lines: Lines,
    body: Body,
    cap: usize,
}

enum Body {
    Unread,
    Stream,
    Document(String),
}

impl Ndjson {
    pub(super) fn new(cap: usize) -> Self {
        Self {
            lines: Lines::new(cap),
            body: Body::Unread,
            cap,
        }
    }

    pub(super) fn push(&mut self, bytes: &[u8], sink: &mut FrameSink<'_>) -> Result<(), Error> {
        let (body, cap) = (&mut self.body, self.cap);
        self.lines.push(bytes, &mut |line| {
            let line = line.as_str();
            if body.push_document_line(line, cap)? || line.trim_ascii().is_empty() {
                return Ok(());
            }
            sink(&Frame::new("", line))
        })
    }

    /// # Errors
    /// For an empty body, and for a document over the cap.
    pub(super) fn end(&mut self) -> Result<Remainder, Error> {
        let (body, cap) = (&mut self.body, self.cap);
        let mut remainder = Remainder::Nothing;
        self.lines.end(&mut |line| {
            if !body.push_document_line(line, cap)? && !line.trim_ascii().is_empty() {
                remainder = Remainder::Unended {
                    name: String::new(),
                    data: line.to_owned(),
                };
            }
            Ok(())
        })?;
        match body {
            Body::Unread => return Err(empty()),
            Body::Document(document) => {
                remainder = Remainder::Document(std::mem::take(document));
            }
            Body::Stream => {}
        }
        Ok(remainder)
    }

    pub(super) fn held_bytes(&self) -> usize {
        let document = match &self.body {
            Body::Document(document) => document.len(),
            Body::Unread | Body::Stream => 0,
        };
        self.lines.held_bytes() + document
    }

    pub(super) fn repaired_lines(&self) -> u64 {
        self.lines.repaired()
    }
}

impl Body {
    /// Keeps `line` if the body is a document, and returns whether it is.
    fn push_document_line(&mut self, line: &str, cap: usize) -> Result<bool, Error> {
        if let Self::Unread = self {
            match line.trim_ascii() {
                "" => return Ok(false),
                "{" | "[" => *self = Self::Document(String::new()),
                _ => *self = Self::Stream,
            }
        }
        let Self::Document(document) = self else {
            return Ok(false);
        };
        if document.len() + line.len() >= cap {
            return Err(over_cap(cap));
        }
        document.push_str(line);
        document.push('\n');
        Ok(true)
    }
}
