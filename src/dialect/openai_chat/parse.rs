//! The body of `POST /v1/chat/completions`.
//!
//! What a [`Request`] can hold is parsed. Everything else is kept for upstreams of the same
//! protocol: unknown members, and, where they have more than their normalized form, the client's
//! own messages, tools, choice and format.

use bytes::Bytes;
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::{Map, Value};

use super::{WIRE, legacy, native_members};
use crate::dialect::chat_form::{ChatFormat, ChatMessage, ChatTool, ChatToolChoice, check_objects};
use crate::dialect::field::{self, Field, text_length};
use crate::dialect::reserved;
use crate::model::{Error, NativeFields, Reasoning, Request};

#[derive(Deserialize)]
struct Body {
    messages: Option<Vec<ChatMessage>>,
    max_tokens: Option<u64>,
    max_completion_tokens: Option<u64>,
    temperature: Option<f64>,
    top_p: Option<f64>,
    stop: Option<Stop>,
    seed: Option<i64>,
    tools: Option<Vec<ChatTool>>,
    tool_choice: Option<ChatToolChoice>,
    parallel_tool_calls: Option<bool>,
    response_format: Option<ChatFormat>,
    reasoning_effort: Option<String>,
    user: Option<String>,
    metadata: Option<Map<String, Value>>,
    stream: Option<bool>,
    stream_options: Option<StreamOptions>,
    n: Option<u32>,
    logprobs: Option<bool>,
    top_logprobs: Option<u64>,
    modalities: Option<Vec<String>>,
    audio: Option<IgnoredAny>,
}

#[derive(Deserialize)]
#[serde(untagged, expecting = "a string or a list of strings")]
enum Stop {
    One(String),
    Many(Vec<String>),
}

#[derive(Deserialize, Default)]
struct StreamOptions {
    include_usage: Option<bool>,
}

/// The most answers that the API gives.
const MAX_CHOICES: u32 = 128;

/// Members that are parsed into a [`Request`], or that only the gateway uses.
const PARSED_MEMBERS: [&str; 19] = [
    "audio",
    "max_completion_tokens",
    "max_tokens",
    "messages",
    "modalities",
    "model",
    "n",
    "parallel_tool_calls",
    "reasoning_effort",
    "response_format",
    "seed",
    "stop",
    "stream",
    "stream_options",
    "temperature",
    "tool_choice",
    "tools",
    "top_p",
    "user",
];

pub(super) fn request(body: &Bytes) -> Result<Request, Error> {
    let text = body;
    let mut value = field::parse_body(text)?;
    let model = Field::body(&value).required_name("model")?;
    let legacy_functions = legacy::rewrite(&mut value)?;
    check_objects(&Field::body(&value))?;
    Field::body(&value).objects(&["stream_options"])?;
    let body: Body = field::parse_object(&value)?;
    check(&body)?;
    let mut native = NativeBuilder {
        fields: Map::new(),
        indispensable: indispensable(&body),
        unsupported_bytes: 0,
    };
    let answers = body.n.filter(|n| *n > 1);
    if let Some(n) = answers {
        native.fields.insert("n".to_owned(), n.into());
    }
    let mut request = Request {
        model,
        max_tokens: max_tokens(&body)?,
        temperature: body.temperature,
        top_p: body.top_p,
        stop: match body.stop {
            None => Vec::new(),
            Some(Stop::One(one)) => vec![one],
            Some(Stop::Many(many)) => many,
        },
        seed: body.seed,
        parallel_tool_calls: body.parallel_tool_calls,
        reasoning: body.reasoning_effort.map(|effort| Reasoning {
            effort: Some(effort),
            max_tokens: None,
        }),
        user: body.user,
        metadata: body.metadata,
        stream: body.stream.unwrap_or(false),
        usage_wanted: body.stream_options.unwrap_or_default().include_usage == Some(true),
        answers,
        legacy_functions,
        ..Request::default()
    };
    native.messages(&mut value, body.messages, &mut request)?;
    native.tools(&mut value, body.tools, &mut request);
    if let Some(choice) = body.tool_choice {
        request.tool_choice = choice.into_choice();
        native.keep_unless("tool_choice", request.tool_choice.is_some(), &mut value);
    }
    if let Some(format) = body.response_format {
        request.response_format = format.into_format();
        let known = request.response_format.is_some();
        native.keep_unless("response_format", known, &mut value);
    }
    request.native_fields = Some(native.finish(text, value)?);
    Ok(request)
}

/// Refuses what no upstream can give as a stream of text.
fn check(body: &Body) -> Result<(), Error> {
    if body.n.is_some_and(|n| !(1..=MAX_CHOICES).contains(&n)) {
        return Err(Error::invalid(
            "n",
            format_args!("must be between 1 and {MAX_CHOICES}"),
        ));
    }
    let modalities = body.modalities.iter().flatten();
    if modalities.into_iter().any(|modality| modality != "text") {
        return Err(Error::invalid(
            "modalities",
            "this gateway answers with text only: send [\"text\"], or remove this field",
        ));
    }
    if body.audio.is_some() {
        return Err(Error::invalid(
            "audio",
            "this gateway answers with text only: remove this field",
        ));
    }
    Ok(())
}

/// The members that change the form of the answer.
fn indispensable(body: &Body) -> Vec<String> {
    let wanted = [
        ("n", body.n.is_some_and(|n| n > 1)),
        ("logprobs", body.logprobs == Some(true)),
        ("top_logprobs", body.top_logprobs.is_some_and(|top| top > 0)),
    ];
    let wanted = wanted.into_iter().filter(|(_, wanted)| *wanted);
    wanted.map(|(field, _)| field.to_owned()).collect()
}

fn max_tokens(body: &Body) -> Result<Option<u64>, Error> {
    let fields = [
        ("max_completion_tokens", body.max_completion_tokens),
        ("max_tokens", body.max_tokens),
    ];
    for (field, limit) in fields {
        if limit == Some(0) {
            return Err(Error::invalid(field, "must be at least 1"));
        }
    }
    match (body.max_completion_tokens, body.max_tokens) {
        (Some(new), Some(old)) if new != old => Err(Error::invalid(
            "max_tokens",
            "differs from `max_completion_tokens`, which sets the same bound; send one of them",
        )),
        (new, old) => Ok(new.or(old)),
    }
}

/// See [`NativeFields`].
struct NativeBuilder {
    fields: Map<String, Value>,
    indispensable: Vec<String>,
    unsupported_bytes: usize,
}

impl NativeBuilder {
    fn messages(
        &mut self,
        body: &mut Value,
        messages: Option<Vec<ChatMessage>>,
        request: &mut Request,
    ) -> Result<(), Error> {
        let messages = messages.ok_or_else(|| Error::invalid("messages", "required"))?;
        if messages.is_empty() {
            return Err(Error::invalid("messages", "must not be empty"));
        }
        let known = self.indispensable.len();
        for (at, message) in messages.into_iter().enumerate() {
            let field = format!("messages[{at}]");
            let message = message.into_message(field, &mut self.indispensable)?;
            request.messages.push(message);
        }
        let messages = &mut body["messages"];
        if self.indispensable.len() > known {
            // Some of them are not in the request's own messages.
            self.unsupported_bytes += text_length(messages);
        }
        if self.indispensable.len() > known || native_members::has_extra_in_messages(messages) {
            native_members::rename_developer_role(messages);
            self.keep("messages", messages);
        }
        Ok(())
    }

    fn tools(&mut self, body: &mut Value, tools: Option<Vec<ChatTool>>, request: &mut Request) {
        let known = self.indispensable.len();
        for (at, tool) in tools.into_iter().flatten().enumerate() {
            match tool.into_tool() {
                Some(tool) => request.tools.push(tool),
                None => self.indispensable.push(format!("tools[{at}]")),
            }
        }
        let tools = &mut body["tools"];
        if self.indispensable.len() > known {
            self.unsupported_bytes += text_length(tools);
        }
        if self.indispensable.len() > known || native_members::has_extra_in_tools(tools) {
            self.keep("tools", tools);
        }
    }

    fn keep_unless(&mut self, field: &str, known: bool, body: &mut Value) {
        if !known {
            self.indispensable.push(field.to_owned());
            self.keep(field, &mut body[field]);
        }
    }

    fn keep(&mut self, field: &str, value: &mut Value) {
        self.fields.insert(field.to_owned(), value.take());
    }

    /// Adds every member that was not parsed.
    fn finish(mut self, body: &Bytes, value: Value) -> Result<NativeFields, Error> {
        let members = match value {
            Value::Object(members) => members,
            _ => Map::new(),
        };
        reserved::check_members(&members, &PARSED_MEMBERS)?;
        let mut uncounted = self.unsupported_bytes;
        for (name, value) in members {
            if !PARSED_MEMBERS.contains(&name.as_str()) && !value.is_null() {
                uncounted += text_length(&value);
                self.fields.insert(name, value);
            }
        }
        Ok(NativeFields {
            wire: WIRE,
            fields: self.fields,
            verbatim: true,
            body: field::verbatim_body(Some(body)),
            uncounted,
            indispensable: self.indispensable,
            ..NativeFields::default()
        })
    }
}
