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

/// How many models that clients named have a health of their own, in one process. The others share that of
/// the pattern that they match.
const MAX_LEARNED: usize = 1024;

/// The health of all targets. It outlives a configuration, so that a reload forgets nothing of the targets
/// that stay.
///
/// A target whose name is a pattern stands for models that only clients name. A model gets a health of its own
/// when it has answered: what a client invents never answers, so it takes no place here.
pub struct HealthTable {
    reporter: Arc<Reporter>,
    targets: Mutex<Targets>,
}

#[derive(Default)]
struct Targets {
    /// By the upstream's name, and its name for the model or the pattern of it.
    by_upstream: HashMap<String, HashMap<String, Arc<TargetHealth>>>,
    /// How many of them have a name that only clients gave.
    learned: usize,
}

struct Reporter {
    metrics: Arc<Metrics>,
    notifications: Arc<Notifications>,
}

/// The health of one upstream's model. All models of the config that have it as a target share it.
pub struct TargetHealth {
    upstream: String,
    /// The upstream's name for the model, or the pattern of it in the config.
    model: String,
    /// Whether only clients named the model.
    is_learned: AtomicBool,
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
    /// The model that gets a health of its own with the first content.
    learns: Option<(Arc<HealthTable>, String)>,
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

    /// The health of a target of the config, which is good if nothing is known of it.
    pub fn target(&self, upstream: &str, model: &str) -> Arc<TargetHealth> {
        let mut targets = self.targets();
        if let Some(known) = targets.find(upstream, model) {
            if known.is_learned.swap(false, Ordering::Relaxed) {
                targets.learned -= 1;
            }
            return known;
        }
        targets.insert(upstream, model, false, &self.reporter)
    }

    /// The health of a model that has answered, or that the config names.
    pub fn find(&self, upstream: &str, model: &str) -> Option<Arc<TargetHealth>> {
        self.targets().find(upstream, model)
    }

    /// Gives a model that has answered a health of its own, if there is room.
    fn learn(&self, upstream: &str, model: &str) {
        let mut targets = self.targets();
        if targets.learned < MAX_LEARNED && targets.find(upstream, model).is_none() {
            targets.insert(upstream, model, true, &self.reporter);
            targets.learned += 1;
        }
    }

    /// Forgets the targets for which `is_used` is false.
    pub fn retain(&self, is_used: impl Fn(&str, &str) -> bool) {
        let mut targets = self.targets();
        let mut learned = 0;
        for (upstream, models) in &mut targets.by_upstream {
            models.retain(|model, target| {
                let is_used = is_used(upstream, model);
                if !is_used {
                    target.is_retired.store(true, Ordering::Relaxed);
                    self.reporter.metrics.remove_breaker(upstream, model);
                } else if target.is_learned.load(Ordering::Relaxed) {
                    learned += 1;
                }
                is_used
            });
        }
        targets.by_upstream.retain(|_, models| !models.is_empty());
        targets.learned = learned;
    }

    fn targets(&self) -> MutexGuard<'_, Targets> {
        self.targets.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Targets {
    fn find(&self, upstream: &str, model: &str) -> Option<Arc<TargetHealth>> {
        self.by_upstream.get(upstream)?.get(model).cloned()
    }

    fn insert(
        &mut self,
        upstream: &str,
        model: &str,
        is_learned: bool,
        reporter: &Arc<Reporter>,
    ) -> Arc<TargetHealth> {
        let new = TargetHealth::new(upstream, model, is_learned, Arc::clone(reporter));
        let new = Arc::new(new);
        let models = self.by_upstream.entry(upstream.to_owned()).or_default();
        models.insert(model.to_owned(), Arc::clone(&new));
        new
    }
}

impl TargetHealth {
    fn new(upstream: &str, model: &str, is_learned: bool, reporter: Arc<Reporter>) -> Self {
        reporter
            .metrics
            .set_breaker(upstream, model, BreakerState::Closed as i64);
        Self {
            upstream: upstream.to_owned(),
            model: model.to_owned(),
            is_learned: AtomicBool::new(is_learned),
            health: Mutex::default(),
            is_retired: AtomicBool::new(false),
            reporter,
        }
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
            learns: None,
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
    /// With its first content, `model` gets a health of its own in `table`.
    pub fn learning(mut self, table: &Arc<HealthTable>, model: &str) -> Self {
        self.learns = Some((Arc::clone(table), model.to_owned()));
        self
    }

    /// The target sent its first content.
    pub fn record_first_content(&mut self, now: Instant) {
        self.has_content = true;
        if let Some((table, model)) = self.learns.take() {
            table.learn(&self.health.upstream, &model);
        }
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

impl std::fmt::Debug for HealthTable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("HealthTable").finish_non_exhaustive()
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

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> Arc<HealthTable> {
        let metrics = Arc::<Metrics>::default();
        let notifications = Arc::new(Notifications::new(Arc::clone(&metrics)));
        Arc::new(HealthTable::new(metrics, notifications))
    }

    /// One attempt at a model that clients name, on the health that it has now.
    fn attempt(table: &Arc<HealthTable>, model: &str) -> TrackedAttempt {
        let pattern = table.target("a", "*");
        let health = table.find("a", model).unwrap_or(pattern);
        health
            .begin_attempt(None, Instant::now())
            .learning(table, model)
    }

    #[test]
    fn only_models_that_answer_get_a_health_of_their_own_and_few_of_them() {
        let table = table();
        attempt(&table, "invented").end(AttemptResult::Failure, "no", Instant::now());
        assert!(table.find("a", "invented").is_none());
        for number in 0..MAX_LEARNED + 10 {
            attempt(&table, &format!("m{number}")).record_first_content(Instant::now());
        }
        assert!(table.find("a", &format!("m{}", MAX_LEARNED - 1)).is_some());
        assert!(table.find("a", &format!("m{MAX_LEARNED}")).is_none());
        // One that the config names from now on makes room.
        table.target("a", "m0");
        attempt(&table, "late").record_first_content(Instant::now());
        assert!(table.find("a", "late").is_some());
        table.retain(|_, model| model == "*");
        assert!(table.find("a", "m0").is_none());
        attempt(&table, "again").record_first_content(Instant::now());
        assert!(table.find("a", "again").is_some());
    }
}
