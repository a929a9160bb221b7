//! Heads of answers: the body's length, whether the connection persists, and what is refused.

use proptest::prelude::*;
use sluicegate::upstream::exchange::head::{BodyLength, parse};

#[test]
fn a_head_states_its_body_length_and_whether_the_connection_persists() {
    let head = |version: &str, headers: &str| {
        let text = format!("HTTP/{version} 200 OK\r\n{headers}\r\n");
        let parsed = parse(text.as_bytes()).ok()?;
        let (head, length) = parsed.expect("a whole head");
        assert_eq!(length, text.len());
        Some((head.length, head.keep_alive))
    };
    let known = BodyLength::Known;
    for (version, headers, expected) in [
        ("1.1", "content-length: 7\r\n", Some((known(7), true))),
        (
            "1.1",
            "content-length: 7, 7\r\ncontent-length: 7\r\n",
            Some((known(7), true)),
        ),
        (
            "1.1",
            "content-length: 7\r\nconnection: Close\r\n",
            Some((known(7), false)),
        ),
        ("1.0", "content-length: 7\r\n", Some((known(7), false))),
        (
            "1.0",
            "content-length: 7\r\nconnection: keep-alive\r\n",
            Some((known(7), true)),
        ),
        (
            "1.1",
            "transfer-encoding: Chunked\r\n",
            Some((BodyLength::Chunked, true)),
        ),
        // Two lengths make response smuggling possible.
        (
            "1.1",
            "transfer-encoding: chunked\r\ncontent-length: 7\r\n",
            Some((BodyLength::Chunked, false)),
        ),
        ("1.1", "", Some((BodyLength::UntilClosed, false))),
        ("1.0", "transfer-encoding: chunked\r\n", None),
        ("1.1", "transfer-encoding: gzip\r\n", None),
        ("1.1", "transfer-encoding: gzip, chunked\r\n", None),
        ("1.1", "content-length: 7, 8\r\n", None),
        ("1.1", "content-length: 7\r\ncontent-length: 8\r\n", None),
        ("1.1", "content-length: +7\r\n", None),
        ("1.1", "content-length: 99999999999999999999\r\n", None),
        ("1.1", "content-length:\r\n", None),
        ("1.1", "content-length: 7,\r\n", None),
        ("1.1", "content-length: 0x7\r\n", None),
        ("1.1", "content length: 7\r\n", None),
        ("1.1", "transfer-encoding:\r\n", None),
        ("1.1", "transfer-encoding: chunked, chunked\r\n", None),
        ("1.1", "transfer-encoding: chunked, identity\r\n", None),
        (
            "1.1",
            "transfer-encoding: gzip\r\ntransfer-encoding: chunked\r\n",
            None,
        ),
        ("1.1", "transfer-encoding: \u{b}chunked\r\n", None),
        ("1.1", "transfer-encoding: xchunked\r\n", None),
        (
            "1.1",
            "content-length: 7\r\ntransfer-encoding: gzip\r\n",
            None,
        ),
    ] {
        assert_eq!(head(version, headers), expected, "{version} {headers}");
    }
    assert!(
        parse(b"HTTP/1.1 200 OK\r\ncontent-length: 7\r\n")
            .unwrap()
            .is_none()
    );
    assert!(parse(b"<html>").is_err());
    let many = format!("HTTP/1.1 200 OK\r\n{}\r\n", "a: b\r\n".repeat(101));
    assert!(parse(many.as_bytes()).is_err());
}

#[test]
fn some_statuses_never_have_a_body() {
    let kept = |head: &str| {
        let (head, _) = parse(head.as_bytes()).unwrap().unwrap();
        assert_eq!(head.length, BodyLength::Known(0));
        head.keep_alive
    };
    for status in ["100", "103", "204", "304"] {
        assert!(kept(&format!("HTTP/1.1 {status} X\r\n\r\n")), "{status}");
    }
    assert!(kept("HTTP/1.1 204 X\r\ncontent-length: 0\r\n\r\n"));
    // This is the length of the body that a 304 omits.
    assert!(kept("HTTP/1.1 304 X\r\ncontent-length: 7\r\n\r\n"));
    // A body might come all the same and be taken for the next answer.
    for (status, header) in [
        ("204", "content-length: 7"),
        ("204", "content-length: x"),
        ("204", "transfer-encoding: chunked"),
        ("304", "transfer-encoding: chunked"),
    ] {
        let head = format!("HTTP/1.1 {status} X\r\n{header}\r\n\r\n");
        assert!(!kept(&head), "{head:?}");
    }
}

#[test]
fn ambiguous_heads_are_refused() {
    for head in [
        // Folded lines.
        "HTTP/1.1 200 OK\r\na: b\r\n c\r\n\r\n",
        "HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\t0\r\n\r\n",
        "HTTP/1.1 200 OK\r\n a: b\r\n\r\n",
        "HTTP/1.1 200 OK\r\ncontent-length : 7\r\n\r\n",
        "HTTP/1.1 200 OK\r\n: b\r\n\r\n",
        "HTTP/1.1 200 OK\r\na\r\n\r\n",
        // A carriage return alone, and NUL.
        "HTTP/1.1 200 OK\r\na: b\rcontent-length: 7\r\n\r\n",
        "HTTP/1.1 200 OK\ra: b\r\n\r\n",
        "HTTP/1.1 200 OK\r\na: b\0c\r\n\r\n",
        "HTTP/1.1 200 OK\r\na\0: b\r\n\r\n",
        "HTTP/1.1 200 O\0K\r\n\r\n",
        "HTTP/1.1 200 OK\r\na: b\x7f\r\n\r\n",
        "\0HTTP/1.1 200 OK\r\n\r\n",
        // An empty line before the head, even before the rest arrives.
        "\r\nHTTP/1.1 200 OK\r\n\r\n",
        "\nHTTP/1.1 200 OK\r\n\r\n",
        "\r\n",
        " HTTP/1.1 200 OK\r\n\r\n",
        "HTTP/1.1  200 OK\r\n\r\n",
        "HTTP/1.1 2000 OK\r\n\r\n",
        "HTTP/1.1 20 OK\r\n\r\n",
        "HTTP/1.1 099 OK\r\n\r\n",
        "HTTP/1.2 200 OK\r\n\r\n",
        "HTTP/0.9 200 OK\r\n\r\n",
        "http/1.1 200 OK\r\n\r\n",
    ] {
        assert!(parse(head.as_bytes()).is_err(), "{head:?}");
    }
    // A line feed alone ends a line (section 2.2), for the head's end and for its lines alike.
    let text = b"HTTP/1.1 200 OK\ncontent-length: 7\n\nbehind";
    let (head, length) = parse(text).unwrap().unwrap();
    assert_eq!(
        (head.length, &text[length..]),
        (BodyLength::Known(7), &b"behind"[..])
    );
}

proptest! {
    #[test]
    fn any_bytes_are_a_head_or_none(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let _ = parse(&bytes);
        let _ = parse(&[b"HTTP/1.1 200 OK\r\n", &bytes[..]].concat());
    }
}
