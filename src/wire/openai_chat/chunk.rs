//! The JSON of one chunk, in all the shapes it comes in. Every field is missing, null or of another type
//! somewhere, and none of them breaks an answer by its type.

use std::fmt;

use serde::Deserialize;
use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use crate::wire::json::{Arguments, Count, Index, Object, ShortList, Text};

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
    pub(super) choices: ShortList<Choice<'a>>,
    #[serde(borrow)]
    pub(super) usage: Option<&'a RawValue>,
    /// Groq puts usage here on its last chunk.
    #[serde(borrow)]
    pub(super) x_groq: Object<GroqExtension<'a>>,
    /// MiniMax reports failures here, with status 200.
    #[serde(borrow)]
    pub(super) base_resp: Option<&'a RawValue>,
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
    pub(super) index: Option<Index>,
    #[serde(borrow)]
    pub(super) delta: Object<Delta<'a>>,
    /// In place of `delta` in a whole answer; beside it at Perplexity and Writer.
    #[serde(borrow)]
    pub(super) message: Object<Box<Delta<'a>>>,
    /// In place of `delta` at Azure On Your Data, each with a `delta` of its own.
    #[serde(borrow)]
    pub(super) messages: Option<&'a RawValue>,
    /// Some vendors count here (Moonshot).
    #[serde(borrow)]
    pub(super) usage: Option<&'a RawValue>,
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
    pub(super) reasoning_content: Option<Content<'a>>,
    #[serde(borrow)]
    pub(super) reasoning: Option<Content<'a>>,
    #[serde(borrow)]
    pub(super) reasoning_details: Option<&'a RawValue>,
    /// LiteLLM's form of the same.
    #[serde(borrow)]
    pub(super) thinking_blocks: Option<&'a RawValue>,
    /// Google's signatures, if no call has them.
    #[serde(borrow)]
    pub(super) extra_content: Option<&'a RawValue>,
    /// LiteLLM's.
    #[serde(borrow)]
    pub(super) provider_specific_fields: Option<&'a RawValue>,
    /// GitHub Copilot's.
    #[serde(borrow)]
    pub(super) reasoning_opaque: Option<&'a RawValue>,
    #[serde(borrow)]
    pub(super) thought_signature: Option<&'a RawValue>,
    #[serde(borrow)]
    pub(super) tool_calls: ShortList<ToolPiece<'a>>,
    /// What `tool_calls` was called before November 2023.
    #[serde(borrow)]
    pub(super) function_call: Object<Box<FunctionPiece<'a>>>,
    #[serde(borrow)]
    pub(super) annotations: Option<&'a RawValue>,
    /// Content that has no event here; an answer with it is not empty.
    #[serde(borrow)]
    pub(super) audio: Option<&'a RawValue>,
    #[serde(borrow)]
    pub(super) images: Option<&'a RawValue>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
pub(super) struct ToolPiece<'a> {
    pub(super) index: Option<Index>,
    #[serde(borrow)]
    pub(super) id: Option<Text<'a>>,
    #[serde(borrow)]
    pub(super) function: Object<FunctionPiece<'a>>,
    /// Google's signatures.
    #[serde(borrow)]
    pub(super) extra_content: Option<&'a RawValue>,
    /// LiteLLM's.
    #[serde(borrow)]
    pub(super) provider_specific_fields: Option<&'a RawValue>,
    #[serde(borrow)]
    pub(super) thought_signature: Option<&'a RawValue>,
}

/// A generated image in the form of OpenRouter.
#[derive(Deserialize, Default)]
#[serde(default)]
pub(super) struct Image<'a> {
    #[serde(borrow)]
    image_url: Object<ImageUrl<'a>>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct ImageUrl<'a> {
    #[serde(borrow)]
    url: Option<Text<'a>>,
}

impl Image<'_> {
    /// Its address or `data:` URL; empty if there is none.
    pub(super) fn url(&self) -> &str {
        let url = self
            .image_url
            .0
            .as_ref()
            .and_then(|image| image.url.as_ref());
        url.map_or("", Text::as_str)
    }
}

/// One element of a choice's `messages`.
#[derive(Deserialize, Default)]
#[serde(default)]
pub(super) struct NestedDelta<'a> {
    #[serde(borrow)]
    pub(super) delta: Object<Delta<'a>>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
pub(super) struct FunctionPiece<'a> {
    #[serde(borrow)]
    pub(super) name: Option<Text<'a>>,
    #[serde(borrow)]
    pub(super) arguments: Option<Arguments<'a>>,
}

/// A text: a string, a number or boolean that stands for one (Workers AI), a typed part, or a list of
/// these (Mistral, Databricks).
pub(super) enum Content<'a> {
    Text(Text<'a>),
    Part(Box<ContentPart<'a>>),
    List(Vec<Content<'a>>),
}

#[derive(Deserialize, Default)]
#[serde(default)]
pub(super) struct ContentPart<'a> {
    #[serde(rename = "type", borrow)]
    pub(super) kind: Option<Text<'a>>,
    #[serde(borrow)]
    pub(super) text: Option<Content<'a>>,
    #[serde(borrow)]
    pub(super) content: Option<Content<'a>>,
    #[serde(borrow)]
    pub(super) thinking: Option<Content<'a>>,
    #[serde(borrow)]
    pub(super) reasoning: Option<Content<'a>>,
    #[serde(borrow)]
    pub(super) summary: Option<Content<'a>>,
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
pub(super) struct GroqExtension<'a> {
    #[serde(borrow)]
    pub(super) usage: Option<&'a RawValue>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
pub(super) struct ChatUsage {
    pub(super) prompt_tokens: Option<Count>,
    pub(super) completion_tokens: Option<Count>,
    pub(super) total_tokens: Option<Count>,
    pub(super) prompt_tokens_details: Object<InputDetails>,
    pub(super) completion_tokens_details: Object<OutputDetails>,
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

struct ContentVisitor;

impl Content<'_> {
    fn empty() -> Self {
        Self::Text(Text::default())
    }
}

impl<'de> Visitor<'de> for ContentVisitor {
    type Value = Content<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any JSON value")
    }
    fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Self::Value, E> {
        Ok(Content::Text(Text(text.into())))
    }
    fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
        Ok(Content::Text(Text(text.to_owned().into())))
    }
    fn visit_bool<E>(self, value: bool) -> Result<Self::Value, E> {
        Ok(Content::Text(Text(value.to_string().into())))
    }
    fn visit_i64<E>(self, number: i64) -> Result<Self::Value, E> {
        Ok(Content::Text(Text(number.to_string().into())))
    }
    fn visit_u64<E>(self, number: u64) -> Result<Self::Value, E> {
        Ok(Content::Text(Text(number.to_string().into())))
    }
    fn visit_f64<E>(self, number: f64) -> Result<Self::Value, E> {
        let number = serde_json::Value::from(number);
        Ok(Content::Text(Text(number.to_string().into())))
    }
    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(Content::empty())
    }
    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
        let part = ContentPart::deserialize(MapAccessDeserializer::new(map))?;
        Ok(Content::Part(Box::new(part)))
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = seq.next_element()? {
            list.push(item);
        }
        Ok(Content::List(list))
    }
}
