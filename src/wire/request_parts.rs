//! Parts of request bodies that several wires build in the same way.

use std::borrow::Cow;

use serde_json::{Map, Value, json};

use super::digits::protect;
use crate::model::{Error, Media, MediaSource, Message, Part, Role, Tool};

/// A conversation in the form of the Messages and the Converse API: a separate system prompt, and
/// turns of alternating roles.
#[derive(Default)]
pub(super) struct Conversation {
    pub(super) system: Vec<Value>,
    pub(super) messages: Vec<Value>,
}

/// Builds the content blocks of one wire.
pub(super) trait BuildBlock {
    /// `None` for parts that the API refuses, such as blank texts and reasoning without a signature.
    ///
    /// # Errors
    /// For parts that the API cannot express.
    fn block(&mut self, field: &str, part: &Part) -> Result<Option<Value>, Error>;

    /// Marks that the prompt is cached up to the last block of `content`, which is not empty.
    fn cache_point(&mut self, content: &mut Vec<Value>);
}

impl Conversation {
    /// # Errors
    /// For parts that the API cannot express.
    pub(super) fn build(messages: &[Message], blocks: &mut impl BuildBlock) -> Result<Self, Error> {
        let mut conversation = Self::default();
        for message in messages {
            conversation.add(message, blocks)?;
        }
        Ok(conversation)
    }

    fn add(&mut self, message: &Message, blocks: &mut impl BuildBlock) -> Result<(), Error> {
        let role = match message.role {
            Role::System => "system",
            Role::User | Role::Tool => "user",
            Role::Assistant => "assistant",
        };
        let mut content = Vec::new();
        let mut calls = 0;
        for (place, part) in message.content.iter().enumerate() {
            if matches!(part, Part::CachePoint) {
                if !content.is_empty() {
                    blocks.cache_point(&mut content);
                }
                continue;
            }
            let field = if matches!(part, Part::ToolCall { .. }) {
                calls += 1;
                format!("{}.tool_calls[{}]", message.field, calls - 1)
            } else {
                format!("{}.content[{place}]", message.field)
            };
            if role == "system" && !matches!(part, Part::Text(_)) {
                return Err(Error::invalid(&field, "a system prompt can hold only text"));
            }
            content.extend(blocks.block(&field, part)?);
        }
        if role == "system" {
            self.system.append(&mut content);
        } else if !content.is_empty() {
            self.push(role, content);
        }
        Ok(())
    }

    /// The APIs require alternating roles, so a second message of the same role joins the first.
    fn push(&mut self, role: &str, mut content: Vec<Value>) {
        if let Some(last) = self.messages.last_mut()
            && last["role"] == role
            && let Some(earlier) = last["content"].as_array_mut()
        {
            earlier.append(&mut content);
        } else {
            self.messages
                .push(json!({ "role": role, "content": content }));
        }
    }
}

/// The error for a request with nothing but system prompts.
pub(super) fn no_messages() -> Error {
    Error::invalid(
        "messages",
        "there is no message beside the system prompt; add at least one user message",
    )
}

/// The arguments of a call as a JSON object. An empty text means no arguments.
///
/// # Errors
/// For arguments that are not a JSON object.
pub(super) fn arguments_object(field: &str, arguments: &str) -> Result<Map<String, Value>, Error> {
    if arguments.trim().is_empty() {
        return Ok(Map::new());
    }
    serde_json::from_str(&protect(arguments)).map_err(|error| {
        Error::invalid(
            &format!("{field}.function.arguments"),
            format!("expected a JSON object: {error}"),
        )
    })
}

/// The JSON Schema of a tool's parameters. A schema without parameters is an object without properties.
pub(super) fn parameters_schema(tool: &Tool) -> Value {
    tool.parameters.clone().unwrap_or_else(no_parameters)
}

/// As [`parameters_schema`], for APIs that require the `type` at the top.
pub(super) fn typed_parameters_schema(tool: &Tool) -> Value {
    let mut schema = parameters_schema(tool);
    if let Some(fields) = schema.as_object_mut()
        && !fields.contains_key("type")
    {
        fields.insert("type".to_owned(), json!("object"));
    }
    schema
}

/// The schema of a tool without parameters.
pub(super) fn no_parameters() -> Value {
    json!({ "type": "object", "properties": {} })
}

/// The name of a file. OpenAI requires one for inline bytes.
pub(super) fn file_name(media: &Media) -> Option<&str> {
    let inline = match (&media.name, &media.source) {
        (Some(name), _) => return Some(name),
        (None, MediaSource::Inline { media_type, .. }) => media_type,
        (None, _) => return None,
    };
    Some(match inline.as_str() {
        "application/pdf" => "document.pdf",
        "text/plain" => "document.txt",
        "text/markdown" => "document.md",
        "text/html" => "document.html",
        "text/csv" => "document.csv",
        "application/json" => "document.json",
        _ => "document",
    })
}

/// The registered name of a media type, without parameters. Browsers and libraries also write other
/// names, which APIs refuse.
pub(super) fn registered_media_type(media_type: &str) -> Cow<'_, str> {
    let name = media_type.split(';').next().unwrap_or_default().trim();
    let registered = match name.to_ascii_lowercase().as_str() {
        "image/jpg" | "image/pjpeg" => "image/jpeg",
        "image/x-png" => "image/png",
        lower if lower == media_type => return Cow::Borrowed(media_type),
        lower => return Cow::Owned(lower.to_owned()),
    };
    Cow::Borrowed(registered)
}
