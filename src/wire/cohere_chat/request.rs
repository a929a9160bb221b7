//! Builds requests to Cohere's chat API.

use serde_json::{Map, Value, json};

use crate::model::{
    Error, Media, MediaSource, Message, Part, Reasoning, Request, ResponseFormat, Role, Tool,
    ToolChoice,
};
use crate::wire::request_parts::{no_messages, parameters_schema, registered_media_type};
use crate::wire::{effort, merge};

/// The result of a tool that had no output.
const NO_OUTPUT: &str = "(no output)";

/// The API has no field for `user` and `metadata`. Both are hints, so they are left out.
pub(super) fn body(request: &Request, model: &str) -> Result<Value, Error> {
    let mut body = Map::new();
    body.insert("model".to_owned(), json!(model));
    body.insert("messages".to_owned(), messages(&request.messages)?);
    body.insert("stream".to_owned(), json!(true));
    sampling(request, &mut body);
    tools(request, &mut body)?;
    let format = match &request.response_format {
        None | Some(ResponseFormat::Text) => None,
        Some(ResponseFormat::Json) => Some(json!({ "type": "json_object" })),
        Some(ResponseFormat::Schema { schema, .. }) => {
            Some(json!({ "type": "json_object", "json_schema": schema }))
        }
    };
    if let Some(format) = format {
        body.insert("response_format".to_owned(), format);
    }
    let thinking = request.reasoning.as_ref();
    if let Some(thinking) = thinking.and_then(|reasoning| thinking_json(reasoning, request)) {
        body.insert("thinking".to_owned(), thinking);
    }
    merge(&mut body, &request.extra);
    Ok(Value::Object(body))
}

fn messages(messages: &[Message]) -> Result<Value, Error> {
    let mut out = Vec::with_capacity(messages.len());
    for message in messages {
        match message.role {
            Role::System => out.extend(text_message("system", message)?),
            Role::User => out.extend(text_message("user", message)?),
            Role::Assistant => out.extend(assistant(message)),
            // Each result is a message of its own.
            Role::Tool => {
                for (place, part) in message.content.iter().enumerate() {
                    if let Part::ToolResult { id, content, .. } = part {
                        let field = format!("{}.content[{place}]", message.field);
                        out.push(result(&field, id, content)?);
                    }
                }
            }
        }
    }
    if out.is_empty() {
        return Err(no_messages());
    }
    Ok(Value::Array(out))
}

/// A system prompt or a user message; `None` if it is blank, which the API refuses.
fn text_message(role: &str, message: &Message) -> Result<Option<Value>, Error> {
    let mut blocks = Vec::new();
    for (place, part) in message.content.iter().enumerate() {
        let field = format!("{}.content[{place}]", message.field);
        match part {
            Part::Text(text) => blocks.extend(text_block(text)),
            Part::Image(media) => blocks.push(image(&field, media)?),
            Part::File(_) => {
                return Err(Error::invalid(
                    &format!("{field}.file"),
                    "this model's upstream does not accept files; send the content as text",
                ));
            }
            // Such a message has no other parts.
            _ => {}
        }
    }
    Ok((!blocks.is_empty()).then(|| json!({ "role": role, "content": content(blocks) })))
}

/// An earlier answer; `None` if it is blank. Reasoning before tool calls becomes the tool plan.
fn assistant(message: &Message) -> Option<Value> {
    let mut blocks = Vec::new();
    let mut thoughts = Vec::new();
    let mut calls = Vec::new();
    for part in &message.content {
        match part {
            Part::Text(text) => blocks.extend(text_block(text)),
            Part::Reasoning { text, .. } => thoughts.push(text.as_str()),
            Part::ToolCall {
                id,
                name,
                arguments,
            } => calls.push(json!({
                "id": id,
                "type": "function",
                "function": { "name": name, "arguments": non_empty_arguments(arguments) },
            })),
            _ => {}
        }
    }
    let mut out = json!({ "role": "assistant" });
    let thoughts = thoughts.concat();
    if !thoughts.is_empty() {
        if calls.is_empty() {
            blocks.insert(0, json!({ "type": "thinking", "thinking": thoughts }));
        } else {
            out["tool_plan"] = json!(thoughts);
        }
    }
    if blocks.is_empty() && calls.is_empty() {
        return None;
    }
    if !blocks.is_empty() {
        out["content"] = content(blocks);
    }
    if !calls.is_empty() {
        out["tool_calls"] = Value::Array(calls);
    }
    Some(out)
}

/// The API parses the arguments, so a call without arguments needs an empty object.
fn non_empty_arguments(arguments: &str) -> &str {
    if arguments.trim().is_empty() {
        "{}"
    } else {
        arguments
    }
}

fn result(field: &str, id: &str, parts: &[Part]) -> Result<Value, Error> {
    let mut blocks = Vec::new();
    for part in parts {
        let Part::Text(text) = part else {
            return Err(Error::invalid(
                field,
                "a tool result can hold only text with this model's upstream",
            ));
        };
        blocks.extend(text_block(text));
    }
    // A call needs its result, and a result needs a text.
    if blocks.is_empty() {
        blocks.extend(text_block(NO_OUTPUT));
    }
    Ok(json!({ "role": "tool", "tool_call_id": id, "content": content(blocks) }))
}

/// A single text becomes a string, which all models accept.
fn content(mut blocks: Vec<Value>) -> Value {
    match blocks.as_mut_slice() {
        [block] if block["type"] == "text" => block["text"].take(),
        _ => Value::Array(blocks),
    }
}

/// `None` for a blank text.
fn text_block(text: &str) -> Option<Value> {
    (!text.trim().is_empty()).then(|| json!({ "type": "text", "text": text }))
}

fn image(field: &str, media: &Media) -> Result<Value, Error> {
    let url = match &media.source {
        MediaSource::Url(url) => url.clone(),
        MediaSource::Inline { media_type, base64 } => {
            format!("data:{};base64,{base64}", registered_media_type(media_type))
        }
        MediaSource::Id(_) => {
            return Err(Error::invalid(
                &format!("{field}.image_url"),
                "this model's upstream does not support uploaded files; send the image inline or as a URL",
            ));
        }
    };
    let mut image = json!({ "url": url });
    if let Some(detail) = &media.detail {
        image["detail"] = json!(detail);
    }
    Ok(json!({ "type": "image_url", "image_url": image }))
}

fn sampling(request: &Request, body: &mut Map<String, Value>) {
    let mut set = |name: &str, value: Option<Value>| {
        if let Some(value) = value {
            body.insert(name.to_owned(), value);
        }
    };
    set("max_tokens", request.max_tokens.map(Value::from));
    set("temperature", request.temperature.map(Value::from));
    set("p", request.top_p.map(Value::from));
    set("seed", request.seed.map(Value::from));
    let stop = (!request.stop.is_empty()).then(|| json!(request.stop));
    set("stop_sequences", stop);
}

fn tools(request: &Request, body: &mut Map<String, Value>) -> Result<(), Error> {
    if request.tools.is_empty() {
        return Ok(());
    }
    let mut offered: Vec<&Tool> = request.tools.iter().collect();
    let choice = match &request.tool_choice {
        None | Some(ToolChoice::Auto) => None,
        Some(ToolChoice::None) => Some("NONE"),
        Some(ToolChoice::Required) => Some("REQUIRED"),
        // The API cannot name a tool. `REQUIRED` with only that tool has the same effect.
        Some(ToolChoice::Function(name)) => {
            offered.retain(|tool| tool.name == *name);
            if offered.is_empty() {
                let problem = format!("`tools` has no tool with the name `{name}`");
                return Err(Error::invalid("tool_choice", problem));
            }
            Some("REQUIRED")
        }
    };
    body.insert(
        "tools".to_owned(),
        offered.iter().map(|offered| tool(offered)).collect(),
    );
    if offered.iter().all(|tool| tool.strict == Some(true)) {
        body.insert("strict_tools".to_owned(), json!(true));
    }
    if let Some(choice) = choice {
        body.insert("tool_choice".to_owned(), json!(choice));
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

/// <https://docs.cohere.com/docs/reasoning>
fn thinking_json(reasoning: &Reasoning, request: &Request) -> Option<Value> {
    let budget = match (reasoning.max_tokens, reasoning.effort.as_deref()) {
        (_, Some("none")) => return Some(json!({ "type": "disabled" })),
        (Some(budget), _) => Some(budget),
        (None, Some(word)) => effort::budget(word, request.max_tokens),
        (None, None) => return None,
    };
    let mut thinking = json!({ "type": "enabled" });
    if let Some(budget) = budget {
        thinking["token_budget"] = json!(budget);
    }
    Some(thinking)
}
