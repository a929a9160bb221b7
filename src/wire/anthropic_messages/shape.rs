//! The JSON of the Messages API's frames: the fields that the decoder reads.

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::framing::Frame;
use crate::model::Usage;
use crate::wire::json::{Count, ShortList, Text, newest_count, non_empty};
use crate::wire::lenient::{lenient_index, lenient_list, lenient_object};
use crate::wire::parse::parse;

/// One struct for every kind of frame, so that a frame is parsed in one pass. A field that is absent
/// costs nothing.
#[derive(Deserialize)]
pub(super) struct Message<'a> {
    #[serde(rename = "type", borrow)]
    pub(super) kind: Option<Text<'a>>,
    #[serde(default, deserialize_with = "lenient_index")]
    pub(super) index: Option<u64>,
    #[serde(borrow, default, deserialize_with = "lenient_object")]
    pub(super) delta: Option<Delta<'a>>,
    #[serde(borrow, default, deserialize_with = "lenient_object")]
    pub(super) content_block: Option<Block<'a>>,
    #[serde(borrow)]
    pub(super) message: Option<&'a RawValue>,
    #[serde(borrow)]
    pub(super) usage: Option<&'a RawValue>,
    #[serde(borrow)]
    pub(super) error: Option<&'a RawValue>,
}

#[derive(Deserialize)]
pub(super) struct Delta<'a> {
    #[serde(rename = "type", borrow)]
    pub(super) kind: Option<Text<'a>>,
    #[serde(borrow)]
    pub(super) text: Option<Text<'a>>,
    #[serde(borrow)]
    pub(super) thinking: Option<Text<'a>>,
    #[serde(borrow)]
    pub(super) signature: Option<Text<'a>>,
    #[serde(borrow)]
    pub(super) partial_json: Option<Text<'a>>,
    #[serde(borrow)]
    pub(super) citation: Option<&'a RawValue>,
    #[serde(borrow)]
    pub(super) stop_reason: Option<Text<'a>>,
}

/// A content block: complete, or at its start.
#[derive(Deserialize)]
pub(super) struct Block<'a> {
    #[serde(rename = "type", borrow)]
    pub(super) kind: Option<Text<'a>>,
    #[serde(borrow)]
    pub(super) id: Option<Text<'a>>,
    #[serde(borrow)]
    pub(super) name: Option<Text<'a>>,
    #[serde(borrow)]
    pub(super) text: Option<Text<'a>>,
    #[serde(borrow)]
    pub(super) thinking: Option<Text<'a>>,
    #[serde(borrow)]
    pub(super) signature: Option<Text<'a>>,
    /// Present in `redacted_thinking`.
    #[serde(borrow)]
    pub(super) data: Option<Text<'a>>,
    #[serde(borrow)]
    pub(super) input: Option<&'a RawValue>,
    #[serde(borrow)]
    pub(super) citations: Option<&'a RawValue>,
}

/// A citation. Its character, page and block positions refer to the source, not to the answer, so
/// they do not become [`Citation::start`].
#[derive(Deserialize)]
pub(super) struct Source<'a> {
    #[serde(borrow)]
    pub(super) url: Option<Text<'a>>,
    /// The `url` of a `search_result_location`.
    #[serde(borrow)]
    pub(super) source: Option<Text<'a>>,
    #[serde(borrow)]
    pub(super) title: Option<Text<'a>>,
    #[serde(borrow)]
    pub(super) document_title: Option<Text<'a>>,
    #[serde(borrow)]
    pub(super) cited_text: Option<Text<'a>>,
}

/// The message of `message_start`, or a complete answer.
#[derive(Deserialize)]
pub(super) struct Answer<'a> {
    #[serde(borrow)]
    pub(super) id: Option<Text<'a>>,
    #[serde(borrow)]
    pub(super) model: Option<Text<'a>>,
    #[serde(borrow, default, deserialize_with = "lenient_list")]
    pub(super) content: Option<ShortList<Block<'a>>>,
    #[serde(borrow)]
    pub(super) stop_reason: Option<Text<'a>>,
    #[serde(borrow)]
    pub(super) usage: Option<&'a RawValue>,
}

/// Counts as the wire gives them. `input_tokens` excludes both cache counts.
#[derive(Debug, Clone, Copy, Default, Deserialize)]
pub(super) struct UsageCounts {
    input_tokens: Option<Count>,
    cache_creation_input_tokens: Option<Count>,
    cache_read_input_tokens: Option<Count>,
    output_tokens: Option<Count>,
    output_tokens_details: Option<OutputDetails>,
}

#[derive(Debug, Clone, Copy, Default, Deserialize)]
struct OutputDetails {
    thinking_tokens: Option<Count>,
}

impl<'a> Message<'a> {
    /// The kind of the frame: the JSON's `type`, else the event's name. SSE calls an event without a
    /// name `message`.
    pub(super) fn kind_in(&'a self, frame: &Frame<'a>) -> &'a str {
        let named = if frame.name == "message" {
            ""
        } else {
            frame.name
        };
        non_empty(&self.kind).unwrap_or(named)
    }
}

/// Whether `data` is JSON of a kind that the decoder does not read. Its fields may have any type.
pub(super) fn is_unknown_kind(data: &str) -> bool {
    #[derive(Deserialize)]
    struct Envelope<'a> {
        #[serde(rename = "type", borrow)]
        kind: Text<'a>,
    }
    parse::<Envelope<'_>>(data).is_ok_and(|envelope| !KNOWN_KINDS.contains(&envelope.kind.as_str()))
}

/// The kinds of frames that the decoder reads.
const KNOWN_KINDS: [&str; 8] = [
    "content_block_delta",
    "content_block_start",
    "content_block_stop",
    "error",
    "message",
    "message_delta",
    "message_start",
    "message_stop",
];

impl UsageCounts {
    /// Replaces the counts that `newer` gives. Counts are cumulative, so the newest are valid. Some
    /// vendors repeat zeros: input that is all zeros, or an output of zero, replaces nothing.
    pub(super) fn update(&mut self, newer: Self) {
        let input = [
            newer.input_tokens,
            newer.cache_creation_input_tokens,
            newer.cache_read_input_tokens,
        ];
        let has_input = input
            .iter()
            .any(|count| matches!(count, Some(Count(Some(1..)))));
        for (count, newer) in [
            &mut self.input_tokens,
            &mut self.cache_creation_input_tokens,
            &mut self.cache_read_input_tokens,
        ]
        .into_iter()
        .zip(input)
        {
            *count = if has_input {
                newer.or(*count)
            } else {
                newest_count(*count, newer)
            };
        }
        self.output_tokens = newest_count(self.output_tokens, newer.output_tokens);
        self.output_tokens_details = newer.output_tokens_details.or(self.output_tokens_details);
    }

    pub(super) fn usage(self) -> Usage {
        fn count_value(count: Option<Count>) -> Option<u64> {
            count.and_then(|count| count.0)
        }
        let cached_input = count_value(self.cache_read_input_tokens);
        let cache_write = count_value(self.cache_creation_input_tokens);
        let input = [count_value(self.input_tokens), cached_input, cache_write];
        let details = self.output_tokens_details;
        Usage {
            input: input.into_iter().flatten().reduce(u64::saturating_add),
            output: count_value(self.output_tokens),
            cached_input,
            cache_write,
            reasoning: details.and_then(|details| count_value(details.thinking_tokens)),
        }
    }
}
