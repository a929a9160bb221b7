//! Messages, tools and formats in the form of OpenAI's Chat Completions, which several dialects
//! share: <https://platform.openai.com/docs/api-reference/chat/create>.

use serde::Deserialize;
use serde_json::Value;

use crate::model::{
    Error, Media, MediaSource, Message, Part, ResponseFormat, Role, Tool, ToolChoice,
};

#[derive(Deserialize)]
pub(super) struct ChatMessage {
    role: ChatRole,
    content: Option<ChatContent>,
    /// What DeepSeek and its like call an earlier turn's reasoning.
    reasoning_content: Option<String>,
    tool_calls: Option<Vec<ChatToolCall>>,
    tool_call_id: Option<String>,
}

#[derive(Deserialize, Clone, Copy, PartialEq)]
#[serde(rename_all = "lowercase")]
enum ChatRole {
    System,
    Developer,
    User,
    Assistant,
    Tool,
}

#[derive(Deserialize)]
#[serde(untagged, expecting = "a string or a list of parts with a known type")]
enum ChatContent {
    Text(String),
    Parts(Vec<ChatPart>),
}

#[derive(Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum ChatPart {
    Text { text: String },
    Refusal { refusal: String },
    ImageUrl { image_url: ChatImage },
    File { file: ChatFile },
}

#[derive(Deserialize)]
struct ChatImage {
    url: String,
    detail: Option<String>,
}

#[derive(Deserialize)]
struct ChatFile {
    file_data: Option<String>,
    file_id: Option<String>,
    filename: Option<String>,
}

#[derive(Deserialize)]
struct ChatToolCall {
    id: String,
    function: ChatFunctionCall,
}

#[derive(Deserialize)]
struct ChatFunctionCall {
    name: String,
    arguments: String,
}

#[derive(Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(super) enum ChatTool {
    Function { function: ChatFunction },
}

#[derive(Deserialize)]
pub(super) struct ChatFunction {
    name: String,
    description: Option<String>,
    parameters: Option<Value>,
    strict: Option<bool>,
}

#[derive(Deserialize)]
#[serde(
    untagged,
    expecting = "`auto`, `none`, `required` or {\"type\":\"function\",\"function\":{\"name\":…}}"
)]
pub(super) enum ChatToolChoice {
    Mode(ChatToolMode),
    Function { function: ChatFunctionName },
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum ChatToolMode {
    Auto,
    None,
    Required,
}

#[derive(Deserialize)]
pub(super) struct ChatFunctionName {
    name: String,
}

#[derive(Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(super) enum ChatFormat {
    Text,
    JsonObject,
    JsonSchema { json_schema: ChatSchema },
}

#[derive(Deserialize)]
pub(super) struct ChatSchema {
    name: String,
    description: Option<String>,
    schema: Value,
    strict: Option<bool>,
}

impl ChatMessage {
    /// `field` is the message's own place, such as `messages[2]`.
    pub(super) fn into_message(self, field: String) -> Result<Message, Error> {
        let mut content = Vec::new();
        if let Some(text) = self.reasoning_content
            && self.role == ChatRole::Assistant
        {
            content.push(Part::Reasoning {
                text,
                signature: None,
            });
        }
        match self.content {
            Some(ChatContent::Text(text)) => content.push(Part::Text(text)),
            Some(ChatContent::Parts(parts)) => {
                for (at, part) in parts.into_iter().enumerate() {
                    content.push(part.into_part(&format!("{field}.content[{at}]"))?);
                }
            }
            None => {}
        }
        for call in self.tool_calls.into_iter().flatten() {
            content.push(Part::ToolCall {
                id: call.id,
                name: call.function.name,
                arguments: call.function.arguments,
            });
        }
        let role = match self.role {
            ChatRole::System | ChatRole::Developer => Role::System,
            ChatRole::User => Role::User,
            ChatRole::Assistant => Role::Assistant,
            ChatRole::Tool => Role::Tool,
        };
        if role == Role::Tool {
            let Some(id) = self.tool_call_id else {
                return Err(Error::invalid(
                    &format!("{field}.tool_call_id"),
                    "a tool's message needs the id of the call it answers",
                ));
            };
            content = vec![Part::ToolResult { id, content }];
        }
        check(role, &content, &field)?;
        Ok(Message {
            field,
            role,
            content,
        })
    }
}

/// What a role may say.
fn check(role: Role, content: &[Part], field: &str) -> Result<(), Error> {
    if content.is_empty() {
        return Err(Error::invalid(&format!("{field}.content"), "required"));
    }
    let legal = |part: &Part| match part {
        Part::Text(_) => true,
        Part::Image(_) | Part::File(_) => role == Role::User,
        Part::Reasoning { .. } | Part::SealedReasoning(_) | Part::ToolCall { .. } => {
            role == Role::Assistant
        }
        Part::ToolResult { content, .. } => content
            .iter()
            .all(|part| matches!(part, Part::Text(_) | Part::Image(_))),
    };
    if content.iter().all(legal) {
        return Ok(());
    }
    Err(Error::invalid(
        field,
        "a message of this role cannot hold such a part",
    ))
}

impl ChatPart {
    fn into_part(self, field: &str) -> Result<Part, Error> {
        Ok(match self {
            Self::Text { text } | Self::Refusal { refusal: text } => Part::Text(text),
            Self::ImageUrl { image_url } => Part::Image(Media {
                source: source(image_url.url, &format!("{field}.image_url.url"))?,
                name: None,
                detail: image_url.detail,
            }),
            Self::File { file } => {
                let source = match (file.file_data, file.file_id) {
                    (Some(data), None) => source(data, &format!("{field}.file.file_data"))?,
                    (None, Some(id)) => MediaSource::Id(id),
                    _ => {
                        return Err(Error::invalid(
                            &format!("{field}.file"),
                            "needs one of `file_data` and `file_id`",
                        ));
                    }
                };
                Part::File(Media {
                    source,
                    name: file.filename,
                    detail: None,
                })
            }
        })
    }
}

/// A URL, or the bytes that a `data:` URL (RFC 2397) holds.
fn source(url: String, field: &str) -> Result<MediaSource, Error> {
    let Some(data) = url.strip_prefix("data:") else {
        return Ok(MediaSource::Url(url));
    };
    let Some((media_type, base64)) = data.split_once(";base64,") else {
        return Err(Error::invalid(
            field,
            "a data URL must be `data:<media type>;base64,<bytes>`",
        ));
    };
    Ok(MediaSource::Inline {
        media_type: media_type.to_owned(),
        base64: base64.to_owned(),
    })
}

impl From<ChatTool> for Tool {
    fn from(tool: ChatTool) -> Self {
        let ChatTool::Function { function } = tool;
        Self {
            name: function.name,
            description: function.description,
            parameters: function.parameters,
            strict: function.strict,
        }
    }
}

impl From<ChatToolChoice> for ToolChoice {
    fn from(choice: ChatToolChoice) -> Self {
        match choice {
            ChatToolChoice::Mode(ChatToolMode::Auto) => Self::Auto,
            ChatToolChoice::Mode(ChatToolMode::None) => Self::None,
            ChatToolChoice::Mode(ChatToolMode::Required) => Self::Required,
            ChatToolChoice::Function { function } => Self::Function(function.name),
        }
    }
}

impl From<ChatFormat> for ResponseFormat {
    fn from(format: ChatFormat) -> Self {
        match format {
            ChatFormat::Text => Self::Text,
            ChatFormat::JsonObject => Self::Json,
            ChatFormat::JsonSchema { json_schema } => Self::Schema {
                name: json_schema.name,
                description: json_schema.description,
                schema: json_schema.schema,
                strict: json_schema.strict,
            },
        }
    }
}
