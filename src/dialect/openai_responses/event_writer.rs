//! Writes the numbered events of a stream.

use bytes::{BufMut, BytesMut};
use serde_json::{Value, json};

use super::item::{Item, ItemKind};
use super::tools::ToolKind;
use crate::dialect::event_stream::write_event;
use crate::dialect::json::{put_number, put_text};

/// Writes events, unless the answer is a whole one.
pub(super) struct EventWriter {
    pub(super) streamed: bool,
    number: u64,
    delta: Delta,
}

/// The event of every token without its number and its text: these bytes stay the same until the
/// part ends.
#[derive(Default)]
struct Delta {
    /// The event's name, the index of the item in the output, and of the part in the item.
    key: Option<(&'static str, usize, usize)>,
    before_number: String,
    before_text: String,
    after_text: &'static [u8],
}

impl EventWriter {
    pub(super) fn new(streamed: bool) -> Self {
        Self {
            streamed,
            number: 0,
            delta: Delta::default(),
        }
    }

    /// Sets the number of the next event.
    pub(super) fn set_next(&mut self, number: u64) {
        self.number = number;
    }

    /// Writes an event. `data` is an object, to which the event's name and number are added.
    pub(super) fn write(&mut self, name: &'static str, data: Value, out: &mut BytesMut) {
        if !self.streamed {
            return;
        }
        let mut event = json!({ "type": name, "sequence_number": self.number });
        self.number += 1;
        if let (Some(event), Value::Object(data)) = (event.as_object_mut(), data) {
            event.extend(data);
        }
        write_event(name, &event, out);
    }

    /// Writes `response.in_progress` once more, with the number of the last event. Clients count it as an
    /// event, and its place in the order changes nothing.
    pub(super) fn repeat_in_progress(&self, response: &Value, out: &mut BytesMut) {
        if self.streamed {
            write_in_progress(self.number.saturating_sub(1), response, out);
        }
    }

    pub(super) fn delta(
        &mut self,
        name: &'static str,
        item: &Item,
        at: usize,
        delta: &str,
        out: &mut BytesMut,
    ) {
        if !self.streamed {
            return;
        }
        let key = Some((name, at, item.parts.len()));
        if self.delta.key != key {
            self.delta = Delta::new(name, item, at);
        }
        out.put_slice(self.delta.before_number.as_bytes());
        put_number(self.number, out);
        out.put_slice(self.delta.before_text.as_bytes());
        put_text(delta, out);
        out.put_slice(self.delta.after_text);
        self.number += 1;
    }

    pub(super) fn item_added(&mut self, item: &Item, at: usize, out: &mut BytesMut) {
        if !self.streamed {
            return;
        }
        let data = json!({ "output_index": at, "item": item.begun() });
        self.write("response.output_item.added", data, out);
        self.part_added(item, at, out);
    }

    /// Writes that the part of a message or the summary of a reasoning begins.
    pub(super) fn part_added(&mut self, item: &Item, at: usize, out: &mut BytesMut) {
        let place = place(item, at);
        match item.kind {
            _ if !self.streamed => {}
            ItemKind::Text | ItemKind::Refusal => {
                let data = merged(place, json!({ "part": item.part() }));
                self.write("response.content_part.added", data, out);
            }
            ItemKind::Reasoning { shown: true, .. } => {
                let data = merged(place, json!({ "part": item.part() }));
                self.write("response.reasoning_summary_part.added", data, out);
            }
            ItemKind::Reasoning { shown: false, .. }
            | ItemKind::Call { .. }
            | ItemKind::Image(_) => {}
        }
    }

    pub(super) fn part_done(&mut self, item: &Item, at: usize, out: &mut BytesMut) {
        if !self.streamed {
            return;
        }
        let (text, part) = (&item.text, item.part());
        let place = place(item, at);
        let (done, fields, part_done) = match &item.kind {
            ItemKind::Text => (
                "response.output_text.done",
                json!({ "text": text, "logprobs": [] }),
                Some("response.content_part.done"),
            ),
            ItemKind::Refusal => (
                "response.refusal.done",
                json!({ "refusal": text }),
                Some("response.content_part.done"),
            ),
            ItemKind::Reasoning { shown: true, .. } => (
                "response.reasoning_summary_text.done",
                json!({ "text": text }),
                Some("response.reasoning_summary_part.done"),
            ),
            ItemKind::Reasoning { shown: false, .. } | ItemKind::Image(_) => return,
            ItemKind::Call {
                tool: ToolKind::Search,
                ..
            } => return,
            ItemKind::Call {
                tool: ToolKind::Custom,
                ..
            } => (
                "response.custom_tool_call_input.done",
                json!({ "input": text }),
                None,
            ),
            ItemKind::Call { name, .. } => (
                "response.function_call_arguments.done",
                json!({ "name": name, "arguments": text }),
                None,
            ),
        };
        self.write(done, merged(place.clone(), fields), out);
        if let Some(event) = part_done {
            self.write(event, merged(place, json!({ "part": part })), out);
        }
    }

    /// `done` is the final form of the item.
    pub(super) fn item_done(&mut self, item: &Item, done: &Value, at: usize, out: &mut BytesMut) {
        if !self.streamed {
            return;
        }
        self.part_done(item, at, out);
        let data = json!({ "output_index": at, "item": done });
        self.write("response.output_item.done", data, out);
    }

    pub(super) fn annotation(
        &mut self,
        item: &Item,
        at: usize,
        annotation: &Value,
        out: &mut BytesMut,
    ) {
        if !self.streamed {
            return;
        }
        let fields = json!({
            "annotation_index": item.annotations.len(),
            "annotation": annotation,
        });
        let data = merged(place(item, at), fields);
        self.write("response.output_text.annotation.added", data, out);
    }
}

pub(super) fn write_in_progress(number: u64, response: &Value, out: &mut BytesMut) {
    let name = "response.in_progress";
    let event = json!({ "type": name, "sequence_number": number, "response": response });
    write_event(name, &event, out);
}

impl Delta {
    fn new(name: &'static str, item: &Item, at: usize) -> Self {
        let place = place(item, at).to_string();
        Self {
            key: Some((name, at, item.parts.len())),
            before_number: format!(
                "event: {name}\ndata: {{\"type\":\"{name}\",\"sequence_number\":"
            ),
            before_text: format!(r#",{},"delta":"#, place.trim_matches(['{', '}'])),
            after_text: match item.kind {
                ItemKind::Text => b",\"logprobs\":[]}\n\n",
                _ => b"}\n\n",
            },
        }
    }
}

/// The position of the item, or its part, in the response.
fn place(item: &Item, at: usize) -> Value {
    let mut place = json!({ "item_id": item.id, "output_index": at });
    match item.kind {
        ItemKind::Text | ItemKind::Refusal => place["content_index"] = json!(item.parts.len()),
        ItemKind::Reasoning { .. } => place["summary_index"] = json!(0),
        ItemKind::Call { .. } | ItemKind::Image(_) => {}
    }
    place
}

fn merged(mut object: Value, more: Value) -> Value {
    if let (Some(object), Value::Object(more)) = (object.as_object_mut(), more) {
        object.extend(more);
    }
    object
}
