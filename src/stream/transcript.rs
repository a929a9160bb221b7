//! An answer as its client reads it: one start, then events, then exactly one terminal event.

use std::time::Duration;

use bytes::{Bytes, BytesMut};

use crate::dialect::{Answering, Completion, Encoder};
use crate::model::{Error, Event, FinishReason, Usage};

/// Encodes one answer. Pure: no clock, no I/O; what is encoded waits here to be taken.
pub struct Transcript {
    encoder: Box<dyn Encoder>,
    ready: BytesMut,
    usage: Option<Usage>,
    state: State,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Nobody answers yet.
    Waiting,
    Started,
    /// The terminal event was written.
    Ended,
}

impl Transcript {
    pub fn new(encoder: Box<dyn Encoder>) -> Self {
        Self {
            encoder,
            ready: BytesMut::new(),
            usage: None,
            state: State::Waiting,
        }
    }

    /// This target answers. Only the first one is told.
    pub fn start(&mut self, upstream: &str, model: &str) {
        self.begin(Some(upstream), Some(model));
    }

    /// The next event, unless the terminal event was written. A finish is for
    /// [`Transcript::complete`].
    pub fn event(&mut self, event: &Event<'_>) {
        if self.ended() {
            return;
        }
        self.begin(None, None);
        if let Event::Usage(usage) = event {
            self.usage.get_or_insert_default().update(*usage);
        }
        self.encoder.event(event, &mut self.ready);
    }

    /// The terminal event of a whole answer, unless there was a terminal event. The times are from
    /// the request's arrival to the answer's first content and to its end.
    pub fn complete(&mut self, finish: FinishReason, first_token: Duration, total: Duration) {
        if self.ended() {
            return;
        }
        self.begin(None, None);
        self.state = State::Ended;
        let completion = Completion {
            finish,
            usage: self.usage,
            first_token_ms: first_token.as_millis() as u64,
            total_ms: total.as_millis() as u64,
        };
        self.encoder.complete(&completion, &mut self.ready);
    }

    /// The terminal event of a broken answer, unless there was a terminal event.
    pub fn fail(&mut self, error: &Error) {
        if self.ended() {
            return;
        }
        self.begin(None, None);
        self.state = State::Ended;
        self.encoder.error(error, self.usage, &mut self.ready);
    }

    /// Takes what was encoded since the last call; `None` if nothing was.
    pub fn take_ready(&mut self) -> Option<Bytes> {
        (!self.ready.is_empty()).then(|| self.ready.split().freeze())
    }

    /// How many bytes wait to be taken.
    pub fn waiting(&self) -> usize {
        self.ready.len()
    }

    /// Whether the start was written.
    pub fn started(&self) -> bool {
        self.state != State::Waiting
    }

    /// Whether the terminal event was written.
    pub fn ended(&self) -> bool {
        self.state == State::Ended
    }

    /// The upstream's counts so far; `None` where it said nothing.
    pub fn usage(&self) -> Option<Usage> {
        self.usage
    }

    fn begin(&mut self, upstream: Option<&str>, model: Option<&str>) {
        if self.state == State::Waiting {
            self.state = State::Started;
            let answering = Answering { upstream, model };
            self.encoder.start(&answering, &mut self.ready);
        }
    }
}
