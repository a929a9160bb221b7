//! The pump's output: encodes events for the client and settles the stream.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use http::HeaderMap;

use super::answer_encoder::AnswerEncoder;
use super::record::StreamRecord;
use crate::dialect::{Encoder, OpeningHeartbeat};
use crate::model::{Error, ErrorCode, Event, FinishReason, Origin, Sink};
use crate::route::{AnsweringTarget, Receiver};
use crate::telemetry::Observation;
use crate::upstream::run_long_work;

/// Takes the events of one answer: encodes them, and settles the stream with the terminal one.
pub struct ClientSink {
    answer: AnswerEncoder,
    record: StreamRecord,
    /// Boxed because it is rare.
    failure: Option<Box<Error>>,
    /// How many more bytes of content the answer may have.
    content_left: usize,
    /// The text from which another target could continue, if one may.
    text_so_far: Option<TextSoFar>,
    response_started: Arc<AtomicBool>,
    report: Arc<ResponseReport>,
}

/// What the response's head says about the answer, if the answer begins before the head is sent.
#[derive(Debug, Default)]
pub struct ResponseReport {
    changes: OnceLock<Vec<String>>,
    rate_limits: OnceLock<HeaderMap>,
}

impl ResponseReport {
    /// The client's fields that the request to the answering target has in another form or not at all.
    pub fn changes(&self) -> &[String] {
        self.changes.get().map_or(&[], Vec::as_slice)
    }

    /// The headers in which the answering target states its rate limits.
    pub fn rate_limits(&self) -> Option<&HeaderMap> {
        self.rate_limits.get()
    }
}

/// An answer's text. It exists only as long as the answer has nothing but text.
#[derive(Default)]
struct TextSoFar {
    text: String,
    continued: u32,
    /// White space at the end of the text that the client has and that was cut from the continuation's
    /// prompt. The next target may repeat it.
    cut_whitespace: String,
}

/// How often one answer may be continued.
const MAX_CONTINUATIONS: u32 = 3;
/// How long a text may be that is kept for a continuation, in bytes.
const MAX_TEXT_BYTES: usize = 1 << 20;

impl ClientSink {
    pub fn new(encoder: Box<dyn Encoder>, record: StreamRecord) -> Self {
        Self {
            answer: AnswerEncoder::new(record.stream(), encoder),
            record,
            failure: None,
            content_left: usize::MAX,
            text_so_far: None,
            response_started: Arc::default(),
            report: Arc::default(),
        }
    }

    /// For the response's head.
    pub fn report(&self) -> &Arc<ResponseReport> {
        &self.report
    }

    /// Whether the client has its 200. From then on every failure is an event of the stream.
    pub(super) fn response_started(&self) -> &Arc<AtomicBool> {
        &self.response_started
    }

    /// Keeps the answer's text, so that another target can continue it.
    pub fn keep_text(&mut self) {
        self.text_so_far = Some(TextSoFar::default());
    }

    /// Continues an answer of another replica that has this text, and was continued `continued` times.
    pub fn take_over(&mut self, text: String, continued: u32) {
        self.answer.take_over(continued);
        self.text_so_far = Some(TextSoFar {
            text,
            continued,
            ..TextSoFar::default()
        });
    }

    /// The text from which another target is to continue. `None` if none can: there is no text, the
    /// answer has more than text, the text is too long, or the answer broke off too often.
    pub fn begin_continuation(&mut self) -> Option<String> {
        let text_so_far = self.text_so_far.as_mut()?;
        // Vendors refuse a prefix that ends in white space.
        let text = text_so_far.text.trim_end();
        if text.is_empty() || text_so_far.continued >= MAX_CONTINUATIONS {
            return None;
        }
        text_so_far.continued += 1;
        text_so_far.cut_whitespace = text_so_far.text[text.len()..].to_owned();
        Some(text.to_owned())
    }

    /// What the stream's labels and counts are so far.
    pub(super) fn record(&self) -> &StreamRecord {
        &self.record
    }

    /// The observation of the stream's request.
    pub(super) fn observation(&self) -> &Observation {
        &self.record.labels().observation
    }

    /// The name of the upstream that answers.
    pub fn upstream(&self) -> Option<&str> {
        self.record.upstream()
    }

    /// The answer broke off, and another target may continue it.
    pub(super) fn record_break(&self, error: &Error) {
        self.observation().break_attempt(&error.attempt_outcome());
    }

    /// Ends the answer with an error once it has more than `bytes` of content.
    pub fn limit_content(&mut self, bytes: usize) {
        self.content_left = bytes;
    }

    /// Why the answer ended without its finish.
    pub fn failure(&self) -> Option<&Error> {
        self.failure.as_deref()
    }

    /// Takes what was encoded since the last call; `None` if that is nothing.
    pub fn take_ready(&mut self) -> Option<Bytes> {
        let ready = self.answer.take_ready()?;
        self.record.add_written_bytes(ready.len());
        Some(ready)
    }

    /// See [`AnswerEncoder::heartbeat`].
    pub fn heartbeat(&self) -> Option<Bytes> {
        self.answer.heartbeat()
    }

    /// See [`AnswerEncoder::opening_heartbeat`].
    pub fn opening_heartbeat(&self) -> Option<Arc<dyn OpeningHeartbeat>> {
        self.answer.opening_heartbeat()
    }

    /// How many encoded bytes have not been taken.
    pub fn buffered_bytes(&self) -> usize {
        self.answer.buffered_bytes()
    }

    /// Whether the start event was written.
    pub fn is_started(&self) -> bool {
        self.answer.is_started()
    }

    /// Whether the terminal event was written.
    pub fn is_ended(&self) -> bool {
        self.answer.is_ended()
    }

    /// Writes the terminal event of a broken stream, unless there was a terminal event.
    pub fn fail(&mut self, error: &Error) {
        if self.is_ended() {
            return;
        }
        self.failure = Some(Box::new(error.clone()));
        self.record.set_failed(error);
        if error.code().origin() == Origin::Upstream {
            self.record_break(error);
        }
        let attempts = self.observation().several_attempts();
        self.answer.set_attempts(attempts);
        run_long_work(self.record.content_bytes(), || self.answer.fail(error));
    }

    /// Writes the terminal event of a cancelled stream, unless there was a terminal event.
    pub fn cancel(&mut self) {
        if !self.is_ended() {
            self.complete(FinishReason::Cancelled);
        }
    }

    /// Settles a stream that ends here without a terminal event.
    pub fn record_failure(&mut self, why: &Error) {
        if !self.is_ended() {
            self.record.set_failed(why);
        }
    }

    /// Settles a stream whose client gets the error as an HTTP answer.
    pub fn refuse(mut self, error: &Error) {
        self.record.set_failed(error);
    }

    /// Counts lines whose invalid UTF-8 was replaced.
    pub fn record_repaired_lines(&self, lines: u64) {
        self.record.record_repaired_lines(lines);
    }

    /// Counts frames of the upstream that were left out.
    pub fn record_skipped_frames(&self, frames: u64) {
        self.record.record_skipped_frames(frames);
    }

    /// Counts content. Ends the answer if it has too much of it; whether it may go on.
    fn take_content(&mut self, bytes: usize) -> bool {
        let Some(left) = self.content_left.checked_sub(bytes) else {
            self.fail(&Error::new(
                ErrorCode::BadUpstreamData,
                "the answer is larger than `limits.frame` allows",
            ));
            return false;
        };
        self.content_left = left;
        true
    }

    fn complete(&mut self, finish: FinishReason) {
        self.record.set_completed(finish);
        let total = self.record.elapsed();
        let first_token = self.record.first_token().unwrap_or(total);
        let attempts = self.observation().several_attempts();
        self.answer.set_attempts(attempts);
        // Some dialects repeat the whole answer at its end.
        run_long_work(self.record.content_bytes(), || {
            self.answer.complete(finish, first_token, total);
        });
    }
}

impl Sink for ClientSink {
    fn event(&mut self, event: Event<'_>) {
        if self.is_ended() {
            return;
        }
        if !self.answer.is_verbatim() && !self.take_content(event.size()) {
            return;
        }
        let event = match (&mut self.text_so_far, event) {
            (Some(text_so_far), Event::Text(text)) => match text_so_far.append(text) {
                "" => return,
                text => Event::Text(text),
            },
            (_, event) => event,
        };
        let too_long = |text_so_far: &TextSoFar| text_so_far.text.len() > MAX_TEXT_BYTES;
        if prevents_continuation(&event) || self.text_so_far.as_ref().is_some_and(too_long) {
            self.text_so_far = None;
        }
        let Event::Finish(finish) = event else {
            if let Event::Image(_) = event {
                self.record.record_image();
            }
            if !matches!(event, Event::Logprobs(_) | Event::NativeMembers { .. }) {
                self.record.add_content_bytes(event.size());
            }
            if let Event::Text(text) = event {
                self.record.add_text(text);
            }
            self.answer.event(&event);
            if let Event::Usage(_) = event {
                self.record.set_usage(self.answer.usage());
            }
            return;
        };
        self.complete(finish);
    }

    fn frame(&mut self, name: &str, data: &str) {
        if !self.is_ended() && self.take_content(data.len()) {
            self.answer.frame(name, data);
        }
    }

    fn whole_document(&mut self, document: &str) {
        self.answer.set_document(document);
    }

    fn error_frame(&mut self, name: &str, data: &str) {
        self.answer.error_frame(name, data);
    }
}

impl TextSoFar {
    /// Appends a text and returns its new part.
    fn append<'a>(&mut self, text: &'a str) -> &'a str {
        let mut new = text;
        while let Some(cut_whitespace) = self.cut_whitespace.chars().next() {
            match new.strip_prefix(cut_whitespace) {
                Some(rest) => {
                    new = rest;
                    self.cut_whitespace.remove(0);
                }
                None if new.is_empty() => break,
                None => self.cut_whitespace.clear(),
            }
        }
        self.text.push_str(new);
        new
    }
}

/// Whether an answer with this event cannot be continued from its text.
fn prevents_continuation(event: &Event<'_>) -> bool {
    match event {
        Event::ToolCall(_) | Event::Refusal(_) | Event::Alternative { .. } => true,
        Event::Identity { .. }
        | Event::Logprobs(_)
        | Event::NativeMembers { .. }
        | Event::Image(_)
        | Event::Text(_)
        | Event::Reasoning(_)
        | Event::Signature(_)
        | Event::EncryptedReasoning(_)
        | Event::Citation(_)
        | Event::Usage(_)
        | Event::Finish(_) => false,
    }
}

impl Receiver for ClientSink {
    fn begin_answer(&mut self, target: &AnsweringTarget<'_>) {
        if self.is_started() {
            self.answer.count_continuation();
        }
        // Another target may continue the answer, long after the head was sent.
        let _ = self.report.changes.set(target.changes.to_vec());
        self.record.set_upstream(target.upstream);
        self.answer.start(target);
        if !self.answer.collects() {
            // Every frame is passed on at once.
            self.content_left = usize::MAX;
        }
    }

    fn rate_limits(&mut self, headers: HeaderMap) {
        let _ = self.report.rate_limits.set(headers);
    }

    fn awaits_beginning(&self) -> bool {
        self.response_started.load(Ordering::Relaxed)
    }
}
