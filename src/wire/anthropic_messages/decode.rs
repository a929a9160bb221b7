//! Decodes frames of the Messages API.

use serde_json::value::RawValue;

use super::shape::{Answer, Block, Message, Source, UsageCounts, is_unknown_kind};
use crate::framing::Frame;
use crate::model::{Citation, Error, Event, FinishReason, Sink, ToolCallDelta, Usage};
use crate::wire::json::{Text, non_empty};
use crate::wire::parse::parse;
use crate::wire::{Decoder, unparsable, upstream_error, wrong_protocol};

/// The state of one answer.
#[derive(Debug, Default)]
pub(super) struct MessagesDecoder {
    /// Client tool calls whose block is still open.
    open: Vec<OpenCall>,
    /// Client tool calls seen so far.
    calls: u32,
    counts: UsageCounts,
    usage: Usage,
    /// `message_delta` gives the reason; `message_stop` makes it final.
    finish: Option<FinishReason>,
}

/// A tool call whose arguments are not complete.
#[derive(Debug)]
struct OpenCall {
    block: Option<u64>,
    index: u32,
    /// The `input` of `content_block_start`, used if no delta follows.
    input: Option<String>,
    has_arguments: bool,
}

impl Decoder for MessagesDecoder {
    fn frame(&mut self, frame: &Frame<'_>, sink: &mut dyn Sink) -> Result<(), Error> {
        // Some vendors send an empty event or `null` as a heartbeat.
        if frame.data.trim_ascii().is_empty() {
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
            "content_block_stop" => self.close_block(message.index, sink),
            "message_start" => self.decode_message_start(message.message, sink)?,
            "message_delta" => self.decode_message_delta(&message, sink),
            "message_stop" => self.emit_finish(sink),
            "message" => self.document(frame.data, sink)?,
            "error" => return Err(upstream_error(frame.data)),
            _ if message.error.is_some() => return Err(upstream_error(frame.data)),
            _ => {}
        }
        Ok(())
    }

    fn document(&mut self, document: &str, sink: &mut dyn Sink) -> Result<(), Error> {
        let message: Message<'_> = parse(document).map_err(|error| unparsable(&error))?;
        if message.error.is_some() {
            return Err(upstream_error(document));
        }
        let answer: Answer<'_> = parse(document).map_err(|error| unparsable(&error))?;
        let Some(content) = &answer.content else {
            return Err(wrong_protocol());
        };
        emit_identity(&answer, sink);
        for block in content {
            match non_empty(&block.kind).unwrap_or_default() {
                "text" => emit_text_block(block, sink),
                "thinking" | "redacted_thinking" => emit_reasoning_block(block, sink),
                "tool_use" => {
                    let input = non_empty_object(block.input);
                    self.emit_call_start(block, input.unwrap_or("{}"), sink);
                    self.calls += 1;
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
                message.error.is_some()
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
                self.arguments(
                    message.index,
                    non_empty(&delta.partial_json).unwrap_or_default(),
                    sink,
                );
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
        self.close_block(message.index, sink);
        match non_empty(&block.kind).unwrap_or_default() {
            "text" => emit_text_block(block, sink),
            "thinking" | "redacted_thinking" => emit_reasoning_block(block, sink),
            "tool_use" => {
                self.emit_call_start(block, "", sink);
                let input = non_empty_object(block.input);
                self.open.push(OpenCall {
                    block: message.index,
                    index: self.calls,
                    input: input.map(str::to_owned),
                    has_arguments: false,
                });
                self.calls += 1;
            }
            _ => {}
        }
    }

    /// Emits the first piece of the next call.
    fn emit_call_start(&self, block: &Block<'_>, arguments: &str, sink: &mut dyn Sink) {
        sink.event(Event::ToolCall(ToolCallDelta {
            index: self.calls,
            id: non_empty(&block.id),
            name: Some(non_empty(&block.name).unwrap_or_default()),
            arguments,
        }));
    }

    /// Drops deltas of blocks that are not client tool calls: server tools have input deltas too.
    fn arguments(&mut self, block: Option<u64>, piece: &str, sink: &mut dyn Sink) {
        if piece.is_empty() {
            return;
        }
        if let Some(call) = self.open.iter_mut().find(|call| call.block == block) {
            call.has_arguments = true;
            emit_arguments(call.index, piece, sink);
        }
    }

    fn close_block(&mut self, block: Option<u64>, sink: &mut dyn Sink) {
        if let Some(at) = self.open.iter().position(|call| call.block == block) {
            self.open.remove(at).close(sink);
        }
    }

    fn decode_message_start(
        &mut self,
        message: Option<&RawValue>,
        sink: &mut dyn Sink,
    ) -> Result<(), Error> {
        if let Some(raw) = message {
            let answer: Answer<'_> = parse(raw.get()).map_err(|error| unparsable(&error))?;
            emit_identity(&answer, sink);
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
        for call in self.open.drain(..) {
            call.close(sink);
        }
        sink.event(Event::Finish(self.finish.unwrap_or(FinishReason::Other)));
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

impl OpenCall {
    /// Completes the arguments, so that they are one JSON text even if no delta arrived.
    fn close(self, sink: &mut dyn Sink) {
        if !self.has_arguments {
            emit_arguments(self.index, self.input.as_deref().unwrap_or("{}"), sink);
        }
    }
}

fn finish_reason(reason: &str) -> FinishReason {
    match reason {
        "end_turn" | "stop_sequence" => FinishReason::Stop,
        "max_tokens" | "model_context_window_exceeded" => FinishReason::Length,
        "tool_use" => FinishReason::ToolCalls,
        "refusal" => FinishReason::Refusal,
        "pause_turn" => FinishReason::Pause,
        _ => FinishReason::Other,
    }
}

/// An `input` with members. A block that starts has an empty one.
fn non_empty_object(input: Option<&RawValue>) -> Option<&str> {
    let input = input?.get();
    let inside = input.strip_prefix('{')?.strip_suffix('}')?;
    (!inside.trim_ascii().is_empty()).then_some(input)
}

fn emit_identity(answer: &Answer<'_>, sink: &mut dyn Sink) {
    let (id, model) = (
        non_empty(&answer.id).unwrap_or_default(),
        non_empty(&answer.model).unwrap_or_default(),
    );
    if !id.is_empty() || !model.is_empty() {
        sink.event(Event::Identity {
            id,
            model,
            fingerprint: "",
        });
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

fn emit_text(piece: &Option<Text<'_>>, sink: &mut dyn Sink) {
    if let Some(piece) = non_empty(piece) {
        sink.event(Event::Text(piece));
    }
}

/// A reasoning block at its start, or a complete one.
fn emit_reasoning_block(block: &Block<'_>, sink: &mut dyn Sink) {
    emit_reasoning(&block.thinking, sink);
    emit_signature(&block.signature, sink);
    if let Some(data) = non_empty(&block.data) {
        sink.event(Event::EncryptedReasoning(data));
    }
}

fn emit_signature(signature: &Option<Text<'_>>, sink: &mut dyn Sink) {
    if let Some(signature) = non_empty(signature) {
        sink.event(Event::Signature(signature));
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
    if citation != Citation::default() {
        sink.event(Event::Citation(citation));
    }
}
