//! Collects what happens to one request, and writes it when the request has ended.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use http::{HeaderMap, StatusCode};

use super::context::TraceContext;
use super::export::Tracing;
use super::facts::StreamFacts;
use super::spans::{RequestFacts, RequestSpans};
use crate::model::{Error, ErrorCode, Origin, RequestId};

/// One request, as the access log shows it. The handler of the request and the answer's stream have a
/// clone each; dropping the last one writes the line.
///
/// Invariant: every request has exactly one line, whether it is answered or refused.
#[derive(Debug, Clone)]
pub struct Observation(Arc<Observed>);

#[derive(Debug)]
struct Observed {
    request: RequestId,
    dialect: &'static str,
    started: Instant,
    context: TraceContext,
    facts: Mutex<Facts>,
    /// Only where traces are written.
    spans: Option<Mutex<RequestSpans>>,
}

#[derive(Debug, Default)]
struct Facts {
    /// The name of the caller's key.
    key: Option<String>,
    /// The model's name in the config.
    model: Option<String>,
    attempts: Vec<Attempt>,
    /// Whether a target has answered.
    is_answered: bool,
    status: Option<u16>,
    /// Why the request was refused.
    refusal: Option<ErrorCode>,
    /// The refusal's message, unless it may quote the request.
    message: Option<String>,
    stream: Option<StreamFacts>,
}

/// One try of one target.
#[derive(Debug)]
struct Attempt {
    upstream: String,
    /// The upstream's name of the model.
    model: String,
    /// The upstream's status where it answered with one, otherwise the code of the error, or `ok`,
    /// `hedged`, `open` or `resting`. `None` while it is not known.
    outcome: Option<String>,
}

impl Observation {
    /// Begins with the request's arrival. With `tracing`, the request has spans.
    pub fn new(
        request: RequestId,
        dialect: &'static str,
        headers: &HeaderMap,
        tracing: Option<&Arc<Tracing>>,
    ) -> Self {
        let spans = tracing.map(|tracing| RequestSpans::begin(tracing, dialect, headers));
        Self(Arc::new(Observed {
            request,
            dialect,
            started: Instant::now(),
            context: TraceContext::from_headers(headers),
            facts: Mutex::default(),
            spans: spans.map(Mutex::new),
        }))
    }

    pub fn request(&self) -> &RequestId {
        &self.0.request
    }

    pub fn set_caller(&self, key: &str) {
        self.facts().key = Some(key.to_owned());
    }

    pub fn set_model(&self, model: &str) {
        self.facts().model = Some(model.to_owned());
    }

    /// The status that the client gets.
    pub fn set_status(&self, status: StatusCode) {
        self.facts().status = Some(status.as_u16());
    }

    pub fn set_refused(&self, error: &Error) {
        let mut facts = self.facts();
        let code = error.code();
        facts.refusal = Some(code);
        // The answer broke off before the client got any of it.
        if code.origin() == Origin::Upstream {
            facts.break_attempt(&error.attempt_outcome());
        }
        // A message about the client's request may quote it, and prompts must not be logged.
        facts.message = (code.origin() != Origin::Client).then(|| error.message().to_owned());
    }

    /// Whether prompts and answers are to be recorded.
    pub fn wants_content(&self) -> bool {
        self.0.spans().is_some_and(|spans| spans.wants_content())
    }

    /// The messages of the request, in the form of [`input_messages`](super::input_messages).
    pub fn set_input(&self, messages: String) {
        if let Some(mut spans) = self.0.spans() {
            spans.set_input(messages);
        }
    }

    /// A target is asked. Returns the attempt's number, and the trace headers that its request has.
    ///
    /// `provider` is the vendor's name in OpenTelemetry's convention.
    pub fn begin_attempt(
        &self,
        upstream: &str,
        provider: &'static str,
        model: &str,
    ) -> (usize, TraceContext) {
        let number = self.facts().push_attempt(upstream, model, None);
        let context = match self.0.spans() {
            Some(mut spans) => spans.begin_attempt(number, upstream, provider, model),
            None => self.0.context.clone(),
        };
        (number, context)
    }

    /// A target is not asked, although its turn came: `open` or `resting`.
    pub fn pass_over(&self, upstream: &str, model: &str, why: &'static str) {
        self.facts().push_attempt(upstream, model, Some(why));
    }

    /// The attempt's target answers (`ok`), lost to a faster one (`hedged`) or failed. Only the first
    /// outcome counts.
    pub fn end_attempt(&self, number: usize, outcome: &str) {
        let mut facts = self.facts();
        if let Some(attempt) = facts.attempts.get_mut(number)
            && attempt.outcome.is_none()
        {
            attempt.outcome = Some(outcome.to_owned());
            facts.is_answered |= outcome == "ok";
            if let (true, Some(mut spans)) = (outcome != "ok", self.0.spans()) {
                spans.end_attempt(number, outcome);
            }
        }
    }

    /// The attempts that have no outcome yet are given up.
    pub fn end_open_attempts(&self, outcome: &str) {
        let attempts = self.facts().attempts.len();
        for number in 0..attempts {
            self.end_attempt(number, outcome);
        }
    }

    /// The answer of the target that answered broke off.
    pub fn break_attempt(&self, outcome: &str) {
        self.facts().break_attempt(outcome);
    }

    /// The attempt's target was not asked after all.
    pub fn discard_attempt(&self, number: usize) {
        let mut facts = self.facts();
        if number + 1 == facts.attempts.len() {
            facts.attempts.pop_if(|attempt| attempt.outcome.is_none());
            if let Some(mut spans) = self.0.spans() {
                spans.discard_attempt(number);
            }
        }
    }

    /// All tries in their order, such as `a/model=429,b/other=ok`. `None` if no target was asked, or
    /// others may still be: the request is not refused and no target has answered.
    pub fn attempts(&self) -> Option<String> {
        let facts = self.facts();
        let is_known = facts.is_answered || facts.refusal.is_some();
        facts.attempts().filter(|_| is_known)
    }

    /// The tries in their order, if there was more than one.
    pub fn several_attempts(&self) -> Vec<String> {
        let facts = self.facts();
        let attempts = facts.attempts.iter().filter(|_| facts.attempts.len() > 1);
        attempts.map(Attempt::to_string).collect()
    }

    pub fn set_stream(&self, stream: StreamFacts) {
        self.facts().stream = Some(stream);
    }

    fn facts(&self) -> MutexGuard<'_, Facts> {
        self.0.facts()
    }
}

impl Facts {
    fn push_attempt(&mut self, upstream: &str, model: &str, outcome: Option<&str>) -> usize {
        self.attempts.push(Attempt {
            upstream: upstream.to_owned(),
            model: model.to_owned(),
            outcome: outcome.map(str::to_owned),
        });
        self.attempts.len() - 1
    }

    fn break_attempt(&mut self, outcome: &str) {
        if let Some(attempt) = self
            .attempts
            .iter_mut()
            .rfind(|attempt| attempt.is_answering())
        {
            attempt.outcome = Some(outcome.to_owned());
        }
    }

    fn attempts(&self) -> Option<String> {
        let attempts = self.attempts.iter().map(Attempt::to_string);
        let list = attempts.collect::<Vec<_>>().join(",");
        (!list.is_empty()).then_some(list)
    }

    /// The attempt that answered; without one, the last.
    fn answering(&self) -> Option<&Attempt> {
        let answered = |attempt: &&Attempt| attempt.is_answering();
        let asked = |attempt: &&Attempt| {
            let outcome = attempt.outcome.as_deref();
            !matches!(outcome, Some("open" | "resting" | "hedged"))
        };
        let attempts = || self.attempts.iter();
        attempts()
            .rfind(answered)
            .or_else(|| attempts().rfind(asked))
    }

    /// The word for how the request ended.
    fn outcome(&self) -> &'static str {
        match (self.refusal, &self.stream) {
            (Some(code), _) => code.as_str(),
            (None, Some(stream)) => stream.outcome,
            (None, None) if self.status.is_none() => "cancelled",
            (None, None) => "complete",
        }
    }
}

impl Attempt {
    fn is_answering(&self) -> bool {
        self.outcome.as_deref() == Some("ok")
    }
}

impl fmt::Display for Attempt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let outcome = self.outcome.as_deref().unwrap_or("cancelled");
        write!(f, "{}/{}={outcome}", self.upstream, self.model)
    }
}

impl Observed {
    fn facts(&self) -> MutexGuard<'_, Facts> {
        self.facts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn spans(&self) -> Option<MutexGuard<'_, RequestSpans>> {
        let spans = self.spans.as_ref()?;
        Some(spans.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Drop for Observed {
    fn drop(&mut self) {
        let facts = self.facts();
        let trace_id = self.spans().map(|spans| spans.trace_id());
        let trace_id = trace_id.as_deref().or(self.context.trace_id());
        let stream = facts.stream.as_ref();
        let usage = stream.and_then(|stream| stream.usage).unwrap_or_default();
        let (answering, attempts) = (facts.answering(), facts.attempts());
        tracing::info!(
            request_id = self.request.as_str(),
            trace_id,
            stream = stream.map(|stream| stream.stream.as_str()),
            key = facts.key,
            dialect = self.dialect,
            model = facts.model,
            upstream = answering.map(|attempt| attempt.upstream.as_str()),
            upstream_model = answering.map(|attempt| attempt.model.as_str()),
            outcome = facts.outcome(),
            status = facts.status,
            reason = facts.message,
            finish_reason = stream.and_then(|stream| stream.finish),
            attempts,
            input_tokens = usage.input,
            output_tokens = usage.output,
            cached_input_tokens = usage.cached_input,
            reasoning_tokens = usage.reasoning,
            first_token_ms = stream
                .and_then(|stream| stream.first_token)
                .map(|first| first.as_millis() as u64),
            duration_ms = self.started.elapsed().as_millis() as u64,
            bytes = stream.map(|stream| stream.bytes),
            "request ended"
        );
        if let Some(mut spans) = self.spans() {
            spans.end(&RequestFacts {
                request: self.request.as_str(),
                key: facts.key.as_deref(),
                model: facts.model.as_deref(),
                attempts,
                outcome: facts.outcome(),
                status: facts.status,
                stream,
            });
        }
    }
}
