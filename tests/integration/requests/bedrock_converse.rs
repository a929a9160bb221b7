//! Requests to Bedrock's Converse API.

use super::*;

const WIRE: &str = "bedrock-converse";

/// The body for a model of that id.
fn asked(model: &str, request: &Request) -> Value {
    let wire = wire::by_name(WIRE).expect("a wire of that name");
    wire.request(request, model, &Vendor::default())
        .expect("a request")
        .body
}

#[test]
fn a_prompt_and_its_steering() {
    let mut request = steered();
    request.metadata = json!({"team": "x", "n": 1, "ключ": "y", "": "z", "long": "a".repeat(257)})
        .as_object()
        .cloned();
    let sent = outgoing(WIRE, &request).expect("a request");
    assert_eq!(sent.path, "/model/m/converse-stream");
    assert!(sent.headers.is_empty());
    assert_eq!(
        sent.body,
        json!({
            "messages": [{"role": "user", "content": [{"text": "Hi"}]}],
            "inferenceConfig": {"maxTokens": 100, "temperature": 0.5, "topP": 0.25,
                "stopSequences": ["END"]},
            "requestMetadata": {"team": "x"}
        })
    );
    assert_eq!(
        body(WIRE, &hello()),
        json!({"messages": [{"role": "user", "content": [{"text": "Hi"}]}]})
    );
}

#[test]
fn a_model_id_is_one_segment_of_the_path() {
    let wire = wire::by_name(WIRE).expect("a wire of that name");
    let path = |model: &str| {
        let sent = wire.request(&hello(), model, &Vendor::default());
        let path = sent.expect("a request").path;
        let back = wire.requested_model(&format!("/base{path}"), &Value::Null);
        assert_eq!(back.as_deref(), Some(model));
        path
    };
    assert_eq!(
        path("us.amazon.nova-lite-v1:0"),
        "/model/us.amazon.nova-lite-v1%3A0/converse-stream"
    );
    assert_eq!(
        path("arn:aws:bedrock:eu-west-1:1:inference-profile/eu.x-1_y~z"),
        "/model/arn%3Aaws%3Abedrock%3Aeu-west-1%3A1%3Ainference-profile%2Feu.x-1_y~z/converse-stream"
    );
    assert_eq!(
        path("a b/../%?#é"),
        "/model/a%20b%2F..%2F%25%3F%23%C3%A9/converse-stream"
    );
    for id in ["", ".", ".."] {
        let refused = wire.request(&hello(), id, &Vendor::default());
        let words = refused.expect_err("no model id").message().to_owned();
        assert!(words.starts_with("model: "), "{words}");
    }
}

#[test]
fn system_prompts_stand_apart_and_turns_alternate() {
    let request = asking(vec![
        message(Role::System, vec![text("Be brief")]),
        message(Role::User, vec![text("One")]),
        message(Role::System, vec![text("Be kind"), text(" ")]),
        message(Role::User, vec![text("Two")]),
        message(Role::Assistant, vec![text("\n")]),
        message(Role::User, vec![text("Three")]),
    ]);
    let body = body(WIRE, &request);
    assert_eq!(
        body["system"],
        json!([{"text": "Be brief"}, {"text": "Be kind"}])
    );
    assert_eq!(
        body["messages"],
        json!([{"role": "user",
            "content": [{"text": "One"}, {"text": "Two"}, {"text": "Three"}]}])
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
            {"role": "user", "content": [{"text": "Weather?"}]},
            {"role": "assistant", "content": [
                {"toolUse": {"toolUseId": "a", "name": "weather", "input": {"city": "Rome"}}},
                {"toolUse": {"toolUseId": "b", "name": "time", "input": {}}}
            ]},
            {"role": "user", "content": [
                {"toolResult": {"toolUseId": "a", "content": [{"text": "sunny"}]}},
                {"toolResult": {"toolUseId": "b", "content": []}},
                {"text": "And?"}
            ]}
        ])
    );
    assert_eq!(
        body["toolConfig"],
        json!({
            "tools": [
                {"toolSpec": {"name": "weather", "description": "Says it", "inputSchema":
                    {"json": {"type": "object", "properties": {"city": {}}}}, "strict": true}},
                {"toolSpec": {"name": "time",
                    "inputSchema": {"json": {"type": "object", "properties": {}}}}}
            ],
            "toolChoice": {"tool": {"name": "weather"}}
        })
    );
}

#[test]
fn every_tool_choice() {
    let choice = |choice| {
        let mut request = tool_turns();
        request.tool_choice = choice;
        body(WIRE, &request)["toolConfig"]["toolChoice"].clone()
    };
    assert_eq!(choice(None), Value::Null);
    assert_eq!(choice(Some(ToolChoice::Auto)), json!({"auto": {}}));
    assert_eq!(choice(Some(ToolChoice::Required)), json!({"any": {}}));

    // Without calls so far, a model that sees no tools calls none.
    let mut none = tool_turns();
    none.tool_choice = Some(ToolChoice::None);
    refused(WIRE, &none, "tool_choice");
    none.messages.truncate(1);
    assert_eq!(body(WIRE, &none).get("toolConfig"), None);
    let mut alone = hello();
    alone.tool_choice = Some(ToolChoice::Auto);
    assert_eq!(body(WIRE, &alone).get("toolConfig"), None);
}

#[test]
fn images_and_documents() {
    let named = |name: &str, source| {
        Part::File(Media {
            name: Some(name.to_owned()),
            ..media(source)
        })
    };
    let stored = |url: &str| MediaSource::Url(url.to_owned());
    let request = asking(vec![message(
        Role::User,
        vec![
            Part::Image(media(inline("image/jpg", "iVBO"))),
            Part::Image(media(stored("s3://bucket/a/b.webp"))),
            named(
                "my  report_v2 (final).pdf",
                inline("application/pdf", "JVBERi0="),
            ),
            Part::File(media(inline("text/markdown; charset=utf-8", "IyBIaQ=="))),
            Part::File(media(inline("application/json", "e30="))),
            named("x", stored("s3://bucket/x.docx")),
            named("x.txt", stored("s3://bucket/y")),
            Part::File(media(inline("image/png", "iVBO"))),
        ],
    )]);
    assert_eq!(
        body(WIRE, &request)["messages"][0]["content"],
        json!([
            {"image": {"format": "jpeg", "source": {"bytes": "iVBO"}}},
            {"image": {"format": "webp",
                "source": {"s3Location": {"uri": "s3://bucket/a/b.webp"}}}},
            {"document": {"name": "my report-v2 (final)", "source": {"bytes": "JVBERi0="},
                "format": "pdf"}},
            {"document": {"name": "document", "source": {"bytes": "IyBIaQ=="}, "format": "md"}},
            {"document": {"name": "document-2", "source": {"bytes": "e30="}, "format": "txt"}},
            {"document": {"name": "x", "source":
                {"s3Location": {"uri": "s3://bucket/x.docx"}}, "format": "docx"}},
            {"document": {"name": "x-2", "source": {"s3Location": {"uri": "s3://bucket/y"}}}},
            {"image": {"format": "png", "source": {"bytes": "iVBO"}}},
            {"text": "(See the document.)"}
        ])
    );
}

#[test]
fn sealed_reasoning_goes_back_and_unsigned_does_not() {
    let thought = |signature: Option<&str>| Part::Reasoning {
        text: "Hm".to_owned(),
        signature: signature.map(str::to_owned),
    };
    let sealed = Part::EncryptedReasoning("c2VhbGVk".to_owned());
    let request = asking(vec![
        message(Role::User, vec![text("Hi")]),
        message(
            Role::Assistant,
            vec![thought(Some("sig")), thought(None), sealed, text("Yo")],
        ),
    ]);
    assert_eq!(
        body(WIRE, &request)["messages"][1]["content"],
        json!([
            {"reasoningContent": {"reasoningText": {"text": "Hm", "signature": "sig"}}},
            {"reasoningContent": {"redactedContent": "c2VhbGVk"}},
            {"text": "Yo"}
        ])
    );
}

#[test]
fn each_makers_models_have_their_own_words_for_thinking() {
    let claude = "eu.anthropic.claude-sonnet-4-5-20250929-v1:0";
    let nova = "us.amazon.nova-2-lite-v1:0";
    let oss = "openai.gpt-oss-120b-1:0";
    let enabled = |budget: u64| json!({"thinking": {"type": "enabled", "budget_tokens": budget}});
    let adaptive = json!({"thinking": {"type": "adaptive"}, "output_config": {"effort": "max"}});
    let nova_config = |effort: &str| json!({"reasoningConfig": {"type": "enabled", "maxReasoningEffort": effort}});
    let low = || thinking(Some("low"), None, None);
    #[rustfmt::skip]
    let cases = [
        (claude, low(), enabled(2048), json!(6144)),
        (claude, thinking(Some("high"), None, Some(8000)), enabled(4000), json!(8000)),
        (claude, thinking(None, Some(3000), Some(2000)), enabled(3000), json!(5000)),
        (claude, thinking(Some("none"), None, None),
            json!({"thinking": {"type": "disabled"}}), Value::Null),
        (claude, thinking(Some("max"), None, Some(9)), adaptive, json!(9)),
        (claude, thinking(None, None, None), Value::Null, Value::Null),
        (nova, low(), nova_config("low"), Value::Null),
        (nova, thinking(Some("minimal"), None, Some(9)), nova_config("low"), json!(9)),
        (nova, thinking(Some("none"), None, None),
            json!({"reasoningConfig": {"type": "disabled"}}), Value::Null),
        (nova, thinking(None, Some(100), None), Value::Null, Value::Null),
        (oss, low(), json!({"reasoning_effort": "low"}), Value::Null),
        ("meta.llama3-2-1b-instruct-v1:0", low(), Value::Null, Value::Null),
        ("arn:aws:bedrock:us-east-1:1:application-inference-profile/x", low(),
            Value::Null, Value::Null),
    ];
    for (model, request, fields, max_tokens) in cases {
        let body = asked(model, &request);
        let why = format!("{model} {:?}", request.reasoning);
        assert_eq!(body["additionalModelRequestFields"], fields, "{why}");
        assert_eq!(body["inferenceConfig"]["maxTokens"], max_tokens, "{why}");
    }
}

#[test]
fn a_schema_shapes_the_answer() {
    let mut request = hello();
    request.response_format = Some(schema());
    assert_eq!(
        body(WIRE, &request)["outputConfig"],
        json!({"textFormat": {"type": "json_schema", "structure":
            {"jsonSchema": {"name": "fruit", "schema": "{\"type\":\"object\"}"}}}})
    );
}

#[test]
fn extra_goes_in_last_and_deep() {
    let mut request = thinking(Some("low"), None, None);
    request.extra = json!({
        "additionalModelRequestFields": {"top_k": 5},
        "guardrailConfig": {"guardrailIdentifier": "g", "guardrailVersion": "1"},
    })
    .as_object()
    .cloned()
    .expect("an object");
    let body = asked("anthropic.claude-x", &request);
    let fields = &body["additionalModelRequestFields"];
    assert_eq!(fields["top_k"], 5);
    assert_eq!(fields["thinking"]["type"], "enabled");
    assert_eq!(body["guardrailConfig"]["guardrailIdentifier"], "g");
}

#[test]
fn what_it_cannot_say() {
    let with = |part| asking(vec![message(Role::User, vec![text("x"), part])]);
    for (part, field) in [
        (
            Part::Image(media(url())),
            "messages[0].content[1].image_url",
        ),
        (
            Part::Image(media(inline("image/bmp", "Qk0="))),
            "messages[0].content[1].image_url",
        ),
        (Part::File(media(url())), "messages[0].content[1].file"),
        (
            Part::File(media(MediaSource::Id("f".to_owned()))),
            "messages[0].content[1].file",
        ),
        (
            Part::File(media(inline("audio/wav", "UklG"))),
            "messages[0].content[1].file",
        ),
    ] {
        refused(WIRE, &with(part), field);
    }
    let image = Part::Image(media(inline("image/png", "iVBO")));
    let pictured = asking(vec![message(Role::System, vec![text("x"), image])]);
    refused(WIRE, &pictured, "messages[0].content[1]");
    let lonely = asking(vec![message(Role::System, vec![text("x")])]);
    refused(WIRE, &lonely, "messages");
}

#[test]
fn a_conversation_with_calls_has_their_tools() {
    let mut request = tool_turns();
    request.tools.clear();
    let spec = |name: &str| {
        json!({"toolSpec": {"name": name,
            "inputSchema": {"json": {"type": "object", "properties": {}}}}})
    };
    let expected = json!({"tools": [spec("time"), spec("weather")]});
    assert_eq!(body(WIRE, &request)["toolConfig"], expected);
    request.tool_choice = Some(ToolChoice::None);
    assert_eq!(body(WIRE, &request)["toolConfig"], expected);
    request.messages.truncate(1);
    assert_eq!(body(WIRE, &request).get("toolConfig"), None);
}

#[test]
fn a_tool_has_no_empty_description_and_a_typed_schema() {
    let mut request = tool_turns();
    request.tools.truncate(1);
    request.tools[0].description = Some(String::new());
    request.tools[0].parameters = Some(json!({}));
    request.tools[0].strict = None;
    assert_eq!(
        body(WIRE, &request)["toolConfig"]["tools"],
        json!([{"toolSpec": {"name": "weather", "inputSchema": {"json": {"type": "object", "properties": {}}}}}])
    );
}

#[test]
fn thinking_of_claude_excludes_temperature() {
    let mut request = thinking(Some("low"), None, None);
    request.temperature = Some(0.25);
    let claude = asked("eu.anthropic.claude-x", &request);
    assert_eq!(claude["inferenceConfig"].get("temperature"), None);
    let other = asked("amazon.nova-pro", &request);
    assert_eq!(other["inferenceConfig"]["temperature"], 0.25);
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
    let id = sent["messages"][1]["content"][0]["toolUse"]["toolUseId"].clone();
    let id = id.as_str().expect("an id");
    assert!(id.starts_with("functions_weather_0_"), "{id}");
    assert!(
        id.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_'),
        "{id}"
    );
    assert_eq!(
        sent["messages"][2]["content"][0]["toolResult"]["toolUseId"],
        id
    );
}
