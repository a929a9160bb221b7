//! Reads the server-sent events of an answer that is passed on, so that one that breaks off is not
//! taken for a whole one.

use std::collections::BTreeSet;

use bytes::BytesMut;
use serde_json::Value;

use super::usage::parse_usage;
use crate::dialect::write_frame;
use crate::framing::{Frame, Framer, Framing, Remainder};
use crate::model::{Error, ErrorCode, Usage};
use crate::wire::interrupted;

/// OpenAI's terminal marker.
const DONE: &str = "[DONE]";
/// The last events of the endpoints that have names for them.
const LAST_EVENTS: [&str; 3] = [
    "image_edit.completed",
    "image_generation.completed",
    "speech.audio.done",
];
/// How many answers to one request may be open at once.
const MAX_ANSWERS: usize = 4096;

/// Passes whole events on and knows whether the last one has come.
pub(super) struct EventReader {
    framer: Framer,
    seen: Seen,
}

/// What the events said so far.
#[derive(Debug, Default)]
struct Seen {
    /// The terminal marker has come.
    done: bool,
    /// A finish reason, or a last event, has come.
    finished: bool,
    /// The indices of answers that have begun and not finished.
    open: BTreeSet<u64>,
    /// The upstream stated that it failed.
    failed: bool,
    usage: Option<Usage>,
    /// Bytes of text.
    text: usize,
}

impl EventReader {
    /// `cap` bounds one event, in bytes.
    pub(super) fn new(cap: usize) -> Self {
        Self {
            framer: Framer::new(Framing::Sse, cap),
            seen: Seen::default(),
        }
    }

    /// Writes the events that `bytes` complete. Nothing is read after the terminal marker.
    ///
    /// # Errors
    /// Those of the framer.
    pub(super) fn push(&mut self, bytes: &[u8], out: &mut BytesMut) -> Result<(), Error> {
        let Self { framer, seen } = self;
        if seen.done {
            return Ok(());
        }
        let read = framer.push(bytes, &mut |frame: &Frame<'_>| {
            seen.read(frame.data);
            write_frame(frame.name, frame.data, out);
            // Any error stops the framer.
            if seen.done {
                Err(interrupted())
            } else {
                Ok(())
            }
        });
        if self.seen.done { Ok(()) } else { read }
    }

    /// Whether the terminal marker has come.
    pub(super) fn is_done(&self) -> bool {
        self.seen.done
    }

    /// The body has ended.
    ///
    /// # Errors
    /// If the answer has not.
    pub(super) fn end(&mut self, out: &mut BytesMut) -> Result<(), Error> {
        if !self.seen.done
            && let Remainder::Unended { name, data } = self.framer.end()?
            && !data.is_empty()
        {
            // An event without its blank line counts only if it is the terminal marker.
            if data.trim() != DONE {
                return Err(interrupted());
            }
            self.seen.done = true;
            write_frame(&name, &data, out);
        }
        let seen = &self.seen;
        let is_whole = seen.done || seen.failed || (seen.finished && seen.open.is_empty());
        if is_whole { Ok(()) } else { Err(interrupted()) }
    }

    /// The upstream's own failure, if it stated one.
    pub(super) fn failure(&self) -> Option<Error> {
        let error = || {
            Error::new(
                ErrorCode::UpstreamError,
                "the upstream's stream states an error",
            )
        };
        self.seen.failed.then(error)
    }

    pub(super) fn usage(&self) -> Option<Usage> {
        self.seen.usage
    }

    /// How many bytes of text came since the last call.
    pub(super) fn take_text(&mut self) -> usize {
        std::mem::take(&mut self.seen.text)
    }
}

impl Seen {
    fn read(&mut self, data: &str) {
        if data.trim() == DONE {
            self.done = true;
            return;
        }
        // What is no JSON, such as a keep-alive, says nothing.
        let Ok(event) = serde_json::from_str::<Value>(data) else {
            return;
        };
        for choice in event["choices"].as_array().into_iter().flatten() {
            let index = choice["index"].as_u64().unwrap_or(0);
            self.text += choice["text"].as_str().map_or(0, str::len);
            if !choice["finish_reason"].is_null() {
                self.finished = true;
                self.open.remove(&index);
            } else if self.open.len() < MAX_ANSWERS {
                self.open.insert(index);
            }
        }
        let kind = event["type"].as_str();
        self.finished |= kind.is_some_and(|kind| LAST_EVENTS.contains(&kind));
        self.failed |= !event["error"].is_null();
        if let Some(usage) = parse_usage(&event["usage"]) {
            self.usage.get_or_insert_default().update(usage);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chunk(index: u64, text: &str, finish: &str) -> String {
        let finish = if finish.is_empty() {
            "null".to_owned()
        } else {
            format!("\"{finish}\"")
        };
        format!(
            "data: {{\"choices\":[{{\"index\":{index},\"text\":\"{text}\",\"finish_reason\":{finish}}}]}}\n\n"
        )
    }

    /// What the client gets, and whether the answer is whole.
    fn read(body: &str, step: usize) -> (String, bool) {
        let (mut reader, mut out) = (EventReader::new(1024), BytesMut::new());
        let mut read = Ok(());
        for piece in body.as_bytes().chunks(step) {
            read = read.and_then(|()| reader.push(piece, &mut out));
        }
        let read = read.and_then(|()| reader.end(&mut out));
        (String::from_utf8(out.to_vec()).unwrap(), read.is_ok())
    }

    #[test]
    fn an_answer_is_whole_only_with_its_end() {
        let (text, finish) = (chunk(0, "a", ""), chunk(0, "", "stop"));
        let done = "data: [DONE]\n\n";
        for (body, whole) in [
            (format!("{text}{finish}{done}"), true),
            (format!("{text}{finish}"), true),
            (format!("{text}{done}"), true),
            (text.clone(), false),
            (format!("{text}{}", chunk(1, "b", "stop")), false),
            (format!("{text}{}{finish}", chunk(1, "b", "stop")), true),
            (
                format!("{text}data: {{\"error\":{{\"message\":\"no\"}}}}\n\n"),
                true,
            ),
            (format!("{text}: comment\n\n"), false),
            (
                "event: speech.audio.done\ndata: {\"type\":\"speech.audio.done\"}\n\n".into(),
                true,
            ),
            (String::new(), false),
        ] {
            for step in [1, 7, 4096] {
                let (out, is_whole) = read(&body, step);
                assert_eq!(is_whole, whole, "{body} by {step}");
                assert_eq!(out, body.replace(": comment\n\n", ""), "by {step}");
            }
        }
    }

    #[test]
    fn a_last_event_without_its_end_counts_only_as_a_terminal_marker() {
        let text = chunk(0, "a", "");
        assert!(read(&format!("{text}data: [DONE]"), 5).1);
        let cut = format!("{text}{}", chunk(0, "", "stop").trim_end());
        let (out, is_whole) = read(&cut, 5);
        assert!(!is_whole);
        assert_eq!(out, text);
    }

    #[test]
    fn nothing_is_read_after_the_terminal_marker() {
        let (out, is_whole) = read("data: [DONE]\n\ndata: more\n\n", 4096);
        assert!(is_whole);
        assert_eq!(out, "data: [DONE]\n\n");
    }

    #[test]
    fn text_and_usage_are_counted() {
        let (mut reader, mut out) = (EventReader::new(1024), BytesMut::new());
        reader
            .push(chunk(0, "abc", "").as_bytes(), &mut out)
            .unwrap();
        let usage =
            b"data: {\"choices\":[],\"usage\":{\"prompt_tokens\":2,\"completion_tokens\":1}}\n\n";
        reader.push(usage, &mut out).unwrap();
        assert_eq!((reader.take_text(), reader.take_text()), (3, 0));
        let usage = reader.usage().unwrap();
        assert_eq!((usage.input, usage.output), (Some(2), Some(1)));
    }
}
