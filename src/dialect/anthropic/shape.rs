//! The JSON that streams and whole messages share.

use serde::Serialize;
use serde_json::{Value, json};

use crate::dialect::AnswerInfo;
use crate::model::{Citation, FinishReason, Usage};

/// Counts in the API's meaning: `input_tokens` excludes what was read from and written to the prompt
/// cache. The two counts that every message has are 0 if the upstream sent none.
#[derive(Debug, Serialize)]
pub(super) struct UsageData {
    input_tokens: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    cache_creation_input_tokens: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cache_read_input_tokens: Option<u64>,
    output_tokens: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    output_tokens_details: Option<OutputDetails>,
}

#[derive(Debug, Serialize)]
struct OutputDetails {
    thinking_tokens: u64,
}

impl From<Usage> for UsageData {
    fn from(usage: Usage) -> Self {
        let cached = usage.cached_input.unwrap_or(0);
        let cached = cached.saturating_add(usage.cache_write.unwrap_or(0));
        Self {
            input_tokens: usage.input.unwrap_or(0).saturating_sub(cached),
            cache_creation_input_tokens: usage.cache_write,
            cache_read_input_tokens: usage.cached_input,
            output_tokens: usage.output.unwrap_or(0),
            output_tokens_details: usage
                .reasoning
                .map(|thinking_tokens| OutputDetails { thinking_tokens }),
        }
    }
}

/// The message's id: the upstream's own if it has this API's form.
pub(super) fn message_id(upstream: Option<&str>, info: &AnswerInfo) -> String {
    match upstream {
        Some(id) if id.starts_with("msg_") => id.to_owned(),
        _ => format!("msg_{}", info.stream.to_string().trim_start_matches("st_")),
    }
}

/// `calls` says whether the message has tool calls: in this API such a message ends with `tool_use`,
/// whatever the upstream's reason was.
pub(super) fn stop_reason(finish: FinishReason, calls: bool) -> &'static str {
    match finish {
        FinishReason::Length => "max_tokens",
        FinishReason::ContentFilter | FinishReason::Refusal => "refusal",
        FinishReason::Pause => "pause_turn",
        FinishReason::ToolCalls => "tool_use",
        FinishReason::Stop | FinishReason::Other | FinishReason::Cancelled if calls => "tool_use",
        FinishReason::Stop | FinishReason::Cancelled => "end_turn",
        // The API has no such reason; its clients must bear new ones, and `end_turn` would be a claim.
        FinishReason::Other => "other",
    }
}

/// A citation of a web page, or of a document whose index among the client's is unknown. The empty
/// `encrypted_index` and the empty range mark them as the gateway's: see
/// [`is_gateway_citation`].
pub(super) fn citation(citation: &Citation<'_>) -> Value {
    let text = citation.text.unwrap_or_default();
    match citation.url {
        Some(url) => json!({
            "type": "web_search_result_location",
            "cited_text": text,
            "url": url,
            "title": citation.title.unwrap_or_default(),
            "encrypted_index": "",
        }),
        None => json!({
            "type": "char_location",
            "cited_text": text,
            "document_index": 0,
            "document_title": citation.title,
            "start_char_index": 0,
            "end_char_index": 0,
        }),
    }
}

/// Whether [`citation`] made a citation that a client sends back: the API would refuse it.
pub(super) fn is_gateway_citation(citation: &Value) -> bool {
    match citation["type"].as_str() {
        Some("web_search_result_location") => citation["encrypted_index"] == "",
        Some("char_location") => citation["start_char_index"] == citation["end_char_index"],
        _ => false,
    }
}
