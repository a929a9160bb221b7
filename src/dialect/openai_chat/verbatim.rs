//! Answers of upstreams that speak Chat Completions themselves, as the vendor wrote them.

use std::sync::LazyLock;

use bytes::{BufMut as _, BytesMut};
use memchr::memmem;
use serde_json::{Map, Value, json};

use crate::dialect::verbatim::{merge_delta, write_frame};
use crate::dialect::{VerbatimEncoder, openai_error};
use crate::framing::surrogate;
use crate::model::Error;

/// A count of every chunk with the usage.
static PROMPT_TOKENS: LazyLock<memmem::Finder<'static>> =
    LazyLock::new(|| memmem::Finder::new("\"prompt_tokens\""));

/// The most choices that the API gives.
const MAX_CHOICES: usize = 128;

/// The end of a stream, which is not JSON.
const DONE: &str = "[DONE]";

/// Writes the vendor's chunks unchanged.
pub(super) struct StreamEncoder {
    /// Whether the client asked for the chunk that holds nothing but the usage.
    pub(super) usage_wanted: bool,
}

/// Merges the chunks to one `chat.completion`.
#[derive(Default)]
pub(super) struct WholeEncoder {
    answer: Map<String, Value>,
    choices: Vec<Map<String, Value>>,
}

impl VerbatimEncoder for StreamEncoder {
    fn frame(&mut self, name: &str, data: &str, out: &mut BytesMut) {
        if self.usage_wanted || !is_usage_only(data) {
            write_frame(name, data, out);
        }
    }

    fn error_frame(&mut self, name: &str, data: &str, out: &mut BytesMut) -> bool {
        write_frame(name, data, out);
        is_error(data)
    }

    fn complete(&mut self, _: &mut BytesMut) {}

    fn collects(&self) -> bool {
        false
    }

    fn error(&mut self, error: &Error, out: &mut BytesMut) {
        out.put_slice(b"data: ");
        out.put_slice(openai_error::body(error).to_string().as_bytes());
        out.put_slice(b"\n\n");
    }
}

impl VerbatimEncoder for WholeEncoder {
    fn frame(&mut self, _: &str, data: &str, _: &mut BytesMut) {
        let repaired = surrogate::repair(data);
        let data = repaired.as_deref().unwrap_or(data);
        let Ok(Value::Object(mut chunk)) = serde_json::from_str(data) else {
            return;
        };
        if let Some(Value::Array(choices)) = chunk.shift_remove("choices") {
            choices.into_iter().for_each(|choice| self.merge(choice));
        }
        // Each chunk has its own random padding, which means nothing in a whole answer.
        chunk.shift_remove("obfuscation");
        for (name, value) in chunk {
            if !value.is_null() || !self.answer.contains_key(&name) {
                self.answer.insert(name, value);
            }
        }
    }

    fn complete(&mut self, out: &mut BytesMut) {
        let mut answer = std::mem::take(&mut self.answer);
        answer.insert("object".to_owned(), "chat.completion".into());
        let choices = std::mem::take(&mut self.choices);
        answer.insert(
            "choices".to_owned(),
            choices.into_iter().map(whole_choice).collect(),
        );
        out.put_slice(Value::Object(answer).to_string().as_bytes());
    }

    /// The client gets the error as an HTTP error.
    fn error_frame(&mut self, _: &str, _: &str, _: &mut BytesMut) -> bool {
        true
    }

    fn error(&mut self, _: &Error, _: &mut BytesMut) {}

    fn collects(&self) -> bool {
        true
    }
}

impl WholeEncoder {
    fn merge(&mut self, choice: Value) {
        let Value::Object(choice) = choice else {
            return;
        };
        let index = choice.get("index").cloned();
        let mut known = self.choices.iter_mut();
        if let Some(known) = known.find(|known| known.get("index") == index.as_ref()) {
            merge_delta(known, choice);
        } else if self.choices.len() < MAX_CHOICES {
            self.choices.push(choice);
        }
    }
}

/// A choice with the message that its deltas make.
fn whole_choice(mut choice: Map<String, Value>) -> Value {
    let mut message = match choice.shift_remove("delta") {
        Some(Value::Object(delta)) => delta,
        _ => Map::new(),
    };
    message.entry("role").or_insert_with(|| "assistant".into());
    message.entry("content").or_insert(Value::Null);
    if let Some(Value::Array(calls)) = message.get_mut("tool_calls") {
        // The index only tells apart the pieces of a stream.
        for call in calls.iter_mut().filter_map(Value::as_object_mut) {
            call.shift_remove("index");
        }
    }
    choice.insert("message".to_owned(), message.into());
    choice.entry("finish_reason").or_insert(Value::Null);
    choice.entry("logprobs").or_insert(Value::Null);
    json!(choice)
}

/// Whether a chunk holds nothing for a client that did not ask for the usage.
fn is_usage_only(data: &str) -> bool {
    // Nearly every chunk ends here, without parsing.
    if PROMPT_TOKENS.find(data.as_bytes()).is_none() {
        return false;
    }
    let chunk: Value = serde_json::from_str(data).unwrap_or_default();
    let choices = chunk["choices"].as_array();
    chunk["usage"].is_object() && choices.is_none_or(Vec::is_empty)
}

fn is_error(data: &str) -> bool {
    let chunk: Value = serde_json::from_str(data).unwrap_or_default();
    data != DONE && chunk["error"].is_object()
}
