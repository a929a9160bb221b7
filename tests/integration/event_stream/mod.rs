//! `application/vnd.amazon.eventstream`: the framer, and how the fixtures that are written in it
//! were made.

pub mod build;
mod fixtures;

use sluicegate::framing::{Framer, Framing, Remainder};
use sluicegate::model::{Error, ErrorCode};

use build::{Header, message, named};

const CAP: usize = 1024;

/// Name, data, whether it is a failure.
type Seen = (String, String, bool);

struct Read {
    frames: Vec<Seen>,
    end: Result<Remainder, Error>,
    repaired: u64,
}

fn read<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> Read {
    let mut framer = Framer::new(Framing::AwsEventStream, CAP);
    let mut frames = Vec::new();
    let mut pushed = Ok(());
    for piece in pieces {
        pushed = framer.push(piece, &mut |frame| {
            frames.push((frame.name.to_owned(), frame.data.to_owned(), frame.failure));
            Ok(())
        });
        if pushed.is_err() {
            break;
        }
    }
    Read {
        frames,
        end: pushed.and_then(|()| framer.end()),
        repaired: framer.repaired_lines(),
    }
}

fn code(read: Read) -> Option<ErrorCode> {
    read.end.err().map(|error| error.code())
}

fn whole() -> Vec<u8> {
    [
        named("event", "messageStart", b"{}"),
        named("event", "contentBlockDelta", "{\"text\":\"é\"}".as_bytes()),
        message(
            &[
                Header::Text(":message-type", "event"),
                Header::Bool("on", true),
                Header::Bytes("bytes", b"\0\x01\x02"),
                Header::Plain("byte", 2, &[1]),
                Header::Plain("short", 3, &[1; 2]),
                Header::Plain("int", 4, &[1; 4]),
                Header::Plain("long", 5, &[1; 8]),
                Header::Plain("time", 8, &[1; 8]),
                Header::Plain("uuid", 9, &[1; 16]),
                Header::Bool("off", false),
                Header::Text(":event-type", "metadata"),
            ],
            b"",
        ),
        message(&[], b"{}"),
        named(
            "exception",
            "throttlingException",
            b"{\"message\":\"slow\"}",
        ),
        message(
            &[
                Header::Text(":message-type", "error"),
                Header::Text(":error-code", "InternalFailure"),
                Header::Text(":error-message", "it broke"),
            ],
            b"",
        ),
    ]
    .concat()
}

#[test]
fn every_cut_gives_the_same_messages() {
    let bytes = whole();
    let seen = |name: &str, data: &str, failure| (name.to_owned(), data.to_owned(), failure);
    let expected = [
        seen("messageStart", "{}", false),
        seen("contentBlockDelta", "{\"text\":\"é\"}", false),
        seen("metadata", "", false),
        seen("", "{}", false),
        seen("throttlingException", "{\"message\":\"slow\"}", true),
        seen("InternalFailure", "it broke", true),
    ];
    for size in 1..=bytes.len() {
        let read = read(bytes.chunks(size));
        assert_eq!(read.frames, expected, "in pieces of {size}");
        assert_eq!(read.end, Ok(Remainder::Nothing));
    }
    for at in 0..=bytes.len() {
        let (head, tail) = bytes.split_at(at);
        assert_eq!(read([head, tail]).frames, expected, "cut at {at}");
    }
}

#[test]
fn an_unended_message_never_counts() {
    let first = named("event", "messageStart", b"{}");
    let bytes = whole();
    for length in first.len() + 1..first.len() + 60 {
        let read = read([&bytes[..length]]);
        assert_eq!(read.frames.len(), 1, "{length} bytes");
        assert_eq!(read.end, Ok(Remainder::Broken), "{length} bytes");
    }
    let nothing = read([]).end.map_err(|error| error.code());
    assert_eq!(nothing, Err(ErrorCode::BadUpstreamData));
}

#[test]
fn every_flipped_bit_is_seen() {
    let bytes = named("event", "contentBlockDelta", b"{\"delta\":{}}");
    for at in 0..bytes.len() {
        for bit in 0..8 {
            let mut wrong = bytes.clone();
            wrong[at] ^= 1 << bit;
            let read = read([&wrong[..]]);
            assert!(read.frames.is_empty(), "byte {at}, bit {bit}");
            // A first byte that is now that of a JSON document is as little an answer.
            let refused = matches!(&read.end, Err(error) if error.code() == ErrorCode::BadUpstreamData)
                || matches!(read.end, Ok(Remainder::Document(_)));
            assert!(refused, "byte {at}, bit {bit}: {:?}", read.end);
        }
    }
}

/// Only the prelude comes; were the length believed, the framer would wait for the rest.
#[test]
fn a_length_over_the_cap_is_refused_before_its_message_comes() {
    let prelude = |total: u32, headers: u32| {
        let mut bytes = [total.to_be_bytes(), headers.to_be_bytes()].concat();
        bytes.extend(crc32fast::hash(&bytes).to_be_bytes());
        bytes
    };
    let cap = u32::try_from(CAP).expect("a small cap");
    for (total, headers, refused) in [
        (cap, 0, false),
        (cap + 1, 0, true),
        (1 << 26, 0, true),
        (16, 0, false),
        (16, 1, true),
        (15, 0, true),
        (0, 0, true),
        (100, 84, false),
        (100, 85, true),
        (100, u32::MAX, true),
    ] {
        let bytes = prelude(total, headers);
        let expected = refused.then_some(ErrorCode::BadUpstreamData);
        assert_eq!(code(read([&bytes[..]])), expected, "{total} {headers}");
        assert_eq!(code(read(bytes.chunks(1))), expected, "{total} {headers}");
    }
}

#[test]
fn malformed_headers_are_refused() {
    for header in [
        Header::Raw(&[5, b'a']),                           // its name is cut off
        Header::Raw(&[1, b'a']),                           // its type is
        Header::Raw(&[1, b'a', 7, 0]),                     // the length of its value is
        Header::Raw(&[1, b'a', 7, 0, 9, b'x']),            // its value is
        Header::Raw(&[1, b'a', 10]),                       // there is no such type
        Header::Plain(":event-type", 3, &[1; 2]),          // a name is a string
        Header::Raw(&[12, 0, 0]),                          // as the first
        Header::Raw(b"\x0b:event-type\x07\0\x02\xc3\x28"), // which is UTF-8
    ] {
        let bytes = message(&[header], b"{}");
        assert_eq!(code(read([&bytes[..]])), Some(ErrorCode::BadUpstreamData));
    }
}

#[test]
fn a_body_that_is_no_stream_says_what_it_is() {
    let text = "{\"message\":\"é\"}";
    let document = Remainder::Document(text.to_owned());
    let body = format!("\n {text}");
    assert_eq!(read(body.as_bytes().chunks(1)).end, Ok(document));
    assert_eq!(
        code(read([&b"<html></html>"[..]])),
        Some(ErrorCode::BadUpstreamData)
    );
    assert_eq!(
        code(read([&b"data: {\"text\":1}\n\n"[..]])),
        Some(ErrorCode::BadUpstreamData)
    );
}

#[test]
fn invalid_utf8_is_repaired_and_counted() {
    let bytes = named("event", "contentBlockDelta", b"{\"text\":\"\xff\"}");
    let read = read(bytes.chunks(1));
    assert_eq!(read.frames[0].1, "{\"text\":\"\u{fffd}\"}");
    assert_eq!(read.repaired, 1);
}
