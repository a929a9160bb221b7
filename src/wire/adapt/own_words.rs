//! Names and ids in messages and tools that go upstream in the client's own JSON, because a [`Request`]
//! does not hold all of them.
//!
//! [`Request`]: crate::model::Request

use serde_json::Value;

use super::Pass;
use super::names::fit;

impl Pass<'_> {
    /// Makes the same changes as in the request's own messages and tools, whose form is that of Chat
    /// Completions: the other protocols' own JSON is not changed.
    pub(super) fn adapt_own_words(&mut self) {
        for field in ["messages", "tools", "tool_choice"] {
            let Some(mut changed) = self.request.extra.get(field).cloned() else {
                continue;
            };
            match field {
                "messages" => self.adapt_own_messages(&mut changed),
                "tools" => {
                    let tools = changed.as_array_mut().into_iter().flatten();
                    tools.for_each(|tool| self.adapt_own_name(tool));
                }
                _ => {
                    self.adapt_own_name(&mut changed);
                    let allowed = changed.pointer_mut("/allowed_tools/tools");
                    let allowed = allowed.and_then(Value::as_array_mut);
                    for tool in allowed.into_iter().flatten() {
                        self.adapt_own_name(tool);
                    }
                }
            }
            if self.request.extra.get(field) != Some(&changed) {
                let extra = &mut self.request.to_mut().extra;
                extra.insert(field.to_owned(), changed);
            }
        }
    }

    fn adapt_own_messages(&mut self, messages: &mut Value) {
        let ids = self.limits.call_id;
        let fit_id = |id: &mut Value| {
            if let Value::String(id) = id {
                *id = fit(id, ids).into_owned();
            }
        };
        for message in messages.as_array_mut().into_iter().flatten() {
            if let Some(id) = message.get_mut("tool_call_id") {
                fit_id(id);
            }
            let calls = message.get_mut("tool_calls").and_then(Value::as_array_mut);
            for call in calls.into_iter().flatten() {
                if let Some(id) = call.get_mut("id") {
                    fit_id(id);
                }
                self.adapt_own_name(call);
                if let Some(Value::String(arguments)) = call.pointer_mut("/function/arguments")
                    && let Some(repaired) = super::conversation::repaired(arguments)
                {
                    *arguments = repaired;
                }
            }
        }
    }

    /// The name of the function in a call, a tool or a choice.
    fn adapt_own_name(&mut self, object: &mut Value) {
        if let Some(Value::String(name)) = object.pointer_mut("/function/name") {
            self.names.change(name, self.limits.tool_name);
        }
    }
}
