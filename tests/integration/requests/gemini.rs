//! Requests to the Gemini API.

use super::*;

const WIRE: &str = "gemini";
/// A model that wants no signatures.
const OLDER: &str = "gemini-2.5-flash";

fn for_model(model: &str, request: &Request) -> Outgoing {
    let wire = wire::by_name(WIRE).expect("a wire of that name");
    wire.request(request, model, &Vendor::default())
        .expect("a request that the wire can express")
}

fn parts(request: &Request) -> Value {
    body(WIRE, request)["contents"][0]["parts"].clone()
}

#[test]
fn a_prompt_and_its_steering() {
    let sent = outgoing(WIRE, &steered()).expect("a request");
    assert_eq!(sent.path, "/v1beta/models/m:streamGenerateContent?alt=sse");
    assert_eq!(
        sent.body,
        json!({
            "contents": [{"role": "user", "parts": [{"text": "Hi"}]}],
            "generationConfig": {
                "maxOutputTokens": 100,
                "temperature": 0.5,
                "topP": 0.25,
                "stopSequences": ["END"],
                "seed": 7
            }
        })
    );
    assert_eq!(body(WIRE, &hello()).get("generationConfig"), None);
}

#[test]
fn a_models_name_is_one_segment_of_the_path() {
    let wire = wire::by_name(WIRE).expect("a wire of that name");
    for (model, segment, asked) in [
        ("gemini-2.5-flash", "gemini-2.5-flash", "gemini-2.5-flash"),
        ("models/gemma-3", "gemma-3", "gemma-3"),
        ("../x?y#z:é", "..%2Fx%3Fy%23z%3A%C3%A9", "../x?y#z:é"),
    ] {
        let sent = for_model(model, &hello());
        let path = format!("/v1beta/models/{segment}:streamGenerateContent?alt=sse");
        assert_eq!(sent.path, path);
        assert_eq!(
            wire.requested_model(&path, &Value::Null).as_deref(),
            Some(asked)
        );
    }
    assert_eq!(
        wire.requested_model("/v1beta/models/m:countTokens", &Value::Null),
        None
    );
}

#[test]
fn system_prompts_stand_apart_and_turns_are_joined() {
    let request = asking(vec![
        message(Role::System, vec![text("Be brief")]),
        message(Role::User, vec![text("One")]),
        message(Role::System, vec![text("Be kind")]),
        message(Role::User, vec![text("Two")]),
        message(Role::Assistant, vec![text("")]),
        message(Role::User, vec![text("Three")]),
        message(Role::Assistant, vec![text("Four")]),
    ]);
    let body = body(WIRE, &request);
    assert_eq!(
        body["systemInstruction"],
        json!({"parts": [{"text": "Be brief"}, {"text": "Be kind"}]})
    );
    assert_eq!(
        body["contents"],
        json!([
            {"role": "user", "parts": [{"text": "One"}, {"text": "Two"}, {"text": "Three"}]},
            {"role": "model", "parts": [{"text": "Four"}]}
        ])
    );
}

#[test]
fn calls_and_results() {
    let request = tool_turns();
    let body = for_model(OLDER, &request).body;
    let result = |id: &str, name: &str, output: &str| json!({"functionResponse": {"id": id, "name": name, "response": {"output": output}}});
    assert_eq!(
        body["contents"],
        json!([
            {"role": "user", "parts": [{"text": "Weather?"}]},
            {"role": "model", "parts": [
                {"functionCall": {"id": "a", "name": "weather", "args": {"city": "Rome"}}},
                {"functionCall": {"id": "b", "name": "time", "args": {}}}
            ]},
            {"role": "user", "parts": [result("a", "weather", "sunny"), result("b", "time", "")]},
            {"role": "user", "parts": [{"text": "And?"}]}
        ])
    );
    assert_eq!(
        body["tools"],
        json!([{"functionDeclarations": [
            {"name": "weather", "description": "Says it",
                "parametersJsonSchema": {"type": "object", "properties": {"city": {}}}},
            {"name": "time"}
        ]}])
    );
}

#[test]
fn later_models_get_a_signature_with_the_first_call() {
    let calls = |model: &str| {
        let body = for_model(model, &tool_turns()).body;
        let parts = body["contents"][1]["parts"].as_array().cloned();
        let parts = parts.expect("a list of parts");
        parts
            .iter()
            .map(|part| part["thoughtSignature"].is_string())
            .collect::<Vec<_>>()
    };
    assert_eq!(calls(OLDER), [false, false]);
    assert_eq!(calls("gemini-3-pro"), [true, false]);
    assert_eq!(calls("gemini-flash-latest"), [true, false]);
}

#[test]
fn every_tool_choice() {
    let choice = |choice| {
        let mut request = tool_turns();
        request.tool_choice = choice;
        body(WIRE, &request)["toolConfig"]["functionCallingConfig"].clone()
    };
    assert_eq!(choice(None), Value::Null);
    assert_eq!(choice(Some(ToolChoice::Auto)), json!({"mode": "AUTO"}));
    assert_eq!(choice(Some(ToolChoice::None)), json!({"mode": "NONE"}));
    assert_eq!(choice(Some(ToolChoice::Required)), json!({"mode": "ANY"}));
    assert_eq!(
        choice(Some(ToolChoice::Function("time".to_owned()))),
        json!({"mode": "ANY", "allowedFunctionNames": ["time"]})
    );
}

#[test]
fn images_and_files() {
    let at = |uri: &str| media(MediaSource::Url(uri.to_owned()));
    let request = asking(vec![message(
        Role::User,
        vec![
            Part::Image(media(inline("image/png", "iVBO"))),
            Part::File(media(inline("application/pdf", "JVBERi0="))),
            Part::Image(at("https://example.com/A.JPG?size=1")),
            Part::Image(media(url())),
            Part::File(media(MediaSource::Id(
                "https://example.com/files/1".to_owned(),
            ))),
        ],
    )]);
    assert_eq!(
        parts(&request),
        json!([
            {"inlineData": {"mimeType": "image/png", "data": "iVBO"}},
            {"inlineData": {"mimeType": "application/pdf", "data": "JVBERi0="}},
            {"fileData": {"mimeType": "image/jpeg", "fileUri": "https://example.com/A.JPG?size=1"}},
            {"fileData": {"fileUri": "https://example.com/x"}},
            {"fileData": {"fileUri": "https://example.com/files/1"}}
        ])
    );
}

#[test]
fn a_result_may_hold_pictures() {
    let mut request = tool_turns();
    request.messages[2].content[0] = Part::ToolResult {
        id: "a".to_owned(),
        content: vec![
            text("one"),
            Part::Image(media(inline("image/png", "iVBO"))),
            text("two"),
        ],
        is_error: false,
    };
    assert_eq!(
        body(WIRE, &request)["contents"][2]["parts"][0]["functionResponse"],
        json!({"id": "a", "name": "weather", "response": {"output": "one\ntwo"},
            "parts": [{"inlineData": {"mimeType": "image/png", "data": "iVBO"}}]})
    );
}

#[test]
fn efforts_are_budgets_and_words_of_its_own_are_levels() {
    let shown = |budget: u64| json!({"thinkingBudget": budget, "includeThoughts": true});
    for (effort, max_tokens, config) in [
        (None, None, Value::Null),
        (Some("none"), Some(9), json!({"thinkingBudget": 0})),
        (Some("minimal"), None, shown(1024)),
        (Some("low"), None, shown(1024)),
        (Some("medium"), None, shown(8192)),
        (Some("high"), None, shown(24576)),
        (Some("high"), Some(9), shown(9)),
        (None, Some(9), shown(9)),
        (Some("max"), None, shown(24576)),
        (None, Some(99999), shown(24576)),
        (
            Some("deep"),
            None,
            json!({"thinkingLevel": "deep", "includeThoughts": true}),
        ),
    ] {
        let body = body(WIRE, &thinking(effort, max_tokens, None));
        let asked = &body["generationConfig"]["thinkingConfig"];
        assert_eq!(*asked, config, "{effort:?} {max_tokens:?}");
    }
}

#[test]
fn a_schema_shapes_the_answer() {
    let config = |format| {
        let mut request = hello();
        request.response_format = Some(format);
        body(WIRE, &request)["generationConfig"].clone()
    };
    let json_type = "application/json";
    assert_eq!(
        config(schema()),
        json!({"responseMimeType": json_type, "responseJsonSchema": {"type": "object"}})
    );
    assert_eq!(
        config(ResponseFormat::Json),
        json!({"responseMimeType": json_type})
    );
    assert_eq!(config(ResponseFormat::Text), Value::Null);
}

#[test]
fn extra_goes_in_last_and_deep() {
    let mut request = steered();
    request.extra = json!({"generationConfig": {"topK": 3, "seed": 8}, "safetySettings": []})
        .as_object()
        .cloned()
        .expect("an object");
    let body = body(WIRE, &request);
    assert_eq!(body["generationConfig"]["topK"], 3);
    assert_eq!(body["generationConfig"]["seed"], 8);
    assert_eq!(body["generationConfig"]["topP"], 0.25);
    assert_eq!(body["safetySettings"], json!([]));
}

#[test]
fn what_it_cannot_say() {
    let mut unasked = tool_turns();
    unasked.messages.remove(1);
    refused(WIRE, &unasked, "messages[2].tool_call_id");

    let image = Part::Image(media(url()));
    let pictured = asking(vec![message(Role::System, vec![text("x"), image])]);
    refused(WIRE, &pictured, "messages[0].content[1]");
    let lonely = asking(vec![message(Role::System, vec![text("x")])]);
    refused(WIRE, &lonely, "messages");
}

#[test]
fn a_seed_fits_the_api_and_a_jpeg_has_its_registered_media_type() {
    let mut request = asking(vec![message(
        Role::User,
        vec![Part::Image(media(inline("image/jpg", "/9j/")))],
    )]);
    for (seed, sent) in [
        (7, 7),
        (-7, -7),
        (i64::from(i32::MAX) + 1, 0),
        (4_294_967_296_123, 123),
    ] {
        request.seed = Some(seed);
        assert_eq!(body(WIRE, &request)["generationConfig"]["seed"], sent);
    }
    assert_eq!(parts(&request)[0]["inlineData"]["mimeType"], "image/jpeg");
}
