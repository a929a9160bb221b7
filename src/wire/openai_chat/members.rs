//! Members of chunks that no event expresses, for clients of the same protocol.

use std::collections::HashMap;

use serde_json::value::RawValue;

use super::member_reader::{CallMembers, ChoiceMembers, ChunkMembers, one_line};
use crate::model::{Event, MemberPlace, Sink, is_empty};
use crate::wire::json::{Object, list};
use crate::wire::parse::parse;

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
        let chunk: ChunkMembers<'_> = parse(json).unwrap_or_default();
        let unknown = chunk.unknown;
        if unknown.len() > MAX_REPEATED {
            self.hold(0, MemberPlace::AnswerPiece, unknown);
        } else if unknown != self.answer {
            self.answer.clone_from(&unknown);
            self.hold(0, MemberPlace::Answer, unknown);
        }
        if let Some(usage) = chunk.usage
            && usage.get().starts_with('{')
        {
            self.usage = Some(one_line(usage.get()).into_owned());
        }
        for choice in chunk.choices.into_iter().flat_map(|list| list.0) {
            self.read_choice(choice, &answer_of);
        }
    }

    fn read_choice(&mut self, choice: ChoiceMembers<'_>, answer_of: &impl Fn(Option<i64>) -> u32) {
        let index = answer_of(choice.index.and_then(|index| index.0));
        if index >= MAX_CHOICES {
            return;
        }
        let unknown = choice.unknown;
        // Lists, such as the ids of tokens, are pieces as the text is.
        if unknown.contains('[') || unknown.len() > MAX_REPEATED {
            self.hold(index, MemberPlace::ChoicePiece, unknown);
        } else if self.choices.get(&index).map_or("", String::as_str) != unknown {
            self.choices.insert(index, unknown.clone());
            self.hold(index, MemberPlace::Choice, unknown);
        }
        let delta = choice.delta.or(choice.message);
        let Some(Object(Some(delta))) = delta else {
            return;
        };
        if let Some(calls) = delta.calls {
            self.read_calls(calls);
        }
        if !delta.unknown.is_empty() {
            self.hold(index, MemberPlace::Message, delta.unknown);
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
    fn read_calls(&mut self, calls: &RawValue) {
        for Object(call) in list::<Object<CallMembers<'_>>>(calls) {
            let Some(CallMembers {
                id: Some(id),
                unknown,
            }) = call
            else {
                continue;
            };
            let is_short = unknown.len() <= MAX_HELD / MAX_CALLS;
            if !unknown.is_empty() && is_short && self.calls.len() < MAX_CALLS {
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
