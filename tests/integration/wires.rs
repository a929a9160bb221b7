//! What holds for every wire's messages alike.

use serde_json::{Value, json};
use sluicegate::dialect;
use sluicegate::model::{ErrorCode, Event, Request};
use sluicegate::pipeline::{self, PipelineOutput};
use sluicegate::upstream::ingest::Ingest;
use sluicegate::wire;

use crate::event_stream::build;

/// What a wire puts around a piece of text.
type Around = fn(Value) -> Value;

/// A piece of text on every wire: the event's name, and the message around the text.
fn pieces_of_text() -> Vec<(&'static str, &'static str, Around)> {
    vec![
        ("anthropic-messages", "content_block_delta", |text| {
            let delta = json!({"type": "text_delta", "text": text});
            json!({"type": "content_block_delta", "index": 0, "delta": delta})
        }),
        (
            "bedrock-converse",
            "contentBlockDelta",
            |text| json!({"contentBlockIndex": 0, "delta": {"text": text}}),
        ),
        ("cohere-chat", "content-delta", |text| {
            let delta = json!({"message": {"content": {"text": text}}});
            json!({"type": "content-delta", "index": 0, "delta": delta})
        }),
        (
            "gemini",
            "",
            |text| json!({"candidates": [{"content": {"parts": [{"text": text}]}}]}),
        ),
        (
            "ollama-chat",
            "",
            |text| json!({"message": {"role": "assistant", "content": text}, "done": false}),
        ),
        (
            "openai-chat",
            "",
            |text| json!({"choices": [{"index": 0, "delta": {"content": text}}]}),
        ),
        ("openai-responses", "response.output_text.delta", |text| {
            let kind = "response.output_text.delta";
            json!({"type": kind, "output_index": 0, "content_index": 0, "delta": text})
        }),
    ]
}

fn framed(wire: &str, name: &str, message: &str) -> Vec<u8> {
    match wire {
        "bedrock-converse" => build::named("event", name, message.as_bytes()),
        "ollama-chat" => format!("{message}\n").into_bytes(),
        _ if name.is_empty() => format!("data: {message}\n\n").into_bytes(),
        _ => format!("event: {name}\ndata: {message}\n\n").into_bytes(),
    }
}

fn read(wire: &str, name: &str, message: &str) -> PipelineOutput {
    let body = framed(wire, name, message);
    let wire = wire::by_name(wire).unwrap();
    pipeline::run(wire, dialect::NATIVE, &Request::default(), [&body[..]])
}

#[test]
fn every_wire_has_its_piece_of_text() {
    let mut with_text: Vec<&str> = pieces_of_text().iter().map(|(wire, ..)| *wire).collect();
    with_text.sort_unstable();
    let mut all: Vec<&str> = wire::ALL.iter().map(|wire| wire.name()).collect();
    all.sort_unstable();
    assert_eq!(with_text, all);
    for (wire, name, around) in pieces_of_text() {
        let events = read(wire, name, &around("x".into()).to_string()).events;
        assert!(events.starts_with("text \"x\"\nerror "), "{wire}: {events}");
    }
}

/// Serde's derive would read a list's items as a struct's fields.
#[test]
fn a_list_in_the_place_of_an_object_is_not_read_as_one() {
    for (wire, name, around) in pieces_of_text() {
        let message = around("x".into());
        for path in objects(&message, "") {
            // Google's own form of a stream is a list of its messages.
            if wire == "gemini" && path.is_empty() {
                continue;
            }
            let object = message.pointer(&path).and_then(Value::as_object).unwrap();
            let values: Vec<Value> = object.values().cloned().collect();
            for list in [json!([]), Value::Array(values)] {
                let mut message = message.clone();
                *message.pointer_mut(&path).unwrap() = list;
                let message = message.to_string();
                let events = read(wire, name, &message).events;
                assert!(
                    !events.contains("text ") && events.contains("error "),
                    "{wire}: {message}: {events}"
                );
            }
        }
    }
    let events = read("gemini", "", "[[]]").events;
    assert!(events.starts_with("error "), "{events}");
}

/// The paths of the objects in `value`, itself included.
fn objects(value: &Value, at: &str) -> Vec<String> {
    let mut paths = Vec::new();
    match value {
        Value::Object(fields) => {
            paths.push(at.to_owned());
            for (name, value) in fields {
                paths.extend(objects(value, &format!("{at}/{name}")));
            }
        }
        Value::Array(items) => {
            for (place, value) in items.iter().enumerate() {
                paths.extend(objects(value, &format!("{at}/{place}")));
            }
        }
        _ => {}
    }
    paths
}

#[test]
fn half_a_surrogate_pair_is_repaired_and_counted() {
    for (wire, name, around) in pieces_of_text() {
        let message = around("TEXT".into()).to_string();
        for (sent, text, repaired) in [
            (r"a\ud83d", "a\u{fffd}", true),
            (r"\uDE00b", "\u{fffd}b", true),
            (r"\ud83d\ude00\ud83d", "😀\u{fffd}", true),
            (r"\ud83d\ude00", "😀", false),
        ] {
            let events = read(wire, name, &message.replace("TEXT", sent)).events;
            let expected = format!("text \"{text}\"\nerror stream_interrupted ");
            assert!(events.starts_with(&expected), "{wire}: {sent}: {events}");
            let counted = events.ends_with("repaired lines=1\n");
            assert_eq!(counted, repaired, "{wire}: {sent}: {events}");
        }
    }
}

#[test]
fn an_empty_body_is_no_answer() {
    let replay = |wire, body: &[u8]| {
        pipeline::run(wire, dialect::NATIVE, &Request::default(), [body]).events
    };
    for wire in wire::ALL {
        for body in ["", "\n", " \r\n\r\n"] {
            let events = replay(*wire, body.as_bytes());
            assert!(
                events.starts_with("error bad_upstream_data"),
                "{}: {events}",
                wire.name()
            );
        }
    }
}

/// An end mark of no answer: found by fuzzing, as a finish and then an error.
#[test]
fn a_document_that_is_an_end_mark_is_no_answer() {
    let wire = wire::by_name("openai-chat").unwrap();
    for body in ["[DONE]", " [DONE]\n\n"] {
        let mut ingest = Ingest::new(wire, 1 << 10);
        let mut events = Vec::new();
        let mut sink = |event: Event<'_>| events.push(pipeline::line(&event));
        let read = ingest
            .push(body.as_bytes(), &mut sink)
            .and_then(|()| ingest.end(&mut sink));
        let code = read.map_err(|error| error.code());
        assert_eq!(code, Err(ErrorCode::BadUpstreamData), "{body:?}");
        assert_eq!(events, [] as [&str; 0], "{body:?}");
    }
}

/// Tokens that are alike but for their text are read without being parsed; what is read is what a
/// parser finds, whatever the text and wherever the stream stops being alike.
#[test]
fn every_text_is_read_as_it_is_written_however_alike_the_messages_are() {
    let texts = [
        "a",
        "b",
        " ",
        "",
        "\"",
        "c\\",
        "\n",
        "naïve",
        "\u{7f}",
        "\u{0}",
        "你好 🚀",
        "}]}",
        "x",
        "y",
    ];
    for (wire, name, around) in pieces_of_text() {
        let mut body = Vec::new();
        for round in 0..3 {
            for (place, text) in texts.iter().enumerate() {
                let mut message = around((*text).into());
                if round == 1 {
                    // Never the same one twice.
                    message["extra"] = place.into();
                }
                if round == 2 {
                    // What nobody reads.
                    message["sequence_number"] = place.into();
                    for key in ["obfuscation", "created_at", "p"] {
                        message[key] = "x".repeat(place).into();
                    }
                }
                body.extend(framed(wire, name, &message.to_string()));
            }
        }
        let mut ingest = Ingest::new(wire::by_name(wire).unwrap(), 1 << 10);
        let mut said = Vec::new();
        let read = ingest.push(&body, &mut |event: Event<'_>| match event {
            Event::Text(text) => said.push(text.to_owned()),
            other => panic!("{wire}: {other:?}"),
        });
        assert_eq!(read.map_err(|error| error.code()), Ok(()), "{wire}");
        let all = texts.iter().filter(|text| !text.is_empty());
        let all: Vec<&str> = all.copied().collect();
        assert_eq!(said, [&all[..], &all, &all].concat(), "{wire}");
    }
}
