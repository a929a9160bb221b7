//! Requests to `POST /v1/messages`.

use serde_json::{Value, json};
use sluicegate::model::{Media, MediaSource, Part, Reasoning, ResponseFormat, Role, ToolChoice};

use super::{parse, refused, sent, with};

const PATH: &str = "/v1/messages";

fn hello() -> Value {
    json!({"model": "m", "max_tokens": 9, "messages": [{"role": "user", "content": "Hi"}]})
}

/// Everything that a client may say, and something that nobody knows yet.
pub(super) fn everything() -> Value {
    json!({
        "model": "m",
        "max_tokens": 9,
        "stream": true,
        "system": [{"type": "text", "text": "Be brief", "cache_control": {"type": "ephemeral"}}],
        "messages": [
            {"role": "user", "content": [
                {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "AA=="}},
                {"type": "document", "title": "T", "source": {"type": "url", "url": "https://a.example/b.pdf"}},
                {"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "words"}},
                {"type": "text", "text": "Hi", "cache_control": {"type": "ephemeral", "ttl": "1h"}},
            ]},
            {"role": "assistant", "content": [
                {"type": "thinking", "thinking": "Hm", "signature": "s"},
                {"type": "redacted_thinking", "data": "d"},
                {"type": "text", "text": "Look"},
                {"type": "tool_use", "id": "a", "name": "f", "input": {"x": 1.50}},
                {"type": "tool_use", "id": "b", "name": "g", "input": {}},
            ]},
            {"role": "user", "content": [
                {"type": "tool_result", "tool_use_id": "a", "content": "1", "is_error": true},
                {"type": "tool_result", "tool_use_id": "b", "content": [{"type": "text", "text": "2"}]},
                {"type": "text", "text": "And?"},
            ]},
        ],
        "temperature": 0.5,
        "top_p": 0.25,
        "top_k": 5,
        "stop_sequences": ["END"],
        "tools": [{"name": "f", "description": "F", "input_schema": {"type": "object"}, "cache_control": {"type": "ephemeral"}}],
        "tool_choice": {"type": "any", "disable_parallel_tool_use": true},
        "thinking": {"type": "enabled", "budget_tokens": 2000},
        "output_config": {"effort": "low", "format": {"type": "json_schema", "schema": {"type": "object"}}},
        "metadata": {"user_id": "u"},
        "service_tier": "auto",
        "novelty": {"a": [1]},
    })
}

#[test]
fn an_upstream_of_the_same_protocol_gets_the_clients_body() {
    for body in [hello(), everything()] {
        let request = parse(PATH, &body).unwrap();
        let mut expected = with(&body, "model", json!("their-model"));
        expected["stream"] = json!(true);
        assert_eq!(sent("anthropic-messages", &request).unwrap(), expected);
    }
}

#[test]
fn a_request_is_parsed() {
    let request = parse(PATH, &everything()).unwrap();
    assert_eq!(request.model, "m");
    assert!(request.stream);
    assert_eq!(request.max_tokens, Some(9));
    assert_eq!(
        (request.temperature, request.top_p),
        (Some(0.5), Some(0.25))
    );
    assert_eq!(request.stop, ["END"]);
    assert_eq!(request.user.as_deref(), Some("u"));
    assert_eq!(request.tools[0].name, "f");
    assert_eq!(request.tool_choice, Some(ToolChoice::Required));
    assert_eq!(request.parallel_tool_calls, Some(false));
    let effort = Some("low".to_owned());
    let max_tokens = Some(2000);
    assert_eq!(
        request.reasoning,
        Some(Reasoning {
            effort,
            max_tokens,
            is_default: true,
            ..Reasoning::default()
        })
    );
    assert!(matches!(
        request.response_format,
        Some(ResponseFormat::Schema { .. })
    ));
    assert!(!parse(PATH, &hello()).unwrap().stream);
}

#[test]
fn turns_become_messages() {
    let messages = parse(PATH, &everything()).unwrap().messages;
    let roles: Vec<Role> = messages.iter().map(|message| message.role).collect();
    use Role::{Assistant, System, Tool, User};
    assert_eq!(roles, [System, User, Assistant, Tool, Tool, User]);
    let fields: Vec<&str> = messages.iter().map(|m| m.field.as_str()).collect();
    assert_eq!(fields[0], "system");
    assert_eq!(fields[1], "messages[0]");
    assert_eq!(fields[5], "messages[2]");
    let text = |text: &str| Part::Text(text.to_owned());
    let media = |source, name: Option<&str>| Media {
        source,
        name: name.map(str::to_owned),
        detail: None,
    };
    let inline = MediaSource::Inline {
        media_type: "image/png".to_owned(),
        base64: "AA==".to_owned(),
    };
    let url = MediaSource::Url("https://a.example/b.pdf".to_owned());
    assert_eq!(
        messages[1].content,
        [
            Part::Image(media(inline, None)),
            Part::File(media(url, Some("T"))),
            text("words"),
            text("Hi"),
            Part::CachePoint,
        ]
    );
    let call = |id: &str, name: &str, arguments: &str| Part::ToolCall {
        id: id.to_owned(),
        name: name.to_owned(),
        arguments: arguments.to_owned(),
    };
    assert_eq!(
        messages[2].content,
        [
            Part::Reasoning {
                text: "Hm".to_owned(),
                signature: Some("s".to_owned()),
            },
            Part::EncryptedReasoning("d".to_owned()),
            text("Look"),
            call("a", "f", r#"{"x":1.5}"#),
            call("b", "g", "{}"),
        ]
    );
    let result = |id: &str, said: &str| Part::ToolResult {
        id: id.to_owned(),
        content: vec![text(said)],
        is_error: false,
    };
    let failed = Part::ToolResult {
        id: "a".to_owned(),
        content: vec![text("1")],
        is_error: true,
    };
    assert_eq!(messages[3].content, [failed]);
    assert_eq!(messages[4].content, [result("b", "2")]);
    assert_eq!(messages[5].content, [text("And?")]);
}

#[test]
fn vendor_features_are_refused_for_other_wires() {
    let search = json!([
        {"name": "f", "input_schema": {"type": "object"}},
        {"type": "web_search_20250305", "name": "web_search"},
    ]);
    let forced = json!({"type": "tool", "name": "web_search"});
    let unknown = json!([
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": [{"type": "hologram", "data": "x"}]},
    ]);
    for (body, field) in [
        (
            with(&with(&hello(), "tools", search), "tool_choice", forced),
            "tools[1]",
        ),
        (
            with(&hello(), "messages", unknown),
            "messages[1].content[0]",
        ),
        (with(&hello(), "container", json!("c")), "container"),
        (
            with(&hello(), "mcp_servers", json!([{"url": "u"}])),
            "mcp_servers",
        ),
    ] {
        let request = parse(PATH, &body).unwrap();
        assert!(sent("anthropic-messages", &request).is_ok(), "{field}");
        let error = sent("openai-chat", &request).unwrap_err();
        assert!(
            error.message().starts_with(&format!("{field}: ")),
            "{error}"
        );
    }
    let nothing = with(&hello(), "mcp_servers", json!([]));
    assert!(sent("openai-chat", &parse(PATH, &nothing).unwrap()).is_ok());
}

#[test]
fn citations_of_the_gateway_are_removed() {
    let ours = json!({"type": "web_search_result_location", "url": "u", "title": "", "cited_text": "", "encrypted_index": ""});
    let theirs = json!({"type": "web_search_result_location", "url": "u", "title": "", "cited_text": "", "encrypted_index": "x"});
    let said = |citations: Value| {
        let messages = json!([
            {"role": "user", "content": "Hi"},
            {"role": "assistant", "content": [{"type": "text", "text": "A", "citations": citations}]},
            {"role": "user", "content": "Go on"},
        ]);
        let request = parse(PATH, &with(&hello(), "messages", messages)).unwrap();
        let sent = sent("anthropic-messages", &request).unwrap();
        sent["messages"][1]["content"][0].clone()
    };
    assert_eq!(said(json!([ours])), json!({"type": "text", "text": "A"}));
    assert_eq!(said(json!([ours, theirs]))["citations"], json!([theirs]));
}

#[test]
fn errors_name_the_field() {
    let content = |content: Value| {
        with(
            &hello(),
            "messages",
            json!([{"role": "user", "content": content}]),
        )
    };
    for (body, field) in [
        (with(&hello(), "model", Value::Null), "model"),
        (with(&hello(), "model", json!("")), "model"),
        (with(&hello(), "max_tokens", Value::Null), "max_tokens"),
        (with(&hello(), "max_tokens", json!(-1)), "max_tokens"),
        (with(&hello(), "messages", Value::Null), "messages"),
        (with(&hello(), "messages", json!([])), "messages"),
        (with(&hello(), "messages", json!("Hi")), "messages"),
        (
            with(&hello(), "messages", json!([{"content": "Hi"}])),
            "messages[0].role",
        ),
        (
            with(
                &hello(),
                "messages",
                json!([{"role": "tool", "content": "Hi"}]),
            ),
            "messages[0].role",
        ),
        (content(Value::Null), "messages[0].content"),
        (content(json!(7)), "messages[0].content"),
        (
            content(json!([{"text": "Hi"}])),
            "messages[0].content[0].type",
        ),
        (
            content(json!([{"type": "text", "text": 7}])),
            "messages[0].content[0].text",
        ),
        (
            content(json!([{"type": "image", "source": {"type": "smell"}}])),
            "messages[0].content[0].source",
        ),
        (
            content(json!([{"type": "tool_use", "id": "a", "name": "f", "input": {}}])),
            "messages[0].content",
        ),
        (with(&hello(), "temperature", json!("hot")), "temperature"),
        (
            with(&hello(), "stop_sequences", json!([7])),
            "stop_sequences[0]",
        ),
        (
            with(&hello(), "tools", json!([{"name": "f"}])),
            "tools[0].input_schema",
        ),
        (
            with(&hello(), "tool_choice", json!({"type": "tool"})),
            "tool_choice.name",
        ),
        (
            with(
                &hello(),
                "tool_choice",
                json!({"type": "auto", "disable_parallel_tool_use": 1}),
            ),
            "tool_choice.disable_parallel_tool_use",
        ),
        (
            with(&hello(), "thinking", json!({"type": "enabled"})),
            "thinking.budget_tokens",
        ),
        (with(&hello(), "stream", json!("yes")), "stream"),
    ] {
        refused(PATH, &body, field);
    }
}
