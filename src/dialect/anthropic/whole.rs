//! Encodes events as one `message`.

use bytes::BytesMut;
use serde::Serialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::shape::{UsageData, citation, message_id, stop_reason};
use super::verbatim;
use crate::dialect::json::put_json;
use crate::dialect::{AnswerInfo, AnswerSource, Completion, Encoder, VerbatimEncoder};
use crate::model::{Error, Event, ToolCallDelta, Usage};

pub(super) struct WholeEncoder {
    info: AnswerInfo,
    upstream_id: Option<String>,
    content: Vec<Block>,
    /// The indexes of the tool calls and their positions in `content`.
    calls: Vec<(u32, usize)>,
}

/// Not a `Value`, which would round the numbers in the arguments of tool calls.
#[derive(Serialize)]
struct Message<'a> {
    id: String,
    #[serde(rename = "type")]
    kind: &'static str,
    role: &'static str,
    model: &'a str,
    content: &'a [Block],
    stop_reason: &'static str,
    stop_sequence: Option<&'a str>,
    usage: UsageData,
}

#[derive(Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Block {
    Text {
        text: String,
        #[serde(skip_serializing_if = "Vec::is_empty")]
        citations: Vec<Value>,
    },
    Thinking {
        thinking: String,
        signature: String,
    },
    RedactedThinking {
        data: String,
    },
    ToolUse {
        id: String,
        name: String,
        input: Input,
    },
}

/// The arguments of a tool call: a JSON text that is written unchanged.
#[derive(Default)]
struct Input(String);

impl WholeEncoder {
    pub(super) fn new(info: AnswerInfo) -> Self {
        Self {
            info,
            upstream_id: None,
            content: Vec::new(),
            calls: Vec::new(),
        }
    }

    /// Appends to the call's arguments, or adds the call.
    fn tool_use(&mut self, call: &ToolCallDelta<'_>) {
        let begun = self.calls.iter().find(|(index, _)| *index == call.index);
        if let Some((_, at)) = begun {
            if let Some(Block::ToolUse { input, .. }) = self.content.get_mut(*at) {
                input.0.push_str(call.arguments);
            }
            return;
        }
        self.calls.push((call.index, self.content.len()));
        self.content.push(Block::ToolUse {
            id: call.id.unwrap_or_default().to_owned(),
            name: call.name.unwrap_or_default().to_owned(),
            input: Input(call.arguments.to_owned()),
        });
    }
}

impl Encoder for WholeEncoder {
    fn start(&mut self, _: &AnswerSource<'_>, _: &mut BytesMut) {}

    fn event(&mut self, event: &Event<'_>, _: &mut BytesMut) {
        match (*event, self.content.last_mut()) {
            (Event::Identity { id, .. }, _) => self.upstream_id = Some(id.to_owned()),
            (
                Event::Logprobs(_)
                | Event::NativeMembers { .. }
                | Event::Image(_)
                | Event::Alternative { .. }
                | Event::Usage(_)
                | Event::Finish(_),
                _,
            ) => {}
            (Event::Text(more) | Event::Refusal(more), Some(Block::Text { text, .. })) => {
                text.push_str(more);
            }
            (Event::Text(text) | Event::Refusal(text), _) => self.content.push(Block::Text {
                text: text.to_owned(),
                citations: Vec::new(),
            }),
            (Event::Citation(source), Some(Block::Text { citations, .. })) => {
                citations.push(citation(&source));
            }
            (Event::Citation(source), _) => self.content.push(Block::Text {
                text: String::new(),
                citations: vec![citation(&source)],
            }),
            // A signature ends the text of a block: more thinking needs a new block.
            (
                Event::Reasoning(more),
                Some(Block::Thinking {
                    thinking,
                    signature,
                }),
            ) if signature.is_empty() => thinking.push_str(more),
            (Event::Reasoning(thinking), _) => self.content.push(Block::Thinking {
                thinking: thinking.to_owned(),
                signature: String::new(),
            }),
            (Event::Signature(more), Some(Block::Thinking { signature, .. })) => {
                signature.push_str(more);
            }
            (Event::Signature(signature), _) => self.content.push(Block::Thinking {
                thinking: String::new(),
                signature: signature.to_owned(),
            }),
            (Event::EncryptedReasoning(data), _) => self.content.push(Block::RedactedThinking {
                data: data.to_owned(),
            }),
            (Event::ToolCall(call), _) => self.tool_use(&call),
        }
    }

    fn complete(&mut self, completion: &Completion, out: &mut BytesMut) {
        let message = Message {
            id: message_id(self.upstream_id.as_deref(), &self.info),
            kind: "message",
            role: "assistant",
            model: &self.info.model,
            content: &self.content,
            stop_reason: stop_reason(completion.finish, !self.calls.is_empty()),
            stop_sequence: None,
            usage: UsageData::from(completion.usage.unwrap_or_default()),
        };
        put_json(&message, out);
    }

    /// The client gets the error as an HTTP error.
    fn error(&mut self, _: &Error, _: Option<Usage>, _: &mut BytesMut) {}

    fn verbatim(&self) -> Option<Box<dyn VerbatimEncoder>> {
        Some(Box::<verbatim::WholeEncoder>::default())
    }
}

impl Serialize for Input {
    /// Arguments that were cut, and so are not JSON, become a string, which shows the client that they
    /// are incomplete. No arguments become an empty object.
    fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        if self.0.trim_ascii().is_empty() {
            return json!({}).serialize(to);
        }
        match serde_json::from_str::<&RawValue>(&self.0) {
            Ok(json) => json.serialize(to),
            Err(_) => self.0.serialize(to),
        }
    }
}
