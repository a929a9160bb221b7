//! Encodes events as output items, one after another. A stream has an event for every step; a whole
//! answer is the object in the last of these events.

use std::sync::Arc;

use bytes::BytesMut;
use serde_json::{Value, json};

use super::custom_input::InputDecoder;
use super::event_writer::EventWriter;
use super::failure_code;
use super::item::{Item, ItemKind, annotation};
use super::response::{Head, ResponseState};
use super::tools::{ToolKind, ToolTable};
use super::verbatim;
use crate::dialect::json::put_json;
use crate::dialect::openai_error;
use crate::dialect::sequence::Sequence;
use crate::dialect::{
    AnswerInfo, AnswerSource, Completion, Encoder, OpeningHeartbeat, VerbatimEncoder,
};
use crate::model::{Citation, Error, Event, FinishReason, Request, ToolCallDelta, Usage};

pub(super) struct ResponseEncoder {
    sequence: Sequence,
    answer: Answer,
}

/// The answer so far.
struct Answer {
    head: Arc<Head>,
    output: Vec<Value>,
    open: Option<Item>,
    writer: EventWriter,
    begun: bool,
    tools: ToolTable,
    /// Decodes the arguments of the open call, if it is one of a custom tool.
    input: Option<InputDecoder>,
}

impl ResponseEncoder {
    pub(super) fn new(request: &Request, info: AnswerInfo) -> Self {
        let native = request.native_fields.as_ref();
        Self {
            sequence: Sequence::default(),
            answer: Answer {
                head: Arc::new(Head::new(request, &info)),
                output: Vec::new(),
                open: None,
                writer: EventWriter::new(request.stream),
                begun: false,
                tools: native
                    .map_or_else(ToolTable::default, |native| ToolTable::new(&native.fields)),
                input: None,
            },
        }
    }
}

impl Encoder for ResponseEncoder {
    fn start(&mut self, _: &AnswerSource<'_>, _: &mut BytesMut) {
        // `response.created` has the upstream's id, which is the next event, if any.
    }

    fn event(&mut self, event: &Event<'_>, out: &mut BytesMut) {
        let Self { sequence, answer } = self;
        sequence.push(event, &mut |event| answer.event(event, out));
    }

    fn complete(&mut self, completion: &Completion, out: &mut BytesMut) {
        let Self { sequence, answer } = self;
        sequence.flush(&mut |event| answer.event(event, out));
        answer.start_response(out);
        let reason = match completion.finish {
            FinishReason::Length => Some("max_output_tokens"),
            FinishReason::ContentFilter => Some("content_filter"),
            // The API has no word for any other reason: `completed` says only that the upstream ended its
            // answer, and `incomplete` would say that it was cut.
            _ => None,
        };
        let (status, event) = match reason {
            Some(_) => ("incomplete", "response.incomplete"),
            None => ("completed", "response.completed"),
        };
        answer.close(status, out);
        let response = answer.head.response(&ResponseState {
            status,
            output: &answer.output,
            usage: completion.usage,
            reason,
            error: None,
        });
        if answer.writer.streamed {
            let data = json!({ "response": response });
            answer.writer.write(event, data, out);
        } else {
            put_json(&response, out);
        }
    }

    /// Writes `error`, at which OpenAI's own clients raise, and `response.failed`, which has the output
    /// so far: the API sends both.
    fn error(&mut self, error: &Error, usage: Option<Usage>, out: &mut BytesMut) {
        let Self { sequence, answer } = self;
        sequence.flush(&mut |event| answer.event(event, out));
        answer.start_response(out);
        let (kind, code) = (openai_error::error_type(error), error.code().as_str());
        let message = error.message();
        // The documented form has these at the top level, the API sends them within `error`.
        let data = json!({
            "code": code,
            "message": message,
            "param": null,
            "error": { "type": kind, "code": code, "message": message, "param": null },
        });
        answer.writer.write("error", data, out);
        let broken = answer.open.take().map(|item| item.done("incomplete"));
        answer.output.extend(broken);
        let response = answer.head.response(&ResponseState {
            status: "failed",
            output: &answer.output,
            usage,
            reason: None,
            error: Some(json!({ "code": failure_code(error), "message": message })),
        });
        let data = json!({ "response": response });
        answer.writer.write("response.failed", data, out);
    }

    fn heartbeat(&self, out: &mut BytesMut) {
        if self.answer.begun {
            let response = self.answer.head.in_progress();
            self.answer.writer.repeat_in_progress(&response, out);
        }
    }

    fn opening_heartbeat(&self) -> Option<Arc<dyn OpeningHeartbeat>> {
        let is_streamed = self.answer.writer.streamed;
        is_streamed.then(|| Arc::<Head>::clone(&self.answer.head) as _)
    }

    fn verbatim(&self) -> Option<Box<dyn VerbatimEncoder>> {
        Some(if self.answer.writer.streamed {
            Box::<verbatim::StreamEncoder>::default()
        } else {
            Box::<verbatim::WholeEncoder>::default()
        })
    }
}

impl Answer {
    fn event(&mut self, event: &Event<'_>, out: &mut BytesMut) {
        match *event {
            Event::Identity { id, .. } if !self.begun => self.head.set_id(id),
            Event::Identity { .. }
            | Event::Logprobs(_)
            | Event::NativeMembers { .. }
            | Event::Alternative { .. }
            | Event::Usage(_)
            | Event::Finish(_) => {}
            Event::Text(text) => {
                self.continue_part(ItemKind::Text, out);
                self.append("response.output_text.delta", text, out);
            }
            Event::Refusal(text) => {
                self.continue_part(ItemKind::Refusal, out);
                self.append("response.refusal.delta", text, out);
            }
            Event::Citation(citation) => self.citation(&citation, out),
            Event::Image(url) => {
                // An item of its own, which has no pieces.
                self.open_item(ItemKind::image(url), out);
                self.close("completed", out);
            }
            Event::Reasoning(text) => self.reasoning(text, out),
            Event::Signature(more) => self.signature(more, out),
            Event::EncryptedReasoning(encrypted) => {
                let kind = ItemKind::Reasoning {
                    shown: false,
                    encrypted: encrypted.to_owned(),
                };
                self.open_item(kind, out);
            }
            Event::ToolCall(call) => self.call(&call, out),
        }
    }

    /// Opens a part of a message unless one of this kind is open.
    fn continue_part(&mut self, kind: ItemKind, out: &mut BytesMut) {
        match &mut self.open {
            Some(open) if open.kind == kind => {}
            Some(open) if open.kind.is_part() => {
                self.writer.part_done(open, self.output.len(), out);
                let part = open.part();
                open.parts.push(part);
                open.annotations.clear();
                open.text.clear();
                open.kind = kind;
                self.writer.part_added(open, self.output.len(), out);
            }
            _ => self.open_item(kind, out),
        }
    }

    fn citation(&mut self, citation: &Citation<'_>, out: &mut BytesMut) {
        let Some(annotation) = annotation(citation) else {
            return;
        };
        self.continue_part(ItemKind::Text, out);
        if let Some(open) = &mut self.open {
            let at = self.output.len();
            self.writer.annotation(open, at, &annotation, out);
            open.annotations.push(annotation);
        }
    }

    /// Reasoning after a signature needs a new item.
    fn reasoning(&mut self, text: &str, out: &mut BytesMut) {
        let is_open = self.open.as_ref().is_some_and(|open| {
            matches!(&open.kind, ItemKind::Reasoning { shown: true, encrypted } if encrypted.is_empty())
        });
        if !is_open {
            let kind = ItemKind::Reasoning {
                shown: true,
                encrypted: String::new(),
            };
            self.open_item(kind, out);
        }
        self.append("response.reasoning_summary_text.delta", text, out);
    }

    /// A signature of reasoning that was not shown gets an item with an empty summary, unlike reasoning
    /// that consists of encrypted content only.
    fn signature(&mut self, more: &str, out: &mut BytesMut) {
        if !matches!(
            self.open.as_ref().map(|open| &open.kind),
            Some(ItemKind::Reasoning { shown: true, .. })
        ) {
            let kind = ItemKind::Reasoning {
                shown: true,
                encrypted: String::new(),
            };
            self.open_item(kind, out);
        }
        if let Some(Item {
            kind: ItemKind::Reasoning { encrypted, .. },
            ..
        }) = &mut self.open
        {
            encrypted.push_str(more);
        }
    }

    fn call(&mut self, call: &ToolCallDelta<'_>, out: &mut BytesMut) {
        let is_open = self.open.as_ref().and_then(|open| match &open.kind {
            ItemKind::Call { index, tool, .. } if *index == call.index => Some(*tool),
            _ => None,
        });
        let tool = is_open.unwrap_or_else(|| {
            let tool = self.tools.find(call.name.unwrap_or_default());
            let kind = ItemKind::call(call, tool);
            let tool = tool.map_or(ToolKind::Function, |tool| tool.kind);
            self.open_item(kind, out);
            self.input = (tool == ToolKind::Custom).then(InputDecoder::default);
            tool
        });
        if call.arguments.is_empty() {
            return;
        }
        match (tool, &mut self.input) {
            (ToolKind::Custom, Some(decoder)) => {
                let input = decoder.push(call.arguments);
                self.append_input(&input, out);
            }
            // The API sends these arguments with the item only.
            (ToolKind::Search, _) => {
                if let Some(open) = &mut self.open {
                    open.text.push_str(call.arguments);
                }
            }
            _ => self.append(
                "response.function_call_arguments.delta",
                call.arguments,
                out,
            ),
        }
    }

    fn append_input(&mut self, input: &str, out: &mut BytesMut) {
        if !input.is_empty() {
            self.append("response.custom_tool_call_input.delta", input, out);
        }
    }

    fn start_response(&mut self, out: &mut BytesMut) {
        if self.begun {
            return;
        }
        self.begun = true;
        if self.writer.streamed {
            let next = self.head.write_opening(out);
            self.writer.set_next(next);
        }
    }

    /// Closes the open item and opens a new one.
    fn open_item(&mut self, kind: ItemKind, out: &mut BytesMut) {
        self.start_response(out);
        self.close("completed", out);
        let at = self.output.len();
        let item = Item::new(kind, &self.head.item_key(at));
        self.writer.item_added(&item, at, out);
        self.open = Some(item);
    }

    fn append(&mut self, event: &'static str, more: &str, out: &mut BytesMut) {
        if let Some(open) = &mut self.open {
            open.text.push_str(more);
            self.writer.delta(event, open, self.output.len(), more, out);
        }
    }

    /// Closes the open item.
    fn close(&mut self, status: &str, out: &mut BytesMut) {
        if let Some(mut decoder) = self.input.take() {
            self.append_input(&decoder.finish(), out);
        }
        if let Some(open) = self.open.take() {
            let item = open.done(status);
            self.writer.item_done(&open, &item, self.output.len(), out);
            self.output.push(item);
        }
    }
}
