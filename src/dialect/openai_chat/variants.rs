//! Forms of a request that OpenAI refuses and other servers accept, so that clients which were written
//! for those work here too.

use std::collections::VecDeque;

use serde_json::{Map, Value, json};

/// Puts the documented form in the place of the others.
pub(super) fn normalize(body: &mut Value) {
    let Some(body) = body.as_object_mut() else {
        return;
    };
    for bound in ["max_tokens", "max_completion_tokens"] {
        // llama.cpp, LM Studio and Ollama: -1 and -2 are no bound.
        if body
            .get(bound)
            .and_then(Value::as_i64)
            .is_some_and(|bound| bound < 0)
        {
            body.shift_remove(bound);
        }
    }
    let messages = body.get_mut("messages").and_then(Value::as_array_mut);
    // Calls without a result yet.
    let mut open = VecDeque::new();
    for (at, message) in messages.into_iter().flatten().enumerate() {
        let Some(message) = message.as_object_mut() else {
            continue;
        };
        if message.get("role").is_some_and(|role| role == "assistant") {
            open.clear();
            let calls = message.get_mut("tool_calls").and_then(Value::as_array_mut);
            for (nth, call) in calls.into_iter().flatten().enumerate() {
                normalize_call(call, at, nth, &mut open);
            }
            let says_nothing = ["content", "tool_calls", "refusal", "function_call", "audio"]
                .iter()
                .all(|name| message.get(*name).is_none_or(Value::is_null));
            if says_nothing {
                message.insert("content".to_owned(), "".into());
            }
        }
        if message.get("role").is_some_and(|role| role == "tool") {
            name_result(message, &mut open);
        }
    }
}

/// Ollama has arguments as objects, and calls without ids.
fn normalize_call(call: &mut Value, message: usize, nth: usize, open: &mut VecDeque<String>) {
    let Some(call) = call.as_object_mut() else {
        return;
    };
    let is_call = call.contains_key("function");
    let id = call.get("id").and_then(Value::as_str);
    if let Some(id) = id.filter(|id| !id.is_empty()) {
        open.push_back(id.to_owned());
    } else if is_call {
        let id = format!("call_{message}_{nth}");
        open.push_back(id.clone());
        call.insert("id".to_owned(), json!(id));
    }
    let function = call.get_mut("function").and_then(Value::as_object_mut);
    if let Some(function) = function {
        let arguments = function.get("arguments").unwrap_or(&Value::Null);
        let text = match arguments {
            Value::Object(_) => arguments.to_string(),
            Value::Null => String::new(),
            _ => return,
        };
        function.insert("arguments".to_owned(), text.into());
    }
}

/// A result without an id answers the first call that has no result.
fn name_result(message: &mut Map<String, Value>, open: &mut VecDeque<String>) {
    let id = message.get("tool_call_id").and_then(Value::as_str);
    if let Some(id) = id.filter(|id| !id.is_empty()) {
        if let Some(at) = open.iter().position(|call| call == id) {
            open.remove(at);
        }
    } else if let Some(id) = open.pop_front() {
        message.insert("tool_call_id".to_owned(), json!(id));
    }
}
