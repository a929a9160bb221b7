//! Removes the transfer coding from a body (RFC 9112, section 7). Pure: the same content for every
//! way of cutting the bytes.

use std::fmt;

use super::head::BodyLength;

/// The most bytes in the extensions of all chunks together.
const MAX_EXTENSION_BYTES: u32 = 16 * 1024;
/// The most padding bytes in one chunk's size: leading zeros and trailing blanks. Some servers pad
/// sizes to a fixed width.
const MAX_PADDING_BYTES: u32 = 64;
/// The most bytes in the trailers.
const MAX_TRAILER_BYTES: u32 = 16 * 1024;

/// Decodes a body.
#[derive(Debug, Clone)]
pub struct Decoder {
    state: State,
    /// Bytes left of the current chunk, or of a body of known length.
    left: u64,
    extensions: u32,
    /// Padding bytes in the current chunk's size.
    padding: u32,
    trailers: u32,
}

/// The bytes are not a chunked body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Malformed;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    UntilClosed,
    Known,
    /// Before a size's first digit.
    Size,
    /// After a digit of the size.
    Digits,
    /// After a blank that follows the size.
    Blanks,
    Extension,
    SizeLineFeed,
    Content,
    ContentReturn,
    ContentLineFeed,
    /// At the beginning of a trailer or of the empty line that ends the body.
    Line,
    TrailerName,
    TrailerValue,
    TrailerLineFeed,
    LastLineFeed,
    Ended,
}

impl Decoder {
    pub fn new(length: BodyLength) -> Self {
        let (state, left) = match length {
            BodyLength::Known(0) => (State::Ended, 0),
            BodyLength::Known(left) => (State::Known, left),
            BodyLength::Chunked => (State::Size, 0),
            BodyLength::UntilClosed => (State::UntilClosed, 0),
        };
        Self {
            state,
            left,
            extensions: 0,
            padding: 0,
            trailers: 0,
        }
    }

    /// The next content of `bytes`, which then begin after it. `None` once there is no more content
    /// in `bytes` or the body has ended; in the latter case `bytes` are what follows the body.
    ///
    /// # Errors
    /// If the bytes are not a chunked body. The decoder must not be used after that.
    pub fn next<'a>(&mut self, bytes: &mut &'a [u8]) -> Result<Option<&'a [u8]>, Malformed> {
        loop {
            match self.state {
                State::Ended => return Ok(None),
                State::UntilClosed | State::Known | State::Content if bytes.is_empty() => {
                    return Ok(None);
                }
                State::UntilClosed => return Ok(Some(std::mem::take(bytes))),
                State::Known => return Ok(Some(self.content(bytes, State::Ended))),
                State::Content => return Ok(Some(self.content(bytes, State::ContentReturn))),
                State::Size if let Some((size, rest)) = size_line(bytes) => {
                    (self.left, *bytes) = (size, rest);
                    self.state = State::Content;
                    continue;
                }
                State::ContentReturn if let Some(rest) = bytes.strip_prefix(b"\r\n") => {
                    *bytes = rest;
                    self.state = State::Size;
                    continue;
                }
                _ => {}
            }
            let Some((byte, rest)) = bytes.split_first() else {
                return Ok(None);
            };
            self.state = self.step(*byte)?;
            *bytes = rest;
        }
    }

    /// Whether the whole body has been decoded.
    pub fn is_ended(&self) -> bool {
        self.state == State::Ended
    }

    /// Reports that the connection ended. Returns whether that is the body's end.
    pub fn close(&mut self) -> bool {
        if self.state == State::UntilClosed {
            self.state = State::Ended;
        }
        self.is_ended()
    }

    fn content<'a>(&mut self, bytes: &mut &'a [u8], then: State) -> &'a [u8] {
        let length = usize::try_from(self.left).map_or(bytes.len(), |left| left.min(bytes.len()));
        let (content, rest) = bytes.split_at(length);
        *bytes = rest;
        self.left -= length as u64;
        if self.left == 0 {
            self.state = then;
        }
        content
    }

    /// Decodes one byte outside the content.
    fn step(&mut self, byte: u8) -> Result<State, Malformed> {
        match (self.state, byte) {
            (State::Digits, b'0') if self.left == 0 => {
                self.padding = increment(self.padding, MAX_PADDING_BYTES)?;
                Ok(State::Digits)
            }
            (State::Size | State::Digits, b'0'..=b'9' | b'a'..=b'f' | b'A'..=b'F') => {
                self.left = self.left.checked_mul(16).ok_or(Malformed)? + digit(byte);
                Ok(State::Digits)
            }
            (State::Digits | State::Blanks, b' ' | b'\t') => {
                self.padding = increment(self.padding, MAX_PADDING_BYTES)?;
                Ok(State::Blanks)
            }
            (State::Digits | State::Blanks, b';') => Ok(State::Extension),
            (State::Digits | State::Blanks | State::Extension, b'\r') => Ok(State::SizeLineFeed),
            // Some readers take a line feed alone for the end of a line; they would see other
            // chunks.
            (State::Extension, b'\n') => Err(Malformed),
            (State::Extension, _) => {
                self.extensions = increment(self.extensions, MAX_EXTENSION_BYTES)?;
                Ok(State::Extension)
            }
            (State::SizeLineFeed, b'\n') if self.left == 0 => Ok(State::Line),
            (State::SizeLineFeed, b'\n') => {
                self.padding = 0;
                Ok(State::Content)
            }
            (State::ContentReturn, b'\r') => Ok(State::ContentLineFeed),
            (State::ContentLineFeed, b'\n') => Ok(State::Size),
            (State::Line, b'\r') => Ok(State::LastLineFeed),
            (State::LastLineFeed, b'\n') => Ok(State::Ended),
            // Content after a false last chunk is not a trailer.
            (State::TrailerName, b':') => Ok(State::TrailerValue),
            (State::Line | State::TrailerName, _) if is_token(byte) => {
                self.trailers = increment(self.trailers, MAX_TRAILER_BYTES)?;
                Ok(State::TrailerName)
            }
            (State::TrailerValue, b'\r') => Ok(State::TrailerLineFeed),
            (State::TrailerValue, b'\t' | b' '..=b'~' | 0x80..) => {
                self.trailers = increment(self.trailers, MAX_TRAILER_BYTES)?;
                Ok(State::TrailerValue)
            }
            (State::TrailerLineFeed, b'\n') => Ok(State::Line),
            _ => Err(Malformed),
        }
    }
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the chunks of the body are malformed")
    }
}

impl std::error::Error for Malformed {}

/// Parses the usual size line at once: up to six digits and nothing else. Decoding it byte by byte
/// gives the same result.
fn size_line(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let mut size = 0;
    for (at, byte) in bytes.iter().take(7).enumerate() {
        match byte {
            b'0'..=b'9' | b'a'..=b'f' | b'A'..=b'F' => size = size * 16 + digit(*byte),
            b'\r' if size > 0 && bytes[0] != b'0' => {
                let rest = bytes[at + 1..].strip_prefix(b"\n")?;
                return Some((size, rest));
            }
            _ => return None,
        }
    }
    None
}

/// Whether a header's name may contain `byte`.
fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

/// A hexadecimal digit's value.
fn digit(byte: u8) -> u64 {
    char::from(byte).to_digit(16).map_or(0, u64::from)
}

fn increment(count: u32, max: u32) -> Result<u32, Malformed> {
    if count < max {
        Ok(count + 1)
    } else {
        Err(Malformed)
    }
}
