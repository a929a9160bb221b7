//! The bytes of the native dialect decode to its events, in a decoder that shares no code with it.

use std::time::Duration;

use proptest::option;
use proptest::prelude::*;
use serde_json::{Map, Value, json};
use sluicegate::dialect::{self, AnswerInfo};
use sluicegate::model::{
    Citation, Error, ErrorCode, Event, FinishReason, ReasoningSigner, Request, StreamId,
    ToolCallDelta, Usage,
};
use sluicegate::route::AnsweringTarget;
use sluicegate::stream::AnswerEncoder;

use crate::naive_sse;

/// Reads a native stream's events: their names and data. The ids must count up by one from 0, and
/// the bytes must end where an event ends.
pub fn read(bytes: &[u8]) -> Vec<(String, Value)> {
    assert!(bytes.ends_with(b"\n\n"), "the last event is not whole");
    let mut read = Vec::new();
    for (number, event) in naive_sse::events(bytes).into_iter().enumerate() {
        assert_eq!(event.id, format!("{}.{number}", StreamId::fixed(0)));
        let data: Value = serde_json::from_str(&event.data).unwrap();
        assert!(data.is_object(), "{data}");
        read.push((event.name, data));
    }
    read
}

proptest! {
    #[test]
    fn encoded_events_decode_to_the_same_events(
        model in text(),
        target in option::of((text(), text())),
        events in prop::collection::vec(event(), 0..12),
        ending in ending(),
    ) {
        let (upstream, upstream_model) = target.clone().unzip();
        let mut expected = vec![("start".to_owned(), json!({
            "stream": StreamId::fixed(0).to_string(),
            "model": model,
            "upstream": upstream,
            "upstream_model": upstream_model,
            "created": "2026-11-22T21:00:00Z",
        }))];
        let info = AnswerInfo { stream: StreamId::fixed(0), model, created: 1_795_381_200 };
        let mut encoder = AnswerEncoder::new(StreamId::fixed(0), dialect::NATIVE.encoder(&Request::default(), info));
        if let Some((upstream, model)) = &target {
            encoder.start(&AnsweringTarget {
 upstream,
 model,
 signer: &ReasoningSigner::new("wire", "vendor"),
 verbatim: false,
 changes: &[],
});
        }
        let mut usage = None;
        for event in &events {
            encoder.event(&event.borrowed());
            expected.extend(event.expected());
            if let Owned::Usage(counts) = event {
                usage.get_or_insert_with(Usage::default).update(*counts);
            }
        }
        let usage = usage.map(|usage| json!({
            "input_tokens": usage.input,
            "output_tokens": usage.output,
            "cached_input_tokens": usage.cached_input.unwrap_or(0),
            "reasoning_tokens": usage.reasoning.unwrap_or(0),
        }));
        match &ending {
            Ending::Complete(finish, first, total) => {
                encoder.complete(*finish, *first, *total);
                expected.push(("complete".to_owned(), json!({
                    "finish_reason": finish.as_str(),
                    "usage": usage,
                    "timing": {
                        "first_token_ms": first.as_millis() as u64,
                        "total_ms": total.as_millis() as u64,
                    },
                })));
            }
            Ending::Error(error) => {
                encoder.fail(error);
                let mut data = json!({ "error": {
                    "code": error.code().as_str(),
                    "message": error.message(),
                    "retryable": error.code().retryable(),
                    "origin": error.code().origin().as_str(),
                }});
                if let Some(seconds) = error.retry_after_seconds() {
                    data["error"]["retry_after"] = seconds.into();
                }
                if let Some(usage) = usage {
                    data["usage"] = usage;
                }
                expected.push(("error".to_owned(), data));
            }
        }
        // Nothing follows the terminal event, whatever is asked for.
        encoder.start(&AnsweringTarget {
 upstream: "late",
 model: "late",
 signer: &ReasoningSigner::new("wire", "vendor"),
 verbatim: false,
 changes: &[],
});
        encoder.event(&Event::Text("late"));
        encoder.complete(FinishReason::Stop, Duration::ZERO, Duration::ZERO);
        encoder.fail(&Error::new(ErrorCode::Internal, "late"));

        let bytes = encoder.take_ready().unwrap();
        prop_assert_eq!(read(&bytes), expected);
    }
}

/// An event that owns its texts.
#[derive(Debug, Clone)]
enum Owned {
    Identity(String, String),
    Text(String),
    Refusal(String),
    Reasoning(String),
    Signature(String),
    EncryptedReasoning(String),
    ToolCall(u32, Option<String>, Option<String>, String),
    Citation([Option<String>; 3], [Option<u64>; 2]),
    Usage(Usage),
}

impl Owned {
    fn borrowed(&self) -> Event<'_> {
        match self {
            Self::Identity(id, model) => Event::Identity {
                id,
                model,
                fingerprint: "",
            },
            Self::Text(text) => Event::Text(text),
            Self::Refusal(text) => Event::Refusal(text),
            Self::Reasoning(text) => Event::Reasoning(text),
            Self::Signature(text) => Event::Signature(text),
            Self::EncryptedReasoning(text) => Event::EncryptedReasoning(text),
            Self::ToolCall(index, id, name, arguments) => Event::ToolCall(ToolCallDelta {
                index: *index,
                id: id.as_deref(),
                name: name.as_deref(),
                arguments,
            }),
            Self::Citation([url, title, text], [start, end]) => Event::Citation(Citation {
                url: url.as_deref(),
                title: title.as_deref(),
                text: text.as_deref(),
                start: *start,
                end: *end,
            }),
            Self::Usage(usage) => Event::Usage(*usage),
        }
    }

    /// What the client reads of it, if anything.
    fn expected(&self) -> Option<(String, Value)> {
        let (name, data) = match self {
            Self::Text(text) | Self::Refusal(text) => ("token", json!({ "text": text })),
            Self::Reasoning(text) => ("reasoning", json!({ "text": text })),
            Self::ToolCall(index, id, name, arguments) => (
                "tool_call",
                object(&[
                    ("index", Some(json!(index))),
                    (
                        "id",
                        name.as_ref().map(|_| match id.as_deref() {
                            None | Some("") => json!(format!("call_aaaaaaaa_{index}")),
                            Some(id) => json!(id),
                        }),
                    ),
                    ("name", name.as_ref().map(|name| json!(name))),
                    ("arguments", Some(json!(arguments))),
                ]),
            ),
            Self::Citation([url, title, text], [start, end]) => (
                "citation",
                object(&[
                    ("url", url.as_ref().map(|url| json!(url))),
                    ("title", title.as_ref().map(|title| json!(title))),
                    ("text", text.as_ref().map(|text| json!(text))),
                    ("start", start.map(|start| json!(start))),
                    ("end", end.map(|end| json!(end))),
                ]),
            ),
            Self::Identity(..)
            | Self::Signature(_)
            | Self::EncryptedReasoning(_)
            | Self::Usage(_) => {
                return None;
            }
        };
        Some((name.to_owned(), data))
    }
}

/// The fields that are there.
fn object(fields: &[(&str, Option<Value>)]) -> Value {
    let fields = fields
        .iter()
        .filter_map(|(name, value)| Some(((*name).to_owned(), value.clone()?)));
    Value::Object(fields.collect::<Map<_, _>>())
}

#[derive(Debug, Clone)]
enum Ending {
    Complete(FinishReason, Duration, Duration),
    Error(Error),
}

/// Any text at all, and texts that try to break out of their line.
fn text() -> impl Strategy<Value = String> {
    let any = prop::collection::vec(any::<char>(), 1..16).prop_map(String::from_iter);
    let bad = prop::sample::select(vec![
        "\n",
        "\r",
        "\r\n\r\n",
        "\n\nid: 7\nevent: complete\ndata: {}\n\n",
        "\rdata: {}\r\r",
        "\u{2028}\u{2029}\u{85}\u{b}\u{c}",
        "\u{feff}\0\u{1b}[0m",
        "\"}\n\ndata: \"",
        "\\",
        "\u{10ffff}\u{d7ff}\u{e000}",
    ]);
    prop_oneof![3 => any, 2 => bad.prop_map(str::to_owned)]
}

fn event() -> impl Strategy<Value = Owned> {
    let count = || option::of(any::<u64>());
    prop_oneof![
        4 => text().prop_map(Owned::Text),
        1 => text().prop_map(Owned::Refusal),
        2 => text().prop_map(Owned::Reasoning),
        1 => text().prop_map(Owned::Signature),
        1 => text().prop_map(Owned::EncryptedReasoning),
        1 => (text(), text()).prop_map(|(id, model)| Owned::Identity(id, model)),
        3 => (any::<u32>(), option::of((option::of(text()), text())), text())
            .prop_map(|(index, first, arguments)| {
                let (id, name) = first.unzip();
                Owned::ToolCall(index, id.flatten(), name, arguments)
            }),
        2 => ([option::of(text()), option::of(text()), option::of(text())], [count(), count()])
            .prop_map(|(texts, places)| Owned::Citation(texts, places)),
        2 => [count(), count(), count(), count(), count()].prop_map(|counts| {
            let [input, output, cached_input, cache_write, reasoning] = counts;
            Owned::Usage(Usage { input, output, cached_input, cache_write, reasoning })
        }),
    ]
}

fn ending() -> impl Strategy<Value = Ending> {
    let finish = prop::sample::select(vec![
        FinishReason::Stop,
        FinishReason::Length,
        FinishReason::ToolCalls,
        FinishReason::ContentFilter,
        FinishReason::Refusal,
        FinishReason::Pause,
        FinishReason::Cancelled,
        FinishReason::Other,
    ]);
    let code = prop::sample::select(vec![
        ErrorCode::UpstreamError,
        ErrorCode::StreamInterrupted,
        ErrorCode::StreamTooLong,
        ErrorCode::Draining,
    ]);
    let milliseconds = || (0_u64..1 << 40).prop_map(Duration::from_millis);
    prop_oneof![
        (finish, milliseconds(), milliseconds())
            .prop_map(|(finish, first, total)| Ending::Complete(finish, first, total)),
        (code, text(), option::of(milliseconds())).prop_map(|(code, message, after)| {
            Ending::Error(Error::new(code, message).with_retry_after(after))
        }),
    ]
}
