//! Builds requests to the Converse API.

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};

use super::media;
use super::reasoning::{ReasoningFields, reasoning_fields};
use crate::model::{Error, Part, Request, ResponseFormat, Tool, ToolChoice};
use crate::wire::merge;
use crate::wire::request_parts::{
    BuildBlock, Conversation, arguments_object, no_messages, no_parameters, typed_parameters_schema,
};

/// The API has no field for `seed` and `user`. Both are hints, so they are left out.
pub(super) fn body(request: &Request, model: &str) -> Result<Value, Error> {
    let mut blocks = Blocks::default();
    let mut conversation = Conversation::build(&request.messages, &mut blocks)?;
    conversation
        .messages
        .iter_mut()
        .for_each(accompany_documents);
    if conversation.messages.is_empty() {
        return Err(no_messages());
    }
    let mut body = Map::new();
    if !conversation.system.is_empty() {
        body.insert("system".to_owned(), Value::Array(conversation.system));
    }
    body.insert("messages".to_owned(), Value::Array(conversation.messages));
    let reasoning = reasoning_fields(request, model);
    let inference = inference(request, &reasoning);
    if !inference.is_empty() {
        body.insert("inferenceConfig".to_owned(), Value::Object(inference));
    }
    tools(request, &blocks.called, &mut body)?;
    response_format(request.response_format.as_ref(), &mut body);
    if !reasoning.fields.is_empty() {
        let fields = Value::Object(reasoning.fields);
        body.insert("additionalModelRequestFields".to_owned(), fields);
    }
    let metadata = request.metadata.as_ref().map(metadata);
    if let Some(metadata) = metadata.filter(|metadata| !metadata.is_empty()) {
        body.insert("requestMetadata".to_owned(), Value::Object(metadata));
    }
    merge(&mut body, &request.extra);
    Ok(Value::Object(body))
}

/// Builds the content blocks of the conversation.
#[derive(Default)]
struct Blocks {
    names: media::DocumentNames,
    /// The names of the tools that the conversation calls.
    called: BTreeSet<String>,
}

impl BuildBlock for Blocks {
    fn block(&mut self, field: &str, part: &Part) -> Result<Option<Value>, Error> {
        Ok(match part {
            Part::Text(text) if text.trim().is_empty() => None,
            Part::Text(text) => Some(json!({ "text": text })),
            Part::Image(image) => Some(media::image(field, image)?),
            Part::File(file) => Some(media::document(field, file, &mut self.names)?),
            Part::Reasoning {
                text,
                signature: Some(signature),
            } => Some(json!({
                "reasoningContent": { "reasoningText": { "text": text, "signature": signature } }
            })),
            Part::Reasoning {
                signature: None, ..
            } => None,
            Part::EncryptedReasoning(sealed) => {
                Some(json!({ "reasoningContent": { "redactedContent": sealed } }))
            }
            Part::ToolCall {
                id,
                name,
                arguments,
            } => {
                self.called.insert(name.clone());
                let input = arguments_object(field, arguments)?;
                Some(json!({ "toolUse": { "toolUseId": id, "name": name, "input": input } }))
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
                let mut result = json!({ "toolUseId": id, "content": blocks });
                if *is_error {
                    result["status"] = json!("error");
                }
                Some(json!({ "toolResult": result }))
            }
        })
    }

    fn cache_point(&mut self, content: &mut Vec<Value>) {
        content.push(cache_point());
    }
}

/// The API requires a text beside documents.
/// <https://docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_DocumentBlock.html>
fn accompany_documents(message: &mut Value) {
    let Some(blocks) = message["content"].as_array_mut() else {
        return;
    };
    let has = |kind: &str| blocks.iter().any(|block| block.get(kind).is_some());
    if has("document") && !has("text") {
        blocks.push(json!({ "text": "(See the document.)" }));
    }
}

/// <https://docs.aws.amazon.com/bedrock/latest/userguide/prompt-caching.html>
fn cache_point() -> Value {
    json!({ "cachePoint": { "type": "default" } })
}

fn inference(request: &Request, reasoning: &ReasoningFields) -> Map<String, Value> {
    let mut inference = Map::new();
    if let Some(max_tokens) = reasoning.max_tokens {
        inference.insert("maxTokens".to_owned(), json!(max_tokens));
    }
    if let Some(temperature) = request.temperature
        && !reasoning.excludes_temperature
    {
        inference.insert("temperature".to_owned(), json!(temperature));
    }
    if let Some(top_p) = request.top_p
        && !reasoning.excludes_temperature
    {
        inference.insert("topP".to_owned(), json!(top_p));
    }
    if !request.stop.is_empty() {
        inference.insert("stopSequences".to_owned(), json!(request.stop));
    }
    inference
}

/// The API has no choice `none`, so the tools are left out instead. That is impossible in a
/// conversation with tool calls, where the API requires tools. If the client sends none there, the
/// tools are the ones that the conversation calls.
fn tools(
    request: &Request,
    called: &BTreeSet<String>,
    body: &mut Map<String, Value>,
) -> Result<(), Error> {
    let choice = match &request.tool_choice {
        Some(ToolChoice::None) if called.is_empty() => return Ok(()),
        Some(ToolChoice::None) if !request.tools.is_empty() => {
            return Err(Error::invalid(
                "tool_choice",
                "this model's upstream does not support `none` in a conversation with tool calls; use `auto`",
            ));
        }
        None | Some(ToolChoice::None) => None,
        Some(ToolChoice::Auto) => Some(json!({ "auto": {} })),
        Some(ToolChoice::Required) => Some(json!({ "any": {} })),
        Some(ToolChoice::Function(name)) => Some(json!({ "tool": { "name": name } })),
    };
    let mut config = Map::new();
    if !request.tools.is_empty() {
        let tools = request.tools.iter().flat_map(|offered| {
            let point = offered.cache_point.then(cache_point);
            std::iter::once(tool(offered)).chain(point)
        });
        config.insert("tools".to_owned(), tools.collect());
        if let Some(choice) = choice {
            config.insert("toolChoice".to_owned(), choice);
        }
    } else if !called.is_empty() {
        let tools = called.iter().map(|name| tool_spec(name, no_parameters()));
        config.insert("tools".to_owned(), tools.collect());
    } else {
        return Ok(());
    }
    body.insert("toolConfig".to_owned(), Value::Object(config));
    Ok(())
}

fn tool(tool: &Tool) -> Value {
    let mut json = tool_spec(&tool.name, typed_parameters_schema(tool));
    let spec = &mut json["toolSpec"];
    // The API refuses an empty description.
    if let Some(description) = tool.description.as_ref().filter(|text| !text.is_empty()) {
        spec["description"] = json!(description);
    }
    if tool.strict == Some(true) {
        spec["strict"] = json!(true);
    }
    json
}

fn tool_spec(name: &str, schema: Value) -> Value {
    json!({ "toolSpec": { "name": name, "inputSchema": { "json": schema } } })
}

/// The API takes the schema as a string.
/// <https://docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_JsonSchemaDefinition.html>
fn response_format(format: Option<&ResponseFormat>, body: &mut Map<String, Value>) {
    let Some(ResponseFormat::Schema {
        name,
        description,
        schema,
        ..
    }) = format
    else {
        return;
    };
    let mut definition = json!({ "name": name, "schema": schema.to_string() });
    if let Some(description) = description {
        definition["description"] = json!(description);
    }
    let format = json!({ "type": "json_schema", "structure": { "jsonSchema": definition } });
    body.insert("outputConfig".to_owned(), json!({ "textFormat": format }));
}

/// The account's invocation logs show `requestMetadata`. It is a hint, so entries that the API would
/// refuse are left out.
/// <https://docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_ConverseStream.html>
fn metadata(metadata: &Map<String, Value>) -> Map<String, Value> {
    const MAX_ENTRIES: usize = 16;
    const MAX_LENGTH: usize = 256;
    let is_allowed = |text: &str| {
        let is_allowed_byte =
            |b: u8| b.is_ascii_alphanumeric() || b" \t\r\n:_@$#=/+,-.".contains(&b);
        text.len() <= MAX_LENGTH && text.bytes().all(is_allowed_byte)
    };
    metadata
        .iter()
        .filter(|(name, value)| {
            !name.is_empty() && is_allowed(name) && value.as_str().is_some_and(is_allowed)
        })
        .take(MAX_ENTRIES)
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect()
}
