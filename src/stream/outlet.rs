//! Events to the client's bytes, and to what must be settled.

use bytes::Bytes;

use super::receipt::Receipt;
use super::transcript::Transcript;
use crate::dialect::Encoder;
use crate::model::{Error, ErrorCode, Event, FinishReason, Sealer, Sink};
use crate::route::Receiver;

/// The client's end of a stream: encodes events and settles the stream with the terminal one.
pub struct Outlet {
    transcript: Transcript,
    receipt: Receipt,
    failure: Option<Error>,
    /// How many bytes of content may still come.
    room: usize,
}

impl Outlet {
    pub fn new(encoder: Box<dyn Encoder>, receipt: Receipt) -> Self {
        Self {
            transcript: Transcript::new(receipt.stream(), encoder),
            receipt,
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
        self.transcript.take_ready()
    }

    /// How many bytes wait to be taken.
    pub fn waiting(&self) -> usize {
        self.transcript.waiting()
    }

    /// Whether the client was told who answers.
    pub fn committed(&self) -> bool {
        self.transcript.started()
    }

    /// Whether the terminal event was written.
    pub fn ended(&self) -> bool {
        self.transcript.ended()
    }

    /// The terminal event of a broken stream. Nothing happens if there was a terminal event.
    pub fn fail(&mut self, error: &Error) {
        if self.ended() {
            return;
        }
        self.failure = Some(error.clone());
        self.receipt.failed(error.code());
        self.transcript.fail(error);
    }

    /// The terminal event of a stream that somebody who may do so has cancelled.
    pub fn cancel(&mut self) {
        if !self.ended() {
            self.complete(FinishReason::Cancelled);
        }
    }

    /// Settles a stream whose client gets the error as a plain HTTP answer instead.
    pub fn refuse(mut self, error: &Error) {
        self.receipt.failed(error.code());
    }

    /// Counts lines whose invalid UTF-8 was replaced.
    pub fn repaired(&self, lines: u64) {
        self.receipt.repaired(lines);
    }

    fn complete(&mut self, finish: FinishReason) {
        self.receipt.completed(finish);
        let total = self.receipt.elapsed();
        let first_token = self.receipt.first_token().unwrap_or(total);
        self.transcript.complete(finish, first_token, total);
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
                    "the answer is too large to be kept",
                ));
            }
        }
        let Event::Finish(finish) = event else {
            if !matches!(event, Event::Logprobs(_)) {
                self.receipt.produced(event.size());
            }
            self.transcript.event(&event);
            if let Event::Usage(_) = event {
                self.receipt.used(self.transcript.usage());
            }
            return;
        };
        self.complete(finish);
    }
}

impl Receiver for Outlet {
    fn answering(&mut self, upstream: &str, model: &str, sealer: &Sealer) {
        self.receipt.answering(upstream);
        self.transcript.start(upstream, model, sealer);
    }
}
