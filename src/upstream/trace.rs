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

    /// A target is asked. See [`Observation::begin_attempt`].
    #[must_use]
    pub fn begin_attempt(&self, upstream: &str, provider: &'static str, model: &str) -> Self {
        let observation = self.observation.as_ref();
        let context =
            observation.map(|observation| observation.begin_attempt(upstream, provider, model));
        Self {
            context: context.unwrap_or_default(),
            ..self.clone()
        }
    }

    /// The target was not asked after all.
    pub fn discard_attempt(&self) {
        if let Some(observation) = &self.observation {
            observation.discard_attempt();
        }
    }

    /// The target that was asked last answers (`ok`) or failed.
    pub fn end_attempt(&self, outcome: &str) {
        if let Some(observation) = &self.observation {
            observation.end_attempt(outcome);
        }
    }
}
