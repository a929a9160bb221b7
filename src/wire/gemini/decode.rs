//! Decodes chunks of the Gemini API.

use serde_json::value::RawValue;

use super::calls::Calls;
use super::shape::{Candidate, Chunk, InlineData, Part, UsageCounts};
use super::sources::Sources;
use crate::framing::Frame;
use crate::model::{Error, ErrorCode, Event, FinishReason, Sink, Usage, Vendor};
use crate::wire::emit::emit_identity;
use crate::wire::failure::{is_error, stated_failure};
use crate::wire::finish::{finish_reason, more_specific};
use crate::wire::json::{ShortList, non_empty};
use crate::wire::parse::parse;
use crate::wire::{Decoder, interrupted, is_blank, unparsable, upstream_error, wrong_protocol};

/// The state of one answer.
#[derive(Default)]
pub(super) struct ContentDecoder {
    vendor: Vendor,
    /// The last finish reason. It does not end the answer: older models send one with every chunk.
    finish: Option<FinishReason>,
    identity_sent: bool,
    /// Whether any chunk had a field of this protocol.
    is_recognized: bool,
    calls: Calls,
    counts: UsageCounts,
    usage: Usage,
    sources: Sources,
}

impl Decoder for ContentDecoder {
    fn frame(&mut self, frame: &Frame<'_>, sink: &mut dyn Sink) -> Result<(), Error> {
        let data = frame.data.trim_ascii();
        if is_blank(data) {
            return Ok(());
        }
        self.chunks(data, sink)
    }

    /// One chunk is a complete answer. A list of chunks is what the API sends without `alt=sse`.
    fn document(&mut self, document: &str, sink: &mut dyn Sink) -> Result<(), Error> {
        self.chunks(document, sink)?;
        if self.is_recognized {
            self.end(sink)
        } else {
            Err(wrong_protocol())
        }
    }

    fn is_terminal(&self, frame: &Frame<'_>) -> bool {
        let is_terminal = |json| {
            parse::<Chunk<'_>>(json).is_ok_and(|chunk| is_terminal_chunk(&chunk, &self.vendor))
        };
        match parse_chunk_list(frame.data) {
            None => is_terminal(frame.data),
            Some(chunks) => chunks.is_ok_and(|list| list.iter().any(|raw| is_terminal(raw.get()))),
        }
    }

    /// Only the end of the body marks the end of the answer.
    fn end(&mut self, sink: &mut dyn Sink) -> Result<(), Error> {
        let finish = self.finish.ok_or_else(interrupted)?;
        // A call that `MAX_TOKENS` cut stays incomplete.
        if finish != FinishReason::Length {
            self.calls.finish(sink);
        }
        self.sources.close(sink);
        sink.event(Event::Finish(finish));
        Ok(())
    }
}

impl ContentDecoder {
    pub(super) fn new(vendor: &Vendor) -> Self {
        Self {
            vendor: vendor.clone(),
            ..Self::default()
        }
    }

    /// Decodes one chunk or a list of chunks.
    fn chunks(&mut self, data: &str, sink: &mut dyn Sink) -> Result<(), Error> {
        match parse_chunk_list(data) {
            None => self.chunk(data, sink),
            Some(chunks) => {
                let chunks = chunks.map_err(|error| unparsable(&error))?;
                chunks
                    .iter()
                    .try_for_each(|raw| self.chunk(raw.get(), sink))
            }
        }
    }

    fn chunk(&mut self, json: &str, sink: &mut dyn Sink) -> Result<(), Error> {
        let chunk: Option<Chunk<'_>> = parse(json).map_err(|error| unparsable(&error))?;
        let Some(chunk) = chunk else {
            return Ok(());
        };
        if chunk.is_foreign()
            && let Some(error) = stated_failure(json)
        {
            return Err(error);
        }
        self.emit_identity(&chunk, sink);
        let mut failure = None;
        for candidate in chunk.candidates.iter().flat_map(ShortList::iter) {
            self.is_recognized = true;
            // A stream is one answer: the other candidates are alternatives.
            if candidate.index.unwrap_or(0) == 0
                && let Err(error) = self.candidate(candidate, sink)
            {
                failure = Some(error);
            }
        }
        if let Some(feedback) = &chunk.prompt_feedback {
            self.is_recognized = true;
            if feedback.is_blocked() {
                self.finish = Some(FinishReason::ContentFilter);
            }
        }
        self.emit_usage(chunk.usage_metadata, sink);
        if chunk.error.is_some_and(is_error) {
            return Err(upstream_error(json));
        }
        failure.map_or(Ok(()), Err)
    }

    fn emit_identity(&mut self, chunk: &Chunk<'_>, sink: &mut dyn Sink) {
        let (id, model) = (&chunk.response_id, &chunk.model_version);
        if !self.identity_sent && (non_empty(id).is_some() || non_empty(model).is_some()) {
            self.identity_sent = true;
            emit_identity(id, model, sink);
        }
    }

    /// Emits the usage if it changed. The answer does not depend on it, so a `usageMetadata` that does
    /// not parse is ignored.
    fn emit_usage(&mut self, metadata: Option<&RawValue>, sink: &mut dyn Sink) {
        let Some(newer) = metadata.and_then(|raw| parse::<UsageCounts>(raw.get()).ok()) else {
            return;
        };
        self.counts.update(newer);
        let usage = self.counts.usage();
        if usage != self.usage {
            self.usage = usage;
            sink.event(Event::Usage(usage));
        }
    }

    fn candidate(&mut self, candidate: &Candidate<'_>, sink: &mut dyn Sink) -> Result<(), Error> {
        let parts = candidate.content.iter().flat_map(|content| &content.parts);
        for part in parts.flat_map(ShortList::iter) {
            self.part(part, sink)?;
        }
        if let Some(metadata) = candidate.citation_metadata {
            self.sources.emit_citations(metadata, sink);
        }
        if let Some(metadata) = candidate.grounding_metadata {
            self.sources.set_grounding(metadata);
        }
        if let Some(reason) = finish(candidate, &self.vendor)? {
            // Older models send `STOP` with every chunk, so that one is not final.
            let before = self.finish.filter(|before| *before != FinishReason::Stop);
            self.finish = Some(more_specific(before, reason));
        }
        Ok(())
    }

    fn part(&mut self, part: &Part<'_>, sink: &mut dyn Sink) -> Result<(), Error> {
        if let Some(call) = &part.function_call {
            return self.calls.decode(call, sink);
        }
        if let Some(image) = part.inline_data.as_ref().and_then(InlineData::image) {
            sink.event(Event::Image(&image));
        }
        let text = non_empty(&part.text).unwrap_or_default();
        if part.thought {
            sink.event(Event::Reasoning(text));
        } else {
            sink.event(Event::Text(text));
        }
        Ok(())
    }
}

/// The chunks of a list, `None` if `data` is not a list.
fn parse_chunk_list(data: &str) -> Option<serde_json::Result<Vec<&RawValue>>> {
    data.trim_ascii_start()
        .starts_with('[')
        .then(|| parse(data))
}

fn is_terminal_chunk(chunk: &Chunk<'_>, vendor: &Vendor) -> bool {
    let mut candidates = chunk.candidates.iter().flat_map(ShortList::iter);
    chunk.error.is_some_and(is_error)
        || chunk
            .prompt_feedback
            .as_ref()
            .is_some_and(|feedback| feedback.is_blocked())
        || candidates.any(|candidate| !matches!(finish(candidate, vendor), Ok(None)))
}

/// The finish reason, `None` if there is none.
/// <https://ai.google.dev/api/generate-content#FinishReason>; the first four have the same numbers
/// there and at Vertex AI.
///
/// # Errors
/// For reasons that mean that the answer failed.
fn finish(candidate: &Candidate<'_>, vendor: &Vendor) -> Result<Option<FinishReason>, Error> {
    let reason = candidate.finish_reason();
    if vendor.finish_words.iter().any(|(own, _)| *own == reason) {
        return finish_reason(reason, vendor);
    }
    Ok(Some(match reason {
        "" | "0" | "FINISH_REASON_UNSPECIFIED" => return Ok(None),
        "STOP" | "1" => FinishReason::Stop,
        "MAX_TOKENS" | "2" => FinishReason::Length,
        "SAFETY" | "3" | "RECITATION" | "4" | "BLOCKLIST" | "PROHIBITED_CONTENT" | "SPII"
        | "MODEL_ARMOR" => FinishReason::ContentFilter,
        reason if reason.starts_with("IMAGE_") => FinishReason::ContentFilter,
        reason
            if reason.starts_with("MALFORMED_")
                || matches!(
                    reason,
                    "UNEXPECTED_TOOL_CALL" | "TOO_MANY_TOOL_CALLS" | "MISSING_THOUGHT_SIGNATURE"
                ) =>
        {
            let why = non_empty(&candidate.finish_message).map(|why| format!(": {why}"));
            return Err(Error::new(
                ErrorCode::UpstreamError,
                format!(
                    "the upstream failed to finish its answer: {reason}{}",
                    why.unwrap_or_default()
                ),
            ));
        }
        word => return finish_reason(word, vendor),
    }))
}
