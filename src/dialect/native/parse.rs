//! The body of `POST /v1/streams`.

use std::collections::BTreeSet;
use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::{Map, Value};

use crate::dialect::chat_form::{ChatFormat, ChatMessage, ChatTool, ChatToolChoice, check_objects};
use crate::dialect::field::{self, Field};
use crate::dialect::reserved;
use crate::model::{Error, Message, Part, Reasoning, Request, Role};

/// Unknown fields are refused, because a misspelt one would be ignored silently. Fields that only the
/// upstream knows belong into `extra`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Body {
    model: Option<String>,
    prompt: Option<String>,
    messages: Option<Vec<ChatMessage>>,
    system: Option<String>,
    max_tokens: Option<u64>,
    temperature: Option<f64>,
    top_p: Option<f64>,
    stop: Option<Stop>,
    seed: Option<i64>,
    tools: Option<Vec<ChatTool>>,
    tool_choice: Option<ChatToolChoice>,
    response_format: Option<ChatFormat>,
    reasoning: Option<ReasoningField>,
    user: Option<String>,
    metadata: Option<Map<String, Value>>,
    extra: Option<Map<String, Value>>,
}

#[derive(Deserialize)]
#[serde(untagged, expecting = "a string or a list of strings")]
enum Stop {
    One(String),
    Many(Vec<String>),
}

#[derive(Deserialize)]
#[serde(
    untagged,
    expecting = "an effort such as `low`, or {\"effort\"?, \"max_tokens\"?}"
)]
enum ReasoningField {
    Effort(String),
    Settings(ReasoningSettings),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ReasoningSettings {
    effort: Option<String>,
    max_tokens: Option<u64>,
}

pub(super) fn request(body: &[u8]) -> Result<Request, Error> {
    let object = field::parse_body(body)?;
    check_duplicates(body)?;
    check_settings(&object)?;
    let mut body: Body = field::parse_object(&object)?;
    let prompt_fields = (body.prompt.take(), body.messages.take());
    let mut request = into_request(body)?;
    let messages = &mut request.messages;
    match prompt_fields {
        (Some(_), Some(_)) => {
            return Err(Error::invalid(
                "prompt",
                "send either `prompt` or `messages`, not both",
            ));
        }
        (None, Some(list)) if list.is_empty() => {
            return Err(Error::invalid("messages", "must not be empty"));
        }
        (None, Some(list)) => {
            let mut unsupported = Vec::new();
            for (at, message) in list.into_iter().enumerate() {
                messages.push(message.into_message(format!("messages[{at}]"), &mut unsupported)?);
            }
            if let Some(other) = unsupported.first() {
                return Err(Error::invalid(
                    other,
                    "this part is not supported here; send text, and images and files of the user",
                ));
            }
        }
        (prompt, None) => messages.push(text_message(
            "prompt",
            Role::User,
            required("prompt", prompt)?,
        )),
    }
    Ok(request)
}

/// Parses the settings of a dialect that has its own form of messages and shares the rest.
///
/// # Errors
/// As [`request`]; `prompt` and `messages` are not parsed.
pub(in crate::dialect) fn settings(object: &Value) -> Result<Request, Error> {
    check_settings(object)?;
    into_request(field::parse_object(object)?)
}

/// See [`check_objects`].
fn check_settings(object: &Value) -> Result<(), Error> {
    let body = Field::body(object);
    check_objects(&body)?;
    body.objects(&["extra"])?;
    match body.get("reasoning") {
        Some(reasoning) if !reasoning.value.is_string() => reasoning.members().map(|_| ()),
        _ => Ok(()),
    }
}

/// The request without its conversation.
fn into_request(body: Body) -> Result<Request, Error> {
    let model = required("model", body.model)?;
    let mut messages = Vec::new();
    if let Some(system) = body.system {
        messages.push(text_message("system", Role::System, system));
    }
    let mut tools = Vec::new();
    for (at, tool) in body.tools.into_iter().flatten().enumerate() {
        let place = format!("tools[{at}].type");
        tools.push(require_known(&place, tool.into_tool())?);
    }
    if let Some(choice) = &body.tool_choice {
        choice.retain_allowed(&mut tools);
    }
    let choice = body.tool_choice.map(ChatToolChoice::into_choice);
    let format = body.response_format.map(ChatFormat::into_format);
    let format = format.transpose()?;
    let extra = body.extra.unwrap_or_default();
    reserved::check_extra(&extra)?;
    if body.max_tokens == Some(0) {
        return Err(Error::invalid("max_tokens", "must be at least 1"));
    }
    Ok(Request {
        model,
        messages,
        max_tokens: body.max_tokens,
        temperature: body.temperature,
        top_p: body.top_p,
        stop: match body.stop {
            None => Vec::new(),
            Some(Stop::One(one)) => vec![one],
            Some(Stop::Many(many)) => many,
        },
        seed: body.seed,
        tools,
        tool_choice: choice
            .map(|choice| require_known("tool_choice.type", choice))
            .transpose()?,
        response_format: format
            .map(|format| require_known("response_format.type", format))
            .transpose()?,
        reasoning: body.reasoning.map(|reasoning| match reasoning {
            ReasoningField::Effort(effort) => Reasoning {
                effort: Some(effort),
                ..Reasoning::default()
            },
            ReasoningField::Settings(settings) => Reasoning {
                effort: settings.effort,
                max_tokens: settings.max_tokens,
                ..Reasoning::default()
            },
        }),
        user: body.user,
        metadata: body.metadata,
        extra,
        stream: true,
        ..Request::default()
    })
}

/// The text of a required field, which must not be empty.
pub(super) fn required(field: &str, value: Option<String>) -> Result<String, Error> {
    match value {
        None => Err(Error::invalid(field, "required")),
        Some(value) if value.is_empty() => Err(Error::invalid(field, "must not be empty")),
        Some(value) => Ok(value),
    }
}

fn require_known<T>(field: &str, value: Option<T>) -> Result<T, Error> {
    value.ok_or_else(|| Error::invalid(field, "unknown value"))
}

/// Refuses a member that occurs twice: one of its two values would be ignored silently.
fn check_duplicates(body: &[u8]) -> Result<(), Error> {
    match serde_json::from_slice(body) {
        Ok(DuplicateMember(Some(name))) => Err(Error::invalid(&name, "occurs twice")),
        // The parser reports what else is wrong.
        Ok(DuplicateMember(None)) | Err(_) => Ok(()),
    }
}

/// The name of the first member of an object that occurs twice.
struct DuplicateMember(Option<String>);

impl<'de> Deserialize<'de> for DuplicateMember {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_map(DuplicateVisitor)
    }
}

struct DuplicateVisitor;

impl<'de> Visitor<'de> for DuplicateVisitor {
    type Value = DuplicateMember;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<DuplicateMember, A::Error> {
        let mut names = BTreeSet::new();
        let mut duplicate = None;
        while let Some((name, IgnoredAny)) = map.next_entry::<String, IgnoredAny>()? {
            duplicate = duplicate.or(names.replace(name));
        }
        Ok(DuplicateMember(duplicate))
    }
}

/// A message with one text.
pub(super) fn text_message(field: &str, role: Role, text: String) -> Message {
    Message {
        field: field.to_owned(),
        role,
        content: vec![Part::Text(text)],
    }
}
