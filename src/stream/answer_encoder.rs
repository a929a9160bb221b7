//! An answer as its client reads it: one start, then events, then exactly one terminal event.

use std::time::Duration;

use bytes::{Bytes, BytesMut};

use crate::dialect::{AnswerSource, Completion, Encoder};
use crate::model::{Error, Event, FinishReason, ReasoningSigner, StreamId, ToolCallDelta, Usage};

/// How much memory for events is asked for at once, in bytes. A token takes an eighth of it.
const BUFFER_BYTES: usize = 768;
/// With less room than this, in bytes, an event would probably need more on its way.
const MIN_FREE_BYTES: usize = 256;

/// Encodes one answer. Pure: no clock, no I/O; what is encoded waits here to be taken.
pub struct AnswerEncoder {
    encoder: Box<dyn Encoder>,
    /// Names the calls that the upstream gave no name.
    call_id_prefix: String,
    /// Stands before each piece of a seal, once it is known who makes them.
    mark: String,
    ready: BytesMut,
    usage: Option<Usage>,
    continued: u32,
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

impl AnswerEncoder {
    pub fn new(stream: StreamId, encoder: Box<dyn Encoder>) -> Self {
        // The whole id is the capability to read the stream, and calls' ids go to upstreams.
        let hint = stream.hint();
        Self {
            encoder,
            call_id_prefix: hint.replacen("st_", "call_", 1),
            mark: String::new(),
            ready: BytesMut::new(),
            usage: None,
            continued: 0,
            state: State::Waiting,
        }
    }

    /// This target answers. Only the first one is told.
    pub fn start(&mut self, upstream: &str, model: &str, signer: &ReasoningSigner) {
        self.mark = signer.origin_tag().to_owned();
        self.begin(Some(upstream), Some(model));
    }

    /// Goes on with an answer whose start is written, and that others have gone on with so many
    /// times.
    pub fn take_over(&mut self, continued: u32) {
        self.state = State::Started;
        self.continued = continued;
    }

    /// The next event, unless the terminal event was written. A finish is for
    /// [`AnswerEncoder::complete`].
    pub fn event(&mut self, event: &Event<'_>) {
        if self.is_ended() {
            return;
        }
        self.begin(None, None);
        if let Event::Usage(usage) = event {
            self.usage.get_or_insert_default().update(*usage);
        }
        self.encode(event);
    }

    /// The terminal event of a whole answer, unless there was a terminal event. The times are from
    /// the request's arrival to the answer's first content and to its end.
    pub fn complete(&mut self, finish: FinishReason, first_token: Duration, total: Duration) {
        if self.is_ended() {
            return;
        }
        self.begin(None, None);
        self.state = State::Ended;
        let completion = Completion {
            finish,
            usage: self.usage,
            first_token_ms: first_token.as_millis() as u64,
            total_ms: total.as_millis() as u64,
            continued: self.continued,
        };
        self.encoder.complete(&completion, &mut self.ready);
    }

    /// Another target goes on with the answer.
    pub fn count_continuation(&mut self) {
        self.continued += 1;
    }

    /// The terminal event of a broken answer, unless there was a terminal event.
    pub fn fail(&mut self, error: &Error) {
        if self.is_ended() {
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
    pub fn buffered_bytes(&self) -> usize {
        self.ready.len()
    }

    /// Whether the start was written.
    pub fn is_started(&self) -> bool {
        self.state != State::Waiting
    }

    /// Whether the terminal event was written.
    pub fn is_ended(&self) -> bool {
        self.state == State::Ended
    }

    /// The upstream's counts so far; `None` where it said nothing.
    pub fn usage(&self) -> Option<Usage> {
        self.usage
    }

    /// What a client sends back with its next turn must be known again then: a call among all of
    /// the conversation's, a seal as its maker's.
    fn encode(&mut self, event: &Event<'_>) {
        if self.ready.capacity() - self.ready.len() < MIN_FREE_BYTES {
            // Takes back what was handed over and has been written since.
            self.ready.reserve(BUFFER_BYTES);
        }
        let changed;
        let event = match *event {
            Event::ToolCall(call) if lacks_id(&call) => {
                changed = format!("{}_{}", self.call_id_prefix, call.index);
                &Event::ToolCall(ToolCallDelta {
                    id: Some(&changed),
                    ..call
                })
            }
            Event::Alternative {
                index,
                event: &Event::ToolCall(call),
            } if lacks_id(&call) => {
                changed = format!("{}_{index}_{}", self.call_id_prefix, call.index);
                let event = &Event::ToolCall(ToolCallDelta {
                    id: Some(&changed),
                    ..call
                });
                return self
                    .encoder
                    .event(&Event::Alternative { index, event }, &mut self.ready);
            }
            Event::Signature(seal) => {
                changed = format!("{}{seal}", self.mark);
                &Event::Signature(&changed)
            }
            Event::EncryptedReasoning(seal) => {
                changed = format!("{}{seal}", self.mark);
                &Event::EncryptedReasoning(&changed)
            }
            _ => event,
        };
        self.encoder.event(event, &mut self.ready);
    }

    fn begin(&mut self, upstream: Option<&str>, model: Option<&str>) {
        if self.state == State::Waiting {
            self.state = State::Started;
            let source = AnswerSource { upstream, model };
            self.encoder.start(&source, &mut self.ready);
        }
    }
}

/// The first piece of a call, which the upstream gave no id.
fn lacks_id(call: &ToolCallDelta<'_>) -> bool {
    call.name.is_some() && call.id.is_none_or(str::is_empty)
}
