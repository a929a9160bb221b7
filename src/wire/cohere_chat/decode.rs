//! Decodes events of the chat API.

use serde::Deserialize;
use serde_json::value::RawValue;

use super::shape::{
    Answer, AnswerMessage, Call, CallPiece, Chunk, CitationPiece, CitedSpan, ContentPiece, Delta,
    End, PlanPiece, SourceDetails, UsageCounts,
};
use crate::framing::Frame;
use crate::model::{Citation, Error, ErrorCode, Event, FinishReason, Sink, ToolCallDelta, Usage};
use crate::wire::json::{Text, non_empty};
use crate::wire::parse::parse;
use crate::wire::{Decoder, parse_refusal, unparsable};

/// The state of one answer.
#[derive(Debug, Default)]
pub(super) struct ChatDecoder {
    /// Tool calls that have not ended.
    open: Vec<OpenCall>,
    /// Tool calls seen so far.
    calls: u32,
}

/// A tool call whose arguments are not complete.
#[derive(Debug)]
struct OpenCall {
    /// The vendor's index of the call.
    call_index: Option<u64>,
    index: u32,
    has_arguments: bool,
}

impl Decoder for ChatDecoder {
    fn frame(&mut self, frame: &Frame<'_>, sink: &mut dyn Sink) -> Result<(), Error> {
        if matches!(frame.data.trim_ascii(), "" | "null" | "[DONE]") {
            return Ok(());
        }
        let chunk: Chunk<'_> = parse(frame.data).map_err(|error| unparsable(&error))?;
        match chunk.kind_in(frame) {
            "content-delta" | "content-start" => {
                let piece: ContentPiece<'_> = piece(&chunk)?;
                emit_reasoning(&piece.content.thinking, sink);
                emit_text(&piece.content.text, sink);
            }
            "tool-plan-delta" => {
                let piece: PlanPiece<'_> = piece(&chunk)?;
                emit_reasoning(&piece.tool_plan, sink);
            }
            "tool-call-start" => {
                let piece: CallPiece<'_> = piece(&chunk)?;
                self.start(chunk.index, &piece.tool_calls, sink);
            }
            "tool-call-delta" => {
                let piece: CallPiece<'_> = piece(&chunk)?;
                self.arguments(chunk.index, &piece.tool_calls, sink);
            }
            "tool-call-end" => self.close(chunk.index, sink),
            "citation-start" => {
                let piece: CitationPiece<'_> = piece(&chunk)?;
                emit_citations(&piece.citations, sink);
            }
            "message-start" => emit_identity(&chunk.id, sink),
            "message-end" => {
                return self.finish(chunk.delta.map_or("{}", RawValue::get), sink);
            }
            kind => {
                if kind == "error" || chunk.error_text().is_some() {
                    return Err(upstream_error(frame.data));
                }
            }
        }
        Ok(())
    }

    fn document(&mut self, document: &str, sink: &mut dyn Sink) -> Result<(), Error> {
        let answer: Answer<'_> = parse(document).map_err(|error| unparsable(&error))?;
        let message = answer.message.filter(|raw| raw.get().starts_with('{'));
        let Some(message) = message else {
            return Err(match parse_refusal(document.as_bytes()) {
                Some(refusal) => Error::new(ErrorCode::UpstreamError, refusal.message),
                None => Error::new(
                    ErrorCode::BadUpstreamData,
                    "the upstream answered with JSON that is no answer of its protocol",
                ),
            });
        };
        let message: AnswerMessage<'_> =
            parse(message.get()).map_err(|error| unparsable(&error))?;
        emit_identity(&answer.id, sink);
        emit_reasoning(&message.tool_plan, sink);
        for block in message.content.iter().flatten() {
            emit_reasoning(&block.thinking, sink);
            emit_text(&block.text, sink);
        }
        for (call_index, call) in (0..).zip(message.tool_calls.iter().flatten()) {
            self.start(Some(call_index), call, sink);
        }
        for cited in message.citations.iter().flatten() {
            emit_citations(cited, sink);
        }
        self.finish(document, sink)
    }

    fn is_terminal(&self, frame: &Frame<'_>) -> bool {
        parse::<Chunk<'_>>(frame.data).is_ok_and(|chunk| {
            matches!(chunk.kind_in(frame), "message-end" | "error") || chunk.error_text().is_some()
        })
    }
}

impl ChatDecoder {
    fn start(&mut self, call_index: Option<u64>, call: &Call<'_>, sink: &mut dyn Sink) {
        // A call that starts at an index in use ends the call before it.
        self.close(call_index, sink);
        let index = self.calls;
        self.calls += 1;
        let function = call.function.as_ref();
        let arguments = function.and_then(|function| non_empty(&function.arguments));
        sink.event(Event::ToolCall(ToolCallDelta {
            index,
            id: non_empty(&call.id),
            name: Some(
                function
                    .and_then(|function| non_empty(&function.name))
                    .unwrap_or_default(),
            ),
            arguments: arguments.unwrap_or_default(),
        }));
        self.open.push(OpenCall {
            call_index,
            index,
            has_arguments: arguments.is_some(),
        });
    }

    fn arguments(&mut self, call_index: Option<u64>, call: &Call<'_>, sink: &mut dyn Sink) {
        let function = call.function.as_ref();
        let piece = function.and_then(|function| non_empty(&function.arguments));
        if let Some(piece) = piece
            && let Some(open) = self
                .open
                .iter_mut()
                .find(|open| open.call_index == call_index)
        {
            open.has_arguments = true;
            emit_arguments(open.index, piece, sink);
        }
    }

    fn close(&mut self, call_index: Option<u64>, sink: &mut dyn Sink) {
        if let Some(at) = self
            .open
            .iter()
            .position(|open| open.call_index == call_index)
        {
            self.open.remove(at).close(sink);
        }
    }

    /// `end` is the JSON of an [`End`].
    fn finish(&mut self, end: &str, sink: &mut dyn Sink) -> Result<(), Error> {
        let end: End<'_> = parse(end).map_err(|error| unparsable(&error))?;
        for call in self.open.drain(..) {
            call.close(sink);
        }
        emit_usage(end.usage, sink);
        let reason = non_empty(&end.finish_reason).unwrap_or_default();
        let failed = |words| Err(Error::new(ErrorCode::UpstreamError, words));
        sink.event(Event::Finish(match (reason, non_empty(&end.error)) {
            (_, Some(words)) => return failed(words),
            ("COMPLETE" | "STOP_SEQUENCE", _) => FinishReason::Stop,
            ("MAX_TOKENS", _) => FinishReason::Length,
            ("TOOL_CALL", _) => FinishReason::ToolCalls,
            ("ERROR_TOXIC", _) => FinishReason::ContentFilter,
            ("TIMEOUT", _) => return failed("the upstream reported a timeout of the model"),
            (reason, _) if reason.starts_with("ERROR") => {
                return failed("the upstream reported a failure without a reason");
            }
            _ => FinishReason::Other,
        }));
        Ok(())
    }
}

impl OpenCall {
    /// Completes the arguments, so that they are one JSON text even if no delta arrived.
    fn close(self, sink: &mut dyn Sink) {
        if !self.has_arguments {
            emit_arguments(self.index, "{}", sink);
        }
    }
}

/// Parses the delta of an event.
fn piece<'a, T: Deserialize<'a>>(chunk: &Chunk<'a>) -> Result<T, Error> {
    let delta = chunk.delta.map_or("null", RawValue::get);
    parse::<Delta<T>>(delta)
        .map(|delta| delta.message)
        .map_err(|error| unparsable(&error))
}

fn upstream_error(data: &str) -> Error {
    let message = parse_refusal(data.as_bytes())
        .map_or_else(|| "no reason given".to_owned(), |refusal| refusal.message);
    Error::new(ErrorCode::UpstreamError, message)
}

fn emit_identity(id: &Option<Text<'_>>, sink: &mut dyn Sink) {
    if let Some(id) = non_empty(id) {
        sink.event(Event::Identity {
            id,
            model: "",
            fingerprint: "",
        });
    }
}

/// The answer does not depend on the usage, so one that does not parse is ignored.
fn emit_usage(usage: Option<&RawValue>, sink: &mut dyn Sink) {
    let counts = usage.and_then(|raw| parse::<UsageCounts>(raw.get()).ok());
    let usage = counts.map(Usage::from).unwrap_or_default();
    if usage != Usage::default() {
        sink.event(Event::Usage(usage));
    }
}

fn emit_text(piece: &Option<Text<'_>>, sink: &mut dyn Sink) {
    if let Some(piece) = non_empty(piece) {
        sink.event(Event::Text(piece));
    }
}

fn emit_reasoning(piece: &Option<Text<'_>>, sink: &mut dyn Sink) {
    if let Some(piece) = non_empty(piece) {
        sink.event(Event::Reasoning(piece));
    }
}

fn emit_arguments(index: u32, arguments: &str, sink: &mut dyn Sink) {
    sink.event(Event::ToolCall(ToolCallDelta {
        index,
        id: None,
        name: None,
        arguments,
    }));
}

/// Emits one citation per source. Citations within the reasoning are left out, because their positions
/// do not refer to the answer's text.
fn emit_citations(cited: &CitedSpan<'_>, sink: &mut dyn Sink) {
    if !matches!(non_empty(&cited.kind), None | Some("TEXT_CONTENT")) {
        return;
    }
    let mut emit = |details: &SourceDetails<'_>| {
        let citation = Citation {
            url: non_empty(&details.url),
            title: non_empty(&details.title),
            text: non_empty(&cited.text),
            start: cited.start,
            end: cited.end,
        };
        if citation != Citation::default() {
            sink.event(Event::Citation(citation));
        }
    };
    match cited.sources.as_deref() {
        None | Some([]) => emit(&SourceDetails::default()),
        Some(sources) => sources.iter().for_each(|source| emit(&source.details())),
    }
}
