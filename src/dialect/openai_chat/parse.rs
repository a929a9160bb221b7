//! The body of `POST /v1/chat/completions`.
//!
//! What a [`Request`] can hold is parsed. Everything else is kept for upstreams of the same
//! protocol: unknown members, and, where they have more than their normalized form, the client's
//! own messages, tools, choice and format.

use std::collections::HashSet;

use bytes::Bytes;
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::{Map, Value};

use super::{WIRE, legacy, native_members, variants};
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
    /// The setting of OpenRouter, and of OpenAI's Responses API.
    reasoning: Option<ReasoningField>,
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
struct ReasoningField {
    effort: Option<String>,
    max_tokens: Option<u64>,
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

/// Members that are parsed, and that an upstream of this protocol gets in the client's own words.
const PARSED_AND_KEPT: [&str; 2] = ["metadata", "reasoning"];

pub(super) fn request(body: &Bytes) -> Result<Request, Error> {
    let text = body;
    let mut value = field::parse_body(text)?;
    let model = Field::body(&value).required_name("model")?;
    let legacy_functions = legacy::rewrite(&mut value)?;
    nest_functions(&mut value);
    variants::normalize(&mut value);
    check_objects(&Field::body(&value))?;
    Field::body(&value).objects(&["reasoning", "stream_options"])?;
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
        max_tokens: body.max_completion_tokens.or(body.max_tokens),
        temperature: body.temperature,
        top_p: body.top_p,
        stop: match body.stop {
            None => Vec::new(),
            Some(Stop::One(one)) => vec![one],
            Some(Stop::Many(many)) => many,
        },
        seed: body.seed,
        parallel_tool_calls: body.parallel_tool_calls,
        reasoning: reasoning(body.reasoning_effort, body.reasoning),
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
        if choice.retain_allowed(&mut request.tools) {
            for field in ["tools", "tool_choice"] {
                native.keep_if_left(field, &mut value);
            }
        }
        request.tool_choice = choice.into_choice();
        native.keep_unless("tool_choice", request.tool_choice.is_some(), &mut value);
        // Mistral's own word for `required`.
        if value["tool_choice"] == "any" {
            native.keep("tool_choice", &mut value["tool_choice"]);
        }
    }
    if let Some(format) = body.response_format {
        request.response_format = format.into_format()?;
        let known = request.response_format.is_some();
        native.keep_unless("response_format", known, &mut value);
        if is_look_alike_format(&value["response_format"]) {
            native.keep("response_format", &mut value["response_format"]);
        }
    }
    if let Some(options) = value["stream_options"].as_object_mut() {
        options.shift_remove("include_usage");
        if !options.is_empty() {
            native.keep("stream_options", &mut value["stream_options"]);
        }
    }
    request.native_fields = Some(native.finish(text, value)?);
    Ok(request)
}

/// The setting of the reasoning; the API's own member decides.
fn reasoning(effort: Option<String>, other: Option<ReasoningField>) -> Option<Reasoning> {
    let other = other.unwrap_or_default();
    let reasoning = Reasoning {
        effort: effort.or(other.effort),
        max_tokens: other.max_tokens,
        ..Reasoning::default()
    };
    (reasoning != Reasoning::default()).then_some(reasoning)
}

/// Puts the members of functions into `function` where a client has written them beside `type`, which is
/// the form of the Responses API.
fn nest_functions(body: &mut Value) {
    let tools = body.get_mut("tools").and_then(Value::as_array_mut);
    for tool in tools.into_iter().flatten() {
        if let Some(members) = tool.as_object_mut()
            && members.get("type").is_some_and(|kind| kind == "function")
            && members.contains_key("name")
            && !members.contains_key("function")
        {
            let kind = members.shift_remove("type");
            let function = Value::Object(std::mem::take(members));
            members.extend(kind.map(|kind| ("type".to_owned(), kind)));
            members.insert("function".to_owned(), function);
        }
    }
}

/// Whether it is a format of servers that only look like OpenAI's, who get it as it is.
fn is_look_alike_format(format: &Value) -> bool {
    format.get("schema").is_some()
        || format
            .get("json_schema")
            .is_some_and(|schema| schema.get("name").is_none())
}

/// Refuses what no upstream can give as a stream of text.
fn check(body: &Body) -> Result<(), Error> {
    let bounds = [
        ("max_completion_tokens", body.max_completion_tokens),
        ("max_tokens", body.max_tokens),
    ];
    for (field, bound) in bounds {
        if bound == Some(0) {
            return Err(Error::invalid(field, "must be at least 1"));
        }
    }
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

    /// Keeps a member that is not kept yet.
    fn keep_if_left(&mut self, field: &str, body: &mut Value) {
        if !body[field].is_null() {
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
        let mut optional = Vec::new();
        let refused: HashSet<String> = self.indispensable.iter().cloned().collect();
        for (name, value) in members {
            if !PARSED_MEMBERS.contains(&name.as_str()) && !value.is_null() {
                uncounted += text_length(&value);
                let is_parsed = PARSED_AND_KEPT.contains(&name.as_str());
                if !is_parsed && !refused.contains(&name) {
                    optional.push(name.clone());
                }
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
            optional,
            ..NativeFields::default()
        })
    }
}
