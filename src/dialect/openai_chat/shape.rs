//! JSON that streamed and whole answers share.

use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::dialect::AnswerInfo;
use crate::model::{Citation, FinishReason, Request, Usage};

/// A source with a URL. The API cannot express one without.
#[derive(Serialize)]
pub(super) struct Annotation<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    url_citation: UrlCitation<'a>,
}

/// The API requires all but `content`: clients that validate, such as the AI SDK's, fail at an answer
/// without it.
#[derive(Serialize)]
struct UrlCitation<'a> {
    url: &'a str,
    title: &'a str,
    /// The cited text, as OpenRouter sends it.
    #[serde(skip_serializing_if = "Option::is_none")]
    content: Option<&'a str>,
    start_index: u64,
    end_index: u64,
}

pub(super) fn id(info: &AnswerInfo) -> String {
    format!("chatcmpl-{}", info.stream)
}

/// Whether the client asked for the probabilities of tokens. Some upstreams send them unasked.
pub(super) fn logprobs_wanted(request: &Request) -> bool {
    let native = request.native_fields.as_ref();
    native.is_some_and(|native| native.fields.get("logprobs") == Some(&Value::Bool(true)))
}

/// How many answers the client gets at most.
pub(super) fn choices(request: &Request) -> usize {
    request.answers.unwrap_or(1) as usize
}

/// The API has no reason for a refusal: its text is in `refusal`, and without a text `content_filter`
/// is the nearest.
/// For what is neither of the API's reasons there is `other`, which OpenAI does not send and clients read as
/// unknown: `stop` would say that the answer is whole.
pub(super) fn finish_reason(
    finish: FinishReason,
    refused: bool,
    called: bool,
    legacy: bool,
) -> &'static str {
    match finish {
        FinishReason::Length => "length",
        FinishReason::ToolCalls if legacy => "function_call",
        FinishReason::ToolCalls => "tool_calls",
        FinishReason::Other if called && legacy => "function_call",
        FinishReason::Other if called => "tool_calls",
        FinishReason::Other | FinishReason::Pause => "other",
        FinishReason::ContentFilter => "content_filter",
        FinishReason::Refusal if !refused => "content_filter",
        FinishReason::Stop | FinishReason::Refusal | FinishReason::Cancelled => "stop",
    }
}

/// A generated image in the form of OpenRouter, because the API has none.
pub(super) fn image(url: &str, index: usize) -> Value {
    json!({ "type": "image_url", "image_url": { "url": url }, "index": index })
}

/// The members of a JSON object, without its braces.
pub(super) fn bare_members(json: &str) -> &str {
    let json = json.trim_ascii();
    let bare = json
        .strip_prefix('{')
        .and_then(|json| json.strip_suffix('}'));
    bare.unwrap_or_default()
}

/// Adds the vendor's own members to an object of a whole answer. Lists are joined, as are the texts of
/// elements with the same type and index, which a stream sends in pieces.
pub(super) fn add_members(object: &mut Map<String, Value>, json: &str) {
    let Ok(Value::Object(more)) = serde_json::from_str(json) else {
        return;
    };
    for (name, value) in more {
        match (object.get_mut(&name), value) {
            (Some(Value::Array(list)), Value::Array(more)) => {
                for element in more {
                    add_element(list, element);
                }
            }
            (_, value) => {
                object.insert(name, value);
            }
        }
    }
}

/// Puts the vendor's own members in the place of earlier ones; a null replaces nothing.
pub(super) fn replace_members(object: &mut Map<String, Value>, json: &str) {
    let Ok(Value::Object(more)) = serde_json::from_str(json) else {
        return;
    };
    for (name, value) in more {
        if !value.is_null() || !object.contains_key(&name) {
            object.insert(name, value);
        }
    }
}

fn add_element(list: &mut Vec<Value>, element: Value) {
    const TEXTS: [&str; 3] = ["text", "summary", "thinking"];
    let same = |last: &Value| {
        ["type", "index"]
            .iter()
            .all(|name| last[name] == element[name])
            && TEXTS
                .iter()
                .any(|name| last[name].is_string() && element[name].is_string())
    };
    let Some(last) = list.last_mut().filter(|last| same(last)) else {
        return list.push(element);
    };
    let Value::Object(members) = element else {
        return;
    };
    for (name, value) in members {
        match (&mut last[&name], value) {
            (Value::String(text), Value::String(more)) if TEXTS.contains(&&*name) => {
                text.push_str(&more);
            }
            (_, Value::Null) => {}
            (member, value) => *member = value,
        }
    }
}

pub(super) fn annotation(citation: Citation<'_>) -> Option<Annotation<'_>> {
    Some(Annotation {
        kind: "url_citation",
        url_citation: UrlCitation {
            url: citation.url?,
            title: citation.title.unwrap_or_default(),
            content: citation.text,
            start_index: citation.start.unwrap_or(0),
            end_index: citation.end.unwrap_or(0),
        },
    })
}

/// The API's counts are always numbers: a count that the upstream left out is 0. `members` are the
/// vendor's own; its other counts stay beside the gateway's.
pub(super) fn usage(usage: Usage, members: &Map<String, Value>) -> Value {
    let (input, output) = (usage.input.unwrap_or(0), usage.output.unwrap_or(0));
    let mut data = json!({
        "prompt_tokens": input,
        "completion_tokens": output,
        "total_tokens": input.saturating_add(output),
        "prompt_tokens_details": { "cached_tokens": usage.cached_input.unwrap_or(0) },
        "completion_tokens_details": { "reasoning_tokens": usage.reasoning.unwrap_or(0) },
    });
    if let Some(written) = usage.cache_write {
        data["prompt_tokens_details"]["cache_write_tokens"] = written.into();
    }
    add_missing(&mut data, members);
    data
}

/// Adds the members that an object and the objects in it do not have.
fn add_missing(object: &mut Value, members: &Map<String, Value>) {
    let Some(object) = object.as_object_mut() else {
        return;
    };
    for (name, value) in members {
        match (object.get_mut(name), value) {
            (None, _) => {
                object.insert(name.clone(), value.clone());
            }
            (Some(inner), Value::Object(members)) => add_missing(inner, members),
            (Some(_), _) => {}
        }
    }
}
