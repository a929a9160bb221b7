//! Events to the client's bytes, and to what must be settled.

use bytes::Bytes;

use super::answer_encoder::Transcript;
use super::record::Receipt;
use crate::dialect::Encoder;
use crate::model::{Error, ErrorCode, Event, FinishReason, ReasoningSigner, Sink};
use crate::route::Receiver;

/// The client's end of a stream: encodes events and settles the stream with the terminal one.
pub struct Outlet {
    transcript: Transcript,
    receipt: Receipt,
    /// Rare, so that it takes no room of its own.
    failure: Option<Box<Error>>,
    /// How many bytes of content may still come.
    room: usize,
    /// What another target would go on with, where one may.
    so_far: Option<SoFar>,
}

/// An answer's text, for as long as it is nothing but text.
#[derive(Default)]
struct SoFar {
    text: String,
    continued: u32,
    /// White space that the client has and the target that goes on was not told of: it may say it
    /// again.
    unsaid: String,
}

/// How often an answer may be gone on with.
const CONTINUATIONS: u32 = 3;
/// How long a text may be that is kept to be gone on with, in bytes.
const LONGEST: usize = 1 << 20;

impl Outlet {
    pub fn new(encoder: Box<dyn Encoder>, receipt: Receipt) -> Self {
        Self {
            transcript: Transcript::new(receipt.stream(), encoder),
            receipt,
            failure: None,
            room: usize::MAX,
            so_far: None,
        }
    }

    /// Keeps what has been said, so that another target can go on with it.
    pub fn keep_text(&mut self) {
        self.so_far = Some(SoFar::default());
    }

    /// Goes on behind what another replica has said: this text, and nothing that matters beside it.
    /// Others had gone on with it so many times.
    pub fn take_over(&mut self, text: String, continued: u32) {
        self.transcript.take_over(continued);
        self.so_far = Some(SoFar {
            text,
            continued,
            ..SoFar::default()
        });
    }

    /// The text that another target is to go on with; `None` where none can: nothing was said, or
    /// more than text, or too much, or it broke off too often.
    pub fn go_on(&mut self) -> Option<String> {
        let so_far = self.so_far.as_mut()?;
        // Vendors refuse a beginning that ends in white space.
        let said = so_far.text.trim_end();
        if said.is_empty() || so_far.continued >= CONTINUATIONS {
            return None;
        }
        so_far.continued += 1;
        so_far.unsaid = so_far.text[said.len()..].to_owned();
        Some(said.to_owned())
    }

    /// The name of the upstream that answers.
    pub fn upstream(&self) -> Option<&str> {
        self.receipt.upstream()
    }

    /// Ends the answer with an error once it has more than `bytes` of content.
    pub fn bound(&mut self, bytes: usize) {
        self.room = bytes;
    }

    /// Why the answer ended without its finish.
    pub fn failure(&self) -> Option<&Error> {
        self.failure.as_deref()
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
        self.failure = Some(Box::new(error.clone()));
        self.receipt.failed(error.code());
        self.transcript.fail(error);
    }

    /// The terminal event of a stream that somebody who may do so has cancelled.
    pub fn cancel(&mut self) {
        if !self.ended() {
            self.complete(FinishReason::Cancelled);
        }
    }

    /// Settles a stream that ends unsaid.
    pub fn give_up(&mut self, why: &Error) {
        if !self.ended() {
            self.receipt.failed(why.code());
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
        let event = match (&mut self.so_far, event) {
            (Some(so_far), Event::Text(text)) => match so_far.said(text) {
                "" => return,
                text => Event::Text(text),
            },
            (_, event) => event,
        };
        let too_long = |so_far: &SoFar| so_far.text.len() > LONGEST;
        if says_more_than_text(&event) || self.so_far.as_ref().is_some_and(too_long) {
            self.so_far = None;
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

impl SoFar {
    /// What is new in a text that comes next.
    fn said<'a>(&mut self, text: &'a str) -> &'a str {
        let mut new = text;
        while let Some(unsaid) = self.unsaid.chars().next() {
            match new.strip_prefix(unsaid) {
                Some(rest) => {
                    new = rest;
                    self.unsaid.remove(0);
                }
                None if new.is_empty() => break,
                None => self.unsaid.clear(),
            }
        }
        self.text.push_str(new);
        new
    }
}

/// Whether an answer with this event in it cannot be gone on with from its text.
fn says_more_than_text(event: &Event<'_>) -> bool {
    match event {
        Event::ToolCall(_) | Event::Refusal(_) | Event::Alternative { .. } => true,
        Event::Identity { .. }
        | Event::Logprobs(_)
        | Event::Text(_)
        | Event::Reasoning(_)
        | Event::Signature(_)
        | Event::EncryptedReasoning(_)
        | Event::Citation(_)
        | Event::Usage(_)
        | Event::Finish(_) => false,
    }
}

impl Receiver for Outlet {
    fn answering(&mut self, upstream: &str, model: &str, signer: &ReasoningSigner) {
        if self.committed() {
            self.transcript.goes_on();
        }
        self.receipt.answering(upstream);
        self.transcript.start(upstream, model, signer);
    }
}
