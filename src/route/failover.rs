//! Tries one target after another until the first content commits the answer to one.

use std::future::poll_fn;
use std::task::Poll;
use std::time::Duration;

use http::{HeaderMap, StatusCode};
use tokio::time::{Instant, timeout_at};

use super::{AnsweringTarget, Receiver, Route, Target};
use crate::metrics::Metrics;
use crate::model::{Error, ErrorCode, Event, ReasoningSigner, Request, Sink, Usage};
use crate::upstream::{Answer, PreparedRequest, Trace, Upstream, run_long_work};

impl Route {
    /// Tries the targets in order and returns the answer whose first content `receiver` got. That
    /// answer may already be finished.
    ///
    /// A request is never sent twice to the same target.
    ///
    /// # Errors
    /// If `receiver` already got content, the error that ended that answer. Otherwise the last
    /// target's error; if every target was rate limited, that, with the longest wait that one asked
    /// for.
    pub async fn open(
        &self,
        request: &Request,
        trace: &Trace,
        receiver: &mut dyn Receiver,
        metrics: &Metrics,
    ) -> Result<Answer, Error> {
        let mut failure = None;
        for target in &self.targets {
            if failure.is_some() {
                metrics.record_failover(&self.model);
            }
            if let (None, Some(arrived)) = (&failure, trace.arrived) {
                metrics.record_overhead(arrived.elapsed());
            }
            let error = match self.try_target(target, request, trace, receiver).await {
                Ok(answer) => {
                    trace.end_attempt("ok");
                    metrics.record_attempt(&target.upstream.name, "ok");
                    return Ok(answer);
                }
                Err(Failure::Committed(error)) => {
                    trace.end_attempt(&error.attempt_outcome());
                    return Err(error);
                }
                Err(Failure::Uncommitted(error)) => error,
            };
            target.report_failure(&error, trace, metrics);
            if !allows_failover(&error) {
                return Err(error);
            }
            failure = Some(combine_errors(failure, error));
        }
        Err(failure.unwrap_or_else(|| Error::new(ErrorCode::Internal, "the model has no target")))
    }

    async fn try_target(
        &self,
        target: &Target,
        request: &Request,
        trace: &Trace,
        receiver: &mut dyn Receiver,
    ) -> Result<Answer, Failure> {
        let upstream = &*target.upstream;
        let untagged = ReasoningSigner::without_tag();
        let prepared = run_long_work(request.approximate_bytes(), || {
            upstream.prepare(request, &target.model, target.settings)
        });
        let mut prepared = prepared.map_err(Failure::Uncommitted)?;
        let changes = std::mem::take(&mut prepared.changes);
        let answering = AnsweringTarget {
            upstream: &upstream.name,
            model: &target.model,
            signer: match self.accepts_untagged_signatures(request) {
                true => &untagged,
                false => &upstream.signer,
            },
            verbatim: prepared.verbatim,
            changes: &changes,
        };
        let mut commit = CommitSink::new(answering, upstream.frame_cap, receiver);
        let trace = trace.begin_attempt(&upstream.name, upstream.provider, &target.model);
        let answer = self.attempt(upstream, prepared, &trace, &mut commit).await;
        answer.map_err(|error| match commit.committed {
            true => Failure::Committed(error),
            false => Failure::Uncommitted(error),
        })
    }

    /// Whether every target accepts the signatures of each other one without their tags.
    fn accepts_untagged_signatures(&self, request: &Request) -> bool {
        let Some(native) = &request.native_fields else {
            return false;
        };
        let signers = self.targets.iter();
        let mut signers = signers.map(|target| target.upstream.signer_for(&target.model));
        let Some(first) = signers.next() else {
            return false;
        };
        first.accepts_untagged(native.wire)
            && signers.all(|signer| first.is_like(&signer) && signer.accepts_untagged(native.wire))
    }

    async fn attempt(
        &self,
        upstream: &Upstream,
        request: PreparedRequest,
        trace: &Trace,
        commit: &mut CommitSink<'_>,
    ) -> Result<Answer, Error> {
        let limit = self.timeouts.first_token;
        let deadline = Instant::now() + limit;
        let asked = upstream.open(request, trace);
        let mut answer = timeout_at(deadline, asked)
            .await
            .map_err(|_| first_token_timeout(limit))??;
        commit.rate_limits = answer.take_rate_limits();
        loop {
            let read = poll_fn(|context| {
                if commit.must_begin() {
                    commit.commit();
                    return Poll::Ready(Ok(false));
                }
                answer.poll_read(context, commit)
            });
            let finished = timeout_at(deadline, read)
                .await
                .map_err(|_| first_token_timeout(limit))?;
            let finished = match finished {
                Err(error) if !commit.committed => return Err(empty_answer_error(error)),
                finished => finished?,
            };
            if finished || commit.committed {
                return Ok(answer);
            }
        }
    }
}

/// Why a target gave no answer.
enum Failure {
    /// The client has a part of this target's answer.
    Committed(Error),
    Uncommitted(Error),
}

/// The error of a target that did not begin its answer in time.
pub fn first_token_timeout(limit: Duration) -> Error {
    Error::new(
        ErrorCode::UpstreamTimeout,
        format!("the upstream sent no token within {limit:?} (timeouts.first_token)"),
    )
}

/// An answer that ended before its first content was not interrupted: nothing of it had come.
fn empty_answer_error(error: Error) -> Error {
    match error.code() {
        ErrorCode::StreamInterrupted => Error::new(
            ErrorCode::UpstreamUnavailable,
            "the upstream's answer ended before its first content",
        )
        .with_source(error),
        _ => error,
    }
}

/// Whether another target may do better. A target that refuses the request itself decides for all,
/// unless it only lacks the model.
pub fn allows_failover(error: &Error) -> bool {
    match error.code() {
        ErrorCode::UpstreamRejected => error.status() == StatusCode::NOT_FOUND,
        _ => true,
    }
}

/// The error to report after two targets failed. A rate limit is reported only if every target is
/// rate limited.
pub fn combine_errors(before: Option<Error>, now: Error) -> Error {
    let limited = |error: &Error| error.code() == ErrorCode::UpstreamRateLimited;
    match before {
        Some(before) if limited(&before) && limited(&now) => {
            let longest = before.retry_after().max(now.retry_after());
            now.with_retry_after(longest)
        }
        Some(before) if limited(&now) => before,
        _ => now,
    }
}

/// Holds back the events before a target's first content, so that a target that fails before it
/// leaves no trace.
pub struct CommitSink<'a> {
    target: AnsweringTarget<'a>,
    receiver: &'a mut dyn Receiver,
    rate_limits: HeaderMap,
    committed: bool,
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

impl<'a> CommitSink<'a> {
    /// Frames beyond `max_frames` bytes are not held back: they begin the answer.
    pub fn new(
        target: AnsweringTarget<'a>,
        max_frames: usize,
        receiver: &'a mut dyn Receiver,
    ) -> Self {
        Self {
            target,
            receiver,
            rate_limits: HeaderMap::new(),
            committed: false,
            identity: None,
            usage: None,
            frames: Vec::new(),
            frames_left: max_frames,
            document: None,
        }
    }

    /// Whether the answer begins before its first content, because the client waits for what is held
    /// back.
    fn must_begin(&self) -> bool {
        !self.committed && !self.frames.is_empty() && self.receiver.awaits_beginning()
    }

    fn commit(&mut self) {
        self.committed = true;
        let rate_limits = std::mem::take(&mut self.rate_limits);
        self.receiver.rate_limits(rate_limits);
        if let Some(document) = self.document.take() {
            self.receiver.whole_document(&document);
        }
        self.receiver.begin_answer(&self.target);
        for (name, data) in std::mem::take(&mut self.frames) {
            self.receiver.frame(&name, &data);
        }
        if let Some([id, model, fingerprint]) = &self.identity {
            self.receiver.event(Event::Identity {
                id,
                model,
                fingerprint,
            });
        }
        if let Some(usage) = self.usage {
            self.receiver.event(Event::Usage(usage));
        }
    }
}

impl Sink for CommitSink<'_> {
    fn event(&mut self, event: Event<'_>) {
        if !self.committed {
            match event {
                Event::Identity {
                    id,
                    model,
                    fingerprint,
                } => {
                    self.identity = Some([id, model, fingerprint].map(str::to_owned));
                    return;
                }
                Event::Usage(usage) => {
                    self.usage = Some(usage);
                    return;
                }
                _ => self.commit(),
            }
        }
        self.receiver.event(event);
    }

    fn frame(&mut self, name: &str, data: &str) {
        if self.committed {
            return self.receiver.frame(name, data);
        }
        let size = name.len() + data.len() + FRAME_OVERHEAD;
        self.frames.push((name.to_owned(), data.to_owned()));
        match self.frames_left.checked_sub(size) {
            Some(left) => self.frames_left = left,
            None => self.commit(),
        }
    }

    fn error_frame(&mut self, name: &str, data: &str) {
        // Before the first content another target is tried.
        if self.committed {
            self.receiver.error_frame(name, data);
        }
    }

    fn whole_document(&mut self, document: &str) {
        if self.target.verbatim && !self.committed {
            self.document = Some(document.to_owned());
        }
    }
}
