//! Settles a stream once, however it ends: complete, error, or abandoned by its client.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::task::task_tracker::TaskTrackerToken;

use crate::limit::Permit;
use crate::metrics::{Metrics, StreamEnd};
use crate::model::{Error, ErrorCode, FinishReason, Origin, StreamId, Usage};
use crate::telemetry::{MAX_CONTENT, Observation, StreamFacts, truncate};

/// The length of a token in bytes, where nothing better is known.
const BYTES_PER_TOKEN: u64 = 4;

/// What a stream's log line and metrics name.
#[derive(Debug)]
pub struct StreamLabels {
    pub stream: StreamId,
    pub observation: Observation,
    pub dialect: &'static str,
    /// The model's name in the configuration.
    pub model: String,
    /// The name of the caller's key.
    pub key: String,
}

/// What one stream did and used. Dropping it settles the stream.
///
/// Invariant: a stream is settled exactly once, here.
pub struct StreamRecord {
    labels: StreamLabels,
    metrics: Arc<Metrics>,
    arrived: Instant,
    first_content: Option<Instant>,
    upstream: Option<String>,
    usage: Option<Usage>,
    outcome: Outcome,
    /// How many bytes of content the upstream sent.
    content_bytes: u64,
    /// In how many events it came.
    content_events: u64,
    /// How many bytes of the answer were written for the client.
    written_bytes: u64,
    /// The beginning of the answer's text, if traces have contents.
    text: Option<String>,
    /// Released last, when everything else is settled.
    guards: StreamGuards,
}

/// What a stream has sent so far.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Progress {
    /// The upstream that answers; `None` before the first content.
    pub upstream: Option<String>,
    /// The tokens of the output, as far as they are known.
    pub tokens: u64,
}

/// The output of a stream that has ended, until it is known how much of it clients received.
pub(super) struct EndedOutput {
    metrics: Arc<Metrics>,
    model: String,
    tokens: u64,
}

impl EndedOutput {
    /// Counts the tokens that no client received, where that is this share of the output.
    pub(super) fn record_unread(&self, share: f64) {
        let tokens = (self.tokens as f64 * share).round() as u64;
        if tokens > 0 {
            self.metrics.record_unread_tokens(&self.model, tokens);
        }
    }
}

/// What a stream holds while it is open.
#[derive(Debug)]
pub struct StreamGuards {
    pub permit: Permit,
    /// Counts the stream as open, so that a drain waits for it.
    pub open: TaskTrackerToken,
}

#[derive(Debug, Clone, Copy)]
enum Outcome {
    /// No terminal event was written, so the client left.
    Abandoned,
    Complete(FinishReason),
    Failed(ErrorCode),
}

impl StreamRecord {
    pub fn new(labels: StreamLabels, guards: StreamGuards, metrics: Arc<Metrics>) -> Self {
        let text = labels.observation.wants_content().then(String::new);
        metrics.record_stream_opened();
        Self {
            labels,
            metrics,
            arrived: Instant::now(),
            first_content: None,
            upstream: None,
            usage: None,
            outcome: Outcome::Abandoned,
            content_bytes: 0,
            content_events: 0,
            written_bytes: 0,
            text,
            guards,
        }
    }

    pub(super) fn stream(&self) -> StreamId {
        self.labels.stream
    }

    /// The name of the upstream that answers.
    pub(super) fn upstream(&self) -> Option<&str> {
        self.upstream.as_deref()
    }

    pub(super) fn set_upstream(&mut self, upstream: &str) {
        self.upstream = Some(upstream.to_owned());
    }

    /// The upstream's counts so far.
    pub(super) fn set_usage(&mut self, usage: Option<Usage>) {
        self.usage = usage;
    }

    /// How much content the upstream sent, in bytes.
    pub(super) fn content_bytes(&self) -> usize {
        usize::try_from(self.content_bytes).unwrap_or(usize::MAX)
    }

    /// Counts content that the upstream sent.
    pub(super) fn add_content_bytes(&mut self, bytes: usize) {
        if bytes > 0 && self.first_content.is_none() {
            self.record_first_content();
        }
        self.content_bytes += bytes as u64;
        self.content_events += 1;
    }

    #[cold]
    fn record_first_content(&mut self) {
        let now = Instant::now();
        self.first_content = Some(now);
        if let Some(upstream) = &self.upstream {
            let (model, taken) = (&self.labels.model, now - self.arrived);
            self.metrics.record_first_token(model, upstream, taken);
        }
    }

    /// The tokens of the output so far: the upstream's count, or an estimate. Most upstreams send an
    /// event for each token, and some send longer ones.
    pub(super) fn output_tokens(&self) -> u64 {
        let estimate = self
            .content_events
            .max(self.content_bytes / BYTES_PER_TOKEN);
        self.usage
            .and_then(|usage| usage.output)
            .unwrap_or(estimate)
    }

    pub(super) fn ended_output(&self) -> Box<EndedOutput> {
        Box::new(EndedOutput {
            metrics: Arc::clone(&self.metrics),
            model: self.labels.model.clone(),
            tokens: self.output_tokens(),
        })
    }

    pub(super) fn progress(&self) -> Progress {
        Progress {
            upstream: self.upstream.clone(),
            tokens: self.output_tokens(),
        }
    }

    pub(super) fn labels(&self) -> &StreamLabels {
        &self.labels
    }

    /// Takes a piece of the answer's text, for a trace with contents.
    #[inline]
    pub(super) fn add_text(&mut self, piece: &str) {
        if let Some(text) = &mut self.text {
            let mut budget = MAX_CONTENT - text.len();
            text.push_str(truncate(piece, &mut budget));
        }
    }

    /// Counts bytes that were written for the client.
    pub(super) fn add_written_bytes(&mut self, bytes: usize) {
        self.written_bytes += bytes as u64;
    }

    pub(super) fn set_completed(&mut self, finish: FinishReason) {
        self.outcome = Outcome::Complete(finish);
    }

    /// Failures of targets before their first content were logged where the next target was chosen.
    pub(super) fn set_failed(&mut self, error: &Error) {
        let code = error.code();
        if let Some(upstream) = &self.upstream
            && code.origin() == Origin::Upstream
        {
            self.metrics.record_broken_answer(upstream, code.as_str());
            tracing::warn!(
                request_id = self.labels.observation.request().as_str(),
                upstream,
                model = self.labels.model,
                code = code.as_str(),
                reason = error.explanation(),
                "answer broke off"
            );
        }
        self.outcome = Outcome::Failed(code);
    }

    pub(super) fn record_repaired_lines(&self, lines: u64) {
        self.metrics.record_repaired_lines(lines);
    }

    pub(super) fn record_skipped_frames(&self, frames: u64) {
        if let (Some(upstream), 1..) = (self.upstream(), frames) {
            self.metrics.record_skipped_frames(upstream, frames);
        }
    }

    pub(super) fn record_image(&self) {
        self.metrics.record_image(self.labels.dialect);
    }

    /// From the request's arrival to its first content.
    pub(super) fn first_token(&self) -> Option<Duration> {
        self.first_content.map(|first| first - self.arrived)
    }

    /// From the request's arrival to now.
    pub(super) fn elapsed(&self) -> Duration {
        self.arrived.elapsed()
    }
}

impl Drop for StreamRecord {
    fn drop(&mut self) {
        let outcome = match self.outcome {
            Outcome::Abandoned | Outcome::Complete(FinishReason::Cancelled) => "cancelled",
            Outcome::Complete(_) => "complete",
            Outcome::Failed(code) => code.as_str(),
        };
        let finish = match self.outcome {
            Outcome::Complete(finish) => Some(finish.as_str()),
            Outcome::Abandoned | Outcome::Failed(_) => None,
        };
        // A failure before the first content costs no tokens. A client that left then had been served.
        let failed = matches!(self.outcome, Outcome::Failed(_));
        if self.first_content.is_some() || self.usage.is_some() || !failed {
            self.guards.permit.settle(self.usage, self.content_bytes);
        }
        let duration = self.elapsed();
        self.metrics.record_stream_end(&StreamEnd {
            dialect: self.labels.dialect,
            model: &self.labels.model,
            key: &self.labels.key,
            upstream: self.upstream(),
            outcome,
            first_token: self.first_token(),
            duration,
            usage: self.usage,
            output_tokens: self.output_tokens(),
        });
        self.labels.observation.set_stream(StreamFacts {
            stream: self.labels.stream.hint(),
            outcome,
            finish,
            usage: self.usage,
            first_token: self.first_token(),
            text: self.text.take(),
            bytes: self.written_bytes,
        });
    }
}
