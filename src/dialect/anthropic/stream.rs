//! Encodes events as the API's stream: `message_start`, then content blocks one after another, then
//! `message_delta` and `message_stop`; or `error` as the last event.

use bytes::{BufMut, BytesMut};
use serde_json::{Value, json};

use super::error_type;
use super::shape::{UsageData, citation, message_id, stop_reason};
use super::verbatim;
use crate::dialect::event_stream::write_event;
use crate::dialect::json::{put_json, put_number, put_text};
use crate::dialect::sequence::Sequence;
use crate::dialect::{AnswerInfo, AnswerSource, Completion, Encoder, VerbatimEncoder};
use crate::model::{Error, Event, ToolCallDelta, Usage};

pub(super) struct StreamEncoder {
    sequence: Sequence,
    message: Message,
}

/// The message as far as it was written.
struct Message {
    info: AnswerInfo,
    upstream_id: Option<String>,
    usage: Usage,
    started: bool,
    open: Option<Block>,
    /// The next block's index.
    index: u64,
    calls: bool,
}

/// A block that has not stopped.
enum Block {
    Text,
    Thinking {
        /// Written when the block stops, because clients replace a signature by the next one.
        signature: String,
    },
    Redacted,
    ToolUse {
        call: u32,
    },
}

impl StreamEncoder {
    pub(super) fn new(info: AnswerInfo) -> Self {
        Self {
            sequence: Sequence::default(),
            message: Message {
                info,
                upstream_id: None,
                usage: Usage::default(),
                started: false,
                open: None,
                index: 0,
                calls: false,
            },
        }
    }
}

impl Encoder for StreamEncoder {
    fn start(&mut self, _: &AnswerSource<'_>, _: &mut BytesMut) {
        // `message_start` has the upstream's id and counts, which are the next events, if any.
    }

    fn event(&mut self, event: &Event<'_>, out: &mut BytesMut) {
        let Self { sequence, message } = self;
        sequence.push(event, &mut |event| message.event(event, out));
    }

    fn complete(&mut self, completion: &Completion, out: &mut BytesMut) {
        let Self { sequence, message } = self;
        sequence.flush(&mut |event| message.event(event, out));
        message.start(out);
        message.stop_block(out);
        let usage = UsageData::from(completion.usage.unwrap_or_default());
        let delta = json!({
            "type": "message_delta",
            "delta": {
                "stop_reason": stop_reason(completion.finish, message.calls),
                "stop_sequence": null,
            },
            "usage": usage,
        });
        write_event("message_delta", &delta, out);
        write_event("message_stop", &json!({ "type": "message_stop" }), out);
    }

    fn error(&mut self, error: &Error, _: Option<Usage>, out: &mut BytesMut) {
        let Self { sequence, message } = self;
        sequence.flush(&mut |event| message.event(event, out));
        let data = json!({
            "type": "error",
            "error": { "type": error_type(error), "message": error.message() },
        });
        write_event("error", &data, out);
    }

    fn verbatim(&self) -> Option<Box<dyn VerbatimEncoder>> {
        Some(Box::new(verbatim::StreamEncoder))
    }
}

impl Message {
    fn event(&mut self, event: &Event<'_>, out: &mut BytesMut) {
        match *event {
            Event::Identity { id, .. } => self.upstream_id = Some(id.to_owned()),
            Event::Usage(usage) => self.usage.update(usage),
            Event::Logprobs(_)
            | Event::NativeMembers { .. }
            | Event::Image(_)
            | Event::Alternative { .. }
            | Event::Finish(_) => {}
            Event::Text(text) | Event::Refusal(text) => {
                self.open_text(out);
                self.text_delta("text_delta", "text", text, out);
            }
            Event::Citation(source) => {
                self.open_text(out);
                let citation = citation(&source);
                let put = |out: &mut BytesMut| put_json(&citation, out);
                self.delta("citations_delta", "citation", put, out);
            }
            Event::Reasoning(thinking) => {
                self.open_thinking(true, out);
                self.text_delta("thinking_delta", "thinking", thinking, out);
            }
            Event::Signature(more) => {
                self.open_thinking(false, out);
                if let Some(Block::Thinking { signature }) = &mut self.open {
                    signature.push_str(more);
                }
            }
            Event::EncryptedReasoning(data) => {
                self.start_block(&json!({ "type": "redacted_thinking", "data": data }), out);
                self.open = Some(Block::Redacted);
            }
            Event::ToolCall(call) => self.tool_use(&call, out),
        }
    }

    /// Opens a text block unless one is open.
    fn open_text(&mut self, out: &mut BytesMut) {
        if !matches!(self.open, Some(Block::Text)) {
            self.start_block(&json!({ "type": "text", "text": "" }), out);
            self.open = Some(Block::Text);
        }
    }

    /// Opens a thinking block unless one is open. A signature ends the text of a block: `new_text`
    /// after it needs a new block.
    fn open_thinking(&mut self, new_text: bool, out: &mut BytesMut) {
        if let Some(Block::Thinking { signature }) = &self.open
            && (signature.is_empty() || !new_text)
        {
            return;
        }
        let block = json!({ "type": "thinking", "thinking": "", "signature": "" });
        self.start_block(&block, out);
        self.open = Some(Block::Thinking {
            signature: String::new(),
        });
    }

    fn tool_use(&mut self, call: &ToolCallDelta<'_>, out: &mut BytesMut) {
        if !matches!(self.open, Some(Block::ToolUse { call: open }) if open == call.index) {
            let block = json!({
                "type": "tool_use",
                "id": call.id.unwrap_or_default(),
                "name": call.name.unwrap_or_default(),
                "input": {},
            });
            self.start_block(&block, out);
            self.open = Some(Block::ToolUse { call: call.index });
            self.calls = true;
        }
        if !call.arguments.is_empty() {
            self.text_delta("input_json_delta", "partial_json", call.arguments, out);
        }
    }

    fn start(&mut self, out: &mut BytesMut) {
        if self.started {
            return;
        }
        self.started = true;
        let data = json!({
            "type": "message_start",
            "message": {
                "id": message_id(self.upstream_id.as_deref(), &self.info),
                "type": "message",
                "role": "assistant",
                "model": self.info.model,
                "content": [],
                "stop_reason": null,
                "stop_sequence": null,
                "usage": UsageData::from(self.usage),
            },
        });
        write_event("message_start", &data, out);
    }

    fn start_block(&mut self, block: &Value, out: &mut BytesMut) {
        self.start(out);
        self.stop_block(out);
        let data = json!({
            "type": "content_block_start",
            "index": self.index,
            "content_block": block,
        });
        write_event("content_block_start", &data, out);
        self.index += 1;
    }

    fn stop_block(&mut self, out: &mut BytesMut) {
        match self.open.take() {
            None => return,
            Some(Block::Thinking { signature }) if !signature.is_empty() => {
                self.text_delta("signature_delta", "signature", &signature, out);
            }
            Some(_) => {}
        }
        let data = json!({ "type": "content_block_stop", "index": self.index - 1 });
        write_event("content_block_stop", &data, out);
    }

    fn text_delta(&self, kind: &str, member: &str, text: &str, out: &mut BytesMut) {
        self.delta(kind, member, |out| put_text(text, out), out);
    }

    /// Writes a delta of the open block: its type and its only member.
    fn delta(&self, kind: &str, member: &str, put: impl FnOnce(&mut BytesMut), out: &mut BytesMut) {
        out.put_slice(
            b"event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":",
        );
        put_number(self.index - 1, out);
        out.put_slice(b",\"delta\":{\"type\":\"");
        out.put_slice(kind.as_bytes());
        out.put_slice(b"\",\"");
        out.put_slice(member.as_bytes());
        out.put_slice(b"\":");
        put(out);
        out.put_slice(b"}}\n\n");
    }
}
