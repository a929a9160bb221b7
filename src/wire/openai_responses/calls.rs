//! The tool calls that the client must answer.

use super::shape::{At, Item, Place};
use crate::model::{Event, Sink, ToolCallDelta};
use crate::wire::json::said;

/// One answer's calls.
#[derive(Debug, Default)]
pub(super) struct Calls {
    /// Those whose item is not done.
    open: Vec<OpenCall>,
    begun: u32,
}

#[derive(Debug)]
struct OpenCall {
    place: Place,
    /// As the vendor gave it; it may give none.
    call_id: String,
    index: u32,
    /// What the item held when it was announced, in force if nothing else comes.
    arguments: String,
    /// Some of the arguments have been handed on.
    told: bool,
    /// The input of a custom tool is free text; all else is JSON, so at least `{}`.
    custom: bool,
}

impl Calls {
    pub(super) fn any(&self) -> bool {
        self.begun > 0
    }

    pub(super) fn begin(&mut self, at: At<'_>, item: &Item<'_>, sink: &mut dyn Sink) {
        sink.event(Event::ToolCall(ToolCallDelta {
            index: self.begun,
            id: said(&item.call_id),
            name: Some(said(&item.name).unwrap_or_default()),
            arguments: "",
        }));
        self.open.push(OpenCall {
            place: Place::of(at),
            call_id: said(&item.call_id).unwrap_or_default().to_owned(),
            index: self.begun,
            arguments: item.arguments().to_owned(),
            told: false,
            custom: said(&item.kind) == Some("custom_tool_call"),
        });
        self.begun += 1;
    }

    /// A piece of the arguments. What belongs to no open call is a vendor's own.
    pub(super) fn piece(&mut self, at: At<'_>, piece: &str, sink: &mut dyn Sink) {
        if let Some(call) = self.open.iter_mut().rev().find(|call| call.place.is(at)) {
            call.tell(piece, sink);
        }
    }

    /// All of the arguments, which counts only if they did not come in pieces.
    pub(super) fn whole(&mut self, at: At<'_>, arguments: &str, sink: &mut dyn Sink) {
        if let Some(call) = self.open.iter_mut().rev().find(|call| call.place.is(at))
            && !call.told
        {
            call.tell(arguments, sink);
        }
    }

    /// The item is done, and known as a whole, even if nothing was said of it before.
    pub(super) fn done(&mut self, at: At<'_>, item: &Item<'_>, sink: &mut dyn Sink) {
        let known = self
            .open
            .iter()
            .rposition(|call| call.is_of(item) || call.place.is(at));
        let at = known.unwrap_or_else(|| {
            self.begin(at, item, sink);
            self.open.len() - 1
        });
        let mut call = self.open.remove(at);
        if !call.told {
            call.tell(item.arguments(), sink);
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
        said(&item.call_id).is_some_and(|id| id == self.call_id)
    }

    fn tell(&mut self, arguments: &str, sink: &mut dyn Sink) {
        if !arguments.is_empty() {
            self.told = true;
            sink.event(Event::ToolCall(ToolCallDelta {
                index: self.index,
                id: None,
                name: None,
                arguments,
            }));
        }
    }

    fn close(mut self, sink: &mut dyn Sink) {
        if !self.told {
            let arguments = std::mem::take(&mut self.arguments);
            if arguments.is_empty() && !self.custom {
                self.tell("{}", sink);
            } else {
                self.tell(&arguments, sink);
            }
        }
    }
}
