//! The JSON of the Responses API's frames, as far as it is read.

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::framing::Frame;
use crate::model::Usage;
use crate::wire::failure::is_error;
use crate::wire::json::{Arguments, Count, Index, Object, ShortList, Text, list, non_empty};
use crate::wire::parse::parse;

/// Every kind of frame in one struct: a frame is read in one pass, whatever it is, and a field
/// that it does not have costs nothing.
#[derive(Deserialize)]
pub(super) struct Message<'a> {
    #[serde(rename = "type", borrow)]
    kind: Option<Text<'a>>,
    /// `response` where the frame is a whole answer.
    #[serde(borrow)]
    object: Option<Text<'a>>,
    #[serde(borrow)]
    item_id: Option<Text<'a>>,
    output_index: Option<Index>,
    content_index: Option<Index>,
    summary_index: Option<Index>,
    #[serde(borrow)]
    pub(super) delta: Option<Text<'a>>,
    #[serde(borrow)]
    pub(super) text: Option<Text<'a>>,
    #[serde(borrow)]
    pub(super) refusal: Option<Text<'a>>,
    #[serde(borrow)]
    arguments: Option<Arguments<'a>>,
    /// The `arguments` of a custom tool.
    #[serde(borrow)]
    input: Option<Text<'a>>,
    #[serde(borrow)]
    pub(super) part: Option<&'a RawValue>,
    #[serde(borrow)]
    pub(super) annotation: Option<&'a RawValue>,
    #[serde(borrow)]
    pub(super) item: Option<&'a RawValue>,
    #[serde(borrow)]
    pub(super) response: Option<&'a RawValue>,
    #[serde(borrow)]
    pub(super) error: Option<&'a RawValue>,
}

/// Which output item a frame is about. OpenAI gives both; llama.cpp the id alone; some vendors
/// give another id with every frame, but then the index.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct ItemRef<'a> {
    pub(super) index: Option<u64>,
    pub(super) id: &'a str,
}

/// [`At`], kept.
/// The response as a whole: as it began, as it ended, or a whole answer.
#[derive(Deserialize, Default)]
#[serde(default)]
pub(super) struct Response<'a> {
    #[serde(borrow)]
    pub(super) id: Option<Text<'a>>,
    #[serde(borrow)]
    pub(super) model: Option<Text<'a>>,
    #[serde(borrow)]
    pub(super) status: Option<Text<'a>>,
    #[serde(borrow)]
    pub(super) output: Option<ShortList<Item<'a>>>,
    #[serde(borrow)]
    usage: Option<&'a RawValue>,
    #[serde(borrow)]
    pub(super) error: Option<&'a RawValue>,
    #[serde(borrow)]
    pub(super) incomplete_details: Object<Reason<'a>>,
    #[serde(borrow)]
    tools: Option<&'a RawValue>,
    #[serde(borrow)]
    reasoning: Option<&'a RawValue>,
}

#[derive(Deserialize)]
pub(super) struct Reason<'a> {
    #[serde(borrow)]
    pub(super) reason: Option<Text<'a>>,
}

/// An output item, whole or only begun.
#[derive(Deserialize)]
pub(super) struct Item<'a> {
    #[serde(rename = "type", borrow)]
    pub(super) kind: Option<Text<'a>>,
    #[serde(borrow)]
    id: Option<Text<'a>>,
    #[serde(borrow)]
    pub(super) call_id: Option<Text<'a>>,
    #[serde(borrow)]
    pub(super) name: Option<Text<'a>>,
    #[serde(borrow)]
    arguments: Option<Arguments<'a>>,
    /// The `arguments` of a custom tool.
    #[serde(borrow)]
    input: Option<Text<'a>>,
    #[serde(borrow)]
    content: Option<&'a RawValue>,
    #[serde(borrow)]
    summary: Option<&'a RawValue>,
    /// The seal on reasoning, where the client asked for it.
    #[serde(borrow)]
    pub(super) encrypted_content: Option<Text<'a>>,
}

/// A piece of a message or of reasoning.
#[derive(Deserialize)]
pub(super) struct Part<'a> {
    #[serde(rename = "type", borrow)]
    pub(super) kind: Option<Text<'a>>,
    #[serde(borrow)]
    text: Option<Text<'a>>,
    #[serde(borrow)]
    refusal: Option<Text<'a>>,
    #[serde(borrow)]
    annotations: Option<&'a RawValue>,
}

/// `url_citation`, `file_citation` or `container_file_citation`.
#[derive(Deserialize)]
pub(super) struct Annotation<'a> {
    #[serde(borrow)]
    pub(super) url: Option<Text<'a>>,
    #[serde(borrow)]
    pub(super) title: Option<Text<'a>>,
    #[serde(borrow)]
    pub(super) filename: Option<Text<'a>>,
    pub(super) start_index: Option<Count>,
    pub(super) end_index: Option<Count>,
}

/// A tool that the request declared; a namespace holds tools.
#[derive(Deserialize)]
struct Tool<'a> {
    #[serde(rename = "type", borrow)]
    kind: Option<Text<'a>>,
    #[serde(borrow)]
    name: Option<Text<'a>>,
    #[serde(borrow)]
    tools: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct ReasoningSettings<'a> {
    #[serde(borrow)]
    summary: Option<Text<'a>>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Counts {
    input_tokens: Option<Count>,
    output_tokens: Option<Count>,
    input_tokens_details: Object<InputDetails>,
    output_tokens_details: Object<OutputDetails>,
}

#[derive(Deserialize)]
struct InputDetails {
    cached_tokens: Option<Count>,
    cache_write_tokens: Option<Count>,
}

#[derive(Deserialize)]
struct OutputDetails {
    reasoning_tokens: Option<Count>,
}

impl<'a> Message<'a> {
    /// The kind of the frame that holds this: the JSON's `type`, else the event's name.
    pub(super) fn kind_in(&'a self, frame: &Frame<'a>) -> &'a str {
        match non_empty(&self.kind) {
            Some(kind) => kind,
            None if non_empty(&self.object) == Some("response") => "response",
            None if self.error.is_some_and(is_error) => "error",
            None => frame.name,
        }
    }

    /// The whole arguments of a call, or a custom tool's input.
    pub(super) fn arguments(&self) -> &str {
        arguments(&self.arguments, &self.input)
    }

    pub(super) fn at(&self) -> ItemRef<'_> {
        ItemRef {
            index: position(self.output_index),
            id: non_empty(&self.item_id).unwrap_or_default(),
        }
    }

    /// Which part of its item the frame is about.
    pub(super) fn number(&self) -> u64 {
        let number = self.content_index.or(self.summary_index);
        position(number).unwrap_or(0)
    }

    /// The place of an `item` that the frame holds. Older llama.cpp names a call by its `call_id` alone.
    pub(super) fn at_item<'b>(&self, item: &'b Item<'_>) -> ItemRef<'b> {
        ItemRef {
            index: self.at().index,
            id: non_empty(&item.id)
                .or(non_empty(&item.call_id))
                .unwrap_or_default(),
        }
    }
}

impl<'a> Response<'a> {
    pub(super) fn items(&self) -> impl Iterator<Item = &Item<'a>> {
        self.output.iter().flat_map(ShortList::iter)
    }

    /// The names of the custom tools that the client declared; nothing where the vendor does not
    /// repeat the tools.
    pub(super) fn custom_tools(&self) -> Option<Vec<String>> {
        let mut names = Vec::new();
        add_custom_tools(self.tools?, &mut names);
        Some(names)
    }

    /// Whether the client asked for a summary of the reasoning.
    pub(super) fn summary_asked(&self) -> bool {
        let settings = self
            .reasoning
            .and_then(|raw| parse::<ReasoningSettings<'_>>(raw.get()).ok());
        settings.is_some_and(|settings| non_empty(&settings.summary).is_some())
    }

    /// A usage that does not parse is no reason to lose the answer.
    pub(super) fn usage(&self) -> Option<Usage> {
        fn count_value(count: Option<Count>) -> Option<u64> {
            count.and_then(|count| count.0)
        }
        let counts: Counts = parse(self.usage?.get()).ok()?;
        let input = counts.input_tokens_details.0.as_ref();
        let output = counts.output_tokens_details.0.as_ref();
        Some(Usage {
            input: count_value(counts.input_tokens),
            output: count_value(counts.output_tokens),
            cached_input: input.and_then(|details| count_value(details.cached_tokens)),
            cache_write: input.and_then(|details| count_value(details.cache_write_tokens)),
            reasoning: output.and_then(|details| count_value(details.reasoning_tokens)),
        })
    }
}

impl<'a> Item<'a> {
    /// A call's arguments, or a custom tool's input.
    pub(super) fn arguments(&self) -> &str {
        arguments(&self.arguments, &self.input)
    }

    pub(super) fn is_reasoning(&self) -> bool {
        non_empty(&self.kind) == Some("reasoning")
    }

    pub(super) fn content(&self) -> Vec<Part<'a>> {
        self.content.map(list).unwrap_or_default()
    }

    pub(super) fn summary(&self) -> Vec<Part<'a>> {
        self.summary.map(list).unwrap_or_default()
    }
}

/// What the text of a part is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Text,
    Refusal,
    /// Of reasoning, as its summary is.
    Raw,
    Summary,
}

impl Kind {
    pub(super) const ALL: [Self; 4] = [Self::Text, Self::Refusal, Self::Raw, Self::Summary];

    pub(super) fn of(part: &Part<'_>) -> Option<Self> {
        Some(match non_empty(&part.kind)? {
            "output_text" | "text" => Self::Text,
            "refusal" => Self::Refusal,
            "reasoning_text" => Self::Raw,
            "summary_text" => Self::Summary,
            _ => return None,
        })
    }
}

impl<'a> Part<'a> {
    /// The text of a part of that kind.
    pub(super) fn text(&self, kind: Kind) -> &str {
        let text = match kind {
            Kind::Refusal => &self.refusal,
            _ => &self.text,
        };
        non_empty(text).unwrap_or_default()
    }

    pub(super) fn annotations(&self) -> Vec<&'a RawValue> {
        self.annotations.map(list).unwrap_or_default()
    }
}

fn add_custom_tools(raw: &RawValue, names: &mut Vec<String>) {
    for tool in list::<Tool<'_>>(raw) {
        if non_empty(&tool.kind) == Some("custom") {
            names.extend(non_empty(&tool.name).map(str::to_owned));
        }
        if let Some(inner) = tool.tools {
            add_custom_tools(inner, names);
        }
    }
}

fn arguments<'a>(arguments: &'a Option<Arguments<'_>>, input: &'a Option<Text<'_>>) -> &'a str {
    match arguments {
        Some(arguments) if !arguments.as_str().is_empty() => arguments.as_str(),
        _ => non_empty(input).unwrap_or_default(),
    }
}

fn position(index: Option<Index>) -> Option<u64> {
    u64::try_from(index?.0?).ok()
}
