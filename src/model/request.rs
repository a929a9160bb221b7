//! A client's request, independent of its dialect.

use std::borrow::Cow;

use bytes::Bytes;
use http::HeaderMap;
use serde_json::{Map, Value};

use super::Error;

/// The longest name of a model, in bytes.
const MAX_MODEL_NAME: usize = 256;

/// One prompt request. Only what is set is sent upstream.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Request {
    /// The name the client used; the route maps it to upstream models.
    pub model: String,
    /// At least one, unless [`Request::for_wire`] put the client's own in `extra`. System messages
    /// come where the client put them.
    pub messages: Vec<Message>,
    pub max_tokens: Option<u64>,
    pub temperature: Option<f64>,
    pub top_p: Option<f64>,
    pub stop: Vec<String>,
    pub seed: Option<i64>,
    pub tools: Vec<Tool>,
    pub tool_choice: Option<ToolChoice>,
    /// Whether an answer may have several tool calls; the vendor decides where it is not set.
    pub parallel_tool_calls: Option<bool>,
    pub response_format: Option<ResponseFormat>,
    pub reasoning: Option<Reasoning>,
    /// The app's own name for its user.
    pub user: Option<String>,
    pub metadata: Option<Map<String, Value>>,
    /// Merged into the upstream's request body as it is.
    pub extra: Map<String, Value>,
    /// The request as the client wrote it, for an upstream of the client's own protocol.
    pub native_fields: Option<NativeFields>,
    /// Whether the answer is streamed; otherwise the client gets it whole, at its end.
    pub stream: bool,
    /// Whether a streamed answer reports its usage, where the dialect leaves that to the client.
    pub usage_wanted: bool,
    /// How many answers the client wants, where the dialect allows several; `None` is one.
    pub answers: Option<u32>,
    /// Whether the client reads a tool call as Chat Completions' `function_call`, which has room
    /// for one call.
    pub legacy_functions: bool,
    /// Whether the last message is the beginning of the answer, which the model must continue.
    pub continues_answer: bool,
}

/// Fields of a protocol that is both a dialect and a wire.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct NativeFields {
    /// The wire that understands them.
    pub wire: &'static str,
    pub fields: Map<String, Value>,
    /// Whether `fields` are all that the client wrote, so that an upstream of its protocol gets
    /// them as they are and nothing is made of the rest of the request. Whoever changes a request
    /// must change it here too.
    pub complete: bool,
    /// Whether an upstream of the client's protocol may answer verbatim. False where the gateway itself
    /// reads or completes the answer.
    pub verbatim: bool,
    /// The client's body, if nothing in it must be changed but the members that the gateway sets.
    pub body: Option<Bytes>,
    /// How many bytes of text in `fields` the rest of the request does not have, for an estimate of
    /// its tokens.
    pub uncounted: usize,
    /// Headers of the client's that mean something to the wire.
    pub headers: HeaderMap,
    /// Those fields, in the client's own words, whose loss would change what the client gets:
    /// another wire must refuse them.
    pub indispensable: Vec<String>,
    /// Those fields that only mean something to `wire` and that a request to another wire leaves out.
    pub optional: Vec<String>,
}

impl Request {
    /// The same request, for the rest of the answer after `text`, the text of the answer so far.
    #[must_use]
    pub fn continue_after(&self, text: &str) -> Self {
        let mut request = self.clone();
        // The client's own body ends before the answer.
        request.native_fields = None;
        // The reasoning is done, and vendors refuse reasoning after the beginning of an answer.
        request.reasoning = None;
        request.continues_answer = true;
        let said = Part::Text(text.to_owned());
        match request.messages.last_mut() {
            // The client wrote the beginning of the answer itself.
            Some(last) if last.role == Role::Assistant => match last.content.last_mut() {
                Some(Part::Text(begun)) => begun.push_str(text),
                _ => last.content.push(said),
            },
            _ => request.messages.push(Message {
                field: "the answer so far".to_owned(),
                role: Role::Assistant,
                content: vec![said],
            }),
        }
        request
    }

    /// Roughly how many bytes its conversation has.
    pub fn approximate_bytes(&self) -> usize {
        let native = self.native_fields.as_ref();
        match native.and_then(|native| native.body.as_ref()) {
            Some(body) => body.len(),
            None => {
                let parts = self.messages.iter().flat_map(|message| &message.content);
                parts.map(Part::approximate_bytes).sum()
            }
        }
    }

    /// Checks the length of a model's name, which is repeated in every event of some protocols.
    ///
    /// # Errors
    /// [`super::ErrorCode::InvalidRequest`], naming the field.
    pub fn check_model(name: &str) -> Result<(), Error> {
        if name.len() <= MAX_MODEL_NAME {
            return Ok(());
        }
        Err(Error::invalid(
            "model",
            format_args!("must not be longer than {MAX_MODEL_NAME} bytes"),
        ))
    }

    /// Names are single words or lines: they end in paths, headers and logs of others.
    ///
    /// # Errors
    /// [`super::ErrorCode::InvalidRequest`], naming the field that has a control character in it.
    pub fn check_names(&self) -> Result<(), Error> {
        Self::check_model(&self.model)?;
        let tools = self.tools.iter().enumerate();
        let tools = tools.map(|(at, tool)| (format!("tools[{at}]"), &tool.name));
        let choice = match &self.tool_choice {
            Some(ToolChoice::Function(name)) => Some(("tool_choice".to_owned(), name)),
            _ => None,
        };
        let user = self.user.iter().map(|user| ("user".to_owned(), user));
        let model = std::iter::once(("model".to_owned(), &self.model));
        match model
            .chain(user)
            .chain(tools)
            .chain(choice)
            .find(|(_, name)| name.contains(char::is_control))
        {
            None => Ok(()),
            Some((field, _)) => Err(Error::invalid(
                &field,
                "a name must not contain line ends or other control characters",
            )),
        }
    }

    /// The request as `wire` should see it: fields of the wire's own protocol become `extra`,
    /// those of another are left out.
    ///
    /// # Errors
    /// [`super::ErrorCode::InvalidRequest`], naming the field that cannot be left out.
    pub fn for_wire(&self, wire: &str) -> Result<Cow<'_, Self>, Error> {
        let Some(native) = &self.native_fields else {
            return Ok(Cow::Borrowed(self));
        };
        if native.wire != wire {
            return match native.indispensable.first() {
                Some(field) => Err(native.unsupported(field, wire)),
                None => Ok(Cow::Borrowed(self)),
            };
        }
        let mut extra = native.fields.clone();
        extra.extend(self.extra.clone());
        Ok(Cow::Owned(if native.complete {
            Self {
                model: self.model.clone(),
                stream: self.stream,
                usage_wanted: self.usage_wanted,
                answers: self.answers,
                legacy_functions: self.legacy_functions,
                extra,
                ..Self::default()
            }
        } else {
            Self {
                extra,
                ..self.clone()
            }
        }))
    }

    /// The client's headers that mean something to `wire`.
    pub fn headers_for(&self, wire: &str) -> Option<&HeaderMap> {
        let native = self.native_fields.as_ref()?;
        (native.wire == wire).then_some(&native.headers)
    }
}

impl NativeFields {
    /// The refusal of a field that only the client's own protocol has.
    fn unsupported(&self, field: &str, wire: &str) -> Error {
        // `input[0].type` is `/input/0/type` as a JSON pointer.
        let path = field.replace(['.', '['], "/").replace(']', "");
        let (name, rest) = path.split_once('/').unwrap_or((&path, ""));
        let value = self.fields.get(name);
        let value = match rest {
            "" => value,
            rest => value.and_then(|value| value.pointer(&format!("/{rest}"))),
        };
        let kind = value.and_then(|value| value.get("type").unwrap_or(value).as_str());
        let kind = kind.filter(|kind| kind.len() <= MAX_QUOTED);
        let what = kind.map_or_else(|| "this field".to_owned(), |kind| format!("`{kind}`"));
        let remedy = if name == "previous_response_id" || kind == Some("item_reference") {
            "send the whole conversation, or set store: false in your client".to_owned()
        } else {
            format!(
                "remove it, or use a model whose upstream speaks {}",
                self.wire
            )
        };
        Error::invalid(
            field,
            format_args!("{what} is not supported by this model's upstream ({wire}); {remedy}"),
        )
    }
}

/// Longer values of the client's are not quoted in messages, in bytes.
const MAX_QUOTED: usize = 64;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    System,
    User,
    Assistant,
    Tool,
}

/// One turn. `System` holds texts; `User` texts, images and files; `Assistant` texts, reasoning
/// and tool calls; `Tool` tool results.
#[derive(Debug, Clone, PartialEq)]
pub struct Message {
    /// Where the client wrote it, such as `messages[2]` or `prompt`, for errors.
    pub field: String,
    pub role: Role,
    pub content: Vec<Part>,
}

#[derive(Debug, Clone, PartialEq)]
pub enum Part {
    Text(String),
    Image(Media),
    File(Media),
    Reasoning {
        text: String,
        /// The vendor's signature of the reasoning, needed to send it back.
        signature: Option<String>,
    },
    /// Reasoning that only its vendor can read.
    EncryptedReasoning(String),
    ToolCall {
        id: String,
        name: String,
        /// A JSON text.
        arguments: String,
    },
    ToolResult {
        /// The id of the call that this answers.
        id: String,
        content: Vec<Part>,
        /// Whether the tool failed.
        is_error: bool,
    },
    /// The client wants the vendor to cache the prompt up to here.
    CachePoint,
}

impl Part {
    fn approximate_bytes(&self) -> usize {
        match self {
            Self::Text(text) | Self::EncryptedReasoning(text) | Self::Reasoning { text, .. } => {
                text.len()
            }
            Self::Image(media) | Self::File(media) => match &media.source {
                MediaSource::Inline { base64, .. } => base64.len(),
                MediaSource::Url(text) | MediaSource::Id(text) => text.len(),
            },
            Self::ToolCall { arguments, .. } => arguments.len(),
            Self::ToolResult { content, .. } => content.iter().map(Self::approximate_bytes).sum(),
            Self::CachePoint => 0,
        }
    }
}

/// An image or a file in a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Media {
    pub source: MediaSource,
    pub name: Option<String>,
    /// OpenAI's `detail` hint for images.
    pub detail: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MediaSource {
    Url(String),
    /// Inline bytes: a media type such as `image/png`, and base64.
    Inline {
        media_type: String,
        base64: String,
    },
    /// A file that was uploaded to the vendor before.
    Id(String),
}

#[derive(Debug, Clone, PartialEq, Default)]
pub struct Tool {
    pub name: String,
    pub description: Option<String>,
    /// A JSON schema of the arguments.
    pub parameters: Option<Value>,
    pub strict: Option<bool>,
    /// Whether the client wants the vendor to cache the tools up to this one.
    pub cache_point: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ToolChoice {
    Auto,
    None,
    Required,
    Function(String),
}

#[derive(Debug, Clone, PartialEq)]
pub enum ResponseFormat {
    Text,
    /// Any JSON object.
    Json,
    /// JSON that fits a schema.
    Schema {
        name: String,
        description: Option<String>,
        schema: Value,
        strict: Option<bool>,
    },
}

/// How much a model may think before it answers.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Reasoning {
    /// `none`, `minimal`, `low`, `medium`, `high` or a vendor's own word.
    pub effort: Option<String>,
    /// A bound on the reasoning, in tokens.
    pub max_tokens: Option<u64>,
    /// Whether clients of the dialect send it without a user's wish, so that it must not reach a model
    /// that may refuse it.
    pub is_default: bool,
    /// Whether the effort is for the answer only: the client has switched thinking off.
    pub without_thinking: bool,
    /// How the model takes the setting, if that is known. Dialects leave it out.
    pub style: Option<ReasoningStyle>,
}

/// How a model takes a setting of its reasoning.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReasoningStyle {
    /// It decides itself how long it thinks, guided by an effort.
    Adaptive,
    /// As a number of tokens.
    Budget,
    /// As an effort.
    Effort,
    /// It cannot reason, or refuses every setting.
    None,
}
