//! Builds requests to the Messages API.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};

use crate::model::{Error, Media, MediaSource, Part, Request, ResponseFormat, Tool, ToolChoice};
use crate::wire::claude_thinking::Thinking;
use crate::wire::merge;
use crate::wire::request_parts::{
    BuildBlock, Conversation, arguments_object, no_messages, registered_media_type,
    typed_parameters_schema,
};

/// The API requires `max_tokens`. This value is sent if nothing else is known.
const DEFAULT_MAX_TOKENS: u64 = 4096;

/// The body of a request, and whether it refers to uploaded files. The API accepts those only with
/// a beta header.
pub(super) struct Body {
    pub json: Value,
    pub has_uploads: bool,
}

pub(super) fn body(request: &Request, model: &str) -> Result<Body, Error> {
    let mut blocks = Blocks::default();
    let conversation = Conversation::build(&request.messages, &mut blocks)?;
    // A client of this protocol may put its own `messages` into `extra`.
    if conversation.messages.is_empty() && !request.extra.contains_key("messages") {
        return Err(no_messages());
    }
    let mut body = Map::new();
    body.insert("model".to_owned(), json!(model));
    body.insert("max_tokens".to_owned(), json!(DEFAULT_MAX_TOKENS));
    if !conversation.system.is_empty() {
        body.insert("system".to_owned(), Value::Array(conversation.system));
    }
    body.insert("messages".to_owned(), Value::Array(conversation.messages));
    let thinking = Thinking::new(request);
    add_sampling(request, &thinking, &mut body);
    tools(request, &mut body);
    response_format(request.response_format.as_ref(), &mut body);
    let max_tokens = thinking.max_tokens(request.max_tokens, DEFAULT_MAX_TOKENS);
    body.insert("max_tokens".to_owned(), json!(max_tokens));
    merge(&mut body, &thinking.fields);
    body.insert("stream".to_owned(), json!(true));
    merge(&mut body, &request.extra);
    Ok(Body {
        json: Value::Object(body),
        has_uploads: blocks.has_uploads,
    })
}

/// Builds the content blocks of the conversation.
#[derive(Default)]
struct Blocks {
    has_uploads: bool,
}

impl BuildBlock for Blocks {
    fn block(&mut self, field: &str, part: &Part) -> Result<Option<Value>, Error> {
        Ok(match part {
            Part::Text(text) if text.trim().is_empty() => None,
            Part::Text(text) => Some(json!({ "type": "text", "text": text })),
            Part::Image(media) => Some(self.image(media)),
            Part::File(media) => Some(self.document(field, media)?),
            Part::Reasoning {
                text,
                signature: Some(signature),
            } => Some(json!({ "type": "thinking", "thinking": text, "signature": signature })),
            Part::Reasoning {
                signature: None, ..
            } => None,
            Part::EncryptedReasoning(data) => {
                Some(json!({ "type": "redacted_thinking", "data": data }))
            }
            Part::ToolCall {
                id,
                name,
                arguments,
            } => {
                let input = arguments_object(field, arguments)?;
                Some(json!({ "type": "tool_use", "id": id, "name": name, "input": input }))
            }
            Part::CachePoint => None,
            Part::ToolResult {
                id,
                content,
                is_error,
            } => {
                let mut blocks = Vec::new();
                for part in content {
                    blocks.extend(self.block(field, part)?);
                }
                let mut result = json!({ "type": "tool_result", "tool_use_id": id });
                if *is_error {
                    result["is_error"] = json!(true);
                }
                if !blocks.is_empty() {
                    result["content"] = Value::Array(blocks);
                }
                Some(result)
            }
        })
    }

    /// The API refuses the mark at thinking.
    fn cache_point(&mut self, content: &mut Vec<Value>) {
        let can_be_marked = |block: &&mut Value| {
            let kind = block["type"].as_str().unwrap_or_default();
            !["thinking", "redacted_thinking"].contains(&kind)
        };
        if let Some(block) = content.last_mut().filter(can_be_marked) {
            block["cache_control"] = cached();
        }
    }
}

/// <https://platform.claude.com/docs/en/build-with-claude/prompt-caching>
fn cached() -> Value {
    json!({ "type": "ephemeral" })
}

impl Blocks {
    fn image(&mut self, media: &Media) -> Value {
        let source = match &media.source {
            MediaSource::Url(url) => json!({ "type": "url", "url": url }),
            MediaSource::Inline { media_type, base64 } => inline_source(media_type, base64),
            MediaSource::Id(id) => self.file_source(id),
        };
        json!({ "type": "image", "source": source })
    }

    fn document(&mut self, field: &str, media: &Media) -> Result<Value, Error> {
        let source = match &media.source {
            MediaSource::Url(url) => json!({ "type": "url", "url": url }),
            MediaSource::Id(id) => self.file_source(id),
            MediaSource::Inline { media_type, base64 } => match media_type.as_str() {
                "application/pdf" => inline_source(media_type, base64),
                kind if kind.starts_with("image/") => return Ok(self.image(media)),
                kind if kind.starts_with("text/") || kind == "application/json" => {
                    json!({ "type": "text", "media_type": "text/plain", "data": text(field, base64)? })
                }
                kind => {
                    return Err(Error::invalid(
                        &format!("{field}.file"),
                        format!(
                            "this model's upstream accepts PDF, text and image files, not {kind}"
                        ),
                    ));
                }
            },
        };
        let mut document = json!({ "type": "document", "source": source });
        if let Some(name) = &media.name {
            document["title"] = json!(name);
        }
        Ok(document)
    }

    fn file_source(&mut self, id: &str) -> Value {
        self.has_uploads = true;
        json!({ "type": "file", "file_id": id })
    }
}

fn inline_source(media_type: &str, base64: &str) -> Value {
    let media_type = registered_media_type(media_type);
    json!({ "type": "base64", "media_type": media_type, "data": base64 })
}

fn text(field: &str, base64: &str) -> Result<String, Error> {
    STANDARD
        .decode(base64)
        .ok()
        .and_then(|bytes| String::from_utf8(bytes).ok())
        .ok_or_else(|| {
            Error::invalid(
                &format!("{field}.file"),
                "expected UTF-8 text encoded in base64",
            )
        })
}

/// The API has no field for `seed` and `metadata`. Both are hints, so they are left out.
/// With thinking it accepts no `temperature`, and only values of `top_p` near to 1.
fn add_sampling(request: &Request, thinking: &Thinking, body: &mut Map<String, Value>) {
    if let Some(temperature) = request.temperature.filter(|_| !thinking.is_on()) {
        body.insert("temperature".to_owned(), json!(temperature));
    }
    if let Some(top_p) = request.top_p.filter(|_| !thinking.is_on()) {
        body.insert("top_p".to_owned(), json!(top_p));
    }
    if !request.stop.is_empty() {
        body.insert("stop_sequences".to_owned(), json!(request.stop));
    }
    if let Some(user) = &request.user {
        body.insert("metadata".to_owned(), json!({ "user_id": user }));
    }
}

fn tools(request: &Request, body: &mut Map<String, Value>) {
    if !request.tools.is_empty() {
        body.insert("tools".to_owned(), request.tools.iter().map(tool).collect());
    }
    let forbids_parallel_calls = request.parallel_tool_calls == Some(false);
    let mut choice = match &request.tool_choice {
        // Without tools these have no effect, and the API refuses a `tool_choice` without tools.
        None | Some(ToolChoice::Auto | ToolChoice::None) if request.tools.is_empty() => return,
        None if !forbids_parallel_calls => return,
        None | Some(ToolChoice::Auto) => json!({ "type": "auto" }),
        Some(ToolChoice::None) => json!({ "type": "none" }),
        Some(ToolChoice::Required) => json!({ "type": "any" }),
        Some(ToolChoice::Function(name)) => json!({ "type": "tool", "name": name }),
    };
    if forbids_parallel_calls && choice["type"] != "none" {
        choice["disable_parallel_tool_use"] = json!(true);
    }
    body.insert("tool_choice".to_owned(), choice);
}

fn tool(tool: &Tool) -> Value {
    let mut json = json!({ "name": tool.name });
    if let Some(description) = &tool.description {
        json["description"] = json!(description);
    }
    json["input_schema"] = typed_parameters_schema(tool);
    if tool.strict == Some(true) {
        json["strict"] = json!(true);
    }
    if tool.cache_point {
        json["cache_control"] = cached();
    }
    json
}

/// The API has no format without a schema: such a request has an instruction instead.
fn response_format(format: Option<&ResponseFormat>, body: &mut Map<String, Value>) {
    if let Some(ResponseFormat::Schema { schema, .. }) = format {
        let format = json!({ "type": "json_schema", "schema": schema });
        body.insert("output_config".to_owned(), json!({ "format": format }));
    }
}
