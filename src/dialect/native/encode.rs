//! Encodes events as `id:`, `event:`, `data:` lines.

use std::time::{Duration, UNIX_EPOCH};

use bytes::{BufMut, BytesMut};
use serde::Serialize;
use serde_json::{Value, json};

use super::error_fields;
use crate::dialect::json::{put_json, put_number, put_text};
use crate::dialect::{AnswerInfo, AnswerSource, Completion, Encoder};
use crate::model::{Citation, Error, Event, Ordinal, StreamId, ToolCallDelta, Usage};

/// How long an `EventSource` waits before it reconnects, in milliseconds.
const RETRY_MS: u32 = 2000;

/// Writes the reconnection time for an `EventSource`; an event has to follow.
pub fn write_retry(out: &mut BytesMut) {
    out.put_slice(b"retry: ");
    put_number(u64::from(RETRY_MS), out);
    out.put_u8(b'\n');
}

pub(super) struct NativeEncoder {
    info: AnswerInfo,
    /// `id: st_….` and a zero for each epoch; each event appends its number.
    id: String,
    number: u64,
    attempts: Vec<String>,
}

#[derive(Serialize)]
struct ToolCallData<'a> {
    index: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<&'a str>,
    arguments: &'a str,
}

#[derive(Serialize)]
struct CitationData<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    url: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    title: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    text: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    start: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    end: Option<u64>,
}

/// Counts that the upstream left out are null; details that it left out are 0.
#[derive(Serialize)]
struct UsageData {
    input_tokens: Option<u64>,
    output_tokens: Option<u64>,
    cached_input_tokens: u64,
    reasoning_tokens: u64,
}

impl NativeEncoder {
    pub(super) fn new(info: AnswerInfo) -> Self {
        let id = format!("id: {}.", info.stream);
        Self {
            info,
            id,
            number: 0,
            attempts: Vec::new(),
        }
    }

    /// For a stream whose start was written before.
    pub(super) fn continuing(stream: StreamId, next: Ordinal) -> Self {
        let zeros = "0".repeat(next.epoch.into());
        Self {
            info: AnswerInfo {
                stream,
                model: String::new(),
                created: 0,
            },
            id: format!("id: {stream}.{zeros}"),
            number: next.number,
            attempts: Vec::new(),
        }
    }

    /// Sets the contents of the `start` event, if that is still to be written.
    pub(super) fn set_start(&mut self, model: String, created: u64) {
        (self.info.model, self.info.created) = (model, created);
    }

    fn write(&mut self, event: &str, data: &impl Serialize, out: &mut BytesMut) {
        self.put_head(event, out);
        put_json(data, out);
        out.put_slice(b"\n\n");
    }

    /// Writes an event with one text: the form of nearly every token.
    fn write_text(&mut self, event: &str, text: &str, out: &mut BytesMut) {
        self.put_head(event, out);
        out.put_slice(br#"{"text":"#);
        put_text(text, out);
        out.put_slice(b"}\n\n");
    }

    fn add_attempts(&mut self, data: &mut Value) {
        if !self.attempts.is_empty() {
            data["attempts"] = std::mem::take(&mut self.attempts).into();
        }
    }

    /// Writes an event up to its data.
    fn put_head(&mut self, event: &str, out: &mut BytesMut) {
        out.put_slice(self.id.as_bytes());
        put_number(self.number, out);
        out.put_slice(b"\nevent: ");
        out.put_slice(event.as_bytes());
        out.put_slice(b"\ndata: ");
        self.number += 1;
    }
}

impl Encoder for NativeEncoder {
    fn set_attempts(&mut self, attempts: Vec<String>) {
        self.attempts = attempts;
    }

    fn start(&mut self, source: &AnswerSource<'_>, out: &mut BytesMut) {
        write_retry(out);
        let created = UNIX_EPOCH + Duration::from_secs(self.info.created);
        let data = json!({
            "stream": self.info.stream.to_string(),
            "model": self.info.model,
            "upstream": source.upstream,
            "upstream_model": source.model,
            "created": humantime::format_rfc3339_seconds(created).to_string(),
        });
        self.write("start", &data, out);
    }

    fn event(&mut self, event: &Event<'_>, out: &mut BytesMut) {
        match *event {
            Event::Text(text) | Event::Refusal(text) => self.write_text("token", text, out),
            Event::Reasoning(text) => self.write_text("reasoning", text, out),
            Event::ToolCall(call) => self.write("tool_call", &ToolCallData::from(call), out),
            Event::Citation(citation) => {
                self.write("citation", &CitationData::from(citation), out);
            }
            Event::Identity { .. }
            | Event::Logprobs(_)
            | Event::NativeMembers { .. }
            | Event::Image(_)
            | Event::Signature(_)
            | Event::EncryptedReasoning(_)
            | Event::Alternative { .. }
            | Event::Usage(_)
            | Event::Finish(_) => {}
        }
    }

    fn complete(&mut self, completion: &Completion, out: &mut BytesMut) {
        let mut data = json!({
            "finish_reason": completion.finish.as_str(),
            "usage": completion.usage.map(UsageData::from),
            "timing": {
                "first_token_ms": completion.first_token_ms,
                "total_ms": completion.total_ms,
            },
        });
        if completion.continued > 0 {
            data["continued"] = completion.continued.into();
        }
        self.add_attempts(&mut data);
        self.write("complete", &data, out);
    }

    fn error(&mut self, error: &Error, usage: Option<Usage>, out: &mut BytesMut) {
        let mut data = json!({ "error": error_fields(error) });
        if let Some(usage) = usage {
            data["usage"] = json!(UsageData::from(usage));
        }
        self.add_attempts(&mut data);
        self.write("error", &data, out);
    }
}

impl<'a> From<ToolCallDelta<'a>> for ToolCallData<'a> {
    fn from(call: ToolCallDelta<'a>) -> Self {
        Self {
            index: call.index,
            id: call.id,
            name: call.name,
            arguments: call.arguments,
        }
    }
}

impl<'a> From<Citation<'a>> for CitationData<'a> {
    fn from(citation: Citation<'a>) -> Self {
        Self {
            url: citation.url,
            title: citation.title,
            text: citation.text,
            start: citation.start,
            end: citation.end,
        }
    }
}

impl From<Usage> for UsageData {
    fn from(usage: Usage) -> Self {
        Self {
            input_tokens: usage.input,
            output_tokens: usage.output,
            cached_input_tokens: usage.cached_input.unwrap_or(0),
            reasoning_tokens: usage.reasoning.unwrap_or(0),
        }
    }
}
