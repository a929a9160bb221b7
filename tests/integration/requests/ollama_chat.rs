//! Requests to Ollama's chat API.

use super::*;

const WIRE: &str = "ollama-chat";

#[test]
fn a_prompt_and_its_steering() {
    let mut request = steered();
    request.extra = json!({"keep_alive": "5m", "options": {"num_ctx": 8192}})
        .as_object()
        .cloned()
        .expect("an object");
    let sent = outgoing(WIRE, &request).expect("a request");
    assert_eq!(sent.path, "/api/chat");
    assert_eq!(
        sent.body,
        json!({
            "model": "m",
            "messages": [{"role": "user", "content": "Hi"}],
            "options": {"num_predict": 100, "temperature": 0.5, "top_p": 0.25, "seed": 7,
                "stop": ["END"], "num_ctx": 8192},
            "stream": true,
            "keep_alive": "5m"
        })
    );
}

#[test]
fn system_prompts_and_images() {
    let request = asking(vec![
        message(Role::System, vec![text("Be brief")]),
        message(
            Role::User,
            vec![
                text("What"),
                Part::Image(media(inline("image/png", "iVBO"))),
                text("is this?"),
            ],
        ),
    ]);
    assert_eq!(
        body(WIRE, &request)["messages"],
        json!([
            {"role": "system", "content": "Be brief"},
            {"role": "user", "content": "What\nis this?", "images": ["iVBO"]}
        ])
    );
}

#[test]
fn calls_and_results() {
    let mut request = tool_turns();
    request.messages[1].content[0] = Part::Reasoning {
        text: "Hm".to_owned(),
        signature: None,
    };
    let body = body(WIRE, &request);
    assert_eq!(
        body["messages"],
        json!([
            {"role": "user", "content": "Weather?"},
            {"role": "assistant", "content": "", "thinking": "Hm", "tool_calls": [
                {"id": "a", "function": {"name": "weather", "arguments": {"city": "Rome"}}},
                {"id": "b", "function": {"name": "time", "arguments": {}}}
            ]},
            {"role": "tool", "content": "sunny", "tool_name": "weather", "tool_call_id": "a"},
            {"role": "tool", "content": "", "tool_name": "time", "tool_call_id": "b"},
            {"role": "user", "content": "And?"}
        ])
    );
    assert_eq!(
        body["tools"],
        json!([
            {"type": "function", "function": {"name": "weather", "description": "Says it",
                "parameters": {"type": "object", "properties": {"city": {}}}}},
            {"type": "function", "function": {"name": "time",
                "parameters": {"type": "object", "properties": {}}}}
        ])
    );
    request.tool_choice = Some(ToolChoice::None);
    assert_eq!(super::body(WIRE, &request).get("tools"), None);
}

#[test]
fn formats_and_thinking() {
    let mut request = hello();
    request.response_format = Some(ResponseFormat::Json);
    assert_eq!(body(WIRE, &request)["format"], "json");
    request.response_format = Some(schema());
    assert_eq!(body(WIRE, &request)["format"], json!({"type": "object"}));

    let think = |request: &Request| body(WIRE, request)["think"].clone();
    assert_eq!(think(&thinking(Some("none"), None, None)), false);
    assert_eq!(think(&thinking(Some("high"), None, None)), true);
    assert_eq!(think(&thinking(None, Some(100), None)), true);
    assert_eq!(think(&hello()), Value::Null);

    let level = |effort| {
        let wire = wire::by_name(WIRE).expect("a wire of that name");
        let request = thinking(Some(effort), None, None);
        let sent = wire.request(&request, "gpt-oss:20b", &Vendor::default());
        sent.expect("a request").body["think"].clone()
    };
    assert_eq!(level("none"), false);
    assert_eq!(level("minimal"), "low");
    assert_eq!(level("high"), "high");
}

#[test]
fn what_it_cannot_say() {
    let asked = |part| asking(vec![message(Role::User, vec![text("x"), part])]);
    let linked = asked(Part::Image(media(url())));
    refused(WIRE, &linked, "messages[0].content[1].image_url");
    let filed = asked(Part::File(media(inline("application/pdf", "JVBERi0="))));
    refused(WIRE, &filed, "messages[0].content[1].file");

    let mut forced = hello();
    forced.tool_choice = Some(ToolChoice::Required);
    refused(WIRE, &forced, "tool_choice");
}
