//! The fixtures in an AWS event stream's bytes are made of a readable file beside them,
//! `frames.jsonl`, which `proto-fixtures/README.md` documents.
//!
//! `UPDATE_FIXTURES=1 cargo test --test integration event_stream` makes them again.

use std::fs;
use std::path::Path;

use serde_json::Value;

use super::build::{Header, message, named};

#[test]
fn fixtures_are_what_their_frames_say() {
    let update = std::env::var_os("UPDATE_FIXTURES").is_some();
    let wire = Path::new(env!("CARGO_MANIFEST_DIR")).join("proto-fixtures/bedrock-converse");
    let mut found = 0;
    for case in fs::read_dir(&wire).expect("the wire's fixtures") {
        let case = case.expect("a case").path();
        let Ok(rows) = fs::read_to_string(case.join("frames.jsonl")) else {
            assert!(!case.join("upstream.bin").exists(), "{}", case.display());
            continue;
        };
        found += 1;
        let bytes = bytes(&rows);
        let made = case.join("upstream.bin");
        if update {
            fs::write(&made, &bytes).expect("a fixture to write");
        }
        let there = fs::read(&made).expect("upstream.bin");
        assert!(there == bytes, "{} is not of its frames", made.display());
    }
    assert!(found > 0, "no fixtures in {}", wire.display());
}

fn bytes(rows: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    for row in rows.lines() {
        let row: Value = serde_json::from_str(row).expect("a row of JSON");
        let text = |field: &str| row[field].as_str();
        let payload = match text("text") {
            Some(text) => text.to_owned(),
            None => row["data"].to_string(),
        };
        let mut next = if let Some(name) = text("event") {
            named("event", name, payload.as_bytes())
        } else if let Some(name) = text("exception") {
            named("exception", name, payload.as_bytes())
        } else if let Some(code) = text("error") {
            let headers = [
                Header::Text(":error-code", code),
                Header::Text(":error-message", text("message").unwrap_or_default()),
                Header::Text(":message-type", "error"),
            ];
            message(&headers, b"")
        } else {
            Vec::new()
        };
        if row["damaged"] == true {
            let middle = next.len() / 2;
            next[middle] ^= 1;
        }
        bytes.append(&mut next);
        let cut = row["cut"].as_u64().unwrap_or(0);
        let cut = usize::try_from(cut).expect("a few bytes");
        bytes.truncate(bytes.len() - cut);
    }
    bytes
}
