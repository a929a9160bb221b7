//! Decodes an upstream's bytes into events: framer, decoder and grammar in a row.

use super::template::{Emitted, Template};
use crate::framing::{Frame, Framer, Remainder, surrogate};
use crate::model::{Error, ErrorCode, Event, Grammar, Sink};
use crate::wire::{Decoder, Wire, interrupted};

/// Decodes one answer's body. Pure: the same events for every way of cutting the bytes into pieces.
pub struct Ingest {
    framer: Framer,
    decoder: Box<dyn Decoder>,
    grammar: Grammar,
    template: Template,
    /// How many frames had a lone surrogate that was replaced.
    repaired: u64,
}

impl Ingest {
    /// `cap` is the largest frame, in bytes.
    pub fn new(wire: &dyn Wire, cap: usize) -> Self {
        Self {
            framer: Framer::new(wire.framing(), cap),
            decoder: wire.decoder(),
            grammar: Grammar::default(),
            template: Template::default(),
            repaired: 0,
        }
    }

    /// Announces that the request asked for several answers. Must be called before the first
    /// [`Ingest::push`].
    pub fn expect_alternatives(&mut self) {
        self.decoder.expect_alternatives();
    }

    /// Hands the events that `bytes` completes to `sink`. Bytes after the finish are ignored.
    ///
    /// # Errors
    /// The error of the framer or the decoder, after the events before it were handed over. The
    /// answer is over with the first error.
    pub fn push(&mut self, bytes: &[u8], sink: &mut dyn Sink) -> Result<(), Error> {
        let Self {
            framer,
            decoder,
            grammar,
            template,
            repaired,
        } = self;
        if grammar.finished() {
            return Ok(());
        }
        let read = framer.push(bytes, &mut |frame| {
            let mut sink = grammar.check(sink);
            if let Some(event) = template.decode(frame) {
                sink.event(event);
                return Ok(());
            }
            let emitted = decode_frame(decoder.as_mut(), frame, &mut sink, repaired)?;
            template.learn(frame, &emitted, decoder.ignored_keys());
            if grammar.finished() {
                // Any error stops the framer.
                return Err(interrupted());
            }
            Ok(())
        });
        if grammar.finished() {
            return Ok(());
        }
        if read.is_err() {
            self.flush(sink);
        }
        read
    }

    /// Hands the events that the decoder holds back to `sink`, because no more bytes will come.
    /// [`Ingest::push`] and [`Ingest::end`] do this themselves before they return an error.
    pub fn flush(&mut self, sink: &mut dyn Sink) {
        if !self.grammar.finished() {
            self.decoder.flush(&mut self.grammar.check(sink));
        }
    }

    /// Finishes the answer after a clean end of the body.
    ///
    /// # Errors
    /// [`crate::model::ErrorCode::StreamInterrupted`] if the answer is incomplete,
    /// [`crate::model::ErrorCode::BadUpstreamData`] if the body is not a stream.
    pub fn end(&mut self, sink: &mut dyn Sink) -> Result<(), Error> {
        if self.grammar.finished() {
            return Ok(());
        }
        let read = self.decode_remainder(sink);
        if read.is_err() {
            self.flush(sink);
        }
        read
    }

    /// Whether the upstream finished its answer.
    pub fn is_finished(&self) -> bool {
        self.grammar.finished()
    }

    /// How many lines had invalid UTF-8 or a lone surrogate that was replaced by U+FFFD.
    pub fn repaired_lines(&self) -> u64 {
        self.framer.repaired_lines() + self.repaired
    }

    fn decode_remainder(&mut self, sink: &mut dyn Sink) -> Result<(), Error> {
        let remainder = self.framer.end()?;
        let mut sink = self.grammar.check(sink);
        match remainder {
            Remainder::Nothing => self.decoder.end(&mut sink)?,
            Remainder::Broken => return Err(interrupted()),
            Remainder::Document(document) => {
                let mut joined = TextJoiner {
                    text: String::new(),
                    sink: &mut sink,
                };
                let repaired = surrogate::repair(&document);
                self.repaired += u64::from(repaired.is_some());
                let document = repaired.as_deref().unwrap_or(&document);
                let read = self.decoder.document(document, &mut joined);
                joined.flush();
                read?;
            }
            Remainder::Unended { name, data } => {
                let repaired = surrogate::repair(&data);
                let frame = Frame::new(&name, repaired.as_deref().unwrap_or(&data));
                if !self.decoder.is_terminal(&frame) {
                    return Err(interrupted());
                }
                self.repaired += u64::from(repaired.is_some());
                self.decoder.frame(&frame, &mut sink)?;
                // A finish reason came, but its terminal marker never will.
                if !sink.finished() {
                    self.decoder.end(&mut sink)?;
                }
            }
        }
        if self.grammar.finished() {
            Ok(())
        } else {
            Err(interrupted())
        }
    }
}

/// Decodes one frame and reports what it contained. A frame that does not parse is decoded again
/// with its lone surrogates replaced: tokenizers that work on bytes or UTF-16 units cut text inside
/// a character. This is only done if the first try emitted nothing.
fn decode_frame(
    decoder: &mut dyn Decoder,
    frame: &Frame<'_>,
    sink: &mut dyn Sink,
    repaired: &mut u64,
) -> Result<Emitted, Error> {
    let mut emitted = Emitted::Nothing;
    let read = decoder.frame(frame, &mut |event: Event<'_>| {
        emitted.add(&event, frame.data);
        sink.event(event);
    });
    match (read, emitted) {
        (Err(error), Emitted::Nothing) if error.code() == ErrorCode::BadUpstreamData => {
            let data = surrogate::repair(frame.data).ok_or(error)?;
            *repaired += 1;
            let data = &*data;
            decoder.frame(&Frame { data, ..*frame }, sink)?;
            Ok(Emitted::More)
        }
        (read, emitted) => read.map(|()| emitted),
    }
}

/// Joins consecutive texts: the text of a whole answer is one event, however many parts it came in.
struct TextJoiner<'a> {
    text: String,
    sink: &'a mut dyn Sink,
}

impl TextJoiner<'_> {
    fn flush(&mut self) {
        self.sink.event(Event::Text(&self.text));
        self.text.clear();
    }
}

impl Sink for TextJoiner<'_> {
    fn event(&mut self, event: Event<'_>) {
        if let Event::Text(text) = event {
            self.text.push_str(text);
        } else {
            self.flush();
            self.sink.event(event);
        }
    }
}
