//! Looks at the bytes of requests' heads over HTTP/1.1, on their way to hyper, for what hyper accepts
//! and other servers read differently. A proxy in front of the gateway may then see other requests
//! than the gateway does.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// The longest name that is looked for, with its colon, in bytes.
const LONGEST: usize = b"transfer-encoding:".len();

/// What is wrong with a request's head, in the request's extensions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct HeadFault(pub(super) &'static str);

/// The head of a connection's next request.
#[derive(Debug)]
pub(super) struct NextHead {
    scan: Mutex<Scan>,
    /// Whether the next bytes belong to a head and not to a body.
    is_expected: AtomicBool,
}

/// What was seen of a head.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Seen {
    /// All of it.
    Whole(Option<HeadFault>),
    /// Not its beginning, which came together with the request before it.
    Part,
}

impl Default for NextHead {
    fn default() -> Self {
        Self {
            scan: Mutex::default(),
            is_expected: AtomicBool::new(true),
        }
    }
}

impl NextHead {
    /// Looks at bytes that hyper reads.
    pub(super) fn read(&self, bytes: &[u8]) {
        if self.is_expected.load(Ordering::Relaxed) {
            self.lock().read(bytes);
        }
    }

    /// Expects the next request once the body of the current one was read.
    pub(super) fn expect(&self) {
        self.is_expected.store(true, Ordering::Relaxed);
    }

    /// What was seen of the head that hyper has parsed.
    pub(super) fn take(&self) -> Seen {
        self.is_expected.store(false, Ordering::Relaxed);
        std::mem::take(&mut *self.lock()).seen()
    }

    fn lock(&self) -> MutexGuard<'_, Scan> {
        self.scan.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Reads a head line by line.
#[derive(Debug, Default)]
struct Scan {
    state: State,
    /// The first bytes of the current line, in lower case.
    start: [u8; LONGEST],
    /// The length of the current line so far.
    length: usize,
    /// Whether the last byte was a carriage return.
    returned: bool,
    has_length: bool,
    has_coding: bool,
    has_bare_line_feed: bool,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Before the request line. Line ends are skipped there.
    #[default]
    Begin,
    Lines,
    Ended,
    /// The first bytes are not those of a head.
    Unknown,
}

impl Scan {
    fn read(&mut self, mut bytes: &[u8]) {
        if self.state == State::Begin && self.length == 0 && !may_begin_head(bytes) {
            self.state = State::Unknown;
        }
        while matches!(self.state, State::Begin | State::Lines) && !bytes.is_empty() {
            match memchr::memchr(b'\n', bytes) {
                Some(end) => {
                    self.add(&bytes[..end]);
                    self.end_line();
                    bytes = &bytes[end + 1..];
                }
                None => return self.add(bytes),
            }
        }
    }

    fn add(&mut self, part: &[u8]) {
        let Some(last) = part.last() else {
            return;
        };
        for (kept, byte) in self.start.iter_mut().skip(self.length).zip(part) {
            *kept = byte.to_ascii_lowercase();
        }
        self.length = self.length.saturating_add(part.len());
        self.returned = *last == b'\r';
    }

    fn end_line(&mut self) {
        self.has_bare_line_feed |= !self.returned;
        if self.length == usize::from(self.returned) {
            if self.state == State::Lines {
                self.state = State::Ended;
            }
        } else {
            self.state = State::Lines;
            self.has_length |= self.start.starts_with(b"content-length:");
            self.has_coding |= self.start.starts_with(b"transfer-encoding:");
        }
        (self.start, self.length, self.returned) = ([0; LONGEST], 0, false);
    }

    fn seen(&self) -> Seen {
        if self.state != State::Ended {
            return Seen::Part;
        }
        Seen::Whole(if self.has_bare_line_feed {
            Some(HeadFault(
                "a line of the request's head ends without a carriage return",
            ))
        } else if self.has_length && self.has_coding {
            Some(HeadFault(
                "the request has both `content-length` and `transfer-encoding`",
            ))
        } else {
            None
        })
    }
}

/// Whether a method may begin here, after line ends.
fn may_begin_head(bytes: &[u8]) -> bool {
    let begin = bytes.iter().position(|byte| !b"\r\n".contains(byte));
    let method = &bytes[begin.unwrap_or(bytes.len())..];
    let end = method.iter().position(|byte| *byte == b' ');
    let method = &method[..end.unwrap_or(method.len())];
    method.iter().all(u8::is_ascii_uppercase)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(head: &str) -> Option<&'static str> {
        let mut found = None;
        // In two reads, wherever the first one ends.
        for cut in 1..=head.len() {
            let next = NextHead::default();
            next.read(&head.as_bytes()[..cut]);
            next.read(&head.as_bytes()[cut..]);
            let Seen::Whole(fault) = next.take() else {
                panic!("{head:?} was not seen");
            };
            let fault = fault.map(|fault| fault.0);
            assert!(found.is_none_or(|found| found == fault), "{head:?} {cut}");
            found = Some(fault);
        }
        found.unwrap()
    }

    #[test]
    fn heads_that_servers_read_differently_are_found() {
        for right in [
            "GET / HTTP/1.1\r\nhost: x\r\n\r\n",
            "\r\nGET / HTTP/1.1\r\nhost: x\r\n\r\n",
            "POST / HTTP/1.1\r\ncontent-length: 2\r\n\r\n{\n",
            "POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n2\r\n{\n",
            "POST / HTTP/1.1\r\nx-content-length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
            "POST / HTTP/1.1\r\nx: content-length:\r\ntransfer-encoding: chunked\r\n\r\n",
        ] {
            assert_eq!(seen(right), None, "{right:?}");
        }
        for bare in [
            "GET / HTTP/1.1\nhost: x\n\n",
            "GET / HTTP/1.1\nhost: x\r\n\r\n",
            "GET / HTTP/1.1\r\nhost: x\ny: z\r\n\r\n",
            "GET / HTTP/1.1\r\nhost: x\r\n\n",
            "\nGET / HTTP/1.1\r\nhost: x\r\n\r\n",
        ] {
            assert!(
                seen(bare).is_some_and(|fault| fault.contains("carriage")),
                "{bare:?}"
            );
        }
        for both in [
            "POST / HTTP/1.1\r\ncontent-length: 2\r\ntransfer-encoding: chunked\r\n\r\n",
            "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\nx: y\r\nContent-Length:2\r\n\r\n",
        ] {
            assert!(
                seen(both).is_some_and(|fault| fault.contains("both")),
                "{both:?}"
            );
        }
    }

    #[test]
    fn a_head_whose_beginning_was_missed_is_not_taken_for_seen() {
        let head = "GET / HTTP/1.1\r\nhost: x\r\n\r\n";
        let next = NextHead::default();
        next.read(head.as_bytes());
        assert_eq!(next.take(), Seen::Whole(None));
        // A body, and with it the next head.
        next.read(head.as_bytes());
        assert_eq!(next.take(), Seen::Part);
        for rest in [
            "ost: x\r\n\r\n",
            "Host: x\r\n\r\n",
            "{}GET / HTTP/1.1\r\n\r\n",
        ] {
            next.expect();
            next.read(rest.as_bytes());
            assert_eq!(next.take(), Seen::Part, "{rest:?}");
        }
        next.expect();
        next.read(head.as_bytes());
        assert_eq!(next.take(), Seen::Whole(None));
    }
}
