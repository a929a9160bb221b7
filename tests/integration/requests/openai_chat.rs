//! Requests to OpenAI's chat API and its look-alikes.

use super::*;

const WIRE: &str = "openai-chat";

#[test]
fn a_prompt_and_its_steering() {
    let sent = outgoing(WIRE, &steered()).expect("a request");
    assert_eq!(sent.path, "/chat/completions");
    assert_eq!(
        sent.body,
        json!({
            "model": "m",
            "messages": [{"role": "user", "content": "Hi"}],
            "stream": true,
            "stream_options": {"include_usage": true},
            "max_tokens": 100,
            "temperature": 0.5,
            "top_p": 0.25,
            "stop": ["END"],
            "seed": 7,
            "user": "u1"
        })
    );
}

#[test]
fn calls_and_results() {
    let mut request = tool_turns();
    request.tool_choice = Some(ToolChoice::Required);
    let body = body(WIRE, &request);
    assert_eq!(
        body["messages"][1]["tool_calls"],
        json!([
            {"id": "a", "type": "function",
                "function": {"name": "weather", "arguments": "{\"city\":\"Rome\"}"}},
            {"id": "b", "type": "function", "function": {"name": "time", "arguments": ""}}
        ])
    );
    assert_eq!(
        body["messages"][2],
        json!({"role": "tool", "tool_call_id": "a", "content": "sunny"})
    );
    assert_eq!(body["tool_choice"], "required");
    assert_eq!(body["tools"][0]["function"]["strict"], true);
}

#[test]
fn a_vendor_that_differs() {
    let vendor = Vendor {
        max_tokens_field: "max_completion_tokens",
        stream_options: false,
    };
    let wire = wire::by_name(WIRE).expect("a wire of that name");
    let body = wire
        .request(&steered(), "m", &vendor)
        .expect("a request")
        .body;
    assert_eq!(body["max_completion_tokens"], 100);
    assert_eq!(body.get("max_tokens"), None);
    assert_eq!(body.get("stream_options"), None);
}

#[test]
fn formats_media_and_effort() {
    let mut request = thinking(Some("low"), None, None);
    request.response_format = Some(schema());
    request.messages[0].content.push(Part::Image(Media {
        detail: Some("low".to_owned()),
        ..media(inline("image/png", "iVBO"))
    }));
    let body = body(WIRE, &request);
    assert_eq!(body["reasoning_effort"], "low");
    assert_eq!(
        body["response_format"],
        json!({"type": "json_schema", "json_schema":
            {"name": "fruit", "schema": {"type": "object"}, "strict": true}})
    );
    assert_eq!(
        body["messages"][0]["content"][1],
        json!({"type": "image_url",
            "image_url": {"url": "data:image/png;base64,iVBO", "detail": "low"}})
    );
}

#[test]
fn one_call_at_most() {
    let mut request = tool_turns();
    request.parallel_tool_calls = Some(false);
    assert_eq!(body(WIRE, &request)["parallel_tool_calls"], false);
    request.tools.clear();
    assert_eq!(body(WIRE, &request)["parallel_tool_calls"], Value::Null);
}
