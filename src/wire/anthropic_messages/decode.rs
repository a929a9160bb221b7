//! Decodes frames of the Messages API.

use serde_json::value::RawValue;

use super::shape::{Answer, Block, Message, Source, UsageCounts, is_unknown_kind};
use crate::framing::Frame;
use crate::model::{Citation, Error, Event, FinishReason, Sink, Usage, Vendor};
use crate::wire::block_calls::{BlockCalls, non_empty_arguments};
use crate::wire::emit::{
    CitationBudget, emit_encrypted_reasoning, emit_identity, emit_reasoning, emit_signature,
    emit_text,
};
use crate::wire::failure::{is_error, stated_failure};
use crate::wire::finish::{finish_reason, more_specific};
use crate::wire::json::{Text, non_empty};
use crate::wire::parse::parse;
use crate::wire::{Decoder, document_error, is_blank, unparsable, upstream_error};

/// The state of one answer.
#[derive(Debug, Default)]
pub(super) struct MessagesDecoder {
    vendor: Vendor,
    /// The calls that the client must answer. The vendor's own tools are not among them.
    calls: BlockCalls,
    counts: UsageCounts,
    usage: Usage,
    /// `message_delta` gives the reason; `message_stop` makes it final.
    finish: Option<FinishReason>,
}

impl Decoder for MessagesDecoder {
    fn frame(&mut self, frame: &Frame<'_>, sink: &mut dyn Sink) -> Result<(), Error> {
        if is_blank(frame.data) {
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
            "message_delta" => self.decode_message_delta(&message, sink)?,
            "message_stop" => self.emit_finish(sink),
            "message" => self.document(frame.data, sink)?,
            "error" => return Err(upstream_error(frame.data)),
            _ if message.error.is_some_and(is_error) => return Err(upstream_error(frame.data)),
            "" => return stated_failure(frame.data).map_or(Ok(()), Err),
            _ => {}
        }
        Ok(())
    }

    fn document(&mut self, document: &str, sink: &mut dyn Sink) -> Result<(), Error> {
        let message: Message<'_> = parse(document).map_err(|error| unparsable(&error))?;
        if message.error.is_some_and(is_error) {
            return Err(upstream_error(document));
        }
        let answer: Answer<'_> = parse(document).map_err(|error| unparsable(&error))?;
        let Some(content) = &answer.content else {
            return Err(document_error(document));
        };
        emit_identity(&answer.id, &answer.model, sink);
        for block in content.iter() {
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
        self.set_finish(&answer.stop_reason)?;
        self.emit_finish(sink);
        Ok(())
    }

    fn is_terminal(&self, frame: &Frame<'_>) -> bool {
        match parse::<Option<Message<'_>>>(frame.data) {
            Ok(Some(message)) => {
                message.error.is_some_and(is_error)
                    || matches!(message.kind_in(frame), "message_stop" | "message" | "error")
            }
            _ => false,
        }
    }
}

impl MessagesDecoder {
    pub(super) fn new(vendor: &Vendor) -> Self {
        Self {
            vendor: vendor.clone(),
            ..Self::default()
        }
    }

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

    fn decode_message_delta(
        &mut self,
        message: &Message<'_>,
        sink: &mut dyn Sink,
    ) -> Result<(), Error> {
        self.emit_usage(message.usage, sink);
        match &message.delta {
            Some(delta) => self.set_finish(&delta.stop_reason),
            None => Ok(()),
        }
    }

    fn set_finish(&mut self, stop_reason: &Option<Text<'_>>) -> Result<(), Error> {
        let word = non_empty(stop_reason).unwrap_or_default();
        if let Some(reason) = finish_reason(word, &self.vendor)? {
            self.finish = Some(more_specific(self.finish, reason));
        }
        Ok(())
    }

    fn emit_finish(&mut self, sink: &mut dyn Sink) {
        let reason = self.finish.unwrap_or(FinishReason::Other);
        // A call that `max_tokens` cut stays incomplete.
        if reason != FinishReason::Length {
            self.calls.close_all(sink);
        }
        sink.event(Event::Finish(reason));
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
