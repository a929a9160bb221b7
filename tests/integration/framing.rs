//! The laws of framing: what the HTML standard says of Server-Sent Events, the same for every cut,
//! in bounded memory and linear time; and, through every wire, no panic on any bytes.

use std::fs;
use std::path::Path;
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use proptest::prelude::*;
use proptest::sample::{Index, select};
use rustix::time::{ClockId, clock_gettime};
use serde_json::Value;
use sluicegate::dialect;
use sluicegate::fixture::Library;
use sluicegate::framing::{Framer, Framing, Remainder};
use sluicegate::model::{ErrorCode, Request};
use sluicegate::replay;
use sluicegate::wire;

use crate::pieces::pieces;
use crate::{naive_sse, native_encoder};

/// More than any input here.
const ROOM: usize = 1 << 20;

/// Everything that a framer says of one body.
#[derive(Debug, PartialEq)]
struct Framed {
    /// Name and data.
    frames: Vec<(String, String)>,
    end: Result<Remainder, ErrorCode>,
    repaired: u64,
}

fn framed(framing: Framing, cap: usize, chunks: &[&[u8]]) -> Framed {
    let mut framer = Framer::new(framing, cap);
    let mut frames = Vec::new();
    let mut pushed = Ok(());
    for chunk in chunks {
        pushed = framer.push(chunk, &mut |frame| {
            frames.push((frame.name.to_owned(), frame.data.to_owned()));
            Ok(())
        });
        if pushed.is_err() {
            break;
        }
    }
    Framed {
        frames,
        end: pushed
            .and_then(|()| framer.end())
            .map_err(|error| error.code()),
        repaired: framer.repaired_lines(),
    }
}

proptest! {
    // These are fast, and inputs are what they live on; `PROPTEST_CASES` asks for more still.
    #![proptest_config(ProptestConfig {
        cases: 4 * ProptestConfig::default().cases,
        ..ProptestConfig::default()
    })]

    #[test]
    fn server_sent_events_read_as_the_standard_says(
        body in stream(),
        cuts in prop::collection::vec(any::<Index>(), 0..12),
    ) {
        let whole = framed(Framing::Sse, ROOM, &[&body]);
        let mut frames = whole.frames.clone();
        // What the end left over is the event that a blank line would have ended.
        if let Ok(Remainder::Unended { name, data }) = &whole.end {
            frames.push((name.clone(), data.clone()));
        }
        let mut ended = body.clone();
        ended.extend_from_slice(b"\n\n");
        let expected: Vec<(String, String)> = naive_sse::events(&ended)
            .into_iter()
            .map(|event| (event.name, event.data))
            .collect();
        prop_assert_eq!(frames, expected);
        prop_assert_eq!(whole.repaired, broken_lines(&body));

        prop_assert_eq!(&whole, &framed(Framing::Sse, ROOM, &cut(&body, &cuts)));
        let single: Vec<&[u8]> = body.chunks(1).collect();
        prop_assert_eq!(&whole, &framed(Framing::Sse, ROOM, &single));
    }

    #[test]
    fn no_bytes_do_harm(
        body in bytes(),
        cap in 1_usize..64,
        cuts in prop::collection::vec(any::<Index>(), 0..12),
    ) {
        for framing in [Framing::Sse, Framing::Ndjson] {
            for cap in [cap, ROOM] {
                let whole = framed(framing, cap, &[&body]);
                prop_assert_eq!(&whole, &framed(framing, cap, &cut(&body, &cuts)));
                let single: Vec<&[u8]> = body.chunks(1).collect();
                prop_assert_eq!(&whole, &framed(framing, cap, &single));
            }
        }
    }

    #[test]
    fn no_bytes_break_a_stream(
        body in mangled_answer(),
        cuts in prop::collection::vec(any::<Index>(), 0..12),
    ) {
        let request = Request { stream: true, ..Request::default() };
        for wire in wire::ALL {
            let replay = |chunks: &[&[u8]]| {
                replay::replay(*wire, dialect::NATIVE, &request, chunks.iter().copied())
            };
            let whole = replay(&[&body]);
            prop_assert_eq!(&whole, &replay(&cut(&body, &cuts)));
            prop_assert_eq!(&whole, &replay(&pieces(&body, cuts.len() as u64)));

            let ends = whole.events.lines().filter(|line| is_terminal(line)).count();
            prop_assert_eq!(ends, 1, "{}", whole.events);
            let mut behind = whole.events.lines().skip_while(|line| !is_terminal(line)).skip(1);
            prop_assert!(behind.all(|line| line.starts_with("repaired ")), "{}", whole.events);

            let read = native_encoder::read(&whole.bytes);
            let terminal = |name: &str| name == "complete" || name == "error";
            prop_assert_eq!(read[0].0.as_str(), "start");
            prop_assert_eq!(read.iter().filter(|(name, _)| terminal(name)).count(), 1);
            prop_assert!(terminal(&read[read.len() - 1].0));
        }
    }
}

/// The vectors of `sse-format.json` in the folder that `SLUICEGATE_RECORDINGS` names.
#[test]
#[expect(clippy::print_stdout, reason = "what was left out must be told")]
fn published_vectors_read_as_they_say() {
    let Ok(folder) = std::env::var("SLUICEGATE_RECORDINGS") else {
        println!("skipped: SLUICEGATE_RECORDINGS names no folder of recordings");
        return;
    };
    let text = fs::read_to_string(Path::new(&folder).join("sse-format.json")).unwrap();
    let vectors: Vec<Value> = serde_json::from_str(&text).unwrap();
    let decoded = |value: &Value| BASE64_STANDARD.decode(value.as_str().unwrap()).unwrap();
    let mut checked = 0;
    for vector in &vectors {
        let name = vector["name"].as_str().unwrap();
        let body = decoded(&vector["bytes_base64"]);
        if let Some(why) = deviation(&body) {
            println!("left out: {name}: {why}");
            continue;
        }
        let string = |value: &Value| value.as_str().unwrap().to_owned();
        let expected: Vec<(String, String)> = vector["expected"]
            .as_array()
            .unwrap()
            .iter()
            .map(|event| match string(&event["event"]).as_str() {
                "message" => (String::new(), string(&event["data"])),
                name => (name.to_owned(), string(&event["data"])),
            })
            .collect();
        let chunks: Vec<Vec<u8>> = match vector["chunks_base64"].as_array() {
            Some(chunks) => chunks.iter().map(decoded).collect(),
            None => vec![body.clone()],
        };
        let chunks: Vec<&[u8]> = chunks.iter().map(Vec::as_slice).collect();
        for chunks in [vec![&body[..]], chunks, body.chunks(1).collect()] {
            let framed = framed(Framing::Sse, ROOM, &chunks);
            assert_eq!(framed.frames, expected, "{name}");
        }
        checked += 1;
    }
    assert!(checked > 0, "no vector in {folder}/sse-format.json");
}

/// Why the framer reads this body otherwise than the standard does, if it does so on purpose.
fn deviation(body: &[u8]) -> Option<&'static str> {
    let text = String::from_utf8_lossy(body);
    match text
        .trim_start_matches('\u{feff}')
        .trim_start()
        .chars()
        .next()
    {
        Some('{' | '[') => return Some("a JSON document, not a stream"),
        Some('<') => return Some("a page, not a stream"),
        _ => {}
    }
    let fields = naive_sse::lines(&text);
    if fields.iter().any(|line| line.starts_with("error: {")) {
        return Some("an error as a field of its own");
    }
    let documents = fields.iter().any(|line| line.starts_with(['{', '[']));
    documents.then_some("a JSON document between the events")
}

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
/// it has again for each piece or each line would take sixty-four times as long.
#[test]
fn time_is_linear_in_the_length_of_a_frame() {
    let line = |length: usize| format!("data: {}\n\n", "x".repeat(length)).into_bytes();
    let lines = |length: usize| format!("{}\n", "data: x\n".repeat(length / 8)).into_bytes();
    let json = |length: usize| format!("\"{}\"\n", "x".repeat(length)).into_bytes();
    let page = |length: usize| format!("[\"{}\"]", "x".repeat(length)).into_bytes();
    linear("a line", Framing::Sse, 512 << 10, line);
    linear("an event of many lines", Framing::Sse, 32 << 10, lines);
    linear("a line of JSON", Framing::Ndjson, 512 << 10, json);
    linear("a document", Framing::Sse, 512 << 10, page);
}

fn linear(what: &str, framing: Framing, length: usize, body: impl Fn(usize) -> Vec<u8>) {
    const TIMES: u32 = 8;
    let short = fastest(framing, &body(length));
    let long = fastest(framing, &body(length * TIMES as usize));
    assert!(
        long < short * TIMES * 3,
        "{what}: {short:?}, {TIMES} times as long: {long:?}"
    );
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
        assert!(read >= body.len() / 8, "{read} of {}", body.len());
        time
    };
    (0..5).map(|_| run()).min().unwrap()
}

/// How long this thread has run, without the waits for its turn.
fn processor_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

/// How many of the lines are no UTF-8.
fn broken_lines(body: &[u8]) -> u64 {
    let lines = body.split(|byte| matches!(byte, b'\n' | b'\r'));
    lines
        .filter(|line| std::str::from_utf8(line).is_err())
        .count() as u64
}

fn cut<'a>(body: &'a [u8], cuts: &[Index]) -> Vec<&'a [u8]> {
    let mut places: Vec<usize> = cuts.iter().map(|cut| cut.index(body.len() + 1)).collect();
    places.sort_unstable();
    let mut chunks = Vec::new();
    let mut from = 0;
    for to in places.into_iter().chain([body.len()]) {
        chunks.push(&body[from..to]);
        from = to;
    }
    chunks
}

fn is_terminal(line: &str) -> bool {
    line.starts_with("finish ") || line.starts_with("error ")
}

/// A stream of lines of every kind but those that the framer reads in its own way: see
/// [`deviation`].
fn stream() -> impl Strategy<Value = Vec<u8>> {
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
fn bytes() -> impl Strategy<Value = Vec<u8>> {
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
    ]);
    let piece = prop_oneof![
        1 => byte.prop_map(|byte| vec![byte]),
        1 => word.prop_map(<[u8]>::to_vec),
    ];
    prop::collection::vec(piece, 0..48).prop_map(|pieces| pieces.concat())
}

/// A fixture's answer with some of it lost, repeated, moved or overwritten; or any bytes.
fn mangled_answer() -> impl Strategy<Value = Vec<u8>> {
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
