//! Requests to `POST /v1/responses`.

use serde_json::{Value, json};
use sluicegate::model::{MediaSource, Part, Reasoning, ResponseFormat, Role, ToolChoice};

use super::{parse, refused, sent, with};

const PATH: &str = "/v1/responses";

fn hello() -> Value {
    json!({"model": "m", "input": "Hi"})
}

pub(super) fn everything() -> Value {
    json!({
        "model": "m",
        "stream": true,
        "instructions": "Be brief",
        "input": [
            {"role": "developer", "content": "Be kind"},
            {"type": "message", "role": "user", "content": [
                {"type": "input_image", "image_url": "data:image/png;base64,AA==", "detail": "low"},
                {"type": "input_file", "filename": "b.pdf", "file_data": "AA=="},
                {"type": "input_text", "text": "Hi"},
            ]},
            {"type": "reasoning", "id": "rs_1", "summary": [{"type": "summary_text", "text": "Hm"}], "encrypted_content": "s"},
            {"type": "reasoning", "id": "rs_2", "summary": [], "encrypted_content": "d"},
            {"type": "message", "id": "msg_1", "role": "assistant", "content": [{"type": "output_text", "text": "Look", "annotations": []}]},
            {"type": "function_call", "id": "fc_1", "call_id": "a", "name": "f", "arguments": "{\"x\":1.50}"},
            {"type": "function_call", "call_id": "b", "name": "g", "arguments": "{}"},
            {"type": "function_call_output", "call_id": "a", "output": "1"},
            {"type": "function_call_output", "call_id": "b", "output": [{"type": "input_text", "text": "2"}]},
            {"role": "user", "content": "And?"},
        ],
        "max_output_tokens": 99,
        "temperature": 0.5,
        "top_p": 0.25,
        "tools": [{"type": "function", "name": "f", "parameters": {"type": "object"}, "strict": true}],
        "tool_choice": {"type": "function", "name": "f"},
        "text": {"format": {"type": "json_schema", "name": "n", "schema": {"type": "object"}}, "verbosity": "low"},
        "reasoning": {"effort": "low", "summary": "auto"},
        "parallel_tool_calls": false,
        "user": "u",
        "metadata": {"a": "b"},
        "store": false,
        "novelty": {"a": [1]},
    })
}

#[test]
fn a_request_is_parsed() {
    let request = parse(PATH, &everything()).unwrap();
    assert_eq!(request.model, "m");
    assert!(request.stream);
    assert_eq!(request.max_tokens, Some(99));
    assert_eq!(
        (request.temperature, request.top_p),
        (Some(0.5), Some(0.25))
    );
    assert_eq!(request.user.as_deref(), Some("u"));
    assert_eq!(
        (request.tools[0].name.as_str(), request.tools[0].strict),
        ("f", Some(true))
    );
    assert_eq!(
        request.tool_choice,
        Some(ToolChoice::Function("f".to_owned()))
    );
    assert_eq!(request.parallel_tool_calls, Some(false));
    let effort = Some("low".to_owned());
    let max_tokens = None;
    assert_eq!(
        request.reasoning,
        Some(Reasoning {
            effort,
            max_tokens,
            ..Reasoning::default()
        })
    );
    assert!(matches!(
        request.response_format,
        Some(ResponseFormat::Schema { .. })
    ));
    let hello = parse(PATH, &hello()).unwrap();
    assert!(!hello.stream);
    assert_eq!(hello.messages[0].role, Role::User);
    assert_eq!(hello.messages[0].field, "input");
}

#[test]
fn items_of_an_assistant_form_one_turn() {
    let messages = parse(PATH, &everything()).unwrap().messages;
    let roles: Vec<Role> = messages.iter().map(|message| message.role).collect();
    use Role::{Assistant, System, Tool, User};
    assert_eq!(roles, [System, System, User, Assistant, Tool, Tool, User]);
    let fields: Vec<&str> = messages.iter().map(|m| m.field.as_str()).collect();
    assert_eq!(
        fields[..4],
        ["instructions", "input[0]", "input[1]", "input[2]"]
    );
    let [Part::Image(image), Part::File(file), Part::Text(_)] = &messages[2].content[..] else {
        panic!("{:?}", messages[2]);
    };
    let inline = |media_type: &str| MediaSource::Inline {
        media_type: media_type.to_owned(),
        base64: "AA==".to_owned(),
    };
    assert_eq!(
        (&image.source, image.detail.as_deref()),
        (&inline("image/png"), Some("low"))
    );
    assert_eq!(
        (&file.source, file.name.as_deref()),
        (&inline("application/pdf"), Some("b.pdf"))
    );
    let call = |id: &str, name: &str, arguments: &str| Part::ToolCall {
        id: id.to_owned(),
        name: name.to_owned(),
        arguments: arguments.to_owned(),
    };
    assert_eq!(
        messages[3].content,
        [
            Part::Reasoning {
                text: "Hm".to_owned(),
                signature: Some("s".to_owned()),
            },
            Part::EncryptedReasoning("d".to_owned()),
            Part::Text("Look".to_owned()),
            call("a", "f", r#"{"x":1.50}"#),
            call("b", "g", "{}"),
        ]
    );
}

#[test]
fn an_upstream_of_the_same_protocol_gets_the_clients_body() {
    for body in [hello(), everything()] {
        let request = parse(PATH, &body).unwrap();
        let mut expected = with(&body, "model", json!("their-model"));
        expected["stream"] = json!(true);
        assert_eq!(sent("openai-responses", &request).unwrap(), expected);
    }
}

#[test]
fn ids_of_the_gateway_are_removed() {
    let given = |prefix: &str| format!("{prefix}_st_aaaaaaaaaaaaaaaaaaaaaaaaaa_0");
    let input = json!([
        {"type": "reasoning", "id": given("rs"), "summary": [], "encrypted_content": "d"},
        {"type": "reasoning", "id": given("rs"), "summary": [{"type": "summary_text", "text": "Hm"}]},
        {"type": "message", "id": given("msg"), "role": "assistant", "content": "A"},
        {"type": "reasoning", "id": "rs_1", "summary": []},
        {"role": "user", "content": "Hi"},
    ]);
    let request = parse(PATH, &with(&hello(), "input", input)).unwrap();
    let sent = sent("openai-responses", &request).unwrap();
    assert_eq!(
        sent["input"],
        json!([
            {"type": "reasoning", "summary": [], "encrypted_content": "d"},
            {"type": "message", "role": "assistant", "content": "A"},
            {"type": "reasoning", "id": "rs_1", "summary": []},
            {"role": "user", "content": "Hi"},
        ])
    );
}

#[test]
fn vendor_features_are_refused_for_other_wires() {
    let reference =
        json!([{"role": "user", "content": "Hi"}, {"type": "item_reference", "id": "msg_1"}]);
    for (body, field) in [
        (
            with(&hello(), "previous_response_id", json!("resp_1")),
            "previous_response_id",
        ),
        (
            with(&hello(), "conversation", json!("conv_1")),
            "conversation",
        ),
        (with(&hello(), "background", json!(true)), "background"),
        (with(&hello(), "prompt", json!({"id": "p"})), "prompt"),
        (
            with(&hello(), "tool_choice", json!({"type": "web_search"})),
            "tool_choice",
        ),
        (with(&hello(), "input", reference), "input[1]"),
        (
            with(
                &hello(),
                "input",
                json!([{"role": "user", "content": [{"type": "input_audio", "input_audio": {}}]}]),
            ),
            "input[0].content[0]",
        ),
        (
            json!({"model": "m", "previous_response_id": "resp_1"}),
            "previous_response_id",
        ),
    ] {
        let request = parse(PATH, &body).unwrap();
        assert!(sent("openai-responses", &request).is_ok(), "{field}");
        let error = sent("anthropic-messages", &request).unwrap_err();
        assert!(
            error.message().starts_with(&format!("{field}: ")),
            "{error}"
        );
        let stored = field == "previous_response_id" || field == "input[1]";
        let remedy = if stored {
            "set store: false in your client"
        } else {
            "remove it"
        };
        assert!(error.message().contains(remedy), "{error}");
    }
    let ordinary = with(&hello(), "background", json!(false));
    assert!(sent("openai-chat", &parse(PATH, &ordinary).unwrap()).is_ok());
}

#[test]
fn errors_name_the_field() {
    let item = |item: Value| with(&hello(), "input", json!([item]));
    for (body, field) in [
        (with(&hello(), "model", Value::Null), "model"),
        (with(&hello(), "input", Value::Null), "input"),
        (with(&hello(), "input", json!("")), "input"),
        (with(&hello(), "input", json!([])), "input"),
        (with(&hello(), "input", json!(7)), "input"),
        (item(json!({"content": "Hi"})), "input[0].role"),
        (
            item(json!({"role": "tool", "content": "Hi"})),
            "input[0].role",
        ),
        (item(json!({"role": "user"})), "input[0].content"),
        (
            item(json!({"role": "user", "content": [{"type": "input_image"}]})),
            "input[0].content[0]",
        ),
        (
            item(json!({"type": "function_call", "call_id": "a", "name": "f"})),
            "input[0].arguments",
        ),
        (
            item(json!({"type": "function_call_output", "output": ""})),
            "input[0].call_id",
        ),
        (with(&hello(), "instructions", json!(7)), "instructions"),
        (
            with(&hello(), "max_output_tokens", json!(0)),
            "max_output_tokens",
        ),
        (
            with(&hello(), "tools", json!([{"type": "function"}])),
            "tools[0].name",
        ),
        (with(&hello(), "tool_choice", json!("maybe")), "tool_choice"),
        (
            with(&hello(), "text", json!({"format": {"type": "xml"}})),
            "text.format",
        ),
        (with(&hello(), "stream", json!(1)), "stream"),
    ] {
        refused(PATH, &body, field);
    }
}
