//! Decodes lines of Ollama's chat API.

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::framing::Frame;
use crate::model::{Error, Event, FinishReason, Sink, Usage, Vendor};
use crate::wire::block_calls::{BlockCalls, non_empty_arguments};
use crate::wire::emit::{emit_identity, emit_reasoning, emit_text};
use crate::wire::failure::{is_error, stated_failure};
use crate::wire::finish::finish_reason;
use crate::wire::json::{Count, ShortList, Text, newest_count, non_empty};
use crate::wire::lenient::{lenient_list, lenient_object};
use crate::wire::parse::parse;
use crate::wire::{Decoder, interrupted, is_blank, unparsable, upstream_error, wrong_protocol};

/// The state of one answer.
#[derive(Debug, Default)]
pub(super) struct ChatDecoder {
    vendor: Vendor,
    identity_sent: bool,
    /// Whether the last line was JSON of another protocol.
    foreign: bool,
    calls: BlockCalls,
    /// Mostly on the last line only.
    input: Option<Count>,
    output: Option<Count>,
}

#[derive(Deserialize)]
struct Line<'a> {
    #[serde(borrow)]
    model: Option<Text<'a>>,
    #[serde(borrow, default, deserialize_with = "lenient_object")]
    message: Option<Message<'a>>,
    #[serde(borrow)]
    done: Option<&'a RawValue>,
    #[serde(borrow)]
    done_reason: Option<Text<'a>>,
    prompt_eval_count: Option<Count>,
    eval_count: Option<Count>,
    #[serde(borrow)]
    error: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Message<'a> {
    #[serde(borrow)]
    content: Option<Text<'a>>,
    #[serde(borrow)]
    thinking: Option<Text<'a>>,
    #[serde(borrow, default, deserialize_with = "lenient_list")]
    tool_calls: Option<ShortList<Call<'a>>>,
}

#[derive(Deserialize)]
struct Call<'a> {
    #[serde(borrow)]
    id: Option<Text<'a>>,
    #[serde(borrow, default, deserialize_with = "lenient_object")]
    function: Option<Function<'a>>,
}

#[derive(Deserialize)]
struct Function<'a> {
    #[serde(borrow)]
    name: Option<Text<'a>>,
    #[serde(borrow)]
    arguments: Option<&'a RawValue>,
}

impl Decoder for ChatDecoder {
    fn frame(&mut self, frame: &Frame<'_>, sink: &mut dyn Sink) -> Result<(), Error> {
        if is_blank(frame.data) {
            return Ok(());
        }
        let line: Line<'_> = parse(frame.data).map_err(|error| unparsable(&error))?;
        if line.error.is_some_and(is_error) {
            return Err(upstream_error(frame.data));
        }
        self.foreign = line.message.is_none() && line.done.is_none();
        if self.foreign
            && let Some(error) = stated_failure(frame.data)
        {
            return Err(error);
        }
        if !self.identity_sent && non_empty(&line.model).is_some() {
            self.identity_sent = true;
            emit_identity(&None, &line.model, sink);
        }
        if let Some(message) = &line.message {
            self.message(message, sink);
        }
        self.input = newest_count(self.input, line.prompt_eval_count);
        self.output = newest_count(self.output, line.eval_count);
        if line.is_done() {
            self.finish(&line, sink)?;
        }
        Ok(())
    }

    fn ignored_keys(&self) -> &'static [&'static str] {
        &["created_at"]
    }

    fn document(&mut self, document: &str, sink: &mut dyn Sink) -> Result<(), Error> {
        let frame = Frame::new("", document);
        self.frame(&frame, sink)?;
        if self.is_terminal(&frame) {
            Ok(())
        } else {
            self.end(sink)
        }
    }

    fn is_terminal(&self, frame: &Frame<'_>) -> bool {
        parse::<Line<'_>>(frame.data)
            .is_ok_and(|line| line.is_done() || line.error.is_some_and(is_error))
    }

    fn end(&mut self, _sink: &mut dyn Sink) -> Result<(), Error> {
        if self.foreign {
            return Err(wrong_protocol());
        }
        Err(interrupted())
    }
}

impl Line<'_> {
    fn is_done(&self) -> bool {
        self.done
            .is_some_and(|done| matches!(done.get(), "true" | "\"true\""))
    }
}

impl ChatDecoder {
    pub(super) fn new(vendor: &Vendor) -> Self {
        Self {
            vendor: vendor.clone(),
            ..Self::default()
        }
    }

    fn message(&mut self, message: &Message<'_>, sink: &mut dyn Sink) {
        emit_reasoning(&message.thinking, sink);
        emit_text(&message.content, sink);
        for call in message.tool_calls.iter().flat_map(ShortList::iter) {
            // Ollama before 0.9 sends no ids.
            if let Some(function) = &call.function {
                let arguments = non_empty_arguments(function.arguments);
                let arguments = arguments.as_deref().unwrap_or("{}");
                self.calls.emit(&call.id, &function.name, arguments, sink);
            }
        }
    }

    fn finish(&mut self, line: &Line<'_>, sink: &mut dyn Sink) -> Result<(), Error> {
        let usage = Usage {
            input: self.input.and_then(|count| count.0),
            output: self.output.and_then(|count| count.0),
            ..Usage::default()
        };
        if usage != Usage::default() {
            sink.event(Event::Usage(usage));
        }
        self.calls.close_all(sink);
        // Ollama before 0.1.38 gives no reason.
        let word = non_empty(&line.done_reason).unwrap_or("stop");
        let reason = finish_reason(word, &self.vendor)?;
        sink.event(Event::Finish(reason.unwrap_or(FinishReason::Other)));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::ErrorCode;

    fn read(lines: &[&str]) -> Vec<String> {
        let mut decoder = ChatDecoder::default();
        let mut out = Vec::new();
        for data in lines {
            let frame = Frame::new("", data);
            let outcome = decoder.frame(&frame, &mut |event: Event<'_>| {
                out.push(format!("{event:?}"))
            });
            if let Err(error) = outcome {
                out.push(error.to_string());
            }
        }
        out
    }

    #[test]
    fn complete_calls_are_emitted_with_their_arguments() {
        let out = read(&[
            r#"{"message":{"tool_calls":[{"function":{"name":"f","arguments":{"b":1, "a":2}}},{"id":"x","function":{"name":"g"}}]},"done":false}"#,
            r#"{"message":{"content":""},"done":true,"done_reason":"stop","eval_count":3}"#,
        ]);
        assert!(
            out[0].contains(
                r#"index: 0, id: None, name: Some("f"), arguments: "{\"b\":1, \"a\":2}""#
            ),
            "{}",
            out[0]
        );
        assert!(
            out[1].contains(r#"index: 1, id: Some("x"), name: Some("g"), arguments: "{}""#),
            "{}",
            out[1]
        );
        assert!(
            out[2].contains("input: None, output: Some(3)"),
            "{}",
            out[2]
        );
        assert_eq!(out[3], "Finish(Stop)");
    }

    #[test]
    fn every_done_reason_is_mapped() {
        let finish = |line| read(&[line]).pop().unwrap_or_default();
        assert_eq!(finish(r#"{"done":true}"#), "Finish(Stop)");
        assert_eq!(
            finish(r#"{"done":true,"done_reason":"length"}"#),
            "Finish(Length)"
        );
        assert_eq!(
            finish(r#"{"done":true,"done_reason":"load"}"#),
            "Finish(Other)"
        );
        assert_eq!(
            finish(r#"{"error":" no such model "}"#),
            "upstream_error: no such model"
        );
        assert_eq!(
            finish(r#"{"error":{"message":"busy"}}"#),
            "upstream_error: busy"
        );
    }

    #[test]
    fn arguments_may_be_a_text_and_the_last_reason_counts() {
        let call = r#"{"message":{"tool_calls":[{"function":{"name":"f","arguments":"{\"x\":1}"}}]},"done":false,"done_reason":"tool_calls"}"#;
        let end = r#"{"done":true,"done_reason":"tool_calls"}"#;
        let out = read(&[call, end]);
        assert!(out[0].contains(r#"arguments: "{\"x\":1}""#), "{}", out[0]);
        assert_eq!(out[1..], ["Finish(ToolCalls)"]);
    }

    #[test]
    fn json_of_another_protocol_is_bad_upstream_data() {
        let mut decoder = ChatDecoder::default();
        let frame = Frame::new("", r#"{"id":"x","choices":[]}"#);
        assert!(decoder.frame(&frame, &mut |_: Event<'_>| {}).is_ok());
        let code = decoder
            .end(&mut |_: Event<'_>| {})
            .map_err(|error| error.code());
        assert_eq!(code, Err(ErrorCode::BadUpstreamData));
    }
}
