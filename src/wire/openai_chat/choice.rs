//! One choice of a chunk to events.

use serde_json::{Map, Value};

use super::chunk::{
    Annotation, Choice, Content, Delta, FunctionPiece, Image, NestedDelta, Source, ToolPiece,
};
use super::signatures::Signatures;
use crate::model::{Citation, Error, Event, FinishReason, Sink, Vendor};
use crate::wire::calls::{CallAssembler, CallPiece};
use crate::wire::digest::Digest;
use crate::wire::finish::{finish_reason, more_specific};
use crate::wire::json::{Text, list};
use crate::wire::parse::parse;

/// The state of one choice.
#[derive(Default)]
pub(super) struct ChoiceDecoder {
    /// The finish so far. It is not the end: some servers send an early one, most send usage after
    /// it.
    finish: Option<FinishReason>,
    refused: bool,
    reasoned: bool,
    /// Audio or an image came.
    media: bool,
    calls: CallAssembler,
    signatures: Signatures,
    /// The text so far.
    text: Digest,
}

impl ChoiceDecoder {
    /// `whole` is whether the choice is of one JSON document: `message` holds it, whatever `delta`
    /// holds.
    pub(super) fn choice(
        &mut self,
        choice: &Choice<'_>,
        whole: bool,
        vendor: &Vendor,
        sink: &mut dyn Sink,
    ) -> Result<(), Error> {
        let finish = finish_reason(text(&choice.finish_reason), vendor);
        if let Some(logprobs) = choice.logprobs {
            emit_logprobs(logprobs.get(), sink);
        }
        let (delta, message) = (choice.delta.0.as_ref(), choice.message.0.as_deref());
        match (delta, message) {
            (_, Some(message)) if whole => self.delta(message, sink),
            (Some(delta), message) => {
                self.delta(delta, sink);
                // Beside the last delta some servers repeat the whole message, or its missing end.
                if let (Some(message), Ok(Some(_))) = (message, &finish) {
                    self.add_missing_text(message, sink);
                }
            }
            (None, Some(message)) => self.message(message, sink),
            (None, None) => {
                for nested in choice
                    .messages
                    .map(list::<NestedDelta<'_>>)
                    .iter()
                    .flatten()
                {
                    if let Some(delta) = &nested.delta.0 {
                        self.delta(delta, sink);
                    }
                }
            }
        }
        if let Some(later) = finish? {
            self.finish = Some(more_specific(self.finish, later));
        }
        Ok(())
    }

    /// Whether anything of an answer came.
    pub(super) fn has_content(&self) -> bool {
        !self.text.is_empty()
            || self.refused
            || self.reasoned
            || self.media
            || !self.calls.is_empty()
    }

    /// Why it ended, if the upstream stated it. The words of a refusal come as text; the finish tells
    /// that they were one.
    pub(super) fn finish(&self) -> Option<FinishReason> {
        match self.finish {
            Some(FinishReason::Stop) if self.refused => Some(FinishReason::Refusal),
            finish => finish,
        }
    }

    /// A text was emitted that this decoder did not read.
    pub(super) fn add_text(&mut self, text: &str) {
        self.text.push(text);
    }

    /// Nothing more comes: emits what was held back.
    pub(super) fn flush(&mut self, sink: &mut dyn Sink) {
        self.calls.finish(sink);
        self.signatures.flush(&self.calls, sink);
    }

    fn delta(&mut self, delta: &Delta<'_>, sink: &mut dyn Sink) {
        self.media |= delta.audio.is_some() || delta.images.is_some();
        let signed = Signatures::of_message(delta);
        if let Some(signed) = &signed {
            signed.emit_members(sink);
        }
        self.reasoning(delta, sink);
        if let Some(signed) = &signed {
            signed.emit_signatures(sink);
        }
        if let Some(content) = &delta.content {
            self.content(content, false, sink);
        }
        if let Some(images) = delta.images {
            for image in list::<Image<'_>>(images) {
                sink.event(Event::Image(image.url()));
            }
        }
        let refusal = text(&delta.refusal);
        if !refusal.is_empty() {
            self.refused = true;
            sink.event(Event::Refusal(refusal));
        }
        self.calls.begin_list();
        for piece in delta.tool_calls.iter() {
            let at = self.calls.add(call_piece(piece), sink);
            self.signatures.add_call(at, piece, &self.calls, sink);
        }
        if let Some(function) = delta.function_call.0.as_deref() {
            self.calls.add(function_piece(function), sink);
        }
        emit_annotations(delta, sink);
    }

    /// A message in place of a delta: mostly all that came before once more, at some servers a delta
    /// by another name.
    fn message(&mut self, message: &Delta<'_>, sink: &mut dyn Sink) {
        let sink = &mut CopiedTexts(sink);
        if !self.has_content() {
            return self.delta(message, sink);
        }
        if !self.reasoned {
            self.reasoning(message, sink);
        }
        if !self.add_missing_text(message, sink)
            && let Some(content) = &message.content
        {
            self.content(content, false, sink);
        }
        if !self.media
            && let Some(images) = message.images
        {
            self.media = true;
            for image in list::<Image<'_>>(images) {
                sink.event(Event::Image(image.url()));
            }
        }
        for (nth, piece) in message.tool_calls.iter().enumerate() {
            self.calls.add_whole(nth, call_piece(piece), false, sink);
        }
        emit_annotations(message, sink);
    }

    /// Emits what the text so far lacks of the message's. Whether the message's text begins with the
    /// text so far.
    fn add_missing_text(&mut self, message: &Delta<'_>, sink: &mut dyn Sink) -> bool {
        let mut whole = String::new();
        if let Some(content) = &message.content {
            plain_text(content, &mut whole);
        }
        match self.text.rest_of(&whole) {
            Some(rest) => {
                self.emit_text(rest, sink);
                true
            }
            None => whole.is_empty(),
        }
    }

    fn emit_text(&mut self, text: &str, sink: &mut dyn Sink) {
        self.text.push(text);
        sink.event(Event::Text(text));
    }

    /// The reasoning of one delta. vLLM sends it in two fields at once, OpenRouter beside details that
    /// repeat it; Snowflake sends the details alone.
    fn reasoning(&mut self, delta: &Delta<'_>, sink: &mut dyn Sink) {
        let mut fields = [&delta.reasoning_content, &delta.reasoning]
            .into_iter()
            .flatten();
        if let Some(content) = fields.find(|content| !is_empty(content)) {
            return self.content(content, true, sink);
        }
        for detail in delta
            .reasoning_details
            .map(list::<Content<'_>>)
            .iter()
            .flatten()
        {
            self.content(detail, true, sink);
        }
    }

    /// Emits texts that were joined.
    fn emit_joined(&mut self, texts: &mut String, reasoning: bool, sink: &mut dyn Sink) {
        if !texts.is_empty() {
            let text = Text(std::mem::take(texts).into());
            self.content(&Content::Text(text), reasoning, sink);
        }
    }

    /// Emits a text in any of its forms, as reasoning if the field or the part is one of reasoning.
    fn content(&mut self, content: &Content<'_>, reasoning: bool, sink: &mut dyn Sink) {
        match content {
            Content::Text(text) if reasoning => {
                self.reasoned |= !text.as_str().is_empty();
                sink.event(Event::Reasoning(text.as_str()));
            }
            Content::Text(text) => self.emit_text(text.as_str(), sink),
            Content::List(list) => {
                // One event for texts that follow each other: a list may have very many.
                let mut texts = String::new();
                for item in list {
                    match item {
                        Content::Text(text) => texts.push_str(text.as_str()),
                        item => {
                            self.emit_joined(&mut texts, reasoning, sink);
                            self.content(item, reasoning, sink);
                        }
                    }
                }
                self.emit_joined(&mut texts, reasoning, sink);
            }
            Content::Part(part) => {
                let reasoning = reasoning || is_reasoning(text(&part.kind));
                let thoughts = [&part.thinking, &part.reasoning, &part.summary];
                for thought in thoughts.into_iter().flatten() {
                    self.content(thought, true, sink);
                }
                for words in [&part.text, &part.content].into_iter().flatten() {
                    self.content(words, reasoning, sink);
                }
            }
        }
    }
}

/// Passes texts on as copies. How a `message` is read depends on what came before it, so the same frame with
/// another text may mean something else; a frame is remembered only by a text of its own.
struct CopiedTexts<'a>(&'a mut dyn Sink);

impl Sink for CopiedTexts<'_> {
    fn event(&mut self, event: Event<'_>) {
        let copy;
        self.0.event(match event {
            Event::Text(text) => {
                copy = text.to_owned();
                Event::Text(&copy)
            }
            Event::Reasoning(text) => {
                copy = text.to_owned();
                Event::Reasoning(&copy)
            }
            event => event,
        });
    }

    fn free_text_call(&mut self, index: u32) {
        self.0.free_text_call(index);
    }
}

/// Whether a part of that type holds reasoning.
fn is_reasoning(kind: &str) -> bool {
    kind.starts_with("reasoning") || kind.starts_with("thinking") || kind == "summary_text"
}

fn is_empty(content: &Content<'_>) -> bool {
    match content {
        Content::Text(text) => text.as_str().is_empty(),
        Content::List(list) => list.iter().all(is_empty),
        Content::Part(_) => false,
    }
}

/// The text of a message without its reasoning.
fn plain_text(content: &Content<'_>, out: &mut String) {
    match content {
        Content::Text(text) => out.push_str(text.as_str()),
        Content::List(list) => list.iter().for_each(|item| plain_text(item, out)),
        Content::Part(part) if is_reasoning(text(&part.kind)) => {}
        Content::Part(part) => {
            for words in [&part.text, &part.content].into_iter().flatten() {
                plain_text(words, out);
            }
        }
    }
}

fn call_piece<'a>(piece: &'a ToolPiece<'_>) -> CallPiece<'a> {
    let function = piece.function.0.as_ref().map(function_piece);
    CallPiece {
        index: piece.index.and_then(|index| index.0),
        id: text(&piece.id),
        ..function.unwrap_or_default()
    }
}

fn function_piece<'a>(function: &'a FunctionPiece<'_>) -> CallPiece<'a> {
    let arguments = function.arguments.as_ref();
    CallPiece {
        name: text(&function.name),
        arguments: arguments.map_or("", |arguments| arguments.as_str()),
        ..CallPiece::default()
    }
}

fn emit_annotations(delta: &Delta<'_>, sink: &mut dyn Sink) {
    for annotation in delta
        .annotations
        .map(list::<Annotation<'_>>)
        .iter()
        .flatten()
    {
        cite(
            annotation.url_citation.as_ref().unwrap_or(&annotation.flat),
            sink,
        );
    }
}

pub(super) fn text<'a>(field: &'a Option<Text<'_>>) -> &'a str {
    field.as_ref().map_or("", Text::as_str)
}

pub(super) fn cite(source: &Source<'_>, sink: &mut dyn Sink) {
    fn non_empty<'a>(field: &'a Option<Text<'_>>) -> Option<&'a str> {
        Some(text(field)).filter(|text| !text.is_empty())
    }
    let citation = Citation {
        url: non_empty(&source.url),
        title: non_empty(&source.title),
        text: non_empty(&source.content),
        start: source.start_index.and_then(|count| count.0),
        end: source.end_index.and_then(|count| count.0),
    };
    if citation.url.is_some() || citation.title.is_some() || citation.text.is_some() {
        sink.event(Event::Citation(citation));
    }
}

/// Logprobs of no token, as come with the role, are left out.
fn emit_logprobs(json: &str, sink: &mut dyn Sink) {
    let members: Map<String, Value> = parse(json).unwrap_or_default();
    let has_tokens =
        |value: &Value| !value.is_null() && value.as_array().is_none_or(|l| !l.is_empty());
    if !members.values().any(has_tokens) {
        return;
    }
    // A frame of several lines has line ends between the tokens of its JSON, never in them.
    if json.contains(['\n', '\r']) {
        sink.event(Event::Logprobs(&json.replace(['\n', '\r'], " ")));
    } else {
        sink.event(Event::Logprobs(json));
    }
}
