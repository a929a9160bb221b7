//! An upstream's bytes to events: framing, decoder and grammar in a row.

use super::frame_reader::FrameReader;
use super::think_tags::ThinkTags;
use crate::framing::{Frame, Framer, Remainder};
use crate::model::{Error, ErrorCode, Event, FinishReason, Grammar, Sink, Vendor};
use crate::wire::{Wire, interrupted, is_blank};

/// Reads one answer's body. Pure: bytes in, events out; the same events for every way of cutting
/// the bytes.
pub struct Ingest {
    framer: Framer,
    reader: FrameReader,
    think_tags: Option<ThinkTags>,
    grammar: Grammar,
    /// Whether the sink gets the frames too.
    verbatim: bool,
}

impl Ingest {
    /// For a vendor without deviations. `cap` bounds one frame, in bytes.
    pub fn new(wire: &dyn Wire, cap: usize) -> Self {
        Self::for_vendor(wire, &Vendor::PLAIN, cap)
    }

    /// `cap` bounds one frame, in bytes.
    pub fn for_vendor(wire: &dyn Wire, vendor: &Vendor, cap: usize) -> Self {
        Self {
            framer: Framer::new(wire.framing(), cap),
            reader: FrameReader::new(wire.decoder(vendor)),
            think_tags: vendor.think_tags.then(ThinkTags::default),
            grammar: Grammar::default(),
            verbatim: false,
        }
    }

    /// Hands each frame to the sink, beside the events that are decoded from it. Called before
    /// anything is read.
    pub fn pass_frames(&mut self) {
        self.verbatim = true;
    }

    /// The same without the template: every frame is parsed. The events must be the same; this is for
    /// the tests of that.
    #[must_use]
    pub fn without_template(mut self) -> Self {
        self.reader.template = None;
        self
    }

    /// The request asked for several answers. Called before anything is read.
    pub fn expect_alternatives(&mut self) {
        self.reader.decoder.expect_alternatives();
    }

    /// The client speaks the upstream's protocol, and the gateway encodes the answer's events for it.
    pub fn keep_members(&mut self) {
        self.reader.decoder.keep_members();
    }

    /// Hands the events that `bytes` completes to `sink`. What comes after the finish is not read.
    ///
    /// # Errors
    /// Those of the framer, the decoder and the grammar; the events before the error have been handed
    /// over. The answer is over with the first error.
    pub fn push(&mut self, bytes: &[u8], sink: &mut dyn Sink) -> Result<(), Error> {
        let Self {
            framer,
            reader,
            think_tags,
            grammar,
            verbatim,
        } = self;
        if grammar.finished() {
            return Ok(());
        }
        let read = framer.push(bytes, &mut |frame| {
            if *verbatim {
                read_verbatim(frame, reader, think_tags.as_mut(), grammar, sink)?;
            } else {
                read_frame(frame, reader, think_tags.as_mut(), grammar, sink)?;
            }
            if grammar.finished() {
                // Any error stops the framer.
                return Err(interrupted());
            }
            Ok(())
        });
        if self.grammar.finished() {
            return Ok(());
        }
        if read.is_err() {
            self.flush(sink);
        }
        read
    }

    /// The answer broke off: hands on what was held back. [`Ingest::push`] and [`Ingest::end`] do so
    /// themselves for every error that they give.
    pub fn flush(&mut self, sink: &mut dyn Sink) {
        if self.grammar.finished() {
            return;
        }
        let mut sink = self.grammar.check(sink);
        match &mut self.think_tags {
            None => self.reader.decoder.flush(&mut sink),
            Some(tags) => {
                self.reader.decoder.flush(&mut tags.split(&mut sink));
                tags.flush(&mut sink);
            }
        }
    }

    /// The body ended cleanly: finishes the answer, or reports that it is not whole.
    ///
    /// # Errors
    /// [`crate::model::ErrorCode::StreamInterrupted`] and, for a body that is no stream,
    /// [`crate::model::ErrorCode::BadUpstreamData`].
    pub fn end(&mut self, sink: &mut dyn Sink) -> Result<(), Error> {
        if self.grammar.finished() {
            return Ok(());
        }
        let read = self.finish_body(sink);
        if read.is_err() {
            self.flush(sink);
        }
        read
    }

    /// How much of the next frame was read, in bytes.
    pub fn held_bytes(&self) -> usize {
        self.framer.held_bytes()
    }

    /// Whether the upstream's own end was seen.
    pub fn is_finished(&self) -> bool {
        self.grammar.finished()
    }

    /// How many lines had invalid UTF-8, or half a surrogate pair, that became U+FFFD.
    pub fn repaired_lines(&self) -> u64 {
        self.framer.repaired_lines() + self.reader.repaired
    }

    /// How many frames were left out because they were no JSON, such as keep-alives.
    pub fn skipped_frames(&self) -> u64 {
        self.reader.skipped
    }

    fn finish_body(&mut self, sink: &mut dyn Sink) -> Result<(), Error> {
        let remainder = self.framer.end()?;
        if let Remainder::Document(document) = &remainder {
            sink.whole_document(document);
            if self.verbatim {
                // For a client that wants a stream, the gateway encodes its events.
                self.reader.decoder.keep_members();
            }
        }
        let mut held = HoldFinish { sink, finish: None };
        let mut checked = self.grammar.check(&mut held);
        let read = match &mut self.think_tags {
            None => self.reader.read_remainder(&remainder, &mut checked),
            Some(tags) => self
                .reader
                .read_remainder(&remainder, &mut tags.split(&mut checked)),
        };
        let HoldFinish { sink, finish } = held;
        if let Some(violation) = self.grammar.take_violation() {
            return Err(violation);
        }
        let Some(finish) = finish else {
            read?;
            return Err(interrupted());
        };
        if let (true, Remainder::Unended { name, data }) = (self.verbatim, &remainder) {
            sink.frame(name, data);
        }
        sink.event(Event::Finish(finish));
        Ok(())
    }
}

/// Hands the events of one frame to `sink`.
#[inline]
fn read_frame(
    frame: &Frame<'_>,
    reader: &mut FrameReader,
    think_tags: Option<&mut ThinkTags>,
    grammar: &mut Grammar,
    sink: &mut dyn Sink,
) -> Result<(), Error> {
    let mut sink = grammar.check(sink);
    match think_tags {
        None => reader.read(frame, &mut sink)?,
        Some(tags) => reader.read(frame, &mut tags.split(&mut sink))?,
    }
    match grammar.take_violation() {
        None => Ok(()),
        Some(violation) => Err(violation),
    }
}

/// Hands the events of one frame to `sink`, and the frame itself. A frame that cannot be read is not
/// handed over, so that the client never gets the end of an answer that the gateway cannot vouch
/// for.
fn read_verbatim(
    frame: &Frame<'_>,
    reader: &mut FrameReader,
    think_tags: Option<&mut ThinkTags>,
    grammar: &mut Grammar,
    sink: &mut dyn Sink,
) -> Result<(), Error> {
    let skipped = reader.skipped;
    let mut held = HoldFinish { sink, finish: None };
    let read = read_frame(frame, reader, think_tags, grammar, &mut held);
    let HoldFinish { sink, finish } = held;
    match &read {
        // A keep-alive that is not a message of the protocol could stop the client's reader.
        Ok(()) if reader.skipped > skipped || is_blank(frame.data) => {}
        Ok(()) => sink.frame(frame.name, frame.data),
        Err(error) if error.code() == ErrorCode::UpstreamError => {
            sink.error_frame(frame.name, frame.data);
        }
        Err(_) => {}
    }
    if let Some(finish) = finish {
        sink.event(Event::Finish(finish));
    }
    read
}

/// Holds the finish back, so that the frame that finishes an answer comes before it.
struct HoldFinish<'a> {
    sink: &'a mut dyn Sink,
    finish: Option<FinishReason>,
}

impl Sink for HoldFinish<'_> {
    #[inline]
    fn event(&mut self, event: Event<'_>) {
        match event {
            Event::Finish(finish) => self.finish = Some(finish),
            event => self.sink.event(event),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire;

    fn events(mut ingest: Ingest, frames: &[&str]) -> Vec<String> {
        let mut events = Vec::new();
        for frame in frames {
            let body = format!("data: {frame}\n\n");
            let read = ingest.push(body.as_bytes(), &mut |event: Event<'_>| {
                events.push(format!("{event:?}"));
            });
            read.unwrap();
        }
        events
    }

    /// Each message has all the text so far, or only its own part.
    #[test]
    fn messages_in_place_of_deltas_are_read_one_by_one() {
        let wire = wire::by_name("openai-chat").unwrap();
        let cumulative = ["He", "Hello", "Hello you"];
        let parts = ["He", "llo", " you"];
        for member in ["content", "reasoning_content"] {
            for texts in [cumulative, parts] {
                let frames = texts.map(|text| {
                    format!(r#"{{"choices":[{{"index":0,"message":{{"{member}":"{text}"}}}}]}}"#)
                });
                let frames: Vec<&str> = frames.iter().map(String::as_str).collect();
                let ingest = || Ingest::new(wire, 1024);
                let plain = events(ingest().without_template(), &frames);
                assert_eq!(events(ingest(), &frames), plain, "{frames:?}");
                if member == "content" {
                    assert_eq!(
                        plain,
                        [r#"Text("He")"#, r#"Text("llo")"#, r#"Text(" you")"#]
                    );
                }
            }
        }
    }
}
