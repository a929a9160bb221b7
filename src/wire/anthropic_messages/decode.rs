//! Decodes frames of the Messages API.

use serde_json::value::RawValue;

use super::shape::{Answer, Block, Message, Source, UsageCounts, is_unknown_kind};
use crate::framing::Frame;
use crate::model::{Citation, Error, Event, FinishReason, Sink, Usage};
use crate::wire::block_calls::{BlockCalls, non_empty_arguments};
use crate::wire::emit::{
    CitationBudget, emit_encrypted_reasoning, emit_identity, emit_reasoning, emit_signature,
    emit_text, finish_with_calls,
};
use crate::wire::json::non_empty;
use crate::wire::lenient::has_content;
use crate::wire::parse::parse;
use crate::wire::{Decoder, document_error, failure_in, is_heartbeat, unparsable, upstream_error};

/// The state of one answer.
#[derive(Debug, Default)]
pub(super) struct MessagesDecoder {
    /// The calls that the client must answer. The vendor's own tools are not among them.
    calls: BlockCalls,
    counts: UsageCounts,
    usage: Usage,
    /// `message_delta` gives the reason; `message_stop` makes it final.
    finish: Option<FinishReason>,
}

impl Decoder for MessagesDecoder {
    fn frame(&mut self, frame: &Frame<'_>, sink: &mut dyn Sink) -> Result<(), Error> {
        if is_heartbeat(frame.data) {
            return Ok(());
        }
        let message: Message<'_> = match parse(frame.data) {
            Ok(Some(message)) => message,
            Ok(None) => return Ok(()),
            Err(_) if is_unknown_kind(frame.data) => return Ok(()),
            Err(error) => return Err(unparsable(&error)),
        };
        match message.kind_in(frame) {
            "content_block_delta" => self.decode_block_delta(&message, sink),
            "content_block_start" => self.decode_block_start(&message, sink),
            "content_block_stop" => self.calls.close(message.index, sink),
            "message_start" => self.decode_message_start(message.message, sink)?,
            "message_delta" => self.decode_message_delta(&message, sink),
            "message_stop" => self.emit_finish(sink),
            "message" => self.document(frame.data, sink)?,
            "error" => return Err(upstream_error(frame.data)),
            _ if has_content(message.error) => return Err(upstream_error(frame.data)),
            "" => return failure_in(frame.data).map_or(Ok(()), Err),
            _ => {}
        }
        Ok(())
    }

    fn document(&mut self, document: &str, sink: &mut dyn Sink) -> Result<(), Error> {
        let message: Message<'_> = parse(document).map_err(|error| unparsable(&error))?;
        if has_content(message.error) {
            return Err(upstream_error(document));
        }
        let answer: Answer<'_> = parse(document).map_err(|error| unparsable(&error))?;
        let Some(content) = &answer.content else {
            return Err(document_error(document));
        };
        emit_identity(&answer.id, &answer.model, sink);
        for block in content {
            match non_empty(&block.kind).unwrap_or_default() {
                "text" => emit_text_block(block, sink),
                "thinking" | "redacted_thinking" => emit_reasoning_block(block, sink),
                "tool_use" => {
                    let input = non_empty_arguments(block.input);
                    let input = input.as_deref().unwrap_or("{}");
                    self.calls.emit(&block.id, &block.name, input, sink);
                }
                _ => {}
            }
        }
        self.emit_usage(answer.usage, sink);
        self.finish = non_empty(&answer.stop_reason).map(finish_reason);
        self.emit_finish(sink);
        Ok(())
    }

    fn is_terminal(&self, frame: &Frame<'_>) -> bool {
        match parse::<Option<Message<'_>>>(frame.data) {
            Ok(Some(message)) => {
                has_content(message.error)
                    || matches!(message.kind_in(frame), "message_stop" | "message" | "error")
            }
            _ => false,
        }
    }
}

impl MessagesDecoder {
    fn decode_block_delta(&mut self, message: &Message<'_>, sink: &mut dyn Sink) {
        let Some(delta) = &message.delta else {
            return;
        };
        match non_empty(&delta.kind).unwrap_or_default() {
            "text_delta" => emit_text(&delta.text, sink),
            "thinking_delta" => emit_reasoning(&delta.thinking, sink),
            "signature_delta" => emit_signature(&delta.signature, sink),
            "input_json_delta" => {
                let piece = non_empty(&delta.partial_json).unwrap_or_default();
                self.calls.append(message.index, piece, sink);
            }
            "citations_delta" => {
                if let Some(citation) = delta.citation {
                    emit_citation(citation, sink);
                }
            }
            _ => {}
        }
    }

    fn decode_block_start(&mut self, message: &Message<'_>, sink: &mut dyn Sink) {
        let Some(block) = &message.content_block else {
            return;
        };
        // Some vendors give every block the same index; the next start then ends the block before it.
        self.calls.close(message.index, sink);
        match non_empty(&block.kind).unwrap_or_default() {
            "text" => emit_text_block(block, sink),
            "thinking" | "redacted_thinking" => emit_reasoning_block(block, sink),
            "tool_use" => {
                let input = non_empty_arguments(block.input);
                let (id, name) = (&block.id, &block.name);
                self.calls
                    .start(message.index, id, name, input.as_deref(), sink);
            }
            _ => {}
        }
    }

    fn decode_message_start(
        &mut self,
        message: Option<&RawValue>,
        sink: &mut dyn Sink,
    ) -> Result<(), Error> {
        if let Some(raw) = message {
            let answer: Answer<'_> = parse(raw.get()).map_err(|error| unparsable(&error))?;
            emit_identity(&answer.id, &answer.model, sink);
            self.emit_usage(answer.usage, sink);
        }
        Ok(())
    }

    fn decode_message_delta(&mut self, message: &Message<'_>, sink: &mut dyn Sink) {
        if let Some(delta) = &message.delta
            && let Some(reason) = non_empty(&delta.stop_reason)
        {
            self.finish = Some(finish_reason(reason));
        }
        self.emit_usage(message.usage, sink);
    }

    fn emit_finish(&mut self, sink: &mut dyn Sink) {
        let reason = self.finish.unwrap_or(FinishReason::Other);
        // A call that `max_tokens` cut stays incomplete.
        if reason != FinishReason::Length {
            self.calls.close_all(sink);
        }
        sink.event(Event::Finish(finish_with_calls(reason, self.calls.any())));
    }

    /// Emits the usage if it changed. Counts are cumulative, so the newest value of each count wins.
    /// The answer does not depend on the usage, so one that does not parse is ignored.
    fn emit_usage(&mut self, usage: Option<&RawValue>, sink: &mut dyn Sink) {
        let Some(newer) = usage.and_then(|raw| parse::<UsageCounts>(raw.get()).ok()) else {
            return;
        };
        self.counts.update(newer);
        let usage = self.counts.usage();
        if usage != self.usage {
            self.usage = usage;
            sink.event(Event::Usage(usage));
        }
    }
}

fn finish_reason(reason: &str) -> FinishReason {
    match reason {
        "end_turn" | "stop_sequence" => FinishReason::Stop,
        "max_tokens" | "model_context_window_exceeded" => FinishReason::Length,
        "tool_use" => FinishReason::ToolCalls,
        "refusal" => FinishReason::Refusal,
        "pause_turn" | "compaction" => FinishReason::Pause,
        _ => FinishReason::Other,
    }
}

fn emit_text_block(block: &Block<'_>, sink: &mut dyn Sink) {
    emit_text(&block.text, sink);
    let citations = block
        .citations
        .and_then(|raw| parse::<Vec<&RawValue>>(raw.get()).ok());
    for citation in citations.iter().flatten() {
        emit_citation(citation, sink);
    }
}

/// A reasoning block at its start, or a complete one.
fn emit_reasoning_block(block: &Block<'_>, sink: &mut dyn Sink) {
    emit_reasoning(&block.thinking, sink);
    emit_signature(&block.signature, sink);
    emit_encrypted_reasoning(&block.data, sink);
}

/// The answer does not depend on a citation, so one that does not parse is ignored.
fn emit_citation(raw: &RawValue, sink: &mut dyn Sink) {
    let Ok(source) = parse::<Source<'_>>(raw.get()) else {
        return;
    };
    let citation = Citation {
        url: non_empty(&source.url).or(non_empty(&source.source)),
        title: non_empty(&source.title).or(non_empty(&source.document_title)),
        text: non_empty(&source.cited_text),
        start: None,
        end: None,
    };
    CitationBudget::of(raw.get()).emit(citation, sink);
}
