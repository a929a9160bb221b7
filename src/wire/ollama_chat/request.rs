//! Builds requests to Ollama's chat API.

use std::collections::HashMap;

use serde_json::{Map, Value, json};

use crate::model::{
    Error, Media, MediaSource, Message, Part, Reasoning, Request, ResponseFormat, Role, Tool,
    ToolChoice,
};
use crate::wire::merge;
use crate::wire::request_parts::{arguments_object, parameters_schema};

pub(super) fn body(request: &Request, model: &str) -> Result<Value, Error> {
    let mut body = Map::new();
    body.insert("model".to_owned(), json!(model));
    body.insert("messages".to_owned(), messages(&request.messages)?);
    tools(request, &mut body)?;
    match &request.response_format {
        None | Some(ResponseFormat::Text) => {}
        Some(ResponseFormat::Json) => {
            body.insert("format".to_owned(), json!("json"));
        }
        Some(ResponseFormat::Schema { schema, .. }) => {
            body.insert("format".to_owned(), schema.clone());
        }
    }
    if let Some(think) = request
        .reasoning
        .as_ref()
        .and_then(|wanted| think(wanted, model))
    {
        body.insert("think".to_owned(), think);
    }
    let options = options(request);
    if !options.is_empty() {
        body.insert("options".to_owned(), Value::Object(options));
    }
    body.insert("stream".to_owned(), json!(true));
    merge(&mut body, &request.extra);
    Ok(Value::Object(body))
}

/// The content of one message of the API.
#[derive(Default)]
struct Content {
    texts: Vec<String>,
    images: Vec<String>,
}

impl Content {
    fn add_image(&mut self, field: &str, media: &Media) -> Result<(), Error> {
        let MediaSource::Inline { base64, .. } = &media.source else {
            return Err(Error::invalid(
                &format!("{field}.image_url"),
                "this model's upstream accepts images only inline, as a data: URL",
            ));
        };
        self.images.push(base64.clone());
        Ok(())
    }

    fn is_empty(&self) -> bool {
        self.texts.is_empty() && self.images.is_empty()
    }

    fn message(self, role: &str) -> Value {
        let mut message = json!({ "role": role, "content": self.texts.join("\n") });
        if !self.images.is_empty() {
            message["images"] = json!(self.images);
        }
        message
    }
}

fn messages(messages: &[Message]) -> Result<Value, Error> {
    let mut out = Vec::new();
    // Tool names by call id. A result holds the id only, and the API reads the name too.
    let mut names: HashMap<&str, &str> = HashMap::new();
    for message in messages {
        let mut content = Content::default();
        let mut thinking = String::new();
        let mut calls = Vec::new();
        let mut results = false;
        for (place, part) in message.content.iter().enumerate() {
            let field = format!("{}.content[{place}]", message.field);
            match part {
                Part::Text(text) => content.texts.push(text.clone()),
                Part::Image(media) => content.add_image(&field, media)?,
                Part::File(_) => return Err(no_files(&field)),
                Part::Reasoning { text, .. } => thinking.push_str(text),
                Part::EncryptedReasoning(_) | Part::CachePoint => {}
                Part::ToolCall {
                    id,
                    name,
                    arguments,
                } => {
                    names.insert(id, name);
                    let field = format!("{}.tool_calls[{}]", message.field, calls.len());
                    calls.push(call(&field, id, name, arguments)?);
                }
                Part::ToolResult { id, content, .. } => {
                    results = true;
                    out.push(result(&field, id, names.get(&**id).copied(), content)?);
                }
            }
        }
        if results && content.is_empty() {
            continue;
        }
        let mut message = content.message(match message.role {
            Role::System => "system",
            Role::User => "user",
            Role::Assistant => "assistant",
            Role::Tool => "tool",
        });
        if !thinking.is_empty() {
            message["thinking"] = json!(thinking);
        }
        if !calls.is_empty() {
            message["tool_calls"] = Value::Array(calls);
        }
        out.push(message);
    }
    Ok(Value::Array(out))
}

fn call(field: &str, id: &str, name: &str, arguments: &str) -> Result<Value, Error> {
    let arguments = arguments_object(field, arguments)?;
    Ok(json!({ "id": id, "function": { "name": name, "arguments": arguments } }))
}

fn result(field: &str, id: &str, name: Option<&str>, parts: &[Part]) -> Result<Value, Error> {
    let mut content = Content::default();
    for part in parts {
        match part {
            Part::Text(text) => content.texts.push(text.clone()),
            Part::Image(media) => content.add_image(field, media)?,
            Part::File(_) => return Err(no_files(field)),
            Part::Reasoning { .. }
            | Part::EncryptedReasoning(_)
            | Part::ToolCall { .. }
            | Part::ToolResult { .. }
            | Part::CachePoint => {
                return Err(Error::invalid(
                    field,
                    "a tool result can hold only text and images with this model's upstream",
                ));
            }
        }
    }
    let mut message = content.message("tool");
    if let Some(name) = name {
        message["tool_name"] = json!(name);
    }
    message["tool_call_id"] = json!(id);
    Ok(message)
}

fn no_files(field: &str) -> Error {
    Error::invalid(
        &format!("{field}.file"),
        "this model's upstream does not accept files; send the content as text",
    )
}

fn tools(request: &Request, body: &mut Map<String, Value>) -> Result<(), Error> {
    match &request.tool_choice {
        None | Some(ToolChoice::Auto) => {}
        // The API has no `tool_choice`, so the tools are left out.
        Some(ToolChoice::None) => return Ok(()),
        Some(ToolChoice::Required | ToolChoice::Function(_)) => {
            return Err(Error::invalid(
                "tool_choice",
                "this model's upstream cannot force a tool call; use `auto` or `none`",
            ));
        }
    }
    if !request.tools.is_empty() {
        body.insert("tools".to_owned(), request.tools.iter().map(tool).collect());
    }
    Ok(())
}

fn tool(tool: &Tool) -> Value {
    let mut function = json!({ "name": tool.name });
    if let Some(description) = &tool.description {
        function["description"] = json!(description);
    }
    function["parameters"] = parameters_schema(tool);
    json!({ "type": "function", "function": function })
}

/// `think` is a boolean. Only gpt-oss accepts levels; other models refuse a request with one.
fn think(reasoning: &Reasoning, model: &str) -> Option<Value> {
    match (reasoning.effort.as_deref(), reasoning.max_tokens) {
        (Some("none"), _) => Some(json!(false)),
        (Some("minimal"), _) if has_levels(model) => Some(json!("low")),
        (Some("xhigh" | "max"), _) if has_levels(model) => Some(json!("high")),
        (Some(level), _) if has_levels(model) => Some(json!(level)),
        (Some(_), _) | (None, Some(_)) => Some(json!(true)),
        (None, None) => None,
    }
}

fn has_levels(model: &str) -> bool {
    model.contains("gpt-oss")
}

/// The API has no field for `user` and `metadata`. Both are hints, so they are left out.
fn options(request: &Request) -> Map<String, Value> {
    let mut options = Map::new();
    if let Some(max_tokens) = request.max_tokens {
        options.insert("num_predict".to_owned(), json!(max_tokens));
    }
    if let Some(temperature) = request.temperature {
        options.insert("temperature".to_owned(), json!(temperature));
    }
    if let Some(top_p) = request.top_p {
        options.insert("top_p".to_owned(), json!(top_p));
    }
    if let Some(seed) = request.seed {
        options.insert("seed".to_owned(), json!(seed));
    }
    if !request.stop.is_empty() {
        options.insert("stop".to_owned(), json!(request.stop));
    }
    options
}
