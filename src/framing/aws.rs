//! `application/vnd.amazon.eventstream`: messages with their lengths and checksums,
//! <https://smithy.io/2.0/aws/amazon-eventstream.html>.
//!
//! ```text
//! total length  4   headers' length  4   checksum of these eight  4
//! headers       name length 1, name, type 1, value …
//! payload       what is left
//! checksum of everything before it  4
//! ```
//!
//! A length is believed only under its checksum and the cap, so that nothing is collected for a
//! message that would be refused.

use super::lines::repair_utf8;
use super::{Frame, FrameSink, Remainder, over_cap};
use crate::model::{Error, ErrorCode};

/// Both lengths and their checksum.
const PRELUDE: usize = 12;
const CHECKSUM: usize = 4;

/// The header type of strings; all headers that are read here are.
const STRING: u8 = 7;

pub(super) struct AwsEventStream {
    /// The message that has begun but not ended.
    partial: Vec<u8>,
    repaired: u64,
    cap: usize,
}

/// The headers that identify a message.
#[derive(Default)]
struct Headers<'a> {
    message_type: &'a str,
    event_type: &'a str,
    exception_type: &'a str,
    error_code: &'a str,
    error_message: &'a str,
}

impl AwsEventStream {
    pub(super) fn new(cap: usize) -> Self {
        Self {
            partial: Vec::new(),
            repaired: 0,
            cap,
        }
    }

    pub(super) fn push(&mut self, mut bytes: &[u8], sink: &mut FrameSink<'_>) -> Result<(), Error> {
        while !bytes.is_empty() {
            if self.partial.is_empty() && bytes.len() >= PRELUDE {
                let (total, _) = lengths(bytes, self.cap)?;
                if let Some((message, rest)) = bytes.split_at_checked(total) {
                    self.message(message, sink)?;
                    bytes = rest;
                    continue;
                }
            }
            let mut partial = std::mem::take(&mut self.partial);
            let wanted = if partial.len() < PRELUDE {
                PRELUDE
            } else {
                lengths(&partial, self.cap)?.0
            };
            let (more, rest) = bytes.split_at(bytes.len().min(wanted - partial.len()));
            partial.extend_from_slice(more);
            bytes = rest;
            if partial.len() >= PRELUDE && partial.len() == lengths(&partial, self.cap)?.0 {
                self.message(&partial, sink)?;
                partial.clear();
            }
            self.partial = partial;
        }
        Ok(())
    }

    pub(super) fn end(&self) -> Remainder {
        if self.partial.is_empty() {
            Remainder::Nothing
        } else {
            Remainder::Broken
        }
    }

    pub(super) fn held_bytes(&self) -> usize {
        self.partial.len()
    }

    pub(super) fn repaired(&self) -> u64 {
        self.repaired
    }

    fn message(&mut self, message: &[u8], sink: &mut FrameSink<'_>) -> Result<(), Error> {
        let (_, headers) = lengths(message, self.cap)?;
        let (content, checksum) = message.split_at(message.len() - CHECKSUM);
        if crc32fast::hash(content) != number(checksum) {
            return Err(damaged("the checksum of a message is wrong"));
        }
        let (headers, payload) = content[PRELUDE..].split_at(headers);
        let headers = Headers::read(headers).ok_or_else(|| damaged("a header is malformed"))?;
        let (payload, was_broken) = repair_utf8(payload);
        self.repaired += u64::from(was_broken);
        sink(&match headers.message_type {
            "exception" => Frame::failure(headers.exception_type, &payload),
            // An error that the service's model does not know has no payload.
            "error" => Frame::failure(headers.error_code, headers.error_message),
            _ => Frame::new(headers.event_type, &payload),
        })
    }
}

impl<'a> Headers<'a> {
    /// Nothing where the bytes are no headers.
    fn read(mut bytes: &'a [u8]) -> Option<Self> {
        let mut headers = Self::default();
        while let Some((&length, rest)) = bytes.split_first() {
            let (name, rest) = rest.split_at_checked(usize::from(length))?;
            let (&kind, rest) = rest.split_first()?;
            let (length, rest) = match kind {
                0 | 1 => (0, rest), // true, false
                2 => (1, rest),
                3 => (2, rest),
                4 => (4, rest),
                5 | 8 => (8, rest), // a long, a timestamp
                6 | STRING => {
                    let (length, rest) = rest.split_first_chunk()?;
                    (usize::from(u16::from_be_bytes(*length)), rest)
                }
                9 => (16, rest), // a UUID
                _ => return None,
            };
            let (value, rest) = rest.split_at_checked(length)?;
            bytes = rest;
            let field = match name {
                b":message-type" => &mut headers.message_type,
                b":event-type" => &mut headers.event_type,
                b":exception-type" => &mut headers.exception_type,
                b":error-code" => &mut headers.error_code,
                b":error-message" => &mut headers.error_message,
                _ => continue,
            };
            if kind != STRING {
                return None;
            }
            *field = std::str::from_utf8(value).ok()?;
        }
        Some(headers)
    }
}

/// The length of the whole message and of its headers, from a prelude that is known to be there.
fn lengths(message: &[u8], cap: usize) -> Result<(usize, usize), Error> {
    if crc32fast::hash(&message[..8]) != number(&message[8..PRELUDE]) {
        return Err(damaged("the checksum of a message's length is wrong"));
    }
    // Past the address space is past any cap.
    let size = |bytes| usize::try_from(number(bytes)).unwrap_or(usize::MAX);
    let (total, headers) = (size(&message[..4]), size(&message[4..8]));
    if total > cap {
        return Err(over_cap(cap));
    }
    if total < PRELUDE + CHECKSUM || headers > total - PRELUDE - CHECKSUM {
        return Err(damaged("the lengths of a message contradict each other"));
    }
    Ok((total, headers))
}

/// A big-endian number of four bytes.
fn number(bytes: &[u8]) -> u32 {
    bytes
        .iter()
        .fold(0, |number, byte| number << 8 | u32::from(*byte))
}

fn damaged(what: &str) -> Error {
    Error::new(
        ErrorCode::BadUpstreamData,
        format!("the upstream's event stream is broken: {what}"),
    )
}
