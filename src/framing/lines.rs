//! Bytes to lines: LF, CR and CRLF end a line, in any mix and however a pair is split over reads.

use std::borrow::Cow;

use memchr::memchr2;

use super::over_cap;
use crate::model::Error;

/// The UTF-8 byte order mark, which may open a stream and is no part of it.
pub(super) const BOM: &[u8] = "\u{feff}".as_bytes();

/// Cuts bytes into lines without their ends. A line that ends with CR is handed over at once; an
/// LF behind it is then skipped.
pub(super) struct Lines {
    /// The line that has begun but not ended.
    partial: Vec<u8>,
    /// The last line ended with CR: an LF that comes next belongs to it.
    after_cr: bool,
    /// No line was handed over yet, so a byte order mark may come.
    opening: bool,
    repaired: u64,
    cap: usize,
}

/// One line without its end.
#[derive(Clone, Copy)]
pub(super) enum Line<'read, 'call> {
    /// It stands in the bytes that are read as it is.
    Borrowed(&'read str),
    /// It came in pieces, or was repaired, and lasts for one call.
    Transient(&'call str),
}

impl Line<'_, '_> {
    pub(super) fn as_str(&self) -> &str {
        match self {
            Self::Borrowed(text) => text,
            Self::Transient(text) => text,
        }
    }

    /// What is left of it without its first `length` bytes, and a space that may come then.
    pub(super) fn behind(self, length: usize) -> Self {
        match self {
            Self::Borrowed(text) => Self::Borrowed(behind(text, length)),
            Self::Transient(text) => Self::Transient(behind(text, length)),
        }
    }
}

impl Lines {
    pub(super) fn new(cap: usize) -> Self {
        Self {
            partial: Vec::new(),
            after_cr: false,
            opening: true,
            repaired: 0,
            cap,
        }
    }

    /// Hands every line that `bytes` completes to `each`.
    pub(super) fn push<'read>(
        &mut self,
        mut bytes: &'read [u8],
        each: &mut dyn FnMut(Line<'read, '_>) -> Result<(), Error>,
    ) -> Result<(), Error> {
        if self.after_cr && !bytes.is_empty() {
            self.after_cr = false;
            if bytes[0] == b'\n' {
                bytes = &bytes[1..];
            }
        }
        while let Some(end) = memchr2(b'\n', b'\r', bytes) {
            let (line, rest) = (&bytes[..end], &bytes[end + 1..]);
            self.check(line)?;
            if self.partial.is_empty() {
                match self.text(line) {
                    Cow::Borrowed(text) => each(Line::Borrowed(text))?,
                    Cow::Owned(text) => each(Line::Transient(&text))?,
                }
            } else {
                let mut whole = std::mem::take(&mut self.partial);
                whole.extend_from_slice(line);
                each(Line::Transient(&self.text(&whole)))?;
                whole.clear();
                self.partial = whole;
            }
            bytes = match (bytes[end], rest.first()) {
                (b'\r', Some(b'\n')) => &rest[1..],
                (b'\r', None) => {
                    self.after_cr = true;
                    rest
                }
                _ => rest,
            };
        }
        self.check(bytes)?;
        self.partial.extend_from_slice(bytes);
        Ok(())
    }

    /// The line that the stream's end cut off, if there is one.
    pub(super) fn end(
        &mut self,
        each: &mut dyn FnMut(&str) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let line = std::mem::take(&mut self.partial);
        if line.is_empty() {
            return Ok(());
        }
        each(&self.text(&line))
    }

    pub(super) fn held_bytes(&self) -> usize {
        self.partial.len()
    }

    pub(super) fn repaired(&self) -> u64 {
        self.repaired
    }

    fn check(&self, more: &[u8]) -> Result<(), Error> {
        if self.partial.len() + more.len() > self.cap {
            return Err(over_cap(self.cap));
        }
        Ok(())
    }

    fn text<'line>(&mut self, line: &'line [u8]) -> Cow<'line, str> {
        let line = if std::mem::take(&mut self.opening) {
            line.strip_prefix(BOM).unwrap_or(line)
        } else {
            line
        };
        let (text, broken) = repair_utf8(line);
        self.repaired += u64::from(broken);
        text
    }
}

fn behind(text: &str, length: usize) -> &str {
    let rest = text.get(length..).unwrap_or_default();
    rest.strip_prefix(' ').unwrap_or(rest)
}

/// `bytes` as text, with U+FFFD for what is no UTF-8, and whether there was any. A line is whole
/// here, so a character that was split over reads is whole too.
pub(super) fn repair_utf8(bytes: &[u8]) -> (Cow<'_, str>, bool) {
    // A tenth of the work of a token would be in the standard library's check.
    match simdutf8::basic::from_utf8(bytes) {
        Ok(text) => (Cow::Borrowed(text), false),
        Err(_) => (String::from_utf8_lossy(bytes), true),
    }
}
