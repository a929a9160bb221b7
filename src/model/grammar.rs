//! The legal order of events, kept in one place whatever a decoder hands over.

use super::{Event, Sink};

/// Checks the order of one answer's events on their way to a sink: no empty delta, nothing after
/// the finish, one finish. A vendor's repetition (a second `[DONE]`, a trailing chunk) ends here.
#[derive(Debug, Default)]
pub struct Grammar {
    finished: bool,
}

impl Grammar {
    /// Whether the upstream's own end has been seen.
    pub fn finished(&self) -> bool {
        self.finished
    }

    /// A view of `sink` that lets only legal events through.
    pub fn check<'a>(&'a mut self, sink: &'a mut dyn Sink) -> Checked<'a> {
        Checked {
            grammar: self,
            sink,
        }
    }
}

/// See [`Grammar::check`].
pub struct Checked<'a> {
    grammar: &'a mut Grammar,
    sink: &'a mut dyn Sink,
}

impl Checked<'_> {
    /// See [`Grammar::finished`].
    pub fn finished(&self) -> bool {
        self.grammar.finished
    }
}

impl Sink for Checked<'_> {
    fn event(&mut self, event: Event<'_>) {
        if self.grammar.finished {
            return;
        }
        if is_empty(&event) {
            return;
        }
        if let Event::Finish(_) = event {
            self.grammar.finished = true;
        }
        self.sink.event(event);
    }
}

fn is_empty(event: &Event<'_>) -> bool {
    match event {
        Event::Logprobs(text)
        | Event::Text(text)
        | Event::Refusal(text)
        | Event::Reasoning(text)
        | Event::Signature(text)
        | Event::EncryptedReasoning(text) => text.is_empty(),
        Event::ToolCall(call) => {
            call.arguments.is_empty() && call.id.is_none() && call.name.is_none()
        }
        Event::Alternative { event, .. } => is_empty(event),
        Event::Identity { .. } | Event::Citation(_) | Event::Usage(_) | Event::Finish(_) => false,
    }
}
