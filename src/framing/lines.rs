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
    pub(super) fn push(
        &mut self,
        mut bytes: &[u8],
        each: &mut dyn FnMut(&str) -> Result<(), Error>,
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
                self.hand_over(line, each)?;
            } else {
                let mut whole = std::mem::take(&mut self.partial);
                whole.extend_from_slice(line);
                self.hand_over(&whole, each)?;
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
        self.hand_over(&line, each)
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

    fn hand_over(
        &mut self,
        line: &[u8],
        each: &mut dyn FnMut(&str) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let line = if std::mem::take(&mut self.opening) {
            line.strip_prefix(BOM).unwrap_or(line)
        } else {
            line
        };
        let (text, broken) = repaired(line);
        self.repaired += u64::from(broken);
        each(&text)
    }
}

/// `bytes` as text, with U+FFFD for what is no UTF-8, and whether there was any. A line is whole
/// here, so a character that was split over reads is whole too.
pub(super) fn repaired(bytes: &[u8]) -> (Cow<'_, str>, bool) {
    match std::str::from_utf8(bytes) {
        Ok(text) => (Cow::Borrowed(text), false),
        Err(_) => (String::from_utf8_lossy(bytes), true),
    }
}
