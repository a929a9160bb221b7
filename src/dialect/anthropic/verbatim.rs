//! Answers of upstreams that speak the Messages API themselves, as the vendor wrote them.

use bytes::BytesMut;
use serde::ser::{Serialize, SerializeMap as _, Serializer};
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};

use super::error_type;
use crate::dialect::VerbatimEncoder;
use crate::dialect::event_stream::write_event;
use crate::dialect::json::put_json;
use crate::dialect::verbatim::{MAX_SEARCHED, merge_delta, write_frame};
use crate::framing::surrogate;
use crate::model::Error;

/// Writes the vendor's events unchanged.
pub(super) struct StreamEncoder;

/// Merges the events to one `message`, <https://platform.claude.com/docs/en/api/messages-streaming>.
#[derive(Default)]
pub(super) struct WholeEncoder {
    message: Map<String, Value>,
    blocks: Vec<Block>,
}

/// A whole message: its members, and the content where the API has it.
struct Message {
    message: Map<String, Value>,
    content: Vec<Block>,
}

struct Block {
    index: u64,
    content: Map<String, Value>,
    /// The pieces of a tool's input, which are one JSON text.
    input: String,
}

impl VerbatimEncoder for StreamEncoder {
    fn frame(&mut self, name: &str, data: &str, out: &mut BytesMut) {
        write_frame(name, data, out);
    }

    fn error_frame(&mut self, name: &str, data: &str, out: &mut BytesMut) -> bool {
        write_frame(name, data, out);
        name == "error"
    }

    fn complete(&mut self, _: &mut BytesMut) {}

    fn collects(&self) -> bool {
        false
    }

    fn error(&mut self, error: &Error, out: &mut BytesMut) {
        let data = json!({
            "type": "error",
            "error": { "type": error_type(error), "message": error.message() },
        });
        write_event("error", &data, out);
    }
}

impl VerbatimEncoder for WholeEncoder {
    fn frame(&mut self, _: &str, data: &str, _: &mut BytesMut) {
        let repaired = surrogate::repair(data);
        let data = repaired.as_deref().unwrap_or(data);
        let Ok(Value::Object(mut event)) = serde_json::from_str(data) else {
            return;
        };
        let kind = event.shift_remove("type").unwrap_or_default();
        let index = event.shift_remove("index").and_then(|index| index.as_u64());
        let mut take = |name: &str| match event.shift_remove(name) {
            Some(Value::Object(members)) => members,
            _ => Map::new(),
        };
        match (kind.as_str().unwrap_or_default(), index) {
            ("message_start", _) => self.message = take("message"),
            ("content_block_start", Some(index)) => self.blocks.push(Block {
                index,
                content: take("content_block"),
                input: String::new(),
            }),
            ("content_block_delta", Some(index)) => {
                let delta = take("delta");
                self.block(index, &delta).merge(delta);
            }
            ("message_delta", _) => {
                let delta = take("delta");
                self.message.extend(delta);
                let usage = take("usage");
                match self.message.get_mut("usage") {
                    Some(Value::Object(known)) => known.extend(usage),
                    _ => {
                        self.message.insert("usage".to_owned(), usage.into());
                    }
                }
                // Such as `context_management`.
                self.message.extend(event);
            }
            _ => {}
        }
    }

    fn complete(&mut self, out: &mut BytesMut) {
        let mut message = std::mem::take(&mut self.message);
        message.shift_remove("content");
        let content = std::mem::take(&mut self.blocks);
        put_json(&Message { content, message }, out);
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
    /// The block of a delta. Some servers do not send its start.
    fn block(&mut self, index: u64, delta: &Map<String, Value>) -> &mut Block {
        // Deltas belong to one of the last blocks; a longer search would be quadratic.
        let recent = self.blocks.len().saturating_sub(MAX_SEARCHED);
        let mut known = self.blocks[recent..].iter();
        let known = known.rposition(|block| block.index == index);
        let at = known.map(|at| recent + at).unwrap_or_else(|| {
            let kind = match delta.get("type").and_then(Value::as_str) {
                Some("thinking_delta" | "signature_delta") => "thinking",
                Some("input_json_delta") => "tool_use",
                _ => "text",
            };
            self.blocks.push(Block {
                index,
                content: Map::from_iter([("type".to_owned(), kind.into())]),
                input: String::new(),
            });
            self.blocks.len() - 1
        });
        &mut self.blocks[at]
    }
}

impl Block {
    fn merge(&mut self, mut delta: Map<String, Value>) {
        let kind = delta.shift_remove("type").unwrap_or_default();
        match kind.as_str().unwrap_or_default() {
            "input_json_delta" => {
                let piece = delta.get("partial_json").and_then(Value::as_str);
                self.input.push_str(piece.unwrap_or_default());
            }
            "citations_delta" => {
                let citation = delta.shift_remove("citation").unwrap_or_default();
                match self.content.get_mut("citations") {
                    Some(Value::Array(citations)) => citations.push(citation),
                    _ => {
                        self.content
                            .insert("citations".to_owned(), vec![citation].into());
                    }
                }
            }
            // Texts, thinking, signatures, and deltas that are newer than this code.
            _ => merge_delta(&mut self.content, delta),
        }
    }
}

impl Serialize for Message {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let mut members = to.serialize_map(None)?;
        for (name, value) in &self.message {
            members.serialize_entry(name, value)?;
            if name == "role" {
                members.serialize_entry("content", &self.content)?;
            }
        }
        if !self.message.contains_key("role") {
            members.serialize_entry("content", &self.content)?;
        }
        members.end()
    }
}

impl Serialize for Block {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        if self.input.is_empty() {
            return self.content.serialize(to);
        }
        let mut members = to.serialize_map(None)?;
        for (name, value) in self.content.iter().filter(|(name, _)| *name != "input") {
            members.serialize_entry(name, value)?;
        }
        match serde_json::from_str::<&RawValue>(&self.input) {
            // As it is, because a `Value` would round its numbers.
            Ok(input) => members.serialize_entry("input", input)?,
            // The answer was cut within a call. There is no more of its input.
            Err(_) => members.serialize_entry("input", &self.input)?,
        }
        members.end()
    }
}
