//! The format of a stream's log: the native dialect's events as bytes. `NativeEncoder` writes them;
//! this module parses them, and writes the events that do not come from an upstream's answer.

use std::time::{SystemTime, UNIX_EPOCH};

use bytes::{Bytes, BytesMut};
use memchr::memmem;
use serde_json::json;

use super::encode::NativeEncoder;
use super::error_fields;
use crate::dialect::{AnswerSource, Encoder};
use crate::model::{Error, EventId, Ordinal, StreamId};

pub use super::encode::write_retry;

/// One event as `NativeEncoder` writes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LoggedEvent<'a> {
    pub stream: StreamId,
    pub ordinal: Ordinal,
    pub name: &'a str,
    /// JSON on one line.
    pub data: &'a str,
    /// All its bytes, with the blank line.
    pub bytes: &'a [u8],
}

/// The events in `bytes`, which must end with a whole event. Comments are skipped.
pub fn parse_events(bytes: &[u8]) -> impl Iterator<Item = LoggedEvent<'_>> {
    let mut rest = bytes;
    std::iter::from_fn(move || {
        loop {
            let end = memmem::find(rest, b"\n\n")? + 2;
            let (bytes, after) = rest.split_at(end);
            rest = after;
            if let Some(event) = parse_event(bytes) {
                return Some(event);
            }
        }
    })
}

/// The last event in `bytes`, which must end with a whole event.
pub fn last_event(bytes: &[u8]) -> Option<LoggedEvent<'_>> {
    // The data of an event has no line ends.
    let body = bytes.strip_suffix(b"\n\n")?;
    let start = memmem::rfind(body, b"\n\n").map_or(0, |end| end + 2);
    parse_event(&bytes[start..])
}

/// The same event with another ordinal.
pub fn with_ordinal(event: &LoggedEvent<'_>, ordinal: Ordinal) -> Bytes {
    let LoggedEvent {
        stream, name, data, ..
    } = event;
    format!("id: {stream}.{ordinal}\nevent: {name}\ndata: {data}\n\n").into()
}

/// An encoder for a replica that produces the rest of a stream, from the event at `next` on.
pub fn continuing_encoder(stream: StreamId, next: Ordinal) -> Box<dyn Encoder> {
    Box::new(NativeEncoder::continuing(stream, next))
}

/// All events of a stream that failed before its first event: a `start` at `first`, then the error.
pub fn failed_stream(stream: StreamId, first: Ordinal, model: String, error: &Error) -> Bytes {
    let mut encoder = NativeEncoder::continuing(stream, first);
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    encoder.set_start(model, now.map_or(0, |since| since.as_secs()));
    let mut out = BytesMut::new();
    let no_target = AnswerSource {
        upstream: None,
        model: None,
    };
    encoder.start(&no_target, &mut out);
    encoder.error(error, None, &mut out);
    out.freeze()
}

/// An `error` event for one reader only; the stream continues for the others. `id` is the last event
/// that this reader has.
pub fn error_event(id: Option<EventId>, error: &Error) -> Bytes {
    let id = id.map_or_else(String::new, |id| format!("id: {id}\n"));
    format!("{id}event: error\ndata: {}\n\n", error_data(error)).into()
}

/// The data of an `error` event, as JSON on one line.
pub fn error_data(error: &Error) -> String {
    json!({ "error": error_fields(error) }).to_string()
}

fn parse_event(bytes: &[u8]) -> Option<LoggedEvent<'_>> {
    let (mut id, mut name, mut data) = (None, "", "");
    for line in std::str::from_utf8(bytes).ok()?.lines() {
        match line.split_once(": ")? {
            ("id", value) => id = Some(EventId::parse(value)?),
            ("event", value) => name = value,
            ("data", value) => {
                data = value;
                break;
            }
            _ => {}
        }
    }
    let EventId { stream, ordinal } = id?;
    Some(LoggedEvent {
        stream,
        ordinal,
        name,
        data,
        bytes,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "st_aaaaaaaaaaaaaaaaaaaaaaaaaa";

    #[test]
    fn events_parse_back() {
        let text = format!(
            "retry: 2000\nid: {ID}.0\nevent: start\ndata: {{}}\n\n: keep-alive\n\n\
             id: {ID}.1\nevent: token\ndata: {{\"text\":\"id: {ID}.7\"}}\n\n"
        );
        let numbers: Vec<_> = parse_events(text.as_bytes())
            .map(|event| event.ordinal.number)
            .collect();
        assert_eq!(numbers, [0, 1]);
        let last = last_event(text.as_bytes()).unwrap();
        assert_eq!((last.ordinal.number, last.name), (1, "token"));
        let joined: usize = parse_events(text.as_bytes())
            .map(|event| event.bytes.len())
            .sum();
        assert_eq!(joined, text.len() - ": keep-alive\n\n".len());
    }
}
