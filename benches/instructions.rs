//! Does one piece of work once, so that `bench/instructions.py` can count the instructions:
//!
//! - `instructions KIND WIRE PATH TOKENS [verbatim]` decodes an answer from its wire and encodes it in a
//!   client's dialect; its texts are `alike` or `prose`; `instructions line BYTES` does so for an answer with one long line, and
//!   `instructions answer WIRE PATH FILE` for the answer in a file;
//! - `instructions request PATH FILE` parses the request in a file and encodes it in every wire;
//! - `instructions head FILE` and `instructions chunks FILE` parse the head, or decode the chunked
//!   body, of an upstream's answer;
//! - `instructions batch FILE` does the work of each line of a file, one after the other; the line
//!   `whole WIRE FILE` requires that the answer in a file does not break.

#[allow(dead_code, reason = "the load generator needs more of it")]
#[path = "../bench/src/answer.rs"]
mod answer;

use std::io::Write as _;

use answer::Kind;
use sluicegate::model::{Event, Vendor};
use sluicegate::upstream::exchange::decoder::Decoder;
use sluicegate::upstream::exchange::head::{self, BodyLength};
use sluicegate::{dialect, pipeline, wire};

/// The size of one read from the network, in bytes.
const PIECE: usize = 16 * 1024;

fn main() {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let sizes = match words[..] {
        ["batch", file] => read_text(file).lines().map(do_line).collect(),
        _ => vec![do_work(&words)],
    };
    // Printed, so that the work is not optimised away.
    for written in sizes {
        let _ = writeln!(std::io::stdout(), "{written} bytes");
    }
}

fn do_line(line: &str) -> usize {
    match line.split(' ').collect::<Vec<_>>()[..] {
        ["whole", wire, file] => {
            assert_whole(wire, file);
            0
        }
        ref words => do_work(words),
    }
}

/// Panics if the answer in a file breaks: from there on its length would cost nothing.
fn assert_whole(wire_name: &str, file: &str) {
    let (body, mut ignore) = (read(file), |_: Event<'_>| {});
    let chunks = body.chunks(PIECE);
    let (_, end) = pipeline::read(wire(wire_name), pipeline::FRAME_CAP, chunks, &mut ignore);
    if let Err(error) = end {
        panic!("{file} breaks: {}", error.message());
    }
}

/// The length of what the work has written. `bench/instructions.py` counts the instructions of each
/// call in a batch.
#[inline(never)]
fn do_work(words: &[&str]) -> usize {
    let size = |word: &str| {
        word.parse()
            .unwrap_or_else(|_| panic!("{word:?} is not a number"))
    };
    let is_verbatim = words.last() == Some(&"verbatim");
    match words[..] {
        ["line", bytes, ..] => {
            let body = answer::long_line(size(bytes));
            answered("openai-chat", "/v1/streams", &body, is_verbatim)
        }
        ["answer", wire, path, file, ..] => answered(wire, path, &read(file), is_verbatim),
        ["request", path, file, ..] => requested(path, read(file)),
        ["head", file, ..] => match head::parse(&read(file)) {
            Ok(Some((head, _))) => head.headers.len(),
            _ => panic!("the head does not parse"),
        },
        ["chunks", file, ..] => decoded(&read(file)),
        [kind, wire, path, tokens, ..] => {
            let kind = if kind == "prose" {
                Kind::Prose
            } else {
                Kind::Alike
            };
            let body = answer::body(wire, kind, size(tokens) as u64);
            answered(wire, path, &body, is_verbatim)
        }
        _ => panic!("unknown work: {words:?}"),
    }
}

fn read_text(file: &str) -> String {
    std::fs::read_to_string(file).unwrap_or_else(|error| panic!("{file}: {error}"))
}

fn read(file: &str) -> Vec<u8> {
    std::fs::read(file).unwrap_or_else(|error| panic!("{file}: {error}"))
}

fn wire(name: &str) -> &'static dyn wire::Wire {
    wire::by_name(name).unwrap_or_else(|| panic!("{name:?} is not a wire"))
}

/// The length of what the client gets.
fn answered(wire_name: &str, path: &str, body: &[u8], is_verbatim: bool) -> usize {
    let wire = wire(wire_name);
    let dialect = dialect::at(path);
    let Ok(request) = dialect::NATIVE.parse(&br#"{"model":"m","prompt":"p"}"#[..].into()) else {
        panic!("the request does not parse");
    };
    let chunks = body.chunks(PIECE);
    let written = if is_verbatim {
        pipeline::verbatim_bytes(wire, dialect, &request, chunks)
    } else {
        pipeline::bytes(wire, dialect, &request, chunks)
    };
    written.len()
}

/// The length of what the upstreams get.
fn requested(path: &str, body: Vec<u8>) -> usize {
    let request = match dialect::at(path).parse(&body.into()) {
        Ok(request) => request,
        Err(error) => panic!("the request does not parse: {}", error.message()),
    };
    let sent = wire::ALL.iter().map(|wire| {
        let adapted = request.for_wire(wire.name());
        let sent = adapted.and_then(|request| wire.request(&request, "m", &Vendor::PLAIN));
        // A wire may refuse a member that it does not know.
        sent.map_or(0, |sent| sent.body.to_string().len())
    });
    sent.sum()
}

/// The length of a chunked body's content.
fn decoded(body: &[u8]) -> usize {
    let (mut decoder, mut length) = (Decoder::new(BodyLength::Chunked), 0);
    for mut piece in body.chunks(PIECE) {
        while let Ok(Some(content)) = decoder.next(&mut piece) {
            length += content.len();
        }
    }
    assert!(decoder.is_ended(), "the body does not end");
    length
}
