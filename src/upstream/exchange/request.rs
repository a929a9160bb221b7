//! A request's bytes.

use std::fmt;
use std::io::{IoSlice, Write as _};

use http::HeaderMap;
use http::header::{CONTENT_LENGTH, HOST, TRANSFER_ENCODING, USER_AGENT};

/// Who asks, where the headers do not say.
const DEFAULT_USER_AGENT: &str = concat!("sluicegate/", env!("CARGO_PKG_VERSION"));

/// A `POST` as it is written to a connection.
pub struct Request {
    head: Vec<u8>,
    body: Vec<u8>,
}

impl Request {
    /// `target` is a path with its query; `host` is used where the headers have none.
    pub fn post(target: &str, host: &str, headers: &HeaderMap, body: Vec<u8>) -> Self {
        let length: usize = headers
            .iter()
            .map(|(name, value)| name.as_str().len() + value.len() + 4)
            .sum();
        let mut head = Vec::with_capacity(length + target.len() + host.len() + 128);
        head.extend_from_slice(b"POST ");
        head.extend_from_slice(target.as_bytes());
        head.extend_from_slice(b" HTTP/1.1\r\n");
        if !headers.contains_key(HOST) {
            write_header(&mut head, HOST.as_str(), host.as_bytes());
        }
        if !headers.contains_key(USER_AGENT) {
            write_header(
                &mut head,
                USER_AGENT.as_str(),
                DEFAULT_USER_AGENT.as_bytes(),
            );
        }
        for (name, value) in headers {
            // How the body is delimited is said here and nowhere else.
            if name != CONTENT_LENGTH && name != TRANSFER_ENCODING {
                write_header(&mut head, name.as_str(), value.as_bytes());
            }
        }
        // Writing to memory does not fail.
        let _ = write!(head, "content-length: {}\r\n\r\n", body.len());
        Self { head, body }
    }

    pub(super) fn len(&self) -> usize {
        self.head.len() + self.body.len()
    }

    /// What is behind the first `sent` bytes.
    pub(super) fn slices(&self, sent: usize) -> [IoSlice<'_>; 2] {
        let (head, body) = self.split(sent);
        [IoSlice::new(head), IoSlice::new(body)]
    }

    /// A copy of what is behind the first `sent` bytes.
    pub(super) fn remaining(&self, sent: usize) -> Vec<u8> {
        let (head, body) = self.split(sent);
        [head, body].concat()
    }

    fn split(&self, sent: usize) -> (&[u8], &[u8]) {
        let of_head = sent.min(self.head.len());
        let of_body = (sent - of_head).min(self.body.len());
        (&self.head[of_head..], &self.body[of_body..])
    }
}

impl fmt::Debug for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // There are a credential and a prompt in it.
        f.debug_struct("Request")
            .field("bytes", &self.len())
            .finish_non_exhaustive()
    }
}

fn write_header(head: &mut Vec<u8>, name: &str, value: &[u8]) {
    head.extend_from_slice(name.as_bytes());
    head.extend_from_slice(b": ");
    head.extend_from_slice(value);
    head.extend_from_slice(b"\r\n");
}
