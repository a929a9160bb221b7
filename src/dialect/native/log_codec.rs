//! The gateway's own events read back from the bytes that tell them.

use bytes::Bytes;
use memchr::memmem;

use crate::model::{EventId, Ordinal, StreamId};

/// One event as it was written by this dialect's encoder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Told<'a> {
    pub stream: StreamId,
    pub ordinal: Ordinal,
    pub name: &'a str,
    /// JSON on one line.
    pub data: &'a str,
    /// All of its bytes, the blank line among them.
    pub bytes: &'a [u8],
}

/// The events in `bytes`, which are whole events. What is none is left out.
pub fn told(bytes: &[u8]) -> impl Iterator<Item = Told<'_>> {
    let mut rest = bytes;
    std::iter::from_fn(move || {
        loop {
            let end = memmem::find(rest, b"\n\n")? + 2;
            let (event, after) = rest.split_at(end);
            rest = after;
            if let Some(told) = one(event) {
                return Some(told);
            }
        }
    })
}

/// The last event in `bytes`, which are whole events.
pub fn last_told(bytes: &[u8]) -> Option<Told<'_>> {
    // No event has a blank line or a raw line end in its data.
    let body = bytes.strip_suffix(b"\n\n")?;
    let start = memmem::rfind(body, b"\n\n").map_or(0, |end| end + 2);
    one(&bytes[start..])
}

/// An event in another place.
pub fn renumbered(told: &Told<'_>, ordinal: Ordinal) -> Bytes {
    let Told {
        stream, name, data, ..
    } = told;
    format!("id: {stream}.{ordinal}\nevent: {name}\ndata: {data}\n\n").into()
}

fn one(bytes: &[u8]) -> Option<Told<'_>> {
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
    Some(Told {
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
    fn events_read_back() {
        let text = format!(
            "retry: 2000\nid: {ID}.0\nevent: start\ndata: {{}}\n\n: keep-alive\n\n\
             id: {ID}.1\nevent: token\ndata: {{\"text\":\"id: {ID}.7\"}}\n\n"
        );
        let numbers: Vec<_> = told(text.as_bytes())
            .map(|told| told.ordinal.number)
            .collect();
        assert_eq!(numbers, [0, 1]);
        let last = last_told(text.as_bytes()).unwrap();
        assert_eq!((last.ordinal.number, last.name), (1, "token"));
        let joined: usize = told(text.as_bytes()).map(|told| told.bytes.len()).sum();
        assert_eq!(joined, text.len() - ": keep-alive\n\n".len());
    }
}
