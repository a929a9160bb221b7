//! Puts the parts of an answer one after another, for dialects in which they must not overlap.
//!
//! An upstream may interleave the pieces of several tool calls. A sequence emits the pieces of each
//! call together: events that arrive while a call's arguments are incomplete are held until the
//! arguments are complete or the answer ends. Arguments are complete when their JSON object or list
//! is closed. An event that is not held is not copied. The order within a text, a reasoning and each
//! call stays the same.

use std::collections::VecDeque;

use crate::model::{Citation, Event, ToolCallDelta};

/// The state of one answer. The answer must be bounded, because much of it may be held here.
#[derive(Debug, Default)]
pub(super) struct Sequence {
    /// The call whose pieces are emitted now.
    open: Option<OpenCall>,
    /// The index of the next call to begin.
    next: u32,
    /// Empty unless the arguments of the open call are incomplete.
    held: VecDeque<HeldEvent>,
}

#[derive(Debug)]
struct OpenCall {
    index: u32,
    arguments: Nesting,
}

/// An event, or several of a kind joined.
#[derive(Debug)]
enum HeldEvent {
    Text(String),
    Refusal(String),
    Reasoning(String),
    Signature(String),
    EncryptedReasoning(String),
    ToolCall {
        index: u32,
        id: Option<String>,
        name: Option<String>,
        arguments: String,
    },
    Citation {
        url: Option<String>,
        title: Option<String>,
        text: Option<String>,
        start: Option<u64>,
        end: Option<u64>,
    },
    Image(String),
}

impl Sequence {
    /// Takes the next event and emits the events whose turn it is.
    pub(super) fn push(&mut self, event: &Event<'_>, emit: &mut dyn FnMut(&Event<'_>)) {
        if self.must_hold(event) {
            return self.hold(event);
        }
        self.emit(event, emit);
        while self.open.as_ref().is_none_or(OpenCall::is_whole) {
            let Some(next) = self.held.pop_front() else {
                return;
            };
            self.emit(&next.event(), emit);
        }
    }

    /// Emits everything that is held, at the end of the answer.
    pub(super) fn flush(&mut self, emit: &mut dyn FnMut(&Event<'_>)) {
        while let Some(next) = self.held.pop_front() {
            self.emit(&next.event(), emit);
        }
    }

    fn must_hold(&self, event: &Event<'_>) -> bool {
        match (&self.open, event) {
            (_, event) if is_metadata(event) => false,
            (Some(open), Event::ToolCall(call)) if call.index == open.index => false,
            (open, _) => open.as_ref().is_some_and(|open| !open.is_whole()),
        }
    }

    fn emit(&mut self, event: &Event<'_>, emit: &mut dyn FnMut(&Event<'_>)) {
        match event {
            event if is_metadata(event) => {}
            Event::ToolCall(call) => {
                if self
                    .open
                    .as_ref()
                    .is_none_or(|open| open.index != call.index)
                {
                    // A piece of a call that was complete: the call cannot be opened again.
                    if call.index < self.next {
                        return;
                    }
                    self.next = call.index.saturating_add(1);
                    self.open = Some(OpenCall {
                        index: call.index,
                        arguments: Nesting::default(),
                    });
                }
                if let Some(open) = &mut self.open {
                    open.arguments.scan(call.arguments);
                }
            }
            _ => self.open = None,
        }
        emit(event);
    }

    fn hold(&mut self, event: &Event<'_>) {
        let owned = |words: Option<&str>| words.map(str::to_owned);
        let new = match (event, self.held.back_mut()) {
            (Event::Text(more), Some(HeldEvent::Text(text)))
            | (Event::Refusal(more), Some(HeldEvent::Refusal(text)))
            | (Event::Reasoning(more), Some(HeldEvent::Reasoning(text))) => {
                return text.push_str(more);
            }
            (Event::ToolCall(call), _) => return self.hold_call(call),
            (Event::Text(text), _) => HeldEvent::Text((*text).to_owned()),
            (Event::Refusal(text), _) => HeldEvent::Refusal((*text).to_owned()),
            (Event::Reasoning(text), _) => HeldEvent::Reasoning((*text).to_owned()),
            (Event::Signature(text), _) => HeldEvent::Signature((*text).to_owned()),
            (Event::EncryptedReasoning(text), _) => {
                HeldEvent::EncryptedReasoning((*text).to_owned())
            }
            (Event::Image(url), _) => HeldEvent::Image((*url).to_owned()),
            (Event::Citation(citation), _) => HeldEvent::Citation {
                url: owned(citation.url),
                title: owned(citation.title),
                text: owned(citation.text),
                start: citation.start,
                end: citation.end,
            },
            (
                Event::Identity { .. }
                | Event::Logprobs(_)
                | Event::NativeMembers { .. }
                | Event::Alternative { .. }
                | Event::Usage(_)
                | Event::Finish(_),
                _,
            ) => return,
        };
        self.held.push_back(new);
    }

    fn hold_call(&mut self, call: &ToolCallDelta<'_>) {
        let begun = self.held.iter_mut().rev().find_map(|held| match held {
            HeldEvent::ToolCall {
                index, arguments, ..
            } if *index == call.index => Some(arguments),
            _ => None,
        });
        match begun {
            Some(arguments) => arguments.push_str(call.arguments),
            None => self.held.push_back(HeldEvent::ToolCall {
                index: call.index,
                id: call.id.map(str::to_owned),
                name: call.name.map(str::to_owned),
                arguments: call.arguments.to_owned(),
            }),
        }
    }
}

/// Whether an event is not a part of the answer, so that it cannot overlap one.
fn is_metadata(event: &Event<'_>) -> bool {
    matches!(
        event,
        Event::Identity { .. }
            | Event::Logprobs(_)
            | Event::NativeMembers { .. }
            | Event::Alternative { .. }
            | Event::Usage(_)
            | Event::Finish(_)
    )
}

impl OpenCall {
    fn is_whole(&self) -> bool {
        self.arguments.is_closed()
    }
}

impl HeldEvent {
    fn event(&self) -> Event<'_> {
        match self {
            Self::Image(url) => Event::Image(url),
            Self::Text(text) => Event::Text(text),
            Self::Refusal(text) => Event::Refusal(text),
            Self::Reasoning(text) => Event::Reasoning(text),
            Self::Signature(text) => Event::Signature(text),
            Self::EncryptedReasoning(text) => Event::EncryptedReasoning(text),
            Self::ToolCall {
                index,
                id,
                name,
                arguments,
            } => Event::ToolCall(ToolCallDelta {
                index: *index,
                id: id.as_deref(),
                name: name.as_deref(),
                arguments,
            }),
            Self::Citation {
                url,
                title,
                text,
                start,
                end,
            } => Event::Citation(Citation {
                url: url.as_deref(),
                title: title.as_deref(),
                text: text.as_deref(),
                start: *start,
                end: *end,
            }),
        }
    }
}

/// The nesting of objects and lists at the end of a JSON text.
#[derive(Debug, Default)]
struct Nesting {
    depth: u32,
    begun: bool,
    in_string: bool,
    escaped: bool,
}

impl Nesting {
    fn scan(&mut self, text: &str) {
        for byte in text.bytes() {
            match byte {
                _ if self.escaped => self.escaped = false,
                b'\\' if self.in_string => self.escaped = true,
                b'"' => self.in_string = !self.in_string,
                _ if self.in_string => {}
                b'{' | b'[' => {
                    self.begun = true;
                    self.depth = self.depth.saturating_add(1);
                }
                b'}' | b']' => self.depth = self.depth.saturating_sub(1),
                _ => {}
            }
        }
    }

    /// Whether the text has an object or a list, and it is closed.
    fn is_closed(&self) -> bool {
        self.begun && self.depth == 0 && !self.in_string
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The emitted events, one line each.
    fn sequenced(events: &[Event<'_>]) -> Vec<String> {
        let mut sequence = Sequence::default();
        let mut lines = Vec::new();
        let mut emit = |event: &Event<'_>| {
            lines.push(match event {
                Event::ToolCall(call) => {
                    format!(
                        "{} {} {}",
                        call.index,
                        call.name.unwrap_or("-"),
                        call.arguments
                    )
                }
                event => format!("{event:?}"),
            });
        };
        for event in events {
            sequence.push(event, &mut emit);
        }
        sequence.flush(&mut emit);
        lines
    }

    fn call<'a>(index: u32, name: Option<&'a str>, arguments: &'a str) -> Event<'a> {
        Event::ToolCall(ToolCallDelta {
            index,
            id: name,
            name,
            arguments,
        })
    }

    #[test]
    fn interleaved_calls_are_put_one_after_another() {
        let lines = sequenced(&[
            call(0, Some("a"), ""),
            call(1, Some("b"), "{"),
            call(0, None, r#"{"x":"}"#),
            Event::Text("Hi"),
            call(1, None, r#""y":1}"#),
            call(2, Some("c"), "{"),
            Event::Text("!"),
            call(0, None, "\"}"),
            Event::Reasoning("hm"),
            call(2, None, "}"),
        ]);
        assert_eq!(
            lines,
            [
                "0 a ",
                r#"0 - {"x":"}"#,
                "0 - \"}",
                r#"1 b {"y":1}"#,
                r#"Text("Hi")"#,
                "2 c {",
                "2 - }",
                r#"Text("!")"#,
                r#"Reasoning("hm")"#,
            ]
        );
    }

    #[test]
    fn events_behind_incomplete_arguments_are_emitted_at_the_end() {
        let lines = sequenced(&[
            call(0, Some("a"), ""),
            Event::Text("one"),
            call(1, Some("b"), "{}"),
            Event::Text("two"),
        ]);
        assert_eq!(
            lines,
            ["0 a ", r#"Text("one")"#, "1 b {}", r#"Text("two")"#]
        );
    }

    #[test]
    fn a_complete_call_holds_nothing() {
        let mut sequence = Sequence::default();
        let mut emitted = 0;
        for event in [
            call(0, Some("a"), "{}"),
            call(1, Some("b"), r#"{"s":"\"{"}"#),
            Event::Text("now"),
        ] {
            sequence.push(&event, &mut |_| emitted += 1);
        }
        assert_eq!(emitted, 3);
    }
}
