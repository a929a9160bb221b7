//! Decodes events of the chat API.

use serde::Deserialize;
use serde_json::value::RawValue;

use super::shape::{
    Answer, AnswerMessage, Call, CallPiece, Chunk, CitationPiece, CitedSpan, ContentPiece, Delta,
    End, PlanPiece, SourceDetails, UsageCounts,
};
use crate::framing::Frame;
use crate::model::{Citation, Error, ErrorCode, Event, FinishReason, Sink, Usage, Vendor};
use crate::wire::block_calls::BlockCalls;
use crate::wire::emit::{CitationBudget, emit_identity, emit_reasoning, emit_text};
use crate::wire::failure::stated_failure;
use crate::wire::finish::finish_reason;
use crate::wire::json::{ShortList, non_empty};
use crate::wire::parse::parse;
use crate::wire::{Decoder, document_error, is_blank, unparsable, upstream_error};

/// The state of one answer.
#[derive(Debug, Default)]
pub(super) struct ChatDecoder {
    vendor: Vendor,
    calls: BlockCalls,
}

impl Decoder for ChatDecoder {
    fn frame(&mut self, frame: &Frame<'_>, sink: &mut dyn Sink) -> Result<(), Error> {
        if is_blank(frame.data) {
            return Ok(());
        }
        let chunk: Chunk<'_> = parse(frame.data).map_err(|error| unparsable(&error))?;
        match chunk.kind_in(frame) {
            "content-delta" | "content-start" => {
                let piece: Option<ContentPiece<'_>> = message_of(&chunk)?;
                if let Some(content) = piece.and_then(|piece| piece.content) {
                    emit_reasoning(&content.thinking, sink);
                    emit_text(&content.text, sink);
                }
            }
            "tool-plan-delta" => {
                let piece: Option<PlanPiece<'_>> = message_of(&chunk)?;
                emit_reasoning(&piece.and_then(|piece| piece.tool_plan), sink);
            }
            "tool-call-start" => {
                let piece: Option<CallPiece<'_>> = message_of(&chunk)?;
                if let Some(call) = piece.and_then(|piece| piece.tool_calls) {
                    self.start(chunk.index, &call, sink);
                }
            }
            "tool-call-delta" => {
                let piece: Option<CallPiece<'_>> = message_of(&chunk)?;
                if let Some(call) = piece.and_then(|piece| piece.tool_calls) {
                    self.arguments(chunk.index, &call, sink);
                }
            }
            "tool-call-end" => self.calls.close(chunk.index, sink),
            "citation-start" => {
                let piece: Option<CitationPiece<'_>> = message_of(&chunk)?;
                if let Some(cited) = piece.and_then(|piece| piece.citations) {
                    emit_citations(&cited, &mut CitationBudget::of(frame.data), sink);
                }
            }
            "message-start" => emit_identity(&chunk.id, &None, sink),
            "message-end" => {
                return self.finish(chunk.delta.map_or("{}", RawValue::get), sink);
            }
            "error" => return Err(upstream_error(frame.data)),
            _ if chunk.has_no_type() => return stated_failure(frame.data).map_or(Ok(()), Err),
            _ => {}
        }
        Ok(())
    }

    fn document(&mut self, document: &str, sink: &mut dyn Sink) -> Result<(), Error> {
        let answer: Answer<'_> = parse(document).map_err(|error| unparsable(&error))?;
        let message = answer.message.filter(|raw| raw.get().starts_with('{'));
        let Some(message) = message else {
            return Err(document_error(document));
        };
        let message: AnswerMessage<'_> =
            parse(message.get()).map_err(|error| unparsable(&error))?;
        emit_identity(&answer.id, &None, sink);
        emit_reasoning(&message.tool_plan, sink);
        for block in message.content.iter().flat_map(ShortList::iter) {
            emit_reasoning(&block.thinking, sink);
            emit_text(&block.text, sink);
        }
        for call in message.tool_calls.iter().flat_map(ShortList::iter) {
            let (name, arguments) = match &call.function {
                Some(function) => (&function.name, non_empty(&function.arguments)),
                None => (&None, None),
            };
            let arguments = arguments.unwrap_or("{}");
            self.calls.emit(&call.id, name, arguments, sink);
        }
        let budget = &mut CitationBudget::of(document);
        for cited in message.citations.iter().flat_map(ShortList::iter) {
            emit_citations(cited, budget, sink);
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
    pub(super) fn new(vendor: &Vendor) -> Self {
        Self {
            vendor: vendor.clone(),
            ..Self::default()
        }
    }

    fn start(&mut self, call_index: Option<u64>, call: &Call<'_>, sink: &mut dyn Sink) {
        let function = call.function.as_ref();
        let name = function.map_or(&None, |function| &function.name);
        self.calls.start(call_index, &call.id, name, None, sink);
        self.arguments(call_index, call, sink);
    }

    fn arguments(&mut self, call_index: Option<u64>, call: &Call<'_>, sink: &mut dyn Sink) {
        let function = call.function.as_ref();
        let piece = function.and_then(|function| non_empty(&function.arguments));
        let piece = piece.unwrap_or_default();
        self.calls.append(call_index, piece, sink);
    }

    /// `end` is the JSON of an [`End`].
    fn finish(&mut self, end: &str, sink: &mut dyn Sink) -> Result<(), Error> {
        let end: End<'_> = parse(end).map_err(|error| unparsable(&error))?;
        emit_usage(end.usage, sink);
        let reason = non_empty(&end.finish_reason).unwrap_or_default();
        let failed = |words| Err(Error::new(ErrorCode::UpstreamError, words));
        let reason = match (reason, non_empty(&end.error)) {
            (_, Some(words)) => return failed(words),
            ("ERROR_TOXIC", _) => FinishReason::ContentFilter,
            ("TIMEOUT", _) => return failed("the upstream reported a timeout of the model"),
            (reason, _) if reason.starts_with("ERROR") => {
                return failed("the upstream reported a failure without a reason");
            }
            (word, _) => finish_reason(word, &self.vendor)?.unwrap_or(FinishReason::Other),
        };
        // A call that `MAX_TOKENS` cut stays incomplete.
        if reason != FinishReason::Length {
            self.calls.close_all(sink);
        }
        sink.event(Event::Finish(reason));
        Ok(())
    }
}

/// The message in the delta of an event.
fn message_of<'a, T: Deserialize<'a>>(chunk: &Chunk<'a>) -> Result<Option<T>, Error> {
    let Some(delta) = chunk.delta.filter(|raw| raw.get().starts_with('{')) else {
        return Ok(None);
    };
    parse::<Delta<T>>(delta.get())
        .map(|delta| delta.message)
        .map_err(|error| unparsable(&error))
}

/// The answer does not depend on the usage, so one that does not parse is ignored.
fn emit_usage(usage: Option<&RawValue>, sink: &mut dyn Sink) {
    let counts = usage.and_then(|raw| parse::<UsageCounts>(raw.get()).ok());
    let usage = counts.map(Usage::from).unwrap_or_default();
    if usage != Usage::default() {
        sink.event(Event::Usage(usage));
    }
}

/// Emits one citation per source. Citations within the reasoning are left out, because their positions
/// do not refer to the answer's text.
fn emit_citations(cited: &CitedSpan<'_>, budget: &mut CitationBudget, sink: &mut dyn Sink) {
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
        budget.emit(citation, sink);
    };
    match cited.sources.as_ref().filter(|sources| !sources.is_empty()) {
        None => emit(&SourceDetails::default()),
        Some(sources) => sources.iter().for_each(|source| emit(&source.details())),
    }
}
