//! Parses HTTP answers only as far as counting tokens needs: head, chunks, stamps.

use memchr::{memchr_iter, memmem};

use crate::answer::{DIGITS, WRAP};

/// How many bytes are searched again together with the next ones: more than the bytes before a
/// stamp, the stamp, or the bytes that only the terminal event has.
const TAIL: usize = 64;

/// The patterns of a client's protocol that counting needs.
#[derive(Clone, Copy)]
pub struct Looks {
    /// The bytes before a token's `@`. Some protocols repeat the text at the end, after other bytes.
    pub before: &'static [u8],
    /// Bytes that only the terminal event has.
    pub terminal: &'static [u8],
}

/// One answer.
#[derive(Default)]
pub struct Reader {
    /// The beginning of a head, or of a chunk's size.
    partial: Vec<u8>,
    /// The body's last bytes, and how many of them are not searched for tokens yet.
    tail: Vec<u8>,
    fresh: usize,
    part: Part,
    /// The server closes the connection after this answer.
    pub closes: bool,
    pub tokens: u64,
    /// The terminal event came.
    pub terminal: bool,
}

#[derive(Default, Clone, Copy, PartialEq)]
enum Part {
    #[default]
    Head,
    /// So many bytes of the body are left.
    Body(u64),
    /// A chunk's size is next.
    Size,
    /// So many bytes of a chunk are left.
    Chunk(u64),
    /// The line end behind a chunk is next.
    ChunkEnd,
    /// The empty line behind the last chunk is next.
    LastLine,
    Whole,
}

impl Reader {
    /// Whether the answer was read to its end.
    pub fn whole(&self) -> bool {
        self.part == Part::Whole
    }

    /// Takes the bytes read at `now`. `token` is called with the latency of each token, in nanoseconds;
    /// `body` is a buffer that may be shared.
    ///
    /// # Errors
    /// The fault of the answer.
    pub fn read(
        &mut self,
        bytes: &[u8],
        looks: Looks,
        now: u64,
        body: &mut Vec<u8>,
        token: &mut dyn FnMut(u64),
    ) -> Result<(), String> {
        body.clear();
        body.extend_from_slice(&self.tail);
        if self.partial.is_empty() {
            self.unwrap(bytes, body)?;
        } else {
            let mut joined = std::mem::take(&mut self.partial);
            joined.extend_from_slice(bytes);
            self.unwrap(&joined, body)?;
        }
        self.scan(body, looks, now, token);
        Ok(())
    }

    /// Appends what `bytes` have of the body.
    fn unwrap(&mut self, mut bytes: &[u8], body: &mut Vec<u8>) -> Result<(), String> {
        while !bytes.is_empty() {
            match self.part {
                Part::Head => {
                    let Some(end) = memmem::find(bytes, b"\r\n\r\n") else {
                        break;
                    };
                    self.head(&bytes[..end])?;
                    bytes = &bytes[end + 4..];
                }
                Part::Body(left) | Part::Chunk(left) => {
                    let count = left.min(bytes.len() as u64);
                    body.extend_from_slice(&bytes[..count as usize]);
                    bytes = &bytes[count as usize..];
                    self.part = match (self.part, left - count) {
                        (Part::Body(_), 0) => Part::Whole,
                        (Part::Body(_), left) => Part::Body(left),
                        (_, 0) => Part::ChunkEnd,
                        (_, left) => Part::Chunk(left),
                    };
                }
                Part::Size | Part::ChunkEnd | Part::LastLine => {
                    let Some(end) = memmem::find(bytes, b"\r\n") else {
                        break;
                    };
                    self.part = match self.part {
                        Part::Size => match size(&bytes[..end])? {
                            0 => Part::LastLine,
                            size => Part::Chunk(size),
                        },
                        Part::ChunkEnd => Part::Size,
                        _ => Part::Whole,
                    };
                    bytes = &bytes[end + 2..];
                }
                Part::Whole => return Err("there are bytes behind the answer".to_owned()),
            }
        }
        self.partial.extend_from_slice(bytes);
        Ok(())
    }

    fn head(&mut self, head: &[u8]) -> Result<(), String> {
        let head = String::from_utf8_lossy(head);
        let mut lines = head.lines();
        let status = lines.next().unwrap_or_default();
        if !status.starts_with("HTTP/1.1 200") {
            return Err(head.replace("\r\n", "; "));
        }
        self.part = Part::Size;
        for (name, value) in lines.filter_map(|line| line.split_once(':')) {
            let value = value.trim();
            if name.eq_ignore_ascii_case("content-length") {
                let length = value.parse().map_err(|_| "no content length".to_owned())?;
                self.part = Part::Body(length);
            } else if name.eq_ignore_ascii_case("connection") {
                self.closes = value.eq_ignore_ascii_case("close");
            }
        }
        Ok(())
    }

    fn scan(&mut self, body: &[u8], looks: Looks, now: u64, token: &mut dyn FnMut(u64)) {
        let from = self.tail.len() - self.fresh;
        let mut done = body.len();
        for at in memchr_iter(b'@', &body[from..]) {
            let at = from + at;
            let Some(digits) = body.get(at + 1..at + 1 + DIGITS) else {
                done = at;
                break;
            };
            if body[..at].ends_with(looks.before) {
                self.tokens += 1;
                let sent = digits.iter().fold(0, |sum, digit| {
                    sum * 10 + u64::from(digit.wrapping_sub(b'0'))
                });
                token((now % WRAP + WRAP - sent) % WRAP);
            }
        }
        // Only the last bytes can have it, but nobody knows yet which are the last.
        self.terminal = self.terminal || memmem::find(body, looks.terminal).is_some();
        let keep = done.saturating_sub(TAIL);
        self.fresh = body.len() - done;
        self.tail.clear();
        self.tail.extend_from_slice(&body[keep..]);
    }
}

fn size(line: &[u8]) -> Result<u64, String> {
    let digits = std::str::from_utf8(line).map_err(|error| error.to_string())?;
    u64::from_str_radix(digits.trim(), 16).map_err(|_| format!("{digits:?} is no chunk's size"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOOKS: Looks = Looks {
        before: b"text\":\"",
        terminal: b"event: complete",
    };
    const ANSWER: &[u8] =
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n\
        1f\r\n{\"text\":\"@000000000000100\"}\nxxxx\r\n10\r\n{\"text\":\"@000000\r\n\
        20\r\n000000200\"} \"@000000000000300\" xx\r\n10\r\nevent: complete\n\r\n0\r\n\r\n";

    #[test]
    fn an_answer_is_counted_the_same_for_any_pieces() {
        for size in 1..=ANSWER.len() {
            let (mut reader, mut ages, mut body) = (Reader::default(), Vec::new(), Vec::new());
            for piece in ANSWER.chunks(size) {
                reader
                    .read(piece, LOOKS, 1_000, &mut body, &mut |age| ages.push(age))
                    .unwrap();
            }
            assert_eq!(ages, [900, 800], "in pieces of {size}");
            assert_eq!(reader.tokens, 2);
            assert!(reader.whole() && reader.closes && reader.terminal);
        }
    }

    #[test]
    fn half_an_answer_is_not_complete() {
        let mut reader = Reader::default();
        let half = &ANSWER[..ANSWER.len() - 5];
        let read = reader.read(half, LOOKS, 0, &mut Vec::new(), &mut |_| {});
        assert!(read.is_ok() && !reader.whole());
    }

    #[test]
    fn a_refusal_is_an_error() {
        let answer = b"HTTP/1.1 503 No\r\ncontent-length: 0\r\n\r\n";
        let read = Reader::default().read(answer, LOOKS, 0, &mut Vec::new(), &mut |_| {});
        assert!(read.unwrap_err().contains("503"));
    }
}
