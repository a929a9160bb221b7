//! Frames of the Responses API to events.

use serde::Deserialize;
use serde_json::value::RawValue;

use super::items::Items;
use super::reasoning::ReasoningSelector;
use super::shape::{Annotation, Item, ItemRef, Kind, Message, Part, Response};
use crate::framing::Frame;
use crate::model::{Citation, Error, ErrorCode, Event, FinishReason, Sink, Vendor};
use crate::wire::calls::{CallAssembler, CallPiece};
use crate::wire::failure::{is_error, stated_failure};
use crate::wire::finish::finish_reason;
use crate::wire::json::non_empty;
use crate::wire::parse::parse;
use crate::wire::{Decoder, document_error, interrupted, unparsable, upstream_error};

/// One answer's state.
pub(super) struct ResponsesDecoder {
    vendor: Vendor,
    identified: bool,
    /// Some content came, so that most of what the last event repeats is known.
    has_content: bool,
    refused: bool,
    reasoned: bool,
    items: Items,
    /// The item and kind of the text that was emitted last.
    last_text: Option<(usize, Kind)>,
    reasoning: ReasoningSelector,
    calls: CallAssembler,
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
            "error" | "response.error" => Err(upstream_error(data)),
            // Not of this protocol: a failure in other words, or nothing.
            "" => stated_failure(data).map_or(Ok(()), Err),
            kind => self.content(kind, &message, sink),
        }
    }

    fn repeated(&mut self, event: &Event<'_>) {
        if let (Event::Text(text) | Event::Reasoning(text), Some((item, kind))) =
            (event, self.last_text)
        {
            self.items.get(item).add(kind, text);
        }
    }

    fn ignored_keys(&self) -> &'static [&'static str] {
        &["sequence_number", "obfuscation"]
    }

    fn document(&mut self, document: &str, sink: &mut dyn Sink) -> Result<(), Error> {
        let message: Message<'_> = parse(document).map_err(|error| unparsable(&error))?;
        if message.error.is_some_and(is_error) {
            return Err(upstream_error(document));
        }
        let response: Response<'_> = parse(document).map_err(|error| unparsable(&error))?;
        match non_empty(&response.status) {
            _ if response.output.is_none() => Err(document_error(document)),
            Some(status) if is_at_work(status) => Err(interrupted()),
            status => self.ended(status.unwrap_or("completed"), &response, sink),
        }
    }

    fn is_terminal(&self, frame: &Frame<'_>) -> bool {
        match parse::<Option<Message<'_>>>(frame.data) {
            Ok(Some(message)) => {
                let kind = message.kind_in(frame);
                is_last(kind) || matches!(kind, "response" | "error" | "response.error")
            }
            _ => false,
        }
    }

    fn flush(&mut self, sink: &mut dyn Sink) {
        self.reasoning.flush(sink);
        self.calls.finish(sink);
    }
}

impl ResponsesDecoder {
    pub(super) fn new(vendor: &Vendor) -> Self {
        Self {
            vendor: vendor.clone(),
            identified: false,
            has_content: false,
            refused: false,
            reasoned: false,
            items: Items::default(),
            last_text: None,
            reasoning: ReasoningSelector::default(),
            calls: CallAssembler::default(),
            custom_tools: None,
        }
    }

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
        if let Some((kind, whole)) = text_event(kind) {
            let text = if !whole {
                &message.delta
            } else if kind == Kind::Refusal {
                &message.refusal
            } else {
                &message.text
            };
            let text = non_empty(text).unwrap_or_default();
            let item = self.items.resolve(message.at());
            if whole {
                self.close_part(kind, item, message.number(), false, text, sink);
            } else {
                self.piece(kind, item, text, sink);
            }
            return Ok(());
        }
        match kind {
            "response.function_call_arguments.delta" | "response.custom_tool_call_input.delta" => {
                let delta = non_empty(&message.delta).unwrap_or_default();
                self.arguments(message.at(), delta, sink)
            }
            "response.function_call_arguments.done" | "response.custom_tool_call_input.done" => {
                self.whole_arguments(message.at(), message.arguments(), sink)
            }
            "response.output_text.annotation.added" => {
                if let Some(annotation) = message.annotation {
                    let item = self.items.resolve(message.at());
                    self.items.get(item).annotations += 1;
                    self.begin_content(sink);
                    cite(annotation, sink);
                }
                Ok(())
            }
            "response.content_part.added" | "response.reasoning_summary_part.added" => {
                if let Some(raw) = object(message.part) {
                    let part: Part<'_> = read(raw)?;
                    let item = self.items.resolve(message.at());
                    if let Some(kind) = Kind::of(&part) {
                        self.items.get(item).begin_part(kind);
                    }
                }
                Ok(())
            }
            "response.content_part.done" => {
                if let Some(raw) = object(message.part) {
                    let item = self.items.resolve(message.at());
                    self.part(item, message.number(), &read(raw)?, sink);
                }
                Ok(())
            }
            "response.output_item.added" => match object(message.item) {
                Some(raw) => self.announce(message, &read(raw)?, sink),
                None => Ok(()),
            },
            "response.output_item.done" => match object(message.item) {
                Some(raw) => {
                    let item: Item<'_> = read(raw)?;
                    let at = self.items.resolve(message.at_item(&item));
                    self.item(at, &item, sink)
                }
                None => Ok(()),
            },
            // The vendor's own tools at work, and events of later versions.
            _ => Ok(()),
        }
    }

    /// A piece of a text.
    fn piece(&mut self, kind: Kind, item: usize, piece: &str, sink: &mut dyn Sink) {
        if piece.is_empty() {
            return;
        }
        self.items.get(item).add(kind, piece);
        self.emit(kind, item, piece, sink);
    }

    /// All of a part: emits what is missing of it.
    fn close_part(
        &mut self,
        kind: Kind,
        item: usize,
        number: u64,
        repeats: bool,
        whole: &str,
        sink: &mut dyn Sink,
    ) {
        if whole.is_empty() {
            return;
        }
        let rest = self
            .items
            .get(item)
            .close_part(kind, number, repeats, whole);
        if !rest.is_empty() {
            self.emit(kind, item, rest, sink);
        }
    }

    fn emit(&mut self, kind: Kind, item: usize, text: &str, sink: &mut dyn Sink) {
        self.last_text = Some((item, kind));
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
                self.reasoned = true;
                self.reasoning.raw(item, text, sink);
            }
            Kind::Summary => {
                self.has_content = true;
                self.reasoned = true;
                self.reasoning.summary(item, text, sink);
            }
        }
    }

    /// Content that is no reasoning begins: the reasoning before it is over.
    fn begin_content(&mut self, sink: &mut dyn Sink) {
        self.has_content = true;
        self.reasoning.flush(sink);
    }

    /// A part of an item, whole.
    fn part(&mut self, item: usize, number: u64, part: &Part<'_>, sink: &mut dyn Sink) {
        let Some(kind) = Kind::of(part) else {
            return;
        };
        self.close_part(kind, item, number, true, part.text(kind), sink);
        let known = self.items.get(item).annotations;
        let annotations = part.annotations();
        if let Some(new) = annotations.get(known..) {
            self.cite(item, new, sink);
        }
    }

    fn cite(&mut self, item: usize, annotations: &[&RawValue], sink: &mut dyn Sink) {
        self.items.get(item).annotations += annotations.len();
        for annotation in annotations {
            self.begin_content(sink);
            cite(annotation, sink);
        }
    }

    /// An item begins.
    fn announce(
        &mut self,
        message: &Message<'_>,
        item: &Item<'_>,
        sink: &mut dyn Sink,
    ) -> Result<(), Error> {
        let at = self.items.announce(message.at_item(item));
        if !self.is_client_call(item) || self.items.get(at).call.is_some() {
            return Ok(());
        }
        let call = self.begin_call(at, item, sink);
        let state = self.items.get(at);
        item.arguments().clone_into(&mut state.initial);
        let pending = std::mem::take(&mut state.pending);
        self.calls.append(call, &pending, sink);
        Ok(())
    }

    fn begin_call(&mut self, at: usize, item: &Item<'_>, sink: &mut dyn Sink) -> usize {
        self.begin_content(sink);
        let id = non_empty(&item.call_id).unwrap_or_default();
        let name = non_empty(&item.name).unwrap_or_default();
        let free_text = non_empty(&item.kind) == Some("custom_tool_call");
        let call = self.calls.open(id, name, free_text, sink);
        self.items.set_call_id(at, id);
        self.items.get(at).call = Some(call);
        call
    }

    /// A piece of a call's arguments. It may come before its call; what belongs to an item that is no
    /// call of the client is the vendor's own.
    fn arguments(
        &mut self,
        at: ItemRef<'_>,
        piece: &str,
        sink: &mut dyn Sink,
    ) -> Result<(), Error> {
        let at = self.items.resolve(at);
        let state = self.items.get(at);
        match state.call {
            Some(call) => self.calls.append(call, piece, sink),
            None if state.announced => {}
            None if state.pending.len() + piece.len() > MAX_PENDING => {
                return Err(Error::new(
                    ErrorCode::BadUpstreamData,
                    "the upstream sent the arguments of a tool call that it did not begin",
                ));
            }
            None => state.pending.push_str(piece),
        }
        Ok(())
    }

    fn whole_arguments(
        &mut self,
        at: ItemRef<'_>,
        whole: &str,
        sink: &mut dyn Sink,
    ) -> Result<(), Error> {
        let at = self.items.resolve(at);
        let state = self.items.get(at);
        match state.call {
            Some(call) if !whole.is_empty() => agree(self.calls.complete(call, whole, sink)),
            None if !state.announced && whole.len() <= MAX_PENDING => {
                whole.clone_into(&mut state.pending);
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// An item, whole. All that is not read here is a vendor's own tool at work.
    fn item(&mut self, at: usize, item: &Item<'_>, sink: &mut dyn Sink) -> Result<(), Error> {
        self.items.get(at).announced = true;
        match non_empty(&item.kind).unwrap_or_default() {
            "message" | "reasoning" => {
                let parts: Vec<Part<'_>> =
                    item.content().into_iter().chain(item.summary()).collect();
                self.parts(at, &parts, sink);
                if let Some(signature) = non_empty(&item.encrypted_content) {
                    self.has_content = true;
                    self.reasoned = true;
                    self.reasoning.sign(at, signature, !parts.is_empty(), sink);
                }
                self.reasoning.flush(sink);
                Ok(())
            }
            _ if self.is_client_call(item) => self.whole_call(at, item, sink),
            _ => Ok(()),
        }
    }

    /// All the parts of an item: emits what is missing of their texts, and their sources.
    fn parts(&mut self, at: usize, parts: &[Part<'_>], sink: &mut dyn Sink) {
        let mut known = [0; Kind::ALL.len()];
        for kind in Kind::ALL {
            let of_kind = parts.iter().filter(|part| Kind::of(part) == Some(kind));
            let whole: String = of_kind.map(|part| part.text(kind)).collect();
            let rest = self.items.get(at).close(kind, &whole);
            known[kind as usize] = whole.len() - rest.len();
        }
        let mut cited = self.items.get(at).annotations;
        for part in parts {
            let Some(kind) = Kind::of(part) else { continue };
            let text = part.text(kind);
            let emitted = known[kind as usize].min(text.len());
            known[kind as usize] -= emitted;
            if let Some(rest) = text.get(emitted..).filter(|rest| !rest.is_empty()) {
                self.emit(kind, at, rest, sink);
            }
            let annotations = part.annotations();
            let old = cited.min(annotations.len());
            cited -= old;
            self.cite(at, &annotations[old..], sink);
        }
    }

    fn whole_call(&mut self, at: usize, item: &Item<'_>, sink: &mut dyn Sink) -> Result<(), Error> {
        let state = self.items.get(at);
        let pending = std::mem::take(&mut state.pending);
        let initial = std::mem::take(&mut state.initial);
        let call = match state.call {
            Some(call) => {
                let name = non_empty(&item.name).unwrap_or_default();
                let id = non_empty(&item.call_id).unwrap_or_default();
                self.calls.adopt(call, id, name);
                call
            }
            None => self.begin_call(at, item, sink),
        };
        self.calls.append(call, &pending, sink);
        let whole = match item.arguments() {
            "" if !self.calls.has_arguments(call) => &initial,
            whole => whole,
        };
        if whole.is_empty() {
            self.calls.close(call, sink);
            return Ok(());
        }
        agree(self.calls.complete(call, whole, sink))
    }

    /// xAI reports the searches that it runs itself as calls of custom tools that were not declared.
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
        if self.has_content {
            self.add_missing(response, sink)?;
        } else {
            self.custom_tools = response.custom_tools().or(self.custom_tools.take());
            for (index, item) in (0..).zip(response.items()) {
                let at = self.items.announce(ItemRef {
                    index: Some(index),
                    id: "",
                });
                self.item(at, item, sink)?;
            }
        }
        self.reasoning.flush(sink);
        if let Some(usage) = response.usage() {
            sink.event(Event::Usage(usage));
        }
        let why = response.incomplete_details.0.as_ref();
        let why = why.and_then(|details| non_empty(&details.reason));
        let finish = match status {
            "failed" => return Err(upstream_error(response.error.map_or("", RawValue::get))),
            "cancelled" => {
                return Err(Error::new(
                    ErrorCode::UpstreamError,
                    "the upstream cancelled its answer",
                ));
            }
            "incomplete" => finish_reason(why.unwrap_or("incomplete"), &self.vendor)?
                .unwrap_or(FinishReason::Other),
            _ if self.refused => FinishReason::Refusal,
            _ if !self.calls.is_empty() => FinishReason::ToolCalls,
            "completed" | "done" => FinishReason::Stop,
            _ => FinishReason::Other,
        };
        for (call, initial) in self.items.calls() {
            if !self.calls.has_arguments(call) {
                self.calls.append(call, &initial, sink);
            }
        }
        if self.items.has_orphans() && finish != FinishReason::Length {
            return Err(Error::new(
                ErrorCode::BadUpstreamData,
                "the upstream sent the arguments of a tool call that it did not begin",
            ));
        }
        self.calls.finish(sink);
        sink.event(Event::Finish(finish));
        Ok(())
    }

    /// Emits what only the whole response has: the end of a text, or all of it, and calls.
    fn add_missing(&mut self, response: &Response<'_>, sink: &mut dyn Sink) -> Result<(), Error> {
        let parts = || response.items().flat_map(Item::content);
        for kind in [Kind::Text, Kind::Refusal] {
            let whole: String = parts()
                .filter(|part| Kind::of(part) == Some(kind))
                .map(|part| part.text(kind).to_owned())
                .collect();
            let rest = self.items.missing(kind, &whole).unwrap_or_default();
            if !rest.is_empty() {
                let item = self.items.announce(ItemRef::default());
                self.piece(kind, item, rest, sink);
            }
        }
        if !self.reasoned {
            for item in response.items().filter(|item| item.is_reasoning()) {
                let at = self.items.announce(ItemRef::default());
                self.item(at, item, sink)?;
            }
        }
        let calls = response.items().filter(|item| self.is_client_call(item));
        for (nth, item) in calls.collect::<Vec<_>>().into_iter().enumerate() {
            self.reasoning.flush(sink);
            let piece = CallPiece {
                index: None,
                id: non_empty(&item.call_id).unwrap_or_default(),
                name: non_empty(&item.name).unwrap_or_default(),
                arguments: item.arguments(),
            };
            let free_text = non_empty(&item.kind) == Some("custom_tool_call");
            agree(self.calls.add_whole(nth, piece, free_text, sink))?;
        }
        Ok(())
    }
}

/// How much of the arguments of a call is kept that has not begun, in bytes.
const MAX_PENDING: usize = 1024 * 1024;

/// The kind of text that an event is about, and whether it is a whole part.
fn text_event(kind: &str) -> Option<(Kind, bool)> {
    Some(match kind {
        "response.output_text.delta" => (Kind::Text, false),
        "response.output_text.done" => (Kind::Text, true),
        "response.refusal.delta" => (Kind::Refusal, false),
        "response.refusal.done" => (Kind::Refusal, true),
        "response.reasoning_text.delta" => (Kind::Raw, false),
        "response.reasoning_text.done" => (Kind::Raw, true),
        "response.reasoning_summary_text.delta" => (Kind::Summary, false),
        "response.reasoning_summary_text.done" => (Kind::Summary, true),
        _ => return None,
    })
}

/// # Errors
/// Where whole arguments do not begin with the pieces that were emitted.
fn agree(agrees: bool) -> Result<(), Error> {
    if agrees {
        return Ok(());
    }
    Err(Error::new(
        ErrorCode::BadUpstreamData,
        "the upstream sent two versions of the arguments of one tool call",
    ))
}

/// Whether a kind of event ends the answer.
fn is_last(kind: &str) -> bool {
    matches!(
        kind,
        "response.completed"
            | "response.done"
            | "response.incomplete"
            | "response.failed"
            | "response.cancelled"
    )
}

/// The status of a response that is not done, such as one in the background.
fn is_at_work(status: &str) -> bool {
    matches!(status, "queued" | "in_progress")
}

fn response_in<'a>(message: &Message<'a>) -> Result<Response<'a>, Error> {
    message.response.map_or(Ok(Response::default()), read)
}

/// A value that is an object. Without its item or part an event means nothing.
fn object(raw: Option<&RawValue>) -> Option<&RawValue> {
    raw.filter(|raw| raw.get().starts_with('{'))
}

fn read<'a, T: Deserialize<'a>>(raw: &'a RawValue) -> Result<T, Error> {
    parse(raw.get()).map_err(|error| unparsable(&error))
}

/// An annotation that does not parse is left out, so that the answer is not lost.
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
