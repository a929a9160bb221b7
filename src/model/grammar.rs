//! The legal order and form of events, kept in one place for the decoders of all wires.

use std::collections::BTreeMap;

use super::json_text::JsonText;
use super::{Error, ErrorCode, Event, FinishReason, Sink, ToolCallDelta};

/// How many tool calls one answer may have.
pub const MAX_TOOL_CALLS: u32 = 1024;

/// Checks the events of one answer on their way to a sink:
///
/// - no empty delta, one finish, nothing after it. A vendor's repetition, such as a second `[DONE]`,
///   ends here;
/// - every tool call has a name and arguments that are one JSON text: `{}` where the model gave none.
///   An answer from which that cannot be made fails, unless it was cut by its length;
/// - the finish is `tool_calls` if the client has calls to answer, and not otherwise, where a vendor
///   only says that the model stopped.
#[derive(Debug, Default)]
pub struct Grammar {
    finished: bool,
    /// By the answer's index among several, and the call's index in it.
    calls: BTreeMap<(u32, u32), CallCheck>,
    /// Looked at after every frame, so it is small.
    violation: Option<Box<Error>>,
}

/// What is known of one tool call.
#[derive(Debug, Default)]
struct CallCheck {
    named: bool,
    arguments: JsonText,
    /// The arguments are free text, as those of a custom tool.
    free_text: bool,
}

impl Grammar {
    /// Whether the upstream's own end was seen.
    pub fn finished(&self) -> bool {
        self.finished
    }

    /// Why the answer cannot be completed, once.
    #[inline]
    pub fn take_violation(&mut self) -> Option<Error> {
        self.violation.take().map(|error| *error)
    }

    /// A view of `sink` that lets only legal events through.
    pub fn check<'a>(&'a mut self, sink: &'a mut dyn Sink) -> Checked<'a> {
        Checked {
            grammar: self,
            sink,
        }
    }

    fn add_call(&mut self, answer: u32, call: &ToolCallDelta<'_>) -> bool {
        if call.index >= MAX_TOOL_CALLS {
            self.violate("the upstream made too many tool calls");
            return false;
        }
        let check = self.calls.entry((answer, call.index)).or_default();
        check.named |= call.name.is_some_and(|name| !name.is_empty());
        check.arguments.push(call.arguments);
        // A client can do nothing with a call that has no name.
        check.named
    }

    fn violate(&mut self, why: &str) {
        if self.violation.is_none() {
            self.violation = Some(Box::new(Error::new(ErrorCode::BadUpstreamData, why)));
        }
    }

    /// The finish as it is passed on; `None` where the answer fails instead.
    fn finish(
        &mut self,
        answer: u32,
        finish: FinishReason,
        emit: &mut dyn FnMut(ToolCallDelta<'_>),
    ) -> Option<FinishReason> {
        let range = (answer, 0)..=(answer, u32::MAX);
        let mut named = 0;
        let mut problem = None;
        for (&(_, index), call) in self.calls.range_mut(range) {
            named += u32::from(call.named);
            if finish == FinishReason::Length || call.free_text && call.named {
                continue;
            }
            if !call.named {
                problem = Some("the upstream made a tool call without a name");
            } else if call.arguments.is_empty() {
                call.arguments.push("{}");
                emit(ToolCallDelta {
                    index,
                    id: None,
                    name: None,
                    arguments: "{}",
                });
            } else if !call.arguments.is_complete() {
                problem = Some("the upstream ended a tool call whose arguments are not JSON");
            }
        }
        if let Some(problem) = problem {
            self.violate(problem);
        }
        if self.violation.is_some() {
            return None;
        }
        Some(match finish {
            FinishReason::Stop if named > 0 => FinishReason::ToolCalls,
            FinishReason::ToolCalls if named == 0 => FinishReason::Stop,
            finish => finish,
        })
    }
}

/// See [`Grammar::check`].
pub struct Checked<'a> {
    grammar: &'a mut Grammar,
    sink: &'a mut dyn Sink,
}

impl Checked<'_> {
    /// See [`Grammar::finished`].
    pub fn finished(&self) -> bool {
        self.grammar.finished
    }

    fn alternative(&mut self, index: u32, event: &Event<'_>) {
        let sink = &mut *self.sink;
        match event {
            Event::ToolCall(call) if !self.grammar.add_call(index, call) => {}
            Event::Finish(finish) => {
                let mut emit = |call: ToolCallDelta<'_>| {
                    sink.event(Event::Alternative {
                        index,
                        event: &Event::ToolCall(call),
                    });
                };
                if let Some(finish) = self.grammar.finish(index, *finish, &mut emit) {
                    sink.event(Event::Alternative {
                        index,
                        event: &Event::Finish(finish),
                    });
                }
            }
            event => sink.event(Event::Alternative { index, event }),
        }
    }
}

impl Sink for Checked<'_> {
    fn event(&mut self, event: Event<'_>) {
        if self.grammar.finished || is_empty(&event) {
            return;
        }
        match event {
            Event::ToolCall(call) if !self.grammar.add_call(0, &call) => {}
            Event::Finish(finish) => {
                let sink = &mut *self.sink;
                let mut emit = |call: ToolCallDelta<'_>| sink.event(Event::ToolCall(call));
                if let Some(finish) = self.grammar.finish(0, finish, &mut emit) {
                    self.grammar.finished = true;
                    self.sink.event(Event::Finish(finish));
                }
            }
            Event::Alternative { index, event } => self.alternative(index, event),
            event => self.sink.event(event),
        }
    }

    fn free_text_call(&mut self, index: u32) {
        self.grammar.calls.entry((0, index)).or_default().free_text = true;
    }
}

/// Whether an event says nothing. Such events are dropped.
pub fn is_empty(event: &Event<'_>) -> bool {
    match event {
        Event::Logprobs(text)
        | Event::Text(text)
        | Event::Refusal(text)
        | Event::Reasoning(text)
        | Event::Signature(text)
        | Event::EncryptedReasoning(text)
        | Event::Image(text)
        | Event::NativeMembers { json: text, .. } => text.is_empty(),
        Event::ToolCall(call) => {
            call.arguments.is_empty() && call.id.is_none() && call.name.is_none()
        }
        Event::Alternative { event, .. } => is_empty(event),
        Event::Identity { .. } | Event::Citation(_) | Event::Usage(_) | Event::Finish(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call<'a>(index: u32, name: Option<&'a str>, arguments: &'a str) -> Event<'a> {
        Event::ToolCall(ToolCallDelta {
            index,
            id: None,
            name,
            arguments,
        })
    }

    fn check(events: &[Event<'_>]) -> (Vec<String>, Option<String>) {
        let mut grammar = Grammar::default();
        let mut out = Vec::new();
        for event in events {
            let mut sink = |event: Event<'_>| out.push(format!("{event:?}"));
            grammar.check(&mut sink).event(*event);
        }
        let violation = grammar.take_violation();
        assert_eq!(grammar.finished(), violation.is_none());
        (out, violation.map(|error| error.to_string()))
    }

    #[test]
    fn a_call_without_arguments_gets_an_empty_object() {
        let finish = Event::Finish(FinishReason::ToolCalls);
        let (out, violation) = check(&[call(0, Some("f"), ""), finish]);
        assert!(out[1].contains(r#"arguments: "{}""#), "{out:?}");
        assert_eq!(out[2], "Finish(ToolCalls)");
        assert_eq!(violation, None);
    }

    #[test]
    fn calls_that_no_client_can_answer_fail_the_answer_unless_it_was_cut() {
        for wrong in [
            call(0, Some("f"), "{\"a\""),
            call(0, Some("f"), "{}{}"),
            call(0, Some(""), "{}"),
            call(MAX_TOOL_CALLS, Some("f"), "{}"),
        ] {
            let (out, violation) = check(&[wrong, Event::Finish(FinishReason::ToolCalls)]);
            assert!(!out.iter().any(|line| line.contains("Finish")), "{out:?}");
            assert!(violation.is_some_and(|why| why.starts_with("bad_upstream_data")));
        }
        let cut = [
            call(0, Some("f"), "{\"a\""),
            Event::Finish(FinishReason::Length),
        ];
        let (out, violation) = check(&cut);
        assert_eq!((out.len(), violation), (2, None));
    }

    #[test]
    fn the_finish_tells_whether_there_are_calls_to_answer() {
        let stop = Event::Finish(FinishReason::Stop);
        assert_eq!(
            check(&[call(0, Some("f"), "{}"), stop]).0[1],
            "Finish(ToolCalls)"
        );
        assert_eq!(
            check(&[Event::Finish(FinishReason::ToolCalls)]).0,
            ["Finish(Stop)"]
        );
        assert_eq!(check(&[stop]).0, ["Finish(Stop)"]);
    }
}
