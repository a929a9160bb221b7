//! Events to chunks: the role first, then deltas, the finish, the usage if it was asked for, and
//! `[DONE]`; or an error, and no `[DONE]` behind it.

use std::fmt::Write as _;

use bytes::{BufMut, BytesMut};
use serde::Serialize;
use serde_json::{Value, json};

use super::shape::{annotation, finish_reason, id, logprobs_wanted, usage};
use crate::dialect::{Answering, Completion, Encoder, Opening, openai_error};
use crate::model::{Error, Event, Request, ToolCallDelta, Usage};

pub(super) struct StreamEncoder {
    /// What every chunk begins with, up to its choices.
    head: String,
    usage_wanted: bool,
    logprobs_wanted: bool,
    /// For the next text.
    logprobs: Option<String>,
    refused: bool,
}

impl StreamEncoder {
    pub(super) fn new(request: &Request, opening: &Opening) -> Self {
        let (id, model) = (id(opening), Value::from(opening.model.as_str()));
        let created = opening.created;
        Self {
            head: format!(
                r#"data: {{"id":"{id}","object":"chat.completion.chunk","created":{created},"model":{model},"choices":["#
            ),
            usage_wanted: request.usage_wanted,
            logprobs_wanted: logprobs_wanted(request),
            logprobs: None,
            refused: false,
        }
    }

    /// One chunk of the answer, whose delta is an object's members.
    fn chunk(
        &mut self,
        delta: impl FnOnce(&mut BytesMut),
        finish: Option<&str>,
        out: &mut BytesMut,
    ) {
        out.put_slice(self.head.as_bytes());
        out.put_slice(br#"{"index":0,"delta":{"#);
        delta(out);
        out.put_slice(b"}");
        if let Some(logprobs) = self.logprobs.take() {
            out.put_slice(br#","logprobs":"#);
            out.put_slice(logprobs.as_bytes());
        }
        out.put_slice(br#","finish_reason":"#);
        match finish {
            None => out.put_slice(b"null"),
            Some(reason) => put_json(reason, out),
        }
        out.put_slice(b"}]");
        if self.usage_wanted {
            out.put_slice(br#","usage":null"#);
        }
        out.put_slice(b"}\n\n");
    }

    /// One chunk with one text.
    fn text(&mut self, member: &'static [u8], text: &str, out: &mut BytesMut) {
        let delta = |out: &mut BytesMut| {
            out.put_slice(member);
            put_json(text, out);
        };
        self.chunk(delta, None, out);
    }

    fn tool_call(&mut self, call: &ToolCallDelta<'_>, out: &mut BytesMut) {
        let delta = |out: &mut BytesMut| {
            // Writing to a BytesMut cannot fail.
            let _ = write!(out, r#""tool_calls":[{{"index":{},"#, call.index);
            if let Some(id) = call.id {
                out.put_slice(br#""id":"#);
                put_json(id, out);
                out.put_slice(br#","type":"function","#);
            }
            out.put_slice(br#""function":{"#);
            if let Some(name) = call.name {
                out.put_slice(br#""name":"#);
                put_json(name, out);
                out.put_slice(b",");
            }
            out.put_slice(br#""arguments":"#);
            put_json(call.arguments, out);
            out.put_slice(b"}}]");
        };
        self.chunk(delta, None, out);
    }
}

impl Encoder for StreamEncoder {
    fn start(&mut self, _: &Answering<'_>, out: &mut BytesMut) {
        let role = |out: &mut BytesMut| out.put_slice(br#""role":"assistant","content":"""#);
        self.chunk(role, None, out);
    }

    fn event(&mut self, event: &Event<'_>, out: &mut BytesMut) {
        match *event {
            Event::Text(text) => self.text(br#""content":"#, text, out),
            Event::Reasoning(text) => self.text(br#""reasoning_content":"#, text, out),
            Event::Refusal(text) => {
                self.refused = true;
                self.text(br#""refusal":"#, text, out);
            }
            Event::ToolCall(call) => self.tool_call(&call, out),
            Event::Citation(citation) => {
                if let Some(annotation) = annotation(citation) {
                    let delta = |out: &mut BytesMut| {
                        out.put_slice(br#""annotations":"#);
                        put_json(&[annotation], out);
                    };
                    self.chunk(delta, None, out);
                }
            }
            Event::Logprobs(json) if self.logprobs_wanted => {
                // Tokens without a text of their own, such as half a character.
                if self.logprobs.is_some() {
                    self.chunk(|_| {}, None, out);
                }
                self.logprobs = Some(json.to_owned());
            }
            Event::Identity { .. }
            | Event::Logprobs(_)
            | Event::Signature(_)
            | Event::SealedReasoning(_)
            | Event::Usage(_)
            | Event::Finish(_) => {}
        }
    }

    fn complete(&mut self, completion: &Completion, out: &mut BytesMut) {
        let reason = finish_reason(completion.finish, self.refused);
        self.chunk(|_| {}, Some(reason), out);
        if let (true, Some(counts)) = (self.usage_wanted, completion.usage) {
            out.put_slice(self.head.as_bytes());
            out.put_slice(br#"],"usage":"#);
            put_json(&usage(counts), out);
            out.put_slice(b"}\n\n");
        }
        out.put_slice(b"data: [DONE]\n\n");
    }

    fn error(&mut self, error: &Error, counts: Option<Usage>, out: &mut BytesMut) {
        let mut data = openai_error::body(error);
        if let (true, Some(counts)) = (self.usage_wanted, counts) {
            data["usage"] = json!(usage(counts));
        }
        out.put_slice(b"data: ");
        put_json(&data, out);
        out.put_slice(b"\n\n");
    }
}

/// JSON escapes line ends, so it is one line whatever the texts hold.
fn put_json(value: &(impl Serialize + ?Sized), out: &mut BytesMut) {
    let written = serde_json::to_writer(out.writer(), value);
    debug_assert!(written.is_ok(), "a BytesMut takes any write");
}
