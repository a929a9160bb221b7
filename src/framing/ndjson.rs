//! Newline-delimited JSON: a line is a frame, an empty line is nothing.

use super::lines::Lines;
use super::{Frame, FrameSink, Remainder};
use crate::model::Error;

pub(super) struct Ndjson {
    lines: Lines,
}

impl Ndjson {
    pub(super) fn new(cap: usize) -> Self {
        Self {
            lines: Lines::new(cap),
        }
    }

    pub(super) fn push(&mut self, bytes: &[u8], sink: &mut FrameSink<'_>) -> Result<(), Error> {
        self.lines.push(bytes, &mut |line| {
            if line.trim_ascii().is_empty() {
                return Ok(());
            }
            sink(&Frame::new("", line))
        })
    }

    pub(super) fn end(&mut self) -> Remainder {
        let mut remainder = Remainder::Nothing;
        let taken = self.lines.end(&mut |line| {
            if !line.trim_ascii().is_empty() {
                remainder = Remainder::Unended {
                    name: String::new(),
                    data: line.to_owned(),
                };
            }
            Ok(())
        });
        debug_assert!(taken.is_ok(), "the closure above never fails");
        remainder
    }

    pub(super) fn repaired_lines(&self) -> u64 {
        self.lines.repaired()
    }
}
