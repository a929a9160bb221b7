//! Reads frames with the decoder of their wire, and repairs or skips those that it cannot read.

use super::repair;
use super::template::{Emitted, Template};
use crate::framing::{Frame, Remainder, not_a_stream, surrogate};
use crate::model::{Error, ErrorCode, Event, Sink};
use crate::wire::{Decoder, interrupted, plain_failure, stated_failure};

/// Frames to the decoder's events.
pub(super) struct FrameReader {
    pub(super) decoder: Box<dyn Decoder>,
    /// `None` reads every frame with the decoder.
    pub(super) template: Option<Template>,
    /// Frames whose text had half a surrogate pair.
    pub(super) repaired: u64,
    /// Frames that were left out.
    pub(super) skipped: u64,
    skipped_in_row: u32,
}
impl FrameReader {
    pub(super) fn new(decoder: Box<dyn Decoder>) -> Self {
        Self {
            decoder,
            template: Some(Template::default()),
            repaired: 0,
            skipped: 0,
            skipped_in_row: 0,
        }
    }

    /// Hands the events of a frame to `sink`.
    pub(super) fn read(&mut self, frame: &Frame<'_>, sink: &mut dyn Sink) -> Result<(), Error> {
        if let Some(template) = &mut self.template
            && let Some(event) = template.decode(frame)
        {
            self.decoder.repeated(&event);
            sink.event(event);
            return Ok(());
        }
        let emitted = self.decode(frame, sink)?;
        if let Some(template) = &mut self.template {
            template.learn(frame, &emitted, self.decoder.ignored_keys());
        }
        Ok(())
    }

    /// Has the decoder read one frame, and returns what it emitted. A frame that does not parse is read
    /// again as far as it can be repaired; nothing may have been emitted of it before.
    fn decode(&mut self, frame: &Frame<'_>, sink: &mut dyn Sink) -> Result<Emitted, Error> {
        let mut observed = Observed {
            emitted: Emitted::Nothing,
            data: frame.data,
            sink,
        };
        let read = self.decoder.frame(frame, &mut observed);
        match (read, observed.emitted) {
            (Ok(()), emitted) => {
                self.skipped_in_row = 0;
                Ok(emitted)
            }
            (Err(error), Emitted::Nothing)
                if error.code() == ErrorCode::BadUpstreamData && !frame.failure =>
            {
                self.recover(frame, error, sink)?;
                Ok(Emitted::More)
            }
            (Err(error), _) => Err(error),
        }
    }

    fn recover(
        &mut self,
        frame: &Frame<'_>,
        error: Error,
        sink: &mut dyn Sink,
    ) -> Result<(), Error> {
        let data = frame.data;
        if repair::is_skippable(data) {
            let failure = match frame.name {
                "error" => Some(Error::new(ErrorCode::UpstreamError, data.trim_ascii())),
                _ => plain_failure(data),
            };
            if let Some(failure) = failure {
                return Err(failure);
            }
            self.skipped += 1;
            self.skipped_in_row += 1;
            return if self.skipped_in_row > repair::MAX_SKIPPED {
                Err(error)
            } else {
                Ok(())
            };
        }
        // A list is no frame of most protocols, but may be the form of an error.
        if data.trim_ascii_start().starts_with('[')
            && let Some(failure) = stated_failure(data)
        {
            return Err(failure);
        }
        if let Some(lines) = repair::json_lines(data) {
            return lines.into_iter().try_for_each(|data| {
                let read = self.decoder.frame(&Frame { data, ..*frame }, sink);
                read.map(|()| self.skipped_in_row = 0)
            });
        }
        let repaired = repair::repair(data).ok_or(error)?;
        self.repaired += u64::from(surrogate::repair(data).is_some());
        self.skipped_in_row = 0;
        let data = &*repaired;
        self.decoder.frame(&Frame { data, ..*frame }, sink)
    }

    /// Hands the events of what the body's end left over to `sink`.
    pub(super) fn read_remainder(
        &mut self,
        remainder: &Remainder,
        sink: &mut dyn Sink,
    ) -> Result<(), Error> {
        match remainder {
            Remainder::Nothing => self.decoder.end(sink),
            Remainder::Broken => Err(interrupted()),
            Remainder::Text(words) => Err(plain_failure(words).unwrap_or_else(not_a_stream)),
            Remainder::Document(document) => self.read_document(document, sink),
            Remainder::Unended { name, data } => {
                let repaired = surrogate::repair(data);
                let frame = Frame::new(name, repaired.as_deref().unwrap_or(data));
                if !self.decoder.is_terminal(&frame) {
                    // Nothing of it counts but the upstream's own words for a failure.
                    let read = self.decode(&frame, &mut |_: Event<'_>| {});
                    return Err(match read {
                        Err(error) if error.code() == ErrorCode::UpstreamError => error,
                        _ => interrupted(),
                    });
                }
                self.repaired += u64::from(repaired.is_some());
                self.decoder.frame(&frame, sink)?;
                // A finish reason whose marker never comes.
                self.decoder.end(sink)
            }
        }
    }

    fn read_document(&mut self, document: &str, sink: &mut dyn Sink) -> Result<(), Error> {
        let surrogates = surrogate::repair(document);
        self.repaired += u64::from(surrogates.is_some());
        let document = surrogates.as_deref().unwrap_or(document);
        let mut joined = TextJoiner {
            text: String::new(),
            sink,
        };
        let mut observed = Observed {
            emitted: Emitted::Nothing,
            data: document,
            sink: &mut joined,
        };
        let mut read = self.decoder.document(document, &mut observed);
        let nothing = matches!(observed.emitted, Emitted::Nothing);
        if let Err(error) = &read
            && nothing
            && error.code() == ErrorCode::BadUpstreamData
            && let Some(repaired) = repair::repair(document)
        {
            read = self.decoder.document(&repaired, &mut joined);
        }
        // A list is no answer of most protocols, but may be the form of an error.
        if document.starts_with('[') && nothing {
            read = read.map_err(|error| stated_failure(document).unwrap_or(error));
        }
        joined.flush();
        read
    }
}

/// Notes what the events of a frame are on their way to `sink`.
struct Observed<'a> {
    emitted: Emitted,
    data: &'a str,
    sink: &'a mut dyn Sink,
}

impl Sink for Observed<'_> {
    fn event(&mut self, event: Event<'_>) {
        self.emitted.add(&event, self.data);
        self.sink.event(event);
    }

    fn free_text_call(&mut self, index: u32) {
        self.sink.free_text_call(index);
    }
}

/// Joins texts that follow one another: a whole answer's text is one, however many parts it came in.
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

    fn free_text_call(&mut self, index: u32) {
        self.sink.free_text_call(index);
    }
}
