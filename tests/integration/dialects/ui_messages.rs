//! Requests to `POST /v1/ui-messages`, and the parts of its streams.

use std::time::Duration;

use serde_json::{Value, json};
use sluicegate::dialect::AnswerInfo;
use sluicegate::model::{
    Citation, Error, ErrorCode, Event, FinishReason, Media, MediaSource, Part, ReasoningSigner,
    Request, Role, StreamId, ToolCallDelta, Usage,
};
use sluicegate::route::AnsweringTarget;
use sluicegate::stream::AnswerEncoder;

use super::{dialect, parse, refused, with};

const PATH: &str = "/v1/ui-messages";

fn hello() -> Value {
    json!({
        "id": "chat", "trigger": "submit-message", "messageId": "m1",
        "model": "m",
        "messages": [{"id": "m1", "role": "user", "parts": [{"type": "text", "text": "Hi"}]}],
    })
}

fn said(role: &str, parts: Value) -> Value {
    let message = json!([{"id": "m1", "role": role, "parts": parts}]);
    with(&hello(), "messages", message)
}

fn text(text: &str) -> Part {
    Part::Text(text.to_owned())
}

/// Role and content of each message.
fn messages(body: &Value) -> Vec<(Role, Vec<Part>)> {
    let request = parse(PATH, body).unwrap();
    let messages = request.messages.into_iter();
    messages
        .map(|message| (message.role, message.content))
        .collect()
}

#[test]
fn the_settings_are_the_native_ones() {
    let mut body = hello();
    for (name, value) in [
        ("system", json!("Be brief")),
        ("max_tokens", json!(9)),
        (
            "tools",
            json!([{"type": "function", "function": {"name": "f"}}]),
        ),
        ("reasoning", json!("low")),
        ("extra", json!({"a": 1})),
    ] {
        body = with(&body, name, value);
    }
    let request = parse(PATH, &body).unwrap();
    assert!(request.stream);
    assert_eq!((request.model.as_str(), request.max_tokens), ("m", Some(9)));
    assert_eq!(request.messages[0].content, [text("Be brief")]);
    assert_eq!(request.messages[1].content, [text("Hi")]);
    assert_eq!(request.tools[0].name, "f");
    assert_eq!(request.extra["a"], 1);
}

#[test]
fn a_users_parts_become_a_message() {
    let body = said(
        "user",
        json!([
            {"type": "file", "mediaType": "image/png", "url": "data:image/png;base64,AA=="},
            {"type": "file", "mediaType": "application/pdf", "url": "https://a.example/b.pdf", "filename": "b.pdf"},
            {"type": "data-weather", "data": {"sun": true}},
            {"type": "text", "text": "Hi"},
        ]),
    );
    let inline = MediaSource::Inline {
        media_type: "image/png".to_owned(),
        base64: "AA==".to_owned(),
    };
    let media = |source, name: Option<&str>| Media {
        source,
        name: name.map(str::to_owned),
        detail: None,
    };
    let url = MediaSource::Url("https://a.example/b.pdf".to_owned());
    let content = vec![
        Part::Image(media(inline, None)),
        Part::File(media(url, Some("b.pdf"))),
        text("Hi"),
    ];
    assert_eq!(messages(&body), [(Role::User, content)]);
    let system = said("system", json!([{"type": "text", "text": "S"}]));
    assert_eq!(messages(&system), [(Role::System, vec![text("S")])]);
}

#[test]
fn each_step_of_an_assistant_becomes_an_answer_and_its_results() {
    let body = said(
        "assistant",
        json!([
            {"type": "step-start"},
            {"type": "reasoning", "text": "Hm", "providerMetadata": {"sluicegate": {"signature": "s"}}},
            {"type": "reasoning", "text": "", "providerMetadata": {"sluicegate": {"sealed": "d"}}},
            {"type": "reasoning", "text": ""},
            {"type": "tool-f", "toolCallId": "a", "state": "output-available", "input": {"x": 1}, "output": {"y": 2}},
            {"type": "dynamic-tool", "toolName": "g", "toolCallId": "b", "state": "output-error", "rawInput": "{x", "errorText": "no"},
            {"type": "tool-h", "toolCallId": "c", "state": "output-denied", "input": {}, "approval": {"id": "p", "approved": false, "reason": "never"}},
            {"type": "tool-i", "toolCallId": "d", "state": "input-available"},
            {"type": "tool-j", "toolCallId": "e", "state": "input-streaming", "input": {"half": 1}},
            {"type": "step-start"},
            {"type": "source-url", "sourceId": "s", "url": "https://a.example"},
            {"type": "text", "text": "Done", "state": "done"},
        ]),
    );
    let call = |id: &str, name: &str, arguments: &str| Part::ToolCall {
        id: id.to_owned(),
        name: name.to_owned(),
        arguments: arguments.to_owned(),
    };
    let result = |id: &str, said: &str| Part::ToolResult {
        id: id.to_owned(),
        content: vec![text(said)],
        is_error: false,
    };
    let first = vec![
        Part::Reasoning {
            text: "Hm".to_owned(),
            signature: Some("s".to_owned()),
        },
        Part::EncryptedReasoning("d".to_owned()),
        call("a", "f", r#"{"x":1}"#),
        call("b", "g", "{x"),
        call("c", "h", "{}"),
        call("d", "i", "{}"),
    ];
    let results = vec![
        result("a", r#"{"y":2}"#),
        Part::ToolResult {
            id: "b".to_owned(),
            content: vec![text("no")],
            is_error: true,
        },
        result("c", "never"),
    ];
    assert_eq!(
        messages(&body),
        [
            (Role::Assistant, first),
            (Role::Tool, results),
            (Role::Assistant, vec![text("Done")]),
        ]
    );
}

#[test]
fn errors_name_the_field() {
    for (body, field) in [
        (with(&hello(), "model", Value::Null), "model"),
        (with(&hello(), "messages", Value::Null), "messages"),
        (with(&hello(), "messages", json!([])), "messages"),
        (said("user", json!([])), "messages"),
        (said("judge", json!([])), "messages[0].role"),
        (said("user", json!("Hi")), "messages[0].parts"),
        (
            said("user", json!([{"text": "Hi"}])),
            "messages[0].parts[0].type",
        ),
        (
            said("user", json!([{"type": "text"}])),
            "messages[0].parts[0].text",
        ),
        (
            said("user", json!([{"type": "file", "mediaType": "image/png"}])),
            "messages[0].parts[0].url",
        ),
        (
            said("assistant", json!([{"type": "tool-f", "toolCallId": "a"}])),
            "messages[0].parts[0].state",
        ),
        (with(&hello(), "prompt", json!("Hi")), "prompt"),
        (with(&hello(), "max_tokens", json!(0)), "max_tokens"),
    ] {
        refused(PATH, &body, field);
    }
    let error = parse(PATH, &with(&hello(), "temprature", json!(1))).unwrap_err();
    assert!(error.message().contains("temprature"), "{error}");
}

/// The JSON of a stream's parts, `[DONE]` checked and taken off.
fn streamed(
    request: &Request,
    events: &[Event<'_>],
    outcome: Result<FinishReason, Error>,
) -> Vec<Value> {
    let info = AnswerInfo {
        stream: StreamId::fixed(0),
        model: "m".to_owned(),
        created: 0,
    };
    let mut encoder = AnswerEncoder::new(StreamId::fixed(0), dialect(PATH).encoder(request, info));
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
    match outcome {
        Ok(finish) => encoder.complete(finish, Duration::ZERO, Duration::ZERO),
        Err(error) => encoder.fail(&error),
    }
    let text = String::from_utf8(encoder.take_ready().unwrap().to_vec()).unwrap();
    let parts = text.strip_suffix("data: [DONE]\n\n").unwrap();
    let part = |block: &str| serde_json::from_str(block.strip_prefix("data: ").unwrap()).unwrap();
    parts.split_terminator("\n\n").map(part).collect()
}

fn piece<'a>(index: u32, id: Option<&'a str>, arguments: &'a str) -> Event<'a> {
    Event::ToolCall(ToolCallDelta {
        index,
        id,
        name: id.map(|_| "f"),
        arguments,
    })
}

fn kinds(parts: &[Value]) -> Vec<&str> {
    parts
        .iter()
        .map(|part| part["type"].as_str().unwrap())
        .collect()
}

#[test]
fn parts_come_one_after_another() {
    let usage = Usage {
        input: Some(3),
        output: Some(4),
        ..Usage::default()
    };
    let parts = streamed(
        &Request::default(),
        &[
            Event::Reasoning("Hm"),
            Event::Signature("s1"),
            Event::Signature("s2"),
            Event::EncryptedReasoning("d"),
            Event::Text("Hi"),
            Event::Citation(Citation {
                url: Some("u"),
                text: Some("w"),
                ..Citation::default()
            }),
            Event::Refusal("!"),
            piece(0, Some("a"), "{\n"),
            Event::Text("late"),
            piece(0, None, "}"),
            piece(1, Some("b"), ""),
            Event::Usage(usage),
        ],
        Ok(FinishReason::ToolCalls),
    );
    assert_eq!(
        kinds(&parts),
        [
            "start",
            "start-step",
            "reasoning-start",
            "reasoning-delta",
            "reasoning-end",
            "reasoning-start",
            "reasoning-end",
            "text-start",
            "text-delta",
            "source-url",
            "text-delta",
            "text-end",
            "tool-input-start",
            "tool-input-delta",
            "tool-input-delta",
            "tool-input-available",
            "text-start",
            "text-delta",
            "text-end",
            "tool-input-start",
            "tool-input-available",
            "finish-step",
            "finish",
        ]
    );
    assert_eq!(
        parts[4]["providerMetadata"],
        json!({"sluicegate": {"signature": "sluicegate:wire:vendor:s1sluicegate:wire:vendor:s2"}})
    );
    assert_eq!(
        parts[5]["providerMetadata"],
        json!({"sluicegate": {"sealed": "sluicegate:wire:vendor:d"}})
    );
    assert_eq!(
        parts[9]["providerMetadata"],
        json!({"sluicegate": {"text": "w"}})
    );
    assert_eq!(
        (&parts[15]["input"], &parts[20]["input"]),
        (&json!({}), &json!({}))
    );
    assert_eq!(
        parts[22],
        json!({"type": "finish", "finishReason": "tool-calls", "messageMetadata": {"usage": {"inputTokens": 3, "outputTokens": 4, "totalTokens": 7}}})
    );
}

#[test]
fn arguments_that_are_not_json_become_a_tool_input_error() {
    let events = [piece(0, Some("a"), "{\"x"), Event::Text("late")];
    let parts = streamed(&Request::default(), &events, Ok(FinishReason::Length));
    let error = parts
        .iter()
        .find(|part| part["type"] == "tool-input-error")
        .unwrap();
    assert_eq!(error["input"], "{\"x");
    assert!(error["errorText"].is_string());
}

#[test]
fn a_cut_answer_ends_in_an_error() {
    let error = Error::new(ErrorCode::StreamInterrupted, "cut");
    let parts = streamed(&Request::default(), &[Event::Text("Hi")], Err(error));
    assert_eq!(
        kinds(&parts),
        ["start", "start-step", "text-start", "text-delta", "error"]
    );
    assert_eq!(parts[4]["errorText"], "cut");
    let cancelled = streamed(&Request::default(), &[], Ok(FinishReason::Cancelled));
    assert_eq!(kinds(&cancelled), ["start", "start-step", "abort"]);
}

/// The page appends to the message that it knows, if the answer does not name another.
#[test]
fn an_answer_after_a_tool_result_continues_the_message() {
    let asked = parse(PATH, &hello()).unwrap();
    let id = &streamed(&asked, &[], Ok(FinishReason::Stop))[0]["messageId"];
    assert_eq!(*id, format!("msg_{}", StreamId::fixed(0)));
    let result = json!([{"type": "tool-f", "toolCallId": "a", "state": "output-available", "input": {}, "output": "1"}]);
    let goes_on = parse(PATH, &said("assistant", result)).unwrap();
    let start = &streamed(&goes_on, &[], Ok(FinishReason::Stop))[0];
    assert_eq!(*start, json!({"type": "start"}));
}

/// A message of several answers must not have two calls of one id.
#[test]
fn numbered_call_ids_are_made_unique() {
    let parts = streamed(
        &Request::default(),
        &[piece(0, Some("call_0"), "{}")],
        Ok(FinishReason::ToolCalls),
    );
    let id = format!("call_0_{}", StreamId::fixed(0));
    assert_eq!(parts[2]["toolCallId"], id);
    assert_eq!(parts[4]["toolCallId"], id);
}
