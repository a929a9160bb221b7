//! Messages, tools and formats in the form of OpenAI's Chat Completions, which several dialects
//! share: <https://platform.openai.com/docs/api-reference/chat/create>.
//!
//! Parts, calls, tools, choices and formats that a [`crate::model::Request`] cannot hold are parsed
//! as `Other`; each dialect decides what to do with them.

use std::collections::HashSet;

use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::Value;

use super::field::Field;
use crate::model::{
    Error, Media, MediaSource, Message, Part, ResponseFormat, Role, Tool, ToolChoice,
};

#[derive(Deserialize)]
pub(super) struct ChatMessage {
    role: ChatRole,
    content: Option<ChatContent>,
    /// The reasoning of an earlier turn, as DeepSeek and similar vendors name it.
    reasoning_content: Option<String>,
    /// Replaces the content of an earlier turn.
    refusal: Option<String>,
    tool_calls: Option<Vec<ChatToolCall>>,
    tool_call_id: Option<String>,
    /// The predecessor of `tool_calls`, until November 2023.
    function_call: Option<IgnoredAny>,
    cache_control: Option<IgnoredAny>,
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
    Text {
        text: String,
        /// Anthropic's mark, which LiteLLM and OpenRouter take in this place.
        cache_control: Option<IgnoredAny>,
    },
    Refusal {
        refusal: String,
    },
    ImageUrl {
        image_url: ChatImage,
        cache_control: Option<IgnoredAny>,
    },
    File {
        file: ChatFile,
        cache_control: Option<IgnoredAny>,
    },
    #[serde(other)]
    Other,
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
    /// None for a call of something other than a function.
    function: Option<ChatFunctionCall>,
}

#[derive(Deserialize)]
struct ChatFunctionCall {
    name: String,
    arguments: String,
}

#[derive(Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(super) enum ChatTool {
    Function {
        function: ChatFunction,
        cache_control: Option<IgnoredAny>,
    },
    #[serde(other)]
    Other,
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
    Function {
        function: ChatFunctionName,
    },
    Allowed {
        allowed_tools: ChatAllowedTools,
    },
    Other {
        #[serde(rename = "type")]
        _kind: String,
    },
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum ChatToolMode {
    Auto,
    None,
    #[serde(alias = "any")]
    Required,
}

#[derive(Deserialize)]
pub(super) struct ChatFunctionName {
    name: String,
}

#[derive(Deserialize)]
pub(super) struct ChatAllowedTools {
    mode: ChatToolMode,
    tools: Vec<ChatAllowedTool>,
}

#[derive(Deserialize)]
pub(super) struct ChatAllowedTool {
    function: ChatFunctionName,
}

#[derive(Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(super) enum ChatFormat {
    Text,
    JsonObject {
        /// Of Together, Fireworks and llama.cpp.
        schema: Option<Value>,
    },
    JsonSchema {
        json_schema: Option<ChatSchema>,
        /// Of llama.cpp, in place of `json_schema`.
        schema: Option<Value>,
    },
    #[serde(other)]
    Other,
}

/// The name of a schema to which the client gave none: most vendors require one.
const SCHEMA_NAME: &str = "response";

#[derive(Deserialize, Default)]
pub(super) struct ChatSchema {
    name: Option<String>,
    description: Option<String>,
    schema: Option<Value>,
    strict: Option<bool>,
}

/// Checks that members are objects where they must be: a derived parser also accepts a list, and
/// reports anything else in terms of Rust.
///
/// # Errors
/// [`crate::model::ErrorCode::InvalidRequest`], naming the field.
pub(super) fn check_objects(body: &Field<'_>) -> Result<(), Error> {
    body.each_object("messages", |message| {
        message.text_of("role")?;
        if message.value["content"].is_array() {
            message.each_object("content", |part| {
                part.text_of("type")?;
                part.objects(&["image_url", "file"])
            })?;
        }
        message.each_object("tool_calls", |call| call.objects(&["function"]))
    })?;
    body.each_object("tools", |tool| {
        tool.text_of("type")?;
        tool.objects(&["function"])
    })?;
    body.objects(&["response_format", "metadata"])?;
    if let Some(format) = body.get("response_format") {
        format.text_of("type")?;
        format.objects(&["json_schema"])?;
    }
    match body.get("tool_choice") {
        Some(choice) if choice.value.is_object() => choice.objects(&["function"]),
        Some(choice) => choice.text().map(|_| ()),
        None => Ok(()),
    }
}

impl ChatMessage {
    /// `field` is the path of the message, such as `messages[2]`. The paths of parts and calls that
    /// a [`Message`] cannot hold are added to `unsupported`.
    ///
    /// # Errors
    /// [`crate::model::ErrorCode::InvalidRequest`], naming the field.
    pub(super) fn into_message(
        self,
        field: String,
        unsupported: &mut Vec<String>,
    ) -> Result<Message, Error> {
        if self.function_call.is_some() {
            return Err(Error::invalid(
                &format!("{field}.function_call"),
                "not supported here: send `tool_calls`",
            ));
        }
        let known = unsupported.len();
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
                    let field = format!("{field}.content[{at}]");
                    let cached = part.is_cached();
                    match part.into_part(&field)? {
                        Some(part) => content.push(part),
                        None => unsupported.push(field),
                    }
                    content.extend(cached.then_some(Part::CachePoint));
                }
            }
            None => content.extend(self.refusal.map(Part::Text)),
        }
        for (at, call) in self.tool_calls.into_iter().flatten().enumerate() {
            match call.function {
                Some(function) => content.push(Part::ToolCall {
                    id: call.id,
                    name: function.name,
                    arguments: function.arguments,
                }),
                None => unsupported.push(format!("{field}.tool_calls[{at}]")),
            }
        }
        let role = match self.role {
            ChatRole::System | ChatRole::Developer => Role::System,
            ChatRole::User => Role::User,
            ChatRole::Assistant => Role::Assistant,
            ChatRole::Tool => Role::Tool,
        };
        if self.cache_control.is_some() {
            content.push(Part::CachePoint);
        }
        if role == Role::Tool {
            let Some(id) = self.tool_call_id else {
                return Err(Error::invalid(
                    &format!("{field}.tool_call_id"),
                    "a message of the role `tool` needs the id of the call that it answers",
                ));
            };
            let points = content.len();
            content.retain(|part| *part != Part::CachePoint);
            let cached = content.len() < points;
            content = vec![Part::ToolResult {
                id,
                content,
                is_error: false,
            }];
            content.extend(cached.then_some(Part::CachePoint));
        }
        if role == Role::Assistant {
            // Some vendors take images that their models made; they decide themselves.
            let media = |part: &Part| matches!(part, Part::Image(_) | Part::File(_));
            if content.iter().any(media) {
                unsupported.push(format!("{field}.content"));
                content.retain(|part| !media(part));
            }
        }
        if unsupported.len() == known || !content.is_empty() {
            check_role(role, &content, &field)?;
        }
        Ok(Message {
            field,
            role,
            content,
        })
    }
}

/// Checks that a message of this role may hold these parts.
fn check_role(role: Role, content: &[Part], field: &str) -> Result<(), Error> {
    if content.is_empty() {
        return Err(Error::invalid(&format!("{field}.content"), "required"));
    }
    let allowed = |part: &Part| match part {
        Part::Text(_) | Part::CachePoint => true,
        Part::Image(_) | Part::File(_) => role == Role::User,
        Part::Reasoning { .. } | Part::EncryptedReasoning(_) | Part::ToolCall { .. } => {
            role == Role::Assistant
        }
        Part::ToolResult { content, .. } => content
            .iter()
            .all(|part| matches!(part, Part::Text(_) | Part::Image(_))),
    };
    if content.iter().all(allowed) {
        return Ok(());
    }
    Err(Error::invalid(
        field,
        "a message of this role cannot hold such a part",
    ))
}

impl ChatPart {
    fn is_cached(&self) -> bool {
        match self {
            Self::Text { cache_control, .. }
            | Self::ImageUrl { cache_control, .. }
            | Self::File { cache_control, .. } => cache_control.is_some(),
            Self::Refusal { .. } | Self::Other => false,
        }
    }

    fn into_part(self, field: &str) -> Result<Option<Part>, Error> {
        Ok(Some(match self {
            Self::Other => return Ok(None),
            Self::Text { text, .. } | Self::Refusal { refusal: text } => Part::Text(text),
            Self::ImageUrl { image_url, .. } => Part::Image(Media {
                source: parse_media_source(image_url.url, &format!("{field}.image_url.url"))?,
                name: None,
                detail: image_url.detail,
            }),
            Self::File { file, .. } => {
                let source = match (file.file_data, file.file_id) {
                    (Some(data), None) => {
                        parse_media_source(data, &format!("{field}.file.file_data"))?
                    }
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
        }))
    }
}

/// A URL, or the bytes in a `data:` URL (RFC 2397).
pub(super) fn parse_media_source(url: String, field: &str) -> Result<MediaSource, Error> {
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

impl ChatTool {
    pub(super) fn into_tool(self) -> Option<Tool> {
        let Self::Function {
            function,
            cache_control,
        } = self
        else {
            return None;
        };
        Some(Tool {
            name: function.name,
            description: function.description,
            parameters: function.parameters,
            strict: function.strict,
            cache_point: cache_control.is_some(),
        })
    }
}

impl ChatToolChoice {
    /// Leaves only the tools that the model may call. Returns whether the choice lists them.
    pub(super) fn retain_allowed(&self, tools: &mut Vec<Tool>) -> bool {
        let Self::Allowed { allowed_tools } = self else {
            return false;
        };
        let allowed: HashSet<&str> = allowed_tools
            .tools
            .iter()
            .map(|tool| tool.function.name.as_str())
            .collect();
        tools.retain(|tool| allowed.contains(tool.name.as_str()));
        true
    }

    pub(super) fn into_choice(self) -> Option<ToolChoice> {
        Some(match self {
            Self::Mode(mode)
            | Self::Allowed {
                allowed_tools: ChatAllowedTools { mode, .. },
            } => match mode {
                ChatToolMode::Auto => ToolChoice::Auto,
                ChatToolMode::None => ToolChoice::None,
                ChatToolMode::Required => ToolChoice::Required,
            },
            Self::Function { function } => ToolChoice::Function(function.name),
            Self::Other { .. } => return None,
        })
    }
}

impl ChatFormat {
    /// `None` for a format that the gateway does not know.
    ///
    /// # Errors
    /// For a format without its schema.
    pub(super) fn into_format(self) -> Result<Option<ResponseFormat>, Error> {
        Ok(Some(match self {
            Self::Text => ResponseFormat::Text,
            Self::JsonObject { schema: None } => ResponseFormat::Json,
            Self::JsonObject {
                schema: Some(schema),
            } => ResponseFormat::Schema {
                name: SCHEMA_NAME.to_owned(),
                description: None,
                schema,
                strict: None,
            },
            Self::JsonSchema {
                json_schema,
                schema,
            } => {
                let json_schema = json_schema.unwrap_or_default();
                let Some(schema) = json_schema.schema.or(schema) else {
                    return Err(Error::invalid(
                        "response_format.json_schema.schema",
                        "required",
                    ));
                };
                ResponseFormat::Schema {
                    name: json_schema.name.unwrap_or_else(|| SCHEMA_NAME.to_owned()),
                    description: json_schema.description,
                    schema,
                    strict: json_schema.strict,
                }
            }
            Self::Other => return Ok(None),
        }))
    }
}
