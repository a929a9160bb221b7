//! Requests to OpenAI's Responses API.

use super::*;

const WIRE: &str = "openai-responses";

fn steered_without_stop() -> Request {
    let mut request = steered();
    request.stop.clear();
    request
}

fn user(text: &str) -> Value {
    json!({"type": "message", "role": "user", "content": [{"type": "input_text", "text": text}]})
}

#[test]
fn a_prompt_and_its_steering() {
    let sent = outgoing(WIRE, &steered_without_stop()).expect("a request");
    assert_eq!(sent.path, "/responses");
    assert_eq!(
        sent.body,
        json!({
            "model": "m",
            "input": [user("Hi")],
            "max_output_tokens": 100,
            "temperature": 0.5,
            "top_p": 0.25,
            "user": "u1",
            "metadata": {"team": "x"},
            "store": false,
            "stream": true
        })
    );
}

#[test]
fn metadata_is_sent_as_far_as_the_api_takes_it() {
    let sent = |metadata: Value| {
        let mut request = hello();
        request.metadata = metadata.as_object().cloned();
        body(WIRE, &request)["metadata"].clone()
    };
    let long = "é".repeat(513);
    let mixed = json!({"a": "x", "b": 1, "c": {"d": "x"}, "e": long, "f": &long[..1024]});
    assert_eq!(sent(mixed), json!({"a": "x", "f": &long[..1024]}));
    assert_eq!(sent(json!({"a": 1})), Value::Null);
    let many: serde_json::Map<_, _> = (0..20).map(|n| (n.to_string(), json!("x"))).collect();
    let taken = sent(Value::Object(many));
    assert_eq!(taken.as_object().map(serde_json::Map::len), Some(16));
}

#[test]
fn opening_system_prompts_are_instructions() {
    let request = asking(vec![
        message(Role::System, vec![text("Be brief"), text("Be kind")]),
        message(Role::System, vec![text("Be good")]),
        message(Role::User, vec![text("One")]),
        message(Role::System, vec![text("Be loud")]),
    ]);
    let sent = body(WIRE, &request);
    assert_eq!(sent["instructions"], "Be brief\n\nBe kind\n\nBe good");
    let loud = json!({"type": "message", "role": "system",
        "content": [{"type": "input_text", "text": "Be loud"}]});
    assert_eq!(sent["input"], json!([user("One"), loud]));

    let lonely = asking(vec![message(Role::System, vec![text("Be loud")])]);
    let sent = body(WIRE, &lonely);
    assert_eq!(sent.get("instructions"), None);
    assert_eq!(sent["input"], json!([loud]));
}

#[test]
fn calls_and_results() {
    let mut request = tool_turns();
    request.tool_choice = Some(ToolChoice::Function("weather".to_owned()));
    request.messages[1].content[0] = text("Let me see.");
    request.messages[3].content[0] = Part::ToolResult {
        id: "b".to_owned(),
        content: vec![text("noon"), Part::Image(media(url()))],
        is_error: false,
    };
    let body = body(WIRE, &request);
    assert_eq!(
        body["input"],
        json!([
            user("Weather?"),
            {"type": "message", "role": "assistant",
                "content": [{"type": "output_text", "text": "Let me see."}]},
            {"type": "function_call", "call_id": "a", "name": "weather",
                "arguments": "{\"city\":\"Rome\"}"},
            {"type": "function_call", "call_id": "b", "name": "time", "arguments": "{}"},
            {"type": "function_call_output", "call_id": "a", "output": "sunny"},
            {"type": "function_call_output", "call_id": "b", "output": [
                {"type": "input_text", "text": "noon"},
                {"type": "input_image", "detail": "auto", "image_url": "https://example.com/x"}
            ]},
            user("And?")
        ])
    );
    assert_eq!(
        body["tools"],
        json!([
            {"type": "function", "name": "weather", "description": "Says it",
                "parameters": {"type": "object", "properties": {"city": {}}}, "strict": true},
            {"type": "function", "name": "time",
                "parameters": {"type": "object", "properties": {}}, "strict": false}
        ])
    );
    assert_eq!(
        body["tool_choice"],
        json!({"type": "function", "name": "weather"})
    );
}

#[test]
fn every_tool_choice() {
    let choice = |choice| {
        let mut request = tool_turns();
        request.tool_choice = choice;
        body(WIRE, &request)["tool_choice"].clone()
    };
    assert_eq!(choice(None), Value::Null);
    assert_eq!(choice(Some(ToolChoice::Auto)), "auto");
    assert_eq!(choice(Some(ToolChoice::None)), "none");
    assert_eq!(choice(Some(ToolChoice::Required)), "required");
}

#[test]
fn images_and_files() {
    let named = |source| Media {
        name: Some("a.pdf".to_owned()),
        ..media(source)
    };
    let small = Media {
        detail: Some("low".to_owned()),
        ..media(inline("image/png", "iVBO"))
    };
    let upload = || MediaSource::Id("file_1".to_owned());
    let request = asking(vec![message(
        Role::User,
        vec![
            Part::Image(media(url())),
            Part::Image(small),
            Part::Image(media(upload())),
            Part::File(named(inline("application/pdf", "JVBERi0="))),
            Part::File(media(url())),
            Part::File(media(upload())),
        ],
    )]);
    assert_eq!(
        body(WIRE, &request)["input"][0]["content"],
        json!([
            {"type": "input_image", "detail": "auto", "image_url": "https://example.com/x"},
            {"type": "input_image", "detail": "low", "image_url": "data:image/png;base64,iVBO"},
            {"type": "input_image", "detail": "auto", "file_id": "file_1"},
            {"type": "input_file", "filename": "a.pdf",
                "file_data": "data:application/pdf;base64,JVBERi0="},
            {"type": "input_file", "file_url": "https://example.com/x"},
            {"type": "input_file", "file_id": "file_1"}
        ])
    );
}

#[test]
fn sealed_reasoning_goes_back_in_its_place() {
    let thought = |signature: Option<&str>| Part::Reasoning {
        text: "Hm".to_owned(),
        signature: signature.map(str::to_owned),
    };
    let request = asking(vec![
        message(Role::User, vec![text("Hi")]),
        message(
            Role::Assistant,
            vec![
                thought(Some("sealed")),
                Part::EncryptedReasoning("dark".to_owned()),
                thought(None),
                text("Yo"),
            ],
        ),
    ]);
    assert_eq!(
        body(WIRE, &request)["input"],
        json!([
            user("Hi"),
            {"type": "reasoning", "encrypted_content": "sealed",
                "summary": [{"type": "summary_text", "text": "Hm"}]},
            {"type": "reasoning", "encrypted_content": "dark", "summary": []},
            {"type": "message", "role": "assistant",
                "content": [{"type": "output_text", "text": "Yo"}]}
        ])
    );
}

#[test]
fn formats_and_effort() {
    let mut request = thinking(Some("low"), Some(500), None);
    request.response_format = Some(schema());
    let shaped = body(WIRE, &request);
    assert_eq!(shaped["reasoning"], json!({"effort": "low"}));
    assert_eq!(
        shaped["text"],
        json!({"format": {"type": "json_schema", "name": "fruit",
            "schema": {"type": "object"}, "strict": true}})
    );
    request.reasoning.as_mut().expect("it is set").effort = None;
    request.response_format = Some(ResponseFormat::Json);
    let shaped = body(WIRE, &request);
    assert_eq!(shaped.get("reasoning"), None);
    assert_eq!(shaped["text"], json!({"format": {"type": "json_object"}}));
}

#[test]
fn extra_goes_in_last_and_deep() {
    let mut request = thinking(Some("low"), None, None);
    request.extra = json!({"reasoning": {"summary": "auto"}, "store": true})
        .as_object()
        .cloned()
        .expect("an object");
    let body = body(WIRE, &request);
    assert_eq!(
        body["reasoning"],
        json!({"effort": "low", "summary": "auto"})
    );
    assert_eq!(body["store"], true);
}

#[test]
fn what_it_cannot_say() {
    refused(WIRE, &steered(), "stop");
    let image = Part::Image(media(url()));
    let pictured = asking(vec![
        message(Role::System, vec![text("x"), image]),
        message(Role::User, vec![text("Hi")]),
    ]);
    refused(WIRE, &pictured, "messages[0].content[1]");
}

#[test]
fn one_call_at_most() {
    let mut request = tool_turns();
    request.parallel_tool_calls = Some(false);
    assert_eq!(body(WIRE, &request)["parallel_tool_calls"], false);
    request.tools.clear();
    assert_eq!(body(WIRE, &request)["parallel_tool_calls"], Value::Null);
}
