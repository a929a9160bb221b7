//! The settings and the policy of one model, which all of its requests share.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::Route;
use super::policy::{
    Availability, BreakerSettings, Candidate, HedgeAfter, Plan, Policy, RetrySettings, Step,
    Strategy,
};

/// How a model's targets are chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ModelSettings {
    pub strategy: Strategy,
    pub retry: RetrySettings,
    /// `None` for a breaker that never opens.
    pub breaker: Option<BreakerSettings>,
    pub hedge: Option<HedgeAfter>,
}

/// One model's policy.
#[derive(Debug)]
pub struct RoutedModel {
    settings: ModelSettings,
    policy: Mutex<Policy>,
}

impl RoutedModel {
    /// For a model with `targets` targets.
    pub fn new(settings: ModelSettings, targets: usize, seed: u64) -> Self {
        let policy = Policy::new(settings.strategy, settings.retry, targets, seed);
        Self {
            settings,
            policy: Mutex::new(policy),
        }
    }

    pub fn settings(&self) -> ModelSettings {
        self.settings
    }

    fn policy(&self) -> MutexGuard<'_, Policy> {
        self.policy.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Route {
    /// The plan of a request that comes in now.
    pub(super) fn begin_plan(&self, now: Instant) -> Plan {
        let mut policy = self.policy.policy();
        if !self.is_continuation {
            policy.begin_request();
        }
        let order = match self.targets.len() {
            1 => Vec::new(),
            _ => policy.order(&self.candidates(now), self.session, now),
        };
        Plan::new(self.targets.len(), order)
    }

    pub(super) fn next_step(&self, plan: &mut Plan, now: Instant) -> Step {
        plan.next(&mut self.policy.policy(), |place| {
            self.availability(place, now)
        })
    }

    /// The place of the target that is asked beside a silent one.
    pub(super) fn next_hedge(&self, plan: &mut Plan, now: Instant) -> Option<usize> {
        plan.hedge(&mut self.policy.policy(), |place| {
            self.availability(place, now)
        })
    }

    /// After which silence of the target another one is asked too.
    pub(super) fn hedge_after(&self, place: usize) -> Option<Duration> {
        // A second continuation of the same text would only be billed.
        if self.is_continuation || self.targets.len() < 2 {
            return None;
        }
        match self.policy.settings.hedge? {
            HedgeAfter::Fixed(after) => Some(after),
            HedgeAfter::P95 => self.targets[place]
                .health
                .look(super::policy::Health::first_token_p95),
        }
    }

    fn availability(&self, place: usize, now: Instant) -> Availability {
        self.targets[place].availability(now)
    }

    fn candidates(&self, now: Instant) -> Vec<Candidate> {
        let targets = self.targets.iter();
        let candidates = targets.map(|target| {
            target.health.look(|health| Candidate {
                index: target.index,
                priority: target.priority,
                weight: target.weight,
                id: target.id,
                availability: target.ignore_breaker(health.availability(now)),
                first_token: health.first_token(),
                open_attempts: health.open_attempts(),
                last_asked: health.last_asked(),
            })
        });
        candidates.collect()
    }
}
