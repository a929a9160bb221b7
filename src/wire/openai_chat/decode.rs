//! Chunks to events.

use std::collections::BTreeMap;

use super::choice::{ChoiceDecoder, cite, text};
use super::chunk::{ChatUsage, Choice, Chunk, Source};
use super::members::{MemberCollector, MemberSink};
use crate::framing::Frame;
use crate::model::{Error, Event, FinishReason, Sink, Usage, Vendor};
use crate::wire::failure::{is_error, is_failed_status, stated_failure};
use crate::wire::finish::finish_reason;
use crate::wire::json::{Count, Object, Text, list};
use crate::wire::parse::parse;
use crate::wire::{Decoder, document_error, interrupted, unparsable, upstream_error};

/// How many choices the API gives at most.
const MAX_CHOICES: u32 = 128;

/// The state of one stream.
pub(super) struct ChatDecoder {
    vendor: Vendor,
    identified: bool,
    /// Several answers were asked for, and come in any order.
    several: bool,
    /// The index of the first choice seen. Where it is 0, choices with other indexes are other
    /// answers. Foundry Local counts the index up with every token, from wherever it stands: where
    /// the first is not 0 and one answer was asked for, all are that.
    first: Option<i64>,
    answer: ChoiceDecoder,
    alternatives: BTreeMap<u32, ChoiceDecoder>,
    /// The answer is one JSON document.
    whole: bool,
    sourced: bool,
    usage: Usage,
    /// Only for clients of this protocol.
    members: Option<Box<MemberCollector>>,
}

impl Decoder for ChatDecoder {
    fn expect_alternatives(&mut self) {
        self.several = true;
    }

    fn keep_members(&mut self) {
        self.members = Some(Box::default());
    }

    fn frame(&mut self, frame: &Frame<'_>, sink: &mut dyn Sink) -> Result<(), Error> {
        let data = frame.data.trim_ascii();
        if data == "[DONE]" {
            return self.finish(sink);
        }
        if data.is_empty() || data == "null" {
            return Ok(());
        }
        self.chunk(frame.name, data, sink)
    }

    /// OpenAI pads every chunk so that its length tells nothing of its text.
    fn ignored_keys(&self) -> &'static [&'static str] {
        &["obfuscation"]
    }

    fn document(&mut self, document: &str, sink: &mut dyn Sink) -> Result<(), Error> {
        self.whole = true;
        self.chunk("", document, sink)?;
        if self.first.is_none() {
            return Err(document_error(document));
        }
        self.finish(sink)
    }

    fn repeated(&mut self, event: &Event<'_>) {
        if let Event::Text(text) = event {
            self.answer.add_text(text);
        }
    }

    fn is_terminal(&self, frame: &Frame<'_>) -> bool {
        let data = frame.data.trim_ascii();
        if data == "[DONE]" {
            return true;
        }
        let Ok(chunk) = parse::<Chunk<'_>>(data) else {
            return false;
        };
        in_band_error(&chunk, frame.name, data).is_some()
            || chunk.choices.iter().any(|choice| {
                !matches!(
                    finish_reason(text(&choice.finish_reason), &self.vendor),
                    Ok(None)
                )
            })
    }

    fn flush(&mut self, sink: &mut dyn Sink) {
        self.answer.flush(sink);
    }

    /// Several vendors never send `[DONE]`: a finish reason and a clean end are an end too.
    fn end(&mut self, sink: &mut dyn Sink) -> Result<(), Error> {
        let answers = self.alternatives.values().chain([&self.answer]);
        if answers
            .map(ChoiceDecoder::finish)
            .any(|finish| finish.is_none())
        {
            return Err(interrupted());
        }
        self.finish(sink)
    }
}

impl ChatDecoder {
    pub(super) fn new(vendor: &Vendor) -> Self {
        Self {
            vendor: vendor.clone(),
            identified: false,
            several: false,
            first: None,
            answer: ChoiceDecoder::default(),
            alternatives: BTreeMap::new(),
            whole: false,
            sourced: false,
            usage: Usage::default(),
            members: None,
        }
    }

    /// One chunk, or a whole answer. `name` is the event's.
    fn chunk(&mut self, name: &str, data: &str, sink: &mut dyn Sink) -> Result<(), Error> {
        let chunk: Chunk<'_> = parse(data).map_err(|error| unparsable(&error))?;
        let Some(mut collector) = self.members.take() else {
            return self.read_chunk(&chunk, name, data, sink);
        };
        let several = self.several;
        let first_here = chunk.choices.iter().next();
        let first_here = first_here.map(|choice| choice.index.and_then(|index| index.0));
        let first = self
            .first
            .or_else(|| first_here.map(|index| index.unwrap_or(0)));
        collector.read(data, |index| {
            let index = index.or(first).unwrap_or(0);
            match is_alternative(index, first.unwrap_or(index), several) {
                true => u32::try_from(index).unwrap_or(u32::MAX),
                false => 0,
            }
        });
        let mut sink = MemberSink {
            collector: &mut collector,
            sink,
        };
        let outcome = self.read_chunk(&chunk, name, data, &mut sink);
        if self.answer.has_content() {
            // Such as audio, which has no event.
            sink.collector.flush(sink.sink);
        }
        self.members = Some(collector);
        outcome
    }

    fn read_chunk(
        &mut self,
        chunk: &Chunk<'_>,
        name: &str,
        data: &str,
        sink: &mut dyn Sink,
    ) -> Result<(), Error> {
        if is_foreign(chunk)
            && let Some(error) = stated_failure(data)
        {
            return Err(error);
        }
        self.identify(chunk, sink);
        self.sources(chunk, sink);
        let mut failure = None;
        for choice in chunk.choices.iter() {
            if let Err(error) = self.choice(choice, sink) {
                failure = Some(error);
            }
        }
        let in_choice = chunk.choices.iter().find_map(|choice| choice.usage);
        let in_extension = chunk.x_groq.0.as_ref().and_then(|groq| groq.usage);
        for usage in [in_choice, in_extension, chunk.usage].into_iter().flatten() {
            if let Ok(Object(Some(usage))) = parse::<Object<ChatUsage>>(usage.get()) {
                self.count(&usage, sink);
            }
        }
        // The upstream's own message is better than a finish reason that reports a failure.
        match in_band_error(chunk, name, data).or(failure) {
            Some(error) => Err(error),
            None => Ok(()),
        }
    }

    fn identify(&mut self, chunk: &Chunk<'_>, sink: &mut dyn Sink) {
        let (id, model) = (text(&chunk.id), text(&chunk.model));
        // Azure's first chunk has both empty.
        if !self.identified && (!id.is_empty() || !model.is_empty()) {
            self.identified = true;
            let fingerprint = text(&chunk.system_fingerprint);
            sink.event(Event::Identity {
                id,
                model,
                fingerprint,
            });
        }
    }

    fn choice(&mut self, choice: &Choice<'_>, sink: &mut dyn Sink) -> Result<(), Error> {
        let index = choice.index.and_then(|index| index.0);
        let index = index.or(self.first).unwrap_or(0);
        let first = *self.first.get_or_insert(index);
        if is_alternative(index, first, self.several) {
            return self.alternative(choice, index, sink);
        }
        self.answer.choice(choice, self.whole, &self.vendor, sink)
    }

    fn alternative(
        &mut self,
        choice: &Choice<'_>,
        index: i64,
        sink: &mut dyn Sink,
    ) -> Result<(), Error> {
        let index = u32::try_from(index).unwrap_or(u32::MAX);
        if index >= MAX_CHOICES {
            return Ok(());
        }
        let answer = self.alternatives.entry(index).or_default();
        answer.choice(choice, self.whole, &self.vendor, &mut |event: Event<'_>| {
            sink.event(Event::Alternative {
                index,
                event: &event,
            });
        })
    }

    /// Finishes every answer. One whose reason was not stated ended for another reason, if there was
    /// one at all.
    fn finish(&mut self, sink: &mut dyn Sink) -> Result<(), Error> {
        if self.answer.finish().is_none() && !self.answer.has_content() {
            return Err(interrupted());
        }
        if let Some(members) = &mut self.members {
            members.flush(sink);
            members.emit_usage(sink);
        }
        for (&index, answer) in &mut self.alternatives {
            let mut alternative = |event: Event<'_>| {
                sink.event(Event::Alternative {
                    index,
                    event: &event,
                });
            };
            answer.flush(&mut alternative);
            let finish = answer.finish().unwrap_or(FinishReason::Other);
            alternative(Event::Finish(finish));
        }
        self.answer.flush(sink);
        let finish = self.answer.finish().unwrap_or(FinishReason::Other);
        sink.event(Event::Finish(finish));
        Ok(())
    }

    fn sources(&mut self, chunk: &Chunk<'_>, sink: &mut dyn Sink) {
        if self.sourced {
            return;
        }
        if let Some(results) = chunk.search_results {
            for source in list::<Source<'_>>(results) {
                self.sourced = true;
                cite(&source, sink);
            }
        }
        if let (false, Some(urls)) = (self.sourced, chunk.citations) {
            for url in list::<Text<'_>>(urls) {
                self.sourced = true;
                let url = Some(url);
                cite(
                    &Source {
                        url,
                        ..Source::default()
                    },
                    sink,
                );
            }
        }
    }

    fn count(&mut self, usage: &ChatUsage, sink: &mut dyn Sink) {
        let before = self.usage;
        self.usage.update(counts(usage));
        if self.usage != before {
            sink.event(Event::Usage(self.usage));
        }
    }
}

fn counts(usage: &ChatUsage) -> Usage {
    fn count_value(count: Option<Count>) -> Option<u64> {
        count.and_then(|count| count.0)
    }
    let input_details = usage.prompt_tokens_details.0.as_ref();
    let output_details = usage.completion_tokens_details.0.as_ref();
    let input = count_value(usage.prompt_tokens);
    let mut output = count_value(usage.completion_tokens);
    let reasoning = output_details
        .and_then(|details| count_value(details.reasoning_tokens))
        .or(count_value(usage.reasoning_tokens));
    // xAI leaves reasoning out of its completion tokens; its total tells.
    if let (Some(i), Some(o), Some(r), Some(total)) =
        (input, output, reasoning, count_value(usage.total_tokens))
        && r > 0
        && total == i.saturating_add(o).saturating_add(r)
    {
        output = Some(o.saturating_add(r));
    }
    Usage {
        input,
        output,
        cached_input: input_details
            .and_then(|details| count_value(details.cached_tokens))
            .or(count_value(usage.prompt_cache_hit_tokens))
            .or(count_value(usage.cached_tokens)),
        cache_write: input_details
            .and_then(|details| count_value(details.cache_write_tokens))
            .or(count_value(usage.cache_creation_input_tokens)),
        reasoning,
    }
}

/// Whether a choice is another answer than the first.
fn is_alternative(index: i64, first: i64, several: bool) -> bool {
    index != 0 && (first == 0 || several)
}

/// Whether a chunk has nothing of this protocol in it.
fn is_foreign(chunk: &Chunk<'_>) -> bool {
    chunk.choices.is_empty()
        && chunk.usage.is_none()
        && text(&chunk.model).is_empty()
        && !text(&chunk.object).starts_with("chat.completion")
}

/// The error that a frame is or carries: `{"error":…}`, vLLM's `{"object":"error",…}`, a failed
/// `base_resp` (MiniMax), or the value of a field or event named `error` (llama.cpp).
fn in_band_error(chunk: &Chunk<'_>, name: &str, data: &str) -> Option<Error> {
    let failed = chunk.error.is_some_and(is_error)
        || chunk.base_resp.is_some_and(is_failed_status)
        || name == "error"
        || text(&chunk.object) == "error";
    failed.then(|| upstream_error(data))
}
