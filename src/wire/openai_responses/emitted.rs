//! What of an answer has been handed on already: every text comes up to four times, in deltas, as a
//! text, as a part and with its item.

use super::shape::{ItemKey, ItemRef, Part};
use crate::wire::json::non_empty;

/// The parts of the items that are not done.
#[derive(Debug, Default)]
pub(super) struct EmittedParts {
    parts: Vec<EmittedPart>,
}

/// A part of which something has been handed on.
#[derive(Debug)]
pub(super) struct EmittedPart {
    place: ItemKey,
    kind: Kind,
    number: u64,
    /// Its text, at least in pieces.
    pub(super) text: bool,
    /// How many of its annotations.
    pub(super) annotations: usize,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Kind {
    Text,
    Refusal,
    /// Of reasoning, as its summary is.
    Raw,
    Summary,
}

impl Kind {
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

impl EmittedParts {
    pub(super) fn part(&mut self, kind: Kind, at: ItemRef<'_>, number: u64) -> &mut EmittedPart {
        let known = self
            .parts
            .iter()
            .rposition(|part| part.kind == kind && part.number == number && part.place.is(at));
        let known = known.unwrap_or_else(|| {
            self.parts.push(EmittedPart {
                place: ItemKey::of(at),
                kind,
                number,
                text: false,
                annotations: 0,
            });
            self.parts.len() - 1
        });
        &mut self.parts[known]
    }

    /// The number under which the `nth` part of its kind was emitted, or a free one. Some vendors count
    /// parts from another number than their place in the item (vLLM: from 1).
    pub(super) fn number(&self, kind: Kind, at: ItemRef<'_>, nth: usize) -> u64 {
        let emitted = self
            .parts
            .iter()
            .filter(|part| part.kind == kind && part.place.is(at));
        let mut free = 0;
        for (place, part) in emitted.enumerate() {
            if place == nth {
                return part.number;
            }
            free = free.max(part.number.saturating_add(1));
        }
        free
    }

    /// The item is done: nothing of it will come again.
    pub(super) fn forget(&mut self, at: ItemRef<'_>) {
        self.parts.retain(|part| !part.place.is(at));
    }
}
