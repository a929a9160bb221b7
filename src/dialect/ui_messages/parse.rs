//! The body of `POST /v1/ui-messages`: `{id, messages, trigger, messageId}`, as the SDK's transport
//! sends it, and beside them the model and the native dialect's settings.

use serde_json::{Map, Value};

use super::PROVIDER;
use crate::dialect::chat_form::parse_media_source;
use crate::dialect::field::{self, Field};
use crate::dialect::native;
use crate::model::{Error, Media, Message, Part, Request, Role};

/// Members of the transport that describe the chat. The gateway stores no chats and uses only the
/// messages.
const CHAT_MEMBERS: [&str; 4] = ["id", "messageId", "messages", "trigger"];

pub(super) fn request(body: &[u8]) -> Result<Request, Error> {
    let mut value = field::parse_body(body)?;
    let messages = messages(&Field::body(&value))?;
    if value.get("prompt").is_some() {
        return Err(Error::invalid(
            "prompt",
            "this API takes the prompt in `messages`",
        ));
    }
    if let Some(members) = value.as_object_mut() {
        members.retain(|name, _| !CHAT_MEMBERS.contains(&name.as_str()));
    }
    let mut request = native::settings(&value)?;
    request.messages.extend(messages);
    Ok(request)
}

fn messages(body: &Field<'_>) -> Result<Vec<Message>, Error> {
    let field = body.require("messages")?;
    let mut messages = Vec::new();
    for message in field.elements()? {
        let parts = message.require("parts")?;
        match message.required_text("role")?.as_str() {
            "system" => add_message(&message, Role::System, text_parts(&parts)?, &mut messages),
            "user" => add_message(&message, Role::User, user_parts(&parts)?, &mut messages),
            "assistant" => add_assistant(&message, &parts, &mut messages)?,
            _ => {
                let role = message.require("role")?;
                return Err(role.invalid("must be `system`, `user` or `assistant`"));
            }
        }
    }
    if messages.is_empty() {
        return Err(field.invalid("must have a message with content"));
    }
    Ok(messages)
}

/// Adds a message unless it is empty.
fn add_message(field: &Field<'_>, role: Role, content: Vec<Part>, messages: &mut Vec<Message>) {
    if !content.is_empty() {
        messages.push(Message {
            field: field.to_string(),
            role,
            content,
        });
    }
}

fn text_parts(parts: &Field<'_>) -> Result<Vec<Part>, Error> {
    let mut content = Vec::new();
    for part in parts.elements()? {
        if part.kind()? == "text" {
            content.push(Part::Text(part.required_text("text")?));
        }
    }
    Ok(content)
}

/// Data parts and parts that describe an answer are only for the page.
fn user_parts(parts: &Field<'_>) -> Result<Vec<Part>, Error> {
    let mut content = Vec::new();
    for part in parts.elements()? {
        match part.kind()? {
            "text" => content.push(Part::Text(part.required_text("text")?)),
            "file" => content.push(file(&part)?),
            _ => {}
        }
    }
    Ok(content)
}

fn file(part: &Field<'_>) -> Result<Part, Error> {
    let url = part.require("url")?;
    let media = Media {
        source: parse_media_source(url.text()?.to_owned(), &url.to_string())?,
        name: part.text_of("filename")?,
        detail: None,
    };
    let is_image = part.required_text("mediaType")?.starts_with("image/");
    Ok(if is_image {
        Part::Image(media)
    } else {
        Part::File(media)
    })
}

/// Each step of an assistant's message becomes an answer, followed by the results of its calls.
fn add_assistant(
    message: &Field<'_>,
    parts: &Field<'_>,
    messages: &mut Vec<Message>,
) -> Result<(), Error> {
    let (mut content, mut results) = (Vec::new(), Vec::new());
    for part in parts.elements()? {
        match part.kind()? {
            "step-start" => {
                add_message(
                    message,
                    Role::Assistant,
                    std::mem::take(&mut content),
                    messages,
                );
                add_message(message, Role::Tool, std::mem::take(&mut results), messages);
            }
            "text" => {
                let text = part.required_text("text")?;
                content.extend((!text.is_empty()).then_some(Part::Text(text)));
            }
            "reasoning" => content.extend(reasoning(&part)?),
            "dynamic-tool" => {
                let name = part.required_name("toolName")?;
                tool(&part, name, &mut content, &mut results)?;
            }
            kind => {
                if let Some(name) = kind.strip_prefix("tool-") {
                    tool(&part, name.to_owned(), &mut content, &mut results)?;
                }
            }
        }
    }
    add_message(message, Role::Assistant, content, messages);
    add_message(message, Role::Tool, results, messages);
    Ok(())
}

/// Reasoning as the encoder wrote it, with its signature.
fn reasoning(part: &Field<'_>) -> Result<Option<Part>, Error> {
    let text = part.required_text("text")?;
    let provider_data = part.value.get("providerMetadata");
    let provider_data = provider_data.and_then(|metadata| metadata.get(PROVIDER));
    let provider_data = |name| {
        provider_data
            .and_then(|provider_data| provider_data.get(name))
            .and_then(Value::as_str)
    };
    if let Some(sealed) = provider_data("sealed") {
        return Ok(Some(Part::EncryptedReasoning(sealed.to_owned())));
    }
    let signature = provider_data("signature").map(str::to_owned);
    let has_content = !text.is_empty() || signature.is_some();
    Ok(has_content.then_some(Part::Reasoning { text, signature }))
}

/// Adds a call, and its result if there is one.
fn tool(
    part: &Field<'_>,
    name: String,
    content: &mut Vec<Part>,
    results: &mut Vec<Part>,
) -> Result<(), Error> {
    let state = part.required_text("state")?;
    // The SDK's own servers also leave out incomplete calls and calls that the vendor ran.
    if state == "input-streaming" || part.value["providerExecuted"] == true {
        return Ok(());
    }
    let id = part.required_name("toolCallId")?;
    // Arguments that are not JSON are passed on unchanged.
    let input = part.get("input").or_else(|| part.get("rawInput"));
    content.push(Part::ToolCall {
        id: id.clone(),
        name,
        arguments: match input.map(|input| input.value) {
            None => Value::Object(Map::new()).to_string(),
            Some(Value::String(raw)) => raw.clone(),
            Some(json) => json.to_string(),
        },
    });
    let result = match state.as_str() {
        "output-available" => part.get("output").map_or_else(String::new, |output| {
            let text = output.value.as_str().map(str::to_owned);
            text.unwrap_or_else(|| output.value.to_string())
        }),
        "output-error" => part.required_text("errorText")?,
        "output-denied" => {
            let approval = part.get("approval");
            let reason = approval.as_ref().map(|approval| approval.text_of("reason"));
            let reason = reason.transpose()?.flatten();
            reason.unwrap_or_else(|| "The call was denied.".to_owned())
        }
        _ => return Ok(()),
    };
    results.push(Part::ToolResult {
        id,
        content: vec![Part::Text(result)],
        is_error: state == "output-error",
    });
    Ok(())
}
