//! Builds requests to the Converse API.

use serde_json::{Map, Value, json};

use super::{media, reasoning};
use crate::model::{Error, Message, Part, Request, ResponseFormat, Role, Tool, ToolChoice};
use crate::wire::merge;

/// The API has no field for `seed` and `user`. Both are hints, so they are left out.
pub(super) fn body(request: &Request, model: &str) -> Result<Value, Error> {
    let mut conversation = Conversation::default();
    for message in &request.messages {
        conversation.add(message)?;
    }
    if conversation.messages.is_empty() {
        return Err(Error::invalid(
            "messages",
            "there is no message beside the system prompt; add at least one user message",
        ));
    }
    let mut body = Map::new();
    if !conversation.system.is_empty() {
        body.insert("system".to_owned(), Value::Array(conversation.system));
    }
    body.insert("messages".to_owned(), Value::Array(conversation.messages));
    let reasoning = reasoning::reasoning_fields(request, model);
    let inference = inference(request, reasoning.max_tokens);
    if !inference.is_empty() {
        body.insert("inferenceConfig".to_owned(), Value::Object(inference));
    }
    tools(request, conversation.calls, &mut body)?;
    response_format(request.response_format.as_ref(), &mut body)?;
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

/// The conversation in the API's form: a separate system prompt, and turns of alternating roles.
#[derive(Default)]
struct Conversation {
    system: Vec<Value>,
    messages: Vec<Value>,
    names: media::DocumentNames,
    /// Whether a turn holds a tool call or a result.
    calls: bool,
}

impl Conversation {
    fn add(&mut self, message: &Message) -> Result<(), Error> {
        let role = match message.role {
            Role::System => "system",
            Role::User | Role::Tool => "user",
            Role::Assistant => "assistant",
        };
        let mut blocks = Vec::new();
        let mut calls = 0;
        for (place, part) in message.content.iter().enumerate() {
            let field = if matches!(part, Part::ToolCall { .. }) {
                calls += 1;
                format!("{}.tool_calls[{}]", message.field, calls - 1)
            } else {
                format!("{}.content[{place}]", message.field)
            };
            if role == "system" && !matches!(part, Part::Text(_)) {
                return Err(Error::invalid(&field, "a system prompt can hold only text"));
            }
            blocks.extend(self.block(&field, part)?);
        }
        if role == "system" {
            self.system.append(&mut blocks);
        } else if !blocks.is_empty() {
            self.push(role, blocks);
        }
        Ok(())
    }

    /// The API requires alternating roles, so a second message of the same role joins the first.
    fn push(&mut self, role: &str, mut blocks: Vec<Value>) {
        if let Some(last) = self.messages.last_mut()
            && last["role"] == role
            && let Some(content) = last["content"].as_array_mut()
        {
            content.append(&mut blocks);
        } else {
            self.messages
                .push(json!({ "role": role, "content": blocks }));
        }
    }

    /// `None` for parts that the API refuses: blank texts and reasoning without a signature.
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
                self.calls = true;
                let input = input(field, arguments)?;
                Some(json!({ "toolUse": { "toolUseId": id, "name": name, "input": input } }))
            }
            Part::ToolResult { id, content } => {
                self.calls = true;
                let mut blocks = Vec::new();
                for part in content {
                    blocks.extend(self.block(field, part)?);
                }
                Some(json!({ "toolResult": { "toolUseId": id, "content": blocks } }))
            }
        })
    }
}

/// The arguments of a call as a JSON object. An empty text means no arguments.
fn input(field: &str, arguments: &str) -> Result<Map<String, Value>, Error> {
    if arguments.trim().is_empty() {
        return Ok(Map::new());
    }
    serde_json::from_str(arguments).map_err(|error| {
        Error::invalid(
            &format!("{field}.function.arguments"),
            format!("expected a JSON object: {error}"),
        )
    })
}

fn inference(request: &Request, max_tokens: Option<u64>) -> Map<String, Value> {
    let mut inference = Map::new();
    if let Some(max_tokens) = max_tokens {
        inference.insert("maxTokens".to_owned(), json!(max_tokens));
    }
    if let Some(temperature) = request.temperature {
        inference.insert("temperature".to_owned(), json!(temperature));
    }
    if let Some(top_p) = request.top_p {
        inference.insert("topP".to_owned(), json!(top_p));
    }
    if !request.stop.is_empty() {
        inference.insert("stopSequences".to_owned(), json!(request.stop));
    }
    inference
}

/// The API has no choice `none`, so the tools are left out instead. That is impossible in a
/// conversation with tool calls, where the API requires the tools.
fn tools(request: &Request, calls: bool, body: &mut Map<String, Value>) -> Result<(), Error> {
    let choice = match &request.tool_choice {
        Some(ToolChoice::None) if calls => {
            return Err(Error::invalid(
                "tool_choice",
                "this model's upstream does not support `none` in a conversation with tool calls; use `auto`",
            ));
        }
        Some(ToolChoice::None) => return Ok(()),
        None => None,
        Some(ToolChoice::Auto) => Some(json!({ "auto": {} })),
        Some(ToolChoice::Required) => Some(json!({ "any": {} })),
        Some(ToolChoice::Function(name)) => Some(json!({ "tool": { "name": name } })),
    };
    if request.tools.is_empty() {
        return Ok(());
    }
    let mut config = Map::new();
    config.insert("tools".to_owned(), request.tools.iter().map(tool).collect());
    if let Some(choice) = choice {
        config.insert("toolChoice".to_owned(), choice);
    }
    body.insert("toolConfig".to_owned(), Value::Object(config));
    Ok(())
}

fn tool(tool: &Tool) -> Value {
    let mut spec = json!({ "name": tool.name });
    if let Some(description) = &tool.description {
        spec["description"] = json!(description);
    }
    let parameters = tool.parameters.clone();
    let parameters = parameters.unwrap_or_else(|| json!({ "type": "object", "properties": {} }));
    spec["inputSchema"] = json!({ "json": parameters });
    if tool.strict == Some(true) {
        spec["strict"] = json!(true);
    }
    json!({ "toolSpec": spec })
}

/// The API takes the schema as a string.
/// <https://docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_JsonSchemaDefinition.html>
fn response_format(
    format: Option<&ResponseFormat>,
    body: &mut Map<String, Value>,
) -> Result<(), Error> {
    let Some(ResponseFormat::Schema {
        name,
        description,
        schema,
        ..
    }) = format
    else {
        return match format {
            Some(ResponseFormat::Json) => Err(Error::invalid(
                "response_format",
                "this model's upstream does not support `json_object`; use `json_schema` with a schema",
            )),
            _ => Ok(()),
        };
    };
    let mut definition = json!({ "name": name, "schema": schema.to_string() });
    if let Some(description) = description {
        definition["description"] = json!(description);
    }
    let format = json!({ "type": "json_schema", "structure": { "jsonSchema": definition } });
    body.insert("outputConfig".to_owned(), json!({ "textFormat": format }));
    Ok(())
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
