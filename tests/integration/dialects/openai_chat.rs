//! Requests to `POST /v1/chat/completions`.

use std::time::Duration;

use serde_json::{Value, json};
use sluicegate::dialect::AnswerInfo;
use sluicegate::model::{
    Event, FinishReason, Part, Reasoning, ResponseFormat, Role, StreamId, ToolChoice,
};
use sluicegate::stream::AnswerEncoder;

use super::{dialect, parse, refused, sent, with};

const PATH: &str = "/v1/chat/completions";

fn hello() -> Value {
    json!({"model": "m", "messages": [{"role": "user", "content": "Hi"}]})
}

/// Everything that has a place in a request of any protocol.
pub(super) fn everything() -> Value {
    json!({
        "model": "m",
        "messages": [
            {"role": "system", "content": "Be brief"},
            {"role": "user", "content": [
                {"type": "text", "text": "Hi"},
                {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA==", "detail": "low"}},
                {"type": "file", "file": {"file_id": "file_1", "filename": "a.pdf"}},
            ]},
            {"role": "assistant", "content": null, "tool_calls": [
                {"id": "a", "type": "function", "function": {"name": "f", "arguments": "{\"x\":1.50}"}},
            ]},
            {"role": "tool", "tool_call_id": "a", "content": "1"},
        ],
        "stream": true,
        "stream_options": {"include_usage": true},
        "max_tokens": 9,
        "temperature": 0.5,
        "top_p": 0.25,
        "stop": ["END"],
        "seed": 7,
        "tools": [{"type": "function", "function": {"name": "f", "description": "F", "parameters": {"type": "object"}, "strict": true}}],
        "tool_choice": {"type": "function", "function": {"name": "f"}},
        "response_format": {"type": "json_schema", "json_schema": {"name": "n", "schema": {"type": "object"}, "strict": true}},
        "reasoning_effort": "low",
        "user": "u",
        "metadata": {"k": "v"},
    })
}

fn message(message: Value) -> Value {
    with(&hello(), "messages", json!([message]))
}

#[test]
fn a_request_is_parsed() {
    let request = parse(PATH, &everything()).unwrap();
    assert_eq!(request.model, "m");
    assert!(request.stream && request.usage_wanted);
    assert_eq!((request.max_tokens, request.seed), (Some(9), Some(7)));
    assert_eq!(
        (request.temperature, request.top_p),
        (Some(0.5), Some(0.25))
    );
    assert_eq!(request.stop, ["END"]);
    assert_eq!(request.user.as_deref(), Some("u"));
    assert_eq!(request.tools[0].name, "f");
    assert_eq!(
        request.tool_choice,
        Some(ToolChoice::Function("f".to_owned()))
    );
    assert!(matches!(
        request.response_format,
        Some(ResponseFormat::Schema { .. })
    ));
    let effort = Some("low".to_owned());
    let max_tokens = None;
    assert_eq!(
        request.reasoning,
        Some(Reasoning {
            effort,
            max_tokens,
            ..Reasoning::default()
        })
    );
    let roles: Vec<Role> = request
        .messages
        .iter()
        .map(|message| message.role)
        .collect();
    assert_eq!(
        roles,
        [Role::System, Role::User, Role::Assistant, Role::Tool]
    );
    let plain = parse(PATH, &hello()).unwrap();
    assert!(!plain.stream && !plain.usage_wanted);
}

#[test]
fn an_upstream_of_the_same_protocol_gets_every_setting() {
    for (name, value) in [
        ("parallel_tool_calls", json!(false)),
        ("service_tier", json!("flex")),
        ("prediction", json!({"type": "content", "content": "Hi"})),
        ("logit_bias", json!({"50256": -100})),
        ("logprobs", json!(true)),
        ("top_logprobs", json!(2)),
        ("store", json!(true)),
        ("novelty", json!({"a": [1]})),
    ] {
        let body = with(&everything(), name, value);
        let mut expected = with(&body, "model", json!("their-model"));
        if name == "logprobs" || name == "top_logprobs" {
            // The rest is told apart below.
            expected = with(&expected, "stream_options", json!({"include_usage": true}));
        }
        assert_eq!(
            sent("openai-chat", &parse(PATH, &body).unwrap()).unwrap(),
            expected
        );
    }
}

/// Messages, tools, choice and format that have more than their normalized form are sent unchanged.
#[test]
fn an_upstream_of_the_same_protocol_gets_the_clients_own_messages() {
    let user = |content: Value| json!([{"role": "user", "content": content}]);
    for (name, value) in [
        (
            "messages",
            json!([{"role": "user", "name": "Ada", "content": "Hi"}]),
        ),
        (
            "messages",
            user(json!([{"type": "text", "text": "Hi", "cache_control": {"type": "ephemeral"}}])),
        ),
        (
            "messages",
            user(
                json!([{"type": "input_audio", "input_audio": {"data": "AA==", "format": "wav"}}]),
            ),
        ),
        (
            "tools",
            json!([{"type": "custom", "custom": {"name": "c"}}]),
        ),
        (
            "tools",
            json!([{"type": "function", "function": {"name": "f"}, "cache_control": {"type": "ephemeral"}}]),
        ),
        (
            "tool_choice",
            json!({"type": "allowed_tools", "allowed_tools": {"mode": "auto", "tools": []}}),
        ),
        (
            "response_format",
            json!({"type": "grammar", "grammar": "root ::= \"a\""}),
        ),
    ] {
        let request = parse(PATH, &with(&hello(), name, value.clone())).unwrap();
        assert_eq!(sent("openai-chat", &request).unwrap()[name], value);
    }
}

/// Look-alikes refuse the new role and the null members of an SDK's own messages.
#[test]
fn members_that_look_alikes_refuse_are_not_sent() {
    let named = json!({"role": "developer", "name": "Ada", "content": "Be brief"});
    let request = parse(PATH, &message(named)).unwrap();
    let system = json!({"role": "system", "name": "Ada", "content": "Be brief"});
    assert_eq!(
        sent("openai-chat", &request).unwrap()["messages"][0],
        system
    );

    let echoed = json!({
        "role": "assistant", "content": "A", "refusal": null, "annotations": [], "audio": null,
        "function_call": null, "tool_calls": null, "reasoning_content": "Hm",
    });
    let request = parse(PATH, &message(echoed)).unwrap();
    let plain = json!({"role": "assistant", "content": "A"});
    assert_eq!(sent("openai-chat", &request).unwrap()["messages"][0], plain);
}

#[test]
fn an_earlier_refusal_becomes_text() {
    let refusal = json!({"role": "assistant", "content": null, "refusal": "I can’t"});
    let request = parse(PATH, &message(refusal)).unwrap();
    assert_eq!(
        request.messages[0].content,
        [Part::Text("I can’t".to_owned())]
    );
}

#[test]
fn both_names_of_the_token_bound_are_parsed() {
    let old = json!(9);
    let bound = |body: &Value| parse(PATH, body).unwrap().max_tokens;
    assert_eq!(bound(&with(&hello(), "max_tokens", old.clone())), Some(9));
    let new = with(&hello(), "max_completion_tokens", old.clone());
    assert_eq!(bound(&new), Some(9));
    assert_eq!(bound(&with(&new, "max_tokens", old)), Some(9));
    assert_eq!(bound(&with(&new, "max_tokens", json!(10))), Some(9));
    refused(PATH, &with(&new, "max_tokens", json!(0)), "max_tokens");
}

#[test]
fn members_that_change_the_answers_form_are_refused_for_other_wires() {
    let audio = json!([{"type": "input_audio", "input_audio": {"data": "AA==", "format": "wav"}}]);
    for (body, field) in [
        (with(&hello(), "logprobs", json!(true)), "logprobs"),
        (with(&hello(), "top_logprobs", json!(2)), "top_logprobs"),
        (
            message(json!({"role": "user", "content": audio})),
            "messages[0].content[0]",
        ),
        (
            with(
                &hello(),
                "tools",
                json!([{"type": "custom", "custom": {"name": "c"}}]),
            ),
            "tools[0]",
        ),
        (
            with(
                &hello(),
                "tool_choice",
                json!({"type": "custom", "custom": {"name": "c"}}),
            ),
            "tool_choice",
        ),
        (
            with(&hello(), "response_format", json!({"type": "grammar"})),
            "response_format",
        ),
    ] {
        let request = parse(PATH, &body).unwrap();
        assert!(sent("openai-chat", &request).is_ok(), "{field}");
        let error = sent("anthropic-messages", &request).unwrap_err();
        assert_eq!(error.field(), Some(field), "{error}");
    }
    for (name, value) in [
        ("logprobs", json!(false)),
        ("top_logprobs", json!(0)),
        ("parallel_tool_calls", json!(true)),
        ("store", json!(false)),
        ("n", json!(1)),
        ("modalities", json!(["text"])),
    ] {
        let request = parse(PATH, &with(&hello(), name, value)).unwrap();
        assert!(sent("anthropic-messages", &request).is_ok(), "{name}");
    }
}

#[test]
fn errors_name_the_field() {
    for (body, field) in [
        (with(&hello(), "model", Value::Null), "model"),
        (with(&hello(), "model", json!("")), "model"),
        (with(&hello(), "messages", Value::Null), "messages"),
        (with(&hello(), "messages", json!([])), "messages"),
        (with(&hello(), "messages", json!("Hi")), "messages"),
        (
            message(json!({"role": "judge", "content": "Hi"})),
            "messages[0].role",
        ),
        (message(json!({"role": "user"})), "messages[0].content"),
        (
            message(json!({"role": "user", "content": 7})),
            "messages[0].content",
        ),
        (
            message(json!({"role": "tool", "content": "1"})),
            "messages[0].tool_call_id",
        ),
        (
            message(json!({"role": "assistant", "function_call": {"name": "f"}})),
            "messages[0].function_call.arguments",
        ),
        (
            message(json!({"role": "function", "name": "f", "content": "1"})),
            "messages[0].name",
        ),
        (with(&hello(), "temperature", json!("hot")), "temperature"),
        (with(&hello(), "stop", json!(7)), "stop"),
        (with(&hello(), "stream", json!("yes")), "stream"),
        (with(&hello(), "max_tokens", json!(0)), "max_tokens"),
        (with(&hello(), "max_tokens", json!(-1.5)), "max_tokens"),
        (
            with(&hello(), "tools", json!([{"type": "function"}])),
            "tools[0]",
        ),
        (with(&hello(), "tool_choice", json!("maybe")), "tool_choice"),
        (with(&hello(), "n", json!(0)), "n"),
        (with(&hello(), "n", json!(129)), "n"),
        (with(&hello(), "n", json!("2")), "n"),
        (with(&hello(), "audio", json!({"voice": "alloy"})), "audio"),
        (
            with(&hello(), "modalities", json!(["text", "audio"])),
            "modalities",
        ),
        (
            with(&hello(), "functions", json!([{"description": "f"}])),
            "functions[0].name",
        ),
        (
            with(&hello(), "functions", json!({"name": "f"})),
            "functions",
        ),
        (
            with(
                &with(&hello(), "functions", json!([{"name": "f"}])),
                "tools",
                json!([]),
            ),
            "functions",
        ),
        (
            with(
                &with(&hello(), "functions", json!([{"name": "f"}])),
                "function_call",
                json!("required"),
            ),
            "function_call",
        ),
        (
            with(&hello(), "function_call", json!("auto")),
            "function_call",
        ),
    ] {
        let error = parse(PATH, &body).expect_err(field);
        let named = error.field().unwrap_or_default();
        assert!(
            named == field || named.starts_with(&format!("{field}.")),
            "{field}: {error}"
        );
        assert!(error.message().starts_with(named), "{error}");
    }
}

/// Half a character is a token without a text of its own.
#[test]
fn the_logprobs_of_every_token_are_passed_on() {
    let said = [
        Event::Logprobs(r#"{"content":[{"token":"a"}],"refusal":null}"#),
        Event::Logprobs(r#"{"content":[{"token":"b"}],"refusal":null}"#),
        Event::Text("ab"),
        Event::Logprobs(r#"{"content":[{"token":"c"}],"refusal":null}"#),
        Event::Text("c"),
        Event::Text("d"),
    ];
    let whole: Value = serde_json::from_str(&answered(&said, false)).unwrap();
    let tokens =
        json!({"content": [{"token": "a"}, {"token": "b"}, {"token": "c"}], "refusal": null});
    assert_eq!(whole["choices"][0]["logprobs"], tokens);

    let streamed = answered(&said, true);
    let chunks = streamed
        .lines()
        .filter_map(|line| line.strip_prefix("data: {"));
    let heard: Vec<(String, String)> = chunks
        .map(|chunk| serde_json::from_str::<Value>(&format!("{{{chunk}")).unwrap())
        .map(|chunk| {
            let choice = &chunk["choices"][0];
            let text = choice["delta"]["content"].as_str().unwrap_or_default();
            (text.to_owned(), choice["logprobs"]["content"].to_string())
        })
        .collect();
    let expected = [
        ("", "null"),
        ("", r#"[{"token":"a"}]"#),
        ("ab", r#"[{"token":"b"}]"#),
        ("c", r#"[{"token":"c"}]"#),
        ("d", "null"),
        ("", "null"),
    ];
    assert_eq!(
        heard,
        expected.map(|(text, tokens)| (text.to_owned(), tokens.to_owned()))
    );
}

fn answered(said: &[Event<'_>], streamed: bool) -> String {
    let asked = with(&hello(), "logprobs", json!(true));
    let request = parse(PATH, &with(&asked, "stream", json!(streamed))).unwrap();
    let info = AnswerInfo {
        stream: StreamId::fixed(0),
        model: "m".to_owned(),
        created: 0,
    };
    let mut encoder = AnswerEncoder::new(StreamId::fixed(0), dialect(PATH).encoder(&request, info));
    for event in said {
        encoder.event(event);
    }
    encoder.complete(FinishReason::Stop, Duration::ZERO, Duration::ZERO);
    String::from_utf8(encoder.take_ready().unwrap().to_vec()).unwrap()
}
