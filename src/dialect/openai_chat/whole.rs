//! Encodes events as one `chat.completion`, written when the answer is complete.

use bytes::BytesMut;
use serde::Serialize;
use serde_json::{Map, Value, json};

use super::shape::{
    add_members, annotation, choices, finish_reason, id, image, logprobs_wanted, replace_members,
    usage,
};
use super::verbatim;
use crate::dialect::json::put_json;
use crate::dialect::{AnswerInfo, AnswerSource, Completion, Encoder, VerbatimEncoder};
use crate::model::{Error, Event, FinishReason, MemberPlace, Request, ToolCallDelta, Usage};

pub(super) struct WholeEncoder {
    info: AnswerInfo,
    /// Empty if the upstream sent none.
    fingerprint: String,
    logprobs_wanted: bool,
    /// Whether calls are written as `function_call`.
    legacy: bool,
    /// As many as the client asked for.
    choices: Vec<Choice>,
    /// The vendor's own members of the answer.
    members: Map<String, Value>,
    /// Those of the usage.
    usage_members: Map<String, Value>,
}

/// One choice.
#[derive(Default)]
struct Choice {
    content: String,
    reasoning: String,
    refusal: String,
    calls: Vec<Call>,
    annotations: Vec<Value>,
    logprobs: Option<Map<String, Value>>,
    images: Vec<Value>,
    /// The vendor's own members of the message.
    members: Map<String, Value>,
    /// Those of the choice.
    choice_members: Map<String, Value>,
    /// None for a choice that the upstream did not give.
    finish: Option<FinishReason>,
}

#[derive(Default)]
struct Call {
    id: String,
    name: String,
    arguments: String,
    /// The vendor's own members.
    members: Map<String, Value>,
}

impl WholeEncoder {
    pub(super) fn new(request: &Request, info: AnswerInfo) -> Self {
        Self {
            info,
            fingerprint: String::new(),
            logprobs_wanted: logprobs_wanted(request),
            legacy: request.legacy_functions,
            choices: (0..choices(request)).map(|_| Choice::default()).collect(),
            members: Map::new(),
            usage_members: Map::new(),
        }
    }
}

impl Choice {
    fn event(&mut self, event: &Event<'_>, logprobs_wanted: bool) {
        match *event {
            Event::Text(text) => self.content.push_str(text),
            Event::Reasoning(text) => self.reasoning.push_str(text),
            Event::Refusal(text) => self.refusal.push_str(text),
            Event::ToolCall(call) => self.tool_call(&call),
            Event::Citation(citation) => {
                self.annotations
                    .extend(annotation(citation).map(|annotation| json!(annotation)));
            }
            Event::Logprobs(json) if logprobs_wanted => self.add_logprobs(json),
            Event::Finish(finish) => self.finish = Some(finish),
            Event::Image(url) => self.images.push(image(url, self.images.len())),
            Event::NativeMembers { place, json } => self.add_members(place, json),
            Event::Identity { .. }
            | Event::Logprobs(_)
            | Event::Signature(_)
            | Event::EncryptedReasoning(_)
            | Event::Alternative { .. }
            | Event::Usage(_) => {}
        }
    }

    fn add_members(&mut self, place: MemberPlace, json: &str) {
        match place {
            MemberPlace::Message => add_members(&mut self.members, json),
            MemberPlace::ChoicePiece => add_members(&mut self.choice_members, json),
            MemberPlace::Choice => replace_members(&mut self.choice_members, json),
            MemberPlace::Call(index) => {
                if let Some(call) = self.calls.get_mut(index as usize) {
                    add_members(&mut call.members, json);
                }
            }
            MemberPlace::Answer | MemberPlace::AnswerPiece | MemberPlace::Usage => {}
        }
    }

    /// The grammar of events makes calls begin in the order of their indexes.
    fn tool_call(&mut self, call: &ToolCallDelta<'_>) {
        let at = call.index as usize;
        if at >= self.calls.len() {
            self.calls.push(Call {
                id: call.id.unwrap_or_default().to_owned(),
                name: call.name.unwrap_or_default().to_owned(),
                arguments: call.arguments.to_owned(),
                ..Call::default()
            });
        } else {
            self.calls[at].arguments.push_str(call.arguments);
        }
    }

    /// Lists, such as those of the tokens of `content`, are joined.
    fn add_logprobs(&mut self, json: &str) {
        let Ok(Value::Object(more)) = serde_json::from_str(json) else {
            return;
        };
        let all = self.logprobs.get_or_insert_default();
        for (name, value) in more {
            match (all.get_mut(&name), value) {
                (Some(Value::Array(list)), Value::Array(more)) => list.extend(more),
                (Some(_), Value::Null) => {}
                (_, value) => {
                    all.insert(name, value);
                }
            }
        }
    }

    /// None for a choice that the upstream did not give.
    fn json(&self, index: usize, legacy: bool) -> Option<ChoiceJson<'_>> {
        let called = !self.calls.is_empty();
        Some(ChoiceJson {
            index,
            message: self.message(legacy),
            logprobs: self.logprobs.as_ref(),
            finish_reason: finish_reason(self.finish?, !self.refusal.is_empty(), called, legacy),
            members: &self.choice_members,
        })
    }

    fn message(&self, legacy: bool) -> MessageJson<'_> {
        let is_empty = self.refusal.is_empty() && self.calls.is_empty();
        MessageJson {
            role: "assistant",
            // An answer without any text is still an answer.
            content: non_empty(&self.content).or(is_empty.then_some("")),
            refusal: non_empty(&self.refusal),
            annotations: &self.annotations,
            reasoning_content: non_empty(&self.reasoning),
            images: &self.images,
            members: &self.members,
            // `function_call` holds one, as in a stream.
            function_call: self.calls.first().filter(|_| legacy).map(Call::function),
            tool_calls: match legacy {
                true => Vec::new(),
                false => self.calls.iter().map(Call::json).collect(),
            },
        }
    }
}

impl Call {
    fn function(&self) -> FunctionJson<'_> {
        FunctionJson {
            name: &self.name,
            arguments: &self.arguments,
        }
    }

    fn json(&self) -> CallJson<'_> {
        CallJson {
            id: &self.id,
            kind: "function",
            function: self.function(),
            members: &self.members,
        }
    }
}

fn non_empty(text: &str) -> Option<&str> {
    Some(text).filter(|text| !text.is_empty())
}

/// The whole answer. The vendor's own members have other names than the API's.
#[derive(Serialize)]
struct AnswerJson<'a> {
    id: String,
    object: &'static str,
    created: u64,
    model: &'a str,
    choices: Vec<ChoiceJson<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    usage: Option<Value>,
    #[serde(skip_serializing_if = "str::is_empty")]
    system_fingerprint: &'a str,
    #[serde(flatten)]
    members: &'a Map<String, Value>,
}

#[derive(Serialize)]
struct ChoiceJson<'a> {
    index: usize,
    message: MessageJson<'a>,
    logprobs: Option<&'a Map<String, Value>>,
    finish_reason: &'static str,
    #[serde(flatten)]
    members: &'a Map<String, Value>,
}

#[derive(Serialize)]
struct MessageJson<'a> {
    role: &'static str,
    content: Option<&'a str>,
    refusal: Option<&'a str>,
    annotations: &'a [Value],
    #[serde(skip_serializing_if = "Option::is_none")]
    reasoning_content: Option<&'a str>,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    images: &'a [Value],
    #[serde(flatten)]
    members: &'a Map<String, Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    function_call: Option<FunctionJson<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tool_calls: Vec<CallJson<'a>>,
}

#[derive(Serialize)]
struct CallJson<'a> {
    id: &'a str,
    #[serde(rename = "type")]
    kind: &'static str,
    function: FunctionJson<'a>,
    #[serde(flatten)]
    members: &'a Map<String, Value>,
}

#[derive(Serialize)]
struct FunctionJson<'a> {
    name: &'a str,
    arguments: &'a str,
}

impl Encoder for WholeEncoder {
    fn start(&mut self, _: &AnswerSource<'_>, _: &mut BytesMut) {}

    fn event(&mut self, event: &Event<'_>, _: &mut BytesMut) {
        match event {
            Event::Identity { fingerprint, .. } => {
                self.fingerprint = (*fingerprint).to_owned();
                return;
            }
            Event::NativeMembers {
                place: MemberPlace::Answer | MemberPlace::AnswerPiece,
                json,
            } => return replace_members(&mut self.members, json),
            Event::NativeMembers {
                place: MemberPlace::Usage,
                json,
            } => return replace_members(&mut self.usage_members, json),
            _ => {}
        }
        let (index, event) = match event {
            Event::Alternative { index, event } => (*index as usize, *event),
            event => (0, event),
        };
        if let Some(choice) = self.choices.get_mut(index) {
            choice.event(event, self.logprobs_wanted);
        }
    }

    fn complete(&mut self, completion: &Completion, out: &mut BytesMut) {
        self.event(&Event::Finish(completion.finish), out);
        let choices = self.choices.iter().enumerate();
        let choices = choices.filter_map(|(index, choice)| choice.json(index, self.legacy));
        let answer = AnswerJson {
            id: id(&self.info),
            object: "chat.completion",
            created: self.info.created,
            model: &self.info.model,
            choices: choices.collect(),
            usage: (completion.usage).map(|counts| usage(counts, &self.usage_members)),
            system_fingerprint: &self.fingerprint,
            members: &self.members,
        };
        put_json(&answer, out);
    }

    /// The client gets the error as an HTTP error.
    fn error(&mut self, _: &Error, _: Option<Usage>, _: &mut BytesMut) {}

    fn verbatim(&self) -> Option<Box<dyn VerbatimEncoder>> {
        Some(Box::<verbatim::WholeEncoder>::default())
    }
}
