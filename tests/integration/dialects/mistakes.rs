//! Requests with wrong JSON, in every dialect: refusals name the field as the client wrote it, without
//! terms of the source code.

use serde_json::{Value, json};
use sluicegate::dialect;
use sluicegate::model::ErrorCode;

/// A request with much in it, for each dialect.
fn requests() -> Vec<(&'static str, Value)> {
    let chat = super::openai_chat::everything();
    let messages = &chat["messages"];
    let native = json!({
        "model": "m",
        "system": "s",
        "messages": messages,
        "max_tokens": 9,
        "temperature": 0.5,
        "top_p": 0.25,
        "stop": ["END"],
        "seed": 7,
        "tools": chat["tools"],
        "tool_choice": chat["tool_choice"],
        "response_format": chat["response_format"],
        "reasoning": {"effort": "low", "max_tokens": 1024},
        "user": "u",
        "metadata": {"k": "v"},
        "extra": {"k": "v"},
    });
    let page = json!({
        "id": "c", "trigger": "submit-message", "messageId": "1", "model": "m",
        "messages": [
            {"id": "1", "role": "user", "parts": [
                {"type": "text", "text": "Hi"},
                {"type": "file", "mediaType": "image/png", "url": "data:image/png;base64,AA==", "filename": "a.png"},
            ]},
            {"id": "2", "role": "assistant", "parts": [
                {"type": "step-start"},
                {"type": "reasoning", "text": "Hm", "providerMetadata": {"sluicegate": {"signature": "s"}}},
                {"type": "tool-f", "toolCallId": "a", "state": "output-available", "input": {}, "output": "1"},
            ]},
        ],
        "tools": chat["tools"],
        "reasoning": "low",
    });
    vec![
        ("/v1/streams", native),
        ("/v1/chat/completions", chat),
        ("/v1/messages", super::anthropic::everything()),
        ("/v1/responses", super::openai_responses::everything()),
        ("/v1/ui-messages", page),
    ]
}

/// Terms that make sense only with the source code.
const OF_THE_SOURCE: [&str; 9] = [
    "struct ",
    "enum ",
    "variant i",
    "tuple",
    "Chat",
    "Body",
    "newtype",
    "IgnoredAny",
    "Rust",
];

/// Every pointer into `value`, itself first.
fn places(value: &Value, at: String, places: &mut Vec<String>) {
    match value {
        Value::Object(members) => {
            for (name, value) in members {
                self::places(value, format!("{at}/{name}"), places);
            }
        }
        Value::Array(list) => {
            for (index, value) in list.iter().enumerate() {
                self::places(value, format!("{at}/{index}"), places);
            }
        }
        _ => {}
    }
    places.push(at);
}

#[test]
fn a_body_that_is_not_an_object_is_refused() {
    for (path, dialect) in dialect::ALL {
        for body in ["[]", "[\"m\",\"Hi\"]", "\"x\"", "7", "null", "true"] {
            let error = dialect.parse(&body.into()).expect_err(body);
            assert_eq!(error.code(), ErrorCode::InvalidRequest);
            assert_eq!(
                error.message(),
                "the body must be a JSON object",
                "{path} {body}"
            );
        }
        for body in ["", "{", "model=m", "{} {}", "\u{feff}{}"] {
            let error = dialect.parse(&body.into()).expect_err(body);
            assert!(
                error.message().starts_with("the body is not JSON: "),
                "{path}: {error}"
            );
        }
    }
}

#[test]
fn every_error_names_the_field_in_plain_words() {
    let wrong = [
        json!([]),
        json!([["x"]]),
        json!([7]),
        json!(7),
        json!("x"),
        json!({}),
        json!(true),
        json!({"type": 7}),
    ];
    for (path, request) in requests() {
        let dialect = dialect::at(path);
        let parsed = dialect.parse(&request.to_string().into());
        assert!(parsed.is_ok(), "{path}: {parsed:?}");
        let mut all = Vec::new();
        places(&request, String::new(), &mut all);
        let mut refused = 0;
        for place in all {
            for value in &wrong {
                let mut request = request.clone();
                *request.pointer_mut(&place).unwrap() = value.clone();
                let Err(error) = dialect.parse(&request.to_string().into()) else {
                    continue;
                };
                refused += 1;
                let words = error.message();
                let shown = format!("{path}{place} = {value}: {words}");
                for word in OF_THE_SOURCE {
                    assert!(!words.contains(word), "{shown}");
                }
                // The field stands within what was changed, or around it, or is one that needs it.
                let field = error.field().unwrap_or_default();
                assert!(!field.is_empty() || place.is_empty(), "{shown}");
            }
        }
        assert!(refused > 50, "{path}: {refused}");
    }
}

/// A derived reader takes the list of its members in place of an object.
#[test]
fn a_list_is_not_accepted_as_an_object() {
    for (path, pointer) in [
        ("/v1/streams", "/messages/0"),
        ("/v1/streams", "/messages/1/content/0"),
        ("/v1/streams", "/messages/1/content/1/image_url"),
        ("/v1/streams", "/messages/2/tool_calls/0"),
        ("/v1/streams", "/messages/2/tool_calls/0/function"),
        ("/v1/streams", "/tools/0"),
        ("/v1/streams", "/tools/0/function"),
        ("/v1/streams", "/tool_choice"),
        ("/v1/streams", "/response_format"),
        ("/v1/streams", "/response_format/json_schema"),
        ("/v1/streams", "/reasoning"),
        ("/v1/streams", "/extra"),
        ("/v1/chat/completions", "/messages/0"),
        ("/v1/chat/completions", "/stream_options"),
        ("/v1/chat/completions", "/tools/0/function"),
        ("/v1/messages", "/messages/0"),
        ("/v1/responses", "/input/0"),
        ("/v1/ui-messages", "/messages/0"),
        ("/v1/ui-messages", "/tools/0"),
    ] {
        let requests = requests();
        let (_, request) = requests.iter().find(|(at, _)| *at == path).unwrap();
        for list in [
            json!([]),
            json!(["user", "Hi"]),
            json!([true]),
            json!([{}, {}]),
        ] {
            let mut request = request.clone();
            *request.pointer_mut(pointer).unwrap() = list.clone();
            let error = dialect::at(path).parse(&request.to_string().into());
            let error = error.expect_err(&format!("{path}{pointer} = {list}"));
            assert_eq!(error.code(), ErrorCode::InvalidRequest, "{error}");
        }
    }
}
