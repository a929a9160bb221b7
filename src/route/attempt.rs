//! One try of one target, until its first content.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::time::Instant;

use super::commit::HeldAnswer;
use super::health::TrackedAttempt;
use super::policy::AttemptResult;
use super::{AnsweringTarget, Receiver, RoutedAnswer, Target};
use crate::metrics::Metrics;
use crate::model::{Error, ErrorCode, ReasoningSigner, Request};
use crate::upstream::{Answer, Trace, Upstream, run_long_work};

/// How long a target rests that is rate limited and does not say for how long.
const DEFAULT_REST: Duration = Duration::from_secs(1);

/// A request to one target whose answer has not begun. Dropping it closes the connection.
pub(super) struct Attempt<'a> {
    pub(super) target: &'a Target,
    stage: Stage,
    held: HeldAnswer,
    verbatim: bool,
    /// The client's fields that were changed in the request.
    changes: Vec<String>,
    /// In place of the upstream's own signer.
    signer: Option<ReasoningSigner>,
    /// When the first content must have come.
    pub(super) deadline: Instant,
    deadlines: AttemptDeadlines,
    trace: Trace,
    health: Option<TrackedAttempt>,
}

/// When the first content must have come.
#[derive(Debug, Clone, Copy)]
pub(super) struct AttemptDeadlines {
    /// Counted from the attempt's beginning.
    pub(super) first_token: Duration,
    /// The end of the request's `timeouts.total`.
    pub(super) end: Option<Instant>,
}

impl AttemptDeadlines {
    fn first(&self, begun: Instant) -> Instant {
        let first_token = begun + self.first_token;
        self.end.map_or(first_token, |end| end.min(first_token))
    }
}

enum Stage {
    /// Waits for the answer's head.
    Opening(Pin<Box<dyn Future<Output = Result<Answer, Error>> + Send>>),
    Reading(Box<Answer>),
    Done,
}

impl<'a> Attempt<'a> {
    /// Encodes the request. It is sent with the first poll.
    ///
    /// # Errors
    /// If the upstream's protocol cannot express the request.
    pub(super) fn begin(
        target: &'a Target,
        request: &Request,
        accepts_untagged: bool,
        deadlines: AttemptDeadlines,
        trace: &Trace,
    ) -> Result<Self, Error> {
        let upstream = &target.upstream;
        let mut prepared = run_long_work(request.approximate_bytes(), || {
            upstream.prepare(request, &target.model, target.settings)
        })?;
        let changes = std::mem::take(&mut prepared.changes);
        let verbatim = prepared.verbatim;
        let trace = trace.begin_attempt(&upstream.name, upstream.provider, &target.model);
        let begun = Instant::now();
        let opening = {
            let (upstream, trace) = (Arc::clone(upstream), trace.clone());
            async move { Upstream::open(&upstream, prepared, &trace).await }
        };
        Ok(Self {
            stage: Stage::Opening(Box::pin(opening)),
            held: HeldAnswer::new(upstream.frame_cap, trace.clone()),
            verbatim,
            changes,
            signer: accepts_untagged.then(ReasoningSigner::without_tag),
            deadline: deadlines.first(begun),
            deadlines,
            trace,
            health: Some(target.begin_attempt(begun)),
            target,
        })
    }

    /// Reads what the target has sent. Ready with its answer once `receiver` has the first content. With
    /// `may_begin`, a client that waits for it gets what comes before the content.
    pub(super) fn poll(
        &mut self,
        context: &mut Context<'_>,
        receiver: &mut dyn Receiver,
        may_begin: bool,
    ) -> Poll<Result<RoutedAnswer, Error>> {
        let polled = self.poll_answer(context, receiver, may_begin);
        Poll::Ready(match ready!(polled) {
            Ok(answer) => Ok(self.succeed(answer)),
            Err(error) => Err(self.fail(error)),
        })
    }

    /// Fails an attempt whose deadline has passed.
    pub(super) fn time_out(&mut self) -> Error {
        let error = match self.deadlines.end {
            Some(end) if end <= self.deadline => total_timeout(),
            _ => first_token_timeout(self.deadlines.first_token),
        };
        self.fail(error)
    }

    /// Gives up an attempt because another target was faster.
    pub(super) fn give_up(mut self, metrics: &Metrics) {
        self.trace.end_attempt("hedged");
        metrics.record_attempt(&self.target.upstream.name, "hedged");
        if let Some(mut health) = self.health.take() {
            health.end(AttemptResult::Outrun, "", now());
        }
    }

    fn poll_answer(
        &mut self,
        context: &mut Context<'_>,
        receiver: &mut dyn Receiver,
        may_begin: bool,
    ) -> Poll<Result<Box<Answer>, Error>> {
        if let Stage::Opening(opening) = &mut self.stage {
            let mut answer = ready!(opening.as_mut().poll(context))?;
            self.held.set_rate_limits(answer.take_rate_limits());
            self.stage = Stage::Reading(Box::new(answer));
        }
        let Stage::Reading(answer) = &mut self.stage else {
            return Poll::Pending;
        };
        let upstream = &*self.target.upstream;
        let target = AnsweringTarget {
            upstream: &upstream.name,
            model: &self.target.model,
            signer: self.signer.as_ref().unwrap_or(&upstream.signer),
            verbatim: self.verbatim,
            changes: &self.changes,
        };
        let mut sink = self.held.sink(target, receiver);
        loop {
            if may_begin {
                sink.begin_if_awaited();
            }
            if sink.is_committed() {
                break;
            }
            // An error comes with the read after the last events, so here nothing has begun.
            if ready!(answer.poll_read(context, &mut sink)).map_err(empty_answer_error)? {
                break;
            }
        }
        match std::mem::replace(&mut self.stage, Stage::Done) {
            Stage::Reading(answer) => Poll::Ready(Ok(answer)),
            Stage::Opening(_) | Stage::Done => Poll::Pending,
        }
    }

    fn succeed(&mut self, answer: Box<Answer>) -> RoutedAnswer {
        if let (true, Some(health)) = (self.held.has_content(), &mut self.health) {
            health.record_first_content(now());
        }
        RoutedAnswer {
            answer,
            attempt: self.health.take(),
        }
    }

    fn fail(&mut self, error: Error) -> Error {
        self.stage = Stage::Done;
        if let Some(mut health) = self.health.take() {
            health.record_end(Some(&error));
        }
        self.trace.end_attempt(&error.attempt_outcome());
        error
    }
}

impl TrackedAttempt {
    /// The answer ended: with an error, or complete.
    pub fn record_end(&mut self, error: Option<&Error>) {
        match error {
            None => self.succeed(now()),
            Some(error) => self.end(attempt_result(error), error.code().as_str(), now()),
        }
    }
}

/// The error of a target that did not begin its answer in time.
pub fn first_token_timeout(limit: Duration) -> Error {
    Error::new(
        ErrorCode::UpstreamTimeout,
        format!("the upstream sent no token within {limit:?} (timeouts.first_token)"),
    )
    .with_no_answer()
}

/// The error of a request for which no target began its answer within `timeouts.total`.
pub fn total_timeout() -> Error {
    Error::new(
        ErrorCode::UpstreamTimeout,
        "no upstream sent a token within `timeouts.total`",
    )
    .with_no_answer()
}

/// What an error says about the target's health.
fn attempt_result(error: &Error) -> AttemptResult {
    let status = error.upstream_status();
    match error.code() {
        ErrorCode::UpstreamRateLimited => {
            AttemptResult::Rest(error.retry_after().unwrap_or(DEFAULT_REST))
        }
        // It was refused with a status that blames the request.
        _ if status.is_some_and(|status| status.is_client_error()) => AttemptResult::Neutral,
        ErrorCode::UpstreamUnavailable
        | ErrorCode::UpstreamTimeout
        | ErrorCode::UpstreamError
        | ErrorCode::BadUpstreamData
        | ErrorCode::StreamInterrupted
        | ErrorCode::StreamStalled => AttemptResult::Failure,
        _ => AttemptResult::Neutral,
    }
}

pub(super) fn now() -> std::time::Instant {
    Instant::now().into_std()
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
