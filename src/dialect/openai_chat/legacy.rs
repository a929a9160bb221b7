//! Rewrites `functions` and `function_call`, which `tools` and `tool_calls` replaced in November
//! 2023, before the rest of the request is parsed, so that they work with every upstream.

use serde_json::{Map, Value, json};

use crate::dialect::field::Field;
use crate::model::Error;

/// Rewrites the old members of a request. Returns whether its answer must use them too.
///
/// # Errors
/// [`crate::model::ErrorCode::InvalidRequest`], naming the field as the client wrote it.
pub(super) fn rewrite(body: &mut Value) -> Result<bool, Error> {
    let new = {
        let field = Field::body(body);
        let tools = field.get("functions");
        let tools = tools
            .map(|list| rewrite_functions(&field, &list))
            .transpose()?;
        let choice = field.get("function_call");
        let choice = choice
            .map(|choice| rewrite_choice(&field, &choice))
            .transpose()?;
        let messages = field.get("messages");
        let messages = messages.map(|list| rewrite_messages(&list)).transpose()?;
        (tools, choice, messages.flatten())
    };
    let (tools, choice, messages) = new;
    let legacy = tools.is_some();
    let Some(body) = body.as_object_mut() else {
        return Ok(false);
    };
    let is_set =
        |name: &str, body: &Map<String, Value>| body.get(name).is_some_and(|v| !v.is_null());
    if legacy && !is_set("parallel_tool_calls", body) {
        // `function_call` holds one call.
        body.insert("parallel_tool_calls".into(), false.into());
    }
    for (old, new, value) in [
        ("functions", "tools", tools),
        ("function_call", "tool_choice", choice),
    ] {
        body.shift_remove(old);
        if let Some(value) = value {
            body.insert(new.into(), value);
        }
    }
    if let Some(messages) = messages {
        body.insert("messages".into(), messages);
    }
    Ok(legacy)
}

fn rewrite_functions(body: &Field<'_>, list: &Field<'_>) -> Result<Value, Error> {
    if body.get("tools").is_some() {
        return Err(list.invalid("cannot be sent together with `tools`, which replaced it"));
    }
    let mut tools = Vec::new();
    for function in list.elements()? {
        function.required_name("name")?;
        function.text_of("description")?;
        tools.push(json!({ "type": "function", "function": function.value }));
    }
    Ok(tools.into())
}

fn rewrite_choice(body: &Field<'_>, choice: &Field<'_>) -> Result<Value, Error> {
    if body.get("functions").is_none() {
        return Err(choice.invalid("needs `functions`"));
    }
    Ok(match choice.value {
        Value::String(mode) if mode == "auto" || mode == "none" => json!(mode),
        Value::Object(_) => {
            let name = choice.required_name("name")?;
            json!({ "type": "function", "function": { "name": name } })
        }
        _ => return Err(choice.invalid("must be `auto`, `none` or {\"name\":…}")),
    })
}

/// The messages with new calls and results in place of old ones; none if there are none. Old calls
/// have no ids: their position becomes the id.
fn rewrite_messages(list: &Field<'_>) -> Result<Option<Value>, Error> {
    if !list.value.is_array() {
        // The parser refuses it.
        return Ok(None);
    }
    let mut rewritten = false;
    let mut messages = Vec::new();
    let mut open: Option<(String, String)> = None;
    for (at, message) in list.elements()?.enumerate() {
        let mut new = message.value.clone();
        if let (Some(call), Some(new)) = (message.get("function_call"), new.as_object_mut()) {
            rewritten = true;
            if message.get("tool_calls").is_some() {
                return Err(
                    call.invalid("cannot be sent together with `tool_calls`, which replaced it")
                );
            }
            let (name, id) = (call.required_name("name")?, format!("call_{at}"));
            let arguments = call.required_text("arguments")?;
            let function = json!({ "name": name, "arguments": arguments });
            let calls = json!([{ "id": id, "type": "function", "function": function }]);
            new.shift_remove("function_call");
            new.insert("tool_calls".into(), calls);
            open = Some((name, id));
        } else if message.value["role"] == "function"
            && let Some(new) = new.as_object_mut()
        {
            rewritten = true;
            let name = message.require("name")?;
            let function = name.text()?;
            let Some((_, id)) = open.take().filter(|(called, _)| called == function) else {
                return Err(name.invalid("no call of this function comes before its result"));
            };
            new.shift_remove("name");
            new.insert("role".into(), "tool".into());
            new.insert("tool_call_id".into(), id.into());
        }
        messages.push(new);
    }
    Ok(rewritten.then_some(Value::Array(messages)))
}
