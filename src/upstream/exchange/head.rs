//! Parses an answer's status, headers and body length (RFC 9112, sections 4 to 6).

use std::time::Duration;

use http::header::{CONNECTION, CONTENT_LENGTH, TRANSFER_ENCODING};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use memchr::memmem;

/// The most headers of an answer.
const MAX_HEADERS: usize = 100;

const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
const TIMEOUT: &[u8] = b"timeout=";

/// The head of an answer to a `POST`.
#[derive(Debug)]
pub struct Head {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub length: BodyLength,
    /// Whether the connection can be reused after the body's end.
    pub keep_alive: bool,
    /// How long the connection may be idle before it is reused, if the server says when it closes
    /// idle connections.
    pub idle_limit: Option<Duration>,
}

/// Where a body ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BodyLength {
    /// After this many bytes.
    Known(u64),
    Chunked,
    UntilClosed,
}

/// Parses the head at the beginning of `bytes` and returns its length; `None` if it is incomplete.
///
/// # Errors
/// What is wrong with the head.
pub fn parse(bytes: &[u8]) -> Result<Option<(Head, usize)>, &'static str> {
    // Only servers may skip empty lines (section 2.2). Here an empty line would look like the end
    // of a head, and the parser would run again for every byte.
    if let Some(b'\r' | b'\n') = bytes.first() {
        return Err("an empty line comes before it");
    }
    let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
    let mut response = httparse::Response::new(&mut headers);
    let length = match response.parse(bytes) {
        Ok(httparse::Status::Complete(length)) => length,
        Ok(httparse::Status::Partial) => return Ok(None),
        Err(httparse::Error::TooManyHeaders) => return Err("it has too many headers"),
        Err(_) => return Err("its head is malformed"),
    };
    let status = response
        .code
        .and_then(|code| StatusCode::from_u16(code).ok());
    let status = status.ok_or("its status is malformed")?;
    let is_http_1_1 = response.version == Some(1);
    let mut headers = HeaderMap::with_capacity(response.headers.len());
    for header in response.headers.iter() {
        let name = HeaderName::from_bytes(header.name.as_bytes());
        let value = HeaderValue::from_bytes(header.value);
        let (Ok(name), Ok(value)) = (name, value) else {
            return Err("a header is malformed");
        };
        headers.append(name, value);
    }
    let body_length = body_length(status, &headers, is_http_1_1)?;
    let keep_alive = is_persistent(&headers, is_http_1_1)
        && !has_ambiguous_length(status, &headers)
        && body_length != BodyLength::UntilClosed;
    let idle_limit = idle_limit(&headers);
    let head = Head {
        status,
        headers,
        length: body_length,
        keep_alive,
        idle_limit,
    };
    Ok(Some((head, length)))
}

/// Whether a head may end within `bytes`.
pub(super) fn may_end(bytes: &[u8]) -> bool {
    memmem::find(bytes, b"\n\r\n").is_some() || memmem::find(bytes, b"\n\n").is_some()
}

/// Determines the body's length (RFC 9112, section 6.3). Transfer codings that were not asked for
/// cannot be decoded.
fn body_length(
    status: StatusCode,
    headers: &HeaderMap,
    is_http_1_1: bool,
) -> Result<BodyLength, &'static str> {
    if status.is_informational()
        || status == StatusCode::NO_CONTENT
        || status == StatusCode::NOT_MODIFIED
    {
        return Ok(BodyLength::Known(0));
    }
    let mut codings = tokens(headers, &TRANSFER_ENCODING);
    if let Some(coding) = codings.next() {
        return match codings.next() {
            None if is_http_1_1 && coding.eq_ignore_ascii_case(b"chunked") => {
                Ok(BodyLength::Chunked)
            }
            _ => Err("its transfer coding is unknown"),
        };
    }
    if !headers.contains_key(CONTENT_LENGTH) {
        return Ok(BodyLength::UntilClosed);
    }
    let mut lengths = tokens(headers, &CONTENT_LENGTH).map(number);
    let length = lengths.next().flatten();
    match length {
        Some(known) if lengths.all(|other| other == length) => Ok(BodyLength::Known(known)),
        _ => Err("its content-length is malformed"),
    }
}

/// Whether another reader might see the body end elsewhere, which makes response smuggling
/// possible: two lengths at once, or a length where there must be no body. A 304 may state the
/// length of the body that it omits.
fn has_ambiguous_length(status: StatusCode, headers: &HeaderMap) -> bool {
    let chunked = headers.contains_key(TRANSFER_ENCODING);
    let known = headers.contains_key(CONTENT_LENGTH);
    match status {
        StatusCode::NO_CONTENT => {
            chunked || tokens(headers, &CONTENT_LENGTH).any(|length| number(length) != Some(0))
        }
        StatusCode::NOT_MODIFIED => chunked,
        _ => chunked && known,
    }
}

fn is_persistent(headers: &HeaderMap, is_http_1_1: bool) -> bool {
    let says = |option: &[u8]| {
        tokens(headers, &CONNECTION).any(|token| token.eq_ignore_ascii_case(option))
    };
    !says(b"close") && (is_http_1_1 || says(b"keep-alive"))
}

/// One second less than `keep-alive: timeout=5` says: a request must not be sent in the moment in
/// which the server closes the connection.
fn idle_limit(headers: &HeaderMap) -> Option<Duration> {
    let seconds = tokens(headers, &KEEP_ALIVE).find_map(|token| {
        let (name, value) = token.split_at_checked(TIMEOUT.len())?;
        let is_timeout = name.eq_ignore_ascii_case(TIMEOUT);
        is_timeout.then(|| number(value.trim_ascii())).flatten()
    });
    Some(Duration::from_secs(seconds?.saturating_sub(1)))
}

/// The members of a header that is a list, on one line or several.
fn tokens<'a>(headers: &'a HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'a [u8]> {
    let lines = headers.get_all(name).into_iter();
    lines.flat_map(|line| {
        line.as_bytes()
            .split(|byte| *byte == b',')
            .map(<[u8]>::trim_ascii)
    })
}

/// Parses digits only; `FromStr` would accept a sign.
fn number(text: &[u8]) -> Option<u64> {
    let digits = !text.is_empty() && text.iter().all(u8::is_ascii_digit);
    let text = digits.then(|| std::str::from_utf8(text).ok()).flatten()?;
    text.parse().ok()
}
