//! Answers for clients that speak the upstream's own protocol: every frame reaches the client as the
//! upstream wrote it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use serde_json::Value;
use sluicegate::dialect::{self, Dialect};
use sluicegate::model::{NativeFields, Request};
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

#[test]
fn every_whole_answer_of_a_recording_reaches_the_client_as_it_is() {
    let Ok(folder) = std::env::var("SLUICEGATE_SHARED") else {
        return;
    };
    let folder = &Path::new(&folder).join("recordings");
    let mut checked = BTreeMap::new();
    for (path, wire) in recordings::streams(folder) {
        let Some(dialect) = dialect_of(wire) else {
            continue;
        };
        let bytes = fs::read(folder.join(&path)).expect("a recording that is listed");
        if !bytes.trim_ascii_start().starts_with(b"{") {
            continue;
        }
        let found = wire::by_name(wire).expect("a wire of that name");
        let request = request(wire, false);
        let outcome = pipeline::run(found, dialect, &request, [&*bytes]).events;
        if outcome.lines().any(|line| line.starts_with("error ")) {
            continue;
        }
        let written = pipeline::verbatim_bytes(found, dialect, &request, [&*bytes]);
        assert_eq!(written.trim_ascii(), bytes.trim_ascii(), "{path}");
        *checked.entry(wire).or_insert(0) += 1;
    }
    assert_eq!(checked.len(), PROTOCOLS.len(), "{checked:?}");
}

/// Look-alikes of Chat Completions are encoded anew. Members that the gateway does not know are kept.
#[test]
fn a_repaired_recording_keeps_every_member_that_is_not_known() {
    let Ok(folder) = std::env::var("SLUICEGATE_SHARED") else {
        return;
    };
    let folder = &Path::new(&folder).join("recordings");
    let wire = wire::by_name("openai-chat").expect("a wire of that name");
    let dialect = dialect_of("openai-chat").expect("a dialect of that name");
    let request = request("openai-chat", true);
    let (mut members, mut lost) = (0, Vec::new());
    for (path, name) in recordings::streams(folder) {
        let bytes = fs::read(folder.join(&path)).expect("a recording that is listed");
        if name != "openai-chat" || bytes.trim_ascii_start().starts_with(b"{") {
            continue;
        }
        let events = pipeline::run(wire, dialect, &request, [&*bytes]).events;
        if events.lines().any(|line| line.starts_with("error ")) {
            continue;
        }
        let sent = other_members(&naive_sse::events(&[&bytes, &b"\n\n"[..]].concat()));
        let got = pipeline::bytes(wire, dialect, &request, [&*bytes]);
        let got = other_members(&naive_sse::events(&got));
        members += sent.len();
        lost.extend(
            sent.difference(&got)
                .map(|member| format!("{path}: {member}")),
        );
    }
    assert!(
        lost.is_empty(),
        "{} of {members}:\n{}",
        lost.len(),
        lost.join("\n")
    );
    assert!(members > 100, "{members}");
}

/// Members of chunks, choices, deltas and usages that the gateway does not write itself.
fn other_members(events: &[NaiveEvent]) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut add = |place: &str, object: &Value, known: &[&str]| {
        for (name, value) in object.as_object().into_iter().flatten() {
            if !known.contains(&&**name) {
                found.insert(format!("{place} {name} {value}"));
            }
        }
    };
    for event in events {
        let chunk: Value = serde_json::from_str(&event.data).unwrap_or_default();
        let known = [
            "choices",
            "created",
            "id",
            "model",
            "object",
            "system_fingerprint",
            "usage",
        ];
        add("chunk", &chunk, &[&known[..], &["obfuscation"]].concat());
        for choice in chunk["choices"].as_array().into_iter().flatten() {
            let known = [
                "delta",
                "finish_reason",
                "index",
                "logprobs",
                "message",
                "usage",
            ];
            add("choice", choice, &known);
            let known = [
                "annotations",
                "content",
                "extra_content",
                "function_call",
                "images",
                "provider_specific_fields",
                "reasoning",
                "reasoning_content",
                "reasoning_details",
                "reasoning_opaque",
                "refusal",
                "role",
                "tool_calls",
            ];
            add("delta", &choice["delta"], &known);
        }
    }
    found
}

fn request(wire: &str, stream: bool) -> Request {
    let found = PROTOCOLS.iter().find(|(name, _)| *name == wire);
    let native = found.map(|(wire, _)| NativeFields {
        wire,
        ..NativeFields::default()
    });
    Request {
        model: "m".to_owned(),
        stream,
        native_fields: native,
        usage_wanted: true,
        ..Request::default()
    }
}

/// Compares the frames of an answer with those that the client gets, and returns how many there were.
/// An answer that breaks off has an error in place of its rest.
fn compare(wire: &str, dialect: &dyn Dialect, body: &[u8], cut: &[&[u8]]) -> Result<usize, String> {
    let found = wire::by_name(wire).expect("a wire of that name");
    let request = request(wire, true);
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
