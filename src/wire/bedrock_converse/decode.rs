//! Decodes messages of a Converse stream.

use serde_json::value::RawValue;

use super::shape::{
    Answer, Block, Delta, Message, Piece, ReasoningPiece, Source, ToolUse, UsageCounts,
};
use crate::framing::Frame;
use crate::model::{Citation, Error, ErrorCode, Event, FinishReason, Sink, ToolCallDelta, Usage};
use crate::wire::json::{Text, non_empty};
use crate::wire::parse::parse;
use crate::wire::{Decoder, interrupted, parse_refusal, unparsable};

/// The state of one answer.
#[derive(Debug, Default)]
pub(super) struct ConverseDecoder {
    /// Client tool calls whose block is still open.
    open: Vec<OpenCall>,
    /// Client tool calls seen so far.
    calls: u32,
    /// `messageStop` gives the outcome; it is emitted after the counts.
    outcome: Option<Result<FinishReason, Error>>,
}

/// A tool call whose arguments are not complete.
#[derive(Debug)]
struct OpenCall {
    block: Option<u64>,
    index: u32,
    has_arguments: bool,
}

impl Decoder for ConverseDecoder {
    fn frame(&mut self, frame: &Frame<'_>, sink: &mut dyn Sink) -> Result<(), Error> {
        if frame.failure {
            return Err(failure(frame));
        }
        let known = [
            "contentBlockDelta",
            "contentBlockStart",
            "contentBlockStop",
            "messageStop",
            "metadata",
        ];
        if !known.contains(&frame.name) {
            return Ok(());
        }
        let message: Message<'_> = parse(frame.data).map_err(|error| unparsable(&error))?;
        match frame.name {
            "contentBlockDelta" => self.delta(&message, sink),
            "contentBlockStart" => self.start(&message, sink),
            "contentBlockStop" => self.close(message.content_block_index, sink),
            "messageStop" => {
                for call in self.open.drain(..) {
                    call.close(sink);
                }
                self.outcome = Some(finish_reason(non_empty(&message.stop_reason)));
            }
            _ => {
                emit_usage(message.usage, sink);
                return self.emit_finish(sink);
            }
        }
        Ok(())
    }

    /// `p` is padding of random length.
    fn ignored_keys(&self) -> &'static [&'static str] {
        &["p"]
    }

    fn document(&mut self, document: &str, sink: &mut dyn Sink) -> Result<(), Error> {
        let answer: Answer<'_> = parse(document).map_err(|error| unparsable(&error))?;
        let message = answer.output.and_then(|output| output.message);
        let Some(content) = message.and_then(|message| message.content) else {
            return Err(match parse_refusal(document.as_bytes()) {
                Some(refusal) => Error::new(ErrorCode::UpstreamError, refusal.message),
                None => Error::new(
                    ErrorCode::BadUpstreamData,
                    "the upstream answered with JSON that is no answer of its protocol",
                ),
            });
        };
        for block in &content {
            self.block(block, sink);
        }
        self.outcome = Some(finish_reason(non_empty(&answer.stop_reason)));
        emit_usage(answer.usage, sink);
        self.emit_finish(sink)
    }

    /// The framing's length and checksum reject incomplete messages, so none arrives here.
    fn is_terminal(&self, _frame: &Frame<'_>) -> bool {
        false
    }

    fn end(&mut self, sink: &mut dyn Sink) -> Result<(), Error> {
        if self.outcome.is_none() {
            return Err(interrupted());
        }
        self.emit_finish(sink)
    }
}

impl ConverseDecoder {
    fn delta(&mut self, message: &Message<'_>, sink: &mut dyn Sink) {
        let Some(Delta {
            text,
            tool_use,
            reasoning_content,
            citation,
        }) = &message.delta
        else {
            return;
        };
        emit_text(text, sink);
        if let Some(reasoning) = reasoning_content {
            emit_reasoning(reasoning, sink);
        }
        if let Some(piece) = tool_use.as_ref().and_then(|piece| non_empty(&piece.input)) {
            self.arguments(message.content_block_index, piece, sink);
        }
        if let Some(citation) = citation {
            emit_citation(citation, sink);
        }
    }

    fn start(&mut self, message: &Message<'_>, sink: &mut dyn Sink) {
        let block = message.content_block_index;
        // A block that starts at an index in use ends the block before it.
        self.close(block, sink);
        let started = message
            .start
            .as_ref()
            .and_then(|start| start.tool_use.as_ref());
        if let Some(call) = started.filter(|call| call.is_client_call()) {
            let index = self.emit_call_start(call, "", sink);
            self.open.push(OpenCall {
                block,
                index,
                has_arguments: false,
            });
        }
    }

    /// Emits the first piece of the next call and returns the call's index.
    fn emit_call_start(&mut self, call: &ToolUse<'_>, arguments: &str, sink: &mut dyn Sink) -> u32 {
        let index = self.calls;
        self.calls += 1;
        sink.event(Event::ToolCall(ToolCallDelta {
            index,
            id: non_empty(&call.tool_use_id),
            name: Some(non_empty(&call.name).unwrap_or_default()),
            arguments,
        }));
        index
    }

    /// Drops deltas of blocks that are not client tool calls: the vendor's own tools have input deltas
    /// too.
    fn arguments(&mut self, block: Option<u64>, piece: &str, sink: &mut dyn Sink) {
        if let Some(call) = self.open.iter_mut().find(|call| call.block == block) {
            call.has_arguments = true;
            emit_arguments(call.index, piece, sink);
        }
    }

    fn close(&mut self, block: Option<u64>, sink: &mut dyn Sink) {
        if let Some(at) = self.open.iter().position(|call| call.block == block) {
            self.open.remove(at).close(sink);
        }
    }

    fn block(&mut self, block: &Block<'_>, sink: &mut dyn Sink) {
        if let Some(reasoning) = &block.reasoning_content {
            if let Some(text) = &reasoning.reasoning_text {
                emit_reasoning(text, sink);
            }
            emit_sealed(&reasoning.redacted_content, sink);
        }
        emit_text(&block.text, sink);
        if let Some(cited) = &block.citations_content {
            for piece in cited.content.iter().flatten() {
                emit_text(&piece.text, sink);
            }
            for citation in cited.citations.iter().flatten() {
                emit_citation(citation, sink);
            }
        }
        if let Some(call) = &block.tool_use
            && call.is_client_call()
        {
            let input = call.input.map_or("{}", RawValue::get);
            self.emit_call_start(call, input, sink);
        }
    }

    /// Emits the finish if `messageStop` has arrived. If not, the counts came before it.
    fn emit_finish(&mut self, sink: &mut dyn Sink) -> Result<(), Error> {
        if let Some(outcome) = self.outcome.take() {
            sink.event(Event::Finish(outcome?));
        }
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

fn finish_reason(reason: Option<&str>) -> Result<FinishReason, Error> {
    Ok(match reason.unwrap_or_default() {
        "end_turn" | "stop_sequence" => FinishReason::Stop,
        "max_tokens" | "model_context_window_exceeded" => FinishReason::Length,
        "tool_use" => FinishReason::ToolCalls,
        "guardrail_intervened" | "content_filtered" => FinishReason::ContentFilter,
        malformed if malformed.starts_with("malformed_") => {
            return Err(Error::new(
                ErrorCode::UpstreamError,
                format!("the model's answer was discarded: {malformed}"),
            ));
        }
        _ => FinishReason::Other,
    })
}

/// The message of an exception, else its type.
fn failure(frame: &Frame<'_>) -> Error {
    let message = match parse_refusal(frame.data.as_bytes()) {
        Some(refusal) if !refusal.message.is_empty() => refusal.message,
        _ if !frame.data.trim().is_empty() && !frame.data.starts_with('{') => frame.data.to_owned(),
        _ if frame.name.is_empty() => "no reason given".to_owned(),
        _ => frame.name.to_owned(),
    };
    Error::new(ErrorCode::UpstreamError, message)
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

fn emit_reasoning(piece: &ReasoningPiece<'_>, sink: &mut dyn Sink) {
    if let Some(text) = non_empty(&piece.text) {
        sink.event(Event::Reasoning(text));
    }
    if let Some(signature) = non_empty(&piece.signature) {
        sink.event(Event::Signature(signature));
    }
    emit_sealed(&piece.redacted_content, sink);
}

fn emit_sealed(sealed: &Option<Text<'_>>, sink: &mut dyn Sink) {
    if let Some(sealed) = non_empty(sealed) {
        sink.event(Event::EncryptedReasoning(sealed));
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
    let cited = |piece: &Piece<'_>| non_empty(&piece.text).map(str::to_owned);
    let words: Option<String> = source
        .source_content
        .map(|pieces| pieces.iter().filter_map(cited).collect());
    let web = source
        .location
        .as_ref()
        .and_then(|place| place.web.as_ref());
    let citation = Citation {
        url: web
            .and_then(|web| non_empty(&web.url))
            .or(non_empty(&source.source)),
        title: non_empty(&source.title),
        text: words.as_deref().filter(|words| !words.is_empty()),
        start: None,
        end: None,
    };
    if citation != Citation::default() {
        sink.event(Event::Citation(citation));
    }
}
