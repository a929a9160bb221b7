//! Decodes one answer from its wire and encodes it in a client's dialect, once, so that
//! `bench/instructions.py` can count the instructions: `instructions WIRE PATH TOKENS [verbatim]`, or
//! `instructions line BYTES` for an answer with one long line.

#[allow(dead_code, reason = "the load generator needs more of it")]
#[path = "../bench/src/answer.rs"]
mod answer;

use std::io::Write as _;

use sluicegate::{dialect, pipeline, wire};

/// The size of one read from the network, in bytes.
const PIECE: usize = 16 * 1024;

fn main() {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let size = |word: &str| {
        word.parse()
            .unwrap_or_else(|_| panic!("{word:?} is not a number"))
    };
    let (wire_name, path, body) = match words[..] {
        ["line", bytes, ..] => ("openai-chat", "/v1/streams", answer::long_line(size(bytes))),
        [wire, path, tokens, ..] => (wire, path, answer::body(wire, size(tokens) as u64)),
        _ => panic!("name a wire, a path and a number of tokens, or `line` and a number of bytes"),
    };
    let Some(wire) = wire::by_name(wire_name) else {
        panic!("{wire_name:?} is not a wire");
    };
    let dialect = dialect::at(path);
    let Ok(request) = dialect::NATIVE.parse(&br#"{"model":"m","prompt":"p"}"#[..].into()) else {
        panic!("the request does not parse");
    };
    let chunks = body.chunks(PIECE);
    let written = if words.last() == Some(&"verbatim") {
        pipeline::verbatim_bytes(wire, dialect, &request, chunks)
    } else {
        pipeline::bytes(wire, dialect, &request, chunks)
    };
    // Its size is printed, so that the work is not optimised away.
    let _ = writeln!(std::io::stdout(), "{} bytes", written.len());
}
