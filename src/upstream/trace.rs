//! What a request to an upstream has of the client's request beside its content.

use std::time::Instant;

use crate::telemetry::{Observation, TraceContext};

/// Names the client's request in logs and at the upstream, and records the attempts.
#[derive(Debug, Clone, Default)]
pub struct Trace {
    /// When the client's whole request was read.
    pub arrived: Option<Instant>,
    /// The trace headers of the upstream's request.
    pub context: TraceContext,
    /// `None` for requests that no client sent.
    pub observation: Option<Observation>,
    /// The attempt that this is the trace of.
    attempt: Option<usize>,
}

impl Trace {
    /// Of a client's request.
    pub fn of(observation: &Observation) -> Self {
        Self {
            observation: Some(observation.clone()),
            ..Self::default()
        }
    }

    /// The id of the client's request, for the log.
    pub fn request_id(&self) -> Option<&str> {
        let observation = self.observation.as_ref();
        observation.map(|observation| observation.request().as_str())
    }

    /// A target is asked: the trace of that attempt. See [`Observation::begin_attempt`].
    #[must_use]
    pub fn begin_attempt(&self, upstream: &str, provider: &'static str, model: &str) -> Self {
        let observation = self.observation.as_ref();
        let begun =
            observation.map(|observation| observation.begin_attempt(upstream, provider, model));
        let (attempt, context) = begun.unzip();
        Self {
            context: context.unwrap_or_default(),
            attempt,
            ..self.clone()
        }
    }

    /// This attempt's target was not asked after all.
    pub fn discard_attempt(&self) {
        if let Some((observation, number)) = self.attempt() {
            observation.discard_attempt(number);
        }
    }

    /// This attempt has ended. See [`Observation::end_attempt`].
    pub fn end_attempt(&self, outcome: &str) {
        if let Some((observation, number)) = self.attempt() {
            observation.end_attempt(number, outcome);
        }
    }

    /// This attempt's target answers. Others that are under way lost to it.
    pub fn win_attempt(&self) {
        self.end_attempt("ok");
        self.end_open_attempts("hedged");
    }

    /// See [`Observation::pass_over`].
    pub fn pass_over(&self, upstream: &str, model: &str, why: &'static str) {
        if let Some(observation) = &self.observation {
            observation.pass_over(upstream, model, why);
        }
    }

    /// See [`Observation::end_open_attempts`].
    pub fn end_open_attempts(&self, outcome: &str) {
        if let Some(observation) = &self.observation {
            observation.end_open_attempts(outcome);
        }
    }

    fn attempt(&self) -> Option<(&Observation, usize)> {
        self.observation.as_ref().zip(self.attempt)
    }
}
