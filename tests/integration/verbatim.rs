//! Answers for clients that speak the upstream's own protocol: every frame reaches the client as the
//! upstream wrote it.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use serde_json::Value;
use sluicegate::dialect::{self, Dialect};
use sluicegate::model::Request;
use sluicegate::pipeline;
use sluicegate::wire;

use crate::chunks::pieces;
use crate::goldens;
use crate::naive_sse::{self, NaiveEvent};
use crate::recordings;

/// The protocols that clients and upstreams speak.
const PROTOCOLS: [(&str, &str); 3] = [
    ("openai-chat", "/v1/chat/completions"),
    ("anthropic-messages", "/v1/messages"),
    ("openai-responses", "/v1/responses"),
];

#[test]
fn every_frame_of_a_fixture_reaches_the_client() {
    let library = goldens::library();
    let mut checked = 0;
    for (wire, case) in goldens::cases(&library) {
        let Some(dialect) = dialect_of(wire.name()) else {
            continue;
        };
        for seed in 0..4 {
            let cut = match seed {
                0 => vec![&case.body[..]],
                seed => pieces(&case.body, seed),
            };
            if let Err(why) = compare(wire.name(), dialect, &case.body, &cut) {
                panic!("{} {} (cut {seed}): {why}", case.wire, case.name);
            }
        }
        checked += 1;
    }
    assert!(checked > 100, "{checked} fixtures");
}

#[test]
#[expect(clippy::print_stdout, reason = "the table is what this is run for")]
fn every_frame_of_a_recording_reaches_the_client() {
    let Ok(folder) = std::env::var("SLUICEGATE_SHARED") else {
        println!("skipped: SLUICEGATE_SHARED names no folder with recordings");
        return;
    };
    let folder = &Path::new(&folder).join("recordings");
    let mut rows: BTreeMap<&str, (usize, usize)> = BTreeMap::new();
    let mut problems = Vec::new();
    for (path, wire) in recordings::streams(folder) {
        let Some(dialect) = dialect_of(wire) else {
            continue;
        };
        let bytes = fs::read(folder.join(&path)).expect("a recording that is listed");
        match compare(wire, dialect, &bytes, &[&bytes]) {
            Ok(frames) => {
                let row = rows.entry(wire).or_default();
                row.0 += 1;
                row.1 += frames;
            }
            Err(why) => problems.push(format!("{path}: {why}")),
        }
    }
    for (wire, (streams, frames)) in &rows {
        println!("{wire:<20} {streams:>4} streams {frames:>6} frames");
    }
    assert!(problems.is_empty(), "{}", problems.join("\n"));
}

fn dialect_of(wire: &str) -> Option<&'static dyn Dialect> {
    let (_, path) = PROTOCOLS.iter().find(|(name, _)| *name == wire)?;
    Some(dialect::at(path))
}

fn request(stream: bool) -> Request {
    Request {
        model: "m".to_owned(),
        stream,
        usage_wanted: true,
        ..Request::default()
    }
}

/// Compares the frames of an answer with those that the client gets, and returns how many there were.
/// An answer that breaks off has an error in place of its rest.
fn compare(wire: &str, dialect: &dyn Dialect, body: &[u8], cut: &[&[u8]]) -> Result<usize, String> {
    let found = wire::by_name(wire).expect("a wire of that name");
    let request = request(true);
    let written = pipeline::verbatim_bytes(found, dialect, &request, cut.iter().copied());
    if body.trim_ascii_start().starts_with(b"{") {
        // A document in place of a stream is written as events.
        let events = pipeline::bytes(found, dialect, &request, [body]);
        return if written == events {
            Ok(0)
        } else {
            Err("a document is not written as events".to_owned())
        };
    }
    let outcome = pipeline::run(found, dialect, &request, [body]).events;
    let failed = outcome.lines().any(|line| line.starts_with("error "));
    let mut sent = naive_sse::events(&[body, b"\n\n"].concat());
    sent.retain(|event| is_message(wire, &event.data));
    let got = naive_sse::events(&written);
    let same = sent
        .iter()
        .zip(&got)
        .take_while(|(sent, got)| sent.name == got.name && sent.data == got.data);
    let same = same.count();
    if failed {
        let rest = &got[same..];
        // Before the first content another target is tried, so nothing of this one is passed on.
        let errors = got.last().is_some_and(is_error) && (same == 0 || rest.iter().all(is_error));
        return if errors {
            Ok(same)
        } else {
            Err(format!("after {same} frames: {rest:?}"))
        };
    }
    if same != got.len() {
        return Err(format!(
            "frame {same} is {:?}, not {:?}",
            got[same],
            sent.get(same)
        ));
    }
    let lost = &sent[same..];
    // What comes after the end of the answer is not read.
    let is_complete = got.last().is_some_and(|last| ends_the_answer(wire, last));
    if lost.is_empty() || is_complete {
        Ok(same)
    } else {
        Err(format!("{} frames are lost: {lost:?}", lost.len()))
    }
}

/// Whether data is a message of the protocol, and no filler such as `: keep-alive`.
fn is_message(wire: &str, data: &str) -> bool {
    match data {
        "[DONE]" => wire == "openai-chat",
        data => data.trim_start().starts_with(['{', '[']),
    }
}

fn ends_the_answer(wire: &str, event: &NaiveEvent) -> bool {
    let data: Value = serde_json::from_str(&event.data).unwrap_or_default();
    let kind = data["type"].as_str().unwrap_or_default();
    match wire {
        "anthropic-messages" => kind == "message_stop",
        "openai-responses" => {
            let ends = ["response.completed", "response.incomplete", "response.done"];
            ends.contains(&kind)
        }
        _ => event.data == "[DONE]" || data["choices"][0]["finish_reason"].is_string(),
    }
}

fn is_error(event: &NaiveEvent) -> bool {
    let data: Value = serde_json::from_str(&event.data).unwrap_or_default();
    event.name == "error" || event.name == "response.failed" || data["error"].is_object()
}
