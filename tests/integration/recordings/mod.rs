//! Every wire against what real upstreams have sent.
//!
//! `SLUICEGATE_SHARED` names a folder that has in `recordings` a `MANIFEST.tsv` (columns `path`,
//! `protocol`, `status`, …) and a `HEADERS.jsonl` (`path`, `request_path`). Each answer is read
//! twice: by the pipeline, cut in several ways, and by a naive reader here that shares no code with
//! it.

mod google;
mod naive;
mod responses;

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::path::Path;

use serde_json::Value;
use sluicegate::model::{ErrorCode, Event, FinishReason};
use sluicegate::upstream::ingest::Ingest;
use sluicegate::wire;

use crate::chunks::pieces;

const FRAME_CAP: usize = 16 << 20;

/// What an answer says in the end.
#[derive(Debug, Default, Clone, PartialEq)]
struct Heard {
    text: String,
    reasoning: String,
    /// Name and arguments.
    calls: Vec<(String, String)>,
    input_tokens: Option<u64>,
    output_tokens: Option<u64>,
    /// The reason why it ended; nothing where it failed.
    finish: Option<&'static str>,
    failed: bool,
}

#[test]
#[expect(clippy::print_stdout, reason = "the table is what this is run for")]
fn recordings_read_as_a_naive_reader_reads_them() {
    let Ok(folder) = std::env::var("SLUICEGATE_SHARED") else {
        println!("skipped: SLUICEGATE_SHARED names no folder with recordings");
        return;
    };
    let folder = &Path::new(&folder).join("recordings");
    let mut rows: BTreeMap<String, (usize, Vec<String>)> = BTreeMap::new();
    for recording in manifest(folder) {
        let Some(wire) = recording.wire(folder) else {
            continue;
        };
        let bytes = fs::read(folder.join(&recording.path)).expect("a recording that is listed");
        let row = rows
            .entry(format!("{} over {wire}", recording.protocol))
            .or_default();
        match check(wire, &bytes) {
            Ok(()) => row.0 += 1,
            Err(why) => row.1.push(format!("{}: {why}", recording.path)),
        }
    }
    let mut differ = 0;
    println!("{:<50} {:>6} {:>6}", "protocol", "agree", "differ");
    for (name, (agree, different)) in &rows {
        println!("{name:<50} {agree:>6} {:>6}", different.len());
        for why in different {
            println!("    {why}");
        }
        differ += different.len();
    }
    assert!(!rows.is_empty(), "no recordings in {}", folder.display());
    assert_eq!(differ, 0, "recordings that read differently");
}

/// The answers with status 200, and their wires.
pub fn streams(folder: &Path) -> Vec<(String, &'static str)> {
    let recordings = manifest(folder).into_iter();
    let known = recordings.filter_map(|recording| {
        let wire = recording.wire(folder)?;
        Some((recording.path, wire))
    });
    known.collect()
}

struct Recording {
    path: String,
    protocol: String,
    request_path: String,
}

impl Recording {
    /// The wire that the recording speaks, if it is one of those that are checked here.
    fn wire(&self, folder: &Path) -> Option<&'static str> {
        let asked = self.request_path.as_str();
        let kind = Path::new(&self.path).extension()?.to_str()?;
        match self.protocol.as_str() {
            "gemini" => Some("gemini"),
            protocol if self.is_response(folder, protocol) => Some("openai-responses"),
            "anthropic-messages" => Some("anthropic-messages"),
            "bedrock-converse-stream" => Some("bedrock-converse"),
            "cohere-v2" => Some("cohere-chat"),
            "ollama" if asked.ends_with("/api/chat") => Some("ollama-chat"),
            "ollama" | "azure" | "deepseek" | "groq" | "huggingface" | "llamacpp" | "mistral"
            | "openai-chat" | "openrouter" | "vllm" | "tgi" => self.chat(folder, kind),
            protocol if protocol.starts_with("openai-compat:") => self.chat(folder, kind),
            _ => None,
        }
    }

    /// Vendors offer OpenAI's Responses API beside its Chat; where the path is not known, the first
    /// words tell.
    fn is_response(&self, folder: &Path, protocol: &str) -> bool {
        match self.request_path.as_str() {
            "" | "?" => {
                let body = fs::read_to_string(folder.join(&self.path)).unwrap_or_default();
                let opening: String = body
                    .chars()
                    .filter(|c| !c.is_whitespace())
                    .take(4096)
                    .collect();
                protocol == "openai-responses"
                    || opening.starts_with("event:response.created")
                    || opening.contains(r#""object":"response""#)
            }
            asked => asked.ends_with("/responses"),
        }
    }

    /// These vendors speak several protocols of OpenAI's; where the path is not known, the first
    /// words tell.
    fn chat(&self, folder: &Path, kind: &str) -> Option<&'static str> {
        let speaks = match self.request_path.as_str() {
            "" | "?" => {
                let body = fs::read_to_string(folder.join(&self.path)).ok()?;
                body.contains("chat.completion") || body.starts_with(r#"data: {"error""#)
            }
            asked => {
                asked.ends_with("/chat/completions")
                    || asked.ends_with("/v1/chat")
                    || asked.ends_with("/openai")
            }
        };
        (speaks && matches!(kind, "sse" | "json")).then_some("openai-chat")
    }
}

/// The answers with status 200.
fn manifest(folder: &Path) -> Vec<Recording> {
    let mut paths: HashMap<String, String> = HashMap::new();
    let headers = fs::read_to_string(folder.join("HEADERS.jsonl")).expect("HEADERS.jsonl");
    for line in headers.lines() {
        let line: Value = serde_json::from_str(line).expect("a line of HEADERS.jsonl");
        let field = |name: &str| line[name].as_str().unwrap_or_default().to_owned();
        paths.insert(field("path"), field("request_path"));
    }
    let manifest = fs::read_to_string(folder.join("MANIFEST.tsv")).expect("MANIFEST.tsv");
    let mut lines = manifest.lines();
    let columns: Vec<&str> = lines.next().unwrap_or_default().split('\t').collect();
    let mut recordings = Vec::new();
    for line in lines {
        let row: HashMap<&str, &str> = columns.iter().copied().zip(line.split('\t')).collect();
        if row["status"] == "200" {
            recordings.push(Recording {
                path: row["path"].to_owned(),
                protocol: row["protocol"].to_owned(),
                request_path: paths.get(row["path"]).cloned().unwrap_or_default(),
            });
        }
    }
    recordings
}

fn check(wire: &str, bytes: &[u8]) -> Result<(), String> {
    let (mut heard, events) = through_the_pipeline(wire, &[bytes])?;
    let single: Vec<&[u8]> = bytes.chunks(1).collect();
    let mut cuts = vec![("byte by byte".to_owned(), single)];
    for seed in 1..=4 {
        cuts.push((format!("in pieces of seed {seed}"), pieces(bytes, seed)));
    }
    for (how, cut) in cuts {
        let (_, other) = through_the_pipeline(wire, &cut)?;
        if other != events {
            return Err(format!("{how} it gives other events"));
        }
    }
    let (part, _) = through_the_pipeline(wire, &[&bytes[..bytes.len() / 2]])?;
    if !heard.text.starts_with(&part.text) || !heard.reasoning.starts_with(&part.reasoning) {
        return Err("its first half says what the whole does not".to_owned());
    }
    let naive = naive::naive(wire, bytes);
    // A naive reader cannot keep the white space of arguments that are no string.
    for call in &mut heard.calls {
        if (wire == "gemini"
            || matches!(wire, "anthropic-messages" | "bedrock-converse") && bytes.starts_with(b"{"))
            && let Ok(arguments) = serde_json::from_str::<Value>(&call.1)
        {
            call.1 = arguments.to_string();
        }
    }
    difference(&heard, &naive).map_or(Ok(()), Err)
}

fn difference(heard: &Heard, naive: &Heard) -> Option<String> {
    if heard == naive {
        return None;
    }
    let pairs = [
        ("text", heard.text == naive.text),
        ("reasoning", heard.reasoning == naive.reasoning),
        ("calls", heard.calls == naive.calls),
        ("input", heard.input_tokens == naive.input_tokens),
        ("output", heard.output_tokens == naive.output_tokens),
        ("finish", heard.finish == naive.finish),
        ("failed", heard.failed == naive.failed),
    ];
    let which: Vec<&str> = pairs
        .iter()
        .filter(|pair| !pair.1)
        .map(|pair| pair.0)
        .collect();
    let short = |heard: &Heard| format!("{heard:?}").chars().take(600).collect::<String>();
    Some(format!(
        "{}\n      pipeline {}\n      naive    {}",
        which.join(", "),
        short(heard),
        short(naive)
    ))
}

fn through_the_pipeline(name: &str, pieces: &[&[u8]]) -> Result<(Heard, Vec<String>), String> {
    let wire = wire::by_name(name).expect("a wire of that name");
    let mut ingest = Ingest::new(wire, FRAME_CAP);
    let mut heard = Heard::default();
    let mut events: Vec<String> = Vec::new();
    let mut finishes = 0;
    let mut late = 0;
    let mut unnamed = 0;
    let mut sink = |event: Event<'_>| {
        events.push(format!("{event:?}"));
        late += finishes;
        match event {
            Event::Text(piece) | Event::Refusal(piece) => heard.text.push_str(piece),
            Event::Reasoning(piece) => heard.reasoning.push_str(piece),
            Event::ToolCall(call) => {
                let at = call.index as usize;
                if at == heard.calls.len() {
                    unnamed += usize::from(call.name.is_none());
                    let name = call.name.unwrap_or_default().to_owned();
                    heard.calls.push((name, String::new()));
                }
                heard.calls[at].1.push_str(call.arguments);
            }
            Event::Usage(usage) => {
                heard.input_tokens = usage.input.or(heard.input_tokens);
                heard.output_tokens = usage.output.or(heard.output_tokens);
            }
            Event::Finish(FinishReason::Cancelled) => unnamed += 1,
            Event::Finish(reason) => {
                heard.finish = Some(reason.as_str());
                finishes += 1;
            }
            Event::Identity { .. }
            | Event::Citation(_)
            | Event::Signature(_)
            | Event::Alternative { .. }
            | Event::Logprobs(_)
            | Event::NativeMembers { .. }
            | Event::Image(_)
            | Event::EncryptedReasoning(_) => {}
        }
    };
    let mut outcome = Ok(());
    for piece in pieces {
        outcome = ingest.push(piece, &mut sink);
        if outcome.is_err() {
            break;
        }
    }
    if outcome.is_ok() {
        outcome = ingest.end(&mut sink);
    }
    heard.failed = outcome.is_err();
    if finishes + i32::from(heard.failed) != 1 || late > 0 {
        return Err(format!(
            "{finishes} finishes, {late} events late, {outcome:?}"
        ));
    }
    if unnamed > 0 {
        return Err("a call without a name, or a finish that no upstream says".to_owned());
    }
    if let Err(error) = outcome {
        let known = [
            ErrorCode::UpstreamError,
            ErrorCode::StreamInterrupted,
            ErrorCode::BadUpstreamData,
        ];
        if !known.contains(&error.code()) {
            return Err(error.to_string());
        }
        events.push(error.to_string());
    }
    Ok((heard, events))
}
