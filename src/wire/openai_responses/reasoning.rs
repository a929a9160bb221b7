//! Reasoning, of which a vendor may send the raw text, a summary, or both.

use crate::model::{Event, Sink};

/// How much of a summary is held back, in bytes; a longer one is shown.
const MAX_HELD: usize = 256 * 1024;

/// Decides for each reasoning item which of its two texts is its reasoning: the raw one where there
/// is one, never both.
///
/// A summary that the client asked for is shown as it comes: OpenAI, which sends one on request,
/// sends no raw text. Any other summary waits for its item's end, because raw text may still come.
#[derive(Debug, Default)]
pub(super) struct ReasoningSelector {
    pub(super) summary_asked: bool,
    item: Option<usize>,
    chosen: Option<Choice>,
    held: String,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Choice {
    Raw,
    Summary,
}

impl ReasoningSelector {
    pub(super) fn raw(&mut self, item: usize, piece: &str, sink: &mut dyn Sink) {
        self.enter(item, sink);
        if piece.is_empty() || self.chosen == Some(Choice::Summary) {
            return;
        }
        self.chosen = Some(Choice::Raw);
        self.held.clear();
        sink.event(Event::Reasoning(piece));
    }

    pub(super) fn summary(&mut self, item: usize, piece: &str, sink: &mut dyn Sink) {
        self.enter(item, sink);
        if piece.is_empty() || self.chosen == Some(Choice::Raw) {
            return;
        }
        self.held.push_str(piece);
        if self.summary_asked || self.chosen.is_some() || self.held.len() > MAX_HELD {
            self.flush(sink);
        }
    }

    /// No raw text will come any more: shows the summary that was held back.
    pub(super) fn flush(&mut self, sink: &mut dyn Sink) {
        if !self.held.is_empty() {
            self.chosen = Some(Choice::Summary);
            sink.event(Event::Reasoning(&self.held));
            self.held.clear();
        }
    }

    /// Hands on the seal of an item that is done: with its text, or for it. An item of `parts` that
    /// are empty is not emitted, and yet its seal is not all that there is.
    pub(super) fn sign(&mut self, item: usize, signature: &str, parts: bool, sink: &mut dyn Sink) {
        self.enter(item, sink);
        self.flush(sink);
        sink.event(match self.chosen {
            None if !parts => Event::EncryptedReasoning(signature),
            _ => Event::Signature(signature),
        });
    }

    fn enter(&mut self, item: usize, sink: &mut dyn Sink) {
        if self.item != Some(item) {
            self.flush(sink);
            self.item = Some(item);
            self.chosen = None;
        }
    }
}
