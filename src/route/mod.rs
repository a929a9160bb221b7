//! Routes a request for a model to the target that answers.
//!
//! | file | does |
//! |---|---|
//! | `policy` | decides which target is asked when; pure |
//! | `health` | the health of every target of the process, and the reports of its changes |
//! | `model` | the settings and the policy of one model |
//! | `attempt` | one try of one target, until its first content |
//! | `commit` | holds back what a target sends before its first content |
//! | `failover` | tries targets until one answers; asks a second one if the first is silent |
//! | `pass` | the same for requests that are passed on as they are |

mod attempt;
mod commit;
mod failover;
mod health;
mod model;
mod pass;
pub mod policy;

use std::sync::Arc;
use std::time::Duration;

use http::HeaderMap;
use tokio::time::Instant;

use crate::metrics::Metrics;
use crate::model::{Error, ReasoningSigner, Request, Sink};
use crate::upstream::{Answer, Trace, Upstream};
use crate::wire::TargetSettings;

use policy::Availability;

pub use attempt::{first_token_timeout, total_timeout};
pub use commit::{CommitSink, HeldAnswer};
pub use health::{HealthTable, TargetHealth, TrackedAttempt, stable_hash};
pub use model::{ModelSettings, RoutedModel};

/// The targets for one request.
#[derive(Debug, Clone)]
pub struct Route {
    /// The model's name in the config.
    pub model: String,
    /// Sorted by priority; at least one.
    pub targets: Vec<Target>,
    pub timeouts: Timeouts,
    /// The model's policy, which all of its requests share.
    pub policy: Arc<RoutedModel>,
    /// A hash of the session that the request belongs to.
    pub session: Option<u64>,
    /// Whether it continues an answer of which the client has a part.
    pub is_continuation: bool,
}

/// An answer that has begun, and the attempt that it is the answer to.
pub struct RoutedAnswer {
    pub answer: Box<Answer>,
    /// Takes the end of the answer, for the target's health.
    pub attempt: Option<TrackedAttempt>,
}

impl RoutedAnswer {
    /// The answer ended: with an error, or complete.
    pub fn record_end(&mut self, error: Option<&Error>) {
        if let Some(attempt) = &mut self.attempt {
            attempt.record_end(error);
        }
    }
}

impl Route {
    /// Whether there is more than one target.
    pub fn has_choice(&self) -> bool {
        self.targets.len() > 1
    }

    /// The targets that are asked for something without which the gateway can answer too, such as a count:
    /// those that rest come last, and those whose breaker is open are not asked.
    pub fn available_targets(&self, now: Instant) -> impl Iterator<Item = &Target> {
        let now = now.into_std();
        let with = move |wanted| {
            let targets = self.targets.iter();
            targets.filter(move |target| target.availability(now) == wanted)
        };
        with(Availability::Available).chain(with(Availability::Resting))
    }

    /// Whether a target exists whose answer to `request` would be passed on verbatim.
    pub fn may_be_verbatim(&self, request: &Request) -> bool {
        let mut targets = self.targets.iter();
        targets.any(|target| target.upstream.passes_frames(request))
    }

    /// The route that continues an answer whose upstream, `broken`, failed. Only targets that can
    /// continue an answer are in it, and `broken` comes last. `None` if there is none.
    pub fn continuation(&self, broken: Option<&str>) -> Option<Self> {
        let able = self.targets.iter().filter(|target| {
            target
                .upstream
                .wire
                .supports_prefill(&target.upstream.vendor)
        });
        let (last, first): (Vec<_>, Vec<_>) = able
            .cloned()
            .partition(|target| Some(target.upstream.name.as_str()) == broken);
        let mut targets = [first, last].concat();
        for (priority, target) in (0..).zip(&mut targets) {
            target.priority = priority;
        }
        (!targets.is_empty()).then(|| Self {
            targets,
            is_continuation: true,
            ..self.clone()
        })
    }
}

/// A model at an upstream.
#[derive(Debug, Clone)]
pub struct Target {
    pub upstream: Arc<Upstream>,
    pub model: String,
    pub settings: TargetSettings,
    /// Its place in the model's list of targets.
    pub index: usize,
    pub priority: u32,
    pub weight: u32,
    /// The same for the same target of the config on every replica.
    pub id: u64,
    pub health: Arc<TargetHealth>,
    /// Where the model gets a health of its own once it has answered; `health` is that of its pattern.
    pub unlearned: Option<Arc<HealthTable>>,
    pub breaker: Option<policy::BreakerSettings>,
}

impl Target {
    /// Counts and logs that the target gave no answer. `trace` is that of the attempt.
    pub fn report_failure(&self, error: &Error, trace: &Trace, metrics: &Metrics) {
        let code = error.code().as_str();
        metrics.record_upstream_error(&self.upstream.name, code);
        metrics.record_attempt(&self.upstream.name, code);
        trace.end_attempt(&error.attempt_outcome());
        tracing::warn!(
            request_id = trace.request_id(),
            upstream = self.upstream.name,
            model = self.model,
            code = error.code().as_str(),
            reason = error.explanation(),
            "target failed"
        );
    }

    fn availability(&self, now: std::time::Instant) -> Availability {
        self.ignore_breaker(self.health.availability(now))
    }

    /// For a model without a breaker, an open one of other models does not count.
    fn ignore_breaker(&self, availability: Availability) -> Availability {
        match (self.breaker, availability) {
            (None, Availability::Open) => Availability::Available,
            _ => availability,
        }
    }

    fn begin_attempt(&self, now: Instant) -> TrackedAttempt {
        let attempt = self.health.begin_attempt(self.breaker, now.into_std());
        match &self.unlearned {
            Some(table) => attempt.learning(table, &self.model),
            None => attempt,
        }
    }
}

/// The deadlines after connecting; `connect` belongs to the upstream.
#[derive(Debug, Clone, Copy)]
pub struct Timeouts {
    /// From sending a request to its first content, for each target.
    pub first_token: Duration,
    /// Between two bytes of an answer that has begun.
    pub idle: Duration,
    /// From the request's arrival to the answer's end.
    pub total: Option<Duration>,
}

/// Takes the events of the target that answers.
pub trait Receiver: Sink + Send {
    /// Announces the target that answers. Its first content follows, and no other target will be
    /// tried.
    fn begin_answer(&mut self, target: &AnsweringTarget<'_>);

    /// Takes the headers in which the target that answers states its rate limits. Comes before
    /// [`Receiver::begin_answer`].
    fn rate_limits(&mut self, _headers: HeaderMap) {}

    /// Whether the client has its response already, with heartbeats only. A target whose answer is
    /// passed on verbatim then begins its answer with what it has sent, before its first content.
    fn awaits_beginning(&self) -> bool {
        false
    }
}

/// The target that answers.
#[derive(Debug, Clone, Copy)]
pub struct AnsweringTarget<'a> {
    /// The upstream's name in the config.
    pub upstream: &'a str,
    /// The upstream's name of the model.
    pub model: &'a str,
    pub signer: &'a ReasoningSigner,
    /// Whether the answer comes as frames of the client's own protocol, beside its events.
    pub verbatim: bool,
    /// The client's fields that were changed or left out in the request to this target.
    pub changes: &'a [String],
}
