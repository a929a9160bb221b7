//! Encodes a request.

use std::fmt;
use std::io::{IoSlice, Write as _};

use http::HeaderMap;
use http::header::{CONTENT_LENGTH, HOST, TRANSFER_ENCODING, USER_AGENT};

/// The `user-agent` if the headers have none.
const DEFAULT_USER_AGENT: &str = concat!("sluicegate/", env!("CARGO_PKG_VERSION"));

/// A `POST` as it is written to a connection.
pub struct Request {
    head: Vec<u8>,
    body: Vec<u8>,
}

impl Request {
    /// `target` is a path with its query. `host` is used if the headers have none.
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
            // The body's length is written below and nowhere else.
            if name != CONTENT_LENGTH && name != TRANSFER_ENCODING {
                write_header(&mut head, name.as_str(), value.as_bytes());
            }
        }
        // Writing to memory cannot fail.
        let _ = write!(head, "content-length: {}\r\n\r\n", body.len());
        Self { head, body }
    }

    pub(super) fn len(&self) -> usize {
        self.head.len() + self.body.len()
    }

    /// The request after its first `sent` bytes.
    pub(super) fn slices(&self, sent: usize) -> [IoSlice<'_>; 2] {
        let (head, body) = self.split(sent);
        [IoSlice::new(head), IoSlice::new(body)]
    }

    /// A copy of the request after its first `sent` bytes.
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
        // The request contains a credential and a prompt.
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
