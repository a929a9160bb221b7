//! The stream's events, numbered.

use bytes::{BufMut, BytesMut};
use serde_json::{Value, json};

use super::item::{Item, What};
use crate::dialect::event_stream::write;
use crate::dialect::json::{put_number, put_text};

/// Writes events, unless the answer is given whole.
pub(super) struct Teller {
    pub(super) streamed: bool,
    number: u64,
    delta: Delta,
}

/// The event that comes with every token: all of it but its number and its text, which stays as it
/// is until a part ends.
#[derive(Default)]
struct Delta {
    /// The event, the item's place in the output and the part's in the item.
    of: Option<(&'static str, usize, usize)>,
    before_number: String,
    before_text: String,
    behind: &'static [u8],
}

impl Teller {
    pub(super) fn new(streamed: bool) -> Self {
        Self {
            streamed,
            number: 0,
            delta: Delta::default(),
        }
    }

    /// `data` is an object, to which the event's name and number are added.
    pub(super) fn tell(&mut self, name: &'static str, data: Value, out: &mut BytesMut) {
        if !self.streamed {
            return;
        }
        let mut event = json!({ "type": name, "sequence_number": self.number });
        self.number += 1;
        if let (Some(event), Value::Object(data)) = (event.as_object_mut(), data) {
            event.extend(data);
        }
        write(name, &event, out);
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
        let of = Some((name, at, item.parts.len()));
        if self.delta.of != of {
            self.delta = Delta::new(name, item, at);
        }
        out.put_slice(self.delta.before_number.as_bytes());
        put_number(self.number, out);
        out.put_slice(self.delta.before_text.as_bytes());
        put_text(delta, out);
        out.put_slice(self.delta.behind);
        self.number += 1;
    }

    pub(super) fn item_added(&mut self, item: &Item, at: usize, out: &mut BytesMut) {
        if !self.streamed {
            return;
        }
        let data = json!({ "output_index": at, "item": item.begun() });
        self.tell("response.output_item.added", data, out);
        self.part_added(item, at, out);
    }

    /// The part of a message, or the summary of a reasoning, where the item has one.
    pub(super) fn part_added(&mut self, item: &Item, at: usize, out: &mut BytesMut) {
        let place = place(item, at);
        match item.what {
            _ if !self.streamed => {}
            What::Text | What::Refusal => {
                let data = with(place, json!({ "part": item.part() }));
                self.tell("response.content_part.added", data, out);
            }
            What::Reasoning { shown: true, .. } => {
                let data = with(place, json!({ "part": item.part() }));
                self.tell("response.reasoning_summary_part.added", data, out);
            }
            What::Reasoning { shown: false, .. } | What::Call { .. } => {}
        }
    }

    pub(super) fn part_done(&mut self, item: &Item, at: usize, out: &mut BytesMut) {
        if !self.streamed {
            return;
        }
        let (text, part) = (&item.text, item.part());
        let place = place(item, at);
        let (done, said, part_done) = match &item.what {
            What::Text => (
                "response.output_text.done",
                json!({ "text": text, "logprobs": [] }),
                Some("response.content_part.done"),
            ),
            What::Refusal => (
                "response.refusal.done",
                json!({ "refusal": text }),
                Some("response.content_part.done"),
            ),
            What::Reasoning { shown: true, .. } => (
                "response.reasoning_summary_text.done",
                json!({ "text": text }),
                Some("response.reasoning_summary_part.done"),
            ),
            What::Reasoning { shown: false, .. } => return,
            What::Call { custom: true, .. } => (
                "response.custom_tool_call_input.done",
                json!({ "input": text }),
                None,
            ),
            What::Call { name, .. } => (
                "response.function_call_arguments.done",
                json!({ "name": name, "arguments": text }),
                None,
            ),
        };
        self.tell(done, with(place.clone(), said), out);
        if let Some(event) = part_done {
            self.tell(event, with(place, json!({ "part": part })), out);
        }
    }

    /// `done` is the item as it ends.
    pub(super) fn item_done(&mut self, item: &Item, done: &Value, at: usize, out: &mut BytesMut) {
        if !self.streamed {
            return;
        }
        self.part_done(item, at, out);
        let data = json!({ "output_index": at, "item": done });
        self.tell("response.output_item.done", data, out);
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
        let said = json!({
            "annotation_index": item.annotations.len(),
            "annotation": annotation,
        });
        let data = with(place(item, at), said);
        self.tell("response.output_text.annotation.added", data, out);
    }
}

impl Delta {
    fn new(name: &'static str, item: &Item, at: usize) -> Self {
        let place = place(item, at).to_string();
        Self {
            of: Some((name, at, item.parts.len())),
            before_number: format!(
                "event: {name}\ndata: {{\"type\":\"{name}\",\"sequence_number\":"
            ),
            before_text: format!(r#",{},"delta":"#, place.trim_matches(['{', '}'])),
            behind: match item.what {
                What::Text => b",\"logprobs\":[]}\n\n",
                _ => b"}\n\n",
            },
        }
    }
}

/// Where in the response the item, or its part, is.
fn place(item: &Item, at: usize) -> Value {
    let mut place = json!({ "item_id": item.id, "output_index": at });
    match item.what {
        What::Text | What::Refusal => place["content_index"] = json!(item.parts.len()),
        What::Reasoning { .. } => place["summary_index"] = json!(0),
        What::Call { .. } => {}
    }
    place
}

fn with(mut object: Value, more: Value) -> Value {
    if let (Some(object), Value::Object(more)) = (object.as_object_mut(), more) {
        object.extend(more);
    }
    object
}
