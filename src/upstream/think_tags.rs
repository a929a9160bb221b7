//! Reasoning that comes as `<think>…</think>` inside the text, told apart from it.

use crate::model::{Event, Sink};

const OPEN: &str = "<think>";
const CLOSE: &str = "</think>";

/// Splits texts at the tags, however they are cut into pieces. No character but those of the tags is
/// lost, and what may become a tag waits for the next piece.
#[derive(Debug, Default)]
pub(super) struct ThinkTags {
    inside: bool,
    held: String,
}

/// See [`ThinkTags::split`].
pub(super) struct Split<'a> {
    tags: &'a mut ThinkTags,
    sink: &'a mut dyn Sink,
}

impl ThinkTags {
    /// A view of `sink` in which texts are split.
    pub(super) fn split<'a>(&'a mut self, sink: &'a mut dyn Sink) -> Split<'a> {
        Split { tags: self, sink }
    }

    /// No tag comes any more: emits what was held back.
    pub(super) fn flush(&mut self, sink: &mut dyn Sink) {
        let held = std::mem::take(&mut self.held);
        self.emit(&held, sink);
    }

    fn push(&mut self, text: &str, sink: &mut dyn Sink) {
        if self.held.is_empty() {
            return self.read(text, sink);
        }
        let mut joined = std::mem::take(&mut self.held);
        joined.push_str(text);
        self.read(&joined, sink);
    }

    fn read(&mut self, mut text: &str, sink: &mut dyn Sink) {
        loop {
            let tag = if self.inside { CLOSE } else { OPEN };
            let Some(at) = text.find(tag) else {
                let held = partial(text, tag);
                let (clear, held) = text.split_at(text.len() - held);
                self.emit(clear, sink);
                self.held.push_str(held);
                return;
            };
            self.emit(&text[..at], sink);
            self.inside = !self.inside;
            text = &text[at + tag.len()..];
        }
    }

    fn emit(&self, text: &str, sink: &mut dyn Sink) {
        if text.is_empty() {
            return;
        }
        sink.event(if self.inside {
            Event::Reasoning(text)
        } else {
            Event::Text(text)
        });
    }
}

impl Sink for Split<'_> {
    fn event(&mut self, event: Event<'_>) {
        match event {
            Event::Text(text) => self.tags.push(text, self.sink),
            Event::Reasoning(_)
            | Event::Refusal(_)
            | Event::ToolCall(_)
            | Event::Signature(_)
            | Event::EncryptedReasoning(_)
            | Event::Finish(_) => {
                self.tags.flush(self.sink);
                self.sink.event(event);
            }
            event => self.sink.event(event),
        }
    }

    fn free_text_call(&mut self, index: u32) {
        self.sink.free_text_call(index);
    }
}

/// The length of the longest end of `text` that is a beginning of `tag`. Tags are ASCII.
fn partial(text: &str, tag: &str) -> usize {
    let longest = text.len().min(tag.len() - 1);
    (1..=longest)
        .rev()
        .find(|&length| text.as_bytes().ends_with(&tag.as_bytes()[..length]))
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(pieces: &[&str]) -> (String, String) {
        let (mut text, mut reasoning) = (String::new(), String::new());
        let mut sink = |event: Event<'_>| match event {
            Event::Text(piece) => text.push_str(piece),
            Event::Reasoning(piece) => reasoning.push_str(piece),
            _ => {}
        };
        let mut tags = ThinkTags::default();
        for piece in pieces {
            tags.split(&mut sink).event(Event::Text(piece));
        }
        tags.flush(&mut sink);
        (text, reasoning)
    }

    #[test]
    fn tags_are_found_over_every_cut_and_nothing_is_lost() {
        for (whole, text, reasoning) in [
            ("<think>Hm.</think>\n\nFour.", "\n\nFour.", "Hm."),
            ("a<think>é</think>b<think>d</think>", "ab", "éd"),
            (
                "a < b, <thin>, <<think>x</</think>y",
                "a < b, <thin>, <y",
                "x</",
            ),
            ("<think>never closed </thin", "", "never closed </thin"),
            ("no tags </think> <thi", "no tags </think> <thi", ""),
            ("", "", ""),
        ] {
            let expected = (text.to_owned(), reasoning.to_owned());
            let characters: Vec<String> = whole.chars().map(String::from).collect();
            let characters: Vec<&str> = characters.iter().map(String::as_str).collect();
            assert_eq!(read(&characters), expected, "{whole}");
            for (at, _) in whole.char_indices() {
                let (head, tail) = whole.split_at(at);
                assert_eq!(read(&[head, tail]), expected, "{whole} at {at}");
            }
        }
    }
}
