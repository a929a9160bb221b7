//! The JSON of one chunk, in all the shapes it comes in. Every field is missing or null somewhere.

use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, SeqAccess, Visitor};
use serde_json::value::RawValue;

use crate::wire::json::{Count, ShortList, Text};
use crate::wire::parse::parse;

#[derive(Deserialize, Default)]
#[serde(default)]
pub(super) struct Chunk<'a> {
    #[serde(borrow)]
    pub(super) id: Option<Text<'a>>,
    #[serde(borrow)]
    pub(super) model: Option<Text<'a>>,
    #[serde(borrow)]
    pub(super) system_fingerprint: Option<Text<'a>>,
    #[serde(borrow)]
    pub(super) object: Option<Text<'a>>,
    #[serde(borrow)]
    pub(super) choices: Option<ShortList<Choice<'a>>>,
    pub(super) usage: Option<ChatUsage>,
    /// Groq puts usage here on its last chunk.
    pub(super) x_groq: Option<GroqExtension>,
    #[serde(borrow)]
    pub(super) error: Option<&'a RawValue>,
    /// Perplexity's sources, repeated on every chunk.
    #[serde(borrow)]
    pub(super) citations: Option<&'a RawValue>,
    #[serde(borrow)]
    pub(super) search_results: Option<&'a RawValue>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
pub(super) struct Choice<'a> {
    pub(super) index: Option<i64>,
    #[serde(borrow)]
    pub(super) delta: Option<Delta<'a>>,
    /// In place of `delta` in a whole answer; beside it at Perplexity and Writer.
    #[serde(borrow)]
    pub(super) message: Option<Box<Delta<'a>>>,
    #[serde(borrow)]
    pub(super) finish_reason: Option<Text<'a>>,
    #[serde(borrow)]
    pub(super) logprobs: Option<&'a RawValue>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
pub(super) struct Delta<'a> {
    #[serde(borrow)]
    pub(super) content: Option<Content<'a>>,
    #[serde(borrow)]
    pub(super) refusal: Option<Text<'a>>,
    #[serde(borrow)]
    pub(super) reasoning_content: Option<Text<'a>>,
    #[serde(borrow)]
    pub(super) reasoning: Option<Text<'a>>,
    #[serde(borrow)]
    pub(super) reasoning_details: Option<&'a RawValue>,
    #[serde(borrow)]
    pub(super) tool_calls: Option<Vec<ToolPiece<'a>>>,
    /// What `tool_calls` was called before November 2023.
    #[serde(borrow)]
    pub(super) function_call: Option<Box<FunctionPiece<'a>>>,
    #[serde(borrow)]
    pub(super) annotations: Option<&'a RawValue>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
pub(super) struct ToolPiece<'a> {
    pub(super) index: Option<i64>,
    #[serde(borrow)]
    pub(super) id: Option<Text<'a>>,
    #[serde(borrow)]
    pub(super) function: Option<FunctionPiece<'a>>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
pub(super) struct FunctionPiece<'a> {
    #[serde(borrow)]
    pub(super) name: Option<Text<'a>>,
    #[serde(borrow)]
    pub(super) arguments: Option<Arguments<'a>>,
}

/// A tool call's arguments: a string that is JSON, or, at some servers, the JSON itself.
pub(super) enum Arguments<'a> {
    Text(Text<'a>),
    Json(String),
}

/// `content`: a string, or Mistral's list of text and thinking parts.
pub(super) enum Content<'a> {
    Text(Text<'a>),
    Parts(Vec<ContentPart<'a>>),
}

#[derive(Deserialize, Default)]
#[serde(default)]
pub(super) struct ContentPart<'a> {
    #[serde(borrow)]
    pub(super) text: Option<Text<'a>>,
    #[serde(borrow)]
    pub(super) thinking: Option<Vec<ContentPart<'a>>>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
pub(super) struct ReasoningDetail<'a> {
    #[serde(borrow)]
    pub(super) text: Option<Text<'a>>,
    #[serde(borrow)]
    pub(super) summary: Option<Text<'a>>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
pub(super) struct Annotation<'a> {
    #[serde(borrow)]
    pub(super) url_citation: Option<Source<'a>>,
    /// Xiaomi's fields lie flat beside the type.
    #[serde(flatten, borrow)]
    pub(super) flat: Source<'a>,
}

/// A cited page, in the words of `annotations` and of Perplexity's `search_results`.
#[derive(Deserialize, Default)]
#[serde(default)]
pub(super) struct Source<'a> {
    #[serde(borrow)]
    pub(super) url: Option<Text<'a>>,
    #[serde(borrow)]
    pub(super) title: Option<Text<'a>>,
    #[serde(borrow, alias = "snippet", alias = "summary")]
    pub(super) content: Option<Text<'a>>,
    pub(super) start_index: Option<Count>,
    pub(super) end_index: Option<Count>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
pub(super) struct GroqExtension {
    pub(super) usage: Option<ChatUsage>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
pub(super) struct ChatUsage {
    pub(super) prompt_tokens: Option<Count>,
    pub(super) completion_tokens: Option<Count>,
    pub(super) total_tokens: Option<Count>,
    pub(super) prompt_tokens_details: Option<InputDetails>,
    pub(super) completion_tokens_details: Option<OutputDetails>,
    /// DeepSeek's word for cached input.
    pub(super) prompt_cache_hit_tokens: Option<Count>,
    /// Together puts the details at the top.
    pub(super) cached_tokens: Option<Count>,
    pub(super) reasoning_tokens: Option<Count>,
    /// Vercel's word for what was written to the cache.
    pub(super) cache_creation_input_tokens: Option<Count>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
pub(super) struct InputDetails {
    pub(super) cached_tokens: Option<Count>,
    pub(super) cache_write_tokens: Option<Count>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
pub(super) struct OutputDetails {
    pub(super) reasoning_tokens: Option<Count>,
}

impl<'de: 'a, 'a> Deserialize<'de> for Content<'a> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_any(ContentVisitor)
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Arguments<'a> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let raw = <&RawValue>::deserialize(from)?;
        if raw.get().starts_with('"') {
            return parse(raw.get())
                .map(Self::Text)
                .map_err(serde::de::Error::custom);
        }
        Ok(Self::Json(raw.get().to_owned()))
    }
}

impl Arguments<'_> {
    pub(super) fn as_str(&self) -> &str {
        match self {
            Self::Text(text) => text.as_str(),
            Self::Json(json) => json,
        }
    }
}

struct ContentVisitor;

impl<'de> Visitor<'de> for ContentVisitor {
    type Value = Content<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string or a list of content parts")
    }
    fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Self::Value, E> {
        Ok(Content::Text(Text(text.into())))
    }
    fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
        Ok(Content::Text(Text(text.to_owned().into())))
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
        let mut parts = Vec::new();
        while let Some(part) = seq.next_element()? {
            parts.push(part);
        }
        Ok(Content::Parts(parts))
    }
}
