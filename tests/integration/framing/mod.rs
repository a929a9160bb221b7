//! The laws of framing: what the HTML standard says of Server-Sent Events, the same for every cut,
//! in bounded memory and linear time; and, through every wire, no panic on any bytes.

mod bodies;
mod bounds;
mod differential;

use std::fs;
use std::path::Path;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use proptest::prelude::*;
use proptest::sample::Index;
use serde_json::Value;
use sluicegate::dialect;
use sluicegate::framing::{Framer, Framing, Remainder};
use sluicegate::model::{ErrorCode, Request};
use sluicegate::pipeline;
use sluicegate::wire;

use self::bodies::{bytes, mangled_answer, stream};
use crate::chunks::pieces;
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
        for framing in [Framing::Sse, Framing::Ndjson, Framing::AwsEventStream] {
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
                pipeline::run(*wire, dialect::NATIVE, &request, chunks.iter().copied())
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

/// The vectors of `recordings/sse-format.json` in the folder that `SLUICEGATE_SHARED` names.
#[test]
#[expect(clippy::print_stdout, reason = "what was left out must be told")]
fn published_vectors_read_as_they_say() {
    let Ok(folder) = std::env::var("SLUICEGATE_SHARED") else {
        println!("skipped: SLUICEGATE_SHARED names no folder with recordings");
        return;
    };
    let text = fs::read_to_string(Path::new(&folder).join("recordings/sse-format.json")).unwrap();
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
