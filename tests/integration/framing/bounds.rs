//! What a framer holds is bounded, and its time is linear.

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};
use sluicegate::framing::{Framer, Framing, Remainder};
use sluicegate::model::ErrorCode;

use super::framed;
use crate::event_stream::build;

#[test]
fn a_frame_over_the_cap_ends_the_stream_at_the_cap() {
    const CAP: usize = 1000;
    for (framing, opening, more) in [
        (Framing::Sse, "data: ", "x"),
        (Framing::Sse, ":", "x"),
        (Framing::Sse, "data: first\n\nunknown", "x"),
        (Framing::Sse, "data: first\n", "data: another line\n"),
        (Framing::Sse, "data: first\n", "unknown: line\n"),
        (
            Framing::Sse,
            "data: first\n\n{",
            "\"a line of a document\":\n",
        ),
        (Framing::Sse, "{", "\"a document\":"),
        (Framing::Sse, "", " "),
        (Framing::Sse, "", "\n"),
        (Framing::Ndjson, "", "x"),
        (Framing::Ndjson, "{\n", "\"a line of a document\":\n"),
        (Framing::Ndjson, "{}\n", "é"),
    ] {
        let mut framer = Framer::new(framing, CAP);
        let mut fed = 0;
        let mut feed = |text: &str| {
            fed += text.len();
            framer.push(text.as_bytes(), &mut |_| Ok(()))
        };
        let mut outcome = feed(opening);
        // Twice what may wait: an endless frame that is kept would go on.
        for _ in 0..2 * CAP {
            if outcome.is_err() {
                break;
            }
            outcome = feed(more);
        }
        let code = outcome.map_err(|error| error.code());
        let what = format!("{framing:?} {opening:?} {more:?}");
        assert_eq!(code, Err(ErrorCode::BadUpstreamData), "{what}");
        let most = CAP + opening.len() + more.len();
        assert!((CAP..=most).contains(&fed), "{what}: {fed} bytes");
    }
}

#[test]
fn what_is_over_is_not_counted_against_the_cap() {
    const CAP: usize = 64;
    let passes = |framing, text: &str| {
        let framed = framed(framing, CAP, &[text.as_bytes()]);
        assert_eq!(framed.end, Ok(Remainder::Nothing), "{text:.20}");
        framed.frames.len()
    };
    assert_eq!(passes(Framing::Sse, &"data: x\n\n".repeat(1000)), 1000);
    assert_eq!(passes(Framing::Sse, &": keep-alive\n".repeat(1000)), 0);
    assert_eq!(
        passes(Framing::Sse, &format!("data: x\n{}", "\r\n".repeat(1000))),
        1
    );
    assert_eq!(passes(Framing::Ndjson, &"{\"a\":1}\n".repeat(1000)), 1000);
    let longest = format!("data: {}\n\n", "x".repeat(CAP - "data: ".len()));
    assert_eq!(passes(Framing::Sse, &longest), 1);
}

/// The time for eight times the input is about eight times the time; a framer that goes over what
/// it has again for each piece or each line would take sixty-four times as long. In between is what
/// a body costs that no longer fits the processor's cache.
#[test]
fn time_is_linear_in_the_length_of_a_frame() {
    // Too long for the cache already, so that both bodies are read at the same speed.
    const LONG: usize = 1536 << 10;
    let line = |length: usize| format!("data: {}\n\n", "x".repeat(length)).into_bytes();
    let lines = |length: usize| format!("{}\n", "data: x\n".repeat(length / 8)).into_bytes();
    let json = |length: usize| format!("\"{}\"\n", "x".repeat(length)).into_bytes();
    let page = |length: usize| format!("[\"{}\"]", "x".repeat(length)).into_bytes();
    linear("a line", Framing::Sse, LONG, line);
    linear("an event of many lines", Framing::Sse, 32 << 10, lines);
    linear("a line of JSON", Framing::Ndjson, LONG, json);
    linear("a document", Framing::Sse, LONG, page);
    let sized = |length: usize| build::named("event", "e", "x".repeat(length).as_bytes());
    linear("a message", Framing::AwsEventStream, LONG, sized);
    let many = |length: usize| build::named("event", "e", b"{}").repeat(length / 64);
    linear("many messages", Framing::AwsEventStream, 64 << 10, many);
}

fn linear(what: &str, framing: Framing, length: usize, body: impl Fn(usize) -> Vec<u8>) {
    const TIMES: u32 = 8;
    let short = fastest(framing, &body(length));
    let long = fastest(framing, &body(length * TIMES as usize));
    // Fresh memory is the system's to give, at its own speed.
    let memory = kept(&body(length * TIMES as usize));
    assert!(
        long < (short * TIMES * 5).max(memory * 8),
        "{what}: {short:?}, {TIMES} times as long: {long:?}, only to keep it: {memory:?}"
    );
}

/// The processor's time for keeping a body that comes in the same pieces, the best of several runs.
fn kept(body: &[u8]) -> Duration {
    let run = || {
        let begin = processor_time();
        let mut kept = Vec::new();
        for piece in body.chunks(1024) {
            kept.extend_from_slice(piece);
        }
        std::hint::black_box(&kept);
        processor_time() - begin
    };
    (0..5).map(|_| run()).min().unwrap()
}

/// The processor's time for one body in pieces of 1 KiB, the best of several runs: what else the
/// machine does only adds.
fn fastest(framing: Framing, body: &[u8]) -> Duration {
    let chunks: Vec<&[u8]> = body.chunks(1024).collect();
    let run = || {
        let begin = processor_time();
        let mut read = 0;
        let mut framer = Framer::new(framing, 16 << 20);
        for chunk in &chunks {
            framer
                .push(chunk, &mut |frame| {
                    read += frame.data.len();
                    Ok(())
                })
                .unwrap();
        }
        if let Remainder::Document(document) = framer.end().unwrap() {
            read += document.len();
        }
        let time = processor_time() - begin;
        assert!(read >= body.len() / 64, "{read} of {}", body.len());
        time
    };
    (0..5).map(|_| run()).min().unwrap()
}

/// How long this thread has run, without the waits for its turn.
fn processor_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}
