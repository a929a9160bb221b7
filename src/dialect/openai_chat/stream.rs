//! Encodes events as chunks: the role first, then deltas, the finish, the usage if the client asked
//! for it, and `[DONE]`; or an error without `[DONE]`.

use std::fmt::Write as _;

use bytes::{BufMut, BytesMut};
use serde_json::{Map, Value};

use super::shape::{
    add_members, annotation, bare_members, choices, finish_reason, id, image, logprobs_wanted,
    usage,
};
use super::verbatim;
use crate::dialect::json::{put_json, put_text};
use crate::dialect::{
    AnswerInfo, AnswerSource, Completion, Encoder, VerbatimEncoder, openai_error,
};
use crate::model::{Error, Event, MemberPlace, Request, ToolCallDelta, Usage};

pub(super) struct StreamEncoder {
    template: ChunkTemplate,
    /// As many as the client asked for.
    choices: Vec<Choice>,
}

/// The parts that all chunks of a stream share.
struct ChunkTemplate {
    /// The beginning of every chunk, up to its choices.
    head: String,
    usage_wanted: bool,
    logprobs_wanted: bool,
    /// Whether calls are written as `function_call`.
    legacy: bool,
    /// The vendor's own members of the answer, with a comma before each.
    members: String,
    /// Those of the usage.
    usage_members: Map<String, Value>,
}

/// One choice.
struct Choice {
    index: usize,
    /// Whether the role was written.
    begun: bool,
    /// Belong to the next text.
    logprobs: Option<String>,
    /// The vendor's own members of the next delta, without the braces around them.
    members: Option<String>,
    /// Those of the choice, with a comma before each.
    choice_members: String,
    /// Those of the next chunk's choice, in place of the others.
    choice_piece: Option<String>,
    /// The answer's own members in the next chunk, in place of the others.
    answer_piece: Option<String>,
    /// Whether members are held back for the next chunk.
    members_held: bool,
    refused: bool,
    /// Whether the client has calls to answer.
    called: bool,
    images: usize,
}

impl StreamEncoder {
    pub(super) fn new(request: &Request, info: &AnswerInfo) -> Self {
        let (id, model) = (id(info), Value::from(info.model.as_str()));
        let created = info.created;
        let choices = (0..choices(request)).map(|index| Choice {
            index,
            begun: false,
            logprobs: None,
            members: None,
            choice_members: String::new(),
            choice_piece: None,
            answer_piece: None,
            members_held: false,
            refused: false,
            called: false,
            images: 0,
        });
        Self {
            template: ChunkTemplate {
                head: format!(
                    r#"data: {{"id":"{id}","object":"chat.completion.chunk","created":{created},"model":{model},"choices":["#
                ),
                usage_wanted: request.usage_wanted,
                logprobs_wanted: logprobs_wanted(request),
                legacy: request.legacy_functions,
                members: String::new(),
                usage_members: Map::new(),
            },
            choices: choices.collect(),
        }
    }

    /// The answer of that index, if the client asked for so many.
    fn choice(&mut self, index: u32) -> Option<(&ChunkTemplate, &mut Choice)> {
        let choice = self.choices.get_mut(index as usize)?;
        Some((&self.template, choice))
    }
}

impl ChunkTemplate {
    /// Adds the upstream's fingerprint to every chunk from here on.
    fn set_fingerprint(&mut self, fingerprint: &str) {
        const CHOICES: &str = r#""choices":["#;
        if fingerprint.is_empty() {
            return;
        }
        self.head.truncate(self.head.len() - CHOICES.len());
        let fingerprint = Value::from(fingerprint);
        // Writing to a string cannot fail.
        let _ = write!(self.head, r#""system_fingerprint":{fingerprint},{CHOICES}"#);
    }
}

impl Choice {
    fn begin(&mut self, template: &ChunkTemplate, out: &mut BytesMut) {
        if !self.begun {
            self.begun = true;
            let role = |out: &mut BytesMut| out.put_slice(br#""role":"assistant","content":"""#);
            self.chunk(template, role, None, out);
        }
    }

    fn event(&mut self, template: &ChunkTemplate, event: &Event<'_>, out: &mut BytesMut) {
        self.begin(template, out);
        match *event {
            Event::Text(text) => self.text(template, br#""content":"#, text, out),
            Event::Reasoning(text) => self.text(template, br#""reasoning_content":"#, text, out),
            Event::Refusal(text) => {
                self.refused = true;
                self.text(template, br#""refusal":"#, text, out);
            }
            Event::ToolCall(call) if template.legacy => {
                self.called = true;
                self.function_call(template, &call, out);
            }
            Event::ToolCall(call) => {
                self.called = true;
                self.tool_call(template, &call, out);
            }
            Event::Image(url) => {
                let image = image(url, self.images);
                self.images += 1;
                let delta = |out: &mut BytesMut| {
                    out.put_slice(br#""images":"#);
                    put_json(&[image], out);
                };
                self.chunk(template, delta, None, out);
            }
            Event::NativeMembers {
                place: MemberPlace::Message,
                json,
            } => {
                // Members without another event, such as the signature of the reasoning before.
                if self.members.is_some() {
                    self.chunk(template, |_| {}, None, out);
                }
                self.members = Some(bare_members(json).to_owned());
            }
            Event::NativeMembers {
                place: MemberPlace::Choice,
                json,
            } => {
                self.flush_members(template, out);
                self.choice_members = after_comma(json);
                self.members_held = !self.choice_members.is_empty();
            }
            Event::NativeMembers {
                place: MemberPlace::ChoicePiece,
                json,
            } => {
                if self.choice_piece.is_some() {
                    self.chunk(template, |_| {}, None, out);
                }
                self.members_held = true;
                self.choice_piece = Some(after_comma(json));
            }
            Event::NativeMembers {
                place: MemberPlace::Call(index),
                json,
            } if !template.legacy => {
                let delta = |out: &mut BytesMut| {
                    // Writing to a BytesMut cannot fail.
                    let _ = write!(out, r#""tool_calls":[{{"index":{index},"#);
                    out.put_slice(bare_members(json).as_bytes());
                    out.put_slice(b"}]");
                };
                self.chunk(template, delta, None, out);
            }
            Event::Citation(citation) => {
                if let Some(annotation) = annotation(citation) {
                    let delta = |out: &mut BytesMut| {
                        out.put_slice(br#""annotations":"#);
                        put_json(&[annotation], out);
                    };
                    self.chunk(template, delta, None, out);
                }
            }
            Event::Logprobs(json) if template.logprobs_wanted => {
                // The probabilities of tokens without a text, such as half a character.
                if self.logprobs.is_some() {
                    self.chunk(template, |_| {}, None, out);
                }
                self.logprobs = Some(json.to_owned());
            }
            Event::Finish(finish) => {
                let reason = finish_reason(finish, self.refused, self.called, template.legacy);
                self.chunk(template, |_| {}, Some(reason), out);
            }
            Event::Identity { .. }
            | Event::Logprobs(_)
            | Event::NativeMembers { .. }
            | Event::Signature(_)
            | Event::EncryptedReasoning(_)
            | Event::Alternative { .. }
            | Event::Usage(_) => {}
        }
    }

    /// Writes a chunk with the members that are held back, before others replace them.
    fn flush_members(&mut self, template: &ChunkTemplate, out: &mut BytesMut) {
        if self.members_held {
            self.chunk(template, |_| {}, None, out);
        }
    }

    /// Writes one chunk of the choice; `delta` writes the members of its delta.
    fn chunk(
        &mut self,
        template: &ChunkTemplate,
        delta: impl FnOnce(&mut BytesMut),
        finish: Option<&str>,
        out: &mut BytesMut,
    ) {
        out.put_slice(template.head.as_bytes());
        // Writing to a BytesMut cannot fail.
        let _ = write!(out, r#"{{"index":{},"delta":{{"#, self.index);
        let empty = out.len();
        delta(out);
        if let Some(members) = self.members.take() {
            if out.len() > empty {
                out.put_slice(b",");
            }
            out.put_slice(members.as_bytes());
        }
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
        match self.choice_piece.take() {
            Some(piece) => out.put_slice(piece.as_bytes()),
            None => out.put_slice(self.choice_members.as_bytes()),
        }
        self.members_held = false;
        out.put_slice(b"}]");
        if template.usage_wanted {
            out.put_slice(br#","usage":null"#);
        }
        match self.answer_piece.take() {
            Some(members) => out.put_slice(members.as_bytes()),
            None => out.put_slice(template.members.as_bytes()),
        }
        out.put_slice(b"}\n\n");
    }

    /// Writes one chunk with one text.
    fn text(
        &mut self,
        template: &ChunkTemplate,
        member: &'static [u8],
        text: &str,
        out: &mut BytesMut,
    ) {
        let delta = |out: &mut BytesMut| {
            out.put_slice(member);
            put_text(text, out);
        };
        self.chunk(template, delta, None, out);
    }

    fn tool_call(
        &mut self,
        template: &ChunkTemplate,
        call: &ToolCallDelta<'_>,
        out: &mut BytesMut,
    ) {
        let delta = |out: &mut BytesMut| {
            // Writing to a BytesMut cannot fail.
            let _ = write!(out, r#""tool_calls":[{{"index":{},"#, call.index);
            if let Some(id) = call.id {
                out.put_slice(br#""id":"#);
                put_json(id, out);
                out.put_slice(br#","type":"function","#);
            }
            out.put_slice(br#""function":"#);
            put_function(call, out);
            out.put_slice(b"}]");
        };
        self.chunk(template, delta, None, out);
    }

    /// Writes a piece of the first call: `function_call` holds one. A model that makes a second call
    /// although parallel calls are off makes it again after the first result.
    fn function_call(
        &mut self,
        template: &ChunkTemplate,
        call: &ToolCallDelta<'_>,
        out: &mut BytesMut,
    ) {
        if call.index == 0 {
            let delta = |out: &mut BytesMut| {
                out.put_slice(br#""function_call":"#);
                put_function(call, out);
            };
            self.chunk(template, delta, None, out);
        }
    }
}

impl Encoder for StreamEncoder {
    fn start(&mut self, _: &AnswerSource<'_>, out: &mut BytesMut) {
        if let Some((template, choice)) = self.choice(0) {
            choice.begin(template, out);
        }
    }

    fn event(&mut self, event: &Event<'_>, out: &mut BytesMut) {
        match event {
            Event::Identity { fingerprint, .. } => {
                return self.template.set_fingerprint(fingerprint);
            }
            Event::NativeMembers {
                place: MemberPlace::Usage,
                json,
            } => return add_members(&mut self.template.usage_members, json),
            Event::NativeMembers {
                place: place @ (MemberPlace::Answer | MemberPlace::AnswerPiece),
                json,
            } => {
                let members = after_comma(json);
                if let Some((template, choice)) = self.choice(0) {
                    choice.flush_members(template, out);
                    choice.members_held = !members.is_empty();
                    if *place == MemberPlace::AnswerPiece {
                        choice.answer_piece = Some(members);
                        return;
                    }
                }
                self.template.members = members;
                return;
            }
            _ => {}
        }
        let (index, event) = match event {
            Event::Alternative { index, event } => (*index, *event),
            event => (0, event),
        };
        if let Some((template, choice)) = self.choice(index) {
            choice.event(template, event, out);
        }
    }

    fn complete(&mut self, completion: &Completion, out: &mut BytesMut) {
        self.event(&Event::Finish(completion.finish), out);
        if let (true, Some(counts)) = (self.template.usage_wanted, completion.usage) {
            out.put_slice(self.template.head.as_bytes());
            out.put_slice(br#"],"usage":"#);
            put_json(&usage(counts, &self.template.usage_members), out);
            out.put_slice(self.template.members.as_bytes());
            out.put_slice(b"}\n\n");
        }
        out.put_slice(b"data: [DONE]\n\n");
    }

    fn error(&mut self, error: &Error, counts: Option<Usage>, out: &mut BytesMut) {
        let mut data = openai_error::body(error);
        if let (true, Some(counts)) = (self.template.usage_wanted, counts) {
            data["usage"] = usage(counts, &self.template.usage_members);
        }
        out.put_slice(b"data: ");
        put_json(&data, out);
        out.put_slice(b"\n\n");
    }

    fn verbatim(&self) -> Option<Box<dyn VerbatimEncoder>> {
        Some(Box::new(verbatim::StreamEncoder {
            usage_wanted: self.template.usage_wanted,
        }))
    }
}

/// The members of a JSON object with a comma before each; empty if there are none.
fn after_comma(json: &str) -> String {
    match bare_members(json).trim_ascii() {
        "" => String::new(),
        members => format!(",{members}"),
    }
}

/// Writes a piece of a call; the first piece has the name.
fn put_function(call: &ToolCallDelta<'_>, out: &mut BytesMut) {
    out.put_slice(b"{");
    if let Some(name) = call.name {
        out.put_slice(br#""name":"#);
        put_json(name, out);
        out.put_slice(b",");
    }
    out.put_slice(br#""arguments":"#);
    put_json(call.arguments, out);
    out.put_slice(b"}");
}
