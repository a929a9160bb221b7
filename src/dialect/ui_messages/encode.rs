//! Encodes events as parts, one after another; then `finish` or `error`, and `[DONE]` after either,
//! like the SDK's own servers.

use bytes::{BufMut, BytesMut};
use serde_json::value::RawValue;

use super::chunk::{Chunk, Metadata, ProviderData, finish_reason, media_type, write_delta};
use crate::dialect::sequence::Sequence;
use crate::dialect::{AnswerSource, Completion, Encoder};
use crate::model::{Citation, Error, Event, Request, Role, StreamId, ToolCallDelta, Usage};

pub(super) struct UiEncoder {
    sequence: Sequence,
    answer: Answer,
}

/// The answer as far as it was written.
struct Answer {
    stream: StreamId,
    /// Whether it continues the chat's last message, whose id it keeps.
    continues: bool,
    /// The open part, and its id.
    open: Option<Part>,
    id: String,
    /// Make the ids of parts and of sources.
    parts: u32,
    sources: u32,
}

enum Part {
    Text,
    Reasoning {
        signature: String,
    },
    ToolInput {
        index: u32,
        name: String,
        input: String,
    },
}

impl UiEncoder {
    pub(super) fn new(request: &Request, stream: StreamId) -> Self {
        // After the result of a call the assistant continues its last message.
        let last = request.messages.last().map(|message| message.role);
        Self {
            sequence: Sequence::default(),
            answer: Answer {
                stream,
                continues: matches!(last, Some(Role::Assistant | Role::Tool)),
                open: None,
                id: String::new(),
                parts: 0,
                sources: 0,
            },
        }
    }
}

impl Encoder for UiEncoder {
    fn start(&mut self, _: &AnswerSource<'_>, out: &mut BytesMut) {
        let id = format!("msg_{}", self.answer.stream);
        Chunk::Start {
            message_id: (!self.answer.continues).then_some(&id),
        }
        .write(out);
        Chunk::StartStep.write(out);
    }

    fn event(&mut self, event: &Event<'_>, out: &mut BytesMut) {
        let Self { sequence, answer } = self;
        sequence.push(event, &mut |event| answer.event(event, out));
    }

    fn complete(&mut self, completion: &Completion, out: &mut BytesMut) {
        let Self { sequence, answer } = self;
        sequence.flush(&mut |event| answer.event(event, out));
        answer.close_part(out);
        match finish_reason(completion.finish) {
            Some(finish_reason) => {
                Chunk::FinishStep.write(out);
                Chunk::Finish {
                    finish_reason,
                    message_metadata: completion.usage.map(Into::into),
                }
                .write(out);
            }
            None => Chunk::Abort.write(out),
        }
        out.put_slice(b"data: [DONE]\n\n");
    }

    /// The open part is not closed, because it is incomplete.
    fn error(&mut self, error: &Error, _: Option<Usage>, out: &mut BytesMut) {
        let Self { sequence, answer } = self;
        sequence.flush(&mut |event| answer.event(event, out));
        Chunk::Error {
            error_text: error.message(),
        }
        .write(out);
        out.put_slice(b"data: [DONE]\n\n");
    }
}

impl Answer {
    fn event(&mut self, event: &Event<'_>, out: &mut BytesMut) {
        match *event {
            Event::Text(delta) | Event::Refusal(delta) => {
                self.open_text(out);
                write_delta("text-delta", &self.id, delta, out);
            }
            Event::Reasoning(delta) => {
                self.open_reasoning(out);
                write_delta("reasoning-delta", &self.id, delta, out);
            }
            Event::Signature(more) => {
                self.open_reasoning(out);
                if let Some(Part::Reasoning { signature }) = &mut self.open {
                    signature.push_str(more);
                }
            }
            Event::EncryptedReasoning(sealed) => self.sealed(sealed, out),
            Event::ToolCall(call) => self.tool_call(&call, out),
            Event::Citation(citation) => self.source(&citation, out),
            Event::Image(url) => {
                self.close_part(out);
                Chunk::File {
                    url,
                    media_type: media_type(url),
                }
                .write(out);
            }
            Event::Identity { .. }
            | Event::Logprobs(_)
            | Event::NativeMembers { .. }
            | Event::Alternative { .. }
            | Event::Usage(_)
            | Event::Finish(_) => {}
        }
    }

    fn open_text(&mut self, out: &mut BytesMut) {
        if !matches!(self.open, Some(Part::Text)) {
            self.close_part(out);
            self.set_part_id("text");
            Chunk::TextStart { id: &self.id }.write(out);
            self.open = Some(Part::Text);
        }
    }

    fn open_reasoning(&mut self, out: &mut BytesMut) {
        if !matches!(self.open, Some(Part::Reasoning { .. })) {
            self.close_part(out);
            self.set_part_id("reasoning");
            Chunk::ReasoningStart {
                id: &self.id,
                provider_metadata: None,
            }
            .write(out);
            self.open = Some(Part::Reasoning {
                signature: String::new(),
            });
        }
    }

    /// Writes a reasoning part without text, for the client to send back.
    fn sealed(&mut self, sealed: &str, out: &mut BytesMut) {
        self.close_part(out);
        self.set_part_id("reasoning");
        let data = ProviderData {
            sealed: Some(sealed),
            ..ProviderData::default()
        };
        Chunk::ReasoningStart {
            id: &self.id,
            provider_metadata: Some(data.into()),
        }
        .write(out);
        Chunk::ReasoningEnd {
            id: &self.id,
            provider_metadata: None,
        }
        .write(out);
    }

    fn tool_call(&mut self, call: &ToolCallDelta<'_>, out: &mut BytesMut) {
        let is_open =
            matches!(self.open, Some(Part::ToolInput { index, .. }) if index == call.index);
        if !is_open {
            self.close_part(out);
            self.id = self.call_id(call);
            let name = call.name.unwrap_or_default();
            Chunk::ToolInputStart {
                tool_call_id: &self.id,
                tool_name: name,
            }
            .write(out);
            self.open = Some(Part::ToolInput {
                index: call.index,
                name: name.to_owned(),
                input: String::new(),
            });
        }
        if call.arguments.is_empty() {
            return;
        }
        Chunk::ToolInputDelta {
            tool_call_id: &self.id,
            input_text_delta: call.arguments,
        }
        .write(out);
        if let Some(Part::ToolInput { input, .. }) = &mut self.open {
            input.push_str(call.arguments);
        }
    }

    /// The id of a call. A chat looks up calls by id within a message, which may consist of several
    /// answers; some upstreams number their calls from 0 in each answer.
    fn call_id(&self, call: &ToolCallDelta<'_>) -> String {
        let numbered = format!("call_{}", call.index);
        match call.id {
            Some(id) if id != numbered => id.to_owned(),
            _ => format!("{numbered}_{}", self.stream),
        }
    }

    /// Sources are whole parts and may come within a text.
    fn source(&mut self, citation: &Citation<'_>, out: &mut BytesMut) {
        let source_id = format!("source-{}", self.sources);
        self.sources += 1;
        let provider_metadata = Metadata::of(citation);
        let chunk = match citation.url {
            Some(url) => Chunk::SourceUrl {
                source_id: &source_id,
                url,
                title: citation.title,
                provider_metadata,
            },
            None => Chunk::SourceDocument {
                source_id: &source_id,
                // The vendor sends nothing more about the document.
                media_type: "text/plain",
                title: citation.title.unwrap_or_default(),
                provider_metadata,
            },
        };
        chunk.write(out);
    }

    fn set_part_id(&mut self, kind: &str) {
        self.id = format!("{kind}-{}", self.parts);
        self.parts += 1;
    }

    fn close_part(&mut self, out: &mut BytesMut) {
        let id = &self.id;
        match self.open.take() {
            None => {}
            Some(Part::Text) => Chunk::TextEnd { id }.write(out),
            Some(Part::Reasoning { signature }) => {
                let data = ProviderData {
                    signature: Some(&signature),
                    ..ProviderData::default()
                };
                let signed = !signature.is_empty();
                Chunk::ReasoningEnd {
                    id,
                    provider_metadata: signed.then(|| data.into()),
                }
                .write(out);
            }
            Some(Part::ToolInput { name, input, .. }) => write_input(id, &name, input, out),
        }
    }
}

/// Writes the whole arguments of a call, or that they are not JSON.
fn write_input(id: &str, name: &str, mut input: String, out: &mut BytesMut) {
    if input.is_empty() {
        // Some models send no arguments to a tool that takes none.
        input.push_str("{}");
    }
    // A line end would end the data; in JSON one occurs only between two tokens.
    let line = input.replace(['\n', '\r'], " ");
    match serde_json::from_str::<&RawValue>(&line) {
        Ok(json) => Chunk::ToolInputAvailable {
            tool_call_id: id,
            tool_name: name,
            input: json,
        }
        .write(out),
        Err(_) => Chunk::ToolInputError {
            tool_call_id: id,
            tool_name: name,
            input: &input,
            error_text: "the model's arguments are not JSON",
        }
        .write(out),
    }
}
