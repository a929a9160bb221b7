//! Ids that cannot be guessed.

use std::fmt;

/// Names one stream: `st_` and 160 random bits. The id is the capability to read the stream.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct StreamId(String);

/// Names one request in logs and answers: `req_` and 160 random bits, or what the client sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestId(String);

impl StreamId {
    pub fn random() -> Self {
        Self(random("st_"))
    }

    /// An id of the caller's choosing, for tests and goldens.
    pub fn fixed(id: &str) -> Self {
        Self(id.to_owned())
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl RequestId {
    /// The longest `x-request-id` that is taken over from a client, in bytes.
    const LONGEST: usize = 128;

    pub fn random() -> Self {
        Self(random("req_"))
    }

    /// Takes over a client's `x-request-id` if it is short, printable ASCII without spaces: it goes
    /// into headers, logs and bodies.
    pub fn from_client(value: &str) -> Option<Self> {
        let legal = !value.is_empty()
            && value.len() <= Self::LONGEST
            && value.bytes().all(|b| b.is_ascii_graphic());
        legal.then(|| Self(value.to_owned()))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for StreamId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// `prefix` and 32 characters of 5 random bits each.
///
/// # Panics
/// If the operating system has no randomness: an id that can be guessed is worse than no answer.
fn random(prefix: &str) -> String {
    const ALPHABET: &[u8; 32] = b"abcdefghijkmnopqrstuvwxyz2345678";
    let mut bytes = [0_u8; 32];
    if getrandom::fill(&mut bytes).is_err() {
        panic!("the operating system gave no random bytes");
    }
    let mut id = String::with_capacity(prefix.len() + bytes.len());
    id.push_str(prefix);
    id.extend(
        bytes
            .iter()
            .map(|b| char::from(ALPHABET[usize::from(b & 31)])),
    );
    id
}
