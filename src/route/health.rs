//! The health of every target of the process: learns from attempts and reports what changes.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use super::policy::{
    AttemptResult, Availability, BreakerSettings, BreakerState, Health, Ticket, mix,
};
use crate::metrics::Metrics;
use crate::notify::{Notification, Notifications};

/// The health of all targets. It outlives a configuration, so that a reload forgets nothing of the targets
/// that stay.
pub struct HealthTable {
    reporter: Arc<Reporter>,
    /// By the upstream's name and its name for the model.
    targets: Mutex<HashMap<(String, String), Arc<TargetHealth>>>,
}

struct Reporter {
    metrics: Arc<Metrics>,
    notifications: Arc<Notifications>,
}

/// The health of one upstream's model. All models of the config that have it as a target share it.
pub struct TargetHealth {
    upstream: String,
    /// The upstream's name for the model, as in the config.
    model: String,
    id: u64,
    health: Mutex<Health>,
    /// Whether no current configuration has the target.
    is_retired: AtomicBool,
    reporter: Arc<Reporter>,
}

/// One attempt at a target, as its health sees it. Dropping it without an end says nothing about the
/// target.
#[derive(Debug)]
pub struct TrackedAttempt {
    health: Arc<TargetHealth>,
    ticket: Ticket,
    breaker: Option<BreakerSettings>,
    has_content: bool,
    has_ended: bool,
}

impl HealthTable {
    pub fn new(metrics: Arc<Metrics>, notifications: Arc<Notifications>) -> Self {
        let reporter = Reporter {
            metrics,
            notifications,
        };
        Self {
            reporter: Arc::new(reporter),
            targets: Mutex::default(),
        }
    }

    /// The health of a target, which is good if nothing is known of it.
    pub fn target(&self, upstream: &str, model: &str) -> Arc<TargetHealth> {
        let mut targets = self.targets();
        let key = (upstream.to_owned(), model.to_owned());
        let target = targets.entry(key).or_insert_with(|| {
            let reporter = Arc::clone(&self.reporter);
            Arc::new(TargetHealth::new(upstream, model, reporter))
        });
        Arc::clone(target)
    }

    /// Forgets the targets for which `is_used` is false.
    pub fn retain(&self, is_used: impl Fn(&str, &str) -> bool) {
        self.targets().retain(|(upstream, model), target| {
            let is_used = is_used(upstream, model);
            if !is_used {
                target.is_retired.store(true, Ordering::Relaxed);
                self.reporter.metrics.remove_breaker(upstream, model);
            }
            is_used
        });
    }

    fn targets(&self) -> MutexGuard<'_, HashMap<(String, String), Arc<TargetHealth>>> {
        self.targets.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl TargetHealth {
    fn new(upstream: &str, model: &str, reporter: Arc<Reporter>) -> Self {
        reporter
            .metrics
            .set_breaker(upstream, model, BreakerState::Closed as i64);
        Self {
            upstream: upstream.to_owned(),
            model: model.to_owned(),
            id: stable_hash([upstream, model]),
            health: Mutex::default(),
            is_retired: AtomicBool::new(false),
            reporter,
        }
    }

    /// The same for the same target on every replica.
    pub fn id(&self) -> u64 {
        self.id
    }

    pub fn availability(&self, now: Instant) -> Availability {
        self.health().availability(now)
    }

    /// Reads several facts at one moment.
    pub fn look<T>(&self, look: impl FnOnce(&Health) -> T) -> T {
        look(&self.health())
    }

    /// The target is asked. `breaker` is that of the model whose request it is.
    pub fn begin_attempt(
        self: &Arc<Self>,
        breaker: Option<BreakerSettings>,
        now: Instant,
    ) -> TrackedAttempt {
        let ticket = self.change("", |health| health.begin(now));
        TrackedAttempt {
            health: Arc::clone(self),
            ticket,
            breaker,
            has_content: false,
            has_ended: false,
        }
    }

    /// Changes the health, and reports a change of the breaker's state. `reason` says why it opened.
    fn change<T>(&self, reason: &str, change: impl FnOnce(&mut Health) -> T) -> T {
        let mut health = self.health();
        let before = health.breaker();
        let result = change(&mut health);
        let after = health.breaker();
        // Reported under the lock, so that the reports have the order of the changes.
        if before != after && !self.is_retired.load(Ordering::Relaxed) {
            self.report(before, after, reason);
        }
        result
    }

    fn report(&self, before: BreakerState, after: BreakerState, reason: &str) {
        let (upstream, model) = (self.upstream.as_str(), self.model.as_str());
        let state = after as i64;
        self.reporter.metrics.set_breaker(upstream, model, state);
        let (upstream, model) = (upstream.to_owned(), model.to_owned());
        let notification = match (before, after) {
            (BreakerState::Closed, BreakerState::Open) => {
                tracing::warn!(upstream, model, reason, "breaker opened");
                let reason = reason.to_owned();
                Notification::UpstreamDown {
                    upstream,
                    model,
                    reason,
                }
            }
            (_, BreakerState::Closed) => {
                tracing::info!(upstream, model, "breaker closed: the target answers again");
                let reason = "ok".to_owned();
                Notification::UpstreamUp {
                    upstream,
                    model,
                    reason,
                }
            }
            _ => return,
        };
        self.reporter.notifications.publish(&notification);
    }

    fn health(&self) -> MutexGuard<'_, Health> {
        self.health.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl TrackedAttempt {
    /// The target sent its first content.
    pub fn record_first_content(&mut self, now: Instant) {
        self.has_content = true;
        let record = |health: &mut Health| health.record_first_content(self.ticket, now);
        self.health.change("", record);
    }

    /// The answer is complete.
    pub fn succeed(&mut self, now: Instant) {
        let result = match self.has_content {
            true => AttemptResult::Neutral,
            false => AttemptResult::Success,
        };
        self.end(result, "", now);
    }

    /// The attempt has ended; `reason` says why, for a failure. Only the first end counts.
    pub fn end(&mut self, result: AttemptResult, reason: &str, now: Instant) {
        if !std::mem::replace(&mut self.has_ended, true) {
            let (ticket, breaker) = (self.ticket, self.breaker.as_ref());
            let end = |health: &mut Health| health.end(ticket, result, breaker, now);
            self.health.change(reason, end);
        }
    }
}

impl Drop for TrackedAttempt {
    fn drop(&mut self) {
        self.end(AttemptResult::Neutral, "", Instant::now());
    }
}

impl std::fmt::Debug for TargetHealth {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TargetHealth")
            .field("upstream", &self.upstream)
            .field("model", &self.model)
            .finish_non_exhaustive()
    }
}

/// A hash that is the same on every replica, of every version.
pub fn stable_hash<'a>(parts: impl IntoIterator<Item = &'a str>) -> u64 {
    let mut hash = 0;
    for part in parts {
        for chunk in part.as_bytes().chunks(size_of::<u64>()) {
            let mut word = [0; size_of::<u64>()];
            word[..chunk.len()].copy_from_slice(chunk);
            hash = mix(hash ^ u64::from_le_bytes(word));
        }
        // The bounds between the parts count too.
        hash = mix(hash ^ part.len() as u64 ^ PART_END);
    }
    hash
}

/// Makes the end of a part differ from its bytes.
const PART_END: u64 = 0x5bd1_e995_0000_0000;
