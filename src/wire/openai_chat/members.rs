//! Members of chunks that no event expresses, for clients of the same protocol.

use std::borrow::Cow;
use std::collections::HashMap;

use serde_json::Value;
use serde_json::value::RawValue;

use crate::model::{Event, MemberPlace, Sink, is_empty};
use crate::wire::json::{Index, Members, Text, list};
use crate::wire::parse::parse;

/// Members that the decoder reads or the gateway writes itself.
const KNOWN_IN_CHUNK: &[&str] = &[
    "choices",
    "created",
    "error",
    "id",
    "model",
    "obfuscation",
    "object",
    "system_fingerprint",
    "usage",
];
const KNOWN_IN_CHOICE: &[&str] = &[
    "delta",
    "finish_reason",
    "index",
    "logprobs",
    "message",
    "messages",
    "usage",
];
const KNOWN_IN_DELTA: &[&str] = &[
    "annotations",
    "content",
    "extra_content",
    "function_call",
    "images",
    "provider_specific_fields",
    "reasoning",
    "reasoning_content",
    "reasoning_details",
    "reasoning_opaque",
    "refusal",
    "role",
    "thinking_blocks",
    "thought_signature",
    "tool_calls",
];

const KNOWN_IN_CALL: &[&str] = &[
    "extra_content",
    "function",
    "id",
    "index",
    "provider_specific_fields",
    "thought_signature",
    "type",
];

/// How many bytes of members are held back at most, and the overhead of each entry.
const MAX_HELD: usize = 256 * 1024;
const ENTRY: usize = 64;
/// The longest members of a chunk or a choice that stay the same for the next ones, in bytes. The
/// encoder repeats them, and may write many chunks for one of the vendor.
const MAX_REPEATED: usize = 1024;
/// How many choices may have members; further ones are not decoded.
const MAX_CHOICES: u32 = 128;
/// How many calls with members may be held back.
const MAX_CALLS: usize = 128;

/// Collects the members of the chunks of one answer, and emits each before the content that it came
/// with, or before the next content.
#[derive(Default)]
pub(super) struct MemberCollector {
    /// Those of the last chunk, if they are repeated.
    answer: String,
    /// Those of the last chunk of each choice, if they are repeated.
    choices: HashMap<u32, String>,
    /// The whole of the last usage.
    usage: Option<String>,
    /// The choice, the place, and the members.
    held: Vec<(u32, MemberPlace, String)>,
    held_bytes: usize,
    /// Those of calls that have not begun, by the call's id.
    calls: HashMap<String, String>,
}

impl MemberCollector {
    /// Reads the members of a chunk, or of a whole answer. `answer_of` maps the index of a choice to the
    /// one of its answer.
    pub(super) fn read(&mut self, json: &str, answer_of: impl Fn(Option<i64>) -> u32) {
        let chunk = members(json);
        let unknown = others(&chunk, KNOWN_IN_CHUNK);
        if unknown.len() > MAX_REPEATED {
            self.hold(0, MemberPlace::AnswerPiece, unknown);
        } else if unknown != self.answer {
            self.answer.clone_from(&unknown);
            self.hold(0, MemberPlace::Answer, unknown);
        }
        if let Some(usage) = chunk.get("usage")
            && usage.get().starts_with('{')
        {
            self.usage = Some(one_line(usage.get()).into_owned());
        }
        let choices = chunk.get("choices").map(list::<&RawValue>);
        for choice in choices.unwrap_or_default() {
            let choice = members(choice.get());
            let index = choice
                .get("index")
                .and_then(|raw| parse::<Index>(raw.get()).ok());
            let index = answer_of(index.and_then(|index| index.0));
            if index >= MAX_CHOICES {
                continue;
            }
            let unknown = others(&choice, KNOWN_IN_CHOICE);
            // Lists, such as the ids of tokens, are pieces as the text is.
            if unknown.contains('[') || unknown.len() > MAX_REPEATED {
                self.hold(index, MemberPlace::ChoicePiece, unknown);
            } else if self.choices.get(&index).map_or("", String::as_str) != unknown {
                self.choices.insert(index, unknown.clone());
                self.hold(index, MemberPlace::Choice, unknown);
            }
            let delta = choice.get("delta").or_else(|| choice.get("message"));
            if let Some(delta) = delta {
                self.read_calls(delta);
            }
            let delta = delta.map(|delta| others(&members(delta.get()), KNOWN_IN_DELTA));
            if let Some(delta) = delta.filter(|delta| !delta.is_empty()) {
                self.hold(index, MemberPlace::Message, delta);
            }
        }
    }

    /// Emits the members that are held back.
    pub(super) fn flush(&mut self, sink: &mut dyn Sink) {
        self.held_bytes = 0;
        for (index, place, members) in self.held.drain(..) {
            let json = format!("{{{members}}}");
            let event = Event::NativeMembers { place, json: &json };
            match index {
                0 => sink.event(event),
                index => {
                    let event = &event;
                    sink.event(Event::Alternative { index, event });
                }
            }
        }
    }

    /// Emits the vendor's own counts. Called once, before the finish.
    pub(super) fn emit_usage(&mut self, sink: &mut dyn Sink) {
        if let Some(json) = self.usage.take() {
            let place = MemberPlace::Usage;
            sink.event(Event::NativeMembers { place, json: &json });
        }
    }

    /// Reads the members of the calls that a piece of a message begins.
    fn read_calls(&mut self, delta: &RawValue) {
        let delta = members(delta.get());
        let calls = delta.get("tool_calls").map(list::<&RawValue>);
        for call in calls.unwrap_or_default() {
            let call = members(call.get());
            let unknown = others(&call, KNOWN_IN_CALL);
            let id = call
                .get("id")
                .and_then(|id| parse::<Text<'_>>(id.get()).ok());
            let is_short = unknown.len() <= MAX_HELD / MAX_CALLS;
            let is_held = !unknown.is_empty() && is_short && self.calls.len() < MAX_CALLS;
            if let Some(id) = id.filter(|_| is_held) {
                self.calls.insert(id.as_str().to_owned(), unknown);
            }
        }
    }

    /// The members of the call that `event` begins, as JSON.
    fn take_call(&mut self, event: &Event<'_>) -> Option<(u32, String)> {
        let (Event::ToolCall(call), false) = (event, self.calls.is_empty()) else {
            return None;
        };
        let members = self.calls.remove(call.id?)?;
        Some((call.index, format!("{{{members}}}")))
    }

    fn hold(&mut self, index: u32, place: MemberPlace, members: String) {
        let bytes = self.held_bytes + members.len() + ENTRY;
        // A single piece may be as long as its chunk, as one of audio is.
        if bytes <= MAX_HELD || self.held.is_empty() {
            self.held_bytes = bytes;
            self.held.push((index, place, members));
        }
    }
}

/// Passes events on, and the members that are held back before the first event that is content.
pub(super) struct MemberSink<'a> {
    pub(super) collector: &'a mut MemberCollector,
    pub(super) sink: &'a mut dyn Sink,
}

impl Sink for MemberSink<'_> {
    fn event(&mut self, event: Event<'_>) {
        if !self.collector.held.is_empty()
            && !matches!(event, Event::Identity { .. } | Event::Usage(_))
            && !is_empty(&event)
        {
            self.collector.flush(self.sink);
        }
        let call = self.collector.take_call(&event);
        self.sink.event(event);
        if let Some((index, json)) = call {
            let (place, json) = (MemberPlace::Call(index), json.as_str());
            self.sink.event(Event::NativeMembers { place, json });
        }
    }
}

/// No members for JSON that is not an object.
fn members(json: &str) -> Members<'_> {
    parse(json).unwrap_or_default()
}

/// The members with names that are not known, as JSON on one line, without the braces.
fn others(members: &Members<'_>, known: &[&str]) -> String {
    let mut json = String::new();
    let others = members.0.iter();
    for (name, value) in others.filter(|(name, _)| !known.contains(&&**name)) {
        if !json.is_empty() {
            json.push(',');
        }
        json.push_str(&Value::from(&**name).to_string());
        json.push(':');
        json.push_str(&one_line(value.get()));
    }
    json
}

/// JSON has line ends only between its tokens.
fn one_line(json: &str) -> Cow<'_, str> {
    match json.contains(['\n', '\r']) {
        true => Cow::Owned(json.replace(['\n', '\r'], " ")),
        false => Cow::Borrowed(json),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An upstream that sends members without end and never any content.
    #[test]
    fn members_without_content_are_bounded() {
        let mut collector = MemberCollector::default();
        for n in 0..20_000 {
            let chunk = format!(
                r#"{{"a":{n},"choices":[{{"index":{n},"b":[{n}],"delta":{{"tool_calls":[{{"id":"c{n}","d":1}}]}}}}]}}"#
            );
            collector.read(&chunk, |index| index.unwrap_or(0) as u32);
        }
        assert!(collector.held.len() <= MAX_HELD / ENTRY + 1);
        assert!(collector.calls.len() <= MAX_CALLS);
        assert!(collector.choices.len() <= MAX_CHOICES as usize);
    }
}
