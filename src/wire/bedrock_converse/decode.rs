//! Decodes messages of a Converse stream.

use serde_json::value::RawValue;

use super::shape::{Answer, Block, Delta, Message, Piece, ReasoningPiece, Source, UsageCounts};
use crate::framing::Frame;
use crate::model::{Citation, Error, ErrorCode, Event, FinishReason, Sink, Usage, Vendor};
use crate::wire::block_calls::{BlockCalls, non_empty_arguments};
use crate::wire::emit::{
    CitationBudget, emit_encrypted_reasoning, emit_reasoning, emit_signature, emit_text,
};
use crate::wire::finish::finish_reason;
use crate::wire::json::{ShortList, non_empty};
use crate::wire::parse::parse;
use crate::wire::{Decoder, document_error, interrupted, parse_refusal, unparsable};

/// The state of one answer.
#[derive(Debug, Default)]
pub(super) struct ConverseDecoder {
    vendor: Vendor,
    /// The calls that the client must answer. The vendor's own tools are not among them.
    calls: BlockCalls,
    counts: UsageCounts,
    usage: Usage,
    /// `messageStop` gives the outcome; it is emitted after the counts.
    outcome: Option<Result<FinishReason, Error>>,
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
            "contentBlockStop" => self.calls.close(message.content_block_index, sink),
            "messageStop" => {
                self.outcome = Some(outcome(non_empty(&message.stop_reason), &self.vendor));
            }
            _ => {
                self.emit_usage(message.usage, sink);
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
            return Err(document_error(document));
        };
        for block in content.iter() {
            self.block(block, sink);
        }
        self.outcome = Some(outcome(non_empty(&answer.stop_reason), &self.vendor));
        self.emit_usage(answer.usage, sink);
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
    pub(super) fn new(vendor: &Vendor) -> Self {
        Self {
            vendor: vendor.clone(),
            ..Self::default()
        }
    }

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
            emit_reasoning_piece(reasoning, sink);
        }
        if let Some(piece) = tool_use.as_ref().and_then(|piece| non_empty(&piece.input)) {
            self.calls.append(message.content_block_index, piece, sink);
        }
        if let Some(citation) = citation {
            emit_citation(citation, sink);
        }
    }

    fn start(&mut self, message: &Message<'_>, sink: &mut dyn Sink) {
        let block = message.content_block_index;
        // A block that starts at an index in use ends the block before it.
        self.calls.close(block, sink);
        let start = message.start.as_ref();
        let call = start.and_then(|start| start.tool_use.as_ref());
        if let Some(call) = call.filter(|call| call.is_client_call()) {
            let input = non_empty_arguments(call.input);
            let (id, name) = (&call.tool_use_id, &call.name);
            self.calls.start(block, id, name, input.as_deref(), sink);
        }
    }

    fn block(&mut self, block: &Block<'_>, sink: &mut dyn Sink) {
        if let Some(reasoning) = &block.reasoning_content {
            if let Some(text) = &reasoning.reasoning_text {
                emit_reasoning_piece(text, sink);
            }
            emit_encrypted_reasoning(&reasoning.redacted_content, sink);
        }
        emit_text(&block.text, sink);
        if let Some(cited) = &block.citations_content {
            for piece in cited.content.iter().flat_map(ShortList::iter) {
                emit_text(&piece.text, sink);
            }
            for citation in cited.citations.iter().flatten() {
                emit_citation(citation, sink);
            }
        }
        if let Some(call) = &block.tool_use
            && call.is_client_call()
        {
            let input = non_empty_arguments(call.input);
            let input = input.as_deref().unwrap_or("{}");
            self.calls.emit(&call.tool_use_id, &call.name, input, sink);
        }
    }

    /// Emits the usage if it changed. The answer does not depend on it, so one that does not parse is
    /// ignored.
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

    /// Emits the finish if `messageStop` has arrived. If not, the counts came before it.
    fn emit_finish(&mut self, sink: &mut dyn Sink) -> Result<(), Error> {
        if let Some(outcome) = self.outcome.take() {
            let reason = outcome?;
            // A call that `max_tokens` cut stays incomplete.
            if reason != FinishReason::Length {
                self.calls.close_all(sink);
            }
            sink.event(Event::Finish(reason));
        }
        Ok(())
    }
}

fn outcome(reason: Option<&str>, vendor: &Vendor) -> Result<FinishReason, Error> {
    let word = reason.unwrap_or_default();
    if word.starts_with("malformed_") {
        return Err(Error::new(
            ErrorCode::UpstreamError,
            format!("the model's answer was discarded: {word}"),
        ));
    }
    Ok(finish_reason(word, vendor)?.unwrap_or(FinishReason::Other))
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

fn emit_reasoning_piece(piece: &ReasoningPiece<'_>, sink: &mut dyn Sink) {
    emit_reasoning(&piece.text, sink);
    emit_signature(&piece.signature, sink);
    emit_encrypted_reasoning(&piece.redacted_content, sink);
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
    CitationBudget::of(raw.get()).emit(citation, sink);
}
