//! The JSON of the chat API's events: the fields that the decoder reads.

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::framing::Frame;
use crate::model::Usage;
use crate::wire::json::{Count, ShortList, Text, non_empty};
use crate::wire::lenient::{lenient_index, lenient_list, lenient_object};
use crate::wire::parse::parse;

/// The fields that all events have. The same field of a `delta` is a list in one event and an object in
/// another, so the delta is parsed after the event's type is known.
#[derive(Deserialize)]
pub(super) struct Chunk<'a> {
    #[serde(rename = "type", borrow)]
    kind: Option<Text<'a>>,
    #[serde(borrow)]
    pub(super) id: Option<Text<'a>>,
    #[serde(default, deserialize_with = "lenient_index")]
    pub(super) index: Option<u64>,
    #[serde(borrow)]
    pub(super) delta: Option<&'a RawValue>,
    /// A string in an error, an object in a complete answer.
    #[serde(borrow)]
    message: Option<Text<'a>>,
}

/// The delta of an event.
#[derive(Deserialize)]
#[serde(bound(deserialize = "T: Deserialize<'de>"))]
pub(super) struct Delta<T> {
    #[serde(default = "Option::default", deserialize_with = "lenient_object")]
    pub(super) message: Option<T>,
}

#[derive(Deserialize)]
pub(super) struct ContentPiece<'a> {
    #[serde(borrow, default, deserialize_with = "lenient_object")]
    pub(super) content: Option<Content<'a>>,
}

/// A content block or a piece of one.
#[derive(Deserialize)]
pub(super) struct Content<'a> {
    #[serde(borrow)]
    pub(super) text: Option<Text<'a>>,
    #[serde(borrow)]
    pub(super) thinking: Option<Text<'a>>,
}

#[derive(Deserialize)]
pub(super) struct PlanPiece<'a> {
    #[serde(borrow)]
    pub(super) tool_plan: Option<Text<'a>>,
}

#[derive(Deserialize)]
pub(super) struct CallPiece<'a> {
    #[serde(borrow, default, deserialize_with = "lenient_object")]
    pub(super) tool_calls: Option<Call<'a>>,
}

#[derive(Deserialize)]
pub(super) struct Call<'a> {
    #[serde(borrow)]
    pub(super) id: Option<Text<'a>>,
    #[serde(borrow, default, deserialize_with = "lenient_object")]
    pub(super) function: Option<Function<'a>>,
}

#[derive(Deserialize)]
pub(super) struct Function<'a> {
    #[serde(borrow)]
    pub(super) name: Option<Text<'a>>,
    #[serde(borrow)]
    pub(super) arguments: Option<Text<'a>>,
}

#[derive(Deserialize)]
pub(super) struct CitationPiece<'a> {
    #[serde(borrow, default, deserialize_with = "lenient_object")]
    pub(super) citations: Option<CitedSpan<'a>>,
}

/// A span of the answer's text and its sources.
#[derive(Deserialize)]
pub(super) struct CitedSpan<'a> {
    #[serde(default, deserialize_with = "lenient_index")]
    pub(super) start: Option<u64>,
    #[serde(default, deserialize_with = "lenient_index")]
    pub(super) end: Option<u64>,
    #[serde(borrow)]
    pub(super) text: Option<Text<'a>>,
    #[serde(borrow, default, deserialize_with = "lenient_list")]
    pub(super) sources: Option<ShortList<Source<'a>>>,
    /// Where the span is: `TEXT_CONTENT`, or in the reasoning: `THINKING_CONTENT`, `PLAN`.
    #[serde(rename = "type", borrow)]
    pub(super) kind: Option<Text<'a>>,
}

/// A document of the request or a tool's output. The client defines the fields of both.
#[derive(Deserialize)]
pub(super) struct Source<'a> {
    #[serde(borrow)]
    document: Option<&'a RawValue>,
    #[serde(borrow)]
    tool_output: Option<&'a RawValue>,
}

#[derive(Deserialize, Default)]
pub(super) struct SourceDetails<'a> {
    #[serde(borrow)]
    pub(super) url: Option<Text<'a>>,
    #[serde(borrow)]
    pub(super) title: Option<Text<'a>>,
}

/// The end of an answer: the delta of `message-end`, or fields beside the message of a complete answer.
#[derive(Deserialize)]
pub(super) struct End<'a> {
    #[serde(borrow)]
    pub(super) finish_reason: Option<Text<'a>>,
    #[serde(borrow)]
    pub(super) usage: Option<&'a RawValue>,
    #[serde(borrow)]
    pub(super) error: Option<Text<'a>>,
}

/// A complete answer.
#[derive(Deserialize)]
pub(super) struct Answer<'a> {
    #[serde(borrow)]
    pub(super) id: Option<Text<'a>>,
    #[serde(borrow)]
    pub(super) message: Option<&'a RawValue>,
}

#[derive(Deserialize)]
pub(super) struct AnswerMessage<'a> {
    #[serde(borrow, default, deserialize_with = "lenient_list")]
    pub(super) content: Option<ShortList<Content<'a>>>,
    #[serde(borrow)]
    pub(super) tool_plan: Option<Text<'a>>,
    #[serde(borrow, default, deserialize_with = "lenient_list")]
    pub(super) tool_calls: Option<ShortList<Call<'a>>>,
    #[serde(borrow, default, deserialize_with = "lenient_list")]
    pub(super) citations: Option<ShortList<CitedSpan<'a>>>,
}

/// `tokens` counts what the model processed. `billed_units` counts what is charged, which excludes the
/// vendor's own prompts.
#[derive(Deserialize)]
pub(super) struct UsageCounts {
    #[serde(default, deserialize_with = "lenient_object")]
    tokens: Option<Units>,
    #[serde(default, deserialize_with = "lenient_object")]
    billed_units: Option<Units>,
    cached_tokens: Option<Count>,
}

#[derive(Deserialize, Clone, Copy)]
struct Units {
    input_tokens: Option<Count>,
    output_tokens: Option<Count>,
    reasoning_tokens: Option<Count>,
}

impl<'a> Chunk<'a> {
    /// The kind of the event: the JSON's `type`, else the event's name.
    pub(super) fn kind_in(&'a self, frame: &Frame<'a>) -> &'a str {
        non_empty(&self.kind).unwrap_or(frame.name)
    }

    pub(super) fn has_no_type(&self) -> bool {
        non_empty(&self.kind).is_none()
    }

    /// The text of an error: a `message` string without a `type`.
    pub(super) fn error_text(&'a self) -> Option<&'a str> {
        match self.kind {
            None => non_empty(&self.message),
            Some(_) => None,
        }
    }
}

impl<'a> Source<'a> {
    pub(super) fn details(&self) -> SourceDetails<'a> {
        let raw = self.document.or(self.tool_output);
        raw.and_then(|raw| parse(raw.get()).ok())
            .unwrap_or_default()
    }
}

impl From<UsageCounts> for Usage {
    fn from(counts: UsageCounts) -> Self {
        fn count_value(count: Option<Count>) -> Option<u64> {
            count.and_then(|count| count.0)
        }
        let has_counts = |units: &Units| {
            count_value(units.input_tokens) > Some(0) || count_value(units.output_tokens) > Some(0)
        };
        let (tokens, billed) = (counts.tokens, counts.billed_units);
        let units = tokens.filter(has_counts).or(billed).or(tokens);
        Self {
            input: units.and_then(|units| count_value(units.input_tokens)),
            output: units.and_then(|units| count_value(units.output_tokens)),
            cached_input: count_value(counts.cached_tokens),
            cache_write: None,
            reasoning: units.and_then(|units| count_value(units.reasoning_tokens)),
        }
    }
}
