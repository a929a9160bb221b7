//! Requests of one protocol that another one does not accept as they are: what the upstream gets, and
//! which fields are named as changed.

use serde_json::{Value, json};
use sluicegate::config::preset;
use sluicegate::model::{ReasoningStyle, Vendor};
use sluicegate::wire::{self, Adapted, TargetSettings};

use super::{parse, sent_to, signer, with};

const CHAT: &str = "/v1/chat/completions";
const MESSAGES: &str = "/v1/messages";
const RESPONSES: &str = "/v1/responses";

/// Every wire with a model that can reason, where there is one.
const TARGETS: [(&str, &str); 7] = [
    ("openai-chat", "gpt-5.2"),
    ("openai-responses", "gpt-5.2"),
    ("anthropic-messages", "claude-sonnet-4-5"),
    ("bedrock-converse", "eu.anthropic.claude-sonnet-4-5-v1:0"),
    ("gemini", "gemini-2.5-flash"),
    ("cohere-chat", "command-a-reasoning-08-2025"),
    ("ollama-chat", "llama3.3"),
];

fn chat() -> Value {
    json!({"model": "m", "messages": [{"role": "user", "content": "Hi"}]})
}

fn messages() -> Value {
    json!({"model": "m", "max_tokens": 4000, "messages": [{"role": "user", "content": "Hi"}]})
}

/// The body that `model` gets, and the changed fields.
fn sent(wire: &str, model: &str, path: &str, body: &Value) -> (Value, Vec<String>) {
    let request = parse(path, body).unwrap_or_else(|error| panic!("{body}: {error}"));
    let sent = sent_to(wire, model, &request);
    sent.unwrap_or_else(|error| panic!("{wire} {body}: {error}"))
}

/// Sends a member of a Chat request, and compares what becomes of it.
#[track_caller]
fn chat_member(
    target: (&str, &str),
    member: (&str, Value),
    place: &str,
    expected: Value,
    changes: &[&str],
) {
    let body = with(&chat(), member.0, member.1);
    let (sent, changed) = sent(target.0, target.1, CHAT, &body);
    let found = sent.pointer(place).cloned().unwrap_or_default();
    assert_eq!(found, expected, "{} {place}: {sent}", target.0);
    assert_eq!(changed, changes, "{}", target.0);
}

const CLAUDE: (&str, &str) = ("anthropic-messages", "claude-sonnet-4-5");
const OPUS: (&str, &str) = ("anthropic-messages", "claude-opus-4-8");

#[test]
fn numbers_are_clamped_to_the_ranges_of_the_vendor() {
    for target in [CLAUDE, ("bedrock-converse", "m"), ("cohere-chat", "m")] {
        let place = match target.0 {
            "bedrock-converse" => "/inferenceConfig/temperature",
            _ => "/temperature",
        };
        chat_member(
            target,
            ("temperature", json!(1.5)),
            place,
            json!(1.0),
            &["temperature"],
        );
        chat_member(target, ("temperature", json!(0.5)), place, json!(0.5), &[]);
    }
    chat_member(
        ("cohere-chat", "m"),
        ("top_p", json!(1)),
        "/p",
        json!(0.99),
        &["top_p"],
    );
    let responses = ("openai-responses", "gpt-4.1");
    chat_member(
        responses,
        ("max_tokens", json!(1)),
        "/max_output_tokens",
        json!(16),
        &["max_tokens"],
    );
    chat_member(
        CLAUDE,
        ("max_tokens", json!(900_000)),
        "/max_tokens",
        json!(64_000),
        &["max_tokens"],
    );
}

#[test]
fn a_bound_on_the_output_is_sent_where_the_vendor_requires_one() {
    for (model, bound) in [
        ("claude-opus-4-1", 32_000),
        ("claude-sonnet-4-5", 64_000),
        ("other", 4096),
    ] {
        chat_member(
            ("anthropic-messages", model),
            ("user", Value::Null),
            "/max_tokens",
            json!(bound),
            &[],
        );
    }
    chat_member(
        ("gemini", "gemini-2.5-pro"),
        ("user", Value::Null),
        "/generationConfig",
        Value::Null,
        &[],
    );
    let request = parse(CHAT, &chat()).unwrap();
    let wire = wire::by_name("anthropic-messages").unwrap();
    let settings = TargetSettings {
        max_tokens: Some(777),
        ..TargetSettings::default()
    };
    let vendor = Vendor::default();
    let for_wire = request.for_wire(wire.name()).unwrap();
    let adapted = Adapted::new(
        &request,
        for_wire,
        wire,
        "claude-opus-4-1",
        &vendor,
        settings,
    );
    assert_eq!(adapted.request.max_tokens, Some(777));
}

#[test]
fn the_newer_name_of_the_token_bound_holds() {
    let body = with(
        &with(&chat(), "max_tokens", json!(100)),
        "max_completion_tokens",
        json!(200),
    );
    let (sent, _) = sent("anthropic-messages", "claude-sonnet-4-5", CHAT, &body);
    assert_eq!(sent["max_tokens"], 200);
}

#[test]
fn settings_that_exclude_each_other_are_not_sent_together() {
    let body = with(
        &with(&chat(), "temperature", json!(0.2)),
        "top_p",
        json!(0.9),
    );
    let (both, changed) = sent(CLAUDE.0, CLAUDE.1, CHAT, &body);
    assert_eq!(
        (&both["temperature"], &both["top_p"]),
        (&json!(0.2), &Value::Null)
    );
    assert_eq!(changed, ["top_p"]);
    let (neither, changed) = sent(OPUS.0, OPUS.1, CHAT, &body);
    assert_eq!(
        (&neither["temperature"], &neither["top_p"]),
        (&Value::Null, &Value::Null)
    );
    assert_eq!(changed, ["temperature", "top_p"]);
    // Thinking excludes a temperature.
    let thinking = with(
        &with(&chat(), "temperature", json!(0.2)),
        "reasoning_effort",
        json!("low"),
    );
    let (sent, _) = sent(CLAUDE.0, CLAUDE.1, CHAT, &thinking);
    assert_eq!(sent["temperature"], Value::Null);
    assert_eq!(sent["thinking"]["type"], "enabled");
}

#[test]
fn blank_stop_sequences_are_left_out() {
    chat_member(
        CLAUDE,
        ("stop", json!(["\n\n", "END"])),
        "/stop_sequences",
        json!(["END"]),
        &["stop"],
    );
    chat_member(
        ("openai-chat", "m"),
        ("stop", json!(["\n\n"])),
        "/stop",
        json!(["\n\n"]),
        &[],
    );
}

#[test]
fn a_long_name_of_a_user_is_hashed() {
    let user = format!(
        "user_{}_account__session_{}",
        "a".repeat(64),
        "b".repeat(36)
    );
    let body = with(&messages(), "metadata", json!({ "user_id": user }));
    let (first, changed) = sent("openai-chat", "gpt-4o", MESSAGES, &body);
    let hashed = first["user"].as_str().unwrap();
    assert!(hashed.len() <= 64 && !user.contains(hashed), "{hashed}");
    assert_eq!(changed, ["user"]);
    let (second, _) = sent("openai-responses", "gpt-4o", MESSAGES, &body);
    assert_eq!(second["user"], *hashed, "the same user has the same name");
    let short = with(&messages(), "metadata", json!({"user_id": "u1"}));
    assert_eq!(
        sent("openai-chat", "gpt-4o", MESSAGES, &short).0["user"],
        "u1"
    );
}

#[test]
fn hints_that_a_vendor_lacks_are_left_out_and_named() {
    let mut body = with(&chat(), "seed", json!(7));
    for (name, value) in [
        ("user", json!("u")),
        ("parallel_tool_calls", json!(false)),
        ("logit_bias", json!({"1": 2})),
        ("metadata", json!({"a": "b"})),
        (
            "tools",
            json!([{"type": "function", "function": {"name": "f"}}]),
        ),
    ] {
        body = with(&body, name, value);
    }
    for (wire, names) in [
        ("openai-chat", vec![]),
        ("anthropic-messages", vec!["logit_bias", "seed", "metadata"]),
        (
            "gemini",
            vec!["logit_bias", "user", "metadata", "parallel_tool_calls"],
        ),
        (
            "bedrock-converse",
            vec!["logit_bias", "user", "seed", "parallel_tool_calls"],
        ),
        (
            "ollama-chat",
            vec!["logit_bias", "user", "metadata", "parallel_tool_calls"],
        ),
    ] {
        assert_eq!(sent(wire, "m", CHAT, &body).1, names, "{wire}");
    }
}

/// A conversation in which `id` was called with `arguments`, and `content` is the result.
fn called(id: &str, name: &str, input: Value, content: Value) -> Value {
    let turns = json!([
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": [{"type": "tool_use", "id": id, "name": name, "input": input}]},
        {"role": "user", "content": [
            {"type": "tool_result", "tool_use_id": id, "content": content, "is_error": true},
            {"type": "text", "text": "Go on"},
        ]},
    ]);
    let tools = json!([{"name": name, "input_schema": {"type": "object"}}]);
    with(&with(&messages(), "messages", turns), "tools", tools)
}

/// All strings of a value.
fn strings<'a>(value: &'a Value, out: &mut Vec<&'a str>) {
    match value {
        Value::String(text) => out.push(text),
        Value::Array(list) => list.iter().for_each(|value| strings(value, out)),
        Value::Object(members) => members.values().for_each(|value| strings(value, out)),
        _ => {}
    }
}

#[test]
fn a_tool_name_over_the_vendors_limit_is_shortened_everywhere() {
    let name = "mcp__plugin_youtube_content_strategist_youtube_analytics__get_video_transcript";
    let body = called("c1", name, json!({}), json!("ok"));
    let body = with(&body, "tool_choice", json!({"type": "tool", "name": name}));
    for (wire, model) in TARGETS {
        let (sent, changed) = sent(wire, model, MESSAGES, &body);
        let mut texts = Vec::new();
        strings(&sent, &mut texts);
        let is_name = |text: &&&str| text.starts_with("mcp__plugin");
        let names: Vec<_> = texts.iter().filter(is_name).collect();
        assert!(names.len() >= 2, "{wire}: {sent}");
        assert!(
            names.iter().all(|found| *found == names[0]),
            "{wire}: {names:?}"
        );
        match wire {
            "anthropic-messages" | "cohere-chat" | "ollama-chat" => {
                assert_eq!(*names[0], name, "{wire}")
            }
            _ => {
                assert!(names[0].len() <= 64, "{wire}: {names:?}");
                assert!(
                    changed.contains(&"tools[0]".to_owned()),
                    "{wire}: {changed:?}"
                );
            }
        }
    }
}

#[test]
fn ids_of_calls_fit_the_vendor() {
    let body = called("functions.get_weather:0", "f", json!({}), json!("ok"));
    let (sent_claude, _) = sent(CLAUDE.0, CLAUDE.1, MESSAGES, &body);
    // The client speaks the upstream's protocol, which knows its own ids.
    assert_eq!(
        sent_claude["messages"][1]["content"][0]["id"],
        "functions.get_weather:0"
    );
    let (bedrock, _) = sent("bedrock-converse", "m", MESSAGES, &body);
    let id = bedrock["messages"][1]["content"][0]["toolUse"]["toolUseId"]
        .as_str()
        .unwrap();
    assert!(
        id.chars()
            .all(|c| c.is_ascii_alphanumeric() || "_-".contains(c)),
        "{id}"
    );
    assert_eq!(
        bedrock["messages"][2]["content"][0]["toolResult"]["toolUseId"],
        id
    );

    let request = parse(
        MESSAGES,
        &called("call_abcDEF123456", "f", json!({}), json!("ok")),
    )
    .unwrap();
    let wire = wire::by_name("openai-chat").unwrap();
    let vendor = &preset::by_name("mistral").unwrap().vendor;
    let for_wire = signer(wire.name()).verify(request.for_wire(wire.name()).unwrap());
    let settings = TargetSettings::default();
    let adapted = Adapted::new(&request, for_wire, wire, "mistral-large", vendor, settings);
    let sent = wire
        .request(&adapted.request, "mistral-large", vendor)
        .unwrap()
        .body;
    let id = sent["messages"][1]["tool_calls"][0]["id"].as_str().unwrap();
    assert!(
        id.len() == 9 && id.chars().all(|c| c.is_ascii_alphanumeric()),
        "{id}"
    );
    assert_eq!(sent["messages"][2]["tool_call_id"], id);
}

#[test]
fn arguments_that_were_cut_are_sent_as_an_object() {
    let body = called("c1", "f", json!("{\"city\":\"Pa"), json!("ok"));
    for (wire, model) in TARGETS {
        if wire == "anthropic-messages" {
            continue;
        }
        let (sent, changed) = sent(wire, model, MESSAGES, &body);
        let text = sent.to_string();
        assert!(text.contains("incomplete_arguments"), "{wire}: {text}");
        assert!(
            changed.contains(&"messages[1]".to_owned()),
            "{wire}: {changed:?}"
        );
    }
}

#[test]
fn media_in_results_are_sent_where_the_vendor_accepts_them() {
    let image = json!({"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "AA=="}});
    let content = json!([{"type": "text", "text": "shot"}, image]);
    let body = called("c1", "f", json!({}), content);
    let (chat, changed) = sent("openai-chat", "gpt-4o", MESSAGES, &body);
    assert_eq!(changed, ["messages[2]"]);
    let result = &chat["messages"][2];
    assert_eq!(result["role"], "tool");
    assert!(!result.to_string().contains("image_url"), "{result}");
    let image = &chat["messages"][3];
    assert_eq!(
        (&image["role"], &image["content"][1]["type"]),
        (&json!("user"), &json!("image_url"))
    );
    assert_eq!(
        chat["messages"][4],
        json!({"role": "user", "content": "Go on"})
    );

    let parts = |model: &str| {
        let (sent, _) = sent("gemini", model, MESSAGES, &body);
        let result = &sent["contents"][2]["parts"][0]["functionResponse"];
        (
            result["parts"].is_array(),
            sent.to_string().matches("inlineData").count(),
        )
    };
    assert_eq!(parts("gemini-2.5-pro"), (false, 1));
    assert_eq!(parts("gemini-3-pro"), (true, 1));
    let (bedrock, changed) = sent("bedrock-converse", "m", MESSAGES, &body);
    let result = &bedrock["messages"][2]["content"][0]["toolResult"];
    assert!(result["content"][1]["image"].is_object(), "{result}");
    assert_eq!(changed, Vec::<String>::new());
}

#[test]
fn an_empty_result_is_an_empty_text() {
    for content in [json!([]), Value::Null] {
        let body = called("c1", "f", json!({}), content);
        let (chat, _) = sent("openai-chat", "gpt-4o", MESSAGES, &body);
        assert_eq!(chat["messages"][2]["content"], "");
    }
}

#[test]
fn a_failed_tool_is_named_as_such() {
    let body = called("c1", "f", json!({}), json!("no"));
    let (bedrock, _) = sent("bedrock-converse", "m", MESSAGES, &body);
    assert_eq!(
        bedrock["messages"][2]["content"][0]["toolResult"]["status"],
        "error"
    );
    let (gemini, _) = sent("gemini", "m", MESSAGES, &body);
    let response = &gemini["contents"][2]["parts"][0]["functionResponse"]["response"];
    assert_eq!(*response, json!({"error": "no"}));
}

#[test]
fn a_file_has_a_name_where_the_vendor_requires_one() {
    let file = json!([{"role": "user", "content": [
        {"type": "document", "source": {"type": "base64", "media_type": "application/pdf", "data": "JVBE"}},
    ]}]);
    let body = with(&messages(), "messages", file);
    let (chat, _) = sent("openai-chat", "gpt-4o", MESSAGES, &body);
    assert_eq!(
        chat["messages"][0]["content"][0]["file"]["filename"],
        "document.pdf"
    );
    let (responses, _) = sent("openai-responses", "gpt-4o", MESSAGES, &body);
    assert_eq!(
        responses["input"][0]["content"][0]["filename"],
        "document.pdf"
    );
}

#[test]
fn a_choice_without_tools_is_left_out() {
    let body = with(
        &with(&messages(), "tools", json!([])),
        "tool_choice",
        json!({"type": "auto"}),
    );
    let (chat, changed) = sent("openai-chat", "gpt-4o", MESSAGES, &body);
    assert_eq!(
        (&chat["tools"], &chat["tool_choice"]),
        (&Value::Null, &Value::Null)
    );
    assert_eq!(changed, ["tool_choice"]);
}

#[test]
fn a_call_is_forced_by_an_instruction_where_the_vendor_has_no_choice() {
    let tools = json!([
        {"type": "function", "function": {"name": "f"}},
        {"type": "function", "function": {"name": "g"}},
    ]);
    let body = with(&chat(), "tools", tools);
    let choice = json!({"type": "function", "function": {"name": "g"}});
    let (named, changed) = sent(
        "ollama-chat",
        "m",
        CHAT,
        &with(&body, "tool_choice", choice),
    );
    assert_eq!(changed, ["tool_choice"]);
    assert_eq!(named["tools"].as_array().unwrap().len(), 1);
    assert_eq!(named["messages"][0]["role"], "system");
    let (any, _) = sent(
        "ollama-chat",
        "m",
        CHAT,
        &with(&body, "tool_choice", json!("required")),
    );
    assert_eq!(any["tools"].as_array().unwrap().len(), 2);
}

#[test]
fn a_json_object_is_asked_for_by_an_instruction_where_the_vendor_has_no_such_format() {
    let body = with(&chat(), "response_format", json!({"type": "json_object"}));
    for target in [CLAUDE, ("bedrock-converse", "m")] {
        let (sent, changed) = sent(target.0, target.1, CHAT, &body);
        assert!(sent["system"].to_string().contains("JSON object"), "{sent}");
        assert_eq!(changed, ["response_format"]);
    }
}

#[test]
fn a_schema_with_tools_becomes_an_instruction_where_the_vendor_has_either() {
    let format =
        json!({"type": "json_schema", "json_schema": {"name": "x", "schema": {"title": "Fruit"}}});
    let tools = json!([{"type": "function", "function": {"name": "f"}}]);
    let body = with(&with(&chat(), "response_format", format), "tools", tools);
    let (older, changed) = sent("gemini", "gemini-2.5-pro", CHAT, &body);
    assert!(
        older["systemInstruction"].to_string().contains("Fruit"),
        "{older}"
    );
    assert_eq!(older["generationConfig"]["responseMimeType"], Value::Null);
    assert_eq!(changed, ["response_format"]);
    let (newer, changed) = sent("gemini", "gemini-3-pro", CHAT, &body);
    assert_eq!(
        newer["generationConfig"]["responseMimeType"],
        "application/json"
    );
    assert_eq!(changed, Vec::<String>::new());
    let (cohere, changed) = sent("cohere-chat", "m", CHAT, &body);
    assert_eq!(cohere["messages"][0]["role"], "system");
    assert!(
        cohere["messages"][0].to_string().contains("Fruit"),
        "{cohere}"
    );
    assert_eq!(cohere["response_format"], Value::Null);
    assert_eq!(changed, ["response_format"]);
}

#[test]
fn a_conversation_begins_with_the_user_where_the_vendor_requires_it() {
    let greeting = json!([
        {"role": "system", "content": "S"},
        {"role": "assistant", "content": "Hello!"},
        {"role": "user", "content": "Hi"},
    ]);
    let body = with(&chat(), "messages", greeting);
    let (sent, changed) = sent("bedrock-converse", "m", CHAT, &body);
    assert_eq!(sent["messages"][0]["role"], "user");
    assert_eq!(changed, ["messages[1]"]);
}

#[test]
fn marks_of_the_cache_are_kept_where_the_vendor_has_them() {
    let cached = json!({"type": "ephemeral"});
    let mut body = called("c1", "f", json!({}), json!("ok"));
    body["system"] = json!([{"type": "text", "text": "S", "cache_control": cached}]);
    body["tools"][0]["cache_control"] = cached.clone();
    body["messages"][2]["content"][0]["cache_control"] = cached.clone();
    body["messages"][2]["content"].as_array_mut().unwrap().pop();
    let (bedrock, changed) = sent("bedrock-converse", "anthropic.claude-x", MESSAGES, &body);
    let point = json!({"cachePoint": {"type": "default"}});
    assert_eq!(bedrock["system"][1], point);
    assert_eq!(bedrock["toolConfig"]["tools"][1], point);
    assert_eq!(bedrock["messages"][2]["content"][1], point);
    assert_eq!(changed, Vec::<String>::new());
    let (chat, changed) = sent("openai-chat", "gpt-4o", MESSAGES, &body);
    assert!(!chat.to_string().contains("cache"), "{chat}");
    assert_eq!(changed, ["cache_control"]);

    let parts = json!([{"role": "user", "content": [
        {"type": "text", "text": "long", "cache_control": cached},
        {"type": "text", "text": "short"},
    ]}]);
    let (claude, _) = sent(
        CLAUDE.0,
        CLAUDE.1,
        CHAT,
        &with(&super::adapted::chat(), "messages", parts),
    );
    assert_eq!(
        claude["messages"][0]["content"],
        json!([
            {"type": "text", "text": "long", "cache_control": cached},
            {"type": "text", "text": "short"},
        ])
    );
}

#[test]
fn reasoning_has_the_form_that_the_model_takes() {
    for ((wire, model), place, expected) in [
        (OPUS, "/thinking/type", json!("adaptive")),
        (OPUS, "/output_config/effort", json!("high")),
        (CLAUDE, "/thinking/type", json!("enabled")),
        (
            ("anthropic-messages", "claude-3-5-haiku-latest"),
            "/thinking",
            Value::Null,
        ),
        (
            ("openai-chat", "gpt-5.2"),
            "/reasoning_effort",
            json!("high"),
        ),
        // The client's own protocol.
        (
            ("openai-chat", "gpt-4o"),
            "/reasoning_effort",
            json!("high"),
        ),
        (
            ("openai-chat", "unknown"),
            "/reasoning_effort",
            json!("high"),
        ),
        (("openai-responses", "gpt-4o"), "/reasoning", Value::Null),
        (
            ("gemini", "gemini-2.0-flash"),
            "/generationConfig/thinkingConfig",
            Value::Null,
        ),
        (("ollama-chat", "qwen3"), "/think", json!(true)),
        (("cohere-chat", "command-r"), "/thinking", Value::Null),
    ] {
        let body = with(&chat(), "reasoning_effort", json!("high"));
        let (sent, _) = sent(wire, model, CHAT, &body);
        let found = sent.pointer(place).cloned().unwrap_or_default();
        assert_eq!(found, expected, "{wire} {model}: {sent}");
    }
    let body = with(&chat(), "reasoning", json!({"effort": "high"}));
    assert_eq!(
        sent(OPUS.0, OPUS.1, CHAT, &body).0["output_config"]["effort"],
        "high"
    );
}

#[test]
fn an_effort_that_is_sent_by_default_does_not_reach_a_model_that_may_refuse_it() {
    let mut body = with(&messages(), "output_config", json!({"effort": "high"}));
    body["thinking"] = json!({"type": "adaptive"});
    for ((wire, model), place, expected) in [
        (("ollama-chat", "llama3.3"), "/think", Value::Null),
        (
            ("openai-chat", "llama3.3"),
            "/reasoning_effort",
            Value::Null,
        ),
        (("openai-chat", "gpt-4o"), "/reasoning_effort", Value::Null),
        (
            ("openai-chat", "gpt-5.2"),
            "/reasoning_effort",
            json!("high"),
        ),
        (
            ("openai-responses", "o4-mini"),
            "/reasoning/effort",
            json!("high"),
        ),
        (
            ("bedrock-converse", "anthropic.claude-opus-4-8"),
            "/additionalModelRequestFields/thinking/type",
            json!("adaptive"),
        ),
    ] {
        let (sent, changed) = sent(wire, model, MESSAGES, &body);
        let found = sent.pointer(place).cloned().unwrap_or_default();
        assert_eq!(found, expected, "{wire} {model}: {sent}");
        assert_eq!(
            changed.contains(&"reasoning".to_owned()),
            expected.is_null(),
            "{wire} {model}"
        );
    }
    body["thinking"] = json!({"type": "disabled"});
    let (sent, _) = sent(
        "bedrock-converse",
        "anthropic.claude-sonnet-4-5",
        MESSAGES,
        &body,
    );
    assert_eq!(sent["additionalModelRequestFields"], Value::Null, "{sent}");
}

#[test]
fn a_target_overrides_how_its_model_reasons() {
    let request = parse(CHAT, &with(&chat(), "reasoning_effort", json!("high"))).unwrap();
    let wire = wire::by_name("openai-chat").unwrap();
    let vendor = Vendor::default();
    for (style, effort) in [
        (ReasoningStyle::None, Value::Null),
        (ReasoningStyle::Effort, json!("high")),
    ] {
        let settings = TargetSettings {
            reasoning: Some(style),
            ..TargetSettings::default()
        };
        let for_wire = request.for_wire(wire.name()).unwrap();
        let adapted = Adapted::new(&request, for_wire, wire, "my-finetune", &vendor, settings);
        let sent = wire
            .request(&adapted.request, "my-finetune", &vendor)
            .unwrap()
            .body;
        assert_eq!(sent["reasoning_effort"], effort);
    }
}

#[test]
fn thinking_is_left_out_where_the_vendor_refuses_it() {
    let history = json!([
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "tool_calls": [
            {"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}},
        ]},
        {"role": "tool", "tool_call_id": "c1", "content": "ok"},
    ]);
    let thinking = with(&chat(), "reasoning_effort", json!("low"));
    let second = with(&thinking, "messages", history);
    assert_eq!(
        sent(CLAUDE.0, CLAUDE.1, CHAT, &second).0["thinking"],
        Value::Null
    );
    let tools = json!([{"type": "function", "function": {"name": "f"}}]);
    let forced = with(
        &with(&thinking, "tools", tools),
        "tool_choice",
        json!("required"),
    );
    assert_eq!(
        sent(CLAUDE.0, CLAUDE.1, CHAT, &forced).0["thinking"],
        Value::Null
    );
    let (opus, _) = sent(OPUS.0, OPUS.1, CHAT, &forced);
    assert_eq!(opus["thinking"], Value::Null);
    assert_eq!(opus["output_config"]["effort"], "low");
}

#[test]
fn tools_of_the_vendor_are_left_out_unless_they_must_be_used() {
    let search = json!([
        {"name": "f", "input_schema": {"type": "object"}},
        {"type": "web_search_20250305", "name": "web_search", "max_uses": 3},
    ]);
    let body = with(&messages(), "tools", search);
    let (chat, changed) = sent("openai-chat", "gpt-4o", MESSAGES, &body);
    assert_eq!(chat["tools"].as_array().unwrap().len(), 1);
    assert_eq!(changed, ["tools[1]"]);
    let only = json!([{"type": "web_search_20250305", "name": "web_search"}]);
    let (alone, _) = sent("gemini", "m", MESSAGES, &with(&messages(), "tools", only));
    assert_eq!(alone["tools"], Value::Null);
}

#[test]
fn forms_of_other_clients_are_accepted() {
    let flat = json!([{"type": "function", "name": "f", "parameters": {"type": "object"}}]);
    let (claude, _) = sent(CLAUDE.0, CLAUDE.1, CHAT, &with(&chat(), "tools", flat));
    assert_eq!(claude["tools"][0]["name"], "f");
    let any = with(
        &with(
            &chat(),
            "tools",
            json!([{"type": "function", "function": {"name": "f"}}]),
        ),
        "tool_choice",
        json!("any"),
    );
    assert_eq!(sent("openai-chat", "m", CHAT, &any).0["tool_choice"], "any");
    assert_eq!(
        sent(CLAUDE.0, CLAUDE.1, CHAT, &any).0["tool_choice"]["type"],
        "any"
    );
    for format in [
        json!({"type": "json_object", "schema": {"type": "object"}}),
        json!({"type": "json_schema", "schema": {"type": "object"}}),
        json!({"type": "json_schema", "json_schema": {"schema": {"type": "object"}}}),
    ] {
        let body = with(&chat(), "response_format", format.clone());
        assert_eq!(
            sent("openai-chat", "m", CHAT, &body).0["response_format"],
            format
        );
        let (claude, _) = sent(CLAUDE.0, CLAUDE.1, CHAT, &body);
        assert_eq!(
            claude["output_config"]["format"]["schema"],
            json!({"type": "object"})
        );
    }
    let options = json!({"include_usage": true, "continuous_usage_stats": true});
    let (chat_sent, _) = sent(
        "openai-chat",
        "m",
        CHAT,
        &with(&chat(), "stream_options", options.clone()),
    );
    assert_eq!(chat_sent["stream_options"], options);
}

#[test]
fn an_image_of_an_earlier_answer_is_passed_on_in_the_same_protocol() {
    let turns = json!([
        {"role": "user", "content": "Draw"},
        {"role": "assistant", "content": [
            {"type": "text", "text": "Here"},
            {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA=="}},
        ]},
        {"role": "user", "content": "Again"},
    ]);
    let body = with(&chat(), "messages", turns.clone());
    assert_eq!(sent("openai-chat", "m", CHAT, &body).0["messages"], turns);
    let request = parse(CHAT, &body).unwrap();
    let error = sent_to("gemini", "m", &request).unwrap_err();
    assert!(
        error.message().starts_with("messages[1].content: "),
        "{error}"
    );
}

fn codex() -> Value {
    json!({
        "model": "m",
        "input": [
            {"type": "message", "role": "developer", "content": [{"type": "input_text", "text": "Rules"}]},
            {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "Hi"}]},
            {"type": "custom_tool_call", "call_id": "c1", "name": "apply_patch", "input": "*** Begin\n\"x\""},
            {"type": "custom_tool_call_output", "call_id": "c1", "output": "Done"},
            {"type": "tool_search_call", "call_id": "c2", "execution": "client", "arguments": {"query": "mail"}},
            {"type": "tool_search_output", "call_id": "c2", "execution": "client", "status": "completed", "tools": [
                {"type": "namespace", "name": "mcp__mail", "description": "Mail", "tools": [
                    {"type": "function", "name": "send", "parameters": {"type": "object"}},
                ]},
            ]},
            {"type": "function_call", "call_id": "c3", "namespace": "mcp__mail", "name": "send", "arguments": "{}"},
            {"type": "function_call_output", "call_id": "c3", "output": "sent"},
            {"type": "web_search_call", "id": "ws_1", "status": "completed"},
        ],
        "tools": [
            {"type": "function", "name": "exec", "parameters": {"type": "object"}},
            {"type": "custom", "name": "apply_patch", "description": "Edits files.",
             "format": {"type": "grammar", "syntax": "lark", "definition": "start: \"x\""}},
            {"type": "namespace", "name": "multi_agent", "tools": [
                {"type": "function", "name": "spawn", "parameters": {"type": "object"}},
                {"type": "function", "name": "exec", "parameters": {"type": "object"}},
            ]},
            {"type": "tool_search", "execution": "client", "description": "Finds tools.",
             "parameters": {"type": "object", "properties": {"query": {"type": "string"}}}},
            {"type": "web_search", "external_web_access": true},
        ],
        "tool_choice": "auto",
        "parallel_tool_calls": true,
        "store": false,
        "include": ["reasoning.encrypted_content"],
    })
}

#[test]
fn the_tools_of_codex_become_functions_on_every_other_wire() {
    for (wire, model) in TARGETS {
        if wire == "openai-responses" {
            continue;
        }
        let (sent, changed) = sent(wire, model, RESPONSES, &codex());
        let text = sent.to_string();
        for name in [
            "apply_patch",
            "spawn",
            "multi_agent__exec",
            "tool_search",
            "send",
            "Rules",
        ] {
            assert!(
                text.contains(&format!("\"{name}\"")),
                "{wire} {name}: {text}"
            );
        }
        assert!(text.contains("grammar (lark)"), "{wire}: {text}");
        assert!(!text.contains("web_search"), "{wire}: {text}");
        for name in ["tools[4]", "include", "store", "input[8]"] {
            assert!(
                changed.contains(&name.to_owned()),
                "{wire} {name}: {changed:?}"
            );
        }
    }
    let (chat, _) = sent("openai-chat", "m", RESPONSES, &codex());
    assert_eq!(chat["messages"][0]["role"], "system");
    let calls = &chat["messages"][2]["tool_calls"];
    assert_eq!(calls[0]["function"]["name"], "apply_patch");
    let arguments: Value =
        serde_json::from_str(calls[0]["function"]["arguments"].as_str().unwrap()).unwrap();
    assert_eq!(arguments, json!({"input": "*** Begin\n\"x\""}));
}

#[test]
fn a_choice_of_tools_in_responses_is_kept() {
    let choose = |choice: Value| {
        let (sent, _) = sent(
            "openai-chat",
            "m",
            RESPONSES,
            &with(&codex(), "tool_choice", choice),
        );
        (
            sent["tool_choice"].clone(),
            sent["tools"].as_array().unwrap().len(),
        )
    };
    let function = |name: &str| json!({"type": "function", "function": {"name": name}});
    assert_eq!(
        choose(json!({"type": "custom", "name": "apply_patch"})).0,
        function("apply_patch")
    );
    let namespaced = json!({"type": "function", "namespace": "multi_agent", "name": "exec"});
    assert_eq!(choose(namespaced).0, function("multi_agent__exec"));
    let allowed = json!({"type": "allowed_tools", "mode": "required", "tools": [
        {"type": "function", "name": "exec"},
        {"type": "web_search"},
    ]});
    assert_eq!(choose(allowed), (json!("required"), 1));
    let request = parse(
        RESPONSES,
        &with(&codex(), "tool_choice", json!({"type": "web_search"})),
    )
    .unwrap();
    let error = sent_to("openai-chat", "m", &request).unwrap_err();
    assert!(error.message().starts_with("tool_choice: "), "{error}");
}

#[test]
fn settings_that_thinking_excludes_are_named() {
    let body = with(&chat(), "reasoning_effort", json!("low"));
    let body = with(&with(&body, "temperature", json!(0.2)), "top_p", json!(0.5));
    let (_, changed) = sent("anthropic-messages", "claude-sonnet-4", CHAT, &body);
    assert_eq!(changed, ["temperature", "top_p"]);
    let tools = json!([{"type": "function", "function": {"name": "f"}}]);
    let forced = with(
        &with(&body, "tools", tools),
        "tool_choice",
        json!("required"),
    );
    let (_, changed) = sent("anthropic-messages", "claude-sonnet-4", CHAT, &forced);
    assert_eq!(changed, ["reasoning"]);
    let (openai, changed) = sent("openai-responses", "gpt-5.2", CHAT, &body);
    assert_eq!(openai["temperature"], Value::Null);
    assert_eq!(changed, ["temperature", "top_p"]);
    // A client of the upstream's own protocol knows its model.
    let (own, changed) = sent("openai-chat", "gpt-5.2", CHAT, &body);
    assert_eq!(own["temperature"], 0.2);
    assert_eq!(changed, Vec::<String>::new());
}

#[test]
fn thinking_that_is_only_adaptive_reaches_claude() {
    let body = with(&messages(), "thinking", json!({"type": "adaptive"}));
    let (bedrock, _) = sent(
        "bedrock-converse",
        "anthropic.claude-opus-4-8",
        MESSAGES,
        &body,
    );
    let fields = &bedrock["additionalModelRequestFields"];
    assert_eq!(fields["thinking"]["type"], "adaptive", "{bedrock}");
}

#[test]
fn a_bound_is_not_lowered_to_a_guess() {
    for (model, bound) in [
        ("claude-next-9", 100_000),
        ("anthropic/claude-3.7-sonnet", 64_000),
        ("unknown", 100_000),
    ] {
        let body = with(&chat(), "max_tokens", json!(100_000));
        let (claude, _) = sent("anthropic-messages", model, CHAT, &body);
        assert_eq!(claude["max_tokens"], bound, "{model}");
    }
}

#[test]
fn ids_that_repeat_become_unique() {
    let turn = |name: &str| {
        let function = json!({"name": name, "arguments": "{}"});
        json!({"role": "assistant", "tool_calls": [
            {"id": "call_0", "type": "function", "function": function},
            {"id": "", "type": "function", "function": function},
        ]})
    };
    let result =
        |id: &str, text: &str| json!({"role": "tool", "tool_call_id": id, "content": text});
    let turns = json!([
        {"role": "user", "content": "Hi"},
        turn("f"), result("call_0", "one"), result("", "two"),
        turn("f"), result("call_0", "three"), result("", "four"),
    ]);
    let (claude, _) = sent(CLAUDE.0, CLAUDE.1, CHAT, &with(&chat(), "messages", turns));
    let blocks = |at: usize| {
        claude["messages"][at]["content"]
            .as_array()
            .unwrap()
            .clone()
    };
    let mut ids = std::collections::HashSet::new();
    for (calls, results) in [(1, 2), (3, 4)] {
        for (call, result) in blocks(calls).iter().zip(blocks(results)) {
            assert_eq!(call["id"], result["tool_use_id"]);
            assert!(
                ids.insert(call["id"].as_str().unwrap().to_owned()),
                "{claude}"
            );
        }
    }
    assert_eq!(blocks(4)[1]["content"][0]["text"], "four");
}

#[test]
fn a_turn_of_nothing_that_is_sent_is_left_out() {
    let turns = json!([
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": [{"type": "thinking", "thinking": "Hm", "signature": ""}]},
        {"role": "user", "content": "Go on"},
    ]);
    let (sent_chat, _) = sent(
        "openai-chat",
        "gpt-4o",
        MESSAGES,
        &with(&messages(), "messages", turns),
    );
    assert_eq!(
        sent_chat["messages"].as_array().unwrap().len(),
        2,
        "{sent_chat}"
    );
    let blank = json!([
        {"role": "user", "content": ""},
        {"role": "assistant", "content": "Hello! "},
    ]);
    let (claude, _) = sent(CLAUDE.0, CLAUDE.1, CHAT, &with(&chat(), "messages", blank));
    assert_eq!(claude["messages"][0]["role"], "user");
    assert_eq!(claude["messages"][1]["content"][0]["text"], "Hello!");
}

#[test]
fn allowed_tools_are_the_only_tools() {
    let tool = |name: &str| json!({"type": "function", "function": {"name": name}});
    let choice = json!({"type": "allowed_tools", "allowed_tools": {
        "mode": "required",
        "tools": [{"type": "function", "function": {"name": "b"}}],
    }});
    let asked = with(&chat(), "tools", json!([tool("a"), tool("b")]));
    let asked = with(&asked, "tool_choice", choice);
    let (claude, _) = sent(CLAUDE.0, CLAUDE.1, CHAT, &asked);
    assert_eq!(claude["tools"].as_array().map(Vec::len), Some(1));
    assert_eq!(claude["tools"][0]["name"], "b");
    assert_eq!(claude["tool_choice"]["type"], "any");
    let (own, _) = sent("openai-chat", "m", CHAT, &asked);
    assert_eq!(own["tools"], json!([tool("a"), tool("b")]));
    assert_eq!(own["tool_choice"]["type"], "allowed_tools");
}

#[test]
fn results_come_right_behind_their_calls() {
    let turns = json!([
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": [
            {"type": "tool_use", "id": "a", "name": "f", "input": {}},
            {"type": "tool_use", "id": "b", "name": "f", "input": {}},
        ]},
        {"role": "user", "content": [
            {"type": "tool_result", "tool_use_id": "a", "content": "1"},
            {"type": "text", "text": "and"},
            {"type": "tool_result", "tool_use_id": "b", "content": "2"},
        ]},
    ]);
    let (sent_chat, _) = sent(
        "openai-chat",
        "gpt-4o",
        MESSAGES,
        &with(&messages(), "messages", turns),
    );
    let roles: Vec<_> = sent_chat["messages"]
        .as_array()
        .unwrap()
        .iter()
        .map(|m| m["role"].clone())
        .collect();
    assert_eq!(roles, ["user", "assistant", "tool", "tool", "user"]);
}

#[test]
fn schemas_have_a_type_and_properties() {
    let tools = json!([{"name": "f", "input_schema": {"type": "object"}}]);
    let (sent_chat, _) = sent(
        "openai-chat",
        "gpt-4o",
        MESSAGES,
        &with(&messages(), "tools", tools),
    );
    let schema = &sent_chat["tools"][0]["function"]["parameters"];
    assert_eq!(*schema, json!({"type": "object", "properties": {}}));
}

#[test]
fn a_file_that_a_tool_read_does_not_end_the_conversation() {
    let file = json!([{"type": "document", "source": {"type": "base64", "media_type": "application/pdf", "data": "JVBE"}}]);
    for wire in ["ollama-chat", "cohere-chat"] {
        let body = called("c1", "f", json!({}), file.clone());
        let (_, changed) = sent(wire, "m", MESSAGES, &body);
        assert_eq!(changed, ["messages[2]"], "{wire}");
    }
}

#[test]
fn tools_of_the_same_name_stay_apart() {
    let body = json!({
        "model": "m",
        "input": [{"role": "user", "content": "Hi"}],
        "tools": [
            {"type": "namespace", "name": "a", "tools": [{"type": "function", "name": "f"}, {"type": "function", "name": "g"}]},
            {"type": "function", "name": "f"},
            {"type": "function", "name": "a__f"},
            {"type": "function", "name": "tool_search"},
            {"type": "tool_search", "execution": "client", "description": "Search"},
        ],
    });
    let (sent_chat, _) = sent("openai-chat", "m", RESPONSES, &body);
    let tools = sent_chat["tools"].as_array().unwrap().iter();
    let names: Vec<_> = tools.map(|tool| tool["function"]["name"].clone()).collect();
    assert_eq!(
        names,
        ["a__f_", "g", "f", "a__f", "tool_search", "tool_search_"]
    );
}

#[test]
fn the_work_for_many_tools_and_files_does_not_explode() {
    let tools: Vec<Value> = (0..20_000)
        .map(|at| json!({"type": "function", "name": format!("f{at}")}))
        .chain((0..20_000).map(|_| json!({"type": "x"})))
        .collect();
    let mut body = codex();
    body["tools"] = tools.into();
    let (_, changed) = sent("openai-chat", "m", RESPONSES, &body);
    assert!(changed.len() <= 256, "{}", changed.len());
    let file = json!({"type": "file", "file": {"file_data": "data:application/pdf;base64,QQ=="}});
    let content: Vec<Value> = std::iter::repeat_n(file, 5_000).collect();
    let body = with(
        &chat(),
        "messages",
        json!([{"role": "user", "content": content}]),
    );
    sent("bedrock-converse", "m", CHAT, &body);
}

#[test]
fn media_have_the_form_that_the_vendor_knows() {
    for written in ["image/JPG", "image/pjpeg", "image/jpeg; name=a.jpg"] {
        let url = format!("data:{written};base64,AA==");
        let parts = json!([{"role": "user", "content": [{"type": "image_url", "image_url": {"url": url}}]}]);
        let (claude, _) = sent(CLAUDE.0, CLAUDE.1, CHAT, &with(&chat(), "messages", parts));
        let source = &claude["messages"][0]["content"][0]["source"];
        assert_eq!(source["media_type"], "image/jpeg", "{written}");
    }
    let document = json!({"type": "document", "source": {"type": "base64", "media_type": "application/pdf", "data": "JVBE"}});
    let only = json!([{"role": "user", "content": [document]}]);
    let (bedrock, _) = sent(
        "bedrock-converse",
        "m",
        MESSAGES,
        &with(&messages(), "messages", only),
    );
    assert_eq!(
        bedrock["messages"][0]["content"][1],
        json!({"text": "(See the document.)"})
    );
}

#[test]
fn what_only_the_clients_own_vendor_knows_reaches_it() {
    let warm = with(&messages(), "max_tokens", json!(0));
    assert_eq!(
        sent("anthropic-messages", "claude-sonnet-4-5", MESSAGES, &warm).0["max_tokens"],
        0
    );
    let request = parse(MESSAGES, &warm).unwrap();
    let error = sent_to("openai-chat", "m", &request).unwrap_err();
    assert!(error.message().starts_with("max_tokens: "), "{error}");
    for body in [
        json!({"model": "m", "input": [], "previous_response_id": "resp_1"}),
        json!({"model": "m", "input": [{"id": "msg_1"}]}),
    ] {
        let (own, _) = sent("openai-responses", "m", RESPONSES, &body);
        assert_eq!(own["input"], body["input"]);
        assert!(
            sent_to("openai-chat", "m", &parse(RESPONSES, &body).unwrap()).is_err(),
            "{body}"
        );
    }
}

#[test]
fn efforts_are_words_that_the_model_knows() {
    let effort = |word: &str| with(&chat(), "reasoning_effort", json!(word));
    let (gemini, _) = sent("gemini", "gemini-2.5-pro", CHAT, &effort("none"));
    assert_eq!(
        gemini["generationConfig"]["thinkingConfig"]["thinkingBudget"],
        128
    );
    let (ollama, _) = sent("ollama-chat", "gpt-oss:20b", CHAT, &effort("max"));
    assert_eq!(ollama["think"], "high");
    let agents = with(&messages(), "output_config", json!({"effort": "xhigh"}));
    let (openai, _) = sent("openai-responses", "gpt-5", MESSAGES, &agents);
    assert_eq!(openai["reasoning"]["effort"], "high");
}

#[test]
fn a_schema_that_is_not_strict_is_not_called_so() {
    let optional = json!({"type": "object", "additionalProperties": false, "required": ["a"],
        "properties": {"a": {"type": "string"}, "b": {"type": "string"}}});
    let mut closed = optional.clone();
    closed["required"] = json!(["a", "b"]);
    for (schema, strict, changes) in [
        (optional, Value::Null, vec!["response_format"]),
        (closed, json!(true), vec![]),
    ] {
        let format = json!({"format": {"type": "json_schema", "schema": schema}});
        let body = with(&messages(), "output_config", format);
        let (sent_chat, changed) = sent("openai-chat", "gpt-4o", MESSAGES, &body);
        assert_eq!(
            sent_chat["response_format"]["json_schema"]["strict"],
            strict
        );
        assert_eq!(changed, changes);
    }
}

#[test]
fn mistral_gets_no_message_of_the_user_behind_results() {
    let request = parse(MESSAGES, &called("c1", "f", json!({}), json!("ok"))).unwrap();
    let wire = wire::by_name("openai-chat").unwrap();
    let roles = |preset: &str| {
        let vendor = &preset::by_name(preset).unwrap().vendor;
        let for_wire = request.for_wire(wire.name()).unwrap();
        let settings = TargetSettings::default();
        let adapted = Adapted::new(&request, for_wire, wire, "m", vendor, settings);
        let sent = wire.request(&adapted.request, "m", vendor).unwrap().body;
        let messages = sent["messages"].as_array().unwrap().iter();
        messages
            .map(|message| message["role"].clone())
            .collect::<Vec<_>>()
    };
    assert_eq!(roles("groq"), ["user", "assistant", "tool", "user"]);
    assert_eq!(
        roles("mistral"),
        ["user", "assistant", "tool", "assistant", "user"]
    );
}

#[test]
fn a_new_id_is_not_one_that_another_call_has() {
    let turn = |id: &str| {
        let function = json!({"name": "f", "arguments": "{}"});
        json!({"role": "assistant", "tool_calls": [{"id": id, "type": "function", "function": function}]})
    };
    let result = |id: &str| json!({"role": "tool", "tool_call_id": id, "content": "ok"});
    let mut turns = vec![json!({"role": "user", "content": "Hi"})];
    for id in ["a_1", "a", "a"] {
        turns.extend([turn(id), result(id)]);
    }
    let body = with(&chat(), "messages", turns.into());
    let (claude, _) = sent(CLAUDE.0, CLAUDE.1, CHAT, &body);
    let messages = claude["messages"].as_array().unwrap();
    let id = |at: usize, member: &str| messages[at]["content"][0][member].clone();
    let calls = [id(1, "id"), id(3, "id"), id(5, "id")];
    assert_eq!(calls, ["a_1", "a", "a_2"]);
    let results = [2, 4, 6].map(|at| id(at, "tool_use_id"));
    assert_eq!(results, calls);
}
