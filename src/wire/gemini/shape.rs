//! The JSON of a `GenerateContentResponse`: the fields that the decoder reads.

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::model::Usage;
use crate::wire::json::{Count, ShortList, Text};
use crate::wire::parse::parse;

#[derive(Deserialize, Default)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct Chunk<'a> {
    #[serde(borrow)]
    pub(super) candidates: Option<ShortList<Candidate<'a>>>,
    #[serde(borrow)]
    pub(super) prompt_feedback: Option<PromptFeedback<'a>>,
    #[serde(borrow)]
    pub(super) usage_metadata: Option<&'a RawValue>,
    #[serde(borrow)]
    pub(super) response_id: Option<Text<'a>>,
    #[serde(borrow)]
    pub(super) model_version: Option<Text<'a>>,
    #[serde(borrow)]
    pub(super) error: Option<&'a RawValue>,
}

#[derive(Deserialize, Default)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct Candidate<'a> {
    pub(super) index: Option<Count>,
    #[serde(borrow)]
    pub(super) content: Option<Content<'a>>,
    #[serde(borrow)]
    finish_reason: Option<&'a RawValue>,
    #[serde(borrow)]
    pub(super) finish_message: Option<Text<'a>>,
    #[serde(borrow)]
    pub(super) citation_metadata: Option<&'a RawValue>,
    #[serde(borrow)]
    pub(super) grounding_metadata: Option<&'a RawValue>,
}

#[derive(Deserialize, Default)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct PromptFeedback<'a> {
    #[serde(borrow)]
    block_reason: Option<&'a RawValue>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
pub(super) struct Content<'a> {
    #[serde(borrow)]
    pub(super) parts: Option<ShortList<Part<'a>>>,
}

/// A part without any of these is an image, or a step of the vendor's own tools.
#[derive(Deserialize, Default)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct Part<'a> {
    #[serde(borrow)]
    pub(super) text: Option<Text<'a>>,
    /// Whether the text is a summary of the model's thoughts.
    pub(super) thought: Option<bool>,
    #[serde(borrow)]
    pub(super) function_call: Option<FunctionCall<'a>>,
}

#[derive(Deserialize, Default)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct FunctionCall<'a> {
    #[serde(borrow)]
    pub(super) id: Option<Text<'a>>,
    #[serde(borrow)]
    pub(super) name: Option<Text<'a>>,
    #[serde(borrow)]
    pub(super) args: Option<&'a RawValue>,
}

#[derive(Deserialize, Default)]
#[serde(default, rename_all = "camelCase")]
struct UsageCounts {
    prompt_token_count: Option<Count>,
    tool_use_prompt_token_count: Option<Count>,
    cached_content_token_count: Option<Count>,
    candidates_token_count: Option<Count>,
    thoughts_token_count: Option<Count>,
}

impl<'a> Candidate<'a> {
    pub(super) fn finish_reason(&self) -> &'a str {
        enum_name(self.finish_reason)
    }
}

impl PromptFeedback<'_> {
    pub(super) fn is_blocked(&self) -> bool {
        !matches!(
            enum_name(self.block_reason),
            "" | "0" | "BLOCK_REASON_UNSPECIFIED"
        )
    }
}

/// The value of an enum: its name, or its number if the vendor was asked for numbers.
fn enum_name(raw: Option<&RawValue>) -> &str {
    raw.map_or("", |raw| raw.get().trim_matches('"'))
}

/// The usage of a `usageMetadata`. The answer does not depend on it, so one that does not parse is
/// `None`. The counts are separate: results of tools are input like the prompt, and thoughts are
/// output like the answer.
pub(super) fn usage(raw: &RawValue) -> Option<Usage> {
    fn sum(counts: [Option<Count>; 2]) -> Option<u64> {
        let counts = counts.into_iter().flatten();
        counts
            .filter_map(|count| count.0)
            .reduce(u64::saturating_add)
    }
    let counts: UsageCounts = parse(raw.get()).ok()?;
    Some(Usage {
        input: sum([
            counts.prompt_token_count,
            counts.tool_use_prompt_token_count,
        ]),
        output: sum([counts.candidates_token_count, counts.thoughts_token_count]),
        cached_input: counts.cached_content_token_count.and_then(|count| count.0),
        cache_write: None,
        reasoning: counts.thoughts_token_count.and_then(|count| count.0),
    })
}
