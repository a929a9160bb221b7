//! Requests to the Gemini API.

use std::collections::HashMap;

use serde_json::{Map, Value, json};

use super::media::part as media;
use crate::model::{
    Error, Message, Part, Reasoning, Request, ResponseFormat, Role, Tool, ToolChoice,
};
use crate::wire::merge;

/// Stands for the signature of a call that the client gives back without one. Gemini 3 and later
/// refuse a call that has none. <https://ai.google.dev/gemini-api/docs/thought-signatures>
const PLACEHOLDER_SIGNATURE: &str = "skip_thought_signature_validator";

/// `user`, `metadata` and a tool's `strict` have no place in the API; all are hints, so they are left out.
pub(super) fn body(request: &Request, model: &str) -> Result<Value, Error> {
    let mut conversation = Conversation {
        needs_signatures: requires_signatures(model),
        ..Conversation::default()
    };
    for message in &request.messages {
        conversation.add(message)?;
    }
    if conversation.contents.is_empty() {
        return Err(Error::invalid(
            "messages",
            "at least one message that is not a system prompt is needed",
        ));
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
    let config = generation_config(request);
    if !config.is_empty() {
        body.insert("generationConfig".to_owned(), Value::Object(config));
    }
    merge(&mut body, &request.extra);
    Ok(Value::Object(body))
}

/// Those that do not are the Gemini models up to 2.5, and Gemma.
fn requires_signatures(model: &str) -> bool {
    let older = ["gemini-1", "gemini-2", "gemma"];
    !older.iter().any(|older| model.starts_with(older))
}

/// The conversation in the API's form.
#[derive(Default)]
struct Conversation<'a> {
    /// Calls need a signature.
    needs_signatures: bool,
    system: Vec<Value>,
    contents: Vec<Content>,
    /// A result names its call; the API wants the function's name with it.
    names: HashMap<&'a str, &'a str>,
}

/// One turn.
struct Content {
    kind: TurnKind,
    parts: Vec<Value>,
}

/// Results are the user's too, but stand apart: the API wants the results of a turn's calls in one
/// turn of their own.
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
                    return Err(Error::invalid(&field, "a system prompt holds texts only"));
                }
                Part::Text(text) => self.push(kind, json!({ "text": text })),
                Part::Image(one) | Part::File(one) => self.push(kind, media(one)),
                // A seal is of another vendor, since the gateway hands none of Gemini's on.
                Part::Reasoning { .. } | Part::SealedReasoning(_) => {}
                Part::ToolCall {
                    id,
                    name,
                    arguments,
                } => {
                    self.names.insert(id, name);
                    let field = format!("{}.tool_calls[{calls}]", message.field);
                    let mut call = call(&field, id, name, arguments)?;
                    // Of calls that were made at once, the first has the signature.
                    if self.needs_signatures && calls == 0 {
                        call["thoughtSignature"] = json!(PLACEHOLDER_SIGNATURE);
                    }
                    calls += 1;
                    self.push(kind, call);
                }
                Part::ToolResult { id, content } => {
                    let Some(name) = self.names.get(id.as_str()) else {
                        return Err(Error::invalid(
                            &format!("{}.tool_call_id", message.field),
                            "no earlier message has a call of that id",
                        ));
                    };
                    let result = result(&field, id, name, content)?;
                    self.push(TurnKind::Results, result);
                }
            }
        }
        Ok(())
    }

    /// A second message of the same kind joins the first, since the API wants turns to alternate.
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
    let arguments: Map<String, Value> = if arguments.trim().is_empty() {
        Map::new()
    } else {
        serde_json::from_str(arguments).map_err(|error| {
            Error::invalid(
                &format!("{field}.function.arguments"),
                format!("expected a JSON object: {error}"),
            )
        })?
    };
    Ok(json!({ "functionCall": { "id": id, "name": name, "args": arguments } }))
}

/// The API wants an object, and reads its `output`.
fn result(field: &str, id: &str, name: &str, content: &[Part]) -> Result<Value, Error> {
    let mut texts = Vec::new();
    let mut parts = Vec::new();
    for part in content {
        match part {
            Part::Text(text) => texts.push(text.as_str()),
            Part::Image(one) | Part::File(one) => parts.push(media(one)),
            Part::Reasoning { .. }
            | Part::SealedReasoning(_)
            | Part::ToolCall { .. }
            | Part::ToolResult { .. } => {
                return Err(Error::invalid(
                    field,
                    "a tool's result holds texts, images and files",
                ));
            }
        }
    }
    let mut response = json!({
        "id": id,
        "name": name,
        "response": { "output": texts.join("\n") },
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
    // `parameters` knows only a part of JSON Schema.
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

fn generation_config(request: &Request) -> Map<String, Value> {
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
    set("seed", request.seed.map(Value::from));
    if let Some(ResponseFormat::Json | ResponseFormat::Schema { .. }) = &request.response_format {
        set("responseMimeType", Some("application/json".into()));
    }
    if let Some(ResponseFormat::Schema { schema, .. }) = &request.response_format {
        set("responseJsonSchema", Some(schema.clone()));
    }
    set(
        "thinkingConfig",
        request.reasoning.as_ref().and_then(thinking),
    );
    config
}

/// Efforts as budgets, as the vendor's own OpenAI endpoint takes them
/// (<https://ai.google.dev/gemini-api/docs/openai#thinking>): models before Gemini 3 know no levels,
/// and later ones know budgets too.
fn thinking(reasoning: &Reasoning) -> Option<Value> {
    let budget = |tokens: u64| json!({ "thinkingBudget": tokens, "includeThoughts": true });
    Some(match (reasoning.max_tokens, reasoning.effort.as_deref()) {
        (_, Some("none")) => json!({ "thinkingBudget": 0 }),
        (Some(tokens), _) => budget(tokens),
        (None, Some("minimal" | "low")) => budget(1024),
        (None, Some("medium")) => budget(8192),
        (None, Some("high")) => budget(24576),
        // A word of the vendor's own.
        (None, Some(level)) => json!({ "thinkingLevel": level, "includeThoughts": true }),
        (None, None) => return None,
    })
}
