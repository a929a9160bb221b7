//! The JSON of the stream. The SDK refuses unknown members.

use bytes::{BufMut, BytesMut};
use serde::Serialize;
use serde_json::value::RawValue;

use crate::dialect::json::{put_json, put_text};
use crate::model::{Citation, FinishReason, Usage};

#[derive(Serialize)]
#[serde(
    tag = "type",
    rename_all = "kebab-case",
    rename_all_fields = "camelCase"
)]
pub(super) enum Chunk<'a> {
    Start {
        #[serde(skip_serializing_if = "Option::is_none")]
        message_id: Option<&'a str>,
    },
    StartStep,
    TextStart {
        id: &'a str,
    },
    TextEnd {
        id: &'a str,
    },
    ReasoningStart {
        id: &'a str,
        #[serde(skip_serializing_if = "Option::is_none")]
        provider_metadata: Option<Metadata<'a>>,
    },
    ReasoningEnd {
        id: &'a str,
        #[serde(skip_serializing_if = "Option::is_none")]
        provider_metadata: Option<Metadata<'a>>,
    },
    ToolInputStart {
        tool_call_id: &'a str,
        tool_name: &'a str,
    },
    ToolInputDelta {
        tool_call_id: &'a str,
        input_text_delta: &'a str,
    },
    ToolInputAvailable {
        tool_call_id: &'a str,
        tool_name: &'a str,
        input: &'a RawValue,
    },
    ToolInputError {
        tool_call_id: &'a str,
        tool_name: &'a str,
        input: &'a str,
        error_text: &'a str,
    },
    SourceUrl {
        source_id: &'a str,
        url: &'a str,
        #[serde(skip_serializing_if = "Option::is_none")]
        title: Option<&'a str>,
        #[serde(skip_serializing_if = "Option::is_none")]
        provider_metadata: Option<Metadata<'a>>,
    },
    SourceDocument {
        source_id: &'a str,
        media_type: &'a str,
        title: &'a str,
        #[serde(skip_serializing_if = "Option::is_none")]
        provider_metadata: Option<Metadata<'a>>,
    },
    File {
        url: &'a str,
        media_type: &'a str,
    },
    FinishStep,
    Finish {
        finish_reason: &'static str,
        #[serde(skip_serializing_if = "Option::is_none")]
        message_metadata: Option<MessageMetadata>,
    },
    Abort,
    Error {
        error_text: &'a str,
    },
}

/// Data that the SDK keeps with a part, under the gateway's name ([`super::PROVIDER`]).
#[derive(Serialize)]
pub(super) struct Metadata<'a> {
    sluicegate: ProviderData<'a>,
}

#[derive(Serialize, Default)]
pub(super) struct ProviderData<'a> {
    /// The vendor's signature of the reasoning.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) signature: Option<&'a str>,
    /// Reasoning that only its vendor can decrypt.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) sealed: Option<&'a str>,
    /// The cited text, and the range of the claim.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) text: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) start: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) end: Option<u64>,
}

/// Data that the SDK keeps with the message.
#[derive(Serialize)]
pub(super) struct MessageMetadata {
    usage: Counts,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Counts {
    #[serde(skip_serializing_if = "Option::is_none")]
    input_tokens: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    output_tokens: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    total_tokens: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cached_input_tokens: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reasoning_tokens: Option<u64>,
}

/// Writes a `text-delta` or `reasoning-delta`, the chunk of nearly every token.
pub(super) fn write_delta(kind: &str, id: &str, delta: &str, out: &mut BytesMut) {
    out.put_slice(b"data: {\"type\":\"");
    out.put_slice(kind.as_bytes());
    out.put_slice(b"\",\"id\":");
    put_text(id, out);
    out.put_slice(b",\"delta\":");
    put_text(delta, out);
    out.put_slice(b"}\n\n");
}

impl Chunk<'_> {
    pub(super) fn write(&self, out: &mut BytesMut) {
        out.put_slice(b"data: ");
        put_json(self, out);
        out.put_slice(b"\n\n");
    }
}

impl<'a> From<ProviderData<'a>> for Metadata<'a> {
    fn from(sluicegate: ProviderData<'a>) -> Self {
        Self { sluicegate }
    }
}

impl<'a> Metadata<'a> {
    /// The fields of a citation that the SDK's sources do not have.
    pub(super) fn of(citation: &Citation<'a>) -> Option<Self> {
        let Citation {
            text, start, end, ..
        } = *citation;
        let has_data = text.is_some() || start.is_some() || end.is_some();
        has_data.then(|| {
            Self::from(ProviderData {
                text,
                start,
                end,
                ..ProviderData::default()
            })
        })
    }
}

impl From<Usage> for MessageMetadata {
    fn from(usage: Usage) -> Self {
        Self {
            usage: Counts {
                input_tokens: usage.input,
                output_tokens: usage.output,
                total_tokens: usage
                    .input
                    .zip(usage.output)
                    .map(|(input, output)| input.saturating_add(output)),
                cached_input_tokens: usage.cached_input,
                reasoning_tokens: usage.reasoning,
            },
        }
    }
}

/// The media type of a generated image. An address does not tell it, and the SDK requires one.
pub(super) fn media_type(url: &str) -> &str {
    let data = url.strip_prefix("data:");
    let media_type = data.and_then(|data| data.split([';', ',']).next());
    media_type
        .filter(|kind| !kind.is_empty())
        .unwrap_or("image/*")
}

/// The SDK's finish reason; none for an answer that was cancelled.
pub(super) fn finish_reason(finish: FinishReason) -> Option<&'static str> {
    Some(match finish {
        FinishReason::Stop => "stop",
        FinishReason::Length => "length",
        FinishReason::ToolCalls => "tool-calls",
        FinishReason::ContentFilter | FinishReason::Refusal => "content-filter",
        FinishReason::Pause | FinishReason::Other => "other",
        FinishReason::Cancelled => return None,
    })
}
