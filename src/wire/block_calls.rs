//! Tool calls with an explicit start and end, identified by the vendor's block or call index.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde_json::value::RawValue;

use super::calls::CallAssembler;
use super::json::{Text, non_empty};
use super::parse::parse;
use crate::model::Sink;

/// The tool calls of one answer.
#[derive(Debug, Default)]
pub(super) struct BlockCalls {
    calls: CallAssembler,
    open: BTreeMap<Option<u64>, OpenCall>,
}

/// A call whose arguments are not complete.
#[derive(Debug)]
struct OpenCall {
    at: usize,
    /// The arguments of the start, used if no others follow.
    input: Option<String>,
    has_arguments: bool,
}

impl BlockCalls {
    /// Starts a call. `input` is used if no other arguments follow. Some vendors give every block the
    /// same index, so a start at an index in use ends the call before it.
    pub(super) fn start(
        &mut self,
        block: Option<u64>,
        id: &Option<Text<'_>>,
        name: &Option<Text<'_>>,
        input: Option<&str>,
        sink: &mut dyn Sink,
    ) {
        self.close(block, sink);
        let (id, name) = (non_empty(id), non_empty(name));
        let (id, name) = (id.unwrap_or_default(), name.unwrap_or_default());
        let call = OpenCall {
            at: self.calls.open(id, name, false, sink),
            input: input.map(str::to_owned),
            has_arguments: false,
        };
        self.open.insert(block, call);
    }

    /// Appends to the arguments of an open call. Other blocks are ignored: a vendor's own tools have
    /// input deltas too.
    pub(super) fn append(&mut self, block: Option<u64>, piece: &str, sink: &mut dyn Sink) {
        if let Some(call) = self.open.get_mut(&block) {
            // An empty object is a placeholder until the end.
            call.has_arguments |= !matches!(piece.trim_ascii(), "" | "{}");
            self.calls.append(call.at, piece, sink);
        }
    }

    /// Ends a call, and completes its arguments, so that they are one JSON text.
    pub(super) fn close(&mut self, block: Option<u64>, sink: &mut dyn Sink) {
        if let Some(call) = self.open.remove(&block) {
            self.complete(&call, sink);
        }
    }

    /// Ends all calls.
    pub(super) fn close_all(&mut self, sink: &mut dyn Sink) {
        for call in std::mem::take(&mut self.open).into_values() {
            self.complete(&call, sink);
        }
        self.calls.finish(sink);
    }

    /// Emits a complete call.
    pub(super) fn emit(
        &mut self,
        id: &Option<Text<'_>>,
        name: &Option<Text<'_>>,
        arguments: &str,
        sink: &mut dyn Sink,
    ) {
        let (id, name) = (non_empty(id), non_empty(name));
        let (id, name) = (id.unwrap_or_default(), name.unwrap_or_default());
        self.calls.add_complete(id, name, arguments, sink);
    }

    fn complete(&mut self, call: &OpenCall, sink: &mut dyn Sink) {
        if !call.has_arguments {
            let input = call.input.as_deref().unwrap_or("{}");
            self.calls.append(call.at, input, sink);
        }
        self.calls.close(call.at, sink);
    }
}

/// The arguments as one JSON text: an object as it was sent, or the content of a string, which
/// compatible servers send. `None` if there are none, or only an empty object.
pub(super) fn non_empty_arguments<'a>(sent: Option<&'a RawValue>) -> Option<Cow<'a, str>> {
    let sent = sent?.get();
    let text = if sent.starts_with('"') {
        parse::<Text<'a>>(sent).ok()?.0
    } else {
        Cow::Borrowed(sent)
    };
    let is_empty = match text.trim_ascii() {
        "" | "null" => true,
        object => object
            .strip_prefix('{')
            .and_then(|rest| rest.strip_suffix('}'))
            .is_some_and(|inside| inside.trim_ascii().is_empty()),
    };
    (!is_empty).then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Event;

    fn name(name: &'static str) -> Option<Text<'static>> {
        Some(Text(Cow::Borrowed(name)))
    }

    /// The arguments of the calls after `read`.
    fn arguments(read: impl FnOnce(&mut BlockCalls, &mut dyn Sink)) -> Vec<String> {
        let mut all: Vec<String> = Vec::new();
        let mut sink = |event: Event<'_>| {
            if let Event::ToolCall(call) = event {
                let index = call.index as usize;
                if call.name.is_some() {
                    assert_eq!(index, all.len());
                    all.push(String::new());
                }
                all[index].push_str(call.arguments);
            }
        };
        let mut calls = BlockCalls::default();
        read(&mut calls, &mut sink);
        calls.close_all(&mut sink);
        all
    }

    #[test]
    fn an_empty_object_is_a_placeholder_until_the_end() {
        let read = |pieces: &'static [&'static str]| {
            arguments(|calls, sink| {
                calls.start(Some(1), &None, &name("f"), None, sink);
                for piece in pieces {
                    calls.append(Some(1), piece, sink);
                }
            })
        };
        assert_eq!(read(&[]), ["{}"]);
        assert_eq!(read(&["{}"]), ["{}"]);
        assert_eq!(read(&["{}", "", "{\"a\":", "{}", "}"]), ["{\"a\":{}}"]);
    }

    #[test]
    fn deltas_replace_the_input_of_the_start() {
        let read = |piece: &'static str| {
            arguments(|calls, sink| {
                calls.start(None, &None, &name("f"), Some("{\"a\":1}"), sink);
                calls.append(None, piece, sink);
            })
        };
        assert_eq!(read(""), ["{\"a\":1}"]);
        assert_eq!(read("{}"), ["{\"a\":1}"]);
        assert_eq!(read("{\"b\":2}"), ["{\"b\":2}"]);
    }

    #[test]
    fn a_start_at_an_index_in_use_ends_the_call_before_it() {
        let read = arguments(|calls, sink| {
            calls.start(Some(0), &None, &name("f"), None, sink);
            calls.start(Some(0), &None, &name("g"), None, sink);
            calls.append(Some(0), "[1]", sink);
            calls.append(Some(7), "lost", sink);
        });
        assert_eq!(read, ["{}", "[1]"]);
    }

    #[test]
    fn arguments_are_read_from_objects_and_strings() {
        for (sent, read) in [
            ("null", None),
            ("{ }", None),
            (r#""""#, None),
            (r#"" {} ""#, None),
            (r#"{"a":1}"#, Some(r#"{"a":1}"#)),
            (r#""{\"a\":1}""#, Some(r#"{"a":1}"#)),
            ("[1]", Some("[1]")),
        ] {
            let raw: &RawValue = serde_json::from_str(sent).unwrap();
            assert_eq!(non_empty_arguments(Some(raw)).as_deref(), read, "{sent}");
        }
    }
}
