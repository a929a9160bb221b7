//! Holds back what a target sends before its first content.

use http::HeaderMap;

use super::{AnsweringTarget, Receiver};
use crate::model::{Event, Sink, Usage};
use crate::upstream::Trace;

/// What a target sent before its first content. It is held back, so that a target that fails before it
/// leaves no trace.
pub struct HeldAnswer {
    /// The attempt whose answer this is.
    trace: Trace,
    rate_limits: HeaderMap,
    committed: bool,
    has_content: bool,
    identity: Option<[String; 3]>,
    usage: Option<Usage>,
    /// Names and data.
    frames: Vec<(String, String)>,
    /// How many more bytes of frames may be held back.
    frames_left: usize,
    document: Option<String>,
}

/// The memory that a held frame takes beside its bytes.
const FRAME_OVERHEAD: usize = 128;

/// Passes a target's events on from its first content.
pub struct CommitSink<'a> {
    target: AnsweringTarget<'a>,
    held: &'a mut HeldAnswer,
    receiver: &'a mut dyn Receiver,
}

impl HeldAnswer {
    /// Frames beyond `max_frames` bytes are not held back: they begin the answer.
    pub fn new(max_frames: usize, trace: Trace) -> Self {
        Self {
            trace,
            has_content: false,
            rate_limits: HeaderMap::new(),
            committed: false,
            identity: None,
            usage: None,
            frames: Vec::new(),
            frames_left: max_frames,
            document: None,
        }
    }

    /// Whether the answer has content.
    pub fn has_content(&self) -> bool {
        self.has_content
    }

    /// The headers in which the target states its rate limits.
    pub fn set_rate_limits(&mut self, headers: HeaderMap) {
        self.rate_limits = headers;
    }

    /// The sink of the target's events.
    pub fn sink<'a>(
        &'a mut self,
        target: AnsweringTarget<'a>,
        receiver: &'a mut dyn Receiver,
    ) -> CommitSink<'a> {
        CommitSink {
            target,
            held: self,
            receiver,
        }
    }
}

impl CommitSink<'_> {
    /// Begins the answer before its first content, if the client waits for what is held back.
    pub fn begin_if_awaited(&mut self) {
        let held = &self.held;
        if !held.committed && !held.frames.is_empty() && self.receiver.awaits_beginning() {
            self.commit();
        }
    }

    /// Whether the answer has begun, so that no other target can answer.
    pub fn is_committed(&self) -> bool {
        self.held.committed
    }

    fn commit(&mut self) {
        let held = &mut *self.held;
        held.committed = true;
        // The answer may end with these events, and its end names the attempts.
        held.trace.win_attempt();
        let rate_limits = std::mem::take(&mut held.rate_limits);
        self.receiver.rate_limits(rate_limits);
        if let Some(document) = held.document.take() {
            self.receiver.whole_document(&document);
        }
        self.receiver.begin_answer(&self.target);
        for (name, data) in std::mem::take(&mut held.frames) {
            self.receiver.frame(&name, &data);
        }
        if let Some([id, model, fingerprint]) = &held.identity {
            self.receiver.event(Event::Identity {
                id,
                model,
                fingerprint,
            });
        }
        if let Some(usage) = held.usage {
            self.receiver.event(Event::Usage(usage));
        }
    }
}

impl Sink for CommitSink<'_> {
    fn event(&mut self, event: Event<'_>) {
        if !self.held.committed {
            match event {
                Event::Identity {
                    id,
                    model,
                    fingerprint,
                } => {
                    self.held.identity = Some([id, model, fingerprint].map(str::to_owned));
                    return;
                }
                Event::Usage(usage) => {
                    self.held.usage = Some(usage);
                    return;
                }
                _ => {
                    self.held.has_content = true;
                    self.commit();
                }
            }
        }
        self.receiver.event(event);
    }

    fn frame(&mut self, name: &str, data: &str) {
        if self.held.committed {
            return self.receiver.frame(name, data);
        }
        let size = name.len() + data.len() + FRAME_OVERHEAD;
        self.held.frames.push((name.to_owned(), data.to_owned()));
        match self.held.frames_left.checked_sub(size) {
            Some(left) => self.held.frames_left = left,
            None => self.commit(),
        }
    }

    fn error_frame(&mut self, name: &str, data: &str) {
        // Before the first content another target is tried.
        if self.held.committed {
            self.receiver.error_frame(name, data);
        }
    }

    fn whole_document(&mut self, document: &str) {
        if self.target.verbatim && !self.held.committed {
            self.held.document = Some(document.to_owned());
        }
    }
}
