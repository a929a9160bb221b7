//! The sources of an answer: `citationMetadata` and `groundingMetadata`.

use std::collections::HashSet;

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::model::{Citation, Sink};
use crate::wire::emit::CitationBudget;
use crate::wire::json::{Count, Text, list, non_empty};
use crate::wire::parse::parse;

/// The sources of one answer. Each is emitted once.
#[derive(Debug, Default)]
pub(super) struct Sources {
    /// The JSON of the citations that were emitted. Later chunks repeat them.
    emitted: HashSet<String>,
    /// The last `groundingMetadata` with sources. It grows from chunk to chunk, so only the last one
    /// has all positions.
    grounding: Option<String>,
}

/// `citationSources` at the Gemini API, `citations` at Vertex AI.
#[derive(Deserialize, Default)]
#[serde(default, rename_all = "camelCase")]
struct CitationMetadata<'a> {
    #[serde(borrow, alias = "citations")]
    citation_sources: Option<&'a RawValue>,
}

#[derive(Deserialize, Default)]
#[serde(default, rename_all = "camelCase")]
struct CitationSource<'a> {
    #[serde(borrow)]
    uri: Option<Text<'a>>,
    #[serde(borrow)]
    title: Option<Text<'a>>,
    start_index: Option<Count>,
    end_index: Option<Count>,
}

#[derive(Deserialize, Default)]
#[serde(default, rename_all = "camelCase")]
struct GroundingMetadata<'a> {
    #[serde(borrow)]
    grounding_chunks: Option<Vec<GroundingChunk<'a>>>,
    grounding_supports: Option<Vec<GroundingSupport>>,
}

/// One source of one of three kinds.
#[derive(Deserialize, Default)]
#[serde(default, rename_all = "camelCase")]
struct GroundingChunk<'a> {
    #[serde(borrow)]
    web: Option<Source<'a>>,
    #[serde(borrow)]
    retrieved_context: Option<Source<'a>>,
    #[serde(borrow)]
    maps: Option<Source<'a>>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Source<'a> {
    #[serde(borrow)]
    uri: Option<Text<'a>>,
    #[serde(borrow)]
    title: Option<Text<'a>>,
    #[serde(borrow)]
    text: Option<Text<'a>>,
}

/// The sources of one segment of the answer.
#[derive(Deserialize, Default)]
#[serde(default, rename_all = "camelCase")]
struct GroundingSupport {
    segment: Option<Segment>,
    grounding_chunk_indices: Option<Vec<Count>>,
}

#[derive(Deserialize, Default, Clone, Copy)]
#[serde(default, rename_all = "camelCase")]
struct Segment {
    start_index: Option<Count>,
    end_index: Option<Count>,
}

impl Sources {
    /// The answer does not depend on metadata, so one that does not parse is ignored.
    pub(super) fn emit_citations(&mut self, metadata: &RawValue, sink: &mut dyn Sink) {
        let json = metadata.get();
        let metadata: CitationMetadata<'_> = parse(json).unwrap_or_default();
        let sources: Vec<&RawValue> = metadata.citation_sources.map(list).unwrap_or_default();
        let mut budget = CitationBudget::of(json);
        for raw in sources {
            if let Ok(source) = parse::<CitationSource<'_>>(raw.get())
                && self.emitted.insert(raw.get().to_owned())
            {
                let segment = Segment {
                    start_index: source.start_index,
                    end_index: source.end_index,
                };
                emit(
                    &source.uri,
                    &source.title,
                    &None,
                    Some(segment),
                    &mut budget,
                    sink,
                );
            }
        }
    }

    pub(super) fn set_grounding(&mut self, metadata: &RawValue) {
        let read = parse::<GroundingMetadata<'_>>(metadata.get());
        if read.is_ok_and(|read| read.grounding_chunks.is_some()) {
            self.grounding = Some(metadata.get().to_owned());
        }
    }

    /// Emits the grounding at the end of the answer: each source where it is used, then the sources
    /// that are only listed.
    pub(super) fn close(&mut self, sink: &mut dyn Sink) {
        let grounding = self.grounding.take().unwrap_or_default();
        let metadata: GroundingMetadata<'_> = parse(&grounding).unwrap_or_default();
        let chunks = metadata.grounding_chunks.unwrap_or_default();
        let mut budget = CitationBudget::of(&grounding);
        let mut used = vec![false; chunks.len()];
        for support in metadata.grounding_supports.iter().flatten() {
            for index in support.grounding_chunk_indices.iter().flatten() {
                let index = index.0.and_then(|index| usize::try_from(index).ok());
                if let Some((chunk, used)) =
                    index.and_then(|at| chunks.get(at).zip(used.get_mut(at)))
                {
                    *used = true;
                    chunk.emit(support.segment, &mut budget, sink);
                }
            }
        }
        for (chunk, _) in chunks.iter().zip(used).filter(|(_, used)| !used) {
            chunk.emit(None, &mut budget, sink);
        }
    }
}

impl GroundingChunk<'_> {
    fn emit(&self, segment: Option<Segment>, budget: &mut CitationBudget, sink: &mut dyn Sink) {
        let kinds = [&self.web, &self.retrieved_context, &self.maps];
        for source in kinds.into_iter().flatten() {
            emit(
                &source.uri,
                &source.title,
                &source.text,
                segment,
                budget,
                sink,
            );
        }
    }
}

/// A missing start of a segment means 0.
fn emit(
    url: &Option<Text<'_>>,
    title: &Option<Text<'_>>,
    text: &Option<Text<'_>>,
    segment: Option<Segment>,
    budget: &mut CitationBudget,
    sink: &mut dyn Sink,
) {
    let end = segment.and_then(|segment| segment.end_index?.0);
    let start = segment.and_then(|segment| segment.start_index?.0);
    let citation = Citation {
        url: non_empty(url),
        title: non_empty(title),
        text: non_empty(text),
        start: start.or(end.map(|_| 0)),
        end,
    };
    if citation.url.is_some() || citation.title.is_some() || citation.text.is_some() {
        budget.emit(citation, sink);
    }
}
