//! Tool calls of one answer: complete ones, and ones whose arguments are streamed.

use serde_json::value::RawValue;

use super::arguments::{ArgumentsWriter, InvalidPath, PartialValue};
use super::shape::{FunctionCall, PartialArg};
use crate::model::{Error, ErrorCode, Sink};
use crate::wire::block_calls::non_empty_arguments;
use crate::wire::calls::CallAssembler;
use crate::wire::json::non_empty;
use crate::wire::parse::parse;
use crate::wire::unparsable;

/// The tool calls of one answer.
#[derive(Debug, Default)]
pub(super) struct Calls {
    calls: CallAssembler,
    open: Option<OpenCall>,
}

/// A call with `willContinue`. The next part with a `functionCall` continues it.
#[derive(Debug, Default)]
struct OpenCall {
    at: usize,
    id: String,
    name: String,
    writer: ArgumentsWriter,
    /// The arguments came complete, in `args`.
    is_complete: bool,
}

impl Calls {
    /// Decodes one part. Models before Gemini 3 give calls no id.
    ///
    /// # Errors
    /// For streamed arguments that do not become one JSON text.
    pub(super) fn decode(
        &mut self,
        call: &FunctionCall<'_>,
        sink: &mut dyn Sink,
    ) -> Result<(), Error> {
        if !self.is_continued_by(call) {
            self.close(sink);
            if !self.start(call, sink) {
                return Ok(());
            }
        }
        self.append(call, sink)?;
        if !call.will_continue {
            self.close(sink);
        }
        Ok(())
    }

    /// The answer is over: completes the open call.
    pub(super) fn finish(&mut self, sink: &mut dyn Sink) {
        self.close(sink);
        self.calls.finish(sink);
    }

    /// Completes the arguments of the open call.
    fn close(&mut self, sink: &mut dyn Sink) {
        let Some(mut open) = self.open.take() else {
            return;
        };
        if !open.is_complete {
            let mut text = String::new();
            open.writer.finish(&mut text);
            self.calls.append(open.at, &text, sink);
        }
        self.calls.close(open.at, sink);
    }

    /// Whether `call` is the next part of the open call. Usually that has no name; a repeated name
    /// continues the call, unless the part looks like the start of another call.
    fn is_continued_by(&self, call: &FunctionCall<'_>) -> bool {
        let Some(open) = &self.open else {
            return false;
        };
        let is_same = |field, own: &str| non_empty(field).is_none_or(|value| value == own);
        let is_start = non_empty(&call.name).is_some()
            && call.partial_args.is_none()
            && (open.is_complete || !open.writer.is_empty());
        is_same(&call.name, &open.name) && is_same(&call.id, &open.id) && !is_start
    }

    /// Starts a call, or emits a complete one. Returns whether the call is open.
    fn start(&mut self, call: &FunctionCall<'_>, sink: &mut dyn Sink) -> bool {
        let is_streamed = call.will_continue || call.partial_args.is_some();
        if !is_streamed && non_empty(&call.name).is_none() && call.args.is_none() {
            // The end of a call that is already closed.
            return false;
        }
        let id = non_empty(&call.id).unwrap_or_default();
        let name = non_empty(&call.name).unwrap_or_default();
        if !is_streamed {
            let arguments = call.args.map_or("{}", RawValue::get);
            self.calls.add_complete(id, name, arguments, sink);
            return false;
        }
        self.open = Some(OpenCall {
            at: self.calls.open(id, name, false, sink),
            id: id.to_owned(),
            name: name.to_owned(),
            ..OpenCall::default()
        });
        true
    }

    fn append(&mut self, call: &FunctionCall<'_>, sink: &mut dyn Sink) -> Result<(), Error> {
        let Some(open) = &mut self.open else {
            return Ok(());
        };
        let args = non_empty_arguments(call.args);
        if let Some(args) = args.filter(|_| open.writer.is_empty() && !open.is_complete) {
            open.is_complete = true;
            self.calls.append(open.at, &args, sink);
        }
        let Some(partial_args) = call.partial_args.filter(|_| !open.is_complete) else {
            return Ok(());
        };
        let parts: Vec<PartialArg<'_>> =
            parse(partial_args.get()).map_err(|error| unparsable(&error))?;
        let mut text = String::new();
        for part in &parts {
            let path = non_empty(&part.json_path).unwrap_or_default();
            open.writer
                .write(path, part.value(), &mut text)
                .map_err(|InvalidPath| invalid_arguments())?;
        }
        self.calls.append(open.at, &text, sink);
        Ok(())
    }
}

impl PartialArg<'_> {
    fn value(&self) -> Option<PartialValue<'_>> {
        let number = self.number_value.map(RawValue::get);
        let boolean = self.bool_value.map(RawValue::get);
        if let Some(text) = &self.string_value {
            Some(PartialValue::String(text.as_str()))
        } else if let Some(number) = number.filter(|number| number.starts_with(is_number_start)) {
            Some(PartialValue::Literal(number))
        } else if let Some(boolean) = boolean.filter(|word| matches!(*word, "true" | "false")) {
            Some(PartialValue::Literal(boolean))
        } else if self.null_value {
            Some(PartialValue::Literal("null"))
        } else {
            None
        }
    }
}

fn is_number_start(c: char) -> bool {
    c == '-' || c.is_ascii_digit()
}

fn invalid_arguments() -> Error {
    Error::new(
        ErrorCode::BadUpstreamData,
        "the upstream streamed the arguments of a tool call in pieces that do not form one JSON text",
    )
}
