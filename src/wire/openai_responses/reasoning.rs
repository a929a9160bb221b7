//! Reasoning, of which a vendor may send the raw text, a summary, or both.

use super::shape::{At, Place};
use crate::model::{Event, Sink};

/// How much of a summary is held back, in bytes; a longer one is shown.
const HELD: usize = 256 * 1024;

/// Decides for each reasoning item which of its two texts is its reasoning: the raw one where there
/// is one, never both.
///
/// A summary that the client asked for is shown as it comes: OpenAI, which sends one on request,
/// sends no raw text. Any other summary waits for its item's end, because raw text may still come.
#[derive(Debug, Default)]
pub(super) struct Thinking {
    pub(super) summary_asked: bool,
    place: Option<Place>,
    chosen: Option<Choice>,
    held: String,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Choice {
    Raw,
    Summary,
}

impl Thinking {
    pub(super) fn raw(&mut self, at: At<'_>, piece: &str, sink: &mut dyn Sink) {
        self.enter(at, sink);
        if piece.is_empty() || self.chosen == Some(Choice::Summary) {
            return;
        }
        self.chosen = Some(Choice::Raw);
        self.held.clear();
        sink.event(Event::Reasoning(piece));
    }

    pub(super) fn summary(&mut self, at: At<'_>, piece: &str, sink: &mut dyn Sink) {
        self.enter(at, sink);
        if piece.is_empty() || self.chosen == Some(Choice::Raw) {
            return;
        }
        self.held.push_str(piece);
        if self.summary_asked || self.chosen.is_some() || self.held.len() > HELD {
            self.settle(sink);
        }
    }

    /// No raw text will come any more: shows the summary that was held back.
    pub(super) fn settle(&mut self, sink: &mut dyn Sink) {
        if !self.held.is_empty() {
            self.chosen = Some(Choice::Summary);
            sink.event(Event::Reasoning(&self.held));
            self.held.clear();
        }
    }

    /// Hands on the seal of an item that is done: with its text, or for it. An item of `parts` that
    /// are empty is not told, and yet its seal is not all that there is.
    pub(super) fn seal(&mut self, at: At<'_>, seal: &str, parts: bool, sink: &mut dyn Sink) {
        self.enter(at, sink);
        self.settle(sink);
        sink.event(match self.chosen {
            None if !parts => Event::SealedReasoning(seal),
            _ => Event::Signature(seal),
        });
    }

    fn enter(&mut self, at: At<'_>, sink: &mut dyn Sink) {
        if !self.place.as_ref().is_some_and(|place| place.is(at)) {
            self.settle(sink);
            self.place = Some(Place::of(at));
            self.chosen = None;
        }
    }
}
