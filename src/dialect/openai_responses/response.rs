//! The `response` object.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::BytesMut;
use serde_json::{Map, Value, json};

use super::event_writer::write_in_progress;
use crate::dialect::event_stream::write_event;
use crate::dialect::{AnswerInfo, OpeningHeartbeat};
use crate::model::{Request, StreamId, Usage};

/// A response without its output: identity, and the client's own settings repeated.
pub(super) struct Head {
    /// Part of the ids of items, by which the gateway recognizes its own.
    stream: StreamId,
    id: OnceLock<String>,
    /// Whether the opening events were written.
    opened: AtomicBool,
    created: u64,
    model: String,
    settings: Map<String, Value>,
}

/// The state of a response.
#[derive(Default)]
pub(super) struct ResponseState<'a> {
    pub(super) status: &'static str,
    pub(super) output: &'a [Value],
    pub(super) usage: Option<Usage>,
    /// Why it is incomplete.
    pub(super) reason: Option<&'static str>,
    /// Why it failed.
    pub(super) error: Option<Value>,
}

/// The settings that are repeated, with their defaults.
fn defaults() -> [(&'static str, Value); 19] {
    [
        ("background", json!(false)),
        ("conversation", Value::Null),
        ("instructions", Value::Null),
        ("max_output_tokens", Value::Null),
        ("max_tool_calls", Value::Null),
        ("metadata", json!({})),
        ("parallel_tool_calls", json!(true)),
        ("previous_response_id", Value::Null),
        ("prompt_cache_key", Value::Null),
        ("reasoning", json!({ "effort": null, "summary": null })),
        ("safety_identifier", Value::Null),
        ("service_tier", json!("auto")),
        // The gateway stores nothing; an upstream may, if the client asks it to.
        ("store", json!(false)),
        ("temperature", json!(1.0)),
        ("text", json!({ "format": { "type": "text" } })),
        ("tool_choice", json!("auto")),
        ("tools", json!([])),
        ("top_p", json!(1.0)),
        ("truncation", json!("disabled")),
    ]
}

impl Head {
    pub(super) fn new(request: &Request, info: &AnswerInfo) -> Self {
        let fields_set = request.native_fields.as_ref().map(|native| &native.fields);
        let mut settings = Map::new();
        for (name, default) in defaults() {
            let value = fields_set.and_then(|fields| fields.get(name));
            let value = value.filter(|value| !value.is_null()).cloned();
            settings.insert(name.to_owned(), value.unwrap_or(default));
        }
        settings.insert("user".to_owned(), json!(request.user));
        Self {
            stream: info.stream,
            id: OnceLock::new(),
            opened: AtomicBool::new(false),
            created: info.created,
            model: info.model.clone(),
            settings,
        }
    }

    /// Adopts the upstream's id, under which a vendor that stores responses finds this one.
    ///
    /// The id does not change once an event has it.
    pub(super) fn set_id(&self, upstream: &str) {
        if upstream.starts_with("resp_") {
            self.id.get_or_init(|| upstream.to_owned());
        }
    }

    /// Writes the events that open a response, unless they were written. Returns the number of the event
    /// that follows them.
    pub(super) fn write_opening(&self, out: &mut BytesMut) -> u64 {
        let names = ["response.created", "response.in_progress"];
        if !self.opened.swap(true, Ordering::Relaxed) {
            let response = self.in_progress();
            for (number, name) in names.iter().enumerate() {
                let event =
                    json!({ "type": name, "sequence_number": number, "response": response });
                write_event(name, &event, out);
            }
        }
        names.len() as u64
    }

    /// The response before its end, without its output.
    pub(super) fn in_progress(&self) -> Value {
        self.response(&ResponseState {
            status: "in_progress",
            ..ResponseState::default()
        })
    }

    /// The unique part of the id of the item at that index: see [`is_gateway_id`].
    pub(super) fn item_key(&self, at: usize) -> String {
        format!("{}_{at}", self.stream)
    }

    pub(super) fn response(&self, state: &ResponseState<'_>) -> Value {
        let mut response = json!({
            "id": self.id.get_or_init(|| format!("resp_{}", self.stream)),
            "object": "response",
            "created_at": self.created,
            "status": state.status,
            "error": state.error,
            "incomplete_details": state.reason.map(|reason| json!({ "reason": reason })),
            "model": self.model,
            "output": state.output,
            "usage": state.usage.map(usage),
        });
        if let Some(response) = response.as_object_mut() {
            response.extend(self.settings.clone());
        }
        response
    }
}

impl OpeningHeartbeat for Head {
    fn write(&self, out: &mut BytesMut) {
        if self.opened.load(Ordering::Relaxed) {
            let number = self.write_opening(out);
            write_in_progress(number - 1, &self.in_progress(), out);
        } else {
            self.write_opening(out);
        }
    }
}

/// Whether the gateway made an item's id: no vendor knows it.
pub(super) fn is_gateway_id(id: &str) -> bool {
    let rest = id.split_once("_st_").map(|(_, rest)| rest);
    let key = rest
        .and_then(|rest| rest.split_once('_'))
        .map(|(key, _)| key);
    key.is_some_and(|key| StreamId::parse(&format!("st_{key}")).is_some())
}

fn usage(usage: Usage) -> Value {
    let (input, output) = (usage.input.unwrap_or(0), usage.output.unwrap_or(0));
    json!({
        "input_tokens": input,
        "input_tokens_details": {
            "cached_tokens": usage.cached_input.unwrap_or(0),
            "cache_write_tokens": usage.cache_write.unwrap_or(0),
        },
        "output_tokens": output,
        "output_tokens_details": { "reasoning_tokens": usage.reasoning.unwrap_or(0) },
        "total_tokens": input.saturating_add(output),
    })
}
