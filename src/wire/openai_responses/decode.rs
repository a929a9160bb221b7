//! Frames of the Responses API to events.

use serde::Deserialize;
use serde_json::value::RawValue;

use super::calls::Calls;
use super::emitted::{EmittedParts, Kind};
use super::reasoning::ReasoningSelector;
use super::shape::{Annotation, Item, ItemRef, Message, Part, Response};
use crate::framing::Frame;
use crate::model::{Citation, Error, ErrorCode, Event, FinishReason, Sink};
use crate::wire::json::non_empty;
use crate::wire::parse::parse;
use crate::wire::{Decoder, interrupted, unparsable, upstream_error, wrong_protocol};

/// One answer's state.
#[derive(Default)]
pub(super) struct ResponsesDecoder {
    identified: bool,
    /// Some content came, so what the last event repeats is known.
    has_content: bool,
    refused: bool,
    emitted: EmittedParts,
    reasoning: ReasoningSelector,
    calls: Calls,
    /// See [`Response::custom_tools`].
    custom_tools: Option<Vec<String>>,
}

impl Decoder for ResponsesDecoder {
    fn frame(&mut self, frame: &Frame<'_>, sink: &mut dyn Sink) -> Result<(), Error> {
        let data = frame.data.trim_ascii();
        if data.is_empty() || data == "[DONE]" {
            return Ok(());
        }
        let message: Message<'_> = match parse(data) {
            Ok(Some(message)) => message,
            Ok(None) => return Ok(()),
            Err(error) => return Err(unparsable(&error)),
        };
        match message.kind_in(frame) {
            "response.created" | "response.queued" | "response.in_progress" => {
                self.opening(&message, sink)
            }
            kind if is_last(kind) => self.last(kind, &message, sink),
            "response" => self.document(data, sink),
            "error" => Err(upstream_error(data)),
            kind => self.content(kind, &message, sink),
        }
    }

    fn ignored_keys(&self) -> &'static [&'static str] {
        &["sequence_number", "obfuscation"]
    }

    fn document(&mut self, document: &str, sink: &mut dyn Sink) -> Result<(), Error> {
        let message: Message<'_> = parse(document).map_err(|error| unparsable(&error))?;
        if message.error.is_some() {
            return Err(upstream_error(document));
        }
        let response: Response<'_> = parse(document).map_err(|error| unparsable(&error))?;
        match non_empty(&response.status) {
            _ if response.output.is_none() => Err(wrong_protocol()),
            Some(status) if is_at_work(status) => Err(interrupted()),
            status => self.ended(status.unwrap_or("completed"), &response, sink),
        }
    }

    fn is_terminal(&self, frame: &Frame<'_>) -> bool {
        match parse::<Option<Message<'_>>>(frame.data) {
            Ok(Some(message)) => {
                let kind = message.kind_in(frame);
                is_last(kind) || matches!(kind, "response" | "error")
            }
            _ => false,
        }
    }

    fn flush(&mut self, sink: &mut dyn Sink) {
        self.reasoning.flush(sink);
    }
}

impl ResponsesDecoder {
    fn opening(&mut self, message: &Message<'_>, sink: &mut dyn Sink) -> Result<(), Error> {
        let response = response_in(message)?;
        self.identify(&response, sink);
        self.custom_tools = response.custom_tools();
        self.reasoning.summary_asked = response.summary_asked();
        Ok(())
    }

    fn identify(&mut self, response: &Response<'_>, sink: &mut dyn Sink) {
        let id = non_empty(&response.id).unwrap_or_default();
        let model = non_empty(&response.model).unwrap_or_default();
        if !self.identified && (!id.is_empty() || !model.is_empty()) {
            self.identified = true;
            sink.event(Event::Identity {
                id,
                model,
                fingerprint: "",
            });
        }
    }

    fn content(
        &mut self,
        kind: &str,
        message: &Message<'_>,
        sink: &mut dyn Sink,
    ) -> Result<(), Error> {
        let (at, number) = (message.at(), message.number());
        let delta = non_empty(&message.delta).unwrap_or_default();
        let text = non_empty(&message.text).unwrap_or_default();
        match kind {
            "response.output_text.delta" => self.piece(Kind::Text, at, number, delta, sink),
            "response.output_text.done" => self.whole(Kind::Text, at, number, text, sink),
            "response.refusal.delta" => self.piece(Kind::Refusal, at, number, delta, sink),
            "response.refusal.done" => {
                let refusal = non_empty(&message.refusal).unwrap_or_default();
                self.whole(Kind::Refusal, at, number, refusal, sink);
            }
            "response.reasoning_text.delta" => self.piece(Kind::Raw, at, number, delta, sink),
            "response.reasoning_text.done" => self.whole(Kind::Raw, at, number, text, sink),
            "response.reasoning_summary_text.delta" => {
                self.piece(Kind::Summary, at, number, delta, sink);
            }
            "response.reasoning_summary_text.done" => {
                self.whole(Kind::Summary, at, number, text, sink);
            }
            "response.function_call_arguments.delta" | "response.custom_tool_call_input.delta" => {
                self.calls.piece(at, delta, sink);
            }
            "response.function_call_arguments.done" | "response.custom_tool_call_input.done" => {
                let arguments = non_empty(&message.arguments).or(non_empty(&message.input));
                self.calls.whole(at, arguments.unwrap_or_default(), sink);
            }
            "response.output_text.annotation.added" => {
                if let Some(annotation) = message.annotation {
                    self.emitted.part(Kind::Text, at, number).annotations += 1;
                    self.begin_content(sink);
                    cite(annotation, sink);
                }
            }
            "response.content_part.done" => {
                if let Some(raw) = message.part {
                    self.part(at, number, &read(raw)?, sink);
                }
            }
            "response.output_item.added" => {
                if let Some(raw) = message.item {
                    let item: Item<'_> = read(raw)?;
                    if self.is_client_call(&item) {
                        self.begin_content(sink);
                        self.calls.begin(message.at_item(&item), &item, sink);
                    }
                }
            }
            "response.output_item.done" => {
                if let Some(raw) = message.item {
                    let item: Item<'_> = read(raw)?;
                    self.item(message.at_item(&item), &item, sink);
                }
            }
            // Its own tools at work, and whatever comes next year.
            _ => {}
        }
        Ok(())
    }

    /// A piece of a part.
    fn piece(
        &mut self,
        kind: Kind,
        at: ItemRef<'_>,
        number: u64,
        piece: &str,
        sink: &mut dyn Sink,
    ) {
        if !piece.is_empty() {
            self.emitted.part(kind, at, number).text = true;
            self.emit(kind, at, piece, sink);
        }
    }

    /// All of a part, which counts only if it did not come in pieces.
    fn whole(&mut self, kind: Kind, at: ItemRef<'_>, number: u64, text: &str, sink: &mut dyn Sink) {
        if !self.emitted.part(kind, at, number).text {
            self.piece(kind, at, number, text, sink);
        }
    }

    fn emit(&mut self, kind: Kind, at: ItemRef<'_>, text: &str, sink: &mut dyn Sink) {
        match kind {
            Kind::Text => {
                self.begin_content(sink);
                sink.event(Event::Text(text));
            }
            Kind::Refusal => {
                self.begin_content(sink);
                self.refused = true;
                sink.event(Event::Refusal(text));
            }
            Kind::Raw => {
                self.has_content = true;
                self.reasoning.raw(at, text, sink);
            }
            Kind::Summary => {
                self.has_content = true;
                self.reasoning.summary(at, text, sink);
            }
        }
    }

    /// Content that is no reasoning begins: the reasoning before it is over.
    fn begin_content(&mut self, sink: &mut dyn Sink) {
        self.has_content = true;
        self.reasoning.flush(sink);
    }

    /// A part of an item, whole.
    fn part(&mut self, at: ItemRef<'_>, number: u64, part: &Part<'_>, sink: &mut dyn Sink) {
        let Some(kind) = Kind::of(part) else {
            return;
        };
        let text = if kind == Kind::Refusal {
            &part.refusal
        } else {
            &part.text
        };
        self.whole(kind, at, number, non_empty(text).unwrap_or_default(), sink);
        let annotations = part.annotations();
        let emitted = &mut self.emitted.part(kind, at, number).annotations;
        let new = annotations.get(*emitted..).unwrap_or_default();
        *emitted = annotations.len().max(*emitted);
        for annotation in new {
            self.begin_content(sink);
            cite(annotation, sink);
        }
    }

    /// An item, whole. All that is not read here is a vendor's own tool at work.
    fn item(&mut self, at: ItemRef<'_>, item: &Item<'_>, sink: &mut dyn Sink) {
        match non_empty(&item.kind).unwrap_or_default() {
            "message" | "reasoning" => {
                let (content, summary) = (item.content(), item.summary());
                self.parts(at, &content, sink);
                self.parts(at, &summary, sink);
                if let Some(signature) = non_empty(&item.encrypted_content) {
                    self.has_content = true;
                    let parts = !content.is_empty() || !summary.is_empty();
                    self.reasoning.sign(at, signature, parts, sink);
                }
                self.reasoning.flush(sink);
                self.emitted.forget(at);
            }
            _ if self.is_client_call(item) => {
                self.begin_content(sink);
                self.calls.done(at, item, sink);
            }
            _ => {}
        }
    }

    /// All parts of an item.
    fn parts(&mut self, at: ItemRef<'_>, parts: &[Part<'_>], sink: &mut dyn Sink) {
        for (place, part) in parts.iter().enumerate() {
            if let Some(kind) = Kind::of(part) {
                let before = parts[..place].iter().map(Kind::of);
                let nth = before.filter(|other| *other == Some(kind)).count();
                let number = self.emitted.number(kind, at, nth);
                self.part(at, number, part, sink);
            }
        }
    }

    /// xAI gives the searches that it runs itself as calls of custom tools that nobody declared.
    fn is_client_call(&self, item: &Item<'_>) -> bool {
        match (non_empty(&item.kind), &self.custom_tools) {
            (Some("function_call"), _) | (Some("custom_tool_call"), None) => true,
            (Some("custom_tool_call"), Some(declared)) => {
                let name = non_empty(&item.name).unwrap_or_default();
                declared.iter().any(|tool| tool == name)
            }
            _ => false,
        }
    }

    /// The last event, which carries the whole response again.
    fn last(
        &mut self,
        kind: &str,
        message: &Message<'_>,
        sink: &mut dyn Sink,
    ) -> Result<(), Error> {
        let response = response_in(message)?;
        let status = non_empty(&response.status).filter(|status| !is_at_work(status));
        let status = status.unwrap_or(kind.trim_start_matches("response."));
        self.ended(status, &response, sink)
    }

    fn ended(
        &mut self,
        status: &str,
        response: &Response<'_>,
        sink: &mut dyn Sink,
    ) -> Result<(), Error> {
        self.identify(response, sink);
        if !self.has_content {
            self.custom_tools = response.custom_tools().or(self.custom_tools.take());
            for (index, item) in (0..).zip(response.output.iter().flatten()) {
                let at = ItemRef {
                    index: Some(index),
                    id: "",
                };
                self.item(at, item, sink);
            }
        }
        self.reasoning.flush(sink);
        if let Some(usage) = response.usage() {
            sink.event(Event::Usage(usage));
        }
        let why = response.incomplete_details.as_ref();
        let why = why.and_then(|details| non_empty(&details.reason));
        let finish = match status {
            "failed" => return Err(upstream_error(response.error.map_or("", RawValue::get))),
            "cancelled" => {
                return Err(Error::new(
                    ErrorCode::UpstreamError,
                    "the upstream cancelled its answer",
                ));
            }
            "incomplete" => match why {
                Some("max_output_tokens") => FinishReason::Length,
                Some("content_filter") => FinishReason::ContentFilter,
                _ => FinishReason::Other,
            },
            _ if self.refused => FinishReason::Refusal,
            _ if self.calls.any() => FinishReason::ToolCalls,
            "completed" => FinishReason::Stop,
            _ => FinishReason::Other,
        };
        self.calls.close(sink);
        sink.event(Event::Finish(finish));
        Ok(())
    }
}

/// Whether a kind of event ends the answer.
fn is_last(kind: &str) -> bool {
    matches!(
        kind,
        "response.completed" | "response.incomplete" | "response.failed" | "response.cancelled"
    )
}

/// The status of a response that is not done, such as one in the background.
fn is_at_work(status: &str) -> bool {
    matches!(status, "queued" | "in_progress")
}

fn response_in<'a>(message: &Message<'a>) -> Result<Response<'a>, Error> {
    message.response.map_or(Ok(Response::default()), read)
}

fn read<'a, T: Deserialize<'a>>(raw: &'a RawValue) -> Result<T, Error> {
    parse(raw.get()).map_err(|error| unparsable(&error))
}

/// An annotation that does not parse is no reason to lose the answer.
fn cite(raw: &RawValue, sink: &mut dyn Sink) {
    let Ok(source) = parse::<Annotation<'_>>(raw.get()) else {
        return;
    };
    let citation = Citation {
        url: non_empty(&source.url),
        title: non_empty(&source.title).or(non_empty(&source.filename)),
        text: None,
        start: source.start_index.and_then(|count| count.0),
        end: source.end_index.and_then(|count| count.0),
    };
    if citation.url.is_some() || citation.title.is_some() {
        sink.event(Event::Citation(citation));
    }
}
