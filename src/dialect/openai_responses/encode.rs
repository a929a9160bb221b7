//! Events to output items, one after another. A stream tells of every step; a whole answer is what
//! its last event would carry.

use bytes::BytesMut;
use serde_json::{Value, json};

use super::event_writer::Teller;
use super::failure_code;
use super::item::{Item, What, annotation};
use super::response::{Head, State};
use crate::dialect::json::put_json;
use crate::dialect::openai_error;
use crate::dialect::sequence::Sequence;
use crate::dialect::{Answering, Completion, Encoder, Opening};
use crate::model::{Citation, Error, Event, FinishReason, Request, ToolCallDelta, Usage};

pub(super) struct ResponseEncoder {
    sequence: Sequence,
    answer: Answer,
}

/// The answer so far.
struct Answer {
    head: Head,
    output: Vec<Value>,
    open: Option<Item>,
    teller: Teller,
    begun: bool,
    /// The tools whose input is free text.
    custom_tools: Vec<String>,
}

impl ResponseEncoder {
    pub(super) fn new(request: &Request, opening: Opening) -> Self {
        let native = request.native_fields.as_ref();
        let tools = native.and_then(|native| native.fields.get("tools")?.as_array());
        let tools = tools.into_iter().flatten();
        let custom = tools.filter(|tool| tool["type"] == "custom");
        let names = custom.filter_map(|tool| tool["name"].as_str());
        Self {
            sequence: Sequence::default(),
            answer: Answer {
                head: Head::new(request, &opening),
                output: Vec::new(),
                open: None,
                teller: Teller::new(request.stream),
                begun: false,
                custom_tools: names.map(str::to_owned).collect(),
            },
        }
    }
}

impl Encoder for ResponseEncoder {
    fn start(&mut self, _: &Answering<'_>, _: &mut BytesMut) {
        // `response.created` carries the upstream's id, which comes next if it comes.
    }

    fn event(&mut self, event: &Event<'_>, out: &mut BytesMut) {
        let Self { sequence, answer } = self;
        sequence.push(event, &mut |event| answer.event(event, out));
    }

    fn complete(&mut self, completion: &Completion, out: &mut BytesMut) {
        let Self { sequence, answer } = self;
        sequence.end(&mut |event| answer.event(event, out));
        answer.begin(out);
        let reason = match completion.finish {
            FinishReason::Length => Some("max_output_tokens"),
            FinishReason::ContentFilter => Some("content_filter"),
            _ => None,
        };
        let (status, event) = match reason {
            Some(_) => ("incomplete", "response.incomplete"),
            None => ("completed", "response.completed"),
        };
        answer.close(status, out);
        let response = answer.head.response(&State {
            status,
            output: &answer.output,
            usage: completion.usage,
            reason,
            error: None,
        });
        if answer.teller.streamed {
            let data = json!({ "response": response });
            answer.teller.tell(event, data, out);
        } else {
            put_json(&response, out);
        }
    }

    /// `error`, at which OpenAI's own clients raise, and `response.failed`, which carries what there
    /// is: the API sends both.
    fn error(&mut self, error: &Error, usage: Option<Usage>, out: &mut BytesMut) {
        let Self { sequence, answer } = self;
        sequence.end(&mut |event| answer.event(event, out));
        answer.begin(out);
        let (kind, code) = (openai_error::kind(error), error.code().as_str());
        let message = error.message();
        // The documented form has these side by side, the one that is sent has them in `error`.
        let told = json!({
            "code": code,
            "message": message,
            "param": null,
            "error": { "type": kind, "code": code, "message": message, "param": null },
        });
        answer.teller.tell("error", told, out);
        let broken = answer.open.take().map(|item| item.done("incomplete"));
        answer.output.extend(broken);
        let response = answer.head.response(&State {
            status: "failed",
            output: &answer.output,
            usage,
            reason: None,
            error: Some(json!({ "code": failure_code(error), "message": message })),
        });
        let data = json!({ "response": response });
        answer.teller.tell("response.failed", data, out);
    }
}

impl Answer {
    fn event(&mut self, event: &Event<'_>, out: &mut BytesMut) {
        match *event {
            Event::Identity { id, .. } if !self.begun => self.head.identify(id),
            Event::Identity { .. }
            | Event::Logprobs(_)
            | Event::Alternative { .. }
            | Event::Usage(_)
            | Event::Finish(_) => {}
            Event::Text(text) => {
                self.part(What::Text, out);
                self.grow("response.output_text.delta", text, out);
            }
            Event::Refusal(text) => {
                self.part(What::Refusal, out);
                self.grow("response.refusal.delta", text, out);
            }
            Event::Citation(citation) => self.citation(&citation, out),
            Event::Reasoning(text) => self.reasoning(text, out),
            Event::Signature(more) => self.signature(more, out),
            Event::EncryptedReasoning(sealed) => {
                let what = What::Reasoning {
                    shown: false,
                    sealed: sealed.to_owned(),
                };
                self.add(what, out);
            }
            Event::ToolCall(call) => self.call(&call, out),
        }
    }

    /// Goes on with such a part of a message, or begins one.
    fn part(&mut self, what: What, out: &mut BytesMut) {
        match &mut self.open {
            Some(open) if open.what == what => {}
            Some(open) if open.what.is_part() => {
                self.teller.part_done(open, self.output.len(), out);
                let part = open.part();
                open.parts.push(part);
                open.annotations.clear();
                open.text.clear();
                open.what = what;
                self.teller.part_added(open, self.output.len(), out);
            }
            _ => self.add(what, out),
        }
    }

    fn citation(&mut self, citation: &Citation<'_>, out: &mut BytesMut) {
        let Some(annotation) = annotation(citation) else {
            return;
        };
        self.part(What::Text, out);
        if let Some(open) = &mut self.open {
            let at = self.output.len();
            self.teller.annotation(open, at, &annotation, out);
            open.annotations.push(annotation);
        }
    }

    /// What was sealed is over: more reasoning needs an item of its own.
    fn reasoning(&mut self, text: &str, out: &mut BytesMut) {
        let goes_on = self.open.as_ref().is_some_and(|open| {
            matches!(&open.what, What::Reasoning { shown: true, sealed } if sealed.is_empty())
        });
        if !goes_on {
            let what = What::Reasoning {
                shown: true,
                sealed: String::new(),
            };
            self.add(what, out);
        }
        self.grow("response.reasoning_summary_text.delta", text, out);
    }

    /// A seal on reasoning that was not shown has an empty summary, which tells it from reasoning
    /// that is nothing but its seal.
    fn signature(&mut self, more: &str, out: &mut BytesMut) {
        if !matches!(
            self.open.as_ref().map(|open| &open.what),
            Some(What::Reasoning { shown: true, .. })
        ) {
            let what = What::Reasoning {
                shown: true,
                sealed: String::new(),
            };
            self.add(what, out);
        }
        if let Some(Item {
            what: What::Reasoning { sealed, .. },
            ..
        }) = &mut self.open
        {
            sealed.push_str(more);
        }
    }

    fn call(&mut self, call: &ToolCallDelta<'_>, out: &mut BytesMut) {
        let goes_on = self.open.as_ref().and_then(|open| match &open.what {
            What::Call { index, custom, .. } if *index == call.index => Some(*custom),
            _ => None,
        });
        let custom = goes_on.unwrap_or_else(|| {
            let what = What::call(call, &self.custom_tools);
            let custom = matches!(what, What::Call { custom: true, .. });
            self.add(what, out);
            custom
        });
        if !call.arguments.is_empty() {
            let event = match custom {
                true => "response.custom_tool_call_input.delta",
                false => "response.function_call_arguments.delta",
            };
            self.grow(event, call.arguments, out);
        }
    }

    fn begin(&mut self, out: &mut BytesMut) {
        if self.begun {
            return;
        }
        self.begun = true;
        let response = self.head.response(&State {
            status: "in_progress",
            ..State::default()
        });
        for event in ["response.created", "response.in_progress"] {
            let data = json!({ "response": response });
            self.teller.tell(event, data, out);
        }
    }

    /// Begins an item.
    fn add(&mut self, what: What, out: &mut BytesMut) {
        self.begin(out);
        self.close("completed", out);
        let at = self.output.len();
        let item = Item::new(what, &self.head.key(at));
        self.teller.item_added(&item, at, out);
        self.open = Some(item);
    }

    fn grow(&mut self, event: &'static str, more: &str, out: &mut BytesMut) {
        if let Some(open) = &mut self.open {
            open.text.push_str(more);
            self.teller.delta(event, open, self.output.len(), more, out);
        }
    }

    /// Ends the item that is open.
    fn close(&mut self, status: &str, out: &mut BytesMut) {
        if let Some(open) = self.open.take() {
            let item = open.done(status);
            self.teller.item_done(&open, &item, self.output.len(), out);
            self.output.push(item);
        }
    }
}
