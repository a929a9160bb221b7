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
        let mut after_result = false;
        for part in self.parts(&content)? {
            check_role(&part, role, &content)?;
            match (part, self.messages.last_mut()) {
                // A tool's result becomes a turn of its own, before the rest of the message: other protocols
                // require all results right behind the calls.
                (part @ Part::ToolResult { .. }, _) => {
                    self.push(name.clone(), Role::Tool, vec![part]);
                    after_result = true;
                    continue;
                }
                (Part::CachePoint, Some(last)) if after_result => {
                    last.content.push(Part::CachePoint);
                }
                (part, _) => pending.push(part),
            }
            after_result = false;
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
        self.block_parts(block, parts)?;
        if let Some(cache) = block.get("cache_control") {
            parts.push(Part::CachePoint);
            // Other protocols get the mark with its default lifetime.
            if let Some(lifetime) = cache.get("ttl").filter(|ttl| ttl.value != "5m") {
                self.native_only.add_optional(&lifetime);
            }
        }
        Ok(())
    }

    fn block_parts(&mut self, block: &Field<'_>, parts: &mut Vec<Part>) -> Result<(), Error> {
        let kind = block.kind()?;
        parts.push(match kind {
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
                    // Arguments that were cut are a string.
                    arguments: match input.value.as_str() {
                        Some(text) => text.to_owned(),
                        None => input.value.to_string(),
                    },
                }
            }
            "tool_result" => Part::ToolResult {
                id: block.required_text("tool_use_id")?,
                content: match block.get("content") {
                    None => Vec::new(),
                    Some(content) => self.result(&content)?,
                },
                is_error: block.bool_of("is_error")?.unwrap_or(false),
            },
            // A summary of what came before it.
            "compaction" if block.get("content").is_some() => {
                Part::Text(block.required_text("content")?)
            }
            // A tool that a search of tools found.
            "tool_reference" => {
                let name = block.required_text("tool_name")?;
                Part::Text(format!("Tool found: {name}"))
            }
            // Steps of the vendor's own tools, whose outcome is in the answer's text.
            _ if is_vendor_step(kind) => {
                self.native_only.add_optional(block);
                return Ok(());
            }
            // Blocks that are not known yet.
            _ => {
                self.native_only.add(block);
                return Ok(());
            }
        });
        Ok(())
    }

    /// The content of a tool's result. The prompt is cached behind the result, not within it.
    fn result(&mut self, content: &Field<'_>) -> Result<Vec<Part>, Error> {
        if let Some(text) = content.value.as_str() {
            return Ok(vec![Part::Text(text.to_owned())]);
        }
        let mut parts = self.parts(content)?;
        parts.retain(|part| *part != Part::CachePoint);
        Ok(parts)
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

/// Whether the vendor is to cache the prompt up to here.
pub(super) fn is_cached(field: &Field<'_>) -> bool {
    field.get("cache_control").is_some()
}

/// `server_tool_use`, `web_search_tool_result` and others, and the mark of a change of the model.
fn is_vendor_step(kind: &str) -> bool {
    matches!(
        kind,
        "server_tool_use" | "mcp_tool_use" | "mcp_tool_result" | "fallback"
    ) || kind.ends_with("_tool_result")
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
        Part::Text(_) | Part::CachePoint => true,
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
