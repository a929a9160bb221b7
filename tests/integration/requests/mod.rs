//! What a request becomes on its way to an upstream, feature by feature, and what an upstream's
//! protocol cannot say.

mod anthropic_messages;
mod bedrock_converse;
mod cohere_chat;
mod gemini;
mod ollama_chat;
mod openai_chat;
mod openai_responses;

use serde_json::{Value, json};
use sluicegate::model::{
    Error, ErrorCode, Media, MediaSource, Message, Part, Reasoning, Request, ResponseFormat, Role,
    Tool, ToolChoice, Vendor,
};
use sluicegate::wire::{self, Adapted, Outgoing, TargetSettings};

fn outgoing(wire: &str, request: &Request) -> Result<Outgoing, String> {
    adapted(wire, "m", request).map(|(outgoing, _)| outgoing)
}

/// The request that `model` gets, and the fields that were changed.
fn adapted(wire: &str, model: &str, request: &Request) -> Result<(Outgoing, Vec<String>), String> {
    adapted_for(wire, model, &Vendor::default(), request)
}

fn adapted_for(
    wire: &str,
    model: &str,
    vendor: &Vendor,
    request: &Request,
) -> Result<(Outgoing, Vec<String>), String> {
    let wire = wire::by_name(wire).expect("a wire of that name");
    let words = |error: Error| {
        assert_eq!(error.code(), ErrorCode::InvalidRequest);
        error.message().to_owned()
    };
    let for_wire = request.for_wire(wire.name()).map_err(words)?;
    let settings = TargetSettings::default();
    let fitted = Adapted::new(request, for_wire, wire, model, vendor, settings);
    let outgoing = wire
        .request(&fitted.request, model, vendor)
        .map_err(words)?;
    Ok((outgoing, fitted.changes))
}

fn body(wire: &str, request: &Request) -> Value {
    outgoing(wire, request)
        .expect("a request that the wire can express")
        .body
}

/// Asserts that the wire refuses, and that its words begin with the field.
fn refused(wire: &str, request: &Request, field: &str) {
    let words = outgoing(wire, request).expect_err("a request that the wire cannot express");
    assert!(words.starts_with(&format!("{field}: ")), "{field}: {words}");
}

fn asking(mut messages: Vec<Message>) -> Request {
    for (at, message) in messages.iter_mut().enumerate() {
        message.field = format!("messages[{at}]");
    }
    Request {
        messages,
        ..Request::default()
    }
}

fn hello() -> Request {
    asking(vec![message(Role::User, vec![text("Hi")])])
}

fn message(role: Role, content: Vec<Part>) -> Message {
    Message {
        field: String::new(),
        role,
        content,
    }
}

fn text(text: &str) -> Part {
    Part::Text(text.to_owned())
}

fn media(source: MediaSource) -> Media {
    Media {
        source,
        name: None,
        detail: None,
    }
}

fn url() -> MediaSource {
    MediaSource::Url("https://example.com/x".to_owned())
}

fn inline(media_type: &str, base64: &str) -> MediaSource {
    MediaSource::Inline {
        media_type: media_type.to_owned(),
        base64: base64.to_owned(),
    }
}

fn call(id: &str, name: &str, arguments: &str) -> Part {
    Part::ToolCall {
        id: id.to_owned(),
        name: name.to_owned(),
        arguments: arguments.to_owned(),
    }
}

fn answer(id: &str, content: Vec<Part>) -> Message {
    let id = id.to_owned();
    message(
        Role::Tool,
        vec![Part::ToolResult {
            id,
            content,
            is_error: false,
        }],
    )
}

/// Two calls and their results, then a question.
fn tool_turns() -> Request {
    let mut request = asking(vec![
        message(Role::User, vec![text("Weather?")]),
        message(
            Role::Assistant,
            vec![
                text(""),
                call("a", "weather", r#"{"city":"Rome"}"#),
                call("b", "time", ""),
            ],
        ),
        answer("a", vec![text("sunny")]),
        answer("b", vec![]),
        message(Role::User, vec![text("And?")]),
    ]);
    request.tools = vec![Tool {
        name: "weather".to_owned(),
        description: Some("Says it".to_owned()),
        parameters: Some(json!({"type": "object", "properties": {"city": {}}})),
        strict: Some(true),
        cache_point: false,
    }];
    request.tools.push(Tool {
        name: "time".to_owned(),
        description: None,
        parameters: None,
        strict: None,
        cache_point: false,
    });
    request
}

/// Everything that bounds or steers the sampling.
fn steered() -> Request {
    let mut request = hello();
    request.max_tokens = Some(100);
    request.temperature = Some(0.5);
    request.top_p = Some(0.25);
    request.stop = vec!["END".to_owned()];
    request.seed = Some(7);
    request.user = Some("u1".to_owned());
    request.metadata = json!({"team": "x"}).as_object().cloned();
    request
}

fn thinking(effort: Option<&str>, max_tokens: Option<u64>, bound: Option<u64>) -> Request {
    let mut request = hello();
    request.max_tokens = bound;
    request.reasoning = Some(Reasoning {
        effort: effort.map(str::to_owned),
        max_tokens,
        ..Reasoning::default()
    });
    request
}

fn schema() -> ResponseFormat {
    ResponseFormat::Schema {
        name: "fruit".to_owned(),
        description: None,
        schema: json!({"type": "object"}),
        strict: Some(true),
    }
}

#[test]
fn every_wire_knows_its_own_path_and_its_errors() {
    for wire in wire::ALL {
        let sent = wire
            .request(&hello(), "m", &Vendor::default())
            .expect("a request");
        assert_eq!(
            wire.requested_model(&sent.path, &sent.body).as_deref(),
            Some("m")
        );
        assert_eq!(wire.requested_model("/elsewhere", &sent.body), None);
    }
    let refusal = |wire: &str, body: Value| {
        let wire = wire::by_name(wire).expect("a wire of that name");
        wire.refusal(body.to_string().as_bytes())
            .map(|refusal| (refusal.message, refusal.kind))
    };
    assert_eq!(
        refusal(
            "anthropic-messages",
            json!({"type": "error", "error": {"type": "not_found_error", "message": "model: x"}})
        ),
        Some(("model: x".to_owned(), Some("not_found_error".to_owned())))
    );
    assert_eq!(
        refusal("ollama-chat", json!({"error": "model 'x' not found"})),
        Some(("model 'x' not found".to_owned(), None))
    );
    assert_eq!(
        refusal("bedrock-converse", json!({"message": "no such model"})),
        Some(("no such model".to_owned(), None))
    );
    assert_eq!(
        refusal(
            "bedrock-converse",
            json!({"__type": "Throttling", "Message": "slow down"})
        ),
        Some(("slow down".to_owned(), Some("Throttling".to_owned())))
    );
    assert_eq!(
        refusal(
            "cohere-chat",
            json!({"id": "x", "message": "invalid api token"})
        ),
        Some(("invalid api token".to_owned(), None))
    );
}
