//! Signatures of reasoning in the forms of several vendors. Clients of the same protocol get them in the
//! vendor's own members and return them there. To other clients they go as opaque texts: the same members
//! as JSON, which [`restore`] puts back in their place.

use serde_json::value::RawValue;
use serde_json::{Map, Value, json};

use super::chunk::{Delta, ToolPiece};
use crate::model::{Event, MemberPlace, SignatureMembers, Sink};
use crate::wire::calls::CallAssembler;

/// See [`crate::wire::Wire::signature_members`].
pub(super) const MEMBERS: SignatureMembers = SignatureMembers {
    names: &["data", "reasoning_opaque", "signature", "thought_signature"],
    carriers: &[
        "extra_content",
        "provider_specific_fields",
        "reasoning_details",
        "reasoning_opaque",
        "thinking_blocks",
        "thought_signature",
    ],
};

/// The lists of reasoning, with the member that holds the text of an element.
const LISTS: [(&str, &str); 2] = [
    ("reasoning_details", "text"),
    ("thinking_blocks", "thinking"),
];

/// The members of a message that hold signatures, or lists of reasoning that clients return.
pub(super) struct MessageMembers(Map<String, Value>);

/// Signatures of calls that have not begun.
#[derive(Debug, Default)]
pub(super) struct Signatures {
    waiting: Vec<(usize, Map<String, Value>)>,
}

impl Signatures {
    pub(super) fn of_message(delta: &Delta<'_>) -> Option<MessageMembers> {
        let lists = [
            ("reasoning_details", delta.reasoning_details),
            ("thinking_blocks", delta.thinking_blocks),
        ];
        let others = [
            ("extra_content", delta.extra_content),
            ("provider_specific_fields", delta.provider_specific_fields),
            ("reasoning_opaque", delta.reasoning_opaque),
            ("thought_signature", delta.thought_signature),
        ];
        if lists.iter().chain(&others).all(|(_, raw)| raw.is_none()) {
            return None;
        }
        let mut members = signed(&others);
        for (name, raw) in lists {
            let value = raw.map(|raw| serde_json::from_str(raw.get()));
            if let Some(Ok(Value::Array(list))) = value
                && !list.is_empty()
            {
                members.insert(name.to_owned(), Value::Array(list));
            }
        }
        (!members.is_empty()).then_some(MessageMembers(members))
    }

    /// Emits the signatures of the call at that place, or keeps them until it began.
    pub(super) fn add_call(
        &mut self,
        at: Option<usize>,
        piece: &ToolPiece<'_>,
        calls: &CallAssembler,
        sink: &mut dyn Sink,
    ) {
        let raw = [
            ("extra_content", piece.extra_content),
            ("provider_specific_fields", piece.provider_specific_fields),
            ("thought_signature", piece.thought_signature),
        ];
        let Some(at) = at.filter(|_| raw.iter().any(|(_, raw)| raw.is_some())) else {
            return;
        };
        let members = signed(&raw);
        if !members.is_empty() {
            self.waiting.push((at, members));
            self.flush(calls, sink);
        }
    }

    /// Emits what was kept of calls that have begun.
    pub(super) fn flush(&mut self, calls: &CallAssembler, sink: &mut dyn Sink) {
        self.waiting.retain(|(at, members)| {
            let Some((index, id)) = calls.emitted(*at) else {
                return true;
            };
            let json = Value::Object(members.clone()).to_string();
            sink.event(Event::NativeMembers {
                place: MemberPlace::Call(index),
                json: &json,
            });
            let mut call = members.clone();
            call.insert("index".to_owned(), index.into());
            call.insert("id".to_owned(), id.into());
            let opaque = json!({ "tool_calls": [call] }).to_string();
            sink.event(Event::EncryptedReasoning(&opaque));
            false
        });
    }
}

impl MessageMembers {
    pub(super) fn emit_members(&self, sink: &mut dyn Sink) {
        let json = Value::Object(self.0.clone()).to_string();
        sink.event(Event::NativeMembers {
            place: MemberPlace::Message,
            json: &json,
        });
    }

    /// Emits the signatures as opaque texts.
    pub(super) fn emit_signatures(&self, sink: &mut dyn Sink) {
        for (name, value) in &self.0 {
            let text_member = LISTS.iter().find(|(list, _)| list == name);
            let (Some((_, text_member)), Value::Array(list)) = (text_member, value) else {
                let opaque = json!({ name: value }).to_string();
                sink.event(Event::EncryptedReasoning(&opaque));
                continue;
            };
            for element in list.iter().filter(|element| MEMBERS.are_in(element)) {
                let mut element = element.clone();
                let shown = element.get(text_member).is_some();
                if let Some(members) = element.as_object_mut() {
                    members.remove(*text_member);
                }
                let is_signature = shown || element["signature"].is_string();
                let opaque = json!({ name: [element] }).to_string();
                sink.event(match is_signature {
                    true => Event::Signature(&opaque),
                    false => Event::EncryptedReasoning(&opaque),
                });
            }
        }
    }
}

/// The members that hold signatures.
fn signed(raw: &[(&str, Option<&RawValue>)]) -> Map<String, Value> {
    let mut members = Map::new();
    for (name, raw) in raw {
        let value = raw.and_then(|raw| serde_json::from_str::<Value>(raw.get()).ok());
        if let Some(value) = value {
            let member = json!({ *name: value });
            if MEMBERS.are_in(&member) {
                members.insert((*name).to_owned(), value_of(member, name));
            }
        }
    }
    members
}

fn value_of(mut object: Value, name: &str) -> Value {
    object[name].take()
}

/// Puts the signatures of an opaque text into the message that they came with. `text` is the reasoning
/// that they sign. Other members than those of signatures are left out.
pub(super) fn restore(opaque: &str, text: &str, message: &mut Map<String, Value>) {
    let objects = serde_json::Deserializer::from_str(opaque).into_iter::<Map<String, Value>>();
    let mut text = Some(text).filter(|text| !text.is_empty());
    for (name, value) in objects.map_while(Result::ok).flatten() {
        if name == "tool_calls" {
            for signed in value.as_array().into_iter().flatten() {
                restore_call(signed, message);
            }
            continue;
        }
        if !MEMBERS.carriers.contains(&name.as_str()) {
            continue;
        }
        let text_member = LISTS.iter().find(|(list, _)| *list == name);
        match (text_member, value) {
            (Some((_, text_member)), Value::Array(mut list)) => {
                if let (Some(Value::Object(first)), Some(text)) = (list.first_mut(), text.take()) {
                    first.insert((*text_member).to_owned(), text.into());
                }
                match message.entry(name).or_insert_with(|| json!([])) {
                    Value::Array(earlier) => earlier.append(&mut list),
                    other => *other = list.into(),
                }
            }
            (_, value) => {
                message.insert(name, value);
            }
        }
    }
}

/// Puts the signatures of a call into it: the call of that id, else of that index.
fn restore_call(signed: &Value, message: &mut Map<String, Value>) {
    let Some(Value::Array(calls)) = message.get_mut("tool_calls") else {
        return;
    };
    let by_id = calls.iter().position(|call| call["id"] == signed["id"]);
    let by_index = || signed["index"].as_u64().map(|index| index as usize);
    let call = by_id.or_else(by_index).and_then(|at| calls.get_mut(at));
    let (Some(Value::Object(call)), Some(members)) = (call, signed.as_object()) else {
        return;
    };
    for (name, value) in members {
        if MEMBERS.carriers.contains(&name.as_str()) {
            call.insert(name.clone(), value.clone());
        }
    }
}
