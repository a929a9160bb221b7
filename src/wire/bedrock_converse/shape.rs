//! The JSON of the Converse API's messages: the fields that the decoder reads.

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::model::Usage;
use crate::wire::json::{Count, ShortList, Text, newest_count};
use crate::wire::lenient::{lenient_index, lenient_list, lenient_object};

/// One struct for every kind of message, so that a message is parsed in one pass.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Message<'a> {
    #[serde(default, deserialize_with = "lenient_index")]
    pub(super) content_block_index: Option<u64>,
    #[serde(borrow, default, deserialize_with = "lenient_object")]
    pub(super) start: Option<Start<'a>>,
    #[serde(borrow, default, deserialize_with = "lenient_object")]
    pub(super) delta: Option<Delta<'a>>,
    #[serde(borrow)]
    pub(super) stop_reason: Option<Text<'a>>,
    #[serde(borrow)]
    pub(super) usage: Option<&'a RawValue>,
}

/// Only tool call blocks have a start.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Start<'a> {
    #[serde(borrow, default, deserialize_with = "lenient_object")]
    pub(super) tool_use: Option<ToolUse<'a>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ToolUse<'a> {
    #[serde(borrow)]
    pub(super) tool_use_id: Option<Text<'a>>,
    #[serde(borrow)]
    pub(super) name: Option<Text<'a>>,
    /// `server_tool_use` is a call that the vendor answers itself.
    #[serde(rename = "type", borrow)]
    kind: Option<Text<'a>>,
    /// A piece of a JSON text in a delta, an object in a complete answer.
    #[serde(borrow)]
    pub(super) input: Option<&'a RawValue>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Delta<'a> {
    #[serde(borrow)]
    pub(super) text: Option<Text<'a>>,
    #[serde(borrow, default, deserialize_with = "lenient_object")]
    pub(super) tool_use: Option<ToolUsePiece<'a>>,
    #[serde(borrow, default, deserialize_with = "lenient_object")]
    pub(super) reasoning_content: Option<ReasoningPiece<'a>>,
    #[serde(borrow)]
    pub(super) citation: Option<&'a RawValue>,
}

#[derive(Deserialize)]
pub(super) struct ToolUsePiece<'a> {
    #[serde(borrow)]
    pub(super) input: Option<Text<'a>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ReasoningPiece<'a> {
    #[serde(borrow)]
    pub(super) text: Option<Text<'a>>,
    #[serde(borrow)]
    pub(super) signature: Option<Text<'a>>,
    /// Encrypted reasoning in base64.
    #[serde(borrow)]
    pub(super) redacted_content: Option<Text<'a>>,
}

/// A complete answer.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Answer<'a> {
    #[serde(borrow, default, deserialize_with = "lenient_object")]
    pub(super) output: Option<Output<'a>>,
    #[serde(borrow)]
    pub(super) stop_reason: Option<Text<'a>>,
    #[serde(borrow)]
    pub(super) usage: Option<&'a RawValue>,
}

#[derive(Deserialize)]
pub(super) struct Output<'a> {
    #[serde(borrow, default, deserialize_with = "lenient_object")]
    pub(super) message: Option<AnswerMessage<'a>>,
}

#[derive(Deserialize)]
pub(super) struct AnswerMessage<'a> {
    #[serde(borrow, default, deserialize_with = "lenient_list")]
    pub(super) content: Option<ShortList<Block<'a>>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Block<'a> {
    #[serde(borrow)]
    pub(super) text: Option<Text<'a>>,
    #[serde(borrow, default, deserialize_with = "lenient_object")]
    pub(super) tool_use: Option<ToolUse<'a>>,
    #[serde(borrow, default, deserialize_with = "lenient_object")]
    pub(super) reasoning_content: Option<Reasoning<'a>>,
    #[serde(borrow, default, deserialize_with = "lenient_object")]
    pub(super) citations_content: Option<CitedText<'a>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Reasoning<'a> {
    #[serde(borrow, default, deserialize_with = "lenient_object")]
    pub(super) reasoning_text: Option<ReasoningPiece<'a>>,
    #[serde(borrow)]
    pub(super) redacted_content: Option<Text<'a>>,
}

/// A part of the answer's text, with its sources.
#[derive(Deserialize)]
pub(super) struct CitedText<'a> {
    #[serde(borrow, default, deserialize_with = "lenient_list")]
    pub(super) content: Option<ShortList<Piece<'a>>>,
    #[serde(borrow)]
    pub(super) citations: Option<Vec<&'a RawValue>>,
}

#[derive(Deserialize)]
pub(super) struct Piece<'a> {
    #[serde(borrow)]
    pub(super) text: Option<Text<'a>>,
}

/// A citation. Its positions refer to the source, not to the answer, so they do not become
/// [`crate::model::Citation::start`].
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Source<'a> {
    #[serde(borrow)]
    pub(super) title: Option<Text<'a>>,
    /// The origin of a search result that the client supplied.
    #[serde(borrow)]
    pub(super) source: Option<Text<'a>>,
    #[serde(borrow, default, deserialize_with = "lenient_list")]
    pub(super) source_content: Option<ShortList<Piece<'a>>>,
    #[serde(borrow, default, deserialize_with = "lenient_object")]
    pub(super) location: Option<Location<'a>>,
}

#[derive(Deserialize)]
pub(super) struct Location<'a> {
    #[serde(borrow, default, deserialize_with = "lenient_object")]
    pub(super) web: Option<Web<'a>>,
}

#[derive(Deserialize)]
pub(super) struct Web<'a> {
    #[serde(borrow)]
    pub(super) url: Option<Text<'a>>,
}

/// Counts as the wire gives them. `inputTokens` excludes both cache counts: `totalTokens` is the sum of
/// all four.
#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct UsageCounts {
    input_tokens: Option<Count>,
    output_tokens: Option<Count>,
    cache_read_input_tokens: Option<Count>,
    cache_write_input_tokens: Option<Count>,
}

impl ToolUse<'_> {
    pub(super) fn is_client_call(&self) -> bool {
        self.kind
            .as_ref()
            .is_none_or(|kind| kind.as_str() != "server_tool_use")
    }
}

impl UsageCounts {
    /// Replaces every count that `newer` gives, but none by a zero.
    pub(super) fn update(&mut self, newer: Self) {
        for (count, newer) in [
            (&mut self.input_tokens, newer.input_tokens),
            (&mut self.output_tokens, newer.output_tokens),
            (
                &mut self.cache_read_input_tokens,
                newer.cache_read_input_tokens,
            ),
            (
                &mut self.cache_write_input_tokens,
                newer.cache_write_input_tokens,
            ),
        ] {
            *count = newest_count(*count, newer);
        }
    }

    pub(super) fn usage(self) -> Usage {
        let value = |count: Option<Count>| count.and_then(|count| count.0);
        let cached_input = value(self.cache_read_input_tokens);
        let cache_write = value(self.cache_write_input_tokens);
        let input = [value(self.input_tokens), cached_input, cache_write];
        Usage {
            input: input.into_iter().flatten().reduce(u64::saturating_add),
            output: value(self.output_tokens),
            cached_input,
            cache_write,
            reasoning: None,
        }
    }
}
