//! Decodes chunks of the Gemini API.

use serde_json::value::RawValue;

use super::shape::{Candidate, Chunk, FunctionCall, Part, usage};
use super::sources::Sources;
use crate::framing::Frame;
use crate::model::{Error, ErrorCode, Event, FinishReason, Sink, ToolCallDelta, Usage};
use crate::wire::json::{ShortList, non_empty};
use crate::wire::parse::parse;
use crate::wire::{Decoder, interrupted, unparsable, upstream_error, wrong_protocol};

/// The state of one answer.
#[derive(Default)]
pub(super) struct ContentDecoder {
    /// The last finish reason. It does not end the answer: older models send one with every chunk.
    finish: Option<FinishReason>,
    identity_sent: bool,
    /// Whether any chunk had a field of this protocol.
    is_recognized: bool,
    /// Tool calls seen so far.
    calls: u32,
    usage: Usage,
    sources: Sources,
}

impl Decoder for ContentDecoder {
    fn frame(&mut self, frame: &Frame<'_>, sink: &mut dyn Sink) -> Result<(), Error> {
        let data = frame.data.trim_ascii();
        if data.is_empty() {
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
        let is_terminal =
            |json| parse::<Chunk<'_>>(json).is_ok_and(|chunk| is_terminal_chunk(&chunk));
        match parse_chunk_list(frame.data) {
            None => is_terminal(frame.data),
            Some(chunks) => chunks.is_ok_and(|list| list.iter().any(|raw| is_terminal(raw.get()))),
        }
    }

    /// Only the end of the body marks the end of the answer.
    fn end(&mut self, sink: &mut dyn Sink) -> Result<(), Error> {
        let finish = self.finish.ok_or_else(interrupted)?;
        self.sources.close(sink);
        sink.event(Event::Finish(
            if finish == FinishReason::Stop && self.calls > 0 {
                FinishReason::ToolCalls
            } else {
                finish
            },
        ));
        Ok(())
    }
}

impl ContentDecoder {
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
        self.emit_identity(&chunk, sink);
        let mut failure = None;
        for candidate in chunk.candidates.iter().flat_map(ShortList::iter) {
            self.is_recognized = true;
            // A stream is one answer: the other candidates are alternatives.
            if candidate.index.and_then(|index| index.0).unwrap_or(0) == 0
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
        if let Some(usage) = chunk.usage_metadata.and_then(usage)
            && usage != self.usage
        {
            self.usage = usage;
            sink.event(Event::Usage(usage));
        }
        if chunk.error.is_some() {
            return Err(upstream_error(json));
        }
        failure.map_or(Ok(()), Err)
    }

    fn emit_identity(&mut self, chunk: &Chunk<'_>, sink: &mut dyn Sink) {
        let id = non_empty(&chunk.response_id).unwrap_or_default();
        let model = non_empty(&chunk.model_version).unwrap_or_default();
        if !self.identity_sent && (!id.is_empty() || !model.is_empty()) {
            self.identity_sent = true;
            sink.event(Event::Identity {
                id,
                model,
                fingerprint: "",
            });
        }
    }

    fn candidate(&mut self, candidate: &Candidate<'_>, sink: &mut dyn Sink) -> Result<(), Error> {
        let parts = candidate.content.iter().flat_map(|content| &content.parts);
        for part in parts.flat_map(ShortList::iter) {
            self.part(part, sink);
        }
        if let Some(metadata) = candidate.citation_metadata {
            self.sources.emit_citations(metadata, sink);
        }
        if let Some(metadata) = candidate.grounding_metadata {
            self.sources.set_grounding(metadata);
        }
        if let Some(reason) = finish(candidate)? {
            self.finish = Some(reason);
        }
        Ok(())
    }

    fn part(&mut self, part: &Part<'_>, sink: &mut dyn Sink) {
        if let Some(call) = &part.function_call {
            return self.call(call, sink);
        }
        let text = non_empty(&part.text).unwrap_or_default();
        if part.thought == Some(true) {
            sink.event(Event::Reasoning(text));
        } else {
            sink.event(Event::Text(text));
        }
    }

    /// Emits a complete call. Models before Gemini 3 give calls no id.
    fn call(&mut self, call: &FunctionCall<'_>, sink: &mut dyn Sink) {
        sink.event(Event::ToolCall(ToolCallDelta {
            index: self.calls,
            id: non_empty(&call.id),
            name: Some(non_empty(&call.name).unwrap_or_default()),
            arguments: call.args.map_or("{}", RawValue::get),
        }));
        self.calls += 1;
    }
}

/// The chunks of a list, `None` if `data` is not a list.
fn parse_chunk_list(data: &str) -> Option<serde_json::Result<Vec<&RawValue>>> {
    data.trim_ascii_start()
        .starts_with('[')
        .then(|| parse(data))
}

fn is_terminal_chunk(chunk: &Chunk<'_>) -> bool {
    let mut candidates = chunk.candidates.iter().flat_map(ShortList::iter);
    chunk.error.is_some()
        || chunk
            .prompt_feedback
            .as_ref()
            .is_some_and(|feedback| feedback.is_blocked())
        || candidates.any(|candidate| !matches!(finish(candidate), Ok(None)))
}

/// The finish reason, `None` if there is none.
/// <https://ai.google.dev/api/generate-content#FinishReason>; the first four have the same numbers
/// there and at Vertex AI.
///
/// # Errors
/// For reasons that mean that the answer failed.
fn finish(candidate: &Candidate<'_>) -> Result<Option<FinishReason>, Error> {
    Ok(Some(match candidate.finish_reason() {
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
        _ => FinishReason::Other,
    }))
}
