//! Finds members of a request that only an upstream of this protocol understands.

use serde_json::{Map, Value};

/// Members of messages that a [`crate::model::Message`] holds, or that only describe an earlier
/// answer.
const KNOWN_MESSAGES: &[&str] = &[
    "annotations",
    "content",
    "function_call",
    "reasoning_content",
    "refusal",
    "role",
    "tool_call_id",
    "tool_calls",
];
const KNOWN_PARTS: &[&str] = &["file", "image_url", "refusal", "text", "type"];
const KNOWN_CALLS: &[&str] = &["function", "id", "index", "type"];
const KNOWN_CALL_FUNCTIONS: &[&str] = &["arguments", "name"];
const KNOWN_TOOLS: &[&str] = &["function", "type"];
const KNOWN_FUNCTIONS: &[&str] = &["description", "name", "parameters", "strict"];

/// Whether messages have more than their normalized form, such as a participant's `name`.
pub(super) fn has_extra_in_messages(messages: &Value) -> bool {
    elements(messages).any(|message| {
        has_other_members(message, KNOWN_MESSAGES)
            || elements(&message["content"]).any(|part| has_other_members(part, KNOWN_PARTS))
            || elements(&message["tool_calls"]).any(|call| {
                has_other_members(call, KNOWN_CALLS)
                    || has_other_members(&call["function"], KNOWN_CALL_FUNCTIONS)
            })
    })
}

/// Whether tools have more than their normalized form.
pub(super) fn has_extra_in_tools(tools: &Value) -> bool {
    elements(tools).any(|tool| {
        has_other_members(tool, KNOWN_TOOLS)
            || has_other_members(&tool["function"], KNOWN_FUNCTIONS)
    })
}

/// Renames the role `developer` to `system`, its older name: OpenAI accepts both, most other vendors
/// only the older one.
pub(super) fn rename_developer_role(messages: &mut Value) {
    for message in messages.as_array_mut().into_iter().flatten() {
        if message["role"] == "developer" {
            message["role"] = "system".into();
        }
    }
}

fn elements(list: &Value) -> impl Iterator<Item = &Value> {
    list.as_array().into_iter().flatten()
}

/// Null members do not count: clients that send an answer back send those too.
fn has_other_members(object: &Value, known: &[&str]) -> bool {
    let members = object.as_object().into_iter().flat_map(Map::iter);
    let mut more = members.filter(|(name, _)| !known.contains(&name.as_str()));
    more.any(|(_, value)| !value.is_null())
}
