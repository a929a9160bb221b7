//! Requests to Cohere's chat API.

use super::*;

const WIRE: &str = "cohere-chat";

#[test]
fn a_prompt_and_its_steering() {
    let mut request = steered();
    request.extra = json!({"k": 3, "safety_mode": "STRICT"})
        .as_object()
        .cloned()
        .expect("an object");
    let sent = outgoing(WIRE, &request).expect("a request");
    assert_eq!(sent.path, "/v2/chat");
    assert_eq!(
        sent.body,
        json!({
            "model": "m",
            "messages": [{"role": "user", "content": "Hi"}],
            "stream": true,
            "max_tokens": 100,
            "temperature": 0.5,
            "p": 0.25,
            "seed": 7,
            "stop_sequences": ["END"],
            "k": 3,
            "safety_mode": "STRICT"
        })
    );
}

#[test]
fn system_prompts_and_images() {
    let detailed = Media {
        detail: Some("low".to_owned()),
        ..media(url())
    };
    let request = asking(vec![
        message(Role::System, vec![text("Be brief")]),
        message(
            Role::User,
            vec![
                text("What"),
                Part::Image(media(inline("image/png", "iVBO"))),
                Part::Image(detailed),
            ],
        ),
        message(Role::System, vec![text("Be"), text("kind")]),
    ]);
    assert_eq!(
        body(WIRE, &request)["messages"],
        json!([
            {"role": "system", "content": "Be brief"},
            {"role": "user", "content": [
                {"type": "text", "text": "What"},
                {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBO"}},
                {"type": "image_url",
                    "image_url": {"url": "https://example.com/x", "detail": "low"}}
            ]},
            {"role": "system", "content":
                [{"type": "text", "text": "Be"}, {"type": "text", "text": "kind"}]}
        ])
    );
}

#[test]
fn calls_and_results() {
    let mut request = tool_turns();
    request.messages[1].content[0] = Part::Reasoning {
        text: "I will look".to_owned(),
        signature: None,
    };
    let body = body(WIRE, &request);
    assert_eq!(
        body["messages"],
        json!([
            {"role": "user", "content": "Weather?"},
            {"role": "assistant", "tool_plan": "I will look", "tool_calls": [
                {"id": "a", "type": "function",
                    "function": {"name": "weather", "arguments": "{\"city\":\"Rome\"}"}},
                {"id": "b", "type": "function", "function": {"name": "time", "arguments": "{}"}}
            ]},
            {"role": "tool", "tool_call_id": "a", "content": "sunny"},
            {"role": "tool", "tool_call_id": "b", "content": "(no output)"},
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
    // Strictness is for all tools or for none.
    assert_eq!(body.get("strict_tools"), None);
    request.tools[1].strict = Some(true);
    assert_eq!(super::body(WIRE, &request)["strict_tools"], true);
}

#[test]
fn blank_texts_are_left_out() {
    let mut request = asking(vec![
        message(Role::System, vec![text("")]),
        message(Role::User, vec![text(" "), text("Hi")]),
        message(Role::Assistant, vec![text("\n\n")]),
        message(Role::User, vec![text("Well?")]),
    ]);
    assert_eq!(
        body(WIRE, &request)["messages"],
        json!([
            {"role": "user", "content": "Hi"},
            {"role": "user", "content": "Well?"}
        ])
    );
    request.messages.truncate(1);
    let error = outgoing(WIRE, &request).expect_err("nothing is left");
    assert!(error.to_string().contains("there is no message"), "{error}");
}

#[test]
fn an_earlier_answer_keeps_its_thoughts() {
    let thought = Part::Reasoning {
        text: "Hm".to_owned(),
        signature: None,
    };
    let request = asking(vec![
        message(Role::User, vec![text("Hi")]),
        message(Role::Assistant, vec![thought, text("Yo")]),
        message(Role::Assistant, vec![text("Well")]),
    ]);
    let body = body(WIRE, &request);
    assert_eq!(
        body["messages"][1],
        json!({"role": "assistant", "content":
            [{"type": "thinking", "thinking": "Hm"}, {"type": "text", "text": "Yo"}]})
    );
    assert_eq!(
        body["messages"][2],
        json!({"role": "assistant", "content": "Well"})
    );
}

#[test]
fn every_tool_choice() {
    let chosen = |choice| {
        let mut request = tool_turns();
        request.tool_choice = choice;
        let body = body(WIRE, &request);
        let tools = body["tools"].as_array().map_or(0, Vec::len);
        (
            body["tool_choice"].clone(),
            tools,
            body["tools"][0]["function"]["name"].clone(),
        )
    };
    let weather = || json!("weather");
    assert_eq!(chosen(None), (Value::Null, 2, weather()));
    assert_eq!(chosen(Some(ToolChoice::Auto)), (Value::Null, 2, weather()));
    assert_eq!(
        chosen(Some(ToolChoice::None)),
        (json!("NONE"), 2, weather())
    );
    assert_eq!(
        chosen(Some(ToolChoice::Required)),
        (json!("REQUIRED"), 2, weather())
    );
    // A named one is the only one there is.
    let named = Some(ToolChoice::Function("time".to_owned()));
    assert_eq!(chosen(named), (json!("REQUIRED"), 1, json!("time")));
}

#[test]
fn formats_and_thinking() {
    let mut request = hello();
    request.response_format = Some(ResponseFormat::Json);
    let format = |request: &Request| body(WIRE, request)["response_format"].clone();
    assert_eq!(format(&request), json!({"type": "json_object"}));
    request.response_format = Some(schema());
    assert_eq!(
        format(&request),
        json!({"type": "json_object", "json_schema": {"type": "object"}})
    );
    request.response_format = Some(ResponseFormat::Text);
    assert_eq!(format(&request), Value::Null);

    let said = |request: &Request| body(WIRE, request)["thinking"].clone();
    let enabled = |budget: u64| json!({"type": "enabled", "token_budget": budget});
    assert_eq!(
        said(&thinking(Some("none"), None, None)),
        json!({"type": "disabled"})
    );
    assert_eq!(said(&thinking(Some("low"), None, None)), enabled(2048));
    assert_eq!(
        said(&thinking(Some("high"), None, Some(1000))),
        enabled(500)
    );
    assert_eq!(said(&thinking(Some("low"), Some(100), None)), enabled(100));
    assert_eq!(
        said(&thinking(Some("max"), None, None)),
        json!({"type": "enabled"})
    );
    assert_eq!(said(&hello()), Value::Null);
}

#[test]
fn what_it_cannot_say() {
    let with = |part| asking(vec![message(Role::User, vec![text("x"), part])]);
    let file = Part::File(media(inline("application/pdf", "JVBERi0=")));
    refused(WIRE, &with(file), "messages[0].content[1].file");
    let upload = Part::Image(media(MediaSource::Id("f".to_owned())));
    refused(WIRE, &with(upload), "messages[0].content[1].image_url");

    let mut unknown = tool_turns();
    unknown.tool_choice = Some(ToolChoice::Function("news".to_owned()));
    refused(WIRE, &unknown, "tool_choice");
}
