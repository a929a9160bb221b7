//! Tool calls from the pieces that vendors send, for all wires.
//!
//! Which call a piece belongs to is stated differently by every vendor: ids come late, empty, as the
//! text `null`, new with every piece, or never; names come late, twice or empty; indexes are missing,
//! always 0, or count the pieces. The rule, in this order:
//!
//! 1. An id that was seen before decides.
//! 2. Then the index decides, and without one it is the last call.
//! 3. There, a piece begins a new call only if it brings a name that the call cannot use: the call has
//!    a name already, and its arguments are one whole JSON text, or the name or the id is another.
//!
//! A call is emitted once it has a name. Until its arguments come it can still adopt an id.

use std::collections::HashMap;

use super::digest::Digest;
use crate::model::{Event, JsonText, MAX_TOOL_CALLS, Sink, ToolCallDelta};

/// How much of a call without a name is held back, in bytes.
const MAX_HELD: usize = 1024 * 1024;

/// One piece of a call as the vendor sent it. What is not stated is empty.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct CallPiece<'a> {
    pub(super) index: Option<i64>,
    pub(super) id: &'a str,
    pub(super) name: &'a str,
    pub(super) arguments: &'a str,
}

/// The calls of one answer.
#[derive(Debug, Default)]
pub(super) struct CallAssembler {
    calls: Vec<Call>,
    by_id: HashMap<String, usize>,
    by_index: HashMap<i64, usize>,
    emitted: u32,
    /// Counts the lists of pieces, so that two names in one list are two calls.
    list: u64,
}

#[derive(Debug, Default)]
struct Call {
    id: String,
    index: Option<i64>,
    name: String,
    /// Which list of pieces brought the name.
    named_in: u64,
    /// The index in the answer, once the call's start was emitted.
    emitted: Option<u32>,
    /// Arguments that wait for the name.
    held: String,
    /// A bare `{}` came, which may be a placeholder for arguments that follow.
    placeholder: bool,
    arguments: JsonText,
    digest: Digest,
    free_text: bool,
}

impl CallAssembler {
    /// Whether the client has no call to answer.
    pub(super) fn is_empty(&self) -> bool {
        self.calls.is_empty()
    }

    /// A new list of pieces begins, mostly a frame.
    pub(super) fn begin_list(&mut self) {
        self.list += 1;
    }

    /// Adds a piece to the call that it belongs to, or begins one.
    /// Returns the call's place.
    pub(super) fn add(&mut self, piece: CallPiece<'_>, sink: &mut dyn Sink) -> Option<usize> {
        let piece = CallPiece {
            id: if piece.id == "null" { "" } else { piece.id },
            ..piece
        };
        let at = match self.find(&piece) {
            Some(at) => at,
            None if piece.id.is_empty() && piece.name.is_empty() && piece.arguments.is_empty() => {
                return None;
            }
            None => self.begin(piece.index, piece.id),
        };
        self.adopt(at, piece.id, piece.name);
        self.append(at, piece.arguments, sink);
        Some(at)
    }

    /// The index in the answer of the call at that place, once its start was emitted, and its id.
    pub(super) fn emitted(&self, at: usize) -> Option<(u32, &str)> {
        let call = self.calls.get(at)?;
        Some((call.emitted?, &call.id))
    }

    /// Adds a call that came whole, or was sent before and is repeated whole. Nothing is emitted of
    /// what was emitted before. Returns whether the arguments begin with what came before.
    pub(super) fn add_whole(
        &mut self,
        nth: usize,
        piece: CallPiece<'_>,
        free_text: bool,
        sink: &mut dyn Sink,
    ) -> bool {
        let by_id = self.by_id.get(piece.id).copied();
        let same = |at: &usize| {
            self.calls.get(*at).is_some_and(|call| {
                call.name == piece.name && (piece.id.is_empty() || call.id.is_empty())
            })
        };
        match by_id.or(Some(nth).filter(same)) {
            Some(at) => self.complete(at, piece.arguments, sink),
            None => {
                let at = self.begin(piece.index, piece.id);
                self.calls[at].free_text = free_text;
                self.adopt(at, piece.id, piece.name);
                self.calls[at].take(piece.arguments);
                self.close(at, sink);
                true
            }
        }
    }

    /// Adds a call that came complete, and is not a repetition.
    pub(super) fn add_complete(
        &mut self,
        id: &str,
        name: &str,
        arguments: &str,
        sink: &mut dyn Sink,
    ) {
        let at = self.begin(None, id);
        self.adopt(at, id, name);
        self.calls[at].take(arguments);
        self.close(at, sink);
    }

    /// Whether arguments of the call at that place came.
    pub(super) fn has_arguments(&self, at: usize) -> bool {
        self.calls
            .get(at)
            .is_some_and(|call| !call.digest.is_empty() || call.placeholder)
    }

    /// Begins a call that the wire itself tells from all others, and returns its place. `free_text` is
    /// whether its arguments are text instead of JSON.
    pub(super) fn open(
        &mut self,
        id: &str,
        name: &str,
        free_text: bool,
        sink: &mut dyn Sink,
    ) -> usize {
        let id = if id == "null" { "" } else { id };
        let at = self.begin(None, id);
        self.calls[at].free_text = free_text;
        self.adopt(at, id, name);
        self.start(at, sink);
        at
    }

    /// The id and name of the call at that place, where it has none yet.
    pub(super) fn adopt(&mut self, at: usize, id: &str, name: &str) {
        let Some(call) = self.calls.get_mut(at) else {
            return;
        };
        if !id.is_empty() {
            if call.id.is_empty() {
                id.clone_into(&mut call.id);
            }
            // Another id for the same call continues it from here on.
            self.by_id.insert(id.to_owned(), at);
        }
        if !name.is_empty() && call.name.is_empty() {
            name.clone_into(&mut call.name);
            call.named_in = self.list;
        }
    }

    /// Adds a piece of the arguments of the call at that place.
    pub(super) fn append(&mut self, at: usize, arguments: &str, sink: &mut dyn Sink) {
        let Some(call) = self.calls.get_mut(at) else {
            return;
        };
        if arguments.is_empty() {
            if !call.id.is_empty() {
                self.start(at, sink);
            }
            return;
        }
        if call.arguments.is_empty() && !call.free_text && arguments.trim_ascii() == "{}" {
            call.placeholder = true;
            // A call with an id is complete but for its arguments, and keeps its place.
            if !call.id.is_empty() {
                self.start(at, sink);
            }
            return;
        }
        if std::mem::take(&mut call.placeholder) && !arguments.trim_ascii_start().starts_with('{') {
            call.take("{}");
        }
        call.take(arguments);
        self.start(at, sink);
    }

    /// All the arguments of the call at that place: appends what was missing. Returns whether they are
    /// what came before, or begin with it.
    pub(super) fn complete(&mut self, at: usize, arguments: &str, sink: &mut dyn Sink) -> bool {
        let Some(call) = self.calls.get_mut(at) else {
            return true;
        };
        let agrees = match call.digest.rest_of(arguments) {
            Some(rest) => {
                call.placeholder = false;
                call.take(rest);
                true
            }
            None => arguments.trim_ascii().is_empty() || arguments.trim_ascii() == "{}",
        };
        self.close(at, sink);
        agrees
    }

    /// The call at that place gets no more arguments.
    pub(super) fn close(&mut self, at: usize, sink: &mut dyn Sink) {
        if let Some(call) = self.calls.get_mut(at) {
            if std::mem::take(&mut call.placeholder) {
                call.take("{}");
            }
            self.start(at, sink);
        }
    }

    /// The answer is over: emits what was held back. A call without a name fails the answer in the
    /// grammar.
    pub(super) fn finish(&mut self, sink: &mut dyn Sink) {
        for at in 0..self.calls.len() {
            self.close(at, sink);
            let call = &mut self.calls[at];
            if call.emitted.is_none() && (!call.held.is_empty() || !call.id.is_empty()) {
                call.emit_start(&mut self.emitted, sink);
            }
        }
    }

    /// The call that a piece belongs to; `None` where it begins one.
    fn find(&self, piece: &CallPiece<'_>) -> Option<usize> {
        if !piece.id.is_empty()
            && let Some(&at) = self.by_id.get(piece.id)
        {
            let call = &self.calls[at];
            // One id for several calls: only the index tells them apart.
            let other = piece.index.is_some() && call.index.is_some() && piece.index != call.index;
            let begins = other && !piece.name.is_empty() && !call.arguments.is_open();
            return (!begins).then_some(at);
        }
        let last = self.calls.len().checked_sub(1)?;
        let at = match piece.index {
            None => last,
            Some(index) => match self.by_index.get(&index) {
                Some(&at) => at,
                // An index that counts the pieces: the last call waits for the rest of its arguments.
                None if self.calls[last].arguments.is_open()
                    && (piece.name.is_empty() || piece.name == self.calls[last].name) =>
                {
                    last
                }
                None if piece.name.is_empty() && piece.id.is_empty() => {
                    let whole = self.calls[last].arguments.is_complete();
                    return (!whole).then_some(last);
                }
                None => return None,
            },
        };
        let call = &self.calls[at];
        // Nothing but the start came, and the vendor numbers its calls: an id that changes, not another
        // call of the same name.
        let unbegun = call.arguments.is_empty() && !call.placeholder;
        let restarted = unbegun && piece.index.is_some() && !piece.arguments.is_empty();
        let continues = if piece.name.is_empty() && piece.arguments.is_empty() {
            true
        } else if piece.name.is_empty() || call.name.is_empty() {
            // Another id without a name continues the call, unless the call is a whole one.
            piece.id.is_empty()
                || call.id.is_empty()
                || call.name.is_empty()
                || !call.arguments.is_complete()
        } else {
            call.named_in != self.list
                && call.name == piece.name
                && (call.arguments.is_open()
                    || call.arguments.is_empty() && (piece.id.is_empty() || call.id.is_empty())
                    || restarted)
        };
        continues.then_some(at)
    }

    fn begin(&mut self, index: Option<i64>, id: &str) -> usize {
        // One more than an answer may have, so that the grammar sees that there were too many.
        let last = self.calls.len().saturating_sub(1);
        if self.calls.len() > MAX_TOOL_CALLS as usize {
            return last;
        }
        let at = self.calls.len();
        self.calls.push(Call {
            index,
            ..Call::default()
        });
        if let Some(index) = index {
            self.by_index.insert(index, at);
        }
        if !id.is_empty() {
            self.by_id.insert(id.to_owned(), at);
        }
        at
    }

    /// Emits the start of the call if it has a name, and what was held back. Calls that began before
    /// it start before it.
    fn start(&mut self, at: usize, sink: &mut dyn Sink) {
        if self.calls[at].emitted.is_none() {
            if self.calls[at].name.is_empty() {
                return;
            }
            for call in &mut self.calls[..=at] {
                if call.emitted.is_none() && !call.name.is_empty() {
                    call.emit_start(&mut self.emitted, sink);
                }
            }
            return;
        }
        let call = &mut self.calls[at];
        if !call.held.is_empty() {
            sink.event(Event::ToolCall(ToolCallDelta {
                index: call.emitted.unwrap_or_default(),
                id: None,
                name: None,
                arguments: &call.held,
            }));
            call.held.clear();
        }
    }
}

impl Call {
    fn take(&mut self, arguments: &str) {
        self.arguments.push(arguments);
        self.digest.push(arguments);
        // Past that, the call will not be one: its arguments cannot become whole.
        if self.emitted.is_some() || self.held.len() < MAX_HELD {
            self.held.push_str(arguments);
        }
    }

    fn emit_start(&mut self, emitted: &mut u32, sink: &mut dyn Sink) {
        let index = *emitted;
        *emitted += 1;
        self.emitted = Some(index);
        if self.free_text {
            sink.free_text_call(index);
        }
        sink.event(Event::ToolCall(ToolCallDelta {
            index,
            id: Some(&*self.id).filter(|id| !id.is_empty()),
            name: Some(&self.name),
            arguments: &self.held,
        }));
        self.held.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Index, id, name, arguments.
    type Piece = (Option<i64>, &'static str, &'static str, &'static str);

    /// The calls as a client joins them: id, name, arguments.
    fn read(lists: &[&[Piece]]) -> Vec<(String, String, String)> {
        let mut calls: Vec<(String, String, String)> = Vec::new();
        let mut sink = |event: Event<'_>| {
            if let Event::ToolCall(call) = event {
                let at = call.index as usize;
                if at == calls.len() {
                    let start = |text: Option<&str>| text.unwrap_or_default().to_owned();
                    calls.push((start(call.id), start(call.name), String::new()));
                }
                calls[at].2.push_str(call.arguments);
            }
        };
        let mut assembler = CallAssembler::default();
        for list in lists {
            assembler.begin_list();
            for &(index, id, name, arguments) in *list {
                let piece = CallPiece {
                    index,
                    id,
                    name,
                    arguments,
                };
                assembler.add(piece, &mut sink);
            }
        }
        assembler.finish(&mut sink);
        calls
    }

    #[test]
    fn one_call_stays_one_call_however_it_is_identified() {
        const HALVES: [&str; 2] = ["{\"a\":", "1}"];
        let [head, tail] = HALVES;
        let cases: &[&[&[Piece]]] = &[
            // As documented.
            &[
                &[(Some(0), "x", "f", "")],
                &[(Some(0), "", "", head)],
                &[(Some(0), "", "", tail)],
            ],
            // Another id later on, and a new one with every piece.
            &[
                &[(Some(0), "x", "f", "")],
                &[(Some(0), "y", "", head)],
                &[(Some(0), "y", "", tail)],
            ],
            &[
                &[(Some(0), "x", "f", "")],
                &[(Some(0), "y", "", head)],
                &[(Some(0), "z", "", tail)],
            ],
            // The name comes after the id, the id after the name.
            &[
                &[(Some(0), "x", "", "")],
                &[(Some(0), "x", "f", head)],
                &[(Some(0), "", "", tail)],
            ],
            &[
                &[(Some(0), "", "f", "")],
                &[(Some(0), "x", "", head)],
                &[(Some(0), "x", "", tail)],
            ],
            // The name comes after arguments.
            &[&[(Some(0), "x", "", head)], &[(Some(0), "", "f", tail)]],
            // The name comes twice.
            &[
                &[(Some(0), "x", "f", "")],
                &[(Some(0), "x", "f", head)],
                &[(Some(0), "x", "f", tail)],
            ],
            // The text `null` for an id, and no index.
            &[
                &[(None, "x", "f", "")],
                &[(None, "null", "", head)],
                &[(None, "", "", tail)],
            ],
            // Indexes that count the pieces.
            &[
                &[(Some(0), "x", "f", "")],
                &[(Some(1), "", "", head)],
                &[(Some(2), "", "", tail)],
            ],
            &[&[(Some(4), "x", "f", head)], &[(Some(5), "y", "f", tail)]],
            // A placeholder.
            &[
                &[(Some(0), "x", "f", "{}")],
                &[(Some(0), "", "", head)],
                &[(Some(0), "", "", tail)],
            ],
            // Whole, and then nothing.
            &[
                &[(Some(0), "x", "f", "{\"a\":1}")],
                &[(Some(0), "", "", "")],
            ],
        ];
        for lists in cases {
            let expected = ("x".to_owned(), "f".to_owned(), "{\"a\":1}".to_owned());
            assert_eq!(read(lists), [expected], "{lists:?}");
        }
    }

    #[test]
    fn two_calls_stay_two_calls_however_they_are_identified() {
        let cases: &[&[&[Piece]]] = &[
            &[
                &[(Some(0), "", "f", "{\"a\":1}")],
                &[(Some(0), "", "g", "{}")],
            ],
            &[
                &[(Some(0), "", "f", "{\"a\":1}")],
                &[(Some(0), "", "f", "{}")],
            ],
            &[&[(Some(0), "", "f", "{\"a\":1}"), (Some(0), "", "f", "{}")]],
            &[&[(None, "", "f", "{\"a\":1}"), (None, "", "f", "{}")]],
            &[
                &[(Some(0), "0", "f", "")],
                &[(Some(0), "0", "", "{\"a\":1}")],
                &[(Some(0), "1", "g", "")],
                &[(Some(0), "1", "", "{}")],
            ],
            &[
                &[(Some(0), "x", "f", ""), (Some(1), "y", "g", "")],
                &[(Some(1), "", "", "{}")],
                &[(Some(0), "", "", "{\"a\":1}")],
            ],
            &[
                &[(Some(0), "x", "f", "{\"a\":1}")],
                &[(Some(1), "x", "g", "{}")],
            ],
        ];
        for lists in cases {
            let calls = read(lists);
            let arguments: Vec<&str> = calls.iter().map(|call| &*call.2).collect();
            assert_eq!(arguments, ["{\"a\":1}", "{}"], "{lists:?}");
            assert_eq!(calls[0].1, "f");
        }
    }

    #[test]
    fn a_repeated_call_adds_only_what_was_missing() {
        let mut out = String::new();
        let mut sink = |event: Event<'_>| {
            if let Event::ToolCall(call) = event {
                out.push_str(call.arguments);
            }
        };
        let mut assembler = CallAssembler::default();
        let at = assembler.open("x", "f", false, &mut sink);
        assembler.append(at, "{\"a\"", &mut sink);
        assert!(assembler.complete(at, "{\"a\":1}", &mut sink));
        assert!(assembler.complete(at, "{\"a\":1}", &mut sink));
        assert!(!assembler.complete(at, "{\"b\":1}", &mut sink));
        assert_eq!(out, "{\"a\":1}");
    }

    #[test]
    fn too_many_calls_are_not_kept() {
        let mut assembler = CallAssembler::default();
        let mut events = 0;
        for index in 0..100_000 {
            let piece = CallPiece {
                index: Some(index),
                name: "f",
                arguments: "1",
                ..CallPiece::default()
            };
            assembler.add(piece, &mut |_: Event<'_>| events += 1);
        }
        assert_eq!(assembler.calls.len(), MAX_TOOL_CALLS as usize + 1);
    }
}
