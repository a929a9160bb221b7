//! Routes a request for a model to the target that answers: targets are tried in order until one
//! emits its first content.

mod failover;
mod pass;

use std::sync::Arc;
use std::time::Duration;

use http::HeaderMap;

use crate::metrics::Metrics;
use crate::model::{Error, ReasoningSigner, Request, Sink};
use crate::upstream::{Trace, Upstream};
use crate::wire::TargetSettings;

pub use failover::{CommitSink, allows_failover, combine_errors, first_token_timeout};

/// The targets for one model.
#[derive(Debug)]
pub struct Route {
    /// The model's name in the config.
    pub model: String,
    /// In the order in which they are tried; at least one.
    pub targets: Vec<Target>,
    pub timeouts: Timeouts,
}

impl Route {
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
        let targets = [first, last].concat();
        (!targets.is_empty()).then(|| Self {
            model: self.model.clone(),
            targets,
            timeouts: self.timeouts,
        })
    }
}

/// A model at an upstream.
#[derive(Debug, Clone)]
pub struct Target {
    pub upstream: Arc<Upstream>,
    pub model: String,
    pub settings: TargetSettings,
}

impl Target {
    /// Counts and logs that the target gave no answer.
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
