//! Forms of requests that other servers accept, and requests in the client's own words at a vendor with
//! narrower limits.

use serde_json::{Value, json};
use sluicegate::config::preset;
use sluicegate::wire::{self, Adapted, TargetSettings};

use super::{parse, sent_to, signer};

const CHAT: &str = "/v1/chat/completions";
const CLAUDE: (&str, &str) = ("anthropic-messages", "claude-sonnet-4-5");

fn sent(target: (&str, &str), path: &str, body: &Value) -> (Value, Vec<String>) {
    let request = parse(path, body).unwrap_or_else(|error| panic!("{body}: {error}"));
    sent_to(target.0, target.1, &request).unwrap_or_else(|error| panic!("{body}: {error}"))
}

#[test]
fn a_negative_bound_is_no_bound() {
    for name in ["max_tokens", "max_completion_tokens"] {
        let body = json!({"model": "m", "messages": [{"role": "user", "content": "Hi"}], name: -1});
        let (chat, _) = sent(("openai-chat", "m"), CHAT, &body);
        assert!(chat.get(name).is_none(), "{chat}");
    }
}

#[test]
fn calls_in_the_form_of_ollama_are_accepted() {
    let body = json!({"model": "m", "messages": [
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": "", "tool_calls": [
            {"function": {"name": "f", "arguments": {"n": 12345678901234567_u64}}},
            {"id": "", "type": "function", "function": {"name": "g"}},
        ]},
        {"role": "tool", "content": "one"},
        {"role": "tool", "tool_call_id": "", "content": "two"},
        {"role": "assistant", "content": null},
        {"role": "user", "content": "And?"},
    ]});
    let (claude, _) = sent(CLAUDE, CHAT, &body);
    let calls = &claude["messages"][1]["content"];
    assert_eq!(calls[0]["input"], json!({"n": 12345678901234567_u64}));
    assert_eq!(calls[1]["input"], json!({}));
    assert_ne!(calls[0]["id"], calls[1]["id"]);
    let results = &claude["messages"][2]["content"];
    for (at, text) in ["one", "two"].iter().enumerate() {
        assert_eq!(results[at]["tool_use_id"], calls[at]["id"], "{claude}");
        assert!(
            results[at]["content"].to_string().contains(text),
            "{claude}"
        );
    }
    let (chat, _) = sent(("openai-chat", "m"), CHAT, &body);
    let arguments = &chat["messages"][1]["tool_calls"][0]["function"]["arguments"];
    assert_eq!(arguments, r#"{"n":12345678901234567}"#);
}

#[test]
fn a_result_without_a_call_is_refused() {
    let body = json!({"model": "m", "messages": [{"role": "tool", "content": "one"}]});
    let error = parse(CHAT, &body).unwrap_err();
    assert!(
        error.message().starts_with("messages[0].tool_call_id"),
        "{error}"
    );
}

/// `name` and `cache_control` make the gateway send the client's own messages and tools.
#[test]
fn messages_in_the_clients_own_words_fit_the_vendor_too() {
    let long = "b".repeat(70);
    let body = json!({"model": "m",
        "messages": [
            {"role": "user", "content": "Hi", "name": "Ann"},
            {"role": "assistant", "content": null, "tool_calls": [
                {"id": "call_abcDEF123456", "type": "function",
                    "function": {"name": long, "arguments": "{\"a\":"}},
            ]},
            {"role": "tool", "tool_call_id": "call_abcDEF123456", "content": "ok"},
        ],
        "tools": [{"type": "function", "cache_control": {"type": "ephemeral"},
            "function": {"name": long, "parameters": {"type": "object"}}}],
    });
    let request = parse(CHAT, &body).unwrap();
    let wire = wire::by_name("openai-chat").unwrap();
    let vendor = &preset::by_name("mistral").unwrap().vendor;
    let for_wire = signer(wire.name()).verify(request.for_wire(wire.name()).unwrap());
    let settings = TargetSettings::default();
    let adapted = Adapted::new(&request, for_wire, wire, "mistral-large", vendor, settings);
    let outgoing = wire.request(&adapted.request, "mistral-large", vendor);
    let sent = outgoing.unwrap().body;
    assert_eq!(sent["messages"][0]["name"], "Ann");
    let call = &sent["messages"][1]["tool_calls"][0];
    assert_eq!(call["id"].as_str().unwrap().len(), 9);
    assert_eq!(sent["messages"][2]["tool_call_id"], call["id"]);
    let name = call["function"]["name"].as_str().unwrap();
    assert!(name.len() <= 64, "{name}");
    assert_eq!(sent["tools"][0]["function"]["name"], name);
    assert_eq!(adapted.names.restore(name), long);
    let arguments = call["function"]["arguments"].as_str().unwrap();
    assert!(
        serde_json::from_str::<Value>(arguments)
            .unwrap()
            .is_object()
    );
}

#[test]
fn what_the_wire_makes_up_or_leaves_out_is_named() {
    let body = json!({"model": "m", "max_tokens": 99, "messages": [
        {"role": "user", "content": [
            {"type": "text", "text": " "},
            {"type": "document", "source":
                {"type": "base64", "media_type": "application/pdf", "data": "JVBE"}},
            {"type": "text", "text": "Read it."},
        ]},
        {"role": "assistant", "content": [
            {"type": "tool_use", "id": "t1", "name": "f", "input": {}},
        ]},
        {"role": "user", "content": [
            {"type": "tool_result", "tool_use_id": "t1", "content": "ok"},
        ]},
    ]});
    let bedrock = ("bedrock-converse", "eu.anthropic.claude-sonnet-4-5-v1:0");
    let (sent_body, changed) = sent(bedrock, "/v1/messages", &body);
    assert_eq!(changed, ["messages[0]", "tools"], "{sent_body}");
    let (_, changed) = sent(("openai-chat", "gpt-5.2"), "/v1/messages", &body);
    assert_eq!(changed, ["messages[0]"]);
}

#[test]
fn a_schema_is_an_instruction_for_models_without_structured_outputs() {
    let schema = json!({"type": "object", "properties": {"n": {"type": "integer"}}});
    let body = json!({"model": "m", "messages": [{"role": "user", "content": "Hi"}],
        "response_format": {"type": "json_schema", "json_schema": {"name": "n", "schema": schema}}});
    for (model, is_supported) in [
        ("claude-sonnet-4-5", true),
        ("claude-opus-4-1-20250805", true),
        ("claude-sonnet-4-20250514", false),
        ("claude-opus-4-20250514", false),
        ("claude-3-5-haiku-latest", false),
    ] {
        let (claude, changed) = sent(("anthropic-messages", model), CHAT, &body);
        let format = &claude["output_config"]["format"];
        let system = claude["system"].to_string();
        if is_supported {
            assert_eq!(format["schema"], schema, "{model}");
            assert!(changed.is_empty(), "{model}: {changed:?}");
        } else {
            assert!(format.is_null(), "{model}");
            assert!(system.contains("JSON Schema"), "{model}: {system}");
            assert_eq!(changed, ["response_format"], "{model}");
        }
    }
}
