//! Encodes one answer for its client: one start, then events, then exactly one terminal event.

use std::sync::Arc;
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};

use crate::dialect::{AnswerSource, Completion, Encoder, OpeningHeartbeat, VerbatimEncoder};
use crate::model::{Error, Event, FinishReason, ReasoningSigner, StreamId, ToolCallDelta, Usage};
use crate::route::AnsweringTarget;

/// How much memory is allocated for events at once, in bytes. A token takes an eighth of it.
const BUFFER_BYTES: usize = 768;
/// With less free memory than this, in bytes, the next event would probably reallocate.
const MIN_FREE_BYTES: usize = 256;

/// Encodes one answer. It has no clock and no I/O; encoded bytes stay here until they are taken.
///
/// Invariant: it writes exactly one terminal event, and nothing after it.
pub struct AnswerEncoder {
    encoder: Box<dyn Encoder>,
    /// Writes the answer in place of `encoder` if it is passed on verbatim.
    verbatim: Option<Box<dyn VerbatimEncoder>>,
    /// The upstream's whole answer, if it came as one document.
    document: Option<String>,
    /// Whether the upstream's own error was written, which ends the answer.
    error_written: bool,
    /// The prefix of ids for calls to which the upstream gave none.
    call_id_prefix: String,
    /// Tags each signature, once the target is known that made it.
    signer: Option<ReasoningSigner>,
    ready: BytesMut,
    usage: Option<Usage>,
    continued: u32,
    state: State,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// No target has answered yet.
    Waiting,
    Started,
    /// The terminal event was written.
    Ended,
}

impl AnswerEncoder {
    pub fn new(stream: StreamId, encoder: Box<dyn Encoder>) -> Self {
        // Ids of calls are sent to upstreams. The whole stream id would let them read the stream.
        let hint = stream.hint();
        Self {
            encoder,
            verbatim: None,
            document: None,
            error_written: false,
            call_id_prefix: hint.replacen("st_", "call_", 1),
            signer: None,
            ready: BytesMut::new(),
            usage: None,
            continued: 0,
            state: State::Waiting,
        }
    }

    /// This target answers. Only the first one is written into the start event.
    pub fn start(&mut self, target: &AnsweringTarget<'_>) {
        self.signer = Some(target.signer.clone());
        if target.verbatim && self.state == State::Waiting {
            self.verbatim = self.encoder.verbatim();
        }
        // A document is passed on to clients that want one. For others its events are encoded.
        if self.document.is_some() {
            self.verbatim.take_if(|encoder| !encoder.collects());
        }
        if self.verbatim.is_none() {
            self.document = None;
        }
        self.begin(Some(target.upstream), Some(target.model));
    }

    /// Takes the whole answer, if it comes as one document. Comes before [`AnswerEncoder::start`].
    pub fn set_document(&mut self, document: &str) {
        self.document = Some(document.to_owned());
    }

    /// Whether the answer is written from frames; its events only count.
    pub fn is_verbatim(&self) -> bool {
        self.verbatim.is_some()
    }

    /// Whether the encoder keeps the whole answer and writes it with the terminal event.
    pub fn collects(&self) -> bool {
        let verbatim = self.verbatim.as_ref();
        verbatim.is_none_or(|encoder| encoder.collects())
    }

    /// Writes a message of the upstream, if the answer is verbatim and has not ended.
    #[inline]
    pub fn frame(&mut self, name: &str, data: &str) {
        if let (Some(encoder), false) = (&mut self.verbatim, self.state == State::Ended) {
            reserve(&mut self.ready, name.len() + data.len());
            encoder.frame(name, data, &mut self.ready);
        }
    }

    /// As [`AnswerEncoder::frame`], for a message with the upstream's error.
    pub fn error_frame(&mut self, name: &str, data: &str) {
        if let (Some(encoder), false) = (&mut self.verbatim, self.state == State::Ended) {
            self.error_written = encoder.error_frame(name, data, &mut self.ready);
        }
    }

    /// Continues an answer whose start is written already and that was continued `continued` times.
    pub fn take_over(&mut self, continued: u32) {
        self.state = State::Started;
        self.continued = continued;
    }

    /// Takes the tries of targets, for protocols that name them in the terminal event.
    pub fn set_attempts(&mut self, attempts: Vec<String>) {
        if !attempts.is_empty() {
            self.encoder.set_attempts(attempts);
        }
    }

    /// Encodes the next event, unless the terminal event was written. [`AnswerEncoder::complete`] takes
    /// the finish.
    pub fn event(&mut self, event: &Event<'_>) {
        if self.is_ended() {
            return;
        }
        self.begin(None, None);
        if let Event::Usage(usage) = event {
            self.usage.get_or_insert_default().update(*usage);
        }
        if self.verbatim.is_none() {
            self.encode(event);
        }
    }

    /// Writes the terminal event of a whole answer, unless there was a terminal event. Both times count
    /// from the request's arrival: to the first content, and to the end.
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
        match (&mut self.verbatim, self.document.take()) {
            (None, _) => self.encoder.complete(&completion, &mut self.ready),
            (Some(_), Some(document)) => self.ready.put_slice(document.as_bytes()),
            (Some(encoder), None) => encoder.complete(&mut self.ready),
        }
    }

    /// Another target continues the answer.
    pub fn count_continuation(&mut self) {
        self.continued += 1;
    }

    /// Writes the terminal event of a broken answer, unless there was a terminal event.
    pub fn fail(&mut self, error: &Error) {
        if self.is_ended() {
            return;
        }
        self.begin(None, None);
        self.state = State::Ended;
        match &mut self.verbatim {
            None => self.encoder.error(error, self.usage, &mut self.ready),
            Some(_) if self.error_written => {}
            Some(encoder) => encoder.error(error, &mut self.ready),
        }
    }

    /// Takes what was encoded since the last call; `None` if that is nothing.
    pub fn take_ready(&mut self) -> Option<Bytes> {
        (!self.ready.is_empty()).then(|| self.ready.split().freeze())
    }

    /// An event that shows that the answer is still being made. `None` if the protocol has none, and while
    /// the answer has not begun.
    pub fn heartbeat(&self) -> Option<Bytes> {
        if self.state != State::Started || !self.ready.is_empty() {
            return None;
        }
        let mut event = BytesMut::new();
        match &self.verbatim {
            None => self.encoder.heartbeat(&mut event),
            Some(encoder) => encoder.heartbeat(&mut event),
        }
        (!event.is_empty()).then(|| event.freeze())
    }

    /// Writes the heartbeats before the answer's first event, if the protocol has events for that.
    pub fn opening_heartbeat(&self) -> Option<Arc<dyn OpeningHeartbeat>> {
        self.encoder.opening_heartbeat()
    }

    /// How many encoded bytes have not been taken.
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

    /// The upstream's counts so far; `None` if it sent none.
    pub fn usage(&self) -> Option<Usage> {
        self.usage
    }

    /// A client sends ids and signatures back with its next turn, and they must be recognised then. So a
    /// call's id is unique in the conversation, and a signature names its origin.
    fn encode(&mut self, event: &Event<'_>) {
        reserve(&mut self.ready, 0);
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
            Event::Signature(signature) => {
                changed = self.tagged(signature);
                &Event::Signature(&changed)
            }
            Event::EncryptedReasoning(signature) => {
                changed = self.tagged(signature);
                &Event::EncryptedReasoning(&changed)
            }
            Event::NativeMembers { place, json } => {
                changed = self.tagged_members(json);
                let json = &changed;
                &Event::NativeMembers { place, json }
            }
            Event::Alternative {
                index,
                event: &Event::NativeMembers { place, json },
            } => {
                changed = self.tagged_members(json);
                let json = &changed;
                let event = &Event::NativeMembers { place, json };
                return self
                    .encoder
                    .event(&Event::Alternative { index, event }, &mut self.ready);
            }
            _ => event,
        };
        self.encoder.event(event, &mut self.ready);
    }

    fn tagged(&self, signature: &str) -> String {
        let tag = self
            .signer
            .as_ref()
            .map_or("", |signer| signer.origin_tag());
        format!("{tag}{signature}")
    }

    fn tagged_members(&self, json: &str) -> String {
        match &self.signer {
            Some(signer) => signer.tag_members(json).into_owned(),
            None => json.to_owned(),
        }
    }

    fn begin(&mut self, upstream: Option<&str>, model: Option<&str>) {
        if self.state == State::Waiting {
            self.state = State::Started;
            let source = AnswerSource { upstream, model };
            if self.verbatim.is_none() {
                self.encoder.start(&source, &mut self.ready);
            }
        }
    }
}

/// Makes room for an event of `bytes` bytes. Reuses the memory of bytes that were handed over and
/// have been sent.
#[inline]
fn reserve(ready: &mut BytesMut, bytes: usize) {
    let needed = bytes + MIN_FREE_BYTES;
    if ready.capacity() - ready.len() < needed {
        ready.reserve(needed.max(BUFFER_BYTES));
    }
}

/// Whether this is the first piece of a call to which the upstream gave no id.
fn lacks_id(call: &ToolCallDelta<'_>) -> bool {
    call.name.is_some() && call.id.is_none_or(str::is_empty)
}
