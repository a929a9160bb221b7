//! Events to the client's bytes, with exactly one terminal event.

use bytes::{Bytes, BytesMut};

use super::receipt::Receipt;
use crate::dialect::{Answering, Completion, Encoder};
use crate::model::{Error, ErrorCode, Event, Sink};
use crate::route::Receiver;

/// The client's end of a stream: encodes events and settles the stream with the terminal one.
pub struct Outlet {
    encoder: Box<dyn Encoder>,
    ready: BytesMut,
    receipt: Receipt,
    state: State,
    failure: Option<Error>,
    /// How many bytes of content may still come.
    room: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Nobody answers yet.
    Waiting,
    Answering,
    /// The terminal event was written.
    Ended,
}

impl Outlet {
    pub fn new(encoder: Box<dyn Encoder>, receipt: Receipt) -> Self {
        Self {
            encoder,
            ready: BytesMut::new(),
            receipt,
            state: State::Waiting,
            failure: None,
            room: usize::MAX,
        }
    }

    /// Ends the answer with an error once it has more than `bytes` of content.
    pub fn bound(&mut self, bytes: usize) {
        self.room = bytes;
    }

    /// Why the answer ended without its finish.
    pub fn failure(&self) -> Option<&Error> {
        self.failure.as_ref()
    }

    /// Takes what was encoded since the last call; `None` if nothing was.
    pub fn take_ready(&mut self) -> Option<Bytes> {
        (!self.ready.is_empty()).then(|| self.ready.split().freeze())
    }

    /// How many bytes wait to be taken.
    pub fn waiting(&self) -> usize {
        self.ready.len()
    }

    /// Whether the client was told who answers.
    pub fn committed(&self) -> bool {
        self.state != State::Waiting
    }

    /// Whether the terminal event was written.
    pub fn ended(&self) -> bool {
        self.state == State::Ended
    }

    /// The terminal event of a broken stream. Nothing happens if there was a terminal event.
    pub fn fail(&mut self, error: &Error) {
        if self.ended() {
            return;
        }
        if self.state == State::Waiting {
            let nobody = Answering {
                upstream: None,
                model: None,
            };
            self.encoder.start(&nobody, &mut self.ready);
        }
        self.state = State::Ended;
        self.failure = Some(error.clone());
        self.receipt.failed(error.code());
        self.encoder
            .error(error, self.receipt.usage(), &mut self.ready);
    }

    /// Settles a stream whose client gets the error as a plain HTTP answer instead.
    pub fn refuse(mut self, error: &Error) {
        self.receipt.failed(error.code());
    }

    /// Counts lines whose invalid UTF-8 was replaced.
    pub fn repaired(&self, lines: u64) {
        self.receipt.repaired(lines);
    }
}

impl Sink for Outlet {
    fn event(&mut self, event: Event<'_>) {
        if self.ended() {
            return;
        }
        match self.room.checked_sub(event.size()) {
            Some(room) => self.room = room,
            None => {
                return self.fail(&Error::new(
                    ErrorCode::BadUpstreamData,
                    "the answer is too large to be given whole",
                ));
            }
        }
        if let Event::Usage(usage) = event {
            self.receipt.used(usage);
        }
        let Event::Finish(finish) = event else {
            self.encoder.event(&event, &mut self.ready);
            return;
        };
        self.state = State::Ended;
        self.receipt.completed(finish);
        let total_ms = self.receipt.elapsed().as_millis() as u64;
        let first_token = self.receipt.first_token();
        let completion = Completion {
            finish,
            usage: self.receipt.usage(),
            first_token_ms: first_token.map_or(total_ms, |first| first.as_millis() as u64),
            total_ms,
        };
        self.encoder.complete(&completion, &mut self.ready);
    }
}

impl Receiver for Outlet {
    fn answering(&mut self, upstream: &str, model: &str) {
        self.state = State::Answering;
        self.receipt.answering(upstream);
        let answering = Answering {
            upstream: Some(upstream),
            model: Some(model),
        };
        self.encoder.start(&answering, &mut self.ready);
    }
}
