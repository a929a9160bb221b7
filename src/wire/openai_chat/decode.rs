//! Chunks to events.

use serde_json::{Map, Value};

use super::chunk::{
    Annotation, ChatUsage, Choice, Chunk, Content, ContentPart, Delta, FunctionPiece,
    ReasoningDetail, Source, ToolPiece,
};
use crate::framing::Frame;
use crate::model::{Citation, Error, ErrorCode, Event, FinishReason, Sink, ToolCallDelta, Usage};
use crate::wire::json::{Count, Text, list};
use crate::wire::parse::parse;
use crate::wire::{Decoder, foreign, interrupted, unparsable, upstream_error};

/// The state of one answer.
#[derive(Default)]
pub(super) struct ChatDecoder {
    /// The last finish reason. It is not the end: some servers send an early one, most send usage
    /// behind it.
    finish: Option<FinishReason>,
    identified: bool,
    /// The index of the first choice seen.
    choice: Option<i64>,
    /// The answer is one JSON document: `message` holds it, whatever `delta` says.
    whole: bool,
    refused: bool,
    sourced: bool,
    calls: Vec<Call>,
    usage: Usage,
}

/// A tool call that has begun; its place in the list is its index in the answer.
struct Call {
    index: Option<i64>,
    id: String,
}

impl Decoder for ChatDecoder {
    fn frame(&mut self, frame: &Frame<'_>, sink: &mut dyn Sink) -> Result<(), Error> {
        let data = frame.data.trim_ascii();
        if data == "[DONE]" {
            let finish = self.finish.unwrap_or(FinishReason::Other);
            sink.event(Event::Finish(self.worded(finish)));
            return Ok(());
        }
        if data.is_empty() || data == "null" {
            return Ok(());
        }
        let chunk: Chunk<'_> = parse(data).map_err(|error| unparsable(&error))?;
        self.identify(&chunk, sink);
        self.sources(&chunk, sink);
        let mut broken = None;
        for choice in chunk.choices.iter().flatten() {
            if let Err(error) = self.choice(choice, sink) {
                broken = Some(error);
            }
        }
        let usage = chunk.usage.as_ref();
        let usage = usage.or_else(|| chunk.x_groq.as_ref()?.usage.as_ref());
        if let Some(usage) = usage {
            self.count(usage, sink);
        }
        // Its own words are better than a finish reason that says that it failed.
        match in_band_error(&chunk, frame.name, data).or(broken) {
            Some(error) => Err(error),
            None => Ok(()),
        }
    }

    fn document(&mut self, document: &str, sink: &mut dyn Sink) -> Result<(), Error> {
        self.whole = true;
        self.frame(&Frame::new("", document), sink)?;
        if self.finish.is_none() && self.choice.is_none() {
            return Err(foreign());
        }
        let finish = self.finish.unwrap_or(FinishReason::Other);
        sink.event(Event::Finish(self.worded(finish)));
        Ok(())
    }

    fn is_terminal(&self, frame: &Frame<'_>) -> bool {
        let data = frame.data.trim_ascii();
        if data == "[DONE]" {
            return true;
        }
        let Ok(chunk) = parse::<Chunk<'_>>(data) else {
            return false;
        };
        in_band_error(&chunk, frame.name, data).is_some()
            || chunk.choices.iter().flatten().any(|choice| {
                choice
                    .finish_reason
                    .as_ref()
                    .is_some_and(|reason| !reason.as_str().is_empty())
            })
    }

    /// Several vendors never send `[DONE]`: a finish reason and a clean end are an end too.
    fn end(&mut self, sink: &mut dyn Sink) -> Result<(), Error> {
        let finish = self.finish.ok_or_else(interrupted)?;
        sink.event(Event::Finish(self.worded(finish)));
        Ok(())
    }
}

impl ChatDecoder {
    /// A refusal's words come as text; that it was one is told by the finish reason.
    fn worded(&self, finish: FinishReason) -> FinishReason {
        if self.refused && finish == FinishReason::Stop {
            FinishReason::Refusal
        } else {
            finish
        }
    }

    fn identify(&mut self, chunk: &Chunk<'_>, sink: &mut dyn Sink) {
        let (id, model) = (text(&chunk.id), text(&chunk.model));
        // Azure's first chunk has both empty.
        if !self.identified && (!id.is_empty() || !model.is_empty()) {
            self.identified = true;
            sink.event(Event::Identity { id, model });
        }
    }

    fn choice(&mut self, choice: &Choice<'_>, sink: &mut dyn Sink) -> Result<(), Error> {
        let index = choice.index.unwrap_or(0);
        // An answer whose first choice is 0 is that choice and no other. Foundry Local counts the
        // index up with every token, from wherever it stands.
        if *self.choice.get_or_insert(index) == 0 && index != 0 {
            return Ok(());
        }
        let delta = if self.whole {
            choice.message.as_ref().or(choice.delta.as_ref())
        } else {
            choice.delta.as_ref().or(choice.message.as_ref())
        };
        if let Some(logprobs) = choice.logprobs {
            tell_logprobs(logprobs.get(), sink);
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
        if let Some(function) = &delta.function_call {
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
        let id = if id.is_empty() {
            format!("call_{at}")
        } else {
            id.to_owned()
        };
        call_event(at, Some(&id), Some(name), arguments, sink);
        self.calls.push(Call { index, id });
    }

    fn sources(&mut self, chunk: &Chunk<'_>, sink: &mut dyn Sink) {
        if self.sourced {
            return;
        }
        if let Some(results) = chunk.search_results {
            for source in list::<Source<'_>>(results) {
                self.sourced = true;
                cite(&source, sink);
            }
        }
        if let (false, Some(urls)) = (self.sourced, chunk.citations) {
            for url in list::<Text<'_>>(urls) {
                self.sourced = true;
                let url = Some(url);
                cite(
                    &Source {
                        url,
                        ..Source::default()
                    },
                    sink,
                );
            }
        }
    }

    fn count(&mut self, usage: &ChatUsage, sink: &mut dyn Sink) {
        let before = self.usage;
        self.usage.update(counts(usage));
        if self.usage != before {
            sink.event(Event::Usage(self.usage));
        }
    }
}

fn text<'a>(field: &'a Option<Text<'_>>) -> &'a str {
    field.as_ref().map_or("", Text::as_str)
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
fn tell_logprobs(json: &str, sink: &mut dyn Sink) {
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

fn cite(source: &Source<'_>, sink: &mut dyn Sink) {
    fn said<'a>(field: &'a Option<Text<'_>>) -> Option<&'a str> {
        Some(text(field)).filter(|text| !text.is_empty())
    }
    let citation = Citation {
        url: said(&source.url),
        title: said(&source.title),
        text: said(&source.content),
        start: source.start_index.and_then(|count| count.0),
        end: source.end_index.and_then(|count| count.0),
    };
    if citation.url.is_some() || citation.title.is_some() || citation.text.is_some() {
        sink.event(Event::Citation(citation));
    }
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

fn counts(usage: &ChatUsage) -> Usage {
    fn said(count: Option<Count>) -> Option<u64> {
        count.and_then(|count| count.0)
    }
    let input_details = usage.prompt_tokens_details.as_ref();
    let output_details = usage.completion_tokens_details.as_ref();
    let input = said(usage.prompt_tokens);
    let mut output = said(usage.completion_tokens);
    let reasoning = output_details
        .and_then(|details| said(details.reasoning_tokens))
        .or(said(usage.reasoning_tokens));
    // xAI leaves reasoning out of its completion tokens; its total tells.
    if let (Some(i), Some(o), Some(r), Some(total)) =
        (input, output, reasoning, said(usage.total_tokens))
        && r > 0
        && total == i.saturating_add(o).saturating_add(r)
    {
        output = Some(o.saturating_add(r));
    }
    Usage {
        input,
        output,
        cached_input: input_details
            .and_then(|details| said(details.cached_tokens))
            .or(said(usage.prompt_cache_hit_tokens))
            .or(said(usage.cached_tokens)),
        cache_write: input_details
            .and_then(|details| said(details.cache_write_tokens))
            .or(said(usage.cache_creation_input_tokens)),
        reasoning,
    }
}

/// The error that a frame is or carries: `{"error":…}`, vLLM's `{"object":"error",…}`, or the
/// value of a field or event named `error` (llama.cpp).
fn in_band_error(chunk: &Chunk<'_>, name: &str, data: &str) -> Option<Error> {
    if chunk.error.is_none() && name != "error" && text(&chunk.object) != "error" {
        return None;
    }
    Some(upstream_error(data))
}
