//! Requests to Anthropic's Messages API.

use super::*;

const WIRE: &str = "anthropic-messages";

#[test]
fn a_prompt_and_its_steering() {
    let sent = outgoing(WIRE, &steered()).expect("a request");
    assert_eq!(sent.path, "/v1/messages");
    assert_eq!(sent.headers["anthropic-version"], "2023-06-01");
    assert!(!sent.headers.contains_key("anthropic-beta"));
    assert_eq!(
        sent.body,
        json!({
            "model": "m",
            "max_tokens": 100,
            "messages": [{"role": "user", "content": [{"type": "text", "text": "Hi"}]}],
            "temperature": 0.5,
            "top_p": 0.25,
            "stop_sequences": ["END"],
            "metadata": {"user_id": "u1"},
            "stream": true
        })
    );
    assert_eq!(body(WIRE, &hello())["max_tokens"], 4096);
}

#[test]
fn system_prompts_stand_apart_and_turns_alternate() {
    let request = asking(vec![
        message(Role::System, vec![text("Be brief")]),
        message(Role::User, vec![text("One")]),
        message(Role::System, vec![text("Be kind")]),
        message(Role::User, vec![text("Two")]),
        message(Role::Assistant, vec![text("")]),
        message(Role::User, vec![text("Three")]),
    ]);
    let body = body(WIRE, &request);
    assert_eq!(
        body["system"],
        json!([{"type": "text", "text": "Be brief"}, {"type": "text", "text": "Be kind"}])
    );
    assert_eq!(
        body["messages"],
        json!([{"role": "user", "content": [
            {"type": "text", "text": "One"},
            {"type": "text", "text": "Two"},
            {"type": "text", "text": "Three"}
        ]}])
    );
}

#[test]
fn calls_and_results() {
    let mut request = tool_turns();
    request.tool_choice = Some(ToolChoice::Function("weather".to_owned()));
    let body = body(WIRE, &request);
    assert_eq!(
        body["messages"],
        json!([
            {"role": "user", "content": [{"type": "text", "text": "Weather?"}]},
            {"role": "assistant", "content": [
                {"type": "tool_use", "id": "a", "name": "weather", "input": {"city": "Rome"}},
                {"type": "tool_use", "id": "b", "name": "time", "input": {}}
            ]},
            {"role": "user", "content": [
                {"type": "tool_result", "tool_use_id": "a",
                    "content": [{"type": "text", "text": "sunny"}]},
                {"type": "tool_result", "tool_use_id": "b"},
                {"type": "text", "text": "And?"}
            ]}
        ])
    );
    assert_eq!(
        body["tools"],
        json!([
            {"name": "weather", "description": "Says it",
                "input_schema": {"type": "object", "properties": {"city": {}}}, "strict": true},
            {"name": "time", "input_schema": {"type": "object", "properties": {}}}
        ])
    );
    assert_eq!(
        body["tool_choice"],
        json!({"type": "tool", "name": "weather"})
    );
}

#[test]
fn every_tool_choice() {
    let choice = |choice| {
        let mut request = tool_turns();
        request.tool_choice = choice;
        body(WIRE, &request)["tool_choice"]["type"].clone()
    };
    assert_eq!(choice(None), Value::Null);
    assert_eq!(choice(Some(ToolChoice::Auto)), "auto");
    assert_eq!(choice(Some(ToolChoice::None)), "none");
    assert_eq!(choice(Some(ToolChoice::Required)), "any");
    let mut request = hello();
    request.tool_choice = Some(ToolChoice::Auto);
    assert_eq!(body(WIRE, &request).get("tool_choice"), None);
}

#[test]
fn images_and_files() {
    let mut named = media(inline("application/pdf", "JVBERi0="));
    named.name = Some("a.pdf".to_owned());
    let request = asking(vec![message(
        Role::User,
        vec![
            Part::Image(media(url())),
            Part::Image(media(inline("image/png", "iVBO"))),
            Part::File(named),
            Part::File(media(url())),
            Part::File(media(inline("text/markdown", "IyBIaQ=="))),
            Part::File(media(MediaSource::Id("file_1".to_owned()))),
        ],
    )]);
    let sent = outgoing(WIRE, &request).expect("a request");
    assert_eq!(sent.headers["anthropic-beta"], "files-api-2025-04-14");
    assert_eq!(
        sent.body["messages"][0]["content"],
        json!([
            {"type": "image", "source": {"type": "url", "url": "https://example.com/x"}},
            {"type": "image",
                "source": {"type": "base64", "media_type": "image/png", "data": "iVBO"}},
            {"type": "document", "title": "a.pdf", "source":
                {"type": "base64", "media_type": "application/pdf", "data": "JVBERi0="}},
            {"type": "document", "source": {"type": "url", "url": "https://example.com/x"}},
            {"type": "document", "source":
                {"type": "text", "media_type": "text/plain", "data": "# Hi"}},
            {"type": "document", "source": {"type": "file", "file_id": "file_1"}}
        ])
    );
}

#[test]
fn signed_reasoning_goes_back_and_unsigned_does_not() {
    let thought = |signature: Option<&str>| Part::Reasoning {
        text: "Hm".to_owned(),
        signature: signature.map(str::to_owned),
    };
    let request = asking(vec![
        message(Role::User, vec![text("Hi")]),
        message(
            Role::Assistant,
            vec![thought(Some("sig")), thought(None), text("Yo")],
        ),
    ]);
    assert_eq!(
        body(WIRE, &request)["messages"][1]["content"],
        json!([
            {"type": "thinking", "thinking": "Hm", "signature": "sig"},
            {"type": "text", "text": "Yo"}
        ])
    );
}

#[test]
fn a_thinking_budget_stays_below_the_bound() {
    let bounds = |request: Request| {
        let body = body(WIRE, &request);
        (body["thinking"].clone(), body["max_tokens"].clone())
    };
    let enabled = |budget: u64| json!({"type": "enabled", "budget_tokens": budget});
    let cases = [
        (thinking(Some("low"), None, None), enabled(2048), 6144),
        (thinking(Some("medium"), None, None), enabled(8192), 12288),
        (
            thinking(Some("high"), None, Some(8000)),
            enabled(4000),
            8000,
        ),
        (thinking(Some("high"), None, Some(500)), enabled(1024), 1524),
        (thinking(None, Some(3000), Some(2000)), enabled(3000), 5000),
        (thinking(None, Some(10), None), enabled(1024), 5120),
        (
            thinking(Some("none"), None, None),
            json!({"type": "disabled"}),
            4096,
        ),
        (
            thinking(Some("max"), None, None),
            json!({"type": "adaptive"}),
            4096,
        ),
        (thinking(None, None, None), Value::Null, 4096),
    ];
    for (request, thinking, max_tokens) in cases {
        let asked = request.reasoning.clone();
        assert_eq!(bounds(request), (thinking, json!(max_tokens)), "{asked:?}");
    }
    let mut both = thinking(Some("max"), None, None);
    both.response_format = Some(schema());
    assert_eq!(
        body(WIRE, &both)["output_config"],
        json!({"format": {"type": "json_schema", "schema": {"type": "object"}}, "effort": "max"})
    );
}

#[test]
fn a_schema_shapes_the_answer() {
    let mut request = hello();
    request.response_format = Some(schema());
    assert_eq!(
        body(WIRE, &request)["output_config"],
        json!({"format": {"type": "json_schema", "schema": {"type": "object"}}})
    );
}

#[test]
fn extra_goes_in_last_and_deep() {
    let mut request = steered();
    request.extra = json!({"metadata": {"more": 1}, "max_tokens": 9, "top_k": 3})
        .as_object()
        .cloned()
        .expect("an object");
    let body = body(WIRE, &request);
    assert_eq!(body["metadata"], json!({"user_id": "u1", "more": 1}));
    assert_eq!(body["max_tokens"], 9);
    assert_eq!(body["top_k"], 3);
}

#[test]
fn what_it_cannot_say() {
    let file = |source| asking(vec![message(Role::User, vec![Part::File(media(source))])]);
    let audio = file(inline("audio/wav", "UklG"));
    refused(WIRE, &audio, "messages[0].content[0].file");
    let garbled = file(inline("text/plain", "%%"));
    refused(WIRE, &garbled, "messages[0].content[0].file");

    let image = Part::Image(media(url()));
    let pictured = asking(vec![message(Role::System, vec![text("x"), image])]);
    refused(WIRE, &pictured, "messages[0].content[1]");
    let lonely = asking(vec![message(Role::System, vec![text("x")])]);
    refused(WIRE, &lonely, "messages");
}

#[test]
fn one_call_at_most() {
    let mut request = tool_turns();
    request.parallel_tool_calls = Some(false);
    assert_eq!(
        body(WIRE, &request)["tool_choice"],
        json!({"type": "auto", "disable_parallel_tool_use": true})
    );
    request.tool_choice = Some(ToolChoice::None);
    assert_eq!(body(WIRE, &request)["tool_choice"], json!({"type": "none"}));
}

#[test]
fn blank_texts_and_blank_stop_sequences_are_left_out() {
    let mut request = asking(vec![
        message(Role::User, vec![text("Hi"), text(" ")]),
        message(Role::Assistant, vec![text("\n\n"), call("a", "f", "")]),
    ]);
    request.stop = vec!["\n".to_owned(), "END".to_owned()];
    let sent = body(WIRE, &request);
    assert_eq!(
        sent["messages"],
        json!([
            {"role": "user", "content": [{"type": "text", "text": "Hi"}]},
            {"role": "assistant", "content": [
                {"type": "tool_use", "id": "a", "name": "f", "input": {}}
            ]}
        ])
    );
    assert_eq!(sent["stop_sequences"], json!(["END"]));
    request.stop.truncate(1);
    assert_eq!(body(WIRE, &request).get("stop_sequences"), None);
}

#[test]
fn a_jpeg_has_its_registered_media_type() {
    let image = Part::Image(media(inline("image/jpg", "/9j/")));
    let sent = body(WIRE, &asking(vec![message(Role::User, vec![image])]));
    let source = &sent["messages"][0]["content"][0]["source"];
    assert_eq!(source["media_type"], "image/jpeg");
}

#[test]
fn a_schema_without_a_type_is_an_object() {
    let mut request = tool_turns();
    request.tools[0].parameters = Some(json!({}));
    request.tools[1].parameters = Some(json!({"properties": {"zone": {}}}));
    let tools = body(WIRE, &request)["tools"].clone();
    assert_eq!(
        tools[0]["input_schema"],
        json!({"type": "object", "properties": {}})
    );
    assert_eq!(
        tools[1]["input_schema"],
        json!({"type": "object", "properties": {"zone": {}}})
    );
}

#[test]
fn thinking_excludes_temperature_and_a_forced_call_excludes_thinking() {
    let mut request = thinking(Some("low"), None, None);
    request.temperature = Some(0.25);
    assert_eq!(body(WIRE, &request).get("temperature"), None);
    request.tools = tool_turns().tools;
    request.tool_choice = Some(ToolChoice::Required);
    let sent = body(WIRE, &request);
    assert_eq!(sent.get("thinking"), None);
    assert_eq!(sent["temperature"], 0.25);
    request.temperature = Some(1.5);
    assert_eq!(body(WIRE, &request)["temperature"], 1.0);
}

#[test]
fn call_ids_of_other_vendors_are_restricted_in_calls_and_results() {
    let request = asking(vec![
        message(Role::User, vec![text("Weather?")]),
        message(
            Role::Assistant,
            vec![call("functions.weather:0", "weather", "")],
        ),
        answer("functions.weather:0", vec![text("sunny")]),
    ]);
    let sent = body(WIRE, &request);
    let id = sent["messages"][1]["content"][0]["id"].clone();
    let id = id.as_str().expect("an id");
    assert!(id.starts_with("functions_weather_0_"), "{id}");
    assert!(
        id.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_'),
        "{id}"
    );
    assert_eq!(sent["messages"][2]["content"][0]["tool_use_id"], id);
}
