//! Decodes lines of Ollama's chat API.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::framing::Frame;
use crate::model::{Error, Event, FinishReason, Sink, ToolCallDelta, Usage};
use crate::wire::json::{Count, Text, non_empty};
use crate::wire::parse::parse;
use crate::wire::{Decoder, interrupted, unparsable, upstream_error, wrong_protocol};

/// The state of one answer.
#[derive(Debug, Default)]
pub(super) struct ChatDecoder {
    identity_sent: bool,
    /// Whether the last line was JSON of another protocol.
    foreign: bool,
    /// Tool calls seen so far.
    calls: u32,
}

#[derive(Deserialize)]
struct Line<'a> {
    #[serde(borrow)]
    model: Option<Text<'a>>,
    #[serde(borrow)]
    message: Option<Message<'a>>,
    done: Option<bool>,
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
    #[serde(borrow)]
    tool_calls: Option<Vec<Call<'a>>>,
}

#[derive(Deserialize)]
struct Call<'a> {
    #[serde(borrow)]
    id: Option<Text<'a>>,
    #[serde(borrow)]
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
        let line: Line<'_> = parse(frame.data).map_err(|error| unparsable(&error))?;
        if line.error.is_some() {
            return Err(upstream_error(frame.data));
        }
        self.foreign = line.message.is_none() && line.done.is_none();
        if !self.identity_sent
            && let Some(model) = non_empty(&line.model)
        {
            self.identity_sent = true;
            sink.event(Event::Identity {
                id: "",
                model,
                fingerprint: "",
            });
        }
        if let Some(message) = &line.message {
            self.message(message, sink)?;
        }
        if line.done == Some(true) {
            self.done(&line, sink);
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
            .is_ok_and(|line| line.done == Some(true) || line.error.is_some())
    }

    fn end(&mut self, _sink: &mut dyn Sink) -> Result<(), Error> {
        if self.foreign {
            return Err(wrong_protocol());
        }
        Err(interrupted())
    }
}

impl ChatDecoder {
    fn message(&mut self, message: &Message<'_>, sink: &mut dyn Sink) -> Result<(), Error> {
        if let Some(piece) = non_empty(&message.thinking) {
            sink.event(Event::Reasoning(piece));
        }
        if let Some(piece) = non_empty(&message.content) {
            sink.event(Event::Text(piece));
        }
        for call in message.tool_calls.iter().flatten() {
            self.call(call, sink)?;
        }
        Ok(())
    }

    fn call(&mut self, call: &Call<'_>, sink: &mut dyn Sink) -> Result<(), Error> {
        let Some(function) = &call.function else {
            return Ok(());
        };
        sink.event(Event::ToolCall(ToolCallDelta {
            index: self.calls,
            // Ollama before 0.9 sends no ids.
            id: non_empty(&call.id),
            name: Some(non_empty(&function.name).unwrap_or_default()),
            arguments: &arguments(function.arguments)?,
        }));
        self.calls += 1;
        Ok(())
    }

    fn done(&self, line: &Line<'_>, sink: &mut dyn Sink) {
        let usage = Usage {
            input: line.prompt_eval_count.and_then(|count| count.0),
            output: line.eval_count.and_then(|count| count.0),
            ..Usage::default()
        };
        if usage != Usage::default() {
            sink.event(Event::Usage(usage));
        }
        let reason = match non_empty(&line.done_reason) {
            Some("stop") | None if self.calls > 0 => FinishReason::ToolCalls,
            Some("stop") | None => FinishReason::Stop,
            Some("length") => FinishReason::Length,
            Some(_) => FinishReason::Other,
        };
        sink.event(Event::Finish(reason));
    }
}

/// The arguments as one JSON text: an object as it was sent, or the content of a string, which
/// compatible servers send.
fn arguments(raw: Option<&RawValue>) -> Result<Cow<'_, str>, Error> {
    let sent = raw.map_or("", RawValue::get);
    if !sent.starts_with('"') {
        return Ok(Cow::Borrowed(if sent.is_empty() { "{}" } else { sent }));
    }
    let inside: String = parse(sent).map_err(|error| unparsable(&error))?;
    Ok(if inside.is_empty() {
        Cow::Borrowed("{}")
    } else {
        Cow::Owned(inside)
    })
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
    fn complete_calls_make_the_finish_tool_calls() {
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
        assert_eq!(out[3], "Finish(ToolCalls)");
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
