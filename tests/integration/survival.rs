//! The tables in `docs/dialects/README.md` of what is kept on the way from an upstream's protocol to a
//! client's: one is made from the goldens of every fixture, one from the encoders.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::time::Duration;

use sluicegate::dialect::{self, AnswerInfo, Dialect};
use sluicegate::model::{
    Citation, Event, FinishReason, NativeFields, ReasoningSigner, Request, StreamId, ToolCallDelta,
    Usage,
};
use sluicegate::route::AnsweringTarget;
use sluicegate::stream::AnswerEncoder;
use sluicegate::wire;

/// Each fact, the start of its line in a golden, and what that line must contain.
const FACTS: [(&str, &str, &str); 15] = [
    ("text", "text ", ""),
    ("text of a refusal, marked as such", "refusal ", ""),
    ("reasoning", "reasoning ", ""),
    ("its signature", "signature ", ""),
    ("encrypted reasoning", "sealed_reasoning ", ""),
    ("tool calls", "tool_call ", ""),
    ("their ids", "tool_call ", " id="),
    ("sources: URL", "citation ", " url="),
    ("sources: cited text", "citation ", " text="),
    ("sources: position in the answer", "citation ", " start="),
    ("probabilities of tokens", "logprobs ", ""),
    ("several answers", "alternative ", ""),
    ("cached input tokens", "usage ", " cached_input="),
    (
        "input tokens written to the cache",
        "usage ",
        " cache_write=",
    ),
    ("reasoning tokens", "usage ", " reasoning="),
];

const YES: &str = "✓";

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

#[test]
fn the_tables_are_true() {
    let document = fs::read_to_string(root().join("docs/dialects/README.md")).unwrap();
    for table in [of_the_wires(), of_the_dialects()] {
        assert!(
            document.contains(&table),
            "docs/dialects/README.md lacks:\n{table}"
        );
    }
}

fn of_the_wires() -> String {
    let columns: Vec<(&str, String)> = wire::ALL
        .iter()
        .map(|wire| (wire.name(), goldens(wire.name())))
        .collect();
    table(&columns, |events, row| {
        let (_, begins, has) = FACTS[row];
        let mut lines = events.lines();
        lines.any(|line| line.starts_with(begins) && line.contains(has))
    })
}

fn of_the_dialects() -> String {
    let columns: Vec<(&str, &dyn Dialect)> = dialect::ALL
        .iter()
        .map(|(path, dialect)| (*path, *dialect))
        .collect();
    table(&columns, |dialect, row| carries(*dialect, row))
}

fn table<T>(columns: &[(&str, T)], cell: impl Fn(&T, usize) -> bool) -> String {
    let mut table = String::from("| |");
    for (name, _) in columns {
        let _ = write!(table, " `{name}` |");
    }
    table.push_str("\n|---|");
    table.push_str(&"---|".repeat(columns.len()));
    for (row, (name, _, _)) in FACTS.iter().enumerate() {
        let _ = write!(table, "\n| {name} |");
        for (_, column) in columns {
            table.push_str(if cell(column, row) { " ✓ |" } else { " |" });
        }
    }
    assert!(table.contains(YES));
    table.push('\n');
    table
}

/// All events of a wire's fixtures.
fn goldens(wire: &str) -> String {
    let mut events = String::new();
    for case in fs::read_dir(root().join("proto-fixtures").join(wire)).unwrap() {
        let golden = case.unwrap().path().join("events.golden");
        events.push_str(&fs::read_to_string(golden).unwrap());
    }
    events
}

/// A word and a number that appear nowhere by chance.
const WORDS: &str = "zanzibar";
const NUMBER: u64 = 76_543;

/// Whether a stream of that dialect carries the fact to a client that asked for it.
fn carries(dialect: &dyn Dialect, row: usize) -> bool {
    let cited = Citation {
        url: Some("https://example.org"),
        ..Citation::default()
    };
    let call = ToolCallDelta {
        index: 0,
        id: Some("a"),
        name: Some(WORDS),
        arguments: "{}",
    };
    let probabilities = format!(r#"{{"content":[{{"token":"{WORDS}"}}]}}"#);
    let counted = Usage {
        input: Some(NUMBER * 2),
        output: Some(NUMBER * 2),
        ..Usage::default()
    };
    let text = Event::Text(WORDS);
    let refusal = [Event::Refusal(WORDS)];
    let events: &[Event<'_>] = match FACTS[row].0 {
        "text" => &[text],
        "text of a refusal, marked as such" => &refusal,
        "reasoning" => &[Event::Reasoning(WORDS)],
        "its signature" => &[Event::Reasoning("hm"), Event::Signature(WORDS)],
        "encrypted reasoning" => &[Event::EncryptedReasoning(WORDS)],
        "tool calls" => &[Event::ToolCall(call)],
        "their ids" => &[Event::ToolCall(ToolCallDelta {
            id: Some(WORDS),
            name: Some("f"),
            ..call
        })],
        "sources: URL" => &[Event::Citation(Citation {
            url: Some(WORDS),
            ..cited
        })],
        "sources: cited text" => &[Event::Citation(Citation {
            text: Some(WORDS),
            ..cited
        })],
        "sources: position in the answer" => &[Event::Citation(Citation {
            start: Some(NUMBER),
            end: Some(NUMBER + 1),
            ..cited
        })],
        "probabilities of tokens" => &[Event::Logprobs(&probabilities), Event::Text("x")],
        "several answers" => &[Event::Alternative {
            index: 1,
            event: &text,
        }],
        "cached input tokens" => &[Event::Usage(Usage {
            cached_input: Some(NUMBER),
            ..counted
        })],
        "input tokens written to the cache" => &[Event::Usage(Usage {
            cache_write: Some(NUMBER),
            ..counted
        })],
        "reasoning tokens" => &[Event::Usage(Usage {
            reasoning: Some(NUMBER),
            ..counted
        })],
        other => panic!("nothing says `{other}`"),
    };
    let columns = answered(dialect, events);
    match FACTS[row].0 {
        // It must differ from a text of the same words.
        "text of a refusal, marked as such" => columns != answered(dialect, &[text]),
        // It must be a count of its own; Anthropic also subtracts it from the input tokens.
        name if name.contains("input tokens") || name == "reasoning tokens" => {
            columns.contains(&format!(":{NUMBER}"))
                && columns.matches(&format!(":{NUMBER}")).count()
                    > answered(dialect, &[Event::Usage(counted)])
                        .matches(&format!(":{NUMBER}"))
                        .count()
        }
        name if name.ends_with("answer") => columns.contains(&NUMBER.to_string()),
        _ => columns.contains(WORDS),
    }
}

/// What a client that asked for everything reads.
fn answered(dialect: &dyn Dialect, events: &[Event<'_>]) -> String {
    let asked = [("logprobs".to_owned(), true.into())];
    let request = Request {
        model: "m".to_owned(),
        stream: true,
        usage_wanted: true,
        answers: Some(2),
        native_fields: Some(NativeFields {
            fields: asked.into_iter().collect(),
            ..NativeFields::default()
        }),
        ..Request::default()
    };
    let stream = StreamId::fixed(0);
    let info = AnswerInfo {
        stream,
        model: "m".to_owned(),
        created: 0,
    };
    let mut encoder = AnswerEncoder::new(stream, dialect.encoder(&request, info));
    encoder.start(&AnsweringTarget {
        upstream: "upstream",
        model: "model",
        signer: &ReasoningSigner::new("wire", "vendor"),
        verbatim: false,
        changes: &[],
    });
    for event in events {
        encoder.event(event);
    }
    encoder.complete(FinishReason::Stop, Duration::ZERO, Duration::ZERO);
    String::from_utf8(encoder.take_ready().unwrap().to_vec()).unwrap()
}
