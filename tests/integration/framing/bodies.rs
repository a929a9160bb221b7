//! Bodies to frame.

use std::path::Path;

use proptest::prelude::*;
use proptest::sample::{Index, select};
use sluicegate::fixture::Library;

/// A stream of lines of every kind but those that the framer reads in its own way: see
/// [`super::deviation`].
pub fn stream() -> impl Strategy<Value = Vec<u8>> {
    let end = select(vec!["\n", "\r", "\r\n"]);
    // Mostly one kind of line end, sometimes any.
    let ended = (
        prop::collection::vec((line(), end.clone()), 0..40),
        prop::option::of(end),
    );
    let bom = prop::bool::weighted(0.3);
    (bom, ended, prop::bool::weighted(0.3)).prop_map(|(bom, (lines, same), torn)| {
        let mut body = Vec::new();
        if bom {
            body.extend_from_slice("\u{feff}".as_bytes());
        }
        let last = lines.len();
        for (number, (line, end)) in lines.into_iter().enumerate() {
            body.extend_from_slice(&line);
            if !(torn && number + 1 == last) {
                body.extend_from_slice(same.unwrap_or(end).as_bytes());
            }
        }
        body
    })
}

fn line() -> impl Strategy<Value = Vec<u8>> {
    let field = select(vec![
        "data",
        "data",
        "data",
        "event",
        "id",
        "retry",
        "error",
        "Data",
        " data",
        "datax",
        "",
        "\u{feff}data",
        "\u{feff}",
        "é",
    ]);
    let colon = select(vec![":", ": ", ":  ", ""]);
    prop_oneof![
        4 => (field, colon, value()).prop_map(|(field, colon, value)| {
            let value = if colon.is_empty() { Vec::new() } else { value };
            [field.as_bytes(), colon.as_bytes(), &value].concat()
        }),
        // An event's end, and so more than any other line.
        3 => Just(Vec::new()),
    ]
}

fn value() -> impl Strategy<Value = Vec<u8>> {
    let texts = select(vec![
        "",
        "x",
        "message",
        "delta",
        "42",
        "[DONE]",
        "a: b",
        ":",
        " ",
        "流れ",
        "👩‍💻",
        "\u{feff}",
        "\0",
        "\u{2028}",
        "\u{85}",
    ]);
    let broken = select(vec![
        &b"\xff"[..],
        b"\xe6\xb5",
        b"\xf0\x9f\x98",
        b"\xc0\xaf",
        b"\xed\xa0\x80",
        b"ok \x80 ok",
    ]);
    prop_oneof![
        4 => texts.prop_map(|text| text.as_bytes().to_vec()),
        1 => broken.prop_map(<[u8]>::to_vec),
    ]
}

/// Bytes of which many mean something to a framer.
pub fn bytes() -> impl Strategy<Value = Vec<u8>> {
    let byte = prop_oneof![
        3 => select(b"\n\r: {}[]<d\"\xef\xbb\xbf".to_vec()),
        1 => any::<u8>(),
    ];
    let word = select(vec![
        &b"data: "[..],
        b"data:",
        b"event: ",
        b"error: {",
        b"\n\n",
        b"\xef\xbb\xbf",
        b": c\n",
        b"{}",
        // Half a surrogate pair in JSON.
        b"\\ud83d",
        // A whole message of an AWS event stream, and the beginning of one.
        b"\0\0\0\x10\0\0\0\0\x05\xc2\x48\xeb\x7d\x98\xc8\xff",
        b"\0\0\0\x10\0\0",
    ]);
    let piece = prop_oneof![
        1 => byte.prop_map(|byte| vec![byte]),
        1 => word.prop_map(<[u8]>::to_vec),
    ];
    prop::collection::vec(piece, 0..48).prop_map(|pieces| pieces.concat())
}

/// A fixture's answer with some of it lost, repeated, moved or overwritten; or any bytes.
pub fn mangled_answer() -> impl Strategy<Value = Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("proto-fixtures");
    let library = Library::load(&folder).unwrap();
    let answers: Vec<Vec<u8>> = library
        .wires()
        .flat_map(|wire| library.cases(wire))
        .map(|case| case.body.to_vec())
        .collect();
    let change = (0_u8..5, any::<Index>(), any::<Index>(), bytes());
    let mangled =
        (select(answers), prop::collection::vec(change, 0..4)).prop_map(|(mut body, changes)| {
            for (how, from, to, with) in changes {
                let (from, to) = (from.index(body.len() + 1), to.index(body.len() + 1));
                let range = from.min(to)..from.max(to);
                match how {
                    0 => body.truncate(from),
                    1 => drop(body.drain(range)),
                    2 => drop(body.splice(from..from, with)),
                    3 => {
                        let again = body[range].to_vec();
                        body.extend(again);
                    }
                    _ => drop(body.splice(range, with)),
                }
            }
            body
        });
    prop_oneof![4 => mangled, 1 => bytes()]
}
