//! The metrics of routing: attempts, and what the policies decided.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use super::Metrics;
use super::labels::{AttemptLabels, ModelLabels, TargetLabels};

#[derive(Default)]
pub(super) struct RoutingMetrics {
    attempts: Family<AttemptLabels, Counter>,
    failovers: Family<ModelLabels, Counter>,
    retries: Family<ModelLabels, Counter>,
    hedges: Family<HedgeLabels, Counter>,
    hedged_input_tokens: Family<ModelLabels, Counter>,
    affinity: Family<AffinityLabels, Counter>,
    breaker_state: Family<TargetLabels, Gauge>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct HedgeLabels {
    model: String,
    winner: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct AffinityLabels {
    model: String,
    affinity: &'static str,
}

/// Which of two targets answered first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HedgeWinner {
    First,
    Second,
}

/// Whether a request went to the target of its session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Affinity {
    Hit,
    /// To another one, because that target was not available or failed.
    Moved,
    /// The request belongs to no session.
    None,
}

impl RoutingMetrics {
    pub(super) fn register(&self, registry: &mut Registry) {
        registry.register(
            "attempts",
            "Requests to upstreams by outcome: ok, hedged (another target was faster) or an error code",
            self.attempts.clone(),
        );
        registry.register(
            "failovers",
            "Requests that went on to another target after one failed",
            self.failovers.clone(),
        );
        registry.register(
            "retries",
            "Requests that were sent to a target again after every target failed",
            self.retries.clone(),
        );
        registry.register(
            "hedges",
            "Requests that a second target got because the first was silent, by the one that answered",
            self.hedges.clone(),
        );
        registry.register(
            "hedged_input_tokens",
            "Estimated input tokens of the attempts that lost to a faster one",
            self.hedged_input_tokens.clone(),
        );
        registry.register(
            "affinity_requests",
            "Answered requests of models with several targets, by whether the target of their session answered",
            self.affinity.clone(),
        );
        registry.register(
            "breaker_state",
            "State of a target's breaker: 0 closed, 1 half open, 2 open",
            self.breaker_state.clone(),
        );
    }
}

impl Metrics {
    /// A request to an upstream has ended: `ok`, `hedged`, or the code of its failure.
    pub fn record_attempt(&self, upstream: &str, outcome: &'static str) {
        let upstream = upstream.to_owned();
        let labels = AttemptLabels { upstream, outcome };
        self.routing.attempts.get_or_create(&labels).inc();
    }

    /// Another target of `model` is tried after one failed.
    pub fn record_failover(&self, model: &str) {
        self.routing.failovers.get_or_create(&labels(model)).inc();
    }

    /// A target of `model` is tried again.
    pub fn record_retry(&self, model: &str) {
        self.routing.retries.get_or_create(&labels(model)).inc();
    }

    /// Two targets of `model` were asked at once, and one answered.
    pub fn record_hedge(&self, model: &str, winner: HedgeWinner) {
        let winner = match winner {
            HedgeWinner::First => "first",
            HedgeWinner::Second => "second",
        };
        let model = model.to_owned();
        let labels = HedgeLabels { model, winner };
        self.routing.hedges.get_or_create(&labels).inc();
    }

    /// An attempt with a prompt of about so many tokens lost to a faster one.
    pub fn record_hedged_input(&self, model: &str, tokens: u64) {
        let lost = &self.routing.hedged_input_tokens;
        lost.get_or_create(&labels(model)).inc_by(tokens);
    }

    pub fn record_affinity(&self, model: &str, affinity: Affinity) {
        let affinity = match affinity {
            Affinity::Hit => "hit",
            Affinity::Moved => "moved",
            Affinity::None => "none",
        };
        let model = model.to_owned();
        let labels = AffinityLabels { model, affinity };
        self.routing.affinity.get_or_create(&labels).inc();
    }

    /// Sets the state of the breaker of an upstream's model.
    pub fn set_breaker(&self, upstream: &str, model: &str, state: i64) {
        let breaker = &self.routing.breaker_state;
        breaker.get_or_create(&target(upstream, model)).set(state);
    }

    /// No configuration has this upstream's model any more.
    pub fn remove_breaker(&self, upstream: &str, model: &str) {
        self.routing.breaker_state.remove(&target(upstream, model));
    }
}

fn labels(model: &str) -> ModelLabels {
    ModelLabels {
        model: model.to_owned(),
    }
}

fn target(upstream: &str, model: &str) -> TargetLabels {
    TargetLabels {
        model: model.to_owned(),
        upstream: upstream.to_owned(),
    }
}
