//! The JSON of the Messages API's frames, as far as it is read.

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::framing::Frame;
use crate::model::Usage;
use crate::wire::json::{Count, Text, said};
use crate::wire::parse::parse;

/// Every kind of frame in one struct: a frame is read in one pass, whatever it is, and a field
/// that it does not have costs nothing.
#[derive(Deserialize)]
pub(super) struct Message<'a> {
    #[serde(rename = "type", borrow)]
    pub(super) kind: Option<Text<'a>>,
    pub(super) index: Option<u64>,
    #[serde(borrow)]
    pub(super) delta: Option<Delta<'a>>,
    #[serde(borrow)]
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

/// A content block, whole or only begun.
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
    /// Of `redacted_thinking`.
    #[serde(borrow)]
    pub(super) data: Option<Text<'a>>,
    #[serde(borrow)]
    pub(super) input: Option<&'a RawValue>,
    #[serde(borrow)]
    pub(super) citations: Option<&'a RawValue>,
}

/// A citation. Its character, page and block positions lie in the source, not in the answer, so
/// they are no [`Citation::start`].
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

/// `message_start`'s message, or a whole answer.
#[derive(Deserialize)]
pub(super) struct Answer<'a> {
    #[serde(borrow)]
    pub(super) id: Option<Text<'a>>,
    #[serde(borrow)]
    pub(super) model: Option<Text<'a>>,
    #[serde(borrow)]
    pub(super) content: Option<Vec<Block<'a>>>,
    #[serde(borrow)]
    pub(super) stop_reason: Option<Text<'a>>,
    #[serde(borrow)]
    pub(super) usage: Option<&'a RawValue>,
}

/// Counts as the wire states them; `input_tokens` leaves both cache counts out.
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
    /// The kind of the frame that holds this: the JSON's `type`, else the event's name, of which
    /// `message` is the protocol's word for none.
    pub(super) fn kind_in(&'a self, frame: &Frame<'a>) -> &'a str {
        let named = if frame.name == "message" {
            ""
        } else {
            frame.name
        };
        said(&self.kind).unwrap_or(named)
    }
}

/// Whether `data` is JSON of a kind that is not read here, so that its fields may be anything.
pub(super) fn is_unknown_kind(data: &str) -> bool {
    #[derive(Deserialize)]
    struct Envelope<'a> {
        #[serde(rename = "type", borrow)]
        kind: Text<'a>,
    }
    parse::<Envelope<'_>>(data).is_ok_and(|envelope| !KNOWN_KINDS.contains(&envelope.kind.as_str()))
}

/// The kinds of frames that are read.
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
    /// Takes over every count that `later` states: counts are cumulative, so the last one holds.
    pub(super) fn update(&mut self, newer: Self) {
        self.input_tokens = newer.input_tokens.or(self.input_tokens);
        self.cache_creation_input_tokens = newer
            .cache_creation_input_tokens
            .or(self.cache_creation_input_tokens);
        self.cache_read_input_tokens = newer
            .cache_read_input_tokens
            .or(self.cache_read_input_tokens);
        self.output_tokens = newer.output_tokens.or(self.output_tokens);
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
