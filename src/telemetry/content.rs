//! Prompts and answers in spans, where the operator asked for them: the conventions' form of messages
//! (`gen_ai.input.messages`, `gen_ai.output.messages`), bounded.

use serde_json::{Value, json};

use crate::model::{Message, Part, Request, Role};

/// The most text of one attribute, in bytes.
pub const MAX_CONTENT: usize = 32 * 1024;

/// The messages of a request. Of a long conversation, its end.
pub fn input_messages(request: &Request) -> String {
    let mut budget = MAX_CONTENT;
    let mut messages = Vec::new();
    for message in request.messages.iter().rev() {
        if budget == 0 {
            break;
        }
        messages.push(input_message(message, &mut budget));
    }
    messages.reverse();
    Value::Array(messages).to_string()
}

/// The answer, which consists of this text.
pub(super) fn output_message(text: &str, finish: Option<&str>) -> String {
    json!([{
        "role": "assistant",
        "parts": [{ "type": "text", "content": text }],
        "finish_reason": finish,
    }])
    .to_string()
}

/// The beginning of a text, in at most `budget` bytes, which are taken from it.
pub fn truncate<'a>(text: &'a str, budget: &mut usize) -> &'a str {
    let text = &text[..text.floor_char_boundary(*budget)];
    *budget -= text.len();
    text
}

fn input_message(message: &Message, budget: &mut usize) -> Value {
    let role = match message.role {
        Role::System => "system",
        Role::User => "user",
        Role::Assistant => "assistant",
        Role::Tool => "tool",
    };
    let parts = message.content.iter();
    let parts: Vec<_> = parts.filter_map(|part| input_part(part, budget)).collect();
    json!({ "role": role, "parts": parts })
}

/// None for parts without a text: images and files are left out.
fn input_part(part: &Part, budget: &mut usize) -> Option<Value> {
    Some(match part {
        Part::Text(text) => json!({ "type": "text", "content": truncate(text, budget) }),
        Part::Reasoning { text, .. } => {
            json!({ "type": "reasoning", "content": truncate(text, budget) })
        }
        Part::ToolCall {
            id,
            name,
            arguments,
        } => json!({
            "type": "tool_call",
            "id": id,
            "name": name,
            "arguments": truncate(arguments, budget),
        }),
        Part::ToolResult { id, content, .. } => {
            let texts = content.iter().filter_map(|part| match part {
                Part::Text(text) => Some(text.as_str()),
                _ => None,
            });
            let texts: Vec<_> = texts.map(|text| truncate(text, budget)).collect();
            json!({ "type": "tool_call_response", "id": id, "result": texts.concat() })
        }
        Part::Image(_) | Part::File(_) | Part::EncryptedReasoning(_) | Part::CachePoint => {
            return None;
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_conversation_is_bounded_and_keeps_its_end() {
        let message = |text: String| Message {
            field: String::new(),
            role: Role::User,
            content: vec![Part::Text(text)],
        };
        let request = Request {
            messages: vec![
                message("first".to_owned()),
                message("é".repeat(MAX_CONTENT)),
                message("last".to_owned()),
            ],
            ..Request::default()
        };
        let json = input_messages(&request);
        assert!(json.len() < MAX_CONTENT + 1024, "{}", json.len());
        assert!(json.contains("last") && !json.contains("first"));
    }
}
