//! The request's body.

use serde_json::{Map, Value, json};

use super::signatures::restore;
use crate::model::{
    Media, MediaSource, Message, Part, Prefill, Request, ResponseFormat, Role, Tool, ToolChoice,
    Vendor,
};
use crate::wire::request_parts::{file_name, registered_media_type};
use crate::wire::{effort, merge};

/// Everything that a normalized request can say has a place here but hints, which are dropped: a
/// budget of reasoning tokens (only an effort can be said), metadata, and earlier reasoning, but for
/// vendors that want it back.
pub(super) fn body(request: &Request, model: &str, vendor: &Vendor) -> Value {
    let mut body = Map::new();
    body.insert("model".into(), model.into());
    body.insert("messages".into(), messages(&request.messages, vendor));
    body.insert("stream".into(), true.into());
    if vendor.stream_options {
        body.insert("stream_options".into(), json!({"include_usage": true}));
    }
    let mut set = |name: &str, value: Option<Value>| {
        if let Some(value) = value {
            body.insert(name.into(), value);
        }
    };
    set(vendor.max_tokens_field, request.max_tokens.map(Value::from));
    set("temperature", request.temperature.map(Value::from));
    set("top_p", request.top_p.map(Value::from));
    set("stop", some(&request.stop).map(Value::from));
    set(vendor.seed_field, request.seed.map(Value::from));
    set(
        "tools",
        some(&request.tools).map(|tools| tools.iter().map(tool).collect()),
    );
    set("tool_choice", request.tool_choice.as_ref().map(tool_choice));
    // Without tools it says nothing, and the API refuses it.
    let parallel = request
        .parallel_tool_calls
        .filter(|_| !request.tools.is_empty());
    set("parallel_tool_calls", parallel.map(Value::from));
    // The client's own form, which servers other than OpenAI's understand.
    let format = request.response_format.as_ref();
    let format = format.filter(|_| !request.extra.contains_key("response_format"));
    set("response_format", format.map(response_format));
    let effort = request.reasoning.as_ref().and_then(effort::openai);
    // The client's own setting in the form of OpenRouter.
    let effort = effort.filter(|_| !request.extra.contains_key("reasoning"));
    set("reasoning_effort", effort.map(Value::from));
    let user = request.user.as_deref().filter(|_| vendor.user);
    set("user", user.map(Value::from));
    if request.continues_answer {
        go_on(&mut body, vendor.prefill);
    }
    merge(&mut body, &request.extra);
    Value::Object(body)
}

/// Says that the last message is the answer's beginning.
fn go_on(body: &mut Map<String, Value>, prefill: Prefill) {
    match prefill {
        Prefill::Never | Prefill::Message => {}
        Prefill::Flagged => {
            body.insert("continue_final_message".into(), true.into());
            body.insert("add_generation_prompt".into(), false.into());
        }
        Prefill::Prefix => {
            let last = body.get_mut("messages").and_then(Value::as_array_mut);
            if let Some(Value::Object(last)) = last.and_then(|messages| messages.last_mut()) {
                last.insert("prefix".into(), true.into());
            }
        }
    }
}

fn some<T>(list: &[T]) -> Option<&[T]> {
    (!list.is_empty()).then_some(list)
}

/// Stands between the results of tools and a message of the user, where the vendor refuses that order.
const BETWEEN: &str = "(The results were received.)";

fn messages(messages: &[Message], vendor: &Vendor) -> Value {
    let mut out = Vec::with_capacity(messages.len());
    for message in messages {
        match message.role {
            Role::System => out.push(json!({"role": "system", "content": parts(&message.content)})),
            Role::User => {
                let follows = out
                    .last()
                    .is_some_and(|last: &Value| last["role"] == "tool");
                if follows && !vendor.user_after_results {
                    out.push(json!({"role": "assistant", "content": BETWEEN}));
                }
                out.push(json!({"role": "user", "content": parts(&message.content)}));
            }
            Role::Assistant => out.extend(assistant(message, vendor)),
            // One message a result.
            Role::Tool => out.extend(message.content.iter().filter_map(tool_result)),
        }
    }
    Value::Array(out)
}

/// A lone text stays a string: some look-alikes know nothing else. Many refuse an empty list.
fn parts(list: &[Part]) -> Value {
    match list {
        [] => "".into(),
        [Part::Text(text)] => text.as_str().into(),
        list => list.iter().filter_map(part).collect(),
    }
}

fn part(part: &Part) -> Option<Value> {
    Some(match part {
        Part::Text(text) => json!({"type": "text", "text": text}),
        Part::Image(media) => image(media),
        Part::File(media) if is_image(media) => image(media),
        Part::File(media) => file(media),
        Part::Reasoning { .. }
        | Part::EncryptedReasoning(_)
        | Part::ToolCall { .. }
        | Part::ToolResult { .. }
        | Part::CachePoint => return None,
    })
}

/// The API takes images as such only.
fn is_image(media: &Media) -> bool {
    matches!(&media.source, MediaSource::Inline { media_type, .. } if media_type.starts_with("image/"))
}

fn image(media: &Media) -> Value {
    let mut image = Map::new();
    image.insert("url".into(), url(media).into());
    if let Some(detail) = &media.detail {
        image.insert("detail".into(), detail.as_str().into());
    }
    json!({"type": "image_url", "image_url": image})
}

fn file(media: &Media) -> Value {
    let mut file = Map::new();
    match &media.source {
        MediaSource::Id(id) => file.insert("file_id".into(), id.as_str().into()),
        MediaSource::Inline { .. } | MediaSource::Url(_) => {
            file.insert("file_data".into(), url(media).into())
        }
    };
    if let Some(name) = file_name(media) {
        file.insert("filename".into(), name.into());
    }
    json!({"type": "file", "file": file})
}

fn url(media: &Media) -> String {
    match &media.source {
        MediaSource::Url(url) => url.clone(),
        MediaSource::Id(id) => id.clone(),
        MediaSource::Inline { media_type, base64 } => {
            format!("data:{};base64,{base64}", registered_media_type(media_type))
        }
    }
}

/// None for a turn of nothing that is sent, such as reasoning alone.
fn assistant(message: &Message, vendor: &Vendor) -> Option<Value> {
    if !message.content.iter().any(is_sent) {
        return None;
    }
    let mut calls = Vec::new();
    let mut said = Vec::new();
    let mut thought = String::new();
    let mut signatures = Vec::new();
    for part in &message.content {
        match part {
            Part::ToolCall {
                id,
                name,
                arguments,
            } => calls.push(json!({
                "id": id,
                "type": "function",
                "function": {"name": name, "arguments": arguments},
            })),
            Part::Text(_) => said.push(part.clone()),
            Part::Reasoning { text, signature } => {
                thought.push_str(text);
                signatures.extend(
                    signature
                        .as_deref()
                        .map(|signature| (signature, text.as_str())),
                );
            }
            Part::EncryptedReasoning(signature) => signatures.push((signature, "")),
            _ => {}
        }
    }
    let mut out = Map::new();
    out.insert("role".into(), "assistant".into());
    let content = if said.is_empty() {
        Value::Null
    } else {
        parts(&said)
    };
    out.insert("content".into(), content);
    if !calls.is_empty() {
        if vendor.reasoning_beside_calls && !thought.is_empty() {
            out.insert("reasoning_content".into(), thought.into());
        }
        out.insert("tool_calls".into(), calls.into());
    }
    for (signature, text) in signatures {
        restore(signature, text, &mut out);
    }
    Some(Value::Object(out))
}

fn is_sent(part: &Part) -> bool {
    match part {
        Part::CachePoint => false,
        Part::Reasoning { signature, .. } => signature.is_some(),
        _ => true,
    }
}

fn tool_result(part: &Part) -> Option<Value> {
    let Part::ToolResult { id, content, .. } = part else {
        return None;
    };
    Some(json!({"role": "tool", "tool_call_id": id, "content": parts(content)}))
}

fn tool(tool: &Tool) -> Value {
    let mut function = Map::new();
    function.insert("name".into(), tool.name.as_str().into());
    if let Some(description) = &tool.description {
        function.insert("description".into(), description.as_str().into());
    }
    if let Some(parameters) = &tool.parameters {
        function.insert("parameters".into(), parameters.clone());
    }
    if let Some(strict) = tool.strict {
        function.insert("strict".into(), strict.into());
    }
    json!({"type": "function", "function": function})
}

fn tool_choice(choice: &ToolChoice) -> Value {
    match choice {
        ToolChoice::Auto => "auto".into(),
        ToolChoice::None => "none".into(),
        ToolChoice::Required => "required".into(),
        ToolChoice::Function(name) => json!({"type": "function", "function": {"name": name}}),
    }
}

fn response_format(format: &ResponseFormat) -> Value {
    match format {
        ResponseFormat::Text => json!({"type": "text"}),
        ResponseFormat::Json => json!({"type": "json_object"}),
        ResponseFormat::Schema {
            name,
            description,
            schema,
            strict,
        } => {
            let mut inner = Map::new();
            inner.insert("name".into(), name.as_str().into());
            if let Some(description) = description {
                inner.insert("description".into(), description.as_str().into());
            }
            inner.insert("schema".into(), schema.clone());
            if let Some(strict) = strict {
                inner.insert("strict".into(), (*strict).into());
            }
            json!({"type": "json_schema", "json_schema": inner})
        }
    }
}
