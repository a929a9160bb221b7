//! Verbatim answers: if an upstream speaks the client's own protocol, the client gets the vendor's
//! events with the vendor's own data, so that nothing is lost that the gateway's events do not have.
//!
//! | dialect | a whole answer is |
//! |---|---|
//! | `anthropic` | the `message` of `message_start`, with the blocks and deltas that follow |
//! | `openai_chat` | the chunks, merged by the rules of OpenAI's own libraries |
//! | `openai_responses` | the `response` of the terminal event |

use bytes::{BufMut as _, BytesMut};
use serde_json::{Map, Value};

/// Appends one server-sent event with the vendor's own name and data.
pub(crate) fn write_frame(name: &str, data: &str, out: &mut BytesMut) {
    if !name.is_empty() {
        out.put_slice(b"event: ");
        out.put_slice(name.as_bytes());
        out.put_u8(b'\n');
    }
    out.put_slice(b"data: ");
    if memchr::memchr(b'\n', data.as_bytes()).is_none() {
        out.put_slice(data.as_bytes());
    } else {
        // A line end in the data separates two `data` fields of one event.
        out.put_slice(data.replace('\n', "\ndata: ").as_bytes());
    }
    out.put_slice(b"\n\n");
}

/// Merges a delta into the earlier ones, as OpenAI's libraries do: texts are joined, lists of objects
/// are merged by `index`, other lists are joined, objects are merged. Some vendors repeat names and
/// kinds, so the last one counts.
pub(super) fn merge_delta(into: &mut Map<String, Value>, delta: Map<String, Value>) {
    for (name, value) in delta {
        match (into.get_mut(&name), value) {
            (Some(Value::String(text)), Value::String(more)) if is_text(&name) => {
                text.push_str(&more);
            }
            (Some(Value::Object(members)), Value::Object(more)) => merge_delta(members, more),
            (Some(Value::Array(list)), Value::Array(more)) => merge_list(list, more),
            // A null or an empty name adds nothing.
            (Some(known), value) if !known.is_null() && is_empty(&value) => {}
            (_, value) => {
                into.insert(name, value);
            }
        }
    }
}

/// How many elements of a list are searched for the one that a piece belongs to.
pub(super) const MAX_SEARCHED: usize = 1024;

fn merge_list(list: &mut Vec<Value>, more: Vec<Value>) {
    for element in more {
        let index = element.get("index").cloned();
        let known = index.and_then(|index| {
            // Pieces belong to one of the last elements; a longer search would be quadratic.
            let mut known = list.iter_mut().rev().take(MAX_SEARCHED);
            known.find(|known| known.get("index") == Some(&index))
        });
        match (known, element) {
            (Some(Value::Object(known)), Value::Object(element)) => merge_delta(known, element),
            (_, element) => list.push(element),
        }
    }
}

/// Whether pieces of the member of that name are joined.
fn is_text(name: &str) -> bool {
    !matches!(
        name,
        "id" | "call_id"
            | "finish_reason"
            | "format"
            | "index"
            | "model"
            | "name"
            | "object"
            | "role"
            | "type"
    )
}

fn is_empty(value: &Value) -> bool {
    value.is_null() || value.as_str().is_some_and(str::is_empty)
}
