//! Gives the calls of an answer the client's names of its tools.

use crate::model::{Event, Sink, ToolCallDelta};
use crate::wire::ToolNames;

/// A sink that changes the names of calls.
pub(super) struct RestoreNames<'a> {
    names: &'a ToolNames,
    sink: &'a mut dyn Sink,
}

impl<'a> RestoreNames<'a> {
    pub(super) fn new(names: &'a ToolNames, sink: &'a mut dyn Sink) -> Self {
        Self { names, sink }
    }
}

impl Sink for RestoreNames<'_> {
    fn event(&mut self, event: Event<'_>) {
        let names = self.names;
        match event {
            Event::ToolCall(call) => self.sink.event(Event::ToolCall(restore(names, call))),
            Event::Alternative {
                index,
                event: &Event::ToolCall(call),
            } => {
                let event = &Event::ToolCall(restore(names, call));
                self.sink.event(Event::Alternative { index, event });
            }
            event => self.sink.event(event),
        }
    }

    fn free_text_call(&mut self, index: u32) {
        self.sink.free_text_call(index);
    }

    fn frame(&mut self, name: &str, data: &str) {
        self.sink.frame(name, data);
    }

    fn error_frame(&mut self, name: &str, data: &str) {
        self.sink.error_frame(name, data);
    }

    fn whole_document(&mut self, document: &str) {
        self.sink.whole_document(document);
    }
}

fn restore<'a>(names: &'a ToolNames, call: ToolCallDelta<'a>) -> ToolCallDelta<'a> {
    ToolCallDelta {
        name: call.name.map(|name| names.restore(name)),
        ..call
    }
}
