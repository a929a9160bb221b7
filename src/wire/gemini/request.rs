//! Builds requests to the Gemini API.

use std::collections::HashMap;

use serde_json::{Map, Value, json};

use super::MODELS_PREFIX;
use super::media::part as media;
use crate::model::{
    Error, Message, Part, Reasoning, Request, ResponseFormat, Role, Tool, ToolChoice,
};
use crate::wire::merge;
use crate::wire::request_parts::{arguments_object, no_messages};

/// Replaces the signature of a call that the client returns without one. Gemini 3 and later refuse a
/// call without a signature. <https://ai.google.dev/gemini-api/docs/thought-signatures>
const PLACEHOLDER_SIGNATURE: &str = "skip_thought_signature_validator";

/// The API has no field for `user`, `metadata` and a tool's `strict`. All are hints, so they are left
/// out.
pub(super) fn body(request: &Request, model: &str) -> Result<Value, Error> {
    let mut conversation = Conversation {
        needs_signatures: !is_older(model),
        ..Conversation::default()
    };
    for message in &request.messages {
        conversation.add(message)?;
    }
    if conversation.contents.is_empty() {
        return Err(no_messages());
    }
    let mut body = Map::new();
    if !conversation.system.is_empty() {
        body.insert(
            "systemInstruction".to_owned(),
            json!({ "parts": conversation.system }),
        );
    }
    let contents = conversation
        .contents
        .into_iter()
        .map(Content::json)
        .collect();
    body.insert("contents".to_owned(), contents);
    if !request.tools.is_empty() {
        let declarations: Vec<Value> = request.tools.iter().map(tool).collect();
        body.insert(
            "tools".to_owned(),
            json!([{ "functionDeclarations": declarations }]),
        );
    }
    if let Some(choice) = &request.tool_choice {
        body.insert(
            "toolConfig".to_owned(),
            json!({ "functionCallingConfig": tool_choice(choice) }),
        );
    }
    let config = generation_config(request, model);
    if !config.is_empty() {
        body.insert("generationConfig".to_owned(), Value::Object(config));
    }
    merge(&mut body, &request.extra);
    Ok(Value::Object(body))
}

/// Whether it is Gemini up to 2.5 or Gemma: later models require signatures of calls, and accept media in
/// results, and tools together with a format.
pub(super) fn is_older(model: &str) -> bool {
    let model = model.strip_prefix(MODELS_PREFIX).unwrap_or(model);
    let older = ["gemini-1", "gemini-2", "gemma"];
    older.iter().any(|older| model.starts_with(older))
}

/// The conversation in the API's form.
#[derive(Default)]
struct Conversation<'a> {
    /// Whether calls need a signature.
    needs_signatures: bool,
    system: Vec<Value>,
    contents: Vec<Content>,
    /// Function names by call id. A result holds the id only, and the API requires the name too.
    names: HashMap<&'a str, &'a str>,
}

/// One turn of the conversation.
struct Content {
    kind: TurnKind,
    parts: Vec<Value>,
}

/// Results have the role `user`, but in a turn of their own: the API requires the results of a turn's
/// calls to be together and separate from other parts.
#[derive(Clone, Copy, PartialEq)]
enum TurnKind {
    User,
    Model,
    Results,
}

impl Content {
    fn json(self) -> Value {
        let role = match self.kind {
            TurnKind::User | TurnKind::Results => "user",
            TurnKind::Model => "model",
        };
        json!({ "role": role, "parts": self.parts })
    }
}

impl<'a> Conversation<'a> {
    fn add(&mut self, message: &'a Message) -> Result<(), Error> {
        let kind = match message.role {
            Role::Assistant => TurnKind::Model,
            Role::System | Role::User | Role::Tool => TurnKind::User,
        };
        let mut calls = 0;
        for (place, part) in message.content.iter().enumerate() {
            let field = format!("{}.content[{place}]", message.field);
            match part {
                Part::Text(text) if text.is_empty() => {}
                Part::Text(text) if message.role == Role::System => {
                    self.system.push(json!({ "text": text }));
                }
                _ if message.role == Role::System => {
                    return Err(Error::invalid(&field, "a system prompt can hold only text"));
                }
                Part::Text(text) => self.push(kind, json!({ "text": text })),
                Part::Image(one) | Part::File(one) => self.push(kind, media(one)),
                // Encrypted reasoning is another vendor's: the gateway passes none of Gemini's on.
                Part::Reasoning { .. } | Part::EncryptedReasoning(_) | Part::CachePoint => {}
                Part::ToolCall {
                    id,
                    name,
                    arguments,
                } => {
                    self.names.insert(id, name);
                    let field = format!("{}.tool_calls[{calls}]", message.field);
                    let mut call = call(&field, id, name, arguments)?;
                    // The first of several parallel calls carries the signature.
                    if self.needs_signatures && calls == 0 {
                        call["thoughtSignature"] = json!(PLACEHOLDER_SIGNATURE);
                    }
                    calls += 1;
                    self.push(kind, call);
                }
                Part::ToolResult {
                    id,
                    content,
                    is_error,
                } => {
                    let Some(name) = self.names.get(id.as_str()) else {
                        return Err(Error::invalid(
                            &format!("{}.tool_call_id", message.field),
                            "no earlier message has a tool call with this id; send the assistant message with the call before its result",
                        ));
                    };
                    let result = result(&field, id, name, content, *is_error)?;
                    self.push(TurnKind::Results, result);
                }
            }
        }
        Ok(())
    }

    /// The API requires alternating roles, so a second message of the same kind joins the first.
    fn push(&mut self, kind: TurnKind, part: Value) {
        match self.contents.last_mut() {
            Some(last) if last.kind == kind => last.parts.push(part),
            _ => self.contents.push(Content {
                kind,
                parts: vec![part],
            }),
        }
    }
}

fn call(field: &str, id: &str, name: &str, arguments: &str) -> Result<Value, Error> {
    let arguments = arguments_object(field, arguments)?;
    Ok(json!({ "functionCall": { "id": id, "name": name, "args": arguments } }))
}

/// The API takes an object and reads its `output` or its `error`.
fn result(
    field: &str,
    id: &str,
    name: &str,
    content: &[Part],
    is_error: bool,
) -> Result<Value, Error> {
    let mut texts = Vec::new();
    let mut parts = Vec::new();
    for part in content {
        match part {
            Part::Text(text) => texts.push(text.as_str()),
            Part::Image(one) | Part::File(one) => parts.push(media(one)),
            Part::Reasoning { .. }
            | Part::EncryptedReasoning(_)
            | Part::ToolCall { .. }
            | Part::ToolResult { .. }
            | Part::CachePoint => {
                return Err(Error::invalid(
                    field,
                    "a tool result can hold only text, images and files",
                ));
            }
        }
    }
    let mut response = json!({
        "id": id,
        "name": name,
        "response": { (if is_error { "error" } else { "output" }): texts.join("\n") },
    });
    if !parts.is_empty() {
        response["parts"] = json!(parts);
    }
    Ok(json!({ "functionResponse": response }))
}

fn tool(tool: &Tool) -> Value {
    let mut json = json!({ "name": tool.name });
    if let Some(description) = &tool.description {
        json["description"] = json!(description);
    }
    // `parameters` supports only a part of JSON Schema.
    if let Some(parameters) = &tool.parameters {
        json["parametersJsonSchema"] = parameters.clone();
    }
    json
}

fn tool_choice(choice: &ToolChoice) -> Value {
    match choice {
        ToolChoice::Auto => json!({ "mode": "AUTO" }),
        ToolChoice::None => json!({ "mode": "NONE" }),
        ToolChoice::Required => json!({ "mode": "ANY" }),
        ToolChoice::Function(name) => json!({ "mode": "ANY", "allowedFunctionNames": [name] }),
    }
}

fn generation_config(request: &Request, model: &str) -> Map<String, Value> {
    let mut config = Map::new();
    let mut set = |name: &str, value: Option<Value>| {
        if let Some(value) = value {
            config.insert(name.to_owned(), value);
        }
    };
    set("maxOutputTokens", request.max_tokens.map(Value::from));
    set("temperature", request.temperature.map(Value::from));
    set("topP", request.top_p.map(Value::from));
    set(
        "stopSequences",
        (!request.stop.is_empty()).then(|| json!(request.stop)),
    );
    set("seed", request.seed.map(seed).map(Value::from));
    if let Some(ResponseFormat::Json | ResponseFormat::Schema { .. }) = &request.response_format {
        set("responseMimeType", Some("application/json".into()));
    }
    if let Some(ResponseFormat::Schema { schema, .. }) = &request.response_format {
        set("responseJsonSchema", Some(schema.clone()));
    }
    set(
        "thinkingConfig",
        request
            .reasoning
            .as_ref()
            .and_then(|asked| thinking(asked, model)),
    );
    config
}

/// A seed as the `int32` of the API. A larger one keeps its low 31 bits, so that it stays the same seed
/// in each request.
fn seed(seed: i64) -> i64 {
    match i32::try_from(seed) {
        Ok(seed) => seed.into(),
        Err(_) => seed & i64::from(i32::MAX),
    }
}

/// The smallest budget that the Pro models accept.
const MIN_PRO_BUDGET: u64 = 128;
/// The largest budget that all models accept.
const MAX_THINKING_BUDGET: u64 = 24576;

/// Efforts as budgets, with the values of the vendor's own OpenAI endpoint
/// (<https://ai.google.dev/gemini-api/docs/openai#thinking>): models before Gemini 3 accept no levels,
/// and later models accept budgets too.
fn thinking(reasoning: &Reasoning, model: &str) -> Option<Value> {
    let budget = |tokens: u64| {
        let tokens = tokens.min(MAX_THINKING_BUDGET);
        json!({ "thinkingBudget": tokens, "includeThoughts": true })
    };
    Some(match (reasoning.max_tokens, reasoning.effort.as_deref()) {
        // These models cannot be kept from thinking.
        (_, Some("none")) if model.contains("-pro") => {
            json!({ "thinkingBudget": MIN_PRO_BUDGET })
        }
        (_, Some("none")) => json!({ "thinkingBudget": 0 }),
        (Some(tokens), _) => budget(tokens),
        (None, Some("minimal" | "low")) => budget(1024),
        (None, Some("medium")) => budget(8192),
        (None, Some("high" | "xhigh" | "max")) => budget(MAX_THINKING_BUDGET),
        // A vendor's own level.
        (None, Some(level)) => json!({ "thinkingLevel": level, "includeThoughts": true }),
        (None, None) => return None,
    })
}
