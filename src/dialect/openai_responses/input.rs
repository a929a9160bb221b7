//! Parses the items of a conversation.

use serde_json::{Value, json};

use super::response::is_gateway_id;
use super::tools::{INPUT, SEARCH, ToolTable};
use crate::dialect::field::{Field, NativeOnly};
use crate::model::{Error, Media, MediaSource, Message, Part, Role};

/// The conversation so far.
pub(super) struct Conversation<'t> {
    tools: &'t ToolTable,
    pub(super) messages: Vec<Message>,
    /// Items that only this protocol has.
    pub(super) native_only: NativeOnly,
}

/// Steps of the vendor's own tools, whose outcome is in the text of the answer, and items that mean
/// nothing to other vendors.
const OPTIONAL_ITEMS: [&str; 9] = [
    "additional_tools",
    "code_interpreter_call",
    "configuration_update",
    "file_search_call",
    "image_generation_call",
    "mcp_call",
    "mcp_list_tools",
    "tool_search_call",
    "web_search_call",
];

impl<'t> Conversation<'t> {
    pub(super) fn new(tools: &'t ToolTable) -> Self {
        Self {
            tools,
            messages: Vec::new(),
            native_only: NativeOnly::default(),
        }
    }

    pub(super) fn instructions(&mut self, field: &Field<'_>) -> Result<(), Error> {
        let text = Part::Text(field.text()?.to_owned());
        self.push(field, Role::System, vec![text]);
        Ok(())
    }

    /// Parses the `input` field: a prompt, or a list of items.
    pub(super) fn parse_input(&mut self, input: &Field<'_>) -> Result<(), Error> {
        if let Some(prompt) = input.value.as_str() {
            if prompt.is_empty() {
                return Err(input.invalid("must not be empty"));
            }
            self.push(input, Role::User, vec![Part::Text(prompt.to_owned())]);
            return Ok(());
        }
        let mut any = false;
        for item in input.elements()? {
            self.item(&item)?;
            any = true;
        }
        match any {
            true => Ok(()),
            false => Err(input.invalid("must not be empty")),
        }
    }

    fn item(&mut self, item: &Field<'_>) -> Result<(), Error> {
        match item.text_of("type")?.as_deref() {
            // The short form of a reference.
            None if item.get("id").is_some() && item.get("role").is_none() => {
                self.native_only.add(item);
            }
            // The short form of a message has no type.
            Some("message") | None => self.message(item)?,
            Some("function_call") => {
                let arguments = item.required_text("arguments")?;
                self.call(item, arguments)?;
            }
            Some("custom_tool_call") => {
                let input = item.required_text("input")?;
                self.call(item, json!({ INPUT: input }).to_string())?;
            }
            Some("function_call_output" | "custom_tool_call_output") => {
                let content = self.parts(&item.require("output")?)?;
                self.result(item, content)?;
            }
            // Without an id it is a step of the vendor's.
            Some("tool_search_call") if item.get("call_id").is_some() => {
                let call = Part::ToolCall {
                    id: item.required_text("call_id")?,
                    name: self.tools.search().unwrap_or(SEARCH).to_owned(),
                    arguments: item.require("arguments")?.value.to_string(),
                };
                self.push(item, Role::Assistant, vec![call]);
            }
            Some("tool_search_output") if item.get("call_id").is_some() => {
                let found = self.found_tools(item.value);
                self.result(item, vec![Part::Text(found)])?;
            }
            Some("reasoning") => {
                let reasoning = reasoning(item)?;
                self.push(item, Role::Assistant, reasoning.into_iter().collect());
            }
            // An image that the gateway passed on: no upstream takes it back.
            Some("image_generation_call")
                if item.value["id"].as_str().is_some_and(is_gateway_id) => {}
            Some(kind) if OPTIONAL_ITEMS.contains(&kind) => self.native_only.add_optional(item),
            // References to stored items, and items that are not known yet.
            Some(_) => self.native_only.add(item),
        }
        Ok(())
    }

    fn call(&mut self, item: &Field<'_>, arguments: String) -> Result<(), Error> {
        let namespace = item.text_of("namespace")?;
        let name = item.required_name("name")?;
        let call = Part::ToolCall {
            id: item.required_text("call_id")?,
            name: self.tools.offered(namespace.as_deref(), &name).to_owned(),
            arguments,
        };
        self.push(item, Role::Assistant, vec![call]);
        Ok(())
    }

    fn result(&mut self, item: &Field<'_>, content: Vec<Part>) -> Result<(), Error> {
        let result = Part::ToolResult {
            id: item.required_text("call_id")?,
            content,
            is_error: false,
        };
        self.push(item, Role::Tool, vec![result]);
        Ok(())
    }

    /// What a search of tools found, for the model: the tools themselves are among the request's tools.
    fn found_tools(&self, output: &Value) -> String {
        let mut names = Vec::new();
        for tool in output["tools"].as_array().into_iter().flatten() {
            match (tool["type"].as_str(), tool["name"].as_str()) {
                (Some("namespace"), Some(namespace)) => {
                    let tools = tool["tools"].as_array().into_iter().flatten();
                    let found = tools.filter_map(|tool| tool["name"].as_str());
                    names.extend(found.map(|name| self.tools.offered(Some(namespace), name)));
                }
                (_, Some(name)) => names.push(self.tools.offered(None, name)),
                _ => {}
            }
        }
        match names.is_empty() {
            true => "No tools were found.".to_owned(),
            false => format!("These tools can be called now: {}", names.join(", ")),
        }
    }

    fn message(&mut self, item: &Field<'_>) -> Result<(), Error> {
        let field = item.require("role")?;
        let role = match field.text()? {
            "user" => Role::User,
            "assistant" => Role::Assistant,
            "system" | "developer" => Role::System,
            _ => return Err(field.invalid("must be `user`, `assistant`, `system` or `developer`")),
        };
        let content = self.parts(&item.require("content")?)?;
        let allowed = |part: &Part| role == Role::User || matches!(part, Part::Text(_));
        if !content.iter().all(allowed) {
            return Err(item.invalid("a message of this role cannot hold such a part"));
        }
        self.push(item, role, content);
        Ok(())
    }

    /// A text, or a list of parts.
    fn parts(&mut self, content: &Field<'_>) -> Result<Vec<Part>, Error> {
        if let Some(text) = content.value.as_str() {
            return Ok(vec![Part::Text(text.to_owned())]);
        }
        let mut parts = Vec::new();
        for part in content.elements()? {
            match parse_part(&part)? {
                Some(part) => parts.push(part),
                None => self.native_only.add(&part),
            }
        }
        Ok(parts)
    }

    /// Consecutive items of an assistant form one turn.
    fn push(&mut self, field: &Field<'_>, role: Role, mut content: Vec<Part>) {
        if content.is_empty() {
            return;
        }
        match self.messages.last_mut() {
            Some(last) if role == Role::Assistant && last.role == role => {
                last.content.append(&mut content);
            }
            _ => self.messages.push(Message {
                field: field.to_string(),
                role,
                content,
            }),
        }
    }
}

/// None for a part that only this protocol has.
fn parse_part(part: &Field<'_>) -> Result<Option<Part>, Error> {
    Ok(Some(match part.kind()? {
        "input_text" | "output_text" | "text" => Part::Text(part.required_text("text")?),
        "refusal" => Part::Text(part.required_text("refusal")?),
        "input_image" => Part::Image(Media {
            source: source(part, ["image_url", "file_id"])?,
            name: None,
            detail: part.text_of("detail")?,
        }),
        "input_file" => Part::File(Media {
            source: match part.get("file_data") {
                Some(data) => inline(&data)?,
                None => source(part, ["file_url", "file_id"])?,
            },
            name: part.text_of("filename")?,
            detail: None,
        }),
        _ => return Ok(None),
    }))
}

/// A URL or an uploaded file's id, by the names of the two fields.
fn source(part: &Field<'_>, [url, id]: [&str; 2]) -> Result<MediaSource, Error> {
    match (part.get(url), part.get(id)) {
        (Some(url), None) if url.text()?.starts_with("data:") => inline(&url),
        (Some(url), None) => Ok(MediaSource::Url(url.text()?.to_owned())),
        (None, Some(id)) => Ok(MediaSource::Id(id.text()?.to_owned())),
        _ => Err(part.invalid(format_args!("needs one of `{url}` and `{id}`"))),
    }
}

/// The bytes that a `data:` URL (RFC 2397) holds. Of a file, OpenAI takes bare base64 for a PDF.
fn inline(field: &Field<'_>) -> Result<MediaSource, Error> {
    let text = field.text()?;
    let (media_type, base64) = match text.strip_prefix("data:") {
        None => ("application/pdf", text),
        Some(data) => data.split_once(";base64,").ok_or_else(|| {
            field.invalid("a data URL must be `data:<media type>;base64,<bytes>`")
        })?,
    };
    Ok(MediaSource::Inline {
        media_type: media_type.to_owned(),
        base64: base64.to_owned(),
    })
}

/// The reasoning of an item: its summary, or its content if it has none. None for an empty item. A
/// signature without any summary, not even an empty one, is encrypted reasoning.
fn reasoning(item: &Field<'_>) -> Result<Option<Part>, Error> {
    let mut text = String::new();
    let mut shown = false;
    for list in ["summary", "content"] {
        let Some(list) = item.get(list).filter(|_| text.is_empty()) else {
            continue;
        };
        for part in list.elements()? {
            shown = true;
            text.push_str(part.require("text")?.text()?);
        }
    }
    let encrypted = item.text_of("encrypted_content")?;
    Ok(match encrypted {
        Some(encrypted) if !shown => Some(Part::EncryptedReasoning(encrypted)),
        None if text.is_empty() => None,
        signature => Some(Part::Reasoning { text, signature }),
    })
}
