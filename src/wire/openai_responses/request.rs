//! Requests to the Responses API.

use serde_json::{Map, Value, json};

use crate::model::{
    Error, Media, MediaSource, Message, Part, Request, ResponseFormat, Role, Tool, ToolChoice,
};
use crate::wire::request_parts::{file_name, registered_media_type};
use crate::wire::{effort, merge};

/// `seed` and a budget of reasoning tokens have no place in the API; both are hints, so they are
/// left out. Nothing is stored, since a client of another protocol always sends the whole
/// conversation.
pub(super) fn body(request: &Request, model: &str) -> Result<Value, Error> {
    if !request.stop.is_empty() {
        return Err(Error::invalid(
            "stop",
            "this upstream speaks openai-responses, which knows no stop sequences",
        ));
    }
    let (system, messages) = split(&request.messages);
    let mut body = Map::new();
    body.insert("model".into(), model.into());
    let mut set = |name: &str, value: Option<Value>| {
        if let Some(value) = value {
            body.insert(name.into(), value);
        }
    };
    set("instructions", instructions(system)?.map(Value::from));
    // What a client of this very protocol wrote comes as it is, with `extra`.
    if !request.messages.is_empty() {
        set("input", Some(input(messages)?.into()));
        set("store", Some(false.into()));
    }
    set("max_output_tokens", request.max_tokens.map(Value::from));
    set("temperature", request.temperature.map(Value::from));
    set("top_p", request.top_p.map(Value::from));
    let tools = (!request.tools.is_empty()).then(|| request.tools.iter().map(tool).collect());
    set("tools", tools);
    set("tool_choice", request.tool_choice.as_ref().map(tool_choice));
    // Without tools it says nothing, and the API refuses it.
    let parallel = request
        .parallel_tool_calls
        .filter(|_| !request.tools.is_empty());
    set("parallel_tool_calls", parallel.map(Value::from));
    let format = request.response_format.as_ref().map(format);
    set("text", format.map(|format| json!({ "format": format })));
    let effort = request.reasoning.as_ref().and_then(effort::openai);
    set(
        "reasoning",
        effort.map(|effort| json!({ "effort": effort })),
    );
    set("user", request.user.as_deref().map(Value::from));
    set("metadata", request.metadata.as_ref().and_then(metadata));
    set("stream", Some(true.into()));
    merge(&mut body, &request.extra);
    Ok(Value::Object(body))
}

/// What the API takes of an app's own metadata: 16 texts of up to 512 characters, under names of up
/// to 64. The rest is left out.
fn metadata(metadata: &Map<String, Value>) -> Option<Value> {
    let fits = |text: &str, most: usize| text.chars().nth(most).is_none();
    let taken: Map<String, Value> = metadata
        .iter()
        .filter(|(name, value)| {
            fits(name, 64) && value.as_str().is_some_and(|text| fits(text, 512))
        })
        .take(16)
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect();
    (!taken.is_empty()).then_some(Value::Object(taken))
}

/// The system messages that open the conversation, which become `instructions`, and all the rest.
/// A conversation of nothing else stays one.
fn split(messages: &[Message]) -> (&[Message], &[Message]) {
    let opening = messages
        .iter()
        .position(|message| message.role != Role::System);
    messages.split_at(opening.unwrap_or(0))
}

fn instructions(system: &[Message]) -> Result<Option<String>, Error> {
    let mut texts: Vec<&str> = Vec::new();
    for message in system {
        for (place, part) in message.content.iter().enumerate() {
            let Part::Text(text) = part else {
                return Err(Error::invalid(
                    &format!("{}.content[{place}]", message.field),
                    "a system prompt holds texts only",
                ));
            };
            texts.push(text);
        }
    }
    Ok((!texts.is_empty()).then(|| texts.join("\n\n")))
}

/// The conversation as a flat list of items: a turn's calls, results and reasoning stand beside
/// its message.
fn input(messages: &[Message]) -> Result<Vec<Value>, Error> {
    let mut items = Vec::new();
    for message in messages {
        let role = match message.role {
            Role::System => "system",
            Role::User | Role::Tool => "user",
            Role::Assistant => "assistant",
        };
        let mut content = Vec::new();
        for (place, part) in message.content.iter().enumerate() {
            let item = match part {
                // What the model said itself is its output, given back.
                Part::Text(text) if role == "assistant" => {
                    content.push(json!({ "type": "output_text", "text": text }));
                    continue;
                }
                Part::Text(_) | Part::Image(_) | Part::File(_) => {
                    content.extend(input_part(part));
                    continue;
                }
                Part::ToolCall {
                    id,
                    name,
                    arguments,
                } => function_call(id, name, arguments),
                Part::CachePoint => continue,
                Part::ToolResult { id, content, .. } => {
                    let field = format!("{}.content[{place}]", message.field);
                    json!({ "type": "function_call_output", "call_id": id, "output": output(&field, content)? })
                }
                Part::Reasoning {
                    text,
                    signature: Some(sealed),
                } => reasoning(Some(text), sealed),
                Part::EncryptedReasoning(sealed) => reasoning(None, sealed),
                // OpenAI takes no reasoning back without its seal.
                Part::Reasoning {
                    signature: None, ..
                } => continue,
            };
            flush(role, &mut content, &mut items);
            items.push(item);
        }
        flush(role, &mut content, &mut items);
    }
    Ok(items)
}

/// Ends the message that has gathered, so that items keep their order.
fn flush(role: &str, content: &mut Vec<Value>, items: &mut Vec<Value>) {
    if !content.is_empty() {
        let content = std::mem::take(content);
        items.push(json!({ "type": "message", "role": role, "content": content }));
    }
}

fn function_call(id: &str, name: &str, arguments: &str) -> Value {
    let arguments = if arguments.trim().is_empty() {
        "{}"
    } else {
        arguments
    };
    json!({ "type": "function_call", "call_id": id, "name": name, "arguments": arguments })
}

fn reasoning(summary: Option<&str>, sealed: &str) -> Value {
    let summary: Vec<Value> = summary
        .filter(|text| !text.is_empty())
        .map(|text| json!({ "type": "summary_text", "text": text }))
        .into_iter()
        .collect();
    json!({ "type": "reasoning", "summary": summary, "encrypted_content": sealed })
}

fn output(field: &str, content: &[Part]) -> Result<Value, Error> {
    match content {
        [] => return Ok("".into()),
        [Part::Text(text)] => return Ok(text.as_str().into()),
        _ => {}
    }
    let parts = content.iter().map(input_part).collect::<Option<Vec<_>>>();
    parts
        .map(Value::from)
        .ok_or_else(|| Error::invalid(field, "a tool's result holds texts, images and files"))
}

fn input_part(part: &Part) -> Option<Value> {
    Some(match part {
        Part::Text(text) => json!({ "type": "input_text", "text": text }),
        Part::Image(media) => image(media),
        Part::File(media) => file(media),
        Part::Reasoning { .. }
        | Part::EncryptedReasoning(_)
        | Part::ToolCall { .. }
        | Part::ToolResult { .. }
        | Part::CachePoint => return None,
    })
}

/// `detail` must be there.
fn image(media: &Media) -> Value {
    let detail = media.detail.as_deref().unwrap_or("auto");
    let mut image = json!({ "type": "input_image", "detail": detail });
    match &media.source {
        MediaSource::Url(url) => image["image_url"] = json!(url),
        MediaSource::Inline { media_type, base64 } => {
            image["image_url"] = json!(data_url(media_type, base64));
        }
        MediaSource::Id(id) => image["file_id"] = json!(id),
    }
    image
}

fn file(media: &Media) -> Value {
    let mut file = json!({ "type": "input_file" });
    if let Some(name) = file_name(media) {
        file["filename"] = json!(name);
    }
    match &media.source {
        MediaSource::Url(url) => file["file_url"] = json!(url),
        MediaSource::Inline { media_type, base64 } => {
            file["file_data"] = json!(data_url(media_type, base64));
        }
        MediaSource::Id(id) => file["file_id"] = json!(id),
    }
    file
}

fn data_url(media_type: &str, base64: &str) -> String {
    format!("data:{};base64,{base64}", registered_media_type(media_type))
}

/// `parameters` and `strict` must be there, and a missing `strict` would be true, which Chat's is not.
fn tool(tool: &Tool) -> Value {
    let mut json = json!({ "type": "function", "name": tool.name });
    if let Some(description) = &tool.description {
        json["description"] = json!(description);
    }
    json["parameters"] = tool
        .parameters
        .clone()
        .unwrap_or_else(|| json!({ "type": "object", "properties": {} }));
    json["strict"] = json!(tool.strict.unwrap_or(false));
    json
}

fn tool_choice(choice: &ToolChoice) -> Value {
    match choice {
        ToolChoice::Auto => "auto".into(),
        ToolChoice::None => "none".into(),
        ToolChoice::Required => "required".into(),
        ToolChoice::Function(name) => json!({ "type": "function", "name": name }),
    }
}

fn format(format: &ResponseFormat) -> Value {
    match format {
        ResponseFormat::Text => json!({ "type": "text" }),
        ResponseFormat::Json => json!({ "type": "json_object" }),
        ResponseFormat::Schema {
            name,
            description,
            schema,
            strict,
        } => {
            let mut json = json!({ "type": "json_schema", "name": name });
            if let Some(description) = description {
                json["description"] = json!(description);
            }
            json["schema"] = schema.clone();
            if let Some(strict) = strict {
                json["strict"] = json!(strict);
            }
            json
        }
    }
}
