//! One choice of a chunk to events.

use serde_json::{Map, Value};

use super::chunk::{
    Annotation, Choice, Content, ContentPart, Delta, FunctionPiece, ReasoningDetail, Source,
    ToolPiece,
};
use crate::model::{Citation, Error, ErrorCode, Event, FinishReason, Sink, ToolCallDelta};
use crate::wire::json::{Text, list};
use crate::wire::parse::parse;

/// The state of one choice.
#[derive(Default)]
pub(super) struct ChoiceDecoder {
    /// The last finish reason. It is not the end: some servers send an early one, most send usage
    /// behind it.
    finish: Option<FinishReason>,
    refused: bool,
    calls: Vec<Call>,
}

/// A tool call that has begun; its place in the list is its index in the answer.
struct Call {
    index: Option<i64>,
    id: String,
}

impl ChoiceDecoder {
    /// `whole` is whether the choice is of one JSON document: `message` holds it, whatever `delta`
    /// says.
    pub(super) fn choice(
        &mut self,
        choice: &Choice<'_>,
        whole: bool,
        sink: &mut dyn Sink,
    ) -> Result<(), Error> {
        let delta = if whole {
            choice.message.as_deref().or(choice.delta.as_ref())
        } else {
            choice.delta.as_ref().or(choice.message.as_deref())
        };
        if let Some(logprobs) = choice.logprobs {
            emit_logprobs(logprobs.get(), sink);
        }
        if let Some(delta) = delta {
            self.delta(delta, sink);
        }
        match text(&choice.finish_reason) {
            "" => Ok(()),
            reason => {
                self.finish = Some(finish(reason)?);
                Ok(())
            }
        }
    }

    /// Why it ended, as far as was said. A refusal's words come as text; that it was one is told
    /// here.
    pub(super) fn finish(&self) -> Option<FinishReason> {
        match self.finish {
            Some(FinishReason::Stop) if self.refused => Some(FinishReason::Refusal),
            finish => finish,
        }
    }

    fn delta(&mut self, delta: &Delta<'_>, sink: &mut dyn Sink) {
        reasoning(delta, sink);
        match &delta.content {
            Some(Content::Text(text)) => sink.event(Event::Text(text.as_str())),
            Some(Content::Parts(parts)) => content_parts(parts, sink),
            None => {}
        }
        let refusal = text(&delta.refusal);
        if !refusal.is_empty() {
            self.refused = true;
            sink.event(Event::Refusal(refusal));
        }
        let pieces = delta.tool_calls.as_deref().unwrap_or_default();
        for (place, piece) in pieces.iter().enumerate() {
            self.tool_piece(piece, &pieces[..place], sink);
        }
        if let Some(function) = delta.function_call.as_deref() {
            self.function_call(function, sink);
        }
        if let Some(annotations) = delta.annotations {
            for annotation in list::<Annotation<'_>>(annotations) {
                cite(
                    annotation.url_citation.as_ref().unwrap_or(&annotation.flat),
                    sink,
                );
            }
        }
    }

    /// One piece of a call. Most vendors give index and id on the first piece and the index alone
    /// after it; but the index may be missing, repeated within a chunk, or always 0 with other ids,
    /// and the id may be missing, null, empty, or on every piece.
    fn tool_piece(&mut self, piece: &ToolPiece<'_>, before: &[ToolPiece<'_>], sink: &mut dyn Sink) {
        let id = text(&piece.id);
        let function = piece.function.as_ref();
        let name = function.map_or("", |function| text(&function.name));
        let arguments = function.and_then(|function| function.arguments.as_ref());
        let arguments = arguments.map_or("", |arguments| arguments.as_str());
        let known = self
            .calls
            .iter()
            .rposition(|call| piece.index.is_none() || call.index == piece.index);
        let repeated = !name.is_empty() && before.iter().any(|other| other.index == piece.index);
        let begins = match known {
            None => true,
            Some(at) => (!id.is_empty() && self.calls[at].id != id) || (id.is_empty() && repeated),
        };
        if begins {
            self.begin(piece.index, id, name, arguments, sink);
        } else if let Some(at) = known {
            call_event(at, None, None, arguments, sink);
        }
    }

    fn function_call(&mut self, function: &FunctionPiece<'_>, sink: &mut dyn Sink) {
        let name = text(&function.name);
        let arguments = function.arguments.as_ref();
        let arguments = arguments.map_or("", |arguments| arguments.as_str());
        match self.calls.len().checked_sub(1) {
            Some(last) if name.is_empty() => call_event(last, None, None, arguments, sink),
            None if name.is_empty() => {}
            _ => self.begin(None, "", name, arguments, sink),
        }
    }

    fn begin(
        &mut self,
        index: Option<i64>,
        id: &str,
        name: &str,
        arguments: &str,
        sink: &mut dyn Sink,
    ) {
        let at = self.calls.len();
        let named = Some(id).filter(|id| !id.is_empty());
        call_event(at, named, Some(name), arguments, sink);
        let id = id.to_owned();
        self.calls.push(Call { index, id });
    }
}

pub(super) fn text<'a>(field: &'a Option<Text<'_>>) -> &'a str {
    field.as_ref().map_or("", Text::as_str)
}

pub(super) fn cite(source: &Source<'_>, sink: &mut dyn Sink) {
    fn non_empty<'a>(field: &'a Option<Text<'_>>) -> Option<&'a str> {
        Some(text(field)).filter(|text| !text.is_empty())
    }
    let citation = Citation {
        url: non_empty(&source.url),
        title: non_empty(&source.title),
        text: non_empty(&source.content),
        start: source.start_index.and_then(|count| count.0),
        end: source.end_index.and_then(|count| count.0),
    };
    if citation.url.is_some() || citation.title.is_some() || citation.text.is_some() {
        sink.event(Event::Citation(citation));
    }
}

/// The reasoning of one delta. vLLM sends it in two fields at once, OpenRouter beside details that
/// say the same; Snowflake sends the details alone.
fn reasoning(delta: &Delta<'_>, sink: &mut dyn Sink) {
    let content = text(&delta.reasoning_content);
    let reasoning = if content.is_empty() {
        text(&delta.reasoning)
    } else {
        content
    };
    if !reasoning.is_empty() {
        return sink.event(Event::Reasoning(reasoning));
    }
    if let Some(details) = delta.reasoning_details {
        for detail in list::<ReasoningDetail<'_>>(details) {
            let words = text(&detail.text);
            let words = if words.is_empty() {
                text(&detail.summary)
            } else {
                words
            };
            sink.event(Event::Reasoning(words));
        }
    }
}

/// Those of no token, as come with the role, say nothing.
fn emit_logprobs(json: &str, sink: &mut dyn Sink) {
    let told: Map<String, Value> = parse(json).unwrap_or_default();
    let says = |value: &Value| !value.is_null() && value.as_array().is_none_or(|l| !l.is_empty());
    if !told.values().any(says) {
        return;
    }
    // A frame of several lines has line ends between the tokens of its JSON, never in them.
    if json.contains(['\n', '\r']) {
        sink.event(Event::Logprobs(&json.replace(['\n', '\r'], " ")));
    } else {
        sink.event(Event::Logprobs(json));
    }
}

fn content_parts(parts: &[ContentPart<'_>], sink: &mut dyn Sink) {
    for part in parts {
        for thought in part.thinking.iter().flatten() {
            sink.event(Event::Reasoning(text(&thought.text)));
        }
        sink.event(Event::Text(text(&part.text)));
    }
}

fn call_event(
    at: usize,
    id: Option<&str>,
    name: Option<&str>,
    arguments: &str,
    sink: &mut dyn Sink,
) {
    sink.event(Event::ToolCall(ToolCallDelta {
        index: u32::try_from(at).unwrap_or(u32::MAX),
        id,
        name,
        arguments,
    }));
}

/// # Errors
/// For the reasons that say that the answer broke off.
fn finish(reason: &str) -> Result<FinishReason, Error> {
    Ok(match reason {
        "stop" => FinishReason::Stop,
        "length" => FinishReason::Length,
        "tool_calls" | "function_call" => FinishReason::ToolCalls,
        "content_filter" => FinishReason::ContentFilter,
        // vLLM when the engine dropped the request; OpenRouter when a provider failed; DeepSeek
        // when it ran out of machines.
        "abort" | "error" | "insufficient_system_resource" => {
            return Err(Error::new(
                ErrorCode::UpstreamError,
                format!("the upstream broke its answer off: {reason}"),
            ));
        }
        _ => FinishReason::Other,
    })
}
