//! Parses the turns of a request and their content blocks.

use crate::dialect::field::{Field, NativeOnly};
use crate::model::{Error, Media, MediaSource, Message, Part, Role};

/// The conversation so far.
#[derive(Default)]
pub(super) struct Turns {
    pub(super) messages: Vec<Message>,
    /// Blocks that only this protocol has.
    pub(super) native_only: NativeOnly,
}

impl Turns {
    /// The `system` field: a string, or a list of text blocks.
    pub(super) fn system(&mut self, field: &Field<'_>) -> Result<(), Error> {
        let content = match field.value.as_str() {
            Some(text) => vec![Part::Text(text.to_owned())],
            None => self.parts(field)?,
        };
        self.push(field.to_string(), Role::System, content);
        Ok(())
    }

    /// One of `messages`.
    pub(super) fn add(&mut self, message: &Field<'_>) -> Result<(), Error> {
        let field = message.require("role")?;
        let role = match field.text()? {
            "user" => Role::User,
            "assistant" => Role::Assistant,
            "system" => Role::System,
            _ => return Err(field.invalid("must be `user`, `assistant` or `system`")),
        };
        let name = message.to_string();
        let content = message.require("content")?;
        if let Some(text) = content.value.as_str() {
            self.push(name, role, vec![Part::Text(text.to_owned())]);
            return Ok(());
        }
        let mut pending = Vec::new();
        for part in self.parts(&content)? {
            check_role(&part, role, &content)?;
            // A tool's result becomes a turn of its own, at the same position.
            if let Part::ToolResult { .. } = part {
                let before = std::mem::take(&mut pending);
                self.push(name.clone(), role, before);
                self.push(name.clone(), Role::Tool, vec![part]);
            } else {
                pending.push(part);
            }
        }
        self.push(name, role, pending);
        Ok(())
    }

    fn push(&mut self, field: String, role: Role, content: Vec<Part>) {
        if !content.is_empty() {
            self.messages.push(Message {
                field,
                role,
                content,
            });
        }
    }

    fn parts(&mut self, content: &Field<'_>) -> Result<Vec<Part>, Error> {
        let mut parts = Vec::new();
        for block in content.elements()? {
            self.block(&block, &mut parts)?;
        }
        Ok(parts)
    }

    fn block(&mut self, block: &Field<'_>, parts: &mut Vec<Part>) -> Result<(), Error> {
        parts.push(match block.kind()? {
            "text" => Part::Text(block.required_text("text")?),
            "image" => Part::Image(media(&block.require("source")?, None)?),
            "document" => return self.document(block, parts),
            "search_result" => {
                parts.extend(self.parts(&block.require("content")?)?);
                return Ok(());
            }
            "thinking" => Part::Reasoning {
                text: block.required_text("thinking")?,
                signature: block
                    .text_of("signature")?
                    .filter(|signature| !signature.is_empty()),
            },
            "redacted_thinking" => Part::EncryptedReasoning(block.required_text("data")?),
            "tool_use" => {
                let input = block.require("input")?;
                Part::ToolCall {
                    id: block.required_text("id")?,
                    name: block.required_name("name")?,
                    arguments: input.value.to_string(),
                }
            }
            "tool_result" => Part::ToolResult {
                id: block.required_text("tool_use_id")?,
                content: match block.get("content") {
                    None => Vec::new(),
                    Some(content) => match content.value.as_str() {
                        Some(text) => vec![Part::Text(text.to_owned())],
                        None => self.parts(&content)?,
                    },
                },
            },
            // Steps of the vendor's own tools, and blocks that are not known yet.
            _ => {
                self.native_only.add(block);
                return Ok(());
            }
        });
        Ok(())
    }

    /// A document of texts becomes those texts, because no other protocol has such documents.
    fn document(&mut self, block: &Field<'_>, parts: &mut Vec<Part>) -> Result<(), Error> {
        let source = block.require("source")?;
        match source.kind()? {
            "text" => parts.push(Part::Text(source.required_text("data")?)),
            "content" => {
                let content = source.require("content")?;
                match content.value.as_str() {
                    Some(text) => parts.push(Part::Text(text.to_owned())),
                    None => parts.extend(self.parts(&content)?),
                }
            }
            _ => parts.push(Part::File(media(&source, block.text_of("title")?)?)),
        }
        Ok(())
    }
}

fn media(source: &Field<'_>, name: Option<String>) -> Result<Media, Error> {
    let source = match source.kind()? {
        "base64" => MediaSource::Inline {
            media_type: source.required_text("media_type")?,
            base64: source.required_text("data")?,
        },
        "url" => MediaSource::Url(source.required_text("url")?),
        "file" => MediaSource::Id(source.required_text("file_id")?),
        _ => return Err(source.invalid("`type` must be `base64`, `url` or `file`")),
    };
    Ok(Media {
        source,
        name,
        detail: None,
    })
}

/// Checks that a message of this role may hold the part.
fn check_role(part: &Part, role: Role, content: &Field<'_>) -> Result<(), Error> {
    let allowed = match part {
        Part::Text(_) => true,
        Part::Image(_) | Part::File(_) | Part::ToolResult { .. } => role == Role::User,
        Part::Reasoning { .. } | Part::EncryptedReasoning(_) | Part::ToolCall { .. } => {
            role == Role::Assistant
        }
    };
    if allowed {
        return Ok(());
    }
    Err(content.invalid("a message of this role cannot hold such a block"))
}
