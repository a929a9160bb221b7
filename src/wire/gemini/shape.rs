//! The JSON of a `GenerateContentResponse`: the fields that the decoder reads.

use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny};
use serde_json::value::RawValue;

use crate::model::Usage;
use crate::wire::json::{Count, ShortList, Text, newest_count, non_empty};
use crate::wire::lenient::{lenient_flag, lenient_index, lenient_object};

#[derive(Deserialize, Default)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct Chunk<'a> {
    #[serde(borrow)]
    pub(super) candidates: Option<ShortList<Candidate<'a>>>,
    #[serde(borrow, deserialize_with = "lenient_object")]
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
    #[serde(deserialize_with = "lenient_index")]
    pub(super) index: Option<u64>,
    #[serde(borrow, deserialize_with = "lenient_object")]
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

/// A part without any of these is a step of the vendor's own tools.
#[derive(Deserialize, Default)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct Part<'a> {
    #[serde(borrow)]
    pub(super) text: Option<Text<'a>>,
    /// Whether the text is a summary of the model's thoughts.
    #[serde(deserialize_with = "lenient_flag")]
    pub(super) thought: bool,
    #[serde(borrow, deserialize_with = "lenient_object")]
    pub(super) function_call: Option<FunctionCall<'a>>,
    /// A generated image.
    #[serde(borrow, deserialize_with = "lenient_object")]
    pub(super) inline_data: Option<InlineData<'a>>,
}

#[derive(Deserialize, Default)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct InlineData<'a> {
    #[serde(borrow)]
    mime_type: Option<Text<'a>>,
    #[serde(borrow)]
    data: Option<Text<'a>>,
}

impl InlineData<'_> {
    /// The image as a `data:` URL; `None` for another kind of data.
    pub(super) fn image(&self) -> Option<String> {
        let kind = non_empty(&self.mime_type).filter(|kind| kind.starts_with("image/"))?;
        Some(format!("data:{kind};base64,{}", non_empty(&self.data)?))
    }
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
    /// Values of the arguments, if they are streamed.
    #[serde(borrow)]
    pub(super) partial_args: Option<&'a RawValue>,
    /// Whether the next part with a `functionCall` continues this call.
    #[serde(deserialize_with = "lenient_flag")]
    pub(super) will_continue: bool,
}

/// A value of a call's arguments, or a piece of a string.
#[derive(Deserialize, Default)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct PartialArg<'a> {
    #[serde(borrow)]
    pub(super) json_path: Option<Text<'a>>,
    #[serde(borrow)]
    pub(super) string_value: Option<Text<'a>>,
    #[serde(borrow)]
    pub(super) number_value: Option<&'a RawValue>,
    #[serde(borrow)]
    pub(super) bool_value: Option<&'a RawValue>,
    /// Whether the field is present: its value is `null` or `"NULL_VALUE"`.
    #[serde(deserialize_with = "is_present")]
    pub(super) null_value: bool,
}

/// The counts of a `usageMetadata`.
#[derive(Debug, Clone, Copy, Deserialize, Default)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct UsageCounts {
    prompt_token_count: Option<Count>,
    tool_use_prompt_token_count: Option<Count>,
    cached_content_token_count: Option<Count>,
    candidates_token_count: Option<Count>,
    thoughts_token_count: Option<Count>,
    total_token_count: Option<Count>,
}

impl Chunk<'_> {
    /// Whether the chunk has no field of this protocol.
    pub(super) fn is_foreign(&self) -> bool {
        self.candidates.is_none()
            && self.prompt_feedback.is_none()
            && self.usage_metadata.is_none()
            && self.response_id.is_none()
            && self.model_version.is_none()
    }
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

fn is_present<'de, D: Deserializer<'de>>(from: D) -> Result<bool, D::Error> {
    IgnoredAny::deserialize(from).map(|_| true)
}

/// The value of an enum: its name, or its number if the vendor was asked for numbers.
fn enum_name(raw: Option<&RawValue>) -> &str {
    raw.map_or("", |raw| raw.get().trim_matches('"'))
}

impl UsageCounts {
    /// Replaces all counts if the total of `newer` is the sum of its counts. Otherwise some are missing:
    /// some chunks repeat only a part of them.
    pub(super) fn update(&mut self, newer: Self) {
        if newer.is_whole() {
            *self = newer;
            return;
        }
        for (count, newer) in [
            (&mut self.prompt_token_count, newer.prompt_token_count),
            (
                &mut self.tool_use_prompt_token_count,
                newer.tool_use_prompt_token_count,
            ),
            (
                &mut self.cached_content_token_count,
                newer.cached_content_token_count,
            ),
            (
                &mut self.candidates_token_count,
                newer.candidates_token_count,
            ),
            (&mut self.thoughts_token_count, newer.thoughts_token_count),
            (&mut self.total_token_count, newer.total_token_count),
        ] {
            *count = newest_count(*count, newer);
        }
    }

    fn is_whole(self) -> bool {
        let value = |count: Option<Count>| count.and_then(|count| count.0);
        let counts = [
            self.prompt_token_count,
            self.tool_use_prompt_token_count,
            self.candidates_token_count,
            self.thoughts_token_count,
        ];
        let sum = counts
            .into_iter()
            .filter_map(value)
            .reduce(u64::saturating_add);
        sum > Some(0) && sum == value(self.total_token_count)
    }

    /// Results of tools are input like the prompt, and thoughts are output like the answer. The counts
    /// are separate, unless the total shows that `candidatesTokenCount` includes the thoughts.
    pub(super) fn usage(self) -> Usage {
        let value = |count: Option<Count>| count.and_then(|count| count.0);
        let sum = |one: Option<u64>, two: Option<u64>| {
            [one, two].into_iter().flatten().reduce(u64::saturating_add)
        };
        let input = sum(
            value(self.prompt_token_count),
            value(self.tool_use_prompt_token_count),
        );
        let (candidates, thoughts) = (
            value(self.candidates_token_count),
            value(self.thoughts_token_count),
        );
        let includes_thoughts = candidates >= thoughts
            && candidates.is_some()
            && value(self.total_token_count) == sum(input, candidates);
        Usage {
            input,
            output: if includes_thoughts {
                candidates
            } else {
                sum(candidates, thoughts)
            },
            cached_input: value(self.cached_content_token_count),
            cache_write: None,
            reasoning: thoughts,
        }
    }
}
