//! The tool calls that the client must answer.

use super::shape::{Item, ItemKey, ItemRef};
use crate::model::{Event, Sink, ToolCallDelta};
use crate::wire::json::non_empty;

/// One answer's calls.
#[derive(Debug, Default)]
pub(super) struct Calls {
    /// Those whose item is not done.
    open: Vec<OpenCall>,
    begun: u32,
}

#[derive(Debug)]
struct OpenCall {
    place: ItemKey,
    /// As the vendor gave it; it may give none.
    call_id: String,
    index: u32,
    /// What the item held when it was announced, in force if nothing else comes.
    arguments: String,
    /// Some of the arguments have been handed on.
    emitted: bool,
    /// The input of a custom tool is free text; all else is JSON, so at least `{}`.
    custom: bool,
}

impl Calls {
    pub(super) fn any(&self) -> bool {
        self.begun > 0
    }

    pub(super) fn begin(&mut self, at: ItemRef<'_>, item: &Item<'_>, sink: &mut dyn Sink) {
        if non_empty(&item.kind) == Some("custom_tool_call") {
            sink.free_text_call(self.begun);
        }
        sink.event(Event::ToolCall(ToolCallDelta {
            index: self.begun,
            id: non_empty(&item.call_id),
            name: Some(non_empty(&item.name).unwrap_or_default()),
            arguments: "",
        }));
        self.open.push(OpenCall {
            place: ItemKey::of(at),
            call_id: non_empty(&item.call_id).unwrap_or_default().to_owned(),
            index: self.begun,
            arguments: item.arguments().to_owned(),
            emitted: false,
            custom: non_empty(&item.kind) == Some("custom_tool_call"),
        });
        self.begun += 1;
    }

    /// A piece of the arguments. What belongs to no open call is a vendor's own.
    pub(super) fn piece(&mut self, at: ItemRef<'_>, piece: &str, sink: &mut dyn Sink) {
        if let Some(call) = self.open.iter_mut().rev().find(|call| call.place.is(at)) {
            call.emit(piece, sink);
        }
    }

    /// All of the arguments, which counts only if they did not come in pieces.
    pub(super) fn whole(&mut self, at: ItemRef<'_>, arguments: &str, sink: &mut dyn Sink) {
        if let Some(call) = self.open.iter_mut().rev().find(|call| call.place.is(at))
            && !call.emitted
        {
            call.emit(arguments, sink);
        }
    }

    /// The item is done, and known as a whole, even if nothing was said of it before.
    pub(super) fn done(&mut self, at: ItemRef<'_>, item: &Item<'_>, sink: &mut dyn Sink) {
        let known = self
            .open
            .iter()
            .rposition(|call| call.is_of(item) || call.place.is(at));
        let at = known.unwrap_or_else(|| {
            self.begin(at, item, sink);
            self.open.len() - 1
        });
        let mut call = self.open.remove(at);
        if !call.emitted {
            call.emit(item.arguments(), sink);
        }
        call.close(sink);
    }

    /// The answer has ended, whatever is still open.
    pub(super) fn close(&mut self, sink: &mut dyn Sink) {
        for call in self.open.drain(..) {
            call.close(sink);
        }
    }
}

impl OpenCall {
    fn is_of(&self, item: &Item<'_>) -> bool {
        non_empty(&item.call_id).is_some_and(|id| id == self.call_id)
    }

    fn emit(&mut self, arguments: &str, sink: &mut dyn Sink) {
        if !arguments.is_empty() {
            self.emitted = true;
            sink.event(Event::ToolCall(ToolCallDelta {
                index: self.index,
                id: None,
                name: None,
                arguments,
            }));
        }
    }

    fn close(mut self, sink: &mut dyn Sink) {
        if !self.emitted {
            let arguments = std::mem::take(&mut self.arguments);
            if arguments.is_empty() && !self.custom {
                self.emit("{}", sink);
            } else {
                self.emit(&arguments, sink);
            }
        }
    }
}
