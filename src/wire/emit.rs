//! Emits events from optional fields. An absent or empty field emits nothing.

use super::json::{Text, non_empty};
use crate::model::{Citation, Event, Sink};

pub(super) fn emit_text(piece: &Option<Text<'_>>, sink: &mut dyn Sink) {
    if let Some(piece) = non_empty(piece) {
        sink.event(Event::Text(piece));
    }
}

pub(super) fn emit_reasoning(piece: &Option<Text<'_>>, sink: &mut dyn Sink) {
    if let Some(piece) = non_empty(piece) {
        sink.event(Event::Reasoning(piece));
    }
}

pub(super) fn emit_signature(signature: &Option<Text<'_>>, sink: &mut dyn Sink) {
    if let Some(signature) = non_empty(signature) {
        sink.event(Event::Signature(signature));
    }
}

pub(super) fn emit_encrypted_reasoning(data: &Option<Text<'_>>, sink: &mut dyn Sink) {
    if let Some(data) = non_empty(data) {
        sink.event(Event::EncryptedReasoning(data));
    }
}

pub(super) fn emit_identity(id: &Option<Text<'_>>, model: &Option<Text<'_>>, sink: &mut dyn Sink) {
    if non_empty(id).is_some() || non_empty(model).is_some() {
        sink.event(Event::Identity {
            id: non_empty(id).unwrap_or_default(),
            model: non_empty(model).unwrap_or_default(),
            fingerprint: "",
        });
    }
}

/// Bounds the citations made from one JSON text. A vendor's JSON may refer to one source many times,
/// so without a bound a frame could become events of a size that is quadratic in its own.
pub(super) struct CitationBudget {
    bytes: usize,
}

impl CitationBudget {
    const MIN: usize = 64 * 1024;

    /// A budget for the citations of `json`. It is far above what legitimate answers need.
    pub(super) fn of(json: &str) -> Self {
        Self {
            bytes: json.len().saturating_mul(4).max(Self::MIN),
        }
    }

    /// Emits a citation with at least one field, while the budget lasts.
    pub(super) fn emit(&mut self, citation: Citation<'_>, sink: &mut dyn Sink) {
        if citation.url.is_none()
            && citation.title.is_none()
            && citation.text.is_none()
            && citation.start.is_none()
        {
            return;
        }
        let event = Event::Citation(citation);
        if let Some(rest) = self.bytes.checked_sub(event.size()) {
            self.bytes = rest;
            sink.event(event);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repeated_citations_stay_within_the_budget() {
        let text = "x".repeat(10_000);
        let mut budget = CitationBudget::of(&text);
        let mut bytes = 0;
        for _ in 0..1_000 {
            let citation = Citation {
                text: Some(&text),
                ..Citation::default()
            };
            budget.emit(citation, &mut |event: Event<'_>| bytes += event.size());
        }
        assert!((10_000..=CitationBudget::MIN).contains(&bytes), "{bytes}");
    }
}
