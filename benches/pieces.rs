//! The steps from an upstream's bytes to a client's: framing, decoders, encoders, and the whole
//! path. An iteration is an answer of 1,000 tokens, so a count of allocations in it is one of
//! thousandths per token.

#[allow(dead_code, reason = "the load generator needs more of it")]
#[path = "../bench/src/answer.rs"]
mod answer;

use std::sync::LazyLock;

use answer::Kind;
use bytes::BytesMut;
use divan::counter::{BytesCount, ItemsCount};
use divan::{AllocProfiler, Bencher, black_box};
use sluicegate::dialect::{self, AnswerInfo, AnswerSource, Completion, Dialect};
use sluicegate::framing::{Frame, Framer};
use sluicegate::model::{Event, FinishReason, Request, StreamId, Vendor};
use sluicegate::wire::{self, Wire};
use sluicegate::{dialect::NATIVE, pipeline};

#[global_allocator]
static ALLOCATOR: AllocProfiler = AllocProfiler::system();

const TOKENS: u64 = 1_000;
/// The size of one read from the network, in bytes.
const PIECE: usize = 16 * 1024;

fn main() {
    divan::main();
}

/// One wire for each framing; the other wires also use Server-Sent Events.
#[divan::bench(args = ["openai-chat", "openai-responses", "ollama-chat", "bedrock-converse"])]
fn framing(bencher: Bencher, name: &str) {
    let (wire, body) = (wire_of(name), answer::body(name, Kind::Alike, TOKENS));
    bencher.counter(ItemsCount::new(TOKENS)).bench_local(|| {
        let mut framer = Framer::new(wire.framing(), pipeline::FRAME_CAP);
        for piece in body.chunks(PIECE) {
            let read = framer.push(black_box(piece), &mut |frame| {
                black_box(frame);
                Ok(())
            });
            assert!(read.is_ok());
        }
    });
}

/// One line of so many MiB; the time must be proportional.
#[divan::bench(args = [1, 2, 4, 8])]
fn long_line(bencher: Bencher, mebibytes: usize) {
    let body = answer::long_line(mebibytes << 20);
    let wire = wire_of("openai-chat");
    bencher
        .counter(BytesCount::new(body.len()))
        .bench_local(|| pipeline::bytes(wire, NATIVE, &REQUEST, black_box(&body).chunks(PIECE)));
}

#[divan::bench(args = wire::ALL.iter().map(|wire| wire.name()))]
fn decoder(bencher: Bencher, name: &str) {
    let (wire, body) = (wire_of(name), answer::body(name, Kind::Alike, TOKENS));
    let mut frames = Vec::new();
    let mut framer = Framer::new(wire.framing(), pipeline::FRAME_CAP);
    let read = framer.push(&body, &mut |frame| {
        frames.push((frame.name.to_owned(), frame.data.to_owned()));
        Ok(())
    });
    assert!(read.is_ok());
    bencher.counter(ItemsCount::new(TOKENS)).bench_local(|| {
        let mut decoder = wire.decoder(&Vendor::PLAIN);
        for (name, data) in &frames {
            let frame = Frame::new(black_box(name), black_box(data));
            let read = decoder.frame(&frame, &mut |event: Event<'_>| {
                black_box(event);
            });
            assert!(read.is_ok());
        }
    });
}

#[divan::bench(args = dialect::ALL.iter().map(|(_, dialect)| dialect.name()))]
fn encoder(bencher: Bencher, name: &str) {
    let dialect = dialect_of(name);
    bencher.counter(ItemsCount::new(TOKENS)).bench_local(|| {
        let info = AnswerInfo {
            stream: StreamId::fixed(0),
            model: "m".to_owned(),
            created: 0,
        };
        let mut encoder = dialect.encoder(&REQUEST, info);
        let mut out = BytesMut::new();
        let source = AnswerSource {
            upstream: Some("u"),
            model: Some("m"),
        };
        encoder.start(&source, &mut out);
        for _ in 0..TOKENS {
            encoder.event(black_box(&Event::Text(" a token's text")), &mut out);
        }
        let completion = Completion {
            finish: FinishReason::Stop,
            usage: None,
            first_token_ms: 1,
            total_ms: 1,
            continued: 0,
        };
        encoder.complete(&completion, &mut out);
        out
    });
}

/// The whole path, from each wire to the native dialect.
#[divan::bench(args = wire::ALL.iter().map(|wire| wire.name()))]
fn path_from(bencher: Bencher, name: &str) {
    path(bencher, name, NATIVE);
}

/// All of the way, from openai-chat to each dialect.
#[divan::bench(args = dialect::ALL.iter().map(|(_, dialect)| dialect.name()))]
fn path_to(bencher: Bencher, name: &str) {
    path(bencher, "openai-chat", dialect_of(name));
}

fn path(bencher: Bencher, wire: &str, dialect: &dyn Dialect) {
    let (wire, body) = (wire_of(wire), answer::body(wire, Kind::Alike, TOKENS));
    bencher
        .counter(ItemsCount::new(TOKENS))
        .bench_local(|| pipeline::bytes(wire, dialect, &REQUEST, black_box(&body).chunks(PIECE)));
}

static REQUEST: LazyLock<Request> =
    LazyLock::new(
        || match NATIVE.parse(&br#"{"model":"m","prompt":"p"}"#[..].into()) {
            Ok(request) => request,
            Err(error) => panic!("{error:?}"),
        },
    );

fn wire_of(name: &str) -> &'static dyn Wire {
    wire::by_name(name).unwrap_or_else(|| panic!("{name:?} is no wire"))
}

fn dialect_of(name: &str) -> &'static dyn Dialect {
    let found = dialect::ALL
        .iter()
        .find(|(_, dialect)| dialect.name() == name);
    found.map_or_else(|| panic!("{name:?} is no dialect"), |(_, dialect)| *dialect)
}
