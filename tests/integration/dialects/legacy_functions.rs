//! `functions` and `function_call` of Chat Completions, which became `tools` in 2023.

use serde_json::{Value, json};
use sluicegate::pipeline;
use sluicegate::wire;

use super::{dialect, parse, refused, sent, with};

const PATH: &str = "/v1/chat/completions";

fn asked() -> Value {
    json!({
        "model": "m",
        "messages": [
            {"role": "user", "content": "Weather in Köln?"},
            {"role": "assistant", "content": null, "function_call": {"name": "get_weather", "arguments": "{\"city\":\"Köln\"}"}},
            {"role": "function", "name": "get_weather", "content": "sunny"},
        ],
        "functions": [{"name": "get_weather", "description": "W", "parameters": {"type": "object"}}],
        "function_call": {"name": "get_weather"},
    })
}

fn answered(wire: &str, case: &str, ending: &str, stream: bool) -> String {
    let request = parse(PATH, &with(&asked(), "stream", json!(stream))).unwrap();
    let body = std::fs::read(format!("proto-fixtures/{wire}/{case}/upstream.{ending}")).unwrap();
    let wire = wire::by_name(wire).unwrap();
    let bytes = pipeline::bytes(wire, dialect(PATH), &request, [&body[..]]);
    String::from_utf8(bytes.to_vec()).unwrap()
}

#[test]
fn upstreams_get_tools_in_place_of_functions() {
    let request = parse(PATH, &asked()).unwrap();
    let body = sent("openai-chat", &request).unwrap();
    let function =
        json!({"name": "get_weather", "description": "W", "parameters": {"type": "object"}});
    assert_eq!(
        body["tools"],
        json!([{"type": "function", "function": function}])
    );
    let choice = json!({"type": "function", "function": {"name": "get_weather"}});
    assert_eq!(body["tool_choice"], choice);
    assert_eq!(body["parallel_tool_calls"], false);
    let call = &body["messages"][1]["tool_calls"][0];
    assert_eq!(call["function"]["arguments"], r#"{"city":"Köln"}"#);
    let result = json!({"role": "tool", "tool_call_id": call["id"], "content": "sunny"});
    assert_eq!(body["messages"][2], result);
    let said = body.to_string();
    assert!(
        !said.contains("functions") && !said.contains("function_call\""),
        "{said}"
    );
    // Not every upstream can be told which function to call.
    let request = parse(PATH, &with(&asked(), "function_call", Value::Null)).unwrap();
    for wire in wire::ALL {
        assert!(sent(wire.name(), &request).is_ok(), "{}", wire.name());
    }
}

#[test]
fn modes_calls_and_results_are_rewritten() {
    for mode in ["auto", "none"] {
        let request = parse(PATH, &with(&asked(), "function_call", json!(mode))).unwrap();
        assert_eq!(sent("openai-chat", &request).unwrap()["tool_choice"], mode);
    }
    // Clients send the null members of an answer back.
    let mut body = asked();
    body["functions"] = Value::Null;
    body["function_call"] = Value::Null;
    body["messages"] = json!([
        {"role": "assistant", "content": "Hi", "function_call": null, "tool_calls": null},
        {"role": "user", "content": "Hi"},
    ]);
    let request = parse(PATH, &body).unwrap();
    assert!(!request.legacy_functions);
    assert!(
        sent("openai-chat", &request)
            .unwrap()
            .get("tools")
            .is_none()
    );
}

#[test]
fn a_whole_answer_has_a_function_call() {
    for (wire, case, ending) in [
        ("openai-chat", "tool-call", "sse"),
        ("anthropic-messages", "tool-use", "sse"),
        ("ollama-chat", "tool-call", "ndjson"),
    ] {
        let answer: Value = serde_json::from_str(&answered(wire, case, ending, false)).unwrap();
        let choice = &answer["choices"][0];
        let call = &choice["message"]["function_call"];
        assert_eq!(call["name"], "get_weather", "{wire}");
        let arguments: Value = serde_json::from_str(call["arguments"].as_str().unwrap()).unwrap();
        assert!(arguments["city"].is_string(), "{wire}: {arguments}");
        assert_eq!(choice["finish_reason"], "function_call", "{wire}");
        assert!(choice["message"].get("tool_calls").is_none());
    }
}

/// There is room for the first of several.
#[test]
fn a_stream_has_one_function_call() {
    let stream = answered("openai-chat", "tool-call-interleaved", "sse", true);
    let data = stream
        .lines()
        .filter_map(|line| line.strip_prefix("data: {"));
    let choices = data.map(|data| serde_json::from_str::<Value>(&format!("{{{data}")).unwrap());
    let choices: Vec<Value> = choices.map(|chunk| chunk["choices"][0].clone()).collect();
    let calls = choices
        .iter()
        .map(|choice| &choice["delta"]["function_call"]);
    let arguments = calls.clone().filter_map(|call| call["arguments"].as_str());
    assert_eq!(arguments.collect::<String>(), r#"{"city":"Genf"}"#);
    assert_eq!(
        calls.filter(|call| call["name"] == "get_weather").count(),
        1
    );
    assert_eq!(choices.last().unwrap()["finish_reason"], "function_call");
    assert!(!stream.contains("tool_calls"), "{stream}");
}

#[test]
fn errors_name_the_field() {
    let messages = |messages: Value| with(&asked(), "messages", messages);
    let call = json!({"name": "f", "arguments": "{}"});
    refused(
        PATH,
        &with(&asked(), "functions", Value::Null),
        "function_call",
    );
    refused(PATH, &with(&asked(), "tools", json!([])), "functions");
    refused(
        PATH,
        &with(&asked(), "functions", json!(["f"])),
        "functions[0].name",
    );
    refused(
        PATH,
        &messages(json!([{"role": "assistant", "function_call": call, "tool_calls": []}])),
        "messages[0].function_call",
    );
    refused(
        PATH,
        &messages(
            json!([{"role": "assistant", "function_call": call}, {"role": "function", "name": "g", "content": ""}]),
        ),
        "messages[1].name",
    );
    refused(
        PATH,
        &messages(json!([{"role": "function", "content": ""}])),
        "messages[0].name",
    );
}
